"""What is drawn: each setting gives the distribution that it names, and drafts change no token."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engine.choosing import sampling
from pipeline.engine.choosing.constraints import ALL_ALLOWED, Constraints, recent_tokens
from pipeline.engine.choosing.filters import draw_tokens, keep_likely
from pipeline.engine.choosing.fused_choice import Chosen
from pipeline.engine.choosing.history import History
from pipeline.engine.choosing.sampling import choose_tokens
from pipeline.engine.choosing.shifts import row_shifts
from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, Request, Sampling
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.errors import RequestError
from tests.plain_decoding import Desk, ask, describe_model
from tests.test_engine_core import SCHEMAS, Guesser
from tests.tiny import CORPUS, write_llama

VOCABULARY = 272
SEEDS = 4000
MOST_DEVIATIONS = 3.09
"""p = 0.001, one-sided: seeds and weights are fixed, so a test that passes will go on to pass."""
PLAIN = CoreOptions(max_rows=64, kv_bytes=1 << 26, speculate=False)
HOT = Sampling(temperature=1.0)
BIAS = ((20, 3.0), (38, -2.0), (30, -100.0), (2, 1.0))
KINDS: dict[str, Sampling] = {
    "temperature": HOT,
    "warm": Sampling(temperature=0.6),
    "top_k": replace(HOT, top_k=12),
    "top_p": replace(HOT, top_p=0.8),
    "min_p": replace(HOT, min_p=0.08),
    "bias": replace(HOT, logit_bias=BIAS),
    "presence": replace(HOT, presence_penalty=1.5),
    "frequency": replace(HOT, frequency_penalty=-0.7),
    "all": Sampling(
        temperature=1.4,
        top_k=60,
        top_p=0.9,
        min_p=0.02,
        presence_penalty=0.8,
        frequency_penalty=0.4,
        repetition_penalty=1.2,
        logit_bias=BIAS,
    ),
}
SAID = [193, 193, 30, 193, 30, 144]
"""An answer so far, of tokens that are likely to come again."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return write_llama(folder, vocabulary=VOCABULARY, scale=1.5)


@pytest.fixture(scope="module")
def logits(folder: Path) -> mx.array:
    """[V], after a prompt."""
    target = Target(describe_model(folder))
    target.cache.resize(1, 16)
    return target.forward([[5, 60, 61, 62]])[0, -1]


def expected(logits: NDArray[np.float64], settings: Sampling) -> NDArray[np.float64]:
    """The distribution that the settings name, in the plainest way there is."""
    scores = logits.copy()
    for token, count in Counter(SAID).items():
        factor = settings.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
        scores[token] -= settings.presence_penalty + count * settings.frequency_penalty
    for token, amount in settings.logit_bias:
        scores[token] += amount
    chances = np.exp((scores - scores.max()) / settings.temperature)
    kept: list[int] = []
    order = np.argsort(-chances)[: settings.top_k or None]
    among = chances[order].sum()
    for token in order:
        if kept and chances[kept].sum() / among >= settings.top_p:
            break
        kept.append(int(token))
    kept = [token for token in kept if chances[token] >= settings.min_p * chances[kept[0]]]
    result = np.zeros_like(chances)
    result[kept] = chances[kept] / chances[kept].sum()
    return result


def deviations(counts: NDArray[np.int64], chances: NDArray[np.float64]) -> float:
    """Pearson's chi-square in standard deviations (Wilson and Hilferty 1931); rare ones pooled."""
    want = chances * counts.sum()
    common = want >= 5
    found = np.array([*counts[common], counts[~common].sum()], np.float64)
    want = np.array([*want[common], want[~common].sum()])
    if want[-1] < 5:  # too few even together: they go with the first
        found, want = np.array([found[0] + found[-1], *found[1:-1]]), want[:-1] + 0.0
        want[0] += counts.sum() - want.sum()
    freedom = len(want) - 1
    square = float(((found - want) ** 2 / want).sum())
    spread = 2 / (9 * freedom)
    return float(((square / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)


def draw(logits: mx.array, settings: Sampling, seeds: Sequence[int]) -> NDArray[np.int32]:
    """The token after SAID, by each seed."""
    history = History(settings)
    for token in SAID:
        history.push(token)
    shifts = row_shifts(settings, history.counts, [], [True], lambda _: True)
    rows = len(seeds)
    recent, windows = recent_tokens([history] * rows, [[]] * rows, 1, [None] * rows)
    constraints = Constraints(
        masks=np.full((rows, (VOCABULARY + 31) // 32), ALL_ALLOWED, np.int32),
        mask_of=np.full((rows, 1), -1, np.int32),
        penalties=np.full((rows, 1), settings.repetition_penalty, np.float32),
        recent=recent,
        windows=windows,
        shifts=[shifts] * rows,
        settings=[replace(settings, seed=seed) for seed in seeds],
        positions=[len(SAID)] * rows,
    )
    chosen = choose_tokens(mx.broadcast_to(logits, (rows, 1, VOCABULARY)), constraints)
    return np.array(chosen)[:, 0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_next_token_is_a_sample_of_the_filtered_softmax(logits: mx.array, kind: str) -> None:
    settings = KINDS[kind]
    counts = np.bincount(draw(logits, settings, range(SEEDS)), minlength=VOCABULARY)
    chances = expected(np.array(logits, np.float64), settings)
    assert np.count_nonzero(chances) >= 8
    assert counts[chances == 0].sum() == 0
    assert deviations(counts, chances) < MOST_DEVIATIONS


def test_the_test_tells_distributions_apart(logits: mx.array) -> None:
    counts = np.bincount(draw(logits, HOT, range(SEEDS)), minlength=VOCABULARY)
    for other in (Sampling(1.2), replace(HOT, logit_bias=((38, 0.5),)), KINDS["presence"]):
        chances = expected(np.array(logits, np.float64), other)
        assert deviations(counts, chances) > MOST_DEVIATIONS


def test_whole_requests_draw_from_that_distribution(folder: Path) -> None:
    settings = Sampling(1.2, top_k=40, top_p=0.9, min_p=0.03, logit_bias=BIAS)
    asked = [
        ask(f"r{seed}", "Minutes", 1, sampling=replace(settings, seed=seed), top_logprobs=1)
        for seed in range(800)
    ]
    core = Core(describe_model(folder), PLAIN)
    desk = Desk(core).finish(*asked)
    prompt = core._intake.tokenizer.render(asked[0].messages)
    model: Any = core._target.model
    last = np.array(model(mx.array([prompt]))[0, -1], np.float64)
    texts = [core._intake.tokenizer.token_text(token) for token in range(VOCABULARY)]
    place = {text: n for n, text in enumerate(texts)}  # some tokens look alike: count them as one
    chances, counts = np.zeros(VOCABULARY), np.zeros(VOCABULARY, np.int64)
    by_token = expected_at_start(last, settings)
    for token, text in enumerate(texts):
        chances[place[text]] += by_token[token]
    for request in asked:
        counts[place[desk.completion(request.id).logprobs[0].token]] += 1
    assert counts[chances == 0].sum() == 0
    assert deviations(counts, chances) < MOST_DEVIATIONS


def expected_at_start(logits: NDArray[np.float64], settings: Sampling) -> NDArray[np.float64]:
    """Likewise where nothing was said yet: no penalty."""
    neutral = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
    return expected(logits, replace(settings, **neutral))


def test_a_position_draws_alike_however_many_are_verified_with_it(logits: mx.array) -> None:
    settings = replace(KINDS["all"], seed=7)
    others = [HOT, Sampling(), settings, Sampling(0.6, top_k=3)]
    wide = mx.broadcast_to(logits, (4, 9, VOCABULARY))
    best = mx.argmax(wide, axis=-1)
    together = np.array(draw_tokens(best, wide, others, [0, 0, 30, 2]))
    for t in range(9):
        single = draw_tokens(best[:1, :1], wide[:1, :1], [settings], [30 + t])
        assert together[2, t] == single.item()
    assert set(together[1].tolist()) == {_likeliest(logits)}
    assert len(set(together[2].tolist())) > 1


@pytest.mark.parametrize(
    "settings",
    [
        replace(HOT, top_k=1),
        replace(HOT, top_p=0.0),
        replace(HOT, min_p=1.0),
        Sampling(temperature=5e-324),
        Sampling(temperature=2.0, top_k=1, top_p=0.0, min_p=1.0),
    ],
)
def test_something_is_left_whatever_the_filters(logits: mx.array, settings: Sampling) -> None:
    likeliest = _likeliest(logits)
    one = mx.where(mx.arange(VOCABULARY) == 77, logits, -mx.inf)
    for scores, token in ((logits, likeliest), (one, 77), (logits * 1e30, likeliest)):
        rows = mx.broadcast_to(scores, (2, 3, VOCABULARY))
        drawn = draw_tokens(mx.zeros((2, 3), mx.uint32), rows, [settings] * 2, [0, 9])
        assert set(np.array(drawn).flatten().tolist()) == {token}


def _likeliest(logits: mx.array) -> int:
    return int(np.array(logits).argmax())


def test_filters_that_are_off_or_wide_change_nothing(logits: mx.array) -> None:
    for settings in (HOT, replace(HOT, top_k=VOCABULARY), replace(HOT, top_k=1 << 20)):
        assert mx.array_equal(keep_likely(logits, settings), logits)


def test_equals_stay_together() -> None:
    scores = mx.array([0.0, 2.0, 1.0, 1.0, -1.0])
    for settings in (replace(HOT, top_k=2), replace(HOT, top_p=0.6), replace(HOT, min_p=0.36)):
        kept = np.isfinite(np.array(keep_likely(scores, settings)))
        assert kept.tolist() == [False, True, True, True, False]


def test_counts_follow_the_answer_back_and_forth() -> None:
    chance = random.Random(3)
    history = History(Sampling(frequency_penalty=0.1))
    for _ in range(400):
        if history.tokens and chance.random() < 0.45:
            history.pop()
        else:
            history.push(chance.randrange(6))
        assert history.counts == Counter(history.tokens)
        assert all(history.counts.values())


def test_a_drafts_tokens_count_at_the_positions_after_them() -> None:
    settings = Sampling(presence_penalty=1.0, frequency_penalty=0.25, logit_bias=((8, 5.0),))
    free = [True, True, True, False]
    shifts = row_shifts(settings, Counter({4: 2}), [8, 4, 9], free, lambda token: token != 9)
    assert shifts is not None
    assert shifts.tokens.tolist() == [4, 8]
    assert shifts.amounts.tolist() == [[-1.5, 5], [-1.5, 3.75], [-1.75, 3.75], [0, 5]]
    assert row_shifts(Sampling(temperature=1.0), Counter(), [1], [True] * 2, lambda _: True) is None


class Noting:
    """In the place of drafts: none, but the rows are noted."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.rests = True

    def looks_at(self, _row: Row) -> bool:
        return False

    def propose(self, rows: Sequence[Row], *, begun: bool) -> tuple[list[list[int]], int]:
        self.rows |= {row.request.id: row for row in rows}
        return [[] for _ in rows], 1

    def look(self, rows: Sequence[Row]) -> None:
        pass

    def learn(self, gained: Sequence[Sequence[int]], waited_s: float = 0.0) -> None:
        """Nothing was drafted."""

    def forget(self, row: Row) -> None:
        """It is still wanted."""

    def stats(self) -> None:
        """Nothing was counted."""


def requests() -> list[Request]:
    """Every setting, alone and with the others, in free text and under schemas."""
    kinds = [
        *KINDS.values(),
        Sampling(presence_penalty=1.0),
        Sampling(frequency_penalty=0.5, logit_bias=BIAS),
        replace(KINDS["all"], no_repeat_ngram=3, repetition_window=9),
    ]
    asked: list[Request] = []
    for number, kind in enumerate(kinds):
        for name in ("", "flat", "list"):
            schema = SCHEMAS[name] if name else None
            sampling = replace(kind, seed=number)
            text = CORPUS[number % 3]
            asked.append(ask(f"{number}{name}", text, 40, sampling=sampling, schema=schema))
    return asked


def test_drafts_change_no_token_whatever_the_settings(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "tiny", scale=1.5)  # with all tokens that are guessed
    cores = [Core(describe_model(folder), replace(PLAIN, max_rows=8)) for _ in range(2)]
    noting = Noting()
    cores[0]._drafts = noting  # type: ignore[assignment]
    plain = Desk(cores[0]).finish(*requests())
    answers = {name: row.history.tokens for name, row in noting.rows.items()}
    guesser = Guesser(answers)
    cores[1]._drafts = guesser  # type: ignore[assignment]
    cores[1]._target.cache.block_columns = 34
    drafted = Desk(cores[1]).finish(*requests())
    for request in requests():
        one, other = plain.completion(request.id), drafted.completion(request.id)
        assert (other.text, other.finish_reason) == (one.text, one.finish_reason)
        assert other.completion_tokens == one.completion_tokens
    assert guesser.right > 100
    assert cores[1].stats().steps < 0.7 * cores[0].stats().steps


def test_logprobs_are_the_models_own_whatever_chooses(folder: Path) -> None:
    first = [
        ask(f"r{n}", "Minutes", 4, sampling=kind, top_logprobs=5)
        for n, kind in enumerate((Sampling(), HOT, KINDS["all"], Sampling(logit_bias=((9, 50.0),))))
    ]
    desk = Desk(Core(describe_model(folder), PLAIN)).finish(*first)
    tops = [desk.completion(request.id).logprobs[0].top for request in first]
    for top in tops[1:]:
        assert [text for text, _ in top] == [text for text, _ in tops[0]]
        assert [p for _, p in top] == pytest.approx([p for _, p in tops[0]], abs=1e-4)


def test_a_bias_can_ban_and_command_but_not_break_the_grammar(folder: Path) -> None:
    core = Core(describe_model(folder), PLAIN)
    commanded = replace(HOT, logit_bias=((90, 100.0),))
    schema = SCHEMAS["class"]
    desk = Desk(core).finish(
        ask("free", "Minutes", 6, sampling=commanded),
        ask("asked", "Minutes", 30, sampling=commanded, schema=schema),
    )
    assert desk.completion("free").text == core._intake.tokenizer.token_text(90) * 6
    assert desk.completion("asked").text.strip('"') in schema["enum"]
    with pytest.raises(RequestError, match="logit_bias names token=272") as refused:
        desk.submit(ask("r", "x", sampling=Sampling(logit_bias=((VOCABULARY, 1.0),))))
    assert refused.value.kind == "bad_parameter"


def test_how_a_row_chooses_does_not_depend_on_the_batch(
    logits: mx.array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a kernel chooses, and counts a little otherwise, it does so in any company."""

    def least(scores: mx.array, *_: Any) -> Chosen:
        tokens = np.array(mx.argmin(scores, axis=-1)).astype(np.int32)
        return Chosen(mx.array(tokens), tokens, lambda: None)

    monkeypatch.setattr(sampling, "can_choose_at_once", lambda _: True)
    monkeypatch.setattr(sampling, "choose_at_once", least)
    settings = [Sampling(), KINDS["bias"], Sampling(repetition_penalty=1.3), KINDS["presence"]]
    shifts = [row_shifts(row, Counter(SAID), [], [True], lambda _: True) for row in settings]

    def chosen(rows: list[int]) -> list[int]:
        count = len(rows)
        constraints = Constraints(
            masks=np.zeros((1, (VOCABULARY + 31) // 32), np.int32),
            mask_of=np.full((count, 1), -1, np.int32),
            penalties=np.ones((count, 1), np.float32),
            recent=np.full((count, 0), -1, np.int32),
            windows=[0] * count,
            shifts=[shifts[row] for row in rows],
            settings=[settings[row] for row in rows],
            positions=[len(SAID)] * count,
        )
        shape = (count, 1, VOCABULARY)
        return choose_tokens(mx.broadcast_to(logits, shape), constraints)[:, 0].tolist()

    alone = [chosen([row])[0] for row in range(4)]
    assert alone[0] == alone[2] == int(np.array(logits).argmin())
    assert alone[0] not in (alone[1], alone[3])
    assert chosen([0, 1, 2, 3]) == alone
    assert chosen([3, 2, 0]) == [alone[3], alone[2], alone[0]]
