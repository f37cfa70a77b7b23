// One document: its answers beside its text, and the way from a value to its words and back.

let opened = null; // the place of the document in the list
let chosen = null; // the proof that is chosen, and which of its places was shown last
let marks = new Map(); // proof -> its marks in the text
const whys = new Map(); // proof -> what is shown when it is chosen

async function openDocument(number, proof) {
  const entry = index.entries[number];
  const view = await load(number);
  if (wanted !== number) return; // another one was asked for meanwhile
  opened = number;
  chosen = null;
  whys.clear();
  byId("document-title").replaceChildren(quoted("bdi", entry.name));
  byId("about").replaceChildren(...drawAbout(entry));
  const place = shown.indexOf(number);
  byId("position").textContent = place < 0 ? "" : `${(place + 1).toLocaleString()} of ${shown.length.toLocaleString()}`;
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 || place === shown.length - 1;
  drawAnswers(view);
  drawText(view);
  byId("chosen").hidden = true;
  show("document");
  byId("text").scrollTop = byId("answers").scrollTop = 0;
  scrollTo(0, 0);
  showPane("answers");
  const first = buttons()[0];
  if (first) first.tabIndex = 0;
  byId("document-title").focus({ preventScroll: true });
  const words = readFilter().words;
  highlight(words);
  if (proof !== null && whys.has(proof)) choose(proof, true);
}

function drawAbout(entry) {
  const sure = entry.class_confidence !== null ? ` (right ${percent(entry.class_confidence)} of the time)`
    : entry.class_probability !== null ? ` (model ${percent(entry.class_probability)} sure)` : "";
  const facts = [
    entry.class_name && `${label(entry.class_name)}${sure}`, entry.title, counted(entry.pages, "page"), size(entry.size_bytes),
  ].filter(Boolean);
  return [
    make("p.facts", {}, ...facts.map((fact) => quoted("span", fact))),
    ...entry.paths.map((path) => quoted("p.path", path)),
    entry.failed ? drawReason(entry.failure_kind, entry.failure) : null,
    ...entry.notes.map((note) => quoted("p.note", note)),
  ].filter(Boolean);
}

function drawText(view) {
  const cuts = view.pages.map(() => []);
  view.proofs.forEach((proof, number) => proof.places.forEach((place) => {
    cuts[place.page].push({ start: place.start, end: place.end, proof: number, speaks: proof.chosen && !proof.flagged });
  }));
  marks = new Map();
  byId("text").replaceChildren(...view.pages.map((page, place) => drawPage(page, cuts[place], view.pages.length)));
  if (!view.pages.length) byId("text").append(make("p.note", {}, "There is no text of this document."));
}

const HIDING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const COLUMNS = /\S {3,}\S/;
const isTabular = (text) => text.split("\n").filter((line) => COLUMNS.test(line)).length > 1;

function drawPage(page, cuts, count) {
  const name = count > 1 ? `Page ${page.number} of ${count}` : `Page ${page.number}`;
  const how = page.source === "ocr" ? "read by OCR" : "";
  return make("section.sheet", { "aria-label": name },
    make("h2", {}, name, how && make("span.chip", {}, how)),
    page.note ? make("p.note", {}, page.note) : null,
    HIDING.test(page.text) ? make("p.note", {}, "This page has invisible marks of direction: its words may stand in another order than they look.") : null,
    make(isTabular(page.text) ? "div.words.tabular" : "div.words", { dir: "auto", lang: "" }, ...drawPieces(page.text, cuts)));
}

// The text in pieces: a mark for each stretch that the same quotes cover, plain text between.
function drawPieces(text, cuts) {
  const borders = [...new Set([0, text.length, ...cuts.flatMap((cut) => [cut.start, cut.end])])].sort((a, b) => a - b);
  const ordered = [...cuts].sort((a, b) => a.start - b.start);
  let open = [];
  let next = 0;
  return borders.slice(0, -1).map((start, place) => {
    const piece = text.slice(start, borders[place + 1]);
    while (next < ordered.length && ordered[next].start <= start) open.push(ordered[next++]);
    open = open.filter((cut) => cut.end > start);
    if (!open.length) return piece;
    const mark = make(open.some((cut) => cut.speaks) ? "mark" : "mark.other", {}, piece);
    const proofs = open.map((cut) => cut.proof);
    for (const proof of proofs) marks.set(proof, [...(marks.get(proof) ?? []), mark]);
    mark.addEventListener("click", () => chooseFromText(proofs));
    return mark;
  });
}

function chooseFromText(proofs) {
  const at = proofs.indexOf(chosen?.proof ?? -1);
  choose(proofs[(at + 1) % proofs.length], false);
}

// Chooses a value; again: goes on to the next of its places.
function choose(proof, leads) {
  const again = chosen?.proof === proof;
  if (!again) {
    unchoose();
    chosen = { proof, place: -1 };
    paint(proof, "on", true);
  }
  const button = buttonOf(proof);
  for (let box = button.closest(".why"); box; box = box.parentElement.closest(".why")) box.hidden = false;
  button.setAttribute("aria-expanded", "true");
  button.setAttribute("aria-current", "true");
  whys.get(proof).hidden = false;
  makeCurrent(button);
  history.replaceState(null, "", `${address(opened)}/${proof}`);
  tellChosen(button);
  if (leads) lead(proof);
  else button.scrollIntoView({ block: "nearest" });
}

function unchoose() {
  if (!chosen) return;
  paint(chosen.proof, "on", false);
  for (const button of byId("answers").querySelectorAll("[aria-current]")) {
    button.removeAttribute("aria-current");
    button.setAttribute("aria-expanded", "false");
  }
  for (const box of byId("answers").querySelectorAll(".why:not([hidden])")) {
    box.hidden = true;
  }
  byId("chosen").hidden = true;
  chosen = null;
}

const buttonOf = (proof) => byId("answers").querySelector(`[data-proof="${proof}"]`);
const buttons = () => [...byId("answers").querySelectorAll("[data-proof]")].filter((button) => !button.closest(".why[hidden]"));

function makeCurrent(button) {
  for (const other of byId("answers").querySelectorAll("[data-proof][tabindex='0']")) other.tabIndex = -1;
  button.tabIndex = 0;
}

function paint(proof, kind, isOn) {
  for (const mark of marks.get(proof) ?? []) mark.classList.toggle(kind, isOn);
}

// Brings the words into the middle of the text.
function lead(proof) {
  const found = runs(marks.get(proof) ?? []);
  if (!found.length) {
    whys.get(proof).scrollIntoView({ block: "nearest" });
    return;
  }
  chosen.place = (chosen.place + 1) % found.length;
  showPane("text");
  const bring = () => found[chosen?.place ?? 0]?.scrollIntoView({ block: "center" });
  bring();
  requestAnimationFrame(bring); // pages that were out of sight have their true height only now
}

// Brings the words on one of the pages into the middle of the text.
function leadToPage(proof, page) {
  if (chosen?.proof !== proof) choose(proof, false);
  const sheet = byId("text").children[page];
  const at = runs(marks.get(proof) ?? []).findIndex((mark) => sheet.contains(mark));
  if (at < 0) return;
  chosen.place = at - 1;
  lead(proof);
}

// The first mark of each run of marks: neighbours are one quote.
const runs = (all) => all.filter((mark, place) => place === 0 || mark.previousSibling !== all[place - 1]);

function tellChosen(button) {
  const name = button.querySelector(":scope > .name")?.textContent;
  const value = button.querySelector(".value")?.textContent ?? button.firstChild.textContent;
  byId("chosen").querySelector("span").replaceChildren(name ? make("b", {}, `${name} `) : "", quoted("bdi", value));
  byId("chosen").hidden = false;
}

function showPane(name) {
  byId("panes").dataset.shown = name;
  byId("show-answers").setAttribute("aria-pressed", String(name === "answers"));
  byId("show-text").setAttribute("aria-pressed", String(name === "text"));
}

// Marks the words of a search in the text, without changing it.
function highlight(words) {
  if (!CSS.highlights) return;
  CSS.highlights.delete("search");
  if (!words.length) return;
  const pattern = wordsPattern(words);
  const ranges = [];
  const walker = document.createTreeWalker(byId("text"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode() && ranges.length < 5000) {
    const node = walker.currentNode;
    if (!node.parentElement.closest(".words")) continue;
    for (const found of node.data.matchAll(pattern)) {
      const range = new Range();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("search", new Highlight(...ranges));
  ranges[0]?.startContainer.parentElement.scrollIntoView({ block: "nearest" });
}
