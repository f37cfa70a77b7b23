"""The report: what is published, as one HTML file to look at.

In: a library's folder. Out: a file in which each value leads to the words that it came from. It is
made from the published parquet only, so it can be made at any time.

    rows.py      reads the tables of one snapshot
    shown.py     makes visible what hides in text
    places.py    from offsets of the tables to those of a browser
    sketches.py  from places in a PDF to drawings of its pages
    answers.py   ties values to their evidence
    build.py     puts rows together, document by document
    view.py      the records that this gives
    page.py      writes them as HTML
    assets/      the page, its style and its program
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.build import build_report
from pipeline.report.page import write_page
from pipeline.report.rows import read_rows


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report that was written.

    Attributes:
        documents: How many are in it.
        documents_all: How many the library has.
        flags: How many values are flagged.
    """

    file: Path
    size_bytes: int
    documents: int
    documents_all: int
    flags: int


def write_report(
    out: Path, file: Path, include: Sequence[str] = (), limit: int = 0
) -> WrittenReport:
    """Writes a report of what is published now.

    Args:
        out: The library's folder.
        file: Where to; an older report there is replaced.
        include: Globs for the paths of documents; none: all.
        limit: At most so many documents, by path; 0: all.

    Raises:
        InputError: Nothing is published, no document fits, or the file can't be written.
    """
    rows = read_rows(out, include, limit)
    report = build_report(rows)
    size = write_page(report, file)
    return WrittenReport(file, size, len(rows.documents), rows.documents_all, report.flags)
