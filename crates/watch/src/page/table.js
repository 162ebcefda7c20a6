// The table of runs: the legend of all figures, with bars and times. Rows are kept and filled anew, so that nothing
// jumps under the pointer.

import { known, now } from "./data.js";
import { done, duration, el, figures, isNumber, loss, percent, si } from "./words.js";
import { change, isolate, listed, pin, toggle, view } from "./view.js";
import { focus, setFocus, swatch } from "./figure.js";
import { looks, shortName } from "./figures.js";

/** Seconds without a word after which a run that should be running is called silent. */
const SILENT_S = 90;

export function statusWords(run) {
  if (run.status === "running") {
    const quiet = now() - run.updated;
    return quiet > SILENT_S ? `silent for ${duration(quiet)}` : "running";
  }
  return run.status;
}

export const isSilent = (run) => run.status === "running" && now() - run.updated > SILENT_S;

const doneShare = (run) => (run.total ? run.done / run.total : run.status === "done" ? 1 : NaN);

/** Heading, value to sort by, cell. */
const COLUMNS = [
  { key: "id", head: "run", value: (r) => r.id },
  { key: "status", head: "status", value: (r) => doneShare(r), cell: statusCell },
  { key: "eta_s", head: "left", value: (r) => r.eta_s, cell: (r) => (isSilent(r) ? "–" : duration(r.eta_s)), number: true },
  { key: "train", head: "last loss", value: (r) => r.train, cell: (r) => loss(r.train), number: true },
  { key: "best", head: "best finished", value: (r) => r.best, cell: (r) => (r.folded ? foldedLoss(r) : loss(r.best)), number: true },
  { key: "params", head: "N", value: (r) => r.params, cell: (r) => si(r.params), number: true },
  { key: "tokens", head: "D", value: (r) => r.tokens, cell: (r) => si(r.tokens), number: true },
  { key: "flops", head: "C", value: flops, cell: (r) => si(flops(r)), number: true },
  { key: "speed", head: "per second", value: (r) => r.speed, cell: (r) => (isNumber(r.speed) ? si(r.speed) : "–"), number: true },
  { key: "peak", head: "of peak", value: peakShare, cell: (r) => percent(peakShare(r)), number: true },
  { key: "alarms", head: "alarms", value: (r) => r.alarms, cell: (r) => r.alarms || "", number: true },
];

function flops(run) {
  return run.flops_per_step && isNumber(run.step) ? run.step * run.flops_per_step : NaN;
}

function peakShare(run) {
  const all = [run.speed, run.flops_per_step, run.tokens_per_step, run.peak];
  return all.every(isNumber) ? (run.speed * run.flops_per_step) / run.tokens_per_step / run.peak : NaN;
}

const foldedLoss = (r) => `${loss(r.best)}${r.folded > 1 ? ` ± ${figures(r.sd, 2)} (${r.folded})` : ""}`;

function statusCell(run) {
  const share = doneShare(run);
  const words = statusWords(run);
  const bar = el("span", { className: "bar", title: run.why || "" }, el("i"));
  bar.firstChild.style.width = `${100 * (isNumber(share) ? share : 0)}%`;
  return [bar, el("span", { className: `word ${run.status}${isSilent(run) ? " silent" : ""}` }, `${words}${isNumber(share) && share < 1 ? " " + done(share) : ""}`), run.why ? el("small", { className: "why" }, run.why) : null];
}

/** Runs of one setting as one row: mean and spread over their seeds. */
function foldSeeds(runs) {
  const groups = new Map();
  for (const run of runs) {
    const key = [run.study, run.model, run.arm].join("\n");
    groups.set(key, [...(groups.get(key) || []), run]);
  }
  return [...groups.values()].map((group) => {
    if (group.length < 2) return { ...group[0], folded: 1 };
    const values = group.map((r) => r.best).filter(isNumber);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const sd = values.length > 1 ? Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1)) : NaN;
    return { ...group[0], name: `${shortName(group[0]).replace(/-s\d+$/, "")}, ${group.length} seeds`, best: values.length ? mean : NaN, sd, folded: values.length, members: group.map((r) => r.id) };
  });
}

let rows = new Map();
let table = null;
let heads = [];
let body = null;

export function makeTable(host) {
  table = host;
  heads = COLUMNS.map((column) => el("th", { scope: "col", className: column.number ? "number" : "" },
    el("button", { type: "button", onclick: () => change(view.sort === column.key ? { down: !view.down } : { sort: column.key, down: false }) }, column.head)));
  body = el("tbody");
  const fold = el("button", { type: "button", id: "fold", title: "seeds of one setting as one row, mean ± standard deviation (number)", onclick: () => change({ fold: !view.fold }) }, "fold seeds");
  const all = el("button", { type: "button", title: "show all runs (a)", onclick: () => change({ hidden: new Set(), filter: "" }) }, "show all");
  table.before(el("div", { className: "tools" }, fold, all));
  table.append(el("caption", { className: "unseen" }, "Runs with their status, remaining time, losses, sizes and speeds"), el("thead", {}, el("tr", {}, ...heads, el("th", { scope: "col" }, el("span", { className: "unseen" }, "pin")))), body);
  focus.listeners.push(markFocus);
}

function markFocus() {
  for (const [id, row] of rows) row.node.classList.toggle("meant", id === focus.run);
}

export function fillTable() {
  const column = COLUMNS.find((c) => c.key === view.sort) || COLUMNS[5];
  const look = looks();
  let runs = listed();
  if (view.fold) runs = foldSeeds(runs);
  const sign = view.down ? -1 : 1;
  runs.sort((a, b) => {
    const pinned = view.pinned.has(b.id) - view.pinned.has(a.id);
    if (pinned) return pinned;
    const [x, y] = [column.value(a), column.value(b)];
    if (typeof x === "string") return sign * (x < y ? -1 : x > y ? 1 : 0);
    if (isNumber(x) !== isNumber(y)) return isNumber(x) ? -1 : 1;
    return sign * ((x || 0) - (y || 0)) || (a.id < b.id ? -1 : 1);
  });
  heads.forEach((head, i) => head.setAttribute("aria-sort", COLUMNS[i] === column ? (view.down ? "descending" : "ascending") : "none"));
  document.getElementById("fold").setAttribute("aria-pressed", view.fold);
  const before = rows;
  rows = new Map();
  const nodes = runs.map((run) => {
    const row = before.get(run.id) || makeRow(run.id);
    rows.set(run.id, row);
    fillRow(row, run, look.get(run.id));
    return row.node;
  });
  const waiting = (known.head?.studies || []).filter((s) => !view.study || s.name === view.study).flatMap((s) => s.waiting);
  nodes.push(...waiting.map((id) => el("tr", { className: "waiting" }, el("th", { scope: "row" }, id), el("td", {}, "waiting"), el("td", { colSpan: COLUMNS.length - 1 }))));
  // Moving rows that stand where they should would take the focus from them.
  if (nodes.length !== body.children.length || nodes.some((node, i) => body.children[i] !== node)) body.replaceChildren(...nodes);
  markFocus();
}

function makeRow(id) {
  const name = el("button", { type: "button", className: "name" });
  let clicks = null;
  name.addEventListener("click", () => {
    // A double click is two clicks: the first waits for the second.
    clearTimeout(clicks);
    clicks = setTimeout(() => toggle(id), 220);
  });
  name.addEventListener("dblclick", () => {
    clearTimeout(clicks);
    isolate(id);
  });
  const pinButton = el("button", { type: "button", className: "pin", title: "keep in sight and on top (p)", onclick: () => pin(id) }, "pin");
  const cells = COLUMNS.map((c, i) => (i === 0 ? el("th", { scope: "row" }, name) : el("td", { className: c.number ? "number" : "" })));
  const node = el("tr", {}, ...cells, el("td", {}, pinButton));
  node.addEventListener("pointerenter", () => setFocus(id));
  node.addEventListener("pointerleave", () => setFocus(null));
  name.addEventListener("focus", () => setFocus(id));
  name.addEventListener("blur", () => setFocus(null));
  return { node, name, cells, pinButton, last: [] };
}

function fillRow(row, run, look) {
  const hidden = view.hidden.has(run.id);
  const face = `${look.colour} ${look.mark} ${run.name || shortName(run)} ${run.arm}`;
  if (row.face !== face) {
    row.face = face;
    row.name.replaceChildren(swatch(look), run.name || shortName(run), ...(run.arm && !run.name ? [el("small", {}, " " + run.arm)] : []));
  }
  row.name.setAttribute("aria-pressed", !hidden);
  row.node.classList.toggle("hidden", hidden);
  row.pinButton.setAttribute("aria-pressed", view.pinned.has(run.id));
  COLUMNS.forEach((column, i) => {
    if (i === 0) return;
    const said = column.cell(run);
    const text = Array.isArray(said) ? said.map((n) => n && n.outerHTML).join("") : String(said);
    if (row.last[i] === text) return;
    row.last[i] = text;
    row.cells[i].replaceChildren(...(Array.isArray(said) ? said.filter(Boolean) : [text]));
  });
}
