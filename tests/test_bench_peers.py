"""What the engine's benchmark compares with: the authors' port, drafters written out, refusals."""

import argparse
import itertools
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from engine import Report, ratios, with_one_by_one
from engine_llama import decode
from engine_memory import Systems
from engine_peers import PACKAGES, count_rounds, make_peer, why_not
from engine_plain_drafter import write_plain_drafter
from engine_prompts import Prompt
from engine_systems import Answers, System
from mlx_lm.generate import generate_step
from mlx_lm.utils import load

from pipeline.engine.interface import Sampling
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.prompts import load_tasks
from tests.tiny import CORPUS, write_llama
from tests.tiny_drafter import drafter_config, drafter_tensors, write_drafter

TOKENS, END = 24, 2
OWN = {"target_layer_ids": [0, 1], "mask_token_id": 1}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("target"), seed=4, context_tokens=4096)


@pytest.fixture
def config() -> dict[str, Any]:
    return drafter_config(vocab_size=512, num_target_layers=2, dflash_config=OWN)


@pytest.fixture
def prompt() -> Prompt:
    return Prompt(load_tasks()[0], " ".join(CORPUS), None, Sampling())


def test_the_authors_port_writes_what_mlx_lm_does(
    target: Path, config: dict[str, Any], prompt: Prompt, tmp_path: Path
) -> None:
    drafter = write_drafter(tmp_path / "drafter", config)
    peer = make_peer("dflash", resolve_model(str(target)), str(drafter))
    answers = peer.answer([prompt, prompt], 1, TOKENS, nonce="n")
    model, tokenizer = load(str(target))[:2]
    chat = ChatTokenizer(str(target))
    written: list[list[int]] = []
    for i in range(2):
        asked = mx.array(chat.render(prompt.messages(f"n {i}")))
        steps: Any = generate_step(asked, model, max_tokens=TOKENS)
        tokens = [int(token) for token, _ in steps]
        written.append(tokens[: tokens.index(END) + 1] if END in tokens else tokens)
    assert answers.texts == [tokenizer.decode(tokens) for tokens in written]
    assert answers.tokens == [len(tokens) for tokens in written]
    assert max(answers.tokens) == TOKENS
    assert 2 <= answers.steps <= sum(answers.tokens)
    assert 0 < sum(answers.first_s) < answers.wall_s


def quantized(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """The drafter's linears in 8 bits, the norms as they are."""
    found: dict[str, mx.array] = {}
    for name, value in tensors.items():
        if value.ndim < 2:
            found[name] = value
            continue
        module = name.removesuffix(".weight")
        parts = mx.quantize(value, group_size=32, bits=8)
        for kind, part in zip((".weight", ".scales", ".biases"), parts, strict=True):
            found[module + kind] = part
    return found


def test_a_quantised_drafter_is_written_out(
    target: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    head = {"dflash_config": config["dflash_config"] | {"markov_rank": 32}}
    config, tensors = config | head, drafter_tensors(config)
    settings = {"quantization": {"group_size": 32, "bits": 8}}
    source = write_drafter(tmp_path / "q", config | settings, quantized(drafter_tensors(config)))
    (tmp_path / "plain").mkdir()
    write_plain_drafter(source, tmp_path / "plain", load(str(target))[0])
    written: Any = mx.load(str(tmp_path / "plain" / "model.safetensors"))
    assert written.keys() == tensors.keys()
    for name, value in tensors.items():
        assert written[name].dtype == mx.float32
        assert mx.abs(written[name] - value).max() < 0.02, name
    text = (tmp_path / "plain" / "config.json").read_text("utf-8")
    assert "quantization" not in text
    assert "markov" not in text


def test_rounds_are_counted_with_their_times() -> None:
    assert count_rounds([([5], 1.0), ([6, 7, 8], 1.5), ([9], 2.5)]) == (5, 1.0, 2.5)


class Silent:
    """A system that answers nothing."""

    def answer(self, *_: Any, **__: Any) -> Answers:
        raise RuntimeError("no kernel\nin /home/somebody/models/x or /t/target/config.json")


def refuse(_: str) -> System:
    raise NotImplementedError("model_type=llama")


def test_a_peer_that_cannot_run_is_told_in_its_own_words(prompt: Prompt) -> None:
    told = why_not("dflash", lambda _: Silent(), prompt, {"/t/target": "TARGET"})
    assert told == {
        "version": version("dflash"),
        "at": "answer",
        "error": "RuntimeError: no kernel in PATH or TARGET/config.json",
    }
    refused = why_not("dflash", refuse, prompt, {})
    assert (refused["at"], refused["error"]) == ("load", "NotImplementedError: model_type=llama")


def test_a_peer_that_is_not_installed_says_how(
    prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGES, "dflash", "docflash-has-no-such-peer")
    told = why_not("dflash", refuse, prompt, {})
    assert told == {"at": "install", "error": "it is not installed; install it with `make peers`"}


class Counting:
    """In llama.cpp's place: counts up from the prompt's last token."""

    resets = 0

    def reset(self) -> None:
        self.resets += 1

    def generate(self, prompt: list[int], **settings: float) -> Iterator[int]:
        assert settings == {"temp": 0.0, "repeat_penalty": 1.0}
        return itertools.count(prompt[-1] + 1)

    def detokenize(self, tokens: list[int]) -> bytes:
        return bytes(tokens)


@pytest.mark.parametrize(("stop", "most", "text"), [([100], 9, "abcd"), ([0], 3, "abc")])
def test_llama_cpp_decodes_to_its_end_or_so_far_as_it_may(
    stop: list[int], most: int, text: str
) -> None:
    model = Counting()
    found = decode(model, {"prompt": [5, 96], "stop": stop, "most": most})
    assert (found["text"], found["tokens"], model.resets) == (text, len(text), 1)
    assert 0 <= found["first_s"] <= found["last_s"]
    assert found["peak_mb"] > 1


def test_a_peer_without_a_drafter_is_refused(target: Path, prompt: Prompt) -> None:
    info = resolve_model(str(target))
    told = why_not("dflash", lambda name: make_peer(name, info, ""), prompt, {})
    assert "--drafter" in told["error"]


class Hoarder:
    """A system that takes memory to answer, and keeps some of it."""

    def __init__(self, kept_mb: int, most_mb: int) -> None:
        self._kept = mx.zeros((kept_mb, 1 << 20), dtype=mx.uint8)
        self._most_mb = most_mb
        mx.eval(self._kept)

    def answer(self, *_: Any, **__: Any) -> Answers:
        more = mx.zeros((self._most_mb, 1 << 20), dtype=mx.uint8)
        mx.eval(more)
        return Answers()


def test_memory_is_counted_for_each_system_alone(prompt: Prompt) -> None:
    sizes = {"small": (8, 16), "large": (64, 4), "refused": (0, 0)}

    def make(name: str) -> System:
        if name == "refused":
            raise OSError(name)
        return Hoarder(*sizes[name])

    systems = Systems(make)
    systems.get("large").answer([prompt], 1, 1, nonce="")
    with pytest.raises(OSError, match="refused"):
        systems.get("refused")
    small = systems.get("small").answer([prompt], 1, 1, nonce="")
    large = systems.get("large").answer([prompt], 1, 1, nonce="")
    assert small.peak_mb - 24 in {-1, 0, 1}
    assert large.peak_mb - 68 in {-1, 0, 1}
    assert systems.get("small") is systems.get("small")


def test_one_at_a_time_is_compared_with_any_number_of_rows() -> None:
    def cell(speed: float) -> dict[str, float]:
        return {"tokens_per_s": speed, "decode_tokens_per_s": speed}

    one = {"plain": cell(10), "drafter": cell(20), "dflash": cell(5)}
    cells = {"1": {"summary": one}, "8": {"summary": {"drafter": cell(80)}}}
    found = ratios(with_one_by_one(cells["8"], cells))
    assert found == {
        "drafter_over_dflash_tokens_per_s": 16,
        "drafter_over_dflash_decode_tokens_per_s": 16,
    }


def test_a_report_tells_who_ran_and_who_did_not(tmp_path: Path) -> None:
    out = tmp_path / "engine-x.json"
    options = argparse.Namespace(out=out, tokens=8, rounds=1, turns=4, fresh=False, device="x")
    refusal = {"at": "load", "error": "no"}
    report = Report(options)
    assert report.try_peer("dflash", {})
    assert not report.try_peer("llama_cpp", refusal)
    again = Report(options)
    assert not again.try_peer("dflash", {"at": "install", "error": "gone"})
    told = json.loads(out.read_text("utf-8"))
    assert told["peers_run"] == {"dflash": f"dflash {version('dflash')}"}
    assert told["peers_not_run"] == {"llama_cpp": refusal}
