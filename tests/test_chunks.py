"""Chunks tile any text, keep their limit, and cut words only where nothing else is possible."""
# ruff: noqa: RUF001  other scripts are the point

import re
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.chunks import cut_chunks
from pipeline.errors import DocumentError, InputError
from pipeline.outline import Section
from pipeline.records import Alignment, Chunk, Limits, Page
from pipeline.tokens import BLOCK_CHARS, load_tokens
from tests.byte_tokenizer import byte_tokens

FAMILY = "👨‍👩‍👧‍👦"
WORDS = ["word", "Sentence ends.", "1,234.50", "<|im_end|>", "x" * 90, "한국어", "यह वाक्य है।"]
CJK = ["契約は終了します。", "「はい」。", "。" * 40, "هل هذا سؤال؟"]
MARKS = [FAMILY, "🇩🇪", "e\u0301", " \u0301", "a\u0301\u0302\u0303" * 12, "\u200d", "\ufe0f"]
SPACES = [" ", "\n", "\n\n", "\f", "\t", "\r\n", "\u00a0", "\u2003"]
PIECES = st.sampled_from([*WORDS, *CJK, *MARKS, *SPACES])
TEXTS = st.one_of(st.lists(PIECES, max_size=120).map("".join), st.text(max_size=400))
LIMITS = st.builds(
    Limits,
    chunk_tokens=st.integers(32, 120),
    overlap_tokens=st.integers(0, 16),
    max_document_tokens=st.just(1_000_000),
)


def pages_of(text: str) -> tuple[Page, ...]:
    pages: list[Page] = []
    start = 0
    for number, part in enumerate(text.split("\f"), start=1):
        pages.append(Page(number, part, part, Alignment(()), start, "text"))
        start += len(part) + 1
    return tuple(pages)


class Counting:
    """A tokenizer that tells how much it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.encoded_chars = 0

    def encode(self, text: str, **options: Any) -> Any:
        self.encoded_chars += len(text)
        return self._tokenizer.encode(text, **options)


def cut(text: str, limits: Limits) -> tuple[Chunk, ...]:
    return cut_chunks(text, pages_of(text), byte_tokens(), limits)


@settings(max_examples=150, deadline=None)
@given(TEXTS, LIMITS)
@example("x" * 5000, Limits(chunk_tokens=32))
@example("🇩🇪" * 500, Limits(chunk_tokens=50, overlap_tokens=16))
@example(" " * 3000, Limits(chunk_tokens=32))
def test_chunks_tile_the_text_and_keep_the_limit(text: str, limits: Limits) -> None:
    chunks = cut(text, limits)

    assert "".join(text[chunk.own_start : chunk.own_end] for chunk in chunks) == text
    end = 0
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert chunk.own_start == end
        assert chunk.own_end > chunk.own_start
        assert chunk.start_char <= chunk.own_start
        assert chunk.end_char == chunk.own_end
        seen = text[chunk.start_char : chunk.end_char]
        assert byte_tokens().count(seen) == chunk.tokens <= limits.chunk_tokens
        assert byte_tokens().count(text[chunk.start_char : chunk.own_start]) <= 2 * 16
        end = chunk.own_end


@settings(max_examples=150, deadline=None)
@given(TEXTS, LIMITS)
def test_a_word_that_fits_a_chunk_is_never_cut(text: str, limits: Limits) -> None:
    borders = {chunk.own_end for chunk in cut(text, limits)} - {len(text)}
    for word in re.finditer(r"\S+", text):
        if any(word.start() < border < word.end() for border in borders):
            # A mark at its start holds on to the space before it, which then counts as well.
            alone = text[max(word.start() - 1, 0) : word.end()]
            assert byte_tokens().count(alone) >= limits.chunk_tokens - 2


@settings(max_examples=150, deadline=None)
@given(TEXTS, LIMITS)
def test_no_character_is_torn_from_its_marks(text: str, limits: Limits) -> None:
    clusters = [match.span() for match in regex.finditer(r"\X", text)]
    for chunk in cut(text, limits):
        for start, end in clusters:
            if start < chunk.own_end < end:
                # Only a pile of marks that takes most of a chunk by itself may be cut.
                assert byte_tokens().count(text[start:end]) > limits.chunk_tokens // 2


@settings(max_examples=100, deadline=None)
@given(TEXTS, LIMITS)
def test_page_ranges_are_those_of_the_owned_words(text: str, limits: Limits) -> None:
    for chunk in cut(text, limits):
        assert chunk.page_first == text.count("\f", 0, chunk.own_start) + 1
        assert chunk.page_last == text.count("\f", 0, chunk.own_end - 1) + 1


def test_a_paragraph_is_a_better_place_than_a_sentence_and_that_than_a_word() -> None:
    sentence = "The board approved the budget. "
    text = sentence * 3 + "It closed.\n\n" + sentence * 4
    limits = Limits(chunk_tokens=byte_tokens().count(text) - 12)
    assert text[: cut(text, limits)[0].own_end].endswith("closed.\n\n")

    flat = text.replace("\n\n", " ")
    assert flat[: cut(flat, limits)[0].own_end].endswith("budget. ")

    words = re.sub(r"[.]", ",", flat)
    assert words[cut(words, limits)[0].own_end - 1] == " "


@settings(max_examples=150, deadline=None)
@given(TEXTS, LIMITS, st.sets(st.integers(0, 300), max_size=9))
def test_sections_move_borders_and_nothing_else(
    text: str, limits: Limits, starts: set[int]
) -> None:
    sections = tuple(Section(1 + at % 3, "s", at) for at in sorted(starts) if at < len(text))
    chunks = cut_chunks(text, (), byte_tokens(), limits, sections)
    assert "".join(text[chunk.own_start : chunk.own_end] for chunk in chunks) == text
    for chunk in chunks:
        seen = text[chunk.start_char : chunk.end_char]
        assert byte_tokens().count(seen) == chunk.tokens <= limits.chunk_tokens


def test_the_beginning_of_a_section_is_the_best_place_and_of_a_higher_one_better() -> None:
    sentence = "The board approved the budget. "
    text = f"{sentence * 5}\n1 Rules\n{sentence * 2}\n1.1 Fees\n{sentence}\n\n{sentence * 4}"
    limits = Limits(chunk_tokens=byte_tokens().count(text[: -len(sentence) * 3]))
    rules, fees = (Section(n, "s", text.index(str(s))) for n, s in ((1, "1 Rules"), (2, "1.1")))

    def begin(*sections: Section) -> str:
        end = cut_chunks(text, (), byte_tokens(), limits, sections)[0].own_end
        return text[end : end + 7]

    assert begin() == sentence[:7]
    assert begin(fees) == "1.1 Fee"
    assert begin(rules, fees) == "1 Rules"
    early = Section(1, "s", text.index("The board", 5))  # in the first half of the chunk
    assert begin(early) == begin()


@pytest.mark.parametrize("mark", ["。", "！", "？", "؟", "।"])
def test_text_without_spaces_is_cut_after_a_sentence(mark: str) -> None:
    text = ("契約は終了します" * 3 + mark) * 60
    chunks = cut(text, Limits(chunk_tokens=200))
    assert len(chunks) > 3
    assert all(text[chunk.own_end - 1] == mark for chunk in chunks)


def test_context_before_a_chunk_begins_at_a_word() -> None:
    text = "The chair closed the session early. " * 60
    chunks = cut(text, Limits(chunk_tokens=100, overlap_tokens=20))
    for chunk in chunks[1:]:
        assert chunk.start_char < chunk.own_start
        assert text[chunk.start_char - 1] == " "


def test_an_empty_text_has_no_chunks() -> None:
    assert cut("", Limits()) == ()


def test_too_long_is_told_before_all_of_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "hello world " * 2_000_000
    tokens = byte_tokens()
    counting = Counting(tokens._tokenizer)
    monkeypatch.setattr(tokens, "_tokenizer", counting)
    with pytest.raises(DocumentError, match=r"max_document_tokens=1000; split it") as caught:
        cut_chunks(text, (), tokens, Limits(max_document_tokens=1000))
    assert caught.value.kind == "too_long"
    assert "hello" not in str(caught.value)
    assert 1000 < counting.encoded_chars <= BLOCK_CHARS


def test_time_is_linear() -> None:
    def seconds(text: str) -> float:  # of this thread's own work, whatever else the machine does
        begin = time.thread_time()
        cut_chunks(text, (), byte_tokens(), Limits(chunk_tokens=300, max_document_tokens=10**7))
        return time.thread_time() - begin

    for unit in ("The chair closed. ", "契約は終了", "🇩🇪", "e\u0301", " "):
        small = seconds(unit * (10_000 // len(unit)))
        large = seconds(unit * (80_000 // len(unit)))
        assert large < 30 * small + 0.3


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="chunk_tokens=8"):
        cut("text", Limits(chunk_tokens=8))
    with pytest.raises(ValueError, match="overlap_tokens=60"):
        cut("text", Limits(chunk_tokens=100, overlap_tokens=60))


def test_control_tokens_in_a_document_count_as_the_words_they_are() -> None:
    assert byte_tokens().count("<|im_end|>") > 3


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        load_tokens(str(path))


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.integers(1, 50))
def test_head_is_a_beginning_within_its_tokens(text: str, most: int) -> None:
    head = byte_tokens().head(text, most)
    assert text.startswith(head)
    slack = 4 if any(unicodedata.category(c)[0] == "M" for c in head) else 2
    assert byte_tokens().count(head) <= most + slack
