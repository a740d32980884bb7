"use strict";
// Asks the aggregator once for nodes and links, then twice a second for their state, and draws it.

const token = location.hash.slice(1);
const byId = (id) => document.getElementById(id);
const percent = (part, whole) => (whole ? (100 * part / whole).toFixed(1) + " %" : "–");
let before = null;
let hierarchy = null;

async function ask(path, body) {
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { Authorization: "Bearer " + token, ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function say(text, isBad) {
  byId("note").textContent = text;
  byId("note").className = isBad ? "bad" : "";
}

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function change(path, body) {
  ask(path, body).then(refresh, (error) => say(error.message, true));
}

function build() {
  for (const row of hierarchy.rows) {
    byId("hierarchy").append(element("div", { class: "row" }, ...row.map(node)));
  }
  const drawing = new DOMParser().parseFromString(hierarchy.svg, "image/svg+xml").documentElement;
  byId("drawing").append(document.importNode(drawing, true));
}

function node(about) {
  const made = element("div", { class: "node", id: "node-" + about.name },
    element("b", {}, about.name), element("small", { class: "state" }));
  if (about.image) made.append(element("canvas", { "aria-label": "last image of " + about.name, role: "img" }));
  if (about.role === "device" && hierarchy.supervised) {
    const button = element("button", { type: "button" });
    button.addEventListener("click", () =>
      change("api/device", { name: about.name, verb: made.classList.contains("off") ? "revive" : "fail" }));
    made.append(button);
  }
  return made;
}

function drawImage(canvas, pixels, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  const raw = atob(pixels);
  if (!raw.length) return;
  const context = canvas.getContext("2d");
  const data = context.createImageData(image.width, image.height);
  for (let at = 0; at < image.width * image.height; at++) {
    for (let channel = 0; channel < 3; channel++) {
      const from = at * image.channels + Math.min(channel, image.channels - 1);
      data.data[4 * at + channel] = raw.charCodeAt(from);
    }
    data.data[4 * at + 3] = 255;
  }
  context.putImageData(data, 0, 0);
}

function drawNode(about, state) {
  const made = byId("node-" + about.name);
  made.classList.toggle("off", !state.on);
  made.querySelector(".state").textContent = state.state;
  if (about.image) drawImage(made.querySelector("canvas"), state.pixels, about.image);
  const button = made.querySelector("button");
  if (button) button.textContent = state.on ? "Fail" : "Revive";
}

function wires() {
  const svg = byId("wires");
  const origin = svg.getBoundingClientRect();
  const lines = [];
  const connect = (low, high) => {
    const [from, to] = [byId("node-" + low), byId("node-" + high)];
    const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const isUp = a.top >= b.bottom;
    const places = {
      x1: a.left + a.width / 2 - origin.left, y1: (isUp ? a.top : a.bottom) - origin.top,
      x2: b.left + b.width / 2 - origin.left, y2: (isUp ? b.bottom : b.top) - origin.top,
    };
    for (const [name, value] of Object.entries(places)) line.setAttribute(name, value);
    if (from.classList.contains("off") || to.classList.contains("off")) line.setAttribute("class", "off");
    lines.push(line);
  };
  for (const link of hierarchy.links) connect(link.from, link.to);
  svg.replaceChildren(...lines);
}

function exits(state) {
  byId("exits").replaceChildren(...Object.entries(state.exits).map(([tier, count]) => {
    const share = percent(count, state.answered);
    const bar = element("i");
    bar.style.width = state.answered ? (100 * count / state.answered) + "%" : "0";
    return element("div", { class: "bar", id: "exit-" + tier }, element("span", {}, tier),
      element("span", {}, bar), element("span", {}, share));
  }));
}

function sliders(state) {
  for (const [tier, value] of Object.entries(state.thresholds)) {
    const id = "threshold-" + tier;
    let input = byId(id);
    if (!input) {
      input = element("input", { type: "range", min: 0, max: 1, step: 0.01, id });
      input.addEventListener("input", () => {
        input.nextSibling.textContent = Number(input.value).toFixed(2);
        change("api/threshold", { tier, value: Number(input.value) });
      });
      byId("thresholds").append(element("div", { class: "slide" },
        element("label", { for: id }, tier), input, element("output", { for: id })));
    }
    if (document.activeElement !== input) input.value = value;
    input.nextSibling.textContent = Number(input.value).toFixed(2);
  }
  if (!Object.keys(state.thresholds).length) byId("thresholds").textContent = "There is one exit only.";
}

function numbers(state) {
  const now = performance.now();
  const rate = before && now > before.now ? 1000 * (state.answered - before.answered) / (now - before.now) : 0;
  before = { now, answered: state.answered };
  const devices = devicesOf(state).length;
  const each = (bytes) => (state.answered ? (bytes / state.answered / devices).toFixed(1) : "–");
  const rows = {
    "Answered": state.answered,
    "Per second": rate.toFixed(0),
    "Errors": state.errors,
    "Degraded": state.degraded,
    "Accuracy": state.accuracy === null ? "unknown" : (100 * state.accuracy).toFixed(1) + " %",
    "Bytes per sample and device": each(state.payload_bytes),
    "Raw input": each(state.raw_bytes),
    "Reduction": state.payload_bytes ? (state.raw_bytes / state.payload_bytes).toFixed(1) + " x" : "–",
  };
  list("numbers", Object.entries(rows));
  const mean = (link) => (state.answered ? ((state.links[link] || 0) / state.answered).toFixed(1) : "–");
  list("links", hierarchy.links.map((link) => [link.from + " -> " + link.to, mean(link.from + " -> " + link.to)]));
}

function list(id, rows) {
  byId(id).replaceChildren(...rows.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", { "data-name": name }, String(value))]));
}

function devicesOf(state) {
  return hierarchy.rows.flat().filter((about) => about.role === "device").map((about) => state.nodes[about.name]);
}

function draw(state) {
  for (const about of hierarchy.rows.flat()) drawNode(about, state.nodes[about.name]);
  exits(state);
  sliders(state);
  numbers(state);
  wires();
  const devices = devicesOf(state);
  const failed = devices.filter((device) => !device.on).length;
  say(failed ? failed + " of " + devices.length + " devices failed." : "All devices are present.", failed > 0);
}

async function refresh() {
  if (!hierarchy) {
    hierarchy = await ask("api/hierarchy");
    build();
  }
  draw(await ask("api/state"));
}

async function watch() {
  try {
    await refresh();
  } catch (error) {
    say(error.message.includes("fetch") ? "The aggregator does not answer." : error.message, true);
  }
  setTimeout(watch, 500);
}

watch();
