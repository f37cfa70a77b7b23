"""Boxes of words become a text in the order of reading, and no word is lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ocr_lines import Box, join_boxes

SIDES = st.floats(0, 1000, allow_nan=False)
BOXES = st.builds(
    lambda left, top, width, height, text: Box(left, top, left + width, top + height, text),
    SIDES,
    SIDES,
    st.floats(1, 500),
    st.floats(1, 50),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
)


def line(left: float, top: float, text: str, width: float = 0) -> Box:
    """A line of 10 points, 6 for each letter unless its width is given."""
    return Box(left, top, left + (width or 6 * len(text)), top + 10, text)


@given(st.lists(BOXES, max_size=40))
def test_no_word_is_lost_or_doubled(boxes: list[Box]) -> None:
    words = Counter(word for box in boxes for word in box.text.split())
    assert Counter(join_boxes(boxes).split()) == words


def test_a_page_without_words_is_empty() -> None:
    assert join_boxes([]) == ""
    assert join_boxes([line(0, 0, " ")]) == ""


def test_cells_of_a_row_are_one_line_whatever_their_order() -> None:
    boxes = [line(300, 51, "12.50"), line(0, 50, "Bolts"), line(0, 62, "Nuts"), line(300, 61, "3")]
    assert join_boxes(boxes) == "Bolts   12.50\nNuts   3"


def test_pieces_of_a_sentence_are_one_line() -> None:
    assert join_boxes([line(0, 0, "Dear"), line(28, 1, "Ada,")]) == "Dear Ada,"


def test_a_gap_is_an_empty_line() -> None:
    boxes = [line(0, 0, "Title"), line(0, 30, "One"), line(0, 42, "two")]
    assert join_boxes(boxes) == "Title\n\nOne\ntwo"


def test_columns_of_prose_follow_each_other_between_headings() -> None:
    left = [line(0, 40 + 12 * row, f"left {row}", 190) for row in range(6)]
    right = [line(210, 41 + 12 * row, f"right {row}", 190) for row in range(6)]
    heading = line(0, 0, "A heading over both", 400)
    foot = line(50, 200, "A foot under both", 300)
    text = join_boxes([foot, *right, heading, *left]).split("\n")
    read = [row for row in text if row]
    assert read[0] == "A heading over both"
    assert read[1:7] == [f"left {row}" for row in range(6)]
    assert read[7:13] == [f"right {row}" for row in range(6)]
    assert read[13] == "A foot under both"


def test_a_table_is_not_taken_for_columns() -> None:
    names = [line(0, 12 * row, f"item {row}") for row in range(8)]
    prices = [line(350, 12 * row, f"{row}.00") for row in range(8)]
    assert join_boxes([*prices, *names]).split("\n")[3] == "item 3   3.00"
