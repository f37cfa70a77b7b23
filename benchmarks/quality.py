"""How good the answers are: a sample of the gold set's test documents, with the baseline beside.

    uv run python benchmarks/quality.py [--split test] [--sample 24] [--out FILE.json]

Answers the documents as `docflash eval` does, with the questions and the form that are the default,
and writes precision, recall, F1, nulls, evidence, ROUGE-L, tokens and seconds of each task, and the
F1 of each field. Writes benchmarks/quality.json.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from machine import describe_surroundings

from pipeline.evaluation.evaluate import BASELINE, PRODUCT, Evaluation, evaluate, sample_gold
from pipeline.evaluation.gold import load_gold
from pipeline.evaluation.running import Trial, answer_gold
from pipeline.evaluation.scores import Score
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.settings import EMBEDDED_MODEL

_GOLD = Path(__file__).parents[1] / "sample_docs" / "gold" / "gold.json"
_DIGITS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--split", default="test")
    parser.add_argument("--sample", type=int, default=24, help="documents at most")
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--prompts", type=Path, help="a folder of other questions")
    parser.add_argument("--task", action="append", default=[], help="only this one")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    tasks = load_tasks(options.prompts)
    gold = load_gold(_GOLD, tasks, split=options.split, only=options.task)
    gold = sample_gold(gold, options.sample)
    with tempfile.TemporaryDirectory() as name:
        answer_gold(gold, Trial(Path(name), options.model, options.prompts), Progress())
        done = evaluate(gold, tasks, Path(name))
    report = {
        **describe_surroundings("mlx", "llguidance", "pypdf"),
        "split": options.split,
        "documents": done.documents,
        "unanswered": done.unanswered,
        "model": done.model,
        "tasks": summarise(done),
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


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
    values = {name: near(value) for name, value in asdict(row).items()}
    return {
        name: value
        for name, value in values.items()
        if name not in {"system", "task", "field"} and value not in (None, 0, 0.0)
    } | {"f1": values["f1"]}


def near(value: float | None) -> float | None:
    """Four digits are enough."""
    return round(value, _DIGITS) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
