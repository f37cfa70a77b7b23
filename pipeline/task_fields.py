"""Reads the `[fields.*]` tables of a task: the columns of its answer.

In: TOML tables. Out: `Field` records, and problems with line and fix.
"""

import re
from typing import Any, cast, get_args

from pipeline.records import Field, FieldType
from pipeline.task_tables import Table, did_you_mean

FIELD_TYPES: tuple[FieldType, ...] = get_args(FieldType)
RESERVED_COLUMNS = frozenset(
    (
        *("document_id", "document_sha256", "text_sha256", "path", "paths", "task", "is_current"),
        *("job_key", "run_id", "finished_at", "model", "model_fingerprint", "prompt_fingerprint"),
        *("calls", "cut", "prompt_tokens", "cached_tokens", "completion_tokens", "model_s"),
        *("chunking", "chunks"),
    )
)
"""Columns that every result table has of its own (`pipeline.tables.ANSWER_COLUMNS`)."""

MOST_NAME_CHARS = 60
_MOST_DEPTH = 4


def read_fields(parent: Table, depth: int = 0) -> tuple[Field, ...]:
    """Reads the key `fields` of a table.

    Args:
        parent: The task itself, or an object field.
        depth: How many fields are around it.
    """
    table = parent.take_table("fields")
    if table is None:
        return ()
    if not table.names():
        parent.report("fields", "[fields] is empty; add a field, or remove it")
    fields: list[Field] = []
    seen: dict[str, str] = {}
    for name in table.names():
        _check_name(table, name, seen, depth)
        seen[name.casefold()] = name
        fields.append(_read_field(table, name, name, depth))
    return tuple(fields)


def _check_name(table: Table, name: str, seen: dict[str, str], depth: int) -> None:
    folded = name.casefold()
    if not name.isidentifier() or len(name) > MOST_NAME_CHARS:
        table.report(
            name,
            f"the field name {name!r} can't be a column; use letters, digits and _, "
            f"not a digit first, at most {MOST_NAME_CHARS} characters",
        )
    elif folded in seen:
        table.report(
            name,
            f"the fields {seen[folded]!r} and {name!r} differ only in case, which SQL can't tell "
            "apart; rename one",
        )
    elif depth == 0 and folded in RESERVED_COLUMNS:
        table.report(
            name,
            f"the field name {name!r} is taken: every result table has a column of that name; "
            f"choose another, such as {'the_' + folded!r}",
        )


def _read_field(parent: Table, key: str, name: str, depth: int) -> Field:
    """Reads one field: a table, or just the name of its type."""
    if isinstance(parent.take(key), str):
        return Field(name, _check_type(parent, key, parent.take_text(key)))
    table = parent.take_table(key)
    if table is None:
        return Field(name, "string")
    kind = _check_type(table, "type", table.take_text("type"))
    field = Field(
        name=name,
        type=kind,
        description=" ".join(table.take_text("description").split()),
        required=table.take_flag("required"),
        labels=table.take_texts("labels"),
        patterns=_take_patterns(table),
        unlike=table.take_texts("unlike"),
        **_details(table, kind, name, depth),
    )
    table.finish()
    return field


def _check_type(table: Table, key: str, kind: str) -> FieldType:
    if kind in FIELD_TYPES:
        return kind
    if not kind:
        table.report("", f"the field has no type; add type = one of {', '.join(FIELD_TYPES)}")
    else:
        table.report(key, f"unknown type {kind!r}{did_you_mean(kind, FIELD_TYPES)}")
    return "string"


def _details(table: Table, kind: FieldType, name: str, depth: int) -> dict[str, Any]:
    """What only some types have."""
    details: dict[str, Any] = {}
    owners: dict[str, FieldType] = {
        "values": "enum",
        "items": "list",
        "fields": "object",
        "max_chars": "string",
        "looks_like": "string",
        "take_all": "list",
        "max_items": "list",
        "max_merged_items": "list",
    }
    for key, owner in owners.items():
        if key in table and owner != kind:
            table.report(key, f"{key} is for type {owner!r}, but this field is {kind!r}; remove it")
            table.take(key)
    if depth >= _MOST_DEPTH and kind in ("list", "object"):
        table.report("", f"the field is nested too deep; at most {_MOST_DEPTH} levels")
    elif kind == "string":
        details["max_chars"] = table.take_count("max_chars", 200, 1, 10_000)
        details["looks_like"] = _take_pattern(table)
    elif kind == "enum":
        details["values"] = table.take_texts("values")
        if "values" not in table:
            table.report("", 'an enum needs its choices; add values = ["a", "b"]')
    elif kind == "list":
        details |= _list_details(table, name, depth)
    elif kind == "object":
        details["fields"] = read_fields(table, depth + 1)
        if "fields" not in table:
            table.report("", "an object needs its members; add a [...fields.NAME] table for each")
    return details


def _take_pattern(table: Table) -> str:
    pattern = table.take_text("looks_like")
    try:
        re.compile(pattern)
    except re.error as error:
        table.report("looks_like", f"not a regular expression: {error}; see Python's re")
        return ""
    return pattern


def _take_patterns(table: Table) -> tuple[str, ...]:
    patterns = table.take_texts("patterns")
    for pattern in patterns:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            table.report("patterns", f"not a regular expression: {error}; see Python's re")
            return ()
        if "value" not in groups:
            table.report("patterns", f"{pattern!r} has no group for the value: (?P<value>...)")
            return ()
    return patterns


def _list_details(table: Table, name: str, depth: int) -> dict[str, Any]:
    if "items" in table:
        items = _read_field(table, "items", name, depth + 1)
    else:
        items = Field(name, "string")
        table.report("", 'a list needs to know of what; add items = "string" or an items table')
    most = table.take_count("max_items", 10, 1, 1000)
    merged = table.take_count("max_merged_items", most, 1, 100_000)
    if merged < most:
        table.report("max_merged_items", f"max_merged_items={merged} is below max_items={most}")
    return {
        "items": items,
        "max_items": most,
        "max_merged_items": merged,
        "take_all": table.take_flag("take_all"),
    }


def describe(field: Field) -> str:
    """What a field wants, as the model is told: one line."""
    kinds = {
        "string": "text",
        "integer": "a whole number",
        "decimal": "a number",
        "date": "a date, YYYY-MM-DD",
        "boolean": "true or false",
        "enum": "one of " + ", ".join(field.values),
    }
    if field.type == "object":
        inside = "; ".join(f"{member.name}: {describe(member)}" for member in field.fields)
        kind = f"an object with {inside}"
    elif field.type == "list":
        kind = f"a list of {describe(cast('Field', field.items))}"
    else:
        kind = kinds[field.type]
    return f"{field.description} ({kind})" if field.description else kind
