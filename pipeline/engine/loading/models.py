"""Model folders as every process sees them: found, checked and fingerprinted, without MLX.

In: a model's name ("embedded" or a path). Out: a `ModelInfo`. The weights are hashed once; the
hash is kept in the cache folder until the file's size or time changes.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.engine.interface import ModelInfo
from pipeline.engine.loading.embedded import (
    CONVERTER_VERSION,
    ensure_embedded,
    hash_file,
    no_progress,
)
from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL, cache_folder, private_folder

FINGERPRINTED = (
    "config.json",
    "generation_config.json",
    "hf_quant_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)
WEIGHTS_PATTERN = "model*.safetensors"  # the files that mlx-lm loads
WEIGHTS_INDEX = "model.safetensors.index.json"
HASH_CHARS = 64
FALLBACK_CONTEXT_TOKENS = 2048
HEADER_LIMIT_BYTES = 100 << 20
ADVICE = "give a folder as mlx-lm makes it (mlx_lm.convert), complete on this disk"


def resolve_model(name: str, progress: Callable[[str, float], None] = no_progress) -> ModelInfo:
    """Finds a model and checks that its folder is whole.

    Args:
        name: "embedded" (converted at its first use) or the path of an mlx-lm model folder.
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        InputError: The folder or one of its files is missing or damaged, or the embedded model
            is not installed.
    """
    folder = ensure_embedded(progress) if name == EMBEDDED_MODEL else _existing_folder(name)
    config = _read_json(folder / "config.json")
    _read_json(folder / "tokenizer.json")
    weights = _weight_files(folder)
    for file in weights:
        _check_safetensors(file)
    return ModelInfo(
        name=name if name == EMBEDDED_MODEL else str(folder),
        folder=str(folder),
        fingerprint=_fingerprint(folder, weights, progress),
        context_tokens=_context_tokens(config),
        tokenizer_json=str(folder / "tokenizer.json"),
        parameters=_parameters(config),
    )


def model_stamp(name: str) -> str:
    """Changes whenever a file of the model's folder does; cheap, for each request.

    Args:
        name: As for `resolve_model`; an unknown folder gives an empty stamp.
    """
    if name == EMBEDDED_MODEL:
        return f"{CONVERTER_VERSION}"
    parts: list[str] = []
    try:
        with os.scandir(name) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name in FINGERPRINTED or entry.name.endswith(".safetensors"):
                    status = entry.stat()
                    parts.append(f"{entry.name} {status.st_size} {status.st_mtime_ns}")
    except (OSError, ValueError):
        return ""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _existing_folder(name: str) -> Path:
    try:
        folder = Path(name).expanduser().resolve()
        found = bool(name) and folder.is_dir()
    except (OSError, RuntimeError, ValueError):
        found = False
    else:
        if found:
            return folder
    raise InputError(f"there is no model folder model={name!r}; {ADVICE}, or use 'embedded'")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"the model folder={str(path.parent)!r} has no {path.name}; {ADVICE}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"the model's file={str(path)!r} can't be read ({_reason(error)}); {ADVICE}"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"the model's file={str(path)!r} is not a JSON object; {ADVICE}")
    return value  # pyright: ignore[reportReturnType]


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob(WEIGHTS_PATTERN))
    if not files:
        raise InputError(
            f"the model folder={str(folder)!r} has no weights ({WEIGHTS_PATTERN}); {ADVICE}"
        )
    if (folder / WEIGHTS_INDEX).is_file():
        weight_map: dict[str, str] = _read_json(folder / WEIGHTS_INDEX).get("weight_map", {})
        missing = sorted(set(weight_map.values()) - {file.name for file in files})
        if missing:
            raise InputError(
                f"the model folder={str(folder)!r} lacks {len(missing)} of its weight files, "
                f"first {missing[0]!r}; copy or download them again"
            )
    return files


def _check_safetensors(file: Path) -> None:
    """Raises InputError if the file is not as long as its own header says."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(header_bytes, HEADER_LIMIT_BYTES)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        fault = _size_fault(size, 8 + header_bytes + max(ends, default=0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        fault = error.strerror if isinstance(error, OSError) else "its header can't be read"
    if fault:
        raise InputError(
            f"the weights file={str(file)!r} is damaged ({fault}); copy or download it again"
        )


def _size_fault(size: int, expected: int) -> str:
    return "" if size == expected else f"it has {size} bytes where its header says {expected}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _context_tokens(config: dict[str, Any]) -> int:
    """The longest prompt + answer; multimodal configs keep the language model's part apart."""
    for part in (config, config.get("text_config"), config.get("llm_config")):
        if isinstance(part, dict):
            for key in (
                "max_position_embeddings",
                "n_positions",
                "max_seq_len",
                "model_max_length",
            ):
                value: Any = part.get(key)
                if isinstance(value, int) and value > 0:
                    return value
    return FALLBACK_CONTEXT_TOKENS


def _parameters(config: dict[str, Any]) -> int:
    """The weights of a decoder of this shape: embeddings, attention and gated layers."""
    part: Any = config.get("text_config") or config
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
    sizes = [part.get(name) for name in names]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return 0
    vocabulary, hidden, layers, inner = sizes
    return vocabulary * hidden + layers * hidden * (4 * hidden + 3 * inner)


def _fingerprint(folder: Path, weights: list[Path], progress: Callable[[str, float], None]) -> str:
    total = hashlib.sha256()
    small = [folder / name for name in FINGERPRINTED if (folder / name).is_file()]
    for number, file in enumerate((*small, *weights)):
        label = f"hashing {file.name}" if file in weights else ""
        part = _file_hash(file, lambda done, label=label: progress(label, done) if label else None)
        total.update(f"{file.name if number < len(small) else 'weights'}\0{part}\n".encode())
    return total.hexdigest()


def _file_hash(file: Path, progress: Callable[[float], None]) -> str:
    """SHA-256 of a file, looked up by (path, size, time) before it is computed."""
    try:
        status = file.stat()
        key = f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        kept = private_folder(cache_folder() / "hashes") / hashlib.sha256(key.encode()).hexdigest()
        if kept.is_file() and len(text := kept.read_text(encoding="ascii")) == HASH_CHARS:
            return text
        digest = hash_file(file, progress)
    except OSError as error:
        raise InputError(
            f"the model's file={str(file)!r} can't be read ({_reason(error)}); {ADVICE}"
        ) from error
    with contextlib.suppress(OSError):  # on a full disk the next call hashes again
        fresh = kept.with_name(f"{kept.name}.{os.getpid()}-{threading.get_ident()}")
        fresh.write_text(digest, encoding="ascii")
        fresh.replace(kept)
    return digest
