"""The prompts of the engine's benchmark: documents, and what is asked of them."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.documents import Selection, find_documents
from pipeline.engine.interface import Message, Sampling
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.errors import DocumentError
from pipeline.messages import ask_about
from pipeline.prompts import load_tasks
from pipeline.reader import Reader
from pipeline.records import FoundFile, Task
from pipeline.schema import answer_schema
from pipeline.settings import EMBEDDED_MODEL

TASKS = ("summary", "bullets", "entities", "question")
SAMPLES = Path("sample_docs/documents")
CHARS = {"summary": 2000, "bullets": 1800, "entities": 1600, "question": 9000}
MOST_CHARS_PER_TOKEN, LEAST_CHARS_PER_TOKEN = 6, 2
NONCE = "run00 00"
QUESTION = "What does this document require, allow or forbid? Answer in three or four sentences."


@dataclass(slots=True)
class Prompt:
    """A question about a document.

    Attributes:
        task: What is asked.
        text: The document.
        schema, sampling: As the product's task has them.
        loops: Whether its plain answer does; None until it is known.
    """

    task: Task
    text: str
    schema: dict[str, Any] | None
    sampling: Sampling
    loops: bool | None = None

    def messages(self, nonce: str) -> tuple[Message, ...]:
        """The chat; `nonce` keeps the engine from knowing the document from an earlier run."""
        return ask_about(self.task, nonce, self.text)


def make_prompts(passages: Path | None, count: int, *, samples: bool) -> dict[str, list[Prompt]]:
    """For each task up to three times `count` prompts, each about another piece of text."""
    tasks = tasks_by_name()
    texts = read_texts(passages, samples=samples)
    found: dict[str, list[Prompt]] = {}
    for name in TASKS:
        task, size = tasks[name], CHARS[name]
        settings: dict[str, Any] = dict(task.settings)
        found[name] = [
            Prompt(task, piece, answer_schema(task), Sampling(**settings))
            for piece in cut(texts, size)[: 3 * count]
        ]
    return found


def make_long_prompts(
    passages: Path | None, tokens: int, count: int, *, samples: bool
) -> list[Prompt]:
    """Up to three times `count` questions about texts of so many tokens, instructions included."""
    tokenizer = ChatTokenizer(resolve_model(EMBEDDED_MODEL).folder)
    task = tasks_by_name()["question"]
    settings: dict[str, Any] = dict(task.settings)
    texts = read_texts(passages, samples=samples)
    whole, found, begin = "\n\n".join(texts), list[Prompt](), 0
    size = tokens * MOST_CHARS_PER_TOKEN
    while len(found) < 3 * count and begin + size <= len(whole):
        piece = whole[begin : begin + size]
        prompt = Prompt(task, piece, answer_schema(task), Sampling(**settings))
        over = len(tokenizer.render(prompt.messages(NONCE))) - tokens
        while over > 0:
            prompt.text = prompt.text[: -over * LEAST_CHARS_PER_TOKEN]
            over = len(tokenizer.render(prompt.messages(NONCE))) - tokens
        found.append(prompt)
        begin += len(prompt.text)
    return found


def cut(texts: list[str], size: int) -> list[str]:
    """Pieces of about `size` characters, the first of every text before the second of any."""
    rounds: list[list[str]] = []
    for text in texts:
        pieces = [text[i : i + size] for i in range(0, max(1, len(text) - size // 2), size)]
        for number, piece in enumerate(pieces):
            if len(piece) > size // 2:
                rounds += [[] for _ in range(number + 1 - len(rounds))]
                rounds[number].append(piece)
    return [piece for pieces in rounds for piece in pieces]


def tasks_by_name() -> dict[str, Task]:
    """The product's tasks, and a question whose answer is prose."""
    tasks = {task.name: task for task in load_tasks()}
    return tasks | {"question": dataclasses.replace(tasks["summary"], instructions=QUESTION)}


def read_texts(passages: Path | None, *, samples: bool) -> list[str]:
    """The sample documents' texts, if asked for, and the passages'."""
    texts = read_samples() if samples else []
    if passages is not None:
        lines = passages.read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["text"] for line in lines]
    return texts


def read_samples() -> list[str]:
    """The texts of the sample documents that can be read."""
    texts: list[str] = []
    with Reader() as reader:
        for found in find_documents(SAMPLES, Selection()):
            if isinstance(found, FoundFile):
                try:
                    texts.append(reader.read(found).text.strip())
                except DocumentError:
                    continue
    return texts
