// The tap: a sample of an output's events as they pass.

import { $, clock, count, el, eventDetails, traceLink } from './dom.js';

const SHOWN = 50;

let tapping = null;

function stop(text, bad) {
  tapping?.close();
  tapping = null;
  $('tap-button').textContent = 'Start';
  note(text, bad);
}

function note(text, bad) {
  $('tap-note').textContent = text;
  $('tap-note').className = bad ? 'note bad' : 'note';
}

function start(jaeger) {
  const query = new URLSearchParams({ output: $('tap-output').value, filter: $('tap-filter').value });
  $('tap').replaceChildren();
  $('tap-button').textContent = 'Stop';
  note('Waiting for events …');
  let seen = 0;
  tapping = new EventSource('api/tap?' + query);
  tapping.onmessage = message => {
    const event = JSON.parse(message.data);
    seen += 1;
    note(count(seen) + (seen === 1 ? ' event' : ' events'));
    const summary = [event.type, event.partitionkey, event.id].filter(Boolean).map(String).join(' · ');
    $('tap').prepend(el('li', {}, eventDetails([el('time', {}, clock(Date.now())), summary], event, traceLink(event, jaeger))));
    while ($('tap').children.length > SHOWN) $('tap').lastElementChild.remove();
  };
  tapping.addEventListener('problem', message => stop(JSON.parse(message.data), true));
  tapping.onerror = () => stop('The tap has ended: the console does not answer.', true);
}

/** Makes the form work; `jaeger` says where traces are. */
export function setUpTap(jaeger) {
  $('tap-form').addEventListener('submit', event => {
    event.preventDefault();
    if (tapping) stop('Stopped.'); else start(jaeger());
  });
}

/** What can be tapped. What is chosen stays chosen. */
export function offer(outputs) {
  const chosen = $('tap-output').value;
  $('tap-output').replaceChildren(...outputs.map(name => el('option', {}, name)));
  if (outputs.includes(chosen)) $('tap-output').value = chosen;
  $('tap-section').hidden = outputs.length === 0;
}
