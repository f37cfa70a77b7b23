"""Takes the pictures of a report that are in docs/.

    uv run python benchmarks/report_pictures.py [--out docs]

The library is that of `report_samples`: the sample documents with facts checked by hand, no model.
Its temporary folder is shown as `~/Documents`. Fonts are those of the machine.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from report_samples import SAMPLES, make_library  # noqa: E402

from pipeline.report import write_report  # noqa: E402
from tests.browser import MISSING, find_browser, open_browser  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_DESKTOP = {"width": 1280, "height": 820}
_PHONE = {"width": 390, "height": 780}
_SHOW_HOME = """(folder) => {
  for (const path of document.querySelectorAll(".path")) {
    path.textContent = path.textContent.replace(folder, "~/Documents");
  }
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    if find_browser() is None:
        parser.error(MISSING)
    options.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, open_browser() as browser:
        folder, library = Path(name) / "Documents", Path(name) / "library"
        shutil.copytree(SAMPLES / "documents", folder)
        make_library(library, folder)
        file = library / "report.html"
        write_report(library, file)
        _picture_library(browser, file, options.out / "report-library.png")
        _picture_document(browser, file, options.out / "report-document.png")
        _picture_phone(browser, file, options.out / "report-phone.png")
    for picture in sorted(options.out.glob("report-*.png")):
        print(f"{picture}: {picture.stat().st_size / 1000:.0f} KB")


def _open(browser: "Browser", file: Path, **options: object) -> "Page":
    page = browser.new_context(locale="en-GB", timezone_id="UTC", **options).new_page()  # type: ignore[arg-type]
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page


def _picture_library(browser: "Browser", file: Path, picture: Path) -> None:
    page = _open(browser, file, viewport=_DESKTOP)
    page.get_by_role("searchbox").fill("invoice")
    page.wait_for_selector(".found mark")
    page.screenshot(path=picture)


def _picture_document(browser: "Browser", file: Path, picture: Path) -> None:
    page = _open(browser, file, viewport=_DESKTOP)
    _open_document(page, file, "harbour-print")
    page.locator("#answers button.row", has_text="Due date").click()
    page.screenshot(path=picture)


def _picture_phone(browser: "Browser", file: Path, picture: Path) -> None:
    page = _open(browser, file, viewport=_PHONE, color_scheme="dark", device_scale_factor=1.5)
    _open_document(page, file, "harbour-print")
    page.locator("#answers button.row", has_text="Tax").click()
    page.screenshot(path=picture)


def _open_document(page: "Page", file: Path, name: str) -> None:
    page.locator("#list a", has_text=name).click()
    page.wait_for_selector("#document:not([hidden])")
    page.evaluate(_SHOW_HOME, str(file.parents[1] / "Documents"))


if __name__ == "__main__":
    main()
