"""The other commands as users type them: `tasks`, `doctor`, `engine`, and mistakes in typing."""

from pathlib import Path

import psutil
import pytest

from tests.home import Home, bare_environment, end_engine
from tests.tiny import write_llama

pytestmark = pytest.mark.flow

COMMANDS = (
    "run",
    "retry",
    "watch",
    "deploy",
    "nights",
    "service status",
    "status",
    "sql",
    "tasks",
    "doctor",
    "engine start",
    "engine stop",
    "engine status",
)


@pytest.fixture
def alone(tmp_path: Path) -> Home:
    """A home without Prefect and engine."""
    home = Home(tmp_path, tmp_path / "model", bare_environment(tmp_path))
    home.documents.mkdir()
    return home


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_by_an_example(alone: Home, command: str) -> None:
    done = alone.docflash(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example: docflash {command}" in done.out
    assert "--json" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "No such command 'runn'"),
        (["run"], "Missing argument 'folder'"),
        (["run", "documents", "--taks", "summary"], "No such option: --taks"),
        (["sql", "FROM runs", "--format", "yaml"], "'yaml' is not one of"),
    ],
)
def test_mistakes_in_typing(alone: Home, arguments: list[str], message: str) -> None:
    plain = alone.docflash(*arguments)
    assert (plain.code, plain.out) == (2, "")
    assert message in plain.err
    done = alone.docflash(*arguments, "--json")
    assert (done.code, done.error["kind"]) == (2, "UsageError")
    assert message in done.error["message"]


def test_tasks(alone: Home) -> None:
    alone.write_task("signed")
    listed = {task["name"]: task for task in alone.docflash("tasks", "--json").json}
    assert listed["invoice"]["classes"] == ["invoice"]
    assert {"name": "total", "type": "decimal"} in listed["invoice"]["fields"]
    assert "signed" not in listed
    mine = alone.docflash("tasks", "--prompts", alone.prompts)
    assert mine.code == 0
    assert "Is it signed?" in mine.out

    alone.write_task("broken", 'title = "Mine"\ninstructionz = "Do it."\n')
    broken = alone.docflash("tasks", "--prompts", alone.prompts)
    assert (broken.code, broken.out) == (2, "")
    assert f"{alone.prompts / 'broken.toml'}:2: " in broken.err
    assert "did you mean 'instructions'?" in broken.err


def test_doctor(alone: Home) -> None:
    done = alone.docflash("doctor", "--json")
    checks = {check["name"]: check for check in done.json["checks"]}
    assert (done.code, done.json["ok"]) == (0, True)
    assert not [check for check in checks.values() if check["state"] == "wrong"]
    assert str(alone.folder / "out") in checks["tables"]["found"]
    assert "not running" in checks["engine"]["found"]

    odd = {
        "PREFECT_API_URL": "http://prefect.example:4200/api",
        "DOCFLASH_RUNTIME": str(alone.folder / ("x" * 120)),
    }
    done = alone.with_environment(**odd).docflash("doctor")
    assert done.code == 2
    assert "is not on this machine" in " ".join(done.out.split())
    assert "set DOCFLASH_RUNTIME" in " ".join(done.out.split())


def test_engine(alone: Home) -> None:
    write_llama(alone.model)
    assert alone.docflash("engine", "status", "--json").json is None
    assert alone.docflash("engine", "status").err.startswith("no engine is running")
    try:
        started = alone.docflash("engine", "start", "--model", alone.model, "--json")
        assert (started.code, started.json["state"]) == (0, "ready")
        pid = started.json["pid"]
        engine = psutil.Process(pid)
        again = alone.docflash("engine", "start", "--model", alone.model)
        assert again.err.splitlines()[-1].startswith(f"the engine is ready: pid {pid}, model ")
        status = alone.docflash("engine", "status", "--json").json
        assert (status["pid"], status["model"]) == (pid, str(alone.model))
        assert str(alone.model) in "".join(alone.docflash("engine", "status").out.split())
        assert f"pid {pid}" in alone.docflash("doctor").out
        assert alone.docflash("engine", "stop", "--json").json == {"was_running": True}
        _, alive = psutil.wait_procs([engine], timeout=60)
        assert not alive
    finally:
        end_engine(alone)
    assert alone.docflash("engine", "stop").err == "no engine was running\n"
    wrong = alone.docflash("engine", "start", "--model", "nowhere", "--json")
    assert (wrong.code, wrong.error["kind"]) == (2, "InputError")


def test_an_interrupted_command_and_a_fault_leave_no_traceback(alone: Home) -> None:
    alone.write(a="A letter.")
    patch = "import pipeline.prompts as p\ndef fail(*_): raise {error}\np.load_tasks = fail"
    stopped = alone.docflash("tasks", before=patch.format(error="KeyboardInterrupt"))
    assert (stopped.code, stopped.err) == (130, "docflash: stopped by you\n")
    fault = alone.docflash("tasks", before=patch.format(error="KeyError('secret')"))
    assert fault.code == 70
    assert "please report it" in fault.err
    assert "secret" not in fault.err
    full = alone.docflash("tasks", before=patch.format(error="OSError(28, 'No space left')"))
    assert (full.code, "No space left" in full.err) == (2, True)
