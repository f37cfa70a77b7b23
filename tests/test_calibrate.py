"""Step costs are measured at an engine's first start and read at the next."""

from pathlib import Path

import pytest

from pipeline.engine.drafting.calibrate import known_costs
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.planning.cost import Shape
from pipeline.engine.targets.target import Target
from tests.tiny import write_llama


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    folder = write_llama(tmp_path / "model")
    return ModelInfo("tiny", str(folder), "f", 1024, str(folder / "tokenizer.json"))


def test_costs_are_measured_once(
    info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    told: list[str] = []
    target = Target(info)
    options = CoreOptions(max_rows=4)
    first = known_costs(info, options, target, None, lambda doing, _: told.append(doing))
    second = known_costs(info, options, target, None, lambda doing, _: told.append(doing))
    assert told == ["measuring how fast this machine is"]
    assert {shape.width for shape in first.verify.measured} == {1, 2, 4, 8, 16}
    assert second.verify.measured.keys() == first.verify.measured.keys()
    assert target.cache.rows == 0  # nothing of it stays
    known_costs(info, CoreOptions(max_rows=2), target, None, lambda doing, _: told.append(doing))
    assert len(told) == 2  # a batch of other bounds is measured anew


def test_little_memory_still_gives_a_cost(
    info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    costs = known_costs(info, CoreOptions(kv_bytes=1), Target(info), None, lambda *_: None)
    assert list(costs.verify.measured) == [Shape(1, 1, 256)]
