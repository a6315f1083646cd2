// A field in front of the page: to find a class by its name, or to name a new one.

const part = (id) => document.getElementById(id);
const MOST = 40;

function matching(names, text) {
  const wanted = text.toLowerCase();
  const found = names.filter((name) => name.toLowerCase().includes(wanted));
  return found.sort((a, b) => b.toLowerCase().startsWith(wanted) - a.toLowerCase().startsWith(wanted)).slice(0, MOST);
}

export function say(text) {
  part("trouble").textContent = text;
}

/** Asks for a name; `take` gets it and returns what is wrong with it, or nothing. `names` are offered, if there are any. */
function ask(what, names, take) {
  const field = part("name");
  part("what").textContent = what;
  say("");
  field.value = "";
  const finish = async (name) => {
    const wrong = await take(name);
    say(wrong ?? "");
    if (!wrong) part("find").close();
  };
  const offer = () => part("found").replaceChildren(...matching(names, field.value).map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.onclick = () => finish(name);
    return button;
  }));
  field.oninput = offer;
  field.onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const first = matching(names, field.value)[0];
    finish(names.length ? first ?? "" : field.value);
  };
  offer();
  part("find").showModal();
  field.focus();
}

export function search(names, choose) {
  ask("Class", names, (name) => (name ? void choose(name) : "there is no such class; + adds one"));
}

export function add(keep) {
  ask("New class", [], keep);
}
