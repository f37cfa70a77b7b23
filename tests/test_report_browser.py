"""The report in a real browser: by mouse, by keyboard, on a phone, in the dark, under attack."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from pipeline.report import write_report
from tests.browser import MISSING, find_browser, open_browser
from tests.report_library import SENTENCES, make_library

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_browser() is None, reason=MISSING),
]

OTHERS = 104  # more than the list draws at once
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 375, "height": 720}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    make_library(out, OTHERS)
    write_report(out, out / "report.html")
    return out / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with open_browser() as opened:
        yield opened


class Watched:
    """A page, and whatever went wrong on it."""

    def __init__(self, context: "BrowserContext", file: Path) -> None:
        self.page = context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = file.as_uri()
        self.page.goto(self.address)
        self.page.wait_for_selector("html[data-ready]")


@pytest.fixture
def open_page(browser: "Browser", file: Path) -> Iterator[Any]:
    """Opens the report; after the test nothing may have been complained of or asked for."""
    opened: list[tuple[Watched, BrowserContext]] = []

    def open_it(**options: Any) -> "Page":
        settings: dict[str, Any] = {"viewport": DESKTOP} | options
        context = browser.new_context(**settings)
        context.set_default_timeout(20_000)
        opened.append((Watched(context, file), context))
        return opened[-1][0].page

    yield open_it
    for watched, context in opened:
        context.close()
        assert watched.problems == []
        assert {url.partition("#")[0] for url in watched.requests} == {watched.address}


def rows(page: "Page") -> "Locator":
    return page.locator("#list tbody a")


def names(page: "Page") -> list[str]:
    return rows(page).all_inner_texts()


def marked(page: "Page", kind: str = "on") -> list[str]:
    return page.locator(f"mark.{kind}").all_inner_texts()


def open_acme(page: "Page") -> None:
    page.get_by_role("link", name="acme.pdf").click()
    page.get_by_role("heading", name="acme.pdf").wait_for()


def focused(page: "Page") -> str:
    return page.evaluate("document.activeElement.innerText || document.activeElement.id")


def value(page: "Page", name: str) -> Any:
    return page.locator("#answers button.row", has=page.get_by_text(name, exact=True))


def test_a_click_on_a_value_leads_to_its_words(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    total = value(page, "Total")
    words = page.locator("mark", has_text="12.50")
    expect(words).not_to_be_in_viewport()
    total.click()
    expect(page.locator("mark.on")).to_be_in_viewport()
    assert marked(page) == ["12.50"]
    assert total.get_attribute("aria-expanded") == "true"
    assert "12.50" in page.locator(".why:not([hidden]) blockquote").inner_text()
    assert page.url.endswith("/3")


def test_each_click_leads_to_the_next_of_several_places(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    due = value(page, "Due")
    for words in ("the last", "day of April 2026", "the last"):
        due.click()
        expect(page.locator("mark.on", has_text=words)).to_be_in_viewport()
    assert marked(page) == ["the last", "day of April 2026"]
    assert "pp. 1\N{EN DASH}2" in due.inner_text()


def test_hover_and_focus_show_the_words(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    value(page, "Number").hover()
    assert marked(page, "hint") == ["A-17"]
    page.mouse.move(5, 5)
    assert marked(page, "hint") == []
    value(page, "Total").focus()
    assert marked(page, "hint") == ["12.50"]


def test_a_click_on_words_leads_to_their_value(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    page.locator("mark", has_text="Galway").click()
    chosen = page.locator("#answers [aria-current]")
    assert chosen.inner_text().startswith(SENTENCES[0])
    page.locator("mark", has_text="A-17").last.click()
    page.locator("mark", has_text="A-17").last.click()
    assert page.locator("#answers [aria-current] .value, #answers span[aria-current]").count() == 1


def test_doubts_are_seen_with_reasons_and_alternatives(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    paid = value(page, "Paid")
    assert "unsupported" in paid.inner_text()
    paid.click()
    reason = page.locator(".why:not([hidden]) .reason")
    assert reason.inner_text() == "neither yes nor no follows from the quote"
    value(page, "Due").click()
    other = page.locator(".why:not([hidden]) button.row", has_text="2026-03-03")
    other.click()
    assert marked(page) == ["3 March 2026"]
    assert "another part of the document was surer" in page.locator("#answers").inner_text()
    assert value(page, "City").locator(".value").inner_text().strip().endswith("\N{EN DASH}")


def test_all_of_it_by_keyboard(open_page: Any) -> None:
    page = open_page()
    press = page.keyboard.press
    press("/")
    assert focused(page) == "words"
    press("ArrowDown")
    assert focused(page) == "acme.pdf"
    press("ArrowDown")
    press("ArrowUp")
    assert focused(page) == "acme.pdf"
    outline = "getComputedStyle(document.activeElement, '::after').outlineStyle"
    assert page.evaluate(outline) == "solid"
    press("Enter")
    page.get_by_role("heading", name="acme.pdf").wait_for()
    for words in (SENTENCES[0], SENTENCES[1], "Number", "Total"):
        press("ArrowDown")
        assert focused(page).startswith(words)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("ArrowUp")
    press("Enter")
    assert marked(page) == ["A-17"]
    press("Home")
    press("Enter")
    assert "Acme & Sons" in "".join(marked(page))
    press("End")
    assert focused(page).startswith("Amount")
    press("Escape")  # from the chosen value
    assert marked(page) == []
    press("ArrowRight")
    page.get_by_role("heading", name="broken.pdf").wait_for()
    press("ArrowLeft")
    page.get_by_role("heading", name="acme.pdf").wait_for()
    press("Escape")  # from the document
    page.wait_for_selector("#library:not([hidden])")
    assert focused(page) == "acme.pdf"
    press("End")
    press("ArrowDown")  # more rows are drawn on the way
    assert len(names(page)) > 100


def test_tab_goes_through_list_values_and_text(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("link", name="acme.pdf").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#list') === null")
    open_acme(page)
    reached: list[str] = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.closest('[id]')?.id"))
    assert reached[:2] == ["answers", "text"]


def test_search_finds_words_of_texts_values_and_names(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("searchbox").fill("CARRIAGE bolts")
    expect(rows(page)).to_have_text(["acme.pdf"])
    page.wait_for_selector(".found mark")
    assert page.locator(".found mark").inner_text() in ("Carriage", "Bolts")
    expect(page.locator("#count")).to_have_text(f"1 of {OTHERS + 4} documents")
    open_acme(page)
    assert page.evaluate("[...CSS.highlights.get('search')].map(String)") == ["Carriage", "Bolts"]
    page.keyboard.press("Escape")
    page.get_by_role("searchbox").fill("0042.txt")
    expect(rows(page)).to_have_text(["0042.txt"])
    page.get_by_role("searchbox").fill("99.99")
    expect(rows(page)).to_have_text(["acme.pdf"])
    page.get_by_role("searchbox").fill("no such words")
    page.wait_for_selector("#list", state="hidden")
    expect(page.locator("#count")).to_contain_text("No document fits")
    page.get_by_role("button", name="Clear").click()
    expect(rows(page).nth(50)).to_be_attached()


@pytest.mark.parametrize(
    ("field", "choice", "found"),
    [
        ("Class", "invoice", ["acme.pdf"]),
        ("State", "failed", ["broken.pdf", "late.txt"]),
        ("State", "pending", ["late.txt"]),
    ],
)
def test_filters(open_page: Any, field: str, choice: str, found: list[str]) -> None:
    page = open_page()
    page.get_by_label(field, exact=True).select_option(choice)
    assert names(page) == found


def test_filters_of_task_and_flags_go_together(open_page: Any) -> None:
    page = open_page()
    page.get_by_label("Flagged only").check()
    assert names(page) == ["acme.pdf"]
    page.get_by_label("Task", exact=True).select_option("invoice")
    assert names(page) == ["acme.pdf"]
    page.get_by_label("State", exact=True).select_option("failed")
    assert names(page) == []
    page.get_by_role("button", name="failed", exact=False).click()
    assert names(page) == ["broken.pdf", "late.txt"]


def test_failures_and_runs_are_shown(open_page: Any) -> None:
    page = open_page()
    page.get_by_text("3 failures").click()
    shown = page.locator("#failures").inner_text()
    for words in ("locked.txt", "no permission", "invalid_json", "the answer is no JSON"):
        assert words in shown
    page.get_by_text("1 run", exact=True).click()
    assert "embedded" in page.locator("#runs").inner_text()
    page.locator("#failures a", has_text="broken.pdf").click()
    expect(page.locator("#document")).to_contain_text("it can't be read; get it again")


def test_a_hostile_document_stays_text(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("searchbox").fill("hacked")
    page.get_by_role("link", name="fdp").click()
    page.wait_for_selector(".sheet")
    assert "</script><script>window.hacked = 1" in page.locator(".sheet").inner_text()
    assert page.get_by_role("heading", level=1).inner_text() == "\\u202efdp.<b>\\x07\\x0a.txt"
    assert page.evaluate("window.hacked") is None
    assert page.locator("#document img, #document script, #document b").count() == 0


def test_the_policy_blocks_what_is_put_in(browser: "Browser", file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    page.evaluate("""async () => {
      const found = [];
      const seen = new Promise((done) => addEventListener("securitypolicyviolation", (event) => {
        found.push(event.effectiveDirective);
        if (found.includes("img-src") && found.includes("connect-src")) done();
      }));
      const put = (make) => { try { make(); } catch (error) { found.push(error.name); } };
      put(() => { document.body.innerHTML += "<img src=x onerror='window.hacked = 1'>"; });
      const script = document.createElement("script");
      put(() => { script.textContent = "window.hacked = 2"; });
      script.append("window.hacked = 3");
      put(() => document.body.append(script));
      const style = document.createElement("style");
      style.append("body { background: url(https://example.invalid/a.png) }");
      document.body.append(style);
      const picture = document.createElement("img");
      picture.src = "https://example.invalid/b.png";
      document.body.append(picture);
      await fetch("https://example.invalid/c").catch(() => found.push("no fetch"));
      await seen;
      window.blocked = found;
    }""")
    blocked = page.evaluate("window.blocked")
    assert page.evaluate("window.hacked") is None
    assert {"TypeError", "style-src-elem", "img-src", "connect-src", "no fetch"} <= set(blocked)
    context.close()


def test_light_and_dark(open_page: Any) -> None:
    brightness = """() => {
      const sum = (color) => color.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b);
      const style = getComputedStyle(document.body);
      return sum(style.backgroundColor) - sum(style.color);
    }"""
    assert open_page(color_scheme="light").evaluate(brightness) > 400
    assert open_page(color_scheme="dark").evaluate(brightness) < -400


def test_a_phone(open_page: Any) -> None:
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(wide) <= 0
    page.get_by_role("link", name="acme.pdf").tap()
    page.wait_for_selector("#document:not([hidden])")
    assert page.evaluate(wide) <= 0
    assert page.locator("#text").is_hidden()
    value(page, "Total").tap()
    assert page.locator("#answers").is_hidden()
    expect(page.locator("mark.on")).to_be_in_viewport()
    assert marked(page) == ["12.50"]
    assert page.evaluate(wide) <= 0
    assert "12.50" in page.locator("#chosen").inner_text()
    page.get_by_role("button", name="Back to answers").tap()
    assert page.locator("#text").is_hidden()
    assert focused(page).startswith("Total")


def test_print_shows_answers_and_text_without_controls(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    page.emulate_media(media="print")
    assert page.locator(".bar").is_hidden()
    assert page.locator(".sheet").last.is_visible()
    assert page.locator(".why").first.is_visible()


def test_a_link_into_a_document_opens_it_there(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    value(page, "Total").click()
    address = page.url
    page.goto(address.partition("#")[0])
    page.wait_for_selector("html[data-ready]")
    page.goto(address)
    page.wait_for_selector("mark.on")
    assert marked(page) == ["12.50"]
    page.reload()
    page.wait_for_selector("mark.on")
    assert marked(page) == ["12.50"]


def test_names_and_roles_are_there_for_screen_readers(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    unnamed = page.evaluate("""() => [...document.querySelectorAll(
      "button, a, input, select, [role=button]")].filter((e) => e.checkVisibility() &&
      !(e.innerText.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)""")
    assert unnamed == []
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
