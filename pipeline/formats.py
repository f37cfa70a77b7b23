"""Writes a table of a query as CSV, JSON or parquet.

In: an Arrow table and a binary stream. Out: bytes. Numbers are written with all their digits,
dates and times as ISO 8601, lists and structures inside CSV as JSON. Text that a spreadsheet would
take for a formula is made harmless in CSV: it may come from a document that somebody sent.
"""

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, BinaryIO, Literal, cast, get_args

from pipeline.errors import InputError

TableFormat = Literal["csv", "json", "parquet"]
_BATCH_ROWS = 1024
# What spreadsheets calculate, or run, when they open a file (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_table(table: Any, table_format: TableFormat, stream: BinaryIO) -> None:
    """Writes a table.

    Args:
        table: A `pyarrow.Table` (whose stubs leave the class unknown).
        table_format: "csv": a line of names, then a line per row, UTF-8, null as nothing, an
            apostrophe before text that begins like a formula. "json":
            an array with an object per row. "parquet".
        stream: Where to; need not be seekable.

    Raises:
        InputError: There is no such format.
    """
    if table_format == "csv":
        _write_csv(table, stream)
    elif table_format == "json":
        _write_json(table, stream)
    elif table_format == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, stream, compression="zstd")
    else:
        raise InputError(
            f"there is no format={table_format!r}; choose one of {', '.join(get_args(TableFormat))}"
        )


def encode_json(value: Any) -> str:
    """A value as JSON, decimals as numbers with all their digits; what isn't a number is null."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else "null"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "null"
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return "{" + ", ".join(f"{_quote(str(k))}: {encode_json(v)}" for k, v in members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(encode_json, cast("list[Any]", value))) + "]"
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    return _quote(_plain(value))


def _plain(value: Any) -> str:
    """A value as text, outside of JSON."""
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, bool | dict | list | tuple):
        return encode_json(value)
    return str(value)


def _cell(value: Any) -> str:
    """A value as text in CSV; only text can be a formula, a number is none."""
    text = "" if value is None else _plain(value)
    is_formula = isinstance(value, str) and text.startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _rows(table: Any) -> Iterator[list[Any]]:
    """Row by row, with values of columns that share a name kept apart."""
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
        yield from map(list, zip(*columns, strict=True))


def _write_csv(table: Any, stream: BinaryIO) -> None:
    stream.write(_csv_line(table.column_names))
    stream.writelines(map(_csv_line, _rows(table)))


def _csv_line(values: Iterable[Any]) -> bytes:
    line = io.StringIO(newline="")
    # The writer quotes what is part of the end of a line, so a lone carriage return, too.
    csv.writer(line, lineterminator="\r\n").writerow(map(_cell, values))
    return (line.getvalue()[:-2] + "\n").encode(errors="replace")


def _write_json(table: Any, stream: BinaryIO) -> None:
    names = [_quote(name) for name in _distinct(table.column_names)]
    opening = "["
    for row in _rows(table):
        members = (f"{name}: {encode_json(v)}" for name, v in zip(names, row, strict=True))
        line = f"{opening}\n  {{{', '.join(members)}}}"
        stream.write(line.encode(errors="replace"))
        opening = ","
    stream.write(b"[]\n" if opening == "[" else b"\n]\n")


def _distinct(names: list[str]) -> list[str]:
    """Column names without doubles, so that no member of an object hides another."""
    seen: dict[str, int] = {}
    result: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result
