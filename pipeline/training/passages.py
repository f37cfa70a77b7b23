"""What a target is asked about: passages out of a file, or out of a folder of documents.

In: a `.jsonl` or `.jsonl.xz` file, a passage a line, or a folder. Out: texts, each a document's
passages in order, with source, licence and split. What is held out is held out by document.
"""

import hashlib
import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from pipeline.chunks import cut_chunks
from pipeline.documents import find_documents
from pipeline.errors import DocumentError, InputError
from pipeline.reader import Reader
from pipeline.records import Document, FoundFile, Limits
from pipeline.tokens import load_tokens

Split = Literal["train", "heldout"]

HELDOUT_PART = 0.02
"""Of documents whose split is not told."""
PASSAGE_TOKENS = 500
MOST_LINES_NAMED = 5
OWN_LICENCE = "private: the user's own"


@dataclass(frozen=True, slots=True)
class Text:
    """A document as a list of passages that follow each other.

    Attributes:
        title: Or empty.
        passages: Their texts.
        source: Where it is from; the same source, the same document.
        licence: As the file tells it.
        split: Trained on, or kept for judging.
    """

    title: str
    passages: tuple[str, ...]
    source: str
    licence: str
    split: Split


@dataclass(frozen=True, slots=True)
class Found:
    """The texts, and what was passed over.

    Attributes:
        texts: In the order of the file or folder.
        notes: What was left out and why, one line each, without any of the text.
    """

    texts: tuple[Text, ...]
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Found") -> "Found":
        return Found(self.texts + other.texts, self.notes + other.notes)


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    title: str
    source: str
    licence: str
    split: str


def read_passages(path: Path) -> Found:
    """Reads a file of passages; broken lines are passed over and told.

    Args:
        path: Each line is a JSON object with `text`, and if known `title`, `source`, `licence`
            and `split` ("train" or "heldout").

    Raises:
        InputError: The file can't be read, or no line of it can be used.
    """
    lines: list[_Line] = []
    broken: list[int] = []
    count = 0
    try:
        for count, raw in enumerate(_lines(path), start=1):
            line = _parse(raw, count)
            if line is None:
                broken.append(count)
            elif line.text:
                lines.append(line)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(
            f"passages={str(path)!r} can't be read ({_reason(error)}); give a .jsonl or .jsonl.xz "
            "file, complete on this disk"
        ) from error
    notes = (_told(path, broken, count),) if broken else ()
    if not lines:
        raise InputError(
            f"passages={str(path)!r} has no line that can be used: each must be a JSON object with "
            f'a "text"; {notes[0] if notes else "the file is empty"}'
        )
    found = _as_texts(lines)
    return replace(found, notes=notes + found.notes)


def read_folder(folder: Path, tokenizer_json: str) -> Found:
    """Reads a folder of documents as `docflash run` would, and cuts them into passages.

    Args:
        folder: Of PDFs and text files.
        tokenizer_json: The target's tokenizer, to cut by.

    Raises:
        InputError: The folder can't be read, or holds no document with text.
    """
    texts: list[Text] = []
    failed = 0
    tokens = load_tokens(tokenizer_json)
    limits = Limits(chunk_tokens=PASSAGE_TOKENS)
    with Reader() as reader:
        for found in find_documents(folder):
            try:
                document = reader.read(found) if isinstance(found, FoundFile) else None
                if document is None or document.status == "failed":
                    failed += 1
                    continue
                chunks = cut_chunks(document.text, document.pages, tokens, limits)
            except DocumentError:
                failed += 1
                continue
            pieces = (document.text[chunk.start_char : chunk.end_char] for chunk in chunks)
            texts.append(_own_text(document, pieces))
    texts = [text for text in texts if text.passages]
    if not texts:
        raise InputError(
            f"documents={str(folder)!r} holds no document with text ({failed} could not be read); "
            "choose another folder"
        )
    notes = (f"{failed} files of the folder could not be read and are left out",) if failed else ()
    return Found(_with_heldout(texts), notes)


def _own_text(document: Document, pieces: Iterable[str]) -> Text:
    kept = tuple(piece.strip() for piece in pieces if piece.strip())
    source = f"sha256:{document.sha256}"
    return Text(document.title, kept, source, OWN_LICENCE, _split_of(source))


def _with_heldout(texts: list[Text]) -> tuple[Text, ...]:
    """Few documents may all fall to one side: then the last is held out."""
    if len(texts) > 1 and all(text.split == "train" for text in texts):
        texts[-1] = replace(texts[-1], split="heldout")
    if len(texts) > 1 and all(text.split == "heldout" for text in texts):
        texts[0] = replace(texts[0], split="train")
    return tuple(texts)


def _lines(path: Path) -> Iterator[bytes]:
    if path.suffix == ".xz":
        with lzma.open(path, "rb") as packed:
            yield from packed
    else:
        with path.open("rb") as plain:
            yield from plain


def _parse(raw: bytes, number: int) -> _Line | None:
    """A line, or None if it is broken; an empty one gives an empty text."""
    if not raw.strip():
        return _Line("", "", "", "", "")
    try:
        values: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    named = cast("dict[str, Any]", values)
    wanted = {name: named.get(name, "") or "" for name in ("text", "title", "licence", "split")}
    wanted["source"] = named.get("source") or f"line {number}"
    whole = all(isinstance(value, str) for value in wanted.values())
    if not whole or not wanted["text"].strip() or wanted["split"] not in {"", "train", "heldout"}:
        return None
    return _Line(**wanted)


def _as_texts(lines: list[_Line]) -> Found:
    """The lines of one source are one text.

    A source with a held-out passage is held out as a whole, or the figures would be of documents
    that were trained on.
    """
    heldout = {line.source for line in lines if line.split == "heldout"}
    texts: list[Text] = []
    groups: dict[tuple[str, str, str], list[_Line]] = {}
    for line in lines:
        groups.setdefault((line.source, line.title, line.split), []).append(line)
    for (source, _, told), members in groups.items():
        split: Split = _split_of(source) if not told and not heldout else "train"
        split = "heldout" if told == "heldout" else split
        passages = tuple(line.text.strip() for line in members)
        texts.append(Text(members[0].title, passages, source, members[0].licence, split))
    kept = [text for text in texts if text.split == "heldout" or text.source not in heldout]
    left = sum(len(text.passages) for text in texts) - sum(len(text.passages) for text in kept)
    note = f"{left} passages to train on are of held-out documents and left out"
    return Found(_with_heldout(kept), (note,) if left else ())


def _split_of(source: str) -> Split:
    """By chance, the same for the same document."""
    share = int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big") / 2**32
    return "heldout" if share < HELDOUT_PART else "train"


def _told(path: Path, broken: list[int], count: int) -> str:
    named = ", ".join(str(number) for number in broken[:MOST_LINES_NAMED])
    more = ", ..." if len(broken) > MOST_LINES_NAMED else ""
    return (
        f"{len(broken)} of {count} lines of {path.name} are broken and left out (line {named}"
        f"{more}): each must be a JSON object with a text, and its split train or heldout"
    )


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
