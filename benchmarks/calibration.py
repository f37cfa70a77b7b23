"""How often values are right, and how far that can be foretold: makes prompts/calibration.json.

    uv run python benchmarks/calibration.py [--work FOLDER] [--model embedded]

Answers the questions for fields about the gold set's documents, as `docflash eval` does, in two
ways: with the tasks as they are ("tasks"), and with tasks in which no words tell where a value
stands, so that the model is asked for all of them ("model_alone").

- Values that the model wrote: fitted on train, judged on test. "model_alone" gives the map of the
  model, which a user's own tasks have, "tasks" the offsets of the fields that it is asked for.
- Values that rules found: the rules were tuned on train, where nearly all are right, so that only
  test says how often they are right elsewhere. Fitted on test; judged there, too, each layout by
  what all others lead to.

Two choices were made after a first look at test: the offsets (without them the currency, right 16
times of 16, was told to be right in 73 of 100), and that 10 values of a task, not 20, are enough
for shares of rules. So test is not quite unseen for "tasks"; for "model_alone" nothing was changed.

Writes prompts/calibration.json, and benchmarks/calibration.json: how far that can be believed. With
--work the answers are kept for the next time.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from machine import describe_surroundings
from quality import near, only_fields

from pipeline.calibration import Calibration, find_share
from pipeline.calibration_file import FILE_NAME, read_calibrations, write_calibrations
from pipeline.evaluation.calibrating import fit_calibrations, measure_reliability
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.gold import load_gold
from pipeline.evaluation.grading import Graded
from pipeline.evaluation.running import Trial, answer_gold
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.records import Task
from pipeline.settings import EMBEDDED_MODEL

_ROOT = Path(__file__).parents[1]
_GOLD = _ROOT / "sample_docs" / "gold" / "gold.json"
_COMMAND = "benchmarks/calibration.py"
_PLACES = re.compile(
    r"(?ms)^(?:labels|patterns|unlike) = \[(?:\n.*?^\]|[^\n]*\])[^\n]*\n|^take_all = true\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--work", type=Path, help="keeps the answers; none: for the moment")
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as name:
        report = calibrate(Path(name).absolute(), options.model)
    tell(report, options.model, options.out)


def tell(report: dict[str, object], model: str, out: Path) -> None:
    """Writes and prints a report, with the machine and the model that it is of."""
    whole = {**describe_surroundings("mlx", "llguidance", "pypdf"), "model": model} | report
    text = json.dumps(whole, indent=2)
    out.write_text(f"{text}\n", "utf-8")
    print(text)


def calibrate(work: Path, model: str) -> dict[str, object]:
    """Fits, keeps and judges; the answers are kept in `work`."""
    plain = write_plain_tasks(work / "plain_tasks")
    alone, alone_tasks = grade(work, "train", model, plain)
    about = f"gold.json, {datetime.now(UTC):%Y-%m-%d}: written by the model: split train"
    fitted = fit_calibrations(alone, alone_tasks, f"{about}; without labels and patterns")
    general = [one for one in fitted if not one.task]
    train, tasks = grade(work, "train", model, None)
    test = grade(work, "test", model, None)[0]
    asked = [one for one in train if one.sure.probability is not None]
    taken = [one for one in test if one.sure.probability is None]
    about += "; found by rules: split test"
    known = (*general, *fit_calibrations([*asked, *taken], tasks, about, general))
    file = _ROOT / "prompts" / FILE_NAME
    # benchmarks/class_calibration.py makes those.
    of_classes = [one for one in read_calibrations(file) if one.form == "class"]
    write_calibrations(file, (*known, *of_classes), _COMMAND)
    of_rules = hold_out_layouts(taken, tasks)
    of_model = foretell([one for one in test if one not in taken], tasks, known)
    test_alone = foretell(grade(work, "test", model, plain)[0], alone_tasks, known)
    return {
        "fitted": [summarise(one) for one in known],
        "test": {"tasks": judge((*of_model, *of_rules)), "model_alone": judge(test_alone)},
    }


def hold_out_layouts(graded: Sequence[Graded], tasks: Sequence[Task]) -> list[Graded]:
    """The values with confidences that documents of other layouts lead to."""
    entries = json.loads(_GOLD.read_text("utf-8"))["documents"]
    layouts = {name: entry.get("layout") or name for name, entry in entries.items()}
    held: list[Graded] = []
    for layout in sorted({layouts[one.document] for one in graded}):
        others = [one for one in graded if layouts[one.document] != layout]
        own = [one for one in graded if layouts[one.document] == layout]
        held += foretell(own, tasks, fit_calibrations(others, tasks, ""))
    return held


def foretell(
    graded: Iterable[Graded], tasks: Iterable[Task], known: Sequence[Calibration]
) -> list[Graded]:
    """The values with what the calibrations say of them."""
    by_prompt = {task.fingerprint: task for task in tasks}
    shares = [
        (
            one,
            find_share(
                known,
                one.sure.model,
                by_prompt[one.sure.prompt],
                one.field,
                one.sure.probability,
            ),
        )
        for one in graded
    ]
    return [replace(one, sure=replace(one.sure, confidence=share)) for one, share in shares]


def write_plain_tasks(folder: Path) -> Path:
    """Docflash's own questions for fields, without what tells where a value stands."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in load_tasks():
        if task.kind == "fields":
            text = _PLACES.sub("", (_ROOT / task.source).read_text("utf-8"))
            (folder / f"{task.name}.toml").write_text(text, "utf-8")
    for task in load_tasks(folder):
        for field in task.fields:
            if field.labels or field.patterns or field.take_all:
                raise SystemExit(f"{task.source}: {field.name} still says where it stands")
    return folder


def grade(
    work: Path, split: str, model: str, prompts: Path | None
) -> tuple[tuple[Graded, ...], tuple[Task, ...]]:
    """Answers the documents of a split and grades the values."""
    tasks = load_tasks(prompts)
    gold = only_fields(load_gold(_GOLD, tasks, split=split))
    out = work / f"{'plain' if prompts else 'tasks'}-{split}"
    answer_gold(gold, Trial(out, model, prompts), Progress())
    return evaluate(gold, tasks, out).graded, tasks


def judge(graded: Sequence[Graded]) -> dict[str, object]:
    """How far the confidences of values can be believed."""
    measured = asdict(measure_reliability(graded))
    bins = {name: [one for one in measured[name] if one["values"]] for name in ("before", "after")}
    rounded = {
        name: [{key: near(value) for key, value in row.items()} for row in rows]
        for name, rows in {"rows": measured["rows"], **bins}.items()
    }
    by_task: dict[str, dict[str, object]] = {}
    for row in rounded.pop("rows"):
        by_task.setdefault(str(row.pop("task")), {})[str(row.pop("kind"))] = row
    return {**by_task, **rounded}


def summarise(one: Calibration) -> dict[str, object]:
    """What a calibration was fitted to."""
    taken = sum(field.values for field in one.taken)
    return {
        "task": one.task or "all",
        "asked": one.asked.values if one.asked else 0,
        "asked_right": near(one.asked.right / one.asked.values) if one.asked else None,
        "kind": ("isotonic" if one.asked.steps else "logistic") if one.asked else None,
        "taken": taken,
        "taken_right": near(sum(field.right for field in one.taken) / taken) if taken else None,
    }


if __name__ == "__main__":
    main()
