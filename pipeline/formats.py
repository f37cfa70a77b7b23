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
        InputError: There is no such format, or none of its values is like one of the table.
    """
    if table_format == "csv":
        _write_csv(table, stream)
    elif table_format == "json":
        _write_json(table, stream)
    elif table_format == "parquet":
        _write_parquet(table, stream)
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


def rows_of(table: Any) -> Iterator[list[Any]]:
    """The rows of a `pyarrow.Table`, with values of columns that share a name kept apart.

    Raises:
        InputError: A value is none of Python's: a date after the year 9999, say.
    """
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        columns = [
            _values(name, column)
            for name, column in zip(table.column_names, batch.columns, strict=True)
        ]
        yield from map(list, zip(*columns, strict=True))


def _values(name: str, column: Any) -> list[Any]:
    try:
        return column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise InputError(
            f"the column={name!r} has a value of type={str(column.type)!r} that can't be written "
            f"({type(error).__name__}), such as a date after the year 9999; cast it to VARCHAR"
        ) from None


def _write_parquet(table: Any, stream: BinaryIO) -> None:
    import pyarrow.parquet as pq

    try:
        pq.write_table(table, stream, compression="zstd")
    except NotImplementedError as error:  # pyarrow's is one of these
        raise InputError(
            f"the table has a column of a type that parquet has none for ({error}); cast it to "
            "VARCHAR"
        ) from None


def _write_csv(table: Any, stream: BinaryIO) -> None:
    stream.write(_csv_line(table.column_names))
    stream.writelines(map(_csv_line, rows_of(table)))


def _csv_line(values: Iterable[Any]) -> bytes:
    line = io.StringIO(newline="")
    # The writer quotes what is part of the end of a line, so a lone carriage return, too.
    csv.writer(line, lineterminator="\r\n").writerow(map(_cell, values))
    return (line.getvalue()[:-2] + "\n").encode(errors="replace")


def _write_json(table: Any, stream: BinaryIO) -> None:
    names = [_quote(name) for name in _distinct(table.column_names)]
    opening = "["
    for row in rows_of(table):
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
