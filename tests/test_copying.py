"""Copies against a brute-force search for the longest suffix that occurs earlier."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.copying import LONGEST, NO_COPY, Copier

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
        assert copy.match_length == min(LONGEST, longest_match(text[:n]))
        assert all(copier.has(size) == (size <= longest_match(text[:n])) for size in range(1, 30))
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


@settings(max_examples=50)
@given(texts, st.integers(2, 20))
def test_what_is_further_back_than_the_reach_is_not_found(text: list[int], reach: int) -> None:
    copier = Copier(reach=reach)
    for n, token in enumerate(text, 1):
        copier.push(token)
        seen = text[max(0, n - 1 - reach) : n]
        assert copier.propose(3).match_length == min(LONGEST, longest_match(seen))


def test_a_prompt_longer_than_the_reach_is_known_by_its_end() -> None:
    copier = Copier(range(100), reach=10)
    copier.push(96)
    assert copier.propose(2).tokens == (97, 98)
    copier.push(50)
    assert copier.propose(2) == NO_COPY


def test_tokens_are_any_numbers_of_a_vocabulary() -> None:
    odd = [0, 0xD800, 0xDFFF, 0xFFFF, 0x10000, 262_143]  # half a character, in texts
    assert Copier([*odd, 7, *odd[:3]]).propose(4).tokens == (0xFFFF, 0x10000, 262_143, 7)


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
