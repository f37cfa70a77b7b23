"""How the text of a PDF is best read for extraction: four ways, by the fields that are then right.

    uv run python benchmarks/layout.py [--split train]

The PDFs of the gold set are read by pypdf as docflash does (rows of tables on one line,
`pipeline/pdf_lines.py`), by pypdf plainly, in pypdf's layout mode, and by pdfium; all else is the
same. The fields are those that rules find; what a model would be asked for counts as missed, so
that nothing but the text differs. Writes benchmarks/layout.json: F1 by task and way.
"""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pypdf
import pypdfium2
from machine import describe_surroundings

from pipeline.answers import DocumentText, answer_job
from pipeline.budget import chunk_limits
from pipeline.chunks import cut_chunks
from pipeline.contents import FileBytes, make_document
from pipeline.engine.interface import Completion, ModelInfo, Request
from pipeline.engine.loading.models import resolve_model
from pipeline.errors import ResultError
from pipeline.evaluation.answers import Found
from pipeline.evaluation.gold import load_gold
from pipeline.evaluation.judging import Judgement, judge
from pipeline.evaluation.scores import score
from pipeline.pages import read_pdf
from pipeline.prompts import load_tasks
from pipeline.records import Job, Task
from pipeline.settings import EMBEDDED_MODEL
from pipeline.tokens import load_tokens

_GOLD = Path(__file__).parents[1] / "sample_docs" / "gold" / "gold.json"
Way = Callable[[bytes], list[str] | None]


def read_plainly(data: bytes) -> list[str]:
    return [page.extract_text() for page in open_pdf(data).pages]


def read_in_layout_mode(data: bytes) -> list[str]:
    return [page.extract_text(extraction_mode="layout") for page in open_pdf(data).pages]


def read_by_pdfium(data: bytes) -> list[str]:
    document = pypdfium2.PdfDocument(data)
    return [page.get_textpage().get_text_range().replace("\r\n", "\n") for page in document]


def open_pdf(data: bytes) -> pypdf.PdfReader:
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        reader.decrypt("")
    return reader


WAYS: dict[str, Way] = {
    "docflash": lambda _: None,
    "pypdf, plain": read_plainly,
    "pypdf, layout mode": read_in_layout_mode,
    "pdfium": read_by_pdfium,
}


class NoModel:
    """Gives no usable answer to anything."""

    def complete(self, request: Request) -> Completion:
        """An empty answer."""
        return Completion(request.id, "", "stop", 0, 0, 0, 0.0, 0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    report = {
        **describe_surroundings("pypdf", "pypdfium2"),
        "split": options.split,
        "f1_by_way": {name: measure(way, options.split) for name, way in WAYS.items()},
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure(way: Way, split: str) -> dict[str, float | None]:
    """F1 by task, and of all."""
    tasks = {task.name: task for task in load_tasks() if task.kind == "fields"}
    gold = load_gold(_GOLD, load_tasks(), split=split)
    model = resolve_model(EMBEDDED_MODEL)
    judged: list[Judgement] = []
    for document in gold.documents:
        path = gold.folder / document.name
        if path.suffix != ".pdf":
            continue
        for answer in document.answers:
            if answer.task in tasks:
                task = tasks[answer.task]
                judged += judge(document, answer, task, find(task, path.read_bytes(), way, model))
    rows = [row for row in score("docflash", judged) if not row.field]
    return {row.task: row.f1 and round(row.f1, 4) for row in rows}


def find(task: Task, data: bytes, way: Way, model: ModelInfo) -> Found:
    """What rules find in a document that is read in this way."""
    contents, texts = read_pdf(data), way(data)
    if texts is not None:
        pages = zip(contents.pages, texts, strict=True)
        contents = replace(contents, pages=tuple(replace(page, text=text) for page, text in pages))
    read = make_document(FileBytes("x" * 64, len(data), contents.media_type), contents)
    tokens = load_tokens(model.tokenizer_json)
    chunks = cut_chunks(read.text, (), tokens, chunk_limits(task, model))
    job = Job("k" * 64, "d" * 64, "t" * 64, task.name, "f", "m")
    try:
        result = answer_job(
            job, task, DocumentText(read.title, read.text, chunks), NoModel(), model
        )
    except ResultError as error:
        return Found(None, error.kind)
    return Found(result.value)


if __name__ == "__main__":
    main()
