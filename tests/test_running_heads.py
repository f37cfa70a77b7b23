"""Running heads are set apart, nothing else is, and the map back to the raw text stays exact."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alignment import Alignment
from pipeline.contents import FileBytes, make_document
from pipeline.normalise import normalise
from pipeline.pages import read_contents
from pipeline.running_heads import set_heads_apart

SAMPLES = Path(__file__).parents[1] / "sample_docs"


def set_apart(*raw: str) -> list[str]:
    return [text for text, _ in set_heads_apart([normalise(page) for page in raw])]


def test_a_head_and_a_page_number_stay_on_the_first_page() -> None:
    pages = [
        f"Acme, lease, page {n} of 4\n\nText {word}.\n\n{n}" for n, word in enumerate("abcd", 1)
    ]
    assert set_apart(*pages) == [
        "Acme, lease, page 1 of 4\n\nText a.\n\n1",
        "Text b.",
        "Text c.",
        "Text d.",
    ]


def test_the_raw_text_keeps_it() -> None:
    contents = read_contents((SAMPLES / "documents/long/xz-file-format.pdf").read_bytes(), ".pdf")
    document = make_document(FileBytes("0" * 64, 1, "application/pdf"), contents)
    raws = [page.raw for page in document.pages]
    assert raws == [page.text for page in contents.pages]
    starts = [page.start_char for page in document.pages]
    assert [
        document.text[start:][: len(p.text)]
        for start, p in zip(starts, document.pages, strict=True)
    ] == [page.text for page in document.pages]


@pytest.mark.parametrize(
    "pages",
    [
        ["Total 5.00\na", "Total 7.00\nb", "Total 9.00\nc"],  # numbers that count no pages
        ["Oak 1\na", "Oak 1\nb"],  # two pages are no pattern
        ["Head\na", "Other\nb", "Third\nc", "Head\nd", "e", "f", "g", "h", "Head\ni"],  # too few
        ["Head", "Head", "Head"],  # nothing else is there
        [f"{'long ' * 60}\n{n}a" for n in "abc"],  # a paragraph
    ],
)
def test_what_is_no_head_stays(pages: list[str]) -> None:
    assert set_apart(*pages) == [normalise(page)[0] for page in pages]


def test_heads_of_left_and_right_pages_are_both_found() -> None:
    pages = [f"{'Left' if n % 2 else 'Right'} head\ntext {'abcdefgh'[n]}" for n in range(8)]
    assert set_apart(*pages)[2:] == [f"text {letter}" for letter in "cdefgh"]


def test_a_sentence_over_pages_is_whole() -> None:
    pages = ["Head\na sentence that\nPage 1", "Head\ngoes on and\nPage 2", "Head\non.\nPage 3"]
    assert "\f".join(set_apart(*pages)[1:]) == "goes on and\fon."


LINES = st.sampled_from(
    ["Head", "Page #", "\ufb01n \ufb02ow", "e\u0301te", "a b", "", "12", "Sum # "]
)


@given(st.lists(st.lists(LINES, max_size=8), max_size=6))
def test_the_alignment_is_that_of_what_is_kept(pages: list[list[str]]) -> None:
    raws = ["\n".join(page).replace("#", str(n)) for n, page in enumerate(pages, 1)]
    before = [normalise(raw) for raw in raws]
    after = set_heads_apart(before)
    assert len(after) == len(before)
    for (old, old_map), (new, new_map) in zip(before, after, strict=True):
        assert bool(new) == bool(old)
        assert new == new.strip("\n")
        assert sum(run.text_end - run.text_start for run in new_map.runs) == len(new)
        old_spans = spans(old, old_map)
        place = -1
        for character, span in spans(new, new_map):
            # Each character is one of the page's own, in order, from the same raw text.
            place = old_spans.index((character, span), place + 1)


def spans(text: str, alignment: Alignment) -> list[tuple[str, tuple[int, int]]]:
    return [(text[at], alignment.to_raw(at, at + 1)) for at in range(len(text))]


@given(st.lists(st.text("ab1 \n", max_size=12), max_size=5))
def test_doing_it_again_changes_little_and_never_fails(raws: list[str]) -> None:
    pages = set_heads_apart([normalise(raw) for raw in raws])
    words = [set(text.split()) for text, _ in pages]
    again = [set(text.split()) for text, _ in set_heads_apart(pages)]
    assert all(one >= two for one, two in zip(words, again, strict=True))
