"""The memory of keys and values: room for rows within a budget, and reuse of what was run before.

In: rows that want in, run or leave. Out: the cache sized for them, their first tokens filled from
a kept prefix or a running row.
"""

from collections.abc import Sequence

import mlx.core as mx

from pipeline.engine.interface import CoreOptions, Message
from pipeline.engine.memory.cache import GROWTH_COLUMNS
from pipeline.engine.memory.prefix import PrefixCache, as_tokens
from pipeline.engine.memory.window import round_up
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.errors import RequestError

UNTAPPED = 4
"""Tokens of a prompt that may be read again for each of the answer, for a drafter's context."""
TOKEN_CHARACTERS = 64
"""No text has more to a token but one of spaces; a text of words has four."""


class KvRoom:
    """The cache of a target under a budget of bytes.

    Args:
        target: The model with its cache.
        options: The budget, and the most rows.
    """

    def __init__(self, target: Target, options: CoreOptions) -> None:
        self._target = target
        self._cache = target.cache
        self._options = options
        self._prefixes = PrefixCache(options.kv_bytes // 2)

    @property
    def size_bytes(self) -> int:
        """Memory of rows and kept prefixes now."""
        return self._cache.size_bytes + self._prefixes.size_bytes

    def check_characters(self, messages: Sequence[Message]) -> None:
        """Refuses a text that is too long whatever its tokens are; to find them takes a while.

        Raises:
            RequestError: "context_too_long": for the model.
        """
        characters = sum(len(message.content) for message in messages)
        limit = self._target.info.context_tokens
        if characters > limit * TOKEN_CHARACTERS:
            raise RequestError(
                "context_too_long",
                f"the messages have characters={characters}, over {TOKEN_CHARACTERS} for each of "
                f"the {limit} tokens of the model's context; send less text",
            )

    def check_length(self, prompt_tokens: int, max_tokens: int) -> None:
        """Refuses what can never fit.

        Raises:
            RequestError: "context_too_long": for the model, or for the budget.
        """
        total = prompt_tokens + max_tokens
        limit = self._target.info.context_tokens
        room = self._options.kv_bytes - self._target.reserved_bytes(1, 0)
        fits = room // self._target.kv_bytes_per_token - GROWTH_COLUMNS
        fits -= self._cache.block_columns
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

    def make_room(self, running: Sequence[Row], row: Row) -> bool:
        """Sizes the cache for one row more; False if that must wait for running rows to end."""
        if not running:
            self._cache.release()
        rows, shapes = len(running) + 1, self._cache.shapes
        columns = max(active.longest + self._cache.block_columns for active in (*running, row))
        columns = round_up(columns, GROWTH_COLUMNS)
        widest = max(shapes.room(columns), self._cache.columns)
        roomy = shapes.rows(rows, self._cache.rows, self._options.max_rows)
        for shape in ((roomy, widest), (rows, widest), (rows, columns)):
            size = self._target.reserved_bytes(*shape)
            if size <= self._options.kv_bytes:
                self._prefixes.shrink(self._options.kv_bytes - size)
                self._cache.resize(*shape)
                return True
        return False

    def reuse(self, running: Sequence[Row], row: Row) -> int:
        """Fills the row's first tokens from a kept prefix or another row; returns how many.

        The drafter looks no longer at a row that begins with what it has no context of.
        """
        cache, tokens = self._cache, as_tokens(row.tokens[:-1])
        untapped = UNTAPPED * row.request.max_tokens * row.tapped
        cache.lengths[row.slot] = 0
        cache.late.drop(row.slot)  # what waits there is of a row that has left
        best, entry, shared = self._prefixes.find(tokens, untapped)
        tapped = entry is None or entry.prefix.tapped
        worth, source = best - untapped * (not tapped), -1
        for other in running:
            common = other.shared_with(tokens)
            shared = max(shared, common)
            less = untapped * (not other.tapped)
            if common - less > worth:
                common = cache.usable(other.slot, common)
            if common - less > worth:
                source, best, worth, tapped = other.slot, common, common - less, other.tapped
        if source >= 0:
            best = cache.copy_row(source, row.slot, best)
        elif entry is not None:
            best = cache.load_prefix(row.slot, entry.prefix, best)
        row.tapped &= tapped
        cache.keep_at(row.slot, shared)
        return best

    def keep(self, row: Row) -> None:
        """Keeps the prefix of a row that is about to leave, if there is room for it."""
        tokens = as_tokens(row.tokens[: self._cache.lengths[row.slot]])
        ready = len(tokens)
        if row.tapped:  # to fill in the rest would cost more
            ready = self._cache.late.ready(row.slot, ready)
        length = self._cache.usable(row.slot, ready)  # what came after the end is left out
        tokens = tokens[:length]
        size = length * self._target.kv_bytes_per_token
        if size <= self._options.kv_bytes - self.size_bytes and self._prefixes.wants(
            tokens, size, tapped=row.tapped
        ):
            prefix = self._cache.copy_prefix(row.slot, length, tapped=row.tapped)
            self._prefixes.keep(tokens, prefix)

    def forget(self) -> None:
        """Forgets all rows and prefixes."""
        self._cache.release()
        self._prefixes.shrink(0)

    def clear(self) -> None:
        """Gives all memory back; what rows had in the cache is lost."""
        self.forget()
        mx.clear_cache()
