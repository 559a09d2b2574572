// The page's "what if": reads the controls, asks model.js and sharded.js, and draws. What is set stands in the address behind
// #what-if, so that a link leads to it.

const MIB = 2 ** 20;
const CAPS_MIB = [1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200];
const DDP_ONLY = ["batch", "accumulation", "cap", "precision"]; // controls that no sharded step follows here

function start(told) {
  const data = { ...told, places: told.places.map(flat) };
  const control = (name) => document.getElementById(`what-if-${name}`);
  const names = ["ranks", "strategy", "wire", "bandwidth", "latency", "batch", "accumulation", "cap", "precision"];
  const first = Object.fromEntries(names.map((name) => [name, name === "ranks" ? control("ranks").dataset.first : name === "accumulation" ? "1" : name === "wire" ? "-1" : name === "strategy" ? control("strategy").options[0].value : "0"]));
  const trained = [data.first_cap_bytes, data.cap_bytes];
  const own = [MIB, 25 * MIB];
  const stops = data.whole_buckets ? [null] : [null, ...(caps(own) === caps(trained) ? [] : [own]), ...CAPS_MIB.map((mib) => [mib * MIB, mib * MIB])];
  control("cap").max = stops.length - 1;
  const strategies = [...control("strategy").options].map((option) => option.value);
  const plain = { strategy: first.strategy, batch: 1, accumulation: 1, cap_bytes: null, sent_share: null, bandwidth: 1, latency: 1 };
  const started = data.places.filter((place) => place.spoken);
  const fallback = data.places.filter((place) => !place.extrapolated);
  const known = started.length ? started : fallback.length ? fallback : data.places;

  // What this machine can speak for; with another wire chosen, all that the model can be asked.
  const tells = (place, strategy) => (strategy === "ddp" ? place.ddp : shardedOf(place, strategy));
  const can = (place) => tells(place, control("strategy").value);
  const ofWire = () => (Number(control("wire").value) < 0 ? data.places.filter((place) => known.includes(place) || String(place.world_size) === first.ranks) : data.places);
  const offered = () => {
    const near = ofWire().filter(can);
    return near.length ? near : data.places.filter(can);
  };
  const wireAt = (place, strategy) => (strategy === "ddp" ? { busbw: place.busbw_bytes_per_s, latencyS: place.latency_s }
    : { busbw: shardedOf(place, strategy).busbw_bytes_per_s, latencyS: shardedOf(place, strategy).wire_latency_s });
  const wireOf = (place, strategy) => {
    const wire = data.wires[Number(control("wire").value)];
    return wire ? wire.busbw_bytes_per_s / wireAt(place, strategy).busbw : 1;
  };
  const settingAt = (place, setting) => ({ ...setting, world_size: place.world_size, bandwidth: setting.bandwidth * (setting.as_it_is ? 1 : wireOf(place, setting.strategy)) });
  const at = (place, setting) => {
    const own = settingAt(place, setting);
    if (own.strategy === "ddp") {
      const found = evaluate(data, own);
      return { ...place, ...found, span: intervals(data, own, found) };
    }
    const sharded = shardedOf(place, own.strategy);
    const found = evaluateSharded(place, own);
    const measured = sharded.measured_step_s === null ? null : { step_s: sharded.measured_step_s };
    return { ...place, ...found, spoken: place.spoken && !sharded.extrapolated, measured, span: shardedIntervals(place, own, found) };
  };

  function chosen() {
    const value = Object.fromEntries(names.map((name) => [name, Number(control(name).value)]));
    const strategy = control("strategy").value;
    if (strategy !== "ddp") return { ...plain, strategy, world_size: value.ranks, bandwidth: 10 ** value.bandwidth, latency: 10 ** value.latency };
    return {
      strategy,
      world_size: value.ranks,
      batch: Math.max(1, Math.round(data.samples * 2 ** value.batch)) / data.samples,
      accumulation: value.accumulation,
      cap_bytes: stops[value.cap],
      sent_share: value.precision || null,
      bandwidth: 10 ** value.bandwidth,
      latency: 10 ** value.latency,
    };
  }

  function offer() {
    const sizes = new Set(offered().map((place) => String(place.world_size)));
    for (const option of control("ranks").options) option.hidden = option.disabled = !sizes.has(option.value);
    if (!sizes.has(control("ranks").value)) control("ranks").value = sizes.has(first.ranks) ? first.ranks : [...sizes].pop();
    const sharded = control("strategy").value !== "ddp";
    for (const name of DDP_ONLY) control(name).disabled = sharded || (name === "cap" && data.whole_buckets);
    control("ddp-only").hidden = !sharded;
  }

  function show(setting) {
    const place = data.places.find((one) => one.world_size === setting.world_size);
    const [samples, batches] = [Math.round(data.samples * setting.batch), data.accumulation * setting.accumulation];
    const bandwidth = setting.bandwidth * wireOf(place, setting.strategy);
    const wire = wireAt(place, setting.strategy);
    const shown = {
      bandwidth: `${rate(wire.busbw * bandwidth)} busbw, ${short(bandwidth)}x`,
      latency: `${time(wire.latencyS * setting.latency)}, ${short(setting.latency)}x`,
      batch: `${samples} sample${samples === 1 ? "" : "s"}${batches > 1 ? " a micro-batch" : ""}, ${short(setting.batch)}x`,
      cap: setting.cap_bytes ? caps(setting.cap_bytes) : data.whole_buckets ? "as traced" : `as trained: ${caps(trained)}`,
      accumulation: `${batches} micro-batch${batches === 1 ? "" : "es"} a step`,
    };
    for (const [name, words] of Object.entries(shown)) {
      control(`${name}-shown`).textContent = words;
      control(name).setAttribute("aria-valuetext", words);
    }
  }

  const moved = () => names.filter((name) => !["ranks", "strategy"].includes(name) && !control(name).disabled && control(name).value !== first[name]);

  // All strategies with the wire that is set, all else as trained.
  function compare(place, { bandwidth, latency }) {
    const able = strategies.filter((strategy) => tells(place, strategy));
    return compared(data, place, able.map((strategy) => settingAt(place, { ...plain, strategy, bandwidth, latency })));
  }

  function draw(setting, differs) {
    const places = offered();
    const changed = places.map((place) => at(place, setting));
    const asItIs = places.map((place) => at(place, { ...plain, strategy: setting.strategy, as_it_is: true }));
    const index = places.findIndex((place) => place.world_size === setting.world_size);
    const [before, after] = [asItIs[index], changed[index]];
    show(setting);
    const span = after.span;
    control("number").textContent = times(after.speedup);
    control("span").textContent = span ? `${times(span.speedup.low)} to ${times(span.speedup.high)}` : "without an interval: too disturbed to give one";
    control("summary").textContent = `on ${ranks(setting.world_size)}: a step takes ${time(after.step_s)}${span ? ` (${time(span.step_s.low)} to ${time(span.step_s.high)})` : ""}, `
      + (after.buckets ? `${exposedWords(after)}, in ${after.buckets.length} bucket${after.buckets.length === 1 ? "" : "s"}.` : `${time(after.exposed_s)} of it exposed under ${setting.strategy}.`)
      + (differs ? ` As it is: ${times(before.speedup)}, ${time(before.step_s)}.` : "");
    const steps = [...(after.measured?.buckets ? [["measured", after.measured]] : []), ["predicted", before], ...(differs ? [["changed", after]] : [])];
    drawTimeline(steps);
    drawSpeedups(asItIs, changed, setting.world_size, differs);
    if (strategies.length > 1) listStrategies(places[index], compare(places[index], setting), setting.strategy, data.disturbed);
  }

  const redraw = () => draw(chosen(), moved().length > 0);

  // The address: #what-if&ranks=4&bandwidth=0.5, what differs from the beginning only.
  function remember() {
    const told = names.filter((name) => control(name).value !== first[name]).map((name) => `&${name}=${control(name).value}`);
    history.replaceState(null, "", told.length ? `#what-if${told.join("")}` : "#what-if");
  }

  function recall() {
    const [place, ...told] = location.hash.slice(1).split("&");
    if (place !== "what-if" || !told.length) return false;
    const wanted = Object.fromEntries(told.map((one) => one.split("=")));
    for (const name of names) {
      control(name).value = wanted[name] ?? first[name];
      if (control(name).value === "") control(name).value = first[name];
      offer();
    }
    document.getElementById("what-if").scrollIntoView();
    return true;
  }

  function reset() {
    for (const name of names) control(name).value = first[name];
    offer();
    redraw();
  }

  for (const name of names) {
    control(name).addEventListener("input", () => {
      if (name === "wire" || name === "strategy") offer();
      redraw();
      remember();
    });
  }
  control("reset").addEventListener("click", () => {
    reset();
    remember();
  });
  window.addEventListener("hashchange", () => recall() && redraw());
  window.addEventListener("beforeprint", () => draw({ ...plain, strategy: control("strategy").value, world_size: Number(control("ranks").value) }, false));
  window.addEventListener("afterprint", redraw);
  document.getElementById("what-if-page").hidden = false;
  window.commprof = {
    evaluate: (setting) => evaluate(data, { ...plain, ...setting }),
    compared: (setting) => compare(data.places.find((one) => one.world_size === setting.world_size), { ...plain, ...setting }),
    intervals: (setting) => intervals(data, { ...plain, ...setting }, evaluate(data, { ...plain, ...setting })),
  };
  reset();
  if (recall()) redraw();
  let drawn = widthOf("what-if-timeline");
  new ResizeObserver(() => {
    if (widthOf("what-if-timeline") === drawn) return;
    drawn = widthOf("what-if-timeline");
    requestAnimationFrame(redraw); // not within the observer, whose own loop it would be
  }).observe(document.getElementById("what-if-timeline"));
}

start(JSON.parse(document.getElementById("what-if-data").textContent));
