"""Rows of any width on a terminal: a table where it can be read, else a block for each row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cli_records import print_rows, share_width

WORDS = st.text("ab 漢\n", max_size=60)
WIDE = [f"column_{number}" for number in range(30)]
HASH = "0123456789abcdef" * 4


@given(
    st.integers(1, 8).flatmap(
        lambda columns: st.tuples(
            st.lists(WORDS, min_size=columns, max_size=columns),
            st.lists(st.lists(WORDS, min_size=columns, max_size=columns), max_size=4),
        )
    ),
    st.integers(1, 200),
)
def test_a_table_that_is_chosen_fits(rows: tuple[list[str], list[list[str]]], width: int) -> None:
    names, texts = rows
    widths = share_width(names, texts, width)
    assert len(widths) in {0, len(names)}
    if widths:
        assert sum(widths) + 3 * len(widths) + 1 <= width
        # Each column is as wide as its longest line, or there is no room left.
        lines = [
            max(
                (len(line.replace("漢", "漢漢")) for text in column for line in text.splitlines()),
                default=0,
            )
            for column in zip(names, *texts, strict=True)
        ]
        assert all(map(int.__le__, widths, lines))
        assert list(widths) == lines or sum(widths) + 3 * len(widths) + 1 == width


def test_prose_is_wrapped_and_words_are_not_cut() -> None:
    prose = "so many words " * 20
    wide, narrow = share_width(["text", "n"], [[prose, "1"]], 80)
    assert (wide, narrow) == (72, 1)
    assert share_width(["a", "b"], [[prose, prose]], 47) == (20, 20)
    assert share_width(["a", "b"], [[prose, prose]], 46) == ()
    path = "letters/of-the-last-year.txt"
    assert share_width(["a", "b"], [[prose, path]], 55) == (20, 28)
    assert share_width(["a", "b"], [[prose, path]], 54) == ()
    assert share_width(["a", "b"], [[prose, HASH]], 59) == (20, 32)


def test_a_row_too_wide_is_a_block_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(WIDE, [[f"value {number}" for number in range(30)], [""] * 30])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 ──")
    assert [line.split() for line in lines[1:31]] == [
        [name, "value", str(number)] for number, name in enumerate(WIDE)
    ]
    assert lines[31].startswith("2 ──")
    assert [line.split() for line in lines[32:]] == [[name] for name in WIDE]


def test_either_can_be_forced(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["a", "b"], [["x", "y"]], "records")
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["a", "x"],
        ["b", "y"],
    ]
    print_rows(WIDE, [["value"] * 30], "table")
    out = capsys.readouterr().out
    assert not out.startswith("1 ─")
    assert out.split()[:2] == ["co"] * 2


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["a", "b"], [])
    assert capsys.readouterr().out.split()[:2] == ["a", "b"]
    print_rows(WIDE, [])
    assert capsys.readouterr() == ("", "no rows\n")


def test_records_cant_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["a\x1b[1m"], [["x\x1b[31m"]], "records")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\\x1b[1m" in out
    assert "x\\x1b[31m" in out


def test_a_long_value_goes_on_below_itself(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["text", "n"], [["word " * 60, "1"]], "records")
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line[:7].strip() for line in lines] == ["text", "", "n"]
    assert all(len(line) <= 160 for line in lines)


def test_a_record_shows_more_of_a_long_value_than_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [["x" * 5000]]
    print_rows(["text"], rows)
    assert "... (+4600 characters)" in " ".join(capsys.readouterr().out.split())
    print_rows(["text"], rows, "records")
    assert "... (+1000 characters)" in " ".join(capsys.readouterr().out.split())
