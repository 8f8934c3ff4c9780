// Elements, and figures in words.

export const $ = id => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes and children; text is always text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

export function svg(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export const isNumber = value => typeof value === 'number' && Number.isFinite(value);

export function count(value) {
  if (!isNumber(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(2) + ' G';
  if (size >= 1e6) return (value / 1e6).toFixed(size < 1e7 ? 2 : 1) + ' M';
  if (size >= 1e4) return (value / 1e3).toFixed(size < 1e5 ? 1 : 0) + ' k';
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return value.toFixed(size >= 10 ? 1 : 2);
}

export function bytes(value) {
  if (!isNumber(value)) return '–';
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024 || unit === 'GiB') return value.toFixed(unit === 'B' || value >= 100 ? 0 : 1) + ' ' + unit;
    value /= 1024;
  }
}

export function duration(ms) {
  if (!isNumber(ms)) return '–';
  if (ms === 0) return '0';
  if (ms < 1) return ms.toFixed(1) + ' ms';
  if (ms < 1000) return ms.toFixed(ms < 10 ? 1 : 0) + ' ms';
  const seconds = ms / 1000;
  if (seconds < 120) return seconds.toFixed(seconds < 10 ? 1 : 0) + ' s';
  if (seconds < 7200) return (seconds / 60).toFixed(0) + ' min';
  return seconds < 172800 ? (seconds / 3600).toFixed(1) + ' h' : (seconds / 86400).toFixed(1) + ' d';
}

export const percent = share => (isNumber(share) ? Math.round(share * 100) + ' %' : '–');
export const clock = unixMs => new Date(unixMs).toLocaleTimeString([], { hour12: false });

/** Sets a text only when it is another: a screen reader says it once. */
export function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

/** A sentence whose names stand in backticks. */
export function quoted(text) {
  const parts = text.split('`');
  // A stranger's backtick makes an even number of parts: then none means anything.
  return parts.length % 2 ? parts.map((part, at) => (at % 2 ? el('code', {}, part) : part)) : [text];
}

const SHOWN = 20000;

/** What is told of an event in a line, and when opened the event; `trace` is where its trace is found, or null. */
export function eventDetails(summary, event, trace, otherwise) {
  const details = el('details', {}, el('summary', {}, ...summary));
  // Most are never opened, and some are large.
  details.addEventListener('toggle', () => {
    if (!event) { details.append(el('p', { class: 'empty' }, otherwise)); return; }
    const text = JSON.stringify(event, null, 2);
    details.append(el('pre', { tabindex: 0 }, text.slice(0, SHOWN)));
    if (text.length > SHOWN) details.append(el('p', { class: 'empty' }, `${count(text.length - SHOWN)} characters more are not shown.`));
    if (trace) details.append(trace);
  }, { once: true });
  return details;
}

/** A link to the event's trace, where it has one and a Jaeger is known. */
export function traceLink(event, jaeger) {
  const id = /^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(event?.traceparent ?? '')?.[1];
  return id && jaeger ? el('a', { class: 'trace', href: jaeger + '/trace/' + id, target: '_blank', rel: 'noopener' }, 'Trace in Jaeger') : null;
}
