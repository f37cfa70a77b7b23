"""Has the documents of a gold file read and answered, by the same run as any folder's.

In: a gold file, a library, a model. Out: the library's published tables hold the answers. Each
document is asked just what it has labels for; what the library knows already is not asked again.
"""

from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from pipeline.documents import Selection
from pipeline.evaluation.gold import Gold
from pipeline.folder_run import FolderRun, RunState
from pipeline.ingest import Search
from pipeline.planning import Work
from pipeline.progress import Progress
from pipeline.run_order import RunOrder
from pipeline.settings import EMBEDDED_MODEL

_WORKERS = 16  # as many as the engine decodes at once
_WILD = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})


@dataclass(frozen=True, slots=True)
class Trial:
    """What answers a gold file.

    Attributes:
        out: The library.
        model: "embedded" or the folder of an mlx-lm model.
        prompts: A folder of the user's own tasks.
    """

    out: Path
    model: str = EMBEDDED_MODEL
    prompts: Path | None = None


def answer_gold(gold: Gold, trial: Trial, progress: Progress) -> None:
    """Answers what the gold file has labels for, and publishes. Blocks.

    Args:
        gold: The documents and their tasks.
        trial: The library and the model.
        progress: Is told how far it is; may be asked to stop, then what is finished is published.

    Raises:
        InputError: The library, a task or the model is wrong.
        EngineError: The engine stopped; run again with the same library to go on.
    """
    run = FolderRun(make_order(gold, trial), progress)
    state: RunState = "stopped"
    try:
        run.ingest()
        works = run.plan()
        progress.enter("answering")
        _answer(run, works)
        state = "stopped" if progress.is_stopping() else "done"
    finally:
        run.stop_answering()
        progress.enter("publishing")
        try:
            run.publish(state)
        finally:
            run.close()
    progress.enter("done")


def make_order(gold: Gold, trial: Trial) -> RunOrder:
    """The order for a run that asks each document what it has labels for, and no other file."""
    only = {
        document.name: frozenset(answer.task for answer in document.answers)
        for document in gold.documents
    }
    names = tuple(f"/{name.translate(_WILD)}" for name in sorted(only))
    selection = Selection(include=names, hidden=True, symlinks=True)
    tasks = tuple(sorted(set().union(*only.values())))
    search = Search(gold.folder, trial.out, selection)
    return RunOrder(search, trial.model, tasks, trial.prompts, only=only)


def _answer(run: FolderRun, works: list[Work]) -> None:
    with ThreadPoolExecutor(_WORKERS) as pool:
        waiting: list[Future[bool]] = [
            pool.submit(run.answer, job, work.name) for work in works for job in work.jobs
        ]
        try:
            for done in as_completed(waiting):
                if run.progress.is_stopping():
                    break
                done.result()
        except BaseException:
            run.progress.stop("it was ended")  # what still runs must not begin anew
            raise
        finally:
            if run.progress.is_stopping():
                run.stop_answering()
            for future in waiting:
                future.cancel()
