// The side of the page: the classes with their keys and how many images each has, the guess, the fields, the progress.

const part = (id) => document.getElementById(id);
const KEYS = { ArrowLeft: "←", ArrowRight: "→", Backspace: "⌫" };

export const keyName = (key) => KEYS[key] ?? (key.startsWith("Shift+") ? `⇧${key.slice(6).toUpperCase()}` : key);

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export const key = (name) => element("kbd", keyName(name));

/** Makes a button for every class; `choose` is told of a click. */
export function showClasses(classes, choose) {
  part("classes").replaceChildren(...classes.map(({ name, key: keyed }) => {
    const button = element("button", "", { type: "button", "data-class": name, "aria-pressed": "false" });
    if (keyed) button.setAttribute("aria-keyshortcuts", keyed);
    const bar = element("span", "", { class: "bar", "aria-hidden": "true" });
    bar.append(element("i"));
    button.append(keyed ? key(keyed) : element("span"), element("span", name), element("small"), bar);
    button.onclick = (event) => choose(name, event);
    return button;
  }));
  if (!classes.length) part("classes").append(element("p", "There is no class yet; + adds one."));
}

export function showChosen(chosen, guess) {
  for (const button of part("classes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(chosen.includes(button.dataset.class)));
    button.classList.toggle("guessed", guess.includes(button.dataset.class));
  }
}

/** Shows what look-alikes get. */
export const showCommon = (text) => part("guess").replaceChildren("all but the marked get ", element("b", text));

/** Shows how many images each class has, and how many are left. */
export function showProgress(rows, none) {
  const counts = new Map();
  const states = { labelled: 0, skipped: 0, "": 0 };
  for (const row of rows) {
    states[row.state] += 1;
    if (row.state !== "labelled") continue;
    for (const name of row.answer) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const most = Math.max(1, ...counts.values());
  for (const button of part("classes").querySelectorAll("button")) {
    const count = counts.get(button.dataset.class) ?? 0;
    button.querySelector("small").textContent = count;
    button.querySelector("i").style.width = `${100 * count / most}%`;
  }
  const all = rows.length;
  const nones = counts.get(none);
  part("progress").textContent = `${states.labelled} labelled${nones ? ` (${nones} ${none})` : ""}, `
    + `${states.skipped} skipped, ${states[""]} of ${all} left`;
  part("done").style.width = `${100 * (all - states[""]) / Math.max(1, all)}%`;
  document.body.dataset.left = states[""];
}

/** Shows what the model says and what the table says of an image. */
export function showRow(row, inWords) {
  const guess = part("guess");
  guess.replaceChildren();
  if (row.guess.length) {
    guess.append("guess ", element("b", inWords(row.guess)));
    if (row.doubt !== null) guess.append(`, doubt ${row.doubt.toFixed(2)}`);
  }
  const said = { labelled: "labelled ", skipped: "skipped", "": row.answer.length ? "in the table, to be checked: " : "" }[row.state];
  if (said) {
    if (guess.hasChildNodes()) guess.append(element("br"));
    guess.append(said, element("b", row.state === "skipped" ? "" : inWords(row.answer)));
  }
  const facts = [row.path, row.part, row.bag && `bag ${row.bag}`, row.cluster && `cluster ${row.cluster}`, row.reason];
  part("about").textContent = facts.filter(Boolean).join(" · ");
}

/** Makes a field for each number. */
export function showFields(fields) {
  part("fields").replaceChildren(...fields.flatMap(({ name, unit }, place) => [
    element("label", name, { for: `field-${place}` }),
    element("input", "", { id: `field-${place}`, inputmode: "decimal", autocomplete: "off" }),
    element("span", unit),
  ]));
  part("fields").hidden = !fields.length;
}

export const fieldsOf = () => [...part("fields").querySelectorAll("input")];

export function say(text, bad = false) {
  part("message").textContent = text;
  part("message").className = bad ? "bad" : "";
}

export function showKeys(commands) {
  const rows = commands.map(({ keys, does }) => {
    const row = element("tr");
    const cell = element("td");
    cell.append(...keys.map(key));
    row.append(cell, element("td", does));
    return row;
  });
  const last = element("tr");
  last.append(element("td", "others"), element("td", "the class on whose button they stand; in the look-alikes, Space and the arrows mark exceptions"));
  part("keys").replaceChildren(...rows, last);
}
