"""What the reader asks of the read server, and how it is told that a child ended."""

from dataclasses import dataclass

from pipeline.quote_places import Query

# How a child ended, as one byte. No byte at all: the server ended first.
ENDED_WELL = b"o"
ENDED_LATE = b"t"
ENDED_FULL = b"m"
ENDED_KILLED = b"k"
ENDED_BROKEN = b"c"


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to read, and within which limits.

    Attributes:
        suffix: Of the file's name, lower case.
        timeout_s: Wall-clock seconds, then the child is ended.
        memory_bytes: The most data that the child may hold.
        max_bytes: A larger file is not read.
        pictures: Numbers of the pages that are to be read by OCR.
        quotes: What is to be found on the pages of a PDF. Neither these nor pictures: the document
            is read.
    """

    suffix: str
    timeout_s: float
    memory_bytes: int
    max_bytes: int
    pictures: tuple[int, ...] = ()
    quotes: tuple[Query, ...] = ()
