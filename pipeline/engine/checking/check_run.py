"""The gate's work: a `CheckJob` in, a `CheckReport` out.

Started as `python -m pipeline.engine.checking.check_run`.

Each way decodes all requests before the next is loaded, so one copy of the model is in memory at a
time. What is finished is kept in the resume file at once.
"""

import gc
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from pipeline.engine.checking.check import WAYS, CheckJob, CheckReport, Divergence, Way
from pipeline.engine.checking.check_requests import check_requests
from pipeline.engine.checking.numeric_noise import Judge
from pipeline.engine.core import Core
from pipeline.engine.interface import (
    CoreOptions,
    Done,
    Event,
    Failed,
    ModelInfo,
    Request,
    TextDelta,
)
from pipeline.engine.loader import LIBRARY_SETTINGS
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.machine.child import serve_job
from pipeline.engine.row import Row
from pipeline.engine.serving.endpoint import build
from pipeline.errors import InputError, RequestError

NOISE_ANSWERS = 2
MOST_NOISE_ANSWERS = 6
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a way wrote.

    Attributes:
        tokens: Without the one that ended it.
        ending: The finish reason, or the kind of the failure.
    """

    tokens: tuple[int, ...]
    ending: str


class Kept:
    """Finished answers in a file of JSON lines; without a path, in memory only.

    Args:
        path: The file, or "".
        setting: What besides the request an answer depends on.
    """

    def __init__(self, path: str, setting: str) -> None:
        self._path = Path(path).expanduser() if path else None
        self._setting = setting
        self._known: dict[str, Answer] = {}
        self.resumed = 0
        for line in self._read():
            try:
                entry = json.loads(line)
                answer = Answer(tuple(entry["tokens"]), entry["ending"])
                self._known[entry["key"]] = answer
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" if self._known else "")  # so that a torn line stays alone

    def has(self, way: Way, request: Request) -> bool:
        """Whether the answer is finished."""
        return self._key(way, request) in self._known

    def ways(self, request: Request) -> dict[Way, Answer]:
        """The finished answers to a request."""
        return {way: self._known[self._key(way, request)] for way in WAYS}

    def add(self, way: Way, request: Request, answer: Answer) -> None:
        """Keeps an answer."""
        key = self._key(way, request)
        self._known[key] = answer
        if self._path:
            entry = {"key": key, "id": request.id, "way": way} | asdict(answer)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def _read(self) -> list[str]:
        try:
            found = self._path and self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise InputError(
                f"resume={str(self._path)!r} can't be read ({error}); choose another file"
            ) from error
        return (found or "").splitlines()

    def _key(self, way: Way, request: Request) -> str:
        asked = asdict(request) | {"way": way, "setting": self._setting}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def run_check(job: CheckJob, progress: Progress = lambda _doing, _done: None) -> CheckReport:
    """Decodes every request in every way and compares.

    Args:
        job: What to check.
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        InputError: The model, the drafter or a request can't be used.
    """
    requests = check_requests(job)
    info = resolve_model(job.model, progress)
    device = str(mx.default_device())
    drafter = _files_stamp(job.drafter)
    kept = Kept(job.resume, f"{info.fingerprint} {drafter} {build()} {device} {job.rows}")
    drafts: list[tuple[str, int, int]] = []
    for way in WAYS:
        missing = [request for request in requests if not kept.has(way, request)]
        kept.resumed += len(requests) - len(missing)
        if missing:
            drafts = _decode(way, job, info, missing, kept, progress)
    progress("comparing", 0.0)
    judge = Judge(info)
    found = [(request, kept.ways(request)) for request in requests]
    compared, misses = _compare(found)
    plain = [(request, answers["serial"].tokens) for request, answers in found[:NOISE_ANSWERS]]
    near = [(miss.request, miss.before) for miss in misses]
    noise = judge.noise([*plain, *near][:MOST_NOISE_ANSWERS], job.rows)
    return CheckReport(
        model=info.name,
        fingerprint=info.fingerprint,
        drafter=job.drafter,
        device=device,
        generations=len(requests),
        tokens=tuple(compared.items()),
        resumed=kept.resumed,
        drafts=tuple(drafts),
        divergences=tuple(_describe(miss, judge).judged(noise.largest) for miss in misses),
        noise=noise,
    )


def _decode(
    way: Way,
    job: CheckJob,
    info: ModelInfo,
    requests: Sequence[Request],
    kept: Kept,
    progress: Progress,
) -> list[tuple[str, int, int]]:
    """Runs the requests one way; returns its drafts by source."""
    progress(f"{way}: loading the model", 0.0)
    drafted = way == "speculative"
    options = CoreOptions(
        max_rows=1 if way == "serial" else job.rows,
        speculate=drafted,
        draft_always=drafted,
        drafter=job.drafter if drafted else "",
    )
    core = Core(info, options)
    ended: list[Done | Failed] = []

    def note(event: Event) -> None:
        if not isinstance(event, TextDelta):
            ended.append(event)

    rows = {request.id: _ask(core, request, note) for request in requests}
    done = 0
    while core.step() or ended:
        for event in ended:
            row = rows.pop(event.completion.id if isinstance(event, Done) else event.id)
            ending = event.error.kind if isinstance(event, Failed) else row.finish_reason
            kept.add(way, row.request, Answer(tuple(row.history.tokens), ending))
            done += 1
            progress(f"{way}: {done} of {len(requests)} answers", done / len(requests))
        ended.clear()
    found = core.stats().speculation
    del core, rows
    gc.collect()
    mx.clear_cache()
    return [(s.source, s.drafted, s.accepted) for s in found.sources] if found else []


def _ask(core: Core, request: Request, note: Callable[[Event], None]) -> Row:
    try:
        return core.submit(request, note).made.result()
    except RequestError as error:
        raise InputError(f"the question {request.id!r} can't be asked: {error}") from error


@dataclass(frozen=True, slots=True)
class Miss:
    """A divergence that was not looked at yet.

    Attributes:
        request: What was asked.
        way: How it was decoded.
        before: The tokens before, which are the same.
        one, other: The measure's next token, and this way's; None at an answer's end.
    """

    request: Request
    way: Way
    before: tuple[int, ...]
    one: int | None
    other: int | None


def _compare(
    found: Sequence[tuple[Request, dict[Way, Answer]]],
) -> tuple[dict[str, int], list[Miss]]:
    """Tokens that are the same, by way, and where the others begin."""
    compared: dict[str, int] = dict.fromkeys(WAYS[1:], 0)
    misses: list[Miss] = []
    for request, answers in found:
        measure = answers["serial"]
        for way in WAYS[1:]:
            answer = answers[way]
            same = 0
            for one, other in zip(measure.tokens, answer.tokens, strict=False):
                if one != other:
                    break
                same += 1
            compared[way] += same
            if answer != measure:
                ends = [(*a.tokens, None)[same] for a in (measure, answer)]
                misses.append(Miss(request, way, measure.tokens[:same], ends[0], ends[1]))
    return compared, misses


def _describe(miss: Miss, judge: Judge) -> Divergence:
    texts = [
        "<end>" if token is None else judge.tokenizer.token_text(token)
        for token in (miss.one, miss.other)
    ]
    return Divergence(
        generation=miss.request.id,
        way=miss.way,
        position=len(miss.before),
        expected=texts[0],
        found=texts[1],
        margin=judge.margin(miss.request, miss.before, miss.one, miss.other),
    )


def _files_stamp(folder: str) -> str:
    """Changes with the files of a drafter's folder: names, sizes and times."""
    stats = [(file.name, file.stat()) for file in sorted(Path(folder).glob("*")) if folder]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)


def _run(values: dict[str, Any], tell: Progress) -> dict[str, Any]:
    values |= {"texts": tuple(values["texts"]), "shard": tuple(values["shard"])}
    return asdict(run_check(CheckJob(**values), tell))


if __name__ == "__main__":
    os.environ.update(LIBRARY_SETTINGS)
    serve_job(_run)
