"""Rows that the drafter does not look at cost nothing for it, and the others have all they need."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.core import Core
from pipeline.engine.drafting import worthwhile
from pipeline.engine.drafting.every_draft import EverySpeculation
from pipeline.engine.interface import CoreOptions
from pipeline.engine.planning.worth import Way, Worth
from tests.plain_decoding import Desk, ask, describe_model
from tests.test_draft import PLAIN, answers_of
from tests.tiny import CORPUS, write_llama
from tests.tiny_drafter import drafter_config, drafter_tensors, write_drafter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def drafter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = drafter_config(
        vocab_size=512,
        block_size=16,
        num_target_layers=2,
        dflash_config={"target_layer_ids": [0, 1], "mask_token_id": 1},
    )
    return write_drafter(tmp_path_factory.mktemp("drafter"), config, drafter_tensors(config))


def a_core(model: Path, drafter: Path, **more: Any) -> Core:
    options = CoreOptions(
        max_rows=3, kv_bytes=1 << 25, prefill_tokens=64, drafter=str(drafter), **more
    )
    return Core(describe_model(model), options)


def look_unless(asleep: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worthwhile, "PATIENCE", 0)
    monkeypatch.setattr(Worth, "meet", lambda *_: Way.PLAIN if asleep[0] else Way.ALL)
    monkeypatch.setattr(Worth, "looks", property(lambda _: not asleep[0]))


def contexts(core: Core, slot: int, length: int) -> list[np.ndarray[Any, Any]]:
    """The drafter's keys of a row."""
    core._target.cache.late.catch_up()
    assert core._drafts is not None
    assert core._drafts._drafter is not None
    layers = core._drafts._drafter._layers
    return [np.array(layer.keys[slot, :, :length].astype(mx.float32)) for layer in layers]


def test_while_all_rows_are_left_out_nothing_is_kept_and_then_all_of_it_again(
    model: Path, drafter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    asleep = [False]
    look_unless(asleep, monkeypatch)
    core = a_core(model, drafter)
    desk = Desk(core)

    def run(name: str, text: str) -> list[np.ndarray[Any, Any]]:
        desk.submit(ask(name, text, 20))
        desk.step(6)
        (row,) = core.rows()
        found = contexts(core, row.slot, len(row.prompt))
        assert core._target.tapping == row.tapped == (not asleep[0])
        desk.finish()
        return found

    seen = run("seen", CORPUS[0])
    assert all(layer[:, -8:].any() for layer in seen)
    asleep[0] = True
    unseen = run("unseen", CORPUS[1])  # but for how it begins, as the first did
    assert all((layer[:, -8:] == 0).all() for layer in unseen)
    kept = [entry.prefix for entry in core._room._prefixes._entries.values()]
    assert [prefix.tapped for prefix in kept] == [True, False]
    asleep[0] = False
    fresh = a_core(model, drafter)
    other = Desk(fresh)
    other.submit(ask("again", CORPUS[1], 90))
    other.step(2)
    (row,) = fresh.rows()
    wanted = contexts(fresh, row.slot, len(row.prompt))
    desk.submit(ask("again", CORPUS[1], 90))  # its prompt was kept without a context
    desk.step(2)
    (row,) = core.rows()
    assert row.tapped
    found = contexts(core, row.slot, len(row.prompt))
    for one, two in zip(found, wanted, strict=True):
        assert one == pytest.approx(two, abs=1e-4)


def test_a_long_document_is_not_read_again_for_a_short_answer(
    model: Path, drafter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    asleep = [True]
    look_unless(asleep, monkeypatch)
    core = a_core(model, drafter)
    desk, text = Desk(core), " ".join(CORPUS)
    desk.finish(ask("first", text, 4))
    asleep[0] = False
    desk.submit(ask("second", f"{text} Why?", 4))
    desk.step(1)
    (row,) = core.rows()
    assert row.cached > 16
    assert not row.tapped
    desk.finish(ask("third", f"{text} Who?", 400))
    assert desk.completion("third").cached_tokens < row.cached


def test_rows_that_are_left_out_or_not_give_the_same_answers(
    model: Path, drafter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    chance, ways = random.Random(5), list[Way]()

    def any_way(*_: Any) -> Way:
        ways.append(chance.choice((Way.ALL, *Way)))
        return ways[-1]

    plain, _ = answers_of(model, PLAIN)
    monkeypatch.setattr(worthwhile, "PATIENCE", 1)
    monkeypatch.setattr(Worth, "meet", any_way)
    monkeypatch.setattr(Worth, "looks", property(lambda _: chance.random() < 0.9))
    options = replace(PLAIN, speculate=True, drafter=str(drafter))
    assert answers_of(model, options)[0] == plain
    monkeypatch.setattr(EverySpeculation, "always", False)  # drafts wherever it may
    found, core = answers_of(model, replace(options, draft_always=True))
    assert found == plain
    stats = core.stats().speculation
    assert stats is not None
    assert stats.drafter_steps > 5
    assert len(set(ways)) == len(Way)
