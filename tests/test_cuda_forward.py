"""The kernels' arithmetic, run on the CPU, see `emulated`."""

import ctypes
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.llama import Model, ModelArgs
from numpy.typing import NDArray

from pipeline.engine.choosing.constraints import Constraints
from pipeline.engine.choosing.fused_choice import plan_of
from pipeline.engine.choosing.sampling import choose_tokens
from pipeline.engine.cuda.fused_kernels import Sizes, pack_layers, turns
from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.drafter_layers import Weights
from pipeline.engine.drafters.fused_drafter import pack_drafter
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.drafters.markov import Chain
from pipeline.engine.drafters.markov import plan_of as chain_plan
from pipeline.engine.interface import Sampling
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.targets.fused import forward_source, sizes_of
from tests.emulated import (
    SOURCES,
    Words,
    compile_source,
    floats,
    needs_compiler,
    pointer,
    words,
)

SIZES = Sizes(layers=2, hidden=128, heads=3, groups=1, inner=192, vocabulary=256)
COLUMNS, EPS, TAPS, BLOCK, RANK = 128, 1e-5, 2, 8, 16
pytestmark = needs_compiler


def make_model(dtype: mx.Dtype) -> Model:
    mx.random.seed(3)
    model = Model(
        ModelArgs(
            model_type="llama",
            hidden_size=SIZES.hidden,
            num_hidden_layers=SIZES.layers,
            intermediate_size=SIZES.inner,
            num_attention_heads=SIZES.heads,
            num_key_value_heads=SIZES.groups,
            head_dim=64,
            rms_norm_eps=EPS,
            vocab_size=SIZES.vocabulary,
            rope_theta=1e5,
            tie_word_embeddings=True,
        )
    )
    shrunk: Any = tree_map(
        lambda a: (a * (3 if a.ndim == 2 else 1)).astype(mx.bfloat16).astype(dtype),
        model.parameters(),
    )
    model.update(shrunk)
    return model


class Emulated:
    """The kernels of a target or of a drafter, and a cache of 4 rows.

    Args:
        library: They, compiled.
        weights: Layers as `pack_layers` has them, the head's norms or None, the rotary turns, the
            last norm and the head.
    """

    def __init__(self, library: Any, weights: list[NDArray[Any] | None]) -> None:
        self._library, self._weights = library, weights
        shape = (4, SIZES.groups, COLUMNS, 64)
        self.keys = [np.zeros(shape, np.uint16) for _ in range(SIZES.layers)]
        self.values = [np.zeros(shape, np.uint16) for _ in range(SIZES.layers)]

    def run(
        self,
        embedded: Words,
        places: list[tuple[int, int]],
        taken: tuple[int, int] | None = None,
        blocks: int = 2,
    ) -> tuple[Words, Words]:
        """Logits and every layer's output of tokens [B, T, D]; `taken`: the first, and how many."""
        rows, width, _ = embedded.shape
        count = rows * width
        start, some = taken or (0, width)
        heads = SIZES.heads * 64
        shapes = [(count, SIZES.hidden), (count, heads), (count, heads), (count, SIZES.inner),
                  (SIZES.layers, count, SIZES.hidden), (rows, some, SIZES.vocabulary)]  # fmt: skip
        outputs = [np.zeros(shape, np.uint16) for shape in shapes]
        where = self._where(places, width)
        *weights, norm, table = map(pointer, self._weights)
        self._library.run_target(
            *(blocks, pointer(where), pointer(embedded), *weights, *self._buffers(), norm, table),
            *(ctypes.c_float(EPS), start, some, *map(pointer, outputs)),
        )
        return outputs[5], outputs[4]

    def extend(self, taps: Words, context: list[NDArray[Any]], turned: NDArray[Any]) -> None:
        """Puts taps [TAPS, 1, T, D] into the first row of a drafter's cache."""
        width = taps.shape[2]
        features = np.zeros((width, SIZES.hidden), np.uint16)
        where = self._where([(0, 0)], width)
        self._library.run_drafter_context(
            *(2, pointer(where), pointer(taps), *map(pointer, context), pointer(turned)),
            *(*self._buffers(), pointer(features), ctypes.c_float(EPS)),
        )

    @staticmethod
    def _where(places: list[tuple[int, int]], width: int) -> NDArray[np.int32]:
        tokens = range(len(places) * width)  # each has its own line in the table
        return np.array([len(places), width, COLUMNS, 0, *sum(places, ()), *tokens], np.int32)

    def _buffers(self) -> list[Any]:
        return [(ctypes.c_void_p * SIZES.layers)(*[a.ctypes.data for a in arrays])
                for arrays in (self.keys, self.values)]  # fmt: skip


class EmulatedTarget(Emulated):
    def __init__(self, library: Any) -> None:
        model = make_model(mx.bfloat16)
        self._embedding = model.model.embed_tokens.weight
        packed = [words(array) for array in pack_layers(model.model.layers)]
        turned = np.array(turns(model.model.layers[0].self_attn.rope, COLUMNS))
        norm, table = words(model.model.norm.weight), words(self._embedding)
        super().__init__(library, [*packed, None, turned, norm, table])

    def forward(
        self, tokens: NDArray[np.int64], places: list[tuple[int, int]], blocks: int = 2
    ) -> tuple[Words, Words]:
        return self.run(words(self._embedding[mx.array(tokens)]), places, blocks=blocks)


def compile_kernels(folder: Path, *, is_drafter: bool) -> Any:
    sizes = {"LAYERS": SIZES.layers, "D": SIZES.hidden, "HEADS": SIZES.heads,
             "GROUPS": SIZES.groups, "INNER": SIZES.inner, "VOCABULARY": SIZES.vocabulary,
             "HEAD_NORM": int(is_drafter), "CAUSAL": int(not is_drafter), "TAPS": TAPS,
             "RANK": RANK}  # fmt: skip
    return compile_source(SOURCES / "forward.cpp", folder / "forward.so", sizes)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compile_kernels(tmp_path_factory.mktemp("cuda"), is_drafter=False)


@pytest.fixture(scope="module")
def sequences() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, SIZES.vocabulary, (2, 60))


def test_the_kernel_computes_what_the_model_does(
    library: Any, sequences: NDArray[np.int64]
) -> None:
    emulated = EmulatedTarget(library)
    for row in range(2):
        emulated.forward(sequences[row : row + 1, :20], [(row, 0)])
    logits, taps = emulated.forward(sequences[:, 20:28], [(row, 20) for row in range(2)])
    model = make_model(mx.float32)
    cache = make_prompt_cache(model)
    wanted = np.array(model(mx.array(sequences[:, :28]), cache=cache))[:, 20:]
    keys = np.array(cache[1].keys)[:, :, :28]
    # In bfloat16 a number keeps 8 bits: some hundredths of what the logits spread over.
    assert np.abs(floats(logits) - wanted).max() < 0.15 * wanted.std()
    assert np.abs(floats(emulated.keys[1])[:2, :, :28] - keys).max() < 0.05 * np.abs(keys).max()
    assert not (logits >> 7 & 0xFF == 0xFF).any()  # neither infinite nor undefined
    assert taps.shape == (2, 16, SIZES.hidden)
    assert np.abs(floats(taps[0])).max() > 0


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_token_gets_the_same_bits_whatever_runs_beside_it(
    library: Any, sequences: NDArray[np.int64], blocks: int
) -> None:
    together = EmulatedTarget(library)
    for row in range(2):
        together.forward(sequences[row : row + 1, :20], [(row, 0)])
    wanted, _ = together.forward(sequences[:, 20:28], [(row, 20) for row in range(2)])
    alone = EmulatedTarget(library)
    alone.forward(sequences[1:2, :9], [(0, 0)], blocks)
    alone.forward(sequences[1:2, 9:20], [(0, 9)], blocks)
    for step in range(8):
        place = [(0, 20 + step)]
        logits, _ = alone.forward(sequences[1:2, 20 + step : 21 + step], place, blocks)
        assert (logits[0, 0] == wanted[1, step]).all()


def test_many_tokens_at_once_get_the_bits_of_few(
    library: Any, sequences: NDArray[np.int64]
) -> None:
    """One block has so much to do that it takes tiles."""
    at_once, in_pieces = EmulatedTarget(library), EmulatedTarget(library)
    logits, taps = at_once.forward(sequences[:1], [(0, 0)], blocks=1)
    for start in range(0, 60, 15):
        some, some_taps = in_pieces.forward(sequences[:1, start : start + 15], [(0, start)], 1)
        assert (some[0] == logits[0, start : start + 15]).all()
        assert (some_taps == taps[:, start : start + 15]).all()
    for layer in range(SIZES.layers):
        assert (at_once.keys[layer] == in_pieces.keys[layer]).all()
        assert (at_once.values[layer] == in_pieces.values[layer]).all()


@pytest.mark.parametrize(("k", "count"), [(288, 130), (768, 40), (832, 70)])
def test_tiles_add_up_in_the_order_of_few_tokens(library: Any, k: int, count: int) -> None:
    """Of chunks of 32 each: 9, some sums have one more; 24, all have three; 26, two stages."""
    mx.random.seed(k)
    rows, weights = (words(mx.random.normal((n, k)).astype(mx.bfloat16)) for n in (count, 96))
    outputs = np.zeros((3, count, 96), np.uint16)
    library.run_products(k, pointer(rows), pointer(weights), count, pointer(outputs))
    wanted = floats(rows) @ floats(weights).T
    wanted[1::2, ::2] += 1  # what is held there
    assert np.abs(floats(outputs[0]) - wanted).max() < 0.02 * np.abs(wanted).max()
    assert (outputs[1] == outputs[0]).all()
    assert (outputs[2] == outputs[0]).all()


def test_only_what_the_kernel_can_run_is_fused() -> None:
    config = {"model_type": "llama", "vocab_size": SIZES.vocabulary}
    assert sizes_of(make_model(mx.bfloat16), config) == SIZES
    assert sizes_of(make_model(mx.float32), config) is None
    assert sizes_of(make_model(mx.bfloat16), {**config, "model_type": "qwen3"}) is None


def test_the_source_keeps_the_layers_that_are_tapped() -> None:
    source = forward_source(SIZES, (1,), EPS, logits=True)
    assert "if (layer == 1) store_pair(taps + (0 * count + m)" in source
    assert "run_head<128, 256>" in source
    assert "run_head" not in forward_source(SIZES, (), EPS, logits=False)


def make_drafter() -> Weights:
    """A drafter's modules in float32 whose numbers are bfloat16's."""
    mx.random.seed(5)
    weights = Weights(
        DrafterConfig(
            hidden_size=SIZES.hidden,
            num_hidden_layers=SIZES.layers,
            num_attention_heads=SIZES.heads,
            num_key_value_heads=SIZES.groups,
            head_dim=64,
            intermediate_size=SIZES.inner,
            vocab_size=SIZES.vocabulary,
            rms_norm_eps=EPS,
            rope_theta=1e5,
            max_position_embeddings=COLUMNS,
            block_size=BLOCK,
            mask_token_id=0,
            target_layer_ids=tuple(range(TAPS)),
            num_target_layers=TAPS,
            layer_types=("full_attention",) * SIZES.layers,
            sliding_window=None,
            is_causal=False,
            attention_bias=False,
            rope_scaling=None,
            input_embedding_scale=1,
            output_multiplier=1,
            final_logit_softcapping=None,
            markov_rank=0,
            quantization=None,
        )
    )
    drawn: Any = tree_map(
        lambda a: (
            (a * 3 if a.ndim == 2 else a + 0.3 * mx.random.normal(a.shape))
            .astype(mx.bfloat16)
            .astype(mx.float32)
        ),
        weights.parameters(),
    )
    weights.update(drawn)
    return weights


def test_the_drafters_kernels_compute_what_its_modules_do(tmp_path: Path) -> None:
    weights, seen = make_drafter(), 20
    mx.random.seed(6)
    table, taps, x = (
        mx.random.normal(shape).astype(mx.bfloat16)
        for shape in ((SIZES.vocabulary, SIZES.hidden), (TAPS, 1, seen, SIZES.hidden),
                      (1, BLOCK, SIZES.hidden))
    )  # fmt: skip
    block, context = pack_drafter(weights, table, COLUMNS)
    *layers, head_norms, turned, norm, head = block
    rotary = np.array(turned)
    emulated = Emulated(
        compile_kernels(tmp_path, is_drafter=True),
        [*map(words, layers), words(head_norms), rotary, words(norm), words(head)],
    )
    emulated.extend(words(taps), [words(array) for array in context[:-1]], rotary)
    logits, _ = emulated.run(words(x), [(0, seen)], taken=(1, BLOCK - 1))

    weights.join()
    cache = RaggedCache(SIZES.layers)
    cache.resize(1, COLUMNS)
    cache.look_at_row(0, seen)
    keys, values = weights.project([tap.astype(mx.float32) for tap in taps])
    keys = weights.rope(keys, offset=0)
    for i, layer in enumerate(cache.attention):
        layer.update_and_fetch(keys[:, i : i + 1], values[:, i : i + 1])
    cache.lengths[0] = seen
    cache.look_at_block(1, BLOCK)
    hidden = weights(x.astype(mx.float32), cache.attention)
    wanted = np.array(weights.norm(hidden[:, 1:]) @ table.astype(mx.float32).T)
    for i in range(SIZES.layers):
        for ours, theirs in ((emulated.keys[i], keys), (emulated.values[i], values)):
            exact = np.array(theirs[:, i : i + 1])
            assert np.abs(floats(ours)[:1, :, :seen] - exact).max() < 0.05 * np.abs(exact).max()
    assert np.abs(floats(logits) - wanted).max() < 0.15 * wanted.std()


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_mlx_s_own_operations(library: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, width, vocabulary = 3, 4, SIZES.vocabulary
    steps = rng.integers(-9, 9, (rows, width, vocabulary)) / 4  # many are alike: ties
    logits = mx.array(steps.astype(np.float32)).astype(mx.bfloat16)
    windows = [0, 3, 6]
    recent = rng.integers(-1, vocabulary, (rows, 6 + width - 1)).astype(np.int32)
    constraints = Constraints(
        masks=rng.integers(-(2**31), 2**31, (5, vocabulary // 32)).astype(np.int32),
        mask_of=rng.integers(-1, 5, (rows, width)).astype(np.int32),
        penalties=rng.choice([1.0, 1.1, 3.0], (rows, width)).astype(np.float32),
        recent=recent,
        windows=windows,
        shifts=[None] * rows,
        settings=[Sampling()] * rows,
        positions=[0] * rows,
    )
    constraints.masks[0] = 0  # nothing may come: the first token
    wanted = np.array(choose_tokens(logits, constraints))
    plan = np.concatenate([part.ravel() for part in plan_of(constraints)])
    chosen = np.zeros((rows, width), np.int32)
    arrays = [words(logits), plan, constraints.masks, chosen]
    library.run_choice(rows * width, *map(pointer, arrays))
    assert chosen.tolist() == wanted.tolist()
    lines = rng.permutation(rows * width)  # the logits may stand elsewhere
    moved = np.zeros((rows * width, vocabulary), np.uint16)
    moved[lines] = words(logits).reshape(-1, vocabulary)
    plan = np.concatenate([part.ravel() for part in plan_of(constraints, lines.tolist())])
    again = np.zeros((rows, width), np.int32)
    library.run_choice(rows * width, *map(pointer, [moved, plan, constraints.masks, again]))
    assert again.tolist() == chosen.tolist()
    for b, t in np.ndindex(rows, width):  # in the plainest way there is
        assert chosen[b, t] == plainly(np.array(logits.astype(mx.float32)), constraints, b, t)


def draw(rng: np.random.Generator, *shape: int) -> mx.array:
    return mx.array(rng.standard_normal(shape).astype(np.float32)).astype(mx.bfloat16)


@pytest.mark.parametrize(("rows", "taken"), [(1, 1), (2, 7), (5, 4)])
def test_the_gates_are_those_of_the_markov_head(library: Any, rows: int, taken: int) -> None:
    rng = np.random.default_rng(rows)
    hidden, norm = draw(rng, rows, BLOCK, SIZES.hidden), draw(rng, SIZES.hidden)
    gate_proj = draw(rng, RANK, SIZES.hidden) * 0.1
    ours = np.full((rows, taken, RANK), 0x7FC0, np.uint16)  # undefined
    where = np.array([rows, BLOCK, COLUMNS, 0, *[0] * 2 * rows], np.int32)
    arrays = [where, *map(words, (hidden, norm, gate_proj))]
    library.run_markov_gates(
        *(2, *map(pointer, arrays), ctypes.c_float(EPS), 1, taken, pointer(ours))
    )
    exact = [array.astype(mx.float32) for array in (hidden[:, 1 : 1 + taken], norm, gate_proj)]
    normed = mx.fast.rms_norm(exact[0], exact[1], EPS).astype(mx.bfloat16).astype(mx.float32)
    gates = floats(words(normed @ exact[2].T))
    wanted = floats(words(mx.array(gates / (1 + np.exp(-gates)))))
    apart = np.abs(floats(ours) - wanted)
    assert (apart == 0).mean() > 0.95
    assert (apart <= 2**-7 * np.abs(wanted)).all()  # a sum in another order may round otherwise


@pytest.mark.parametrize("seed", range(4))
def test_the_chain_of_choices_is_that_of_mlx_s_own_operations(library: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, width, vocabulary = 3, 5, SIZES.vocabulary

    tables = draw(rng, vocabulary, RANK), draw(rng, vocabulary, RANK)
    logits, gates = draw(rng, rows, width, vocabulary), draw(rng, rows, width, RANK)
    known = [Beginning(), Beginning([7, 200], [3, 4, 5]), Beginning([1] * width)]
    anchors = [5, 250, 0]
    exact = Chain.__new__(Chain)
    exact.before, exact.after = (table.astype(mx.float32) for table in tables)
    parts = [logits.astype(mx.float32), gates.astype(mx.float32)]
    first = exact.choose(parts[0], parts[1], anchors, known)
    known[0] = Beginning((), [int(first[0, 0]), 9])
    wanted = exact.choose(parts[0], parts[1], anchors, known)
    assert wanted[0, 0] != first[0, 0]
    chosen = np.zeros((rows, width), np.int32)
    plan = np.array([width, rows, *chain_plan(anchors, known, width).ravel()], np.int32)
    arrays = [*map(words, (logits, gates, *tables)), plan, chosen]
    for blocks in (1, 2, 7):
        chosen[:] = -1
        library.run_chain(blocks, *map(pointer, arrays))
        assert chosen.tolist() == wanted.tolist()


@pytest.mark.parametrize("penalty", [1.1, 1.15, 1.2, 1.3])
def test_a_penalty_is_rounded_as_the_logits_are(library: Any, penalty: float) -> None:
    """Once: where divided by the penalty itself, a logit would have come out otherwise."""
    rounded = mx.array(penalty).astype(mx.bfloat16).item()
    values = mx.arange(1.0, 30.0, 0.125).astype(mx.bfloat16)
    exact = (values.astype(mx.float32) / penalty).astype(mx.bfloat16)
    wanted = (values.astype(mx.float32) / rounded).astype(mx.bfloat16)
    differing = [i for i in range(values.size) if exact[i].item() != wanted[i].item()]
    assert differing
    for i in differing:
        logits = np.full((1, 1, SIZES.vocabulary), -9.0, np.float32)
        logits[0, 0, 5], logits[0, 0, 9] = values[i].item(), wanted[i].item()
        constraints = Constraints(
            masks=np.zeros((1, SIZES.vocabulary // 32), np.int32),
            mask_of=np.full((1, 1), -1, np.int32),
            penalties=np.full((1, 1), penalty, np.float32),
            recent=np.array([[5]], np.int32),
            windows=[1],
            shifts=[None],
            settings=[Sampling()],
            positions=[0],
        )
        plan = np.concatenate([part.ravel() for part in plan_of(constraints)])
        chosen = np.zeros((1, 1), np.int32)
        for other in (0.0, 2.0**-7 * wanted[i].item()):  # a tie; and a bit more
            logits[0, 0, 9] = wanted[i].item() + other
            array = mx.array(logits).astype(mx.bfloat16)
            arrays = [words(array), plan, constraints.masks, chosen]
            library.run_choice(1, *map(pointer, arrays))
            assert chosen.tolist() == choose_tokens(array, constraints).tolist()


def plainly(logits: NDArray[np.float32], constraints: Constraints, b: int, t: int) -> int:
    scores = logits[b, t].copy()
    longest = constraints.recent.shape[1] - logits.shape[1] + 1
    window = constraints.recent[b, t + longest - constraints.windows[b] : t + longest]
    factor = mx.array(constraints.penalties[b, t]).astype(mx.bfloat16)
    for token in {int(token) for token in window if token >= 0}:
        score = mx.array(scores[token]).astype(mx.bfloat16)
        scores[token] = (score / factor if scores[token] > 0 else score * factor).item()
    which = constraints.mask_of[b, t]
    if which >= 0:
        bits = np.unpackbits(constraints.masks[which].view(np.uint8), bitorder="little")
        scores[bits == 0] = -np.inf
    return int(scores.argmax())
