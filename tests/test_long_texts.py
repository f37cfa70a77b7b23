"""What is looked for in an answer's text takes a time like its length, whatever the text is.

It is done in the run itself, not in a process that can be killed: a letter that somebody made for
it must not hold up the night.
"""

import time
from pathlib import Path

import pytest

from pipeline.forms import field_schema
from pipeline.records import Field
from pipeline.task_files import read_task

PROMPTS = Path(__file__).parents[1] / "prompts"
CHARS = 24_000
LIMIT_S = 5.0  # each of these took from 10 s to minutes where it took the square of the length
REPEATED = {
    "1": "contract.notice_days",
    "1 ": "contract.amount",
    "3 May ": "contract.effective_date",
    "1/1/2020 ": "contract.amount",
    "Aa-": "contract.parties",
    "INV-": "invoice.invoice_number",
    "Present: A, ": "entities.people",
    "Date: ": "invoice.invoice_date",
    "Dear Sir,\n": "letter.recipient",
}


def read_field(name: str) -> Field:
    task_name, _, field_name = name.partition(".")
    path = PROMPTS / f"{task_name}.toml"
    task, problems = read_task(str(path), path.read_text("utf-8"))
    assert task is not None, problems
    return next(field for field in task.fields if field.name == field_name)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\f\f"])
def test_a_text_without_a_word_has_no_values(text: str) -> None:
    assert field_schema(read_field("contract.parties"), text, text) is None


@pytest.mark.parametrize(("piece", "name"), REPEATED.items())
def test_a_text_made_to_hold_up_the_night_does_not(piece: str, name: str) -> None:
    text = (piece * CHARS)[:CHARS]
    field = read_field(name)
    began_s = time.process_time()
    field_schema(field, text, text)
    assert time.process_time() - began_s < LIMIT_S
