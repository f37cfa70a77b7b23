r"""Shows characters that can't be seen, or that change what is seen, by their numbers.

In: any text of a document, or a file's name. Out: text that looks like what it is: a right-to-left
override, with which `exe.pdf` hides `fdp.exe`, stands there as `\u202e`.
"""

import re

# Controls, soft hyphen, bidi marks, invisible spaces and operators, line separators, annotation
# and tag characters. Joiners (U+200C, U+200D) stay: Persian and emoji are written with them.
_INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_IN_TEXT = re.compile(f"[{_INVISIBLE}]")
_IN_LINE = re.compile(f"[\t\n{_INVISIBLE}]")


def visible(text: str) -> str:
    """Text of several lines: line ends and tabs stay as they are."""
    return _IN_TEXT.sub(_number, text)


def visible_line(text: str) -> str:
    """Text of one line, such as a path: line ends and tabs are shown as numbers, too."""
    return _IN_LINE.sub(_number, text)


def _number(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
