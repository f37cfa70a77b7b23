"""Records for tests of the store and of publishing: small, valid, and different where asked."""

import hashlib
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.alignment import Alignment, Run
from pipeline.jobs import DocumentEntry, plan_jobs
from pipeline.normalise import normalise
from pipeline.records import (
    Chunk,
    Document,
    Field,
    FoundFile,
    Job,
    Limits,
    Page,
    Result,
    RunSummary,
    Task,
    TaskKind,
)
from pipeline.store import Store, Workload

READER = "reader 1"
MODEL = "m" * 64
OLD_NS = 1_700_000_000_000_000_000
STARTED = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)


@cache
def _empty_store() -> bytes:
    """The file of an empty store: copied, it is there sooner than made."""
    with tempfile.TemporaryDirectory() as folder:
        Store.open(Path(folder)).close()
        return (Path(folder) / "store.duckdb").read_bytes()


def open_library(out: Path, *run_ids: str) -> Store:
    """A new library with these runs begun."""
    out.mkdir(mode=0o700, exist_ok=True)
    (out / "store.duckdb").write_bytes(_empty_store())
    store = Store.open(out)
    for run_id in run_ids:
        store.runs.save(make_run(run_id))
    return store


def make_run(run_id: str = "run1", folder: str = "/in", **changes: Any) -> RunSummary:
    values: dict[str, Any] = {
        "finished_at": None,
        "state": "running",
        "model": "embedded",
        "model_fingerprint": MODEL,
        "tasks": ("summary",),
    }
    return RunSummary(run_id, folder, STARTED, **(values | changes))


def make_file(name: str, root: str = "/in", size: int = 10, modified_ns: int = OLD_NS) -> FoundFile:
    return FoundFile(Path(root), Path(root) / name, name, size, modified_ns)


def make_document(*raw_pages: str, **changes: Any) -> Document:
    pages: list[Page] = []
    start = 0
    for number, raw in enumerate(raw_pages, start=1):
        text, alignment = normalise(raw)
        pages.append(Page(number, raw, text, alignment, start, "text"))
        start += len(text) + 1
    text = "\f".join(page.text for page in pages)
    values: dict[str, Any] = {
        "sha256": digest("bytes", *raw_pages),
        "size_bytes": len(text),
        "media_type": "text/plain",
        "status": "read",
        "title": "A title",
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "pages": tuple(pages),
    }
    return Document(**(values | changes))


def make_failed(text: str = "broken", kind: str = "damaged") -> Document:
    return Document(
        digest("bytes", text),
        len(text),
        "application/pdf",
        "failed",
        failure_kind=kind,
        failure="it can't be read; get it again",
    )


def make_task(name: str = "summary", kind: TaskKind = "text", **changes: Any) -> Task:
    values: dict[str, Any] = {
        "title": name,
        "globs": ("*",),
        "classes": (),
        "system": "",
        "instructions": "Do it.",
        "merge": "",
        "fields": (),
        "limits": Limits(),
        "settings": (),
        "fingerprint": digest("task", name, repr(changes)),
        "source": f"prompts/{name}.toml",
    }
    return Task(name=name, kind=kind, **(values | changes))


def make_result(job: Job, value: Any, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "probability": 1.0,
        "chunks": (0,),
        "calls": 1,
        "cut": False,
        "prompt_tokens": 100,
        "cached_tokens": 10,
        "completion_tokens": 20,
        "model_s": 1.5,
    }
    return Result(job.key, value, **(values | changes))


def make_chunks(text: str) -> tuple[Chunk, ...]:
    half = len(text) // 2
    return (
        Chunk(0, 0, half, 0, half, 1, 1, 5),
        Chunk(1, half - 1, len(text), half, len(text), 1, 1, 6),
    )


def plan(
    store: Store, run_id: str, *tasks: Task, root: str = "/in", retry: bool = False
) -> Workload:
    documents: tuple[DocumentEntry, ...] = store.documents.list_live(Path(root))
    return store.jobs.plan(run_id, plan_jobs(documents, tasks, MODEL), retry=retry)


def digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()


INVOICE_FIELDS = (
    Field("number", "string"),
    Field("total", "decimal"),
    Field("due", "date"),
    Field("pages_sent", "integer"),
    Field("paid", "boolean"),
    Field("currency", "enum", values=("USD", "EUR")),
    Field("tags", "list", items=Field("tag", "string")),
    Field(
        "lines",
        "list",
        items=Field("line", "object", fields=(Field("text", "string"), Field("amount", "decimal"))),
    ),
)

ODD_ALIGNMENT = Alignment((Run(0, 3, 0, 3), Run(3, 5, 5, 6), Run(5, 6, 5, 6)))
