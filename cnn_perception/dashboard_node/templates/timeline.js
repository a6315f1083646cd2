// The scores of the classes over time, and below them which one was the answer.

const COLOURS = ["#3b82c4", "#d97706", "#12805c", "#b83280", "#7c5cd6", "#8a8f98"];
const MOST = COLOURS.length - 1;
const STRIP = 16;
const GAP_S = 2;
const LEAST_S = 30;

/** Draws the answers of the last seconds, of fewer where there are none before; returns the legend's entries. */
export function drawTimeline(canvas, answers, nowS, mostS) {
  const seconds = Math.min(mostS, Math.max(LEAST_S, answers.length ? nowS - answers[0].time_s : 0));
  const scale = window.devicePixelRatio || 1;
  const width = Math.max(200, canvas.clientWidth), height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const names = mostFrequent(answers);
  const colour = (name) => COLOURS[names.indexOf(name) < 0 ? MOST : names.indexOf(name)];
  const plot = height - STRIP - 22;
  const [least, most] = range(answers);
  const x = (one) => width * (1 - (nowS - one.time_s) / seconds);
  const y = (value) => 4 + plot * (1 - (value - least) / (most - least));
  grid(pen, width, plot, least, most, seconds, height);
  for (const name of names) line(pen, answers, name, colour(name), x, y);
  for (const one of answers) {
    pen.fillStyle = colour(one.values[0]?.[0]);
    pen.fillRect(x(one), plot + 8, Math.max(1.5, width / seconds / 10), STRIP);
  }
  return names.map((name) => entry(name, colour(name)));
}

function mostFrequent(answers) {
  const counts = new Map();
  for (const one of answers) {
    const name = one.values[0]?.[0];
    if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([name]) => name);
}

function range(answers) {
  let least = 0, most = 0;  // one by one: a call takes no more than some 100,000 arguments
  for (const one of answers) {
    for (const [, value] of one.values) {
      if (value !== null) {
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
    }
  }
  return least >= 0 && most <= 1 ? [0, 1] : [least, most > least ? most : least + 1];
}

function grid(pen, width, plot, least, most, seconds, height) {
  const style = getComputedStyle(document.documentElement);
  pen.strokeStyle = style.getPropertyValue("--line");
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.font = "11px system-ui, sans-serif";
  for (const share of [0, 0.5, 1]) {
    const height = 4 + plot * (1 - share);
    pen.beginPath();
    pen.moveTo(0, height);
    pen.lineTo(width, height);
    pen.stroke();
    pen.fillText((least + share * (most - least)).toPrecision(2), 2, height + (share ? 12 : -3));
  }
  pen.fillText(seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`, 2, height - 4);
  pen.textAlign = "right";
  pen.fillText("now", width - 2, height - 4);
  pen.textAlign = "left";
}

function line(pen, answers, name, colour, x, y) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.6;
  pen.beginPath();
  let last = null;
  for (const one of answers) {
    const value = one.values.find(([other]) => other === name)?.[1];
    if (value === undefined || value === null) continue;
    if (last === null || one.time_s - last > GAP_S) pen.moveTo(x(one), y(value));
    else pen.lineTo(x(one), y(value));
    last = one.time_s;
  }
  pen.stroke();
}

function entry(name, colour) {
  const item = document.createElement("li");
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  square.setAttribute("width", "12");
  square.setAttribute("height", "12");
  square.setAttribute("fill", colour);
  mark.append(square);
  item.append(mark, name);
  return item;
}
