// The page of dashboard_node. It asks for what is new while it can be seen; nothing is asked for, and so nothing computed
// by the robot, while it is in the background.

import { drawTimeline } from "/timeline.js";

const STATE_MS = 500;
const AGAIN_MS = 1000;
const RATE_S = 5;
const WITHOUT_PICTURE_S = 5;
const NOTHING = "nothing above the threshold";
const LEVELS = ["in order", "warning", "error", "not heard of"];
const HISTORY_S = Number(document.body.dataset.history);
const UNKNOWN = document.body.dataset.unknown;
const STAGE = document.body.dataset.stage;
const MOST_SHOWN = Number(document.body.dataset.mostShown);
const part = (id) => document.getElementById(id);

history.replaceState(null, "", "/");  // the token is in a cookie now, and need not be seen
let camera = null;
let answers = [];
let pictureNumber = 0;
let pictured = null;  // of the frame in the picture: its answer, or the doubt for which it has none; null without one
let shownModel = "";
let isScored = true;

const wait = (ms) => new Promise((go) => setTimeout(go, ms));
const seen = () => document.hidden
  ? new Promise((go) => document.addEventListener("visibilitychange", go, { once: true })).then(seen)
  : Promise.resolve();
const query = (after) => `camera=${encodeURIComponent(camera ?? "")}&after=${after}`;

/** A score as a percentage, a number as it is; of `unknown`, a yes of the model's rule, nothing. */
function inWords(name, value) {
  if (value === null) return "\u2013";
  if (name === UNKNOWN) return "";
  return isScored ? `${(100 * value).toFixed(1)} %` : value.toPrecision(4);
}

function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function table(id, rows) {
  part(id).replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((text) => element("td", text)));
    return row;
  }));
}

// ---- what is shown

function showCameras(names) {
  if (camera === null && names.length) camera = names[0];
  part("cameras").hidden = names.length < 2;
  part("cameras").replaceChildren(...names.map((name) => {
    const button = element("button", name || "camera");
    button.type = "button";
    button.setAttribute("aria-pressed", String(name === camera));
    button.addEventListener("click", () => choose(name));
    return button;
  }));
}

function choose(name) {
  camera = name;
  answers = [];
  pictureNumber = 0;
  hidePicture("no picture yet");
  showFigures();
}

function showHealth(state) {
  const worst = Math.max(0, ...state.statuses.map((one) => one.level));
  let text = LEVELS[worst];
  let level = worst;
  if (state.is_silent) {
    text = state.silence || `nothing heard of ${state.node} for ${state.silence_s.toFixed(0)} s`;
    level = 2;
  }
  say(text, level);
  part("statuses").replaceChildren(
    ...state.statuses.map((one) => element("li", `${one.name}: ${one.message}`, `level${one.level}`)));
}

function say(text, level) {
  part("health").textContent = text;
  part("health").className = `level${level}`;
}

function showCamera(state) {
  const wanted = camera ? `camera ${camera}` : "camera";
  const values = state.statuses.find((one) => one.name === wanted)?.values ?? {};
  const pairs = Object.entries(values);
  const stages = pairs.filter(([key]) => key.endsWith(STAGE));
  table("stages", stages.map(([key, value]) => [key.slice(0, -STAGE.length), `${value} ms`]));
  if (stages.length) part("stages").prepend(header("stage", "half of the frames within / 95 % within"));
  table("frames", pairs.filter(([key]) => !key.endsWith(STAGE)));
}

function header(...names) {
  const row = element("tr");
  row.append(...names.map((name) => element("th", name)));
  return row;
}

/** Fewer frames are drawn than answered: what is said beside a picture is said of its frame, not of the newest. */
function showAnswer() {
  if (pictured?.doubt) {
    part("answer").replaceChildren(element("p", pictured.doubt, "soft"));
    return;
  }
  const shown = pictured?.answer ?? answers.at(-1);
  part("answer").replaceChildren(...(shown?.values ?? []).slice(0, MOST_SHOWN).map(([name, value]) => {
    const row = element("div", undefined, "row");
    const isScore = isScored && name !== UNKNOWN && value !== null;
    row.append(element("span", name, "name"), element("span", inWords(name, value), "score"));
    if (isScore) row.append(Object.assign(element("meter"), { value }));
    return row;
  }));
  if (shown && !shown.values.length) part("answer").append(element("p", NOTHING, "soft"));
}

function showFigures() {
  const last = answers.at(-1);
  const recent = last ? answers.filter((one) => one.time_s > last.time_s - RATE_S) : [];
  const ages = recent.map((one) => one.age_ms).filter((age) => age !== null).sort((a, b) => a - b);
  const span = recent.length > 1 ? last.time_s - recent[0].time_s : 0;
  const figures = [
    ["answers / s", span ? ((recent.length - 1) / span).toFixed(1) : "\u2013"],
    ["age, median", ages.length ? `${ages[ages.length >> 1].toFixed(0)} ms` : "\u2013"],
    ["age, 95 %", ages.length ? `${ages[Math.floor(0.95 * (ages.length - 1))].toFixed(0)} ms` : "\u2013"],
  ];
  part("figures").replaceChildren(...figures.map(([name, figure]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", figure));
    return pair;
  }));
}

/** Shows a frame and the answer to it, or why it has none, at once: between the two nobody sees the page. */
function showPicture(picture, frame) {
  const shown = part("overlay");
  shown.width = picture.width;
  shown.height = picture.height;
  shown.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  shown.hidden = false;
  part("no-overlay").hidden = true;
  const number = frame.answer?.number ?? answers.at(-1)?.number ?? 0;
  pictured = { answer: frame.answer, doubt: frame.doubt, number };
  showAnswer();
}

function hidePicture(why) {
  part("overlay").hidden = true;
  part("no-overlay").hidden = false;
  part("no-overlay").textContent = why;
  pictured = null;
  showAnswer();
}

/** Whether answers have come for so long without a picture that none is to be expected. */
function isLeftBehind() {
  if (pictured === null) return false;
  const next = answers[answers.findLastIndex((one) => one.number <= pictured.number) + 1];
  return next !== undefined && answers.at(-1).time_s - next.time_s > WITHOUT_PICTURE_S;
}

function showUnsure(unsure) {
  const none = pictured?.doubt || "none in the last minutes";
  const shown = unsure.map((one) => `${camera}/${one.number}`).join() || none;
  if (part("unsure").dataset.shown === shown) return;
  part("unsure").dataset.shown = shown;
  if (!unsure.length) {
    part("unsure").replaceChildren(element("p", none, "soft"));
    return;
  }
  part("unsure").replaceChildren(...unsure.map((one) => {
    const figure = element("figure");
    const picture = element("img");
    picture.src = `/unsure?${query(one.number)}`;
    picture.alt = "";
    const said = one.values.slice(0, 2).map(([name, score]) => `${name} ${inWords(name, score)}`.trim()).join(", ");
    figure.append(picture, element("figcaption", said || NOTHING));
    return figure;
  }));
}

async function showModel(state) {
  const hash = state.statuses.find((one) => one.name === "model")?.values.sha256 ?? "";
  if (hash === shownModel && part("no-model").textContent + part("model").textContent) return;
  shownModel = hash;
  const found = await (await fetch("/model")).json();
  part("no-model").textContent = found.missing;
  table("model", found.rows);
}

// ---- what is asked for

async function followState() {
  for (;;) {
    await seen();
    try {
      const asked = camera;
      const state = await (await fetch(`/state?${query(answers.at(-1)?.number ?? 0)}`)).json();
      showCameras(state.cameras);
      isScored = state.is_scored;
      showHealth(state);
      showCamera(state);
      if (asked === camera) {
        const kept = answers.filter((one) => one.number < (state.answers[0]?.number ?? Infinity));
        answers = [...kept, ...state.answers].filter((one) => one.time_s > state.now_s - HISTORY_S);
        showAnswer();
        showFigures();
        showUnsure(state.unsure);
      }
      part("legend").replaceChildren(...drawTimeline(part("timeline"), answers, state.now_s, HISTORY_S));
      await showModel(state);
    } catch {
      say("dashboard_node does not answer; start it again and open the address that it prints", 2);
      await wait(AGAIN_MS);
    }
    await wait(STATE_MS);
  }
}

async function followPictures() {
  for (;;) {
    await seen();
    try {
      const asked = camera;
      const answer = asked === null ? null : await fetch(`/picture?${query(pictureNumber)}`);
      if (answer?.status === 200) {
        const frame = JSON.parse(answer.headers.get("Frame"));
        const content = await answer.blob();
        if (asked === camera) {
          pictureNumber = frame.number;
          const picture = await createImageBitmap(content);
          if (asked === camera) showPicture(picture, frame);
        }
      } else if (answer?.status === 204) {
        if (asked === camera && isLeftBehind()) hidePicture("no picture of the latest frames");
      } else {
        await wait(AGAIN_MS);
      }
    } catch {
      await wait(AGAIN_MS);
    }
  }
}

followState();
followPictures();
