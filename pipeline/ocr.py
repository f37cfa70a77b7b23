"""Reads pages that are pictures, if the extra `ocr` is installed: pdfium draws, RapidOCR reads.

In: the bytes of a PDF and page numbers. Out: the text of each, line by line. `load_ocr` is for
the read server, `read_pictures` for its children, which are locked in. RapidOCR reads its models,
which lie in its package, when it first needs them: where nothing can be fetched.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.encodings import valid_text
from pipeline.ocr_lines import Box, join_boxes

INSTALL = "`uv sync --all-extras`, or `pip install rapidocr onnxruntime`"

_PACKAGES = ("rapidocr", "onnxruntime", "pypdfium2")
_POINTS_PER_INCH = 72.0
_DOTS_PER_INCH = 200.0
_LONGEST_SIDE = 2000  # in dots: what RapidOCR looks at, and a bound on memory
_DETECTED_SIDE = 1280  # in dots: lines are looked for in a smaller picture, and read in the larger
_LEAST_SCORE = 0.5
_DOUBTFUL_SCORE = 0.8  # upright text has 0.98 and more, upside down less than 0.75
_SETTINGS = {
    # No thread can be started where the document is read.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Det.limit_type": "max",
    "Det.limit_side_len": _DETECTED_SIDE,
    "Rec.rec_batch_num": 2,
    "Global.max_side_len": _LONGEST_SIDE,
    "Global.use_cls": False,  # it turns lines upside down that were upright: see _read_upright
    "Global.text_score": _LEAST_SCORE,
    "Global.log_level": "critical",  # its lines would hold text
}


@dataclass(frozen=True, slots=True)
class Ocr:
    """Loaded models.

    Attributes:
        find_lines: From a picture (H x W x 3, blue first) to RapidOCR's `boxes` (four corners
            each), `txts` and `scores`, or None for each.
        open_pdf: From bytes to a `pypdfium2.PdfDocument`.
    """

    find_lines: Callable[[Any], Any]
    open_pdf: Callable[[bytes], Any]


@cache
def ocr_version() -> str:
    """What reads pictures, with versions; empty if the extra `ocr` is not installed."""
    try:
        return " ".join(f"{name}-{version(name)}" for name in _PACKAGES)
    except PackageNotFoundError:
        return ""


@cache
def load_ocr() -> Ocr:
    """The models, loaded: takes about a second and 100 MB.

    Raises:
        ImportError: The extra `ocr` is not installed, or its libraries don't load.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2
    import pypdfium2
    from rapidocr import RapidOCR

    cv2.setNumThreads(0)
    engine = RapidOCR(params=_SETTINGS)

    return Ocr(engine, pypdfium2.PdfDocument)


def read_pictures(data: bytes, page_numbers: Sequence[int]) -> list[str]:
    """The text of pages that are pictures; empty where there is none.

    Args:
        data: A PDF that needs no password.
        page_numbers: From 1.

    Raises:
        MemoryError: It needs more than this process may have.
        Exception: A page can't be drawn; pdfium and OpenCV have errors of many kinds.
    """
    ocr = load_ocr()
    document = ocr.open_pdf(data)
    try:
        return [
            join_boxes(_read_upright(ocr, _draw(document[number - 1]))) for number in page_numbers
        ]
    finally:
        document.close()


def _read_upright(ocr: Ocr, picture: Any) -> list[Box]:
    """The lines of a picture, which is turned if it lies on its side or stands on its head."""
    if picture.min() == picture.max():
        return []  # a blank page
    found = _find(ocr, picture)
    if sum(box.height > box.right - box.left for box in found.boxes) * 2 > len(found.boxes):
        picture = _turn(picture, 1)
        found = _find(ocr, picture)
    if found.boxes and found.score < _DOUBTFUL_SCORE:
        turned = _find(ocr, _turn(picture, 2))
        found = max(found, turned, key=lambda lines: lines.score)
    return found.boxes


@dataclass(frozen=True, slots=True)
class _Lines:
    boxes: list[Box]
    score: float  # 0 to 1: how sure RapidOCR is of a letter, on average


def _find(ocr: Ocr, picture: Any) -> _Lines:
    found = ocr.find_lines(picture)
    if found.boxes is None or not found.txts:
        return _Lines([], 0.0)
    texts = [valid_text(text) for text in found.txts]
    sides = [(*corners.min(axis=0), *corners.max(axis=0)) for corners in found.boxes]
    boxes = [
        Box(float(left), float(top), float(right), float(bottom), text)
        for (left, top, right, bottom), text in zip(sides, texts, strict=True)
    ]
    letters = sum(map(len, texts))
    sure = sum(score * len(text) for score, text in zip(found.scores, texts, strict=True))
    return _Lines(boxes, sure / letters if letters else 0.0)


def _turn(picture: Any, quarters: int) -> Any:
    """The picture turned anticlockwise, in memory of its own, as OpenCV wants it."""
    import numpy as np

    return np.ascontiguousarray(np.rot90(picture, quarters))


def _draw(page: Any) -> Any:
    """A page as an array of H x W x 3 bytes, blue first."""
    width, height = page.get_size()
    scale = min(_DOTS_PER_INCH / _POINTS_PER_INCH, _LONGEST_SIDE / max(width, height, 1.0))
    return page.render(scale=scale).to_numpy()
