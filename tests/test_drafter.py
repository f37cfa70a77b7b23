"""The drafter gives what the authors' own code gives, for every row of a ragged batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from dflash import model_mlx as reference
from mlx_lm.models.cache import KVCache
from mlx_lm.tokenizer_utils import load as load_tokenizer
from mlx_lm.utils import load_model

from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.memory.window import Shapes
from pipeline.engine.targets.target import Target
from pipeline.errors import InputError
from tests.tiny import SHAPES, target_of, write_llama
from tests.tiny_drafter import FEW, drafter_config, drafter_tensors, write_drafter, write_target

TOKENS = 40
PROMPT = [3, 0, 1, 2, 2, 0, 3, 1, 1, 0, 2, 3, 0, 0, 1, 3, 2]
# With these seeds the random drafters are right now and then, and never all the time.
SEEDS = {"llama": 3, "qwen3": 1, "qwen3_moe": 3, "gpt_oss": 3, "gemma3_text": 1, "gemma3": 3}
HYBRID_SEEDS = {"qwen3_next": 1, "qwen3_5": 2, "qwen3_5_moe": 0}
Change = Callable[[dict[str, mx.array]], object]


@dataclass
class Decoded:
    """What a decode loop did.

    Attributes:
        tokens: The answer.
        gained: Tokens per verify.
        logits: The drafter's, [block - 1, V] per verify.
    """

    tokens: list[int] = field(default_factory=list[int])
    gained: list[int] = field(default_factory=list[int])
    logits: list[np.ndarray] = field(default_factory=list[np.ndarray])


def decode_ours(target: Target, drafter: Drafter | None) -> Decoded:
    """Greedy decoding of one row; plain without a drafter."""
    target.cache.resize(1, 256)
    target.prefill(0, PROMPT[:6])
    target.prefill(0, PROMPT[6:-1])
    done = Decoded()
    last = PROMPT[-1]
    draft: list[int] = []  # the first step has none, as in the authors' loop
    while len(done.tokens) < TOKENS:
        chosen = np.argmax(np.array(target.forward([[last, *draft]])[0]), axis=-1).tolist()
        agreed = next((i for i, token in enumerate(draft) if token != chosen[i]), len(draft))
        target.cache.lengths[0] += agreed + 1
        done.tokens += chosen[: agreed + 1]
        done.gained.append(agreed + 1)
        last = done.tokens[-1]
        if drafter:
            done.logits.append(np.array(drafter.draft([last])[1])[0])
            draft = np.argmax(done.logits[-1], axis=-1).tolist()
    target.cache.release()
    return done


def decode_reference(folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Decoded:
    """The authors' loop. It has so many tokens left that it never shortens a block."""
    monkeypatch.setattr(reference, "snapshot_download", lambda path, **_: path)
    drafter: Any = reference.load_draft(str(checkpoint))
    compute = drafter.compute_logits
    done = Decoded()

    def compute_logits(hidden: mx.array) -> mx.array:
        logits = compute(hidden)
        done.logits.append(np.array(logits)[0])
        return logits

    monkeypatch.setattr(drafter, "compute_logits", compute_logits)
    tokenizer: Any = load_tokenizer(folder)
    tokenizer._eos_token_ids = set()
    model, _ = load_model(folder)
    for step in reference.stream_generate(
        model, drafter, tokenizer, PROMPT, max_tokens=TOKENS + 2 * drafter.config.block_size
    ):
        done.tokens += step.tokens
        done.gained.append(len(step.tokens))
        if len(done.tokens) >= TOKENS:
            break
    return done


def assert_same(ours: Decoded, theirs: Decoded) -> None:
    assert ours.tokens == theirs.tokens
    assert ours.gained == theirs.gained
    assert len(theirs.logits) >= len(theirs.gained) - 1 > 0
    for our_block, their_block in zip(ours.logits, theirs.logits, strict=False):
        np.testing.assert_allclose(our_block, their_block, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", SEEDS)
def test_it_drafts_what_the_authors_code_drafts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_target(tmp_path / "target", kind, seed=SEEDS[kind])
    checkpoint = write_drafter(tmp_path / "drafter", drafter_config())
    target = target_of(folder)
    ours = decode_ours(target, load_drafter(checkpoint, target))
    assert len(set(ours.gained)) >= 3, "this proves nothing: drafts are accepted all or never"
    assert_same(ours, decode_reference(folder, checkpoint, monkeypatch))
    assert ours.tokens[:TOKENS] == decode_ours(target_of(folder), None).tokens


@pytest.mark.parametrize("kind", HYBRID_SEEDS)
def test_hybrid_targets_write_what_they_would_write_without_it(kind: str, tmp_path: Path) -> None:
    folder = write_target(tmp_path / "target", kind, seed=HYBRID_SEEDS[kind])
    target = target_of(folder)
    checkpoint = write_drafter(tmp_path / "drafter", drafter_config())
    ours = decode_ours(target, load_drafter(checkpoint, target))
    assert len(set(ours.gained)) >= 3, "this proves nothing: drafts are accepted all or never"
    assert ours.tokens[:TOKENS] == decode_ours(target_of(folder), None).tokens


class InOrder(KVCache):
    """In the place of the authors' ring buffer: their mask takes it to be in order, and it isn't
    once it is full and one token comes in."""

    def __init__(self, max_size: int, keep: int) -> None:
        super().__init__()


SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 12}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    "changes",
    [
        SLIDING,
        SLIDING | {"layer_types": ["sliding_attention"] * 2},
        SLIDING | {"is_causal": False},
        {"is_causal": True},
        {"rope_scaling": YARN},
        {"rope_parameters": YARN | {"rope_theta": 500.0}, "rope_theta": None},
        {"dflash_config": {"input_embedding_scale": 3.0, "output_multiplier": 0.5}},
        {"dflash_config": {"final_logit_softcapping": 1.5, "block_size": 5}},
        {"dflash_config": {"target_layer_ids": [3, 0, 3]}},
    ],
)
def test_every_published_setting_means_what_it_means_to_the_authors(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "RotatingKVCache", InOrder)
    folder = write_target(tmp_path / "target", "llama", seed=3)
    changed = {name: value for name, value in drafter_config(**changes).items() if value}
    checkpoint = write_drafter(tmp_path / "drafter", changed)
    target = target_of(folder)
    ours = decode_ours(target, load_drafter(checkpoint, target))
    assert_same(ours, decode_reference(folder, checkpoint, monkeypatch))


def test_a_tied_head_and_a_checkpoint_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_llama(tmp_path / "target", vocabulary=FEW)
    config = drafter_config(num_target_layers=2, dflash_config={"target_layer_ids": [1]})
    tensors = drafter_tensors(config)
    checkpoint = write_drafter(
        tmp_path / "drafter", config, {"fc.weight": tensors.pop("fc.weight")}
    )
    mx.save_safetensors(str(checkpoint / "more.safetensors"), tensors)
    target = target_of(folder)
    ours = decode_ours(target, load_drafter(checkpoint, target))
    assert_same(ours, decode_reference(folder, checkpoint, monkeypatch))


@pytest.mark.parametrize("left_alone", ["", "v_proj", "up_proj"])
def test_quantised_weights_count_as_what_they_stand_for(left_alone: str, tmp_path: Path) -> None:
    folder = write_target(tmp_path / "target", "llama", seed=3)
    settings: dict[str, Any] = {"group_size": 32, "bits": 4}
    plain: dict[str, mx.array] = {}
    quantised: dict[str, mx.array] = {}
    for name, tensor in drafter_tensors(drafter_config()).items():
        if tensor.ndim == 1 or (left_alone and left_alone in name):
            plain[name] = quantised[name] = tensor
            continue
        parts = mx.quantize(tensor, **settings)
        plain[name] = mx.dequantize(*parts, **settings)
        for part, value in zip(("weight", "scales", "biases"), parts, strict=True):
            quantised[name.removesuffix("weight") + part] = value
    exact = write_drafter(tmp_path / "plain", drafter_config(), plain)
    small = write_drafter(tmp_path / "small", drafter_config(quantization=settings), quantised)
    results = []
    for checkpoint in (exact, small):
        target = target_of(folder)
        results.append(decode_ours(target, load_drafter(checkpoint, target)))
    assert_same(results[1], results[0])


@pytest.fixture(scope="module")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("fit") / "target", "qwen3", seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drafter(tmp_path_factory.mktemp("fit") / "drafter", drafter_config(**SLIDING))


def both(folder: Path, checkpoint: Path) -> tuple[Target, Drafter]:
    target = target_of(folder)
    return target, load_drafter(checkpoint, target)


ROWS = ([1, 2, 3], [2, 0, 1, 3, 3, 1, 0, 2, 2, 1, 3, 0, 1, 1, 2, 3, 0, 2], [0], [3, 3, 2, 1, 0, 1])


def draft_alone(folder: Path, checkpoint: Path, context: Sequence[int], anchor: int) -> np.ndarray:
    """Logits [block - 1, V] after a context that was run at once."""
    target, drafter = both(folder, checkpoint)
    target.cache.resize(1, 64)
    target.prefill(0, context)
    return np.array(drafter.draft([anchor])[1])[0]


@pytest.mark.parametrize("shapes", SHAPES)
def test_every_row_of_a_ragged_batch_gets_what_it_would_get_alone(
    shapes: Shapes, target_folder: Path, checkpoint: Path
) -> None:
    target, drafter = both(target_folder, checkpoint)
    target.cache.shapes = shapes
    target.cache.resize(len(ROWS) + 1, 64)
    for slot, prompt in enumerate(ROWS):
        target.prefill(slot, prompt)
    drafter.draft([1, 1, 1, 1])  # its block must leave no trace
    kept = (3, 0, 1, 2)
    new = [[1, 2, 0], [3, 3, 3], [2, 2, 1], [0, 1, 2]]
    target.forward(new)
    for slot, count in enumerate(kept):
        target.cache.lengths[slot] += count
    logits = np.array(drafter.draft([0, 1, 2, 3], width=3)[1])
    assert logits.shape == (len(ROWS), 3, FEW)
    for slot, prompt in enumerate(ROWS):
        context = [*prompt, *new[slot][: kept[slot]]]
        expected = draft_alone(target_folder, checkpoint, context, slot)
        np.testing.assert_allclose(logits[slot], expected[:3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3])
def test_plain_steps_are_in_its_context_when_it_drafts(
    rows: int, target_folder: Path, checkpoint: Path
) -> None:
    target, drafter = both(target_folder, checkpoint)
    target.cache.resize(3, 128)
    contexts = [list(ROWS[slot]) for slot in range(rows)]
    for slot, context in enumerate(contexts):
        target.prefill(slot, context)

    def step(width: int, kept: int) -> None:
        new = [[(slot + k) % 4 for k in range(width)] for slot in range(len(contexts))]
        mx.eval(target.forward(new))
        for slot, context in enumerate(contexts):
            target.cache.lengths[slot] += kept
            context.extend(new[slot][:kept])

    def check() -> None:
        logits = np.array(drafter.draft([2] * len(contexts))[1])
        for slot, context in enumerate(contexts):
            expected = draft_alone(target_folder, checkpoint, context, 2)
            np.testing.assert_allclose(logits[slot], expected, rtol=0, atol=1e-4)

    for _ in range(5):
        step(1, 1)
    check()
    step(1, 1)
    step(4, 2)  # what is rejected is overwritten by what comes
    step(1, 1)
    step(1, 1)
    contexts.pop()  # a row leaves, and the last one moves
    if contexts:
        target.cache.copy_row(len(contexts), 0, target.cache.lengths[len(contexts)])
        contexts[0] = list(ROWS[rows - 1])
        target.cache.lengths[0] = len(ROWS[rows - 1])  # it begins its answer anew
        step(1, 1)
        step(1, 1)
    else:
        contexts.append([3, 1])
        target.cache.lengths[0] = 0
        target.prefill(0, [3, 1])
        step(1, 1)
    check()


def test_waiting_steps_go_with_the_memory_of_the_rows(
    target_folder: Path, checkpoint: Path
) -> None:
    target, drafter = both(target_folder, checkpoint)
    target.cache.resize(1, 64)
    target.prefill(0, ROWS[1])
    mx.eval(target.forward([[1]]))
    target.cache.release()
    target.cache.resize(1, 64)
    target.prefill(0, ROWS[0])
    logits = np.array(drafter.draft([1])[1])
    expected = draft_alone(target_folder, checkpoint, ROWS[0], 1)
    np.testing.assert_allclose(logits[0], expected, rtol=0, atol=1e-4)


def test_its_context_goes_where_the_row_goes(target_folder: Path, checkpoint: Path) -> None:
    target, drafter = both(target_folder, checkpoint)
    target.cache.resize(2, 64)
    for slot in (0, 1):
        target.prefill(slot, ROWS[slot])
    prefix = target.cache.copy_prefix(1, 15)
    assert prefix.size_bytes == 15 * target.kv_bytes_per_token
    target.cache.copy_row(1, 0, 12)
    target.cache.resize(3, 300)
    target.cache.load_prefix(2, prefix, 14)
    assert target.cache.size_bytes == 3 * target.cache.columns * target.kv_bytes_per_token
    logits = np.array(drafter.draft([1, 2, 3])[1])
    for slot, length in enumerate((12, 18, 14)):
        expected = draft_alone(target_folder, checkpoint, ROWS[1][:length], slot + 1)
        np.testing.assert_allclose(logits[slot], expected, rtol=0, atol=1e-4)


def test_a_row_without_room_for_a_block_is_an_error(target_folder: Path, checkpoint: Path) -> None:
    target, drafter = both(target_folder, checkpoint)
    target.cache.resize(2, 256)
    target.prefill(0, [1] * 250)
    with pytest.raises(ValueError, match="columns=256 are too few"):
        drafter.draft([1, 1])
    with pytest.raises(ValueError, match="columns=256 are too few"):
        drafter.draft([1])


def test_no_other_model_is_tapped(target_folder: Path, checkpoint: Path) -> None:
    target, _ = both(target_folder, checkpoint)
    other: Any = target_of(target_folder).model
    ours: Any = target.model
    assert type(ours.layers[0]) is not type(ours.layers[1])
    assert {type(layer) for layer in other.layers} == {type(ours.layers[3])}
    assert isinstance(ours.layers[0], type(ours.layers[3]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 5}, r"vocab_size=5, the target's is 4"),
        ({"hidden_size": 32}, r"hidden_size=32, the target's is 64"),
        ({"num_target_layers": 36}, r"num_target_layers=36, the target's is 4"),
        ({"dflash_config": {"target_layer_ids": [1, 4]}}, r"\[1, 4\], .* layers are 0 to 3"),
        ({"dflash_config": {"target_layer_ids": []}}, r"target_layer_ids=\[\]"),
        ({"dflash_config": {"mask_token_id": 4}}, r"mask_token_id=4 is not in the vocabulary"),
        ({"block_size": 1}, r"block_size=1 leaves nothing to draft"),
        ({"vocab_size": 9, "block_size": 0}, r"vocab_size=9.*; block_size=0"),
        ({"architectures": ["DFlash2DraftModel"]}, r"second kind .* choose a DFlashDraftModel"),
        ({"layer_types": ["full_attention"]}, r"layer_types=.* for num_hidden_layers=2"),
        ({"layer_types": ["linear_attention"] * 2}, r"unknown layer_types"),
        ({"layer_types": ["sliding_attention"] * 2}, r"without a sliding_window"),
        ({"num_attention_heads": 3}, r"sizes that no model has"),
        ({"rms_norm_eps": "small"}, r"can't be read \(could not convert"),
        ({"rope_scaling": {"rope_type": "spiral"}}, r"rope_scaling=.*spiral"),
        ({"quantization": {"bits": 4}}, r"quantization=\{'bits': 4\} is none that MLX can use"),
    ],
)
def test_a_drafter_that_does_not_fit_is_refused(
    changes: dict[str, Any], said: str, target_folder: Path, tmp_path: Path
) -> None:
    fitting = drafter_tensors(drafter_config())
    folder = write_drafter(tmp_path / "drafter", drafter_config(**changes), fitting)
    with pytest.raises(InputError, match=said):
        load_drafter(folder, target_of(target_folder))


def shorten(tensors: dict[str, mx.array]) -> None:
    tensors["layers.1.self_attn.k_proj.weight"] = mx.zeros((16, 64))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("fc.weight"), r"missing: fc\.weight; fetch"),
        (lambda tensors: tensors.update(lm_head=mx.zeros(3)), r"unexpected: lm_head; fetch"),
        (shorten, r"of another shape: layers\.1\.self_attn\.k_proj\.weight is \[16, 64\] and not"),
        (lambda tensors: tensors.clear(), r"missing: fc\.weight, .* and 22 more"),
    ],
)
def test_a_partial_checkpoint_is_refused(
    change: Change, said: str, target_folder: Path, tmp_path: Path
) -> None:
    tensors = drafter_tensors(drafter_config())
    change(tensors)
    folder = write_drafter(tmp_path / "drafter", drafter_config(), tensors)
    with pytest.raises(InputError, match=said):
        load_drafter(folder, target_of(target_folder))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", None, r"has no \*\.safetensors"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "can't be read"),
        ("model.safetensors", b"", "can't be read"),
        ("config.json", None, r"can't be read .*No such file"),
        ("config.json", b"{", "can't be read"),
        ("config.json", b"[]", "can't be read"),
        ("config.json", b"\xff\xfe", "can't be read"),
        ("config.json", b'{"dflash_config": 7}', "can't be read|has no"),
        ("config.json", b'{"model_type": "llama"}', "has no 'dflash_config'"),
    ],
)
def test_a_corrupt_folder_is_refused(
    name: str, content: bytes | None, said: str, target_folder: Path, tmp_path: Path
) -> None:
    folder = write_drafter(tmp_path / "drafter", drafter_config())
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        load_drafter(folder, target_of(target_folder))


def test_a_file_cut_short_is_refused(target_folder: Path, tmp_path: Path) -> None:
    folder = write_drafter(tmp_path / "drafter", drafter_config())
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"can't be read .*fetch it again"):
        load_drafter(folder, target_of(target_folder))
