"""Copies against a brute-force search for the longest suffix that occurs earlier."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.copying import NO_COPY, Copier

texts = st.integers(1, 4).flatmap(lambda letters: st.lists(st.integers(1, letters), max_size=60))


def longest_match(text: list[int]) -> int:
    """Length of the longest suffix that also ends earlier."""
    size = len(text)
    for length in range(size - 1, 0, -1):
        if any(text[e - length : e] == text[size - length :] for e in range(length, size)):
            return length
    return 0


def places(text: list[int], length: int) -> list[int]:
    """Where the last `length` tokens end earlier, oldest first."""
    tail = text[len(text) - length :]
    return [e for e in range(length, len(text)) if text[e - length : e] == tail]


def continuation(text: list[int], place: int, most: int) -> tuple[int, ...]:
    known = list(text)
    for i in range(most):
        known.append(known[place + i])
    return tuple(known[len(text) :])


@given(texts, st.integers(1, 20))
def test_the_copy_follows_an_occurrence_of_the_longest_suffix(text: list[int], most: int) -> None:
    copier = Copier()
    for n, token in enumerate(text, 1):
        copier.push(token)
        copy = copier.propose(most)
        assert copy.match_length == longest_match(text[:n])
        if copy.match_length:
            found = places(text[:n], copy.match_length)
            assert copy.tokens in {continuation(text[:n], place, most) for place in found}
        else:
            assert copy == NO_COPY


@given(st.lists(st.integers(1, 3), min_size=1, max_size=9), st.integers(1, 5))
def test_of_equal_matches_the_most_recent_is_taken(text: list[int], most: int) -> None:
    copy = Copier(text).propose(most)
    if copy.match_length:
        newest = places(text, copy.match_length)[-1]
        assert copy.tokens == continuation(text, newest, most)


@given(texts, st.integers(0, 60))
def test_a_prompt_may_come_in_pieces(text: list[int], cut: int) -> None:
    pieces = Copier(text[:cut])
    pieces.extend(text[cut:])
    assert pieces.propose(15) == Copier(text).propose(15)


@pytest.mark.parametrize("capacity", [1000, 120])
def test_an_index_made_in_pieces_is_the_whole_one(capacity: int) -> None:
    text = [n * n % 23 for n in range(200)]
    copier = Copier(text, capacity)
    assert copier.waiting == 200
    pieces = 0
    while copier.waiting:
        copier.catch_up(17)
        pieces += 1
    assert pieces == (12 if capacity > 200 else 4)  # the older half is forgotten before
    copier.push(9)
    assert copier.waiting == 1
    assert copier.propose(15) == Copier([*text, 9], capacity).propose(15)


@settings(max_examples=50)
@given(texts, st.integers(2, 20))
def test_a_full_index_keeps_its_newest_half(text: list[int], capacity: int) -> None:
    copier = Copier(capacity=capacity)
    for n, token in enumerate(text, 1):
        copier.push(token)
        match_length = copier.propose(3).match_length
        assert len(copier._text) <= capacity
        assert copier._text == text[n - len(copier._text) : n]
        assert len(copier._text) >= min(n, capacity // 2)
        assert match_length == longest_match(copier._text)


def test_a_prompt_longer_than_the_index_is_known_by_its_end() -> None:
    copier = Copier(range(100), capacity=10)
    copier.push(96)
    assert copier.propose(2).tokens == (97, 98)


def test_a_quote_is_found_again() -> None:
    copier = Copier([5, 6, 7, 8, 9, 1, 6, 2])
    copier.extend([6, 7])
    assert copier.propose(2).tokens == (8, 9)
    assert copier.propose(2).match_length == 2
    assert copier.propose(0) == NO_COPY


def test_an_overlapping_copy_goes_on_with_the_period() -> None:
    assert Copier([1, 2, 3, 1, 2, 3]).propose(7).tokens == (1, 2, 3, 1, 2, 3, 1)
    assert Copier([4] * 3).propose(4).tokens == (4, 4, 4, 4)


def test_nothing_to_copy() -> None:
    assert Copier().propose(5) == NO_COPY
    assert Copier([1, 2, 3]).propose(5) == NO_COPY


def test_the_index_stays_linear() -> None:
    """Work and memory by count, as time on a shared machine proves nothing."""
    rng = random.Random(1)
    for text in ([1] * 3000, [1, 2] * 1500, [rng.randrange(300) for _ in range(3000)]):
        copier = Copier(text)
        copier.propose(1)
        assert len(text) < len(copier._next) <= 2 * len(text)
        assert sum(map(len, copier._next)) <= 3 * len(text)
        size = sum(sys.getsizeof(moves) for moves in copier._next)
        assert size < 600 * len(text)
