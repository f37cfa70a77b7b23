"""What a training or an evaluation found: records, without mlx, that travel as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["chain", "tree", "all"]
KINDS: tuple[Kind, ...] = ("chain", "tree", "all")


@dataclass(frozen=True, slots=True)
class Figure:
    """Accepted tokens per verify.

    Attributes:
        group: A kind of question, a range of contexts, or "all".
        width: Tokens of a verify: the anchor and what is drafted.
        drafts: "chain" is the block alone, "tree" the same with branches; "all" has the copies and
            the grammar's drafts, too. The widest verifies are for trees: there is no "chain".
        answers: How many it is of.
        tokens, verifies: Their sums.
    """

    group: str
    width: int
    drafts: Kind
    answers: int
    tokens: int
    verifies: int

    @property
    def accepted(self) -> float:
        """Tokens per verify; the target's own is one of them."""
        return self.tokens / max(1, self.verifies)


@dataclass(frozen=True, slots=True)
class Speed:
    """What a figure means on this machine, by its cost table.

    Attributes:
        group, width, drafts: Of the figure.
        rows: Answers at the same time.
        gain: Against plain decoding of as many rows; below 1 the engine would not draft.
    """

    group: str
    width: int
    drafts: Kind
    rows: int
    gain: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A drafter, judged.

    Attributes:
        model, fingerprint, drafter, device: What was judged, and where.
        documents: Held-out documents that the answers are about.
        answers: Held-out answers.
        looping: Answers that repeat themselves and are left out.
        too_long: Answers left out for their length.
        figures, speeds: See there.
    """

    model: str
    fingerprint: str
    drafter: str
    device: str
    documents: int
    answers: int
    looping: int
    too_long: int
    figures: tuple[Figure, ...]
    speeds: tuple[Speed, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A held-out evaluation while training: steps done, loss in nats, tokens per verify."""

    step: int
    loss: float
    accepted: float


@dataclass(frozen=True, slots=True)
class TrainReport:
    """A training, ended or stopped.

    Attributes:
        out: The drafter's folder.
        ending: "done", "early", "diverged" or "stopped".
        step, steps: Done, and of the schedule.
        seconds: Of training, over all runs.
        examples, tokens: Answers learnt from, and their tokens, prompts included.
        looping, too_long: Answers left out.
        labels: Tokens that counted in a loss.
        curve: Held-out evaluations.
        written, refused, writing_s: Answers written by this run, refused, and the seconds.
        evaluation: Of what was exported; None if it was stopped before.
        notes: What was left out of the sources, and why.
    """

    out: str
    ending: str
    step: int
    steps: int
    seconds: float
    examples: int
    tokens: int
    looping: int
    too_long: int
    labels: int
    curve: tuple[Curve, ...]
    written: int
    refused: int
    writing_s: float
    evaluation: Evaluation | None
    notes: tuple[str, ...]


def figures_as_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON, with the quotients in it."""
    values = asdict(evaluation)
    for figure, told in zip(evaluation.figures, values["figures"], strict=True):
        told["accepted"] = round(figure.accepted, 3)
    return values


def parse_evaluation(values: dict[str, Any]) -> Evaluation:
    """An evaluation out of its `asdict` form as JSON gives it back."""
    whole = dict(values)
    whole["figures"] = tuple(Figure(**one) for one in values["figures"])
    whole["speeds"] = tuple(Speed(**one) for one in values["speeds"])
    return Evaluation(**whole)


def parse_report(values: dict[str, Any]) -> TrainReport:
    """A report out of its `asdict` form as JSON gives it back."""
    whole = dict(values)
    whole["curve"] = tuple(Curve(**one) for one in values["curve"])
    whole["notes"] = tuple(values["notes"])
    found = values["evaluation"]
    whole["evaluation"] = None if found is None else parse_evaluation(found)
    return TrainReport(**whole)
