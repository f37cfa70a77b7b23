"""Grades single values, for calibration: was it right, and how sure was the model?

In: gold documents, and what a library has published about them. Out: a `Graded` for each value of
each answer with fields, and for each class; nulls are none. Values are judged as
`pipeline.evaluation.compare` does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.calibration import CLASS_FIELD
from pipeline.evaluation.answers import Found
from pipeline.evaluation.compare import compare
from pipeline.evaluation.gold import Gold, GoldAnswer
from pipeline.queries import list_views, query
from pipeline.records import Task
from pipeline.tables import quoted


@dataclass(frozen=True, slots=True)
class Sureness:
    """What the table `evidence` says of a value, or `documents` of a class.

    Attributes:
        probability: As the model had it; None if a rule found the value.
        confidence: As it was published; None if nothing was measured.
        model, prompt: Fingerprints of the model and the task that it is from.
    """

    probability: float | None
    confidence: float | None
    model: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Graded:
    """One value of an answer.

    Attributes:
        document: Its name.
        task: The task's name.
        field: Dotted path.
        is_right: Whether it is what the gold file has.
        sure: What was published with it.
    """

    document: str
    task: str
    field: str
    is_right: bool
    sure: Sureness


_Place = tuple[str, str, str, int]  # document's id, task, field, item

_SURENESS = """
SELECT document_id, e.task, field, item, any_value(probability) AS probability,
    any_value(confidence) AS confidence, any_value(j.model_fingerprint) AS model,
    any_value(j.prompt_fingerprint) AS prompt
FROM evidence e JOIN jobs j USING (document_id, job_key)
WHERE chosen AND span = 0 AND value IS NOT NULL AND document_id IN ({ids})
GROUP BY ALL HAVING count(*) = 1
"""

_OF_CLASSES = """
SELECT document_id, j.task, {field} AS field, 0 AS item, class_probability AS probability,
    class_confidence AS confidence, j.model_fingerprint AS model, j.prompt_fingerprint AS prompt
FROM documents d JOIN jobs j USING (document_id)
WHERE j.task = {task} AND class IS NOT NULL AND document_id IN ({ids})
"""


def load_sureness(
    out: Path, ids: Mapping[str, str], tasks: Sequence[Task]
) -> dict[_Place, Sureness]:
    """What a library says of the values and the classes of some documents.

    A place with several values, as in a list in a list, has none; so has all that was published by
    a docflash that knew no calibration.

    Args:
        out: The library.
        ids: Of the documents, by name.
        tasks: All tasks there are.

    Raises:
        InputError: Nothing is published in the library.
    """
    listed = ", ".join(map(quoted, ids.values())) or "NULL"
    queries = [_SURENESS.format(ids=listed)] if _has(out, "evidence", "measured") else []
    if _has(out, "documents", "class_confidence"):
        queries += [
            _OF_CLASSES.format(ids=listed, task=quoted(task.name), field=quoted(CLASS_FIELD))
            for task in tasks
            if task.kind == "class"
        ]
    return {
        (row["document_id"], row["task"], row["field"], row["item"]): Sureness(
            row["probability"], row["confidence"], row["model"], row["prompt"]
        )
        for sql in queries
        for row in query(out, sql).to_pylist()
    }


def _has(out: Path, table: str, column: str) -> bool:
    """Whether a library has published this column; one of an older docflash may not have."""
    if table not in list_views(out):
        return False
    return column in query(out, f"DESCRIBE {table}").to_pydict()["column_name"]


def grade_values(
    gold: Gold,
    tasks: Sequence[Task],
    found: Mapping[tuple[str, str], Found],
    sureness: Mapping[_Place, Sureness],
    ids: Mapping[str, str],
) -> tuple[Graded, ...]:
    """Grades the values of all answers with fields, and all classes.

    Args:
        gold: The truth.
        tasks: All tasks there are.
        found: Answers, by the document's name and the task's.
        sureness: See `load_sureness`.
        ids: Of the documents, by name.
    """
    by_name = {task.name: task for task in tasks}
    graded: list[Graded] = []
    for document in gold.documents:
        for answer in sorted(document.answers, key=lambda one: one.task):
            value = found[document.name, answer.task].value
            if by_name[answer.task].kind == "text" or value is None:
                continue
            for field, item, is_right in _verdicts(by_name[answer.task], answer, value):
                sure = sureness.get((ids[document.name], answer.task, field, item))
                if sure is not None:
                    graded.append(Graded(document.name, answer.task, field, is_right, sure))
    return tuple(graded)


def _verdicts(task: Task, answer: GoldAnswer, value: Any) -> Iterator[tuple[str, int, bool]]:
    """Of each value that has a label: its dotted path, place in the list, whether it is right."""
    if task.kind == "class":
        yield CLASS_FIELD, 0, value == answer.value or value in answer.also.get("", ())
        return
    for field in task.fields:
        if field.name in answer.value:
            also = answer.also.get(field.name, ())
            compared = compare(field, answer.value[field.name], value.get(field.name), also)
            for (item, path), is_right in compared.verdicts.items():
                yield f"{field.name}.{path}" if path else field.name, item, is_right
