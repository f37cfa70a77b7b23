"""Refuses schemas and sources on which the grammar's compiler would work for minutes.

In: a JSON schema, or the text that quotes are words of. Out: nothing, or "bad_schema". One thread
compiles and decodes, so that all requests would wait meanwhile, and none could be cancelled.
llguidance bounds by itself what patterns, enums, references and repetitions cost.
"""

import re
from typing import Any, cast

from pipeline.errors import RequestError

LONGEST_SOURCE = 100_000
"""Characters: 1.3 s. Of ten times as many 27 s are spent, and llguidance refuses them."""
LARGEST_MULTIPLE = 100_000
"""Digits but for zeros at the ends: each remainder is a state, 0.4 s. 1,000,003 takes 9 s."""

_NO_DIGIT = re.compile("e.*|[^0-9]")


def check_schema(schema: Any) -> None:
    """Refuses what takes too long to compile.

    Raises:
        RequestError: "bad_schema", with the value.
    """
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += cast("list[Any]", value)
        elif isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            left += members.values()
            _check_multiple(members.get("multipleOf"))


def check_source(source: str) -> None:
    """Refuses a text that is too long to quote from.

    Raises:
        RequestError: "bad_schema", with its length.
    """
    if len(source) > LONGEST_SOURCE:
        raise RequestError(
            "bad_schema",
            f"the source of quotes has characters={len(source)}, more than {LONGEST_SOURCE}; "
            "give the part that is to be quoted from",
        )


def _check_multiple(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    significant = _NO_DIGIT.sub("", repr(value)).strip("0")
    if significant and int(significant) > LARGEST_MULTIPLE:
        raise RequestError(
            "bad_schema",
            f"multipleOf={value!r} takes too long to compile; it may have digits up to "
            f"{LARGEST_MULTIPLE}, zeros at the ends not counted",
        )
