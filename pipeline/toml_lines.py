"""Finds the line of a key in a TOML text, to tell people where their mistake is.

In: the text and the path of a key, such as ("fields", "total", "type"); of an array of tables, with
the number from 1 of the table, ("examples", "2", "text"). Out: a line number.
tomllib tells lines of syntax errors only; this scan is for files that it could read.
"""

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def find_line(text: str, path: tuple[str, ...]) -> int:
    """The line where a key stands, or its nearest parent that has one (an inline table's key).

    Args:
        text: A valid TOML text.
        path: The key with all its tables, outermost first.

    Returns:
        A line number from 1; 1 if nothing of the path is found.
    """
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    best_length, best_line = 0, 1
    quote = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := _HEADER.match(line):
            found = table = _number(_parts(header[2]), counts, is_array=header[1] == "[[")
            if header[1] == "[[" and path == found[:-1]:  # the array as such
                found = path
        elif key := _KEY.match(line):
            found = table + _parts(key.group(1))
            quote = _opened_quote(line[key.end() :])
        else:
            continue
        if len(found) > best_length and path[: len(found)] == found:
            best_length, best_line = len(found), number
    return best_line


def _number(
    names: tuple[str, ...], counts: dict[tuple[str, ...], int], *, is_array: bool
) -> tuple[str, ...]:
    """A header's path with the numbers of the tables of arrays in it; counts another one."""
    path: tuple[str, ...] = ()
    for place, name in enumerate(names, start=1):
        path = (*path, name)
        if is_array and place == len(names):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, str(counts[path]))
    return path


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _opened_quote(value: str) -> str:
    """The triple quote that a value opens and does not close on its line, or nothing."""
    for quote in ('"""', "'''"):
        if value.count(quote) % 2 == 1:
            return quote
    return ""
