"""The server that page readers are forked from: it has the parsers loaded, and no threads.

In: an `Order` over a socket, with three open files: the document, where its contents go, and where
to tell how reading ended. Out: a child process per order. A child that takes too long is ended by
its own alarm, one that takes too much memory by its own limit, and all of them when the client is
gone. Started by `pipeline.reader`.
"""

import gc
import hashlib
import json
import logging
import os
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import BinaryIO

from pipeline.confine import confine, limit_resources
from pipeline.contents import (
    MEDIA_TYPES,
    FileBytes,
    encode_document,
    fail_too_large,
    read_document,
)
from pipeline.ocr import load_ocr, read_pictures
from pipeline.orders import (
    ENDED_BROKEN,
    ENDED_FULL,
    ENDED_KILLED,
    ENDED_LATE,
    ENDED_WELL,
    Order,
)
from pipeline.pages import read_contents
from pipeline.pdf_boxes import find_boxes, load_pdfium
from pipeline.quote_places import Query, encode_boxes
from pipeline.warm_up import warm_up

_EXIT_FULL = 71
_CHECK_MEMORY_S = 0.2
_READ_BYTES = 1 << 20
_ORDER_BYTES = 1 << 16


@dataclass(slots=True)
class Child:
    """A running child: where to tell its end, and its memory limit."""

    status_fd: int
    memory_bytes: int
    is_full: bool = False


def serve(control_fd: int) -> None:
    """Forks a child per request until the client hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client decides when to stop
    logging.disable(logging.CRITICAL - 1)
    warnings.simplefilter("ignore")
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    warm_up()
    gc.collect()
    gc.freeze()  # what is loaded stays: children don't look through it
    children: dict[int, Child] = {}
    with socket.socket(fileno=control_fd) as control:
        try:
            while _serve_once(control, wake_read, children):
                pass
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)


def _serve_once(control: socket.socket, wake_fd: int, children: dict[int, Child]) -> bool:
    """Waits for one thing to happen; False when the client is gone."""
    # Linux enforces a child's memory limit; macOS does not, so there it is watched.
    wait_s = _CHECK_MEMORY_S if children and sys.platform == "darwin" else None
    ready, _, _ = select.select([control, wake_fd], [], [], wait_s)
    if wake_fd in ready:
        os.read(wake_fd, 4096)
        _reap(children)
    if wait_s is not None:
        end_swollen(children)
    if control not in ready:
        return True
    received = _receive_order(control)
    if received is None:
        return False
    order, (file_fd, data_fd, status_fd) = received
    try:
        pid = os.fork()
    except OSError:
        _tell(status_fd, ENDED_KILLED)
    else:
        if pid == 0:
            others = [child.status_fd for child in children.values()]
            _close_all([control.fileno(), wake_fd, status_fd, *others])
            _live(order, file_fd, data_fd)
        children[pid] = Child(status_fd, order.memory_bytes)
    _close_all([file_fd, data_fd])
    control.sendall(b"\n")
    return True


def _receive_order(control: socket.socket) -> tuple[Order, list[int]] | None:
    """An order with its open files, and what it needs loaded; None when the client is gone."""
    message, fds, _, _ = socket.recv_fds(control, _ORDER_BYTES, 3)
    more = message
    while more and not more.endswith(b"\n"):
        more = control.recv(_ORDER_BYTES)
        message += more
    if not more:
        return None
    order = Order(**json.loads(message))
    if order.pictures:
        _load_once(load_ocr)
    if order.quotes:
        _load_once(load_pdfium)
    return order, fds


@cache
def _load_once(load: Callable[[], object]) -> None:
    """Once, for all children to come; if it can't be loaded, they will say so."""
    with suppress(Exception):
        load()
    gc.freeze()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _reap(children: dict[int, Child]) -> None:
    for pid in tuple(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            child = children.pop(pid)
            _tell(child.status_fd, ENDED_FULL if child.is_full else _name_end(status))


def _name_end(status: int) -> bytes:
    if os.WIFSIGNALED(status):
        ends = {signal.SIGALRM: ENDED_LATE, signal.SIGKILL: ENDED_KILLED}
        return ends.get(signal.Signals(os.WTERMSIG(status)), ENDED_BROKEN)
    ends = {0: ENDED_WELL, _EXIT_FULL: ENDED_FULL}
    return ends.get(os.waitstatus_to_exitcode(status), ENDED_BROKEN)


def _tell(status_fd: int, end: bytes) -> None:
    try:
        os.write(status_fd, end)
    except OSError:
        pass  # the client no longer listens
    finally:
        os.close(status_fd)


def end_swollen(children: dict[int, Child]) -> None:
    """Kills the children that hold more memory than they may."""
    import psutil

    for pid, child in children.items():
        try:
            held = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue  # it has just ended
        if held > child.memory_bytes:
            child.is_full = True
            os.kill(pid, signal.SIGKILL)


def _live(order: Order, file_fd: int, data_fd: int) -> None:
    """The whole life of a child; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever it is doing
        signal.setitimer(signal.ITIMER_REAL, order.timeout_s)
        limit_resources(order.timeout_s, order.memory_bytes)
        confine()  # what a system does not let us lock, `docflash doctor` tells
        with open(data_fd, "wb") as answer:
            answer.write(_read_file(order, file_fd, answer) + b"\n")
        code = 0
    except MemoryError:
        code = _EXIT_FULL
    finally:
        os._exit(code)


def _read_file(order: Order, file_fd: int, answer: BinaryIO) -> bytes:
    """Reads the bytes once, tells their hash, and parses just those."""
    os.lseek(file_fd, 0, os.SEEK_SET)
    media_type = MEDIA_TYPES.get(order.suffix, "text/plain")
    digest = hashlib.sha256()
    pieces: list[bytes] = []
    size = 0
    while piece := os.read(file_fd, _READ_BYTES):
        digest.update(piece)
        size += len(piece)
        if size <= order.max_bytes:
            pieces.append(piece)
    file = FileBytes(digest.hexdigest(), size, media_type)
    answer.write(json.dumps(asdict(file)).encode() + b"\n")
    answer.flush()
    if size > order.max_bytes:
        return encode_document(fail_too_large(file, order.max_bytes))
    data = b"".join(pieces)
    pieces.clear()
    if order.pictures:
        return json.dumps(read_pictures(data, order.pictures)).encode()
    if order.quotes:
        return encode_boxes(find_boxes(data, [Query(*quote) for quote in order.quotes]))
    document = read_document(file, data, lambda whole: read_contents(whole, order.suffix))
    return encode_document(document)
