"""The gate: lossless on every architecture, and a planted fault is never excused."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from pipeline.engine import row as row_module
from pipeline.engine.checking.check import (
    CheckJob,
    CheckReport,
    Divergence,
    Noise,
    parse_report,
    start_check,
)
from pipeline.engine.checking.check_requests import check_requests
from pipeline.engine.checking.check_run import run_check
from pipeline.engine.loading.hub import found_models, pull_model
from pipeline.engine.loading.shipped import SHIPPED_DRAFTER
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.engine.verifying import walk
from pipeline.engine.verifying.verify import Verifier
from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL
from tests.tiny import write_llama
from tests.tiny_drafter import drafter_config, drafter_tensors, write_drafter
from tests.tiny_hybrid import CONFIGS, VOCABULARY, write_model

TEXTS = ("The total is 12.50 euros.", "Minutes: the chair closed the session, the chair spoke.")


def job_for(model: Path, drafter: Path | None = None, **more: Any) -> CheckJob:
    values: dict[str, Any] = {"generations": 12, "max_tokens": 14, "rows": 4, "texts": TEXTS}
    return CheckJob(str(model), drafter=str(drafter or ""), **(values | more))


def random_drafter(folder: Path, layers: int) -> Path:
    taps = {"target_layer_ids": list(range(min(3, layers))), "mask_token_id": 1}
    config = drafter_config(
        vocab_size=VOCABULARY, num_target_layers=layers, dflash_config=taps, block_size=8
    )
    return write_drafter(folder, config, drafter_tensors(config))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_every_architecture_is_lossless(kind: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / kind, kind)
    report = run_check(job_for(folder, random_drafter(tmp_path / "drafter", 4)))
    assert report.divergences == ()
    assert report.lossless
    assert report.noise.largest < report.noise.plausible
    assert {way: tokens > 80 for way, tokens in report.tokens} == {
        "batched": True,
        "speculative": True,
    }
    drafted = {source: tokens for source, tokens, _ in report.drafts}
    assert drafted["dflash"] > 50
    assert sum(accepted for _, _, accepted in report.drafts) > 0


def test_large_trees_are_tried_whether_they_pay_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[bool, int]] = []
    verify_block = Verifier.verify_block

    def note(
        verifier: Verifier,
        rows: Sequence[Row],
        drafts: Sequence[Sequence[int]],
        *more: Any,
        **also: Any,
    ) -> list[list[int]]:
        pairs = zip(rows, drafts, strict=True)
        sizes.extend((row.matcher is not None, len(draft)) for row, draft in pairs)
        return verify_block(verifier, rows, drafts, *more, **also)

    monkeypatch.setattr(Verifier, "verify_block", note)
    folder = write_model(tmp_path / "llama", "llama")
    checkpoint = random_drafter(tmp_path / "drafter", 4)
    report = run_check(job_for(folder, checkpoint, max_tokens=40, generations=24))
    assert report.divergences == ()
    assert sizes.count((False, 31)) > 10
    assert max(size for bound, size in sizes if bound) > 15


def one_too_many(draft: Sequence[int], number: int, _: int) -> int:
    """Goes on behind a drafted token that the target did not choose."""
    return number + 1 if number < len(draft) else 0


def test_a_token_too_many_is_found(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "follower", one_too_many)
    report = run_check(job_for(model))
    assert not report.lossless
    assert {divergence.way for divergence in report.divergences} == {"speculative"}
    assert max(divergence.margin for divergence in report.divergences) > 0.01


def test_rejected_tokens_left_in_the_cache_are_found(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify_block = Verifier.verify_block

    def leak(
        verifier: Verifier,
        rows: Sequence[Row],
        drafts: Sequence[Sequence[int]],
        width: int,
        meanwhile: Callable[[], None],
        **more: bool,
    ) -> list[list[int]]:
        gained = verify_block(verifier, rows, drafts, width, meanwhile, **more)
        for row, draft, tokens in zip(rows, drafts, gained, strict=True):
            verifier._target.cache.lengths[row.slot] += len(tokens) <= len(draft)
        return gained

    monkeypatch.setattr(Verifier, "verify_block", leak)
    report = run_check(job_for(model))
    assert not report.lossless
    assert any(not divergence.explained for divergence in report.divergences)


def test_a_fault_of_wide_steps_does_not_excuse_itself(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it changes logits by would count as noise, but rounding does not explain it."""
    forward = Target.forward

    def blurred(target: Target, tokens: Sequence[Sequence[int]], *more: Any) -> mx.array:
        logits = forward(target, tokens, *more)
        return logits + 3 * mx.sin(mx.arange(logits.shape[-1])) if len(tokens[0]) > 1 else logits

    monkeypatch.setattr(Target, "forward", blurred)
    report = run_check(job_for(model))
    assert not report.lossless
    assert report.noise.largest > report.noise.plausible


def test_a_check_goes_on_where_it_was_killed(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    first = run_check(job_for(model, resume=str(path), generations=4))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert (first.resumed, len(lines)) == (0, 12)
    path.write_text("\n".join(lines[:5]) + "\n" + lines[5][:30], encoding="utf-8")
    again = run_check(job_for(model, resume=str(path), generations=4))
    assert (again.resumed, again.tokens) == (5, first.tokens)
    more = run_check(job_for(model, resume=str(path), generations=6))
    assert (more.resumed, more.generations) == (12, 6)
    other = run_check(job_for(model, resume=str(path), generations=4, max_tokens=13))
    assert other.resumed == 0


def test_no_answer_comes_too_late(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands wait in one queue, for hours on a slow machine, or while it sleeps."""
    hours = itertools.count(0, 4000)
    monkeypatch.setattr(row_module, "time", SimpleNamespace(monotonic=lambda: float(next(hours))))
    report = run_check(job_for(model))
    assert report.lossless
    assert all(tokens > 80 for _, tokens in report.tokens)


def test_parts_are_the_whole_and_no_question_comes_twice(model: Path) -> None:
    whole = check_requests(job_for(model, generations=200))
    parts = [
        request
        for part in (1, 2, 3)
        for request in check_requests(job_for(model, generations=200, shard=(part, 3)))
    ]
    assert sorted(r.id for r in parts) == sorted(r.id for r in whole)
    asked = {(r.messages, json.dumps(r.schema), repr(r.sampling)) for r in whole}
    assert len(asked) == len(whole)


@pytest.mark.parametrize("wrong", [{"shard": (0, 2)}, {"shard": (3, 2)}, {"generations": 0}])
def test_numbers_that_make_no_sense_are_refused(model: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        check_requests(job_for(model, **wrong))


def test_texts_too_long_for_the_model_are_told(tmp_path: Path) -> None:
    small = write_llama(tmp_path / "tiny", context_tokens=100)
    with pytest.raises(InputError, match="can't be asked: prompt_tokens"):
        run_check(job_for(small, texts=("word " * 200,)))


def test_the_verdict_hangs_on_margins_and_noise() -> None:
    def report(margin: float | None, noise: float) -> CheckReport:
        missed = [] if margin is None else [Divergence("g", "batched", 1, "a", "b", margin)]
        judged = tuple(divergence.judged(noise) for divergence in missed)
        found = Noise(noise, 1e-3, 32)
        return CheckReport("m", "f", "", "cpu", 1, (), 0, (("copy", 2, 1),), judged, found)

    assert report(None, 1e-4).lossless
    assert report(5e-5, 1e-4).lossless
    assert not report(1e-4, 1e-4).lossless
    assert not report(None, 2e-3).lossless
    found = report(5e-5, 1e-4)
    sent: Any = json.loads(json.dumps(_plain(found)))
    assert parse_report(sent) == found


def _plain(report: CheckReport) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


@pytest.mark.model
def test_the_embedded_model_is_lossless() -> None:
    told: list[str] = []
    job = CheckJob(
        EMBEDDED_MODEL, drafter=str(SHIPPED_DRAFTER), texts=TEXTS, generations=10, max_tokens=8,
        rows=5,
    )  # fmt: skip
    report = start_check(job, lambda doing, _: told.append(doing))
    assert "speculative: 10 of 10 answers" in told
    assert report.lossless
    assert report.generations == 10


def test_models_are_listed_without_loading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    assert found_models() == []
    write_llama(tmp_path / "models--owner--name" / "snapshots" / "abc")
    random_drafter(tmp_path / "models--owner--name-DFlash" / "snapshots" / "def", 2)
    (tmp_path / "models--owner--partial" / "snapshots" / "abc").mkdir(parents=True)
    found = [(entry.name, entry.kind) for entry in found_models()]
    assert found == [("owner/name", "model"), ("owner/name-DFlash", "drafter")]


def test_a_download_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="check the name, the network"):
        pull_model("owner/name")
    with pytest.raises(InputError, match="must be OWNER/NAME"):
        pull_model("name")
