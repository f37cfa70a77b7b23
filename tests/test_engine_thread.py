"""The engine thread: exactly one end per request, turns of models, faults, stopping."""

import queue
import time
from collections.abc import Iterator

import pytest

from pipeline.engine.interface import Done, Event, Failed, TextDelta
from pipeline.engine.serving import turns
from pipeline.engine.serving.calls import CallBounds
from pipeline.engine.serving.engine_thread import EngineThread
from pipeline.engine.serving.turns import Waiting, whose_turn
from pipeline.errors import RequestError
from tests.scripted_core import WAIT_S, ScriptedLoader, ask

STOPPED = RequestError("stopped", "the engine was stopped")


class Listener:
    """Collects the events of requests."""

    def __init__(self) -> None:
        self.events: queue.Queue[Event] = queue.Queue()

    def __call__(self, event: Event) -> None:
        self.events.put(event)

    def last(self) -> Done | Failed:
        """The next ending."""
        while True:
            event = self.events.get(timeout=WAIT_S)
            if not isinstance(event, TextDelta):
                return event

    def failure(self) -> str:
        event = self.last()
        assert isinstance(event, Failed)
        return event.error.kind


class Engine:
    def __init__(self, bounds: CallBounds) -> None:
        self.loader = ScriptedLoader()
        self.ends: list[bool] = []
        self.thread = EngineThread(self.loader, bounds, self.ends.append)

    def ask(
        self, text: str, request_id: str = "r", model: str = "embedded", **more: object
    ) -> Listener:
        listener = Listener()
        self.thread.submit(ask(text, request_id, model, **more), listener, wants_text=True)
        return listener

    def until(self, state: str) -> None:
        limit = time.monotonic() + WAIT_S
        while self.thread.status().state != state:
            assert time.monotonic() < limit


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(CallBounds(waiting=8, started=2))
    engine.thread.start()
    yield engine
    engine.loader.gate.set()
    engine.thread.stop(STOPPED, now=True)
    assert engine.thread.join(WAIT_S)


def test_text_comes_first_and_one_end_last(engine: Engine) -> None:
    listener = engine.ask("say good morning")
    assert listener.events.get(timeout=WAIT_S) == TextDelta("r", "good ")
    assert listener.events.get(timeout=WAIT_S) == TextDelta("r", "morning ")
    end = listener.last()
    assert isinstance(end, Done)
    assert end.completion.text == "good morning embedded"
    assert end.completion.queue_s > 0
    assert listener.events.empty()
    status = engine.thread.status()
    assert (status.state, status.model, status.stats.finished) == ("ready", "embedded", 1)


def test_refusals_of_the_core_and_of_the_queue_leave_others_alone(engine: Engine) -> None:
    held = engine.ask("hold", "held")
    assert engine.ask("refuse", "refused").failure() == "context_too_long"
    with pytest.raises(RequestError, match="request_id='held' is running"):
        engine.ask("say a", "held")
    assert isinstance(engine.ask("say a", "other").last(), Done)
    engine.thread.cancel("held")
    assert held.failure() == "cancelled"


def test_a_full_queue_refuses(engine: Engine) -> None:
    engine.loader.gate.clear()
    listeners = [engine.ask("say a", str(number)) for number in range(8)]
    with pytest.raises(RequestError, match="8 requests are waiting") as refused:
        engine.ask("say a", "one more")
    assert refused.value.kind == "queue_full"
    engine.loader.gate.set()
    assert all(isinstance(listener.last(), Done) for listener in listeners)


def test_waiting_requests_are_cancelled_and_time_out(engine: Engine) -> None:
    for number in range(2):  # all that the core is given
        engine.ask("hold", f"held{number}")
    late = engine.ask("say a", "late", timeout_s=0.01)
    unwanted = engine.ask("say a", "unwanted")
    engine.thread.cancel("unwanted")
    assert (late.failure(), unwanted.failure()) == ("timeout", "cancelled")


def test_a_cancelled_id_can_come_again(engine: Engine) -> None:
    engine.thread.cancel("r")
    assert isinstance(engine.ask("say a").last(), Done)
    engine.thread.cancel("r")
    assert isinstance(engine.ask("say a").last(), Done)


def test_another_model_waits_for_running_requests_then_the_engine_changes(engine: Engine) -> None:
    held = engine.ask("hold", "held")
    assert held.events.get(timeout=WAIT_S) == TextDelta("held", "...")
    second = engine.ask("say a", "second", model="/models/b")
    engine.thread.cancel("held")
    end = second.last()
    assert isinstance(end, Done)
    assert end.completion.text == "a /models/b"
    assert isinstance(held.last(), Failed)
    assert isinstance(engine.ask("say a b").last(), Done)
    assert engine.loader.loaded == ["embedded", "/models/b", "embedded"]
    # The figures of a dropped core are kept.
    assert engine.thread.status().stats.completion_tokens == 3


def test_a_model_that_cant_be_loaded_fails_its_own_requests_only(engine: Engine) -> None:
    bad, odd, good = (engine.ask("say a", name, model=f"/{name}") for name in ("bad", "odd", "c"))
    assert (bad.failure(), odd.failure()) == ("bad_model", "bad_model")
    assert isinstance(good.last(), Done)


def test_the_status_tells_why_a_model_was_not_loaded() -> None:
    engine = Engine(CallBounds())
    engine.thread.start("/bad")
    engine.until("ready")
    status = engine.thread.status()
    assert (status.failed_model, status.failure) == ("/bad", "the model='/bad' has no weights")
    engine.thread.stop(STOPPED)
    assert engine.thread.join(WAIT_S)


def test_a_broken_step_fails_what_was_running_and_the_model_is_loaded_anew(engine: Engine) -> None:
    held = engine.ask("hold", "held")
    broken = engine.ask("break", "broken")
    assert (held.failure(), broken.failure()) == ("engine_failed", "engine_failed")
    assert isinstance(engine.ask("say a").last(), Done)
    assert engine.loader.loaded == ["embedded", "embedded"]


def test_a_request_that_the_core_forgot_still_ends(engine: Engine) -> None:
    assert engine.ask("lose").failure() == "engine_failed"
    assert isinstance(engine.ask("say a").last(), Done)


def test_stopping_finishes_what_was_started_and_refuses_the_rest() -> None:
    engine = Engine(CallBounds(started=1))
    engine.thread.start()
    started = engine.ask("say a b c d e f", "started")
    assert started.events.get(timeout=WAIT_S) == TextDelta("started", "a ")
    waiting = engine.ask("say a", "waiting")
    engine.thread.stop(STOPPED)
    with pytest.raises(RequestError, match="stopped"):
        engine.ask("say a", "new")
    assert waiting.failure() == "stopped"
    assert isinstance(started.last(), Done)
    assert engine.thread.join(WAIT_S)
    assert engine.ends == [False]


def test_stopping_now_ends_what_was_started() -> None:
    engine = Engine(CallBounds())
    engine.thread.start()
    held = engine.ask("hold")
    engine.thread.stop(STOPPED, now=True)
    assert held.failure() == "stopped"
    assert engine.thread.join(WAIT_S)


def test_a_turn_lasts_while_there_is_work_but_not_for_ever() -> None:
    waiting = [Waiting("b", 100.0), Waiting("a", 101.0)]
    assert whose_turn("a", waiting, 0.0, 100.0 + turns.TURN_S / 2) == "a"
    assert whose_turn("a", waiting, 0.0, 100.0 + turns.TURN_S) == "b"
    # The time that loading took is not part of the turn.
    assert whose_turn("a", waiting, 500.0, 500.0 + turns.TURN_S / 2) == "a"


def test_a_model_without_work_gives_its_turn_up() -> None:
    assert whose_turn("a", [Waiting("b", 0.0)], 0.0, 0.0) == "b"
    assert whose_turn("a", [Waiting("a", 0.0)], 0.0, 1e9) == "a"
    assert whose_turn(None, [Waiting("b", 0.0), Waiting("a", 0.0)], 0.0, 0.0) == "b"
    assert whose_turn(None, [], 0.0, 0.0) is None
