"""The files that keep docflash's server and worker alive: systemd user units, or LaunchAgents.

In: where docflash lies, and the environment it is used with. Out: the text of each file, and where
it belongs. Nothing is written here.

A night slept through: when the machine wakes, Prefect's worker finds the run that was due and
starts it. That needs no calendar of launchd's or systemd's, only that both processes are kept alive
(`KeepAlive`, `Restart=always`).
"""

import os
import plistlib
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.nights.locks import ROLES, Role
from pipeline.settings import state_folder

LABEL = "org.docflash"

_TITLES: dict[Role, str] = {
    "server": "docflash: the Prefect server that knows when each folder is due",
    "worker": "docflash: the worker that runs what is due",
}
_KEPT = ("DOCFLASH_", "PREFECT_HOME", "PREFECT_API_URL", "XDG_", "TZ", "LANG", "LC_ALL", "PATH")
_NOT_KEPT = ("XDG_SESSION", "XDG_SEAT", "XDG_VTNR", "XDG_RUNTIME_DIR", "DOCFLASH_DEBUG")

# What needs no namespaces, which many systems deny to users' services. The worker's runs start the
# engine and confined readers, so that it may make seccomp filters and namespaces of its own.
_HARDENED = """\
NoNewPrivileges=yes
UMask=0077
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service seccomp
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""
_SERVER = """\
RestrictNamespaces=yes
MemoryMax=2G
TasksMax=256
"""
_WORKER = """\
Nice=10
IOSchedulingClass=idle
OOMPolicy=continue
KillMode=mixed
TimeoutStopSec=180
"""


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file of one role.

    Attributes:
        role: The role.
        name: As the system knows it: the unit, or the agent's label.
        path: Where it belongs.
        text: What is in it.
    """

    role: Role
    name: str
    path: Path
    text: str


def service_files(system: str = sys.platform) -> tuple[ServiceFile, ...]:
    """The files for this user on a system ("linux" or "darwin")."""
    make = _agent if system == "darwin" else _unit
    return tuple(make(role) for role in ROLES)


def command(role: Role) -> list[str]:
    """What a role's process is, with docflash as it is installed here."""
    return [sys.executable, "-P", "-m", "flows.cli", "service", "run", role]


def kept_environment() -> dict[str, str]:
    """What of this environment a service needs: docflash's folders and how it was found."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_KEPT) and not name.startswith(_NOT_KEPT) and "\n" not in value
    }


def _unit(role: Role) -> ServiceFile:
    name = f"docflash-{role}.service"
    base = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    lines = [
        f"Environment={_quoted(f'{key}={value}')}" for key, value in kept_environment().items()
    ]
    needs = "Wants=docflash-server.service\nAfter=docflash-server.service\n"
    text = (
        f"# Written by `docflash service install`; `docflash service remove` removes it.\n"
        f"[Unit]\nDescription={_TITLES[role]}\n"
        f"{needs if role == 'worker' else ''}"
        "StartLimitIntervalSec=600\nStartLimitBurst=10\n\n"
        f"[Service]\nType=exec\nExecStart={' '.join(map(_argument, command(role)))}\n"
        f"WorkingDirectory=%h\n{''.join(line + chr(10) for line in lines)}"
        "Restart=always\nRestartSec=10\n"
        f"{_SERVER if role == 'server' else _WORKER}{_HARDENED}\n"
        "[Install]\nWantedBy=default.target\n"
    )
    return ServiceFile(role, name, base / "systemd" / "user" / name, text)


def _quoted(word: str) -> str:
    """A word of a unit's line: quotes and specifiers are taken as they are."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _argument(word: str) -> str:
    """A word of `ExecStart`, where variables are taken as they are, too."""
    return _quoted(word).replace("$", "$$")


def _agent(role: Role) -> ServiceFile:
    label = f"{LABEL}.{role}"
    log = str(state_folder() / f"docflash-{role}.log")
    agent = {
        "Label": label,
        "ProgramArguments": command(role),
        "EnvironmentVariables": kept_environment(),
        "WorkingDirectory": str(Path.home()),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 10,
        # The engine must not be slowed down as background work is, even when nobody looks.
        "ProcessType": "Background" if role == "server" else "Standard",
        "ExitTimeOut": 5 if role == "server" else 180,
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    path = Path.home() / "Library" / "LaunchAgents" / f"{label}.plist"
    return ServiceFile(role, label, path, plistlib.dumps(agent).decode())
