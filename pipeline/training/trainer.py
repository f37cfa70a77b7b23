"""A step of training, and its schedule: AdamW with clipping, warm-up and a cosine.

The state is a record of arrays and a step's number; a step gives a new one and leaves the old as it
was, so a bad step is simply not taken.
"""

import math
from dataclasses import dataclass

import mlx.core as mx

from pipeline.training.model import Draft, Parameters, TrainableDrafter
from pipeline.training.recipe import Recipe

FIRST_BETA, SECOND_BETA, EPSILON = 0.9, 0.95, 1e-8
LOWEST_RATE = 0.01
"""Where the cosine ends, of the highest rate."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a step changes.

    Attributes:
        step: Steps done.
        parameters: In float32.
        means, squares: Of the gradients, by AdamW.
    """

    step: int
    parameters: Parameters
    means: Parameters
    squares: Parameters


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did.

    Attributes:
        state: The new one.
        loss: Before the step, in nats.
        norm: Of the gradient, before it was clipped.
    """

    state: State
    loss: float
    norm: float

    @property
    def finite(self) -> bool:
        """Whether it may be taken."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def begin(parameters: Parameters) -> State:
    """The state before the first step."""
    zeros = {name: mx.zeros(value.shape) for name, value in parameters.items()}
    return State(0, parameters, zeros, dict(zeros))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of a step, from 0."""
    warm = max(1, round(recipe.warmup * steps))
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    part = (step - warm) / max(1, steps - warm)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, part)))
    return recipe.learning_rate * (LOWEST_RATE + (1 - LOWEST_RATE) * cosine)


def take_step(
    drafter: TrainableDrafter, recipe: Recipe, state: State, draft: Draft, steps: int
) -> StepResult:
    """One step.

    Args:
        drafter: What is trained.
        recipe: How.
        state: Before it.
        draft: What to learn from.
        steps: Of the whole schedule.
    """
    loss, gradients = mx.value_and_grad(drafter.loss)(state.parameters, draft)
    # In one order, whatever that of the names is: a sum of floats depends on it.
    squared = [gradients[name].astype(mx.float32).square().sum() for name in sorted(gradients)]
    norm = mx.sqrt(mx.stack(squared).sum())
    scale = mx.minimum(1.0, recipe.clip / (norm + 1e-6))
    rate = learning_rate(recipe, state.step, steps)
    after = _adamw(recipe, state, {n: g * scale for n, g in gradients.items()}, rate)
    mx.eval(loss, norm, after.parameters, after.means, after.squares)
    values: list[float] = mx.stack([loss, norm]).tolist()  # type: ignore[assignment]
    return StepResult(after, *values)


def _adamw(recipe: Recipe, state: State, gradients: Parameters, rate: float) -> State:
    """Loshchilov and Hutter 2019, with bias correction; the decay spares norms."""
    step = state.step + 1
    first, second = 1 - FIRST_BETA**step, 1 - SECOND_BETA**step
    parameters: Parameters = {}
    means: Parameters = {}
    squares: Parameters = {}
    for name, gradient in gradients.items():
        means[name] = FIRST_BETA * state.means[name] + (1 - FIRST_BETA) * gradient
        squares[name] = SECOND_BETA * state.squares[name] + (1 - SECOND_BETA) * gradient.square()
        change = means[name] / first / (mx.sqrt(squares[name] / second) + EPSILON)
        old = state.parameters[name]
        kept = 1 - rate * recipe.weight_decay if old.ndim > 1 else 1.0
        parameters[name] = old * kept - rate * change
    return State(step, parameters, means, squares)
