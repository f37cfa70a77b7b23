r"""Makes the gold set: `sample_docs/gold/documents/` and `sample_docs/gold/gold.json`.

    uv run --no-project --with reportlab==5.1.0 --with 'pypdf[crypto]==7.1.0' \
        python sample_docs/typeset/gold.py

All is drawn by chances seeded with the documents' names, so with these versions the bytes are the
same every time. What is true of the documents that others made is in `gold_real.json`.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import pypdf
from gold_contracts import make_contracts
from gold_facts import Gold, Made
from gold_invoices import make_invoices
from gold_letters import make_letters
from gold_minutes import make_minutes
from sheets import set_pages

SAMPLES = Path(__file__).parent.parent
DOCUMENTS = "gold/documents"
FIELDS = {
    path.stem: tuple(tomllib.loads(path.read_text("utf-8")).get("fields", {}))
    for path in (SAMPLES.parent / "prompts").glob("*.toml")
}


def main() -> None:
    """Writes the documents, then what is true of all."""
    documents: dict[str, Any] = {}
    for made in (*make_invoices(), *make_contracts(), *make_letters(), *make_minutes()):
        name = f"{DOCUMENTS}/{made.name}"
        set_pages(SAMPLES / name, made.sheet, made.story)
        documents[name] = describe(made, SAMPLES / name)
    documents |= describe_others()
    gold = {"version": 1, "folder": "..", "documents": documents}
    text = json.dumps(gold, ensure_ascii=False, indent=1) + "\n"
    (SAMPLES / "gold" / "gold.json").write_text(text, encoding="utf-8")


def describe(made: Made, path: Path) -> dict[str, Any]:
    """A document's entry in the gold file."""
    gold = made.gold
    pages = [squeeze(page.extract_text()) for page in pypdf.PdfReader(path).pages]
    found = {name: find_pages(pages, forms) for name, forms in gold.printed.items()}
    missing = [name for name, numbers in found.items() if not numbers]
    if missing:
        raise ValueError(
            f"{made.name}: {missing} are not printed: {[gold.printed[n] for n in missing]}"
        )
    check_summary(made.name, gold)
    return {
        "split": made.split,
        "layout": made.layout,
        "answers": {gold.kind: gold.fields, "summary": gold.summary, "document_class": gold.kind},
        "also": {gold.kind: gold.also} if gold.also else {},
        "pages": {gold.kind: found},
        "printed": {gold.kind: gold.printed},
        "facts": {"summary": gold.facts},
    }


def describe_others() -> dict[str, Any]:
    """The entries of `documents/`: fields of `expected.json`, and the summaries beside this."""
    known = json.loads((SAMPLES / "expected.json").read_text("utf-8"))["documents"]
    entries: dict[str, Any] = {}
    for name, told in json.loads(
        (Path(__file__).parent / "gold_real.json").read_text("utf-8")
    ).items():
        truth = known[name.removeprefix("documents/")]
        answers: dict[str, Any] = {"summary": told["summary"], "document_class": truth["class"]}
        if "fields" in truth:
            wanted = FIELDS[truth["class"]]
            answers[truth["class"]] = {
                key: value for key, value in truth["fields"].items() if key in wanted
            }
        entries[name] = {
            "split": told["split"],
            "layout": name,
            "answers": answers,
            "also": {"document_class": told["class_also"]} if told["class_also"] else {},
            "facts": {"summary": told["facts"]},
        }
    return entries


def find_pages(pages: list[str], forms: list[str]) -> list[int]:
    """The pages on which at least one of the forms stands; none if a form stands nowhere."""
    hits = [
        {number for number, text in enumerate(pages, start=1) if squeeze(form) in text}
        for form in forms
    ]
    return sorted(set().union(*hits)) if all(hits) else []


def check_summary(name: str, gold: Gold) -> None:
    """A good summary names all its facts."""
    lost = [forms for forms in gold.facts if not any(form in gold.summary for form in forms)]
    if lost:
        raise ValueError(f"{name}: the summary does not name {lost}")


def squeeze(text: str) -> str:
    """White space as single spaces."""
    return " ".join(text.split())


if __name__ == "__main__":
    main()
