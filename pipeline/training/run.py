"""A whole training, and a whole evaluation: a job in, a report out.

    texts -> questions -> answers -> memory check -> training -> export -> evaluation -> card

Every stage keeps what it has done in the folder `work`, so the same job goes on where it stopped.
"""

import fcntl
import gc
import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil

from pipeline.engine.drafters.drafter_config import DrafterConfig, read_config
from pipeline.engine.interface import ModelInfo
from pipeline.engine.loader import LIBRARY_SETTINGS
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.targets.target import Target, stop_tokens
from pipeline.errors import BusyError, InputError
from pipeline.settings import private_folder
from pipeline.training.card import model_card
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.evaluate import evaluate_drafter
from pipeline.training.examples import Chosen, choose_examples
from pipeline.training.export import export_drafter
from pipeline.training.features import Features, Teacher
from pipeline.training.forward import uses_fused_attention
from pipeline.training.gather import Gathered, Gathering, gather_answers
from pipeline.training.memory import check_memory, estimate_memory
from pipeline.training.model import TrainableDrafter, new_parameters, read_parameters
from pipeline.training.passages import Split
from pipeline.training.recipe import EvaluateJob, TrainJob
from pipeline.training.report import Curve, Evaluation, TrainReport
from pipeline.training.shape import new_shape, pick_mask_token, write_shape
from pipeline.training.shards import Answer, write_whole
from pipeline.training.training import Progress, Trained, Training

JOB, LOCK = "job.json", "lock"
WRITING: tuple[Split, ...] = ("heldout", "train")  # a stop leaves something to judge by
FREE_TO_CHANGE = {"out", "answer_rows", "kv_bytes", "writers", "bits", "cache_bytes"}
Tell = Callable[[str, float], None]


def run_training(job: TrainJob, stop: Callable[[], bool], tell: Tell) -> TrainReport:
    """Trains a drafter, from wherever an earlier call of the same job stopped.

    Args:
        job: What to do.
        stop: Says whether to stop; what is done is kept.
        tell: Told what is being done, and the part of it that is done.

    Raises:
        InputError: The job, the model or the sources can't be used, or memory is too little.
        BusyError: Another training runs in the same folder.
        EngineError: The disk is full, or the loss diverged at once.
    """
    job.check()
    os.environ.update(LIBRARY_SETTINGS)
    work = private_folder(Path(job.out) / "work")
    with _locked(work):
        info = resolve_model(job.model, tell)
        _check_same_job(work, job, info)
        shape = _shape(job, info)
        config = write_shape(work / "shape", shape)
        _check_memory(job, info, shape)
        gathered = gather_answers(_gathering(job, info, work / "answers"), stop, tell)
        if gathered.written.stopped:
            return _report(job, gathered, None, None)
        examples = choose_examples(gathered.answers, "train", job.recipe.length)
        heldout = choose_examples(gathered.answers, "heldout", job.recipe.length)
        trained = _train(job, info, config, (examples, heldout), stop, tell)
        if trained.ending == "stopped":
            return _report(job, gathered, examples, trained)
        export_drafter(Path(job.out), shape, trained.parameters, job.bits)
        gc.collect()
        mx.clear_cache()
        report = _report(job, gathered, examples, trained)
        made = _as_made(job, config)
        _write_card(made, report, gathered.answers, info)  # whatever becomes of the evaluation
        evaluation = evaluate_drafter(info, Path(job.out), heldout, _unless(stop, tell))
        report = replace(report, evaluation=evaluation)
        _write_card(made, report, gathered.answers, info)
        return report


def run_evaluation(job: EvaluateJob, stop: Callable[[], bool], tell: Tell) -> Evaluation:
    """Judges a drafter; the target's answers are written first, unless they are there.

    Raises:
        InputError: The job can't be done.
        EngineError: The disk is full.
        KeyboardInterrupt: It was stopped; the answers are kept.
    """
    job.sources.check()
    os.environ.update(LIBRARY_SETTINGS)
    info = resolve_model(job.model, tell)
    work = private_folder(Path(job.work))
    with _locked(work):
        want = Gathering(
            info, job.sources, work / "answers", ("heldout",), job.length, job.seed,
            job.answer_rows, job.kv_bytes,
        )  # fmt: skip
        gathered = gather_answers(want, stop, tell)
        if gathered.written.stopped:
            raise KeyboardInterrupt
        chosen = choose_examples(gathered.answers, "heldout", job.length)
        return evaluate_drafter(info, Path(job.drafter), chosen, _unless(stop, tell))


def _unless(stop: Callable[[], bool], tell: Tell) -> Tell:
    """Ends what keeps nothing of its own as soon as it is told to stop."""

    def told(doing: str, done: float) -> None:
        if stop():
            raise KeyboardInterrupt
        tell(doing, done)

    return told


def _gathering(job: TrainJob, info: ModelInfo, folder: Path) -> Gathering:
    recipe = job.recipe
    return Gathering(
        info, job.sources, folder, WRITING, recipe.length, recipe.seed, job.answer_rows,
        job.kv_bytes, job.writers, job.model,
    )  # fmt: skip


def _shape(job: TrainJob, info: ModelInfo) -> dict[str, Any]:
    """The drafter's config: that of the warm start, or a new one."""
    if job.warm_start:
        path = Path(job.warm_start) / "config.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"warm_start={job.warm_start!r} has no config.json that can be read; give the "
                "folder of a DFlash drafter"
            ) from error
        found.pop("quantization", None)
        own: dict[str, Any] = found.get("dflash_config") or {}
        own["markov_rank"] = own.get("markov_rank") or job.recipe.markov_rank
        own.pop("block_size", None)
        return found | {"block_size": job.recipe.block}  # no weight's shape hangs on it
    config = json.loads((Path(info.folder) / "config.json").read_text(encoding="utf-8"))
    stops = stop_tokens(info.folder, ChatTokenizer(info.folder).stop_tokens)
    mask = job.recipe.mask_token
    if mask < 0:
        told = Path(info.folder, "tokenizer_config.json").read_text(encoding="utf-8")
        vocabulary = new_shape(config, info, job.recipe, 0)["vocab_size"]
        mask = pick_mask_token(info.tokenizer_json, vocabulary, stops, told)
    return new_shape(config, info, job.recipe, mask)


def _check_memory(job: TrainJob, info: ModelInfo, shape: dict[str, Any]) -> None:
    fused = uses_fused_attention()
    files = sum(file.stat().st_size for file in Path(info.folder).glob("model*.safetensors"))
    item = 4 if mx.default_device() == mx.Device(mx.cpu) else 2
    need = estimate_memory(shape, job.recipe, files, item, fused=fused)
    check_memory(need, free_memory(), job.recipe)


def free_memory() -> int:
    """Bytes that a training may count on: of the GPU's own memory, or of the machine's."""
    if mx.cuda.is_available() and mx.default_device() != mx.Device(mx.cpu):
        found: dict[str, Any] = mx.device_info()
        return int(found.get("free_memory") or found.get("memory_size") or 1 << 36)
    return int(psutil.virtual_memory().available)


def _train(
    job: TrainJob,
    info: ModelInfo,
    config: DrafterConfig,
    data: tuple[Chosen, Chosen],
    stop: Callable[[], bool],
    tell: Tell,
) -> Trained:
    tell("loading the target to train with", 0.0)
    recipe, work = job.recipe, Path(job.out) / "work"
    teacher = Teacher(Target(info), config.target_layer_ids, soft=recipe.soft > 0)
    drafter = TrainableDrafter(config, teacher, recipe.soft)
    features = Features(teacher, work / "cache", job.cache_bytes)
    start = new_parameters(config, recipe.seed)
    if job.warm_start:  # it may lack the Markov head, which then is new
        start |= read_parameters(Path(job.warm_start), read_config(Path(job.warm_start)))
    training = Training(
        drafter, recipe, features, data[0].examples, data[1].examples,
        Checkpoints(work / "checkpoints"),
    )  # fmt: skip

    def told(now: Progress) -> None:
        accepted = f", {now.accepted:.2f} accepted" if now.accepted else ""
        tell(
            f"training: step {now.step} of {now.steps}, loss {now.loss:.3f}{accepted}, "
            f"{now.tokens_per_s:.0f} tokens/s, {now.left_s:.0f} s left",
            now.step / now.steps,
        )

    return training.run(start, stop, told)


def _check_same_job(work: Path, job: TrainJob, info: ModelInfo) -> None:
    """A folder goes on with the job that it was begun with."""
    wanted = {n: v for n, v in asdict(job).items() if n not in FREE_TO_CHANGE}
    wanted["fingerprint"] = info.fingerprint
    path = work / JOB
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        flat = _flat(wanted), _flat(found)
        changed = sorted(name for name, value in flat[0].items() if flat[1].get(name) != value)
        if changed:
            told = ", ".join(f"{n}={flat[0][n]!r} (was {flat[1].get(n)!r})" for n in changed)
            raise InputError(
                f"out={job.out!r} was begun with other settings: {told}; give those again, choose "
                "another --out, or remove its folder work"
            )
    else:
        write_whole(path, json.dumps(wanted, indent=1).encode())


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value) if isinstance(value, dict) else {name: value}
    return found


def _report(
    job: TrainJob,
    gathered: Gathered,
    examples: Chosen | None,
    trained: Trained | None,
) -> TrainReport:
    course = trained.course if trained else None
    return TrainReport(
        out=job.out,
        ending=trained.ending if trained else "stopped",
        step=trained.step if trained else 0,
        steps=course.steps if course else job.recipe.steps,
        seconds=course.seconds if course else 0.0,
        examples=len(examples.examples) if examples else 0,
        tokens=sum(len(one.tokens) for one in examples.examples) if examples else 0,
        looping=examples.looping if examples else 0,
        too_long=examples.too_long if examples else 0,
        labels=course.tokens if course else 0,
        curve=tuple(Curve(m.step, m.loss, m.accepted) for m in course.marks) if course else (),
        written=gathered.written.answers,
        refused=gathered.written.refused,
        writing_s=gathered.written.seconds,
        evaluation=None,
        notes=gathered.notes,
    )


def _as_made(job: TrainJob, config: DrafterConfig) -> TrainJob:
    """The job with the shape that the drafter has: a warm start keeps that of its weights."""
    layers, taps = config.num_hidden_layers, len(config.target_layer_ids)
    shaped = replace(job.recipe, layers=layers, taps=taps, markov_rank=config.markov_rank)
    return replace(job, recipe=shaped)


def _write_card(
    job: TrainJob, report: TrainReport, answers: Sequence[Answer], info: ModelInfo
) -> None:
    learnt = [answer for answer in answers if answer.split == "train" and not answer.loops]
    begun = Path(job.warm_start) / "README.md"
    before = begun.read_text("utf-8") if job.warm_start and begun.is_file() else ""
    card = model_card(job, report, learnt, info.fingerprint, before)
    write_whole(Path(job.out) / "README.md", card.encode())


@contextmanager
def _locked(work: Path) -> Generator[None]:
    with (work / LOCK).open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"another training runs in the folder {str(work)!r}; wait for it, or give another"
            ) from error
        yield
