"""Gold files: read and checked, written from a library, and a library scored by them."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.evaluation.answers import identify, load_answers, read_texts
from pipeline.evaluation.evaluate import evaluate, tabulate_scores
from pipeline.evaluation.gold import load_gold
from pipeline.evaluation.labelling import write_labels
from pipeline.evaluation.running import Trial, make_order
from pipeline.evidence import Evidence
from pipeline.jobs import DocumentEntry, plan_jobs
from pipeline.parquet import publish
from pipeline.records import Failure
from pipeline.store import Store
from tests.library import (
    INVOICE_FIELDS,
    MODEL,
    READER,
    make_document,
    make_file,
    make_result,
    make_task,
    open_library,
    plan,
)

INVOICE = make_task("invoice", "fields", fields=INVOICE_FIELDS)
SUMMARY = make_task("summary")
CLASS = make_task("document_class", "class", classes=("invoice", "letter"))
TASKS = (CLASS, INVOICE, SUMMARY)
TEXT = "Invoice no. A-17\nTotal due £5.00\nDue 9 April 2026\n"
ANSWER = {
    "number": "A-17",
    "total": Decimal("5.00"),
    "due": None,
    "pages_sent": None,
    "paid": None,
    "currency": None,
    "tags": ["a"],
    "lines": [{"text": "Oak", "amount": Decimal(5)}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text("A letter.")
    return tmp_path


def write_gold(folder: Path, documents: Any, **values: Any) -> Path:
    path = folder / "gold.json"
    gold: dict[str, Any] = {"version": 1, "documents": documents}
    path.write_text(json.dumps(gold | values))
    return path


def entry(**answers: Any) -> dict[str, Any]:
    return {"answers": answers}


def test_values_get_the_types_of_their_fields(folder: Path) -> None:
    fields = {"number": "A-17", "total": "5.00", "due": "2026-04-09", "tags": None, "paid": None}
    gold = load_gold(write_gold(folder, {"a.txt": entry(invoice=fields)}), TASKS)
    (answer,) = gold.documents[0].answers
    assert answer.value["total"] == Decimal("5.00")
    assert answer.value["due"].year == 2026
    assert answer.value["tags"] == []
    assert answer.value["paid"] is None
    assert "lines" not in answer.value  # has no label


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({}, "documents: is missing or empty"),
        ({"a.txt": {}}, 'a.txt: needs "answers"'),
        ({"a.txt": "invoice"}, 'a.txt: needs "answers"'),
        ({"c.txt": entry(summary="So.")}, "c.txt: there is no such file"),
        ({"a.txt": entry(invoce={})}, "no task of this name; did you mean 'invoice'?"),
        ({"a.txt": entry(invoice={"totl": 1})}, "no field 'totl'; did you mean 'total'?"),
        ({"a.txt": entry(invoice={"due": "9.4.2026"})}, "a.txt, invoice, due: '9.4.2026' is not a"),
        ({"a.txt": entry(invoice={"total": "5 EUR"})}, "invoice, total: '5 EUR' is not a number"),
        ({"a.txt": entry(invoice={"total": True})}, "invoice, total: True is not a number"),
        ({"a.txt": entry(invoice={"number": 17})}, "invoice, number: 17 is not text"),
        ({"a.txt": entry(invoice={"pages_sent": "2"})}, "'2' is not a whole number"),
        ({"a.txt": entry(invoice={"paid": "yes"})}, "'yes' is not true or false"),
        ({"a.txt": entry(invoice={"currency": "EU"})}, "'EU' is not a choice; did you mean 'EUR'?"),
        ({"a.txt": entry(invoice={"tags": "a"})}, "invoice, tags: 'a' is not a list"),
        ({"a.txt": entry(invoice={"lines": ["a"]})}, "invoice, lines: 'a' is not an object"),
        ({"a.txt": entry(invoice={"lines": [{"txt": 1}]})}, "no member 'txt'; did you mean"),
        ({"a.txt": entry(invoice="A-17")}, "a.txt, invoice: the answer is not an object"),
        ({"a.txt": entry(summary=7)}, "a.txt, summary: the answer is 7; give text"),
        ({"a.txt": entry(document_class="leter")}, "no class 'leter'; did you mean 'letter'?"),
        ({"a.txt": entry(summary="So.") | {"cheked": True}}, "unknown key 'cheked'; did you mean"),
        ({"a.txt": entry(summary="So.") | {"facts": {"summary": [1]}}}, "facts is a list of texts"),
    ],
)
def test_a_file_that_does_not_match_says_where(folder: Path, documents: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_gold(write_gold(folder, documents), TASKS)
    assert message in str(error.value)


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    documents = {f"c{n}.txt": entry(summary="So.") for n in range(30)}
    with pytest.raises(InputError, match=r"(?s)30 mistakes.*and 10 more"):
        load_gold(write_gold(folder, documents), TASKS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON at line 1"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "version=None"),
        ('{"version": 2}', "version=2"),
    ],
)
def test_what_is_no_gold_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gold.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_gold(path, TASKS)
    with pytest.raises(InputError, match="can't be read"):
        load_gold(tmp_path / "other.json", TASKS)


def test_splits_and_tasks_are_chosen(folder: Path) -> None:
    answers = entry(summary="So.", invoice={"number": "A-17"})
    path = write_gold(folder, {"a.txt": answers | {"split": "test"}, "b.txt": entry(summary="So.")})
    gold = load_gold(path, TASKS, split="test", only=["invoice"])
    assert [(d.name, [a.task for a in d.answers]) for d in gold.documents] == [
        ("a.txt", ["invoice"])
    ]
    with pytest.raises(InputError, match="its splits are test"):
        load_gold(path, TASKS, split="tst")
    with pytest.raises(InputError, match="no task named task='x'"):
        load_gold(path, TASKS, only=["x"])


def test_what_nobody_has_checked_is_left_out(folder: Path) -> None:
    unchecked = entry(summary="So.") | {"checked": False}
    path = write_gold(folder, {"a.txt": unchecked, "b.txt": entry(summary="So.")})
    gold = load_gold(path, TASKS)
    assert ([d.name for d in gold.documents], gold.unchecked) == (["b.txt"], 1)
    with pytest.raises(InputError, match=r"no document of the gold file .* is checked"):
        load_gold(write_gold(folder, {"a.txt": unchecked}), TASKS)


EVIDENCE = (
    Evidence("number", 0, "A-17", "verbatim", probability=0.75),
    Evidence("total", 0, "5", "derived"),
    Evidence("total", 0, "7", "derived", probability=0.5, chosen=False),
    Evidence("tags", 0, "a", "verbatim", probability=0.25),
    Evidence("paid", 0, None, "not_found", probability=0.5),
)


def answered_library(folder: Path) -> Path:
    """A library of a.txt, answered, and b.txt, whose invoice failed."""
    out = folder / "out"
    with open_library(out, "run1") as store:
        for name in ("a.txt", "b.txt"):
            data = (folder / name).read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            document = make_document(data.decode(), sha256=digest)
            found = [(make_file(name, str(folder)), document)]
            store.documents.save("run1", READER, found)
        _answer(store, folder)
        publish(store, TASKS, "run1")
    return out


def _answer(store: Store, folder: Path) -> None:
    values = {"invoice": ANSWER, "summary": "It says what is due.", "document_class": "invoice"}
    first = hashlib.sha256(TEXT.encode()).hexdigest()
    for job in plan(store, "run1", *TASKS, root=str(folder)).pending:
        if job.task == "invoice" and job.document_sha256 != first:
            failure = Failure("cut", "too long", "b.txt", job.document_sha256, job.task, job.key)
            store.jobs.fail("run1", job, failure)
        else:
            evidence = EVIDENCE if job.task == "invoice" else ()
            store.jobs.finish("run1", job, make_result(job, values[job.task], evidence=evidence))


def test_a_library_is_scored(folder: Path) -> None:
    out = answered_library(folder)
    fields: dict[str, Any] = {"number": "A-17", "total": "5.00", "due": "2026-04-09", "paid": None}
    fields["tags"] = ["b"]
    documents = {
        "a.txt": entry(invoice=fields, summary="It says what is due.", document_class="letter"),
        "b.txt": entry(invoice={"number": "7"}),
    }
    gold = load_gold(write_gold(folder, documents), TASKS)
    done = evaluate(gold, TASKS, out)
    rows = {(row.system, row.task, row.field): row for row in done.scores}
    assert (done.documents, done.unanswered) == (2, 1)
    assert rows["docflash", "invoice", "number"].recall == 0.5
    assert rows["docflash", "invoice", "due"].f1 == 0.0
    assert rows["docflash", "invoice", ""].null_accuracy == 1.0
    assert rows["docflash", "document_class", ""].f1 == 0.0
    assert rows["docflash", "summary", ""].rouge_l == 1.0
    assert rows["docflash", "summary", ""].prompt_tokens == 100
    assert rows["docflash", "summary", ""].model_s == 1.5
    assert rows["baseline", "invoice", "total"].f1 == 1.0
    assert [(g.document, g.field, g.is_right, g.sure.probability) for g in done.graded] == [
        ("a.txt", "class", False, 1.0),
        ("a.txt", "number", True, 0.75),
        ("a.txt", "total", True, None),
        ("a.txt", "tags", False, 0.25),
    ]
    own = {(g.sure.model, g.sure.prompt) for g in done.graded if g.task == "invoice"}
    assert own == {(MODEL, INVOICE.fingerprint)}
    wrong = {(one.document, one.field) for one in done.judgements if not one.is_right}
    assert wrong == {("a.txt", "due"), ("a.txt", "tags"), ("a.txt", ""), ("b.txt", "number")}
    table = tabulate_scores(done)
    assert table.num_rows == len(done.scores)
    assert str(table.schema.field("nulls").type) == "int64"
    assert str(table.schema.field("f1").type) == "double"


def test_answers_of_another_path_are_found_by_their_bytes(folder: Path) -> None:
    out = answered_library(folder)
    (folder / "copy.txt").write_text(TEXT)
    truth = entry(invoice={"number": "A-17"})
    gold = load_gold(write_gold(folder, {"a.txt": truth, "copy.txt": truth}), TASKS)
    found = load_answers(out, gold, TASKS, identify(gold))
    assert found["copy.txt", "invoice"] == found["a.txt", "invoice"]
    assert found["copy.txt", "invoice"].value == ANSWER
    assert read_texts(out, identify(gold)) == {"a.txt": TEXT.strip(), "copy.txt": TEXT.strip()}


def test_answers_become_a_gold_file_that_waits_to_be_checked(folder: Path) -> None:
    out = answered_library(folder)
    path = folder / "labels.json"
    assert write_labels(out, TASKS, path) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    written = json.loads(path.read_text())
    assert written["documents"]["a.txt"]["answers"]["invoice"]["total"] == "5"
    assert written["documents"]["b.txt"]["answers"]["invoice"]["number"] is None
    with pytest.raises(InputError, match="is checked"):
        load_gold(path, TASKS)
    with pytest.raises(InputError, match="is there already"):
        write_labels(out, TASKS, path)
    for one in written["documents"].values():
        one["checked"] = True
    path.write_text(json.dumps(written))
    done = evaluate(load_gold(path, TASKS), TASKS, out)
    scores = {(row.task, row.field): row.f1 for row in done.scores if row.system == "docflash"}
    assert scores["invoice", "number"] == scores["document_class", ""] == 1.0


def test_a_library_without_answers_has_nothing_to_label(folder: Path) -> None:
    out = folder / "out"
    with open_library(out, "run1") as store:
        publish(store, TASKS, "run1")
    with pytest.raises(InputError, match="has no answers to label"):
        write_labels(out, TASKS, folder / "labels.json")


def test_a_document_is_asked_what_it_has_labels_for(folder: Path) -> None:
    (folder / "b[1]*.txt").write_text("Another.")
    (folder / "b1x.txt").write_text("Not asked about.")
    documents = {"a.txt": entry(invoice={"number": "7"}), "b[1]*.txt": entry(summary="So.")}
    gold = load_gold(write_gold(folder, documents), TASKS)
    order = make_order(gold, Trial(folder / "out"))
    assert order.tasks == ("invoice", "summary")
    assert order.search.selection.include == ("/a.txt", "/b[[]1][*].txt")
    entries = [DocumentEntry(name, name, (name,)) for name in ("a.txt", "b[1]*.txt", "b1x.txt")]
    jobs = plan_jobs(entries, (INVOICE, SUMMARY), MODEL, force=True, only=order.only).jobs
    assert [(job.document_sha256, job.task) for job in jobs] == [
        ("a.txt", "invoice"),
        ("b[1]*.txt", "summary"),
    ]
