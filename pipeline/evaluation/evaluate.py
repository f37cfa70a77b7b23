"""Scores a library's answers, and the baseline's beside them.

In: a gold file and the library that has answered it. Out: an `Evaluation`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

from pipeline.evaluation.answers import Found, identify, load_answers, read_texts
from pipeline.evaluation.baseline import baseline_answer
from pipeline.evaluation.gold import Gold
from pipeline.evaluation.grading import Graded, grade_values, load_sureness
from pipeline.evaluation.judging import Judgement, judge
from pipeline.evaluation.scores import Cost, Score, score
from pipeline.queries import query
from pipeline.records import Task

PRODUCT = "docflash"
BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation came to.

    Attributes:
        model: The model that answered last; empty if none did.
        documents: How many were judged.
        unanswered: Answers that were asked for and are not there.
        scores: The product's rows, then the baseline's.
        judgements: The product's, field by field.
        graded: Its values, one by one, with how sure it was of them.
    """

    model: str
    documents: int
    unanswered: int
    scores: tuple[Score, ...]
    judgements: tuple[Judgement, ...]
    graded: tuple[Graded, ...]


def evaluate(gold: Gold, tasks: Sequence[Task], out: Path) -> Evaluation:
    """Scores what a library has published about the documents of a gold file.

    Args:
        gold: The truth.
        tasks: All tasks there are.
        out: The library.

    Raises:
        InputError: Nothing is published in the library.
    """
    ids = identify(gold)
    found = load_answers(out, gold, tasks, ids)
    judged = _judge_all(gold, tasks, found)
    costs: dict[str, Cost] = {}
    for (_, task), answer in found.items():
        known = costs.get(task, Cost())
        costs[task] = Cost(
            known.prompt_tokens + answer.prompt_tokens,
            known.completion_tokens + answer.completion_tokens,
            known.model_s + answer.model_s,
        )
    runs = query(out, "SELECT model FROM runs ORDER BY started_at DESC LIMIT 1").to_pylist()
    simple = _judge_all(gold, tasks, _answer_simply(gold, tasks, read_texts(out, ids)))
    return Evaluation(
        runs[0]["model"] if runs else "",
        len(gold.documents),
        sum(bool(answer.failure) for answer in found.values()),
        (*score(PRODUCT, judged, costs), *score(BASELINE, simple)),
        tuple(judged),
        grade_values(gold, tasks, found, load_sureness(out, ids, tasks), ids),
    )


def sample_gold(gold: Gold, most: int) -> Gold:
    """At most so many of the documents, evenly spread over them in the order of their names."""
    documents = sorted(gold.documents, key=lambda document: document.name)
    count = len(documents)
    if most >= count:
        return gold
    return replace(gold, documents=tuple(documents[place * count // most] for place in range(most)))


def tabulate_scores(evaluation: Evaluation) -> Any:
    """The scores as a `pyarrow.Table` (whose stubs leave the class unknown)."""
    import pyarrow as pa

    hints = get_type_hints(Score)
    kinds = {str: pa.string(), int: pa.int64()}
    schema = pa.schema(
        [(item.name, kinds.get(hints[item.name], pa.float64())) for item in fields(Score)]
    )
    return pa.Table.from_pylist([asdict(row) for row in evaluation.scores], schema)


def plain_value(value: Any) -> Any:
    """A value as JSON has it: dates and decimals as text, these without zeros at their ends."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {name: plain_value(member) for name, member in value.items()}
    return value


def _judge_all(
    gold: Gold, tasks: Sequence[Task], found: Mapping[tuple[str, str], Found]
) -> list[Judgement]:
    by_name = {task.name: task for task in tasks}
    return [
        judgement
        for document in gold.documents
        for answer in sorted(document.answers, key=lambda one: one.task)
        for judgement in judge(
            document, answer, by_name[answer.task], found[document.name, answer.task]
        )
    ]


def _answer_simply(
    gold: Gold, tasks: Sequence[Task], texts: Mapping[str, str]
) -> dict[tuple[str, str], Found]:
    by_name = {task.name: task for task in tasks}
    return {
        (document.name, answer.task): Found(
            baseline_answer(by_name[answer.task], texts[document.name])
        )
        if document.name in texts
        else Found(None, "missing")
        for document in gold.documents
        for answer in document.answers
    }
