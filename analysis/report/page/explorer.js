// The page's "what if": reads the controls, asks explorer_model.js, and draws. Every figure is 460 units wide, as are the
// report's others, and takes the page's colours. Only numbers and words of this file are ever put into the markup.

const MIB = 2 ** 20;
const CAPS_MIB = [1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200];
const WIDTH = 460;
const LEFT = 86;
const RIGHT = 436;

// ---- words

const short = (value) => String(Number(value.toPrecision(3)));
const scaleOf = (seconds) => (seconds < 999.5e-6 ? [1e-6, "us"] : seconds < 0.9995 ? [1e-3, "ms"] : [1, "s"]);
const ranks = (count) => (count === 1 ? "1 rank" : `${count} ranks`);

function time(seconds) {
  const [scale, unit] = scaleOf(seconds);
  return `${short(seconds / scale)} ${unit}`;
}

function size(bytes) {
  const power = Math.min(3, Math.max(0, Math.floor(Math.log2(bytes) / 10)));
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${["B", "KiB", "MiB", "GiB"][power]}`;
}

const rate = (bytesPerS) => (bytesPerS >= 1e8 ? `${short(bytesPerS / 1e9)} GB/s` : `${short(bytesPerS / 1e6)} MB/s`);
const caps = ([first, others]) => (first === others ? size(first) : `${size(first)}, then ${size(others)}`);
const times = (speedup) => `${speedup.toFixed(2)}x`;

// ---- drawing

const text = (x, y, words, anchor = "start") => `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;
const line = (x1, y1, x2, y2, more) => `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" ${more}/>`;
const box = (x, y, width, height, colour) =>
  `<rect x="${x}" y="${y}" width="${Math.max(0, width)}" height="${height}" fill="var(--${colour})"/>`;
const path = (steps, more) => `<path d="${steps.join("")}" ${more}/>`;
const fixed = (value) => value.toFixed(2);

function put(id, height, said, parts) {
  const head = `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${said}" font-size="11" fill="currentColor">`;
  document.getElementById(id).innerHTML = `${head}${parts.join("")}</svg>`;
}

function legend(entries) {
  let x = 0;
  return entries.map(([colour, words]) => {
    const entry = box(x, 3, 10, 10, colour) + text(x + 15, 12, words);
    x += 30 + 6.2 * words.length;
    return entry;
  });
}

// Return the axis below a figure of times, and where on it a time lies.
function timeAxis(longestS, bottom, label) {
  const [scale, unit] = scaleOf(longestS);
  const rough = longestS / scale / 5;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = decade * [1, 2, 5, 10].find((factor) => factor * decade >= rough);
  const at = (seconds) => LEFT + ((RIGHT - LEFT) * seconds) / longestS;
  const marks = [line(LEFT, bottom, RIGHT, bottom, 'stroke="currentColor"')];
  for (let value = 0; value * scale <= longestS * 1.0001; value += step) {
    const x = fixed(at(value * scale));
    marks.push(line(x, 20, x, bottom, 'stroke="currentColor" opacity="0.13"'), text(x, bottom + 14, short(value), "middle"));
  }
  marks.push(text((LEFT + RIGHT) / 2, bottom + 30, `${label} (${unit})`, "middle"));
  return [at, marks];
}

function drawTimeline(changed) {
  const zero = changed.backward_start_s;
  const { buckets } = changed;
  const row = Math.min(26, 480 / buckets.length);
  const bar = row * 0.62;
  const bottom = 56 + row * buckets.length;
  const [at, parts] = timeAxis(changed.step_s - zero, bottom, "time after the last backward pass began");
  const computed = at(changed.compute_end_s - zero);
  parts.push(text(LEFT - 6, 42, "backward", "end"));
  parts.push(box(LEFT, 30, computed - LEFT, 16, "sky"), box(computed, 30, RIGHT - computed, 16, "orange"));
  const every = Math.ceil(buckets.length / 16);
  const [bars, waits, readies] = [[], [], []];
  buckets.forEach((bucket, i) => {
    const middle = 54 + row * (i + 0.5);
    const [ready, start, done] = [bucket.ready_s, bucket.start_s, bucket.done_s].map((s) => fixed(at(s - zero)));
    bars.push(`M${start} ${fixed(middle - bar / 2)}H${done}v${fixed(bar)}H${start}z`);
    waits.push(`M${ready} ${fixed(middle)}H${start}`);
    readies.push(`M${ready} ${fixed(middle - bar / 2)}v${fixed(bar)}`);
    const label = `${every > 1 ? `#${i + 1} ` : ""}${size(bucket.num_bytes)}`;
    if (i % every === 0) parts.push(text(LEFT - 6, fixed(middle + 4), label, "end"));
  });
  const thin = Math.min(1, row / 8); // many buckets: lines that leave the bars to be seen
  parts.push(path(bars, 'fill="var(--blue)"'), path(waits, `stroke="var(--blue)" stroke-width="${thin}"`));
  parts.push(path(readies, `stroke="var(--blue)" stroke-width="${2 * thin}"`));
  parts.push(...legend([["sky", "computing"], ["orange", "waiting and copying"], ["blue", "a bucket on the wire"]]));
  const last = Math.max(...buckets.map((bucket) => bucket.done_s)) - zero;
  const said = `${buckets.length} buckets; the last has landed ${time(last)} after the last backward pass began, computing `
    + `ends after ${time(changed.compute_end_s - zero)}, the step after ${time(changed.step_s - zero)}.`;
  put("what-if-timeline", bottom + 36, said, parts);
}

function drawSteps(now, changed) {
  const longest = Math.max(now.step_s, changed.step_s) * 1.14; // the value stands right of its bar
  const [at, parts] = timeAxis(longest, 88, "time of a step");
  [["as it is", now], ["changed", changed]].forEach(([name, one], i) => {
    const y = 30 + 30 * i;
    parts.push(text(LEFT - 6, y + 14, name, "end"));
    parts.push(box(at(0), y, at(one.backward_start_s) - LEFT, 20, "grey"));
    parts.push(box(at(one.backward_start_s), y, at(one.compute_s) - at(one.backward_start_s), 20, "sky"));
    parts.push(box(at(one.compute_s), y, at(one.step_s) - at(one.compute_s), 20, "orange"));
    parts.push(text(at(one.step_s) + 5, y + 14, time(one.step_s)));
  });
  parts.push(...legend([["grey", "up to the last backward pass"], ["sky", "that pass"], ["orange", "exposed communication"]]));
  put("what-if-steps", 124, `A step takes ${time(now.step_s)} as it is and ${time(changed.step_s)} changed, of which `
    + `${time(now.exposed_s)} and ${time(changed.exposed_s)} are exposed communication.`, parts);
}

function drawSpeedups(now, changed, chosen) {
  const most = Math.max(...changed.map((one) => one.world_size));
  const values = [...now, ...changed].map((one) => one.speedup);
  const low = Math.floor(Math.log2(Math.min(0.5, ...values)));
  const high = Math.ceil(Math.log2(Math.max(most, ...values)));
  const x = (count) => LEFT + ((RIGHT - 20 - LEFT) * Math.log2(count)) / Math.log2(most);
  const y = (speedup) => 200 - (176 * (Math.log2(speedup) - low)) / (high - low);
  const parts = [];
  for (let power = low; power <= high; power += Math.ceil((high - low) / 7)) {
    const value = power < 0 ? `1/${2 ** -power}` : 2 ** power;
    parts.push(line(LEFT, y(2 ** power), RIGHT, y(2 ** power), `stroke="currentColor" opacity="${power ? 0.13 : 0.5}"`));
    parts.push(text(LEFT - 6, y(2 ** power) + 4, `${value}x`, "end"));
  }
  for (const count of [1, ...changed.map((one) => one.world_size)]) parts.push(text(x(count), 216, count, "middle"));
  const place = (one) => `${fixed(x(one.world_size))} ${fixed(y(one.speedup))}`;
  const curve = (points) => [`M${place({ world_size: 1, speedup: 1 })}`, ...points.map((one) => `L${place(one)}`)];
  parts.push(line(x(1), y(1), x(most), y(most), 'stroke="currentColor" stroke-dasharray="1 4"'));
  parts.push(path(curve(now), 'fill="none" stroke="var(--grey)" stroke-width="1.8" stroke-dasharray="6 4"'));
  parts.push(path(curve(changed), 'fill="none" stroke="var(--blue)" stroke-width="1.8"'));
  for (const one of changed) {
    const inside = one.extrapolated ? "var(--page)" : "var(--blue)";
    const radius = one.world_size === chosen ? 6 : 3.5;
    const where = `cx="${fixed(x(one.world_size))}" cy="${fixed(y(one.speedup))}" r="${radius}"`;
    parts.push(`<circle ${where} fill="${inside}" stroke="var(--blue)" stroke-width="1.8"/>`);
  }
  parts.push(text((LEFT + RIGHT) / 2, 232, "ranks; hollow: wire not measured there; dotted: linear", "middle"));
  parts.push(...legend([["grey", "as it is"], ["blue", "changed"]]));
  const said = changed.map((one) => `${ranks(one.world_size)} ${times(one.speedup)}`).join(", ");
  put("what-if-speedup", 238, `Speedup over one rank, with the changes: ${said}.`, parts);
}

// ---- the page

function start(data) {
  const control = (name) => document.getElementById(`what-if-${name}`);
  const names = ["ranks", "bandwidth", "latency", "batch", "cap", "precision", "accumulation"];
  const trained = [data.first_cap_bytes, data.cap_bytes];
  const own = [MIB, 25 * MIB];
  const stops = data.whole_buckets ? [null] : [null, ...(caps(own) === caps(trained) ? [] : [own]), ...CAPS_MIB.map((mib) => [mib * MIB, mib * MIB])];
  control("cap").max = stops.length - 1;
  control("cap").disabled = data.whole_buckets;
  const plain = { batch: 1, accumulation: 1, cap_bytes: null, sent_share: null, bandwidth: 1, latency: 1 };
  const at = (place, setting) => ({ ...place, ...evaluate(data, { ...setting, world_size: place.world_size }) });
  const everywhere = (setting) => data.places.map((place) => at(place, setting));
  const asItIs = everywhere(plain);

  function chosen() {
    const value = Object.fromEntries(names.map((name) => [name, Number(control(name).value)]));
    return {
      world_size: value.ranks,
      batch: Math.max(1, Math.round(data.samples * 2 ** value.batch)) / data.samples,
      accumulation: value.accumulation,
      cap_bytes: stops[value.cap],
      sent_share: value.precision || null,
      bandwidth: 10 ** value.bandwidth,
      latency: 10 ** value.latency,
    };
  }

  function show(setting) {
    const place = data.places.find((one) => one.world_size === setting.world_size);
    const [samples, batches] = [Math.round(data.samples * setting.batch), data.accumulation * setting.accumulation];
    const shown = {
      bandwidth: `${rate(place.busbw_bytes_per_s * setting.bandwidth)} busbw, ${short(setting.bandwidth)}x`,
      latency: `${time(place.latency_s * setting.latency)}, ${short(setting.latency)}x`,
      batch: `${samples} sample${samples === 1 ? "" : "s"}${batches > 1 ? " a micro-batch" : ""}, ${short(setting.batch)}x`,
      cap: setting.cap_bytes ? caps(setting.cap_bytes) : data.whole_buckets ? "as traced" : `as trained: ${caps(trained)}`,
      accumulation: `${batches} micro-batch${batches === 1 ? "" : "es"} a step`,
    };
    for (const [name, words] of Object.entries(shown)) {
      control(`${name}-shown`).textContent = words;
      control(name).setAttribute("aria-valuetext", words);
    }
  }

  function draw(setting) {
    const changed = everywhere(setting);
    const index = data.places.findIndex((place) => place.world_size === setting.world_size);
    const [before, after] = [asItIs[index], changed[index]];
    show(setting);
    control("number").textContent = times(after.speedup);
    control("summary").textContent = `the samples per second of one rank, on ${ranks(setting.world_size)}. A step takes `
      + `${time(after.step_s)}, ${time(after.exposed_s)} of it exposed communication, in ${after.buckets.length} `
      + `bucket${after.buckets.length === 1 ? "" : "s"}. As it is: ${times(before.speedup)}, ${time(before.step_s)} `
      + `(90\u00a0% interval ${time(before.interval_s.low)} to ${time(before.interval_s.high)}).`;
    drawSteps(before, after);
    drawSpeedups(asItIs, changed, setting.world_size);
    drawTimeline(after);
  }

  function reset() {
    control("ranks").value = control("ranks").dataset.first;
    for (const name of names.slice(1)) control(name).value = name === "accumulation" ? 1 : 0;
    draw(chosen());
  }

  for (const name of names) control(name).addEventListener("input", () => draw(chosen()));
  control("reset").addEventListener("click", reset);
  window.addEventListener("beforeprint", () => draw({ ...plain, world_size: Number(control("ranks").dataset.first) }));
  window.addEventListener("afterprint", () => draw(chosen()));
  document.getElementById("what-if-page").hidden = false;
  window.commprof = { evaluate: (setting) => evaluate(data, { ...plain, ...setting }) };
  reset();
}

start(JSON.parse(document.getElementById("what-if-data").textContent));
