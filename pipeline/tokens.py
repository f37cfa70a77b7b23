"""Counts tokens as the model will: the model's own tokenizer, told nothing of chat templates.

In: the path of a `tokenizer.json`. Out: token counts, and where in a text each token starts.
"""

from array import array
from functools import lru_cache

from tokenizers import Tokenizer

from pipeline.errors import InputError

BLOCK_CHARS = 100_000
"""A long text is encoded in blocks of this many characters, so that it can be given up early."""


class TooManyTokens(Exception):  # noqa: N818  an answer to a question, not a fault
    """The text has more tokens than were asked for.

    Attributes:
        estimate: About how many tokens the whole text has.
    """

    def __init__(self, estimate: int) -> None:
        super().__init__(f"about {estimate} tokens")
        self.estimate = estimate


class Tokens:
    """A model's tokenizer. Safe to share between threads."""

    def __init__(self, tokenizer_json: str) -> None:
        """Reads a tokenizer.

        Args:
            tokenizer_json: Path of a Hugging Face `tokenizer.json`.

        Raises:
            InputError: The file can't be read as one.
        """
        try:
            self._tokenizer = Tokenizer.from_file(tokenizer_json)
        except Exception as error:  # the library raises a bare Exception for everything
            raise InputError(
                f"the tokenizer tokenizer_json={tokenizer_json!r} can't be read ({error}); "
                "check the model folder, or let it be made again"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # A document that spells out "<|im_end|>" has written words, not a control token.
        self._tokenizer.encode_special_tokens = True

    def count(self, text: str) -> int:
        """Tokens of the text by itself."""
        encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return len(encoded[0])

    def starts(self, text: str, most: int) -> "array[int]":
        """Where each token starts, in characters, never falling.

        The text is encoded in blocks that end at white space where there is some, so the time
        spent on a text that is too long depends on `most`, not on its length.

        Args:
            text: The whole text.
            most: Give up beyond this many tokens.

        Raises:
            TooManyTokens: The text has more than `most` tokens.
        """
        starts = array("q")
        begin = 0
        while begin < len(text):
            end = _block_end(text, begin)
            encoding = self._tokenizer.encode(text[begin:end], add_special_tokens=False)
            starts.extend(begin + start for start, _ in encoding.offsets)
            if len(starts) > most:
                raise TooManyTokens(len(starts) * len(text) // end)
            begin = end
        return starts

    def head(self, text: str, most: int) -> str:
        """The beginning of the text, at most `most` tokens long, cut at white space if it can be.

        Args:
            text: Any text.
            most: The most tokens, at least 1.
        """
        beginning = text[: most * 16]
        offsets = self._tokenizer.encode(beginning, add_special_tokens=False).offsets
        if len(offsets) <= most:
            return beginning
        cut = beginning[: offsets[most][0]]
        border = max(cut.rfind(" "), cut.rfind("\n"))
        return cut[:border] if border > len(cut) // 2 else cut


def _block_end(text: str, begin: int) -> int:
    end = begin + BLOCK_CHARS
    if end >= len(text):
        return len(text)
    border = max(text.rfind("\n", begin, end), text.rfind(" ", begin, end))
    return border if border > begin + BLOCK_CHARS // 2 else end


@lru_cache(maxsize=4)
def load_tokens(tokenizer_json: str) -> Tokens:
    """The tokenizer at this path, read once per process.

    Raises:
        InputError: The file can't be read as a tokenizer.
    """
    return Tokens(tokenizer_json)
