"""How to stop a small model from repeating itself: the settings of text tasks, compared.

    uv run python benchmarks/repetition.py --passages FILE [--questions 48] [--drafter FOLDER]

The embedded model answers the same questions about held-out passages, as the product words them,
under each setting. Told: answers that loop (eight words in a row four times), that end at their
limit, the part of four-word runs that stand once in their answer, and of sentences that no sentence
of the document supports (`pipeline/linking.py`); with a drafter, the tokens of its block that a
verify accepts, alone, loops left out. Writes benchmarks/repetition.json.
"""

import argparse
import gc
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from machine import describe_surroundings
from tokenizers import Tokenizer

from pipeline.engine.drafters.drafter_config import read_config
from pipeline.engine.interface import CoreOptions, ModelInfo, Sampling
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.targets.target import Target, stop_tokens
from pipeline.linking import link_sentences
from pipeline.prompts import load_tasks
from pipeline.settings import EMBEDDED_MODEL
from pipeline.training.examples import choose_examples
from pipeline.training.features import Features, Teacher
from pipeline.training.full_core import FullCore
from pipeline.training.judge import Judge
from pipeline.training.model import TrainableDrafter, read_parameters
from pipeline.training.passages import read_passages
from pipeline.training.questions import Question, Questions
from pipeline.training.regenerate import Setting, write_answers
from pipeline.training.shards import Answer, Shards

SETTINGS = {
    "nothing": Sampling(),
    "penalty 1.1, 12-grams": Sampling(repetition_penalty=1.1, no_repeat_ngram=12),
    "12-grams": Sampling(no_repeat_ngram=12),
    "8-grams": Sampling(no_repeat_ngram=8),
    "6-grams": Sampling(no_repeat_ngram=6),
    "4-grams": Sampling(no_repeat_ngram=4),
    "4-grams, copied 12-grams": Sampling(no_repeat_ngram=4, no_repeat_copied=12),
    "4-grams, copied 8-grams": Sampling(no_repeat_ngram=4, no_repeat_copied=8),
    "3-grams, copied 12-grams": Sampling(no_repeat_ngram=3, no_repeat_copied=12),
}
LENGTH, WORDS, SEED = 2000, 4, 1


@dataclass(frozen=True, slots=True)
class Found:
    """What a setting came to, over all its answers; see the module."""

    answers: int
    loops: int
    cut: int
    words: int
    distinct: float
    unsupported: float
    accepted: float | None = None


def main() -> None:
    options = read_options()
    info = resolve_model(EMBEDDED_MODEL)
    questions = make_questions(info, options.passages, options.questions)
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        answers = write_all(info, questions, options, Path(folder))
    for name, written in answers.items():
        found[name] = describe(written, info)
        print(f"{name:26s} {found[name]}", flush=True)
    if options.drafter:
        for name, accepted in judge(info, options.drafter, answers):
            found[name] = replace(found[name], accepted=accepted)
            print(f"{name:26s} accepted {accepted:.2f}", flush=True)
    report = describe_surroundings("mlx", "mlx-lm") | {
        "device": str(mx.default_device()),
        "questions": len(questions),
        "settings": {name: asdict(one) for name, one in found.items()},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--passages", type=Path, required=True, help="as for train-drafter")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--kv-gib", type=float, default=2.0)
    parser.add_argument("--drafter", type=Path, help="folder of a DFlash checkpoint")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("repetition.json"))
    return parser.parse_args()


def make_questions(info: ModelInfo, passages: Path, count: int) -> list[Question]:
    """Questions that are answered in prose, about held-out texts."""
    questions = Questions(load_tasks(), info, LENGTH, SEED)
    texts = read_passages(passages).texts
    asked = [q for q in questions.about(texts, "heldout", 3 * count) if q.schema is None]
    return asked[:count]


def write_all(
    info: ModelInfo, questions: Sequence[Question], options: argparse.Namespace, folder: Path
) -> dict[str, list[Answer]]:
    """The answers under each setting."""
    core_options = CoreOptions(
        max_rows=options.rows, kv_bytes=int(options.kv_gib * (1 << 30)), speculate=False
    )
    core = FullCore(info, core_options)
    ends = ChatTokenizer(info.folder).stop_tokens
    setting = Setting(info.name, options.rows, min(stop_tokens(info.folder, ends)))
    found: dict[str, list[Answer]] = {}
    for number, (name, sampling) in enumerate(SETTINGS.items()):
        shards = Shards(folder / str(number), {})
        asked = [replace(question, sampling=sampling) for question in questions]
        print(name, write_answers(asked, core, shards, setting), flush=True)
        found[name] = shards.all()
    del core
    gc.collect()
    return found


def describe(answers: Sequence[Answer], info: ModelInfo) -> Found:
    """The figures of one setting's answers."""
    tokenizer: Any = Tokenizer.from_file(info.tokenizer_json)
    distinct: list[float] = []
    support: Counter[str | None] = Counter()
    for answer in answers:
        words = answer.text.split()
        runs = [tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)]
        distinct.append(len(set(runs)) / len(runs) if runs else 1.0)
        asked = tokenizer.decode(list(answer.prompt))
        support.update(evidence.support for evidence in link_sentences(answer.text, asked))
    return Found(
        answers=len(answers),
        loops=sum(answer.loops for answer in answers),
        cut=sum(answer.ended == "length" for answer in answers),
        words=sum(len(answer.text.split()) for answer in answers),
        distinct=round(sum(distinct) / max(1, len(distinct)), 3),
        unsupported=round(support["unsupported"] / max(1, support.total()), 3),
    )


def judge(
    info: ModelInfo, folder: Path, answers: dict[str, list[Answer]]
) -> list[tuple[str, float]]:
    """What a drafter's blocks are worth on each setting's answers."""
    config = read_config(folder)
    teacher = Teacher(Target(info), config.target_layer_ids)
    judge = Judge(TrainableDrafter(config, teacher), Features(teacher))
    parameters = read_parameters(folder, config)
    return [
        (name, judge.accepted(parameters, choose_examples(found, "heldout", LENGTH).examples))
        for name, found in answers.items()
    ]


if __name__ == "__main__":
    main()
