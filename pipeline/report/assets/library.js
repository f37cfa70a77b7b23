// The library: figures, runs, failures, and the list of documents under its filters.

const ROWS = 100; // drawn at once; more when they come into sight
const STATES = { done: "Done", pending: "To be done", failed: "Failed", outdated: "Outdated", cut: "Cut short" };
const MARKS = { done: "✓", pending: "…", failed: "✕" };

let shown = []; // places of the documents in the list, as it is filtered
let drawn = 0;
let newest = 0; // of the searches: an older one draws nothing any more

function drawLibrary() {
  const all = index.entries.length;
  const tasks = index.entries.flatMap((entry) => entry.tasks);
  const run = index.runs[index.runs.length - 1];
  const part = all < index.documents_all ? `${all} of ${index.documents_all} documents` : "";
  byId("published").textContent = [
    index.published_at && `Published ${when(index.published_at)}`,
    run && `last run ${run.state}`, run && `model ${run.model}`, part,
  ].filter(Boolean).join(" · ");
  const failed = tasks.filter((task) => task.state === "failed").length +
    index.entries.filter((entry) => entry.failed).length;
  byId("tiles").append(
    tile(all, "documents", {}),
    tile(tasks.filter((task) => task.state === "done").length, "answers", { state: "done" }),
    tile(sum(tasks, (task) => task.flags), "flagged values", { flagged: true }, "warn"),
    tile(failed, "failed", { state: "failed" }, "bad"),
    tile(tasks.filter((task) => task.state === "pending").length, "to be done", { state: "pending" }),
  );
  drawFailures();
  drawRuns();
  const classes = tally(index.entries.map((entry) => entry.class_name).filter(Boolean));
  for (const [name, count] of classes) byId("class").append(option(name, `${label(name)} (${count})`));
  for (const name of index.tasks) byId("task").append(option(name, label(name)));
  for (const [name, words] of Object.entries(STATES)) {
    if (tasks.some((task) => isIn(task, name)) || name === "failed") byId("state").append(option(name, words));
  }
  new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && drawRows(), {
    rootMargin: "600px",
  }).observe(byId("more"));
}

const sum = (items, of) => items.reduce((total, item) => total + of(item), 0);
const option = (value, words) => make("option", { value }, words);

function tally(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}

function tile(count, words, filter, kind) {
  const what = `button.tile${kind && count ? `.${kind}` : ""}`;
  const button = make(what, { type: "button" }, make("b", {}, count.toLocaleString()), make("span", {}, words));
  button.disabled = !count;
  button.addEventListener("click", () => {
    byId("filters").reset();
    byId("state").value = filter.state ?? "";
    byId("flagged").checked = filter.flagged ?? false;
    refresh();
    byId("filters").scrollIntoView({ block: "nearest" });
  });
  return button;
}

function drawFailures() {
  const box = byId("failures");
  box.hidden = !index.failures.length;
  box.querySelector("summary").append(counted(index.failures.length, "failure"));
  const list = box.querySelector("ul");
  // Drawn when it is opened: there may be thousands.
  box.addEventListener("toggle", () => {
    if (list.childElementCount) return;
    list.append(...index.failures.map((failure) => {
      const entry = index.entries[failure.document];
      const name = failure.path.split("/").pop() || "the run";
      return make("li", {},
        entry ? quoted("a", name, { href: address(failure.document), title: failure.path })
          : quoted("strong", name, { title: failure.path }),
        failure.task ? make("span.chip", {}, failure.task) : null,
        make("span.chip.bad", {}, failure.kind), quoted("p", failure.message));
    }));
  });
}

function drawRuns() {
  const box = byId("runs");
  box.hidden = !index.runs.length;
  box.querySelector("summary").append(counted(index.runs.length, "run"));
  const names = ["Started", "State", "Took", "Folder", "Model", "Files", "Documents", "Answers", "Failed", "Calls"];
  const rows = [...index.runs].reverse().map((run) => make("tr", {},
    ...[when(run.started_at), run.state, took(run.seconds), run.folder, run.model].map((text) => make("td", {}, text)),
    ...[run.files, run.documents, run.answers, run.failed, run.model_calls].map((count) =>
      make("td.number", {}, count.toLocaleString()))));
  box.querySelector("div").append(make("table", {},
    make("thead", {}, make("tr", {}, ...names.map((name, place) =>
      make(place < 5 ? "th" : "th.number", { scope: "col" }, name)))),
    make("tbody", {}, ...rows)));
}

// Draws the list again; the words are looked for in the texts as soon as these are unpacked.
async function refresh() {
  const filter = readFilter();
  const search = (newest += 1);
  byId("clear").hidden = isEmpty(filter);
  const count = () => {
    if (search !== newest) return;
    shown = index.entries.map((_, n) => n).filter((n) => fits(index.entries[n], n, filter));
    drawList();
  };
  if (filter.words.length && texts.length < index.entries.length) {
    count();
    if (!shown.length) byId("count").textContent = "Searching …";
    await unpackTexts((done) => {
      if (search === newest) byId("count").textContent = `Searching … ${percent(done / index.entries.length)}`;
    });
  }
  count();
}

function drawList() {
  byId("list").tBodies[0].replaceChildren();
  drawn = 0;
  drawRows();
  const all = index.entries.length;
  byId("count").textContent = !all ? "There are no documents yet."
    : shown.length === all ? counted(all, "document")
      : shown.length ? `${shown.length.toLocaleString()} of ${counted(all, "document")}`
        : "No document fits. Take a filter away, or look for fewer words.";
  byId("list").hidden = !shown.length;
}

function drawRows() {
  const words = readFilter().words;
  const numbers = shown.slice(drawn, drawn + ROWS);
  const rows = numbers.map(row);
  if (!drawn && rows.length) rows[0].querySelector("a").tabIndex = 0;
  drawn += rows.length;
  byId("list").tBodies[0].append(...rows);
  if (words.length) drawSnippets(numbers, rows, words);
}

function row(number) {
  const entry = index.entries[number];
  return make("tr", { "data-number": number },
    make("th.name", { scope: "row" },
      quoted("a", entry.name, { href: address(number), tabindex: -1, title: entry.paths.join("\n") }),
      entry.folder ? quoted("span.folder", entry.folder) : null, make("span.found")),
    make("td.class", {}, entry.class_name),
    make("td.number", { "data-unit": entry.pages === 1 ? "page" : "pages" }, entry.pages.toLocaleString()),
    make("td.states", {}, ...chips(entry)));
}

// The words in their surroundings, row by row, until another search begins.
async function drawSnippets(numbers, rows, words) {
  const search = newest;
  for (const [place, number] of numbers.entries()) {
    const snippet = findSnippet(await load(number), words);
    if (search !== newest) return;
    if (snippet) {
      rows[place].querySelector(".found").append(make("span.page", {}, `p. ${snippet.page}`),
        quoted("q", snippet.before), quoted("mark", snippet.words), quoted("q", snippet.after));
    }
  }
}

function chips(entry) {
  if (entry.failed) return [make("span.chip.bad", { title: entry.failure }, `✕ ${entry.failure_kind || "not read"}`)];
  return entry.tasks.map((task) => {
    const flags = task.flags ? ` ⚑ ${task.flags}` : "";
    const kind = task.state === "failed" ? ".bad" : flags ? ".warn" : task.state === "pending" ? ".wait" : "";
    const tells = [STATES[task.state], task.flags && counted(task.flags, "value flagged", "values flagged"),
      task.cut && "cut short", task.outdated && "outdated"].filter(Boolean).join(", ");
    return make(`span.chip${kind}`, { title: tells }, make("span", { "aria-hidden": true }, `${MARKS[task.state] ?? ""} `),
      task.task, make("span.hidden", {}, `: ${tells}`), make("span", { "aria-hidden": true }, flags));
  });
}

const address = (number) => `#/${index.entries[number].id.slice(0, 12)}`;
