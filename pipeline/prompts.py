"""The tasks: one TOML file each, docflash's own and the user's.

In: a folder of the user's, if there is one. Out: tasks, or every mistake in every file with its
line and fix. A file of the user's replaces docflash's own of the same name.
"""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pipeline.calibration_file import FILE_NAME as CALIBRATIONS
from pipeline.errors import InputError
from pipeline.globs import Glob
from pipeline.records import Task
from pipeline.task_files import read_task
from pipeline.task_tables import TaskProblem, TaskText, did_you_mean


def load_tasks(folder: Path | None = None) -> tuple[Task, ...]:
    """All tasks, sorted by name.

    Args:
        folder: The user's own, added to docflash's; None for none.

    Raises:
        InputError: The folder can't be read, or files have mistakes; the message lists them all.
    """
    tasks, problems = _read_all(folder)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise InputError(f"the tasks have {count}; correct and run again:\n{listed}")
    return tasks


def check_tasks(folder: Path | None = None) -> tuple[TaskProblem, ...]:
    """Every mistake in docflash's own tasks and the user's; none is good.

    Raises:
        InputError: The folder can't be read.
    """
    return _read_all(folder)[1]


def choose_tasks(tasks: Sequence[Task], names: Iterable[str]) -> tuple[Task, ...]:
    """The tasks of these names, in the order of the names.

    Raises:
        InputError: There is no task of a name.
    """
    by_name = {task.name: task for task in tasks}
    chosen: dict[str, Task] = {}
    for name in names:
        if name not in by_name:
            raise InputError(f"there is no task named task={name!r}{did_you_mean(name, by_name)}")
        chosen[name] = by_name[name]
    return tuple(chosen.values())


def class_task(tasks: Iterable[Task]) -> Task | None:
    """The one task that finds a document's class, if there is one."""
    return next((task for task in tasks if task.kind == "class"), None)


def task_applies(task: Task, file_names: Iterable[str], document_class: str | None) -> bool:
    """Whether a task is for a document.

    Args:
        task: The task.
        file_names: All names under which the document was found, relative to the folder.
        document_class: Its class; None if it is not known, which then fits no task that names
            classes.

    Returns:
        True if one of the names matches one of the globs and the class is one of the classes.
    """
    if task.kind != "class" and task.classes and document_class not in task.classes:
        return False
    globs = [Glob(pattern) for pattern in task.globs]
    return any(glob.matches(name) for name in file_names for glob in globs)


def _read_all(folder: Path | None) -> tuple[tuple[Task, ...], tuple[TaskProblem, ...]]:
    problems: list[TaskProblem] = []
    tasks: list[Task] = []
    texts = {file.name: (f"prompts/{file.name}", file) for file in _toml_files(files("prompts"))}
    if folder is not None:
        texts |= {file.name: (str(folder / file.name), file) for file in _user_files(folder)}
    sources: dict[str, TaskText] = {}
    for _, (name, file) in sorted(texts.items()):
        try:
            source = TaskText(name, file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            problems.append(TaskProblem(name, 1, f"not UTF-8 ({error.reason}); save it as UTF-8"))
            continue
        except OSError as error:
            problems.append(TaskProblem(name, 1, f"can't be read: {error.strerror}"))
            continue
        task, found = read_task(name, source.text)
        problems += found
        if task is not None:
            tasks.append(task)
            sources[task.name] = source
    if not problems:
        _check_classes(tasks, sources)
        problems += [problem for source in sources.values() for problem in source.problems]
    return tuple(sorted(tasks, key=lambda task: task.name)), tuple(problems)


def _toml_files(folder: Traversable) -> list[Traversable]:
    return [
        file
        for file in folder.iterdir()
        if file.name.endswith(".toml") and not file.name.startswith(".")
    ]


def _user_files(folder: Path) -> list[Traversable]:
    try:
        found = _toml_files(folder)
    except OSError as error:
        raise InputError(
            f"the folder of tasks folder={str(folder)!r} can't be read ({error.strerror}); "
            "give a folder with .toml files"
        ) from error
    if not found and not (folder / CALIBRATIONS).exists():
        raise InputError(
            f"the folder of tasks folder={str(folder)!r} has no .toml file; "
            "write one as in docflash's own, which `docflash tasks` lists"
        )
    return found


def _check_classes(tasks: list[Task], sources: dict[str, TaskText]) -> None:
    """Reports a second task that finds the class, and classes that no task finds."""
    finders = [task for task in tasks if task.kind == "class"]
    for extra in finders[1:]:
        sources[extra.name].report(
            ("classes",),
            f"{finders[0].source} finds the class of a document already; replace it by a file of "
            "the same name, or remove one",
        )
    known = finders[0].classes if finders else ()
    for task in tasks:
        for name in task.classes:
            if name not in known:
                sources[task.name].report(
                    ("applies_to", "classes"),
                    f"no document gets the class {name!r}{did_you_mean(name, known)}",
                )
