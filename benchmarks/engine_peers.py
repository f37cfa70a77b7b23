"""Other engines beside mlx-lm: three ports of DFlash, and llama.cpp.

In: the benchmark's model and drafter. Out: systems as `engine_systems` has them, or why there is
none: each is tried, and its own words are kept. All decode greedily and one request at a time: none
of the ports drafts with DFlash for several rows. They read the target from the same folder; what
the drafter weighs is the same, but written out, since none of them reads a quantised one.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine_llama import LlamaCpp
from engine_plain_drafter import write_plain_drafter
from engine_prompts import Prompt
from engine_systems import Answers, System
from mlx_lm.utils import load

from pipeline.engine.interface import ModelInfo
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.targets.target import stop_tokens

PACKAGES = {  # by the name of the system
    "dflash": "dflash",
    "dflash_mlx": "dflash-mlx",
    "mlx_dspark": "mlx-dspark",
    "llama_cpp": "llama-cpp-python",
}
INSTALL = "install it with `make peers`"
TRIED_TOKENS = 4
LONGEST_REASON = 300
Round = tuple[list[int], float]
"""What one forward of the target gave, and when."""


def make_peer(name: str, info: ModelInfo, drafter: str) -> System:
    """Loads one of `PACKAGES`.

    Raises:
        Exception: Whatever the peer raises that can't load them.
    """
    if name == "llama_cpp":
        return LlamaCpp(info)
    if not drafter:
        raise ValueError("drafter='': it does nothing without one; give --drafter FOLDER")
    kinds: dict[str, type[Port]] = {
        "dflash": Dflash,
        "dflash_mlx": DflashMlx,
        "mlx_dspark": MlxDspark,
    }
    with tempfile.TemporaryDirectory(prefix="plain-drafter-") as folder:
        model, tokenizer = load(info.folder)[:2]
        write_plain_drafter(Path(drafter), Path(folder), model)
        return kinds[name](info, folder, model, tokenizer)


class Port:
    """A port of DFlash: how it is asked, and when each of its rounds came.

    Args:
        info: The target.
        drafter: Folder of a drafter that is not quantised.
        model: The target as mlx-lm loads it.
        tokenizer: Likewise.
    """

    def __init__(self, info: ModelInfo, drafter: str, model: Any, tokenizer: Any) -> None:
        self._chat = ChatTokenizer(info.folder)
        self._folder, self._model, self._tokenizer = info.folder, model, tokenizer
        self._stop = sorted(stop_tokens(info.folder, self._chat.stop_tokens))
        self._load(drafter)

    def answer(
        self, prompts: Sequence[Prompt], rows: int, tokens: int, *, nonce: str, exact: bool = False
    ) -> Answers:
        """See `System`; one request after the other."""
        del rows, exact
        asked = [self._chat.render(p.messages(f"{nonce} {i}")) for i, p in enumerate(prompts)]
        answers, began = Answers(), time.perf_counter()
        for prompt in asked:
            start, rounds = time.perf_counter(), list(self._rounds(prompt, tokens))
            count, first_s, last_s = count_rounds(rounds)
            answers.texts.append(self._tokenizer.decode([t for given, _ in rounds for t in given]))
            answers.tokens.append(count)
            answers.first_s.append(first_s - start)
            # The time of the first token is the prompt's, so the others' stands for all.
            answers.decode_s += (last_s - first_s) * count / max(1, count - 1)
            answers.steps += len(rounds)
        answers.wall_s = time.perf_counter() - began
        answers.row_steps, answers.from_row_s = answers.steps, answers.first_s
        return answers

    def _load(self, drafter: str) -> None:
        """Loads what the port adds to the target."""
        raise NotImplementedError

    def _rounds(self, prompt: list[int], tokens: int) -> Iterator[Round]:
        """Decodes greedily; the first round has the one token that follows the prompt."""
        raise NotImplementedError


def count_rounds(rounds: Sequence[Round]) -> tuple[int, float, float]:
    """Tokens in all rounds, when the first came, and when the last."""
    return sum(len(given) for given, _ in rounds), rounds[0][1], rounds[-1][1]


class Dflash(Port):
    """`dflash`, the authors' own."""

    def _load(self, drafter: str) -> None:
        self._port: Any = import_module("dflash.model_mlx")
        # It asks the hub for every drafter, and takes no folder's path.
        self._port.snapshot_download = lambda folder, **_: folder
        self._drafter: Any = self._port.load_draft(drafter)

    def _rounds(self, prompt: list[int], tokens: int) -> Iterator[Round]:
        for response in self._port.stream_generate(
            self._model, self._drafter, self._tokenizer, prompt, max_tokens=tokens
        ):
            if response.tokens:  # the last response only tells the end
                yield response.tokens, time.perf_counter()


class DflashMlx(Port):
    """`dflash-mlx`, with the settings of its command."""

    def _load(self, drafter: str) -> None:
        loading: Any = import_module("dflash_mlx.runtime.bundle")
        context: Any = import_module("dflash_mlx.runtime.context")
        self._runtime: Any = import_module("dflash_mlx.runtime")
        self._context: Any = context.build_offline_runtime_context()
        self._bundle: Any = loading.load_runtime_bundle(
            model_ref=self._folder, draft_ref=drafter, draft_quant="none", lazy=False
        )

    def _rounds(self, prompt: list[int], tokens: int) -> Iterator[Round]:
        bundle, cycle, given = self._bundle, 0, list[int]()
        for event in self._runtime.stream_dflash_generate(
            target_model=bundle.target_model,
            target_ops=bundle.target_ops,
            tokenizer=bundle.tokenizer,
            draft_model=bundle.draft_model,
            draft_backend=bundle.draft_backend,
            prompt_tokens_override=prompt,
            max_new_tokens=tokens,
            stop_token_ids=self._stop,
            runtime_context=self._context,
        ):
            if not hasattr(event, "token_id"):
                continue
            if given and event.cycles_completed != cycle:
                yield given, time.perf_counter()
                given = []
            cycle = event.cycles_completed
            given.append(event.token_id)
        if given:
            yield given, time.perf_counter()


class MlxDspark(Port):
    """`mlx-dspark` with a DFlash drafter: whole blocks, and copies of the prompt in their place."""

    def _load(self, drafter: str) -> None:
        self._port: Any = import_module("mlx_dspark")
        self._target: Any = self._port.Target(self._model, self._tokenizer)
        self._target.verify_tap()
        self._drafter: Any = self._port.load_dflash(drafter, quantize=False)[0]

    def _rounds(self, prompt: list[int], tokens: int) -> Iterator[Round]:
        times: list[float] = []
        began = time.perf_counter()
        result = self._port.dflash_generate(
            self._target,
            self._tokenizer,
            self._drafter,
            prompt_ids=prompt,
            max_new_tokens=tokens,
            lookup_drafts=True,
            on_round=lambda **_: times.append(time.perf_counter()),
        )
        yield result.token_ids[:1], began + result.prefill_seconds
        place = 1
        for length, when in zip(result.accept_lengths, times, strict=True):
            yield result.token_ids[place : place + length], when
            place += length


def why_not(
    name: str, load_it: Callable[[str], System], prompt: Prompt, words: dict[str, str]
) -> dict[str, str]:
    """Tries a peer on one prompt.

    Args:
        name: One of `PACKAGES`.
        load_it: Loads it.
        prompt: What to ask.
        words: What stands in a message in the place of a folder of this machine.

    Returns:
        Nothing if it answers; else its version, where it stopped and what it said.
    """
    try:
        installed = version(PACKAGES[name])
    except PackageNotFoundError:
        return {"at": "install", "error": f"it is not installed; {INSTALL}"}
    at = "load"
    try:
        system = load_it(name)
        at = "answer"
        system.answer([prompt], 1, TRIED_TOKENS, nonce="try")
    except Exception as error:  # noqa: BLE001 (what another's code may raise is not known)
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        for folder, word in words.items():
            said = said.replace(folder, word)
        said = re.sub(r"(/[\w.@-]+){2,}", "PATH", said)
        return {"version": installed, "at": at, "error": said[:LONGEST_REASON]}
    return {}
