"""Prompts that are read while the host goes on, as a model that runs as one kernel reads them."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import pytest

from pipeline.engine.core import Core
from pipeline.engine.drafting.draft import Drafts
from pipeline.engine.interface import CoreOptions, Request
from pipeline.engine.targets.reading import Reading
from pipeline.engine.targets.target import Target
from tests.plain_decoding import Desk, PlainDecoder, ask, describe_model
from tests.tiny import CORPUS, write_llama

WAITED_S = 1000.0
OPTIONS = CoreOptions(max_rows=4, kv_bytes=1 << 25, prefill_tokens=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny", context_tokens=2048)


def requests() -> list[Request]:
    chance = random.Random(4)
    texts = [" ".join(chance.choices(CORPUS, k=1 + n % 5)) for n in range(10)]
    return [ask(f"r{n}", text, chance.choice((2, 9, 30))) for n, text in enumerate(texts)]


@pytest.fixture
def left_running(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has no prompt waited for, on any device; counts them."""
    left: list[int] = []

    def read(
        self: Target, tokens: Sequence[Sequence[int]], meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        self._run(tokens, logits=False)
        mx.async_eval(self.cache.state(), self._observed)
        meanwhile()
        self.reading.begin([mx.array(0) + 1])
        left.append(len(tokens[0]))

    monkeypatch.setattr(Target, "read", read)
    return left


def test_answers_are_those_of_prompts_that_were_waited_for(
    folder: Path, left_running: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    alone = PlainDecoder(describe_model(folder, 2048))
    desk = Desk(Core(describe_model(folder, 2048), OPTIONS))
    desk.finish(*requests())
    assert len(left_running) > len(requests())
    for request in requests():
        plain = alone.text([token for token, _ in alone.decode(request)])
        assert desk.completion(request.id).text == plain


def test_what_is_waited_for_a_prompt_is_no_part_of_a_step(
    folder: Path, left_running: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    told: list[float] = []
    learn = Drafts.learn

    def learn_and_tell(
        self: Drafts, gained: Sequence[Sequence[int]], waited_s: float = 0.0
    ) -> None:
        told.append(waited_s)
        learn(self, gained, 0.0)

    monkeypatch.setattr(Drafts, "learn", learn_and_tell)
    desk = Desk(Core(describe_model(folder, 2048), OPTIONS))
    reading = desk.core._target.reading
    finish = reading.finish

    def wait_long() -> None:
        reading._waited_s += WAITED_S * bool(reading._running)
        finish()

    monkeypatch.setattr(reading, "finish", wait_long)
    desk.finish(*requests())
    stats = desk.core.stats()
    waits = sum(waited > WAITED_S / 2 for waited in told)
    assert 0 < waits < len(told)
    assert stats.prefill_s == pytest.approx(waits * WAITED_S, abs=WAITED_S / 2)
    assert stats.decode_s < 0  # nobody has really waited


def test_a_prompt_is_waited_for_once() -> None:
    reading = Reading()
    reading.finish()
    assert reading.waited() == 0
    product = mx.random.normal((300, 300)) @ mx.random.normal((300, 300))
    reading.begin([product])
    reading.finish()
    assert reading.waited() > 0
    reading.finish()
    assert reading.waited() == 0
    reading.begin([product])
    reading.wait()  # for the next piece, not in a step
    assert reading.waited() == 0
    reading.begin([product + 1])
    reading.finish()
    reading.forget()  # the step has failed
    assert reading.waited() == 0
