"""The tasks behind the questions: the product's and the user's own, and variants of them.

Variants differ in words, lengths and schemas, never in how they are asked or generated: each is a
product's task with other instructions or fields, so that all else is as it will be served.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from pipeline.errors import InputError
from pipeline.records import Field, Task

KINDS = {
    "summary": 0.26,
    "bullets": 0.14,
    "extraction": 0.28,
    "quotes": 0.10,
    "answer": 0.16,
    "part": 0.06,
}
"""How often each kind of question is asked; a document's parts, some three, are then merged."""

SUMMARIES = (
    ("Write a one-sentence summary of the document above.", 80),
    ("Summarise the document above in about five sentences.", 220),
    ("Summarise the document above for somebody who has to act on it: what must be done, by when.",
     200),
    ("Write a short abstract of the document above in plain words.", 200),
    ("Give a detailed summary of the document above, in its own order, in one paragraph.", 320),
)  # fmt: skip
BULLETS = (
    "List the main points of the document above, one line for each, each beginning with '- '.",
    "List names, dates and numbers of the document above, each on a line that begins with '- '.",
    "Write three short bullet points about the document above.",
)
ASKED = (
    "What is the document above about?",
    "Who or what does the document above name, and what does it say of them?",
    "What does the document above require, allow or forbid? Answer in three or four sentences.",
    "Why was the document above written? Answer in two sentences.",
    "What problem does the document above describe, and what does it propose?",
    "What happens in the document above? Answer in order.",
    "Which dates and numbers does the document above give, and what are they about?",
    "What should a reader of the document above do next? Answer in two sentences.",
    "Explain the most important term in the document above, as it uses it.",
    "What does the document above leave open?",
)
_NAME = Field("name", "string", max_chars=80)
FIELDS = (
    Field("title", "string", "its title, or what it could be called", max_chars=100),
    Field("author", "string", "who wrote it", max_chars=80),
    Field("topic", "string", "what it is about, in a few words", max_chars=80),
    Field("kind", "enum", "what kind of text it is",
          values=("article", "report", "letter", "proposal", "story", "rules", "other")),
    Field("language", "string", "the language it is written in", max_chars=30),
    Field("published", "date", "the day it was published or written"),
    Field("deadline", "date", "the last day for something, if there is one"),
    Field("year", "integer", "a year that it names"),
    Field("amount", "decimal", "the most important number"),
    Field("is_final", "boolean", "whether it is final and no draft"),
    Field("people", "list", "people it names", items=_NAME, max_items=8),
    Field("organisations", "list", "organisations it names", items=_NAME, max_items=8),
    Field("places", "list", "places it names", items=_NAME, max_items=8),
    Field("keywords", "list", "words to find it by",
          items=Field("keywords", "string", max_chars=40), max_items=6),
    Field("terms", "list", "terms that it explains",
          items=Field("terms", "object", fields=(
              Field("term", "string", required=True, max_chars=60),
              Field("meaning", "string", max_chars=160))), max_items=4),
    Field("events", "list", "what happens, in order",
          items=Field("events", "object", fields=(
              Field("what", "string", required=True, max_chars=120),
              Field("when", "date"))), max_items=5),
    Field("contact", "object", "whom to ask", fields=(
        Field("name", "string", max_chars=80), Field("email", "string", max_chars=80))),
    Field("summary", "string", "one sentence about it", max_chars=200),
    Field("conclusion", "string", "what it comes to, in one sentence", max_chars=200),
    Field("mood", "enum", "how it sounds", values=("neutral", "friendly", "critical", "urgent")),
)  # fmt: skip
WORDS = (
    "Copy these facts from the document above.",
    "Fill in these fields from the document above.",
    "Extract the following from the document above.",
)
OWN_SHARE = 0.4
"""Of questions of a kind: asked in the words of the tasks' files."""
FIELD_TOKENS, QUOTE_TOKENS = 40, 70
"""Room in an answer for a field, and for a quote beside it; more in lists."""


class Variants:
    """Chooses tasks to ask.

    Args:
        tasks: The product's, and the user's own.

    Raises:
        InputError: There is no task of a kind that can be varied.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._texts = [task for task in tasks if task.kind == "text"]
        self._fields = [task for task in tasks if task.kind == "fields"]
        merging = [task for task in self._texts if task.merge]
        if not merging or not self._fields:
            raise InputError(
                "the tasks lack one that answers in text, with words to merge, or one with fields; "
                "`docflash tasks` lists them"
            )
        named = {task.name: task for task in tasks}
        self.summary = named["summary"] if named.get("summary") in merging else merging[0]

    def choose(self, kind: str, chance: random.Random) -> Task:
        """A task of a kind, as one of `KINDS` but "part"."""
        if kind == "summary":
            return self._summarise(chance)
        if kind == "answer":
            return self._text(chance.choice(ASKED), 200)
        if kind == "bullets":
            own = [task for task in self._fields if task.name == "bullets"]
            return chance.choice(own) if own and chance.random() < OWN_SHARE else self._text(
                chance.choice(BULLETS), 240
            )  # fmt: skip
        if kind == "quotes":
            return replace(self._extract(chance, 3, QUOTE_TOKENS), form="one_call")
        if chance.random() < OWN_SHARE:
            return chance.choice(self._fields)
        return replace(self._extract(chance, 7, 0), form="free")

    def _summarise(self, chance: random.Random) -> Task:
        if chance.random() < OWN_SHARE:
            return chance.choice(self._texts)
        return self._text(*chance.choice(SUMMARIES))

    def _text(self, instructions: str, max_tokens: int) -> Task:
        limits = replace(self.summary.limits, max_tokens=max_tokens)
        return replace(self.summary, instructions=instructions, limits=limits)

    def _extract(self, chance: random.Random, most: int, more_tokens: int) -> Task:
        """Some of the fields, in any order; some must be there, others may be null."""
        task = self._fields[0]
        strict = chance.choice((0.0, 0.3, 1.0))
        chosen = tuple(
            replace(field, required=field.required or chance.random() < strict)
            for field in chance.sample(FIELDS, chance.randint(1, most))
        )
        lists = sum(field.type == "list" for field in chosen)
        room = (FIELD_TOKENS + more_tokens) * (len(chosen) + 3 * lists)
        limits = replace(task.limits, max_tokens=80 + room)
        return replace(task, instructions=chance.choice(WORDS), fields=chosen, limits=limits)
