"""Plain batched decoding: this engine's core against mlx-lm's `batch_generate`, turn by turn.

    uv run python benchmarks/engine_plain.py [--rows 1 4 8] [--rounds 3] [--tokens 48]

Both have the same weights (the embedded model), the same BLAS, threads, prompts (from sample_docs)
and number of tokens; speculation is off. Each has a process of its own, as the engine puts its own
functions in the place of MLX's, and they take turns: only one computes at any time. Then compares
every row with mlx-lm's greedy decoding of it alone, and shows the margin of each divergence: how
much likelier mlx-lm finds its own token there. Writes benchmarks/engine_plain.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from machine import describe_surroundings

from pipeline.documents import Selection, find_documents
from pipeline.engine.interface import Message
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.machine.blas import blas_status, engine_environment, usable_cores
from pipeline.errors import DocumentError
from pipeline.reader import Reader
from pipeline.records import FoundFile
from pipeline.settings import EMBEDDED_MODEL

TARGET_RATIO = 0.95
SAMPLES = Path("sample_docs/documents")
LENGTHS_CHARS = (700, 1500, 400, 1100, 1900, 900, 600, 1300)
FIGURES = (
    "decode_tokens_per_s",
    "decode_tokens_per_cpu_s",  # on a busy machine the steadier one
    "prefill_tokens_per_s",
    "total_tokens_per_s",
)
NEAR_TIE = 0.01
"""A margin below this, in natural logarithms of probability, is what float32 itself leaves open."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question.

    Attributes:
        text: What the user says.
        tokens: The whole prompt.
    """

    text: str
    tokens: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the BLAS")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--worker", choices=["ours", "mlx_lm"], help="one of the two sides")
    options = parser.parse_args()
    if options.worker:
        serve(make_ours() if options.worker == "ours" else make_mlx_lm())
        return
    with Worker("ours", options.threads) as ours, Worker("mlx_lm", options.threads) as theirs:
        prompts = choose_prompts(theirs, max(options.rows), options.tokens)
        sizes = {str(rows): compare(ours, theirs, prompts[:rows], options) for rows in options.rows}
    report = {
        **describe_surroundings("mlx", "mlx-lm"),
        "blas": blas_status().partition(",")[0],
        "blas_threads": options.threads,
        "prompt_tokens": [len(prompt.tokens) for prompt in prompts],
        "answer_tokens": options.tokens,
        "rounds": options.rounds,
        "target_ratio": TARGET_RATIO,
        "rows": sizes,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def choose_prompts(theirs: "Worker", count: int, tokens: int) -> list[Prompt]:
    """Pieces of the samples whose answers do not end before they have their number of tokens."""
    tokenizer = ChatTokenizer(resolve_model(EMBEDDED_MODEL).folder)
    chosen: list[Prompt] = []
    with Reader() as reader:
        for found in find_documents(SAMPLES, Selection()):
            if len(chosen) == count:
                return chosen
            text = read_text(reader, found)
            length = LENGTHS_CHARS[len(chosen) % len(LENGTHS_CHARS)]
            if len(text) < length:
                continue
            # Each begins differently, so that the engine has no common prefix to reuse.
            question = f"{found.name}\n\n{text[:length]}\n\n---\nRewrite all of this in detail."
            prompt = Prompt(question, tokenizer.render(conversation(question)))
            answer = theirs.ask(do="alone", prompts=[prompt.tokens], tokens=tokens)["answers"][0]
            if len(answer["tokens"]) == tokens:
                chosen.append(prompt)
    raise SystemExit(f"only {len(chosen)} samples have answers of tokens={tokens}; ask for fewer")


def conversation(question: str) -> tuple[Message, ...]:
    return (Message("system", f"{len(question)}: You work on texts."), Message("user", question))


def read_text(reader: Reader, found: Any) -> str:
    if not isinstance(found, FoundFile):
        return ""
    try:
        document = reader.read(found)
    except DocumentError:
        return ""
    return document.text.strip()


def compare(
    ours: "Worker", theirs: "Worker", prompts: list[Prompt], options: argparse.Namespace
) -> dict[str, Any]:
    asked = {
        "prompts": [prompt.tokens for prompt in prompts],
        "texts": [prompt.text for prompt in prompts],
        "tokens": options.tokens,
    }
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "mlx_lm": []}
    for round_ in range(options.rounds + 1):  # the first warms up
        turns = [ours, theirs] if round_ % 2 else [theirs, ours]
        for worker in turns:
            figures = worker.ask(do="batch", **asked)
            if round_:
                found[worker.name].append(figures)
    if {f["answer_tokens"] for figures in found.values() for f in figures} != {
        options.tokens * len(prompts)
    }:
        raise SystemExit("the two did not write the same number of tokens")
    report: dict[str, Any] = {}
    for name in FIGURES:
        pairs = [(a[name], b[name]) for a, b in zip(found["ours"], found["mlx_lm"], strict=True)]
        report[name] = {
            "ours": round(statistics.median(a for a, _ in pairs), 1),
            "mlx_lm": round(statistics.median(b for _, b in pairs), 1),
            "ratio": round(statistics.median(a / b for a, b in pairs), 3),
            "ratios": [round(a / b, 3) for a, b in pairs],
        }
    alone = theirs.ask(do="alone", **asked)["answers"]
    report["tokens_against_mlx_lm_alone"] = {
        "ours": agreement(ours.ask(do="check", **asked)["answers"], alone),
        "mlx_lm_batched": agreement(theirs.ask(do="check", **asked)["answers"], alone),
    }
    return report


def agreement(answers: list[list[str]], alone: list[dict[str, Any]]) -> dict[str, Any]:
    """How many rows are the same, and where the others part: mlx-lm's margin at that token."""
    divergences: list[dict[str, Any]] = []
    for row, (answer, plain) in enumerate(zip(answers, alone, strict=True)):
        if answer != plain["tokens"]:
            pairs = zip(answer, plain["tokens"], strict=False)
            place = next((i for i, (a, b) in enumerate(pairs) if a != b), len(answer))
            margin = plain["margins"][place]
            near = margin < NEAR_TIE
            divergences.append(
                {"row": row, "token": place, "margin": round(margin, 5), "near_tie": near}
            )
    return {"rows": len(answers), "identical": len(answers) - len(divergences)} | (
        {"divergences": divergences} if divergences else {}
    )


class Worker:
    """One of the two engines in a process of its own, with the BLAS loaded before it starts."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        environment = os.environ | engine_environment() | {"OPENBLAS_NUM_THREADS": str(threads)}
        root = Path(__file__).parents[1]
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(root), os.environ.get("PYTHONPATH", "")])
        )
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Gives it an order and waits for the answer."""
        to, answers = self._process.stdin, self._process.stdout
        line = ""
        if to and answers:
            to.write(json.dumps(order) + "\n")
            to.flush()
            line = answers.readline()
        if not line:
            raise SystemExit(f"the process of {self.name} has ended")
        return json.loads(line)


def serve(act: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    for line in sys.stdin:
        answers.write(json.dumps(act(json.loads(line))) + "\n")
        answers.flush()


def make_ours() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The engine's core. Loaded anew for each batch: no prompt is known from before."""
    import gc

    import mlx.core as mx

    from pipeline.engine.core import Core
    from pipeline.engine.interface import CoreOptions, Done, Event, Request

    info = resolve_model(EMBEDDED_MODEL)

    def run(order: dict[str, Any], top_logprobs: int) -> tuple[dict[str, Any], list[Event]]:
        core = Core(info, CoreOptions(max_rows=len(order["texts"]), speculate=False))
        core.submit(
            Request("warm", info.name, (Message("user", "Hi"),), max_tokens=2), lambda _: None
        )
        while core.step():
            pass
        events: list[Event] = []
        before = core.stats()
        start = time.perf_counter()
        for number, text in enumerate(order["texts"]):
            request = Request(
                f"r{number}",
                info.name,
                conversation(text),
                max_tokens=order["tokens"],
                top_logprobs=top_logprobs,
            )
            core.submit(request, events.append)
        full_s, full_cpu_s, full_tokens = 0.0, 0.0, 0
        last = core.stats()
        cpu_s = time.process_time()
        while core.step():
            now, cpu_before_s, cpu_s = core.stats(), cpu_s, time.process_time()
            if now.prefill_s == last.prefill_s and now.running == len(order["texts"]):
                full_cpu_s += cpu_s - cpu_before_s
                full_s += now.decode_s - last.decode_s
                full_tokens += now.running
            last = now
        wall_s = time.perf_counter() - start
        after = core.stats()
        answered = after.completion_tokens - before.completion_tokens
        read = after.prompt_tokens - before.prompt_tokens - after.cached_tokens
        figures = {
            "answer_tokens": answered,
            "decode_tokens_per_s": full_tokens / full_s,
            "decode_tokens_per_cpu_s": full_tokens / full_cpu_s,
            "prefill_tokens_per_s": read / (after.prefill_s - before.prefill_s),
            "total_tokens_per_s": answered / wall_s,
        }
        return figures, events

    def act(order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "batch":
            figures, _ = run(order, 0)
            gc.collect()
            mx.clear_cache()
            return figures
        done = {e.completion.id: e.completion for e in run(order, 1)[1] if isinstance(e, Done)}
        # At the end token, which is no part of the answer, there would be one more.
        found = [done[f"r{n}"].logprobs[: order["tokens"]] for n in range(len(order["texts"]))]
        return {"answers": [[item.token for item in row] for row in found]}

    return act


def make_mlx_lm() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """mlx-lm as it is."""
    from types import SimpleNamespace

    import mlx.core as mx
    from mlx_lm.generate import GenerationBatch, batch_generate, generate_step
    from mlx_lm.utils import load_model

    from pipeline.engine.targets.target import stop_tokens

    info = resolve_model(EMBEDDED_MODEL)
    model, _ = load_model(Path(info.folder))
    stop = sorted(stop_tokens(info.folder, ChatTokenizer(info.folder).stop_tokens))
    spelling = ChatTokenizer(info.folder)
    tokenizer: Any = SimpleNamespace(eos_token_ids=stop, decode=lambda _: "")

    decode_s = [0.0, 0.0]  # processor time, and time
    next_step = GenerationBatch.next

    def timed_step(batch: Any) -> Any:
        began = time.process_time(), time.perf_counter()
        try:
            return next_step(batch)
        finally:
            decode_s[0] += time.process_time() - began[0]
            decode_s[1] += time.perf_counter() - began[1]

    GenerationBatch.next = timed_step  # pyright: ignore[reportAttributeAccessIssue]

    def spell(answers: list[list[int]]) -> list[list[str]]:
        return [[spelling.token_text(token) for token in answer] for answer in answers]

    def batch(order: dict[str, Any]) -> dict[str, Any]:
        batch_generate(model, tokenizer, [[1, 2, 3]], max_tokens=2)
        decode_s[:] = 0.0, 0.0
        start = time.perf_counter()
        response = batch_generate(
            model,
            tokenizer,
            order["prompts"],
            max_tokens=order["tokens"],
            return_token_ids=True,
        )
        wall_s = time.perf_counter() - start
        stats, ids = response.stats, response.token_ids or []
        mx.clear_cache()
        return {
            "answers": spell(ids),
            "answer_tokens": sum(map(len, ids)),
            "decode_tokens_per_s": stats.generation_tokens / decode_s[1],
            "decode_tokens_per_cpu_s": stats.generation_tokens / decode_s[0],
            "prefill_tokens_per_s": stats.prompt_tps,
            "total_tokens_per_s": stats.generation_tokens / wall_s,
        }

    def alone(prompt: list[int], tokens: int) -> dict[str, Any]:
        found: list[int] = []
        margins: list[float] = []
        steps: Any = generate_step(mx.array(prompt), model, max_tokens=tokens)
        for token, logprobs in steps:
            if int(token) in stop:
                break
            best: Any = mx.sort(logprobs)[-2:].tolist()
            found.append(int(token))
            margins.append(best[1] - best[0])
        return {"tokens": spell([found])[0], "margins": margins}

    def act(order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "alone":
            return {"answers": [alone(prompt, order["tokens"]) for prompt in order["prompts"]]}
        return batch(order)

    return act


if __name__ == "__main__":
    main()
