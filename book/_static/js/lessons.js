// Home page and chapter 1: two students learn side by side, one from labels and one from a teacher, again and again.
import { announcer, choice, drawing, element, setUp } from './figure.js';
import { meanInterval } from './interval.js';
import { soften } from './probability.js';
import { TEACHER } from './teacher.js';
import {
  answer, labelTargets, learn, makeLesson, makeNetwork, makePoints, random, REACH, softTargets, wrongShare,
} from './tiny.js';

// What book/experiments/lessons.js measured with. The rates are those that it chose, for each number of points.
export const HIDDEN = 8, STEPS = 300, TEMPERATURE = 2;
export const RATES = {
  6: { labels: 0.03, distilled: 0.3 },
  12: { labels: 0.03, distilled: 0.3 },
  30: { labels: 0.1, distilled: 0.3 },
  100: { labels: 0.1, distilled: 0.3 },
};
export const TEST_SEED = 1;
export const TEST_POINTS = 2000;
const TEACHERS = { trained: TEACHER, untrained: makeNetwork(24, random(3)) };

/** Two students with the same first weights and the same training points, which a seed decides. */
export function makePair(seed, count, teacher, rates = RATES[count]) {
  const next = random(seed);
  const points = makePoints(count, next);
  const start = makeNetwork(HIDDEN, next);
  const taught = softTargets(teacher, points, TEMPERATURE);
  return {
    labels: makeLesson(start, points, labelTargets(points), { temperature: 1, rate: rates.labels }),
    distilled: makeLesson(start, points, taught, { temperature: TEMPERATURE, rate: rates.distilled }),
  };
}

const one = share => (100 * share).toFixed(1).replace('-', '−');
const percents = share => `${one(share)}\u00a0%`;

/** What the runs say so far, about the last of them and about all. A run holds two shares of wrong answers. */
export function describe(runs) {
  const { labels, distilled } = runs.at(-1);
  const last = `Run ${runs.length}: the student of labels gets ${percents(labels)} wrong, the teacher’s student`
    + ` ${percents(distilled)}. `;
  const { mean, low, high } = meanInterval(runs.map(run => run.distilled - run.labels));
  if (low === undefined) return `${last}One run has no interval: teach again.`;
  return `${last}Difference over ${runs.length} runs: ${one(mean)} points, 95\u00a0% interval ${one(low)} to ${one(high)}. `
    + (low <= 0 && high >= 0 ? 'Zero lies inside: this could be luck.' : 'Zero lies outside.');
}

// --- the planes ----------------------------------------------------------------------------------------------------

const COLOURS = [[86, 180, 233], [204, 121, 167], [240, 228, 66]]; // of the classes; what is between them is unsure
const GRID = 48, SIDE = 400; // squares of the blend, and pixels of the canvas, on each side

function mix(shares) {
  return [0, 1, 2].map(channel => shares.reduce((sum, share, k) => sum + share * COLOURS[k][channel], 0));
}

/** The answers of a network all over the plane, as a blend of the three colours, and its training targets as pies. */
function paint(canvas, network, points = [], targets = []) {
  const small = element('canvas', { width: GRID, height: GRID });
  const picture = new ImageData(GRID, GRID);
  for (let i = 0; i < GRID * GRID; i++) {
    const x = REACH * ((2 * ((i % GRID) + 0.5)) / GRID - 1);
    const y = REACH * (1 - (2 * (Math.floor(i / GRID) + 0.5)) / GRID);
    picture.data.set([...mix(soften(answer(network, { x, y }))), 255], 4 * i);
  }
  small.getContext('2d').putImageData(picture, 0, 0);
  const context = canvas.getContext('2d');
  context.drawImage(small, 0, 0, SIDE, SIDE);
  const radius = points.length > 30 ? 10 : 20;
  points.forEach(({ x, y }, i) => {
    pie(context, SIDE * (0.5 + x / REACH / 2), SIDE * (0.5 - y / REACH / 2), radius, targets[i]);
  });
}

function pie(context, x, y, radius, shares) {
  let angle = -Math.PI / 2;
  shares.forEach((share, k) => {
    context.beginPath();
    context.moveTo(x, y);
    context.arc(x, y, radius, angle, angle += 2 * Math.PI * share);
    context.fillStyle = `rgb(${COLOURS[k]})`;
    context.fill();
  });
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.lineWidth = 3;
  context.strokeStyle = '#222';
  context.stroke();
}

function plane(kind, title, spoken) {
  const canvas = element('canvas', { width: SIDE, height: SIDE, role: 'img', 'aria-label': spoken });
  const wrong = element('span', { class: 'kd-wrong' });
  const node = element('div', { class: `kd-plane kd-${kind}` }, element('b', {}, title), canvas, wrong);
  return { canvas, wrong, node };
}

// --- the dots ------------------------------------------------------------------------------------------------------

const ERRORS = { low: 0, high: 80, ticks: [0, 20, 40, 60, 80], unit: '% of the test points wrong' };
const DIFFERENCES = { low: -40, high: 40, ticks: [-40, -20, 0, 20, 40], unit: 'points; left of 0 the teacher helps' };

/** Where a share stands on an axis. What lies beyond its ends is shown at them. */
function place(share, { low, high }) {
  return `${(100 * (Math.min(high, Math.max(low, 100 * share)) - low)) / (high - low)}%`;
}

function dots(values, axis, mark) {
  const at = value => place(value, axis);
  const children = [drawing('line', { class: 'kd-axis', x1: 0, x2: '100%', y1: 15, y2: 15 })];
  if (mark !== undefined) children.push(drawing('line', { class: 'kd-reference', x1: at(mark), x2: at(mark), y1: 0, y2: 30 }));
  children.push(...values.map(value => drawing('circle', { class: 'kd-dot', cx: at(value), cy: 8, r: 3.5 })));
  if (values.length) {
    const { mean, low, high } = meanInterval(values);
    if (low !== undefined) children.push(drawing('line', { class: 'kd-span', x1: at(low), x2: at(high), y1: 22, y2: 22 }));
    children.push(drawing('circle', { class: 'kd-mean', cx: at(mean), cy: 22, r: 5 }));
  }
  return drawing('svg', { height: 30, 'aria-hidden': 'true' }, ...children);
}

function scale(axis) {
  const ticks = axis.ticks.map(tick => drawing(
    'text', { x: place(tick / 100, axis), y: 13 }, String(tick).replace('-', '−')));
  const line = drawing('svg', { height: 18 }, ...ticks);
  return element('div', { class: 'kd-scale', 'aria-hidden': 'true' }, line, element('span', {}, axis.unit));
}

function row(kind, title, axis) {
  const track = element('div', { class: 'kd-dots' });
  const number = element('span', { class: 'kd-interval' });
  const show = (values, mark) => {
    track.replaceChildren(dots(values, axis, mark));
    const { mean, low, high } = values.length ? meanInterval(values) : {};
    number.textContent = mean === undefined ? '' : one(mean) + (low === undefined ? '' : ` (${one(low)} to ${one(high)})`);
  };
  return { node: element('div', { class: `kd-row kd-${kind}` }, element('b', {}, title), track, number), show };
}

// --- the figure ----------------------------------------------------------------------------------------------------

const PER_FRAME = 4; // steps of learning between two pictures
const MANY = 20; // runs at one press

function build({ count = 12, choices = false, plays = false }) {
  const test = makePoints(TEST_POINTS, random(TEST_SEED));
  const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
  let teacher = TEACHERS.trained, runs = [], pair, learned, frame, timer;

  const planes = {
    teacher: plane('teacher', 'Teacher', 'The teacher’s answers all over the plane'),
    labels: plane('labels', 'Taught by labels', 'Answers of the student taught by labels, and the labels as discs'),
    distilled: plane('distilled', 'Taught by the teacher', 'Answers of the teacher’s student, and its soft targets as pies'),
  };
  const rows = {
    labels: row('labels', 'by labels', ERRORS),
    distilled: row('distilled', 'by the teacher', ERRORS),
    difference: row('difference', 'difference', DIFFERENCES),
  };
  const sentence = element('p', { class: 'kd-sentence' });
  const list = element('tbody');
  const spoken = announcer();

  const wrongOf = network => wrongShare(network, test);
  const students = () => [['labels', pair.labels], ['distilled', pair.distilled]];

  function showStudents() {
    for (const [key, { network, points, targets }] of students()) {
      paint(planes[key].canvas, network, points, targets);
      planes[key].wrong.textContent = `${percents(wrongOf(network))} wrong`;
    }
  }

  function showTeacher() {
    paint(planes.teacher.canvas, teacher);
    planes.teacher.wrong.textContent = `${percents(wrongOf(teacher))} wrong`;
  }

  function showRuns() {
    const mark = wrongOf(teacher);
    rows.labels.show(runs.map(run => run.labels), mark);
    rows.distilled.show(runs.map(run => run.distilled), mark);
    rows.difference.show(runs.map(run => run.distilled - run.labels), 0);
    sentence.textContent = runs.length ? describe(runs) : 'No run yet.';
    list.replaceChildren(...runs.map(({ labels, distilled }, i) => element(
      'tr', {}, element('th', { scope: 'row' }, String(i + 1)),
      ...[labels, distilled, distilled - labels].map(share => element('td', {}, one(share))),
    )));
  }

  function begin() {
    pair = makePair(Math.floor(2 ** 32 * Math.random()), count, teacher);
    learned = 0;
  }

  /** The pair that is shown before the first run learns in it; after that each run has a pair of its own. */
  function next() {
    if (learned > 0) begin();
  }

  /** Both students learn for some steps; a run that has come to its end is counted. */
  function advance(steps) {
    students().forEach(([, lesson]) => learn(lesson, steps));
    learned += steps;
    if (learned < STEPS) return;
    runs.push({ labels: wrongOf(pair.labels.network), distilled: wrongOf(pair.distilled.network) });
  }

  /** A run that has begun is counted, however it goes: what is left out by looking would bend the interval. */
  function endRun() {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    if (learned > 0 && learned < STEPS) advance(STEPS - learned);
  }

  function show(aloud = true) {
    showStudents();
    showRuns();
    if (aloud) spoken.say(describe(runs));
  }

  function teachOnce(aloud = true) {
    endRun();
    next();
    const go = () => {
      advance(calm() ? STEPS : PER_FRAME);
      if (learned >= STEPS) return show(aloud);
      showStudents();
      frame = requestAnimationFrame(go);
    };
    go();
  }

  function teachMany() {
    endRun();
    let left = MANY;
    const go = () => {
      do {
        next();
        advance(STEPS);
        left--;
      } while (left && calm());
      show();
      if (left) timer = setTimeout(go, 60);
    };
    go();
  }

  function startOver() {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    runs = [];
    begin();
    showTeacher();
    showStudents();
    showRuns();
  }

  const button = (text, click) => element('button', { type: 'button', click: () => click() }, text);
  const settings = choices ? [
    choice({
      legend: 'Training points', start: count, options: Object.keys(RATES).map(n => [Number(n), n]),
      changed: n => { count = n; startOver(); },
    }),
    choice({
      legend: 'The teacher', start: 'trained',
      options: [['trained', 'has learned from 1,000 points'], ['untrained', 'has never learned']],
      changed: key => { teacher = TEACHERS[key]; startOver(); },
    }),
  ] : [];
  const figure = element(
    'div', { class: 'kd-figure', role: 'group', 'aria-label': 'Same student, two lessons, to play with' },
    ...settings,
    element('div', { class: 'kd-buttons' },
      button('Teach both', teachOnce), button(`Teach ${MANY} times`, teachMany), button('Start over', startOver)),
    element('div', { class: 'kd-planes' }, planes.teacher.node, planes.labels.node, planes.distilled.node),
    element('div', { class: 'kd-rows' },
      rows.labels.node, rows.distilled.node, scale(ERRORS), rows.difference.node, scale(DIFFERENCES)),
    sentence, spoken.node,
    element('details', {}, element('summary', {}, 'The runs, in % wrong'), element(
      'table', {},
      element('thead', {}, element('tr', {}, ...['run', 'by labels', 'by the teacher', 'difference'].map(
        name => element('th', { scope: 'col' }, name)))),
      list,
    )),
  );
  startOver();
  if (plays) playOnceSeen(figure, () => { if (!runs.length && !learned && !calm()) teachOnce(false); });
  return figure;
}

/** Once most of the figure is in view. */
function playOnceSeen(figure, play) {
  const watch = new IntersectionObserver(entries => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    watch.disconnect();
    play();
  }, { threshold: 0.5 });
  watch.observe(figure);
}

if (typeof document !== 'undefined') setUp('lessons', build);
