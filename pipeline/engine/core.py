"""The engine's core: a continuous batch. Rows join and leave between steps.

    submit -> waiting -> prefill (reusing prefixes) -> draft -> verify -> accept -> finished

Everything is called from one thread; `step` does one round and returns.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from pipeline.engine.cache import GROWTH_COLUMNS
from pipeline.engine.calibrate import known_costs
from pipeline.engine.copying import Copier
from pipeline.engine.draft import Drafts
from pipeline.engine.drafter import load_drafter
from pipeline.engine.grammar import Grammars
from pipeline.engine.interface import CoreOptions, EngineStats, Event, ModelInfo, Request
from pipeline.engine.prefix import PrefixCache, as_tokens, common_length
from pipeline.engine.row import Row
from pipeline.engine.sampling import History
from pipeline.engine.speculation import Speculation
from pipeline.engine.target import Target, stop_tokens
from pipeline.engine.tokenizer import ChatTokenizer
from pipeline.engine.verify import Verifier
from pipeline.engine.window import round_up
from pipeline.errors import RequestError

BLOCK_COLUMNS = 16
"""Columns behind a row's last token: a verify may run, and a drafter fill, a whole block there."""
RECENT = 0.9  # weight of the past in the running mean of a step's time


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
        self._model = model
        self._options = options
        self._target = Target(model)
        self._tokenizer = ChatTokenizer(model.folder)
        self._stop = stop_tokens(model.folder, self._tokenizer.stop_tokens)
        self._grammars = Grammars(model.tokenizer_json, self._target.vocabulary, sorted(self._stop))
        self._drafts = self._make_drafts(progress)
        self._verifier = Verifier(self._target, self._tokenizer, self._stop)
        self._prefixes = PrefixCache(options.kv_bytes // 2)
        self._waiting: deque[Row] = deque()
        self._prefilling: Row | None = None
        self._running: list[Row] = []  # a row's place here is its slot
        self._stats = EngineStats(
            0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0, self._target.weights_bytes
        )

    def _make_drafts(self, progress: Callable[[str, float], None]) -> Drafts | None:
        options = self._options
        if not options.speculate:
            return None
        drafter = load_drafter(Path(options.drafter), self._target) if options.drafter else None
        costs = known_costs(self._model, options, self._target, drafter, progress)
        return Drafts(Speculation(costs), drafter)

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> None:
        """Queues a request; its events come from later calls of `step`.

        Args:
            request: What to answer.
            on_event: Gets text as it becomes final, then exactly one `Done` or `Failed`.

        Raises:
            RequestError: "duplicate_id", "bad_parameter", "context_too_long", "bad_schema".
        """
        if any(row.request.id == request.id for row in self._all_rows()):
            raise RequestError(
                "duplicate_id", f"a request id={request.id!r} is running; choose another id"
            )
        if request.max_tokens < 1:
            raise RequestError(
                "bad_parameter", f"max_tokens={request.max_tokens!r} must be at least 1"
            )
        prompt = self._tokenizer.render(request.messages)
        self._check_length(len(prompt), request.max_tokens)
        matcher = None if request.schema is None else self._grammars.matcher(request.schema)
        self._waiting.append(
            Row(
                request=request,
                prompt=prompt,
                on_event=on_event,
                detokenizer=self._tokenizer.detokenizer(),
                history=History(request.sampling),
                matcher=matcher,
                copier=Copier(prompt),
            )
        )

    def cancel(self, request_id: str) -> None:
        """Ends a request with `Failed("cancelled")`; unknown or ended ones are left alone."""
        self._fail_rows(
            [row for row in self._all_rows() if row.request.id == request_id],
            RequestError("cancelled", "the request was cancelled"),
        )

    def step(self) -> bool:
        """Does one round: admits a row, runs a piece of its prompt, decodes the running rows.

        Returns:
            False if there was nothing to do.
        """
        late = [row for row in self._all_rows() if row.expired]
        self._fail_rows(
            late,
            RequestError("timeout", "the request's time was over before it was answered"),
        )
        if self._prefilling is None:
            self._admit()
        if self._prefilling is not None:
            self._prefill(self._prefilling)
        if self._running:
            self._decode()
        return bool(self._waiting or self._prefilling or self._running)

    def stats(self) -> EngineStats:
        """What the core is doing and has done."""
        return replace(
            self._stats,
            running=len(self._running) + (self._prefilling is not None),
            waiting=len(self._waiting),
            kv_bytes=self._target.cache.size_bytes + self._prefixes.size_bytes,
            speculation=None if self._drafts is None else self._drafts.stats(),
        )

    def _all_rows(self) -> list[Row]:
        prefilling = [self._prefilling] if self._prefilling else []
        return [*self._running, *prefilling, *self._waiting]

    def _check_length(self, prompt_tokens: int, max_tokens: int) -> None:
        total = prompt_tokens + max_tokens
        limit = self._model.context_tokens
        room = self._options.kv_bytes - self._target.reserved_bytes(1, 0)
        fits = room // self._target.kv_bytes_per_token - GROWTH_COLUMNS - BLOCK_COLUMNS
        if total > limit:
            raise RequestError(
                "context_too_long",
                f"prompt_tokens={prompt_tokens} + max_tokens={max_tokens} is over the model's "
                f"context of {limit} tokens; send less text or ask for a shorter answer",
            )
        if total > fits:
            raise RequestError(
                "context_too_long",
                f"prompt_tokens={prompt_tokens} + max_tokens={max_tokens} is over the {fits} "
                f"tokens that kv_bytes={self._options.kv_bytes} hold; raise the engine's KV budget",
            )

    def _admit(self) -> None:
        """Takes the next waiting row if its keys and values fit the budget."""
        if not self._waiting or len(self._running) >= self._options.max_rows:
            return
        row = self._waiting[0]
        if not self._make_room(row):
            return
        self._waiting.popleft()
        row.admitted_s = time.monotonic()
        row.slot = len(self._running)
        self._target.cache.lengths[row.slot] = 0
        row.cached = self._reuse(row)
        self._prefilling = row

    def _make_room(self, row: Row) -> bool:
        """Sizes the cache for one row more; False if that must wait for running rows to end."""
        cache = self._target.cache
        if not self._running:
            cache.release()
        rows = len(self._running) + 1
        columns = max(active.longest + BLOCK_COLUMNS for active in (*self._running, row))
        columns = round_up(columns, GROWTH_COLUMNS)
        widest = max(columns, cache.columns)
        roomy = cache.rows if rows <= cache.rows else min(2 * rows, self._options.max_rows)
        for shape in ((roomy, widest), (rows, widest), (rows, columns)):
            size = self._target.reserved_bytes(*shape)
            if size <= self._options.kv_bytes:
                self._prefixes.shrink(self._options.kv_bytes - size)
                cache.resize(*shape)
                return True
        return False

    def _reuse(self, row: Row) -> int:
        """Fills the row's first tokens from a kept prefix or another row; returns how many."""
        cache, tokens = self._target.cache, as_tokens(row.prompt[:-1])
        best, entry = self._prefixes.find(tokens)
        source, shared = -1, self._prefixes.longest_shared(tokens)
        for other in self._running:
            common = common_length(as_tokens(other.prompt[:-1]), tokens)
            shared = max(shared, common)
            if common > best and (common := cache.usable(other.slot, common)) > best:
                source, best = other.slot, common
        if source >= 0:
            best = cache.copy_row(source, row.slot, best)
        elif entry is not None:
            best = cache.load_prefix(row.slot, entry.prefix, best)
        cache.keep_at(row.slot, shared)
        return best

    def _prefill(self, row: Row) -> None:
        """Runs a piece of a prompt; its last token is left for the first decode step."""
        started = time.perf_counter()
        done = self._target.cache.lengths[row.slot]
        piece = row.prompt[done : min(done + self._options.prefill_tokens, len(row.prompt) - 1)]
        if piece:
            self._target.prefill(row.slot, piece)
        if done + len(piece) == len(row.prompt) - 1:
            row.decoding_s = time.monotonic()
            self._running.append(row)
            self._prefilling = None
        self._count(prefill_s=time.perf_counter() - started)

    def _decode(self) -> None:
        started = time.perf_counter()
        drafts, width = [[] for _ in self._running], 1
        if self._drafts is not None:
            drafts, width = self._drafts.propose(self._running)
        gained = self._verifier.verify_block(self._running, drafts, width)
        if self._drafts is not None:
            self._drafts.learn(gained)
        for row, tokens in zip(list(self._running), gained, strict=True):
            try:
                row.accept(tokens, self._stop)
            except RequestError as error:
                self._fail_rows([row], error)
        spent = time.perf_counter() - started
        mean = self._stats.step_ms or spent * 1e3
        self._count(
            decode_s=spent,
            steps=1,
            step_ms=RECENT * mean + (1 - RECENT) * spent * 1e3 - self._stats.step_ms,
        )
        for row in [row for row in self._running if row.finish_reason]:
            self._leave(row)
            self._count(
                finished=1,
                prompt_tokens=len(row.prompt),
                cached_tokens=row.cached,
                completion_tokens=len(row.history.tokens),
            )
            row.finish()

    def _leave(self, row: Row) -> None:
        """Keeps the row's prefix, then closes the gap that it leaves in the slots."""
        cache = self._target.cache
        tokens = as_tokens([*row.prompt, *row.history.tokens][: cache.lengths[row.slot]])
        length = cache.usable(row.slot, len(tokens))  # what came after the end is left out
        tokens = tokens[:length]
        size = length * self._target.kv_bytes_per_token
        room = self._options.kv_bytes - cache.size_bytes - self._prefixes.size_bytes
        if size <= room and self._prefixes.wants(tokens, size):
            self._prefixes.keep(tokens, cache.copy_prefix(row.slot, length))
        self._remove(row)

    def _remove(self, row: Row) -> None:
        """Takes a running row out; the last running row takes its slot."""
        if self._drafts is not None:
            self._drafts.forget(row)
        cache = self._target.cache
        last = self._running.pop()
        if last is not row:
            self._running[row.slot] = last
            cache.copy_row(last.slot, row.slot, cache.lengths[last.slot])
            last.slot = row.slot
        if self._prefilling is not None:
            free = len(self._running)
            cache.copy_row(self._prefilling.slot, free, cache.lengths[self._prefilling.slot])
            self._prefilling.slot = free

    def _fail_rows(self, rows: list[Row], error: RequestError) -> None:
        for row in rows:
            if row in self._running:
                self._remove(row)
            elif row is self._prefilling:
                self._prefilling = None
            else:
                self._waiting.remove(row)
            self._count(failed=1)
            row.fail(error)

    def _count(self, **more: float) -> None:
        changed = {name: getattr(self._stats, name) + value for name, value in more.items()}
        self._stats = replace(self._stats, **changed)  # type: ignore[arg-type]


def free_memory() -> None:
    """Gives MLX's unused buffers back to the system, after a core is dropped."""
    mx.clear_cache()
