"""`docflash doctor --bench`: what is timed is the engine's own work, and it ends in time."""

from pathlib import Path

import pytest

from pipeline.engine.checking.bench import BenchJob, start_bench
from pipeline.engine.checking.bench_run import run_bench
from pipeline.errors import InputError
from tests.tiny import write_llama
from tests.tiny_drafter import drafter_config, drafter_tensors, write_drafter


def test_a_model_is_timed_with_its_drafter(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model")
    told: list[str] = []
    job = BenchJob(str(model), rows=(1, 3), max_tokens=12)
    report = start_bench(job, lambda doing, _: told.append(doing))
    assert report.model == str(model)
    assert report.read > 0
    assert [pace.rows for pace in report.paces] == [1, 3]
    for pace in report.paces:
        assert pace.plain > 0
        assert pace.drafted > 0
        assert 0 < pace.accepted <= 16
    assert "timing 3 at the same time" in told


def test_it_begins_no_further_number_of_rows_once_its_time_is_over(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model")
    report = run_bench(BenchJob(str(model), rows=(1, 2, 3), max_tokens=4, most_s=0.0))
    assert [pace.rows for pace in report.paces] == [1]


def test_what_can_not_be_timed_is_told(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model")
    config = drafter_config(vocab_size=99)
    drafter = write_drafter(tmp_path / "drafter", config, drafter_tensors(config))
    with pytest.raises(InputError, match="vocab_size"):
        start_bench(BenchJob(str(model), str(drafter)), lambda _doing, _done: None)
    with pytest.raises(InputError, match="there is no model folder"):
        start_bench(BenchJob(str(tmp_path / "none")), lambda _doing, _done: None)
