"""`docflash drafter evaluate`: what a drafter is worth, on held-out answers and on this machine.

The answers are the target's own, so a draft is judged without running the target again (`walks`);
what it means in speed follows from the machine's measured step costs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx

from pipeline.engine.drafters.drafter_config import check_fit, read_config
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafting.calibrate import known_costs
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.planning.cost import StepCosts
from pipeline.engine.planning.widths import CHAIN_WIDTHS
from pipeline.engine.targets.taps import model_layers
from pipeline.engine.targets.target import Target, stop_tokens
from pipeline.training.examples import Chosen
from pipeline.training.features import Features, Teacher
from pipeline.training.judge import Judge
from pipeline.training.model import TrainableDrafter, read_parameters
from pipeline.training.report import Evaluation, Figure, Speed

ROWS = (1, 8)
"""Answers at the same time, for which the speed is told."""
CONTEXT = 1024
"""Tokens of context that the speed is told for."""


def evaluate_drafter(
    info: ModelInfo,
    folder: Path,
    chosen: Chosen,
    progress: Callable[[str, float], None] = lambda _doing, _done: None,
) -> Evaluation:
    """Judges a drafter's folder.

    Args:
        info: The target.
        folder: The drafter.
        chosen: Held-out answers.
        progress: Told what is being done, and the part that is done.

    Raises:
        InputError: The drafter can't be read, or does not fit the target.
    """
    progress("loading the target and the drafter", 0.0)
    config = read_config(folder)
    target = Target(info)
    teacher = Teacher(target, config.target_layer_ids)
    check_fit(
        config, vocabulary=target.vocabulary, hidden_size=teacher.hidden_size,
        layers=len(model_layers(target.model)),
    )  # fmt: skip
    parameters = read_parameters(folder, config)
    stop = stop_tokens(info.folder, ChatTokenizer(info.folder).stop_tokens)
    grammars = Grammars(info.tokenizer_json, target.vocabulary, sorted(stop))
    judge = Judge(TrainableDrafter(config, teacher), Features(teacher))

    def tell(done: float) -> None:
        progress(f"judging {len(chosen.examples)} held-out answers", done)

    figures = judge.figures(parameters, chosen.examples, grammars, tell)
    del judge, teacher, parameters
    target = Target(info)
    drafter = load_drafter(folder, target)
    options = CoreOptions(max_rows=max(ROWS), drafter=str(folder))
    costs = known_costs(info, options, target, drafter, progress)
    return Evaluation(
        model=info.name,
        fingerprint=info.fingerprint,
        drafter=str(folder),
        device=str(mx.default_device()),
        documents=len({example.source for example in chosen.examples}),
        answers=len(chosen.examples),
        looping=chosen.looping,
        too_long=chosen.too_long,
        figures=tuple(figures),
        speeds=tuple(speeds(figures, costs)),
    )


def speeds(figures: Sequence[Figure], costs: StepCosts) -> list[Speed]:
    """What accepted tokens mean: tokens per verify, and what it and the draft cost.

    Where large trees can't be run, nothing is told of their width.
    """
    found: list[Speed] = []
    known = max(CHAIN_WIDTHS[-1], costs.verify.widest)
    for figure in (figure for figure in figures if figure.width <= known):
        for rows in ROWS:
            plain = costs.verify.predict(rows, 1, CONTEXT)
            step = costs.verify.predict(rows, figure.width, CONTEXT)
            step += costs.draft.predict(rows, 1, CONTEXT)
            gain = round(figure.accepted * plain / step, 3)
            found.append(Speed(figure.group, figure.width, figure.drafts, rows, gain))
    return found
