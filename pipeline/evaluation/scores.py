"""Adds judgements up to scores: by task and by field.

In: judgements of one system. Out: `Score` rows. A task's precision, recall and F1 are the means
over its fields, so that a list of thirty lines weighs no more than a date; a field's are over all
its values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pipeline.evaluation.compare import Counts
from pipeline.evaluation.judging import Judgement


@dataclass(frozen=True, slots=True)
class Score:
    """One row of an evaluation. None: there was nothing to judge it by.

    Attributes:
        system: "docflash" or "baseline".
        task: The task; "all": the mean over the tasks with fields.
        field: The field; "" for the task as a whole.
        documents: Documents with a label for it.
        answered: Documents with an answer.
        precision, recall, f1: Of values.
        null_accuracy: Of the fields that the document does not hold: the share answered null.
        nulls: How many those are.
        evidence_precision: Of the quotes: the share that is from a right page for a right value.
        quotes: How many those are.
        rouge_l, coverage: Of text, the means.
        prompt_tokens, completion_tokens, model_s: Of a task: sums over its documents.
    """

    system: str
    task: str
    field: str
    documents: int
    answered: int
    precision: float | None
    recall: float | None
    f1: float | None
    null_accuracy: float | None
    nulls: int
    evidence_precision: float | None
    quotes: int
    rouge_l: float | None = None
    coverage: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What the answers to a task took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_s: float = 0.0


def score(
    system: str, judgements: Sequence[Judgement], costs: dict[str, Cost] | None = None
) -> tuple[Score, ...]:
    """Scores of each task and each of its fields, in the order of the judgements; "all" last.

    Args:
        system: Whose answers they are.
        judgements: All of them.
        costs: By task.
    """
    rows: list[Score] = []
    heads: list[Score] = []
    for task in dict.fromkeys(judgement.task for judgement in judgements):
        own = [judgement for judgement in judgements if judgement.task == task]
        names = dict.fromkeys(judgement.field for judgement in own)
        fields = [_score(system, task, [j for j in own if j.field == name]) for name in names]
        cost = (costs or {}).get(task, Cost())
        head = fields[0] if list(names) == [""] else _sum_up(system, task, own, fields)
        heads.append(_with_cost(head, cost))
        rows += [heads[-1], *(fields if list(names) != [""] else ())]
    with_fields = [row for row in rows if row.field]
    if len({row.task for row in with_fields}) > 1:
        own = [judgement for judgement in judgements if judgement.field]
        tasks = [row for row in heads if any(row.task == field.task for field in with_fields)]
        rows.append(_sum_up(system, "all", own, tasks))
    return tuple(rows)


def _score(system: str, task: str, own: Sequence[Judgement]) -> Score:
    counts = [judgement.counts for judgement in own if judgement.counts is not None]
    precision, recall, f1 = _rates(sum(counts, start=Counts())) if counts else (None, None, None)
    return _row(system, task, own, (precision, recall, f1), own[0].field)


def _sum_up(system: str, task: str, own: Sequence[Judgement], parts: Sequence[Score]) -> Score:
    rates = (
        _mean(part.precision for part in parts),
        _mean(part.recall for part in parts),
        _mean(part.f1 for part in parts),
    )
    return _row(system, task, own, rates)


def _row(
    system: str,
    task: str,
    own: Sequence[Judgement],
    rates: tuple[float | None, float | None, float | None],
    field: str = "",
) -> Score:
    nulls = [judgement.null for judgement in own if judgement.null is not None]
    quotes = sum(judgement.quotes for judgement in own)
    right = sum(judgement.right_quotes for judgement in own)
    return Score(
        system,
        task,
        field,
        len({judgement.document for judgement in own}),
        len({judgement.document for judgement in own if not judgement.failure}),
        *rates,
        fmean(nulls) if nulls else None,
        len(nulls),
        right / quotes if quotes else None,
        quotes,
        _mean(judgement.rouge_l for judgement in own),
        _mean(judgement.coverage for judgement in own),
    )


def _with_cost(row: Score, cost: Cost) -> Score:
    return replace(
        row,
        prompt_tokens=cost.prompt_tokens,
        completion_tokens=cost.completion_tokens,
        model_s=round(cost.model_s, 3),
    )


def _rates(counts: Counts) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1; None where there is no true value, or no answer, to judge."""
    true, given = counts.right + counts.missed, counts.right + counts.wrong
    f1 = 2 * counts.right / (true + given) if true else None
    return (
        counts.right / given if given else None,
        counts.right / true if true else None,
        f1,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
