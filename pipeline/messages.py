"""Words a task's question for the model: the turns of a chat.

In: a task and a piece of a document, or the answers about its parts. Out: messages. The system
message and the document come first and the task's own words last, so that several tasks over one
document share the longest common beginning, which the engine then reads only once. A task's
examples stand before the document: they are the same for all documents.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from pipeline.engine.interface import Message
from pipeline.records import Field, Task
from pipeline.schema import may_be_null
from pipeline.shown_examples import field_answer, value_answer
from pipeline.task_fields import describe

MESSAGES_VERSION = 4
"""Part of every task's fingerprint: raise it when a change here can change answers."""

SYSTEM = "You read documents and answer questions about them. Use only what the document says."


def ask_about(
    task: Task, title: str, text: str, part: int = 1, parts: int = 1
) -> tuple[Message, ...]:
    """The question about a piece of a document.

    Args:
        task: The task.
        title: The document's title, or empty.
        text: What the model sees of the document.
        part: Which piece it is, from 1.
        parts: How many there are; 1 means that it is all of it.
    """
    note = f"\nThis is part {part} of {parts} of the document." if parts > 1 else ""
    question = _question(task, partial=parts > 1)
    shown = [(_answer(task, answer), example) for answer, example in task.examples]
    return (
        Message("system", task.system),
        *_show(shown, question),
        Message("user", f"{_document(title, text)}{question}{note}"),
    )


def ask_for_quotes(
    task: Task, title: str, text: str, part: int = 1, parts: int = 1
) -> tuple[Message, ...]:
    """The question for all fields at once, each with the words that it stands in.

    Args:
        task: Of kind "fields".
        title: The document's title, or empty.
        text: What the model sees of the document.
        part: Which piece it is, from 1.
        parts: How many there are.
    """
    note = f"\nThis is part {part} of {parts} of the document." if parts > 1 else ""
    question = (
        f"{_question(task, partial=parts > 1)}\nGive for each first the quote: the words of the "
        "document that say it, exactly as they stand there. Then the value."
    )
    return (
        Message("system", task.system),
        *_show(task.examples, question),
        Message("user", f"{_document(title, text)}{question}{note}"),
    )


def ask_field(task: Task, field: Field, title: str, text: str) -> tuple[Message, ...]:
    """The question for one field, to be answered with words of the document alone.

    Args:
        task: Of kind "fields".
        field: One of its fields.
        title: The document's title, or empty.
        text: What the model sees of the document.
    """
    wanted = field.description or field.name.replace("_", " ")
    question = f"Copy from the document above: {wanted}."
    shown = [(field_answer(field, answer, example), example) for answer, example in task.examples]
    return (
        Message("system", task.system),
        *_show(shown, question),
        Message("user", _document(title, text) + question),
    )


def ask_to_merge(task: Task, answers: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    """The request to join the answers about consecutive parts of a document into one.

    Args:
        task: Of kind "text".
        answers: Of each part the title of its section, or empty, and the answer.
    """
    listed = "\n\n".join(
        f'Part {n}, of "{title}": {answer}' if title else f"Part {n}: {answer}"
        for n, (title, answer) in enumerate(answers, start=1)
    )
    return (
        Message("system", task.system),
        Message("user", f"{listed}\n\n---\n{task.merge}\n{task.instructions}"),
    )


def ask_again(messages: tuple[Message, ...], answer: str, error: str) -> tuple[Message, ...]:
    """The same question once more, with the invalid answer and what is wrong with it."""
    return (
        *messages,
        Message("assistant", answer or "(nothing)"),
        Message("user", f"This answer is not valid: {error}\nAnswer again, correctly."),
    )


def _document(title: str, text: str) -> str:
    head = f"Document: {title}" if title else "Document:"
    return f"{head}\n\n{text}\n\n---\n"


def _show(examples: Iterable[tuple[str, str]], question: str) -> Iterator[Message]:
    """Examples (answer, text): the question about each text, and its answer."""
    for answer, text in examples:
        yield Message("user", f"{_document('', text)}{question}")
        yield Message("assistant", answer)


def _answer(task: Task, answer: str) -> str:
    """The answer of an example as the model would write it."""
    if task.kind == "class":
        return json.dumps(answer, ensure_ascii=False)
    return value_answer(task.fields, answer) if task.kind == "fields" else answer


def _question(task: Task, *, partial: bool) -> str:
    if task.kind == "class":
        choices = f"\nAnswer with one of: {', '.join(task.classes)}."
        return task.instructions if task.examples else task.instructions + choices
    if task.kind == "text":
        return task.instructions
    lines = [f"- {field.name}: {describe(field)}" for field in task.fields]
    optional = any(may_be_null(field, partial=partial) for field in task.fields)
    null = " Write null for what the document does not say." if optional else ""
    return "\n".join([task.instructions, *lines, f"Answer in JSON.{null}"])
