"""How good the answers are: the gold set's test documents, with the baseline beside.

    uv run python benchmarks/quality.py [--split test] [--sample 84] [--forms auto free]

Answers the documents as `docflash eval` does, in each form of asking (auto: the default; free: one
call whose answer is values alone), and writes precision, recall, F1, nulls, evidence, ROUGE-L,
tokens and seconds of each task, and the F1 of each field. Forms other than auto are asked only the
questions for fields. Writes benchmarks/quality.json; forms that it has of the same documents stay.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

from machine import describe_surroundings

from pipeline.evaluation.evaluate import BASELINE, PRODUCT, Evaluation, evaluate, sample_gold
from pipeline.evaluation.gold import Gold, load_gold
from pipeline.evaluation.running import Trial, answer_gold
from pipeline.evaluation.scores import Score
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.settings import EMBEDDED_MODEL

_ROOT = Path(__file__).parents[1]
_GOLD = _ROOT / "sample_docs" / "gold" / "gold.json"
_DIGITS = 4
_SAID = {"system", "task", "field"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--split", default="test")
    parser.add_argument("--sample", type=int, default=84, help="documents at most")
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--forms", nargs="+", default=["auto"], help="see pipeline/forms.py")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    gold = sample_gold(load_gold(_GOLD, load_tasks(), split=options.split), options.sample)
    of: dict[str, object] = {
        "split": options.split,
        "documents": len(gold.documents),
        "model": options.model,
    }
    report = {**describe_surroundings("mlx", "llguidance", "pypdf"), **of}
    forms = known_forms(options.out, of)
    for form in options.forms:
        forms[form] = measure(gold if form == "auto" else only_fields(gold), form, options.model)
    options.out.write_text(json.dumps({**report, "forms": forms}, indent=2) + "\n")
    print(json.dumps({**report, "forms": forms}, indent=2))


def known_forms(path: Path, of: dict[str, object]) -> dict[str, object]:
    """What a file says already of the same documents and model."""
    report = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return report["forms"] if report and of.items() <= report.items() else {}


def only_fields(gold: Gold) -> Gold:
    """The documents with labels for fields, and no other labels."""
    return only_tasks(gold, [task.name for task in load_tasks() if task.kind == "fields"])


def only_tasks(gold: Gold, names: Collection[str]) -> Gold:
    """The documents with labels for some tasks, and no other labels."""
    documents = [
        replace(one, answers=tuple(a for a in one.answers if a.task in names))
        for one in gold.documents
    ]
    return replace(gold, documents=tuple(one for one in documents if one.answers))


def measure(gold: Gold, form: str, model: str) -> dict[str, object]:
    """Answers and scores the documents with every question for fields asked in one form."""
    with tempfile.TemporaryDirectory() as name:
        prompts, out = Path(name) / "prompts", Path(name) / "out"
        prompts.mkdir()
        for task in load_tasks():
            text = (_ROOT / task.source).read_text("utf-8")
            is_open = task.kind == "fields" and task.form == "auto"
            head = f'form = "{form}"\n' if is_open else ""
            (prompts / f"{task.name}.toml").write_text(head + text, "utf-8")
        started = time.perf_counter()
        answer_gold(gold, Trial(out, model, prompts), Progress())
        done = evaluate(gold, load_tasks(prompts), out)
        return {
            "seconds": round(time.perf_counter() - started, 1),
            "unanswered": done.unanswered,
            "tasks": summarise(done),
        }


def summarise(done: Evaluation) -> dict[str, object]:
    """By task and system: its scores, and the F1 of each field."""
    report: dict[str, dict[str, object]] = {}
    for system in (PRODUCT, BASELINE):
        rows = [row for row in done.scores if row.system == system]
        for head in (row for row in rows if not row.field):
            fields = {row.field: row.f1 for row in rows if row.task == head.task and row.field}
            report.setdefault(head.task, {})[system] = rounded(head) | (
                {"f1_by_field": {name: near(f1) for name, f1 in fields.items()}} if fields else {}
            )
    return dict(report)


def rounded(row: Score) -> dict[str, object]:
    """A score without what is empty or said elsewhere."""
    values: dict[str, object] = {name: near(value) for name, value in asdict(row).items()}
    silent = {
        name
        for name, value in values.items()
        if value is None or (isinstance(value, int) and not value)
    }
    kept = {name: value for name, value in values.items() if name not in silent | _SAID}
    return {**kept, "f1": values["f1"]}


def near(value: float | None) -> float | None:
    """Four digits are enough."""
    return round(value, _DIGITS) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
