"""From sources to the target's answers: the first half of a training, and all that judging needs.

In: passages or documents, a model. Out: its answers, on disk; those that are there are not written
again.
"""

import gc
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import mlx.core as mx

from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.targets.target import stop_tokens
from pipeline.messages import MESSAGES_VERSION
from pipeline.prompts import load_tasks
from pipeline.records import Task
from pipeline.training.full_core import FullCore
from pipeline.training.passages import Found, Split, Text, read_folder, read_passages
from pipeline.training.processes import as_told, tell_written, write_in_processes
from pipeline.training.questions import Question, Questions
from pipeline.training.recipe import Sources, WriteJob
from pipeline.training.regenerate import Setting, Written, merge_questions, write_answers
from pipeline.training.shards import Answer, Shards, write_whole

COMPLETE = "complete.json"
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Gathering:
    """What to gather.

    Attributes:
        info: The target.
        sources: What to ask about.
        folder: Where the answers are kept.
        splits: Which of them are wanted.
        length: Most tokens of a prompt and its answer.
        seed: Of the questions.
        rows, kv_bytes: How many answers are written at the same time, and their memory.
        writers: Processes that share them, if more than one.
        model: What `info` was found by.
        share, shares: Which part of the questions this process is to ask, of how many.
    """

    info: ModelInfo
    sources: Sources
    folder: Path
    splits: tuple[Split, ...]
    length: int
    seed: int
    rows: int
    kv_bytes: int
    writers: int = 1
    model: str = ""
    share: int = 0
    shares: int = 1


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was gathered.

    Attributes:
        answers: All that there are, looping ones included.
        written: What this call did.
        notes: What was left out of the sources.
    """

    answers: tuple[Answer, ...]
    written: Written
    notes: tuple[str, ...]


def gather_answers(
    want: Gathering, stop: Callable[[], bool], progress: Progress = lambda _doing, _done: None
) -> Gathered:
    """Has the target answer, as far as it has not yet.

    Args:
        want: What.
        stop: Says whether to stop; what is finished is kept.
        progress: Told what is being done, and the part of it that is done.

    Raises:
        InputError: The sources can't be used, or the folder holds another model's answers.
        EngineError: The disk is full.
    """
    counts = {"train": want.sources.answers, "heldout": want.sources.heldout}
    asked: dict[Split, int] = {split: counts[split] for split in want.splits}
    setting: dict[str, Any] = {
        "model": want.info.fingerprint,
        "length": want.length,
        "seed": want.seed,
        "sources": _sources_digest(want.sources),
    }
    if _is_complete(want.folder, asked):
        kept = Shards(want.folder, setting)
        return Gathered(tuple(kept.all()), Written(), _kept_notes(want.folder))
    tasks = _load_tasks(want.sources)
    # Half of the answers to old questions and half to new ones would be neither.
    setting["messages"] = MESSAGES_VERSION
    setting["tasks"] = _digest("".join(task.fingerprint for task in tasks).encode())
    shards = Shards(want.folder, setting)
    progress("reading the texts", 0.0)
    found = _read_texts(want)
    if want.writers > 1:
        written = write_in_processes(_parts(want), sum(asked.values()), len(shards.keys), stop,
                                     progress)  # fmt: skip
        shards = Shards(want.folder, setting)
    else:
        questions = Questions(tasks, want.info, want.length, want.seed)
        written = _write(want, shards, questions, found.texts, asked, stop, progress)
        gc.collect()
        mx.clear_cache()
    if not written.stopped:
        _mark_complete(want.folder, asked, found.notes)
    return Gathered(tuple(shards.all()), written, found.notes)


def write_share(job: WriteJob, stop: Callable[[], bool], progress: Progress) -> Written:
    """Has the target answer a part of the questions, in a process of its own.

    Args:
        job: Which.
        stop: Says whether to stop; what is finished is kept.
        progress: Told after every step, see `processes.parse_told`.

    Raises:
        InputError: The job can't be done.
        EngineError: The disk is full.
    """
    want = Gathering(
        resolve_model(job.model), job.sources, Path(job.folder), job.splits, job.length, job.seed,  # type: ignore[arg-type]
        job.answer_rows, job.kv_bytes, 1, job.model, job.share, job.shares,
    )  # fmt: skip
    questions = Questions(_load_tasks(job.sources), want.info, want.length, want.seed)
    shards = Shards(want.folder, {}, job.share)
    counts = {"train": job.sources.answers, "heldout": job.sources.heldout}
    asked: dict[Split, int] = {split: counts[split] for split in want.splits}
    return _write(want, shards, questions, _read_texts(want).texts, asked, stop, progress)


def _parts(want: Gathering) -> list[WriteJob]:
    count = want.writers
    return [
        WriteJob(
            want.model, str(want.folder), want.sources, want.splits, want.length, want.seed,
            max(1, want.rows // count), want.kv_bytes // count, share, count,
        )
        for share in range(count)
    ]  # fmt: skip


def _load_tasks(sources: Sources) -> Sequence[Task]:
    return load_tasks(Path(sources.prompts) if sources.prompts else None)


def _read_texts(want: Gathering) -> Found:
    found = Found(())
    if want.sources.passages:
        found += read_passages(Path(want.sources.passages))
    if want.sources.documents:
        found += read_folder(Path(want.sources.documents), want.info.tokenizer_json)
    return found


def _write(  # noqa: PLR0913, PLR0917  the two rounds have these in common
    want: Gathering,
    shards: Shards,
    questions: Questions,
    texts: Sequence[Text],
    asked: dict[Split, int],
    stop: Callable[[], bool],
    progress: Progress,
) -> Written:
    """First the questions about texts, then those that merge the answers about parts."""
    progress("loading the target", 0.0)
    options = CoreOptions(max_rows=want.rows, kv_bytes=want.kv_bytes, speculate=False)
    ends = ChatTokenizer(want.info.folder).stop_tokens
    stop_token = (*ends, *sorted(stop_tokens(want.info.folder, ends)))[0]
    setting = Setting(want.info.name, want.rows, stop_token, stop)
    core = FullCore(want.info, options, progress)
    tell = _teller(want, sum(asked.values()), len(shards.keys), progress)

    def mine(name: str) -> bool:
        return share_of(name, want.shares) == want.share

    about = chain.from_iterable(
        questions.about(texts, split, count, mine) for split, count in asked.items()
    )
    first = write_answers(about, core, shards, setting, tell)
    if first.stopped:
        return first
    parts = [one for one in shards.all() if one.kind == "part" and mine(one.group)]
    merges = merge_questions(parts, lambda parts: _merge(questions, parts))
    second = write_answers(merges, core, shards, setting, lambda now: tell(_sum(first, now)))
    return _sum(first, second)


def _sum(first: Written, second: Written) -> Written:
    return replace(
        second,
        answers=first.answers + second.answers,
        refused=first.refused + second.refused,
        tokens=first.tokens + second.tokens,
        seconds=first.seconds + second.seconds,
    )


def share_of(name: str, shares: int) -> int:
    """Whose a question is, by the name of its place: a document's parts and merge are one's."""
    return zlib.crc32(name.encode()) % shares


def _teller(
    want: Gathering, total: int, kept: int, progress: Progress
) -> Callable[[Written], None]:
    if want.shares > 1:
        return lambda now: progress(*as_told(now))
    return lambda now: progress(*tell_written(now, total, kept))


def _merge(questions: Questions, parts: Sequence[Answer]) -> Question:
    first = parts[0]
    question = questions.merge([part.text for part in parts], first.group)
    return replace(
        question, source=first.source, licence=first.licence, split=first.split, group=first.group
    )


def _is_complete(folder: Path, asked: dict[Split, int]) -> bool:
    path = folder / COMPLETE
    done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return all(done.get(split, -1) >= count for split, count in asked.items())


def _mark_complete(folder: Path, asked: dict[Split, int], notes: Sequence[str]) -> None:
    path = folder / COMPLETE
    done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    values = done | asked | {"notes": list(notes)}
    write_whole(path, json.dumps(values).encode())


def _kept_notes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / COMPLETE).read_text(encoding="utf-8")).get("notes", ()))


def _sources_digest(sources: Sources) -> str:
    whole = hashlib.sha256(sources.documents.encode())
    if sources.passages and (path := Path(sources.passages)).is_file():
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
