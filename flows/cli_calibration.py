"""What `docflash eval` does with confidences: says how far they can be believed, and calibrates."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli_output import print_table, stderr_console
from pipeline.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.evaluation.evaluate import Evaluation
    from pipeline.evaluation.grading import Graded
    from pipeline.evaluation.reliability import Bin
    from pipeline.records import Task

_COLUMNS = (
    *("task", "values", "n", "right", "error", "Brier", "calibrated", "error then", "Brier then"),
)
_BIN_COLUMNS = ("bin", "n", "said", "right", "n then", "said then", "right then")


def begin_calibration(prompts: Path | None) -> Path:
    """The folder that a calibration is kept in, with a file for it.

    Raises:
        InputError: No folder was named, or its file can't be read or written.
    """
    from pipeline.calibration_file import FILE_NAME, read_calibrations, write_calibrations

    if prompts is None:
        raise InputError(
            f"--calibrate keeps {FILE_NAME} beside your tasks: name their folder with --prompts, "
            "or a new one if you have none, and give it to `docflash run`, too"
        )
    folder = prompts.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder prompts={str(folder)!r} can't be made ({error.strerror}); name another"
        ) from error
    if not read_calibrations(folder / FILE_NAME):
        write_calibrations(folder / FILE_NAME, (), "docflash eval --calibrate")
    return folder


def describe_gold(gold: Path, split: str, documents: int) -> str:
    """Which documents a calibration was measured on, in words."""
    return f"{gold.name}{f', split {split}' if split else ''}, {documents} documents"


def calibrate_by(
    done: "Evaluation", tasks: "Sequence[Task]", folder: Path, measured_on: str
) -> "Evaluation":
    """Keeps the calibrations that an evaluation leads to.

    Returns:
        The evaluation, with the confidences of documents that were held out.

    Raises:
        InputError: There are too few values, or the file can't be read or written.
    """
    from pipeline.calibration_file import FILE_NAME, read_calibrations, write_calibrations
    from pipeline.evaluation.calibrating import fit_calibrations, hold_out, require_values

    fitted = fit_calibrations(done.graded, tasks, measured_on)
    require_values(done.graded, fitted)
    path = folder / FILE_NAME
    kept = (*read_calibrations(path), *fitted)
    write_calibrations(path, kept, "docflash eval --calibrate")
    names = ", ".join(sorted({one.task or "all tasks" for one in fitted}))
    stderr_console().print(f"{path}: calibrated {names}", markup=False)
    return replace(done, graded=hold_out(done.graded, tasks))


def print_reliability(graded: "Sequence[Graded]") -> None:
    """Prints how far probabilities and confidences can be believed; nothing of no values."""
    from pipeline.evaluation.calibrating import measure_reliability

    if not graded:
        return
    measured = measure_reliability(graded)
    print_table(
        _COLUMNS,
        [
            (
                row.task,
                row.kind,
                str(row.values),
                _percent(row.right),
                _percent(row.error_before),
                _score(row.brier_before),
                str(row.calibrated),
                _percent(row.error_after),
                _score(row.brier_after),
            )
            for row in measured.rows
        ],
        title="confidence: the model's probabilities, then calibrated",
    )
    print_table(
        _BIN_COLUMNS,
        [
            (f"{before.low:.1f} to {before.high:.1f}", *_bin(before), *_bin(after))
            for before, after in zip(measured.before, measured.after, strict=True)
            if before.values or after.values
        ],
        title="reliability: what was said, and the share that was right",
    )


def _bin(one: "Bin") -> tuple[str, str, str]:
    return str(one.values), _percent(one.said), _percent(one.right)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f}"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
