"""The system calls that a page reader may make on Linux, as a seccomp filter (seccomp(2)).

In: nothing. Out: a process that can read what is open, open files to read, use memory and end;
whatever else it asks of the kernel (a socket, a new process, a file to write, a signal) is refused
with EPERM. Needs no rights and can't be undone.
"""

import ctypes
import platform
import struct
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM

# Instructions of classic BPF (linux/bpf_common.h).
_LOAD = 0x20  # LD | W | ABS
_JUMP_EQUAL = 0x15  # JMP | JEQ | K
_JUMP_BITS = 0x45  # JMP | JSET | K
_RETURN = 0x06  # RET | K

# Offsets in struct seccomp_data.
_AT_NUMBER = 0
_AT_ARCH = 4
_AT_ARGUMENTS = 16

# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC and O_APPEND; O_TMPFILE needs one of the first two.
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000


class _Call(NamedTuple):
    """The numbers of a system call; -1 where an architecture has none."""

    x86_64: int
    aarch64: int


_OPEN = _Call(2, -1)
_OPENAT = _Call(257, 56)
_ALLOWED = {
    "read": _Call(0, 63),
    "write": _Call(1, 64),  # to what is open: the answer, and nothing else
    "readv": _Call(19, 65),
    "writev": _Call(20, 66),
    "pread64": _Call(17, 67),
    "close": _Call(3, 57),
    "lseek": _Call(8, 62),
    "stat": _Call(4, -1),
    "fstat": _Call(5, 80),
    "lstat": _Call(6, -1),
    "newfstatat": _Call(262, 79),
    "statx": _Call(332, 291),
    "access": _Call(21, -1),
    "faccessat": _Call(269, 48),
    "readlink": _Call(89, -1),
    "readlinkat": _Call(267, 78),
    "getdents64": _Call(217, 61),
    "getcwd": _Call(79, 17),
    "mmap": _Call(9, 222),
    "mprotect": _Call(10, 226),
    "munmap": _Call(11, 215),
    "mremap": _Call(25, 216),
    "madvise": _Call(28, 233),
    "brk": _Call(12, 214),
    "rt_sigaction": _Call(13, 134),
    "rt_sigprocmask": _Call(14, 135),
    "rt_sigreturn": _Call(15, 139),
    "sigaltstack": _Call(131, 132),
    "restart_syscall": _Call(219, 128),
    "futex": _Call(202, 98),
    "membarrier": _Call(324, 283),
    "rseq": _Call(334, 293),
    "sched_yield": _Call(24, 124),
    "sched_getaffinity": _Call(204, 123),
    "clock_gettime": _Call(228, 113),
    "clock_nanosleep": _Call(230, 115),
    "gettimeofday": _Call(96, 169),
    "getrandom": _Call(318, 278),
    "getpid": _Call(39, 172),
    "gettid": _Call(186, 178),
    "getuid": _Call(102, 174),
    "geteuid": _Call(107, 175),
    "getgid": _Call(104, 176),
    "getegid": _Call(108, 177),
    "getrusage": _Call(98, 165),
    "uname": _Call(63, 160),
    "sysinfo": _Call(99, 179),
    "exit": _Call(60, 93),
    "exit_group": _Call(231, 94),
}


@dataclass(frozen=True, slots=True)
class _Machine:
    """A machine's place in `_Call`, and how the kernel names it (linux/audit.h)."""

    place: int
    audit_arch: int


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E),
    "aarch64": _Machine(1, 0xC00000B7),
}


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_system_calls() -> str:
    """Takes from this process, for good, what a reader does not need.

    Returns:
        Empty, or why the kernel or the machine does not let it; nothing was changed then.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return f"no system call filter for the machine={platform.machine()!r}"
    code = build_filter(machine.place, machine.audit_arch)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        return f"the kernel refuses PR_SET_NO_NEW_PRIVS (errno={ctypes.get_errno()})"
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), zero, zero):
        return f"the kernel refuses a seccomp filter (errno={ctypes.get_errno()})"
    return ""


@cache
def build_filter(place: int, audit_arch: int) -> bytes:
    """The filter's instructions, 8 bytes each, for one machine.

    Args:
        place: Of the machine in `_Call`.
        audit_arch: The kernel's number of it; calls by another (32-bit, say) end the process.
    """
    code = [
        _instruction(_LOAD, _AT_ARCH),
        _instruction(_JUMP_EQUAL, audit_arch, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _AT_NUMBER),
    ]
    for call, flags_at in ((_OPEN, 1), (_OPENAT, 2)):
        if call[place] >= 0:
            code += _open_to_read(call[place], flags_at)
    for call in _ALLOWED.values():
        if call[place] >= 0:
            code += [
                _instruction(_JUMP_EQUAL, call[place], if_false=1),
                _instruction(_RETURN, _ALLOW),
            ]
    return b"".join([*code, _instruction(_RETURN, _REFUSE)])


def _open_to_read(number: int, flags_at: int) -> list[bytes]:
    """Lets a call that opens a file through if its flags, that argument, only read."""
    return [
        _instruction(_JUMP_EQUAL, number, if_false=4),
        _instruction(_LOAD, _AT_ARGUMENTS + 8 * flags_at),  # both machines: the low half is first
        _instruction(_JUMP_BITS, _WRITING, if_false=1),
        _instruction(_RETURN, _REFUSE),
        _instruction(_RETURN, _ALLOW),
    ]


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """`struct sock_filter`: a jump skips that many instructions."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
