"""Words a question of training as the product words it, in the form that suits task and model.

In: a task, a model, a piece of a document. Out: the chat, the schema of the answer, and what its
quotes are words of.
"""

import random
from dataclasses import dataclass
from typing import Any

from pipeline.engine.interface import Message, ModelInfo
from pipeline.forms import choose_form, field_schema, quoted_schema
from pipeline.messages import ask_about, ask_field, ask_for_quotes
from pipeline.records import Task
from pipeline.schema import answer_schema

Piece = tuple[str, str, int, int]
"""Title, text, and which part it is of how many."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked.

    Attributes:
        messages: The chat.
        schema: Of the answer; None for text.
        quoted: What its quotes are words of, or "".
    """

    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    quoted: str = ""


def word(task: Task, model: ModelInfo, piece: Piece, chance: random.Random) -> Asked | None:
    """The question about a piece of a document; None if nothing in it could be an answer.

    Args:
        task: Of kind "text" or "fields".
        model: The target.
        piece: What it is about.
        chance: Picks a field where a model is asked field by field.
    """
    title, text, part, parts = piece
    if task.kind != "fields":
        return Asked(ask_about(task, title, text, part, parts))
    form = choose_form(task, model)
    if form == "free":
        schema = answer_schema(task, partial=parts > 1)
        return Asked(ask_about(task, title, text, part, parts), schema)
    if form == "one_call":
        messages = ask_for_quotes(task, title, text, part, parts)
        return Asked(messages, quoted_schema(task, partial=parts > 1), text)
    for field in chance.sample(task.fields, len(task.fields)):
        schema = field_schema(field, text, "", partial=parts > 1)
        if schema is not None:
            return Asked(ask_field(task, field, title, text), schema, text)
    return None
