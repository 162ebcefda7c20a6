// Draws the built-in icons. Called by build.sh, which fetches the packages.
//
//   node build.mjs FOLDER OUT.images CREDITS.md     FOLDER holds node_modules/ as build.sh fills it
//
// A class is a word that at least FEWEST icon sets draw; a set gives it one drawing at most. Sets need a licence that asks
// for a notice and nothing else, and must be of one colour; logos, flags and emoji are left out, and so are brands, for their
// drawings are trademarks. Words of style ("outline", "24") are dropped from names, synonyms merged. Drawings that are nearly
// equal (sets are forks of sets) count once. Classes that share a telling word stay on one side of the split. Everything is
// decided by names and by hashes of names, so the outcome is a function of the package.

import crypto from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";

const [folder, out, credits] = process.argv.slice(2);
const require = createRequire(`${fs.realpathSync(folder)}/`);
const { Resvg } = require("@resvg/resvg-js");
const packageFolder = `${folder}/node_modules/@iconify/json`;

const SIDE = 28, FEWEST = 20, MOST = 48;
const LICENCES = new Set(["MIT", "Apache-2.0", "ISC", "CC0-1.0", "BSD-2-Clause", "BSD-3-Clause", "Unlicense"]);
const OTHER_CATEGORIES = new Set(["Logos", "Flags / Maps", "Emoji"]);
const words = (text) => new Set(text.split(/\s+/).filter(Boolean));
const STYLE = words(`outline outlined filled fill line lines bold duotone solid regular light thin twotone two tone sharp rounded
  round linear broken bulk alt variant square circle o s r l f ios md straight baseline duo color simple`);
const BRANDS = words(`android apple behance bitcoin bluetooth discord dribbble facebook figma github gitlab google instagram
  linkedin paypal pinterest reddit slack snapchat telegram tiktok twitter whatsapp youtube windows airplay git-branch git-commit
  git-merge command`);
// No thing that is drawn: the same word for unlike drawings.
const VAGUE = words("add at text stop time actions dash media data app note-edit heading italic strikethrough subscript superscript " +
  "underline bold x label language quote more code asterisk slash copyright hash hashtag paragraph euro dollar percent question " +
  "exclamation currency infinity equal divide");
const SYNONYMS = Object.entries({
  airplane: "plane aeroplane", bell: "notification notifications alarm-bell", trash: "bin delete garbage trashcan trash-can rubbish",
  user: "person profile account", users: "people group persons", bulb: "lightbulb light-bulb idea", globe: "earth world",
  home: "house", refresh: "reload sync repeat loop", gear: "cog settings setting", mail: "envelope email message-mail letter",
  film: "movie", search: "magnify magnifier magnifying-glass", image: "picture photo", cart: "shopping-cart", bag: "shopping-bag",
  microphone: "mic", eye: "view visibility", "eye-off": "eye-closed eye-slash visibility-off eye-crossed", heart: "favorite love",
  "map-pin": "pin location place marker location-pin", pushpin: "thumbtack", calendar: "date", clock: "time-clock", chat: "message comment speech",
  bolt: "flash lightning thunder", coins: "coin money-coins", cross: "close cancel times", check: "tick checkmark done",
  pencil: "edit pen", "log-out": "logout sign-out", "log-in": "login sign-in", gamepad: "game-controller controller",
  "hard-drive": "hdd", "chart-bar": "bar-chart", "chart-pie": "pie-chart", chart: "graph", glasses: "eyeglasses spectacles", video: "video-camera camera-video",
  cube: "box-cube", box: "package parcel", store: "shop storefront", boat: "ship", "volume-off": "volume-mute volume-x mute",
  "thumbs-up": "like thumb-up", "thumbs-down": "dislike thumb-down", phone: "call telephone", mobile: "smartphone cellphone",
  lock: "padlock lock-closed", unlock: "lock-open", flame: "fire", bank: "museum", sun: "brightness", cloud: "cloudy", scissors: "cut",
  attachment: "paperclip", list: "menu-list", menu: "hamburger", receipt: "bill", filter: "funnel", layers: "layer stack",
  fullscreen: "maximize", minimize: "collapse", apps: "grid", dashboard: "speedometer gauge", link: "chain", unlink: "link-off link-slash",
  "external-link": "external", block: "ban forbidden", droplet: "drop water water-drop", disc: "cd record", rewind: "fast-backward", duplicate: "copy",
  undo: "reply-undo", send: "paper-plane", cpu: "chip processor", beaker: "flask test-tube", medal: "badge award", cup: "trophy", bed: "hotel",
  computer: "desktop monitor", "trending-up": "trend-up", "trending-down": "trend-down", wheelchair: "accessibility", airplaneticket: "boarding-pass",
  volume: "sound", "volume-high": "volume-up", textsize: "font-size", tools: "tool", printer: "print", newspaper: "news", speaker: "loudspeaker",
  palette: "color-palette", shuffle: "random", tv: "television", shapes: "shape", alarm: "alarm-clock", alert: "warning", info: "information",
  sort: "sorting", "folder-plus": "folder-add", "user-plus": "user-add", file: "document", forward: "fast-forward", album: "music-album", "credit-card": "payment-card", wallet: "purse", headphones: "headphone headset",
}).flatMap(([name, others]) => others.split(" ").map((other) => [other, name]));
const CANONICAL = new Map(SYNONYMS);
// Words that tell nothing of what is drawn: two classes that share only these are no family.
const LOOSE = words(`up down left right top bottom in out on off open full low empty half plus minus add remove check check-mark x
  center justify corner fast skip code text search music high hard`);

// Unlike words for like drawings, which must not be divided either.
const KIN = ["arrow chevron caret triangle play corner", "plus minus", "volume speaker mute", "user users male female", "disc album",
  "clock history alarm timer stopwatch watch", "info alert help question", "mail send inbox", "image library", "card id credit",
  "headphones headset music", "building bank hospital store home", "apps table layout columns window"].map((kin) => kin.split(" "));

const hash = (text) => crypto.createHash("sha256").update(text).digest("hex");
const byHash = (a, b) => (hash(a) < hash(b) ? -1 : 1);

/** The class of an icon's name, or nothing. */
function classOf(name) {
  const kept = name.split("-").filter((w) => w && !STYLE.has(w) && !/^\d+(px)?$/.test(w));
  const joined = kept.join("-");
  const word = CANONICAL.get(joined) ?? joined;
  return !word || BRANDS.has(word) || VAGUE.has(word) ? undefined : word;
}

/** For each class and set the icon whose name has the fewest words of style. */
function collect(collections) {
  const classes = new Map();
  for (const prefix of Object.keys(collections).sort()) {
    const info = collections[prefix];
    if (!LICENCES.has(info.license.spdx) || OTHER_CATEGORIES.has(info.category) || info.palette) continue;
    const data = JSON.parse(fs.readFileSync(`${packageFolder}/json/${prefix}.json`));
    for (const [name, icon] of Object.entries(data.icons)) {
      const word = icon.hidden ? undefined : classOf(name);
      if (!word) continue;
      if (!classes.has(word)) classes.set(word, new Map());
      const best = classes.get(word).get(prefix);
      const rank = [name.split("-").length, name];
      if (!best || rank[0] < best.rank[0] || (rank[0] === best.rank[0] && rank[1] < best.rank[1])) {
        classes.get(word).set(prefix, { rank, icon, data });
      }
    }
  }
  return classes;
}

/** The ink of an icon, 0 none to 255, in 16 levels; nothing if it does not draw or is all or hardly any ink. */
function draw({ icon, data }) {
  const [left, top] = [icon.left ?? data.left ?? 0, icon.top ?? data.top ?? 0];
  const [width, height] = [icon.width ?? data.width ?? 16, icon.height ?? data.height ?? 16];
  const side = Math.max(width, height);
  const box = `${left - (side - width) / 2} ${top - (side - height) / 2} ${side} ${side}`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${SIDE}" height="${SIDE}" ` +
    `viewBox="${box}" color="black">${icon.body}</svg>`;
  let pixels;
  try {
    pixels = new Resvg(svg, { font: { loadSystemFonts: false } }).render().pixels;
  } catch {
    return undefined;
  }
  const ink = new Uint8Array(SIDE * SIDE);
  for (let i = 0; i < ink.length; i++) ink[i] = Math.round(pixels[4 * i + 3] / 17) * 17;
  const share = ink.reduce((sum, x) => sum + x, 0) / (255 * ink.length);
  return share > 0.02 && share < 0.9 ? ink : undefined;
}

/** Share of the ink that two drawings do not have in common. */
function apart(a, b) {
  let [different, all] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    different += Math.abs(a[i] - b[i]);
    all += Math.max(a[i], b[i]);
  }
  return different / all;
}

/** Families of classes that share a telling word, each one list. */
function families(names) {
  const parent = new Map(names.map((name) => [name, name]));
  const root = (name) => (parent.get(name) === name ? name : root(parent.get(name)));
  const first = new Map();
  const kinOf = (word) => KIN.find((kin) => kin.includes(word))?.[0] ?? word;
  for (const name of names) {
    const own = name.split("-");
    const telling = own.length === 1 ? own : own.filter((w) => !LOOSE.has(w));
    for (const word of telling.map(kinOf)) {
      if (first.has(word)) parent.set(root(name), root(first.get(word)));
      else first.set(word, name);
    }
  }
  const lists = new Map();
  for (const name of names) lists.set(root(name), [...(lists.get(root(name)) ?? []), name]);
  return [...lists.values()];
}

/** Families to the three splits, the largest first, each to the one that lacks most. */
function divide(lists, total) {
  const splits = [["train", 0.64], ["val", 0.16], ["test", 0.2]].map(([name, share]) => ({ name, wanted: share * total, classes: [] }));
  lists.sort((a, b) => b.length - a.length || byHash(a[0], b[0]));
  for (const list of lists) {
    const lack = (split) => (split.wanted - split.classes.length) / split.wanted;
    splits.reduce((most, split) => (lack(split) > lack(most) ? split : most)).classes.push(...list);
  }
  splits.forEach((split) => split.classes.sort());
  return splits;
}

const collections = JSON.parse(fs.readFileSync(`${packageFolder}/collections.json`));
const drawings = new Map();
const [used, taken] = [new Map(), new Set()];
for (const [word, sets] of [...collect(collections)].sort()) {
  if (sets.size < FEWEST) continue;
  const kept = [];
  for (const prefix of [...sets.keys()].sort((a, b) => byHash(`${word} ${a}`, `${word} ${b}`))) {
    if (kept.length === MOST) break;
    const ink = draw(sets.get(prefix));
    // One drawing for two words would be right and wrong at once.
    if (!ink || taken.has(hash(ink))) continue;
    if (kept.every((other) => apart(ink, other.ink) > 0.15)) kept.push({ prefix, ink });
  }
  if (kept.length < FEWEST) continue;
  drawings.set(word, kept);
  kept.forEach(({ ink }) => taken.add(hash(ink)));
  kept.forEach(({ prefix }) => used.set(prefix, (used.get(prefix) ?? 0) + 1));
}
const splits = divide(families([...drawings.keys()].sort()), drawings.size);
const version = JSON.parse(fs.readFileSync(`${packageFolder}/package.json`)).version;
const header = {
  side: SIDE,
  channels: 1,
  splits: splits.map(({ name, classes }) => ({ name, classes: classes.map((c) => [c, drawings.get(c).length]) })),
  fingerprint: hash(splits.flatMap(({ classes }) => classes.flatMap((c) => drawings.get(c).map(({ ink }) => hash(ink)))).join("\n")),
};
const json = Buffer.from(JSON.stringify(header));
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(json.length));
const head = Buffer.concat([Buffer.from("isoflop images 1\n"), length, json]);
const padding = Buffer.alloc((64 - (head.length % 64)) % 64);
const pixels = splits.flatMap(({ classes }) => classes.flatMap((c) => drawings.get(c).map(({ ink }) => ink)));
fs.writeFileSync(out, Buffer.concat([head, padding, ...pixels]));

const rows = [...used].sort().map(([prefix, count]) => {
  const { name, author, license } = collections[prefix];
  const by = author.url ? `[${author.name}](${author.url})` : author.name;
  return `| ${name} | ${by} | ${license.url ? `[${license.spdx}](${license.url})` : license.spdx} | ${count} |`;
});
const sizes = splits.map(({ name, classes }) => `${classes.length} to ${name}`).join(", ");
fs.writeFileSync(credits, `# The built-in icons

\`icons.images.zst\` holds ${pixels.length} drawings of ${drawings.size} things (${sizes}), 28 × 28 pixels of ink in 16 levels,
from ${rows.length} icon sets of the npm package \`@iconify/json\` ${version}. We thank those who drew and gathered them. \`build.sh\` makes the
file; \`build.mjs\` says how drawings are chosen. Each set is used under its own licence:

| set | by | licence | drawings |
|---|---|---|---:|
${rows.join("\n")}
`);
console.log(`${drawings.size} classes, ${pixels.length} drawings, ${rows.length} sets: ${sizes}`);
