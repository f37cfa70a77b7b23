"""A headless Chromium for looking at a report as a user does, if this machine has one."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_MS = 20_000  # for what an action brings; a busy machine takes its time
MISSING = (
    "no Chromium is here: install one (Debian: apt-get install chromium-headless-shell), or name "
    "it in DOCFLASH_BROWSER"
)


def find_browser() -> str | None:
    """The program: `DOCFLASH_BROWSER`, or what a system's package installs."""
    named = os.environ.get("DOCFLASH_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_browser() -> Generator["Browser"]:
    """Starts the browser, and ends it."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=TIMEOUT_MS)

    # Chromium's own sandbox does not work for root, as whom CI runs; the pages here are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(), args=arguments, timeout=120_000
        )
        try:
            yield browser
        finally:
            browser.close()
