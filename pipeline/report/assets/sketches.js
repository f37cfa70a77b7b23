// Small drawings of pages: their outline, and a box for each line of a quote.

const SKETCH_PIXELS = 96; // the longer side of a drawing, in pixels
const LEAST_PIXELS = 2; // a line of a large page would else be too thin to be seen

function drawSvg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A button: it leads to the words on that page.
function drawSketch(sketch, number, view) {
  const { width, height } = sketch;
  const scale = SKETCH_PIXELS / Math.max(width, height);
  const least = LEAST_PIXELS / scale;
  const boxes = sketch.boxes.map(([x, y, w, h]) => {
    const tall = Math.max(h, least);
    return drawSvg("rect", { class: "spot", x, y: y - (tall - h) / 2, width: Math.max(w, least), height: tall });
  });
  const picture = drawSvg("svg", { viewBox: `0 0 ${width} ${height}`, width: Math.max(width * scale, 1), height: Math.max(height * scale, 1), "aria-hidden": "true", focusable: "false" },
    drawSvg("rect", { class: "leaf", width, height }), ...boxes);
  const page = view.pages[sketch.page].number;
  const words = `page ${page}, ${sketch.where}`;
  const button = make("button.sketch", { type: "button", "aria-label": `${words}: show in the text`, title: words }, picture);
  button.addEventListener("click", () => leadToPage(number, sketch.page));
  return button;
}

const drawSketches = (proof, number, view) => proof.sketches.length
  ? make("div.sketches", {}, ...proof.sketches.map((sketch) => drawSketch(sketch, number, view))) : null;
