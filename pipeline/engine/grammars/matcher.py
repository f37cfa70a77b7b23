"""The state of one row's grammar: what may come next, an answer closed early.

In: a compiled grammar, see `grammar`, and tokens. Out: forced tokens, and lengths of drafts that it
allows.
"""

from collections.abc import Callable, Sequence
from functools import cache

from llguidance import LLMatcher, LLTokenizer

from pipeline.errors import RequestError

MOST_REMEMBERED = 1024
"""Different bytes that a grammar forces, of which the tokens are remembered."""
CLOSING_TOKENS = 512
"""The most tokens that `Matcher.close` adds."""
FIRST_RISK, LEARNING, FORGETTING = 0.05, 0.2, 0.98
"""How likely a choice without a mask is wrong, after a token of which nothing is known; how much of
one observation goes into that; and what is left of it when a mask was made."""


class Matcher:
    """The state of one row's grammar.

    Attributes:
        quotes: Whether strings of it are words of a source: masks can then take a millisecond.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        tokenizer: LLTokenizer,
        stop: frozenset[int],
        forced: dict[bytes, list[int]],
        *,
        risks: dict[int, float] | None = None,
        quotes: bool = False,
    ) -> None:
        self.quotes = quotes
        self._forced = forced
        self._risks = {} if risks is None else risks
        self._matcher = matcher
        self._stop = stop
        self._spell: Callable[[str], list[int]] = cache(tokenizer.tokenize_str)

    @property
    def inner(self) -> LLMatcher:
        """Llguidance's own."""
        return self._matcher

    def count_allowed(self, draft: Sequence[int]) -> int:
        """How many leading tokens of a draft the grammar allows; none that ends the answer."""
        taken = self.count_taken(draft) if draft else 0
        return next((i for i, token in enumerate(draft[:taken]) if self.ends(token)), taken)

    def count_taken(self, tokens: Sequence[int]) -> int:
        """How many tokens may follow one another, what ends the answer included.

        That is what masks allow, but where tokens are forced: there a mask allows no other way to
        write the same.
        """
        return 0 if self._matcher.is_stopped() else self._matcher.validate_tokens(list(tokens))

    def try_consume(self, token: int) -> bool:
        """Moves on by a token if it may come; else the state stays as it was."""
        return self._matcher.try_consume_tokens([token]) == 1

    def ends(self, token: int) -> bool:
        """Whether a token ends the answer."""
        return token in self._stop

    def rollback(self, count: int) -> None:
        """Takes back the last tokens that were consumed."""
        self._matcher.rollback(count)

    def risk(self, token: int) -> float:
        """How likely the model chooses what the grammar forbids, after a token."""
        return self._risks.get(token, FIRST_RISK)

    def saw(self, token: int, *, right: bool | None) -> None:
        """Notes whether it chose what is allowed; None if that was not seen, under a mask."""
        risk = self.risk(token)
        if right is None:
            self._risks[token] = risk * FORGETTING
        else:
            self._risks[token] = risk + LEARNING * ((not right) - risk)

    @property
    def forces(self) -> bool:
        """Whether `forced` gives any: 3 us in the place of 20 to 60."""
        return not self._matcher.is_stopped() and bool(self._matcher.compute_ff_bytes())

    def forced(self) -> list[int]:
        """The tokens that must come next, if there is no choice; the state stays as it was."""
        return [] if self._matcher.is_stopped() else self._matcher.compute_ff_tokens()

    def likely_forced(self) -> list[int]:
        """As `forced`, for drafts, which may be wrong: 3 us in the place of 20 to 60.

        The bytes that must come next are found fast, and what tokens they were when they were
        forced before, in any row of this grammar, is remembered. Where a token could reach beyond
        them that may depend on what follows.
        """
        if self._matcher.is_stopped() or not (bytes_ := self._matcher.compute_ff_bytes()):
            return []
        if bytes_ not in self._forced:
            if len(self._forced) >= MOST_REMEMBERED:
                self._forced.clear()
            self._forced[bytes_] = self._matcher.compute_ff_tokens()
        return self._forced[bytes_]

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
                return self._spell(text)
        return []

    def _allows(self, text: str) -> bool:
        tokens = self._spell(text)
        return self._matcher.validate_tokens(tokens) == len(tokens)
