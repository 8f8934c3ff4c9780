// The graph: stages, what flows between them, and the credit that flows back.

import { $, count, duration, el, percent, svg } from './dom.js';

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
  if (to.y >= from.y + from.h) {
    // Down, and then along: it does not cross what flows on.
    const [x, y] = [from.x + from.w * .7 - shift, to.y + to.h / 2 + shift], round = 18;
    return { d: `M${x},${from.y + from.h}V${y - round}Q${x},${y} ${x + round},${y}H${to.x}`, x: (x + to.x) / 2 + 10, y };
  }
  const [x1, y1, x2, y2] = [from.x + from.w, from.y + from.h / 2 + shift, to.x, to.y + to.h / 2 + shift];
  const bend = Math.max(28, (x2 - x1) / 2);
  return { d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, x: (x1 + x2) / 2, y: (y1 + y2) / 2 };
}

function drawEdges(view, places, narrow) {
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

/** How time is spent: the parts of a bar. */
export const LOADS = ['blocked', 'limit', 'starved'];

/** A bar of parts, each with its class and its share. */
export function bar(kind, ...parts) {
  return el('span', { class: 'bar ' + kind }, ...parts.map(([name, share]) => {
    const part = el('i', { class: name });
    part.style.width = Math.max(0, Math.min(1, share || 0)) * 100 + '%';
    return part;
  }));
}

function fillNode(node, stage, view, chosen) {
  const isLimit = view.limit?.stage === stage.name && view.limit.kind !== 'source';
  const logs = stage.logs.filter(log => !log.output.endsWith('.dead_letter'));
  const fill = Math.max(0, ...logs.map(log => log.fill));
  const tag = stage.instances.length === 0 ? el('span', { class: 'tag absent' }, 'NO INSTANCE')
    : isLimit ? el('span', { class: 'tag' }, 'LIMIT')
    : stage.instances.some(instance => instance.is_draining) ? el('span', { class: 'tag drain' }, 'DRAINS') : null;
  const rate = stage.role === 'sink' ? stage.rates.accepted : stage.rates.events_in;
  node.className = 'node' + (isLimit ? ' is-limit' : '');
  node.setAttribute('aria-pressed', String(stage.name === chosen));
  const latency = stage.role === 'sink' ? stage.end_to_end : stage.settle;
  const state = ['limit', 'blocked', 'starved'].reduce((most, name) => (stage.load[name] > stage.load[most] ? name : most));
  node.replaceChildren(
    el('span', { class: 'row' }, el('span', { class: 'name' }, stage.name), tag ?? el('span', { class: 'what' }, stage.component)),
    el('span', { class: 'row' },
      el('span', { class: 'rate' }, count(rate), el('small', {}, ' /s')),
      el('span', { class: 'what' }, (tag ? stage.component + ' · ' : '') + '× ' + stage.instances.length)),
    el('span', { class: 'row caption' },
      bar('load', ...LOADS.map(name => [name, stage.load[name]])), el('span', {}, state + ' ' + percent(stage.load[state]))),
    el('span', { class: 'row caption' },
      ...(logs.length ? ['log', bar('log', ['fill' + (fill > .8 ? ' high' : ''), fill]), el('span', { class: 'share' }, percent(fill))]
        : [el('span', { class: 'rest' }, count(stage.in_work) + ' in work')]),
      el('span', {}, 'p99 ' + duration(latency.p99_ms))));
}

/** Draws all of it; `choose` is called with the name of a stage that is clicked. */
export function drawGraph(view, chosen, choose) {
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
    fillNode(node, stage, view, chosen);
  }
  drawEdges(view, places, narrow);
}

/** Moves the keyboard's focus to a stage. */
export const focusNode = name => nodes.get(name)?.focus();
