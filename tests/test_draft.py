"""Speculation, whole: whatever is drafted, the answers are those of plain decoding."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine.choosing.history import History
from pipeline.engine.copying import Copier
from pipeline.engine.core import Core
from pipeline.engine.drafting import looks
from pipeline.engine.drafting.draft import Drafts
from pipeline.engine.drafting.looks import MOST_LOOKS
from pipeline.engine.drafting.mending import mend_tree
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import CoreOptions, Done, Request, Sampling
from pipeline.engine.loading.tokenizer import Detokenizer
from pipeline.engine.planning.cost import CONTEXTS, Shape, StepCosts
from pipeline.engine.planning.plan import Outcome, Plan, RowView
from pipeline.engine.planning.retries import Arm
from pipeline.engine.planning.speculation import Speculation
from pipeline.engine.row import Row
from pipeline.errors import InputError
from tests.plain_decoding import Desk, ask, describe_model
from tests.tiny import CORPUS, write_llama
from tests.tiny_drafter import write_llama_drafter

SCHEMA = {
    "x-guidance": {"whitespace_flexible": False},
    "type": "object",
    "properties": {
        "invoice_number": {"type": "string", "maxLength": 12},
        "customer_name": {"anyOf": [{"type": "string", "maxLength": 30}, {"type": "null"}]},
        "paid": {"type": "boolean"},
    },
    "required": ["invoice_number", "customer_name", "paid"],
    "additionalProperties": False,
}
PLAIN = CoreOptions(max_rows=3, kv_bytes=1 << 25, prefill_tokens=64, speculate=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def drafter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_drafter(tmp_path_factory.mktemp("drafter"))


def mixed_requests() -> list[Request]:
    loops = Sampling(repetition_penalty=1.2, no_repeat_ngram=4)
    chance = Sampling(temperature=0.8, seed=5)
    kinds = [
        {"sampling": Sampling()},
        {"schema": SCHEMA},
        {"sampling": loops},
        {"sampling": chance},
        {"schema": SCHEMA, "sampling": chance},
        {"sampling": Sampling(), "top_logprobs": 2},
    ]
    return [
        ask(f"r{n}", f"{n} " + " ".join(CORPUS), 40 - n, **kind) for n, kind in enumerate(kinds * 2)
    ]


def answers_of(model: Path, options: CoreOptions) -> tuple[dict[str, object], Core]:
    core = Core(describe_model(model), options)
    desk = Desk(core).finish(*mixed_requests())
    done: dict[str, object] = {}
    for name, events in desk.events.items():
        last = events[-1]
        assert isinstance(last, Done)
        done[name] = (last.completion.text, last.completion.finish_reason)
    return done, core


def test_drafts_of_every_source_change_no_answer(
    model: Path, drafter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    plain, _ = answers_of(model, PLAIN)
    free = replace(PLAIN, speculate=True)
    with_drafter = replace(free, drafter=str(drafter))
    for options in (free, with_drafter):  # what pays here, which is a matter of the machine
        assert answers_of(model, options)[0] == plain
    for options in (replace(free, draft_always=True), replace(with_drafter, draft_always=True)):
        found, core = answers_of(model, options)
        assert found == plain
        stats = core.stats().speculation
        assert stats is not None
        accepted = {source.source: source.accepted for source in stats.sources}
        assert accepted["forced"] > 0  # names of fields are known ahead
        assert stats.tokens > core.stats().steps  # some steps gave more than a token


def test_a_missing_drafter_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        Core(describe_model(model), replace(PLAIN, speculate=True, drafter=str(tmp_path / "no")))


def test_what_was_forced_before_is_remembered_and_harmless_where_it_is_wrong(model: Path) -> None:
    grammars = Grammars(str(model / "tokenizer.json"), 512, [2])
    matcher, other = grammars.matcher(SCHEMA), grammars.matcher(SCHEMA)
    forced = matcher.forced()
    assert matcher.likely_forced() == forced
    (remembered,) = other._forced  # they are of one grammar
    other._forced[remembered] = [7, 7]
    assert other.likely_forced() == [7, 7]
    tokens, parents = mend_tree(other, [7, forced[0], 8], [0, 0, 1], 3)  # it is not believed
    assert (tokens[0], parents[0]) == (forced[0], 0)


class Resting(Speculation):
    """Finds no draft worth running, and wants long rests."""

    def __init__(self) -> None:
        super().__init__(StepCosts({Shape(1, 1, CONTEXTS[0]): 1.0}))
        self.plans = 0

    def choose(self, rows: Sequence[RowView]) -> Plan:
        self.plans += 1
        shape, none = Shape(len(rows), 1, 128), (None,) * len(rows)
        return Plan(shape, offers=none, uses_drafter=False, tokens=len(rows), ms=1.0)

    def rest(self, planning_ms: float) -> int:
        return 50


def a_row(name: str, tokens: list[int]) -> Row:
    request = ask(name, "x", 64)
    history = History(request.sampling)
    return Row(
        request,
        tokens,
        lambda _: None,
        Detokenizer(bytes, strip_first_space=False),
        history,
        None,
        copier=Copier(tokens),
    )


def test_a_rest_ends_where_more_rows_have_something_to_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "LOOKING", 1e9)  # these steps take no time
    monkeypatch.setattr(looks, "EARLY", 1e9)

    def say(rows: list[Row], *tokens: int) -> int:
        """Decodes a step; tells how many plans were made until then."""
        drafts.propose(rows)
        drafts.look(rows)
        drafts.learn([[token] for token in tokens])
        for each, token in zip(rows, tokens, strict=True):
            each.copier.push(token)
        return speculation.plans

    speculation = Resting()
    drafts = Drafts(speculation, None)
    rows = [a_row("a", list(range(100, 140))), a_row("b", list(range(200, 240)))]
    assert say(rows, 1, 2) == 1
    assert [say(rows, 110 + n, 3 + n) for n in range(6)] == [1] * 6
    assert say(rows, 116, 9) == 2  # five tokens of the first row stood in its prompt
    assert [say(rows, 117 + n, 210 + n) for n in range(6)] == [2] * 6
    assert say(rows, 123, 216) == 3  # and of the second
    assert [say(rows, 124 + n, 217 + n) for n in range(5)] == [3] * 5


def test_looks_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Row] = []
    now_s = [0.0]
    monkeypatch.setattr(looks, "has_likely", lambda row: bool(looked.append(row)))
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])
    drafts = Drafts(Resting(), None)
    rows = [a_row(name, [1, 2, 3]) for name in "abcdef"]
    for step_ms, steps, least, most in ((1.0, 40, 20, 30), (100.0, 3, 12, 18)):
        looked.clear()
        for _ in range(steps):
            drafts.propose(rows)
            drafts.look(rows)
            now_s[0] += step_ms / 1e3
            drafts.learn([[1]] * len(rows))
        assert least <= len(looked) <= most
        assert len({row.request.id for row in looked}) == 6  # in turns


def test_a_rest_goes_on_where_a_look_finds_nothing_but_not_for_ever() -> None:
    class Hopeless(Resting):
        def pays(self, rows: Sequence[RowView]) -> bool:
            return False

        def rest(self, planning_ms: float) -> int:
            return 3

    speculation = Hopeless()
    drafts = Drafts(speculation, None)
    plans: list[int] = []
    for _ in range(3 * (2 + 3 * MOST_LOOKS)):
        drafts.propose([])
        drafts.look([])
        drafts.learn([])
        plans.append(speculation.plans)
    assert plans == sorted(plans)
    assert [plans.count(n) for n in (1, 2)] == [1 + 3 * (1 + MOST_LOOKS)] * 2


@pytest.mark.parametrize("retry", [None, "free"])
def test_what_became_of_drafts_is_learnt_while_the_next_step_runs_and_of_a_retry_at_once(
    retry: Arm | None,
) -> None:
    class Drafting(Speculation):
        """Copies two tokens in every step."""

        def choose(self, rows: Sequence[RowView]) -> Plan:
            self._settle()
            offers = tuple(view.offers[0].cut(2) for view in rows)
            told.append("plan")
            return Plan(Shape(1, 4, 128), offers, uses_drafter=False, tokens=1, ms=1.0, retry=retry)

        def observe(
            self, plan: Plan, ms: float, *, drafted: bool, beside_ms: float = 0, tells: bool = True
        ) -> None:
            assert plan.offers
            told.append("time")

        def record(self, outcome: Outcome) -> None:
            told.append(str(outcome.accepted))

    told: list[str] = []
    drafts = Drafts(Drafting(StepCosts({Shape(1, 1, CONTEXTS[0]): 1.0})), None)
    row = a_row("a", [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    for gained in ([4, 5, 6], [7, 9]):
        [draft], _ = drafts.propose([row])
        assert list(draft) == [gained[0], gained[0] + 1]
        drafts.look([row])
        drafts.learn([gained])
        row.copier.extend(gained)
    learnt = [event for event in told if event != "plan"]
    assert learnt == (["time", "2"] if retry is None else ["time", "2", "time", "1"])
    assert told[1] == ("plan" if retry is None else "time")
    drafts.stats()
    assert told[-2:] == ["time", "1"]


def test_every_step_with_a_plan_is_settled_once_whatever_comes_behind_it() -> None:
    """Also where the next one is learnt at once, or somebody asks for counts in between."""

    class Told(Speculation):
        """Runs these plans, one after the other."""

        def choose(self, rows: Sequence[RowView]) -> Plan:
            self._settle()
            width, retry = plans[len(chosen)]
            chosen.append(width)
            offers = tuple(view.offers[0].cut(width - 1) if width > 1 else None for view in rows)
            shape = Shape(1, width, 128)
            return Plan(shape, offers, uses_drafter=False, tokens=1, ms=1.0, retry=retry)

        def rest(self, planning_ms: float) -> int:
            return 0

    plans: list[tuple[int, Arm | None]] = [
        *((4, None), (1, "plain"), (4, None), (4, "free"), (4, None), (1, None)),
        *((4, None), (4, None), (4, None)),
    ]
    chosen: list[int] = []
    settled: list[int] = []
    speculation = Told(StepCosts({Shape(1, 1, CONTEXTS[0]): 1.0}))
    speculation._counts.settle = lambda tokens, ms: settled.append(tokens)  # type: ignore[method-assign]
    drafts = Drafts(speculation, None)
    row = a_row("a", [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    said = 4
    for number, (width, _) in enumerate(plans):
        drafts.propose([row])
        drafts.look([row])
        gained = list(range(said, said + (3 if width > 1 else 1)))
        said += len(gained)
        row.copier.extend([token % 9 for token in gained])
        drafts.learn([[token % 9 for token in gained]])
        if number == 6:
            drafts.stats()
    drafts.stats()
    speculation._settle()
    assert len(settled) == len(plans)
