"""Rows of any width for people: a table where it fits, else records, a block of lines for each row.

In: names and rows. Out: standard output, in the width of the terminal; elsewhere in the one width
of `stdout_console`, so that the same rows always look the same.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from flows.cli_output import print_table, shown, stderr_console, stdout_console

# What stands between cells of `print_table`, and at its edges.
_CELL_FRAME = 3
_EDGES = 1
# A column of prose can be read from so many characters on; a longer word (a hash) is folded.
_PROSE_CHARS = 20
_WORD_CHARS = 32
# How much of a long cell is shown.
_TABLE_CHARS = 400
_RECORD_CHARS = 4000

Layout = Literal["auto", "table", "records"]


def print_rows(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    layout: Layout = "auto",
    *,
    title: str = "",
) -> None:
    """Prints rows as a table or, where that could not be read in this width, as records."""
    names = [shown(name) for name in columns]
    texts = _begin(rows, _TABLE_CHARS)
    width = stdout_console().width
    widths = share_width(names, texts, width)
    if layout == "records" or (layout == "auto" and not widths):
        _print_records(names, _begin(rows, _RECORD_CHARS), title)
    else:
        print_table(names, texts, title, widths)


def _begin(rows: Sequence[Sequence[str]], most: int) -> list[list[str]]:
    """The cells as they may be shown; a long one says how much of it is not."""
    return [
        [
            shown(
                cell if len(cell) <= most else f"{cell[:most]} ... (+{len(cell) - most} characters)"
            )
            for cell in row
        ]
        for row in rows
    ]


def share_width(
    names: Sequence[str], texts: Sequence[Sequence[str]], width: int
) -> tuple[int, ...]:
    """How wide the columns of a table may be in a width, in characters; none if it is too little.

    Args:
        names: Of the columns.
        texts: The rows' cells.
        width: Of the terminal, in characters.
    """
    columns = [(name, *(row[place] for row in texts)) for place, name in enumerate(names)]
    needs = [_least(column) for column in columns]
    wanted = [_longest(text.splitlines() for text in column) for column in columns]
    left = width - sum(needs) - _CELL_FRAME * len(names) - _EDGES
    if left < 0:
        return ()
    # The narrowest column that has not all of it first, as long as there is room.
    while left and (open_ := [i for i, need in enumerate(needs) if need < wanted[i]]):
        needs[min(open_, key=needs.__getitem__)] += 1
        left -= 1
    return tuple(needs)


def _least(column: Iterable[str]) -> int:
    """From which width on a column can be read."""
    texts = tuple(column)
    line = _longest(text.splitlines() for text in texts)
    word = _longest(text.split() for text in texts)
    return max(min(line, _PROSE_CHARS), min(word, _WORD_CHARS))


def _longest(parts: Iterable[Iterable[str]]) -> int:
    """The width of the widest of these; a character of Chinese, say, takes two columns."""
    from rich.cells import cell_len

    return max((cell_len(part) for parts_ in parts for part in parts_), default=0)


def _print_records(names: Sequence[str], texts: Sequence[Sequence[str]], title: str) -> None:
    """A line with the row's number, then a line with each name and its value."""
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    console = stdout_console()
    widest = min(_longest([names]), console.width // 2)
    if title:
        console.print(f"{title}\n", style="italic", markup=False)
    for number, row in enumerate(texts, 1):
        console.print(Rule(f"{number}", align="left", style=""))
        block = Table.grid(padding=(0, 3, 0, 0))
        block.add_column(width=widest, overflow="fold", style="bold")
        block.add_column(overflow="fold")
        for name, text in zip(names, row, strict=True):
            block.add_row(Text(name), Text(text))
        console.print(block)
    if title:
        console.print()
    if not texts:
        stderr_console().print("no rows")
