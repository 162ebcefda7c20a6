// A figure: axes, lines, marks and bands from plain data, zoom by dragging, values under the pointer, and the same
// drawing as SVG, PNG, CSV or a table. What it shows is asked of its maker each time it is drawn; hovering draws on a
// sheet of its own above, so the figure itself is not built again.

import { Axis } from "./scale.js";
import { CanvasPen, SvgPen, DASHES } from "./pen.js";
import { csv, el, isNumber, offer } from "./words.js";
import { change, view } from "./view.js";

const figures = [];
let asked = false;

/** Draws all figures that changed, once, when the browser next paints. */
export function drawSoon(which = figures) {
  for (const figure of which) figure.stale = true;
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const figure of figures) if (figure.stale) figure.draw();
  });
}

// On paper everything is in sight.
addEventListener("beforeprint", () => {
  for (const figure of figures) {
    figure.seen = true;
    figure.draw();
  }
});

/** Colours of the ground, from the style sheet, so that light and dark are said once. */
export function theme() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { paper: of("--paper"), ink: of("--ink"), muted: of("--muted"), grid: of("--grid"), dark: of("--is-dark") === "1" };
}

/** The run under the pointer or in focus, anywhere on the page. */
export const focus = { run: null, figure: null, listeners: [] };
export function setFocus(run) {
  if (focus.run === run) return;
  focus.run = run;
  figures.forEach((figure) => figure.drawOver());
  focus.listeners.forEach((f) => f());
}

const TOOLTIP_ROWS = 14;
const TABLE_ROWS = 1000;

export class Figure {
  /**
   * `make()` gives what is drawn: `{ title, x, y, series, note, file }`, with axes `{ label, kind, log, zoom }` (zoom a
   * key of the view) and series `{ run, name, colour, mark, dash, lines, points, bands }`; `null` hides the figure.
   * `flip(axis)` turns an axis between logarithmic and linear.
   */
  constructor(host, make, flip, extra = []) {
    Object.assign(this, { make, flip, pointer: null, stale: true, seen: false, took: 0, drawnAt: 0 });
    const button = (words, title, run) => el("button", { type: "button", title, onclick: run }, words);
    this.flips = { x: button("x: log", "x axis logarithmic or linear (Shift l)", () => flip("x")), y: button("y: log", "y axis logarithmic or linear (l)", () => flip("y")) };
    this.heading = el("h2");
    this.base = el("canvas", { role: "img", tabIndex: 0 });
    this.over = el("canvas", { className: "over" });
    this.tip = el("div", { className: "tip", hidden: true });
    this.note = el("figcaption");
    this.table = el("div", { className: "scroll rows", hidden: true });
    this.tableButton = button("table", "the rows as a table", () => this.showTable(this.table.hidden));
    this.whole = button("whole", "the whole figure again (double click, Esc)", () => this.reset());
    const tools = el("div", { className: "tools" }, ...extra, this.flips.y, this.flips.x, this.whole,
      button("CSV", "the data of the figure as CSV", () => this.save("csv")),
      button("SVG", "the figure as SVG", () => this.save("svg")),
      button("PNG", "the figure as PNG", () => this.save("png")), this.tableButton);
    this.sheet = el("div", { className: "sheet" }, this.base, this.over, this.tip);
    this.node = el("figure", {}, el("div", { className: "head" }, this.heading, tools), this.sheet, this.note, this.table);
    host.append(this.node);
    this.listen();
    new ResizeObserver(() => drawSoon([this])).observe(this.sheet);
    new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      if (this.seen) drawSoon([this]);
    }, { rootMargin: "200px" }).observe(this.sheet);
    figures.push(this);
  }

  /** New data are here: drawn soon, unless somebody is reading values. Drawing takes a fifth of the time at most. */
  refresh() {
    if (this.pointer) this.waiting = true;
    else if (!this.paced) {
      const rest = Math.max(0, this.drawnAt + 4 * this.took - performance.now());
      this.paced = setTimeout(() => {
        this.paced = null;
        drawSoon([this]);
      }, rest);
    }
  }

  draw() {
    const began = performance.now();
    this.stale = false;
    this.waiting = false;
    const content = this.make();
    this.content = content;
    this.node.hidden = !content;
    if (content) this.name(content);
    // What is out of sight is painted when it comes into sight.
    if (!content || !this.seen) return;
    const width = this.sheet.clientWidth;
    const height = Math.round(Math.min(content.height || 420, Math.max(240, width * 0.72)));
    if (!width) return;
    this.size = [width, height];
    for (const canvas of [this.base, this.over]) {
      const ratio = window.devicePixelRatio || 1;
      const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.sheet.style.height = height + "px";
    const context = this.base.getContext("2d");
    context.clearRect(0, 0, width, height);
    this.frame = paint(new CanvasPen(context), content, width, height, theme());
    if (!this.table.hidden) this.showTable(true);
    this.drawOver();
    this.drawnAt = performance.now();
    this.took = this.drawnAt - began;
  }

  /** Heading, buttons and note. */
  name(content) {
    this.heading.textContent = content.title;
    this.words();
    for (const axis of ["x", "y"]) {
      const { log, fixed } = content[axis];
      this.flips[axis].hidden = !!fixed;
      this.flips[axis].textContent = `${axis}: ${log ? "log" : "linear"}`;
    }
    this.whole.hidden = !(view.zoom[content.x.zoom] || view.zoom[content.y.zoom]);
    this.base.setAttribute("aria-label", `${content.title}. ${content.series.length} series. ${content.note || ""} The button “table” gives the rows.`);
  }

  words() {
    const waiting = this.waiting ? " New values wait while the pointer is here." : "";
    this.note.textContent = (this.content.note || "") + waiting;
  }

  // ---- the pointer

  listen() {
    const place = (event) => {
      const box = this.over.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const sheet = this.over;
    sheet.addEventListener("pointermove", (event) => {
      this.pointer = place(event);
      focus.figure = this;
      this.drawOver();
    });
    sheet.addEventListener("pointerdown", (event) => {
      this.pointer = place(event);
      focus.figure = this;
      if (event.pointerType === "mouse" && event.button === 0) {
        this.dragged = this.pointer;
        sheet.setPointerCapture(event.pointerId);
      }
      this.drawOver();
    });
    sheet.addEventListener("pointerup", (event) => {
      const [from, to] = [this.dragged, place(event)];
      this.dragged = null;
      if (from) this.zoom(from, to);
      this.drawOver();
    });
    const leave = () => {
      this.pointer = null;
      this.dragged = null;
      setFocus(null);
      this.drawOver();
      if (this.waiting) drawSoon([this]);
    };
    sheet.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") leave();
    });
    document.addEventListener("pointerdown", (event) => {
      if (this.pointer && !this.node.contains(event.target)) leave();
    });
    sheet.addEventListener("dblclick", () => this.reset());
    this.base.addEventListener("focus", () => (focus.figure = this));
  }

  zoom(from, to) {
    const { x, y, inner } = this.frame;
    const wide = Math.abs(from[0] - to[0]) > 8;
    const high = Math.abs(from[1] - to[1]) > 8;
    if (!wide && !high) return;
    const zoom = { ...view.zoom };
    const range = (axis, a, b, lo, hi) => [a, b].map((v) => axis.value(Math.min(hi, Math.max(lo, v)))).sort((p, q) => p - q);
    if (wide) zoom[this.content.x.zoom] = range(x, from[0], to[0], inner.left, inner.right);
    // A drag along the axis alone keeps the other axis to what is visible.
    if (high && Math.abs(from[1] - to[1]) > 24) zoom[this.content.y.zoom] = range(y, from[1], to[1], inner.top, inner.bottom);
    change({ zoom });
  }

  reset() {
    const zoom = { ...view.zoom };
    delete zoom[this.content.x.zoom];
    delete zoom[this.content.y.zoom];
    change({ zoom });
  }

  /** What follows the pointer: a line, the nearest value of every series, and the one run that is meant. */
  drawOver() {
    if (!this.frame || !this.content) return;
    const context = this.over.getContext("2d");
    const [width, height] = this.size;
    context.clearRect(0, 0, width, height);
    const { inner } = this.frame;
    const [px, py] = this.pointer || [];
    const inside = this.pointer && px >= inner.left && px <= inner.right && py >= inner.top - 10 && py <= inner.bottom + 10;
    const found = inside ? this.nearest(px, py) : [];
    if (inside) {
      const close = found.filter((f) => f.distance < 26).sort((a, b) => a.distance - b.distance)[0];
      const run = close ? close.series.run : null;
      if (run !== focus.run) return setFocus(run);
    }
    const colours = theme();
    const pen = new CanvasPen(context);
    const meant = focus.run && this.content.series.filter((s) => s.run === focus.run);
    if (meant && meant.length && this.content.series.length > meant.length) {
      context.save();
      Object.assign(context, { globalAlpha: 0.72, fillStyle: colours.paper });
      context.fillRect(inner.left, inner.top, inner.right - inner.left, inner.bottom - inner.top);
      context.restore();
      pen.clip(inner.left, inner.top, inner.right - inner.left, inner.bottom - inner.top, () => meant.forEach((s) => stroke(pen, s, this.frame, colours, 1.5)));
    }
    if (this.dragged && this.pointer) {
      const [x, y] = this.dragged;
      context.save();
      Object.assign(context, { globalAlpha: 0.15, fillStyle: colours.ink });
      const high = Math.abs(py - y) > 24;
      context.fillRect(x, high ? y : inner.top, px - x, high ? py - y : inner.bottom - inner.top);
      context.restore();
      this.tip.hidden = true;
      return;
    }
    this.tip.hidden = !found.length;
    if (!found.length) return;
    pen.line([px, px], [inner.top, inner.bottom], { colour: colours.muted, width: 1, dash: [3, 3] });
    for (const f of found) pen.mark(f.series.mark, f.px, f.py, 4.5, { colour: f.series.colour, ground: colours.paper });
    this.fillTip(found, px);
  }

  /** The nearest value of every series at the pointer's x, the lowest first. */
  nearest(px, py) {
    const { x, y, inner } = this.frame;
    const out = [];
    for (const series of this.content.series) {
      let best = null;
      const consider = (vx, vy, more) => {
        const [qx, qy] = [x.at(vx), y.at(vy)];
        if (!Number.isFinite(qx) || !Number.isFinite(qy) || qx < inner.left - 1 || qx > inner.right + 1) return;
        const off = Math.abs(qx - px);
        if (!best || off < best.off) best = { off, series, vx, vy, px: qx, py: qy, ...more };
      };
      for (const line of series.lines) {
        if (line.faint || line.law) continue;
        const at = search(line.xs, x.value(px));
        for (const i of [at - 1, at]) if (i >= 0 && i < line.xs.length) consider(line.xs[i], line.ys[i], { step: line.steps && line.steps[i], name: line.name });
      }
      for (const point of series.points) consider(point.x, point.y, { point, name: point.name });
      if (best && best.off < 60) {
        best.distance = Math.hypot(best.px - px, best.py - py);
        out.push(best);
      }
    }
    return out.sort((a, b) => a.vy - b.vy);
  }

  fillTip(found, px) {
    const { x, y } = this.frame;
    const near = found.reduce((a, b) => (a.off < b.off ? a : b));
    const head = el("p", {}, `${this.content.x.short || this.content.x.label} ${x.words(near.vx)}`);
    const rows = found.slice(0, TOOLTIP_ROWS).map((f) => {
      const interval = f.point && isNumber(f.point.lo) ? ` (${y.words(f.point.lo)} to ${y.words(f.point.hi)})` : "";
      const step = isNumber(f.step) ? ` · step ${f.step}` : "";
      const row = el("li", { className: f.series.run === focus.run ? "meant" : "" }, swatch(f.series), el("b", {}, y.words(f.vy) + interval), ` ${f.series.name}${f.name ? ", " + f.name : ""}${step}`);
      return row;
    });
    const more = found.length > TOOLTIP_ROWS ? [el("li", {}, `and ${found.length - TOOLTIP_ROWS} more`)] : [];
    this.tip.replaceChildren(head, el("ol", {}, ...rows, ...more));
    const [width, height] = this.size;
    const box = this.tip.getBoundingClientRect();
    this.tip.style.left = Math.max(0, px + 16 + box.width > width ? px - 16 - box.width : px + 16) + "px";
    this.tip.style.top = Math.max(-40, Math.min(16, height - box.height)) + "px";
  }

  // ---- what is taken away

  rows() {
    const { x, y, series } = this.content;
    const rows = [["series", "part", "step", x.label, y.label, "low", "high"]];
    for (const s of series) {
      for (const line of s.lines) {
        line.xs.forEach((v, i) => {
          if (isNumber(v) && isNumber(line.ys[i])) rows.push([s.name, line.part || line.name || "", line.steps ? line.steps[i] : "", v, line.ys[i], line.lo ? line.lo[i] : "", line.hi ? line.hi[i] : ""]);
        });
      }
      for (const p of s.points) rows.push([s.name, p.name || "point", p.step ?? "", p.x, p.y, p.lo ?? "", p.hi ?? ""]);
    }
    return rows;
  }

  save(kind) {
    this.seen = true;
    this.draw();
    const name = `isoflop-${this.content.file}.${kind}`;
    if (kind === "csv") return offer(name, new Blob([csv(this.rows())], { type: "text/csv" }));
    const [width, height] = [900, Math.round((900 * this.size[1]) / this.size[0]) < 420 ? 460 : 560];
    const colours = theme();
    if (kind === "svg") {
      const measure = (words, size) => new CanvasPen(document.createElement("canvas").getContext("2d")).width(words, size);
      const pen = new SvgPen(width, height, colours.paper, this.content.title, measure);
      paint(pen, this.content, width, height, colours, true);
      return offer(name, new Blob([pen.finish()], { type: "image/svg+xml" }));
    }
    const canvas = el("canvas", { width: 2 * width, height: 2 * height });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, width, height);
    paint(new CanvasPen(context), this.content, width, height, colours, true);
    canvas.toBlob((blob) => offer(name, blob));
  }

  showTable(show) {
    this.table.hidden = !show;
    this.tableButton.setAttribute("aria-expanded", show);
    if (!show) return;
    const [head, ...rows] = this.rows();
    const cells = (name, row) => el("tr", {}, ...row.map((v) => el(name, {}, isNumber(v) ? Number(v.toPrecision(7)) : v)));
    const note = rows.length > TABLE_ROWS ? `The first ${TABLE_ROWS} of ${rows.length} rows; CSV has them all.` : "";
    this.table.replaceChildren(el("table", {}, el("caption", {}, `${this.content.title}. ${note}`), el("thead", {}, cells("th", head)), el("tbody", {}, ...rows.slice(0, TABLE_ROWS).map((row) => cells("td", row)))));
  }
}

/** A run's colour and mark, for lists. */
export function swatch({ colour, mark }) {
  const canvas = el("canvas", { className: "swatch", width: 24, height: 24, ariaHidden: "true" });
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  new CanvasPen(context).mark(mark, 6, 6, 4.2, { colour, ground: "transparent" });
  return canvas;
}

/** Index of the first of ascending `xs` that is not below `v`. */
function search(xs, v) {
  let [lo, hi] = [0, xs.length];
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (xs[mid] < v) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** Draws content with any pen; where everything stands. */
function paint(pen, content, width, height, colours, alone = false) {
  const narrow = width < 560;
  const labels = content.labels ? Math.min(narrow ? 90 : 150, 12 + Math.max(0, ...content.series.map((s) => pen.width(s.label || "", 11)))) : 0;
  const inner = { left: narrow ? 52 : 64, right: width - 12 - labels, top: alone ? 40 : 12, bottom: height - 44 };
  const [xr, yr] = ranges(content);
  const y = new Axis(yr[0], yr[1], content.y.log, inner.bottom, inner.top, content.y.kind);
  // Many digits push the figure to the right, not into the words beside them.
  inner.left = Math.max(inner.left, 28 + Math.max(0, ...y.ticks(narrow ? 5 : 7).map(([, label]) => pen.width(label, 11))));
  const x = new Axis(xr[0], xr[1], content.x.log, inner.left, inner.right, content.x.kind);
  if (alone) pen.text(content.title, inner.left, 24, { colour: colours.ink, size: 15, bold: true });
  if (!content.series.length) {
    pen.text(content.nothing || "nothing to draw yet", width / 2, height / 2, { colour: colours.muted, size: 13, anchor: "middle" });
    return { x, y, inner };
  }
  let last = -Infinity;
  for (const [v, label] of x.ticks(narrow ? 4 : 7)) {
    const at = x.at(v);
    if (at < inner.left - 0.5 || at > inner.right + 0.5) continue;
    pen.line([at, at], [inner.top, inner.bottom], { colour: colours.grid, width: 1 });
    const half = pen.width(label, 11) / 2;
    if (at - half < last + 8) continue;
    pen.text(label, at, inner.bottom + 16, { colour: colours.muted, size: 11, anchor: "middle" });
    last = at + half;
  }
  last = Infinity;
  for (const [v, label] of y.ticks(narrow ? 5 : 7)) {
    const at = y.at(v);
    if (at < inner.top - 0.5 || at > inner.bottom + 0.5) continue;
    pen.line([inner.left, inner.right], [at, at], { colour: colours.grid, width: 1 });
    if (Math.abs(last - at) < 14) continue;
    pen.text(label, inner.left - 6, at + 4, { colour: colours.muted, size: 11, anchor: "end" });
    last = at;
  }
  pen.text(content.x.label, (inner.left + inner.right) / 2, height - 8, { colour: colours.muted, size: 12, anchor: "middle" });
  pen.text(content.y.label, 13, (inner.top + inner.bottom) / 2, { colour: colours.muted, size: 12, anchor: "middle", turn: -Math.PI / 2 });
  const frame = { x, y, inner };
  pen.clip(inner.left, inner.top, inner.right - inner.left, inner.bottom - inner.top, () => {
    for (const s of content.series) bands(pen, s, frame);
    for (const s of content.series) stroke(pen, s, frame, colours, 1);
  });
  if (labels) nameLines(pen, content, frame, width, colours);
  return frame;
}

function bands(pen, series, { x, y }) {
  for (const { xs, lo, hi, alpha } of series.bands || []) {
    const keep = xs.map((_, i) => i).filter((i) => isNumber(lo[i]) && isNumber(hi[i]) && Number.isFinite(x.at(xs[i])) && Number.isFinite(y.at(hi[i])));
    const floor = (v) => (Number.isFinite(y.at(v)) ? y.at(v) : y.a + 1e4);
    pen.area([...keep.map((i) => x.at(xs[i])), ...keep.reverse().map((i) => x.at(xs[i]))],
      [...[...keep].reverse().map((i) => floor(lo[i])), ...keep.map((i) => y.at(hi[i]))], { colour: series.colour, alpha });
  }
}

function stroke(pen, series, { x, y }, colours, more) {
  const { colour, mark } = series;
  for (const line of series.lines) {
    const style = { colour, width: (line.width || 1.6) * more, dash: line.dash || DASHES[series.dash || 0], alpha: line.faint ? 0.22 : (line.alpha || 1) };
    pen.line(line.xs.map((v) => x.at(v)), line.ys.map((v) => y.at(v)), style);
  }
  for (const p of series.points) {
    const [px, py] = [x.at(p.x), y.at(p.y)];
    if (isNumber(p.lo) && isNumber(p.hi)) pen.line([px, px], [y.at(p.lo), y.at(p.hi)], { colour, width: 1.2 });
    pen.mark(p.mark ?? mark, px, py, p.size || 4.5, { colour, hollow: p.hollow, ground: colours.paper });
  }
}

/** Names at the lines' ends, none upon another. */
function nameLines(pen, content, { x, y, inner }, width, colours) {
  const ends = [];
  for (const s of content.series) {
    const line = s.lines.find((l) => !l.faint && l.xs.length) || { xs: s.points.map((p) => p.x), ys: s.points.map((p) => p.y) };
    for (let i = line.xs.length - 1; i >= 0; i--) {
      const [px, py] = [x.at(line.xs[i]), y.at(line.ys[i])];
      if (px > inner.right + 1 || !Number.isFinite(py)) continue;
      if (py > inner.top - 4 && py < inner.bottom + 4) ends.push({ s, at: py });
      break;
    }
  }
  ends.sort((a, b) => a.at - b.at);
  let last = inner.top - 8;
  for (const end of ends) {
    end.at = Math.max(end.at, last + 13);
    last = end.at;
  }
  const over = last - inner.bottom;
  if (over > 0) ends.forEach((end) => (end.at -= Math.min(over, Math.max(0, end.at - inner.top))));
  for (const { s, at } of ends) {
    pen.mark(s.mark, inner.right + 9, at, 3.6, { colour: s.colour, ground: colours.paper });
    pen.text(within(pen, s.label, width - inner.right - 18, 11), inner.right + 16, at + 4, { colour: colours.ink, size: 11 });
  }
}

/** Words cut to a width. */
function within(pen, words, width, size) {
  let cut = words;
  while (cut && pen.width(cut, size) > width) cut = cut.slice(0, -1);
  return cut === words ? words : cut.slice(0, -1) + "…";
}

/** What the axes reach over: the zoom, else all; y what is visible, without outliers if they are not wanted. */
function ranges(content) {
  const { x, y, series } = content;
  const fits = (axis) => (v) => isNumber(v) && (!axis.log || v > 0);
  const [fitsX, fitsY] = [fits(x), fits(y)];
  let xr = view.zoom[x.zoom] && (!x.log || view.zoom[x.zoom][0] > 0) ? view.zoom[x.zoom] : null;
  if (!xr) {
    let [lo, hi] = [Infinity, -Infinity];
    const take = (v) => {
      if (fitsX(v)) [lo, hi] = [Math.min(lo, v), Math.max(hi, v)];
    };
    for (const s of series) {
      for (const line of s.lines) line.xs.forEach(take);
      s.points.forEach((p) => take(p.x));
    }
    xr = Number.isFinite(lo) ? grow(lo, hi, x.log, x.pad ?? 0.02) : [1, 10];
  }
  if (view.zoom[y.zoom] && (!y.log || view.zoom[y.zoom][0] > 0)) return [xr, view.zoom[y.zoom]];
  const values = [];
  const take = (vx, vy) => {
    if (vx >= xr[0] && vx <= xr[1] && fitsY(vy)) values.push(vy);
  };
  for (const s of series) {
    for (const line of s.lines) if (!line.beyond) line.ys.forEach((v, i) => take(line.xs[i], v));
    for (const p of s.points) for (const v of [p.y, p.lo, p.hi]) take(p.x, v);
  }
  if (!values.length) return [xr, [0.1, 1]];
  values.sort((a, b) => a - b);
  const cut = view.outliers || content.allOutliers ? 0 : 0.02;
  const at = (share) => values[Math.round(share * (values.length - 1))];
  return [xr, grow(at(cut), at(1 - cut), y.log, 0.05)];
}

function grow(lo, hi, log, share) {
  if (log) {
    const f = Math.pow(hi / lo || 1, share) || 1;
    return [lo / f, hi * f];
  }
  const by = (hi - lo) * share;
  // What begins at nothing begins at the corner.
  return [lo >= 0 && lo - by < 0 ? 0 : lo - by, hi + by];
}
