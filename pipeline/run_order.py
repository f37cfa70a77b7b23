"""What a run is asked to do, and with what: the order, then the tasks and the model it names.

In: names and folders as a user gives them. Out: tasks, model and limits, or what is wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.budget import chunk_limits
from pipeline.calibration import Calibration
from pipeline.calibration_file import load_calibrations
from pipeline.engine.interface import ModelInfo
from pipeline.engine.loading.models import resolve_model
from pipeline.ingest import Search
from pipeline.jobs import DocumentEntry, chunking_fingerprint
from pipeline.prompts import choose_tasks, class_task, load_tasks, task_applies
from pipeline.records import Limits, Task
from pipeline.settings import EMBEDDED_MODEL


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a run is to do.

    Attributes:
        search: The folder, the library, and which files are taken.
        model: "embedded" or the folder of an mlx-lm model.
        tasks: These for every document; empty: each task for the documents it applies to.
        prompts: A folder of the user's own tasks.
        newest_first: Documents changed last are answered first.
        only: By file name (as in `FoundFile.name`): those of `tasks` that it gets; None: all.
    """

    search: Search
    model: str = EMBEDDED_MODEL
    tasks: tuple[str, ...] = ()
    prompts: Path | None = None
    newest_first: bool = False
    only: Mapping[str, frozenset[str]] | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tasks of a run and the model that answers them.

    Attributes:
        known: All tasks there are; the answers to any of them are published.
        tasks: Those of this run, in the order they are worked.
        class_task: Finds the class of a document, if any of `tasks` asks for one.
        force: The tasks are for every document.
        limits: By task name: how its chunks are cut.
        calibrations: What makes the probabilities of values confidences.
    """

    known: tuple[Task, ...]
    tasks: tuple[Task, ...]
    class_task: Task | None
    force: bool
    model: ModelInfo
    limits: dict[str, Limits]
    calibrations: tuple[Calibration, ...] = ()

    def needs_class(self, document: DocumentEntry) -> bool:
        """Whether a task is for this document if it has the right class."""
        return self.class_task is not None and any(
            task.classes and task_applies(task, document.names, task.classes[0])
            for task in self.tasks
        )

    def task(self, name: str) -> Task:
        """A task of the run, or the one that finds the class, by its name."""
        asked = (*self.tasks, *((self.class_task,) if self.class_task else ()))
        return next(task for task in asked if task.name == name)

    def chunking(self, task: str) -> str:
        """The chunking of a task, as the store names it."""
        return chunking_fingerprint(self.limits[task], self.model.fingerprint)


def choose(order: RunOrder, tell: Callable[[str, float], None]) -> Chosen:
    """Reads the tasks and finds the model; what is wrong with either is told here.

    Raises:
        InputError: A task or the model is missing or wrong, or they don't fit each other.
    """
    known = load_tasks(order.prompts)
    calibrations = load_calibrations(order.prompts)
    tasks = (
        choose_tasks(known, order.tasks)
        if order.tasks
        else tuple(task for task in known if task.kind != "class")
    )
    asks_class = not order.tasks and any(task.classes for task in tasks)
    finder = class_task(known) if asks_class else None
    model = resolve_model(order.model, tell)
    asked = (*tasks, finder) if finder else tasks
    limits = {task.name: chunk_limits(task, model) for task in asked}
    return Chosen(known, tasks, finder, bool(order.tasks), model, limits, calibrations)
