"""What a task's answer must look like: for the grammar, for parquet, and for SQL.

In: a task or a field. Out: a JSON schema of which every answer is finite, a pyarrow type, or a
DuckDB type. Numbers travel as strings: as JSON numbers "1,234.50" would end at the comma, which
is valid JSON and wrong; in a string the grammar lets the comma be nothing but left out.
"""

from typing import Any, cast

from pipeline.records import Field, Task

DECIMAL_DIGITS = 18
DECIMAL_PLACES = 4
INTEGER_DIGITS = 18

# Escapes of control characters and of what needs none are left out; so is white space between
# tokens, where small models get lost.
GUIDANCE = {"whitespace_flexible": False, "json_allowed_escapes": 'nt"\\'}
"""llguidance's options for every answer."""

_INTEGER = rf"-?(0|[1-9][0-9]{{0,{INTEGER_DIGITS - 1}}})"
_DECIMAL = (
    rf"-?(0|[1-9][0-9]{{0,{DECIMAL_DIGITS - DECIMAL_PLACES - 1}}})(\.[0-9]{{1,{DECIMAL_PLACES}}})?"
)
_YEAR = "[12][0-9]{3}"
_LEAP_YEAR = "([12][0-9](0[48]|[2468][048]|[13579][26])|(1[26]|2[048])00)"
_DATE = (
    f"({_YEAR}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    f"|{_YEAR}-(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|{_YEAR}-02-(0[1-9]|1[0-9]|2[0-8])|{_LEAP_YEAR}-02-29)"
)
_PATTERNS = {"integer": _INTEGER, "decimal": _DECIMAL, "date": _DATE}


def answer_schema(task: Task, *, partial: bool = False) -> dict[str, Any] | None:
    """The JSON schema that the engine holds an answer to.

    Args:
        task: The task.
        partial: The answer is about a part of a document, which may lack any field: see
            `may_be_null`.

    Returns:
        The schema with llguidance's options in "x-guidance", or None for free text.
    """
    if task.kind == "text":
        return None
    if task.kind == "class":
        return {"x-guidance": GUIDANCE, "enum": list(task.classes)}
    return {"x-guidance": GUIDANCE, **_object_schema(task.fields, partial=partial)}


def may_be_null(field: Field, *, partial: bool = False) -> bool:
    """Whether an answer may say null (a list: have no items) for a field.

    A part of a document may lack a required field. Small models take that way out in every part
    if it is offered, so it is offered only where a value has no empty form: text can be "", which
    counts as null, and a list can hold nothing but "".

    Args:
        field: A field of the answer.
        partial: The answer is about a part of a document.
    """
    if not field.required:
        return True
    kind = cast("Field", field.items).type if field.type == "list" else field.type
    return partial and kind != "string"


def _object_schema(fields: tuple[Field, ...], *, partial: bool = False) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            field.name: value_schema(field, nullable=may_be_null(field, partial=partial))
            for field in fields
        },
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }


def value_schema(field: Field, *, nullable: bool) -> dict[str, Any]:
    """The JSON schema of one field's values; `nullable` allows null, or an empty list."""
    schema: dict[str, Any]
    if field.type == "enum":
        return {"enum": [*field.values, None] if nullable else list(field.values)}
    if field.type == "boolean":
        schema = {"type": "boolean"}
    elif field.type == "string":
        schema = {"type": "string", "pattern": _text_pattern(field.max_chars)}
    elif field.type == "list":
        items = value_schema(cast("Field", field.items), nullable=False)
        least = 0 if nullable else 1
        return {"type": "array", "items": items, "minItems": least, "maxItems": field.max_items}
    elif field.type == "object":
        schema = _object_schema(field.fields)
    else:
        schema = {"type": "string", "pattern": f"^{_PATTERNS[field.type]}$"}
    return {"anyOf": [schema, {"type": "null"}]} if nullable else schema


def _text_pattern(most: int) -> str:
    """Text of at most so many characters, no space first.

    May be empty, so that an answer can be closed here; that counts as null. The length stands in
    the pattern: as `maxLength` beside it, llguidance takes twenty times as long for a mask.
    """
    return rf"^(\S[\s\S]{{0,{most - 1}}})?$"


def arrow_type(field: Field) -> Any:
    """The pyarrow `DataType` of a field's values (its stubs leave the class unknown)."""
    import pyarrow as pa

    if field.type == "list":
        return pa.list_(arrow_type(cast("Field", field.items)))
    if field.type == "object":
        return pa.struct([pa.field(member.name, arrow_type(member)) for member in field.fields])
    return {
        "string": pa.string(),
        "enum": pa.string(),
        "integer": pa.int64(),
        "decimal": pa.decimal128(DECIMAL_DIGITS, DECIMAL_PLACES),
        "date": pa.date32(),
        "boolean": pa.bool_(),
    }[field.type]


def duckdb_type(field: Field) -> str:
    """The DuckDB type of a field's values, as SQL."""
    if field.type == "list":
        return f"{duckdb_type(cast('Field', field.items))}[]"
    if field.type == "object":
        members = ", ".join(
            '"{}" {}'.format(member.name.replace('"', '""'), duckdb_type(member))
            for member in field.fields
        )
        return f"STRUCT({members})"
    return {
        "string": "VARCHAR",
        "enum": "VARCHAR",
        "integer": "BIGINT",
        "decimal": f"DECIMAL({DECIMAL_DIGITS}, {DECIMAL_PLACES})",
        "date": "DATE",
        "boolean": "BOOLEAN",
    }[field.type]
