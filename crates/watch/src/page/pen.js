// Two pens with the same strokes: one on a canvas for the page, one that writes an SVG file. What is exported is what
// is seen, because the same drawing held the pen.

const FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif";

/** Marks beside colours: nobody need tell colours apart. Each as points around the origin, radius 1. */
const SHAPES = [
  null, // a circle
  [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
  [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
  [[-1.1, -0.8], [1.1, -0.8], [0, 1.2]],
  [[-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]],
];
export const MARKS = SHAPES.length;
export const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3]];

export class CanvasPen {
  constructor(context) {
    this.c = context;
  }

  line(xs, ys, { colour, width = 1.5, dash = [], alpha = 1 }) {
    const c = this.c;
    c.save();
    Object.assign(c, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha, lineJoin: "round" });
    c.setLineDash(dash);
    c.beginPath();
    let down = false;
    for (let i = 0; i < xs.length; i++) {
      if (Number.isFinite(xs[i]) && Number.isFinite(ys[i])) {
        if (down) c.lineTo(xs[i], ys[i]);
        else c.moveTo(xs[i], ys[i]);
        down = true;
      } else down = false;
    }
    c.stroke();
    c.restore();
  }

  area(xs, ys, { colour, alpha }) {
    const c = this.c;
    c.save();
    Object.assign(c, { fillStyle: colour, globalAlpha: alpha });
    c.beginPath();
    xs.forEach((x, i) => c.lineTo(x, ys[i]));
    c.closePath();
    c.fill();
    c.restore();
  }

  mark(kind, x, y, size, { colour, hollow = false, ground = "#fff", alpha = 1 }) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    const c = this.c;
    c.save();
    c.globalAlpha = alpha;
    c.beginPath();
    const shape = SHAPES[kind % MARKS];
    if (shape) shape.forEach(([dx, dy]) => c.lineTo(x + size * dx, y + size * dy));
    else c.arc(x, y, size, 0, 7);
    c.closePath();
    Object.assign(c, { fillStyle: hollow ? ground : colour, strokeStyle: hollow ? colour : ground, lineWidth: hollow ? 1.6 : 0.8 });
    c.fill();
    c.stroke();
    c.restore();
  }

  text(words, x, y, { colour, size = 12, anchor = "start", bold = false, turn = 0 }) {
    const c = this.c;
    c.save();
    c.translate(x, y);
    c.rotate(turn);
    Object.assign(c, { font: `${bold ? "600 " : ""}${size}px ${FONT}`, fillStyle: colour, textAlign: anchor === "middle" ? "center" : anchor, textBaseline: "alphabetic" });
    c.fillText(words, 0, 0);
    c.restore();
  }

  width(words, size = 12) {
    this.c.font = `${size}px ${FONT}`;
    return this.c.measureText(words).width;
  }

  clip(x, y, w, h, draw) {
    const c = this.c;
    c.save();
    c.beginPath();
    c.rect(x, y, w, h);
    c.clip();
    draw();
    c.restore();
  }
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (s) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[s]);
const short = (v) => String(Math.round(100 * v) / 100);

export class SvgPen {
  constructor(width, height, ground, title, measure) {
    this.out = [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="${escaped(FONT)}">`,
      `<title>${escaped(title)}</title><rect width="100%" height="100%" fill="${ground}"/>`,
    ];
    this.clips = 0;
    this.measure = measure;
  }

  line(xs, ys, { colour, width = 1.5, dash = [], alpha = 1 }) {
    let path = "";
    let down = false;
    for (let i = 0; i < xs.length; i++) {
      const on = Number.isFinite(xs[i]) && Number.isFinite(ys[i]);
      if (on) path += (down ? "L" : "M") + short(xs[i]) + " " + short(ys[i]);
      down = on;
    }
    if (path) this.out.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-linejoin="round"${dash.length ? ` stroke-dasharray="${dash.join(" ")}"` : ""}${alpha < 1 ? ` opacity="${alpha}"` : ""}/>`);
  }

  area(xs, ys, { colour, alpha }) {
    if (xs.length) this.out.push(`<path d="M${xs.map((x, i) => short(x) + " " + short(ys[i])).join("L")}Z" fill="${colour}" opacity="${alpha}"/>`);
  }

  mark(kind, x, y, size, { colour, hollow = false, ground = "#fff", alpha = 1 }) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    const style = hollow ? `fill="${ground}" stroke="${colour}" stroke-width="1.6"` : `fill="${colour}" stroke="${ground}" stroke-width="0.8"`;
    const shape = SHAPES[kind % MARKS];
    const where = shape
      ? `<path d="M${shape.map(([dx, dy]) => short(x + size * dx) + " " + short(y + size * dy)).join("L")}Z"`
      : `<circle cx="${short(x)}" cy="${short(y)}" r="${size}"`;
    this.out.push(`${where} ${style}${alpha < 1 ? ` opacity="${alpha}"` : ""}/>`);
  }

  text(words, x, y, { colour, size = 12, anchor = "start", bold = false, turn = 0 }) {
    const place = turn ? `transform="translate(${short(x)} ${short(y)}) rotate(${short((180 * turn) / Math.PI)})"` : `x="${short(x)}" y="${short(y)}"`;
    this.out.push(`<text ${place} font-size="${size}" fill="${colour}" text-anchor="${anchor}"${bold ? ' font-weight="600"' : ""}>${escaped(words)}</text>`);
  }

  width(words, size = 12) {
    return this.measure(words, size);
  }

  clip(x, y, w, h, draw) {
    const id = `c${this.clips++}`;
    this.out.push(`<clipPath id="${id}"><rect x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}"/></clipPath><g clip-path="url(#${id})">`);
    draw();
    this.out.push("</g>");
  }

  finish() {
    return this.out.join("\n") + "\n</svg>\n";
  }
}
