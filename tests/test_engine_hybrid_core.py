"""The whole core over every architecture: drafts that are partly wrong don't change an answer."""

import random
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

from pipeline.engine.core import Core
from pipeline.engine.interface import (
    CoreOptions,
    Done,
    Event,
    Message,
    ModelInfo,
    Request,
)
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.errors import InputError
from tests.tiny_hybrid import CONFIGS, write_model

QUESTIONS = (
    "The invoice number is A-1017.",
    "The invoice number is A-1017 and the total amount is due.",
    "Minutes",
    "The invoice number is A-1017 and the total amount is 1,234.50 euros, due on 2026-03-31.",
    "The invoice number is A-1017 and the chair closed the session.",
    "Minutes",
)
MAX_TOKENS = (24, 5, 30, 17, 20, 12)
END = 2


class Guesser:
    """Proposes what the answers are known to say, with mistakes; notes what the rows hold."""

    def __init__(self, answers: dict[str, list[int]] | None) -> None:
        self._answers = answers
        self._rng = random.Random(5)
        self.rows: dict[str, Row] = {}
        self.rests = False

    def looks_at(self, _row: Row) -> bool:
        return False

    def propose(self, rows: Sequence[Row], *, begun: bool) -> tuple[list[list[int]], int]:
        self.rows |= {row.request.id: row for row in rows}
        drafts = [self._guess(row) for row in rows]
        return drafts, 1 + max(map(len, drafts))

    def look(self, rows: Sequence[Row]) -> None:
        pass

    def learn(self, gained: Sequence[Sequence[int]], waited_s: float = 0.0) -> None:
        pass

    def forget(self, row: Row) -> None:
        pass

    def stats(self) -> None:
        pass

    def _guess(self, row: Row) -> list[int]:
        if self._answers is None:
            return []
        done = len(row.history.tokens)
        draft = self._answers[row.request.id][done : done + self._rng.randrange(9)]
        return [7 if self._rng.random() < 0.2 else token for token in draft]


def run_all(info: ModelInfo, answers: dict[str, list[int]] | None) -> tuple[Core, dict[str, Row]]:
    """A core whose drafter knows `answers`, after all questions, and the rows by request."""
    guesser = Guesser(answers)
    core = Core(info, CoreOptions(max_rows=3, kv_bytes=1 << 25, prefill_tokens=16, speculate=False))
    core._drafts = guesser  # type: ignore[assignment]
    events: list[Event] = []
    for i, (question, max_tokens) in enumerate(zip(QUESTIONS, MAX_TOKENS, strict=True)):
        core.submit(
            Request(f"r{i}", info.name, (Message("user", question),), max_tokens=max_tokens),
            events.append,
        )
    while core.step():
        pass
    assert sum(isinstance(event, Done) for event in events) == len(QUESTIONS)
    return core, guesser.rows


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_answers_are_those_of_mlx_lm_alone(kind: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / kind, kind)
    info = ModelInfo("tiny", str(folder), "f", 1024, str(folder / "tokenizer.json"))
    slow, rows = run_all(info, None)
    plain = {name: row.history.tokens for name, row in rows.items()}
    model, _ = load_model(folder)
    for row in rows.values():
        steps = generate_step(mx.array(row.prompt), model, max_tokens=row.request.max_tokens)
        tokens = takewhile(lambda token: token != END, (int(token) for token, _ in steps))
        assert row.history.tokens == list(tokens)
    fast, rows = run_all(info, plain)
    assert {name: row.history.tokens for name, row in rows.items()} == plain
    assert fast.stats().steps < slow.stats().steps
    assert fast.stats().cached_tokens > 0


def test_a_state_that_cannot_be_rolled_back_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mamba2", "mamba2")
    with pytest.raises(InputError, match="keeps a state"):
        Target(ModelInfo("tiny", str(folder), "f", 1024, str(folder / "tokenizer.json")))
