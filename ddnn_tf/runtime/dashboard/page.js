"use strict";
// Asks the aggregator for its state twice a second, and draws it.

const token = location.hash.slice(1);
const byId = (id) => document.getElementById(id);
const percent = (part, whole) => (whole ? (100 * part / whole).toFixed(1) + " %" : "–");
let before = null;

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

function node(row, name, label) {
  let made = byId("node-" + name);
  if (!made) {
    made = element("div", { class: "node", id: "node-" + name },
      element("b", {}, label), element("small", { class: "state" }));
    byId(row).append(made);
  }
  return made;
}

function mark(made, isOn, on, off) {
  made.classList.toggle("off", !isOn);
  made.querySelector(".state").textContent = isOn ? on : off;
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

function drawDevice(state, device) {
  const made = node("devices", device.name, device.name);
  if (!made.querySelector("canvas")) {
    made.append(element("canvas", { "aria-label": "last image of " + device.name, role: "img" }));
    if (state.supervised) {
      const button = element("button", { type: "button" });
      button.addEventListener("click", () =>
        change("api/device", { name: device.name, verb: made.classList.contains("off") ? "revive" : "fail" }));
      made.append(button);
    }
  }
  mark(made, device.present, device.late ? "late" : "present", "failed");
  drawImage(made.querySelector("canvas"), device.pixels, state.image);
  const button = made.querySelector("button");
  if (button) button.textContent = device.present ? "Fail" : "Revive";
}

function wires(state) {
  const svg = byId("wires");
  const origin = svg.getBoundingClientRect();
  const lines = [];
  const connect = (low, high) => {
    const [from, to] = [byId("node-" + low), byId("node-" + high)];
    const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const places = {
      x1: a.left + a.width / 2 - origin.left, y1: a.top - origin.top,
      x2: b.left + b.width / 2 - origin.left, y2: b.bottom - origin.top,
    };
    for (const [name, value] of Object.entries(places)) line.setAttribute(name, value);
    if (from.classList.contains("off") || to.classList.contains("off")) line.setAttribute("class", "off");
    lines.push(line);
  };
  for (const device of state.devices) {
    connect(device.name, "aggregator");
    connect(device.name, device.upper);
  }
  for (const edge of state.edges) connect(edge, "cloud");
  svg.replaceChildren(...lines);
}

function exits(state) {
  byId("exits").replaceChildren(...state.tiers.map((tier) => {
    const share = percent(state.exits[tier], state.answered);
    const bar = element("i");
    bar.style.width = state.answered ? (100 * state.exits[tier] / state.answered) + "%" : "0";
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
  if (!Object.keys(state.thresholds).length) byId("thresholds").textContent = "The cloud is the only exit.";
}

function numbers(state) {
  const now = performance.now();
  const rate = before && now > before.now ? 1000 * (state.answered - before.answered) / (now - before.now) : 0;
  before = { now, answered: state.answered };
  const devices = state.devices.length;
  const each = (bytes) => (state.answered ? (bytes / state.answered / devices).toFixed(1) : "–");
  const rows = {
    "Answered": state.answered,
    "Per second": rate.toFixed(0),
    "Errors": state.errors,
    "Degraded": state.degraded,
    "Accuracy": state.accuracy === null ? "unknown" : (100 * state.accuracy).toFixed(1) + " %",
    "Bytes per sample and device": each(state.payload_bytes),
    "Raw image": each(state.raw_bytes),
    "Reduction": state.payload_bytes ? (state.raw_bytes / state.payload_bytes).toFixed(1) + " x" : "–",
  };
  byId("numbers").replaceChildren(...Object.entries(rows).flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", { "data-name": name }, String(value))]));
}

function draw(state) {
  const isReached = (name) => !state.unreachable.includes(name);
  mark(node("cloud", "cloud", "cloud"), isReached("cloud"), "answers", "does not answer");
  for (const edge of state.edges) mark(node("edges", edge, edge), isReached(edge), "answers", "does not answer");
  mark(node("aggregator", "aggregator", "local aggregator"), true, "answers", "");
  for (const device of state.devices) drawDevice(state, device);
  exits(state);
  sliders(state);
  numbers(state);
  wires(state);
  const failed = state.devices.filter((device) => !device.present).length;
  say(failed ? failed + " of " + state.devices.length + " devices failed." : "All devices are present.", failed > 0);
}

async function refresh() {
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
