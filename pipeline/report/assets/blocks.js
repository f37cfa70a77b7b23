// The data: each block is gzip in base64, and is unpacked when it is needed.

const RECENT = 30;
const recent = new Map();
let index = null;

async function unpack(name) {
  const text = document.getElementById(name).textContent;
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// A document by its place in the list; the last ones are kept.
async function load(number) {
  const found = recent.get(number) ?? unpack(`d${number}`);
  recent.delete(number);
  recent.set(number, found);
  if (recent.size > RECENT) recent.delete(recent.keys().next().value);
  return found;
}
