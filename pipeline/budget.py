"""Plans how much of a document fits a question, so that no prompt is ever too long.

In: a task and a model. Out: the task's limits, lowered to what the model's context takes beside
the question, the answer, and a second try with the first answer in it.
"""

import dataclasses
from collections.abc import Iterator

from pipeline.chunks import MIN_CHUNK_TOKENS
from pipeline.engine.interface import Message, ModelInfo
from pipeline.errors import InputError
from pipeline.forms import choose_form
from pipeline.messages import ask_about, ask_again, ask_field, ask_for_quotes, ask_to_merge
from pipeline.records import Limits, Task
from pipeline.tokens import Tokens, load_tokens

TITLE_TOKENS = 64
"""A longer title is shortened in the question; it is only a hint there."""

SECTION_TOKENS = 16
"""Likewise the title of a section."""

ERROR_CHARS = 400
"""A longer error is shortened in the question; it is recorded in full."""

_TEMPLATE_TOKENS = 96  # what a chat template adds by itself, such as the date of today
_TURN_TOKENS = 16  # what it adds to a turn
_CLOSING_TOKENS = 32  # what the grammar may add to close an answer at its limit
_PART_TOKENS = 12  # "Part 12: " and the blank line after it
_OF_TITLE_TOKENS = 6  # what is written around the title of its section
_PARTS_AT_ONCE = 4  # even of long answers: a tree of pairs would ask twice as often as it reads
_MANY = 100_000
_ROOMY = 8192  # a context in which answers with quotes may be twice as long


def chunk_limits(task: Task, model: ModelInfo) -> Limits:
    """The limits to cut chunks by, for one task under one model.

    Args:
        task: The task.
        model: The model, for its tokenizer and its context.

    Returns:
        The task's limits; `chunk_tokens` and `overlap_tokens` lower if the context is short.

    Raises:
        InputError: The context has no room for the task, or its tokenizer can't be read.
    """
    tokens = load_tokens(model.tokenizer_json)
    rooms = [_room(task, model, tokens, question) for question in _questions(task)]
    room = min(rooms) - TITLE_TOKENS
    can_merge = task.kind != "text" or most_parts(task, model, titled=False) > 1
    if room < MIN_CHUNK_TOKENS or not can_merge:
        raise InputError(
            f"the task {task.name!r} does not fit the model {model.name!r}: "
            f"context_tokens={model.context_tokens}, max_tokens={task.limits.max_tokens}; lower "
            "max_tokens under [limits], shorten the instructions or the examples, or choose a "
            "model with more context"
        )
    chunk_tokens = min(task.limits.chunk_tokens, room)
    return dataclasses.replace(
        task.limits,
        chunk_tokens=chunk_tokens,
        overlap_tokens=min(task.limits.overlap_tokens, chunk_tokens // 2),
    )


def most_parts(task: Task, model: ModelInfo, *, titled: bool) -> int:
    """How many answers about parts fit one request to join them, however long they are.

    They take at most a chunk's worth, which the model reads as well as it reads chunks, unless that
    is less than a few answers.

    Args:
        task: The task, of kind "text".
        model: The model, for its tokenizer and its context.
        titled: The title of its section stands with each part.
    """
    tokens = load_tokens(model.tokenizer_json)
    part = task.limits.max_tokens + _PART_TOKENS
    if titled:
        part += SECTION_TOKENS + _OF_TITLE_TOKENS
    room = _room(task, model, tokens, ask_to_merge(task, ()))
    return min(room, max(task.limits.chunk_tokens, _PARTS_AT_ONCE * part)) // part


def answer_tokens(task: Task, model: ModelInfo) -> int:
    """The most tokens of an answer; quotes beside values may take as many again."""
    doubled = model.context_tokens >= _ROOMY and choose_form(task, model) == "one_call"
    return task.limits.max_tokens * (2 if task.kind == "fields" and doubled else 1)


def _questions(task: Task) -> Iterator[tuple[Message, ...]]:
    """The longest questions of a task, each without a document."""
    # The longest of the questions about fields is that for quotes. But the words that lead to a
    # value, which only the answers about single fields have, may make an example longer.
    ask = ask_for_quotes if task.kind == "fields" else ask_about
    yield ask(task, "", "", part=_MANY, parts=_MANY)
    if task.kind == "fields" and task.examples:
        yield from (ask_field(task, field, "", "") for field in task.fields)


def _room(task: Task, model: ModelInfo, tokens: Tokens, question: tuple[Message, ...]) -> int:
    """What the context leaves beside a question, its answer, and a second try at it."""
    turns = ask_again(question, "", "x " * (ERROR_CHARS // 2))
    words = sum(tokens.count(message.content) + _TURN_TOKENS for message in turns)
    answers = 2 * (answer_tokens(task, model) + _CLOSING_TOKENS)
    return model.context_tokens - words - answers - _TEMPLATE_TOKENS
