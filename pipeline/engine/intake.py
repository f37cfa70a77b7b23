"""Where a request becomes a row: checked, its prompt in tokens, its grammar compiled.

In: a request. Out: a row that waits for a slot, or a refusal that says what to change.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.engine.copying import Copier
from pipeline.engine.grammar import Grammars
from pipeline.engine.history import History
from pipeline.engine.interface import Event, Request
from pipeline.engine.kv_room import KvRoom
from pipeline.engine.row import Row
from pipeline.engine.tokenizer import ChatTokenizer
from pipeline.errors import RequestError


@dataclass(frozen=True, slots=True)
class Intake:
    """Makes rows for one model.

    Attributes:
        tokenizer: Its tokenizer.
        grammars: Compiles schemas for it.
        room: Tells what is too long.
        vocabulary: V.
    """

    tokenizer: ChatTokenizer
    grammars: Grammars
    room: KvRoom
    vocabulary: int

    def row_of(self, request: Request, on_event: Callable[[Event], None]) -> Row:
        """The row of a request.

        Args:
            request: What to answer.
            on_event: Gets its events.

        Raises:
            RequestError: "bad_parameter", "context_too_long", "bad_schema".
        """
        self._check_parameters(request)
        self.room.check_characters(request.messages)
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
