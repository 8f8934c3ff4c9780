// What the pipeline tells, drawn. The data is the JSON of `jaiminho top --once --json`, once a second.

const $ = id => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const KEPT = 900;

/** An element with attributes and children; text is always text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

function svg(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const isNumber = value => typeof value === 'number' && Number.isFinite(value);

function count(value) {
  if (!isNumber(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(2) + ' G';
  if (size >= 1e6) return (value / 1e6).toFixed(size < 1e7 ? 2 : 1) + ' M';
  if (size >= 1e4) return (value / 1e3).toFixed(size < 1e5 ? 1 : 0) + ' k';
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return value.toFixed(size >= 10 ? 1 : 2);
}

function bytes(value) {
  if (!isNumber(value)) return '–';
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024 || unit === 'GiB') return value.toFixed(unit === 'B' || value >= 100 ? 0 : 1) + ' ' + unit;
    value /= 1024;
  }
}

function duration(ms) {
  if (!isNumber(ms)) return '–';
  if (ms === 0) return '0';
  if (ms < 1) return ms.toFixed(1) + ' ms';
  if (ms < 1000) return ms.toFixed(ms < 10 ? 1 : 0) + ' ms';
  const seconds = ms / 1000;
  if (seconds < 120) return seconds.toFixed(seconds < 10 ? 1 : 0) + ' s';
  if (seconds < 7200) return (seconds / 60).toFixed(0) + ' min';
  return seconds < 172800 ? (seconds / 3600).toFixed(1) + ' h' : (seconds / 86400).toFixed(1) + ' d';
}

const percent = share => (isNumber(share) ? Math.round(share * 100) + ' %' : '–');
const clock = unixMs => new Date(unixMs).toLocaleTimeString([], { hour12: false });

let about = { pipeline: '', jaeger: null, outputs: [] };
let view = null;
let past = { times: [], stages: {} };
let chosen = location.hash.startsWith('#stage=') ? decodeURIComponent(location.hash.slice(7)) : null;
let paused = false;

// ---- the graph ----

const nodes = new Map();

/** What is not a stage's main output. */
const isSide = edge => edge.output !== edge.from;

/**
 * Column of each stage: one more than the furthest of those it consumes; and which ones stand below the others, under the last
 * that they consume, because only dead letters and the like come to them.
 */
function columns(stages, subscriptions) {
  const column = new Map(stages.map(stage => [stage.name, 0]));
  const below = new Set();
  // Pipeline order: what a stage consumes stands before it.
  for (const { name } of stages) {
    const edges = subscriptions.filter(edge => edge.to === name && column.has(edge.from));
    if (!edges.length) continue;
    const aside = edges.every(edge => isSide(edge) || below.has(edge.from));
    if (aside) below.add(name);
    column.set(name, Math.max(...edges.map(edge => column.get(edge.from))) + (aside ? 0 : 1));
  }
  return { column, below };
}

/** Places of the nodes: columns from left to right, or rows from top to bottom where it is narrow. */
function layout(stages, subscriptions, width) {
  const { column, below } = columns(stages, subscriptions);
  const ranks = [], under = [];
  for (const { name } of stages) ((below.has(name) ? under : ranks)[column.get(name)] ??= []).push(name);
  const narrow = width < 640;
  const high = 104;
  const places = new Map();
  if (narrow) {
    let top = 0;
    const wide = Math.min(width, 420);
    for (const names of [...ranks, ...under.filter(Boolean)]) {
      for (const name of names) {
        places.set(name, { x: (width - wide) / 2 + 14, y: top, w: wide - 28, h: high });
        top += high + 46;
      }
    }
    return { places, height: top - 46, narrow };
  }
  const gap = Math.max(64, Math.min(170, (width - ranks.length * 190) / Math.max(1, ranks.length - 1)));
  const wide = Math.min(250, (width - gap * (ranks.length - 1)) / ranks.length);
  const most = Math.max(...ranks.map(names => names.length));
  const height = most * high + (most - 1) * 34;
  const deepest = Math.max(0, ...under.filter(Boolean).map(names => names.length));
  const used = wide * ranks.length + gap * (ranks.length - 1);
  ranks.forEach((names, rank) => {
    const all = names.length * high + (names.length - 1) * 34;
    names.forEach((name, index) => {
      places.set(name, { x: (width - used) / 2 + rank * (wide + gap), y: (height - all) / 2 + index * (high + 34), w: wide, h: high });
    });
  });
  under.forEach((names, rank) => names.forEach((name, index) => {
    places.set(name, { x: (width - used) / 2 + rank * (wide + gap), y: height + 46 + index * (high + 34), w: wide, h: high });
  }));
  return { places, height: height + (deepest ? 46 + deepest * high + (deepest - 1) * 34 : 0), narrow };
}

function curve(from, to, narrow, shift) {
  if (narrow) {
    const down = to.y - (from.y + from.h);
    if (down < 60) {
      const x = from.x + from.w / 2 + shift;
      return { d: `M${x},${from.y + from.h}V${to.y}`, x, y: from.y + from.h + down / 2 };
    }
    // Past what stands between: along the edge.
    const side = from.x + from.w, out = side + 9 + shift / 2;
    return { d: `M${side},${from.y + from.h * .7 + shift}H${out}V${to.y + to.h * .3}H${side}`, x: null, y: null };
  }
  if (to.x < from.x + from.w) {
    const x = from.x + from.w / 2 + shift;
    return { d: `M${x},${from.y + from.h}V${to.y}`, x: x + 44, y: (from.y + from.h + to.y) / 2 + 13 };
  }
  const [x1, y1, x2, y2] = [from.x + from.w, from.y + from.h / 2 + shift, to.x, to.y + to.h / 2 + shift];
  const bend = Math.max(28, (x2 - x1) / 2);
  return { d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, x: (x1 + x2) / 2, y: (y1 + y2) / 2 };
}

function drawEdges(places, narrow) {
  const edges = $('edges');
  const drawn = [];
  for (const edge of view.subscriptions) {
    const [from, to] = [places.get(edge.from), places.get(edge.to)];
    if (!from || !to) continue;
    const dead = isSide(edge);
    const rate = edge.events ?? 0;
    const width = rate > 0 ? Math.min(9, 2 + Math.log10(1 + rate)) : 2;
    const flow = curve(from, to, narrow, -5);
    const back = curve(from, to, narrow, 7);
    drawn.push(svg('path', { class: 'bed', d: flow.d, 'stroke-width': width }));
    if (rate > 0) {
      const path = svg('path', { class: 'edge moving' + (dead ? ' dead' : ''), d: flow.d, 'stroke-width': width });
      path.style.animationDuration = Math.max(.25, 1.6 - Math.log10(1 + rate) * .3) + 's';
      drawn.push(path);
    }
    const state = edge.links.length === 0 ? ' absent' : (edge.no_credit ?? 0) > .5 ? ' none' : '';
    drawn.push(svg('path', { class: 'back' + state, d: back.d }));
    if (flow.x !== null && !(dead && rate === 0 && edge.waiting === 0)) {
      const at = narrow ? { x: flow.x + 52, y: flow.y + 4 } : { x: flow.x, y: flow.y - 9 };
      const label = svg('text', { class: 'edge-label', ...at });
      label.textContent = count(rate) + '/s';
      drawn.push(label);
      if (edge.waiting > 0) {
        const more = svg('text', { class: 'edge-label bad', x: at.x, y: at.y + (narrow ? 14 : 32) });
        more.textContent = count(edge.waiting) + ' wait';
        drawn.push(more);
      }
    }
  }
  edges.replaceChildren(...drawn);
}

function bar(kind, ...parts) {
  return el('span', { class: 'bar ' + kind }, ...parts.map(([name, share]) => {
    const part = el('i', { class: name });
    part.style.width = Math.max(0, Math.min(1, share || 0)) * 100 + '%';
    return part;
  }));
}

function fillNode(node, stage) {
  const isLimit = view.limit?.stage === stage.name && view.limit.kind !== 'source';
  const fill = Math.max(0, ...stage.logs.map(log => log.fill));
  const tag = stage.instances.length === 0 ? el('span', { class: 'tag absent' }, 'NO INSTANCE')
    : isLimit ? el('span', { class: 'tag' }, 'LIMIT')
    : stage.instances.some(instance => instance.is_draining) ? el('span', { class: 'tag drain' }, 'DRAINS') : null;
  const rate = stage.role === 'sink' ? stage.rates.accepted : stage.rates.events_in;
  node.className = 'node' + (isLimit ? ' is-limit' : '');
  node.setAttribute('aria-pressed', String(stage.name === chosen));
  const latency = stage.role === 'sink' ? stage.end_to_end : stage.settle;
  node.replaceChildren(
    el('span', { class: 'top' }, el('span', { class: 'name' }, stage.name), tag ?? el('span', { class: 'what' }, stage.component)),
    el('span', { class: 'top' },
      el('span', { class: 'rate' }, count(rate), el('small', {}, ' /s')),
      el('span', { class: 'what' }, (tag ? stage.component + ' · ' : '') + '× ' + stage.instances.length)),
    bar('load', ['blocked', stage.load.blocked], ['limit', stage.load.limit], ['starved', stage.load.starved]),
    stage.logs.length ? bar('log', ['fill' + (fill > .8 ? ' high' : ''), fill]) : el('span', { class: 'bar' }),
    el('span', { class: 'caption' },
      el('span', {}, stage.logs.length ? 'log ' + percent(fill) : 'in work ' + count(stage.in_work)),
      el('span', {}, 'p99 ' + duration(latency.p99_ms))));
}

function drawGraph() {
  const graph = $('graph');
  const { places, height, narrow } = layout(view.stages, view.subscriptions, graph.clientWidth);
  graph.style.height = height + 'px';
  for (const [name, node] of nodes) {
    if (!places.has(name)) { node.remove(); nodes.delete(name); }
  }
  for (const stage of view.stages) {
    let node = nodes.get(stage.name);
    if (!node) {
      node = el('button', { type: 'button', class: 'node' });
      node.addEventListener('click', () => choose(stage.name));
      nodes.set(stage.name, node);
      graph.append(node);
    }
    const place = places.get(stage.name);
    Object.assign(node.style, { left: place.x + 'px', top: place.y + 'px', width: place.w + 'px', height: place.h + 'px' });
    fillNode(node, stage);
  }
  drawEdges(places, narrow);
}

// ---- the details of a stage ----

function figure(name, value, attributes = {}) {
  return el('div', { class: attributes.wide ? 'wide' : null }, el('dt', {}, name), el('dd', { class: attributes.bad ? 'bad' : null }, value));
}

function drawFigures(stage) {
  const { rates, totals } = stage;
  const here = Object.values(totals.rejected_here).reduce((sum, value) => sum + value, 0);
  const figures = [
    figure('in', count(rates.events_in) + '/s'),
    figure('bytes in', bytes(rates.bytes_in) + '/s'),
    stage.logs.length ? figure('out', count(rates.events_out) + '/s') : figure('accepted', count(rates.accepted) + '/s'),
    figure('in work', count(stage.in_work)),
    figure('oldest', duration(stage.oldest_ms ?? NaN)),
    figure('settled in p50 / p99', duration(stage.settle.p50_ms) + ' / ' + duration(stage.settle.p99_ms)),
    stage.role === 'sink' ? figure('end to end p50 / p99', duration(stage.end_to_end.p50_ms) + ' / ' + duration(stage.end_to_end.p99_ms)) : null,
    figure('rejected here', count(here), { bad: here > 0 }),
    stage.role === 'source' ? figure('refused', count(totals.refused), { bad: (rates.refused ?? 0) > 0 }) : null,
    figure('redelivered', count(totals.redelivered)),
    ...stage.logs.map(log => figure(log.output === stage.name ? 'log' : log.output.slice(stage.name.length + 1).replace('_', ' '), `${count(log.events)} of ${count(log.capacity_events)}`, { bad: log.fill > .8 })),
    stage.trouble ? figure('trouble since ' + clock(stage.trouble.since_unix_ms), stage.trouble.text, { bad: true, wide: true }) : null,
  ];
  $('figures').replaceChildren(...figures.filter(Boolean));
}

function table(id, heads, rows, empty) {
  const isNumber = head => head.startsWith('#');
  const head = el('tr', {}, ...heads.map(name => el('th', { scope: 'col', class: isNumber(name) ? 'number' : null }, name.replace('#', ''))));
  const cell = (value, index) => el('td', { class: isNumber(heads[index]) ? 'number' : null }, value);
  const body = rows.length ? rows.map(row => el('tr', {}, ...row.map(cell))) : [el('tr', {}, el('td', { colspan: heads.length, class: 'empty' }, empty))];
  $(id).replaceChildren(el('thead', {}, head), el('tbody', {}, ...body));
}

function drawTables(stage) {
  const memory = instance => bytes(instance.resident_bytes) + (instance.memory_bytes_max ? ' of ' + bytes(instance.memory_bytes_max) : '');
  table('instances', ['name', 'address', '#in /s', '#in work', 'state', '#up', 'memory', '#clock', 'version'],
    stage.instances.map(instance => [
      instance.name + (instance.is_draining ? ' (drains)' : ''), instance.address, count(instance.rates.events_in), count(instance.in_work),
      bar('load', ['blocked', instance.load.blocked], ['limit', instance.load.limit], ['starved', instance.load.starved]),
      duration(instance.up_ms), memory(instance), (instance.clock_ahead_ms > 0 ? '+' : '') + instance.clock_ahead_ms + ' ms', instance.version,
    ]), 'None answers.');
  const unseen = stage.addresses.filter(address => address.problem);
  for (const address of unseen) {
    $('instances').tBodies[0].append(el('tr', {}, el('td', {}, '–'), el('td', {}, address.address), el('td', { colspan: 7, class: 'empty' }, address.problem)));
  }
  const edges = view.subscriptions.filter(edge => edge.from === stage.name || edge.to === stage.name);
  table('links', ['output', 'from', 'to', '#events /s', '#bytes /s', 'credit', '#left', '#unsettled', '#no credit'],
    edges.flatMap(edge => edge.links.map(link => [
      edge.output, link.producer, link.consumer + (link.is_cancelled ? ' (leaves)' : ''), count(link.events), bytes(link.bytes),
      bar('credit', ['', link.credit_unused / link.window_events]), count(link.credit_unused) + ' of ' + count(link.window_events),
      count(link.unsettled), percent(link.no_credit),
    ])), 'No link is open.');
}

function traceLink(event) {
  const id = /^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(event?.traceparent ?? '')?.[1];
  return id && about.jaeger ? el('a', { href: about.jaeger + '/trace/' + id, target: '_blank', rel: 'noopener' }, 'trace') : null;
}

function drawRejections(stage) {
  const list = $('rejections');
  // What is open stays open.
  if (list.dataset.of === JSON.stringify(stage.rejections)) return;
  list.dataset.of = JSON.stringify(stage.rejections);
  list.replaceChildren(...stage.rejections.map(rejection => el('li', {}, el('details', {},
    el('summary', {}, el('time', {}, clock(rejection.unix_ms)), el('span', { class: 'reason' }, rejection.reason), rejection.text),
    rejection.event ? el('pre', {}, JSON.stringify(rejection.event, null, 2)) : el('p', { class: 'empty' }, 'The event is too large to be shown.'),
    traceLink(rejection.event)))));
  if (!stage.rejections.length) list.append(el('li', { class: 'empty' }, 'This stage has rejected nothing.'));
}

// ---- plots ----

function niceTop(value) {
  if (!(value > 0)) return 1;
  const scale = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find(step => step * scale >= value) * scale;
}

/** Lines over the last 15 minutes; null is a gap. */
function plot(id, times, lines, { text, top, areas = false }) {
  const box = $(id), width = Math.max(120, box.clientWidth), height = 150, left = 52, bottom = 18, right = 4;
  const most = top ?? niceTop(Math.max(0, ...lines.flatMap(line => line.values.filter(isNumber))));
  const end = times.at(-1) ?? Date.now(), begin = end - KEPT * 1000;
  const x = time => left + (time - begin) / (KEPT * 1000) * (width - left - right);
  const y = value => 6 + (1 - value / most) * (height - bottom - 6);
  const drawn = [];
  for (const share of [0, .5, 1]) {
    drawn.push(svg('line', { class: 'grid', x1: left, x2: width - right, y1: y(most * share), y2: y(most * share) }));
    const label = svg('text', { x: left - 6, y: y(most * share) + 4, 'text-anchor': 'end' });
    label.textContent = text(most * share);
    drawn.push(label);
  }
  for (const [ago, anchor] of [[15, 'start'], [10, 'middle'], [5, 'middle'], [0, 'end']]) {
    const label = svg('text', { x: x(end - ago * 60000), y: height - 4, 'text-anchor': anchor });
    label.textContent = ago ? '−' + ago + ' min' : 'now';
    drawn.push(label);
  }
  const floor = times.map(() => 0);
  for (const line of lines) {
    let d = '', open = false;
    if (areas) {
      const upper = [], lower = [];
      times.forEach((time, index) => {
        const value = line.values[index] ?? 0;
        lower.push(`${x(time).toFixed(1)},${y(floor[index]).toFixed(1)}`);
        floor[index] += value;
        upper.push(`${x(time).toFixed(1)},${y(floor[index]).toFixed(1)}`);
      });
      d = upper.length ? 'M' + upper.join('L') + 'L' + lower.reverse().join('L') + 'Z' : '';
    } else {
      times.forEach((time, index) => {
        const value = line.values[index];
        if (!isNumber(value)) { open = false; return; }
        d += `${open ? 'L' : 'M'}${x(time).toFixed(1)},${y(value).toFixed(1)}`;
        open = true;
      });
    }
    drawn.push(svg('path', { class: line.kind, d }));
  }
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': lines.map(line => line.name).join(', ') + ' over the last 15 minutes' });
  picture.append(...drawn);
  box.replaceChildren(picture);
  const now = lines.map(line => `${line.name} ${text(line.values.at(-1))}`).join(' · ');
  $(box.dataset.now).textContent = now;
  box.onpointermove = pointer => {
    const at = begin + (pointer.offsetX - left) / (width - left - right) * KEPT * 1000;
    const index = times.findIndex(time => time >= at);
    if (index < 0) return;
    picture.querySelector('.cursor')?.remove();
    picture.append(svg('line', { class: 'cursor', x1: x(times[index]), x2: x(times[index]), y1: 6, y2: height - bottom }));
    $(box.dataset.now).textContent = clock(times[index]) + ' ' + lines.map(line => `${line.name} ${text(line.values[index])}`).join(' · ');
  };
  box.onpointerleave = () => { $(box.dataset.now).textContent = now; picture.querySelector('.cursor')?.remove(); };
}

const SERIES = ['events_in', 'accepted', 'rejected', 'fill', 'blocked', 'limit', 'settle_p50_ms', 'settle_p99_ms', 'end_to_end_p50_ms', 'end_to_end_p99_ms'];

function remember(seen) {
  past.times.push(seen.unix_ms);
  const drop = Math.max(0, past.times.length - KEPT);
  past.times.splice(0, drop);
  for (const stage of seen.stages) {
    const kept = past.stages[stage.name] ??= {};
    const values = {
      events_in: stage.rates.events_in, accepted: stage.rates.accepted, rejected: stage.rates.rejected,
      fill: Math.max(0, ...stage.logs.map(log => log.fill)), blocked: stage.load.blocked, limit: stage.load.limit,
      settle_p50_ms: stage.settle.p50_ms, settle_p99_ms: stage.settle.p99_ms,
      end_to_end_p50_ms: stage.end_to_end.p50_ms, end_to_end_p99_ms: stage.end_to_end.p99_ms,
    };
    for (const name of SERIES) {
      const list = kept[name] ??= [];
      while (list.length < past.times.length - 1) list.push(null);
      list.push(stage.instances.length ? values[name] : null);
      if (list.length > past.times.length) list.splice(0, list.length - past.times.length);
    }
  }
}

function drawCharts(stage) {
  const kept = past.stages[stage.name] ?? {};
  const line = (name, of, kind) => ({ name, kind, values: kept[of] ?? [] });
  plot('rates', past.times, [line('in', 'events_in', 'a'), line('settled', 'accepted', 'b'), line('rejected', 'rejected', 'c')], { text: count });
  const of = stage.role === 'sink' ? 'end_to_end' : 'settle';
  plot('latency', past.times, [line('p50', of + '_p50_ms', 'b'), line('p99', of + '_p99_ms', 'a')], { text: duration });
  plot('load', past.times, [line('blocked', 'blocked', 'blocked'), line('limit', 'limit', 'limit')], { text: percent, top: 1, areas: true });
}

// ---- all of it ----

function drawLimit() {
  const limit = $('limit');
  limit.className = view.limit?.kind === 'source' ? 'source' : '';
  if (!view.limit) { limit.textContent = 'Nothing limits it that can be seen.'; return; }
  const { stage, text } = view.limit;
  const rest = text.startsWith(stage) ? text.slice(stage.length) : ': ' + text;
  limit.replaceChildren(el('strong', {}, stage), rest);
}

function drawFindings() {
  const list = $('findings');
  $('findings-section').hidden = view.findings.length === 0;
  list.replaceChildren(...view.findings.map(finding => el('li', { class: finding.severity },
    el('strong', {}, finding.text ?? ''), finding.advice ? el('span', { class: 'do' }, ' ' + finding.advice) : null)));
}

function draw() {
  if (!view) return;
  if (!view.stages.some(stage => stage.name === chosen)) chosen = view.limit?.stage ?? view.stages[0]?.name ?? null;
  drawLimit();
  drawGraph();
  drawFindings();
  const stage = view.stages.find(one => one.name === chosen);
  if (!stage) return;
  $('details-title').textContent = stage.name + ' · ' + stage.component;
  drawFigures(stage);
  drawTables(stage);
  drawRejections(stage);
  drawCharts(stage);
}

function choose(name) {
  chosen = name;
  history.replaceState(null, '', '#stage=' + encodeURIComponent(name));
  draw();
}

function setPaused(value) {
  paused = value;
  $('pause').setAttribute('aria-pressed', String(paused));
  $('pause').textContent = paused ? 'Go on' : 'Pause';
  if (!paused) draw();
}

function setLive(state, text) {
  $('live').className = 'live ' + state;
  $('live').textContent = text;
}

// ---- the tap ----

let tapping = null;

function stopTap(text, bad) {
  tapping?.close();
  tapping = null;
  $('tap-button').textContent = 'Start';
  $('tap-note').textContent = text;
  $('tap-note').className = bad ? 'note bad' : 'note';
}

function startTap() {
  const query = new URLSearchParams({ output: $('tap-output').value, filter: $('tap-filter').value });
  $('tap').replaceChildren();
  $('tap-button').textContent = 'Stop';
  $('tap-note').className = 'note';
  $('tap-note').textContent = 'Waiting for events …';
  let seen = 0;
  tapping = new EventSource('api/tap?' + query);
  tapping.onmessage = message => {
    const event = JSON.parse(message.data);
    seen += 1;
    $('tap-note').textContent = seen + (seen === 1 ? ' event' : ' events');
    $('tap').prepend(el('li', {}, el('details', {},
      el('summary', {}, el('time', {}, clock(Date.now())), [event.type, event.partitionkey, event.id].filter(Boolean).join(' · ')),
      el('pre', {}, JSON.stringify(event, null, 2)), traceLink(event))));
    while ($('tap').children.length > 50) $('tap').lastElementChild.remove();
  };
  tapping.addEventListener('problem', message => stopTap(JSON.parse(message.data), true));
  tapping.onerror = () => stopTap('The tap has ended: the console does not answer.', true);
}

$('tap-form').addEventListener('submit', event => {
  event.preventDefault();
  if (tapping) stopTap('Stopped.'); else startTap();
});

// ---- start ----

for (const [id, now] of [['rates', 'rate-now'], ['latency', 'latency-now'], ['load', 'load-now']]) $(id).dataset.now = now;
$('pause').addEventListener('click', () => setPaused(!paused));
addEventListener('resize', () => requestAnimationFrame(draw));
addEventListener('keydown', event => {
  if (event.target.closest('input, select, textarea') || event.ctrlKey || event.metaKey || event.altKey) return;
  const names = view?.stages.map(stage => stage.name) ?? [];
  const at = names.indexOf(chosen);
  if (event.key === 'p') setPaused(!paused);
  else if (event.key === 't') { $('tap-output').focus(); event.preventDefault(); }
  else if (event.key === 'ArrowRight' && at < names.length - 1) { choose(names[at + 1]); nodes.get(chosen)?.focus(); }
  else if (event.key === 'ArrowLeft' && at > 0) { choose(names[at - 1]); nodes.get(chosen)?.focus(); }
});

async function start() {
  about = await (await fetch('api/about')).json();
  document.title = about.pipeline + ' · Jaiminho';
  $('pipeline').textContent = about.pipeline;
  $('tap-output').replaceChildren(...about.outputs.map(name => el('option', {}, name)));
  $('tap-section').hidden = about.outputs.length === 0;
  const kept = await (await fetch('api/history')).json();
  past = { times: kept.unix_ms, stages: kept.stages };
  const events = new EventSource('api/view');
  events.onopen = () => setLive('on', 'live');
  events.onerror = () => setLive('off', 'no answer; trying again');
  events.onmessage = message => {
    setLive('on', 'live');
    const seen = JSON.parse(message.data);
    if (seen.unix_ms === past.times.at(-1)) { view ??= seen; } else { remember(seen); view = seen; }
    document.documentElement.dataset.looks = String(Number(document.documentElement.dataset.looks ?? 0) + 1);
    if (!paused) draw();
  };
}

start().catch(error => setLive('off', String(error)));
