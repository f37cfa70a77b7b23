"""Plain steps whose masks are left out: a wrong choice costs time, and never a token."""

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.engine.core import Core
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import CoreOptions, Sampling
from pipeline.engine.row import Row
from pipeline.engine.verifying import masking
from pipeline.engine.verifying.masking import AT_EASE_S, Masking
from tests.plain_decoding import Desk, ask, describe_model
from tests.test_engine_core import SCHEMAS
from tests.tiny import CORPUS, write_llama

OPTIONS = CoreOptions(max_rows=5, kv_bytes=1 << 25, prefill_tokens=16, speculate=False)
MASK_S, STEP_S = 100e-6, 800e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny", context_tokens=2048)


def wherever_it_may(_: Masking, rows: Sequence[Row]) -> list[bool]:
    return [masking._risk(row) < masking.NEVER for row in rows]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(no_repeat_ngram=2)])
def test_whatever_is_chosen_wrong_the_answers_are_those_of_masks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    requests = [
        ask(f"{kind}{n}", f"{n} {CORPUS[n]}", 60, schema=schema, sampling=sampling)
        for n in range(3)
        for kind, schema in SCHEMAS.items()
    ] + [ask(f"free{n}", CORPUS[n], 50, sampling=sampling) for n in range(3)]
    monkeypatch.setattr(Masking, "without", lambda _, rows: [False] * len(rows))
    masked = Desk(Core(describe_model(folder, 2048), OPTIONS)).finish(*requests)
    monkeypatch.setattr(Masking, "without", wherever_it_may)
    desk = Desk(Core(describe_model(folder, 2048), OPTIONS))
    verifier, waited = desk.core._verifier, list[int]()
    again = Core._decode

    def watch(core: Core) -> None:
        waited.append(len(verifier._again))
        again(core)

    monkeypatch.setattr(Core, "_decode", watch)
    chance = random.Random(4)
    for request in requests:
        desk.submit(request)
        desk.step(chance.choice((0, 1, 5)))
    desk.finish()
    for request in requests:
        found, wanted = (each.completion(request.id) for each in (desk, masked))
        assert (found.text, found.finish_reason) == (wanted.text, wanted.finish_reason)
    assert sum(waited) > 20  # rows that were wrong while the next forward had begun
    assert max(waited) > 1


def test_a_row_that_was_wrong_has_its_mask_the_next_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Masking, "without", wherever_it_may)
    core = Core(describe_model(folder, 2048), OPTIONS)
    desk, request = Desk(core), ask("one", "Minutes", 60, schema=SCHEMAS["strings"])
    desk.submit(request)
    lost, told = 0, -1
    while not desk.events.get("one") or desk.core.rows():
        before = [len(row.history.tokens) for row in core.rows()]
        desk.step(1)
        after = [len(row.history.tokens) for row in core.rows()]
        lost = lost + 1 if before == after else 0
        told = max(told, lost)
    assert 1 <= told <= 2  # found out, and sat out


def a_row(matcher: Any, *tokens: int) -> Any:
    said = SimpleNamespace(tokens=list(tokens))
    return SimpleNamespace(
        matcher=matcher, branches=True, wary=False, history=said, pending=tokens[-1]
    )


def a_masking(spare_s: float) -> Masking:
    found = Masking()
    found._mask_s, found._step_s, found._spare_s = MASK_S, STEP_S, spare_s
    return found


@pytest.fixture(scope="module")
def grammars(folder: Path) -> Grammars:
    return Grammars(str(folder / "tokenizer.json"), 512, [2])


def in_a_string(grammars: Grammars) -> Any:
    """A matcher where anything may come."""
    matcher = grammars.matcher({"type": "string"})
    tokens = matcher._spell('"a')
    matcher.consume(tokens)
    assert not matcher.forces
    return matcher


def test_as_many_masks_are_made_as_there_is_time_for(grammars: Grammars) -> None:
    matcher = in_a_string(grammars)
    rows = [a_row(matcher, 7) for _ in range(8)]
    assert sum(a_masking(8.5 * MASK_S).without(rows)) == 0
    assert sum(a_masking(3.5 * MASK_S).without(rows)) == 5
    assert sum(a_masking(-MASK_S).without(rows)) == 8
    free = a_row(None, 7)
    assert a_masking(-MASK_S).without([free, *rows[:2]]) == [False, True, True]
    assert Masking().without(rows) == [False] * 8  # nothing is known yet


def test_a_large_model_leaves_time_for_all_masks_and_a_small_one_does_not() -> None:
    for waited_s, least, most in ((20e-3, 15e-3, 30e-3), (20e-6, 0, MASK_S * 3)):
        found = Masking()
        for _ in range(60):
            found.made(4, 2 * MASK_S)
            found.waited(waited_s)
        assert found._spare_s is not None
        assert least <= found._spare_s <= most
        assert found._mask_s == pytest.approx(MASK_S / 2)
    assert found._spare_s == pytest.approx(2 * MASK_S + 20e-6 - AT_EASE_S)


def test_where_choices_are_often_wrong_there_is_a_mask_and_after_a_while_no_more(
    grammars: Grammars,
) -> None:
    matcher = in_a_string(grammars)
    other = grammars.matcher({"type": "string"})  # rows of one schema learn together
    found, rows = a_masking(-1.0), [a_row(matcher, 7), a_row(matcher, 8)]
    for _ in range(3):
        other.saw(7, right=False)
    assert found.without(rows) == [False, True]
    steps = 0
    while not found.without(rows)[0]:
        steps += 1
    assert 5 < steps < 200
    for _ in range(30):
        matcher.saw(7, right=True)
    assert matcher.risk(7) < 0.01


def test_what_is_forced_or_was_just_wrong_has_its_mask(grammars: Grammars) -> None:
    matcher = grammars.matcher({"enum": ["invoice"]})
    assert matcher.forces
    assert matcher.forced()
    wary = a_row(in_a_string(grammars), 7)
    wary.wary = True
    assert a_masking(-1.0).without([a_row(matcher, 7), wary]) == [False, False]


def allowed(grammars: Grammars, matcher: Any) -> list[int]:
    masks = np.zeros((1, 1, 16), np.int32)
    grammars.fill_masks(masks, [matcher], [[]])
    bits = np.unpackbits(masks.view(np.uint8).ravel(), bitorder="little")
    return np.flatnonzero(bits).tolist()


@pytest.mark.parametrize("kind", list(SCHEMAS))
def test_where_forces_says_no_nothing_is_forced(grammars: Grammars, kind: str) -> None:
    chance, seen = random.Random(1), set[tuple[bool, bool]]()
    for _ in range(40):
        matcher = grammars.matcher(SCHEMAS[kind])
        for _ in range(40):
            tokens = matcher.forced()
            assert matcher.forces or not tokens
            ways = allowed(grammars, matcher)
            assert ways == tokens[:1] or not tokens
            seen.add((matcher.forces, bool(tokens)))
            matcher.consume([chance.choice(ways)])
            if matcher.complete:
                break
    assert {(False, False), (True, True)} & seen
