"""Bad input: wrong orders are told at once, odd documents are rows, and the next run goes on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.home import QUICK, Home

pytestmark = pytest.mark.flow

# Takes from root what lets it read everything, so that permissions mean to it what they mean to
# everybody.
AS_ANYBODY = """
import ctypes, os
if os.geteuid() == 0:
    libc = ctypes.CDLL(None)
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
"""


def _remove(home: Home) -> None:
    home.documents.rmdir()


def _replace_by_file(home: Home) -> None:
    home.documents.rmdir()
    home.documents.write_text("a letter", encoding="utf-8")


def _leave_empty(_: Home) -> None:
    pass


def _hold_others_only(home: Home) -> None:
    (home.documents / "picture.png").touch()
    (home.documents / ".hidden.txt").touch()


def _lock(home: Home) -> None:
    home.documents.chmod(0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove, "the folder does not exist: folder="),
        (_replace_by_file, "the folder is not a folder: folder="),
        (_leave_empty, "there is no document in the folder="),
        (_hold_others_only, "files that docflash can't read: 1 .png; hidden (see --hidden): 1"),
        (_lock, "the folder may not be listed by this user: folder="),
    ],
)
def test_a_folder_without_documents_is_told(
    home: Home, spoil: Callable[[Home], None], message: str
) -> None:
    spoil(home)
    done = home.run(before=AS_ANYBODY)
    assert (done.code, done.error["kind"]) == (2, "InputError")
    assert message in done.error["message"]
    assert not home.out.exists()
    told = home.docflash("run", home.documents, before=AS_ANYBODY).err.splitlines()
    assert told[-1].startswith("docflash: the")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "sumary"], "there is no task named task='sumary'; did you mean 'summary'?"),
        (["--task", "quick"], "there is no task named task='quick'"),
        (["--prompts", "nowhere"], "the folder of tasks folder='{folder}/nowhere' can't be read"),
        (["--prompts", "broken"], "{folder}/broken/mine.toml:3: "),
        (["--model", "nowhere"], "there is no model folder model='nowhere'"),
        (["--model", "documents"], "the model folder='{folder}/documents' has no config.json"),
        (["--until", "25:00"], "until='25:00' is not a time of day"),
        (["--include", ""], "the glob"),
    ],
)
def test_a_wrong_order_is_told(home: Home, options: list[str], message: str) -> None:
    home.write(a="A letter.")
    broken = home.folder / "broken"
    broken.mkdir()
    (broken / "mine.toml").write_text('title = "Mine"\n\n[fields\n', encoding="utf-8")
    done = home.run(*options)
    assert (done.code, done.error["kind"]) == (2, "InputError")
    assert message.format(folder=home.folder) in done.error["message"]
    assert not home.out.exists()


def test_a_library_that_cant_be_written_is_told(home: Home) -> None:
    home.write(a="A letter.")
    home.out.mkdir()
    home.out.chmod(0o500)
    locked = home.run("--out", home.out / "sub", before=AS_ANYBODY)
    assert (locked.code, locked.error["kind"]) == (2, "InputError")
    assert f"the folder path='{home.out}/sub' can't be made or used" in locked.error["message"]
    file = home.run("--out", home.documents / "a.txt")
    assert (file.code, file.error["kind"]) == (2, "InputError")


ODD_NAMES = (
    b"new\nline.txt",
    "emoji \U0001f984.txt".encode(),
    b"latin\xe9.txt",
    b"-o.txt",
    b"'\";.txt",
)

SHOWN_NAMES = (
    *("new\\x0aline.txt", "emoji \U0001f984.txt", "latin\\xe9.txt"),
    *("-o.txt", "'\";.txt"),
)


def test_odd_documents_are_recorded_and_the_others_answered(home: Home) -> None:
    home.write(good="A letter of the board.", empty="", locked="Not for you.")
    (home.documents / "locked.txt").chmod(0)
    (home.documents / "broken.pdf").write_bytes(b"%PDF-1.7\nand no more")
    with (home.documents / "huge.txt").open("wb") as huge:
        huge.truncate(300 << 20)
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(os.fsencode(home.documents), name)  # noqa: PTH118 (bytes)
        Path(os.fsdecode(path)).write_text(f"Letter number {number}.", encoding="utf-8")
    asked = ("--prompts", home.prompts, "--task", "quick")

    done = home.run(*asked, before=AS_ANYBODY)
    assert done.code == 1
    expected = {
        "empty.txt": "empty",
        "locked.txt": "no_permission",
        "broken.pdf": "damaged",
        "huge.txt": "too_large",
    }
    assert home.failures() == expected
    assert {failure["name"]: failure["kind"] for failure in done.json["failures"]} == expected
    assert done.json["run"]["jobs_done"] == 1 + len(ODD_NAMES)
    paths = {row["path"] for row in home.rows("SELECT path FROM quick")}
    assert paths == {f"{home.documents}/{name}" for name in ("good.txt", *SHOWN_NAMES)}

    again = home.run(*asked, before=AS_ANYBODY)
    assert (again.code, again.json["run"]["model_calls"]) == (1, 0)
    assert home.failures() == expected

    (home.documents / "locked.txt").chmod(0o600)
    for name in ("empty.txt", "broken.pdf", "huge.txt"):
        (home.documents / name).unlink()
    mended = home.run(*asked, before=AS_ANYBODY)
    assert (mended.code, mended.json["run"]["jobs_done"]) == (0, 1)
    assert home.failures() == {}


def test_a_document_over_a_tasks_limit_is_recorded_and_done_once_the_limit_is_raised(
    home: Home,
) -> None:
    home.write(long="Many words of a letter. " * 50, short="A letter.")
    home.write_task("quick", f"{QUICK}\n[limits]\nmax_document_tokens = 100\n")
    asked = ("--prompts", home.prompts, "--task", "quick")
    refused = home.run(*asked)
    assert (refused.code, refused.json["run"]["jobs_done"]) == (1, 1)
    failure = refused.json["failures"][0]
    assert (failure["name"], failure["task"], failure["kind"]) == ("long.txt", "quick", "too_long")
    assert "max_document_tokens=100" in failure["message"]
    home.write_task("quick", f"{QUICK}\n[limits]\nmax_document_tokens = 10_000\n")
    done = home.run(*asked, "--retry")
    assert (done.code, done.json["run"]["jobs_done"]) == (0, 1)


_MEANWHILE = """
from pipeline.reader import Reader

def read(self, found, of=Reader.read):
    if found.name == "gone.txt":
        found.path.unlink()
    if found.name == "changed.txt":
        found.path.write_text("Another letter, and longer.")
    return of(self, found)

Reader.read = read
"""


def test_files_that_vanish_or_change_during_the_run(home: Home) -> None:
    home.write(gone="Soon away.", changed="A letter.", good="Minutes.")
    asked = ("--prompts", home.prompts, "--task", "quick")
    first = home.run(*asked, before=_MEANWHILE)
    assert first.code == 1
    assert home.failures() == {"gone.txt": "vanished"}
    texts = [row["text"].strip() for row in home.rows("SELECT text FROM pages ORDER BY text")]
    assert texts == ["Another letter, and longer.", "Minutes."]
    second = home.run(*asked)
    assert (second.code, second.json["run"]["model_calls"]) == (0, 0)
    assert home.failures() == {}


def test_tables_inside_the_folder_are_no_documents(home: Home) -> None:
    home.write(a="A letter.")
    inside = home.documents / "tables"
    asked = ("--prompts", home.prompts, "--task", "quick", "--out", inside)
    assert home.run(*asked).code == 0
    (inside / "notes.txt").write_text("Not a document.", encoding="utf-8")
    again = home.run(*asked)
    assert (again.code, again.json["run"]["files"], again.json["run"]["model_calls"]) == (0, 1, 0)
    assert (
        home.docflash("sql", "FROM quick", "--out", inside, "--json").json[0]["signed"] is not None
    )
