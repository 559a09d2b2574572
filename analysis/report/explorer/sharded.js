// A sharded step with another wire, and the strategies side by side: what analysis/strategies/schedule.py, estimate.py and
// choose.py say of draw 0, the prediction itself, and of the draws that make its interval. `own` is sharded.py's ShardedPlace.
// Pure functions: nothing here touches the page.
//
// A setting has { world_size, strategy, bandwidth, latency }, factors on what was measured.

const AHEAD = { g: 2, G: 1 }; // gathers that may be under way before one is consumed
const TOLD_APART = 0.9; // of the draws
const STRIDE = 7; // has no divisor in common with their number
const shardedOf = (place, strategy) => place.strategies.find((one) => one.strategy === strategy);

function evaluateSharded(place, setting) {
  const own = shardedOf(place, setting.strategy);
  const found = playedSharded(own, { passes: 1, after_s: null, late_s: own.late_s, pace: 1, exposed: 1, ratios: null }, setting);
  return { ...found, speedup: place.work_s / found.step_s };
}

// The draws' steps in seconds, in the order in which all strategies have them; null of a DDP too disturbed to have any.
function drawnSteps(data, place, setting) {
  if (setting.strategy === "ddp") return place.draws && place.draws.draws.map((draw) => played(data, place, draw, setting).step_s);
  const own = shardedOf(place, setting.strategy);
  return own.draws.map((draw) => playedSharded(own, draw, setting).step_s);
}

// Every strategy that can be told, its step and memory; the fastest, and those that the draws do not tell from it.
function compared(data, place, settings) {
  const answers = settings.map((setting) => {
    const found = setting.strategy === "ddp" ? evaluate(data, setting) : evaluateSharded(place, setting);
    const drawn = drawnSteps(data, place, setting);
    const own = setting.strategy === "ddp" ? place : shardedOf(place, setting.strategy);
    const memory = { memory_bytes: own.memory_bytes, memory_is_all: own.memory_is_all };
    const spoken = setting.strategy === "ddp" ? drawn : !own.disturbed;
    const span = spoken ? middle(drawn, found.step_s) : null;
    const told = spoken ? { drawn, side_by_side: own.side_by_side } : null;
    return { strategy: setting.strategy, step_s: found.step_s, exposed_s: found.exposed_s, ...memory, told, span };
  });
  const fastest = answers.reduce((best, one) => (one.step_s < best.step_s ? one : best));
  const alike = answers.filter((one) => one !== fastest && !toldApart(fastest.told, one.told, place.own_paces));
  return { answers, fastest: fastest.strategy, within_noise: alike.map((one) => one.strategy) };
}

function shardedIntervals(place, setting, predicted) {
  if (shardedOf(place, setting.strategy).disturbed) return null;
  const { low, high } = middle(drawnSteps(null, place, setting), predicted.step_s);
  return { step_s: { low, high }, speedup: { low: place.work_s / high, high: place.work_s / low } };
}

// Whether two runs would tell, each with a pace of its own. What one rank does not show of several is in the one alone of one
// rank and ranks side by side: their draws are not of the same numbers.
function toldApart(first, second, ownPaces) {
  if (!first || !second) return false;
  const count = first.drawn.length;
  const other = (i) => (first.side_by_side === second.side_by_side ? i : (STRIDE * i + 3) % count);
  const before = first.drawn.filter((step, i) => step * ownPaces[0][i] < second.drawn[other(i)] * ownPaces[1][i]);
  return before.length >= TOLD_APART * count;
}

function playedSharded(own, draw, setting) {
  const messageS = own.latency_s.map((latencyS, i) => (draw.ratios ? draw.ratios[i] : 1) * (setting.latency * latencyS + own.rest_s[i] / setting.bandwidth));
  const play = playOperations(own, (number) => (number < 0 ? 0 : messageS[number]), draw);
  const computeS = draw.pace * (play.compute_s + draw.late_s);
  const exposedS = draw.exposed * (play.end_s - play.compute_s);
  return { step_s: computeS + exposedS, compute_s: computeS, exposed_s: exposedS, late_s: draw.pace * draw.late_s, computing: play.computing, exchanges: play.exchanges };
}

// Play one step: the host computes and waits, gathers and reductions of the shards go through one queue, all-reduces among
// copies through another; blocking collectives end before the host goes on.
function playOperations(own, seconds, draw) {
  const lanes = { host: 0, shards: 0, copies: 0, reduced: 0 };
  const [exchanges, computing, gathers, landed, consumed] = [[], [], [], [], []];
  let [computes, messages, reductions, asked, passed, computeS] = [0, 0, 0, 0, false, 0];
  const kinds = [...own.operations].filter((letter) => letter in AHEAD || letter === "r");
  kinds.forEach((letter, i) => letter in AHEAD && gathers.push({ letter, message: i }));
  const sent = (what, message, number, startS) => {
    const doneS = startS + seconds(number);
    exchanges.push({ what, unit: own.units[message], num_bytes: number < 0 ? 0 : own.message_bytes[number], start_s: startS, done_s: doneS });
    return doneS;
  };
  const finish = () => { lanes.host = Math.max(lanes.host, lanes.shards, lanes.copies); };
  const ask = (last) => {
    for (; asked <= last; asked += 1) {
      const { letter, message } = gathers[asked];
      const earlier = asked - AHEAD[letter];
      const freeS = own.blocking ? lanes.host : earlier >= 0 ? consumed[earlier] : 0;
      landed[asked] = lanes.shards = sent("gather", message, own.messages[message], Math.max(freeS, lanes.shards));
    }
  };
  const compute = () => {
    const ownS = passed ? (draw.after_s === null ? own.compute_s[computes] : 0) : draw.passes * own.compute_s[computes];
    computes += 1;
    go(ownS);
  };
  const go = (ownS) => {
    if (ownS > 0) computing.push([lanes.host, lanes.host + ownS]);
    lanes.host += ownS;
    computeS += ownS;
  };
  const gather = () => {
    const number = consumed.length;
    ask(number);
    lanes.host = Math.max(lanes.host, landed[number]);
    consumed.push(lanes.host);
    messages += 1;
    while (!own.blocking && asked < gathers.length && asked - AHEAD[gathers[asked].letter] < consumed.length) ask(asked);
  };
  const reduce = () => {
    lanes.reduced = lanes.shards = sent("reduce", messages, own.messages[messages], Math.max(lanes.host, lanes.shards));
    if (own.copies.length) lanes.copies = sent("all_reduce", messages, own.copies[reductions], Math.max(lanes.shards, lanes.copies));
    messages += 1;
    reductions += 1;
    if (own.blocking) finish();
  };
  const end = () => {
    finish();
    if (!passed && draw.after_s !== null) go(draw.after_s);
    passed = true;
  };
  const does = { c: compute, g: gather, G: gather, r: reduce, h: () => { lanes.host = Math.max(lanes.host, lanes.reduced); }, f: end };
  for (const letter of own.operations) does[letter]();
  finish();
  return { end_s: lanes.host, compute_s: computeS, computing, exchanges };
}
