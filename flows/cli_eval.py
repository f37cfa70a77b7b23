"""`docflash eval` and `docflash label`: how good a question and a model are on your documents."""

import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_calibration import (
    begin_calibration,
    calibrate_by,
    describe_gold,
    print_reliability,
)
from flows.cli_output import EXIT_STOPPED, print_json, print_table, stderr_console
from flows.watch import watch_run
from pipeline.errors import InputError
from pipeline.progress import Progress
from pipeline.settings import EMBEDDED_MODEL, out_folder

if TYPE_CHECKING:
    from pipeline.evaluation.evaluate import Evaluation
    from pipeline.evaluation.gold import Gold
    from pipeline.evaluation.judging import Judgement
    from pipeline.evaluation.scores import Score

_WRONG_SHOWN = 200
_COLUMNS = (
    *("task", "field", "docs", "prec.", "recall", "F1", "base F1", "nulls", "evid.", "ROUGE-L"),
    *("base", "cover", "read", "written", "s"),
)

GoldArgument = Annotated[
    Path, typer.Argument(help="The gold file; `docflash label` makes one.", readable=False)
]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", help="Only this task; can be given several times.")
]
Split = Annotated[str, typer.Option(help="Only documents of this split, e.g. test.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="A library that keeps the answers; none: one for the moment.", readable=False
    ),
]
Library = Annotated[
    Path | None, typer.Option("--out", help="The folder for the tables, as for `run`.")
]
Prompts = Annotated[
    Path | None, typer.Option(help="A folder with tasks of your own.", readable=False)
]
Model = Annotated[str, typer.Option(help="The folder of an mlx-lm model, or 'embedded'.")]
Sample = Annotated[int | None, typer.Option(min=1, help="At most so many documents.")]
NoRun = Annotated[
    bool, typer.Option("--no-run", help="Ask nothing: score what the library has published.")
]
Wrong = Annotated[bool, typer.Option("--wrong", help="List what is wrong, with what is right.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Parquet = Annotated[Path | None, typer.Option(help="Write the scores to this parquet file, too.")]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate", help="Keep how often values are right as calibration.json in --prompts."
    ),
]


def evaluate(  # noqa: PLR0913 (options)
    gold: GoldArgument,
    *,
    task: Tasks = None,
    split: Split = "",
    out: Out = None,
    prompts: Prompts = None,
    model: Model = EMBEDDED_MODEL,
    sample: Sample = None,
    no_run: NoRun = False,
    wrong: Wrong = False,
    as_json: Json = False,
    parquet: Parquet = None,
    calibrate: Calibrate = False,
) -> None:
    """Scores questions and a model on labelled documents, with a simple baseline beside them.

    Precision, recall and F1 are of values, compared by their types; a task's are the means over its
    fields. "base" is the baseline: regular expressions for fields, first sentences for texts.
    "nulls": of what the documents do not say, the share answered null. "evid.": of the quotes, the
    share from a right page for a right value. "cover": of the facts, the share that is named.

    A second table says how far confidences can be believed: "asked" are values that the model
    wrote, "taken" those that rules found. "error" is the expected calibration error in points of a
    hundred, "Brier" the Brier score; of the model's probabilities, then of the confidences. With
    --calibrate these are of documents held out in turn, and the fit to all is kept for later runs.

    Example: `docflash eval sample_docs/gold/gold.json --split test --sample 12`

    Exit codes: 0 done; 1 some answers are missing, they count as wrong; 2 the file or the settings
    are wrong; 3 the engine stopped: run again with the same --out to go on.
    """
    from pipeline.evaluation.evaluate import evaluate as score_library
    from pipeline.evaluation.evaluate import sample_gold
    from pipeline.evaluation.gold import load_gold
    from pipeline.evaluation.running import Trial
    from pipeline.prompts import load_tasks

    if no_run and out is None:
        raise InputError("--no-run scores a library: name it with --out")
    if calibrate:
        prompts = begin_calibration(prompts)
    tasks = load_tasks(prompts)
    known = load_gold(gold.expanduser(), tasks, split=split, only=task or ())
    known = known if sample is None else sample_gold(known, sample)
    stopped = ""
    with _library(out) as name:
        library = out_folder(Path(name))
        if not no_run:
            stopped = _answer(known, Trial(library, model, prompts))
        done = score_library(known, tasks, library)
    if calibrate and prompts is not None and not stopped:
        done = calibrate_by(done, tasks, prompts, describe_gold(gold, split, done.documents))
    if parquet is not None:
        _write_parquet(done, parquet)
    if as_json:
        print_json(_as_json(done, gold, split, wrong=wrong))
    else:
        _print(done, known, wrong=wrong)
    if stopped:
        stderr_console().print(f"stopped ({stopped}): what is missing counts as wrong")
        raise typer.Exit(EXIT_STOPPED)
    raise typer.Exit(1 if done.unanswered else 0)


def label(
    file: Annotated[Path, typer.Argument(help="The gold file to write; must not be there yet.")],
    task: Tasks = None,
    out: Library = None,
    prompts: Prompts = None,
) -> None:
    """Writes a library's answers as a gold file, for you to correct and give to `docflash eval`.

    In it set "checked" to true for each document that you have corrected; others are left out.

    Example: `docflash label gold.json --task invoice`
    """
    from pipeline.evaluation.labelling import write_labels
    from pipeline.prompts import choose_tasks, load_tasks

    known = load_tasks(prompts)
    chosen = choose_tasks(known, task) if task else known
    count = write_labels(out_folder(out), chosen, file.expanduser())
    stderr_console().print(
        f'{file}: {count} documents. Correct the answers, set "checked" to true, then run '
        f"`docflash eval {file}`",
        markup=False,
    )


def _library(out: Path | None) -> AbstractContextManager[Any]:
    if out is not None:
        return nullcontext(str(out))
    return tempfile.TemporaryDirectory(prefix="docflash-eval-")


def _answer(gold: "Gold", trial: Any) -> str:
    """Has the documents answered; returns why it was stopped, if it was."""
    from pipeline.evaluation.running import answer_gold

    progress = Progress()
    with watch_run(progress):
        answer_gold(gold, trial, progress)
    return progress.stop_reason if progress.is_stopping() else ""


def _write_parquet(done: "Evaluation", path: Path) -> None:
    from pipeline.evaluation.evaluate import tabulate_scores
    from pipeline.formats import write_table

    with path.expanduser().open("wb") as file:
        write_table(tabulate_scores(done), "parquet", file)


def _as_json(done: "Evaluation", gold: Path, split: str, *, wrong: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from pipeline.evaluation.calibrating import measure_reliability
    from pipeline.evaluation.evaluate import plain_value

    value: dict[str, Any] = {
        "gold": str(gold),
        "split": split or None,
        "model": done.model,
        "documents": done.documents,
        "unanswered": done.unanswered,
        "scores": [asdict(row) for row in done.scores],
        "reliability": asdict(measure_reliability(done.graded)),
    }
    if wrong:
        value["wrong"] = [
            {
                "document": one.document,
                "task": one.task,
                "field": one.field,
                "expected": plain_value(one.expected),
                "found": plain_value(one.found),
                "failure": one.failure or None,
            }
            for one in done.judgements
            if not one.is_right
        ]
    return value


def _print(done: "Evaluation", gold: "Gold", *, wrong: bool) -> None:
    from pipeline.evaluation.evaluate import BASELINE, PRODUCT

    simple = {(row.task, row.field): row for row in done.scores if row.system == BASELINE}
    rows = [
        _cells(row, simple[row.task, row.field]) for row in done.scores if row.system == PRODUCT
    ]
    print_table(_COLUMNS, rows, title=f"{done.documents} documents, model {done.model or 'none'}")
    print_reliability(done.graded)
    if wrong:
        bad = [one for one in done.judgements if not one.is_right]
        print_table(
            ("document", "task", "field", "right is", "answer"),
            [
                (one.document, one.task, one.field, one.expected, _answer_cell(one))
                for one in bad[:_WRONG_SHOWN]
            ],
            title=f"{len(bad)} wrong"
            + (f", {_WRONG_SHOWN} shown" if len(bad) > _WRONG_SHOWN else ""),
        )
    if done.unanswered:
        stderr_console().print(f"answers that are missing, and count as wrong: {done.unanswered}")
    if gold.unchecked:
        stderr_console().print(f"documents that are not checked, and left out: {gold.unchecked}")


def _answer_cell(one: "Judgement") -> Any:
    if one.failure:
        return f"no answer: {one.failure}"
    return "null" if one.found is None else one.found


def _cells(row: "Score", simple: "Score") -> tuple[str, ...]:
    is_task = not row.field and row.task != "all"
    return (
        row.task,
        row.field,
        str(row.documents),
        *map(_percent, (row.precision, row.recall, row.f1, simple.f1)),
        *map(_percent, (row.null_accuracy, row.evidence_precision)),
        *map(_percent, (row.rouge_l, simple.rouge_l, row.coverage)),
        *((str(row.prompt_tokens), str(row.completion_tokens)) if is_task else ("", "")),
        f"{row.model_s:.1f}" if is_task else "",
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f}"
