"""How well fields are found in each form of asking, and how much of it the documents support.

    .venv/bin/python benchmarks/grounding.py [--forms free per_field one_call] [--rounds 1]

Asks the tasks with fields about the sample documents that have their facts checked by hand, once in
each form, through an engine of its own. Text is right if it is the same but for case and white
space; a list by its F1 over items. Prints a table and writes benchmarks/grounding.json.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from pipeline.answers import DocumentText, answer_job  # noqa: E402
from pipeline.budget import chunk_limits  # noqa: E402
from pipeline.chunks import cut_chunks  # noqa: E402
from pipeline.contents import FileBytes, make_document  # noqa: E402
from pipeline.engine.client import EngineClient  # noqa: E402
from pipeline.engine.interface import ModelInfo  # noqa: E402
from pipeline.engine.loading.models import resolve_model  # noqa: E402
from pipeline.engine.serving.launch import stop_engine  # noqa: E402
from pipeline.errors import ResultError  # noqa: E402
from pipeline.pages import read_contents  # noqa: E402
from pipeline.prompts import load_tasks  # noqa: E402
from pipeline.records import Document, Field, Job, Result, Task  # noqa: E402
from pipeline.tokens import load_tokens  # noqa: E402

SAMPLES = ROOT / "sample_docs"
FORMS = ("free", "per_field", "one_call")


@dataclass(frozen=True, slots=True)
class Case:
    """A document, the task for its class, and what is right."""

    name: str
    document: Document
    task: Task
    expected: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["free", "per_field"])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--show", action="store_true", help="print every value")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    runtime = tempfile.mkdtemp()
    os.environ["DOCFLASH_RUNTIME"] = runtime
    model = resolve_model(options.model)
    cases = load_cases(options.prompts)
    found: dict[str, Any] = {}
    try:
        with EngineClient() as engine:
            for form in options.forms:
                found[form] = measure(form, cases, engine, model, show=options.show)
                print(form, json.dumps(found[form]))
    finally:
        stop_engine()
        shutil.rmtree(runtime, ignore_errors=True)
    report = {**describe_surroundings("mlx", "llguidance"), "model": options.model, "forms": found}
    options.out.write_text(json.dumps(report, indent=1) + "\n")


def load_cases(prompts: Path | None) -> list[Case]:
    expected = json.loads((SAMPLES / "expected.json").read_text())["documents"]
    tasks = {name: task for task in load_tasks(prompts) for name in task.classes if task.fields}
    cases: list[Case] = []
    for name, facts in expected.items():
        if facts.get("fields") and not name.startswith("long/"):
            data = (SAMPLES / "documents" / name).read_bytes()
            contents = read_contents(data, Path(name).suffix)
            document = make_document(FileBytes(name, len(data), contents.media_type), contents)
            cases.append(Case(name, document, tasks[facts["class"]], facts["fields"]))
    return cases


def measure(
    form: Any, cases: list[Case], engine: EngineClient, model: ModelInfo, *, show: bool
) -> dict[str, Any]:
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda case: ask(form, case, engine, model), cases))
    spent = time.perf_counter() - started
    scores: dict[str, list[float]] = {}
    support: dict[str, int] = {}
    for case, result in zip(cases, results, strict=True):
        value = result.value if result else {}
        for field in case.task.fields:
            if field.name in case.expected:
                right = case.expected[field.name]
                score = judge(field, value.get(field.name), right)
                scores.setdefault(f"{case.task.name}.{field.name}", []).append(score)
                if show:
                    print(f"{score:.2f} {case.name[-28:]} {field.name}: "
                          f"{value.get(field.name)!r} / {right!r}")  # fmt: skip
        for entry in result.evidence if result else ():
            support[entry.support] = support.get(entry.support, 0) + entry.chosen
    done = [result for result in results if result]
    every = [score for many in scores.values() for score in many]
    return {
        "score": round(sum(every) / len(every), 3),
        "values": len(every),
        "by_field": {name: round(sum(many) / len(many), 2) for name, many in scores.items()},
        "support": support,
        "failed": len(results) - len(done),
        "calls": sum(result.calls for result in done),
        "prefilled_tokens": sum(result.prompt_tokens - result.cached_tokens for result in done),
        "written_tokens": sum(result.completion_tokens for result in done),
        "seconds": round(spent, 1),
    }


def ask(form: Any, case: Case, engine: EngineClient, model: ModelInfo) -> Result | None:
    task = replace(case.task, form=form)
    tokens = load_tokens(model.tokenizer_json)
    limits = chunk_limits(task, model)
    chunks = cut_chunks(case.document.text, case.document.pages, tokens, limits)
    document = DocumentText(case.document.title, case.document.text, chunks)
    job = Job(f"{form}{case.name}", "", "", task.name, "", "")
    try:
        return answer_job(job, task, document, engine, model)
    except ResultError as error:
        print(f"{case.name}: {error}")
        return None


def judge(field: Field, value: Any, right: Any) -> float:
    """1 for right, 0 for wrong, for a list its F1."""
    if field.type != "list":
        return float(plain(value) == plain(right))
    given = {item_key(item) for item in value or ()}
    wanted = {item_key(item) for item in right or ()}
    if not given or not wanted:
        return float(given == wanted)
    return 2 * len(given & wanted) / (len(given) + len(wanted))


def item_key(item: Any) -> Any:
    if isinstance(item, dict):
        return plain(item.get("description")), plain(item.get("amount"))
    return plain(item)


def plain(value: Any) -> Any:
    """A value as the file of facts writes it, without case, white space and trailing zeros."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        text = " ".join(value.casefold().split()).strip(" .,")
        try:
            return Decimal(text)
        except ArithmeticError:
            return text
    return value if value is None else Decimal(value)


if __name__ == "__main__":
    main()
