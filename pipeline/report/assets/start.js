// Which of the two views is shown, the keys, and the start.

let wanted = null; // the document that is to be opened
let listAt = 0; // how far the list was scrolled

function show(name) {
  for (const view of ["library", "document"]) byId(view).hidden = view !== name;
  document.documentElement.dataset.view = name;
}

async function route() {
  const [, id, proof] = location.hash.match(/^#\/([0-9a-f]{4,64})(?:\/(\d+))?$/) ?? [];
  const number = id ? index.entries.findIndex((entry) => entry.id.startsWith(id)) : -1;
  if (!byId("library").hidden) listAt = scrollY;
  if (number >= 0) {
    wanted = number;
    await openDocument(number, proof === undefined ? null : Number(proof));
    return;
  }
  const last = opened;
  wanted = opened = null;
  show("library");
  scrollTo(0, listAt);
  rowOf(last)?.focus({ preventScroll: true });
}

const rowOf = (number) => byId("list").querySelector(`tr[data-number="${number}"] a`);

function openNext(step) {
  const number = shown[shown.indexOf(opened) + step];
  if (opened !== null && shown.includes(opened) && number !== undefined) location.replace(address(number));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const isTyping = event.target.matches("input:not([type=checkbox]), select");
  const act = (byId("library").hidden ? documentKey : libraryKey)(event, isTyping);
  if (act) {
    event.preventDefault();
    act();
  }
}

function libraryKey(event, isTyping) {
  const links = () => [...byId("list").querySelectorAll("tbody a")];
  const at = links().indexOf(document.activeElement);
  if (event.key === "/" && !isTyping) return () => byId("words").focus();
  if (event.key === "Escape" && event.target === byId("words")) {
    return () => {
      if (byId("words").value) {
        byId("words").value = "";
        refresh();
      } else focusRow(links()[0]);
    };
  }
  if (isTyping && !(event.target === byId("words") && event.key === "ArrowDown")) return null;
  if (event.key === "ArrowDown") {
    return () => {
      if (at + 1 >= drawn) drawRows();
      focusRow(links()[at + 1]);
    };
  }
  if (event.key === "ArrowUp" && at > 0) return () => focusRow(links()[at - 1]);
  if (event.key === "ArrowUp" && at === 0) return () => byId("words").focus();
  if (event.key === "Home" && at > 0) return () => focusRow(links()[0]);
  if (event.key === "End" && at >= 0) return () => focusRow(links().at(-1));
  return null;
}

function focusRow(link) {
  if (!link) return;
  for (const other of byId("list").querySelectorAll("a[tabindex='0']")) other.tabIndex = -1;
  link.tabIndex = 0;
  link.focus();
  link.closest("tr").scrollIntoView({ block: "nearest" });
}

function documentKey(event, isTyping) {
  if (event.key === "Escape") return goBack;
  if (isTyping) return null;
  if (event.key === "/") {
    return () => {
      location.hash = "#/";
      byId("words").focus();
    };
  }
  if (byId("text").contains(event.target)) return null; // there the arrow keys scroll
  if (event.key === "ArrowLeft") return () => openNext(-1);
  if (event.key === "ArrowRight") return () => openNext(1);
  const all = buttons();
  const at = all.indexOf(document.activeElement);
  if (event.key === "ArrowDown") return () => focusValue(all[at + 1]);
  if (event.key === "ArrowUp") return () => focusValue(all[at - 1]);
  if (event.key === "Home" && at >= 0) return () => focusValue(all[0]);
  if (event.key === "End" && at >= 0) return () => focusValue(all.at(-1));
  const isSentence = event.target.matches("span[role=button]");
  if (isSentence && (event.key === "Enter" || event.key === " ")) return () => event.target.click();
  return null;
}

function focusValue(button) {
  if (!button) return;
  makeCurrent(button);
  button.focus({ preventScroll: true });
  button.scrollIntoView({ block: "nearest" });
}

// One step back: from the text on a small screen, from the chosen value, from the document.
function goBack() {
  const button = chosen && buttonOf(chosen.proof);
  if (byId("show-text").offsetParent && byId("panes").dataset.shown === "text") {
    showPane("answers");
    focusValue(button ?? buttons()[0]);
  } else if (byId("text").contains(document.activeElement) && (button || buttons()[0])) {
    focusValue(button ?? buttons()[0]);
  } else if (chosen) {
    unchoose();
    focusValue(button);
  } else location.hash = "#/";
}

function listen() {
  addEventListener("hashchange", route);
  addEventListener("keydown", onKey);
  addEventListener("beforeprint", () => {
    while (drawn < shown.length) drawRows();
  });
  byId("filters").addEventListener("input", refresh);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(refresh)); // after it has taken place
  byId("words").addEventListener("focus", () => unpackTexts(() => {}), { once: true });
  byId("previous").addEventListener("click", () => openNext(-1));
  byId("next").addEventListener("click", () => openNext(1));
  byId("show-answers").addEventListener("click", () => showPane("answers"));
  byId("show-text").addEventListener("click", () => showPane("text"));
  byId("chosen").querySelector("button").addEventListener("click", goBack);
}

async function start() {
  if (!("DecompressionStream" in window)) {
    throw new Error("this browser is too old: it has no DecompressionStream. Use one of 2023 or newer");
  }
  index = await unpack("index");
  drawLibrary();
  listen();
  await refresh();
  await route();
  performance.mark("ready");
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  byId("trouble").textContent = `The report can't be shown: ${error.message}.`;
  byId("trouble").hidden = false;
});
