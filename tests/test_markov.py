"""The Markov head: what is served is what is trained, whatever is known of a block beforehand."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from pipeline.engine.drafters.drafter_config import read_config
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.drafters.markov import CLASSES, Chain, Markov, shortlist
from pipeline.errors import InputError
from pipeline.training import model
from pipeline.training.examples import Blocks, Example, make_blocks, stack
from pipeline.training.features import Features, Teacher
from pipeline.training.judge import Judge
from pipeline.training.model import Draft, TrainableDrafter, new_parameters, read_parameters
from tests.tiny import target_of
from tests.tiny_drafter import FEW, drafter_config, write_drafter, write_target

RANK = 8
SHAPE = drafter_config(dflash_config={"markov_rank": RANK})
TOKENS = np.random.default_rng(0).integers(0, FEW, 60).astype(np.int32)
START = 12
ANCHORS = list(range(START - 1, 50, 3))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target, and a drafter whose Markov head has much to say."""
    base = tmp_path_factory.mktemp("markov")
    drafter = write_drafter(base / "drafter", SHAPE)
    path = drafter / "model.safetensors"
    found: Any = mx.load(str(path))
    tensors = {n: v * 8 if n.startswith("markov.") else v for n, v in found.items()}
    mx.eval(tensors)
    mx.save_safetensors(str(path), tensors)
    return write_target(base / "target", "llama", seed=3), drafter


class Trained:
    """A drafter as it is trained, with blocks at all anchors of a sequence."""

    def __init__(self, folders: tuple[Path, Path]) -> None:
        folder, checkpoint = folders
        self.config = read_config(checkpoint)
        self.teacher = Teacher(target_of(folder), self.config.target_layer_ids)
        self.drafter = TrainableDrafter(self.config, self.teacher)
        self.parameters = read_parameters(checkpoint, self.config)
        self.example = Example("a", "", "", TOKENS, START)
        self.batch = stack([self.example])
        self.blocks = make_blocks(self.batch, [ANCHORS], self.config.block_size, 7.0)
        features = Features(self.teacher).of(self.batch)
        self.hidden = self.drafter.hidden(self.parameters, Draft(features, self.blocks))

    def scores(self, before: np.ndarray) -> np.ndarray:
        """Logits [A, T - 1, V] given the token before each slot [A, T - 1], by definition."""
        head = self.drafter._weights.markov
        shift = head.shift(self.hidden[0], self.teacher.embed(mx.array(before)))
        return np.array(self.drafter.scores(self.hidden[0] + shift))

    def greedy(self, known: list[Beginning]) -> np.ndarray:
        """Token after token, all of the vocabulary looked at."""
        before = self.blocks.first[0][:, None].repeat(self.config.block_size - 1, axis=1)
        found = np.zeros_like(before)
        for k in range(before.shape[1]):
            scores = self.scores(before)[:, k]
            for a, one in enumerate(known):
                if k == len(one.tokens):
                    scores[a, list(one.banned)] = -np.inf
                given = k < len(one.tokens)
                found[a, k] = one.tokens[k] if given else scores[a].argmax()
            before[:, k + 1 :] = found[:, k, None]
        return found


def serve(folders: tuple[Path, Path], known: list[Beginning]) -> np.ndarray:
    target = target_of(folders[0])
    drafter = load_drafter(folders[1], target)
    found = []
    for anchor, one in zip(ANCHORS, known, strict=True):
        target.cache.release()
        target.cache.resize(1, 256)
        target.prefill(0, TOKENS[:anchor].tolist())
        found.append(drafter.draft([int(TOKENS[anchor])], None, [one])[0][0])
    return np.array(found)


def test_each_token_is_drafted_by_the_one_before(folders: tuple[Path, Path]) -> None:
    known = [Beginning()] * len(ANCHORS)
    trained = Trained(folders)
    alone = np.array(trained.drafter.scores(trained.hidden[0])).argmax(axis=-1)
    wanted = trained.greedy(known)
    assert (wanted != alone).mean() > 0.1
    assert serve(folders, known).tolist() == wanted.tolist()


def test_a_block_goes_on_from_what_it_begins_with(folders: tuple[Path, Path]) -> None:
    chance = np.random.default_rng(1)
    known = [
        Beginning(
            chance.integers(0, FEW, chance.integers(0, 9)).tolist(),
            chance.choice(FEW, chance.integers(0, FEW), replace=False).tolist(),
        )
        for _ in ANCHORS
    ]
    assert serve(folders, known).tolist() == Trained(folders).greedy(known).tolist()


def test_rows_of_a_batch_are_drafted_as_alone(folders: tuple[Path, Path]) -> None:
    target = target_of(folders[0])
    drafter = load_drafter(folders[1], target)
    known = [Beginning([2], [1]), Beginning((), [0, 3]), Beginning()]
    target.cache.resize(3, 128)
    for slot in range(3):
        target.prefill(slot, TOKENS[: 9 + slot].tolist())
    anchors = [int(TOKENS[9 + slot]) for slot in range(3)]
    together = drafter.draft(anchors, 4, known)[0]
    assert together.shape == (3, 4)
    for slot in range(3):
        target.cache.release()
        target.cache.resize(1, 128)
        target.prefill(0, TOKENS[: 9 + slot].tolist())
        alone = drafter.draft([anchors[slot]], 4, [known[slot]])[0]
        assert alone[0].tolist() == together[slot].tolist()


def test_the_judge_drafts_as_the_engine_does(folders: tuple[Path, Path]) -> None:
    trained = Trained(folders)
    judge = Judge(trained.drafter, Features(trained.teacher))
    ((_, drafted),) = judge._draft(trained.parameters, [trained.example], others=True)
    places = [anchor - START + 1 for anchor in ANCHORS]
    nothing = serve(folders, [Beginning()] * len(ANCHORS))
    assert [drafted.block(place, [], 7) for place in places] == nothing.tolist()
    begun = serve(folders, [Beginning([3, 0])] * len(ANCHORS))
    assert [drafted.block(place, [3, 0], 7) for place in places] == begun.tolist()


def test_the_loss_is_that_of_the_right_token_before(folders: tuple[Path, Path]) -> None:
    trained = Trained(folders)
    features = Features(trained.teacher).of(trained.batch)
    loss = trained.drafter.loss(trained.parameters, Draft(features, trained.blocks)).item()
    blocks: Blocks = trained.blocks
    before = np.concatenate([blocks.first[0][:, None], blocks.labels[0][:, :-1]], axis=1)
    scores = trained.scores(before)
    alone = np.array(trained.drafter.scores(trained.hidden[0]))
    scores[:: model.ALONE] = alone[:: model.ALONE]
    scores = scores - scores.max(axis=-1, keepdims=True)
    chances = np.take_along_axis(
        scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)),
        blocks.labels[0][..., None].astype(np.int64), axis=-1,
    )[..., 0]  # fmt: skip
    weights = blocks.weights[0]
    assert loss == pytest.approx(-(chances * weights).sum() / weights.sum(), rel=1e-5)


def test_a_new_head_changes_nothing(folders: tuple[Path, Path]) -> None:
    trained = Trained(folders)
    fresh = new_parameters(trained.config, 1)
    mixed = {n: fresh[n] if n.startswith("markov.") else v for n, v in trained.parameters.items()}
    features = Features(trained.teacher).of(trained.batch)
    hidden = trained.drafter.hidden(mixed, Draft(features, trained.blocks))
    chain = trained.drafter.chain(mixed)
    assert chain is not None
    logits = trained.drafter.scores(hidden[0])
    anchors = trained.blocks.first[0].tolist()
    chosen = chain.choose(logits, chain.gates(hidden[0]), anchors, [Beginning()] * len(anchors))
    assert chosen.tolist() == np.array(logits).argmax(axis=-1).tolist()


@pytest.mark.parametrize("vocabulary", [CLASSES, 3 * CLASSES, 2 * CLASSES + 100, 40])
def test_the_best_token_of_each_class_is_a_candidate(vocabulary: int) -> None:
    logits = np.random.default_rng(vocabulary).standard_normal((2, 3, vocabulary))
    values, ids = shortlist(mx.array(logits.astype(np.float32)))
    assert ids.shape == (2, 3, CLASSES)
    for b, t, c in np.ndindex(2, 3, CLASSES):
        own = logits[b, t, c::CLASSES]
        if len(own):
            assert ids[b, t, c].item() == c + CLASSES * own.argmax()
            assert values[b, t, c].item() == pytest.approx(own.max(), rel=1e-6)
        else:
            assert values[b, t, c].item() == -np.inf


def test_candidates_of_a_larger_vocabulary_are_enough(folders: tuple[Path, Path]) -> None:
    head, table = Markov(read_config(folders[1])), nn.Embedding(1000, 64)
    chain = Chain(head, table, table.as_linear, 1000)
    hidden = mx.random.normal((4, 5, 64), key=mx.random.key(1))
    logits = table.as_linear(hidden)
    chosen = chain.choose(logits, chain.gates(hidden), [5, 6, 7, 8], [Beginning()] * 4)
    for b in range(4):
        previous = 5 + b
        for k in range(5):
            shift = head.shift(hidden[b, k], table(mx.array(previous)))
            scores = np.array(table.as_linear(hidden[b, k] + shift))
            kept = np.array(shortlist(logits[b, k])[1])
            previous = int(kept[scores[kept % 1000].argmax()])
            assert chosen[b, k] == previous


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"markov_rank": -1}, "sizes that no model has"),
        ({"markov_rank": 8, "final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ],
)
def test_a_head_that_can_not_be_is_refused(
    changes: dict[str, float], told: str, tmp_path: Path
) -> None:
    folder = write_drafter(tmp_path / "drafter", SHAPE)
    config = drafter_config(dflash_config=changes)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=told):
        read_config(folder)


def test_a_checkpoint_without_the_head_it_names_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = write_drafter(tmp_path / "drafter", drafter_config())
    (folder / "config.json").write_bytes((folders[1] / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"missing: markov.gate_proj.weight"):
        load_drafter(folder, target_of(folders[0]))
