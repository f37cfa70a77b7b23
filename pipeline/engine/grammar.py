"""Grammar of an answer: which tokens may come next, and how an answer is closed at its limit.

A thin wrapper around llguidance: a JSON schema is compiled once per text (one with quotes, once per
source), a matcher belongs to one row, and masks are int32 words of 32 tokens each, written straight
into the batch's array.
"""

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer
from llguidance.numpy import (
    fill_next_token_bitmask,
    fill_next_token_bitmask_par,
    fill_next_token_bitmask_par_with_draft_tokens,
)
from numpy.typing import NDArray

from pipeline.engine.quoting import has_quotes, quoting_grammar
from pipeline.engine.schema_bounds import check_schema, check_source
from pipeline.errors import RequestError

MASK_THREADS = 4
"""More take longer to wake than they save."""
MANY_MASKS = 12
"""More than so many are made in parallel, whatever they are."""
CLOSING_TOKENS = 512
"""The most tokens that `Matcher.close` adds."""

Guide = Generator[tuple[int, NDArray[np.int32]], int | None, list[int]]
"""See `Matcher.guide`."""


class Grammars:
    """Compiles schemas for one tokenizer.

    Args:
        tokenizer_json: Path of the Hugging Face `tokenizer.json`.
        vocabulary: V, the width of the model's logits.
        stop_tokens: Tokens that end an answer.
    """

    def __init__(self, tokenizer_json: str, vocabulary: int, stop_tokens: Sequence[int]) -> None:
        self._tokenizer = LLTokenizer(
            tokenizer_json, n_vocab=vocabulary, eos_token=sorted(stop_tokens)
        )
        self._stop = frozenset(stop_tokens)
        self._words = (vocabulary + 31) // 32
        self._executor = LLExecutor(min(MASK_THREADS, os.cpu_count() or 1))
        self._compile = lru_cache(maxsize=64)(self._compile_text)
        # About 6 MB each for a source of 1,500 tokens, and 20 to 30 ms to compile.
        self._compile_quoting = lru_cache(maxsize=16)(self._compile_with_quotes)

    def matcher(self, schema: dict[str, Any], source: str = "") -> "Matcher":
        """A fresh matcher for a JSON schema.

        Args:
            schema: The JSON schema; see `quoting` for strings that are words of the source.
            source: What quotes are words of.

        Raises:
            RequestError: llguidance can't compile the schema ("bad_schema").
        """
        check_schema(schema)
        try:
            text = json.dumps(schema, ensure_ascii=False)
            quotes = has_quotes(schema)
            compiled = self._compile_quoting(text, source) if quotes else self._compile(text)
        except RecursionError:
            raise RequestError("bad_schema", "the JSON schema is nested too deeply") from None
        return Matcher(
            compiled.deep_copy(), self._tokenizer, self._words, self._stop, quotes=quotes
        )

    def fill_masks(
        self,
        masks: NDArray[np.int32],
        matchers: Sequence["Matcher | None"],
        drafts: Sequence[Sequence[int]],
    ) -> None:
        """Writes the allowed tokens at each drafted position of all rows.

        What takes long is done in parallel: drafts, where a quote begins, which takes a
        millisecond, and the masks of many rows. A single one takes 10 to 300 us, and to wake a
        thread may take as long: on a machine of 32 cores quick ones of 8 rows took 0.2 ms one by
        one, and 0.4 to 0.5 in parallel.

        The matchers' states stay as they were. Positions behind the first forbidden token of a
        draft are left as they are, and so are rows without a grammar.

        Args:
            masks: [B, T, V/32] words to write, T at least 1 + the longest draft.
            matchers: [B] None allows everything.
            drafts: [B] proposed tokens after the current states.
        """
        width = masks.shape[1]
        places = [(m, b * width, drafts[b]) for b, m in enumerate(matchers) if m is not None]
        flat = masks.reshape(-1, masks.shape[-1])
        single = [(m, place) for m, place, draft in places if not draft]
        many = len(single) > MANY_MASKS
        slow = [(m.inner, place) for m, place in single if many or m.quotes]
        for matcher, place in single:
            if len(slow) <= 1 or not (many or matcher.quotes):
                fill_next_token_bitmask(matcher.inner, flat, place)
        if len(slow) > 1:
            fill_next_token_bitmask_par(self._executor, slow, flat)
        if drafted := [(m.inner, place, list(draft)) for m, place, draft in places if draft]:
            fill_next_token_bitmask_par_with_draft_tokens(self._executor, drafted, flat)

    def _compile_text(self, schema: str) -> LLMatcher:
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema)
        except ValueError as error:
            raise RequestError("bad_schema", f"the JSON schema is not usable: {error}") from error
        return self._compile_grammar(grammar)

    def _compile_with_quotes(self, schema: str, source: str) -> LLMatcher:
        check_source(source)
        return self._compile_grammar(quoting_grammar(json.loads(schema), source))

    def _compile_grammar(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().splitlines()[0]
            raise RequestError("bad_schema", f"the JSON schema can't be compiled: {reason}")
        return matcher


class Matcher:
    """The state of one row's grammar.

    Attributes:
        quotes: Whether strings of it are words of a source: masks can then take a millisecond.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        tokenizer: LLTokenizer,
        words: int,
        stop: frozenset[int],
        *,
        quotes: bool = False,
    ) -> None:
        self.quotes = quotes
        self._matcher = matcher
        self._stop = stop
        self._tokenizer = tokenizer
        self._words = words

    @property
    def inner(self) -> LLMatcher:
        """Llguidance's own."""
        return self._matcher

    def count_allowed(self, draft: Sequence[int]) -> int:
        """How many leading tokens of a draft the grammar allows; none that ends the answer."""
        taken = self.count_taken(draft) if draft else 0
        return next((i for i, token in enumerate(draft[:taken]) if token in self._stop), taken)

    def count_taken(self, tokens: Sequence[int]) -> int:
        """How many tokens may follow one another, what ends the answer included.

        That is what masks allow, but where tokens are forced: there a mask allows no other way to
        write the same.
        """
        return 0 if self._matcher.is_stopped() else self._matcher.validate_tokens(list(tokens))

    def try_consume(self, token: int) -> bool:
        """Moves on by a token if it may come; else the state stays as it was."""
        return self._matcher.try_consume_tokens([token]) == 1

    def rollback(self, count: int) -> None:
        """Takes back the last tokens that were consumed."""
        self._matcher.rollback(count)

    def forced(self) -> list[int]:
        """The tokens that must come next, if there is no choice; the state stays as it was."""
        return [] if self._matcher.is_stopped() else self._matcher.compute_ff_tokens()

    def guide(self, draft: Sequence[int]) -> Guide:
        """A draft made to keep to the grammar; the state is as it was once this has ended.

        Where a drafted token is forbidden, what the grammar forces takes its place, or another
        token is asked for.

        Args:
            draft: Proposed tokens after the current state.

        Yields:
            A place in the draft and the mask there; is sent one of the allowed tokens or None.

        Returns:
            At most as many tokens, all allowed.
        """
        guided: list[int] = []
        while not self._matcher.is_stopped():
            rest = list(draft[len(guided) :])
            guided += rest[: self._matcher.try_consume_tokens(rest)]
            if len(guided) == len(draft) or self._matcher.is_stopped():
                break
            tokens = self._matcher.compute_ff_tokens()[: len(draft) - len(guided)]
            if not tokens:
                mask = np.zeros((1, self._words), np.int32)
                fill_next_token_bitmask(self._matcher, mask, 0)
                picked = yield len(guided), mask[0]
                tokens = [] if picked is None else [picked]
            taken = self._matcher.try_consume_tokens(tokens)
            guided += tokens[:taken]
            if not tokens or taken < len(tokens):
                break
        if guided:
            self._matcher.rollback(len(guided))
        return guided

    def consume(self, tokens: Sequence[int]) -> None:
        """Moves on by tokens that were accepted under the masks.

        Raises:
            RequestError: The grammar's limits were exceeded ("grammar_failed").
        """
        if not self._matcher.consume_tokens(list(tokens)):
            reason = self._matcher.get_error().splitlines()[:1]
            raise RequestError("grammar_failed", f"the grammar refused its own token: {reason}")

    @property
    def complete(self) -> bool:
        """True if nothing may follow but the end."""
        return self._matcher.is_stopped()

    def close(self, most_undone: int = 0) -> tuple[int, list[int]] | None:
        """The shortest way to end the answer, without inventing content; changes the state.

        Takes what the grammar forces, else closes the open string, object or list, else writes
        null. Where only content would do (a date half written), tokens are taken back until there
        is a way. A number is never closed: its next digit may have been on its way.

        Args:
            most_undone: The most tokens to take back.

        Returns:
            How many tokens were taken back and those to add; or None if there is no way.
        """
        for undone in range(most_undone + 1):
            if undone:
                self._matcher.rollback(1)
            added = self._close_here()
            if added is not None:
                return undone, added
        return None

    def _close_here(self) -> list[int] | None:
        added: list[int] = []
        while len(added) < CLOSING_TOKENS:
            if self._matcher.is_stopped() or self._matcher.is_accepting():
                return added
            step = self._matcher.compute_ff_tokens() or self._closing_step()
            taken = self._matcher.try_consume_tokens(step) if step else 0
            added.extend(step[:taken])
            if not step or taken < len(step):
                break
        if added:
            self._matcher.rollback(len(added))
        return None

    def _closing_step(self) -> list[int]:
        # Inside a string "null" would be content; there, another letter is allowed as well. In a
        # quote it may not be; there, what is added is words of the source, or some are taken back.
        in_string = self._allows("q")
        in_number = not in_string and self._allows("0") and not self._allows("-")
        in_value = ("null", "]", "}", '"', ":", ",")  # white space may stand before each: unforced
        for text in () if in_number else ('"', "}", "]") if in_string else in_value:
            if self._allows(text):
                return self._tokenizer.tokenize_str(text)
        return []

    def _allows(self, text: str) -> bool:
        tokens = self._tokenizer.tokenize_str(text)
        return self._matcher.validate_tokens(tokens) == len(tokens)


def run_guides(
    guides: Mapping[int, Guide],
    repick: Callable[[dict[int, tuple[int, NDArray[np.int32]]]], dict[int, int | None]],
) -> dict[int, list[int]]:
    """Runs guides to their ends; what they ask at the same time is answered at once.

    Args:
        guides: By row.
        repick: Gets by row a place in the draft and the mask there, and gives tokens or None.

    Returns:
        By row what its guide returns.
    """
    found: dict[int, list[int]] = {}
    picked: dict[int, int | None] = dict.fromkeys(guides)
    while picked:
        asked: dict[int, tuple[int, NDArray[np.int32]]] = {}
        for row, token in picked.items():
            try:
                asked[row] = guides[row].send(token)
            except StopIteration as end:
                found[row] = end.value
        picked = repick(asked)
    return found


def guide_alone(guide: Guide, repick: Callable[[int, NDArray[np.int32]], int | None]) -> list[int]:
    """Runs one guide to its end; `repick` answers what it asks."""
    return run_guides(
        {0: guide}, lambda asked: {row: repick(place, mask) for row, (place, mask) in asked.items()}
    )[0]
