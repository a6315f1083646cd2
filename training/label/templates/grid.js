// Look-alikes at once: all of them get one answer but for those that are marked.

import { thumbnail } from "/pictures.js";

const MOST = 60;
const place = document.getElementById("grid");
let shown = [];

/** Returns the undecided images like one: of its cluster, or else of the same guess. */
export function like(row, rows) {
  const same = row.cluster
    ? (other) => other.cluster === row.cluster
    : (other) => !other.cluster && other.guess.join(";") === row.guess.join(";");
  const others = rows.filter((other) => other.state === "" && other !== row && same(other));
  return [row, ...others].slice(0, MOST);
}

/** Returns the guess that most of some images have. */
export function commonGuess(rows) {
  const counts = new Map();
  for (const { guess } of rows) {
    if (guess.length) counts.set(guess.join(";"), { guess, count: (counts.get(guess.join(";"))?.count ?? 0) + 1 });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count)[0]?.guess ?? [];
}

const toggle = (button) => button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));

/** Shows images; resolves once each of them can be seen, or is marked because it cannot. */
export async function show(rows) {
  shown = rows.map((row) => ({ row, button: document.createElement("button"), ...thumbnail(row.number) }));
  place.replaceChildren(...shown.map(({ row, button, image }) => {
    const name = document.createElement("span");
    name.textContent = row.guess.join(", ") || row.path;
    button.type = "button";
    button.className = "thumb";
    button.title = row.path;
    button.setAttribute("aria-label", `exception: ${row.path}`);
    button.setAttribute("aria-pressed", "false");
    button.append(image, name);
    button.onclick = () => toggle(button);
    return button;
  }));
  place.hidden = false;
  shown[0]?.button.focus();
  await Promise.all(shown.map(async ({ button, ready }) => {
    if (await ready) {
      button.setAttribute("aria-pressed", "true");
      button.disabled = true;
    }
  }));
}

export function hide() {
  place.hidden = true;
  place.replaceChildren();
  shown = [];
}

/** Returns the numbers of those that are not marked. */
export const accepted = () => shown.filter(({ button }) => button.getAttribute("aria-pressed") !== "true")
  .map(({ row }) => row.number);

/** Moves to another image by the arrows; returns whether the key meant that. */
export function key(name) {
  const buttons = shown.map(({ button }) => button).filter((button) => !button.disabled);
  const now = Math.max(0, buttons.indexOf(document.activeElement));
  const columns = getComputedStyle(place).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[name];
  if (step === undefined) return false;
  buttons[Math.min(buttons.length - 1, Math.max(0, now + step))]?.focus();
  return true;
}
