"""`docflash train-drafter` from a folder of documents to a drafter that speeds its model up."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from dflash import model_mlx as reference

from pipeline.engine.core import Core
from pipeline.engine.drafters.drafter_config import read_config
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafting.every_draft import EverySpeculation
from pipeline.engine.interface import CoreOptions, Done, Event, Message, Request
from pipeline.engine.planning.acceptance import Offer, Source
from pipeline.engine.planning.plan import RowView
from pipeline.engine.targets.target import Target
from pipeline.errors import BusyError, EngineError, InputError
from pipeline.training import processes
from pipeline.training.card import EARLIER, earlier_rounds
from pipeline.training.examples import Example
from pipeline.training.features import Features
from pipeline.training.judge import Judge
from pipeline.training.model import TrainableDrafter, read_parameters
from pipeline.training.recipe import Recipe, Sources, TrainJob
from pipeline.training.report import KINDS, TrainReport
from pipeline.training.run import run_training
from pipeline.training.shards import Answer, Shards
from pipeline.training.walks import walk_alone, walk_branched
from tests.tiny_training import (
    END,
    RECIPE,
    info_of,
    teacher_of,
    write_documents,
    write_followers,
)

pytestmark = pytest.mark.flow  # slow

ROOT = Path(__file__).parents[1]
TINY = replace(
    RECIPE,
    steps=200,
    rows=6,
    anchors=8,
    reuse=10,
    learning_rate=5e-3,
    length=512,
    evaluate_every=100,
)
SHORT = replace(TINY, steps=2, evaluate_every=1)


FEW = 16, 4
"""Answers to train on and held out, where how good the drafter gets is not asked."""


def make_job(
    folder: Path, kind: str = "llama", recipe: Recipe = SHORT, count: tuple[int, int] = FEW
) -> TrainJob:
    target = write_followers(folder / "target", kind)
    documents = write_documents(folder / "documents", words=60)
    return TrainJob(
        model=str(target),
        out=str(folder / "drafter"),
        sources=Sources(documents=str(documents), answers=count[0], heldout=count[1]),
        recipe=recipe,
        answer_rows=8,
        kv_bytes=64 << 20,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A short training, whose answers the others take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCFLASH_CACHE", str(tmp_path_factory.getbasetemp() / "training-cache"))
        job = make_job(tmp_path_factory.mktemp("trained"))
        run(job)
    return job


def with_answers(trained: TrainJob, folder: Path, **changes: Any) -> TrainJob:
    """Another job over the same answers, in a folder of its own."""
    job = replace(trained, out=str(folder / "drafter"), **changes)
    answers = Path(trained.out) / "work" / "answers"
    shutil.copytree(answers, Path(job.out) / "work" / "answers")
    return job


def run(job: TrainJob) -> TrainReport:
    return run_training(job, lambda: False, lambda _doing, _done: None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path_factory.getbasetemp() / "training-cache"))


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_drafter_is_trained_judged_and_shipped(kind: str, tmp_path: Path) -> None:
    job = make_job(tmp_path, kind, TINY, (40, 8))
    report = run(job)
    assert (report.ending, report.step, report.steps) == ("done", 200, 200)
    assert report.written >= 40
    assert report.curve[-1].loss < report.curve[0].loss
    assert report.evaluation is not None
    figures = {(f.group, f.width, f.drafts): f.accepted for f in report.evaluation.figures}
    assert figures["summary", 4, "chain"] > 2  # an untrained one: 1.0
    assert figures["all", 4, "all"] >= figures["all", 4, "chain"]
    assert figures["all", 4, "tree"] >= figures["all", 4, "chain"]
    widths = {kind: {w for _, w, drafts in figures if drafts == kind} for kind in KINDS}
    chains = {width for width in (4, 8, 16) if width <= job.recipe.block}
    assert widths == {"chain": chains, "tree": {4, 8, 16, 32}, "all": {4, 8, 16, 32}}
    assert figures["all", 32, "tree"] >= figures["all", 4, "tree"]
    assert {speed.rows for speed in report.evaluation.speeds} == {1, 8}
    assert {speed.width for speed in report.evaluation.speeds} == {4, 8, 16, 32}
    for source in ("dflash", "tree"):
        check_the_loop_is_as_foretold(job, source)
    card = (Path(job.out) / "README.md").read_text("utf-8")
    for words in ("200 of 200 steps", "private: the user's own", "| seed | 1 |", "## Limits",
                  "| 32, tree | + copies, grammar |"):  # fmt: skip
        assert words in card
    again = run(job)  # nothing is left to do
    assert (again.written, again.step) == (0, 200)
    assert again.curve == report.curve


class BlockAlone(EverySpeculation):
    """Every step drafts the whole block by the drafter alone, as a chain or a tree."""

    def __init__(self, width: int, source: Source) -> None:
        super().__init__()
        self._source = source
        self._chance = SimpleNamespace(choice=lambda _widths: width)  # type: ignore[assignment]

    def _any_offer(self, view: RowView, most: int) -> Offer | None:
        found = [offer for offer in view.offers if offer.source == self._source]
        return found[0].cut(most) if found else None


def check_the_loop_is_as_foretold(job: TrainJob, source: Source) -> None:
    """The engine takes as many steps as the walk over the same answer, and writes the same."""
    info, out, width = info_of(Path(job.model)), Path(job.out), job.recipe.block
    verifies: list[int] = []
    examples: list[Example] = []
    texts: list[str] = []
    for drafter in ("", job.out):
        options = CoreOptions(
            max_rows=1, kv_bytes=64 << 20, drafter=drafter, speculate=bool(drafter),
            draft_always=bool(drafter),
        )  # fmt: skip
        core = Core(info, options)
        if core._drafts is not None:
            core._drafts._speculation = BlockAlone(width, source)
        for number in range(5):
            question = (Message("user", f"Write of {number}, {number}."),)
            asked = Request(f"r{number}", "m", question, max_tokens=40)
            row, before = core.submit(asked, _keep(texts)).made.result(), core.stats().steps
            while core.step():
                pass
            ended = [END] if row.finish_reason == "stop" else []
            tokens = np.array([*row.prompt, *row.history.tokens, *ended], np.int32)
            if drafter:
                verifies.append(core.stats().steps - before)
                examples.append(Example(str(number), "", "", tokens, len(row.prompt)))
    assert texts[:5] == texts[5:]
    config = read_config(out)
    teacher = teacher_of(Path(job.model), config.target_layer_ids)
    judge = Judge(TrainableDrafter(config, teacher), Features(teacher))
    drafted = judge._draft(read_parameters(out, config), examples, others=source == "tree")
    walk = walk_branched if source == "tree" else walk_alone
    walks = {one.key: walk(one, blocks, width - 1) for one, blocks in drafted}
    assert [walks[str(number)].verifies for number in range(5)] == verifies
    assert sum(verifies) < 0.75 * sum(walk.tokens for walk in walks.values())


def _keep(texts: list[str]) -> Any:
    def note(event: Event) -> None:
        if isinstance(event, Done):
            texts.append(event.completion.text)

    return note


@pytest.mark.parametrize("bits", [0, 8, 4])
def test_what_is_shipped_can_be_loaded(
    bits: int, trained: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = 64 if bits else 0  # the authors' package knows no Markov head
    recipe = replace(SHORT, markov_rank=rank)
    job = with_answers(trained, tmp_path, bits=bits, recipe=recipe)
    run(job)
    out = Path(job.out)
    drafter = load_drafter(out, Target(info_of(Path(job.model))))
    assert (drafter.config.quantization is not None) == bool(bits)
    files = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    plain = sum(v.size for v in read_parameters(out, read_config(out)).values())
    assert files < plain * {0: 2.2, 8: 1.5, 4: 0.9}[bits]
    if not bits:
        monkeypatch.setattr(reference, "snapshot_download", lambda path, **_: path)
        theirs: Any = reference.load_draft(str(out))
        assert theirs.config.block_size == TINY.block


def test_quantised_weights_are_gone_on_from(trained: TrainJob, tmp_path: Path) -> None:
    first = with_answers(trained, tmp_path / "a", bits=8)
    run(first)
    still = replace(SHORT, learning_rate=0.0, layers=SHORT.layers + 1, markov_rank=7)
    warm = with_answers(trained, tmp_path / "b", warm_start=first.out, recipe=still)
    run(warm)
    before, after = (
        read_parameters(Path(job.out), read_config(Path(job.out))) for job in (first, warm)
    )
    for name, value in before.items():
        np.testing.assert_allclose(np.array(after[name]), np.array(value), rtol=1e-3, atol=1e-4)
    card = (Path(warm.out) / "README.md").read_text("utf-8")
    assert "gone on from" in card
    assert f"| layers | {SHORT.layers} |" in card  # the weights' own
    assert f"| markov_rank | {SHORT.markov_rank} |" in card
    latest, first_round = earlier_rounds(card)
    assert latest in card.partition(EARLIER)[0]
    assert "from random weights" in first_round
    assert read_config(Path(warm.out)).quantization is None


def test_another_recipe_in_the_same_folder_is_refused(trained: TrainJob) -> None:
    other = replace(trained, recipe=replace(SHORT, block=8, layers=2))
    with pytest.raises(InputError, match=r"block=8 \(was 4\), layers=2 \(was 1\).*another --out"):
        run(other)


def test_two_trainings_in_one_folder_are_refused(trained: TrainJob) -> None:
    told: list[str] = []

    def nested(_doing: str, _done: float) -> None:
        if not told:
            with pytest.raises(BusyError, match="another training runs") as caught:
                run(trained)
            told.append(str(caught.value))

    run_training(trained, lambda: False, nested)
    assert told


def test_too_little_memory_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    monkeypatch.setattr("pipeline.training.run.free_memory", lambda: 1 << 20)
    with pytest.raises(InputError, match="training needs about"):
        run(job)
    assert not (Path(job.out) / "work" / "answers").exists()


def test_there_must_be_something_to_ask_about() -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        TrainJob("m", "o", Sources()).check()


def command(job: TrainJob, *more: str) -> list[str]:
    recipe, sources = job.recipe, job.sources
    return [
        sys.executable, "-m", "flows.cli", "train-drafter", "--model", job.model, "--out", job.out,
        "--documents", sources.documents, "--answers", str(sources.answers),
        "--heldout", str(sources.heldout),
        "--steps", str(recipe.steps), "--layers", "1", "--block", "4", "--taps", "2",
        "--rows", "4", "--anchors", "12", "--reuse", "10", "--learning-rate", "0.005",
        "--length", "512", "--answer-rows", "8", "--kv-gib", "0.0625", *more,
    ]  # fmt: skip


def progress_of(job: TrainJob) -> dict[str, Any]:
    try:
        return json.loads((Path(job.out) / "work" / "progress.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {"doing": ""}


def test_the_command_is_interrupted_goes_on_and_is_judged(tmp_path: Path) -> None:
    job = make_job(tmp_path, recipe=replace(TINY, steps=40))
    environment = os.environ | {"DOCFLASH_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        command(job, "--json"), cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as first:  # fmt: skip
        while first.poll() is None and not progress_of(job)["doing"].startswith("training: step"):
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=300)
    assert first.returncode == 130, out + err
    second = subprocess.run(
        command(job, "--json"), cwd=ROOT, env=environment, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert second.returncode == 0, second.stdout + second.stderr
    report = json.loads(second.stdout)
    assert (report["ending"], report["step"], report["written"]) == ("done", 40, 0)
    judged = subprocess.run(
        [
            sys.executable, "-m", "flows.cli", "drafter", "evaluate", job.out, "--model", job.model,
            "--work", str(Path(job.out) / "work"), "--documents", job.sources.documents,
            "--heldout", str(job.sources.heldout), "--length", "512", "--json",
        ],
        cwd=ROOT, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert json.loads(judged.stdout)["figures"] == report["evaluation"]["figures"]


def docflash(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        cwd=ROOT,
        env=os.environ | {"DOCFLASH_CACHE": str(tmp_path / "cache")},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("words", [["train-drafter"], ["drafter", "evaluate"]], ids=" ".join)
def test_the_commands_explain_themselves_by_an_example(words: list[str], tmp_path: Path) -> None:
    done = docflash(tmp_path, *words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Example: docflash {' '.join(words)}" in done.stdout
    assert "--json" in done.stdout


def test_what_can_t_be_trained_on_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "p.jsonl"
    broken.write_text('{"text": \n["no"]\n', encoding="utf-8")
    model = str(write_followers(tmp_path / "target"))
    words = ["train-drafter", "--model", model, "--out", str(tmp_path / "out"), "--rows", "2",
             "--anchors", "2", "--layers", "1"]  # fmt: skip
    done = docflash(tmp_path, *words, "--passages", str(broken))
    assert done.returncode == 2
    assert "2 of 2 lines of p.jsonl are broken and left out (line 1, 2)" in done.stderr
    done = docflash(tmp_path, *words, "--json")
    assert done.returncode == 2
    assert "nothing to train on" in json.loads(done.stdout)["error"]["message"]


def test_a_detached_training_outlives_its_command(tmp_path: Path) -> None:
    job = make_job(tmp_path, recipe=replace(TINY, steps=4))
    words = command(job, "--detach", "--json")[3:]
    begun = docflash(tmp_path, *words)
    assert begun.returncode == 0, begun.stderr
    told = json.loads(begun.stdout)
    log = Path(told["log"])
    while '"report"' not in log.read_text("utf-8"):
        assert "refused" not in log.read_text("utf-8")
        time.sleep(0.1)
    report = json.loads(log.read_text("utf-8").splitlines()[-1])["report"]
    assert (report["ending"], report["step"]) == ("done", 4)
    assert (Path(job.out) / "README.md").is_file()
    assert json.loads(Path(told["progress"]).read_text("utf-8"))["doing"] == "ended"


def answers_of(job: TrainJob) -> dict[str, Answer]:
    shards = Shards(Path(job.out) / "work" / "answers", {})
    return {one.key: one for one in shards.all()}


def test_several_writers_write_what_one_writes(trained: TrainJob, tmp_path: Path) -> None:
    job = replace(trained, out=str(tmp_path / "drafter"), writers=3)
    told: list[str] = []
    steps = itertools.count()

    def stop() -> bool:
        return bool(told) and told[-1].startswith("answers: ") and next(steps) > 2

    first = run_training(job, stop, lambda doing, _done: told.append(doing))
    assert first.ending == "stopped"
    rest = run(replace(job, writers=2))  # it goes on, with other shares
    assert rest.ending == "done"
    assert first.written + rest.written == len(answers_of(job))
    assert answers_of(job) == answers_of(trained)
    assert {file.name.partition("-")[2] for file in answer_files(job)} >= {"0.parquet", "1.parquet"}


def answer_files(job: TrainJob) -> list[Path]:
    return sorted((Path(job.out) / "work" / "answers").glob("*.parquet"))


def test_a_writer_that_is_killed_stops_the_others_and_is_named(
    trained: TrainJob, tmp_path: Path
) -> None:
    job = replace(trained, out=str(tmp_path / "drafter"), writers=2)
    killed: list[int] = []

    def kill(doing: str, _done: float) -> None:
        writers = [
            child
            for child in psutil.Process().children()
            if "pipeline.training.process" in child.cmdline()
        ]
        if doing.startswith("answers: ") and writers and not killed:
            killed.append(writers[0].pid)
            writers[0].kill()

    with pytest.raises(EngineError, match="ended without a report"):
        run_training(job, lambda: False, kill)
    assert killed
    assert run(job).ending == "done"
    assert answers_of(job) == answers_of(trained)


def test_a_writer_that_hangs_is_ended_when_another_one_fails(
    trained: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOPPING_S", 1.0)
    job = replace(trained, out=str(tmp_path / "drafter"), writers=2)
    hit: list[psutil.Process] = []
    kernels: set[str] = set()

    def hang_and_kill(doing: str, _done: float) -> None:
        if hit or not doing.startswith("answers: "):
            return
        writers = [
            child
            for child in psutil.Process().children()
            if "pipeline.training.process" in child.cmdline()
        ]
        if len(writers) == 2:
            hit.extend(writers)
            kernels.update(writer.environ()["MLX_PTX_CACHE_DIR"] for writer in writers)
            writers[0].suspend()
            writers[1].kill()

    with pytest.raises(EngineError, match="ended without a report"):
        run_training(job, lambda: False, hang_and_kill)
    assert not any(writer.is_running() for writer in hit)
    assert kernels == {str(tmp_path / "drafter" / "work" / "kernels" / str(i)) for i in range(2)}
    assert run(job).ending == "done"
    assert answers_of(job) == answers_of(trained)
