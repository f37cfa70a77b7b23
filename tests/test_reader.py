"""Reading under limits: hostile documents, killed processes, files that are not what they were."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
import pytest

from pipeline import read_client, readserver
from pipeline.errors import DocflashError, DocumentError
from pipeline.orders import ENDED_FULL
from pipeline.reader import Reader
from pipeline.records import Document, FoundFile
from tests.pdfs import make_pdf, make_pdf_of, make_slow_pdf, make_swelling_pdf


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


def find(path: Path) -> FoundFile:
    return FoundFile(path.parent, path, path.name, 0, 0)


def put(folder: Path, name: str, data: bytes) -> FoundFile:
    path = folder / name
    path.write_bytes(data)
    return find(path)


def server_of(reader: Reader) -> psutil.Process:
    server = reader._server
    assert server is not None
    return psutil.Process(server._process.pid)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.pdf", make_pdf("one", "two"), "one\ftwo"),
        ("a.txt", b"caf\xc3\xa9\r\nnoir", "caf\xe9\nnoir"),
        ("long.TXT", b"word " * 20_000, ("word " * 20_000).strip()),
        ("a.md", b"# Head\n", "# Head"),
        ("a.html", b"<p>one<p>two", "one\n\ntwo"),
        ("a.eml", b"Subject: s\n\nbody", "Subject: s\n\nbody"),
        ("wrong.txt", make_pdf("one"), "one"),
    ],
)
def test_each_kind_of_file(
    reader: Reader, tmp_path: Path, name: str, data: bytes, text: str
) -> None:
    document = reader.read(put(tmp_path, name, data))
    assert (document.status, document.text) == ("read", text)
    assert document.sha256 == hashlib.sha256(data).hexdigest()
    assert document.size_bytes == len(data)
    assert document.text_sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a.html", "a.eml"])
def test_a_file_without_bytes(reader: Reader, tmp_path: Path, name: str) -> None:
    document = reader.read(put(tmp_path, name, b""))
    assert (document.status, document.failure_kind) == ("failed", "empty")
    assert document.sha256 == hashlib.sha256().hexdigest()


def test_many_threads_share_a_reader(reader: Reader, tmp_path: Path) -> None:
    files = [put(tmp_path, f"{n}.pdf", make_pdf(f"number {n}")) for n in range(24)]
    with ThreadPoolExecutor(6) as pool:
        documents = list(pool.map(reader.read, files))
    assert [document.text for document in documents] == [f"number {n}" for n in range(24)]


def test_a_document_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    data = make_slow_pdf()
    with Reader(timeout_s=1.5) as reader:
        document = reader.read(put(tmp_path, "slow.pdf", data))
        assert (document.status, document.failure_kind) == ("failed", "timeout")
        assert "timeout_s=1.5" in document.failure
        assert document.sha256 == hashlib.sha256(data).hexdigest()
        assert reader.read(put(tmp_path, "good.pdf", make_pdf("good"))).status == "read"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such limit; see the next test")
def test_a_document_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    with Reader(memory_bytes=96 << 20) as reader:
        document = reader.read(put(tmp_path, "big.pdf", make_swelling_pdf()))
        assert (document.status, document.failure_kind) == ("failed", "memory")
        assert "memory_bytes=" in document.failure
        assert reader.read(put(tmp_path, "good.pdf", make_pdf("good"))).status == "read"


def test_where_the_kernel_has_no_limit_a_swollen_child_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        child = readserver.Child(status_fd=-1, memory_bytes=1)
        readserver.end_swollen({process.pid: child})
        assert process.wait(60) == -signal.SIGKILL
    assert child.is_full


def test_a_text_over_the_limit_is_refused_and_says_so(tmp_path: Path) -> None:
    data = b"word " * 50_000
    with Reader(max_bytes=100_000) as reader:
        document = reader.read(put(tmp_path, "big.txt", data))
    assert (document.status, document.failure_kind) == ("failed", "too_large")
    assert "size_bytes=250000, limit=100000" in document.failure
    assert document.sha256 == hashlib.sha256(data).hexdigest()


def test_a_reader_that_is_killed_once_reads_again(reader: Reader, tmp_path: Path) -> None:
    file = put(tmp_path, "slow.pdf", make_slow_pdf(pages=3))
    with Killer(reader, times=1) as killer:
        document = reader.read(file)
    assert killer.killed == 1
    assert document.status == "read"


def test_a_document_whose_reader_always_dies_is_one_failed_row(
    reader: Reader, tmp_path: Path
) -> None:
    data = make_slow_pdf()
    with Killer(reader, times=100) as killer:
        document = reader.read(put(tmp_path, "slow.pdf", data))
    assert killer.killed == 3
    assert (document.status, document.failure_kind) == ("failed", "crashed")
    assert document.sha256 == hashlib.sha256(data).hexdigest()
    assert reader.read(put(tmp_path, "good.pdf", make_pdf("good"))).status == "read"


def test_a_killed_server_is_replaced(reader: Reader, tmp_path: Path) -> None:
    good = put(tmp_path, "good.pdf", make_pdf("good"))
    assert reader.read(good).status == "read"
    first = server_of(reader)
    first.kill()
    assert reader.read(good).status == "read"
    assert server_of(reader).pid != first.pid


class Killer:
    """Kills the children of a reader's server as they come, a number of times."""

    def __init__(self, reader: Reader, times: int) -> None:
        self.killed = 0
        self._reader = reader
        self._times = times
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _kill(self) -> None:
        seen: set[int] = set()
        while self.killed < self._times and not self._done.wait(0.01):
            server = self._reader._server
            children = psutil.Process(server._process.pid).children() if server else []
            for child in children:
                if child.pid not in seen:
                    seen.add(child.pid)
                    child.kill()
                    self.killed += 1


SCRIPT = """
import sys
from pathlib import Path
from pipeline.reader import Reader
from pipeline.records import FoundFile
path = Path(sys.argv[1])
reader = Reader()
reader._running_server()
print(reader._server._process.pid, flush=True)
reader.read(FoundFile(path.parent, path, path.name, 0, 0))
"""


def test_nothing_outlives_a_killed_run(tmp_path: Path) -> None:
    file = put(tmp_path, "slow.pdf", make_slow_pdf())
    command = [sys.executable, "-c", SCRIPT, str(file.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        server = psutil.Process(int(run.stdout.readline()))
        while not (children := server.children()):
            threading.Event().wait(0.01)
        run.kill()
    gone, alive = psutil.wait_procs([server, *children], timeout=60)
    assert not alive
    assert len(gone) == 2


def test_a_file_that_vanished(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"no longer there: name='gone.pdf'") as failure:
        reader.read(find(tmp_path / "gone.pdf"))
    assert failure.value.kind == "vanished"


def test_a_file_that_may_not_be_read(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DocumentError) as failure:
        reader.read(find(tmp_path / "a.txt"))
    assert failure.value.kind == "no_permission"


def test_a_pipe_in_the_place_of_a_file(reader: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DocumentError) as failure:
        reader.read(find(tmp_path / "pipe.txt"))
    assert failure.value.kind == "not_a_file"


@pytest.mark.parametrize("way", ["file", "folder", "folder above"])
def test_a_link_put_in_the_place_of_a_file_is_not_followed(tmp_path: Path, way: str) -> None:
    """Between the search and the reading, by somebody who may write into the folder."""
    private, root = tmp_path / "private" / "inner", tmp_path / "shared"
    found = root / "a" / "inner" / "letter.txt"
    for path in (private / "letter.txt", found):
        path.parent.mkdir(parents=True)
        path.write_text(f"in {path.parent.parent.name}")
    file = FoundFile(root, found, "a/inner/letter.txt", 0, 0)
    with Reader(follows_links=False) as careful, Reader() as following:
        assert careful.read(file).text == "in a"
        place = {"file": found, "folder": found.parent, "folder above": found.parent.parent}[way]
        target = {"file": private / "letter.txt", "folder": private, "folder above": private.parent}
        place.rename(tmp_path / "away")
        place.symlink_to(target[way])
        with pytest.raises(DocumentError, match="behind a symbolic link") as failure:
            careful.read(file)
        assert failure.value.kind == "not_a_file"
        assert following.read(file).text == "in private"


@pytest.mark.parametrize("sent", [b"x" * 65_536, b"[" * 65_536])
def test_an_answer_without_end_does_not_fill_the_memory(sent: bytes) -> None:
    data, data_out = socket.socketpair()
    status, status_out = socket.socketpair()

    def send() -> None:
        with data_out, suppress(OSError):
            while True:
                data_out.sendall(sent)

    sender = threading.Thread(target=send)
    with status, status_out:
        sender.start()
        with data:
            answer = read_client._receive(data, status, 60.0, 1 << 24)
        sender.join()
    assert (answer.file, answer.contents, answer.end) == (None, b"", ENDED_FULL)


def test_what_is_hashed_is_what_is_parsed_while_the_file_changes(
    reader: Reader, tmp_path: Path
) -> None:
    versions = [make_pdf(f"version {n}" + " x" * 50 * n) for n in (1, 2)]
    texts = {hashlib.sha256(data).hexdigest(): f"version {n}" for n, data in enumerate(versions, 1)}
    file = put(tmp_path, "changing.pdf", versions[0])
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for data in versions:
                file.path.write_bytes(data)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        documents = [reader.read(file) for _ in range(8)]
    finally:
        done.set()
        thread.join()
    for document in documents:
        expected = texts.get(document.sha256)
        if expected is None:  # half written: whatever it is, it is not one of the two
            continue
        assert document.text.startswith(expected)


def test_a_closed_reader_says_so(tmp_path: Path) -> None:
    reader = Reader()
    reader.close()
    with pytest.raises(DocflashError, match=r"closed"):
        reader.read(put(tmp_path, "a.pdf", make_pdf("x")))


def test_a_read_server_that_cannot_start_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with Reader() as reader, pytest.raises(DocflashError, match=r"can't be started"):
        reader.read(put(tmp_path, "a.pdf", make_pdf("x")))


def test_documents_of_many_sizes_come_whole(reader: Reader, tmp_path: Path) -> None:
    lines = b" ".join(b"(line %d) Tj T*" % n for n in range(5000))
    data = make_pdf_of(b"BT /F1 12 Tf 14 TL 72 720 Td " + lines + b" ET")
    document: Document = reader.read(put(tmp_path, "long.pdf", data))
    assert document.text.startswith("line 0\n")
    assert document.text.endswith("line 4999")
