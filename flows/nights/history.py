"""The nights that were and that will be, as Prefect knows them.

In: Prefect's API. Out: the last runs of docflash's flow and the next of each deployment.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.nights.api import prefect_api
from flows.nights.deployments import FLOW, Deployed, list_deployed

_NEXT_PER_DEPLOYMENT = 3
_MOST = 200
_ENDED = (
    StateType.RUNNING,
    StateType.PENDING,
    StateType.CANCELLING,
    StateType.COMPLETED,
    StateType.FAILED,
    StateType.CRASHED,
    StateType.CANCELLED,
)


@dataclass(frozen=True, slots=True)
class NightRun:
    """A run of the flow, past or to come.

    Attributes:
        deployment: "process-folder/NAME"; empty for `docflash run`.
        at: When it began, or is due.
        state: As Prefect's pages show it.
        seconds: How long it took; 0 if it has not ended.
        message: How it ended, in a line.
    """

    deployment: str
    folder: str
    at: datetime
    state: str
    seconds: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Nights:
    """What was and what will be."""

    deployed: tuple[Deployed, ...]
    last: tuple[NightRun, ...]
    next: tuple[NightRun, ...]


def read_nights(how_many: int) -> Nights:
    """Asks Prefect for the last runs and the next ones.

    Args:
        how_many: Of the last ones.
    """
    deployed = list_deployed()
    names = {str(one.id): one.name for one in deployed}
    now = datetime.now(UTC)
    with prefect_api() as client:
        ours = FlowFilter(name=FlowFilterName(any_=[FLOW]))
        last = client.read_flow_runs(
            flow_filter=ours,
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_ENDED)))
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=how_many,
        )
        coming = client.read_flow_runs(
            flow_filter=ours,
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=now),  # type: ignore[arg-type]
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=_MOST,
        )
    return Nights(
        tuple(deployed),
        tuple(_read(run, names) for run in last),
        tuple(_first_of_each([_read(run, names) for run in coming])),
    )


def _first_of_each(runs: list[NightRun]) -> list[NightRun]:
    seen: dict[str, int] = {}
    kept: list[NightRun] = []
    for run in runs:
        seen[run.deployment] = seen.get(run.deployment, 0) + 1
        if seen[run.deployment] <= _NEXT_PER_DEPLOYMENT:
            kept.append(run)
    return kept


def _read(run: FlowRun, names: dict[str, str]) -> NightRun:
    at = run.start_time or run.expected_start_time or run.created or datetime.now(UTC)
    return NightRun(
        names.get(str(run.deployment_id), ""),
        str(run.parameters.get("folder", "")),
        datetime.fromtimestamp(at.timestamp(), UTC),
        run.state_name or "",
        round(run.total_run_time.total_seconds()) if run.end_time else 0,
        (run.state.message or "") if run.state else "",
    )
