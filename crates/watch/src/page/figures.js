// The figures: the law as it forms, training curves, the machine.

import { drawnOf, isApart, isThinned, known } from "./data.js";
import { DASHES, MARKS } from "./pen.js";
import { Figure, theme } from "./figure.js";
import { el, isNumber, si, whole } from "./words.js";
import { AXES, change, runsOfStudy, shown, view } from "./view.js";

// Viridis (van der Walt and Smith, CC0), as in the report: sizes run along it, its bright end left out on white, its
// dark end on black.
const VIRIDIS = [[68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37]];
const PLASMA = [[13, 8, 135], [65, 4, 157], [106, 0, 168], [143, 13, 164], [177, 42, 144], [204, 71, 120], [225, 100, 98], [242, 132, 75], [252, 166, 54], [252, 206, 37], [240, 249, 33]];

function along(map, t) {
  const x = 10 * Math.min(1, Math.max(0, t));
  const i = Math.min(9, Math.floor(x));
  const mix = (k) => Math.round(map[i][k] * (1 - x + i) + map[i + 1][k] * (x - i));
  return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
}

const share = (index, count) => (count < 2 ? 0.5 : index / (count - 1));
const ofSize = (index, count, dark) => along(VIRIDIS, dark ? 0.34 + 0.62 * share(index, count) : 0.02 + 0.78 * share(index, count));
const ofTokens = (index, count, dark) => along(PLASMA, dark ? 0.42 + 0.44 * share(index, count) : 0.1 + 0.56 * share(index, count));

/** Colour, mark and dash of each run of the study: the same in every figure and in the table. */
export function looks() {
  const runs = runsOfStudy();
  const { dark } = theme();
  return new Map(runs.map((run, i) => [run.id, { colour: ofSize(i, runs.length, dark), mark: i % MARKS, dash: Math.floor(i / MARKS) % DASHES.length }]));
}

/** A run's name without what all have in common. */
export function shortName(run) {
  const name = run.study && run.id.startsWith(run.study + "-") ? run.id.slice(run.study.length + 1) : run.id;
  return view.study || !run.study ? name : run.id;
}

// ---- axes

const X = {
  step: { label: "optimiser step", short: "step", kind: "count" },
  tokens: { label: "tokens", kind: "count" },
  flops: { label: "training FLOPs", short: "FLOPs", kind: "count" },
  seconds: { label: "seconds of training", short: "seconds", kind: "plain" },
  joules: { label: "joules (seconds × mean power of the run)", short: "joules", kind: "count" },
  fork: { label: "steps since the fork", short: "since fork", kind: "count" },
};

export const xName = (x) => X[x].short || X[x].label;

/** Where a value of a run stands on the x axis; NaN where that is not known. */
function place(run, axis, step, t, from) {
  switch (axis) {
    case "step": return step;
    case "tokens": return run.tokens_per_step ? step * run.tokens_per_step : NaN;
    case "flops": return run.flops_per_step ? step * run.flops_per_step : NaN;
    case "seconds": return t;
    case "joules": return run.watts ? t * run.watts : NaN;
    default: return step - from;
  }
}

export const QUANTITY = {
  loss: { name: "loss, training and held-out", label: "loss", log: true },
  train: { name: "training loss", label: "training loss", log: true },
  val: { name: "held-out loss", label: "held-out loss", log: true },
  lr: { name: "learning rate", label: "learning rate", log: true },
  grad: { name: "gradient norm", label: "gradient norm", log: true },
  speed: { name: "tokens per second", label: "tokens per second", log: false },
  peak: { name: "share of peak", label: "share of the measured peak, %", log: false },
  wait: { name: "waiting for data", label: "share of the steps' time waiting for data, %", log: false },
};

/** Lines of the store behind a quantity: key of the line, name in words, factor. */
function parts(run) {
  const percent = 100;
  switch (view.y) {
    case "loss": return [["train", "training", 1], ["val", "held-out", 1]];
    case "peak": {
      const each = run.peak && run.flops_per_step / run.tokens_per_step / run.peak;
      return isNumber(each) ? [["speed", "", percent * each]] : [];
    }
    case "wait": return [["wait", "", percent]];
    default: return [[view.y, "", 1]];
  }
}

/** Exponential moving average without the pull of its start: what TensorBoard draws; never across a gap. */
function smoothed(ys, weight) {
  let [mean, debias] = [0, 0];
  return ys.map((y) => {
    if (!isNumber(y)) {
      [mean, debias] = [0, 0];
      return y;
    }
    mean = weight * mean + (1 - weight) * y;
    debias = weight * debias + (1 - weight);
    return mean / debias;
  });
}

/** A line of a run on the x axis of the view, folded to at most `most` values, broken where it has gaps. */
function drawn(run, segment, line, factor, within, most) {
  const [xs, ys, steps] = [[], [], []];
  const apart = new Set(line.apart);
  let before = -1;
  const indices = drawnOf(line, within, most);
  for (const i of indices) {
    const x = place(run, view.x, line.x[i], line.t[i], segment.from || 0);
    // A NaN among the x would end the search under the pointer: a gap stands at the place of its right end.
    if (before >= 0 && isApart(apart, before, i)) xs.push(x), ys.push(NaN), steps.push(NaN);
    xs.push(x);
    ys.push(factor * line.y[i]);
    steps.push(line.x[i]);
    before = i;
  }
  return { xs, ys, steps, kept: indices.length };
}

/** The steps of a line that are in sight, where the x axis is zoomed. */
function inSight(run, segment) {
  const zoom = view.zoom["x." + view.x];
  if (!zoom) return null;
  const back = { step: 1, tokens: run.tokens_per_step, flops: run.flops_per_step, fork: 1 }[view.x];
  return back ? zoom.map((v) => v / back + (view.x === "fork" ? segment.from || 0 : 0)) : null;
}

function curves(look) {
  const runs = shown();
  let [seen, kept] = [0, 0];
  const most = budget(runs.reduce((n, run) => n + run.segments.length, 0));
  const series = runs.map((run) => {
    const lines = [];
    for (const segment of run.segments) {
      for (const [key, name, factor] of parts(run)) {
        const line = segment[key];
        if (!line || !line.x.length) continue;
        const within = inSight(run, segment);
        const piece = drawn(run, segment, line, factor, within, most);
        seen += within ? drawnOf(line, within, Infinity).length * (line.n / line.x.length) : line.n;
        kept += piece.kept;
        const part = `${segment.name === "trunk" ? "trunk" : "branch to " + si(Number(segment.name))}${name ? ", " + name : ""}`;
        const raw = { ...piece, part, name, width: segment.name === "trunk" ? 1.7 : 1.2, dash: key === "val" && view.y === "loss" ? [2, 3] : undefined };
        if (view.smooth > 0 && key !== "val" && key !== "lr" && line.x.length > 2) {
          lines.push({ ...raw, faint: true, part: part + ", raw" });
          lines.push({ ...raw, ys: smoothed(raw.ys, view.smooth), part: part + `, smoothed ${view.smooth}`, steps: raw.steps });
        } else lines.push(raw);
      }
    }
    const finished = ["loss", "val"].includes(view.y) ? run.points : [];
    const points = finished.map((p) => ({
      x: place(run, view.x, p.steps, p.seconds, p.steps), y: p.loss, name: "finished point", step: p.steps,
      lo: isNumber(p.se) ? p.loss - 1.96 * p.se : null, hi: isNumber(p.se) ? p.loss + 1.96 * p.se : null,
    }));
    return { run: run.id, name: shortName(run), ...look.get(run.id), lines, points: view.x === "fork" ? [] : points };
  }).filter((s) => s.lines.length || s.points.length);
  const q = QUANTITY[view.y];
  const few = runs.some((run) => run.unit === "images");
  const per = few ? (runs.every((run) => run.unit === "images") ? "query" : "token or query") : "token";
  const label = ["loss", "train", "val"].includes(view.y) ? `${q.label}, nats per ${per}` : q.label;
  const x = { ...X[view.x] };
  if (view.x === "tokens" && few) x.label = "tokens or images";
  return {
    title: `${q.name[0].toUpperCase()}${q.name.slice(1)}`, file: `curves-${view.y}-${view.x}`, series,
    x: { ...x, log: view.logx, zoom: "x." + view.x }, y: { label, kind: "plain", log: view.logy, zoom: "y." + view.y },
    note: [
      seen > kept + 0.5 ? `Of ${whole(seen)} values ${whole(kept)} are drawn: the lowest and the highest of each stretch.` : "",
      view.smooth > 0 ? `Solid: moving average of weight ${view.smooth}, faint: as logged; held-out losses are not smoothed.` : "",
      view.y === "loss" ? "Dotted: held-out loss; marks: finished points with 95 % intervals." : "",
      !known.full ? "Coarse at first; the rest is on its way." : "",
    ].filter(Boolean).join(" "),
    nothing: runs.length ? "nothing of this quantity is logged yet" : "no run is shown",
  };
}

/** Values of all lines of a figure together, shared out: a drawing takes time, and a screen has only so many dots. */
const budget = (lines, values = 20_000) => Math.max(24, Math.round(values / Math.max(1, lines)));

// ---- the law

const LAW = {
  n: { label: "parameters N, without embeddings", short: "N", line: "Lines: a power of N at each D, without a floor." },
  d: { label: "training tokens D", short: "D", line: "Lines: a power of D at each N, without a floor." },
  c: { label: "training FLOPs C", short: "C", line: "Line: a power of C, without a floor." },
};

/** Whether two levels are one: as in the fit, 0.5 % apart at most. */
const same = (a, b) => a === b || Math.abs(a / b - 1) < 0.005;

/** Lines of a study's law with their points, and the points that came since it was fitted. */
function groupsOf(study, fitted) {
  const groups = (fitted?.groups || []).map((g) => ({ ...g, points: [...g.points] }));
  for (const run of known.runs.values()) {
    if (run.study !== study || ["diverged", "failed"].includes(run.status) || (fitted && run.arm)) continue;
    for (const p of run.points) {
      const [x, level, words] = { n: [run.params, p.tokens, `D = ${si(p.tokens)}`], d: [p.tokens, run.params, `N = ${si(run.params)}`], c: [p.flops, 0, "finished points"] }[view.law];
      let group = groups.find((g) => same(g.level, level));
      if (!group) groups.push((group = { name: words, level, points: [], line: [] }));
      if (!group.points.some((m) => m.run === run.id && same(m.x, x))) group.points.push({ x, y: p.loss, se: p.se, run: run.id });
    }
  }
  return groups.sort((a, b) => a.level - b.level);
}

function law(look) {
  const names = view.study ? [view.study] : [...new Set([...known.runs.values()].map((run) => run.study))];
  const { dark, ink } = theme();
  const series = [];
  const notes = [];
  for (const name of names) {
    const of = known.laws[name] || { figures: [], words: [], points: 0 };
    const prefix = names.length > 1 ? name + ": " : "";
    if (of.why && !of.figures.some((f) => f.groups.some((g) => g.line.length))) notes.push(`${prefix}no law yet: ${of.why}.`);
    const groups = groupsOf(name, of.figures.find((f) => f.against === view.law));
    for (const [i, group] of groups.entries()) {
      const colour = view.law === "n" ? ofTokens(i, groups.length, dark) : ofSize(i, groups.length, dark);
      const column = (k) => group.line.map((row) => row[k]);
      const [xs, ys, lo, hi, runLo, runHi] = [0, 1, 2, 3, 4, 5].map(column);
      const last = Math.max(0, ...group.points.map((p) => p.x));
      const split = xs.findIndex((v) => v > last * 1.0001);
      const cut = split < 0 ? xs.length : split;
      const piece = (a, b, more) => ({ xs: xs.slice(a, b), ys: ys.slice(a, b), lo: runLo.slice(a, b), hi: runHi.slice(a, b), law: true, ...more });
      const lines = xs.length ? [piece(0, cut, { part: "law" }), piece(Math.max(0, cut - 1), xs.length, { part: "law, beyond what is measured", dash: [6, 4], beyond: false })].filter((l) => l.xs.length > 1) : [];
      series.push({
        run: null, name: prefix + group.name + (group.exponent ? ", " + group.exponent : ""), label: prefix + group.name, colour, mark: i % MARKS, lines,
        bands: xs.length && groups.length <= 6 ? [{ xs, lo: runLo, hi: runHi, alpha: 0.08 }, { xs, lo, hi, alpha: 0.16 }] : [],
        points: group.points.map((p) => ({
          x: p.x, y: p.y, name: p.run, lo: isNumber(p.se) ? p.y - 1.96 * p.se : null, hi: isNumber(p.se) ? p.y + 1.96 * p.se : null,
          hollow: view.hidden.has(p.run),
        })),
      });
    }
    const ahead = of.forecast;
    if (ahead) {
      const x = { n: ahead.n, d: ahead.d, c: 6 * ahead.n * ahead.d }[view.law];
      series.push({ run: null, name: `${prefix}forecast for N ${si(ahead.n)}, D ${si(ahead.d)}`, label: "forecast", colour: ink, mark: 3, lines: [], points: [{ x, y: ahead.loss, lo: ahead.lo, hi: ahead.hi, hollow: true, size: 5.5, name: "95 % interval of one new run" }] });
    }
    notes.push(...of.words.map((w) => prefix + w + "."));
    if (!known.laws[name] && groups.length) notes.push(`${prefix}the fit is being made, behind the runs’ work.`);
    if (of.points) notes.push(`${prefix}${of.points} finished points, fitted in ${of.took_s < 10 ? of.took_s.toFixed(1) : Math.round(of.took_s)} s.`);
  }
  if (!series.length && !runsOfStudy().length) return null;
  const unit = names.map((n) => known.laws[n]?.unit).find(Boolean) || "nats per token";
  return {
    title: "The law as it forms", file: `law-${view.law}`, series, labels: true, allOutliers: true,
    x: { ...LAW[view.law], kind: "count", log: view.lawx, zoom: "law." + view.law, pad: 0.06 }, y: { label: `held-out loss, ${unit}`, kind: "plain", log: view.lawy, zoom: "law.y" },
    note: [series.some((s) => s.lines.length) ? LAW[view.law].line : "", ...notes, series.some((s) => s.bands?.length) ? "Bands, 95 %: of the law, and of one new run." : ""].filter(Boolean).join(" "),
    nothing: "no point is finished yet",
  };
}

// ---- the machine

const MACHINE = [
  { file: "power", title: "Power", label: "watts", of: [["watts", "processors", 1], ["gpu_watts", "cards", 1]] },
  { file: "temperature", title: "Temperature", label: "degrees Celsius", of: [["celsius", "processors", 1], ["gpu_celsius", "cards", 1]] },
  { file: "load", title: "Processors’ time", label: "%", of: [["own", "the run", 100], ["others", "other programs", 100], ["gpu_busy", "cards", 100]] },
  { file: "memory", title: "Memory", label: "GB", of: [["resident", "the process", 1e-9], ["gpu_memory", "cards, all programs", 1e-9]] },
];

function machine(which, look) {
  let thinned = false;
  const series = [];
  const runs = shown();
  const most = budget(runs.length * which.of.length, 8_000);
  for (const run of runs) {
    const lines = [];
    which.of.forEach(([key, name, factor], i) => {
      const line = run.machine[key];
      if (!line || !line.x.length) return;
      const indices = drawnOf(line, view.zoom.time, most);
      thinned ||= isThinned(line) || indices.length < line.x.length;
      const apart = new Set(line.apart);
      const [xs, ys] = [[], []];
      indices.forEach((k, at) => {
        if (at && isApart(apart, indices[at - 1], k)) xs.push(line.x[k]), ys.push(NaN);
        xs.push(line.x[k]);
        ys.push(factor * line.y[k]);
      });
      lines.push({ xs, ys, name, part: name, dash: DASHES[i] });
    });
    if (lines.length) series.push({ run: run.id, name: shortName(run), ...look.get(run.id), dash: 0, lines, points: [] });
  }
  if (!series.length) return null;
  const names = which.of.filter(([key]) => shown().some((run) => run.machine[key]?.x.length)).map(([, name], i) => name && `${["solid", "dashed", "dotted"][i]}: ${name}`);
  return {
    title: which.title, file: which.file, series, height: 240, allOutliers: true,
    x: { label: "time of day", short: "at", kind: "time", log: false, fixed: true, zoom: "time" },
    y: { label: which.label, kind: "plain", log: false, fixed: true, zoom: "machine." + which.file },
    note: [names.length > 1 ? names.join(", ") + "." : "", thinned ? "The lowest and the highest of each stretch are drawn." : ""].filter(Boolean).join(" "),
  };
}

/** What the machine does not show, in words. */
export function missingReadings() {
  const runs = runsOfStudy();
  const has = (key) => runs.some((run) => run.machine[key]?.x.length);
  if (!known.full || !runs.length) return "";
  const missing = [!has("watts") && !has("gpu_watts") && "power", !has("celsius") && !has("gpu_celsius") && "temperature"].filter(Boolean);
  return missing.length ? `Missing: ${missing.join(" and ")} (isoflop doctor says why, and what would make it readable).` : "";
}

/** Makes all figures; gives those of each part. */
export function makeFigures(hosts) {
  const flip = (keyX, keyY) => (axis) => change({ [axis === "x" ? keyX : keyY]: !view[axis === "x" ? keyX : keyY] });
  const choices = Object.entries({ n: "N", d: "D", c: "C" }).map(([key, words]) =>
    el("button", { type: "button", title: `loss against ${LAW[key].label}`, onclick: () => change({ law: key }) }, words));
  const group = el("span", { className: "choice", role: "group", ariaLabel: "against" }, ...choices);
  const mark = () => choices.forEach((b, i) => b.setAttribute("aria-pressed", ["n", "d", "c"][i] === view.law));
  const lawFigure = new Figure(hosts.law, () => (mark(), law(looks())), flip("lawx", "lawy"), [group]);
  const curveFigure = new Figure(hosts.curves, () => curves(looks()), flip("logx", "logy"));
  const machines = MACHINE.map((which) => new Figure(hosts.machine, () => machine(which, looks()), () => {}));
  return { law: lawFigure, curves: curveFigure, all: [lawFigure, curveFigure, ...machines] };
}

export const nextAxis = () => change({ x: AXES[(AXES.indexOf(view.x) + 1) % AXES.length] });
