// The page to play with: fetches the networks, asks them about each drawing, and shows what they answer.

import { makeNetwork } from './network.js';
import { best, showNetworks, verdict } from './answers.js';
import { digitPicture, element } from './figure.js';
import { makePaper, paintImage } from './paper.js';
import { percent, soften } from './probability.js';
import { closingFour, eight } from './strokes.js';

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
  find('status').textContent = 'Downloading the networks …';
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
  const names = ['table', 'verdict', 'title', 'chart', 'numbers', 'facts'];
  const places = Object.fromEntries(names.map(name => [name, find(name)]));
  const shown = showNetworks(places, networks, record.test_images);
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
    afterPause = setTimeout(() => {
      speak();
      measure();
    }, PAUSE);
  }

  function answer() {
    const pixels = paper.pixels();
    paintImage(preview, pixels ?? []);
    for (const network of networks) network.logits = pixels && network.answer(pixels);
    source = record.examples.filter(({ grey }) => grey === pixels).map(sourceOf).join('');
    find('source').textContent = source;
    find('hint').hidden = !paper.isWaiting();
    shown.showAnswers();
    showTemperature();
  }

  function sourceOf({ validation_index: place, label }) {
    const learners = networks.filter(network => network.trained_on_examples).map(({ name }) => name.toLowerCase());
    return [`Validation image ${place}, labelled ${label}.`, ...learners.map(name => `The ${name} was trained on it.`)]
      .join(' ');
  }

  function speak() {
    if (!networks.every(({ logits }) => logits)) return;
    say([source, verdict(networks), ...networks.map(({ name, logits }) =>
      `${name}: ${best(logits)}, ${percent(soften(logits)[best(logits)])}.`)].join(' '));
  }

  async function measure() {
    const pixels = paper.pixels();
    if (!pixels) return;
    const token = afterPause; // a change in the meantime makes another one, and this measurement stops
    const times = await timesOf(networks.map(({ answer: run }) => () => run(pixels)), () => token === afterPause);
    if (!times) return;
    networks.forEach((network, i) => { network.milliseconds = times[i]; });
    shown.showTimes();
  }

  function showTemperature() {
    const temperature = TEMPERATURES[find('temperature').value];
    find('temperature').setAttribute('aria-valuetext', `T = ${temperature}`);
    find('temperature-value').textContent = `T = ${temperature}`;
    shown.showSoftTargets(temperature);
  }

  for (const example of record.examples)
    example.grey = Float32Array.from(atob(example.pixels), letter => letter.charCodeAt(0) / 255);
  const offered = record.examples.find(example => example.students_disagree).grey;
  const paper = makePaper(find('canvas'), find('pen'), { changed, say, offered });
  find('undo').addEventListener('click', paper.undo);
  find('clear').addEventListener('click', paper.clear);
  for (const example of record.examples) {
    const group = find(example.students_disagree ? 'disagreements' : 'examples');
    group.append(exampleButton(example, () => paper.show(example.grey)));
  }
  offerDrawings(paper);
  const taught = TEMPERATURES.indexOf(record.settings.temperature);
  find('temperature').max = TEMPERATURES.length - 1;
  find('temperature').value = taught;
  find('temperature').addEventListener('input', showTemperature);
  answer();
  afterPause = setTimeout(measure, PAUSE); // nobody has drawn yet, so nothing is said
}

/** What the page draws by itself: a 4 that becomes a 9, and one 8 in three places and sizes. */
function offerDrawings(paper) {
  const slider = find('close');
  const show = () => {
    const text = `${slider.value} % closed`;
    slider.setAttribute('aria-valuetext', text);
    find('close-value').textContent = text;
  };
  slider.addEventListener('input', () => {
    show();
    paper.draw(closingFour(slider.value / 100), 'closing');
  });
  show();
  const eights = { eight: { size: 0.5 }, corner: { size: 0.5, x: 60, y: 70 }, small: { size: 0.15 } };
  for (const [name, how] of Object.entries(eights)) find(name).addEventListener('click', () => paper.draw(eight(how)));
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
