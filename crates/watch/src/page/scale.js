// Axes: from values to places and back, with the ticks one expects.

import { figures, si, clock } from "./words.js";

const LEAST_RATIO = 1.02;

export class Axis {
  /** Over [lo, hi], from place `a` to place `b`; `kind` says how ticks are written: plain, count, time. */
  constructor(lo, hi, log, a, b, kind = "plain") {
    if (log && !(lo > 0)) lo = hi > 0 ? hi / 1000 : 0.1;
    if (log && !(hi / lo > LEAST_RATIO)) [lo, hi] = [lo / LEAST_RATIO, Math.max(hi, lo) * LEAST_RATIO];
    if (!log && !(hi > lo)) [lo, hi] = [lo - (Math.abs(lo) || 1) * 0.01, hi + (Math.abs(hi) || 1) * 0.01];
    Object.assign(this, { lo, hi, log, a, b, kind });
    const f = log ? Math.log : (v) => v;
    this.f = f;
    this.scale = (b - a) / (f(hi) - f(lo));
    this.base = f(lo);
  }

  /** Place of a value; NaN where a logarithm does not exist. */
  at(v) {
    return this.a + (this.f(v) - this.base) * this.scale;
  }

  value(place) {
    const v = (place - this.a) / this.scale + this.base;
    return this.log ? Math.exp(v) : v;
  }

  /** Ticks as [value, label], about `count` of them. */
  ticks(count) {
    return this.kind === "time" ? this.timeTicks(count) : this.log ? this.logTicks(count) : this.linearTicks(count);
  }

  linearTicks(count) {
    const raw = (this.hi - this.lo) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const out = [];
    for (let i = Math.ceil(this.lo / step - 1e-9); i * step <= this.hi + 1e-9 * step; i++) {
      const v = i * step;
      out.push([v, this.kind === "plain" && Math.abs(v) < 1e4 && digits < 5 ? v.toFixed(digits) : brief(v)]);
    }
    return out;
  }

  logTicks(count) {
    const decades = Math.log10(this.hi / this.lo);
    // Less than a third of a decade: what is read are differences.
    if (decades < 0.35) return this.linearTicks(count);
    const steps = decades < 1.2 && count > 3 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
    const skip = Math.max(1, Math.ceil((decades * steps.length) / (1.5 * count)));
    const out = [];
    for (let p = Math.floor(Math.log10(this.lo)); p <= Math.ceil(Math.log10(this.hi)); p++) {
      if (steps.length === 1 && p % skip !== 0) continue;
      for (const m of steps) {
        const v = m * 10 ** p;
        if (v < this.lo * (1 - 1e-9) || v > this.hi * (1 + 1e-9)) continue;
        out.push([v, brief(v)]);
      }
    }
    return out.length > 1.6 * count && steps.length > 1 ? out.filter(([v]) => /^[125]/.test(String(v).replace(/^0\.0*/, ""))) : out;
  }

  timeTicks(count) {
    const steps = [1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 604800];
    const raw = (this.hi - this.lo) / Math.max(1, count);
    const step = steps.find((s) => s >= raw) || 86400 * Math.ceil(raw / 86400);
    const zone = 60 * new Date(1000 * this.lo).getTimezoneOffset();
    const out = [];
    for (let i = Math.ceil((this.lo - zone) / step); i * step + zone <= this.hi; i++) {
      const v = i * step + zone;
      const at = new Date(1000 * v);
      const label = step >= 86400 ? `${at.getMonth() + 1}-${at.getDate()}` : at.toTimeString().slice(0, step < 60 ? 8 : 5);
      out.push([v, label]);
    }
    return out;
  }

  /** A value in words, with all the digits that mean something. */
  words(v) {
    if (this.kind === "time") return clock(v);
    return this.kind === "count" ? si(v) : figures(v, 5);
  }
}

/** A tick's label: `1 k`, `2.5 M`, `0.02`, `1e-4`. */
function brief(v) {
  const size = Math.abs(v);
  if (size >= 1e3) return si(v).replace(/(\.\d*?)0+(\u202f|$)/, "$1$2").replace(/\.(\u202f|$)/, "$1");
  return size === 0 || size >= 1e-3 ? String(Number(v.toPrecision(3))) : v.toExponential(2).replace(/\.?0+e/, "e");
}
