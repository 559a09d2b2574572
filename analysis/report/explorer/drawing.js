// How the page's "what if" says and draws things. A figure is as wide as its place, one unit a CSS pixel, and takes the page's
// colours. Only numbers and words of these files and of page_data.py are ever put into the markup.

const LARGEST_LINEAR = 8; // ranks; beyond, doublings lie at equal distances
const MOST_MARKED = 150; // collectives that tell their values one by one
const EXCHANGES = { gather: ["all-gather", "blue"], reduce: ["reduce-scatter", "vermillion"], all_reduce: ["all-reduce of copies", "green"] };

// ---- words

const short = (value) => String(Number(value.toPrecision(3)));
const scaleOf = (seconds) => (seconds < 999.5e-6 ? [1e-6, "us"] : seconds < 0.9995 ? [1e-3, "ms"] : [1, "s"]);
const ranks = (count) => (count === 1 ? "1 rank" : `${count} ranks`);

function time(seconds) {
  const [scale, unit] = scaleOf(Math.abs(seconds));
  return `${short(seconds / scale)} ${unit}`;
}

function size(bytes) {
  const power = Math.min(3, Math.max(0, Math.floor(Math.log2(bytes) / 10)));
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${["B", "KiB", "MiB", "GiB"][power]}`;
}

const rate = (bytesPerS) => (bytesPerS >= 1e8 ? `${short(bytesPerS / 1e9)} GB/s` : `${short(bytesPerS / 1e6)} MB/s`);
const caps = ([first, others]) => (first === others ? size(first) : `${size(first)}, then ${size(others)}`);
const times = (speedup) => `${speedup.toFixed(2)}x`;
const behind = (step) => Math.max(0, step.step_s - step.compute_end_s); // the last gradient, in seconds
const copied = (step) => (step.copies ?? []).reduce((sum, [from, to]) => sum + to - from, 0);
const counts = (seconds, step) => seconds > 0.001 * step.step_s;

// What of a predicted step is exposed, and where it lies: with the copies it is what its bars show. What is left out is too little
// to be seen in the figures beside it.
function exposedWords(step) {
  const told = ([seconds]) => seconds > 0.005 * step.exposed_s;
  const elsewhere = [[step.slowed_s, "slows computation"], [step.buffers_s, "sends buffers before it"]].filter(told);
  const parts = elsewhere.map(([seconds, what]) => `${time(seconds)} ${what}`).join(", ");
  const copyS = copied(step);
  return `${time(step.exposed_s)} of it exposed${parts && ` (${parts})`}${told([copyS]) ? ` and ${time(copyS)} copies out of buckets` : ""}`;
}

// ---- drawing

const fixed = (value) => value.toFixed(1);
const text = (x, y, words, anchor = "start", more = "") => `<text x="${fixed(x)}" y="${fixed(y)}" text-anchor="${anchor}" ${more}>${words}</text>`;
const line = (x1, y1, x2, y2, more) => `<line x1="${fixed(x1)}" y1="${fixed(y1)}" x2="${fixed(x2)}" y2="${fixed(y2)}" ${more}/>`;
const box = (x, y, width, height, colour, say = "") =>
  `<rect x="${fixed(x)}" y="${fixed(y)}" width="${fixed(Math.max(0, width))}" height="${height}" fill="var(--${colour})"${say && ` class="mark" data-say="${say}"`}/>`;

function put(id, width, height, said, parts) {
  const place = document.getElementById(id);
  const focused = place.firstElementChild === document.activeElement && place.firstElementChild !== null;
  const head = `<svg viewBox="0 0 ${width} ${fixed(height)}" role="img" tabindex="0" aria-label="${said}" font-size="12" fill="currentColor">`;
  place.innerHTML = `${head}${parts.join("")}</svg>`;
  if (focused) place.firstElementChild.focus();
}

const widthOf = (id) => Math.max(300, Math.min(900, document.getElementById(id).clientWidth || 560));

// Lay a legend out in rows; return its parts and the height that it takes.
function legend(entries, width) {
  let [x, y] = [0, 0];
  const parts = entries.map(([colour, words]) => {
    const taken = 30 + 6.4 * words.length;
    if (x > 0 && x + taken > width) [x, y] = [0, y + 17];
    const entry = box(x, y + 2, 10, 10, colour) + text(x + 15, y + 11, words);
    x += taken;
    return entry;
  });
  return [parts, y + 24];
}

// Return the axis below a figure of times, and where on it a time lies.
function timeAxis(longestS, left, right, top, bottom) {
  const [scale, unit] = scaleOf(longestS);
  const rough = longestS / scale / Math.max(3, Math.min(7, (right - left) / 70));
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = decade * [1, 2, 5, 10].find((factor) => factor * decade >= rough);
  const at = (seconds) => left + ((right - left) * seconds) / longestS;
  const marks = [line(left, bottom, right, bottom, 'stroke="currentColor"')];
  for (let value = 0; value * scale <= longestS * 1.0001; value += step) {
    const x = at(value * scale);
    marks.push(line(x, top, x, bottom, 'stroke="currentColor" opacity="0.13"'), text(x, bottom + 15, short(value), "middle"));
  }
  marks.push(text((left + right) / 2, bottom + 32, `time of a step (${unit})`, "middle"));
  return [at, marks];
}

// Put buckets into lanes, so that those on the wire at once lie beside each other.
function lanesOf(buckets) {
  const ends = [];
  return buckets.map((bucket) => {
    let lane = ends.findIndex((end) => end <= bucket.start_s * (1 + 1e-9));
    if (lane < 0) lane = ends.length;
    ends[lane] = bucket.done_s;
    return lane;
  });
}

// One step: what computes above, the wire below it, what follows the last gradient marked through both. A measured step does
// not tell copies from what is exposed.
function stepRows(name, step, at, y) {
  const lanes = lanesOf(step.buckets);
  const deep = Math.max(1, ...lanes.map((lane) => lane + 1));
  const [bar, lane] = [20, deep > 2 ? 8 : 12];
  const tailS = behind(step);
  const [began, ended, last] = [step.backward_start_s, step.compute_end_s, step.step_s].map(at);
  const height = 20 + bar + 4 + lane * deep;
  const parts = [text(at(0), y + 12, `<tspan font-weight="600">${name}</tspan> ${time(step.step_s)}, ${time(tailS)} of it after the last gradient`)];
  const top = y + 18;
  parts.push(`<rect x="${fixed(ended)}" y="${top - 2}" width="${fixed(Math.max(0, last - ended))}" height="${bar + 8 + lane * deep}" fill="var(--orange)" opacity="0.22"/>`);
  parts.push(box(at(0), top, began - at(0), bar, "grey", `${name}: ${time(step.backward_start_s)} up to the last backward pass`));
  const slowed = counts(step.slowed_s ?? 0, step) ? `, ${time(step.slowed_s)} of it slower for the buckets beside it` : "";
  parts.push(box(began, top, ended - began, bar, "sky", `${name}: ${time(step.compute_end_s - step.backward_start_s)} of backward pass${slowed}`));
  const exposed = step.copies ? `${time(tailS - copied(step))} exposed, nothing computes` : `${time(tailS)} exposed, with the copies out of buckets`;
  parts.push(box(ended, top, last - ended, bar, "orange", `${name}: ${exposed}`));
  for (const [from, to] of step.copies ?? []) parts.push(box(at(from), top, at(to) - at(from), bar, "green", `${name}: ${time(to - from)} copied out of a bucket`));
  step.buckets.forEach((bucket, i) => {
    const row = top + bar + 4 + lane * lanes[i];
    const waitedS = bucket.start_s - bucket.ready_s;
    const say = i < MOST_MARKED ? `${name}, bucket ${i + 1} of ${size(bucket.num_bytes)}: ready after ${time(bucket.ready_s)}, waits ${time(Math.max(0, waitedS))}, `
      + `on the wire ${time(bucket.done_s - bucket.start_s)}` : "";
    if (waitedS > 0) parts.push(line(at(bucket.ready_s), row + lane / 2, at(bucket.start_s), row + lane / 2, 'stroke="var(--purple)" stroke-width="2"'));
    parts.push(box(at(bucket.start_s), row + 1, Math.max(1, at(bucket.done_s) - at(bucket.start_s) - 0.6), lane - 2, "blue", say));
  });
  return [parts, height];
}

// A step of units: what computes above, their collectives below; where nothing computes, the exposed part shows.
function shardedRows(name, step, at, y) {
  const lanes = lanesOf(step.exchanges);
  const deep = Math.max(1, ...lanes.map((lane) => lane + 1));
  const [bar, lane] = [20, 12];
  const parts = [text(at(0), y + 12, `<tspan font-weight="600">${name}</tspan> ${time(step.step_s)}, ${time(step.exposed_s)} of it exposed`)];
  const top = y + 18;
  const playedS = step.step_s - step.late_s;
  parts.push(box(at(0), top, at(playedS) - at(0), bar, "orange", `${name}: ${time(step.exposed_s)} exposed in all, where nothing computes`));
  if (counts(step.late_s, step)) parts.push(box(at(playedS), top, at(step.step_s) - at(playedS), bar, "purple", `${name}: ${time(step.late_s)} of waiting for the latest rank, in all`));
  for (const [start, end] of step.computing) parts.push(box(at(start), top, at(end) - at(start), bar, "sky"));
  step.exchanges.forEach((one, i) => {
    const [what, colour] = EXCHANGES[one.what];
    const say = i < MOST_MARKED ? `${name}: ${what} of unit ${one.unit + 1}, ${size(one.num_bytes)}, ${time(one.done_s - one.start_s)} on the wire from ${time(one.start_s)} on` : "";
    parts.push(box(at(one.start_s), top + bar + 5 + lane * lanes[i], Math.max(1, at(one.done_s) - at(one.start_s) - 0.4), lane - 2, colour, say));
  });
  return [parts, 20 + bar + 4 + lane * deep];
}

const EXPOSED = ["orange", "exposed: nothing computes"];
const DDP_LEGEND = [["grey", "computing before"], ["sky", "last backward pass"], ["blue", "a bucket on the wire"], ["purple", "a bucket waiting"], EXPOSED];
const SHARDED_LEGEND = [["sky", "computing"], ...Object.values(EXCHANGES).map(([what, colour]) => [colour, what]), EXPOSED];

function legendOf(steps) {
  if (!steps.some(([, step]) => step.exchanges)) return steps.some(([, step]) => copied(step) > 0) ? [...DDP_LEGEND, ["green", "copies out of buckets"]] : DDP_LEGEND;
  return steps.some(([, step]) => counts(step.late_s ?? 0, step)) ? [...SHARDED_LEGEND, ["purple", "waiting for the latest rank"]] : SHARDED_LEGEND;
}

function drawTimeline(steps) {
  const width = widthOf("what-if-timeline");
  const [parts, top] = legend(legendOf(steps), width);
  const longest = Math.max(...steps.map(([, step]) => step.step_s));
  const scaleAt = (seconds) => 2 + ((width - 14) * seconds) / longest;
  let y = top + 4;
  for (const [name, step] of steps) {
    const [rows, height] = (step.exchanges ? shardedRows : stepRows)(name, step, scaleAt, y);
    parts.push(...rows);
    y += height + 14;
  }
  const [, axis] = timeAxis(longest, 2, width - 12, top, y);
  const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const said = steps.map(([name, step]) => `${name} ${time(step.step_s)}, ${step.exchanges ? `${time(step.exposed_s)} exposed, ${many(step.exchanges.length, "collective")}`
    : `computing ends after ${time(step.compute_end_s)}, ${many(step.buckets.length, "bucket")}`}`).join("; ");
  put("what-if-timeline", width, y + 38, `A step on one line of time. ${said}.`, [...axis, ...parts]);
}

function drawSpeedups(now, changed, chosen, differs) {
  const width = widthOf("what-if-speedup");
  const entries = [["blue", differs ? "changed" : "predicted"], ...(differs ? [["grey", "as it is"]] : []),
    ...(changed.some((one) => one.measured) ? [["vermillion", "measured, as it is"]] : [])];
  const [parts, top] = legend(entries, width);
  const [left, right, bottom] = [46, width - 24, top + 230];
  const most = Math.max(...changed.map((one) => one.world_size));
  const long = most > LARGEST_LINEAR;
  const measured = changed.filter((one) => one.measured).map((one) => ({ ...one, speedup: one.work_s / one.measured.step_s }));
  const values = [...now, ...changed, ...measured].flatMap((one) => [one.speedup, one.span?.speedup.high ?? one.speedup]);
  const ends = long ? [Math.min(0, ...values.map((value) => Math.floor(Math.log2(value)))), Math.log2(Math.max(most, ...values))] : [0, Math.max(most, ...values) * 1.05];
  const share = (value) => ((long ? Math.log2(value) : value) - ends[0]) / (ends[1] - ends[0]);
  const x = (count) => left + (right - left) * (long ? Math.log2(count) / Math.log2(most) : (count - 1) / Math.max(1, most - 1));
  const y = (speedup) => bottom - (bottom - top - 6) * share(speedup);
  const ticks = long ? Array.from({ length: Math.ceil(ends[1]) - ends[0] + 1 }, (_, i) => 2 ** (ends[0] + i)).filter((value) => share(value) <= 1.001)
    : Array.from({ length: Math.floor(ends[1]) + 1 }, (_, i) => i);
  for (const value of ticks) {
    parts.push(line(left, y(value), right, y(value), `stroke="currentColor" opacity="${value === 1 ? 0.5 : 0.13}"`));
    parts.push(text(left - 6, y(value) + 4, `${value < 1 && value > 0 ? `1/${1 / value}` : value}x`, "end"));
  }
  for (const count of [1, ...changed.map((one) => one.world_size)]) parts.push(text(x(count), bottom + 16, count, "middle"));
  const place = (one) => `${fixed(x(one.world_size))} ${fixed(y(one.speedup))}`;
  const curve = (points, more) => `<path d="M${place({ world_size: 1, speedup: 1 })}${points.map((one) => `L${place(one)}`).join("")}" fill="none" ${more}/>`;
  parts.push(line(x(1), y(1), x(most), y(most), 'stroke="currentColor" stroke-dasharray="1 4"'));
  if (differs) parts.push(curve(now, 'stroke="var(--grey)" stroke-width="1.8" stroke-dasharray="6 4"'));
  parts.push(curve(changed, 'stroke="var(--blue)" stroke-width="1.8"'));
  for (const one of changed) {
    const [at, span] = [x(one.world_size), one.span?.speedup];
    if (span) parts.push(line(at, y(span.low), at, y(span.high), 'stroke="var(--blue)" stroke-width="2"'));
    const inside = one.spoken ? "var(--blue)" : "var(--page)";
    const say = `${ranks(one.world_size)}: ${times(one.speedup)}${span ? `, ${times(span.low)} to ${times(span.high)}` : ", without an interval"}${one.spoken ? "" : "; not measured there"}`;
    parts.push(`<circle class="mark" data-say="${say}" cx="${fixed(at)}" cy="${fixed(y(one.speedup))}" r="${one.world_size === chosen ? 7 : 4.5}" fill="${inside}" stroke="var(--blue)" stroke-width="1.8"/>`);
  }
  for (const one of measured) {
    const [at, high] = [x(one.world_size), y(one.speedup)];
    parts.push(`<path class="mark" data-say="${ranks(one.world_size)}: ${times(one.speedup)} measured" d="M${fixed(at)} ${fixed(high - 7)}l6 7l-6 7l-6-7z" fill="var(--vermillion)" stroke="var(--page)"/>`);
  }
  const hollow = changed.some((one) => !one.spoken) ? "; hollow: not measured there" : "";
  parts.push(text((left + right) / 2, bottom + 33, `ranks; dotted: linear${hollow}`, "middle"));
  const said = changed.map((one) => `${ranks(one.world_size)} ${times(one.speedup)}`).join(", ");
  put("what-if-speedup", width, bottom + 40, `Speedup over one rank: ${said}.`, parts);
}

const memoryWords = (one) => (one.memory_bytes === null ? "unknown" : `${one.memory_is_all ? "" : "> "}${size(one.memory_bytes)}`);

// Every strategy at the chosen ranks: a row of a table each; of disturbed runs none is called the fastest.
function listStrategies(place, found, chosen, disturbed) {
  const named = (one) => (disturbed || found.answers.length < 2 ? "" : one.strategy === found.fastest ? "fastest" : found.within_noise.includes(one.strategy) ? "within noise" : "");
  document.getElementById("what-if-strategies-title").textContent = `Strategies on ${ranks(place.world_size)}, all else as trained`;
  document.querySelector("#what-if-strategies tbody").replaceChildren(...found.answers.map((one) => {
    const row = document.createElement("tr");
    const span = one.span ? `${time(one.span.low)} to ${time(one.span.high)}` : "too disturbed";
    const cells = [one.strategy, time(one.step_s), span, time(one.exposed_s), memoryWords(one), named(one)];
    row.replaceChildren(...cells.map((words) => Object.assign(document.createElement("td"), { textContent: words })));
    if (one.strategy === chosen) row.className = "chosen";
    return row;
  }));
}
