"""The model card: what a drafter was made of and is worth, as `README.md` in its folder.

In: the report of a training. Out: Markdown. It names sources and licences, never a text.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.training.recipe import TrainJob
from pipeline.training.report import KINDS, Evaluation, Figure, Kind, TrainReport
from pipeline.training.shards import Answer

MOST_SOURCES = 40
HEADS: dict[Kind, str] = {"chain": "", "tree": "tree", "all": "+ copies, grammar"}
MADE, EARLIER = "## How it was made", "## Earlier rounds"


def model_card(
    job: TrainJob,
    report: TrainReport,
    answers: Sequence[Answer],
    fingerprint: str,
    begun_from: str = "",
) -> str:
    """The card's text.

    Args:
        job: What was asked for.
        report: What came of it.
        answers: That were learnt from.
        fingerprint: Of the target.
        begun_from: The card of the drafter that the weights were gone on from, if it has one.
    """
    recipe = asdict(job.recipe)
    told = "\n".join(f"| {name} | {value} |" for name, value in recipe.items())
    parts = [
        "# A DFlash drafter",
        (
            f"Drafts for one target only: the model with the fingerprint `{fingerprint}`"
            f"{' (the one embedded in docflash)' if job.model == 'embedded' else ''}. It can't "
            "change what the target writes, only how soon."
        ),
        MADE,
        _made(job, report),
        f"| recipe | |\n| --- | --- |\n{told}",
        "## Data",
        _data(answers),
        "## Course",
        _course(report),
    ]
    if rounds := earlier_rounds(begun_from):
        parts += [EARLIER, "\n".join(f"- {one}" for one in rounds)]
    if report.evaluation is not None:
        parts += ["## Figures", _figures(report.evaluation)]
    parts += ["## Limits", _limits(job, report)]
    return "\n\n".join(parts) + "\n"


def earlier_rounds(card: str) -> list[str]:
    """How the drafter of a card was made, and those that it was gone on from, the latest first."""
    made = _section(card, MADE).split("\n\n")[0]
    before = [line[2:] for line in _section(card, EARLIER).splitlines() if line.startswith("- ")]
    return [made, *before] if made else before


def _section(card: str, head: str) -> str:
    """The text under a heading of a card."""
    return card.partition(f"{head}\n\n")[2].partition("\n\n## ")[0]


def _made(job: TrainJob, report: TrainReport) -> str:
    bits = f"{job.bits} bits" if job.bits else "float16"
    begun = "other weights, gone on from" if job.warm_start else "random weights"
    return (
        f"By `docflash train-drafter`, from {begun}: {report.step} of {report.steps} steps in "
        f"{report.seconds:.0f} s (ended: {report.ending}); the weights with the most accepted "
        f"tokens on held-out answers were kept, in {bits}. {report.examples} answers of the "
        f"target ({report.tokens} tokens with their prompts) were learnt from, "
        f"{report.looping} that repeat themselves and {report.too_long} too long ones were not."
    )


def _data(answers: Sequence[Answer]) -> str:
    licences = Counter(answer.licence or "not told" for answer in answers)
    kinds = Counter(answer.kind for answer in answers)
    documents = {answer.source for answer in answers}
    public = sorted({_origin(source) for source in documents if not source.startswith("sha256:")})
    lines = [
        (
            f"Answers about {len(documents)} documents, written by the target itself, greedy, with "
            "docflash's own prompts and settings."
        ),
        "Licences of the documents: " + _listed(licences) + ".",
        "Kinds of questions: " + _listed(kinds) + ".",
    ]
    if public:
        more = f", and {len(public) - MOST_SOURCES} more" if len(public) > MOST_SOURCES else ""
        lines.append("From: " + ", ".join(public[:MOST_SOURCES]) + more + ".")
    return "\n".join(lines)


def _origin(source: str) -> str:
    return source.split(maxsplit=1)[0]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common())


def _course(report: TrainReport) -> str:
    rows = "\n".join(
        f"| {mark.step} | {mark.loss:.3f} | {mark.accepted:.2f} |" for mark in report.curve
    )
    return f"| step | loss | accepted tokens per verify |\n| --- | --- | --- |\n{rows}"


def _figures(found: Evaluation) -> str:
    made = {(figure.width, figure.drafts) for figure in found.figures}
    widths = sorted({width for width, _ in made})
    places: list[tuple[int, Kind]] = [(width, kind) for width in widths for kind in KINDS]
    drafts = [place for place in places if place in made]
    groups = sorted({figure.group for figure in found.figures})
    by_place = {(f.group, f.width, f.drafts): f for f in found.figures}
    lines = [
        (
            f"Accepted tokens per verify on {found.answers} held-out answers about "
            f"{found.documents} documents ({found.looping} that repeat themselves are left out), "
            "teacher-forced, by the width of the verify: the block as a chain, as a tree, and "
            "with what else drafts. `docflash drafter evaluate` makes this "
            "table."
        ),
        "",
        f"| | answers |{_head(drafts)}",
        "| --- | --- |" + " --- |" * len(drafts),
    ]
    for group in groups:
        cells = [by_place[group, w, kind] for w, kind in drafts]
        lines.append(_row(group, cells))
    return "\n".join(lines)


def _head(drafts: Sequence[tuple[int, Kind]]) -> str:
    """The columns' names; the first of each width tells it."""
    before = [0, *(width for width, _ in drafts)]
    names = [
        [HEADS[kind]] if width == last else [str(width), HEADS[kind]]
        for last, (width, kind) in zip(before, drafts, strict=False)
    ]
    return "".join(f" {', '.join(filter(None, name))} |" for name in names)


def _row(group: str, cells: Sequence[Figure]) -> str:
    return (
        f"| {group} | {cells[0].answers} | " + " | ".join(f"{c.accepted:.2f}" for c in cells) + " |"
    )


def _limits(job: TrainJob, report: TrainReport) -> str:
    lines = [
        "- For this target alone, and its own tokenizer; another model's folder is refused.",
        f"- Trained on sequences up to {job.recipe.length} tokens; beyond, less is accepted.",
        "- The figures are of greedy answers under docflash's own settings.",
    ]
    if job.bits:
        lines.append("- Quantised as MLX does it: the authors' package can't load these weights.")
    if job.recipe.markov_rank:
        lines.append("- With a Markov head, which the authors' package doesn't have.")
    if report.ending == "diverged":
        lines.append("- Its training diverged and was ended; these are the last good weights.")
    return "\n".join(lines)
