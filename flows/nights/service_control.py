"""Tells systemd or launchd about docflash's services: installs, starts, ends, asks.

In: the files of `flows.nights.service_files`. Out: what the system says. Where there is no systemd
of the user's (a container, say), every answer is "not there": the caller starts plain processes.
"""

import os
import shutil
import subprocess
import sys

from flows.nights.locks import Role
from flows.nights.service_files import ServiceFile, service_files

_TIMEOUT_S = 60


def is_there() -> bool:
    """Whether this user has a systemd, or launchd, that answers."""
    if sys.platform == "darwin":
        return shutil.which("launchctl") is not None
    return shutil.which("systemctl") is not None and _call(
        "systemctl", "--user", "show-environment"
    )


def is_installed(role: Role) -> bool:
    """Whether the file of a role is where it belongs."""
    return _file(role).path.is_file()


def is_active(role: Role) -> bool:
    """Whether the system runs a role's service now."""
    name = _file(role).name
    if sys.platform == "darwin":
        return _call("launchctl", "print", f"{_domain()}/{name}")
    return is_there() and _call("systemctl", "--user", "is-active", "--quiet", name)


def enable(files: tuple[ServiceFile, ...]) -> bool:
    """Has the system start services now, and whenever the user logs in; False if it can't."""
    if not is_there():
        return False
    if sys.platform == "darwin":
        for file in files:
            _call("launchctl", "bootout", f"{_domain()}/{file.name}")
        return all(_call("launchctl", "bootstrap", _domain(), str(file.path)) for file in files)
    names = [file.name for file in files]
    return (
        _call("systemctl", "--user", "daemon-reload")
        and _call("systemctl", "--user", "enable", *names)
        and _call("systemctl", "--user", "restart", *names)
    )


def disable(files: tuple[ServiceFile, ...]) -> None:
    """Ends services and has the system forget them; the files are the caller's to remove."""
    if not is_there():
        return
    if sys.platform == "darwin":
        for file in files:
            _call("launchctl", "bootout", f"{_domain()}/{file.name}")
    else:
        _call("systemctl", "--user", "disable", "--now", *(file.name for file in files))


def start(role: Role) -> bool:
    """Starts a role's service if it is installed; False if it is not, or there is no system."""
    if not is_installed(role) or not is_there():
        return False
    name = _file(role).name
    if sys.platform == "darwin":
        return _call("launchctl", "kickstart", f"{_domain()}/{name}")
    return _call("systemctl", "--user", "start", name)


def end(role: Role) -> bool:
    """Ends a role's service until the next login; False if it is none."""
    if not is_installed(role) or not is_active(role):
        return False
    name = _file(role).name
    if sys.platform == "darwin":
        return _call("launchctl", "bootout", f"{_domain()}/{name}")
    return _call("systemctl", "--user", "stop", name)


def lingers() -> bool:
    """Whether this user's services run while nobody is logged in ."""
    if sys.platform == "darwin" or shutil.which("loginctl") is None:
        return True
    asked = ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    return done.returncode != 0 or done.stdout.strip() == "yes"


def _file(role: Role) -> ServiceFile:
    return next(file for file in service_files() if file.role == role)


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _call(*arguments: str) -> bool:
    try:
        done = subprocess.run(
            arguments,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
