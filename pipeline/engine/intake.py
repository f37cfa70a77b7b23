"""Where a request becomes a row: checked, its prompt in tokens, its grammar compiled.

In: a request. Out: a row that waits for a slot, or a refusal that says what to change. To find the
tokens of a page takes a few milliseconds, as long as a fast GPU takes to read it: so a thread of
its own does it, while the rows before it run (the tokenizer lets go of Python's lock).
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.engine.choosing.history import History
from pipeline.engine.copying import Copier
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import Event, Request
from pipeline.engine.journal import fault_of, note_fault
from pipeline.engine.kv_room import KvRoom
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import Row
from pipeline.errors import RequestError


@dataclass(frozen=True, slots=True)
class Coming:
    """A request that is becoming a row.

    Attributes:
        request: What to answer.
        on_event: Gets its events.
        made: Its row, or the `RequestError` of its refusal.
    """

    request: Request
    on_event: Callable[[Event], None]
    made: Future[Row]


@dataclass(frozen=True, slots=True)
class Intake:
    """Makes rows for one model.

    Attributes:
        tokenizer: Its tokenizer; nobody else may have it make tokens.
        grammars: Compiles schemas for it.
        room: Tells what is too long.
        vocabulary: V.
    """

    tokenizer: ChatTokenizer
    grammars: Grammars
    room: KvRoom
    vocabulary: int
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="intake")
    )

    def begin(self, request: Request, on_event: Callable[[Event], None]) -> Coming:
        """Has a row be made; a refusal comes out of its `made`.

        Args:
            request: What to answer.
            on_event: Gets its events.

        Raises:
            RequestError: "bad_parameter", "context_too_long": what is seen at a glance.
        """
        self._check_parameters(request)
        self.room.check_characters(request.messages)
        made = self._thread.submit(self._make, request, on_event, time.monotonic())
        return Coming(request, on_event, made)

    def _make(self, request: Request, on_event: Callable[[Event], None], now_s: float) -> Row:
        """A row, or a `RequestError` whatever happens: one request must not end the others."""
        try:
            return self._row_of(request, on_event, now_s)
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a library raises
            note_fault("submit_failed", error, id=request.id)
            raise fault_of("starting a request", error) from None

    def _row_of(
        self, request: Request, on_event: Callable[[Event], None], submitted_s: float
    ) -> Row:
        prompt = self.tokenizer.render(request.messages)
        self.room.check_length(len(prompt), request.max_tokens)
        matcher = None
        if request.schema is not None:
            matcher = self.grammars.matcher(request.schema, request.quotable)
        return Row(
            request=request,
            prompt=prompt,
            on_event=on_event,
            detokenizer=self.tokenizer.detokenizer(),
            history=History(request.sampling, prompt),
            matcher=matcher,
            copier=Copier(prompt),
            submitted_s=submitted_s,
        )

    def _check_parameters(self, request: Request) -> None:
        if request.max_tokens < 1:
            raise RequestError(
                "bad_parameter", f"max_tokens={request.max_tokens!r} must be at least 1"
            )
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token < self.vocabulary:
                raise RequestError(
                    "bad_parameter",
                    f"logit_bias names token={token}, but the model's are 0 to "
                    f"{self.vocabulary - 1}",
                )
