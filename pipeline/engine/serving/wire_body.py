"""Reads typed values from a caller's JSON object: a wrong one is refused by its name."""

import json
from typing import Any

from pipeline.errors import RequestError

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
}
"""Parameters that are taken only where they ask for nothing."""
IGNORABLE = frozenset({"user", "metadata"})
"""Parameters that name the caller and can't change an answer."""
UNDERSTOOD = frozenset(
    {
        "model", "messages", "response_format", "max_tokens", "max_completion_tokens",
        "temperature", "seed", "stop", "stream", "stream_options", "logprobs", "top_logprobs",
        "repetition_penalty", "repetition_window", "no_repeat_ngram", "no_repeat_copied",
        "request_id", "timeout",
        "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "logit_bias",
    }
)  # fmt: skip


class Body:
    """Reads typed values from a JSON object; a wrong one is refused by its name."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        """A value as it came; None if it is left out or null."""
        return self._values.get(name)

    def boolean(self, name: str) -> bool:
        """True or false; false if it is left out."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise refused(name, value, "must be true or false")
        return value

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number within bounds."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise refused(name, value, f"must be a whole number from {lowest} to {highest}")
        return value

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        """A number within bounds."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refused(name, value, "must be a number")
        if not lowest <= value <= highest:
            raise refused(name, value, f"must be from {lowest:g} to {highest:g}")
        return float(value)

    def unsupported(self) -> None:
        """Refuses what is neither understood nor neutral."""
        for name, value in self._values.items():
            if name in NEUTRAL:
                if value not in NEUTRAL[name]:
                    allowed = " or ".join(json.dumps(v) for v in NEUTRAL[name])
                    raise refused(name, value, f"is not supported; leave it out, or {allowed}")
            elif name not in UNDERSTOOD and name not in IGNORABLE:
                raise refused(name, value, "is not a parameter that the engine knows")


def refused(name: str, value: Any, why: str) -> RequestError:
    """An error that names a parameter, its value if that is no text, and what to do."""
    # Long or nested values may hold the caller's text, which has no place in a message.
    shown = f"={value!r}" if isinstance(value, bool | int | float) else ""
    return RequestError("bad_parameter", f"{name[:60]}{shown} {why}")
