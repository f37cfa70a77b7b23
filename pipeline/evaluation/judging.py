"""Judges answers against the truth, field by field.

In: gold answers and what was found. Out: a `Judgement` for each field of each answer, which
`pipeline.evaluation.scores` adds up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.answers import Found
from pipeline.evaluation.compare import Counts, compare
from pipeline.evaluation.gold import GoldAnswer, GoldDocument
from pipeline.evaluation.rouge import coverage, rouge_l
from pipeline.records import Field, Task


@dataclass(frozen=True, slots=True)
class Judgement:
    """One field of one answer; "" is the field of an answer that has none.

    Attributes:
        expected, found: The values.
        failure: Why there is no answer; empty if there is one.
        counts: Values right, wrong, missed; None for text.
        null: The document does not hold the field, and whether the answer says so; None if it does.
        quotes, right_quotes: Evidence given; of it, from a right page for a right value.
        rouge_l, coverage: Of text.
    """

    document: str
    task: str
    field: str
    expected: Any
    found: Any
    failure: str = ""
    counts: Counts | None = None
    null: bool | None = None
    quotes: int = 0
    right_quotes: int = 0
    rouge_l: float | None = None
    coverage: float | None = None

    @property
    def is_right(self) -> bool:
        """Whether nothing of it is wrong or missed. Of text: no judgement."""
        return self.counts is None or not (self.counts.wrong or self.counts.missed)


def judge(
    document: GoldDocument, gold: GoldAnswer, task: Task, found: Found
) -> Iterator[Judgement]:
    """Judges an answer.

    Args:
        document: The document.
        gold: What is true of it under the task.
        task: The task.
        found: The answer, or why there is none.
    """
    if task.kind == "text":
        yield _judge_text(document, gold, found)
    elif task.kind == "class":
        field = Field("", "enum", values=task.classes)
        yield _judge_field(document, gold, field, gold.value, found.value, found)
    else:
        answer = found.value or {}
        for field in task.fields:
            if field.name in gold.value:
                truth = gold.value[field.name]
                yield _judge_field(document, gold, field, truth, answer.get(field.name), found)


def _judge_text(document: GoldDocument, gold: GoldAnswer, found: Found) -> Judgement:
    text = found.value or ""
    references = (gold.value, *gold.also.get("", ()))
    return Judgement(
        document.name,
        gold.task,
        "",
        gold.value,
        found.value,
        found.failure,
        rouge_l=max(rouge_l(reference, text) for reference in references),
        coverage=coverage(gold.facts, text),
    )


def _judge_field(
    document: GoldDocument, gold: GoldAnswer, field: Field, expected: Any, value: Any, found: Found
) -> Judgement:
    compared = compare(field, expected, value, gold.also.get(field.name, ()))
    quotes = [quote for quote in found.quotes if quote.field.split(".")[0] == field.name]
    pages = gold.pages.get(field.name, frozenset[int]())
    right = [
        quote
        for quote in quotes
        if quote.item in compared.right_items and (not pages or quote.pages & pages)
    ]
    is_null = expected is None or expected == []
    return Judgement(
        document.name,
        gold.task,
        field.name,
        expected,
        value,
        found.failure,
        compared.counts,
        (not found.failure and value in (None, [])) if is_null else None,
        len(quotes),
        len(right),
    )
