"""Writes a report as one HTML file that needs nothing else and lets nothing in or out.

In: a `Report` and where to. Out: the file. The data lies in it compressed, the list of documents in
one block and each document in one of its own, which is unpacked when it is opened. Nothing of a
document stands in the page as markup: a block is base64, and the program puts text in as text.
"""

import base64
import gzip
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, BinaryIO

from pipeline.errors import InputError
from pipeline.report.build import Report

_MARK = b"<!doctype html>\n<!-- docflash report -->\n"
_PROGRAM = (
    "blocks.js",
    "elements.js",
    "search.js",
    "library.js",
    "sketches.js",
    "answers.js",
    "document.js",
    "start.js",
)
_BLOCKS = "<!-- the documents -->"


def write_page(report: Report, path: Path) -> int:
    """Writes the file, for this user's eyes only, and in one step: it is whole or not there.

    Args:
        report: What to show.
        path: The file; an older report there is replaced.

    Returns:
        Its size, in bytes.

    Raises:
        InputError: There is something else at this path, or it can't be written.
    """
    _check_place(path)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # Made with its mode: at no time can another user open it.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _write(report, file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        new.replace(path)
    except OSError as error:
        raise InputError(
            f"the report can't be written to file={str(path)!r} ({error.strerror}); check the "
            "folder and the free disk space, or choose another file with -o"
        ) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
    return size


def _check_place(path: Path) -> None:
    """Refuses to replace what is not a report."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"file={str(path)!r} is not a file; choose another name with -o")
        with path.open("rb") as file:
            if file.read(len(_MARK)) != _MARK:
                raise InputError(
                    f"file={str(path)!r} is there and is no report of docflash; remove it, or "
                    "choose another name with -o"
                )
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"file={str(path)!r} can't be looked at ({error.strerror}); choose another with -o"
        ) from error


def _write(report: Report, file: BinaryIO) -> None:
    before, after = _frame().split(_BLOCKS)
    file.write(_MARK)
    file.write(before.encode())
    file.writelines(_blocks(report))
    file.write(after.encode())


def _frame() -> str:
    """The page without its data."""
    style = _part("page.css")
    program = '"use strict";\n' + "\n".join(map(_part, _PROGRAM))
    policy = {
        "default-src": "'none'",
        "script-src": _hash(program),
        "style-src": _hash(style),
        "base-uri": "'none'",
        "form-action": "'none'",
        # Where a browser knows it: not even this program can turn text into markup.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return Template(_part("page.html")).substitute(
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
        style=style,
        program=program,
    )


def _part(name: str) -> str:
    return files("pipeline.report").joinpath("assets", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _blocks(report: Report) -> Iterator[bytes]:
    yield _block("index", report.index)
    for number, document in enumerate(report.documents):
        yield _block(f"d{number}", document)


def _block(name: str, record: Any) -> bytes:
    """A record as an element that a browser neither runs nor shows."""
    text = json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))
    data = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0))
    return b'<script type="application/gzip" id="%b">%b</script>\n' % (name.encode(), data)
