"""The read server has loaded what its children need."""

import subprocess
import sys

from pipeline.pages import read_contents
from pipeline.warm_up import small_pdf

LOADED_LATE = """
import sys
from pathlib import Path
from pipeline.pages import read_contents
from pipeline.warm_up import warm_up

warm_up()
before = set(sys.modules)
read_contents(Path(sys.argv[1]).read_bytes(), ".pdf")
print(*sorted(name for name in set(sys.modules) - before if name.startswith("pypdf")))
"""
SAMPLE = "sample_docs/documents/invoices/harbour-print-INV-2026-0417.pdf"


def test_the_small_pdf_is_read_as_it_stands() -> None:
    contents = read_contents(small_pdf(), ".pdf")
    assert [page.text.strip() for page in contents.pages] == ["One line."]
    assert not contents.notes


def test_an_ordinary_pdf_loads_no_more_of_its_parser() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_LATE, SAMPLE], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
