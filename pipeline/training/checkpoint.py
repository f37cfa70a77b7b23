"""Checkpoints: all that a training needs to go on as if it had never stopped.

    work/checkpoints/step-00000500/state.safetensors, state.json    the last two
    work/checkpoints/best/...                                       the best by held-out answers

Order of data and anchors are functions of seed and step, so there is no more to keep.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from pipeline.errors import EngineError, InputError
from pipeline.training.model import Parameters
from pipeline.training.trainer import State

TENSORS, NUMBERS = "state.safetensors", "state.json"
KEPT = 2
BEST = "best"


@dataclass(frozen=True, slots=True)
class Mark:
    """An evaluation on held-out answers.

    Attributes:
        step: Steps done.
        loss: Mean since the mark before, in nats.
        accepted: Tokens per verify.
    """

    step: int
    loss: float
    accepted: float


@dataclass(slots=True)
class Course:
    """How a training has gone so far.

    Attributes:
        steps: Of the schedule.
        seconds: Spent on steps and evaluations, over all runs.
        tokens: Labels that counted in a loss.
        first, smoothed, lowest: The loss at the first step; smoothed; the lowest that this was.
        marks: The evaluations.
    """

    steps: int
    seconds: float = 0.0
    tokens: int = 0
    first: float = 0.0
    smoothed: float = 0.0
    lowest: float = float("inf")
    marks: list[Mark] = field(default_factory=list[Mark])

    @property
    def best(self) -> Mark | None:
        """The mark with the most accepted tokens; of equals, the first."""
        return max(self.marks, key=lambda mark: mark.accepted, default=None)


class Checkpoints:
    """The folder of checkpoints.

    Args:
        folder: Made at the first save.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: State, course: Course, *, best: bool = False) -> None:
        """Keeps a state, whole or not at all; of others than the best, the last two stay.

        Raises:
            EngineError: The disk is full or refuses; the checkpoints before are whole.
        """
        name = BEST if best else f"step-{state.step:08}"
        fresh = self._folder / f".{name}.{os.getpid()}"
        tensors = _named(state, best=best)
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            with (fresh / TENSORS).open("wb") as file:
                mx.save_safetensors(file, tensors)
                file.flush()
                os.fsync(file.fileno())
            numbers = {"step": state.step} | asdict(course)
            (fresh / NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")
            final = self._folder / name
            shutil.rmtree(final, ignore_errors=True)
            fresh.replace(final)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise EngineError(
                f"the checkpoint path={str(self._folder / name)!r} can't be written "
                f"({' '.join(str(error).split())[:200]}); make room on the disk and run the same "
                "command again: it goes on from the last checkpoint"
            ) from error
        for old in self._steps()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def last(self) -> tuple[State, Course] | None:
        """The newest state, if there is one."""
        found = self._steps()
        return _read(found[-1]) if found else None

    def best(self) -> tuple[Parameters, Course] | None:
        """The best parameters, if there are any."""
        folder = self._folder / BEST
        if not folder.is_dir():
            return None
        state, course = _read(folder)
        return state.parameters, course

    def _steps(self) -> list[Path]:
        return sorted(self._folder.glob("step-[0-9]*"))


def _named(state: State, *, best: bool) -> dict[str, mx.array]:
    parts = {"parameters": state.parameters}
    if not best:
        parts |= {"means": state.means, "squares": state.squares}
    return {
        f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()
    }


def _read(folder: Path) -> tuple[State, Course]:
    try:
        tensors: Any = mx.load(str(folder / TENSORS))
        mx.eval(tensors)
        numbers: dict[str, Any] = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        parts: dict[str, Parameters] = {"parameters": {}, "means": {}, "squares": {}}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = value
        step = numbers.pop("step")
        marks = [Mark(**mark) for mark in numbers.pop("marks")]
        return State(step, **parts), Course(**numbers, marks=marks)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the checkpoint={str(folder)!r} can't be read ({type(error).__name__}); remove it, "
            "and the one before it is gone on from"
        ) from error
