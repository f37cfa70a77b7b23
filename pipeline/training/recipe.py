"""What to train and how: the records behind `docflash train-drafter`, checked, without mlx."""

from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.errors import InputError

MOST_BLOCK = 16
"""The engine drafts no more: see `pipeline.engine.planning.acceptance.POSITIONS`."""
BITS = (0, 4, 8)
MOST_WRITERS = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a drafter is trained.

    The defaults are those of the paper (arXiv 2602.06036), but for the number of anchors, what each
    forward of the target serves, and the Markov head.

    Attributes:
        layers: Of the drafter.
        block: Slots of a block: the anchor and the tokens drafted at once.
        taps: How many layers of the target it sees.
        decay: Token k after the anchor weighs exp(-(k - 1) / decay) in the loss.
        learning_rate: The highest, after the warm-up.
        warmup: Part of the steps in which it rises; then it falls as a cosine to a hundredth.
        clip: Largest norm of a gradient.
        weight_decay: Of AdamW, on matrices only.
        steps: Length of the schedule; 0 makes it fit `minutes`.
        minutes: Time to train for, evaluations included; used if `steps` is 0.
        rows: Sequences of a batch.
        anchors: Blocks of a sequence in a step.
        reuse: Steps that each forward of the target serves, with new anchors every time.
        length: Longest sequence, prompt and answer, in tokens; longer ones are left out.
        markov_rank: Of the Markov head, see `pipeline.engine.drafters.markov`; 0 makes none.
        soft: Part of the loss that follows the target's probabilities instead of its answer.
        seed: Of the first weights, the order of the data and the anchors.
        evaluate_every: Steps between two evaluations and checkpoints; 0 makes it 20 in all.
        patience: Stop after so many evaluations without a better one; 0 never does.
        mask_token: Token id that stands for what is to be drafted; -1 picks an unused one.
    """

    layers: int = 5
    block: int = 16
    taps: int = 5
    decay: float = 7.0
    learning_rate: float = 6e-4
    warmup: float = 0.04
    clip: float = 1.0
    weight_decay: float = 0.01
    steps: int = 0
    minutes: float = 20.0
    rows: int = 64
    anchors: int = 32
    reuse: int = 4
    length: int = 1024
    markov_rank: int = 128
    soft: float = 0.0
    seed: int = 1
    evaluate_every: int = 0
    patience: int = 0
    mask_token: int = -1

    def check(self) -> None:
        """Raises InputError if a value makes no sense; says which."""
        bounds: dict[str, tuple[float, float]] = {
            "layers": (1, 64),
            "block": (2, MOST_BLOCK),
            "taps": (1, 64),
            "decay": (0.1, 1000),
            "learning_rate": (0.0, 1.0),
            "warmup": (0.0, 1.0),
            "clip": (1e-6, 1e6),
            "weight_decay": (0.0, 1.0),
            "steps": (0, 10**8),
            "minutes": (0.01, 10**6),
            "rows": (1, 4096),
            "anchors": (1, 1024),
            "reuse": (1, 1024),
            "length": (16, 10**6),
            "markov_rank": (0, 4096),
            "soft": (0.0, 1.0),
            "seed": (0, 2**31 - 1),
            "evaluate_every": (0, 10**8),
            "patience": (0, 10**6),
            "mask_token": (-1, 2**31 - 1),
        }
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(
                    f"{name}={getattr(self, name)!r} can't be used; give {least:g} to {most:g}"
                )


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the questions come from.

    Attributes:
        passages: A .jsonl or .jsonl.xz file of passages, or "".
        documents: A folder of documents, or "".
        prompts: A folder of the user's own tasks, or "".
        answers: How many answers the target writes for training.
        heldout: How many for judging, about other documents.
    """

    passages: str = ""
    documents: str = ""
    prompts: str = ""
    answers: int = 20_000
    heldout: int = 400

    def check(self) -> None:
        """Raises InputError if there is nothing to ask about."""
        if not self.passages and not self.documents:
            raise InputError(
                "there is nothing to train on; give --documents FOLDER, --passages FILE or both"
            )
        for name in ("answers", "heldout"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)!r} must be at least 1")


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One call of `docflash train-drafter`.

    Attributes:
        model: "embedded" or a folder.
        out: Folder of the drafter; all that can be made again is in its folder `work`.
        sources: What to ask the target about.
        recipe: How to train.
        answer_rows: Answers that the target writes at the same time.
        kv_bytes: Memory for their keys and values.
        writers: Processes that share these rows and this memory between them.
        warm_start: Folder of a drafter to go on from, or "".
        bits: Quantisation of what is exported: 8, 4, or 0 for none.
        cache_bytes: Disk for the target's hidden states; 0 computes them anew each time.
    """

    model: str
    out: str
    sources: Sources
    recipe: Recipe = field(default_factory=Recipe)
    answer_rows: int = 16
    kv_bytes: int = 2 << 30
    writers: int = 1
    warm_start: str = ""
    bits: int = 0
    cache_bytes: int = 0

    def check(self) -> None:
        """Raises InputError if a value makes no sense; says which."""
        self.sources.check()
        self.recipe.check()
        if self.bits not in BITS:
            raise InputError(f"bits={self.bits!r} must be 8, 4, or 0 for none")
        if self.answer_rows < 1:
            raise InputError(f"answer_rows={self.answer_rows!r} must be at least 1")
        if not 1 <= self.writers <= min(self.answer_rows, MOST_WRITERS):
            raise InputError(
                f"writers={self.writers!r} can't be used; give 1 to {MOST_WRITERS}, and at most "
                f"answer_rows={self.answer_rows!r}"
            )


@dataclass(frozen=True, slots=True)
class WriteJob:
    """A writer's part of the answers.

    Attributes:
        model: "embedded" or a folder.
        folder: Of the answers; its setting is written already.
        sources: What to ask about.
        splits: Which of them are wanted.
        length, seed, answer_rows, kv_bytes: As for training.
        share, shares: Which part, of how many.
    """

    model: str
    folder: str
    sources: Sources
    splits: tuple[str, ...]
    length: int
    seed: int
    answer_rows: int
    kv_bytes: int
    share: int
    shares: int


@dataclass(frozen=True, slots=True)
class EvaluateJob:
    """One call of `docflash drafter evaluate`.

    Attributes:
        model: "embedded" or a folder.
        drafter: Its folder.
        sources: What to ask about; only what is held out is asked.
        work: Folder that keeps the target's answers.
        length: Most tokens of a prompt and its answer.
        seed: Of the questions.
        answer_rows, kv_bytes: As for training.
    """

    model: str
    drafter: str
    work: str
    sources: Sources = field(default_factory=Sources)
    length: int = 1024
    seed: int = 1
    answer_rows: int = 16
    kv_bytes: int = 2 << 30


def parse_record(kind: type[Any], values: dict[str, Any]) -> Any:
    """A record out of its `asdict` form as JSON gives it back; nested ones, too."""
    nested = {"sources": Sources, "recipe": Recipe}
    known = {one.name for one in fields(kind)}
    return kind(**{
        name: parse_record(nested[name], value) if name in nested else _restored(value)
        for name, value in values.items()
        if name in known
    })  # fmt: skip


def _restored(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
