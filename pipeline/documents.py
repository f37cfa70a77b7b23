"""Finds the documents of a folder, one at a time, however many there are.

In: a folder and what to take of it (`Selection`). Out: a `FoundFile` per document, a `Failure` per
thing that should have been one and can't be reached, and a `Tally` of what was passed over.
"""

import hashlib
import heapq
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import DocumentError, InputError
from pipeline.globs import Glob
from pipeline.records import Failure, FoundFile

SUFFIXES = frozenset({".pdf", ".txt", ".md", ".html", ".htm", ".eml"})

_NAMES_AT_ONCE = 65_536
_MOST_SUFFIXES = 1000
_NO_DEVICE = -1
# As os.fsencode, which takes longer over a million names than all the rest of a listing.
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_TO_ESCAPE = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a folder are taken.

    Globs are matched against the path relative to the folder, whatever the case: `*` stays within
    a name, `**` crosses folders, and a glob without a slash matches at any depth. An excluded
    folder is not entered.

    Attributes:
        include: Globs of the files to take; empty takes all.
        exclude: Globs of files and folders to pass over; wins over `include`.
        hidden: Whether names that begin with a dot are taken.
        symlinks: Whether symbolic links are followed; loops are not entered twice.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    symlinks: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of what a search passed over; filled while the search is read.

    Attributes:
        unsupported: Files by suffix (lower case, "" for none) that docflash can't read.
        excluded: Files and folders that `include` or `exclude` left out.
        hidden: Hidden files and folders left alone.
        symlinks: Symbolic links left alone, or already followed.
        mounts: Names of folders that lie on another file system than the folder above them: a
            drive or a share is mounted there. "." is the folder that is searched.
    """

    unsupported: Counter[str] = field(default_factory=Counter[str])
    excluded: int = 0
    hidden: int = 0
    symlinks: int = 0
    mounts: list[str] = field(default_factory=list[str])

    def count_unsupported(self, suffix: str) -> None:
        """Counts a file that can't be read; past 1,000 suffixes the rest share one name."""
        known = suffix in self.unsupported or len(self.unsupported) < _MOST_SUFFIXES
        self.unsupported[suffix if known else "(others)"] += 1


def find_documents(
    root: Path, selection: Selection | None = None, tally: Tally | None = None
) -> Iterator[FoundFile | Failure]:
    """Walks a folder, names in byte order within each, holding a bounded number of names.

    Args:
        root: The folder.
        selection: What to take; everything readable that isn't hidden, if None.
        tally: Is counted up while the result is iterated.

    Returns:
        A `FoundFile` per document; a `Failure` (kind "no_permission", "unreadable", "not_a_file" or
        "not_mounted") for what can't be reached, after which the search goes on.

    Raises:
        InputError: At once, not at the first item: the root is missing, is not a folder or can't
            be listed, or a glob is empty.
    """
    folder = Path(os.path.abspath(root.expanduser()))  # noqa: PTH100 (keeps symlinks, drops "..")
    _check_root(folder)
    return _Search(folder, selection or Selection(), tally or Tally()).walk()


def hash_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read piece by piece.

    Raises:
        DocumentError: It vanished, or can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DocumentError(*describe_os_error(error, shown_name(str(path)))) from error


def shown_name(name: str) -> str:
    r"""A file name as valid text without control characters, from which the bytes can be told.

    Bytes that are not UTF-8, the bytes of characters that can't be seen or turn the direction of
    writing, and backslashes are written \xNN, so two names never look the same.
    """
    return _TO_ESCAPE.sub(_escape, name)


def describe_os_error(error: OSError, name: str) -> tuple[str, str]:
    """The kind and the message of a failure to reach a file."""
    if isinstance(error, FileNotFoundError):
        return "vanished", f"the file is no longer there: name={name!r}; run again"
    if isinstance(error, PermissionError):
        return (
            "no_permission",
            f"this user may not read name={name!r}; change its permissions, or exclude it",
        )
    return "unreadable", f"name={name!r} can't be read ({error.strerror}); check the disk"


def describe_unmounted(name: str) -> Failure:
    """The failure to find what a drive or a share held that was mounted in a place."""
    message = (
        f"the drive or share in the folder name={name!r} is not mounted any more; its documents "
        "stay as they were. Mount it, or take them out with `docflash purge` if it is gone for good"
    )
    return Failure("not_mounted", message, name=name)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(match[0]))


def _device(path: str) -> int:
    """The file system on which a folder lies."""
    try:
        return os.stat(path).st_dev  # noqa: PTH116
    except OSError:
        return _NO_DEVICE  # listing it will fail, too, and say why


def _check_root(root: Path) -> None:
    try:
        with os.scandir(root):
            return
    except FileNotFoundError as error:
        problem, remedy = "does not exist", "check the path"
        cause = error
    except NotADirectoryError as error:
        problem, remedy = "is not a folder", "give the folder that holds the documents"
        cause = error
    except PermissionError as error:
        problem, remedy = "may not be listed by this user", "change its permissions"
        cause = error
    except OSError as error:
        problem, remedy = f"can't be listed ({error.strerror})", "check the disk"
        cause = error
    raise InputError(f"the folder {problem}: folder={str(root)!r}; {remedy}") from cause


class _Entry(NamedTuple):
    """A name in a folder."""

    name: str
    is_folder: bool
    is_link: bool


class _Search:
    """One walk over a folder."""

    def __init__(self, root: Path, selection: Selection, tally: Tally) -> None:
        self._root = root
        self._selection = selection
        self._tally = tally
        self._include = tuple(Glob(pattern) for pattern in selection.include)
        self._exclude = tuple(Glob(pattern) for pattern in selection.exclude)
        self._followed: set[tuple[int, int]] = set()
        self._devices: dict[str, int] = {}  # of the root, and of what is mounted below it

    def walk(self) -> Iterator[FoundFile | Failure]:
        """Depth first, without recursion: folders may be nested deeper than Python's stack."""
        stack = [("", self._entries(""), self._enter("", _device(str(self._root.parent))))]
        if self._selection.symlinks:
            self._follow(str(self._root))
        while stack:
            prefix, entries, device = stack[-1]
            try:
                entry = next(entries, None)
            except OSError as error:
                stack.pop()
                yield self._failure(error, prefix.rstrip("/"))
                continue
            if entry is None:
                stack.pop()
                continue
            found = self._visit(prefix + entry.name, entry)
            if isinstance(found, str):
                stack.append((found + "/", self._entries(found), self._enter(found, device)))
            elif found is not None:
                yield found
        for relative, device in self._devices.items():
            if _device(self._absolute(relative)) != device:  # it went away meanwhile
                yield describe_unmounted(shown_name(relative) or ".")

    def _enter(self, relative: str, above: int) -> int:
        """The file system of a folder; where another one begins is noted."""
        device = _device(self._absolute(relative))
        if device not in (above, _NO_DEVICE):
            self._tally.mounts.append(shown_name(relative) or ".")
        if device != above or not relative:
            self._devices[relative] = device
        return device

    def _entries(self, relative: str) -> Iterator[_Entry]:
        """The entries of a folder in order; one of a million files is listed several times."""
        last = b""
        while True:
            with os.scandir(self._absolute(relative)) as listing:
                keyed = ((item.name.encode(_ENCODING, _ERRORS), item) for item in listing)
                newer = (one for one in keyed if one[0] > last)
                batch = heapq.nsmallest(_NAMES_AT_ONCE, newer, key=itemgetter(0))
            for _, item in batch:
                yield self._entry(item)
            if len(batch) < _NAMES_AT_ONCE:
                return
            last = batch[-1][0]

    def _entry(self, item: os.DirEntry[str]) -> _Entry:
        try:
            is_folder = item.is_dir(follow_symlinks=self._selection.symlinks)
        except OSError:
            is_folder = False  # a link that leads nowhere: stat will say so
        return _Entry(item.name, is_folder, item.is_symlink())

    def _visit(self, relative: str, entry: _Entry) -> FoundFile | Failure | str | None:
        """A file, a failure, the path of a folder to enter, or None if it is passed over."""
        if self._is_left_alone(relative, entry):
            return None
        if entry.is_folder:
            return self._visit_folder(relative, entry)
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a million times)
        if suffix not in SUFFIXES:
            self._tally.count_unsupported(shown_name(suffix))
            return None
        if self._include and not any(glob.matches(relative) for glob in self._include):
            self._tally.excluded += 1
            return None
        return self._found_file(relative)

    def _is_left_alone(self, relative: str, entry: _Entry) -> bool:
        if entry.name.startswith(".") and not self._selection.hidden:
            self._tally.hidden += 1
        elif entry.is_link and not self._selection.symlinks:
            self._tally.symlinks += 1
        elif any(glob.matches(relative) for glob in self._exclude):
            self._tally.excluded += 1
        else:
            return False
        return True

    def _visit_folder(self, relative: str, entry: _Entry) -> str | None:
        if entry.is_link and not self._follow(self._absolute(relative)):
            self._tally.symlinks += 1
            return None
        return relative

    def _follow(self, path: str) -> bool:
        """Whether a linked folder is new; each is entered through a link once, so loops end."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            return True  # listing it will fail and say why
        identity = (status.st_dev, status.st_ino)
        if identity in self._followed:
            return False
        self._followed.add(identity)
        return True

    def _found_file(self, relative: str) -> FoundFile | Failure | None:
        path = self._absolute(relative)
        try:
            status = os.stat(path)  # noqa: PTH116
        except FileNotFoundError as error:
            # A link that leads nowhere is a mistake; a file that was deleted meanwhile is not.
            return self._failure(error, relative) if os.path.islink(path) else None  # noqa: PTH114
        except OSError as error:
            return self._failure(error, relative)
        name = shown_name(relative)
        if not stat.S_ISREG(status.st_mode):
            return Failure(
                "not_a_file",
                f"name={name!r} is a pipe, a socket or a device; remove or exclude it",
                name=name,
            )
        return FoundFile(self._root, Path(path), name, status.st_size, status.st_mtime_ns)

    def _failure(self, error: OSError, relative: str) -> Failure:
        name = shown_name(relative) or "."
        kind, message = describe_os_error(error, name)
        return Failure(kind, message, name=name)

    def _absolute(self, relative: str) -> str:
        return f"{self._root}/{relative}" if relative else str(self._root)
