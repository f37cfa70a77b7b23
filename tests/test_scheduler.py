"""The engine's scheduler under any order of events: every request taken in ends exactly once."""

import gc
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from pipeline.engine.interface import Done, Event, Failed, TextDelta
from pipeline.engine.serving.calls import CallBounds
from pipeline.engine.serving.engine_thread import EngineThread
from pipeline.errors import RequestError
from tests.scripted_core import ScriptedLoader, ask

WAITING, STARTED = 6, 3
END_S = 60.0


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """What other tests left is not looked through each time that the engine drops a model."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass(eq=False)
class Asked:
    """A request that was taken in, and what came of it."""

    id: str
    text: str
    model: str
    texts: list[str] = field(default_factory=list[str])
    ends: list[Done | Failed] = field(default_factory=list[Done | Failed])
    ended: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            assert not self.ends, "text after the end"
            self.texts.append(event.text)
        else:
            self.ends.append(event)
            self.ended.set()


class Scheduler(RuleBasedStateMachine):
    """Requests come, are cancelled, run out of time, break the core; models come and go."""

    requests: Bundle[Asked] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.loader = ScriptedLoader()
        self.exits: list[bool] = []
        bounds = CallBounds(waiting=WAITING, started=STARTED)
        self.thread = EngineThread(self.loader, bounds, self.exits.append)
        self.taken: list[Asked] = []
        self.stopped = False

    @initialize(preload=st.sampled_from([None, "embedded", "/bad"]))
    def start(self, preload: str | None) -> None:
        self.thread.start(preload)

    @rule(
        target=requests,
        text=st.sampled_from(["say a", "say a b c d", "say", "hold", "refuse", "break", "lose"]),
        model=st.sampled_from(["embedded", "embedded", "/b", "/bad", "/odd"]),
        number=st.integers(0, 9),
        timeout_s=st.sampled_from([60.0, 60.0, 0.003]),
        wants_text=st.booleans(),
    )
    def submit(
        self, text: str, model: str, number: int, timeout_s: float, wants_text: bool
    ) -> Asked:
        asked = Asked(str(number), text, model)
        request = ask(text, asked.id, model, timeout_s=timeout_s)
        try:
            self.thread.submit(request, asked, wants_text=wants_text)
        except RequestError as error:
            refusal = error.kind
            assert refusal in ({"stopped"} if self.stopped else {"queue_full", "duplicate_id"})
        else:
            assert not self.stopped
            self.taken.append(asked)
        return asked

    @rule(asked=requests)
    def cancel(self, asked: Asked) -> None:
        self.thread.cancel(asked.id)
        for other in self.taken:
            other.cancelled |= other.id == asked.id

    @rule(asked=requests)
    def cancel_twice_and_ask_again(self, asked: Asked) -> None:
        self.cancel(asked)
        self.cancel(asked)
        self.submit("say x", asked.model, int(asked.id), 60.0, wants_text=False)

    @rule(shut=st.booleans())
    def loading_takes_long_or_not(self, shut: bool) -> None:
        if shut:
            self.loader.gate.clear()
        else:
            self.loader.gate.set()

    @rule()
    def time_goes_by(self) -> None:
        time.sleep(0.002)

    @rule()
    def stop(self) -> None:
        if len(self.taken) > 20:  # else most machines would end at once
            self.thread.stop(RequestError("stopped", "the engine was stopped"))
            self.stopped = True

    @invariant()
    def nothing_ends_twice(self) -> None:
        assert all(len(asked.ends) <= 1 for asked in self.taken)
        status = self.thread.status()
        assert status.in_flight <= WAITING + STARTED
        assert status.in_flight <= len(self.taken)

    def teardown(self) -> None:
        self.loader.gate.set()
        # Others may wait for what would never end by itself.
        for asked in sorted(self.taken, key=lambda asked: asked.text != "hold"):
            if asked.text == "hold" and not asked.ended.is_set():
                self.thread.cancel(asked.id)
            assert asked.ended.wait(END_S), f"a request never ended: {asked}"
        assert self.thread.status().in_flight == 0
        self.thread.stop(RequestError("stopped", "the engine was stopped"), now=True)
        assert self.thread.join(END_S)
        assert self.exits == [False]
        assert Counter(len(asked.ends) for asked in self.taken).keys() <= {1}
        for asked in self.taken:
            self._check_end(asked)

    def _check_end(self, asked: Asked) -> None:
        [end] = asked.ends
        assert (end.completion.id if isinstance(end, Done) else end.id) == asked.id
        if isinstance(end, Done):
            assert asked.text.startswith("say")
            assert asked.model in {"embedded", "/b"}
            assert end.completion.text.endswith(asked.model)
        elif end.error.kind == "cancelled":
            assert asked.cancelled or asked.text == "hold"
        else:
            kinds = {"bad_model", "context_too_long", "engine_failed", "timeout", "stopped"}
            assert end.error.kind in kinds


TestScheduler = Scheduler.TestCase
TestScheduler.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
