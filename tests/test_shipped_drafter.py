"""The drafter that is shipped for the embedded model: it is used, fits, is small, and is told."""

import json
from pathlib import Path

import pytest

from pipeline.engine.drafters.drafter_config import read_config
from pipeline.engine.interface import CoreOptions
from pipeline.engine.loader import MlxLoader
from pipeline.engine.loading.shipped import (
    NO_DRAFTER,
    SHIPPED_DRAFTER,
    THE_SHIPPED,
    absolute_drafter,
    drafter_of,
)
from pipeline.settings import EMBEDDED_MODEL
from tests.tiny import write_llama

MOST_BYTES = 20_000_000


def test_a_model_gets_what_was_asked_for_or_what_is_shipped_for_it() -> None:
    assert drafter_of(EMBEDDED_MODEL, "") == str(SHIPPED_DRAFTER)
    assert drafter_of(EMBEDDED_MODEL, THE_SHIPPED) == str(SHIPPED_DRAFTER)
    assert drafter_of("/models/other", "") == ""
    assert drafter_of(EMBEDDED_MODEL, NO_DRAFTER) == ""
    assert drafter_of(EMBEDDED_MODEL, "/models/drafter") == "/models/drafter"
    assert drafter_of("/models/other", "/models/drafter") == "/models/drafter"


def test_a_drafter_is_named_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_drafter("mine") == str(tmp_path / "mine")
    assert absolute_drafter("") == ""
    assert absolute_drafter(NO_DRAFTER) == NO_DRAFTER
    assert absolute_drafter(THE_SHIPPED) == THE_SHIPPED


def test_what_is_shipped_is_small_and_has_a_model_card() -> None:
    files = {file.name: file.stat().st_size for file in SHIPPED_DRAFTER.iterdir()}
    assert set(files) == {"config.json", "drafter.safetensors", "README.md"}
    assert sum(files.values()) < MOST_BYTES
    card = (SHIPPED_DRAFTER / "README.md").read_text("utf-8")
    for words in ("## Data", "Licences of the documents", "| seed |", "## Figures", "## Limits"):
        assert words in card


@pytest.mark.model
def test_the_embedded_model_drafts_with_it_and_other_models_without(
    tmp_path: Path,
) -> None:
    shape = json.loads((SHIPPED_DRAFTER / "config.json").read_text("utf-8"))
    assert read_config(SHIPPED_DRAFTER).block_size == shape["block_size"]
    tiny = str(write_llama(tmp_path / "m"))
    for model, drafter, expected in ((EMBEDDED_MODEL, THE_SHIPPED, True), (tiny, "", False)):
        options = CoreOptions(max_rows=2, kv_bytes=1 << 28, drafter=drafter)
        core = MlxLoader(options).load(model, lambda _doing, _done: None)
        assert (core._drafts._drafter is not None) == expected  # type: ignore[attr-defined]
