"""The process that times answers: a job in, a report out.

Started as `python -m pipeline.engine.checking.bench_run`.

The same questions are answered plainly and with drafts, by the engine's own core, so what is told
is what a run gets. Each way answers once before it is timed: the first steps of a shape cost more.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import mlx.core as mx

from pipeline.engine.checking.bench import BenchJob, BenchReport, Pace
from pipeline.engine.checking.check import CheckJob
from pipeline.engine.checking.check_requests import check_requests
from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, EngineStats, Event, Failed, ModelInfo, Request
from pipeline.engine.loader import LIBRARY_SETTINGS
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.machine.child import serve_job

READ_CHARS = 4000
Progress = Callable[[str, float], None]


def run_bench(job: BenchJob, progress: Progress = lambda _doing, _done: None) -> BenchReport:
    """Times the reading of a prompt, and answers by the number of rows.

    Args:
        job: What to time.
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        InputError: The model or the drafter can't be used.
        RequestError: The model's context is too short for the questions.
    """
    began = time.monotonic()
    info = resolve_model(job.model, progress)
    cores = {way: _load(job, info, way, progress) for way in (False, True)}
    read = _time_reading(job, cores[False], info.context_tokens)
    paces: list[Pace] = []
    for done, rows in enumerate(job.rows):
        if paces and time.monotonic() - began > job.most_s:
            break
        progress(f"timing {rows} at the same time", done / len(job.rows))
        plain, drafted = (_time_answers(job, cores[way], rows) for way in (False, True))
        paces.append(Pace(rows, plain[0], drafted[0], drafted[1]))
    return BenchReport(
        model=info.name,
        drafter=job.drafter,
        device=str(mx.default_device()),
        read=read,
        paces=tuple(paces),
        seconds=round(time.monotonic() - began, 1),
    )


def _load(job: BenchJob, info: ModelInfo, drafts: bool, progress: Progress) -> Core:  # noqa: FBT001
    progress("loading the model", 0.0)
    drafter = job.drafter if drafts else ""
    options = CoreOptions(max_rows=max(job.rows), speculate=drafts, drafter=drafter)
    return Core(info, options, progress)


def _time_reading(job: BenchJob, core: Core, context_tokens: int) -> float:
    """Tokens of a prompt read per second; the second time counts."""
    (request,) = _requests(job, 1, "read")
    (message,) = request.messages
    chars = min(READ_CHARS, context_tokens // 2)
    found = 0.0
    for turn in range(2):
        text = f"{turn} {message.content} " * (chars // len(message.content) + 1)
        asked = (replace(message, content=text[:chars]),)
        spent = _spend(core, [replace(request, id=f"{turn}", messages=asked, max_tokens=1)])
        found = spent.prompt_tokens / max(1e-9, spent.prefill_s)
    return round(found, 1)


def _time_answers(job: BenchJob, core: Core, rows: int) -> tuple[float, float]:
    """Tokens written per second, and gained by a row in a step; the second time counts."""
    _spend(core, [replace(one, max_tokens=8) for one in _requests(job, rows, f"{rows} warm")])
    spent = _spend(core, _requests(job, rows, f"{rows}"))
    speed = spent.completion_tokens / max(1e-9, spent.decode_s)
    return round(speed, 1), round(spent.completion_tokens / max(1, spent.steps) / rows, 2)


def _requests(job: BenchJob, count: int, nonce: str) -> list[Request]:
    """As many greedy questions, in prose and under schemas; none was asked before."""
    asked = check_requests(CheckJob(job.model, generations=4 * count, max_tokens=job.max_tokens))
    greedy = [request for request in asked if not request.sampling.temperature][:count]
    return [
        replace(
            request,
            id=f"{nonce} {request.id}",
            messages=tuple(replace(m, content=f"({nonce}) {m.content}") for m in request.messages),
        )
        for request in greedy
    ]


def _spend(core: Core, requests: Sequence[Request]) -> EngineStats:
    """Has requests answered; what that took."""
    failed: list[Failed] = []

    def note(event: Event) -> None:
        if isinstance(event, Failed):
            failed.append(event)

    before = core.stats()
    for request in requests:
        core.submit(request, note)
    while core.step():
        continue
    if failed:
        raise failed[0].error
    now = core.stats()
    return replace(
        now,
        prompt_tokens=now.prompt_tokens - before.prompt_tokens,
        completion_tokens=now.completion_tokens - before.completion_tokens,
        prefill_s=now.prefill_s - before.prefill_s,
        decode_s=now.decode_s - before.decode_s,
        steps=now.steps - before.steps,
    )


def _run(values: dict[str, Any], tell: Progress) -> dict[str, Any]:
    values["rows"] = tuple(values["rows"])
    return asdict(run_bench(BenchJob(**values), tell))


if __name__ == "__main__":
    os.environ.update(LIBRARY_SETTINGS)
    serve_job(_run)
