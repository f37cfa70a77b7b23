"""The engine's core, whole: whatever happens around a row, its answer is that of mlx-lm alone."""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import mlx.core as mx
import pytest

from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, Done, Failed, Message, Request, Sampling
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.engine.tree import Branches, Tree, make_tree
from pipeline.errors import RequestError
from pipeline.settings import EMBEDDED_MODEL
from tests.plain_decoding import Desk, PlainDecoder, ask, describe_model
from tests.tiny import CORPUS, write_llama

SMALL_PIECES = CoreOptions(max_rows=5, kv_bytes=1 << 25, prefill_tokens=16, speculate=False)
WORDS = " ".join(CORPUS).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny", context_tokens=2048)


@pytest.fixture(scope="module")
def alone(folder: Path) -> PlainDecoder:
    return PlainDecoder(describe_model(folder, 2048))


def open_desk(folder: Path, options: CoreOptions = SMALL_PIECES) -> Desk:
    desk = Desk(Core(describe_model(folder, 2048), options))
    desk.core._target.cache.block_columns = 34  # a guesser's trees, and what they are padded with
    return desk


def ragged_requests(count: int, seed: int, **more: Any) -> list[Request]:
    """Prompts of a few to some hundred tokens, some of which begin alike; answers of 1 to 40."""
    chance = random.Random(seed)
    begin = " ".join(chance.choices(WORDS, k=30))
    requests: list[Request] = []
    for number in range(count):
        own = " ".join(chance.choices(WORDS, k=int(10 ** chance.uniform(0, 1.8))))
        text = f"{begin} {own}" if chance.random() < 0.4 else own
        requests.append(ask(f"r{number}", text, chance.choice((1, 2, 7, 25, 40)), **more))
    return requests


class Guesser:
    """In the place of drafts: the next tokens of known answers, some of them wrong, or anything.

    Where a row may have trees the right tokens often stand on a branch.
    """

    def __init__(self, answers: dict[str, list[int]], *, trees: bool = True) -> None:
        self._answers, self._trees = answers, trees
        self._chance = random.Random(11)
        self.right = self.trees = self.large = 0
        self.begun = 0
        self.rests = False

    def looks_at(self, _row: Row) -> bool:
        return False

    def propose(
        self, rows: Sequence[Row], *, begun: bool = False
    ) -> tuple[list[Sequence[int]], int]:
        self.begun += begun
        self.rests = begun or self._chance.random() < 0.2
        if self.rests:
            self.rests = self._chance.random() < 0.7
            return [[] for _ in rows], 1
        drafts = [self._guess(row) for row in rows]
        return drafts, 1 + max(map(len, drafts)) + self._chance.randrange(3)

    def _guess(self, row: Row) -> Sequence[int]:
        draft = self._draft(row)
        return (
            self._branched(draft)
            if self._trees and row.branches and self._chance.random() < 0.7
            else draft
        )

    def _branched(self, draft: Sequence[int]) -> Tree:
        """A tree with this path in it, and other tokens before and behind each of its own."""
        tokens, parents, at = list[int](), list[int](), 0
        for token in draft:
            others = [self._chance.randrange(512) for _ in range(self._chance.randrange(6))]
            ahead = self._chance.randrange(len(others) + 1)
            tokens += [*others[:ahead], token, *others[ahead:]]
            parents += [at] * (len(others) + 1)
            at = len(tokens) - len(others) + ahead
        self.trees += len(set(parents)) < len(parents)
        self.large += len(tokens) > 15
        return make_tree(tokens[:31], parents[:31])

    def _draft(self, row: Row) -> list[int]:
        done, chance = len(row.history.tokens), self._chance
        room = min(15, row.request.max_tokens - done - 1)
        known = self._answers[row.request.id][done : done + chance.randrange(9)][:room]
        draft = [chance.randrange(512) if chance.random() < 0.1 else token for token in known]
        return draft + [chance.randrange(512)] * min(chance.randrange(3), room - len(draft))

    def look(self, rows: Sequence[Row]) -> None:
        pass

    def learn(self, gained: Sequence[Sequence[int]], waited_s: float = 0.0) -> None:
        self.right += sum(len(tokens) > 1 for tokens in gained)

    def forget(self, row: Row) -> None:
        """Nothing was noted."""

    def stats(self) -> None:
        """Nothing was counted."""


def assert_as_alone(desk: Desk, alone: PlainDecoder, requests: list[Request]) -> None:
    """Token for token: the tokens' texts, and to tell those that look alike, their logprobs."""
    for request in requests:
        plain = alone.decode(request)
        done = desk.completion(request.id)
        assert done.completion_tokens == len(plain)
        assert done.text == alone.text([token for token, _ in plain])
        assert done.prompt_tokens == len(alone.tokenizer.render(request.messages))
        if request.top_logprobs:
            # At the end token, which is no part of the answer, there is one more.
            found = done.logprobs[: len(plain)]
            assert [t.token for t in found] == [alone.tokenizer.token_text(t) for t, _ in plain]
            assert [t.logprob for t in found] == pytest.approx([p for _, p in plain], abs=2e-3)


@pytest.mark.parametrize("seed", range(2))
def test_rows_that_join_and_leave_are_decoded_as_if_alone(
    folder: Path, alone: PlainDecoder, seed: int
) -> None:
    chance = random.Random(seed)
    desk = open_desk(folder)
    requests = ragged_requests(16, seed, top_logprobs=1)
    for request in requests:
        desk.submit(request)
        desk.step(chance.choice((0, 1, 3, 9)))
    desk.finish()
    assert_as_alone(desk, alone, requests)
    stats = desk.core.stats()
    assert 3 <= desk.most_running <= SMALL_PIECES.max_rows
    assert (stats.finished, stats.failed) == (len(requests), 0)
    assert stats.completion_tokens == sum(
        desk.completion(request.id).completion_tokens for request in requests
    )


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(repetition_penalty=1.3, repetition_window=8),
        Sampling(repetition_penalty=1.5, repetition_window=1000),
        Sampling(no_repeat_ngram=3),
        Sampling(no_repeat_ngram=1),
        Sampling(repetition_penalty=1.1, no_repeat_ngram=4),
        Sampling(no_repeat_ngram=2, no_repeat_copied=4),
        Sampling(repetition_penalty=0.8, repetition_window=2, no_repeat_ngram=2),
        Sampling(presence_penalty=1.5),
        Sampling(frequency_penalty=0.7, logit_bias=((100, 4.0), (101, -100.0))),
        Sampling(frequency_penalty=-0.2, repetition_penalty=1.3, no_repeat_ngram=4),
    ],
)
def test_penalties_are_those_of_a_plain_loop(
    folder: Path, alone: PlainDecoder, sampling: Sampling
) -> None:
    requests = ragged_requests(6, 7, sampling=sampling)
    # Rows with other settings beside them must not matter.
    others = [ask("o1", "Minutes", 30), ask("o2", "Minutes", 30, sampling=Sampling(0.9, seed=4))]
    desk = open_desk(folder).finish(others[0], *requests, others[1])
    assert_as_alone(desk, alone, [*requests, others[0]])
    if sampling.no_repeat_ngram == 1:
        tokens = [token for token, _ in alone.decode(requests[0])]
        assert len(tokens) == len(set(tokens))


SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "born": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
            "kind": {"enum": ["invoice", "letter", "minutes"]},
            "paid": {"type": "boolean"},
        },
        "required": ["name", "born", "kind", "paid"],
        "additionalProperties": False,
    },
    "list": {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "maxItems": 4,
                "items": {
                    "type": "object",
                    "properties": {
                        "what": {"type": "string", "maxLength": 6},
                        "price": {"type": "number"},
                    },
                    "required": ["what", "price"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["items"],
        "additionalProperties": False,
    },
    "date": {
        "type": "object",
        "properties": {"due": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}},
        "required": ["due"],
        "additionalProperties": False,
    },
    "optional": {
        "type": "object",
        "properties": {
            "to": {"type": ["string", "null"], "maxLength": 20},
            "sum": {"type": ["number", "null"]},
            "lines": {"type": ["array", "null"], "items": {"type": "string", "maxLength": 9}},
        },
        "required": ["to", "sum", "lines"],
        "additionalProperties": False,
    },
    "class": {"type": "string", "enum": ["invoice", "contract", "letter", "other"]},
    "strings": {"type": "array", "items": {"type": "string"}},
}

CLOSABLE = {"list", "optional", "strings"}
"""An answer is closed without inventing content: the others ask for content up to their end."""


@pytest.mark.parametrize("kind", list(SCHEMAS))
def test_what_a_schema_asks_for_parses_and_validates_at_every_limit(
    folder: Path, alone: PlainDecoder, kind: str
) -> None:
    limits = (60, *range(1, 19))
    requests = [
        ask(f"r{limit}", f"{kind}: {CORPUS[limit % 3]}", limit, schema=SCHEMAS[kind])
        for limit in limits
    ]
    desk = open_desk(folder).finish(*requests)
    reasons = {desk.completion(request.id).finish_reason for request in requests}
    for request in requests:
        done = desk.completion(request.id)
        plain = alone.answer(request)
        if done.finish_reason == "length":
            assert done.text == plain
            assert done.completion_tokens == request.max_tokens
            with pytest.raises(json.JSONDecodeError):
                json.loads(done.text)
            continue
        jsonschema.validate(json.loads(done.text), SCHEMAS[kind])
        # To close it, a number or a date half written was taken back.
        assert done.text.startswith(plain) or done.finish_reason == "closed"
        if done.finish_reason == "stop":
            assert done.text == plain
            assert done.completion_tokens <= request.max_tokens
    assert "closed" in reasons or kind not in CLOSABLE
    assert "length" in reasons or kind in CLOSABLE


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(repetition_penalty=1.3, no_repeat_ngram=3),
        Sampling(no_repeat_ngram=1),
        Sampling(temperature=1.5, seed=3),
    ],
)
def test_penalties_and_chance_leave_a_schema_answer_valid(folder: Path, sampling: Sampling) -> None:
    requests = [
        ask(f"{kind}{limit}", "Minutes", limit, schema=schema, sampling=sampling)
        for kind, schema in SCHEMAS.items()
        for limit in (11, 60)
    ]
    desk = open_desk(folder).finish(*requests)
    for request in requests:
        done = desk.completion(request.id)
        if done.finish_reason != "length":
            assert request.schema is not None
            jsonschema.validate(json.loads(done.text), request.schema)


def test_a_stop_string_ends_the_answer_and_no_part_of_it_is_ever_sent(
    folder: Path, alone: PlainDecoder
) -> None:
    chance = random.Random(1)
    plain = alone.answer(ask("plain", "Minutes", 40))
    desk = open_desk(folder)
    stops: dict[str, tuple[str, ...]] = {}
    for number in range(14):
        start = chance.randrange(len(plain) - 8)
        stop = plain[start : start + chance.randrange(1, 8)]
        stops[f"r{number}"] = (stop,) if number % 2 else ("no such words", stop)
    desk.finish(*(ask(name, "Minutes", 40, stop=stop) for name, stop in stops.items()))
    for name, stop in stops.items():
        done = desk.completion(name)
        assert done.text == plain[: plain.find(stop[-1])]
        assert done.finish_reason == "stop"
    assert desk.completion("r0").completion_tokens < 40


def test_what_may_begin_a_stop_string_is_held_back_and_then_sent(
    folder: Path, alone: PlainDecoder
) -> None:
    plain = alone.answer(ask("plain", "Minutes", 40))
    almost = tuple(plain[start : start + 5] + "\0" for start in range(0, len(plain) - 5, 3))
    desk = open_desk(folder)
    desk.submit(ask("r", "Minutes", 40, stop=almost))
    while desk.step():
        sent = desk.streamed("r")
        assert plain.startswith(sent)
    desk.finish()
    assert desk.completion("r").text == plain


def test_a_cancelled_row_ends_at_once_and_disturbs_nobody(
    folder: Path, alone: PlainDecoder
) -> None:
    requests = ragged_requests(6, 3)
    long = ask("long", " ".join(WORDS * 3), 200)
    desk = open_desk(folder)
    for steps in range(0, 42, 6):
        first, *rest = chosen = requests[steps // 6 :] + requests[: steps // 6]
        desk.submit(first, long, *rest)
        desk.step(steps)
        over = any(isinstance(event, Done) for event in desk.events[first.id])
        for name in ("unknown", long.id, first.id, first.id):
            desk.core.cancel(name)
        assert desk.failure(long.id) == "cancelled"
        desk.finish()
        assert_as_alone(desk, alone, chosen if over else rest)


def test_time_that_is_over_ends_a_row_at_any_step_and_disturbs_nobody(
    folder: Path, alone: PlainDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = ragged_requests(6, 4)
    late = ask("late", " ".join(WORDS * 2), 60, timeout_s=1800.0)
    real, ahead_s = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead_s[0])
    desk = open_desk(folder)
    for steps in (0, 1, 3, 9, 20):
        ahead_s[0] = 0.0
        desk.submit(*requests[:3], late, *requests[3:])
        desk.step(steps)
        ahead_s[0] = 1900.0
        desk.finish()
        assert desk.failure("late") == "timeout"
        assert_as_alone(desk, alone, requests)
    assert desk.core.stats().failed == 5


def test_what_was_read_before_is_not_read_again(folder: Path, alone: PlainDecoder) -> None:
    begin = " ".join(WORDS)
    first = ask("first", f"{begin} Who signed?", 12)
    desk = open_desk(folder).finish(first)
    assert desk.completion("first").cached_tokens == 0

    again = ask("again", f"{begin} Who signed?", 12)
    other = ask("other", f"{begin} What is the total?", 12, top_logprobs=1)
    desk.finish(again, other)  # one from what was kept, one from the row beside it
    assert_as_alone(desk, alone, [first, again, other])
    assert desk.completion("again").cached_tokens == desk.completion("again").prompt_tokens - 1
    assert desk.completion("other").cached_tokens > len(WORDS)
    stats = desk.core.stats()
    assert stats.cached_tokens == sum(desk.completion(n).cached_tokens for n in desk.events)

    turns = (*again.messages, Message("assistant", desk.completion("again").text))
    more = Request("more", "tiny", (*turns, Message("user", "And when?")), max_tokens=12)
    desk.finish(more)
    assert desk.completion("more").cached_tokens > desk.completion("again").prompt_tokens - 3
    assert_as_alone(desk, alone, [more])


def test_what_was_taken_back_to_close_an_answer_is_not_taken_for_read(
    folder: Path, alone: PlainDecoder
) -> None:
    desk, more = open_desk(folder), list[Request]()
    for limit in range(8, 60):
        asked = ask(f"r{limit}", f"list: {CORPUS[limit % 3]}", limit, schema=SCHEMAS["list"])
        done = desk.finish(asked).completion(asked.id)
        if done.finish_reason == "closed":
            turns = (*asked.messages, Message("assistant", done.text), Message("user", "When?"))
            more.append(Request(f"m{limit}", "tiny", turns, max_tokens=6, top_logprobs=1))
            desk.finish(more[-1])
    assert more
    assert_as_alone(desk, alone, more)


def test_rows_wait_for_memory_and_all_are_answered(folder: Path, alone: PlainDecoder) -> None:
    requests = ragged_requests(8, 5)
    two_rows = CoreOptions(max_rows=8, kv_bytes=3 << 18, prefill_tokens=64, speculate=False)
    desk = open_desk(folder, two_rows).finish(*requests)
    assert 1 < desk.most_running < two_rows.max_rows
    assert desk.most_kv_bytes <= two_rows.kv_bytes
    assert_as_alone(desk, alone, requests)


@pytest.mark.parametrize("max_rows", [1, 16])
def test_no_more_rows_run_than_are_allowed(
    folder: Path, alone: PlainDecoder, max_rows: int
) -> None:
    requests = [replace(request, max_tokens=20) for request in ragged_requests(7, 6)]
    options = CoreOptions(max_rows=max_rows, kv_bytes=1 << 25, speculate=False)
    desk = open_desk(folder, options)
    desk.submit(*requests)
    assert desk.core.stats().waiting == len(requests)
    desk.finish()
    assert desk.most_running == min(max_rows, len(requests))
    assert_as_alone(desk, alone, requests)


def test_what_can_never_be_answered_is_refused_at_once(folder: Path) -> None:
    desk = open_desk(folder)
    desk.submit(ask("r", "Minutes"))
    refused = {
        "duplicate_id": ask("r", "Minutes"),
        "bad_parameter": ask("a", "Minutes", 0),
        # Its tokens are not even looked for: that takes half a minute for 16 MB.
        "context_too_long": ask("e", "x" * 2_000_000),
    }
    for kind, request in refused.items():
        with pytest.raises(RequestError) as found:
            desk.core.submit(request, lambda _: pytest.fail("an event of a refused request"))
        assert found.value.kind == kind
        assert kind != "context_too_long" or "characters=2000000" in str(found.value)

    desk.finish()
    desk.finish(ask("r", "Minutes"))  # the id is free again
    assert desk.core.stats().finished == 2
    assert desk.core.stats().waiting == 0


def test_what_is_found_out_by_its_tokens_or_its_grammar_is_refused_in_an_event(
    folder: Path,
) -> None:
    desk = open_desk(folder)
    desk.finish(
        ask("fine", "Minutes"),
        ask("long", "Minutes", 2048),
        ask("schema", "Minutes", schema={"type": "no such type"}),
    )
    assert desk.completion("fine").text
    assert desk.failure("long") == "context_too_long"
    assert desk.failure("schema") == "bad_schema"
    assert (desk.core.stats().finished, desk.core.stats().failed) == (1, 2)
    small = open_desk(folder, CoreOptions(kv_bytes=1 << 19, speculate=False))
    small.finish(ask("d", "Minutes", 1000))
    assert small.failure("d") == "context_too_long"
    assert "kv_bytes" in str(small.error("d"))


def test_a_request_that_can_t_be_started_ends_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    render = ChatTokenizer.render

    def fail(self: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
        if messages[-1].content == "the secret":
            raise MemoryError("the secret")
        return render(self, messages)

    monkeypatch.setattr(ChatTokenizer, "render", fail)
    caplog.set_level("ERROR")
    desk = open_desk(folder).finish(ask("a", "Minutes"), ask("b", "the secret"), ask("c", "Dues"))
    assert desk.completion("a").text
    assert desk.completion("c").text
    assert desk.failure("b") == "engine_failed"
    assert "MemoryError" in str(desk.error("b"))
    assert "secret" not in str(desk.error("b"))
    assert [record.message for record in caplog.records] == ["submit_failed"]


def test_a_request_is_cancelled_before_its_prompt_is_known(folder: Path) -> None:
    desk = open_desk(folder)
    desk.submit(ask("r", "Minutes"), ask("s", "Minutes"))
    desk.core.cancel("s")
    assert desk.failure("s") == "cancelled"
    desk.finish(ask("s", "Minutes"))  # the id is free again
    assert desk.completion("r").text == desk.completion("s").text


def test_an_answer_does_not_wait_until_the_next_prompt_is_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render, known = ChatTokenizer.render, threading.Event()

    def wait(self: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
        if messages[-1].content == "slow":
            known.wait()
        return render(self, messages)

    monkeypatch.setattr(ChatTokenizer, "render", wait)
    desk = open_desk(folder)
    desk.submit(ask("quick", "Minutes", 1))
    desk.events["slow"] = []
    desk.core.submit(ask("slow", "slow", 1), desk.events["slow"].append)  # the desk would wait
    desk.step(1)
    assert desk.completion("quick").completion_tokens == 1
    known.set()
    assert desk.finish().completion("slow").completion_tokens == 1


def test_the_longest_that_is_taken_is_answered(folder: Path, alone: PlainDecoder) -> None:
    prompt = len(alone.tokenizer.render(ask("r", "Minutes").messages))
    request = ask("r", "Minutes", 256 - prompt, sampling=Sampling(no_repeat_ngram=8))
    desk = Desk(Core(describe_model(folder, 256), SMALL_PIECES)).finish(request)
    assert_as_alone(desk, alone, [request])
    desk.finish(ask("long", "Minutes", 257 - prompt))
    assert "context of 256" in str(desk.error("long"))


def test_logprobs_are_those_of_the_allowed_tokens(folder: Path) -> None:
    schema = SCHEMAS["class"]
    requests = [ask("free", "Minutes", 20, top_logprobs=512)]
    requests.append(ask("asked", "Minutes", 20, top_logprobs=512, schema=schema))
    desk = open_desk(folder).finish(*requests, ask("without", "Minutes", 20))
    assert desk.completion("without").logprobs == ()
    free, asked = desk.completion("free"), desk.completion("asked")
    assert len(free.logprobs) >= free.completion_tokens
    for found in (*free.logprobs, *asked.logprobs):
        values = [value for _, value in found.top]
        assert values == sorted(values, reverse=True)
        assert found.top[0] == (found.token, found.logprob)
        assert sum(map(math.exp, values)) == pytest.approx(1, abs=1e-4)
    assert len(free.logprobs[0].top) == 512
    assert 1 < max(len(found.top) for found in asked.logprobs) < 40
    assert json.loads(asked.text) in schema["enum"]


def test_a_seed_says_what_chance_gives_whoever_is_beside(folder: Path) -> None:
    def sample(name: str, seed: int) -> Request:
        return ask(name, "Minutes", 20, sampling=Sampling(temperature=1.0, seed=seed))

    one = open_desk(folder).finish(sample("a", 1))
    many = open_desk(folder).finish(
        *ragged_requests(3, 8), sample("a", 1), sample("b", 2), sample("c", 1), ask("d", "Minutes")
    )
    assert many.completion("a").text == one.completion("a").text == many.completion("c").text
    assert many.completion("b").text != many.completion("a").text
    assert many.completion("d").text not in {many.completion("a").text, many.completion("b").text}


def test_drafts_right_and_wrong_change_no_answer(folder: Path, alone: PlainDecoder) -> None:
    text = alone.answer(ask("r", "Minutes", 40))
    loops = Sampling(repetition_penalty=1.2, no_repeat_ngram=3)
    bans = Sampling(no_repeat_ngram=2)
    requests = [
        *ragged_requests(5, 9, top_logprobs=1),
        *(replace(r, id=f"p{r.id}", sampling=loops) for r in ragged_requests(3, 10)),
        *(replace(r, id=f"n{r.id}", sampling=bans) for r in ragged_requests(4, 12)),
        ask("schema", CORPUS[1], 40, schema=SCHEMAS["list"], top_logprobs=1),
        *(ask(name, CORPUS[2], 40, schema=SCHEMAS[name], sampling=bans) for name in SCHEMAS),
        ask("cut", CORPUS[1], 11, schema=SCHEMAS["list"]),
        ask("closed", CORPUS[1], 11, schema=SCHEMAS["list"], sampling=loops),
        ask("stop", "Minutes", 40, stop=(text[20:24],)),
        ask("chance", "Minutes", 40, sampling=Sampling(temperature=0.7, seed=5)),
    ]
    plain = open_desk(folder).finish(*requests)
    answers = {r.id: [token for token, _ in alone.decode(r)] for r in requests}
    desk = open_desk(folder)
    guesser = Guesser(answers)
    desk.core._drafts = guesser  # type: ignore[assignment]
    desk.finish(*requests)
    for request in requests:
        one, other = plain.completion(request.id), desk.completion(request.id)
        assert (other.text, other.finish_reason) == (one.text, one.finish_reason)
        assert other.completion_tokens == one.completion_tokens
        assert [t.token for t in other.logprobs] == [t.token for t in one.logprobs]
    assert guesser.right > 20
    assert guesser.trees > 20
    assert guesser.large > 20
    assert guesser.begun > 5
    assert desk.core.stats().steps < plain.core.stats().steps


@pytest.mark.model
def test_the_embedded_model_batched_says_what_it_says_alone() -> None:
    info = resolve_model(EMBEDDED_MODEL)
    requests = [ask(f"r{n}", text, 8) for n, text in enumerate((CORPUS[0], "Why?"))]
    desk = Desk(Core(info, CoreOptions(speculate=False))).finish(*requests)
    assert_as_alone(desk, PlainDecoder(info), requests)


def rows_of_step(tokens: Sequence[Sequence[int]], _: Branches | None) -> int:
    return len(tokens)


def rows_of_begun(_: mx.array, ahead: Sequence[int]) -> int:
    return len(ahead)


@pytest.mark.parametrize(
    ("name", "rows_of", "seed"),
    [("forward", rows_of_step, 8), ("forward_chosen", rows_of_begun, 12)],
)
def test_a_batch_shrinks_when_memory_runs_out_and_all_are_answered(
    name: str,
    rows_of: Callable[..., int],
    seed: int,
    folder: Path,
    alone: PlainDecoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = open_desk(folder)
    forward = getattr(Target, name)
    refused: list[int] = []

    def little_memory(target: Target, *given: Any) -> Any:
        if (rows := rows_of(*given)) > 2:
            refused.append(rows)
            raise RuntimeError("[metal::malloc] Unable to allocate 123 bytes.")
        return forward(target, *given)

    monkeypatch.setattr(Target, name, little_memory)
    requests = ragged_requests(7, seed=seed)
    desk.finish(*requests)
    assert refused
    for request in requests:
        assert desk.streamed(request.id) == alone.answer(request)


def test_while_the_next_forward_runs_rows_come_and_go(folder: Path, alone: PlainDecoder) -> None:
    desk, long = open_desk(folder), ask("long", "Minutes of", 150)
    desk.submit(long, ask("gone", "Minutes", 150))
    desk.step(4)
    assert desk.core._verifier.begun == 2
    desk.core.cancel("gone")
    desk.submit(ask("gone", "Why?", 4))  # the id is free again
    desk.step(12)
    assert isinstance(desk.events["gone"][-1], Done)
    assert not any(isinstance(event, Done) for event in desk.events["long"])
    desk.finish()
    assert_as_alone(desk, alone, [long, ask("gone", "Why?", 4)])


def test_a_request_that_alone_is_too_much_is_told_and_others_go_on(
    folder: Path, alone: PlainDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk(folder)
    prefill = Target.prefill

    def little_memory(target: Target, slot: int, tokens: Sequence[int], *more: Any) -> None:
        if target.cache.lengths[slot] > 200:
            raise MemoryError("std::bad_alloc")
        prefill(target, slot, tokens, *more)

    monkeypatch.setattr(Target, "prefill", little_memory)
    small, large = ask("small", "a few words"), ask("large", " ".join(WORDS * 20))
    desk.finish(large, small)
    failed = desk.events["large"][-1]
    assert isinstance(failed, Failed)
    assert failed.error.kind == "out_of_memory"
    assert desk.streamed("small") == alone.answer(small)
