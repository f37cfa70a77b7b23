"""Rows of tables stay on one line, columns of running text stay apart, and no word is lost."""

from decimal import Decimal
from pathlib import Path

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contents import RawPage
from pipeline.pages import read_pdf
from pipeline.pdf_lines import LineJoiner
from tests.test_gold import GOLD, SAMPLES

PAGE = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
# "grid" and "letter" draw a row as a cell after the other, on pages of their own writer.
ROWS = sorted(name for name in GOLD if "/invoices/grid-" in name or "/invoices/letter-" in name)


def join(*pieces: tuple[str, float, float]) -> str:
    joiner = LineJoiner()
    for text, x, y in pieces:
        joiner.add(text, PAGE, [1.0, 0.0, 0.0, 1.0, x, y], None, 10.0)
    return joiner.text()


def test_cells_of_a_row_share_a_line() -> None:
    assert join(("Oak\n", 50, 700), ("2\n", 200, 700), ("5.00\n", 300, 701)) == "Oak 2 5.00\n"


@pytest.mark.parametrize(
    "second",
    [
        ("below\n", 200, 680),  # another line
        ("left\n", 20, 700),  # drawn later, further left: another column, or an overlay
        ("\nafter a gap", 200, 700),  # pypdf saw a line end
    ],
)
def test_other_pieces_have_their_own_lines(second: tuple[str, float, float]) -> None:
    assert join(("Oak\n", 50, 700), second) == "Oak\n" + second[0]


def test_a_paragraph_is_kept_apart_from_the_row_before() -> None:
    assert join(("Oak\n\n", 50, 700), ("2\n", 200, 700)) == "Oak\n\n2\n"
    assert join(("Oak", 50, 700), ("\n", 50, 700), ("2\n", 200, 700)) == "Oak 2\n"


def test_columns_that_are_drawn_one_after_the_other_are_not_mixed() -> None:
    left = [(f"left {n}\n", 50.0, 700.0 - 12 * n) for n in range(5)]
    right = [(f"right {n}\n", 300.0, 700.0 - 12 * n) for n in range(5)]
    lines = join(*left, *right).splitlines()
    assert lines == [text.strip() for text, _, _ in (*left, *right)]


def test_slanted_text_is_left_as_it_is() -> None:
    joiner = LineJoiner()
    for x in (50.0, 200.0):
        joiner.add("up\n", PAGE, [0.0, 1.0, -1.0, 0.0, x, 700.0], None, 10.0)
    assert joiner.text() == "up\nup\n"


@given(
    st.lists(
        st.tuples(
            st.text("ab \n\t", max_size=5), st.floats(allow_nan=True), st.sampled_from([0.0, 5.0])
        )
    )
)
def test_no_word_is_lost_or_joined(pieces: list[tuple[str, float, float]]) -> None:
    assert join(*pieces).split() == "".join(text for text, _, _ in pieces).split()


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_real_invoices_are_lines(name: str) -> None:
    data = (SAMPLES / name).read_bytes()
    lines = [" ".join(line.split()) for page in pages_of(data) for line in page.text.splitlines()]
    for row in GOLD[name]["answers"]["invoice"]["lines"]:
        (line,) = [line for line in lines if line.startswith(row["description"])]
        assert row["quantity"] in line
        digits = "".join(c for c in line.split()[-1] if c.isdigit())
        assert digits.endswith(f"{Decimal(row['amount']) * 100:.0f}")


def pages_of(data: bytes) -> tuple[RawPage, ...]:
    return read_pdf(data).pages


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(SAMPLES.glob("documents/*/*.pdf")) if path.parent.name != "odd"],
    ids=lambda path: path.name,
)
def test_the_words_are_those_of_pypdf(path: Path) -> None:
    for page in pypdf.PdfReader(path).pages[:3]:
        joiner = LineJoiner()
        plain = page.extract_text(visitor_text=joiner.add)
        assert joiner.text().split() == plain.split()
