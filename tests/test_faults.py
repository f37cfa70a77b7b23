"""A few of the faults that a night may bring; 200 of them: benchmarks/faults.py."""

from pathlib import Path

import pytest

from tests.faults import FAULTS, run_case
from tests.tiny import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model"), context_tokens=4096)


@pytest.mark.parametrize("seed", range(len(FAULTS)), ids=FAULTS)
def test_a_fault_leaves_the_library_whole(tmp_path: Path, model: Path, seed: int) -> None:
    case = run_case(seed, tmp_path / "case", model)
    assert case.violations == []
    assert case.runs[0][0] == FAULTS[seed]
    assert case.runs[-1] == ("", 0)
