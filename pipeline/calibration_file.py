"""Keeps calibrations: the file `calibration.json` beside the tasks, docflash's own and the user's.

In: a folder of the user's tasks, if there is one. Out: the calibrations of both files; of two of
the same model and task the user's counts. docflash's own is made by `benchmarks/calibration.py`, a
user's by `docflash eval --calibrate`.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from pipeline.calibration import Calibration, FieldOffset, FieldShare, ShareMap
from pipeline.errors import InputError

FILE_NAME = "calibration.json"
_VERSION = 1
_ABOUT = (
    "How often values were right on labelled documents, by model and task; made by `{made_by}`. "
    "What it means: README.md, Confidence."
)


def load_calibrations(folder: Path | None = None) -> tuple[Calibration, ...]:
    """All calibrations there are.

    Args:
        folder: Of the user's own tasks; None for none.

    Raises:
        InputError: A file can't be read or is damaged; says which, and where.
    """
    own = files("prompts") / FILE_NAME
    known = list(_read(f"prompts/{FILE_NAME}", own)) if own.is_file() else []
    if folder is not None and (folder / FILE_NAME).exists():
        known += _read(str(folder / FILE_NAME), folder / FILE_NAME)
    return _newest(known)


def read_calibrations(path: Path) -> tuple[Calibration, ...]:
    """The calibrations of one file, none if it is not there.

    Raises:
        InputError: It can't be read or is damaged.
    """
    return _read(str(path), path) if path.exists() else ()


def write_calibrations(path: Path, calibrations: Sequence[Calibration], made_by: str) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: The file.
        calibrations: All that it is to hold.
        made_by: The command, for the head of the file.

    Raises:
        InputError: It can't be written.
    """
    kept = sorted(_newest(calibrations), key=lambda one: one.key)
    values = {
        "about": _ABOUT.format(made_by=made_by),
        "version": _VERSION,
        "calibrations": [_rounded(asdict(one)) for one in kept],
    }
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(new, path)  # noqa: PTH105 (Path.replace has no better name)
    except OSError as error:
        raise InputError(
            f"the calibration file path={str(path)!r} can't be written ({error.strerror}); "
            "check the folder's permissions and the free disk space"
        ) from error


def _newest(calibrations: Iterable[Calibration]) -> tuple[Calibration, ...]:
    return tuple({one.key: one for one in calibrations}.values())


def _rounded(value: Any) -> Any:
    """A value with floats of six digits: more would be chance."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in cast("Sequence[Any]", value)]
    return value


def _read(name: str, file: Traversable) -> tuple[Calibration, ...]:
    remedy = f"remove {FILE_NAME}, or make it again with `docflash eval GOLD.json --calibrate`"
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the calibration file path={name!r} can't be read ({error.strerror}); {remedy}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the calibration file path={name!r} is not valid JSON in UTF-8; {remedy}"
        ) from error
    table = cast("dict[str, Any]", values) if isinstance(values, dict) else {}
    entries: Any = table.get("calibrations")
    if table.get("version") != _VERSION or not isinstance(entries, list):
        raise InputError(
            f"the calibration file path={name!r} has version={table.get('version')!r}; this "
            f'docflash reads "version": {_VERSION} with "calibrations"; {remedy}'
        )
    found: list[Calibration] = []
    for number, entry in enumerate(cast("list[Any]", entries), start=1):
        try:
            found.append(_read_entry(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the calibration file path={name!r} is damaged in entry {number}: "
                f"{type(error).__name__}: {error}; {remedy}"
            ) from error
    return tuple(found)


def _read_entry(entry: dict[str, Any]) -> Calibration:
    texts = {key: _text(entry, key) for key in ("model", "task", "prompt", "form", "measured_on")}
    asked = entry["asked"]
    return Calibration(
        **texts,
        asked=None if asked is None else _read_map(asked),
        offsets=tuple(
            FieldOffset(_text(one, "field"), *_counts(one), _number(one["offset"]))
            for one in entry["offsets"]
        ),
        taken=tuple(
            FieldShare(_text(one, "field"), *_counts(one), _share(one["share"]))
            for one in entry["taken"]
        ),
    )


def _read_map(value: dict[str, Any]) -> ShareMap:
    steps = tuple((_share(low), _share(share)) for low, share in value["steps"])
    if steps and (steps[0][0] != 0 or list(steps) != sorted(steps) or not _rises(steps)):
        raise ValueError("the steps do not rise from 0")
    slope, intercept = _number(value["slope"]), _number(value["intercept"])
    if slope < 0:
        raise ValueError(f"slope={slope!r} is below 0")
    return ShareMap(*_counts(value), slope, intercept, steps)


def _rises(steps: Sequence[tuple[float, float]]) -> bool:
    return all(one[1] <= other[1] for one, other in pairwise(steps))


def _text(entry: dict[str, Any], key: str) -> str:
    if not isinstance(entry[key], str):
        raise TypeError(f"{key}={entry[key]!r} is not text")
    return cast("str", entry[key])


def _counts(entry: dict[str, Any]) -> tuple[int, int]:
    values, right = entry["values"], entry["right"]
    if not isinstance(values, int) or not isinstance(right, int) or not 0 <= right <= values:
        raise ValueError(f"right={right!r} of values={values!r} are no counts")
    return values, right


def _share(value: Any) -> float:
    if not 0 <= _number(value) <= 1:
        raise ValueError(f"{value!r} is not from 0 to 1")
    return float(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
        raise ValueError(f"{value!r} is not a number")
    return float(value)
