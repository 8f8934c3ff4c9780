// What the pipeline tells, drawn. The data is the JSON of `jaiminho top --once --json`, once a second.

import { drawDetails } from './details.js';
import { $, clock, el, quoted, say } from './dom.js';
import { drawGraph, focusNode } from './graph.js';
import { drawCharts, recall, remember } from './plots.js';
import { offer, setUpTap } from './tap.js';

/** Looks come every second: after this, something is wrong. */
const SILENCE_MS = 6000;
const RETRY_MS = [1000, 2000, 5000];

let about = { pipeline: '', jaeger: null, outputs: [] };
let view = null;
let chosen = new URLSearchParams(location.hash.slice(1)).get('stage');
let paused = false;

// ---- all of it ----

function drawLimit() {
  const limit = $('limit');
  limit.className = view.limit?.kind === 'source' ? 'source' : '';
  if (!view.limit) { limit.textContent = 'Nothing limits it that can be seen.'; say('said', limit.textContent); return; }
  const { stage, text, kind } = view.limit;
  limit.replaceChildren(...quoted(text.includes(stage) ? text : '`' + stage + '`: ' + text));
  for (const name of limit.querySelectorAll('code')) name.classList.toggle('stage', name.textContent === stage);
  say('said', kind === 'source' ? `${stage} brings no more` : `${stage} is the limit`);
}

function drawFindings() {
  $('findings-section').hidden = view.findings.length === 0;
  $('findings').replaceChildren(...view.findings.map(finding => el('li', { class: finding.severity },
    ...quoted(finding.text), finding.advice ? el('span', { class: 'do' }, ' ', ...quoted(finding.advice)) : null)));
}

function draw() {
  if (!view) return;
  if (!view.stages.some(stage => stage.name === chosen)) chosen = view.limit?.stage ?? view.stages[0]?.name ?? null;
  drawLimit();
  drawGraph(view, chosen, choose);
  drawFindings();
  const stage = view.stages.find(one => one.name === chosen);
  if (!stage) return;
  drawDetails(stage, view, about.jaeger);
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
  document.body.classList.toggle('is-old', state === 'off');
  $('live').className = 'live ' + state;
  say('live', text);
}

// ---- keys ----

$('pause').addEventListener('click', () => setPaused(!paused));
addEventListener('resize', () => requestAnimationFrame(draw));
addEventListener('keydown', event => {
  if (event.target.closest('input, select, textarea, .scroll, pre') || event.ctrlKey || event.metaKey || event.altKey) return;
  const names = view?.stages.map(stage => stage.name) ?? [];
  const at = names.indexOf(chosen);
  if (event.key === 'p') setPaused(!paused);
  else if (event.key === 't') { $('tap-output').focus(); event.preventDefault(); }
  else if (event.key === 'ArrowRight' && at < names.length - 1) { choose(names[at + 1]); focusNode(chosen); }
  else if (event.key === 'ArrowLeft' && at > 0) { choose(names[at - 1]); focusNode(chosen); }
});

// ---- what comes ----

let heardAt = 0;

function take(seen) {
  heardAt = Date.now();
  setLive('on', 'live');
  remember(seen);
  view = seen;
  // For who watches the page from outside.
  document.documentElement.dataset.looks = String(Number(document.documentElement.dataset.looks ?? 0) + 1);
  if (!paused) draw();
}

/** Anew each time, as another process may answer by now: with its own past. */
async function begin() {
  const ask = async path => {
    const answer = await fetch(path, { signal: AbortSignal.timeout(SILENCE_MS) });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  about = await ask('api/about');
  document.title = about.pipeline + ' · Jaiminho';
  $('pipeline').textContent = about.pipeline;
  offer(about.outputs);
  recall(await ask('api/history'));
}

/** Until there is no answer any more. */
function follow() {
  return new Promise(over => {
    const looks = new EventSource('api/view');
    const opened = Date.now();
    const watch = setInterval(() => { if (Date.now() - Math.max(opened, heardAt) > SILENCE_MS) end(); }, 1000);
    const end = () => { clearInterval(watch); looks.close(); over(); };
    looks.onmessage = message => take(JSON.parse(message.data));
    looks.onerror = end;
  });
}

async function run() {
  for (let failures = 0; ; failures += 1) {
    const before = heardAt;
    try {
      await begin();
      await follow();
    } catch {
      // What it was makes no difference: it is tried again.
    }
    if (heardAt > before) failures = 0;
    setLive('off', `no answer${heardAt ? ' since ' + clock(heardAt) : ''}; trying again`);
    await new Promise(resolve => { setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]); });
  }
}

setUpTap(() => about.jaeger);
run();
