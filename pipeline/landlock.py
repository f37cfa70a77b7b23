"""Which files a page reader may read on Linux: Python's own, by Landlock (landlock(7)).

In: folders. Out: a process that can open files below them to read, and no other file for anything.
What is open stays open. Needs no rights, Linux 5.13 and a kernel built with it; can't be undone.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_EVERYTHING = (1 << 13) - 1  # all that the first version of Landlock knows
_ALSO_IN_VERSION = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # moving files, truncating, devices


def restrict_files(folders: Iterable[str]) -> str:
    """Takes from this process, for good, all files but those below some folders, to read.

    Args:
        folders: Folders or files; those that are not there are passed over.

    Returns:
        Empty, or why the kernel does not let it; nothing was changed then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return "the kernel has no Landlock"
    handled = _EVERYTHING
    for since, right in _ALSO_IN_VERSION.items():
        handled |= right if version >= since else 0
    attributes = struct.pack("=Q", handled)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return f"the kernel refuses a Landlock ruleset (errno={ctypes.get_errno()})"
    try:
        for folder in folders:
            _allow_reading(libc, ruleset, folder)
        zero = ctypes.c_ulong(0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
        if libc.syscall(_RESTRICT_SELF, ruleset, 0):
            return f"the kernel refuses Landlock (errno={ctypes.get_errno()})"
    finally:
        os.close(ruleset)
    return ""


def _allow_reading(libc: ctypes.CDLL, ruleset: int, folder: str) -> None:
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_DIR if os.path.isdir(folder) else 0)  # noqa: PTH112
        rule = struct.pack("=Qi", rights, descriptor)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
