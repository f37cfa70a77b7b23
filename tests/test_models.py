"""Model folders: what is missing or damaged is told; the fingerprint follows the content."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.loading import models
from pipeline.engine.loading.models import model_stamp, resolve_model
from pipeline.errors import InputError


def safetensors(values: bytes) -> bytes:
    header = {"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model é"
    folder.mkdir()
    write(folder / "config.json", {"model_type": "llama", "max_position_embeddings": 4096})
    write(folder / "tokenizer.json", {"model": {}})
    (folder / "model.safetensors").write_bytes(safetensors(b"weights"))
    return folder


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_whole_folder_is_resolved(folder: Path) -> None:
    info = resolve_model(str(folder))
    assert info.name == info.folder == str(folder)
    assert info.context_tokens == 4096
    assert info.tokenizer_json == str(folder / "tokenizer.json")
    assert len(info.fingerprint) == 64


@pytest.mark.parametrize("name", ["", "/no/such/folder", "no\0name", "x" * 5000])
def test_an_unknown_folder_is_told(name: str) -> None:
    with pytest.raises(InputError, match="there is no model folder"):
        resolve_model(name)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", b"{", "config.json' can't be read"),
        ("config.json", b"[]", "not a JSON object"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("model.safetensors", None, "has no weights"),
        ("model.safetensors", b"", "is damaged"),
        ("model.safetensors", safetensors(b"weights")[:-1], "its header says"),
        ("model.safetensors", b"\xff" * 100, "is damaged"),
        ("model.safetensors", b"\x02" + bytes(7) + b"[]", "is damaged"),
    ],
)
def test_what_is_missing_or_damaged_is_told(
    folder: Path, file: str, content: bytes | None, told: str
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=told):
        resolve_model(str(folder))


def test_a_missing_shard_is_told(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
        }
    }
    write(folder / "model.safetensors.index.json", index)
    with pytest.raises(InputError, match="lacks 1 of its weight files, first 'model-00002"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"text_config": {"max_position_embeddings": 777}}, 777),
        ({"n_positions": 1024}, 1024),
        ({}, models.FALLBACK_CONTEXT_TOKENS),
        ({"max_position_embeddings": None}, models.FALLBACK_CONTEXT_TOKENS),
    ],
)
def test_the_context_is_found(folder: Path, config: dict[str, Any], tokens: int) -> None:
    write(folder / "config.json", config)
    assert resolve_model(str(folder)).context_tokens == tokens


def test_the_fingerprint_is_of_the_content_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert resolve_model(str(copy)).fingerprint == resolve_model(str(folder)).fingerprint


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", safetensors(b"Weights")),
        ("config.json", b'{"rope_theta": 2}'),
        ("tokenizer.json", b'{"model": {"a": 1}}'),
        ("chat_template.jinja", b"another"),
        ("tokenizer_config.json", b"{}"),
    ],
)
def test_every_part_of_a_model_is_in_its_fingerprint(
    folder: Path, file: str, content: bytes
) -> None:
    before = resolve_model(str(folder)).fingerprint
    stamp = model_stamp(str(folder))
    (folder / file).write_bytes(content)
    os.utime(folder / file, ns=(1, 1))
    assert resolve_model(str(folder)).fingerprint != before
    assert model_stamp(str(folder)) != stamp


def test_weights_are_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve_model(str(folder)).fingerprint
    monkeypatch.setattr(models, "hash_file", None)
    assert resolve_model(str(folder)).fingerprint == first


def test_many_threads_may_resolve_at_once(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: resolve_model(str(folder)).fingerprint, range(64))
    assert len(set(found)) == 1


def test_a_torn_entry_of_the_hash_cache_is_no_hash(folder: Path, cache: Path) -> None:
    first = resolve_model(str(folder)).fingerprint
    for kept in (cache / "hashes").iterdir():
        kept.write_text("", encoding="ascii")
    assert resolve_model(str(folder)).fingerprint == first


def test_an_unknown_model_has_no_stamp() -> None:
    assert model_stamp("/no/such/folder") == model_stamp("a\0b") == ""
