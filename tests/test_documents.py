"""Finding documents: what is taken, in what order, and what is said about the rest."""

import inspect
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import documents
from pipeline.documents import Selection, Tally, find_documents, hash_file, shown_name
from pipeline.errors import DocumentError, InputError
from pipeline.globs import Glob
from pipeline.records import Failure, FoundFile


def make_files(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, errors="surrogateescape")


def found_names(
    root: Path, selection: Selection | None = None, tally: Tally | None = None
) -> list[str]:
    found = list(find_documents(root, selection, tally))
    assert not [item for item in found if isinstance(item, Failure)]
    return [item.name for item in found]


def test_supported_files_are_found_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    make_files(tmp_path, "b.TXT", "a.pdf", "sub/c.Md", "sub/d.eml", "e.htm", "x.docx", "y.DOCX")
    make_files(tmp_path, "noend", ".hidden.txt", ".git/readme.md")
    tally = Tally()
    assert found_names(tmp_path, None, tally) == [
        "a.pdf",
        "b.TXT",
        "e.htm",
        "sub/c.Md",
        "sub/d.eml",
    ]
    assert tally.unsupported == {".docx": 2, "": 1}
    assert tally.hidden == 2
    assert ".hidden.txt" in found_names(tmp_path, Selection(hidden=True))


def test_a_found_file_carries_what_decides_on_reading_it_again(tmp_path: Path) -> None:
    make_files(tmp_path, "a.txt")
    (found,) = find_documents(tmp_path)
    assert isinstance(found, FoundFile)
    status = (tmp_path / "a.txt").stat()
    assert (found.root, found.path) == (tmp_path, tmp_path / "a.txt")
    assert (found.size_bytes, found.modified_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (("*.pdf",), (), ["A.PDF", "sub/b.pdf", "sub/deep/c.pdf"]),
        (("/*.pdf",), (), ["A.PDF"]),
        (("sub/*.pdf",), (), ["sub/b.pdf"]),
        (("sub/**",), (), ["sub/b.pdf", "sub/deep/c.pdf", "sub/deep/d.txt"]),
        (("**/deep/*",), (), ["sub/deep/c.pdf", "sub/deep/d.txt"]),
        ((), ("deep",), ["A.PDF", "sub/b.pdf"]),
        ((), ("sub/**",), ["A.PDF"]),
        (("*.pdf", "*.txt"), ("*.txt", "sub/b*"), ["A.PDF", "sub/deep/c.pdf"]),
    ],
)
def test_globs(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], names: list[str]
) -> None:
    make_files(tmp_path, "A.PDF", "sub/b.pdf", "sub/deep/c.pdf", "sub/deep/d.txt")
    tally = Tally()
    assert found_names(tmp_path, Selection(include, exclude), tally) == names
    assert tally.excluded > 0


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "a/b", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/c", False),
        ("a*/b", "ax/y/b", False),
        ("[ab].txt", "sub/b.txt", True),
        ("new\nline?.txt", "new\nlineX.txt", True),
        ("./a.txt", "sub/a.txt", False),
        ("**/" * 30 + "x", "a/" * 60 + "y", False),
    ],
)
def test_one_glob(pattern: str, path: str, matches: bool) -> None:
    assert Glob(pattern).matches(path) is matches


def test_an_empty_glob_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"glob=''"):
        find_documents(tmp_path, Selection(include=("",)))


def test_symlinks_are_left_alone_unless_asked_and_loops_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_files(root, "sub/a.txt")
    make_files(tmp_path, "outside/b.txt")
    (root / "loop").symlink_to(root)
    (root / "sub" / "up").symlink_to(root / "sub")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "file.txt").symlink_to(root / "sub" / "a.txt")
    tally = Tally()
    assert found_names(root, None, tally) == ["sub/a.txt"]
    assert tally.symlinks == 4
    followed = found_names(root, Selection(symlinks=True))
    assert followed == ["file.txt", "out/b.txt", "sub/a.txt", "sub/up/a.txt"]


def test_a_link_that_leads_nowhere_is_told_of_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    (failure,) = find_documents(tmp_path, Selection(symlinks=True))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.name) == ("vanished", "gone.txt")


def test_an_unreadable_folder_is_a_row_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path, "a/secret.txt", "b.txt")
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    failure, found = find_documents(tmp_path)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.name) == ("no_permission", "a")
    assert found.name == "b.txt"


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (failure,) = find_documents(tmp_path)
    assert isinstance(failure, Failure)
    assert failure.kind == "not_a_file"


def test_a_wrong_root_is_an_input_error_at_once(tmp_path: Path) -> None:
    make_files(tmp_path, "file.txt")
    with pytest.raises(InputError, match=r"does not exist.*folder='.*missing'"):
        find_documents(tmp_path / "missing")
    with pytest.raises(InputError, match=r"is not a folder"):
        find_documents(tmp_path / "file.txt")


def test_an_unreadable_root_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"may not be listed"):
        find_documents(tmp_path)


def test_an_empty_folder_has_no_documents(tmp_path: Path) -> None:
    assert found_names(tmp_path) == []


ODD_NAMES = {
    b"line\nbreak.txt": "line\\x0abreak.txt",
    "emoji \U0001f600.txt".encode(): "emoji \U0001f600.txt",
    b"bad\xff\xfe.txt": "bad\\xff\\xfe.txt",
    b"back\\x0aslash.txt": "back\\x5cx0aslash.txt",
    "turn\u202efdp.txt".encode(): "turn\\xe2\\x80\\xaefdp.txt",
}


@pytest.mark.parametrize(("raw", "shown"), ODD_NAMES.items())
def test_odd_names_are_shown_as_valid_text_and_open(tmp_path: Path, raw: bytes, shown: str) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_bytes(b"text")
    except OSError:
        pytest.skip("this file system refuses such names")
    (found,) = find_documents(tmp_path)
    assert isinstance(found, FoundFile)
    assert found.name == shown
    assert found.path.read_bytes() == b"text"
    assert len(hash_file(found.path)) == 64


@given(st.binary(min_size=1), st.binary(min_size=1))
def test_shown_names_are_valid_and_never_the_same(first: bytes, second: bytes) -> None:
    one, other = shown_name(os.fsdecode(first)), shown_name(os.fsdecode(second))
    assert one.encode().decode() == one
    assert one.isprintable() or "\n" not in one
    assert (one == other) == (first == second)


def test_a_folder_with_more_names_than_are_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_NAMES_AT_ONCE", 3)
    names = [f"{number:02}.txt" for number in range(10)]
    make_files(tmp_path, *reversed(names), "sub/a.txt")
    assert found_names(tmp_path) == [*names, "sub/a.txt"]


def test_a_folder_that_changes_may_list_a_name_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path, "a.txt", "b.txt")
    list_folder = os.scandir

    @contextmanager
    def list_twice(path: str) -> Generator[Iterator[os.DirEntry[str]]]:
        with list_folder(path) as first, list_folder(path) as second:
            yield chain(first, second)

    monkeypatch.setattr(os, "scandir", list_twice)
    assert set(found_names(tmp_path)) == {"a.txt", "b.txt"}


def test_folders_may_be_nested_deeper_than_the_stack(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("a")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        names = found_names(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert names == ["d/" * 300 + "a.txt"]


def test_hashing_says_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DocumentError, match=r"no longer there") as vanished:
        hash_file(tmp_path / "gone.txt")
    assert vanished.value.kind == "vanished"

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DocumentError) as refused:
        hash_file(tmp_path / "a.txt")
    assert refused.value.kind == "no_permission"
