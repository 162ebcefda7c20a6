// The page: listens to the store's news, and keeps heading, figures, table and controls up to date.

import { known, now, refine, takeNews, takeWhole } from "./data.js";
import { ago, clock, done, duration, el } from "./words.js";
import { AXES, QUANTITIES, change, matcher, onView, pin, read, shown, toggle, view } from "./view.js";
import { drawSoon, focus } from "./figure.js";
import { QUANTITY, makeFigures, missingReadings, nextAxis, shortName, xName } from "./figures.js";
import { fillTable, isSilent, makeTable } from "./table.js";

const at = (id) => document.getElementById(id);
const ALARMS_SHOWN = 6;

read();
const figures = makeFigures({ law: at("law"), curves: at("curves"), machine: at("machine") });
const missing = el("p", { className: "hint" });
at("machine").prepend(el("h2", {}, "The machine"), missing);
makeTable(at("runs-table"));

// ---- news

let source = null;
let connected = false;
let ended = false;

function connect() {
  if (source) return;
  source = new EventSource("/events");
  const take = (f) => (event) => {
    connected = true;
    ended = false;
    f(JSON.parse(event.data));
    show();
  };
  source.addEventListener("whole", take(takeWhole));
  source.addEventListener("news", take(takeNews));
  source.addEventListener("sign", () => ((connected = true), heading()));
  source.addEventListener("end", () => ((ended = true), (connected = false), heading()));
  source.onerror = () => {
    connected = false;
    // A browser gives up on a server that answers with an error; this page does not.
    if (source && source.readyState === EventSource.CLOSED) {
      disconnect();
      setTimeout(() => document.hidden || connect(), 2000);
    }
    heading();
  };
}

function disconnect() {
  source?.close();
  source = null;
}

// A browser has few connections to one address: pages that nobody sees leave theirs to others.
let leaving = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(disconnect, 60_000);
  else connect();
});

let due = null;
/** At most so often, however many news there are. */
function show() {
  if (due) return;
  due = setTimeout(() => {
    due = null;
    heading();
    studies();
    alarms();
    fillTable();
    empty();
    missing.textContent = missingReadings();
    performance.mark("shown");
    detail();
    at("machine").hidden = !known.runs.size;
    figures.all.forEach((figure) => figure.refresh());
  }, known.shownOnce ? 120 : 0);
  known.shownOnce = true;
}

/** Of many runs coarse lines were sent; the few that are looked at are fetched whole. */
const FEW_RUNS = 12;
function detail() {
  const runs = shown();
  if (!known.full || runs.length > FEW_RUNS || known.runs.size <= FEW_RUNS) return;
  refine(runs).then((came) => came && drawSoon());
}

// ---- heading

function ofView() {
  const all = known.head?.studies || [];
  return all.filter((s) => !view.study || s.name === view.study);
}

/** Work done, remaining seconds and what is going on, of all that is looked at. */
function state() {
  const runs = [...known.runs.values()].filter((r) => !view.study || r.study === view.study);
  const parts = ofView();
  const live = runs.filter((r) => r.status === "running");
  const silent = live.filter(isSilent);
  const waiting = parts.reduce((n, s) => n + s.waiting.length, 0);
  const shares = parts.map((s) => s.share).filter((s) => s !== null);
  const share = shares.length === parts.length && parts.length ? shares.reduce((a, b) => a + b, 0) / shares.length : null;
  const eta = parts.length && parts.every((s) => s.eta_s !== null) ? Math.max(...parts.map((s) => s.eta_s)) : null;
  const updated = Math.max(0, ...runs.map((r) => r.updated));
  let words = "waiting for a run";
  if (!runs.length) words = known.head?.problem ? `waiting: ${known.head.problem}` : "waiting: no run is in this store yet";
  else if (live.length && silent.length === live.length) words = "stale: nothing was written for a while; the run may have ended";
  else if (live.length) words = "training";
  else if (waiting) words = `waiting: ${waiting} more ${waiting === 1 ? "run" : "runs"} to begin`;
  else if (runs.every((r) => r.status === "done")) words = "finished";
  else words = "over: " + ["done", "diverged", "stopped", "failed"].map((s) => [s, runs.filter((r) => r.status === s).length]).filter(([, n]) => n).map(([s, n]) => `${n} ${s}`).join(", ");
  const training = words === "training";
  return { runs, words, share, eta: training ? eta : null, updated, live, training };
}

function heading() {
  const h = known.head;
  const s = state();
  const parts = [];
  if (!h) parts.push(connected ? "reading …" : "connecting …");
  else {
    parts.push(s.words);
    if (s.share !== null && s.words !== "finished") parts.push(done(s.share));
    if (s.eta !== null) parts.push(`about ${duration(s.eta)} left`);
    if (s.updated) parts.push(`updated ${ago(now() - s.updated)}`);
    if (h.reading) parts.push(`reading run ${h.reading[0]} of ${h.reading[1]}`);
    if (h.problem && s.runs.length) parts.push(h.problem);
  }
  if (h && !connected) parts.push(ended ? "the server has ended; looking for it again" : "connection lost; trying again");
  const text = parts.join(" · ");
  if (at("state").textContent !== text) at("state").textContent = text;
  at("state").classList.toggle("lost", !!h && !connected);
  at("name").textContent = view.study || (h ? (h.studies.length === 1 && h.studies[0].name) || h.store : "isoflop");
  const title = h ? at("name").textContent : "isoflop watch";
  document.title = s.share !== null && s.words !== "finished" ? `${done(s.share)} ${title}` : `${s.words === "finished" ? "✓ " : ""}${title}`;
  const bar = at("progress");
  bar.hidden = s.share === null;
  bar.firstChild.style.width = `${100 * (s.share || 0)}%`;
  bar.setAttribute("aria-valuenow", Math.floor(100 * (s.share || 0)));
  if (h) at("about").textContent = `isoflop ${h.version} watches ${h.path}, and only reads it.`;
}

function studies() {
  const all = known.head.studies;
  at("studies").hidden = all.length < 2;
  if (all.length < 2) return;
  const choice = (name, words) => el("button", { type: "button", ariaPressed: String(view.study === name), onclick: () => change({ study: name }) }, words);
  const words = (s) => `${s.name || "without a study"} (${s.runs}${s.live ? ", " + s.live + " running" : ""})`;
  const next = [choice("", "all studies"), ...all.map((s) => choice(s.name, words(s)))];
  const same = next.map((b) => b.textContent + b.ariaPressed).join();
  if (at("studies").dataset.same !== same) at("studies").replaceChildren(...next);
  at("studies").dataset.same = same;
}

/** The newest alarms; each leads to its step. */
function alarms() {
  const all = known.alarms.filter((a) => !view.study || known.runs.get(a.run)?.study === view.study);
  const strip = at("alarms");
  strip.hidden = !all.length;
  const newest = [...all].sort((a, b) => b.unix_s - a.unix_s);
  const items = newest.slice(0, ALARMS_SHOWN).map((a) => {
    const run = known.runs.get(a.run);
    return el("button", { type: "button", title: "show the run around this step", onclick: () => goTo(a) }, el("b", {}, a.alarm), ` ${run ? shortName(run) : a.run}${a.step !== undefined ? `, step ${a.step}` : ""}: ${a.words}`, el("small", {}, " " + clock(a.unix_s)));
  });
  if (newest.length > ALARMS_SHOWN) items.push(el("span", {}, `and ${newest.length - ALARMS_SHOWN} earlier`));
  strip.replaceChildren(...items);
}

function goTo({ run, step }) {
  const hidden = new Set(view.hidden);
  hidden.delete(run);
  const zoom = { ...view.zoom };
  if (step) zoom["x.step"] = [Math.max(1, step * 0.8), step * 1.2];
  change({ x: "step", hidden, zoom, pinned: new Set([...view.pinned, run]) });
  at("curves").scrollIntoView({ behavior: "smooth", block: "start" });
}

function empty() {
  const box = at("empty");
  box.hidden = known.runs.size > 0;
  for (const id of ["runs", "controls", "law", "curves"]) at(id).hidden = !known.runs.size;
  if (!known.runs.size) box.replaceChildren(el("p", {}, "Nothing is here yet. This page fills as soon as a run begins in"), el("pre", {}, known.head.path), el("p", {}, "for example by "), el("pre", {}, "isoflop demo"));
}

// ---- controls

for (const key of QUANTITIES) at("y").append(el("option", { value: key }, QUANTITY[key].name));
for (const key of AXES) at("x").append(el("option", { value: key }, xName(key)));
at("controls").addEventListener("submit", (event) => event.preventDefault());
at("filter").addEventListener("input", () => change({ filter: at("filter").value }));
at("y").addEventListener("change", () => setQuantity(at("y").value));
at("x").addEventListener("change", () => change({ x: at("x").value }));
at("smooth").addEventListener("input", () => change({ smooth: Number(at("smooth").value) }));
at("outliers").addEventListener("change", () => change({ outliers: at("outliers").checked }));
at("help-button").addEventListener("click", () => at("help").showModal());

const setQuantity = (y) => change({ y, logy: QUANTITY[y].log });

/** Controls say what the view is, whoever changed it. */
function controls() {
  if (document.activeElement !== at("filter")) at("filter").value = view.filter;
  at("filter").setCustomValidity(matcher(view.filter).wrong ? "no regular expression" : "");
  at("y").value = view.y;
  at("x").value = view.x;
  at("smooth").value = view.smooth;
  at("smooth-value").textContent = view.smooth || "off";
  at("outliers").checked = view.outliers;
}

onView(() => {
  controls();
  if (known.head) {
    heading();
    studies();
    alarms();
    fillTable();
    detail();
  }
  drawSoon();
});

addEventListener("hashchange", () => {
  read();
  change({});
});

// ---- keys

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "range";
  if (event.key === "Escape") {
    if (at("help").open) return;
    if (document.activeElement === at("filter")) at("filter").blur();
    return change({ zoom: {}, filter: "" });
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const figure = focus.figure || figures.curves;
  const keys = {
    "/": () => at("filter").focus(),
    l: () => figure.flip("y"),
    L: () => figure.flip("x"),
    x: nextAxis,
    y: () => setQuantity(QUANTITIES[(QUANTITIES.indexOf(view.y) + 1) % QUANTITIES.length]),
    h: () => focus.run && toggle(focus.run),
    p: () => focus.run && pin(focus.run),
    a: () => change({ hidden: new Set() }),
    "?": () => at("help").showModal(),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

// ---- light and dark, and the passing of time

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (known.head) fillTable();
  drawSoon();
});
setInterval(heading, 1000);
setInterval(() => known.head && fillTable(), 5000);
controls();
connect();
