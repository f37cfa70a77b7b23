"""OpenBLAS is preloaded only where it loads, and its threads give way."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from pipeline.engine.machine import blas
from pipeline.engine.machine.blas_threads import BlasThreads, CpuSeconds, read_cpu_seconds

WHEELS = {
    "ngsolve-openblas": [
        "ngsolve_openblas/__init__.py",
        "ngsolve_openblas/libopenblasp-r0.3.33.so",
    ],
    "mlx-cpu": ["mlx_cpu.libs/libgfortran-f7379c93.so.5.0.0", "mlx_cpu.libs/libblas-1.so.3"],
}


class Wheel:
    def __init__(self, folder: Path, files: list[str]) -> None:
        self.folder, self.files = folder, files
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()

    def locate_file(self, file: str) -> Path:
        return self.folder / file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine without a GPU, with both wheels installed in a folder of the test."""

    def distribution(name: str) -> Wheel:
        if name not in WHEELS:
            raise importlib.metadata.PackageNotFoundError
        return Wheel(tmp_path / "site", WHEELS[name])

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    monkeypatch.setattr(blas, "uses_cpu", lambda: True)
    monkeypatch.setattr(blas, "_takes_over", lambda: True)
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "site"


def test_the_environment_names_the_library_and_its_runtime(site: Path) -> None:
    added = blas.engine_environment()
    assert added["LD_PRELOAD"] == str(site / WHEELS["ngsolve-openblas"][1])
    assert int(added["OPENBLAS_NUM_THREADS"]) >= 1
    links = Path(added["LD_LIBRARY_PATH"])
    bundled = site / WHEELS["mlx-cpu"][0]
    assert {path.name: path.readlink() for path in links.iterdir()} == {
        "libgfortran.so.5": bundled,
        "libgfortran-f7379c93.so.5.0.0": bundled,
    }


def test_what_was_set_before_is_kept(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/lib/mine.so")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    added = blas.engine_environment()
    assert added["LD_PRELOAD"].endswith(":/lib/mine.so")
    assert added["OPENBLAS_NUM_THREADS"] == "7"


def test_links_follow_a_new_environment(site: Path) -> None:
    links = Path(blas.engine_environment()["LD_LIBRARY_PATH"])
    (links / "libgfortran.so.5").unlink()
    (links / "libgfortran.so.5").symlink_to("/gone")
    blas.engine_environment()
    assert (links / "libgfortran.so.5").readlink() == site / WHEELS["mlx-cpu"][0]


def test_a_library_that_does_not_load_is_left_alone(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "_takes_over", lambda: False)
    assert blas.engine_environment() == {}
    assert "can't be loaded" in blas.blas_status()


def test_without_the_wheel_the_status_says_what_to_do(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "OPENBLAS_WHEELS", ("not-installed",))
    assert blas.engine_environment() == {}
    assert "uv sync --extra embedded" in blas.blas_status()


def test_nothing_is_needed_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "uses_cpu", lambda: False)
    assert blas.engine_environment() == {}
    assert "not needed" in blas.blas_status()


def test_launches_on_cuda_are_no_graphs_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "device_dtype", lambda: "bf16")
    monkeypatch.delenv("MLX_USE_CUDA_GRAPHS", raising=False)
    assert blas.serving_environment("embedded") == {"MLX_USE_CUDA_GRAPHS": "0"}
    assert blas.serving_environment("models/other") == {}
    monkeypatch.setenv("MLX_USE_CUDA_GRAPHS", "1")
    assert blas.serving_environment("embedded") == {"MLX_USE_CUDA_GRAPHS": "1"}
    assert blas.engine_environment() == {}


@pytest.mark.parametrize("ends", ["os.kill(os.getpid(), signal.SIGILL)", "assert False", ""])
def test_a_library_without_kernels_for_this_processor_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(blas, "_openblas_environment", lambda: {"SOME": "library"})
    monkeypatch.setattr(blas, "PROBE", f"import os, signal\n{ends}")
    blas._takes_over.cache_clear()
    assert blas.engine_environment() == ({} if ends else {"SOME": "library"})
    blas._takes_over.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is for Linux")
def test_the_installed_one_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    if not any(map(blas._files, blas.OPENBLAS_WHEELS)):
        pytest.skip("the extra is not installed")
    assert blas.blas_status().startswith("OpenBLAS 0.")


class Machine:
    """Counters that a test moves."""

    def __init__(self) -> None:
        self.others_s = self.own_s = self.wall_s = 0.0

    def read(self) -> CpuSeconds:
        return CpuSeconds(self.others_s + self.own_s, self.own_s, self.wall_s)


def test_threads_give_way_at_once_and_come_back_later() -> None:
    machine = Machine()
    told: list[int] = []
    threads = BlasThreads(4, told.append, machine.read)

    def look(others: float) -> int:
        machine.wall_s += 0.5
        machine.own_s += 2.0
        machine.others_s += others * 0.5
        threads.adjust()
        return threads.threads

    assert [look(0.2), look(0.5), look(1.5), look(9.0)] == [4, 3, 2, 1]
    assert [look(0.0), look(0.0), look(2.0)] == [1, 4, 2]
    assert told == [3, 2, 1, 4, 2]


def test_a_clock_that_stands_still_changes_nothing() -> None:
    threads = BlasThreads(2, lambda _: None, lambda: CpuSeconds(0, 0, 0))
    threads.adjust()
    assert threads.threads == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the counters are Linux's")
def test_the_counters_grow_with_own_work() -> None:
    first = read_cpu_seconds()
    while read_cpu_seconds().own_s - first.own_s < 0.03:
        sum(range(10_000))
    assert read_cpu_seconds().wall_s > first.wall_s
