"""Grammar of an answer: which tokens may come next, and how an answer is closed at its limit.

A thin wrapper around llguidance: a JSON schema is compiled once per text (one with quotes, once per
source), a matcher belongs to one row, and masks are int32 words of 32 tokens each, written straight
into the batch's array.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
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

from pipeline.engine.grammars.matcher import Matcher
from pipeline.engine.grammars.quoting import has_quotes, quoting_grammar
from pipeline.engine.grammars.schema_bounds import check_schema, check_source
from pipeline.errors import RequestError

MASK_THREADS = 4
"""More take longer to wake than they save."""
MANY_MASKS = 12
"""More than so many are made in parallel, whatever they are."""


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
        self._executor = LLExecutor(min(MASK_THREADS, os.cpu_count() or 1))
        self._compile = lru_cache(maxsize=64)(self._compile_text)
        # About 6 MB each for a source of 1,500 tokens, and 20 to 30 ms to compile.
        self._compile_quoting = lru_cache(maxsize=16)(self._compile_with_quotes)

    def matcher(self, schema: dict[str, Any], source: str = "") -> Matcher:
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
            compiled.grammar.deep_copy(),
            self._tokenizer,
            self._stop,
            compiled.forced,
            risks=compiled.risks,
            quotes=quotes,
        )

    def fill_masks(
        self,
        masks: NDArray[np.int32],
        matchers: Sequence[Matcher | None],
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

    def _compile_text(self, schema: str) -> "_Compiled":
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema)
        except ValueError as error:
            raise RequestError("bad_schema", f"the JSON schema is not usable: {error}") from error
        return self._compile_grammar(grammar)

    def _compile_with_quotes(self, schema: str, source: str) -> "_Compiled":
        check_source(source)
        return self._compile_grammar(quoting_grammar(json.loads(schema), source))

    def _compile_grammar(self, grammar: str) -> "_Compiled":
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().splitlines()[0]
            raise RequestError("bad_schema", f"the JSON schema can't be compiled: {reason}")
        return _Compiled(matcher)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A grammar in its first state, and what its rows' matchers remember together.

    Attributes:
        grammar: Which is copied for each row.
        forced: What was forced where, see `Matcher.likely_forced`.
        risks: How often something else was chosen after a token, see `Matcher.risk`.
    """

    grammar: LLMatcher
    forced: dict[bytes, list[int]] = field(default_factory=dict[bytes, list[int]])
    risks: dict[int, float] = field(default_factory=dict[int, float])
