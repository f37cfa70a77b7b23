"""docflash's deployments in Prefect: made, changed, listed and removed through its API.

In: a `Night`: a folder, its parameters, and when. Out: the pool, the deployment and its schedule.
Prefect keeps the parameters in plain text; they are names of folders and tasks, never of documents.
"""

import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from flows.nights.api import prefect_api
from flows.nights.home import POOL
from flows.parameters import Parameters
from flows.prefect_env import QUIET
from flows.process_folder import process_folder

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from pipeline.hours import Hours

TAG = "docflash"
FLOW = "process-folder"
ENTRYPOINT = "flows.process_folder.process_folder"

# To the first run; if making the deployment takes longer, it is a whole interval late.
_SOON = timedelta(seconds=15)
_NO_NAME = re.compile(r"[^\w.+-]+")
_DESCRIPTION = (
    "Reads new and changed documents, asks the model about them, publishes the tables. "
    "Made by `docflash deploy`."
)


@dataclass(frozen=True, slots=True)
class Night:
    """A deployment as it is asked for.

    Attributes:
        parameters: Of the flow; `folder` and `out` absolute.
        hours: When it begins, every day; None for `every`.
        every: Or how often.
        name: Of the deployment; empty for one after the folder.
        environment: Variables for its runs.
    """

    parameters: Parameters
    hours: "Hours | None"
    every: timedelta | None = None
    name: str = ""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as it is in Prefect.

    Attributes:
        name: As `prefect deployment run` takes it: "process-folder/NAME".
        schedule: In words.
        is_new: Whether it was made just now.
    """

    id: UUID
    name: str
    folder: str
    out: str
    schedule: str
    is_new: bool = False


def deploy(night: Night) -> Deployed:
    """Makes the pool and the deployment, or changes what is there.

    Runs are one at a time: by the pool's limit over all folders, and by the deployment's for each.
    A run whose turn comes while another of its folder is at work is cancelled (CANCEL_NEW): the one
    at work, or the next, does what it would have done, and nights slept through don't pile up.
    """
    with prefect_api() as client:
        _make_pool(client)
        known = _read(client)
        folder = night.parameters.folder
        before = next((one for one in known if _is_it(one, folder, night.name)), None)
        name = before.name if before else night.name or _free_name(folder, known)
        made = client.create_deployment(
            flow_id=client.create_flow_from_name(FLOW),
            name=name,
            entrypoint=ENTRYPOINT,
            work_pool_name=POOL,
            schedules=[DeploymentScheduleCreate(schedule=_schedule(night), active=True)],
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(
                collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
            parameters=_given(night.parameters),
            description=_DESCRIPTION,
            tags=[TAG],
            parameter_openapi_schema=parameter_schema(process_folder).model_dump_for_openapi(),
            enforce_parameter_schema=True,
            job_variables={"env": {**QUIET, **dict(night.environment)}},
            paused=False,
        )
        deployed = _describe(client.read_deployment(made))
    return replace(deployed, is_new=before is None)


def list_deployed() -> list[Deployed]:
    """All deployments of docflash's flow, those of `prefect deploy` too."""
    with prefect_api() as client:
        return [_describe(one) for one in _read(client)]


def remove(folder: str, name: str = "") -> list[Deployed]:
    """Removes the deployments of a folder, or the one of this name; gives what was removed."""
    with prefect_api() as client:
        gone = [one for one in _read(client) if _is_it(one, folder, name)]
        for one in gone:
            client.delete_deployment(one.id)
    return [_describe(one) for one in gone]


def find_overlaps(folder: str, others: list[Deployed]) -> list[Deployed]:
    """The deployments of folders that lie in a folder, or that it lies in."""
    mine = Path(folder).resolve()
    found: list[Deployed] = []
    for other in others:
        if other.folder == folder or not other.folder:
            continue
        theirs = Path(other.folder).expanduser().absolute().resolve()
        if mine.is_relative_to(theirs) or theirs.is_relative_to(mine):
            found.append(other)
    return found


def _read(client: "SyncPrefectClient") -> "list[DeploymentResponse]":
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    return client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])))


def _make_pool(client: "SyncPrefectClient") -> None:
    template = ProcessWorker.get_default_base_job_template()
    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=POOL,
                type="process",
                description="docflash's runs, one at a time: they share one engine",
                base_job_template=template,
                concurrency_limit=1,
            )
        )
    else:
        if pool.concurrency_limit is None:  # made in the plain way
            client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=1))


def _is_it(one: "DeploymentResponse", folder: str, name: str) -> bool:
    """By its name if one is asked for, else by its folder."""
    return one.name == name if name else one.parameters.get("folder") == folder


def _free_name(folder: str, known: "list[DeploymentResponse]") -> str:
    name = _NO_NAME.sub("-", Path(folder).name).strip("-") or "documents"
    taken = {one.name for one in known}
    number = 2
    chosen = name
    while chosen in taken:
        chosen = f"{name}-{number}"
        number += 1
    return chosen


def _given(parameters: Parameters) -> dict[str, Any]:
    """The parameters that are not the flow's own defaults."""
    own = asdict(Parameters(folder=""))
    return {name: value for name, value in asdict(parameters).items() if value != own[name]}


def _schedule(night: Night) -> CronSchedule | IntervalSchedule:
    if night.hours is not None:
        return CronSchedule(cron=night.hours.cron, timezone=night.hours.zone)
    if night.every is None:
        raise ValueError("a night needs hours or an interval")
    return IntervalSchedule(interval=night.every, anchor_date=datetime.now(UTC) + _SOON)


def _describe(one: "DeploymentResponse") -> Deployed:
    return Deployed(
        one.id,
        f"{FLOW}/{one.name}",
        str(one.parameters.get("folder", "")),
        str(one.parameters.get("out") or ""),
        "; ".join(_words(item.schedule) for item in one.schedules if item.active)
        or "only when asked",
    )


def _words(schedule: Any) -> str:
    if isinstance(schedule, CronSchedule):
        minute, hour, *rest = schedule.cron.split()
        if rest == ["*", "*", "*"] and minute.isdecimal() and hour.isdecimal():
            return f"{int(hour):02d}:{int(minute):02d} {schedule.timezone or 'UTC'}"
        return f"cron {schedule.cron!r} {schedule.timezone or 'UTC'}"
    if isinstance(schedule, IntervalSchedule):
        return f"every {schedule.interval.total_seconds() / 60:g} min"
    return "by a rule"
