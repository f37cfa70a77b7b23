"""llama.cpp beside the engine: the same GGUF file, the same threads, one request at a time.

In: the embedded model. Out: a system as `engine_systems` has them. llama.cpp runs in a process of
its own, without the BLAS and the settings that are loaded for MLX; its memory is that process's.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine_prompts import Prompt
    from engine_systems import Answers

    from pipeline.engine.interface import ModelInfo

FOR_MLX = ("LD_PRELOAD", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS")


class LlamaCpp:
    """llama.cpp by `llama-cpp-python`, one request after the other.

    Args:
        info: The embedded model.

    Raises:
        ValueError: It is another model, whose GGUF file is not at hand, or MLX has a GPU, so that
            the two would not compute on the same machine.
        EOFError: The process ended; its last words.
    """

    def __init__(self, info: "ModelInfo") -> None:
        from pipeline.engine.loading.embedded import find_gguf
        from pipeline.engine.loading.tokenizer import ChatTokenizer
        from pipeline.engine.machine.blas import MALLOC, usable_cores, uses_cpu
        from pipeline.engine.targets.target import stop_tokens
        from pipeline.settings import EMBEDDED_MODEL

        if info.name != EMBEDDED_MODEL:
            raise ValueError(f"model={info.name!r}: a GGUF file is there for 'embedded' only")
        if not uses_cpu():
            raise ValueError("device='gpu': its wheel is built for CPUs, where it is compared")
        self._chat = ChatTokenizer(info.folder)
        self._stop = sorted(stop_tokens(info.folder, self._chat.stop_tokens))
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in os.environ.keys() - {*FOR_MLX, *MALLOC}},
            text=True,
        )
        threads = int(os.environ.get("OPENBLAS_NUM_THREADS", usable_cores()))  # as many as MLX has
        self._ask(file=str(find_gguf()), threads=threads, context=info.context_tokens)

    def answer(
        self,
        prompts: Sequence["Prompt"],
        rows: int,
        tokens: int,
        *,
        nonce: str,
        exact: bool = False,
    ) -> "Answers":
        """See `System`."""
        from engine_systems import Answers

        del rows, exact
        answers, began = Answers(), time.perf_counter()
        for i, prompt in enumerate(prompts):
            asked = self._chat.render(prompt.messages(f"{nonce} {i}"))
            given = self._ask(prompt=asked, most=tokens, stop=self._stop)
            count = given["tokens"]
            answers.texts.append(given["text"])
            answers.tokens.append(count)
            answers.first_s.append(given["first_s"])
            answers.decode_s += (given["last_s"] - given["first_s"]) * count / max(1, count - 1)
            answers.peak_mb = given["peak_mb"]
        answers.from_row_s = answers.first_s
        answers.wall_s = time.perf_counter() - began
        answers.steps = answers.row_steps = sum(answers.tokens)
        return answers

    def _ask(self, **order: Any) -> dict[str, Any]:
        """Gives the process an order and waits for what it did."""
        to, answers = self._process.stdin, self._process.stdout
        if to is None or answers is None:
            raise EOFError("the process of llama.cpp has no pipes")
        to.write(json.dumps(order) + "\n")
        to.flush()
        found: dict[str, Any] = json.loads(answers.readline() or '{"error": "it ended"}')
        if "error" in found:
            raise EOFError(f"the process of llama.cpp: {found['error']}")
        return found


def serve() -> None:
    """Loads the model by the first line of the input, and answers the others."""
    answers, sys.stdout = sys.stdout, sys.stderr  # the library prints
    model: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if "file" in order:
                model, found = load(order), {}
            else:
                found = decode(model, order)
        except Exception as error:  # noqa: BLE001 (what another's code may raise is not known)
            found = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def load(order: dict[str, Any]) -> Any:
    return import_module("llama_cpp").Llama(
        order["file"],
        n_ctx=order["context"],
        n_threads=order["threads"],
        n_threads_batch=order["threads"],
        verbose=False,
    )


def decode(model: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Greedy decoding; nothing of an earlier prompt is reused, as in mlx-lm's `generate`."""
    model.reset()
    began, times, given = time.perf_counter(), list[float](), list[int]()
    for token in model.generate(order["prompt"], temp=0.0, repeat_penalty=1.0):
        times.append(time.perf_counter() - began)
        given.append(int(token))
        if token in order["stop"] or len(given) == order["most"]:
            break
    return {
        "tokens": len(given),
        "text": model.detokenize(given).decode("utf-8", "replace"),
        "first_s": times[0],
        "last_s": times[-1],
        "peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Most memory of this process since it began; `getrusage` has its parent's in it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) >> 10


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    serve()
