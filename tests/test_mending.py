"""Trees under a grammar: only what it allows, with what it forces, the likeliest first."""

import random

import pytest

from pipeline.engine.drafting.mending import mend_tree
from pipeline.engine.grammars.matcher import Matcher
from tests.test_engine_grammar import ANSWER, SCHEMA, STOP, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("tokenizer"))


def paths(tokens: list[int], parents: list[int]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for token, parent in zip(tokens, parents, strict=True):
        found.append((*found[parent], token))
    return found[1:]


def any_tree(
    chance: random.Random, right: list[int], others: list[int]
) -> tuple[list[int], list[int]]:
    """A path that is right, with wrong turns."""
    tokens, parents, at, place = list[int](), list[int](), 0, 0
    while len(tokens) < 15 and place < len(right):
        wrong = chance.random() < 0.4
        token = chance.choice(others) if wrong else right[place]
        parent = chance.randrange(len(tokens) + 1) if wrong else at
        same = [n for n in range(len(tokens)) if (tokens[n], parents[n]) == (token, parent)]
        if not same:
            tokens.append(token)
            parents.append(parent)
        if not wrong:
            at, place = (same[0] + 1 if same else len(tokens)), place + 1
    return tokens, parents


def after(bench: Bench, said: list[int]) -> Matcher:
    matcher = bench.grammars.matcher(SCHEMA)
    matcher.consume(said)
    return matcher


def forced_after(bench: Bench, said: list[int], path: tuple[int, ...]) -> list[int]:
    return after(bench, [*said, *path]).likely_forced()


def test_what_is_kept_is_allowed_and_what_is_forced_is_there(bench: Bench) -> None:
    answer = bench.encode(ANSWER)
    others = [*bench.encode('x1"{}[],:-'), STOP]
    chance = random.Random(5)
    put_in = dropped = 0
    for start in range(len(answer)):
        matcher = after(bench, answer[:start])
        tokens, parents = any_tree(chance, answer[start:], others)
        size = chance.choice([3, 7, 15])
        mended = mend_tree(matcher, tokens, parents, size)
        asked, kept = paths(tokens, parents), paths(*mended)
        assert len(kept) == len(set(kept)) <= size
        allowed = [path for path in asked if matcher.count_allowed(path) == len(path)]
        assert all(matcher.count_allowed(path) == len(path) for path in kept)
        if len(kept) < size:
            # There was room for all of it, but other ways to write what is forced.
            missing = set(allowed) - set(kept)
            assert all(path[:-1] in missing or forced_after(bench, answer[:start], path[:-1])
                       for path in missing)  # fmt: skip
            for path in [(), *kept]:
                behind = {other[len(path)] for other in kept
                          if other[: len(path)] == path and len(other) > len(path)}  # fmt: skip
                forced = forced_after(bench, answer[:start], path)
                if forced and len(path) < size:
                    assert behind == set(forced[:1])
        put_in += len(set(kept) - set(asked))
        dropped += len(asked) - len(allowed)
        assert after(bench, answer[:start]).forced() == matcher.forced()  # where it was
    assert put_in > 60
    assert dropped > 60


def test_what_is_forced_is_picked_next(bench: Bench) -> None:
    said = bench.encode('{"name":"Zo')
    matcher = after(bench, said)
    first, second, quote = bench.encode('ab"')
    forced = bench.encode(',"day":')
    tokens, parents = [quote, first, second], [0, 0, 2]
    picked = mend_tree(matcher, tokens, parents, 15)
    assert picked[0] == [quote, *forced, first, second]
    assert paths(*picked)[-1] == (first, second)
    cut = mend_tree(matcher, tokens, parents, 4)
    assert cut[0] == [quote, *forced[:3]]
    later = mend_tree(matcher, [first, quote, second], [0, 0, 1], 15)
    assert later[0] == [first, quote, *forced, second]


def test_nothing_follows_the_end(bench: Bench) -> None:
    matcher = after(bench, bench.encode(ANSWER[:-1]))
    end = bench.encode("}")[0]
    assert mend_tree(matcher, [end, end, STOP], [0, 1, 1], 7) == ([end], [0])
    matcher.consume([end])
    assert mend_tree(matcher, [end], [0], 7) == ([], [])


def test_a_wrong_memory_of_what_is_forced_does_no_harm(bench: Bench) -> None:
    matcher = after(bench, bench.encode('{"name":"Zo"'))
    comma, wrong = bench.encode(",x")
    assert matcher.likely_forced()[0] == comma
    for bytes_, tokens in list(matcher._forced.items()):  # shared with all of this grammar
        if tokens[:1] == [comma]:
            matcher._forced[bytes_] = [wrong]
    assert matcher.likely_forced() == [wrong]
    tokens, parents = mend_tree(matcher, [comma, wrong], [0, 0], 7)
    assert tokens[0] == comma
    assert parents == list(range(7))  # and what is forced behind it
