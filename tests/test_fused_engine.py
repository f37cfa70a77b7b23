"""The engine with its one-launch kernels, on a GPU that the CPU plays: answers are plain ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, ModelInfo, Request
from pipeline.engine.targets.reading import Reading
from pipeline.engine.targets.target import PIECE
from pipeline.training.full_core import FullCore
from tests import emulated_gpu
from tests.emulated import needs_compiler
from tests.plain_decoding import Desk, ask, describe_model
from tests.tiny_drafter import drafter_config, write_drafter
from tests.tiny_hybrid import VOCABULARY, write_model

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sum": {"type": "integer", "maximum": 999},
        "place": {"type": "string", "maxLength": 9},
    },
    "required": ["sum", "place"],
    "additionalProperties": False,
}
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target and a drafter that the kernels can run."""
    folder = tmp_path_factory.mktemp("fused")
    write_model(folder / "target", "llama", seed=4, dtype=mx.bfloat16, **SHAPE)
    config = drafter_config(
        vocab_size=VOCABULARY,
        num_target_layers=2,
        dflash_config={"target_layer_ids": [0, 1], "markov_rank": 32},
        **{name: size for name, size in SHAPE.items() if name != "num_hidden_layers"},
    )
    write_drafter(folder / "drafter", config)
    return folder / "target", folder / "drafter"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def info(folders: tuple[Path, Path], compiled: Path) -> Iterator[ModelInfo]:
    with emulated_gpu.played(compiled):
        yield describe_model(folders[0])


def requests() -> list[Request]:
    texts = ["what is due", "what is due on monday"]
    free = [ask(f"free {i}", text, max_tokens=4 + 20 * i) for i, text in enumerate(texts)]
    return [*free, ask("schema", texts[0], max_tokens=12, schema=SCHEMA)]


def test_answers_are_the_same_alone_in_a_batch_and_with_drafts(
    info: ModelInfo, folders: tuple[Path, Path]
) -> None:
    asked, bound = requests(), 1 << 24
    plain = Core(info, CoreOptions(max_rows=2, kv_bytes=bound, speculate=False))
    drafting = Core(info, CoreOptions(max_rows=2, kv_bytes=bound, speculate=True,
                                      drafter=str(folders[1]), draft_always=True))  # fmt: skip
    desk = Desk(plain)
    alone = [desk.finish(request).completion(request.id).text for request in asked]
    for core in (plain, drafting):
        together = Desk(core).finish(*asked)
        assert [together.completion(request.id).text for request in asked] == alone
    stats = drafting.stats().speculation
    assert stats is not None
    assert stats.drafter_steps
    assert drafting._target.largest_tree == 15  # the kernel has no room for more
    assert drafting._target.cache.block_columns == 16
    steps = dict(stats.steps_by_width)
    assert steps[16]
    assert not steps[32]


def test_a_prompt_is_answered_alike_read_at_once_or_in_pieces(info: ModelInfo) -> None:
    request = ask("long", "what is due on monday " * 6, max_tokens=12)
    texts: set[str] = set()
    for piece in (0, 7):
        options = CoreOptions(max_rows=2, kv_bytes=1 << 24, speculate=False, prefill_tokens=piece)
        core = Core(info, options)
        assert core._target.prompt_piece > PIECE  # tiles are for many tokens
        texts.add(Desk(core).finish(request).completion(request.id).text)
    assert len(texts) == 1


def test_prompts_that_are_read_together_are_answered_as_alone(info: ModelInfo) -> None:
    options = CoreOptions(max_rows=16, kv_bytes=1 << 25, speculate=False)
    asked = [ask(f"{i}", "due on monday " * (1 + 3 * (i % 5)), max_tokens=2 + i % 5)
             for i in range(24)]  # fmt: skip
    core, alone = FullCore(info, options), Core(info, options)
    core.reads_together = True  # as on a GPU
    desk, other = Desk(core).finish(*asked), Desk(alone).finish(*asked)
    for request in asked:
        found = desk.completion(request.id)
        assert found.completion_tokens == request.max_tokens
        assert found.text == other.completion(request.id).text


def test_prompts_are_read_while_the_host_goes_on(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    begin = Reading.begin

    def note(self: Reading, running: list[mx.array]) -> None:
        begun.append(len(running))
        begin(self, running)

    monkeypatch.setattr(Reading, "begin", note)
    core = Core(info, CoreOptions(max_rows=2, kv_bytes=1 << 24, speculate=False))
    asked = requests()
    desk = Desk(core).finish(*asked)
    assert len(begun) > 1  # one begins as another
    assert all(desk.completion(request.id).text for request in asked)
    assert core._target.reading._running == []  # nobody waits for what is over
