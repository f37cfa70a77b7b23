"""The report in a real browser: by mouse, by keyboard, on a phone, in the dark, under attack.

What an action brings is always waited for (`expect`): on a busy machine it comes a while later.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from pipeline.report import write_report
from tests.browser import MISSING, TIMEOUT_MS, find_browser, open_browser
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
        context.set_default_timeout(TIMEOUT_MS)
        opened.append((Watched(context, file), context))
        return opened[-1][0].page

    yield open_it
    for watched, context in opened:
        context.close()
        assert watched.problems == []
        assert {url.partition("#")[0] for url in watched.requests} == {watched.address}


def rows(page: "Page") -> "Locator":
    return page.locator("#list tbody a")


def expect_rows(page: "Page", names: list[str]) -> None:
    expect(rows(page)).to_have_text(names)


def expect_marked(page: "Page", words: list[str], kind: str = "on") -> None:
    expect(page.locator(f"mark.{kind}")).to_have_text(words)


def begins(words: str) -> re.Pattern[str]:
    return re.compile(rf"^\s*{re.escape(words)}")


def open_acme(page: "Page") -> None:
    page.get_by_role("link", name="acme.pdf").click()
    page.get_by_role("heading", name="acme.pdf").wait_for()


def expect_focus(page: "Page", words: str) -> None:
    expect(page.locator(":focus")).to_have_text(begins(words))


def value(page: "Page", name: str) -> "Locator":
    return page.locator("#answers button.row", has=page.get_by_text(name, exact=True))


def test_a_click_on_a_value_leads_to_its_words(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    total = value(page, "Total")
    words = page.locator("mark", has_text="12.50")
    expect(words).not_to_be_in_viewport()
    total.click()
    expect(page.locator("mark.on")).to_be_in_viewport()
    expect_marked(page, ["12.50"])
    expect(total).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".why:not([hidden]) blockquote")).to_contain_text("12.50")
    expect(page).to_have_url(re.compile("/3$"))


def test_each_click_leads_to_the_next_of_several_places(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    due = value(page, "Due")
    for words in ("the last", "day of April 2026", "the last"):
        due.click()
        expect(page.locator("mark.on", has_text=words)).to_be_in_viewport()
    expect_marked(page, ["the last", "day of April 2026"])
    expect(due).to_contain_text("pp. 1\N{EN DASH}2")


def test_a_sketch_shows_where_on_the_page_the_words_stand_and_leads_there(open_page: Any) -> None:
    page = open_page(color_scheme="dark")
    open_acme(page)
    total, due = value(page, "Total"), value(page, "Due")
    sketches = page.locator(".why:not([hidden]) button.sketch")
    expect(sketches).to_have_count(0)
    total.click()
    expect(sketches).to_have_count(1)
    expect(page.get_by_role("button", name="page 1, lower third: show in the text")).to_be_visible()
    picture, spot = sketches.locator("svg"), sketches.locator("rect.spot")
    sheet, mark = picture.bounding_box(), spot.bounding_box()
    assert sheet["width"] / sheet["height"] == pytest.approx(612 / 792, abs=0.02)
    assert (mark["x"] - sheet["x"]) / sheet["width"] == pytest.approx(72 / 612, abs=0.02)
    assert (mark["y"] - sheet["y"]) / sheet["height"] == pytest.approx(650 / 792, abs=0.02)
    colours = "(e) => [getComputedStyle(e).fill, getComputedStyle(e.previousElementSibling).fill]"
    assert len(set(spot.evaluate(colours))) == 2

    due.focus()
    page.keyboard.press("Enter")
    expect(sketches).to_have_count(2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_attribute("title", "page 2, upper third")
    turned = sketches.nth(1).locator("svg").bounding_box()
    assert turned["width"] / turned["height"] == pytest.approx(600 / 400, abs=0.02)
    page.keyboard.press("Enter")
    expect(page.locator("mark.on", has_text="day of April 2026")).to_be_in_viewport()
    expect(page.locator(".sheet").nth(1)).to_be_in_viewport()
    page.locator("button.sketch[title='page 1, lower third']:visible").click()
    expect(page.locator("mark.on", has_text="the last")).to_be_in_viewport()


def test_hover_and_focus_show_the_words(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    value(page, "Number").hover()
    expect_marked(page, ["A-17"], "hint")
    page.mouse.move(5, 5)
    expect_marked(page, [], "hint")
    value(page, "Total").focus()
    expect_marked(page, ["12.50"], "hint")


def test_a_click_on_words_leads_to_their_value(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    page.locator("mark", has_text="Galway").click()
    chosen = page.locator("#answers [aria-current]")
    expect(chosen).to_have_text(begins(SENTENCES[0]))
    page.locator("mark", has_text="A-17").last.click()
    page.locator("mark", has_text="A-17").last.click()
    expect(
        page.locator("#answers [aria-current] .value, #answers span[aria-current]")
    ).to_have_count(1)


def test_doubts_are_seen_with_reasons_and_alternatives(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    paid = value(page, "Paid")
    expect(paid).to_contain_text("unsupported")
    paid.click()
    reason = page.locator(".why:not([hidden]) .reason")
    expect(reason).to_have_text("neither yes nor no follows from the quote")
    value(page, "Due").click()
    other = page.locator(".why:not([hidden]) button.row", has_text="2026-03-03")
    other.click()
    expect_marked(page, ["3 March 2026"])
    surer = page.locator(".why:not([hidden])", has_text="another part of the document was surer")
    expect(surer.last).to_be_visible()
    expect(value(page, "City").locator(".value")).to_have_text(re.compile("\N{EN DASH}\\s*$"))


def test_words_that_speak_for_nothing_are_not_marked_as_if_they_did(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    value(page, "Paid").click()
    expect(page.locator("mark.on")).to_have_class(re.compile("other"))
    value(page, "Total").click()
    expect(page.locator("mark.on")).not_to_have_class(re.compile("other"))


def test_only_what_is_in_the_window_scrolls(open_page: Any) -> None:
    page = open_page()
    page.set_viewport_size({"width": 1280, "height": 480})
    open_acme(page)  # it has a null below the fold, whose word for screen readers has no place
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_a_percentage_says_what_it_is(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    measured = value(page, "Name")
    expect(measured.locator(".sure")).to_have_text(re.compile("82"))
    expect(measured.locator(".sure")).to_have_attribute("title", re.compile("were right"))
    measured.click()
    expect(page.locator(".why:not([hidden])")).to_contain_text("right 82 % of the time")
    sure = value(page, "Number")
    expect(sure.locator(".sure")).to_have_text(re.compile("98"))
    expect(sure.locator(".sure")).to_have_attribute("title", re.compile("not measured"))
    sure.click()
    expect(page.locator(".why:not([hidden])")).to_contain_text("model 98 % sure")


def test_all_of_it_by_keyboard(open_page: Any) -> None:
    page = open_page()
    press = page.keyboard.press
    press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    press("ArrowDown")
    expect_focus(page, "acme.pdf")
    press("ArrowDown")
    press("ArrowUp")
    expect_focus(page, "acme.pdf")
    page.wait_for_function(
        "getComputedStyle(document.activeElement, '::after').outlineStyle === 'solid'"
    )
    press("Enter")
    page.get_by_role("heading", name="acme.pdf").wait_for()
    for words in (SENTENCES[0], SENTENCES[1], "Number", "Total"):
        press("ArrowDown")
        expect_focus(page, words)
    expect(page.locator(":focus")).to_have_css("outline-style", "solid")
    press("ArrowUp")
    press("Enter")
    expect_marked(page, ["A-17"])
    press("Home")
    press("Enter")
    expect(page.locator("mark.on").first).to_contain_text("Acme & Sons")
    press("End")
    expect_focus(page, "Amount")
    press("Escape")  # from the chosen value
    expect_marked(page, [])
    press("ArrowRight")
    page.get_by_role("heading", name="broken.pdf").wait_for()
    press("ArrowLeft")
    page.get_by_role("heading", name="acme.pdf").wait_for()
    press("Escape")  # from the document
    page.wait_for_selector("#library:not([hidden])")
    expect_focus(page, "acme.pdf")
    press("End")
    press("ArrowDown")  # more rows are drawn on the way
    expect(rows(page).nth(100)).to_be_attached()


def test_tab_goes_through_list_values_and_text(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("link", name="acme.pdf").focus()
    page.keyboard.press("Tab")
    page.wait_for_function("document.activeElement.closest('#list') === null")
    open_acme(page)
    for pane in ("answers", "text"):
        page.keyboard.press("Tab")
        page.wait_for_function("id => document.activeElement.closest('[id]')?.id === id", arg=pane)


def test_search_finds_words_of_texts_values_and_names(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("searchbox").fill("CARRIAGE bolts")
    expect(rows(page)).to_have_text(["acme.pdf"])
    expect(page.locator(".found mark")).to_have_text(re.compile("^(Carriage|Bolts)$"))
    expect(page.locator("#count")).to_have_text(f"1 of {OTHERS + 4} documents")
    open_acme(page)
    page.wait_for_function("[...CSS.highlights.get('search')].join() === 'Carriage,Bolts'")
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
    expect_rows(page, found)


def test_filters_of_task_and_flags_go_together(open_page: Any) -> None:
    page = open_page()
    page.get_by_label("Flagged only").check()
    expect_rows(page, ["acme.pdf"])
    page.get_by_label("Task", exact=True).select_option("invoice")
    expect_rows(page, ["acme.pdf"])
    page.get_by_label("State", exact=True).select_option("failed")
    expect_rows(page, [])
    page.get_by_role("button", name="failed", exact=False).click()
    expect_rows(page, ["broken.pdf", "late.txt"])


def test_failures_and_runs_are_shown(open_page: Any) -> None:
    page = open_page()
    page.get_by_text("3 failures").click()
    shown = page.locator("#failures ul")
    expect(shown).to_be_visible()
    for words in ("locked.txt", "no permission", "invalid_json", "the answer is no JSON"):
        expect(shown).to_contain_text(words)
    page.get_by_text("1 run", exact=True).click()
    expect(page.locator("#runs tbody")).to_be_visible()
    expect(page.locator("#runs tbody")).to_contain_text("embedded")
    page.locator("#failures a", has_text="broken.pdf").click()
    expect(page.locator("#document")).to_contain_text("it can't be read; get it again")


def test_a_hostile_document_stays_text(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("searchbox").fill("hacked")
    page.get_by_role("link", name="fdp").click()
    expect(page.locator(".sheet")).to_contain_text("</script><script>window.hacked = 1")
    expect(page.get_by_role("heading", level=1)).to_have_text("\\u202efdp.<b>\\x07\\x0a.txt")
    assert page.evaluate("window.hacked") is None
    expect(page.locator("#document img, #document script, #document b")).to_have_count(0)


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
    page.wait_for_function(f"{wide} <= 0")
    page.get_by_role("link", name="acme.pdf").tap()
    page.wait_for_selector("#document:not([hidden])")
    page.wait_for_function(f"{wide} <= 0")
    expect(page.locator("#text")).to_be_hidden()
    value(page, "Total").tap()
    expect(page.locator("#answers")).to_be_hidden()
    expect(page.locator("mark.on")).to_be_in_viewport()
    expect_marked(page, ["12.50"])
    page.wait_for_function(f"{wide} <= 0")
    expect(page.locator("#chosen")).to_contain_text("12.50")
    page.get_by_role("button", name="Back to answers").tap()
    expect(page.locator("#text")).to_be_hidden()
    expect_focus(page, "Total")


def test_print_shows_answers_and_text_without_controls(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    page.emulate_media(media="print")
    expect(page.locator(".bar")).to_be_hidden()
    expect(page.locator(".sheet").last).to_be_visible()
    expect(page.locator(".why").first).to_be_visible()


def test_a_link_into_a_document_opens_it_there(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    value(page, "Total").click()
    expect(page).to_have_url(re.compile("/3$"))
    address = page.url
    page.goto(address.partition("#")[0])
    page.wait_for_selector("html[data-ready]")
    page.goto(address)
    expect_marked(page, ["12.50"])
    page.reload()
    expect_marked(page, ["12.50"])


def test_names_and_roles_are_there_for_screen_readers(open_page: Any) -> None:
    page = open_page()
    open_acme(page)
    unnamed = page.evaluate("""() => [...document.querySelectorAll(
      "button, a, input, select, [role=button]")].filter((e) => e.checkVisibility() &&
      !(e.innerText.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)""")
    assert unnamed == []
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
