// What of the store is shown, and how. All of it stands in the address behind the `#`, so that reloading or sending
// the address gives the same view.

import { known } from "./data.js";

export const AXES = ["step", "tokens", "flops", "seconds", "joules", "fork"];
export const QUANTITIES = ["loss", "train", "val", "lr", "grad", "speed", "peak", "wait"];

const USUAL = {
  study: "", y: "loss", x: "tokens", smooth: 0, outliers: true, filter: "", law: "n",
  logx: true, logy: true, lawx: true, lawy: true, sort: "params", down: false, fold: false,
};

export const view = { ...USUAL, hidden: new Set(), pinned: new Set(), zoom: {} };

const listeners = [];
export const onView = (f) => listeners.push(f);

/** Changes the view, tells who draws, and keeps the address. */
export function change(parts) {
  Object.assign(view, parts);
  write();
  listeners.forEach((f) => f());
}

function write() {
  const out = new URLSearchParams();
  for (const [key, usual] of Object.entries(USUAL)) {
    if (view[key] !== usual) out.set(key, typeof usual === "boolean" ? Number(view[key]) : view[key]);
  }
  if (view.hidden.size) out.set("hide", [...view.hidden].join(","));
  if (view.pinned.size) out.set("pin", [...view.pinned].join(","));
  for (const [key, range] of Object.entries(view.zoom)) if (range) out.set("zoom." + key, range.map((v) => Number(v.toPrecision(6))).join("~"));
  const hash = out.toString();
  history.replaceState(null, "", hash ? "#" + hash : location.pathname);
}

export function read() {
  const from = new URLSearchParams(location.hash.slice(1));
  for (const [key, usual] of Object.entries(USUAL)) {
    const said = from.get(key);
    if (said === null) view[key] = usual;
    else if (typeof usual === "boolean") view[key] = said !== "0";
    else if (typeof usual === "number") view[key] = Math.min(0.99, Math.max(0, Number(said) || 0));
    else view[key] = said;
  }
  if (!AXES.includes(view.x)) view.x = USUAL.x;
  if (!QUANTITIES.includes(view.y)) view.y = USUAL.y;
  if (!["n", "d", "c"].includes(view.law)) view.law = USUAL.law;
  const list = (key) => new Set((from.get(key) || "").split(",").filter(Boolean));
  view.hidden = list("hide");
  view.pinned = list("pin");
  view.zoom = {};
  for (const [key, value] of from) {
    const range = value.split("~").map(Number);
    if (key.startsWith("zoom.") && range.length === 2 && range.every(Number.isFinite) && range[0] < range[1]) view.zoom[key.slice(5)] = range;
  }
}

/** Whether a run passes the filter: text that all of its words contain, or `/regex/`. */
export function matcher(text) {
  const found = /^\/(.+)\/?$/.exec(text);
  if (found) {
    const source = found[1].endsWith("/") ? found[1].slice(0, -1) : found[1];
    try {
      const regex = new RegExp(source, "i");
      return { test: (run) => regex.test(words(run)) };
    } catch {
      return { test: () => true, wrong: true };
    }
  }
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  return { test: (run) => parts.every((part) => words(run).toLowerCase().includes(part)) };
}

const words = (run) => [run.id, run.model, run.arm, run.status, run.seed !== null ? `seed ${run.seed}` : ""].join(" ");

/** Runs of the study that is looked at, in the order of their colours: smallest models first. */
export function runsOfStudy() {
  const all = [...known.runs.values()].filter((run) => !view.study || run.study === view.study);
  return all.sort((a, b) => (a.params || 0) - (b.params || 0) || (a.id < b.id ? -1 : 1));
}

/** Those that pass the filter, or are pinned. */
export function listed() {
  const match = matcher(view.filter);
  return runsOfStudy().filter((run) => view.pinned.has(run.id) || match.test(run));
}

/** Those that are drawn. */
export const shown = () => listed().filter((run) => !view.hidden.has(run.id));

/** Click: hide or show. */
export function toggle(id) {
  const hidden = new Set(view.hidden);
  if (!hidden.delete(id)) hidden.add(id);
  change({ hidden });
}

/** Double click: it alone; again: all. */
export function isolate(id) {
  const others = runsOfStudy().map((run) => run.id).filter((other) => other !== id);
  const alone = others.every((other) => view.hidden.has(other)) && !view.hidden.has(id);
  change({ hidden: new Set(alone ? [] : others) });
}

export function pin(id) {
  const pinned = new Set(view.pinned);
  if (!pinned.delete(id)) pinned.add(id);
  change({ pinned });
}
