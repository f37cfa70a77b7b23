"""`docflash model check|list|pull`: the models of this machine, and the proof for drafts."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_output import make_app, print_json, print_table, stderr_console
from pipeline.engine.loading.shipped import absolute_drafter, drafter_of
from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL

if TYPE_CHECKING:
    from pipeline.engine.checking.check import CheckReport

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MOST_SHOWN = 40

app = make_app("The language models on this machine.")


@app.command()
def check(  # noqa: PLR0913, PLR0917  a command's options
    model: Annotated[
        str, typer.Option(help="The folder of an mlx-lm model, or 'embedded'.")
    ] = EMBEDDED_MODEL,
    drafter: Annotated[
        str,
        typer.Option(
            help="The folder of a DFlash drafter for the model, 'shipped' or 'none'.  [default: "
            "the shipped one for the embedded model, else none]"
        ),
    ] = "",
    prompts: Annotated[
        Path | None, typer.Option(help="A text file: what to ask about, a line each.")
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(help="A folder of documents to ask about.")
    ] = None,
    generations: Annotated[int, typer.Option(help="How many answers, of each way.")] = 30,
    shard: Annotated[str, typer.Option(help="i/n: only the i-th of n parts of them.")] = "1/1",
    resume: Annotated[
        Path | None, typer.Option(help="A file that keeps finished answers; go on from it.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Answers that are written at the same time.")] = 8,
    max_tokens: Annotated[int, typer.Option(help="The most tokens of an answer.")] = 64,
    as_json: Json = False,
) -> None:
    """Proves that batches and drafts leave the model's answers as they are: exit code 0, else 1.

    The same questions, some of them under a JSON schema, are answered one by one, in a batch, and
    in a batch with drafts of every kind. Where two answers part, the verdict hangs on how close
    the two words' scores were: closer than the machine's own rounding is a tie.

    Example: `docflash model check --drafter ~/models/drafter --generations 200 --resume part.jsonl`
    """
    from pipeline.engine.checking.check import CheckJob, start_check

    job = CheckJob(
        model=model,
        drafter=drafter_of(model, absolute_drafter(drafter)),
        texts=_read_texts(prompts, documents),
        generations=generations,
        shard=_parse_shard(shard),
        resume=str(resume.expanduser().absolute()) if resume else "",
        rows=rows,
        max_tokens=max_tokens,
    )
    with stderr_console().status("") as line:
        report = start_check(job, lambda doing, _: line.update(f"{doing} ..."))
    if as_json:
        print_json(asdict(report))
    else:
        _show(report)
    raise typer.Exit(0 if report.lossless else 1)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Lists the embedded model and what lies in the Hugging Face cache of this machine.

    Example: `docflash model list`
    """
    from pipeline.engine.loading.hub import found_models

    found = found_models()
    if as_json:
        print_json([asdict(entry) for entry in found])
    else:
        rows = [(e.name, e.kind, f"{e.size_bytes / 1e9:.1f} GB", e.folder) for e in found]
        print_table(("name", "what", "size", "for --model or --drafter"), rows)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="OWNER/NAME of a model on the Hugging Face hub.")],
    as_json: Json = False,
) -> None:
    """Downloads a model or a drafter: the only command that uses the network.

    Example: `docflash model pull mlx-community/Qwen3-4B-4bit`
    """
    from pipeline.engine.loading.hub import pull_model

    folder = pull_model(name)
    if as_json:
        print_json({"name": name, "folder": folder})
    else:
        stderr_console().print(f"{name} lies in {folder}", markup=False)


def _read_texts(prompts: Path | None, documents: Path | None) -> tuple[str, ...]:
    if prompts and documents:
        raise InputError("--prompts and --documents exclude each other; give one of them")
    if prompts:
        try:
            lines = prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"prompts={str(prompts)!r} can't be read ({error})") from error
        texts = tuple(line.strip() for line in lines if line.strip())
    elif documents:
        texts = tuple(text for path in sorted(documents.rglob("*")) if (text := _text_of(path)))
    else:
        return ()
    if not texts:
        raise InputError(f"{str(prompts or documents)!r} holds no text; choose another")
    return texts


def _text_of(path: Path) -> str:
    """A document's text; of those that can't be read nothing, as no run depends on them here."""
    from pipeline.errors import DocumentError
    from pipeline.pages import read_contents

    if not path.is_file():
        return ""
    try:
        pages = read_contents(path.read_bytes(), path.suffix.lower()).pages
    except (DocumentError, OSError):
        return ""
    return "\n".join(page.text for page in pages).strip()


def _parse_shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise InputError(f"shard={text!r} must be i/n, as in 2/8")
    return int(part), int(parts)


def _show(report: "CheckReport") -> None:
    drafts = ", ".join(f"{name} {accepted} of {n}" for name, n, accepted in report.drafts)
    explained = sum(divergence.explained for divergence in report.divergences)
    noise = report.noise
    print_table(
        ("check", ""),
        [
            ("model", report.model),
            ("drafter", report.drafter or "none"),
            ("computed on", report.device),
            ("answers of each way", report.generations),
            *((f"tokens compared, {way}", tokens) for way, tokens in report.tokens),
            ("drafted tokens accepted", drafts or "none in this run"),
            ("divergences", f"{len(report.divergences)}, {explained} of them ties"),
            ("numeric noise", f"{noise.largest:.2g} (rounding explains {noise.plausible:.2g})"),
            ("verdict", "lossless" if report.lossless else "NOT lossless"),
        ],
    )
    if report.divergences:
        print_table(
            ("answer", "way", "token", "alone", "here", "margin", ""),
            [
                (d.generation, d.way, d.position, d.expected, d.found, f"{d.margin:.2g}",
                 "a tie" if d.explained else "a fault")
                for d in report.divergences[:MOST_SHOWN]
            ],
        )  # fmt: skip
