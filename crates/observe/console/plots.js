// What was in the last 15 minutes, and its plots.

import { $, clock, count, duration, el, isNumber, percent, svg } from './dom.js';

const KEPT_MS = 15 * 60 * 1000;
/** Longer than this without a look is a gap in a line. */
const GAP_MS = 5000;

let past = { times: [], stages: {} };

/** Begins anew with what the server has kept. */
export function recall(history) {
  past = { times: history.unix_ms, stages: history.stages };
}

function niceTop(value) {
  if (!(value > 0)) return 1;
  const scale = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find(step => step * scale >= value) * scale;
}

/** Lines over the last 15 minutes, or areas on top of each other; null is a gap. */
function plot(id, times, lines, { text, top, areas = false }) {
  const box = $(id), width = Math.max(120, box.clientWidth), height = 150, left = 52, bottom = 18, right = 4;
  const most = top ?? niceTop(Math.max(0, ...lines.flatMap(line => line.values.filter(isNumber))));
  const end = times.at(-1) ?? Date.now(), begin = end - KEPT_MS;
  const x = time => left + (time - begin) / KEPT_MS * (width - left - right);
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
        if (time - times[index - 1] > GAP_MS) open = false;
        d += `${open ? 'L' : 'M'}${x(time).toFixed(1)},${y(value).toFixed(1)}`;
        open = true;
      });
    }
    drawn.push(svg('path', { class: line.kind, d }));
  }
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': lines.map(line => line.name).join(', ') + ' over the last 15 minutes' });
  picture.append(...drawn);
  box.replaceChildren(picture);
  const caption = index => lines.flatMap(line => [el('i', { class: 'dot ' + line.kind }), `${line.name} ${text(line.values.at(index))} `]);
  const tell = (...told) => $(box.dataset.now).replaceChildren(...told);
  tell(...caption(-1));
  box.onpointermove = pointer => {
    const at = begin + (pointer.offsetX - left) / (width - left - right) * KEPT_MS;
    const index = times.findIndex(time => time >= at);
    if (index < 0) return;
    picture.querySelector('.cursor')?.remove();
    picture.append(svg('line', { class: 'cursor', x1: x(times[index]), x2: x(times[index]), y1: 6, y2: height - bottom }));
    tell(clock(times[index]) + ' ', ...caption(index));
  };
  box.onpointerleave = () => { tell(...caption(-1)); picture.querySelector('.cursor')?.remove(); };
}

const SERIES = ['events_in', 'accepted', 'rejected', 'fill', 'blocked', 'limit', 'settle_p50_ms', 'settle_p99_ms', 'end_to_end_p50_ms', 'end_to_end_p99_ms'];

/** Takes one look in; what is older than 15 minutes goes. */
export function remember(seen) {
  if (seen.unix_ms <= past.times.at(-1)) return;
  past.times.push(seen.unix_ms);
  const old = past.times.findIndex(time => time > seen.unix_ms - KEPT_MS);
  past.times.splice(0, old);
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

/** A stage's plots. */
export function drawCharts(stage) {
  const kept = past.stages[stage.name] ?? {};
  const line = (name, of, kind) => ({ name, kind, values: kept[of] ?? [] });
  plot('rates', past.times, [line('in', 'events_in', 'a'), line('settled', 'accepted', 'b'), line('rejected', 'rejected', 'c')], { text: count });
  const of = stage.role === 'sink' ? 'end_to_end' : 'settle';
  plot('latency', past.times, [line('p50', of + '_p50_ms', 'b'), line('p99', of + '_p99_ms', 'a')], { text: duration });
  plot('load', past.times, [line('blocked', 'blocked', 'blocked'), line('limit', 'limit', 'limit')], { text: percent, top: 1, areas: true });
}

