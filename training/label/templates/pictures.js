// Pictures by number: fetched before they are needed, and shown once they are whole.

import { trouble } from "/server.js";

const KEPT = 12;
const PATIENCE_MS = 30000;
const SMALL = 256;
const fetched = new Map();

const address = (number, size) => `/picture/${number}/${size}`;

function load(number, size) {
  const image = new Image();
  image.alt = "";
  const ready = new Promise((done) => {
    image.onload = () => done("");
    image.onerror = async () => done(await trouble(image.src) || "it cannot be shown");
    setTimeout(done, PATIENCE_MS, "it takes too long to be read");
  });
  image.src = address(number, size);
  return { image, ready };
}

function taken(number, size) {
  const key = address(number, size);
  const found = fetched.get(key) ?? load(number, size);
  fetched.delete(key);
  fetched.set(key, found);
  for (const oldest of fetched.keys()) {
    if (fetched.size <= KEPT) break;
    fetched.delete(oldest);
  }
  return { key, ...found };
}

export function prefetch(numbers) {
  for (const number of numbers) taken(number, "screen");
}

/** Shows a picture, or why there is none; returns that, empty for a picture. */
export async function show(place, number, size) {
  const { key, image, ready } = taken(number, size);
  const why = await ready;
  if (why) {
    fetched.delete(key);  // it may be mended
    const said = document.createElement("p");
    said.textContent = `This picture cannot be shown: ${why}`;
    place.replaceChildren(said);
    return why;
  }
  image.className = Math.max(image.naturalWidth, image.naturalHeight) <= SMALL ? "small" : "";
  place.replaceChildren(image);
  await image.decode().catch(() => {});
  return "";
}

/** Returns a small picture, and whether it can be seen, once that is known. */
export const thumbnail = (number) => load(number, "small");
