// Numbers and times as a person reads them. Missing is a dash, never 0.

const PREFIXES = [[1e24, "Y"], [1e21, "Z"], [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

export const isNumber = (v) => typeof v === "number" && Number.isFinite(v);

/** About three digits with a prefix: `2.40 M`. */
export function si(v, unit = "") {
  if (!isNumber(v)) return "–";
  const size = Math.abs(v);
  const found = PREFIXES.find(([factor]) => size >= factor);
  const [factor, prefix] = found || [1, ""];
  const scaled = v / factor;
  const digits = Number.isInteger(v) && !found ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(scaled) || 1)));
  if (!found && size !== 0 && size < 1e-2) return v.toExponential(2) + unit;
  return scaled.toFixed(Math.min(digits, 4)) + (prefix || unit ? "\u202f" + prefix + unit : "");
}

/** `digits` significant digits, in plain or scientific form. */
export function figures(v, digits = 4) {
  if (!isNumber(v)) return "–";
  const size = Math.abs(v);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return v.toExponential(digits - 1);
  return v.toPrecision(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

export const loss = (v) => (isNumber(v) ? v.toFixed(4) : "–");
export const percent = (v, digits = 0) => (isNumber(v) ? (100 * v).toFixed(digits) + "\u202f%" : "–");
/** How much of the work is done; all of it only when it is. */
export const done = (share) => percent(Math.floor(100 * share) / 100);
/** A whole number with all its digits, in groups. */
export const whole = (v) => (isNumber(v) ? Math.round(v).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f") : "–");

/** `3 min 20 s`. */
export function duration(s) {
  if (!isNumber(s)) return "–";
  s = Math.max(0, Math.round(s));
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  if (m) return `${m} min ${s % 60} s`;
  return `${s} s`;
}

/** `3 s ago`. */
export const ago = (s) => (s < 1.5 ? "just now" : duration(s) + " ago");

/** A time of today, or with its date. */
export function clock(unix) {
  const at = new Date(1000 * unix);
  const time = at.toTimeString().slice(0, 8);
  return at.toDateString() === new Date().toDateString() ? time : `${at.toISOString().slice(0, 10)} ${time}`;
}

/** An element with properties and children; text is text, never markup. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

/** Offers a file for download. */
export function offer(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Rows as CSV; a cell with a comma, a quote or a line break is quoted. */
export function csv(rows) {
  const cell = (v) => {
    const text = v === null || v === undefined ? "" : String(v);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
