"""Grammars in which some strings can be nothing but words of a source text.

In: a JSON schema with `"x-quote-of-source": true` at strings, and the source. Out: the same as a
Lark grammar for llguidance, which has no such keyword in JSON schemas. Objects, lists and
alternatives around a quote are written out here; all that is without one stays a JSON schema.
A list with `"x-in-order": true` has items out of an enum, each at most once and in its order, which
JSON schemas can't say either: a small model would write the first again and again.

A quote is a run of `substring_chunks` of one escaped character each: `substring_chars` would accept
half an escape, `substring_words` refuses to begin inside a word. It is never empty.
"""

import json
from typing import Any, cast

from pipeline.errors import RequestError

QUOTE_KEY = "x-quote-of-source"
ORDER_KEY = "x-in-order"
LONGEST_QUOTE = 2000
"""Characters of a quote, where the schema has no `maxLength`."""

_DESCRIPTIONS = frozenset(("title", "description", "x-guidance", "$schema", "default", "examples"))
_KEYWORDS = {
    "quote": frozenset((QUOTE_KEY, "type", "maxLength")),
    "object": frozenset(("type", "properties", "required", "additionalProperties")),
    "array": frozenset(("type", "items", "minItems", "maxItems")),
    "choice": frozenset(("anyOf",)),
    "ordered": frozenset((ORDER_KEY, "type", "items", "minItems")),
}
_MOST_ITEMS = 10_000


def has_quotes(schema: Any) -> bool:
    """Whether a JSON schema has what `quoting_grammar` is for."""
    if isinstance(schema, list):
        return any(map(has_quotes, cast("list[Any]", schema)))
    if not isinstance(schema, dict):
        return False
    values = cast("dict[str, Any]", schema)
    is_ours = values.get(QUOTE_KEY) is True or values.get(ORDER_KEY) is True
    return is_ours or any(map(has_quotes, values.values()))


def quoting_grammar(schema: dict[str, Any], source: str) -> str:
    """The Lark grammar of a schema with quotes.

    Args:
        schema: The JSON schema.
        source: What quotes are words of.

    Raises:
        RequestError: "bad_schema": the source is empty, or what stands around a quote can't be
            written out.
    """
    writer = _Writer(schema.get("x-guidance") or {"whitespace_flexible": False})
    start = writer.value(schema, "the schema")
    if not writer.has_source:
        return "\n".join([f"start: {start}", *writer.rules, ""])
    if not source:
        raise RequestError("bad_schema", "the schema asks for quotes, but the source is empty")
    chunks = {"substring_chunks": [escape_character(character) for character in source]}
    # ASCII keeps what JSON allows and Lark might not, such as line separators, out of the grammar.
    source_rule = f"SOURCE: %regex {json.dumps(chunks)}"
    return "\n".join([f"start: {start}", *writer.rules, source_rule, ""])


def escape_character(character: str) -> str:
    """A character as it stands inside a string of JSON."""
    return json.dumps(character, ensure_ascii=False)[1:-1]


class _Writer:
    """Writes rules; each method gives what stands for its part of the schema."""

    def __init__(self, guidance: dict[str, Any]) -> None:
        self.rules: list[str] = []
        self.has_source = False
        self._guidance = guidance
        self._known: dict[str, str] = {}

    def value(self, schema: Any, where: str) -> str:
        if not has_quotes(schema):
            return self._plain(schema)
        if schema.get(QUOTE_KEY) is True:
            return self._quote(schema, where)
        if schema.get(ORDER_KEY) is True:
            return self._in_order(schema, where)
        if "anyOf" in schema:
            _check(schema, "choice", where)
            return self._rule(" | ".join(self.value(each, where) for each in schema["anyOf"]))
        if schema.get("type") == "object":
            return self._object(schema, where)
        if schema.get("type") == "array":
            return self._array(schema, where)
        raise _refused(where, "a quote can stand in an object, an array or anyOf, nowhere else")

    def _plain(self, schema: Any) -> str:
        if isinstance(schema, dict):
            schema = {"x-guidance": self._guidance} | cast("dict[str, Any]", schema)
        return self._rule(f"%json {json.dumps(schema)}")

    def _quote(self, schema: dict[str, Any], where: str) -> str:
        _check(schema, "quote", where)
        most = schema.get("maxLength", LONGEST_QUOTE)
        if schema.get("type", "string") != "string" or not _is_count(most, LONGEST_QUOTE):
            raise _refused(where, f"a quote is a string, maxLength from 1 to {LONGEST_QUOTE}")
        self.has_source = True
        terminal = f"QUOTE{most}"
        rule = rf"{terminal}: SOURCE & /(\\u[0-9a-f]{{4}}|\\.|[^\\]){{1,{most}}}/"
        if rule not in self.rules:
            self.rules.append(rule)
        return self._rule(rf'"\"" {terminal} "\""')

    def _object(self, schema: dict[str, Any], where: str) -> str:
        _check(schema, "object", where)
        members: dict[str, Any] = schema.get("properties") or {}
        if sorted(schema.get("required") or []) != sorted(members):
            raise _refused(where, "an object with a quote inside must require all its properties")
        parts: list[str] = []
        for number, (name, member) in enumerate(members.items()):
            key = ("," if number else "{") + json.dumps(name, ensure_ascii=False) + ":"
            parts += [_literal(key), self.value(member, f"the property {name!r}")]
        return self._rule(" ".join([*parts, _literal("}")]))

    def _array(self, schema: dict[str, Any], where: str) -> str:
        _check(schema, "array", where)
        least, most = schema.get("minItems", 0), schema.get("maxItems", _MOST_ITEMS)
        if not _is_count(most, _MOST_ITEMS) or not (least == 0 or _is_count(least, most)):
            raise _refused(where, "minItems and maxItems make no sense")
        item = self.value(schema.get("items"), f"an item of {where}")
        items = f'{item} ("," {item}){{{max(least - 1, 0)},{most - 1}}}'
        return self._rule(f'"[" "]" | "[" {items} "]"' if least == 0 else f'"[" {items} "]"')

    def _in_order(self, schema: dict[str, Any], where: str) -> str:
        _check(schema, "ordered", where)
        items = schema.get("items")
        values: Any = items.get("enum") if isinstance(items, dict) else None
        least = schema.get("minItems", 0)
        if not isinstance(values, list) or not values or least not in (0, 1):
            raise _refused(where, f"{ORDER_KEY} needs items with an enum, and minItems 0 or 1")
        first, more = "", '""'
        for value in reversed(cast("list[Any]", values)):
            item = _literal(json.dumps(value, ensure_ascii=False))
            first = self._rule(f"{item} {more}" + (f" | {first}" if first else ""))
            more = self._rule(f'"" | "," {item} {more}' + (f" | {more}" if more != '""' else ""))
        return self._rule(f'"[" {first} "]"' + ("" if least else ' | "[" "]"'))

    def _rule(self, body: str) -> str:
        if body not in self._known:
            self._known[body] = f"r{len(self._known)}"
            self.rules.append(f"{self._known[body]}: {body}")
        return self._known[body]


def _literal(text: str) -> str:
    return json.dumps(text)


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _check(schema: dict[str, Any], kind: str, where: str) -> None:
    unknown = set(schema) - _KEYWORDS[kind] - _DESCRIPTIONS
    if unknown:
        raise _refused(where, f"{min(unknown)!r} is not supported around a quote")


def _refused(where: str, reason: str) -> RequestError:
    return RequestError("bad_schema", f"the JSON schema is not usable at {where}: {reason}")
