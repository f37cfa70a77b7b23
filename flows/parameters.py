"""What a run is asked for, as plain values: a form, a schedule, Prefect's database take no others.

In: the values. Out: a `RunOrder`. The command line makes one before anything is started, so that a
mistake is told at once; the flow makes its own from the parameters it was given.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL, out_folder
from pipeline.until import next_time

if TYPE_CHECKING:
    from pipeline.progress import Progress
    from pipeline.run_order import RunOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters of the flow `process-folder`, which explains them."""

    folder: str
    tasks: list[str] | None = None
    out: str | None = None
    model: str = EMBEDDED_MODEL
    prompts: str | None = None
    include: list[str] | None = None
    exclude: list[str] | None = None
    hidden: bool = False
    symlinks: bool = False
    until: str | None = None
    timezone: str | None = None
    newest_first: bool = False
    retry: bool = False

    @classmethod
    def of_options(
        cls,
        folder: Path,
        *,
        task: list[str] | None,
        out: Path | None,
        prompts: Path | None,
        include: list[str] | None,
        exclude: list[str] | None,
        **others: Any,
    ) -> Self:
        """Those that the options of a command stand for; paths become absolute.

        Args:
            folder: The folder with the documents.
            task: Tasks to ask of every document.
            out: The folder for the tables.
            prompts: A folder of the user's own tasks.
            include: What files must be like.
            exclude: What files must not be like.
            others: More parameters, as they are.
        """
        return cls(
            folder=str(folder.expanduser().absolute()),
            tasks=task or None,
            out=None if out is None else str(out_folder(out)),
            prompts=None if prompts is None else str(prompts.expanduser().absolute()),
            include=include or None,
            exclude=exclude or None,
            **others,
        )

    def order(self) -> "RunOrder":
        """The order that they stand for; nothing of it is checked yet."""
        from pipeline.documents import Selection
        from pipeline.ingest import Search
        from pipeline.run_order import RunOrder

        selection = Selection(
            tuple(self.include or ()), tuple(self.exclude or ()), self.hidden, self.symlinks
        )
        search = Search(
            Path(self.folder).expanduser().absolute(),
            out_folder(Path(self.out) if self.out else None),
            selection,
            self.retry,
        )
        prompts = Path(self.prompts).expanduser() if self.prompts else None
        return RunOrder(search, self.model, tuple(self.tasks or ()), prompts, self.newest_first)


def check_parameters(parameters: Parameters, progress: "Progress") -> None:
    """What the flow would find wrong at its beginning: Prefect takes seconds to start.

    Raises:
        InputError: As `FolderRun`.
    """
    from pipeline.ingest import check_folder
    from pipeline.run_order import choose

    for value in (parameters.folder, parameters.out, parameters.prompts, parameters.model):
        _check_name(value)
    if parameters.until:
        next_time(parameters.until, datetime.now(UTC), parameters.timezone)
    order = parameters.order()
    check_folder(order.search)
    choose(order, lambda doing, _: progress.enter("starting", doing))
    progress.enter("starting")


def _check_name(path: str | None) -> None:
    """A folder's name goes through JSON on its way to the flow."""
    try:
        (path or "").encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the name of the folder path={path!r} is not valid UTF-8; rename it, or give a link "
            "to it with another name"
        ) from None
