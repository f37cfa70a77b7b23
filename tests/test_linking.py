"""Sentences of a summary lead to the sentences that support them; what is made up is flagged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.linking import LEAST_SCORE, link_sentences
from pipeline.sentences import split_sentences

TEXT = (
    "Strandvik footbridge, meeting 7\n\n24 September 2026. The east abutment was poured on "
    "11 September. Welding of the three deck sections is done.\fThe lift adds 180,000 kroner and "
    "is paid from the reserve. Ingrid Solheim took the chair. The next meeting is on 8 October."
)


def only(summary: str, title: str = "") -> tuple[str, float, str, str]:
    (entry,) = link_sentences(summary, TEXT, title)
    assert entry.score is not None
    for span in entry.spans:
        assert TEXT[span.start_char : span.end_char] == span.quote
    return entry.support, entry.score, entry.reason, "|".join(span.quote for span in entry.spans)


def test_a_sentence_leads_to_its_source() -> None:
    support, score, reason, quote = only("The lift is paid from the reserve.")
    assert (support, reason) == ("derived", "")
    assert score > LEAST_SCORE
    assert quote == "The lift adds 180,000 kroner and is paid from the reserve."
    assert only("Welding of the three deck sections is done.")[:2] == ("verbatim", 1.0)


def test_a_sentence_may_need_two_sources() -> None:
    support, _, _, quote = only("Ingrid Solheim took the chair; the deck's sections are welded.")
    assert support == "derived"
    assert "deck sections" in quote
    assert "Ingrid" in quote


def test_a_sentence_of_other_words_is_unsupported() -> None:
    support, score, reason, _ = only("Everybody enjoyed the wonderful weather and sang old songs.")
    assert support == "unsupported"
    assert score < LEAST_SCORE
    assert "words" in reason


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("The lift adds 190,000 kroner and is paid from the reserve.", "a number"),
        ("The next meeting is on 9 October.", "a date"),
        ("The next meeting is on October 8, 2027.", "a date"),
        ("Then Ingrid Sandberg took the chair.", "a name"),
        ("Ola Nordmann took the chair.", "a name"),
    ],
)
def test_what_the_document_does_not_have_is_always_flagged(sentence: str, kind: str) -> None:
    support, _, reason, _ = only(sentence)
    assert support == "unsupported"
    assert kind in reason
    assert not any(word in reason for word in ("Sandberg", "Nordmann", "190", "2027"))


@pytest.mark.parametrize(
    "sentence",
    [
        "The lift adds kr 180000 and is paid from the reserve.",
        "The next meeting is on October 8, 2026.",
        "On 2026-09-24 the meeting was about the footbridge.",
        "The chair was Solheim.",
    ],
)
def test_the_same_in_other_writing_is_not_flagged(sentence: str) -> None:
    assert "does not have" not in only(sentence)[2]


def test_names_of_the_title_are_known() -> None:
    assert only("The lift of Nordkyst is paid from the reserve.")[0] == "unsupported"
    assert only("The lift of Nordkyst is paid from the reserve.", "Nordkyst")[0] == "derived"


def test_sentences_are_numbered_in_order() -> None:
    entries = link_sentences("Welding is done. Dr. Solheim took the chair!\n\nThe end", TEXT)
    assert [entry.item for entry in entries] == [0, 1, 2]
    assert [entry.value for entry in entries][1] == "Dr. Solheim took the chair!"
    assert {entry.field for entry in entries} == {"text"}


def test_a_summary_of_nothing_is_unsupported() -> None:
    (entry,) = link_sentences("The lift is paid.", "")
    assert (entry.support, entry.score, entry.spans) == ("unsupported", 0.0, ())
    assert not link_sentences("", TEXT)


@given(st.text(), st.text())
def test_any_texts_can_be_linked(summary: str, text: str) -> None:
    for entry in link_sentences(summary, text):
        assert entry.score is not None
        assert 0 <= entry.score <= 1.0001
        for span in entry.spans:
            assert text[span.start_char : span.end_char] == span.quote


@given(st.text())
def test_sentences_hold_all_words_in_order(text: str) -> None:
    found = split_sentences(text)
    assert "".join("".join(text[start:end].split()) for start, end in found) == "".join(
        text.split()
    )
    ends = [0, *(end for _, end in found)]
    assert all(start >= before for (start, _), before in zip(found, ends, strict=False))
