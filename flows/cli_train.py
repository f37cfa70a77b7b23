"""`docflash train-drafter` and `docflash drafter evaluate`: drafters for any model."""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_output import make_app, print_json, print_table, stderr_console
from pipeline.settings import EMBEDDED_MODEL
from pipeline.training.recipe import EvaluateJob, Recipe, Sources, TrainJob

if TYPE_CHECKING:
    from pipeline.training.report import Evaluation, Figure, TrainReport

GIB = 1 << 30
MIB = 1 << 20

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str, typer.Option(help="The folder of an mlx-lm model, or 'embedded'.")]
Documents = Annotated[
    Path | None, typer.Option(help="A folder of documents to ask about; they stay on this machine.")
]
Passages = Annotated[
    Path | None, typer.Option(help="A .jsonl or .jsonl.xz file, a passage of text a line.")
]
Prompts = Annotated[Path | None, typer.Option(help="A folder of your own tasks, to ask, too.")]
Heldout = Annotated[int, typer.Option(help="Answers to judge by, about other documents.")]
Rows = Annotated[int, typer.Option(help="Answers that the model writes at the same time.")]
KvGib = Annotated[float, typer.Option(help="Memory for their keys and values, in GiB.")]
Writers = Annotated[int, typer.Option(help="Processes that share these rows; for a big GPU.")]
Length = Annotated[int, typer.Option(help="Longest prompt and answer together, in tokens.")]
Seed = Annotated[int, typer.Option(help="The same seed, the same questions and training.")]
Out = Annotated[Path, typer.Option(help="Folder for the drafter; given again, it goes on.")]
Answers = Annotated[int, typer.Option(help="Answers to learn from.")]
Minutes = Annotated[float, typer.Option(help="Time to train, answers not counted.")]
Steps = Annotated[int, typer.Option(help="Steps to train, in the place of --minutes.")]
Layers = Annotated[int, typer.Option(help="Layers of the drafter.")]
Block = Annotated[int, typer.Option(help="Slots of a block, 2 to 16.")]
Taps = Annotated[int, typer.Option(help="Layers of the model that it sees.")]
Decay = Annotated[float, typer.Option(help="How slowly later slots lose weight.")]
LearningRate = Annotated[float, typer.Option(help="The highest.")]
BatchRows = Annotated[int, typer.Option(help="Sequences of a step.")]
Anchors = Annotated[int, typer.Option(help="Blocks of each sequence in a step.")]
Reuse = Annotated[int, typer.Option(help="Steps for each look at the model's states.")]
MarkovRank = Annotated[
    int, typer.Option(help="Rank of what each token says of the next one; 0 leaves that out.")
]
Soft = Annotated[
    float, typer.Option(help="Part of the loss that follows the model's probabilities, 0 to 1.")
]
Patience = Annotated[
    int, typer.Option(help="Stop after so many evaluations without a better one; 0 never.")
]
EvaluateEvery = Annotated[int, typer.Option(help="Steps; 0 evaluates 20 times.")]
WarmStart = Annotated[
    Path | None,
    typer.Option(help="Folder of a drafter to go on from; gives its shape, but for the block."),
]
Bits = Annotated[int, typer.Option(help="Bits of the weights: 8, 4, or 0 for float16.")]
CacheGib = Annotated[
    float, typer.Option(help="Disk to keep the model's states on, in GiB; 0 computes them.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Go on in the background.")]

app = make_app("Drafters: small models that make a model faster without changing what it writes.")


def train_drafter(  # noqa: PLR0913, PLR0917  a command's options
    out: Out,
    model: Model = EMBEDDED_MODEL,
    documents: Documents = None,
    passages: Passages = None,
    prompts: Prompts = None,
    answers: Answers = 20_000,
    heldout: Heldout = 400,
    minutes: Minutes = 20.0,
    steps: Steps = 0,
    layers: Layers = 5,
    block: Block = 16,
    taps: Taps = 5,
    decay: Decay = 7.0,
    learning_rate: LearningRate = 6e-4,
    rows: BatchRows = 64,
    anchors: Anchors = 32,
    reuse: Reuse = 4,
    length: Length = 1024,
    markov_rank: MarkovRank = 128,
    soft: Soft = 0.0,
    patience: Patience = 0,
    evaluate_every: EvaluateEvery = 0,
    seed: Seed = 1,
    warm_start: WarmStart = None,
    bits: Bits = 0,
    answer_rows: Rows = 16,
    kv_gib: KvGib = 2.0,
    writers: Writers = 1,
    cache_gib: CacheGib = 0.0,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Trains a drafter for a model, on this machine and your own kind of documents.

    The model answers questions about your documents; the drafter learns to foretell these answers.
    Interrupted, the same command goes on where it stopped. How far it is stands in
    progress.json in the folder work of OUT. Nothing leaves the machine.

    Example: `docflash train-drafter --documents ~/Documents --out ~/models/my-drafter --minutes 60`
    """
    options = locals()
    recipe = Recipe(**{f.name: options[f.name] for f in fields(Recipe) if f.name in options})
    sources = Sources(
        _absolute(passages), _absolute(documents), _absolute(prompts), answers, heldout
    )
    job = TrainJob(
        model=_model(model), out=_absolute(out), sources=sources, recipe=recipe,
        answer_rows=answer_rows, kv_bytes=int(kv_gib * GIB), writers=writers,
        warm_start=_absolute(warm_start), bits=bits, cache_bytes=int(cache_gib * GIB),
    )  # fmt: skip
    (_detach if detach else _train)(job, as_json=as_json)


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917  a command's options
    drafter: Annotated[Path, typer.Argument(help="The drafter's folder.")],
    work: Annotated[Path, typer.Option(help="Folder that keeps the model's answers.")],
    model: Model = EMBEDDED_MODEL,
    documents: Documents = None,
    passages: Passages = None,
    prompts: Prompts = None,
    heldout: Heldout = 400,
    length: Length = 1024,
    seed: Seed = 1,
    answer_rows: Rows = 16,
    kv_gib: KvGib = 2.0,
    as_json: Json = False,
) -> None:
    """Says how many tokens of a drafter are accepted, and what that means in speed here.

    The model answers questions about held-out documents; the drafter's blocks are then compared
    with these answers, at every place, as the engine would run them (teacher-forced). The speed
    follows from this machine's measured step costs. With the folder `work` of a training and the
    same sources, its own held-out answers are taken.

    Example: `docflash drafter evaluate my-drafter --work my-drafter/work --documents ~/Documents`
    """
    from pipeline.training.start import start_evaluation

    job = EvaluateJob(
        model=_model(model),
        drafter=_absolute(drafter),
        work=_absolute(work),
        sources=Sources(
            _absolute(passages), _absolute(documents), _absolute(prompts), heldout=heldout
        ),
        length=length,
        seed=seed,
        answer_rows=answer_rows,
        kv_bytes=int(kv_gib * GIB),
    )
    with stderr_console().status("") as line:
        found = start_evaluation(job, _teller(line.update))
    if as_json:
        print_json(_evaluation_json(found))
    else:
        _show_evaluation(found)


def _train(job: TrainJob, *, as_json: bool) -> None:
    from pipeline.training.start import start_training

    with stderr_console().status("") as line:
        report = start_training(job, _teller(line.update))
    if report.ending == "stopped":  # by a signal to the process itself
        raise KeyboardInterrupt
    if as_json:
        print_json(_report_json(report))
    else:
        _show_report(report)


def _detach(job: TrainJob, *, as_json: bool) -> None:
    from pipeline.training.start import detach_training

    pid, log = detach_training(job)
    progress = log.with_name("progress.json")
    if as_json:
        print_json({"pid": pid, "log": str(log), "progress": str(progress)})
    else:
        stderr_console().print(
            f"training in the background: pid {pid}; how far it is: {progress}; its report: the "
            f"last line of {log}; `kill {pid}` stops it, the same command goes on",
            markup=False,
        )


def _teller(update: Callable[[str], None]) -> Callable[[str, float], None]:
    return lambda doing, _: update(f"{doing} ...")


def _model(name: str) -> str:
    return name if name == EMBEDDED_MODEL else _absolute(Path(name))


def _absolute(path: Path | None) -> str:
    return str(path.expanduser().absolute()) if path else ""


def _report_json(report: "TrainReport") -> dict[str, object]:
    values: dict[str, object] = asdict(report)
    if report.evaluation is not None:
        values["evaluation"] = _evaluation_json(report.evaluation)
    return values


def _evaluation_json(found: "Evaluation") -> dict[str, object]:
    from pipeline.training.report import figures_as_json

    return figures_as_json(found)


def _show_report(report: "TrainReport") -> None:
    for note in report.notes:
        stderr_console().print(note, markup=False)
    size = sum(file.stat().st_size for file in Path(report.out).glob("*.safetensors"))
    best = max((mark.accepted for mark in report.curve), default=0.0)
    print_table(
        ("training", ""),
        [
            ("ended", report.ending),
            ("steps", f"{report.step} of {report.steps}, {report.seconds:.0f} s"),
            ("answers learnt from", f"{report.examples}, {report.tokens} tokens"),
            ("left out", f"{report.looping} that loop, {report.too_long} too long"),
            ("accepted tokens per verify", f"{best:.2f} at best"),
            ("drafter", f"{report.out}, {size / MIB:.1f} MiB"),
        ],
    )
    if report.evaluation is not None:
        _show_evaluation(report.evaluation)


DRAFTS = {"chain": "block alone", "tree": "as a tree", "all": "with copies and grammar"}
"""By kind of figure."""


def _show_evaluation(found: "Evaluation") -> None:
    gains = {(s.group, s.width, s.drafts, s.rows): f"{s.gain:.2f}" for s in found.speeds}

    def gains_of(f: "Figure") -> list[str]:
        return [gains.get((f.group, f.width, f.drafts, rows), "-") for rows in (1, 8)]

    print_table(
        ("held-out answers", "number", "width", "drafts", "accepted", "gain, 1 row", "8 rows"),
        [
            (f.group, f.answers, f.width, DRAFTS[f.drafts], f"{f.accepted:.2f}", *gains_of(f))
            for f in found.figures
        ],
    )
    stderr_console().print(
        f"{found.answers} answers about {found.documents} documents; {found.looping} that loop are "
        f"left out; gains over plain decoding by this machine's measured costs, {found.device}",
        markup=False,
    )
