"""A drive or a share that goes away takes no documents along; files that are deleted go as ever.

Another file system is entered through a symbolic link here, as mounting one takes rights.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.documents import Selection, Tally, find_documents
from pipeline.errors import InputError
from pipeline.forecast import forecast
from pipeline.queries import query
from pipeline.records import Failure
from pipeline.run_order import RunOrder
from pipeline.store import Store
from tests.home import OLD_S
from tests.scripted_run import ScriptedEngine, make_order, run_folder
from tests.tiny import write_llama

_MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not _MEMORY.is_dir(), reason="there is no second file system")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model"), context_tokens=4096)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system, with two documents."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as name:
        assert Path(name).stat().st_dev != tmp_path.stat().st_dev
        for letter in "ab":
            write(Path(name) / f"{letter}.txt", f"Letter {letter}.")
        yield Path(name)


@pytest.fixture
def order(tmp_path: Path, model: Path, drive: Path) -> RunOrder:
    """A folder with a document, in which the drive is mounted, and which was run over."""
    documents = tmp_path / "documents"
    documents.mkdir()
    write(documents / "own.txt", "A letter.")
    (documents / "usb").symlink_to(drive)
    order = make_order(documents, tmp_path / "out", model)
    order = replace(order, search=replace(order.search, selection=Selection(symlinks=True)))
    run_folder(order, ScriptedEngine())
    assert published(order) == ["own.txt", "usb/a.txt", "usb/b.txt"]
    return order


def write(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (OLD_S, OLD_S))


def unmount(order: RunOrder) -> Path:
    """An empty folder is left, as where a drive was mounted."""
    place = order.search.folder / "usb"
    place.unlink()
    place.mkdir()
    return place


def published(order: RunOrder) -> list[str]:
    """The files of the answers."""
    rows = query(order.search.out, "SELECT path FROM summaries ORDER BY path").to_pylist()
    return [os.path.relpath(row["path"], order.search.folder) for row in rows]


def failures(order: RunOrder) -> list[tuple[str, str]]:
    rows = query(order.search.out, "SELECT kind, path FROM failures").to_pylist()
    return [(row["kind"], os.path.relpath(row["path"], order.search.folder)) for row in rows]


def test_what_is_on_a_drive_that_is_away_stays_and_is_told(order: RunOrder) -> None:
    place = unmount(order)
    assert forecast(order).changes.deleted == 0
    for _ in range(2):  # it is not forgotten by the first run without it
        run_folder(order, ScriptedEngine())
        assert published(order) == ["own.txt", "usb/a.txt", "usb/b.txt"]
        assert failures(order) == [("not_mounted", "usb")]
    (order.search.folder / "own.txt").unlink()
    write(place / "stray.txt", "A letter that was put there meanwhile.")
    for _ in range(2):  # the second run knows the stray letter
        run_folder(order, ScriptedEngine())
        assert published(order) == ["usb/a.txt", "usb/b.txt", "usb/stray.txt"]
        assert failures(order) == [("not_mounted", "usb")]
        assert forecast(order).changes.deleted == 0
    shutil.rmtree(place)
    write(order.search.folder / "own.txt", "A letter.")
    run_folder(order, ScriptedEngine())
    assert published(order) == ["own.txt", "usb/a.txt", "usb/b.txt", "usb/stray.txt"]


def test_a_drive_that_is_back_is_as_any_folder(order: RunOrder, drive: Path) -> None:
    place = unmount(order)
    run_folder(order, ScriptedEngine())
    place.rmdir()
    place.symlink_to(drive)
    (drive / "a.txt").unlink()
    run_folder(order, ScriptedEngine())
    assert (published(order), failures(order)) == (["own.txt", "usb/b.txt"], [])
    (drive / "b.txt").unlink()  # it is there, and empty
    run_folder(order, ScriptedEngine())
    assert (published(order), failures(order)) == (["own.txt"], [])


def test_what_was_copied_from_a_drive_is_as_any_folder(order: RunOrder, drive: Path) -> None:
    place = unmount(order)
    run_folder(order, ScriptedEngine())
    shutil.copy2(drive / "a.txt", place)
    assert forecast(order).changes.deleted == 1
    run_folder(order, ScriptedEngine())
    assert (published(order), failures(order)) == (["own.txt", "usb/a.txt"], [])
    (place / "a.txt").unlink()
    run_folder(order, ScriptedEngine())
    assert (published(order), failures(order)) == (["own.txt"], [])


def test_a_drive_that_is_gone_for_good_can_be_purged(order: RunOrder) -> None:
    place = unmount(order)
    with Store.open(order.search.out) as store:
        store.removal.forget(store.removal.find(str(place)))
    run_folder(order, ScriptedEngine())
    assert (published(order), failures(order)) == (["own.txt"], [])


def test_the_folder_itself_can_be_a_drive(tmp_path: Path, model: Path, drive: Path) -> None:
    root = tmp_path / "root"
    root.symlink_to(drive)
    order = make_order(root, tmp_path / "out", model)
    run_folder(order, ScriptedEngine())
    root.unlink()
    with pytest.raises(InputError, match="does not exist"):
        run_folder(order, ScriptedEngine())
    root.mkdir()
    with pytest.raises(InputError, match=r"it is empty.*Nothing was changed"):
        run_folder(order, ScriptedEngine())
    write(root / "stray.txt", "A letter that was put there meanwhile.")
    run_folder(order, ScriptedEngine())
    assert published(order) == ["a.txt", "b.txt", "stray.txt"]
    assert failures(order) == [("not_mounted", ".")]


@pytest.mark.parametrize("place", ["usb", "."])
def test_a_drive_that_goes_away_during_a_search_is_noticed(
    tmp_path: Path, drive: Path, place: str
) -> None:
    root = tmp_path / "root"
    link = root / "usb" if place == "usb" else root
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(drive)
    tally = Tally()
    found = find_documents(root, Selection(symlinks=True), tally)
    assert isinstance(next(found), object)
    link.unlink()
    link.mkdir()
    rest = [one for one in found if isinstance(one, Failure)]
    assert [(one.kind, one.name) for one in rest] == [("not_mounted", place)]
    assert tally.mounts == [place]
