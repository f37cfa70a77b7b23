"""How text and alignment maps are written in the store: valid Unicode, and few bytes.

In: any Python text. Out: text that DuckDB and parquet take. An alignment becomes bytes and back.
"""

import os
import re
import zlib
from pathlib import Path

import numpy as np

from pipeline.alignment import Alignment, Run
from pipeline.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")
_FORMAT = b"\x01"


def storable(text: str) -> str:
    """The text with each lone surrogate made U+FFFD, so that no offset moves."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def folder_text(folder: Path | str) -> str:
    r"""A folder's path as text; bytes that are not UTF-8 as \xNN, so that no two are the same."""
    return os.fsencode(folder).decode(errors="backslashreplace")


def pack_alignment(alignment: Alignment) -> bytes:
    """An alignment as bytes: per run its lengths and the gap before its raw text, compressed."""
    numbers: list[int] = []
    raw_end = 0
    for run in alignment.runs:
        numbers += (
            run.text_end - run.text_start,
            run.raw_start - raw_end,
            run.raw_end - run.raw_start,
        )
        raw_end = run.raw_end
    return _FORMAT + zlib.compress(np.array(numbers, dtype="<i4").tobytes(), 1)


def unpack_alignment(packed: bytes) -> Alignment:
    """The alignment that `pack_alignment` packed.

    Raises:
        InputError: It was packed by a newer docflash.
    """
    if packed[:1] != _FORMAT:
        raise InputError(
            f"the store has an alignment of the unknown format={packed[:1]!r}; update docflash"
        )
    numbers: list[int] = np.frombuffer(zlib.decompress(packed[1:]), dtype="<i4").tolist()
    runs: list[Run] = []
    text_end = raw_end = 0
    for length, gap, raw_length in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        raw_start = raw_end + gap
        raw_end = raw_start + raw_length
        runs.append(Run(text_end, text_end + length, raw_start, raw_end))
        text_end += length
    return Alignment(tuple(runs))
