"""A document's words leave the classes that it can have."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.class_words import BEGINNING_CHARS, classes_by_words
from pipeline.pages import read_contents
from pipeline.records import Task
from pipeline.task_files import read_task

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_docs"
FILE = """
instructions = "Which?"
classes = ["letter", "invoice", "other"]
[words]
invoice = ["invoice", "total due", "VAT"]
letter = ["^dear", "kind regards"]
"""


@pytest.fixture(scope="module")
def task() -> Task:
    found, problems = read_task("kind.toml", FILE)
    assert found is not None, problems
    return found


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("INVOICE\nTotal  due: 5", ("invoice",)),
        ("invoice vat\nDear Ann\nKind regards", ("letter", "invoice")),
        ("Dear Ann,\nthe invoice, and the total\ndue.\nKind regards. VAT", ("invoice",)),
        ("My dear invoice. Kind regards.", ("letter", "invoice", "other")),
        ("invoices and private totals", ("letter", "invoice", "other")),
        ("", ("letter", "invoice", "other")),
        ("x" * BEGINNING_CHARS + " invoice vat", ("letter", "invoice", "other")),
    ],
)
def test_the_class_with_most_words_is_left(task: Task, text: str, classes: tuple[str, ...]) -> None:
    assert classes_by_words(task, text) == classes


def test_a_task_without_words_leaves_all() -> None:
    bare, _ = read_task("kind.toml", FILE.partition("[words]")[0])
    assert bare is not None
    assert classes_by_words(bare, "INVOICE\nTotal due: 5") == bare.classes


def test_the_words_that_come_along_rule_no_right_class_out() -> None:
    """On the training part of the gold set, and they are enough for most of it."""
    gold = json.loads((SAMPLES / "gold" / "gold.json").read_text("utf-8"))["documents"]
    own, problems = read_task("c.toml", (ROOT / "prompts" / "document_class.toml").read_text())
    assert own is not None, problems
    found: Counter[str] = Counter()
    for name, entry in gold.items():
        right = entry["answers"].get("document_class")
        if entry["split"] != "train" or right is None:
            continue
        path = SAMPLES / name
        contents = read_contents(path.read_bytes(), path.suffix)
        classes = classes_by_words(own, "\f".join(page.text for page in contents.pages))
        assert right in classes, name
        found["known" if len(classes) == 1 else "asked"] += 1
    assert found["known"] > 3 * found["asked"]
