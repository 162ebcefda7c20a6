// What the page knows of the store: the whole as it was sent, with the news put to it, in bounded room.

/** Values of a line at most; more are folded, keeping the lowest and the highest of each stretch. */
const MOST = 2048;
const STRETCH = 4;

/** Everything; one object, so that figures need not be told where it is. */
export const known = {
  head: null,
  runs: new Map(),
  alarms: [],
  laws: {},
  /** Seconds between this clock and the server's. */
  ahead: 0,
  /** All quantities are here, not only coarse losses. */
  full: false,
};

const MOST_ALARMS = 300;

export function takeWhole(message) {
  takeHead(message);
  const { runs, laws, alarms, full } = message;
  known.runs = new Map(runs.map((run) => [run.id, { ...run, segments: run.segments, machine: run.machine || {} }]));
  known.laws = laws;
  known.full = full;
  asked.clear();
  known.alarms = alarms.slice(-MOST_ALARMS);
}

export function takeNews(message) {
  takeHead(message);
  for (const id of message.removed) known.runs.delete(id);
  if (message.laws) known.laws = message.laws;
  for (const news of message.runs) takeRun(news);
  const removed = new Set(message.removed);
  known.alarms = known.alarms.filter((a) => !removed.has(a.run));
  // A run whose logs were read anew sends its alarms again.
  const has = new Set(known.alarms.map(alarmKey));
  known.alarms.push(...message.alarms.filter((a) => !has.has(alarmKey(a))));
  known.alarms = known.alarms.slice(-MOST_ALARMS);
}

const alarmKey = (a) => `${a.run}\n${a.alarm}\n${a.unix_s}\n${a.words}`;

function takeHead(message) {
  known.head = message;
  known.ahead = message.now - Date.now() / 1000;
}

export const now = () => Date.now() / 1000 + known.ahead;

function takeRun(news) {
  const before = known.runs.get(news.id);
  // One with its lines replaces what was known: its logs were cut back, or it is new.
  if (news.segments || !before) {
    known.runs.set(news.id, { segments: [], machine: {}, ...news });
    return;
  }
  const run = { ...before, ...news };
  const { names, metrics, readings } = { names: news.names, metrics: known.head.metrics, readings: known.head.readings };
  for (const [segment, step, seconds, ...values] of news.new) {
    run.segments[segment] ||= { name: names[segment][0], from: names[segment][1] };
    values.forEach((y, i) => {
      if (y !== null) push((run.segments[segment][metrics[i]] ||= emptyLine()), step, seconds, y);
    });
  }
  for (const [unix, apart, ...values] of news.samples) {
    values.forEach((y, i) => {
      const line = (run.machine[readings[i]] ||= emptyLine());
      // A gap waits for the next value of each line.
      line.parted ||= apart && line.x.length > 0;
      if (y === null) return;
      push(line, unix, null, y, line.parted);
      line.parted = false;
    });
  }
  delete run.new;
  delete run.samples;
  known.runs.set(news.id, run);
}

const emptyLine = () => ({ n: 0, x: [], t: [], y: [] });

function push(line, x, t, y, apart = false) {
  if (apart) (line.apart ||= []).push(line.x.length);
  line.n += 1;
  line.x.push(x);
  if (line.t) line.t.push(t);
  line.y.push(y);
  if (line.x.length > MOST) fold(line);
}

/** Half as many values: the lowest and the highest of each stretch in their order, and the very last. */
export function fold(line) {
  const keep = folded(line, line.x.map((_, i) => i));
  const apart = new Set(line.apart);
  const gaps = keep.flatMap((i, at) => (gapWithin(apart, at ? keep[at - 1] + 1 : 0, i) ? [at] : []));
  for (const key of ["x", "t", "y"]) if (line[key]) line[key] = keep.map((i) => line[key][i]);
  line.apart = gaps.length ? gaps : undefined;
}

function gapWithin(apart, from, to) {
  if (apart.size) for (let i = from; i <= to; i++) if (apart.has(i)) return true;
  return false;
}

/** Of these indices of a line, those a fold keeps. No stretch reaches over a gap. */
function folded(line, indices) {
  const apart = new Set(line.apart);
  const keep = [];
  const last = indices.length - 1;
  let start = 0;
  while (start < last) {
    let end = start + 1;
    while (end < last && end - start < STRETCH && !gapWithin(apart, indices[end - 1] + 1, indices[end])) end++;
    let [low, high] = [start, start];
    for (let i = start; i < end; i++) {
      if (line.y[indices[i]] < line.y[indices[low]]) low = i;
      if (line.y[indices[i]] >= line.y[indices[high]]) high = i;
    }
    keep.push(indices[Math.min(low, high)]);
    if (low !== high) keep.push(indices[Math.max(low, high)]);
    start = end;
  }
  if (last >= 0) keep.push(indices[last]);
  return keep;
}

/** Indices of a line that are drawn: those within a range of x, folded until there are few enough. */
export function drawnOf(line, within, most) {
  let [from, to] = [0, line.x.length];
  if (within) {
    // One more on either side: the line goes on to the edge.
    while (from < to - 1 && line.x[from + 1] < within[0]) from++;
    while (to > from + 1 && line.x[to - 2] > within[1]) to--;
  }
  let indices = Array.from({ length: to - from }, (_, i) => from + i);
  while (indices.length > most) {
    const fewer = folded(line, indices);
    if (fewer.length === indices.length) break;
    indices = fewer;
  }
  return indices;
}

/** Whether something lies apart between two indices that follow each other in a drawing. */
export const isApart = (apart, before, index) => gapWithin(apart, before + 1, index);

/** Runs whose every kept value was fetched, because few are looked at. */
const asked = new Set();

/** Fetches the whole lines of these runs, one after the other; whether any came. */
export async function refine(runs) {
  let came = false;
  for (const run of runs) {
    if (asked.has(run.id)) continue;
    asked.add(run.id);
    try {
      const answer = await fetch("/run.json?id=" + encodeURIComponent(run.id));
      if (!answer.ok) continue;
      known.runs.set(run.id, await answer.json());
      came = true;
    } catch {
      asked.delete(run.id);
    }
  }
  return came;
}

/** Values of a line as they are drawn, and how many there were. */
export const isThinned = (line) => line.n > line.x.length;
