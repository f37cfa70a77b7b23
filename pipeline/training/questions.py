"""The questions that a target answers to train its drafter: the mix that a document pipeline asks.

In: texts, tasks, a model. Out: `Question`s, worded by the product's own builders and with its own
generation settings and grammars, so that the drafter learns what is really served. The same seed
gives the same questions.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pipeline.budget import TITLE_TOKENS
from pipeline.engine.interface import Message, ModelInfo, Sampling
from pipeline.messages import ask_about, ask_to_merge
from pipeline.records import Task
from pipeline.tokens import Tokens, load_tokens
from pipeline.training.passages import Split, Text
from pipeline.training.variants import KINDS, Variants
from pipeline.training.wording import Asked, word

SIZES = (200, 400, 800, 1400)
"""Tokens of a text that a question shows, at most; the engine sees chunks up to 1,500."""
SIZE_CHANCES = (0.2, 0.4, 0.25, 0.15)
MOST_PARTS = 4
PROMPT_TOKENS = 200
"""Of a sequence: what the words of a question and the chat template take, at most."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the target is asked.

    Attributes:
        key: The same for the same question.
        kind: "summary", "bullets", "extraction", "quotes", "answer", "part" or "merge".
        messages, schema, max_tokens, sampling: As in `pipeline.engine.interface.Request`.
        quoted: What quotes in the answer are words of, or "".
        source, licence, split: Of its text.
        group, part: Parts of one document have one group, and are then merged in this order.
    """

    key: str
    kind: str
    messages: tuple[Message, ...]
    schema: dict[str, Any] | None
    max_tokens: int
    sampling: Sampling
    quoted: str
    source: str
    licence: str
    split: Split
    group: str = ""
    part: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A passage that is asked about.

    Attributes:
        name: The same for the same question; the group of its questions, if it is asked in parts.
        text, start: The passage.
        kind: Of question.
        parts: How many passages it is asked about in, if its kind is "part".
    """

    name: str
    text: Text
    start: int
    kind: str
    parts: int


Mine = Callable[[str], bool]


class Questions:
    """Makes questions about texts.

    Args:
        tasks: The product's, and the user's own.
        model: The target, for its tokenizer and context.
        length: Most tokens of a prompt and its answer.
        seed: Of all choices.
    """

    def __init__(self, tasks: Sequence[Task], model: ModelInfo, length: int, seed: int) -> None:
        self._variants = Variants(tasks)
        self._model = model
        self._tokens: Tokens = load_tokens(model.tokenizer_json)
        self._count = lru_cache(maxsize=4096)(self._tokens.count)  # instructions, again and again
        self._length = min(length, model.context_tokens)
        self._seed = seed

    def about(
        self, texts: Sequence[Text], split: Split, count: int, mine: Mine = lambda _: True
    ) -> Iterator[Question]:
        """About `count` questions; those that merge parts come later, from `merge`.

        Args:
            texts: All of them.
            split: Only these are asked about.
            count: How many, merges included.
            mine: Which of them to make, by name, see `Place`. Making one takes milliseconds, so
                each of several writers makes its own only.
        """
        for place in self._places(texts, split, count):
            if mine(place.name):
                yield from self._ask(place)

    def merge(self, answers: Sequence[str], group: str) -> Question:
        """The question that joins the answers about the parts of a document.

        Args:
            answers: In order.
            group: Of the parts.
        """
        task = self._variants.summary
        parts = [("", answer) for answer in answers]
        return self._question("merge", task, Asked(ask_to_merge(task, parts)), group)

    def _places(self, texts: Sequence[Text], split: Split, count: int) -> Iterator[Place]:
        """What to ask of which passage, in an order that only the seed and the texts decide."""
        chance = random.Random(f"{self._seed} {split}")
        starts = [
            (text, start)
            for text in texts
            if text.split == split
            for start in range(len(text.passages))
        ]
        asked = 0
        while starts:
            chance.shuffle(starts)
            for text, start in starts:
                if asked >= count:
                    return
                parts = min(chance.randint(2, MOST_PARTS), len(text.passages) - start)
                kinds = [kind for kind in KINDS if kind != "part" or parts > 1]
                kind = chance.choices(kinds, [KINDS[kind] for kind in kinds])[0]
                yield Place(f"{self._seed} {split} {asked}", text, start, kind, parts)
                # A group of parts is answered for once more: by its merge.
                asked += parts + 1 if kind == "part" else 1

    def _ask(self, place: Place) -> list[Question]:
        if place.kind == "part":
            return self._parts(place)
        chance = random.Random(place.name)
        text, start = place.text, place.start
        task = self._variants.choose(place.kind, chance)
        size = chance.choices(SIZES, SIZE_CHANCES)[0]
        shown = self._shown(text, start, task, size)
        title = self._tokens.head(text.title, TITLE_TOKENS) if text.title else ""
        part, parts = _maybe_part(text, start, chance) if place.kind != "answer" else (1, 1)
        asked = word(task, self._model, (title, shown, part, parts), chance)
        if asked is None:
            return []
        return [self._of(text, self._question(place.kind, task, asked, place.name))]

    def _parts(self, place: Place) -> list[Question]:
        """Consecutive parts of a document, a summary of each."""
        task, text = self._variants.summary, place.text
        title = self._tokens.head(text.title, TITLE_TOKENS) if text.title else ""
        found: list[Question] = []
        for part in range(place.parts):
            room = self._room(task)
            shown = self._tokens.head(text.passages[place.start + part], min(room, SIZES[2]))
            asked = Asked(ask_about(task, title, shown, part + 1, place.parts))
            question = self._question("part", task, asked, f"{place.name} {part}")
            found.append(replace(self._of(text, question), group=place.name, part=part))
        return found

    def _shown(self, text: Text, start: int, task: Task, size: int) -> str:
        """The passage and as many that follow as fit."""
        joined = "\n\n".join(text.passages[start : start + 1 + size // 200])
        return self._tokens.head(joined, max(1, min(size, self._room(task))))

    def _room(self, task: Task) -> int:
        words = self._count("".join(m.content for m in ask_about(task, "", "")))
        return max(32, self._length - task.limits.max_tokens - words - PROMPT_TOKENS // 2)

    def _question(self, kind: str, task: Task, asked: Asked, name: str) -> Question:
        words = "\0".join((name, kind, *(message.content for message in asked.messages)))
        settings: dict[str, Any] = dict(task.settings)
        return Question(
            key=hashlib.sha256(words.encode()).hexdigest()[:24],
            kind=kind,
            messages=asked.messages,
            schema=asked.schema,
            max_tokens=task.limits.max_tokens,
            sampling=Sampling(**settings),
            quoted=asked.quoted,
            source="",
            licence="",
            split="train",
        )

    def _of(self, text: Text, question: Question) -> Question:
        return replace(question, source=text.source, licence=text.licence, split=text.split)


def _maybe_part(text: Text, start: int, chance: random.Random) -> tuple[int, int]:
    """Now and then a text is shown as what it may well be: a part of a longer one."""
    parts = len(text.passages)
    return (start + 1, parts) if parts > 1 and chance.random() < 0.1 else (1, 1)  # noqa: PLR2004
