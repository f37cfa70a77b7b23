"""The engine's core: a continuous batch. Rows join and leave between steps.

    submit -> intake -> waiting -> prefill (reusing prefixes) -> draft -> verify -> accept

Everything is called from one thread; `step` does one round and returns.
"""

import re
import time
from collections import deque
from collections.abc import Callable

from pipeline.engine.core_counts import CoreCounts
from pipeline.engine.drafting.draft import make_drafts
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.intake import Coming, Intake
from pipeline.engine.interface import CoreOptions, EngineStats, Event, Failed, ModelInfo, Request
from pipeline.engine.kv_room import KvRoom
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target, stop_tokens
from pipeline.engine.verifying.verify import Verifier
from pipeline.errors import RequestError

OUT_OF_MEMORY = re.compile(r"malloc|allocat|out of memory|insufficient memory", re.IGNORECASE)
"""What MLX's backends say when they get no memory."""
FAILED = "failed"
CANCELLED = RequestError("cancelled", "the request was cancelled")
TOO_LATE = RequestError("timeout", "the request's time was over before it was answered")
STALL_S = 0.05
"""Prompts are read for so long between two steps: a step costs much the same for few rows as for
many, so rows that wait go in first, as far as nobody who reads along would notice."""


class Core:
    """The model with its running rows.

    Args:
        model: The model folder.
        options: Bounds, and which drafts to use.
        progress: Told what is being done, and how far it is, 0 to 1.

    Raises:
        InputError: The model or the drafter can't be loaded, or they don't fit.
    """

    def __init__(
        self,
        model: ModelInfo,
        options: CoreOptions,
        progress: Callable[[str, float], None] = lambda _doing, _done: None,
    ) -> None:
        self._options = options
        self._target = Target(model)
        tokenizer, vocabulary = ChatTokenizer(model.folder), self._target.vocabulary
        self._stop = stop_tokens(model.folder, tokenizer.stop_tokens)
        grammars = Grammars(model.tokenizer_json, vocabulary, sorted(self._stop))
        self._drafts = make_drafts(model, options, self._target, progress)
        self._piece = options.prefill_tokens or self._target.prompt_piece  # of a prompt, at once
        self._verifier = Verifier(self._target, tokenizer, grammars, self._stop)
        self._room = KvRoom(self._target, options)
        self._intake = Intake(tokenizer, grammars, self._room, vocabulary)
        self._coming, self._waiting = deque[Coming](), deque[Row]()
        self._prefilling: Row | None = None
        self._running: list[Row] = []  # a row's place here is its slot
        self._leaving: list[Row] = []  # they have ended, but the forward that runs has them in it
        self._ended: list[Row] = []  # completed and freed while a forward runs: that takes a while
        self._most_rows, self._counts = options.max_rows, CoreCounts()

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> Coming:
        """Queues a request; its events come from later calls of `step`.

        Args:
            request: What to answer.
            on_event: Gets text as it becomes final, then exactly one `Done` or `Failed` (with
                "bad_parameter", "context_too_long" or "bad_schema" where it is refused).

        Raises:
            RequestError: "duplicate_id", "bad_parameter", "context_too_long": no event comes.
        """
        others = (*self.rows(), *self._answered, *self._ended, *self._coming)
        if any(other.request.id == request.id for other in others):
            raise RequestError(
                "duplicate_id", f"a request id={request.id!r} is running; choose another id"
            )
        coming = self._intake.begin(request, on_event)
        self._coming.append(coming)
        return coming

    def cancel(self, request_id: str) -> None:
        """Ends a request with `Failed("cancelled")`; unknown or ended ones are left alone."""
        self._fail_rows([row for row in self.rows() if row.request.id == request_id], CANCELLED)
        for coming in [one for one in self._coming if one.request.id == request_id]:
            self._coming.remove(coming)
            self._refuse(coming, CANCELLED)

    def step(self) -> bool:
        """Does one round: admits rows, reads prompts for a while, decodes the running rows.

        Returns:
            False if there was nothing to do.
        """
        try:
            return self._round()
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
                raise
            self._shrink()
            return True

    def _round(self) -> bool:
        self._fail_rows([row for row in self.rows() if row.expired], TOO_LATE)
        began = time.perf_counter()
        while self._read_on() and time.perf_counter() - began < STALL_S:
            pass
        if self._running:
            self._decode()
        if not self._running:  # no forward comes, or none soon
            self._finish_ended()
        if not (busy := bool(self._coming or self._waiting or self._prefilling or self._running)):
            self._most_rows = self._options.max_rows
        return busy

    def stats(self) -> EngineStats:
        """What the core is doing and has done."""
        return EngineStats(
            **self._counts.stats(),
            running=len(self._running) + (self._prefilling is not None),
            waiting=len(self._waiting) + len(self._coming),
            kv_bytes=self._room.size_bytes,
            weights_bytes=self._target.weights_bytes,
            speculation=None if self._drafts is None else self._drafts.stats(),
        )

    def rows(self) -> list[Row]:
        """The rows that run, read their prompt or wait; they are the core's: only to be read.

        A request is none before its prompt is known.
        """
        return [*self._begun_rows(), *self._waiting]

    def _begun_rows(self) -> list[Row]:
        return [*self._alive, *([self._prefilling] if self._prefilling else [])]

    @property
    def _alive(self) -> list[Row]:
        return [row for row in self._running if not row.finish_reason]

    @property
    def _answered(self) -> list[Row]:
        return [row for row in self._leaving if row.finish_reason != FAILED]

    def _read_on(self) -> bool:
        """Runs a piece of a prompt; False if there is none, or was none to run."""
        if self._prefilling is None:
            self._admit()
        if self._prefilling is not None:
            self._prefill(self._prefilling)
            return True
        return False

    def _admit(self) -> None:
        """Takes the next waiting row if its keys and values fit the budget."""
        self._welcome()
        if not self._waiting or len(self._running) >= self._most_rows:
            return
        row = self._waiting[0]
        if not self._room.make_room(self._running, row):
            return
        self._waiting.popleft()
        row.slot = len(self._running)
        row.tapped = self._drafts is not None and self._drafts.looks_at(row)
        cached = self._room.reuse(self._running, row)
        if not row.admitted_s:  # else it was held back when memory ran out
            row.admitted_s, row.cached = time.monotonic(), cached
        self._prefilling = row

    def _welcome(self) -> None:
        """Lets the rows that have been made wait; for the first it waits if there is no other."""
        while self._coming and (self._coming[0].made.done() or not self.rows()):
            coming = self._coming.popleft()
            try:
                self._waiting.append(coming.made.result())
            except RequestError as error:
                self._refuse(coming, error)

    def _refuse(self, coming: Coming, error: RequestError) -> None:
        self._counts.add(failed=1)
        coming.on_event(Failed(coming.request.id, error))

    def _prefill(self, row: Row) -> None:
        """Runs a piece of a prompt; its last token is left for the first decode step."""
        started = time.perf_counter()
        done, tokens = self._target.cache.lengths[row.slot], row.tokens
        piece = tokens[done : min(done + self._piece, len(tokens) - 1)]
        self._target.tapping = row.tapped
        self._target.prefill(row.slot, piece, self._tell)
        if done + len(piece) == len(tokens) - 1:
            row.decoding_s = row.decoding_s or time.monotonic()
            self._running.append(row)
            self._prefilling = None
        self._counts.add(prefill_s=time.perf_counter() - started)

    def _decode(self) -> None:
        started, begun = time.perf_counter(), self._verifier.begun
        rows = self._running[: begun or None]  # who has come since is not in it
        drafts, width, rests = [[] for _ in rows], 1, True
        if self._drafts is not None:
            drafts, width = self._drafts.propose(rows, begun=begun > 0)
            rests = self._drafts.rests
        self._target.tapping = any(row.tapped for row in rows)
        goes_on = rests and len(rows) == len(self._running)
        goes_on &= all(row.left > 1 and not row.finish_reason for row in rows)
        gained = self._verifier.verify_block(rows, drafts, width, self._meanwhile, goes_on=goes_on)
        waited_s = self._target.reading.waited()
        failed: list[tuple[Row, RequestError]] = []
        for row, tokens in zip(rows, gained, strict=True):
            if row.finish_reason:  # its slot is still its own
                continue
            try:
                row.take(tokens, self._stop)
            except RequestError as error:
                failed.append((row, error))
            self._leaving += [row] if row.finish_reason else []
        if self._drafts is not None:
            self._drafts.learn(gained, waited_s)  # now: to take tokens is a part of a step's cost
        self._counts.step(time.perf_counter() - started, waited_s)
        for row, error in failed:
            self._fail_rows([row], error)
        self._let_leave()

    def _meanwhile(self) -> None:
        """What the host does while a step's forward runs."""
        if self._drafts is not None:
            self._drafts.look(self._alive)
        self._tell()

    def _tell(self) -> None:
        """Sends the text of the last step's tokens, and the answers that are complete."""
        for row in self._alive:
            row.tell()
        self._finish_ended()

    def _finish_ended(self) -> None:
        ended, self._ended = self._ended, []
        for row in ended:
            row.close()
            self._counts.finish(row)
            row.finish()

    def _shrink(self) -> None:
        """After memory ran out: half the rows start over from what they have, the rest wait.

        What the failed forward left in the cache is not known, so all of it goes. The batch may
        grow again once there is nothing to do.
        """
        rows = self._begun_rows()
        self._ended += self._answered
        self._running, self._prefilling, self._leaving = [], None, []
        self._verifier.forget()
        self._target.reading.forget()
        self._room.clear()
        self._most_rows = max(1, len(rows) // 2)
        self._waiting.extendleft(reversed(rows))
        if len(rows) <= 1:
            self._fail_rows(
                rows,
                RequestError(
                    "out_of_memory",
                    "the machine has too little memory for this request alone; close other "
                    "programs, send less text, or choose a smaller model",
                ),
            )

    def _let_leave(self) -> None:
        """Frees the slots of rows that have ended, once no forward that runs has them in it."""
        if self._verifier.begun:
            return
        leaving, self._leaving = self._leaving, []
        for row in leaving:
            if row.finish_reason == FAILED:
                self._remove(row)
                continue
            self._leave(row)
            self._ended.append(row)

    def _leave(self, row: Row) -> None:
        """Keeps the row's prefix, then closes the gap that it leaves in the slots."""
        self._room.keep(row)
        self._remove(row)

    def _remove(self, row: Row) -> None:
        """Takes a running row out; the last running row takes its slot."""
        if self._drafts is not None:
            self._drafts.forget(row)
        cache = self._target.cache
        last = self._running.pop()
        if last is not row:
            self._running[row.slot] = last
            cache.move_row(last.slot, row.slot)
            last.slot = row.slot
        if self._prefilling is not None:
            free = len(self._running)
            cache.move_row(self._prefilling.slot, free)
            self._prefilling.slot = free

    def _fail_rows(self, rows: list[Row], error: RequestError) -> None:
        for row in rows:
            if row in self._running:
                row.finish_reason = FAILED
                self._leaving.append(row)
                self._let_leave()
            elif row is self._prefilling:
                self._prefilling = None
            else:
                self._waiting.remove(row)
            self._counts.add(failed=1)
            row.fail(error)
