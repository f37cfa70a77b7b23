"""Whether the titles of sections help: shown with a part that is asked about, and with its answer.

    uv run python benchmarks/section_titles.py

"parts": the embedded model summarises parts of long documents, with and without the title of their
section; told is how many of its sentences their part supports. "joins": documents of the gold set's
split train, cut small, are summarised part by part and joined, with and without titles beside the
answers; told are the scores of those that have sections. Writes benchmarks/section_titles.json.
"""

import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

from machine import describe_surroundings
from quality import near, only_tasks

from pipeline import answers
from pipeline.chunks import cut_chunks
from pipeline.contents import FileBytes, make_document, read_plain
from pipeline.engine.client import EngineClient
from pipeline.engine.interface import Message, Request, Sampling
from pipeline.engine.loading.models import resolve_model
from pipeline.evaluation.answers import identify
from pipeline.evaluation.gold import load_gold
from pipeline.evaluation.rouge import coverage, rouge_l
from pipeline.evaluation.running import Trial, answer_gold
from pipeline.headings import find_sections
from pipeline.linking import link_sentences
from pipeline.merge_plan import Part, plan_merges
from pipeline.messages import ask_about, ask_to_merge
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.queries import query
from pipeline.records import Limits, Task
from pipeline.settings import EMBEDDED_MODEL
from pipeline.tokens import load_tokens

_ROOT = Path(__file__).parents[1]
_SAMPLES = _ROOT / "sample_docs"
_LONG = (
    "docutils-project-policies.txt",
    "nist-expect-readme.txt",
    "pep-0287-restructuredtext-docstrings.txt",
    "gsa-uswds-compile-readme.md",
)
_PARTS = 10  # of each
_TOKENS = Limits(chunk_tokens=350)
_JOINED_TOKENS = 300
_SAMPLING = Sampling(no_repeat_ngram=4, no_repeat_copied=12)
_PART = "\nThis is part"


@dataclass(frozen=True, slots=True)
class Asked:
    """A part of a document that is asked about."""

    text: str
    title: str
    number: int
    count: int


def main() -> None:
    parts, task = list(find_parts()), next(t for t in load_tasks() if t.name == "summary")
    report = {
        **describe_surroundings("mlx"),
        "parts": {
            "with_titles": measure_parts(parts, task, titled=True),
            "without": measure_parts(parts, task, titled=False),
        },
        "joins": {
            "with_titles": measure_joins(titled=True),
            "without": measure_joins(titled=False),
        },
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def find_parts() -> Iterator[Asked]:
    """The first parts of long documents that belong to a section."""
    tokens = load_tokens(resolve_model(EMBEDDED_MODEL).tokenizer_json)
    for name in _LONG:
        data = (_SAMPLES / "documents" / "long" / name).read_bytes()
        file = FileBytes("x" * 64, len(data), "text/plain")
        text = make_document(file, read_plain(data, "text/plain")).text
        sections = find_sections(text)
        chunks = cut_chunks(text, (), tokens, _TOKENS, sections)
        plan = plan_merges([(c.own_start, c.own_end) for c in chunks], sections, 4)
        for leaf in [leaf for leaf in walk(plan) if leaf.title][:_PARTS]:
            chunk = chunks[leaf.chunk or 0]
            shown = text[chunk.start_char : chunk.end_char]
            yield Asked(shown, tokens.head(leaf.title, 16), (leaf.chunk or 0) + 1, len(chunks))


def walk(part: Part) -> Iterator[Part]:
    """The leaves of a plan."""
    if part.chunk is not None:
        yield part
    for inner in part.parts:
        yield from walk(inner)


def measure_parts(parts: Sequence[Asked], task: Task, *, titled: bool) -> dict[str, object]:
    """The sentences about the parts, and how many of them their part does not support."""

    def ask(part: Asked) -> str:
        messages = ask_about(task, "", part.text, part.number, part.count)
        if titled:
            words = f'\nThis is of the section "{part.title}".{_PART}'
            last = Message("user", messages[-1].content.replace(_PART, words))
            messages = (*messages[:-1], last)
        request = Request(uuid.uuid4().hex, EMBEDDED_MODEL, messages, None, 100, _SAMPLING)
        return engine.complete(request).text

    with EngineClient() as engine, ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(ask, parts))
    found = [
        evidence
        for text, part in zip(texts, parts, strict=True)
        for evidence in link_sentences(text, f"{part.text}\n{part.title}")
    ]
    unsupported = sum(one.support == "unsupported" for one in found)
    unknown = sum(one.reason.startswith("it has") for one in found)
    return {
        "parts": len(parts),
        "sentences": len(found),
        "unsupported": near(unsupported / len(found)),
        "unknown": near(unknown / len(found)),
    }


def measure_joins(*, titled: bool) -> dict[str, object]:
    """The scores of documents that are asked about by sections and joined."""
    gold = load_gold(_SAMPLES / "gold" / "gold.json", load_tasks(), split="train")
    gold = only_tasks(gold, ["summary"])
    text = (_ROOT / "prompts" / "summary.toml").read_text("utf-8")
    with_sections: set[str] = set()
    write = answers._write_text  # noqa: SLF001

    def note(asker: answers.Asker, title: str, document: answers.DocumentText, chunks: Any) -> str:
        if len(chunks) > 1 and document.sections:
            with_sections.add(asker.job.document_sha256)
        return write(asker, title, document, chunks)

    def leave_titles(task: Task, told: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
        return ask_to_merge(task, [("", answer) for _, answer in told])

    bare = nullcontext() if titled else patch.object(answers, "ask_to_merge", leave_titles)
    with tempfile.TemporaryDirectory() as name, bare, patch.object(answers, "_write_text", note):
        prompts, out = Path(name) / "prompts", Path(name) / "out"
        prompts.mkdir()
        limits = f"[limits]\nchunk_tokens = {_JOINED_TOKENS}\n"
        (prompts / "summary.toml").write_text(text.replace("[limits]\n", limits), "utf-8")
        answer_gold(gold, Trial(out, EMBEDDED_MODEL, prompts), Progress())
        rows = query(out, "SELECT document_id, text FROM summary").to_pylist()
    written = {row["document_id"]: row["text"] for row in rows}
    ids = identify(gold)
    judged = [d for d in gold.documents if ids[d.name] in with_sections]
    pairs = [(document.answers[0], written[ids[document.name]]) for document in judged]
    named = [coverage(truth.facts, text) for truth, text in pairs]
    return {
        "documents": len(pairs),
        "rouge_l": near(fmean(rouge_l(truth.value, text) for truth, text in pairs)),
        "coverage": near(fmean(share for share in named if share is not None)),
    }


if __name__ == "__main__":
    main()
