// What one stage tells: figures, instances, links, rejections.

import { $, bytes, clock, count, duration, el, eventDetails, percent, traceLink } from './dom.js';
import { LOADS, bar } from './graph.js';

function figure(name, value, attributes = {}) {
  return el('div', { class: attributes.wide ? 'wide' : null }, el('dt', {}, name), el('dd', { class: attributes.bad ? 'bad' : null }, value));
}

function drawFigures(stage) {
  const { rates, totals } = stage;
  const here = Object.values(totals.rejected_here).reduce((sum, value) => sum + value, 0);
  const figures = [
    figure('in', count(rates.events_in) + '/s'),
    figure('bytes in', bytes(rates.bytes_in) + '/s'),
    stage.role === 'sink' ? figure('accepted', count(rates.accepted) + '/s') : figure('out', count(rates.events_out) + '/s'),
    figure('in work', count(stage.in_work)),
    figure('oldest', duration(stage.oldest_ms ?? NaN)),
    figure('settled in, p50', duration(stage.settle.p50_ms)),
    figure('settled in, p99', duration(stage.settle.p99_ms)),
    stage.role === 'sink' ? figure('end to end, p50', duration(stage.end_to_end.p50_ms)) : null,
    stage.role === 'sink' ? figure('end to end, p99', duration(stage.end_to_end.p99_ms)) : null,
    figure('rejected here', count(here), { bad: here > 0 }),
    stage.role === 'source' ? figure('refused', count(totals.refused), { bad: (rates.refused ?? 0) > 0 }) : null,
    figure('redelivered', count(totals.redelivered)),
    ...stage.logs.map(log => figure(log.output === stage.name ? 'log' : log.output.slice(stage.name.length + 1).replace('_', ' '), `${count(log.events)} of ${count(log.capacity_events)}`, { bad: log.fill > .8 })),
    stage.trouble ? figure('trouble for ' + duration(stage.trouble.for_ms), stage.trouble.text, { bad: true, wide: true }) : null,
  ];
  $('figures').replaceChildren(...figures.filter(Boolean));
}

function table(id, heads, rows, empty) {
  const kind = name => (name.startsWith('#') ? 'number' : null);
  const head = el('tr', {}, ...heads.map(name => el('th', { scope: 'col', class: kind(name) }, name.replace('#', ''))));
  const cell = (value, index) => el('td', { class: kind(heads[index]) }, value);
  const body = rows.length ? rows.map(row => el('tr', {}, ...row.map(cell))) : [el('tr', {}, el('td', { colspan: heads.length, class: 'empty' }, empty))];
  $(id).replaceChildren(el('thead', {}, head), el('tbody', {}, ...body));
}

function drawTables(stage, view) {
  const memory = instance => bytes(instance.resident_bytes - instance.program_bytes) + (instance.memory_bytes_max ? ' of ' + bytes(instance.memory_bytes_max) : '');
  table('instances', ['name', 'address', '#in /s', '#in work', 'state', '#up', 'memory', '#clock', 'version'],
    stage.instances.map(instance => [
      instance.name + (instance.is_draining ? ' (drains)' : ''), instance.address, count(instance.rates.events_in), count(instance.in_work),
      bar('load', ...LOADS.map(name => [name, instance.load[name]])),
      duration(instance.up_ms), memory(instance), (instance.clock_ahead_ms > 0 ? '+' : '') + instance.clock_ahead_ms + ' ms', instance.version,
    ]), 'None answers.');
  const unseen = stage.addresses.filter(address => address.problem);
  for (const address of unseen) {
    $('instances').tBodies[0].append(el('tr', {}, el('td', {}, '–'), el('td', {}, address.address), el('td', { colspan: 7, class: 'empty' }, address.problem)));
  }
  const edges = view.subscriptions.filter(edge => edge.from === stage.name || edge.to === stage.name);
  table('links', ['output', 'from', 'to', '#events /s', '#bytes /s', 'credit', '#unsettled', '#no credit'],
    edges.flatMap(edge => edge.links.map(link => [
      edge.output, link.producer, link.consumer + (link.is_cancelled ? ' (leaves)' : ''), count(link.events), bytes(link.bytes),
      el('span', {}, bar('credit', ['', link.credit_unused / link.window_events]), count(link.credit_unused) + ' of ' + count(link.window_events)),
      count(link.unsettled), percent(link.no_credit),
    ])), 'No link is open.');
}

let rejected = new Map();

function drawRejections(stage, jaeger) {
  const known = rejected;
  rejected = new Map();
  for (const rejection of stage.rejections) {
    const { instance, unix_ms, reason, text, event } = rejection;
    const key = JSON.stringify([stage.name, instance, unix_ms, reason, text, event?.id]);
    rejected.set(key, known.get(key) ?? el('li', {}, eventDetails(
      [el('time', {}, clock(unix_ms)), el('span', { class: 'reason' }, reason), text],
      event, traceLink(event, jaeger), 'The event is too large to be shown, or can’t be read.')));
  }
  // What is open stays, also when newer ones have taken its place.
  for (const [key, item] of known) {
    if (JSON.parse(key)[0] === stage.name && item.firstChild.open && !rejected.has(key)) rejected.set(key, item);
  }
  const items = rejected.size ? [...rejected.values()] : [el('li', { class: 'empty' }, 'This stage has rejected nothing.')];
  const list = $('rejections');
  if (items.length === list.children.length && items.every((item, at) => item === list.children[at])) return;
  const focused = document.activeElement;
  list.replaceChildren(...items);
  if (list.contains(focused)) focused.focus();
}

/** All of it but the plots. */
export function drawDetails(stage, view, jaeger) {
  $('details-title').textContent = stage.name + ' · ' + stage.component;
  drawFigures(stage);
  drawTables(stage, view);
  drawRejections(stage, jaeger);
}
