// The page to play with: fetches the three networks, asks them about each drawing, and shows what they answer.

import { makeNetwork } from './network.js';
import { fillTable } from './answers.js';
import { digitPicture, element } from './figure.js';
import { makePaper, paintImage } from './paper.js';
import { percent, soften } from './probability.js';

const FOLDER = new URL('../playground/', import.meta.url);
const TEMPERATURES = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20];
const PAUSE = 1000; // milliseconds without a change before answers are spoken and timed

const find = name => document.getElementById(`pg-${name}`);

/** Fetches a file and makes of it what `read` makes; an error names the file. */
async function download(name, read) {
  try {
    const response = await fetch(new URL(name, FOLDER), { cache: 'no-cache' }); // all files of one version
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return read(await response.arrayBuffer());
  } catch (error) {
    throw new Error(`${name} could not be loaded: ${error.message}`, { cause: error });
  }
}

function downloadNetwork(key, { file, layers, ...facts }) {
  return download(file, buffer => ({ key, ...facts, bytes: buffer.byteLength, answer: makeNetwork(layers, buffer) }));
}

async function load() {
  find('retry').hidden = true;
  find('status').textContent = 'Downloading the three networks …';
  let record, networks;
  try {
    record = await download('playground.json', buffer => JSON.parse(new TextDecoder().decode(buffer)));
    const entries = Object.entries(record.networks);
    networks = await Promise.all(entries.map(([key, network]) => downloadNetwork(key, network)));
  } catch (error) {
    find('status').textContent = `${error.message}. The picture below shows what you would see.`;
    find('retry').hidden = false;
    return;
  }
  find('status').hidden = true;
  find('app').hidden = false;
  document.getElementById('playground-fallback').hidden = true;
  start(record, networks);
}

function start(record, networks) {
  const table = fillTable(find('table'), networks, record.test_images);
  const preview = find('preview').getContext('2d');
  let scheduled = 0;
  let afterPause = 0;
  let source = '';

  function say(text) {
    find('spoken').textContent = text;
  }

  function changed() {
    // Once a frame is enough, however fast the points come in.
    scheduled ||= requestAnimationFrame(() => {
      scheduled = 0;
      answer();
    });
    clearTimeout(afterPause);
    afterPause = setTimeout(paused, PAUSE);
  }

  function answer() {
    const pixels = paper.pixels();
    paintImage(preview, pixels ?? []);
    for (const network of networks) network.logits = pixels && network.answer(pixels);
    const examples = record.examples.filter(({ grey }) => grey === pixels);
    source = examples.map(e => `Validation image ${e.validation_index}, labelled ${e.label}.`).join('');
    find('source').textContent = source;
    table.showAnswers();
    showTemperature();
  }

  async function paused() {
    const pixels = paper.pixels();
    if (!pixels) return;
    say([source, ...networks.map(({ name, logits }) => {
      const best = logits.indexOf(Math.max(...logits));
      return `${name}: ${best}, ${percent(soften(logits)[best])}.`;
    })].join(' '));
    const token = afterPause; // a change in the meantime makes another one, and this measurement stops
    const times = await timesOf(networks.map(({ answer: run }) => () => run(pixels)), () => token === afterPause);
    if (!times) return;
    networks.forEach((network, i) => { network.milliseconds = times[i]; });
    table.showTimes();
  }

  function showTemperature() {
    const temperature = TEMPERATURES[find('temperature').value];
    find('temperature').setAttribute('aria-valuetext', `T = ${temperature}`);
    find('temperature-value').textContent = `T = ${temperature}`;
    table.showSoftTargets(temperature);
  }

  const paper = makePaper(find('canvas'), find('pen'), { changed, say });
  find('undo').addEventListener('click', paper.undo);
  find('clear').addEventListener('click', paper.clear);
  for (const example of record.examples) {
    example.grey = Float32Array.from(atob(example.pixels), letter => letter.charCodeAt(0) / 255);
    const group = find(example.students_disagree ? 'disagreements' : 'examples');
    group.append(exampleButton(example, () => paper.show(example.grey)));
  }
  const taught = TEMPERATURES.indexOf(record.settings.temperature);
  find('temperature').max = TEMPERATURES.length - 1;
  find('temperature').value = taught;
  find('temperature').addEventListener('input', showTemperature);
  answer();
}

function exampleButton({ pixels, label, validation_index: place }, show) {
  const name = `${label}, validation image ${place}`;
  return element('button', { type: 'button', 'aria-label': name, click: show }, digitPicture(pixels, 38));
}

/**
 * Milliseconds that each of `calls` takes: the median of several short series, because browsers keep their clocks
 * coarse. The calls take turns, so that a busy moment of the machine falls on all of them, and the first turn, in
 * which the browser may still be compiling, does not count. Each series waits until the page is idle. null once
 * `isWanted()` says no.
 */
async function timesOf(calls, isWanted) {
  const series = calls.map(() => []);
  for (let turn = 0; turn < 8; turn++)
    for (const [i, call] of calls.entries()) {
      await new Promise(resolve => (window.requestIdleCallback ?? setTimeout)(resolve));
      if (!isWanted()) return null;
      const milliseconds = oneSeries(call);
      if (turn > 0) series[i].push(milliseconds);
    }
  return series.map(times => times.sort((a, b) => a - b)[3]);
}

function oneSeries(call) {
  const start = performance.now();
  let [count, elapsed] = [0, 0];
  while (elapsed < 4) {
    call();
    count++;
    elapsed = performance.now() - start;
  }
  return elapsed / count;
}

find('retry').addEventListener('click', load);
load();
