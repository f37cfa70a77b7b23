"""The target's answers on disk: parquet files of some hundred rows, whole or not there.

    work/answers/00000-0.parquet, 00001-0.parquet, ...   the answers, by their writer
    work/answers/setting.json                            what they depend on

In: answers as they are finished. Out: all of them, after any number of interrupted runs.
"""

import json
import os
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.errors import EngineError, InputError
from pipeline.settings import private_folder
from pipeline.training.passages import Split

NGRAM, TIMES = 8, 4
SETTING = "setting.json"
TOKENS = ("prompt", "answer")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the target wrote.

    Attributes:
        key, kind, source, licence, split, group, part: Of its question.
        schema: As JSON, or "" for free text.
        quoted: What quotes in the answer are words of, or "".
        prompt: Tokens of the prompt, as they were run.
        answer: Tokens of the answer; the one that ended it is the last, if it wrote one.
        text: The answer.
        ended: The finish reason.
        loops: Whether it repeats itself; it is then left out of everything.
    """

    key: str
    kind: str
    source: str
    licence: str
    split: Split
    group: str
    part: int
    schema: str
    quoted: str
    prompt: Sequence[int]
    answer: Sequence[int]
    text: str
    ended: str
    loops: bool


def repeats_itself(text: str) -> bool:
    """Whether some eight words in a row stand in a text four times or more."""
    words = text.split()
    grams = Counter(tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1))
    return max(grams.values(), default=0) >= TIMES


class Shards:
    """The folder of answers.

    Args:
        folder: Made if it is not there.
        setting: What the answers depend on; a folder with another one is refused.
        share: Which of several writers adds to it.
    """

    def __init__(self, folder: Path, setting: dict[str, Any], share: int = 0) -> None:
        self._folder = private_folder(folder)
        self._share = share
        kept = folder / SETTING
        if kept.is_file():
            _compare(folder, json.loads(kept.read_text(encoding="utf-8")), setting)
        else:
            write_whole(kept, json.dumps(setting, indent=1).encode())
        self._answers = [answer for file in self._files() for answer in _read(file)]
        self.keys = {answer.key for answer in self._answers}

    def all(self) -> list[Answer]:
        """Every answer."""
        return list(self._answers)

    def add(self, answers: Sequence[Answer]) -> None:
        """Keeps answers, as a file of their own.

        Raises:
            EngineError: The disk is full or refuses; what was kept before is whole.
        """
        if not answers:
            return
        import pyarrow as pa
        from pyarrow import parquet

        columns = {
            one.name: [getattr(answer, one.name) for answer in answers] for one in fields(Answer)
        }
        tokens = pa.list_(pa.int32())
        types = {"prompt": tokens, "answer": tokens, "loops": pa.bool_(), "part": pa.int32()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
        sink: Any = pa.BufferOutputStream()
        parquet.write_table(pa.table(columns, schema), sink, compression="zstd")
        own = self._folder.glob(f"[0-9]*-{self._share}.parquet")
        number = max((int(file.stem.partition("-")[0]) for file in own), default=-1) + 1
        data = memoryview(sink.getvalue())
        write_whole(self._folder / f"{number:05}-{self._share}.parquet", data)
        self._answers += answers
        self.keys.update(answer.key for answer in answers)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.parquet"))


def _read(file: Path) -> list[Answer]:
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
        columns: dict[str, Any] = {
            name: _lists(table[name]) if name in TOKENS else table[name].to_pylist()
            for name in table.column_names
        }
        rows = zip(*columns.values(), strict=True)
        return [Answer(**dict(zip(columns, row, strict=True))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the answers' file={str(file)!r} can't be read ({type(error).__name__}); remove it, "
            "and what it held is written again"
        ) from error


def _lists(column: Any) -> list["array[int]"]:
    """Lists of tokens, packed: some hundred thousand answers are 1e8 tokens."""
    found: list[array[int]] = []
    for chunk in column.chunks:
        numbers, ends = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        found += [array("i", numbers[a:b].tobytes()) for a, b in pairwise(ends)]
    return found


def _compare(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = sorted(name for name in wanted if found.get(name) != wanted[name])
    if different:
        told = ", ".join(f"{name}={wanted[name]!r} (was {found.get(name)!r})" for name in different)
        raise InputError(
            f"the folder {str(folder)!r} holds what was made with other settings: {told}; give "
            "these again, choose another --out, or remove the folder"
        )


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Writes a file so that it is there whole or not at all.

    Raises:
        EngineError: The disk is full or refuses.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EngineError(
            f"path={str(path)!r} can't be written ({error.strerror or error}); make room on the "
            "disk and run the same command again: it goes on from what is kept"
        ) from error
