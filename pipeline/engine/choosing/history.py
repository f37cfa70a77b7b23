"""An answer's tokens, with what penalties and bans need to know of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.engine.choosing.shifts import counts_tokens
from pipeline.engine.interface import Sampling


@dataclass(slots=True)
class History:
    """The tokens of one answer, with what the penalties need to know of them.

    Attributes:
        sampling: The request's settings.
        prompt: What is asked, for `no_repeat_copied`.
        tokens: The answer so far.
        counts: How often each token stands in it, if a setting asks for that (`counted`).
    """

    sampling: Sampling
    prompt: Sequence[int] = ()
    tokens: list[int] = field(default_factory=list[int])
    counts: Counter[int] = field(default_factory=Counter[int])
    counted: bool = field(init=False)
    _followers: defaultdict[tuple[int, ...], list[int]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _asked: str | None = None  # the prompt, a character per token: to find a run of tokens in
    _sizes: tuple[int, ...] = field(init=False)  # of the n-grams that matter
    _begins: list[tuple[int, ...]] = field(init=False)
    """What the next token would complete an n-gram of, of each of those sizes."""

    def __post_init__(self) -> None:
        """Finds what matters: each token passes here, in every step."""
        self.counted = counts_tokens(self.sampling)
        size, copied = self.sampling.no_repeat_ngram, self.sampling.no_repeat_copied
        self._sizes = () if not size else (size, max(size, copied)) if copied else (size,)
        self._begins = self._find_begins()

    def push(self, token: int) -> None:
        """Appends a token."""
        for begin in self._begins:
            self._followers[begin].append(token)
        self.tokens.append(token)
        if self.counted:
            self.counts[token] += 1
        if self._sizes:
            self._begins = self._find_begins()

    def pop(self) -> None:
        """Takes the last token back."""
        token = self.tokens.pop()
        if self.counted:
            self.counts[token] -= 1
            if not self.counts[token]:
                del self.counts[token]
        if self._sizes:
            self._begins = self._find_begins()
        for begin in self._begins:
            self._followers[begin].pop()

    def banned(self, ends_string: Callable[[int], bool] | None = None) -> list[int]:
        """Tokens that would complete an n-gram that already stands in the answer.

        Args:
            ends_string: Tells tokens with a quotation mark. If given, n-grams are looked for in
                the current string only (two values may well be the same), and these tokens stay
                free, or strings would run on.
        """
        banned = self._followers.get(self._begins[0], []) if self._begins else []
        if not banned:
            return []
        if ends_string is None:
            return self._without_copied(banned, self._begins)
        size = self.sampling.no_repeat_ngram
        string: list[int] = []
        for token in reversed(self.tokens):
            if ends_string(token):
                break
            string.insert(0, token)
        begin = string[len(string) - size + 1 :]
        ends = range(size - 1, len(string)) if len(string) >= size else ()
        found = [string[end] for end in ends if string[end - size + 1 : end] == begin]
        return [token for token in found if not ends_string(token)]

    def _find_begins(self) -> list[tuple[int, ...]]:
        have = len(self.tokens)
        return [tuple(self.tokens[have - size + 1 :]) for size in self._sizes if size <= have + 1]

    def _without_copied(self, banned: list[int], begins: list[tuple[int, ...]]) -> list[int]:
        """Without those whose n-gram stands in the prompt, unless the longer one is there, too."""
        if not self.sampling.no_repeat_copied:
            return banned
        if self._asked is None:
            self._asked = "".join(map(chr, self.prompt))
        longer = self._followers.get(begins[1], []) if len(begins) > 1 else []
        start = "".join(map(chr, begins[0]))
        return [t for t in banned if t in longer or start + chr(t) not in self._asked]
