"""How often the class of a document is right: the classes' part of prompts/calibration.json.

    uv run python benchmarks/class_calibration.py [--model embedded]

In two ways, as benchmarks/calibration.py has it for fields:

- Classes that the model wrote: of a task without words that tell a class, so that it is asked of
  all documents. Fitted on train, judged on test.
- Classes that words told: fitted on test, since the words were tuned on train; judged there, each
  layout by what all others lead to.

Writes benchmarks/class_calibration.json, and the classes' entries of prompts/calibration.json.
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from calibration import foretell, hold_out_layouts, judge, summarise, tell
from quality import only_tasks

from pipeline.calibration_file import FILE_NAME, read_calibrations, write_calibrations
from pipeline.evaluation.calibrating import fit_calibrations
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
_FILE = _ROOT / "prompts" / FILE_NAME


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = calibrate(Path(name), options.model)
    tell(report, options.model, options.out)


def calibrate(work: Path, model: str) -> dict[str, object]:
    """Fits, keeps and judges."""
    plain = write_plain_task(work / "plain_tasks")
    alone, alone_tasks = grade(work, "train", model, plain)
    about = f"gold.json, {datetime.now(UTC):%Y-%m-%d}: "
    fitted = fit_calibrations(alone, alone_tasks, f"{about}split train; without words")
    general = [one for one in fitted if not one.task]
    test, tasks = grade(work, "test", model, None)
    taken = [one for one in test if one.sure.probability is None]
    known = (*general, *fit_calibrations(taken, tasks, f"{about}split test", general))
    others = [one for one in read_calibrations(_FILE) if one.form != "class"]
    write_calibrations(_FILE, (*others, *known), "benchmarks/calibration.py")
    of_rules = hold_out_layouts(taken, tasks)
    of_model = foretell([one for one in test if one not in taken], tasks, known)
    test_alone = foretell(grade(work, "test", model, plain)[0], alone_tasks, known)
    return {
        "fitted": [summarise(one) for one in known],
        "test": {"task": judge((*of_model, *of_rules)), "model_alone": judge(test_alone)},
    }


def write_plain_task(folder: Path) -> Path:
    """Docflash's own question for the class, without words that tell it."""
    folder.mkdir(parents=True)
    for task in load_tasks():
        if task.kind == "class":
            head, rest = (_ROOT / task.source).read_text("utf-8").split("[words]")
            examples = rest[rest.index("[examples]") :]
            (folder / f"{task.name}.toml").write_text(f"{head}\n{examples}", "utf-8")
    return folder


def grade(
    work: Path, split: str, model: str, prompts: Path | None
) -> tuple[tuple[Graded, ...], tuple[Task, ...]]:
    """Answers the documents of a split and grades the classes."""
    tasks = load_tasks(prompts)
    classes = [task.name for task in tasks if task.kind == "class"]
    gold = only_tasks(load_gold(_GOLD, tasks, split=split), classes)
    out = work / f"{'plain' if prompts else 'tasks'}-{split}"
    answer_gold(gold, Trial(out, model, prompts), Progress())
    return evaluate(gold, tasks, out).graded, tasks


if __name__ == "__main__":
    main()
