"use strict";
// The step of N ranks with something changed: what analysis/step/estimate.py and ddp.py say of draw 0, the prediction itself,
// and of the draws that make its interval.
// Seconds and bytes; `data` is page_data.py's PageData. Pure functions: nothing here touches the page.
//
// A setting is { world_size, batch, accumulation, cap_bytes, sent_share, bandwidth, latency }: factors on what was measured;
// cap_bytes null leaves DDP's buckets as trained, a pair are the caps of the first and of the others; sent_share null
// leaves what is sent per byte of gradient.

const flat = (place) => ({ ...place, ...place.ddp }); // DDP's numbers beside the others, where there are any
const placeOf = (data, setting) => flat(data.places.find((one) => one.world_size === setting.world_size));
const AS_PREDICTED = { pace: 1, exposed: 1, ratios: null };

function evaluate(data, setting) {
  const place = placeOf(data, setting);
  return played(data, place, { ...place, ...AS_PREDICTED }, setting);
}

// The middle 90 % of the draws, the prediction inside: of the step in seconds, and of the speedup. Null where runs were too
// disturbed to give one.
function intervals(data, setting, predicted) {
  const place = placeOf(data, setting);
  if (!place.draws) return null;
  const { low, high } = middle(place.draws.draws.map((draw) => played(data, place, draw, setting).step_s), predicted.step_s);
  const workS = predicted.speedup * predicted.step_s;
  return { step_s: { low, high }, speedup: { low: workS / high, high: workS / low } };
}

function middle(drawn, predictedS) {
  const sorted = [...drawn].sort((a, b) => a - b);
  return { low: Math.min(quantile(sorted, 0.05), predictedS), high: Math.max(quantile(sorted, 0.95), predictedS) };
}

function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)];
  return below + (at - Math.floor(at)) * (sorted[Math.ceil(at)] - below);
}

// `own` are the seconds and factors of one draw.
function played(data, place, own, setting) {
  const buckets = bucketsOf(data.gradients[place.gradients], setting.cap_bytes ?? [data.first_cap_bytes, data.cap_bytes]);
  const share = setting.sent_share ?? data.sent_share;
  const converts = setting.sent_share !== null && setting.sent_share < data.sent_share;

  const gradientS = setting.batch * (own.backward_s - own.copy_s); // of the pass that sends
  const onceS = setting.batch * (own.before_s + own.backward_s - own.copy_s); // of one micro-batch
  const buffersS = setting.latency * place.buffers_latency_s + place.buffers_transfer_s / setting.bandwidth;
  const beforeS = setting.accumulation * onceS - gradientS + own.update_s + buffersS;
  const spanS = gradientS + (converts ? data.conversion_passes * own.copy_s : 0);
  const computeEndS = beforeS + spanS;
  const totalBytes = buckets.reduce((sum, bucket) => sum + bucket.num_bytes, 0);
  const readyS = buckets.map((bucket) => (data.delayed ? computeEndS : beforeS + Math.min(1, bucket.ready) * spanS));
  const transferS = buckets.map((bucket) => ratioOf(place, own, share * bucket.num_bytes) * transferOf(place, share * bucket.num_bytes, setting));
  const copyS = buckets.map((bucket) => (own.copy_s * bucket.num_bytes) / totalBytes);

  const play = simulate(readyS, computeEndS, transferS, copyS, { ...place, ...own });
  const samples = setting.batch * setting.accumulation;
  const computeS = computeEndS - buffersS + own.copy_s;
  const stepS = own.pace * computeS + own.exposed * (play.end_s - computeS);
  return {
    step_s: stepS,
    compute_s: own.pace * computeS,
    exposed_s: own.exposed * (play.end_s - computeS),
    slowed_s: play.compute_end_s - computeEndS, // parts of what is exposed that do not lie behind the last gradient
    buffers_s: buffersS,
    copies: play.copies,
    speedup: (samples * (place.work_s - place.work_update_s) + place.work_update_s) / stepS, // over one rank set alike
    backward_start_s: beforeS,
    compute_end_s: play.compute_end_s,
    buckets: buckets.map((bucket, i) => ({
      num_bytes: share * bucket.num_bytes,
      ready_s: play.ready_s[i],
      start_s: play.start_s[i],
      done_s: play.done_s[i],
    })),
  };
}

// A bucket closes when its size reaches its cap; it is ready when the last of its gradients is.
function bucketsOf(gradients, [firstCap, cap]) {
  const buckets = [];
  let open = null;
  gradients.num_bytes.forEach((size, i) => {
    open ??= { num_bytes: 0, ready: 0 };
    open.num_bytes += size;
    open.ready = Math.max(open.ready, gradients.ready[i]);
    if (open.num_bytes >= (buckets.length ? cap : firstCap)) {
      buckets.push(open);
      open = null;
    }
  });
  return open ? [...buckets, open] : buckets;
}

// What a draw's bench took over the measured one, between the sizes at which that is known.
function ratioOf(place, { ratios }, messageBytes) {
  if (!ratios) return 1;
  const places = place.draws.log_bytes;
  const x = Math.min(Math.max(Math.log(messageBytes), places[0]), places[places.length - 1]);
  let piece = 0;
  while (piece < places.length - 2 && places[piece + 1] <= x) piece += 1;
  if (places.length === 1) return ratios[0];
  const share = (x - places[piece]) / (places[piece + 1] - places[piece]);
  return ratios[piece] + share * (ratios[piece + 1] - ratios[piece]);
}

// The time of one message alone on the wire.
function transferOf(place, messageBytes, setting) {
  const aloneS = Math.exp(alongCurve(place.curve, Math.log(messageBytes)));
  const latencyS = Math.min(aloneS, place.latency_s);
  return setting.latency * latencyS + (aloneS - latencyS) / setting.bandwidth;
}

function alongCurve({ knots, coefficients }, x) {
  let piece = 0;
  while (piece < coefficients.length - 1 && knots[piece + 1] <= x) piece += 1;
  const share = (x - knots[piece]) / (knots[piece + 1] - knots[piece]);
  return coefficients[piece].reduce((sum, coefficient) => sum * share + coefficient, 0);
}

// Play one step from event to event: a launch, the end of computing, or a landing. Buckets leave in order, at most `workers` at a
// time, and share the wire; beside computation each proceeds at its own speed. Each is copied back once it has landed and the
// one before is copied.
function simulate(readyS, computeEndS, transferS, copyS, { workers, compute_rate: computeRate, comm_rate: commRate, wait_s: waitS }) {
  let latest = 0;
  const launchS = readyS.map((at) => Math.min((latest = Math.max(latest, at)), computeEndS));
  const besideRate = transferS.map((alone) => commRate * (alone > 0 ? alone / (alone + waitS) : 1));
  const [launchedS, startS, doneS] = [[], [], []];
  let [wall, computed, computeWall, launched, sent, busy] = [0, 0, 0, 0, 0, []];
  for (;;) {
    while (launched < launchS.length && launchS[launched] <= computed) {
      launchedS[launched] = wall;
      launched += 1;
    }
    const computing = computed < computeEndS;
    while (busy.length < workers && sent < launched) {
      startS[sent] = wall;
      busy.push({ bucket: sent, leftS: transferS[sent] });
      sent += 1;
    }
    if (!computing && busy.length === 0) break;
    const ownRate = busy.length ? computeRate : 1;
    const rates = busy.map((one) => (computing ? besideRate[one.bucket] : 1) / busy.length);
    const milestone = launched < launchS.length ? launchS[launched] : computeEndS;
    const untilCompute = computing ? (milestone - computed) / ownRate : Infinity;
    const elapsed = Math.min(untilCompute, ...busy.map((one, i) => one.leftS / rates[i]));
    wall += elapsed;
    if (computing) {
      computed = elapsed === untilCompute ? milestone : computed + elapsed * ownRate;
      computeWall = wall;
    }
    busy = busy
      .map((one, i) => ({ bucket: one.bucket, leftS: one.leftS - elapsed * rates[i], landed: one.leftS <= elapsed * rates[i] * (1 + 1e-12) }))
      .filter((one) => {
        if (one.landed) doneS[one.bucket] = wall;
        return !one.landed;
      });
  }
  const copies = [];
  const endS = doneS.reduce((end, done, i) => {
    const from = Math.max(end, done);
    if (copyS[i] > 0) copies.push([from, from + copyS[i]]);
    return from + copyS[i];
  }, computeWall);
  return { ready_s: launchedS, start_s: startS, done_s: doneS, compute_end_s: computeWall, copies, end_s: endS };
}
