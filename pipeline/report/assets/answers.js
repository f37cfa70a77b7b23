// The answers about a document: each value is a button that leads to the words it came from.

const SUPPORT = {
  verbatim: "the words of the document",
  derived: "follows from the words of the document",
  unsupported: "nothing in the document speaks for it",
  not_found: "not found in the document",
};

const UNSURE = 0.6; // confidence, probability and score below it are shown to be low

function drawAnswers(view) {
  byId("answers").replaceChildren(...view.answers.map((answer) => drawAnswer(answer, view)));
  if (!view.answers.length) byId("answers").append(make("p.note", {}, "Nothing was asked about this document."));
}

function drawAnswer(answer, view) {
  const marks = [
    answer.state === "pending" ? make("span.chip.wait", {}, "to be done") : null,
    answer.outdated ? make("span.chip.warn", { title: "To an earlier form of the question or the text" }, "outdated") : null,
    answer.cut ? make("span.chip.warn", { title: "The answer reached its limit and was shortened" }, "cut short") : null,
  ];
  const about = answer.values.length
    ? [answer.model, counted(answer.tokens, "token"), `${answer.model_s.toFixed(1)} s`].filter(Boolean).join(" · ") : "";
  return make("article", {},
    make("header", {}, make("h2", {}, label(answer.task)), ...marks, make("span.about", {}, about)),
    answer.state === "failed" ? drawReason(answer.failure_kind, answer.failure) : null,
    drawMembers(answer.values, view),
    answer.unplaced.length ? make("div.others", {}, make("h3", {}, "More evidence"),
      make("ul.values", {}, ...answer.unplaced.map((number) =>
        drawValue({ name: view.proofs[number].field, text: view.proofs[number].value, proof: number }, view)))) : null);
}

const drawReason = (kind, reason) => make("p.reason", {}, make("span.chip.bad", {}, kind), " ", quoted("span", reason));

function drawMembers(values, view) {
  if (!values.length) return null;
  return make("ul.values", {}, ...values.map((value) => {
    if (value.kind === "prose") return drawProse(value, view);
    if (value.kind === "value") return drawValue(value, view);
    return make(value.kind === "list" ? "li.items" : "li.group", {},
      value.name ? make("span.name", {}, label(value.name)) : null, drawMembers(value.members, view));
  }));
}

function drawValue(value, view) {
  const proof = view.proofs[value.proof];
  const isNull = value.text === null;
  const children = [
    value.name ? make("span.name", {}, label(value.name)) : null,
    isNull ? make("span.value.none", {}, make("span.hidden", {}, "nothing"), make("span", { "aria-hidden": true }, "–"))
      : quoted("span.value", value.text),
    make("span.marks", {}, ...drawMarks(proof, view)),
  ];
  const item = make(proof?.flagged ? "li.flagged" : "li");
  if (!proof) {
    item.append(make("div.row", { title: isNull ? null : "No source is recorded for this value" }, ...children));
    return item;
  }
  const why = drawWhy(proof, value.proof, view);
  item.append(asButton(make("button.row", { type: "button" }, ...children), value.proof, why), why);
  return item;
}

function drawMarks(proof, view, isBrief = false) {
  if (!proof) return [];
  const pages = [...new Set(proof.places.map((place) => view.pages[place.page].number))];
  const sure = proof.confidence ?? proof.probability ?? proof.score;
  const tells = proof.confidence !== null ? "Of values like this, so many were right on labelled documents"
    : proof.probability !== null ? "How sure the model was of these words; how often that is right was not measured"
    : "How much of it stands in its source";
  return [
    proof.flagged ? make("span.flag", {}, `⚑ ${proof.support.replace("_", " ")}`) : null,
    proof.others.length ? make("span.more", { title: counted(proof.others.length, "other candidate") }, counted(proof.others.length, "other")) : null,
    sure !== null && (sure < UNSURE || !isBrief) ? make(sure < UNSURE ? "span.sure.low" : "span.sure", { title: tells }, percent(sure)) : null,
    pages.length ? make("span.page", {}, pages.length > 1 ? `pp. ${pages[0]}–${pages[pages.length - 1]}` : `p. ${pages[0]}`) : null,
  ];
}

// A text: each of its sentences leads to its source; what speaks for it is shown below the text.
function drawProse(value, view) {
  const reasons = [];
  const text = make("p.prose", { dir: "auto", lang: "" }, ...value.members.map((piece) => {
    const proof = view.proofs[piece.proof];
    if (!proof) return piece.text;
    const why = drawWhy(proof, piece.proof, view);
    reasons.push(why);
    const what = proof.flagged ? "span.sentence.flagged" : "span.sentence";
    // A span: a button would not break over lines.
    return asButton(make(what, { role: "button" }, piece.text, make("span.marks", {}, ...drawMarks(proof, view, true))), piece.proof, why);
  }));
  return make("li.text", {}, text, ...reasons);
}

// What is shown of a value when it is chosen.
function drawWhy(proof, number, view) {
  const others = proof.others.map((other) =>
    drawValue({ name: "", text: view.proofs[other].value, proof: other }, view));
  return make("div.why", { hidden: true },
    drawSketches(proof, number, view),
    proof.quote ? quoted("blockquote", proof.quote) : null,
    make("p", {}, [SUPPORT[proof.support], proof.confidence !== null && `right ${percent(proof.confidence)} of the time`,
      proof.probability !== null && `model ${percent(proof.probability)} sure`,
      proof.score !== null && `${percent(proof.score)} of it in the source`].filter(Boolean).join(" · ")),
    proof.reason ? quoted(proof.flagged ? "p.reason" : "p", proof.reason) : null,
    others.length ? make("div.others", {}, make("h3", {}, "Also found"), make("ul.values", {}, ...others)) : null);
}

function asButton(element, number, why) {
  element.dataset.proof = number;
  element.tabIndex = -1;
  element.setAttribute("aria-expanded", "false");
  element.addEventListener("click", () => choose(number, true));
  element.addEventListener("mouseenter", () => paint(number, "hint", true));
  element.addEventListener("mouseleave", () => paint(number, "hint", false));
  element.addEventListener("focus", () => paint(number, "hint", true));
  element.addEventListener("blur", () => paint(number, "hint", false));
  whys.set(number, why);
  return element;
}
