"""What OCR makes of scans: PDFs with text are turned into pictures, and read.

    uv run python benchmarks/scans.py [FOLDER] [--most 64]

Each page is drawn in grey at 200 dots per inch, turned by a degree, given noise, and saved as a
JPEG, as an office scanner would. The text that pypdf finds in the PDF is what there is to be found:
which part of its words OCR finds at all, and which in the same order (by difflib). The seconds for
a page are a median, of one process at a time. Writes benchmarks/scans.json.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
from machine import describe_surroundings
from PIL import Image

from pipeline.documents import Selection, find_documents
from pipeline.reader import Reader
from pipeline.records import FoundFile

DOTS_PER_INCH = 200
SKEW_DEGREES = 1.0
NOISE = 12.0  # standard deviation, of 255
JPEG_QUALITY = 60
MOST_PAGES = 3  # of one document


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("sample_docs/gold/documents"))
    parser.add_argument("--most", type=int, default=64, help="documents")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    files = [
        file
        for file in find_documents(options.folder, Selection(include=("*.pdf",)))
        if isinstance(file, FoundFile)
    ][: options.most]
    with Reader(timeout_s=300.0) as reader, tempfile.TemporaryDirectory() as folder:
        read = [row for file in files for row in read_as_scan(reader, file, Path(folder))]
    report = {
        **describe_surroundings("rapidocr", "onnxruntime", "pypdfium2", "pypdf"),
        "documents": len(read),
        "pages": sum(row["pages"] for row in read),
        "words": sum(row["words"] for row in read),
        "words_found": part(read, "found"),
        "words_in_order": part(read, "in_order"),
        "seconds_per_page": round(
            statistics.median(row["seconds"] / row["pages"] for row in read), 2
        ),
        "worst": sorted(read, key=lambda row: row["found"] / row["words"])[:5],
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def part(read: list[dict[str, Any]], name: str) -> float:
    return round(sum(row[name] for row in read) / sum(row["words"] for row in read), 4)


def read_as_scan(reader: Reader, file: FoundFile, folder: Path) -> list[dict[str, Any]]:
    """A row of figures; none for a PDF without text."""
    known = reader.read(file)
    wanted = [word for page in known.pages[:MOST_PAGES] for word in page.text.split()]
    if not wanted:
        return []
    path = folder / "scan.pdf"
    path.write_bytes(scan(file.path.read_bytes()))
    begin = time.perf_counter()
    scanned = reader.read(FoundFile(folder, path, path.name, 0, 0))
    seconds = time.perf_counter() - begin
    found = scanned.text.split()
    blocks = SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    return [
        {
            "name": file.name,
            "pages": min(len(known.pages), MOST_PAGES),
            "words": len(wanted),
            "found": (Counter(wanted) & Counter(found)).total(),
            "in_order": sum(block.size for block in blocks),
            "seconds": round(seconds, 2),
        }
    ]


def scan(data: bytes) -> bytes:
    """A PDF of pictures of the first pages of a PDF."""
    random = np.random.default_rng(7)
    pictures: list[Image.Image] = []
    document = pypdfium2.PdfDocument(data)
    for number in range(min(len(document), MOST_PAGES)):
        drawn: Any = document[number]
        page = drawn.render(scale=DOTS_PER_INCH / 72, grayscale=True).to_pil()
        turned = page.rotate(SKEW_DEGREES, Image.Resampling.BICUBIC, fillcolor=255)
        shades = np.asarray(turned, np.float32) + random.normal(0, NOISE, turned.size[::-1])
        pictures.append(Image.fromarray(shades.clip(0, 255).astype(np.uint8)))
    out = io.BytesIO()
    pictures[0].save(
        out,
        "PDF",
        resolution=DOTS_PER_INCH,
        quality=JPEG_QUALITY,
        save_all=True,
        append_images=pictures[1:],
    )
    return out.getvalue()


if __name__ == "__main__":
    main()
