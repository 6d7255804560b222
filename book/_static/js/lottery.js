// Chapter 5, room 16: draw the seeds of a study, read what it would print, and count how often that is wrong.
import { announcer, choice, drawing, element, slider } from './figure.js';
import { RUNS } from './lottery-runs.js';
import { mount } from './museum.js';

/** The worse method and the better one of each comparison, by their means over all seeds. */
export const PAIRS = [
  ['labels', 'distilled'], ['label smoothing', 'distilled'], ['labels', 'label smoothing'], ['born again', 'labels'],
];
const MOST = 10; // seeds of a study
const MANY = 1000; // studies at one click
const BIN = 2; // errors

export const mean = numbers => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
const seeds = k => `${k} seed${k > 1 ? 's' : ''}`;

/** One study: each method draws k seeds of its own; `difference` is below zero where the worse method wins. */
export function study([worse, better], k, random = Math.random) {
  const draw = counts => Array.from({ length: k }, () => counts[Math.floor(random() * counts.length)]);
  const drawn = { worse: draw(RUNS[worse]), better: draw(RUNS[better]) };
  return { ...drawn, difference: mean(drawn.worse) - mean(drawn.better) };
}

/** How likely each sum of k drawn counts is; entry i belongs to the sum `low + i`. */
function sums(counts, k) {
  const least = Math.min(...counts), width = Math.max(...counts) - least + 1;
  let chances = [1];
  for (let i = 0; i < k; i++) {
    const longer = new Array(chances.length + width - 1).fill(0);
    chances.forEach((chance, sum) => {
      for (const count of counts) longer[sum + count - least] += chance / counts.length;
    });
    chances = longer;
  }
  return { low: k * least, chances };
}

/** The chance that the worse method has the smaller mean of k seeds, and that of a tie; exact: all draws, added up. */
export function chances([worse, better], k) {
  const one = sums(RUNS[worse], k), other = sums(RUNS[better], k);
  let wrong = 0, tie = 0;
  one.chances.forEach((p, i) => other.chances.forEach((q, j) => {
    const difference = one.low + i - other.low - j;
    if (difference < 0) wrong += p * q;
    if (difference === 0) tie += p * q;
  }));
  return { wrong, tie };
}

/** What the study prints, and what it is worth. */
export function verdict([worse, better], { worse: a, better: b, difference }) {
  const numbers = `${worse} ${mean(a).toFixed(1)}, ${better} ${mean(b).toFixed(1)} errors`;
  const known = name => `${name} ${mean(RUNS[name]).toFixed(1)}`;
  const truth = `Over all 40 seeds it is ${known(worse)}, ${known(better)}.`;
  if (difference === 0) return `“A tie: ${numbers}.” ${truth}`;
  const wins = difference < 0 ? worse : better;
  return `“${numbers}: ${wins} wins.” ${difference < 0 ? 'Wrong' : 'Right'}. ${truth}`;
}

/** Studies so far, and how they ended. */
export function count(studies) {
  return {
    all: studies.length,
    wrong: studies.filter(({ difference }) => difference < 0).length,
    tie: studies.filter(({ difference }) => difference === 0).length,
  };
}

/** How many studies lie in each bin of the difference; bin 0 begins right of zero, bin −1 ends left of it. */
export function bins(studies) {
  const heights = new Map();
  for (const { difference } of studies) {
    if (difference === 0) continue; // a tie names no winner
    const bin = difference < 0 ? Math.floor(difference / BIN) : Math.ceil(difference / BIN) - 1;
    heights.set(bin, (heights.get(bin) ?? 0) + 1);
  }
  return heights;
}

export const percentage = share => `${(100 * share).toFixed(1)} %`;

const all = Object.values(RUNS).flat();
const LOW = Math.min(...all) - 3, HIGH = Math.max(...all) + 3, WIDTH = 440;
const place = errors => (errors - LOW) / (HIGH - LOW) * WIDTH;

/** Two rows of dots, a dot for each run; equal counts stand on each other. Those of the study are filled. */
function dots([worse, better], drawn) {
  const row = (name, chosen, base) => {
    const height = new Map(), left = [...chosen];
    const marks = [...RUNS[name]].sort((a, b) => a - b).map(errors => {
      const level = height.get(errors) ?? 0;
      height.set(errors, level + 1);
      const at = left.indexOf(errors);
      if (at >= 0) left.splice(at, 1);
      const [kind, r] = at >= 0 ? ['kd-drawn', 4.5] : ['kd-run', 2.8];
      return drawing('circle', { class: kind, cx: place(errors), cy: base - 5 - 6.5 * level, r });
    });
    const middle = chosen.length ? `M${place(mean(chosen))} ${base - 34}v36` : '';
    return drawing('g', { class: `kd-method-${name.replace(' ', '-')}` },
      drawing('text', { class: 'kd-name', x: 0, y: base - 40 }, name),
      drawing('path', { class: 'kd-axis', d: `M0 ${base}h${WIDTH}` }), drawing('path', { class: 'kd-middle', d: middle }),
      ...marks);
  };
  const ticks = [160, 180, 200, 220].map(errors => drawing('text', { x: place(errors), y: 132 }, String(errors)));
  const label = 'A dot for each run of both methods, by its errors; those of the study are filled.';
  return drawing('svg', { viewBox: `0 0 ${WIDTH} 138`, role: 'img', 'aria-label': label },
    row(worse, drawn?.worse ?? [], 56), row(better, drawn?.better ?? [], 116), ...ticks);
}

/** The differences of all studies so far, the wrong ones left of zero. */
function heap([worse, better], studies) {
  const left = Math.min(...RUNS[worse]) - Math.max(...RUNS[better]);
  const right = Math.max(...RUNS[worse]) - Math.min(...RUNS[better]);
  const at = difference => (difference - left + BIN) / (right - left + 2 * BIN) * WIDTH;
  const heights = bins(studies), highest = Math.max(1, ...heights.values());
  const bars = [...heights].map(([bin, height]) => drawing('rect', {
    class: bin < 0 ? 'kd-mistaken' : 'kd-correct',
    x: at(bin * BIN) + 0.5, width: at(BIN) - at(0) - 1,
    y: 90 - 80 * height / highest, height: 80 * height / highest,
  }));
  const label = 'How the differences of all studies are spread; the numbers are in the sentence below.';
  return drawing('svg', { viewBox: `0 0 ${WIDTH} 112`, role: 'img', 'aria-label': label },
    ...bars, drawing('path', { class: 'kd-axis', d: `M0 90h${WIDTH}M${at(0)} 4v86` }),
    drawing('text', { class: 'kd-name', x: at(0) + 4, y: 107 }, 'right →'),
    drawing('text', { class: 'kd-name kd-end', x: at(0) - 4, y: 107 }, '← wrong'));
}

function build() {
  let pair = PAIRS[1], k = 1, last = null, studies = [];
  const rows = element('div', { class: 'kd-chart' }), spread = element('div', { class: 'kd-chart' });
  const paper = element('p', { class: 'kd-paper' }), tally = element('p', { class: 'kd-sentence' });
  const table = element('tbody');
  const spoken = announcer();

  function update() {
    const { all: number, wrong, tie } = count(studies);
    const longRun = chances(pair, k);
    rows.replaceChildren(dots(pair, last));
    spread.replaceChildren(heap(pair, studies));
    paper.textContent = last
      ? `The study prints: ${verdict(pair, last)}`
      : `No study yet. It will have ${seeds(k)} of each method.`;
    tally.textContent = number
      ? `With ${seeds(k)} of each method: ${wrong.toLocaleString('en')} of ${number.toLocaleString('en')} studies name the`
        + ' wrong winner'
        + `${tie ? `, ${tie.toLocaleString('en')} end in a tie` : ''}.`
        + `${number >= MANY ? ` Of all possible draws ${percentage(longRun.wrong)} do.` : ''}`
      : '';
    spoken.say(`${last ? paper.textContent : ''} ${tally.textContent}`);
  }

  function showTable() {
    table.replaceChildren(...Array.from({ length: MOST }, (_, i) => {
      const { wrong, tie } = chances(pair, i + 1);
      const shares = [wrong, tie].map(share => element('td', {}, percentage(share)));
      return element('tr', {}, element('th', { scope: 'row' }, String(i + 1)), ...shares);
    }));
  }

  function begin() {
    [last, studies] = [null, []];
    update();
  }

  function draw(number) {
    for (let i = 0; i < number; i++) studies.push(study(pair, k));
    last = studies.at(-1);
    update();
  }

  const which = choice({
    legend: 'Which two methods?', start: 1,
    options: PAIRS.map(([worse, better], i) => [i, `${worse} or ${better}`]),
    changed: i => { pair = PAIRS[i]; showTable(); begin(); },
  });
  const size = slider({
    label: 'Seeds of each method in a study:', min: 1, max: MOST, step: 1, start: 1, show: seeds,
    changed: value => { k = value; begin(); },
  });
  const button = (text, click) => element('button', { type: 'button', click }, text);
  showTable();
  update();
  return element(
    'div', { class: 'kd-figure kd-lottery', role: 'group', 'aria-label': 'Seed lottery, to play with' },
    which, size.node,
    element('div', { class: 'kd-buttons' },
      button('Draw one study', () => draw(1)), button(`Draw ${MANY.toLocaleString('en')} studies`, () => draw(MANY))),
    rows, paper, spread, tally, spoken.node,
    element('details', {}, element('summary', {}, 'The numbers'), element(
      'table', {},
      element('caption', {}, 'Of all possible draws; the table above counts 20,000 of them'),
      element('thead', {}, element('tr', {}, ...['seeds', 'wrong winner', 'tie'].map(
        name => element('th', { scope: 'col' }, name)))),
      table,
    )),
  );
}

if (typeof document !== 'undefined') mount('lottery', build);
