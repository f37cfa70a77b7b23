"""The course of a training: steps, evaluations, checkpoints, and when it ends.

In: examples to learn from and held-out ones, a drafter to train. Out: the best parameters, by the
accepted tokens on the held-out answers. It ends with its schedule, early, when the loss diverges
(then the last good parameters stay), or when it is told to stop (then it can go on).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import EngineError
from pipeline.training.checkpoint import Checkpoints, Course, Mark
from pipeline.training.examples import Batch, Batches, Example
from pipeline.training.features import Features
from pipeline.training.judge import Judge
from pipeline.training.model import Draft, Parameters, TrainableDrafter
from pipeline.training.recipe import Recipe
from pipeline.training.trainer import State, begin, take_step

if TYPE_CHECKING:
    import mlx.core as mx

Ending = Literal["done", "early", "diverged", "stopped"]

EVALUATIONS = 20
TIMED_STEPS, UNTIMED_STEPS = 16, 12
SMOOTHING = 0.9
"""Weight of the past in the smoothed loss, for each batch."""
SETTLED = 10
"""Batches before which a rise of the loss says nothing but that batches differ."""
DIVERGED, LOST = 2.0, 0.5
"""The loss has diverged when it is so many nats over its lowest, smoothed, and has lost again so
large a part of what it had fallen. (Batches differ: prose is harder than JSON.)"""
ENOUGH_BETTER = 0.01
"""Accepted tokens by which a mark must beat the best, for early stopping."""
JUDGED = 64
"""Held-out answers of an evaluation while training."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        step, steps: Done and in all.
        loss: Smoothed, in nats.
        accepted: Tokens per verify at the last evaluation; 0 before the first.
        tokens_per_s: Labels that counted, per second.
        left_s: Seconds to the end of the schedule.
    """

    step: int
    steps: int
    loss: float
    accepted: float
    tokens_per_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training.

    Attributes:
        parameters: The best.
        course: How it went.
        ending: Why it ended.
        step: Steps done.
    """

    parameters: Parameters
    course: Course
    ending: Ending
    step: int


class Training:
    """Trains one drafter.

    Args:
        drafter: Its forward and loss.
        recipe: How.
        features: The target's hidden states.
        examples: To learn from.
        heldout: To judge by.
        checkpoints: Where states are kept; a state that is there is gone on from.
    """

    def __init__(
        self,
        drafter: TrainableDrafter,
        recipe: Recipe,
        features: Features,
        examples: Sequence[Example],
        heldout: Sequence[Example],
        checkpoints: Checkpoints,
    ) -> None:
        self._drafter = drafter
        self._recipe = recipe
        self._features = features
        self._batches = Batches(examples, recipe.rows, recipe.seed)
        self._heldout = heldout[:: max(1, len(heldout) // JUDGED)][:JUDGED]
        self._checkpoints = checkpoints
        self._judge = Judge(drafter, features)
        self._held: tuple[int, Batch, mx.array] | None = None

    def run(
        self,
        start: Parameters,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Trained:
        """Trains to the end, or until it is stopped.

        Args:
            start: The parameters before the first step, unless there is a checkpoint.
            stop: Asked before every step.
            progress: Told after every step.

        Raises:
            EngineError: The disk is full; or the loss diverged before anything was learnt.
        """
        state, course = self._checkpoints.last() or self._begin(start)
        ending: Ending = "done"
        while state.step < course.steps:
            if self._is_enough(state, course):
                ending = "early"
                break
            if stop():
                self._checkpoints.save(state, course)
                ending = "stopped"
                break
            began = time.monotonic()
            result = take_step(
                self._drafter, self._recipe, state, self._draft(state.step), course.steps
            )
            if not result.finite or self._diverges(result.loss, state.step, course):
                ending = "diverged"
                break
            state = result.state
            course.tokens += self._counted
            evaluated = self._is_due(state.step, course.steps)
            if evaluated:
                self._evaluate(state, course)
            course.seconds += time.monotonic() - began
            if evaluated:
                self._checkpoints.save(state, course)
            progress(_progress(state, course))
        return self._ended(start, state, course, ending)

    def _begin(self, start: Parameters) -> tuple[State, Course]:
        state = begin(start)
        steps = self._recipe.steps or self._fitting_steps(state)
        return state, Course(steps)

    def _fitting_steps(self, state: State) -> int:
        """How many steps fit the time: some are timed, then forgotten."""
        for step in range(UNTIMED_STEPS + TIMED_STEPS):
            if step == UNTIMED_STEPS:
                began = time.monotonic()
            result = take_step(self._drafter, self._recipe, state, self._draft(step), 1000)
            state = result.state
        step_s = (time.monotonic() - began) / TIMED_STEPS  # pyright: ignore[reportPossiblyUnboundVariable]
        self._judge.accepted(state.parameters, self._heldout)  # the first compiles
        began = time.monotonic()
        self._judge.accepted(state.parameters, self._heldout)
        judging_s, whole_s = time.monotonic() - began, 60 * self._recipe.minutes
        if every := self._recipe.evaluate_every:
            return max(1, round(whole_s / (step_s + judging_s / every)))
        return max(1, round(max(0.5 * whole_s, whole_s - EVALUATIONS * judging_s) / step_s))

    def _draft(self, step: int) -> Draft:
        recipe = self._recipe
        number = step // recipe.reuse
        if self._held is None or self._held[0] != number:
            self._held = None  # frees the old hidden states before there are new ones
            batch = self._batches.batch(number)
            self._held = number, batch, self._features.of(batch)
        _, batch, features = self._held
        block = self._drafter.config.block_size
        blocks = self._batches.blocks(batch, step, recipe.anchors, block, recipe.decay)
        self._counted = int((blocks.weights > 0).sum())
        return Draft(features, blocks)

    def _diverges(self, loss: float, step: int, course: Course) -> bool:
        kept = min(SMOOTHING ** (1 / self._recipe.reuse), step / (step + 1))
        course.first = course.first or loss
        course.smoothed = kept * course.smoothed + (1 - kept) * loss
        if step < SETTLED * self._recipe.reuse:
            return False
        course.lowest = min(course.lowest, course.smoothed)
        rise = max(DIVERGED, LOST * (course.first - course.lowest))
        return course.smoothed > course.lowest + rise

    def _is_due(self, step: int, steps: int) -> bool:
        every = self._recipe.evaluate_every or max(1, steps // EVALUATIONS)
        return step % every == 0 or step == steps

    def _evaluate(self, state: State, course: Course) -> None:
        before = course.best
        accepted = self._judge.accepted(state.parameters, self._heldout)
        course.marks.append(Mark(state.step, course.smoothed, accepted))
        if before is None or accepted > before.accepted:
            self._checkpoints.save(state, course, best=True)

    def _is_enough(self, state: State, course: Course) -> bool:
        patience = self._recipe.patience
        if not patience or len(course.marks) <= patience or course.marks[-1].step != state.step:
            return False
        before = max(mark.accepted for mark in course.marks[:-patience])
        return all(m.accepted < before + ENOUGH_BETTER for m in course.marks[-patience:])

    def _ended(self, start: Parameters, state: State, course: Course, ending: Ending) -> Trained:
        best = self._checkpoints.best()
        if best is not None:
            return Trained(best[0], course, ending, state.step)
        if ending == "diverged":
            raise EngineError(
                f"the loss diverged at step={state.step + 1} of {course.steps}, before the first "
                f"evaluation; lower learning_rate={self._recipe.learning_rate!r} or clip="
                f"{self._recipe.clip!r}, or evaluate more often, and use another --out"
            )
        return Trained(state.parameters if state.step else start, course, ending, state.step)


def _progress(state: State, course: Course) -> Progress:
    seconds = max(course.seconds, 1e-9)
    accepted = course.marks[-1].accepted if course.marks else 0.0
    left = (course.steps - state.step) * seconds / max(1, state.step)
    return Progress(
        state.step, course.steps, course.smoothed, accepted, course.tokens / seconds, left
    )
