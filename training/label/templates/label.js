// The page of training.label. What a person does waits in a queue: each decision is kept by the server, and the next
// picture is there to be seen, before the next key counts.

import * as find from "/find.js";
import * as grid from "/grid.js";
import * as panel from "/panel.js";
import * as pictures from "/pictures.js";
import * as server from "/server.js";

const FOLLOW_MS = 1000;
const AHEAD = 3;
const IN_FIELDS = new Set(["Backspace", "Delete", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Tab"]);
const part = (id) => document.getElementById(id);

history.replaceState(null, "", "/");  // the token is in a cookie now, and need not be seen
const { form, fields, commands, none } = await server.setting();
const rows = new Map();
let order = [];
let classes = [];
let revision = -1;
let current = -1;
let chosen = [];
let unseen = "";
let inGrid = false;
let brightness = 0;

const all = () => order.map((number) => rows.get(number));
const row = () => rows.get(current);
const known = (answer) => answer.filter((name) => name === none || classes.some((one) => one.name === name));
const inWords = (answer) => {
  if (form === "numbers") return fields.map(({ name, unit }, place) => `${name} ${answer[place] ?? ""} ${unit}`.trim()).join(", ");
  return answer.join(", ") || "no class";
};

// ---- what is shown

function apply(change) {
  if (change.revision < revision) return;
  revision = change.revision;
  for (const one of change.rows) rows.set(one.number, one);
  if (change.order) {
    order = change.order;
    const there = new Set(order);
    for (const number of rows.keys()) if (!there.has(number)) rows.delete(number);
    classes = change.classes;
    if (form !== "numbers") panel.showClasses(classes, (name, event) => clicked(event, () => choose(name)));
    showChosen();
  }
  panel.showProgress(all(), none);
  document.body.dataset.undo = change.undo;
  if (change.news) panel.say(change.news);
}

function following(number) {
  const place = order.indexOf(number);
  const round = [...order.slice(place + 1), ...order.slice(0, place + 1)];
  return round.filter((one) => rows.get(one).state === "");
}

function startingAnswer() {
  const { state, answer, guess } = row();
  if (state === "labelled") return answer;
  if (form === "one") return [];
  const first = guess.length ? guess : answer;
  return form === "numbers" ? first : known(first);
}

function showChosen() {
  panel.showChosen(chosen, row()?.guess ?? []);
  if (inGrid) panel.showCommon(chosen.length || form === "several" ? inWords(chosen) : "the class whose key you press");
}

async function show(number) {
  leaveGrid();
  delete document.body.dataset.shown;
  document.body.classList.remove("zoomed");
  current = number;
  chosen = startingAnswer();
  panel.showRow(row(), inWords);
  showChosen();
  panel.fieldsOf().forEach((field, place) => { field.value = chosen[place] ?? ""; });
  part("accepts").textContent = form === "one" ? "accept the guess" : "confirm";
  unseen = await pictures.show(part("picture"), number, "screen");
  pictures.prefetch(following(number).slice(0, AHEAD));
  panel.fieldsOf()[0]?.focus();
  panel.fieldsOf()[0]?.select();
  document.body.dataset.shown = row().path;
}

async function showNext() {
  const [next] = following(current);
  if (next === undefined) panel.say("every image is decided; the arrows go through them");
  await show(next ?? current);
}

// ---- what is decided

async function keep(path, body) {
  try {
    const change = await server.keep(path, revision, body, (why) => {
      blocked = true;
      waiting.length = 0;
      panel.say(`not saved, and tried again until it is: ${why}`, true);
    });
    if (blocked) panel.say("saved");
    return change;
  } finally {
    blocked = false;
  }
}

async function decide(numbers, answer, state) {
  apply(await keep("/decide", { numbers, answer, state }));
  await showNext();
}

function label(answer) {
  if (unseen && !inGrid) throw new server.Refused("a picture that cannot be seen is not labelled; s skips it");
  const stillOpen = (number) => number === current || rows.get(number)?.state === "";
  return decide(inGrid ? grid.accepted().filter(stillOpen) : [current], answer, "labelled");
}

function choose(name) {
  if (form === "several") {
    chosen = chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name];
  } else if (inGrid) {
    chosen = [name];
  } else {
    return label([name]);
  }
  return showChosen();
}

function accept() {
  if (form === "numbers") return label(panel.fieldsOf().map((field) => field.value));
  if (form === "several" || (inGrid && chosen.length)) return label(chosen);
  if (row().state === "labelled" && !inGrid) return showNext();
  const guess = inGrid ? [] : known(row().guess);
  if (!guess.length) throw new server.Refused("there is no guess to accept; press the key of a class");
  return label(guess);
}

function sayNone() {
  if (!inGrid) return label(form === "one" ? [none] : []);
  chosen = form === "one" ? [none] : [];
  return showChosen();
}

function skip() {
  if (inGrid) throw new server.Refused("look-alikes are not skipped at once; g shows one image");
  return decide([current], [], "skipped");
}

async function undo() {
  const change = await keep("/undo", {});
  apply(change);
  await show(change.at);
}

async function addClass(name) {
  try {
    apply(await server.keep("/class", revision, { name }, find.say));
  } catch (error) {
    return error.message;
  }
  return "";
}

// ---- how it is looked at

function step(by) {
  const place = order.indexOf(current) + by;
  if (place < 0 || place >= order.length) throw new server.Refused(by < 0 ? "this is the first image" : "this is the last image");
  return show(order[place]);
}

function leaveGrid() {
  inGrid = false;
  grid.hide();
  part("picture").hidden = false;
  delete document.body.dataset.grid;
}

async function toggleGrid() {
  if (inGrid) return show(current);
  const shown = grid.like(row(), all());
  inGrid = true;
  chosen = known(grid.commonGuess(shown));
  part("picture").hidden = true;
  part("accepts").textContent = "accept all but the marked";
  part("about").textContent = `${shown.length} look-alikes; a click or a blank marks an exception`;
  showChosen();
  await grid.show(shown);
  document.body.dataset.grid = shown.length;
  return undefined;
}

async function zoom() {
  if (inGrid) throw new server.Refused("look-alikes are shown small; g shows one image");
  const zoomed = document.body.classList.toggle("zoomed");
  const place = part("picture");
  await pictures.show(place, current, zoomed ? "full" : "screen");
  const image = place.querySelector("img");
  if (image) image.style.width = zoomed ? `${Math.max(image.naturalWidth, 2 * place.clientWidth)}px` : "";
  place.scrollTo((place.scrollWidth - place.clientWidth) / 2, (place.scrollHeight - place.clientHeight) / 2);
  if (zoomed) place.focus();
}

function brighten() {
  brightness = (brightness + 1) % 3;
  part("view").className = brightness ? `bright-${brightness}` : "";
}

function search() {
  find.search(classes.map(({ name }) => name), (name) => enqueue(() => choose(name)));
}

function add() {
  find.add(addClass);
}

const DOES = {
  accept, undo, skip, zoom, brighten, search, add, none: sayNone, grid: toggleGrid,
  back: () => step(-1), forth: () => step(1), help: () => part("help").showModal(),
};
const OPENS = new Set(["search", "add", "help"]);
const OF_CLASSES = new Set(["none", "grid", "search", "add"]);

// ---- one after the other

const waiting = [];
let working = false;
let blocked = false;
let opening = false;

function enqueue(action) {
  if (blocked) return;
  waiting.push(action);
  work();
}

async function work() {
  if (working) return;
  working = true;
  document.body.dataset.busy = "";
  while (waiting.length) {
    panel.say("");
    try {
      await waiting.shift()();
    } catch (error) {
      panel.say(error.message, true);
      waiting.length = 0;  // what was typed before this could be read was meant for another image
    }
  }
  working = false;
  opening = false;
  delete document.body.dataset.busy;
}

function command(name) {
  if (blocked) return;
  if (form === "numbers" && OF_CLASSES.has(name)) {
    panel.say("numbers are asked for here, no classes; s leaves the image out", true);
    return;
  }
  opening ||= OPENS.has(name);
  enqueue(DOES[name]);
}

function clicked(event, action) {
  if (event.detail > 0) event.currentTarget.blur();  // Enter is for the guess again
  enqueue(action);
}

// ---- keys

const commandOf = new Map(commands.flatMap(({ name, keys }) => keys.map((key) => [key, name])));

/** Returns the Latin letter of a key, where another alphabet is set up by its place; empty for other keys. */
function letterOf({ key, code }) {
  if (/^[\x20-\x7e]$/.test(key)) return /^[a-z]$/i.test(key) ? key.toLowerCase() : "";
  return key.length === 1 && /^Key[A-Z]$/.test(code) ? code.slice(3).toLowerCase() : "";
}

function keyOf(event) {
  const letter = letterOf(event);
  const key = letter ? `${event.shiftKey ? "Shift+" : ""}${letter}` : event.key;
  if (event.altKey) return "";
  return event.ctrlKey || event.metaKey ? `Ctrl+${key}` : key;
}

function isOfElement(target, key) {
  if (target.matches(".zoomed #picture")) return /^(Arrow|Page)/.test(key);
  if (target.matches("input")) return IN_FIELDS.has(key) || /^([\d.,+-]|e|Ctrl.*)$/.test(key);
  return target.matches("button:not(.thumb)") && (key === "Enter" || key === " ");
}

document.addEventListener("keydown", (event) => {
  const key = keyOf(event);
  if (document.querySelector("dialog[open]")) return;
  if (isOfElement(event.target, key)) return;
  const name = commandOf.get(key);
  const found = classes.find((one) => one.key === key);
  const closesGrid = inGrid && key === "Escape";
  const isStep = name === "back" || name === "forth";
  if (inGrid && grid.key(key)) event.preventDefault();
  else if (name || found || closesGrid) {
    event.preventDefault();
    if (opening || (event.repeat && !isStep)) return;
    if (closesGrid) command("grid");
    else if (name) command(name);
    else enqueue(() => choose(found.name));
  }
});

for (const button of document.querySelectorAll("[data-command]")) {
  button.hidden = form === "numbers" && OF_CLASSES.has(button.dataset.command);
  button.onclick = (event) => clicked(event, DOES[button.dataset.command]);
}
part("fields").onsubmit = (event) => event.preventDefault();

// ---- what others do

let lost = false;

async function follow() {
  if (working || blocked || document.hidden) return;
  try {
    const change = await server.state(revision);
    if (working || change.revision <= revision) {
      if (lost) panel.say("");
      lost = false;
      return;
    }
    const before = row();
    apply(change);
    if (!rows.has(current)) enqueue(showNext);
    else if (rows.get(current) !== before) enqueue(() => (inGrid ? undefined : show(current)));
  } catch (error) {
    if (!lost) panel.say(error.message, true);
    lost = true;
  }
}

panel.showFields(form === "numbers" ? fields : []);
panel.showKeys(commands);
enqueue(async () => {
  apply(await server.state(-1));
  await show(following(order.at(-1))[0] ?? order[0]);
  document.body.dataset.ready = "";
});
setInterval(follow, FOLLOW_MS);
