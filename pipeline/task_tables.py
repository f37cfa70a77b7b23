"""Reads TOML tables key by key, and collects every mistake instead of stopping at the first.

In: a parsed TOML table and what its keys should be. Out: typed values, and problems that name
the file, the line and the fix.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.toml_lines import find_line


@dataclass(frozen=True, slots=True)
class TaskProblem:
    """A mistake in a task's file.

    Attributes:
        file: The file, as it was found.
        line: From 1.
        message: What is wrong and how to mend it.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """As compilers write it, so that editors can jump there."""
        return f"{self.file}:{self.line}: {self.message}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the list of all choices if nothing is near."""
    choices = sorted(known)
    if not choices:
        return "; there are none"
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; the choices are {', '.join(choices)}"


@dataclass(slots=True)
class TaskText:
    """One TOML file while it is read, and the problems found so far."""

    file: str
    text: str
    problems: list[TaskProblem] = field(default_factory=list[TaskProblem])

    def report(self, path: tuple[str, ...], message: str) -> None:
        """Notes a mistake at a key."""
        self.problems.append(TaskProblem(self.file, find_line(self.text, path), message))


class Table:
    """One TOML table; each `take_*` gives a checked value, or the default after a report."""

    def __init__(self, source: TaskText, path: tuple[str, ...], values: dict[str, Any]) -> None:
        self._source = source
        self._path = path
        self._values = values
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def report(self, key: str, message: str) -> None:
        """Notes a mistake at one of this table's keys, or at its header if the key is ""."""
        self._source.report((*self._path, key) if key else self._path, message)

    def take(self, key: str) -> Any:
        """The value as TOML gave it, or None."""
        self._taken.add(key)
        return self._values.get(key)

    def take_text(self, key: str, default: str = "") -> str:
        """A string, without white space around it."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, str):
            return value.strip()
        self.report(key, f"{key}={value!r} is not text; put it in quotes")
        return default

    def take_flag(self, key: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.take(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.report(key, f"{key}={value!r} is not true or false")
        return default

    def take_count(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.report(key, f"{key}={value!r} is not a whole number from {least} to {most}")
        return default

    def take_texts(self, key: str) -> tuple[str, ...]:
        """A list of different, non-empty strings."""
        value = self.take(key)
        if value is None:
            return ()
        items = cast("list[Any]", value) if isinstance(value, list) else []
        texts = tuple(item.strip() for item in items if isinstance(item, str) and item.strip())
        if not texts or len(texts) != len(items):
            self.report(key, f'{key}={value!r} is not a list of texts such as ["a", "b"]')
        elif len(set(texts)) != len(texts):
            self.report(key, f"{key}={value!r} names something twice; remove one")
        return texts

    def take_table(self, key: str) -> "Table | None":
        """A table below this one, or None if there is none."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, dict):
            return Table(self._source, (*self._path, key), cast("dict[str, Any]", value))
        header = ".".join((*self._path, key))
        self.report(key, f"{key}={value!r} is not a table; write it under [{header}]")
        return None

    def take_tables(self, key: str) -> "list[Table]":
        """The tables of an array, each at its number from 1; none if there is none."""
        value = self.take(key)
        if value is None:
            return []
        items = cast("list[Any]", value) if isinstance(value, list) else []
        if not items or not all(isinstance(item, dict) for item in items):
            header = ".".join((*self._path, key))
            self.report(key, f"{key} is not an array of tables; write each under [[{header}]]")
            return []
        return [
            Table(self._source, (*self._path, key, str(number)), cast("dict[str, Any]", item))
            for number, item in enumerate(items, start=1)
        ]

    def names(self) -> tuple[str, ...]:
        """All keys, in the order of the file."""
        return tuple(self._values)

    def finish(self) -> None:
        """Reports the keys that nothing asked for."""
        for key in self._values:
            if key not in self._taken:
                self.report(key, f"unknown key {key!r}{did_you_mean(key, self._taken)}")
