"""The core where few shapes run, as on CUDA: padded rows, widths and prompts, joined products."""

from pathlib import Path

import mlx.core as mx
import pytest

from pipeline.engine.memory.window import Shapes
from pipeline.engine.targets import target
from pipeline.engine.targets.joined import Shared
from tests.plain_decoding import PlainDecoder, describe_model
from tests.test_engine_core import Guesser, assert_as_alone, open_desk, ragged_requests
from tests.tiny import write_llama

FEW = Shapes(few=True)


@pytest.mark.parametrize("guess", [False, True])
def test_answers_are_those_of_mlx_lm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, guess: bool
) -> None:
    folder = write_llama(tmp_path / "tiny", context_tokens=2048)
    monkeypatch.setattr(target, "device_shapes", lambda: FEW)
    alone, desk = PlainDecoder(describe_model(folder, 2048)), open_desk(folder)
    loaded = desk.core._target
    assert loaded.cache.shapes == Shapes(few=True, mask_dtype=mx.float32)
    assert any(isinstance(module, Shared) for module in loaded.model.modules())
    requests = ragged_requests(12, 5)
    answers = {r.id: [token for token, _ in alone.decode(r)] for r in requests}
    guesser = Guesser(answers, trees=loaded.largest_tree > 0)
    if guess:
        desk.core._drafts = guesser  # type: ignore[assignment]
    for request in requests:
        desk.submit(request)
        desk.step(2)
    desk.finish()
    assert_as_alone(desk, alone, requests)
    assert (guesser.right > 10) is guess


def test_prompts_and_columns_have_few_sizes() -> None:
    assert [FEW.prompt_width(n, 600) for n in (1, 32, 33, 200, 512)] == [32, 32, 128, 256, 512]
    assert FEW.prompt_width(200, 210) == 200
    assert [FEW.rows(n, 0, 40) for n in (1, 2, 5, 17)] == [1, 4, 16, 40]
    assert (FEW.rows(3, 8, 40), Shapes().rows(3, 2, 5)) == (8, 5)
    assert [FEW.columns(n, 1280) for n in (3, 512, 513, 1025)] == [512, 512, 1024, 1280]
    assert [FEW.width(n) for n in (1, 2, 3, 16, 18)] == [2, 2, 16, 16, 18]
    assert Shapes().prompt_width(7, 600) == Shapes().columns(7, 600) == 7
