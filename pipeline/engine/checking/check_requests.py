"""What the gate asks: questions about texts, in free prose and under schemas, greedy and sampled.

In: texts, or none for the built-in ones. Out: requests, each different from the others.
"""

import math
from dataclasses import replace
from typing import Any

from pipeline.engine.checking.check import CheckJob
from pipeline.engine.interface import Message, Request, Sampling
from pipeline.errors import InputError

PASSAGE_CHARS = 1200
TEXTS = (
    """Invoice A-1017 of 14 March 2026. Northwind Paper Ltd. to Harbour School: 40 boxes of paper at
12.50 euros, 3 boxes of pencils at 7.00 euros. Total 521.00 euros, due on 13 April 2026.""",
    """Minutes of the allotment society, 2 May 2026. Present: Ada Brook (chair), Tom Reed, Ines
Vale. The budget of 1,840 pounds was approved. Tom Reed repairs the pump before June.""",
    """Dear Mr Hollis, thank you for your letter of 9 January. The lease of the workshop ends on 31
August 2026; three months' notice is needed by either side. Yours sincerely, Mara Quill.""",
    """Water expands when it freezes, which is why ice floats and pipes burst in winter. Most other
liquids shrink. A lake therefore freezes from the top, and fish live on below.""",
    """The museum opens at ten, except on Mondays. Tickets cost 8 euros; children under twelve and
students pay half. The last guided tour begins at four.""",
)
QUESTIONS = (
    "Summarise this in three sentences.",
    "List the names, dates and amounts.",
    "What does the reader have to do? Answer in your own words.",
    "Repeat the first sentence, then continue the text.",
)
_TEXT = {"type": "string", "maxLength": 60}
_NAMES = {"type": "array", "items": {"type": "string", "maxLength": 24}, "maxItems": 4}
FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["invoice", "minutes", "letter", "article", "notice"]},
        "date": {"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}]},
        "amount": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "subject": _TEXT,
    },
    "required": ["kind", "date", "amount", "subject"],
    "additionalProperties": False,
}
LIST: dict[str, Any] = {
    "type": "object",
    "properties": {"people": _NAMES, "quote": _TEXT, "is_formal": {"type": "boolean"}},
    "required": ["people", "quote", "is_formal"],
    "additionalProperties": False,
}
KINDS: tuple[tuple[str, dict[str, Any] | None, Sampling], ...] = (
    ("prose", None, Sampling()),
    ("fields", FIELDS, Sampling(no_repeat_ngram=8)),
    ("penalised", None, Sampling(repetition_penalty=1.1, no_repeat_ngram=12)),
    ("unrepeated", None, Sampling(no_repeat_ngram=4, no_repeat_copied=12)),
    ("list", LIST, Sampling()),
    ("sampled", None, Sampling(temperature=0.8, presence_penalty=0.3, frequency_penalty=0.2)),
    ("sampled fields", FIELDS, Sampling(temperature=0.9)),
)
"""No top-p and the like: the same proof holds, but at their edge a margin says little."""


def check_requests(job: CheckJob) -> list[Request]:
    """The part's requests, in the same order each time.

    Raises:
        InputError: The numbers of generations or parts make no sense.
    """
    part, parts = job.shard
    if not 1 <= part <= parts:
        raise InputError(f"shard={part}/{parts} must be i/n with i from 1 to n")
    if job.generations < 1 or job.rows < 1 or job.max_tokens < 1:
        raise InputError("--generations, --rows and --max-tokens must be at least 1")
    numbers = range(part - 1, job.generations, parts)
    return [_request(job, number) for number in numbers]


def _request(job: CheckJob, number: int) -> Request:
    name, schema, sampling = KINDS[number % len(KINDS)]
    texts = job.texts or TEXTS
    turn, place = divmod(number // len(KINDS), len(texts))
    question = QUESTIONS[(turn + number) % len(QUESTIONS)]
    text = _passage(texts[(place + number) % len(texts)], turn)
    again = turn // len(QUESTIONS)
    begin = f"({again + 1}) " if again else ""  # else it would be asked before
    content = f"{begin}{text}\n\n{question}"
    return Request(
        id=f"g{number} {name}",
        model=job.model,
        messages=(Message("user", content),),
        schema=schema,
        max_tokens=job.max_tokens,
        sampling=replace(sampling, seed=number),
        timeout_s=math.inf,  # all wait in one queue, for hours where there are thousands
    )


def _passage(text: str, turn: int) -> str:
    """A piece of a long text, another one at each turn."""
    pieces = max(1, len(text) // PASSAGE_CHARS)
    start = turn % pieces * PASSAGE_CHARS
    return text[start : start + PASSAGE_CHARS]
