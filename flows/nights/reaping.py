"""Runs that Prefect believes to be running, and whose process is gone: told so, and gone on with.

In: Prefect's API. Out: those runs are Crashed there, and what was cut off in the night is scheduled
again, once. Without this, a killed run would hold its deployment's place, and the pool's, for ever.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.nights.api import prefect_api
from flows.stopping import BY_SYSTEM
from pipeline.errors import DocflashError
from pipeline.settings import out_folder
from pipeline.store.ownership import take_lock

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FLOW = "process-folder"
AGAIN = "docflash-again"
"""Tag of a run that goes on with one that was killed; it is not itself gone on with."""

SETTLED = timedelta(minutes=5)

_ID_VARIABLE = "PREFECT__FLOW_RUN_ID"
_RECENT = timedelta(hours=12)
_LAST = 20
_ALIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def clear_up(own_run_id: str = "", settled: timedelta = SETTLED) -> list[str]:
    """Marks runs as crashed whose process is gone; schedules those of deployments again.

    Args:
        own_run_id: The run that asks, if it is one: it is alive.
        settled: Runs whose state changed more shortly ago are left alone: a process may be on its
            way. A worker that begins knows that there is none.

    Returns:
        The names of the runs.
    """
    with prefect_api() as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_ALIVE)))
            ),
        )
        others = [run for run in runs if str(run.id) != own_run_id]
        living = _living_runs() if others else frozenset[str]()
        gone = [run for run in others if str(run.id) not in living and _is_gone(run, settled)]
        for run in gone:
            message = "its process was killed; what it had finished is kept"
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            # Once: what killed it may be itself.
            if run.state_type != StateType.CANCELLING and AGAIN not in run.tags:
                _go_on(client, run)
    return [run.name for run in gone]


def go_on_with_stopped() -> None:
    """Schedules again what the end of the worker cut off: the machine was restarted, say."""
    with prefect_api() as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED]))
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_LAST,
        )
        for run in runs:
            message = (run.state.message or "") if run.state else ""
            # A run that somebody cancelled in Prefect was Cancelling first.
            if message.startswith(f"stopped ({BY_SYSTEM})") and not any(
                state.type == StateType.CANCELLING for state in client.read_flow_run_states(run.id)
            ):
                _go_on(client, run)


def _go_on(client: "SyncPrefectClient", run: FlowRun) -> None:
    """Schedules a run again, at once, if it is of this night; a second time does nothing."""
    begun = run.start_time or run.expected_start_time
    if not run.deployment_id or begun is None or datetime.now(UTC) - begun > _RECENT:
        return
    with suppress(ObjectNotFound):  # the deployment was removed since
        client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            tags=[*(tag for tag in run.tags if tag != AGAIN), AGAIN],
            idempotency_key=f"{AGAIN}-{run.id}",
        )


def _living_runs() -> frozenset[str]:
    """The ids of the runs whose process, started by a worker, is there."""
    found: set[str] = set()
    for process in psutil.process_iter():
        try:
            # Not the engine that a run has started: it outlives the run.
            if process.uids().real == os.getuid() and "prefect.engine" in process.cmdline():
                found.add(process.environ().get(_ID_VARIABLE, ""))
        except (psutil.Error, OSError):
            continue
    return frozenset(found - {""})


def _is_gone(run: FlowRun, settled: timedelta) -> bool:
    """Whether a run has no process; `docflash run` is known by its library's lock only."""
    age = SETTLED if run.state is None else datetime.now(UTC) - run.state.timestamp
    if run.deployment_id:
        return age >= settled
    if age < SETTLED:
        return False
    out = run.parameters.get("out")
    library = out_folder(Path(str(out)) if out else None)
    if not library.is_dir():
        return True
    try:
        os.close(take_lock(library))
    except DocflashError:  # somebody has it, or it can't be told
        return False
    return True


if __name__ == "__main__":  # before the worker begins, when no run has a process
    clear_up(settled=timedelta())
    go_on_with_stopped()
