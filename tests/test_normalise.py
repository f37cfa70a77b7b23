"""Normalising: what changes, that the map back is exact, and that it is a fixed point."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alignment import Alignment, Run
from pipeline.normalise import normalise

NASTY = (
    "ab-\n\r \t\f\x00\xad\u200b\u200c\ufb01\ufb03e\u0301\u0323\u0307A\u212b\u0345\u1100\u1161\u11a8"
    "\ufdfa\ufc5e\ufe91\u2f64\u2010\ud83d\u0f73\u0f71\u09c7\u09be1_\u3000\ufeff\U0001f3f4\U000e0067"
)
texts = st.one_of(st.text(alphabet=NASTY, max_size=40), st.text(max_size=60))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("one\r\ntwo\rthree\ffour", "one\ntwo\nthree\nfour"),
        ("trailing  \nand   runs", "trailing\nand runs"),
        ("a\n \n\n\n  b", "a\n\n b"),
        ("\n\n  page \n", "page"),
        ("an exam-\nple", "an example"),
        ("an exam- \r\n  ple", "an example"),
        ("Anglo-\nSaxon, 2020-\n2021", "Anglo-\nSaxon, 2020-\n2021"),
        ("exam-\n\nple", "exam-\n\nple"),
        ("- \n- x", "-\n- x"),
        ("soft\xadhyphen, broken soft\xad\r\nly", "softhyphen, broken softly"),
        ("e\ufb03cient \ufb01le", "efficient file"),
        ("x\xb2 \xbd \uff21", "x\xb2 \xbd \uff21"),
        ("nul\x00l\x07 and \ud800", "null and \ufffd"),
        ("re\u0301sume\u0301", "r\xe9sum\xe9"),
        ("no\xa0break\u3000wide\tand tab", "no break wide and tab"),
        ("zero\u200bwidth\ufeff\u202e", "zerowidth"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\u2f64\u6237", "\u7528\u6237"),
        ("\ufe8e\ufedf\ufecb", "\u0627\u0644\u0639"),
        (" \n ", ""),
        ("", ""),
    ],
)
def test_what_changes(raw: str, text: str) -> None:
    assert normalise(raw)[0] == text


@settings(max_examples=150)
@given(texts)
def test_runs_cover_the_text_in_order_and_map_exactly(raw: str) -> None:
    text, alignment = normalise(raw)
    previous = Run(0, 0, 0, 0)
    for run in alignment.runs:
        assert run.text_start == previous.text_end < run.text_end
        assert run.raw_start < run.raw_end <= len(raw)
        apart = run.raw_start >= previous.raw_end
        # Or pieces of one raw piece that gave several characters, each mapped to it as a whole.
        shared = run.raw_start >= previous.raw_start and run.raw_end >= previous.raw_end
        assert apart or (shared and run.raw_start < previous.raw_end)
        if run.text_end - run.text_start == run.raw_end - run.raw_start:
            spans = (text[run.text_start : run.text_end], raw[run.raw_start : run.raw_end])
            assert all(stands_for(shown, given) for shown, given in zip(*spans, strict=True))
        previous = run
    assert previous.text_end == len(text)


def stands_for(shown: str, given: str) -> bool:
    """Whether a character is the raw one, or a documented substitute for it."""
    if shown in "\n \ufffd":
        return given == shown or given.isspace() or (0xD800 <= ord(given) < 0xE000)
    return shown == given or shown in unicodedata.normalize("NFKC", given)


@settings(max_examples=150)
@given(texts)
def test_normalising_twice_changes_nothing(raw: str) -> None:
    text, _ = normalise(raw)
    again, alignment = normalise(text)
    assert again == text
    assert alignment.runs == ((Run(0, len(text), 0, len(text)),) if text else ())


@settings(max_examples=100)
@given(texts)
def test_the_text_is_nfc_valid_and_without_controls(raw: str) -> None:
    text, _ = normalise(raw)
    assert unicodedata.is_normalized("NFC", text)
    assert not set(text) & set("\x00\r\f\t\xad\ufeff")
    assert "  " not in text
    assert "\n\n\n" not in text
    assert " \n" not in text
    assert text == text.strip(" \n")
    text.encode()


@settings(max_examples=100)
@given(texts, st.data())
def test_a_span_leads_back_to_raw_text_that_gives_it(raw: str, data: st.DataObject) -> None:
    text, alignment = normalise(raw)
    if not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    raw_start, raw_end = alignment.to_raw(start, end)
    assert 0 <= raw_start < raw_end <= len(raw)
    wanted = text[start:end].strip()
    assert wanted in normalise(f"|{raw[raw_start:raw_end]}|")[0] or not wanted.isascii()
    # A larger span contains the smaller one's.
    whole = alignment.to_raw(0, len(text))
    assert whole[0] <= raw_start
    assert raw_end <= whole[1]


@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 1), (-1, 1), (0, 5)])
def test_a_span_outside_the_text_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=r"no such span"):
        Alignment((Run(0, 4, 0, 4),)).to_raw(start, end)


def test_the_smallest_raw_span() -> None:
    raw = "The \ufb01rst  exam-\nple."
    text, alignment = normalise(raw)
    assert text == "The first example."
    quote = text.index("example")
    assert raw[slice(*alignment.to_raw(quote, quote + 7))] == "exam-\nple"
    assert raw[slice(*alignment.to_raw(quote, quote + 4))] == "exam"
    assert raw[slice(*alignment.to_raw(text.index("irst"), quote - 1))] == "\ufb01rst"


@pytest.mark.parametrize(
    "piece", ["a\u0301\u0323", "-\n", "- ", " \n", "\u1100\u1161", "\xad\n", "\xe9-\n"]
)
def test_time_is_linear_in_the_text(piece: str) -> None:
    text, alignment = normalise(piece * 20_000)
    assert len(text) == (alignment.runs[-1].text_end if alignment.runs else 0)
