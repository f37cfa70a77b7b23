// Which documents are shown: the filters, and the words that are looked for.

const texts = []; // of each document, small letters, once it was unpacked for a search
let unpacking = null;
const AT_ONCE = 40; // documents that are unpacked side by side

function readFilter() {
  return {
    words: byId("words").value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean),
    class: byId("class").value,
    task: byId("task").value,
    state: byId("state").value,
    flagged: byId("flagged").checked,
  };
}

const isEmpty = (filter) =>
  !filter.words.length && !filter.class && !filter.task && !filter.state && !filter.flagged;

function fits(entry, number, filter) {
  if (filter.class && entry.class_name !== filter.class) return false;
  const tasks = filter.task ? entry.tasks.filter((task) => task.task === filter.task) : entry.tasks;
  if (filter.task && !tasks.length) return false;
  if (filter.flagged && !tasks.some((task) => task.flags)) return false;
  if (filter.state && !tasks.some((task) => isIn(task, filter.state))) {
    if (!(filter.state === "failed" && entry.failed)) return false;
  }
  const text = texts[number] ?? named(entry);
  return filter.words.every((word) => text.includes(word));
}

function isIn(task, state) {
  if (state === "cut" || state === "outdated") return task[state];
  return task.state === state;
}

const named = (entry) =>
  [...entry.paths, entry.title, entry.class_name].join("\n").normalize("NFC").toLowerCase();

// Makes ready to search in texts, a few documents at a time, and tells how far it is.
async function unpackTexts(tell) {
  unpacking ??= (async () => {
    for (let first = 0; first < index.entries.length; first += AT_ONCE) {
      const some = index.entries.slice(first, first + AT_ONCE);
      const views = await Promise.all(some.map((_, place) => unpack(`d${first + place}`)));
      views.forEach((view, place) => {
        texts[first + place] = [named(some[place]), ...wordsOf(view)].join("\n");
      });
      tell(first + some.length);
      await new Promise((resolve) => setTimeout(resolve)); // keys and clicks come first
    }
  })();
  await unpacking;
}

function* wordsOf(view) {
  for (const page of view.pages) yield page.text.normalize("NFC").toLowerCase();
  for (const answer of view.answers) {
    yield answer.failure.toLowerCase();
    for (const value of answer.values) yield* wordsIn(value);
  }
}

function* wordsIn(value) {
  if (value.text) yield value.text.normalize("NFC").toLowerCase();
  for (const member of value.members) yield* wordsIn(member);
}

// The words as they may stand in a text, whatever their case.
function wordsPattern(words) {
  const longest = [...words].sort((a, b) => b.length - a.length);
  const escaped = longest.map((word) => word.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
  return new RegExp(escaped.join("|"), "giu");
}

// The words in their surroundings, for the list; null if they are in no page.
function findSnippet(view, words) {
  const pattern = wordsPattern(words);
  for (const page of view.pages) {
    pattern.lastIndex = 0;
    const found = pattern.exec(page.text);
    if (found) {
      const end = found.index + found[0].length;
      return {
        page: page.number,
        before: page.text.slice(Math.max(0, found.index - 60), found.index).replace(/\s+/g, " ").replace(/^\S* /, "… "),
        words: found[0],
        after: page.text.slice(end, end + 80).replace(/\s+/g, " ").replace(/ \S*$/, " …"),
      };
    }
  }
  return null;
}
