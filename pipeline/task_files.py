"""Reads one task's TOML file: what it asks, of which documents, within which bounds.

In: the text of a file. Out: a `Task`, or problems that name line and fix.
"""

import dataclasses
import hashlib
import json
import re
import tomllib
from pathlib import PurePath
from typing import Any

from pipeline.errors import InputError
from pipeline.globs import Glob
from pipeline.messages import MESSAGES_VERSION, SYSTEM
from pipeline.records import Limits, Task, TaskKind
from pipeline.task_examples import read_examples
from pipeline.task_fields import read_fields
from pipeline.task_tables import Table, TaskProblem, TaskText, did_you_mean

FORMS = ("auto", "one_call", "per_field", "free")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_DEFAULT_LIMITS: dict[TaskKind, Limits] = {
    "text": Limits(max_tokens=200),
    "fields": Limits(max_tokens=512),
    "class": Limits(max_tokens=32, chunk_tokens=400),
}
# A small model loops without these; see `Sampling`, and `benchmarks/repetition.py` for the choice.
# A penalty makes summaries fuller, but more of their sentences unsupported (`summary_settings.py`).
# Fields are copies, and to copy is to repeat: there, only a loop inside one string is stopped.
_SETTINGS: dict[TaskKind, dict[str, float | int]] = {
    "text": {"no_repeat_ngram": 4, "no_repeat_copied": 12},
    "fields": {"no_repeat_ngram": 8},
    "class": {},
}
_SETTING_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "repetition_penalty": (1.0, 2.0),
    "repetition_window": (1, 4096),
    "no_repeat_ngram": (0, 64),
    "no_repeat_copied": (0, 64),
    "seed": (0, 2**31 - 1),
}


def read_task(file: str, text: str) -> tuple[Task | None, tuple[TaskProblem, ...]]:
    """Reads one file.

    Args:
        file: Its path, for messages; the task's name is its last part without ".toml".
        text: What it holds.

    Returns:
        The task, or None if it has problems; and the problems.
    """
    source = TaskText(file, text)
    name = PurePath(file).name.removesuffix(".toml")
    if not _NAME.fullmatch(name):
        source.report(
            (),
            f"the task name {name!r} can't name a table; rename the file to small letters, "
            "digits and _, a letter first, at most 40 characters",
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        source.problems.append(_syntax_problem(file, text, str(error)))
        return None, tuple(source.problems)
    except RecursionError:
        source.report((), "the tables are nested too deep")
        return None, tuple(source.problems)
    task = _read_table(Table(source, (), values), name, file)
    return (None if source.problems else task), tuple(source.problems)


def fingerprint(task: Task) -> str:
    """Hash of everything in a task that can change an answer: not its title, file, or globs."""
    parts = dataclasses.asdict(task)
    for key in ("title", "globs", "source", "fingerprint"):
        del parts[key]
    if task.kind != "class":  # elsewhere they only say which documents it is for
        del parts["classes"]
    del parts["limits"]["max_document_tokens"]
    if not task.limits.max_sentences:  # what it was before there was such a bound
        del parts["limits"]["max_sentences"]
    parts["messages_version"] = MESSAGES_VERSION
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _syntax_problem(file: str, text: str, message: str) -> TaskProblem:
    place = _TOML_PLACE.search(message)
    line = int(place.group(1)) if place and place.group(1) else max(len(text.splitlines()), 1)
    told = message[: place.start()] if place else message
    column = f" at column {place.group(2)}" if place and place.group(2) else ""
    return TaskProblem(file, line, f"not valid TOML: {told}{column}; see https://toml.io")


def _read_table(table: Table, name: str, file: str) -> Task:
    choices = table.take_texts("classes")
    fields = read_fields(table)
    kind = _read_kind(table)
    globs, for_classes = _read_applies_to(table, kind)
    instructions = table.take_text("instructions")
    if not instructions:
        table.report("instructions", 'instructions are missing; add instructions = "..."')
    task = Task(
        name=name,
        title=table.take_text("title", name),
        kind=kind,
        globs=globs,
        classes=choices if kind == "class" else for_classes,
        system=table.take_text("system", SYSTEM),
        instructions=instructions,
        merge=_read_merge(table, kind),
        fields=fields,
        limits=_read_limits(table, kind),
        settings=_read_settings(table, kind),
        fingerprint="",
        source=file,
        examples=read_examples(table, kind, choices, fields),
        words=_read_words(table, choices),
        form=_read_form(table, kind),
    )
    table.finish()
    return dataclasses.replace(task, fingerprint=fingerprint(task))


def _read_kind(table: Table) -> TaskKind:
    """The kind follows from what the answer is made of; `kind` may say it, but not otherwise."""
    inferred: TaskKind = "fields" if "fields" in table else "text"
    if "classes" in table:
        inferred = "class"
        if "fields" in table:
            table.report("classes", "a task has either [fields] or classes; remove one of them")
    told = table.take_text("kind", inferred)
    if told != inferred:
        table.report(
            "kind",
            f"kind={told!r}, but the file describes a task of kind {inferred!r} ([fields] makes "
            "'fields', classes makes 'class', neither 'text'); remove the line or correct the file",
        )
    return inferred


def _read_words(parent: Table, classes: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Words that tell a class, for a small model."""
    table = parent.take_table("words")
    if table is None:
        return ()
    if not classes:
        parent.report("words", "words are for a task with classes; remove them")
    for name in table.names():
        if classes and name not in classes:
            table.report(name, f"words of {name!r}, no class{did_you_mean(name, classes)}")
    return tuple((name, table.take_texts(name)) for name in table.names())


def _read_applies_to(table: Table, kind: TaskKind) -> tuple[tuple[str, ...], tuple[str, ...]]:
    everything = ("*",)
    applies_to = table.take_table("applies_to")
    if applies_to is None:
        return everything, ()
    globs = applies_to.take_texts("globs") or everything
    for glob in globs:
        try:
            Glob(glob)
        except InputError as error:
            applies_to.report("globs", str(error))
    classes = applies_to.take_texts("classes")
    if classes and kind == "class":
        applies_to.report("classes", "a task that finds the class can't depend on it; remove this")
    applies_to.finish()
    return globs, classes


def _read_merge(table: Table, kind: TaskKind) -> str:
    if kind == "text":
        return table.take_text(
            "merge",
            "These are answers about the parts of one document, in order. "
            "Join them into one answer about the whole document.",
        )
    if "merge" in table:
        table.take("merge")
        table.report("merge", f"merge is for text; answers of kind {kind!r} are joined by rules")
    return ""


def _read_form(table: Table, kind: TaskKind) -> Any:
    """How fields are asked for; see `pipeline.forms`."""
    form = table.take_text("form", "auto")
    if form not in FORMS:
        table.report("form", f"unknown form {form!r}{did_you_mean(form, FORMS)}")
    elif kind != "fields" and form != "auto":
        table.report("form", "form is for a task with [fields]; remove it")
    return form


def _read_limits(parent: Table, kind: TaskKind) -> Limits:
    default = _DEFAULT_LIMITS[kind]
    table = parent.take_table("limits")
    if table is None:
        return default
    most_sentences = table.take_count("max_sentences", default.max_sentences, 0, 1000)
    if most_sentences and kind != "text":
        table.report(
            "max_sentences", f"max_sentences is for text; an answer of kind {kind!r} has none"
        )
    limits = Limits(
        max_tokens=table.take_count("max_tokens", default.max_tokens, 8, 16_384),
        chunk_tokens=table.take_count("chunk_tokens", default.chunk_tokens, 64, 1_000_000),
        overlap_tokens=table.take_count("overlap_tokens", default.overlap_tokens, 0, 100_000),
        max_document_tokens=table.take_count(
            "max_document_tokens", default.max_document_tokens, 1, 1_000_000_000
        ),
        max_sentences=most_sentences,
    )
    if limits.overlap_tokens * 2 > limits.chunk_tokens:
        table.report(
            "overlap_tokens",
            f"overlap_tokens={limits.overlap_tokens} is more than half of "
            f"chunk_tokens={limits.chunk_tokens}; lower it",
        )
    table.finish()
    return limits


def _read_settings(parent: Table, kind: TaskKind) -> tuple[tuple[str, float | int], ...]:
    settings = dict(_SETTINGS[kind])
    table = parent.take_table("settings")
    if table is not None:
        for name in _SETTING_BOUNDS:
            value = table.take(name)
            if value is not None and _check_setting(table, name, value):
                settings[name] = value
        table.finish()
    return tuple(sorted(settings.items()))


def _check_setting(table: Table, key: str, value: Any) -> bool:
    least, most = _SETTING_BOUNDS[key]
    kinds = int if isinstance(least, int) else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most:
        return True
    number = "a whole number" if isinstance(least, int) else "a number"
    table.report(key, f"{key}={value!r} is not {number} from {least} to {most}")
    return False
