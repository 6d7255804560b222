// The figure "Same student, two lessons": train its teacher, choose the learning rates, measure.
//
//     node book/experiments/lessons.js
//
// Both sides are tuned alike: for each number of training points every rate of one grid is tried with the same seeds,
// which the measurement does not use, and errors are counted on validation points. The test points of the figure are
// looked at by the measurement alone. Writes book/_static/js/teacher.js and book/results/lessons.json. Minutes.

import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { HIDDEN, makePair, RATES, STEPS, TEMPERATURE, TEST_POINTS, TEST_SEED } from '../_static/js/lessons.js';
import { labelTargets, learn, makeLesson, makeNetwork, makePoints, random, wrongShare } from '../_static/js/tiny.js';

const GRID = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3];
const VALIDATION_SEED = 2, FIRST_TUNING = 5000, TUNING_SEEDS = 60, FIRST = 1000, SEEDS = 200;
const TEACHER = { hidden: 24, points: 1000, steps: 2000, rate: 0.3, seed: 2015 };
const SIDES = ['labels', 'distilled'];

/** The teacher's weights, with four digits. */
export function trainTeacher() {
  const next = random(TEACHER.seed);
  const points = makePoints(TEACHER.points, next);
  const settings = { temperature: 1, rate: TEACHER.rate };
  const lesson = makeLesson(makeNetwork(TEACHER.hidden, next), points, labelTargets(points), settings);
  learn(lesson, TEACHER.steps);
  return lesson.network.map(weight => Number(weight.toPrecision(4)));
}

/** The shares that both students of a seed get wrong after their lessons. */
export function wrongAfter(seed, count, teacher, points, rates) {
  const pair = makePair(seed, count, teacher, rates);
  return SIDES.map(side => {
    learn(pair[side], STEPS);
    return wrongShare(pair[side].network, points);
  });
}

const range = (count, first) => Array.from({ length: count }, (_, i) => first + i);
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Mean validation errors at each rate, of both sides. */
function tune(count, teacher, validation) {
  return GRID.map(rate => {
    const rates = { labels: rate, distilled: rate };
    const wrong = range(TUNING_SEEDS, FIRST_TUNING).map(seed => wrongAfter(seed, count, teacher, validation, rates));
    return [0, 1].map(side => Number(mean(wrong.map(pair => pair[side])).toFixed(5)));
  });
}

/** One run as the still picture shows it. */
function picture(seed, { points: count, rates }, teacher) {
  const pair = makePair(seed, count, teacher, rates);
  SIDES.forEach(side => learn(pair[side], STEPS));
  return {
    seed, points: pair.labels.points.map(({ x, y, label }) => [x, y, label]), targets: pair.distilled.targets,
    networks: { teacher, labels: pair.labels.network, distilled: pair.distilled.network },
  };
}

function main() {
  const teacher = trainTeacher();
  writeFileSync(new URL('../_static/js/teacher.js', import.meta.url),
    '// Written by book/experiments/lessons.js: the teacher of the figure "Same student, two lessons".\n'
    + `export const TEACHER = [\n${teacher.map(weight => `  ${weight},\n`).join('')}];\n`);
  const validation = makePoints(TEST_POINTS, random(VALIDATION_SEED));
  const test = makePoints(TEST_POINTS, random(TEST_SEED));
  const experiments = Object.keys(RATES).map(Number).map(count => {
    const tuned = tune(count, teacher, validation);
    const [labels, distilled] = [0, 1].map(side =>
      GRID[tuned.reduce((best, row, i) => (row[side] < tuned[best][side] ? i : best), 0)]);
    const wrong = range(SEEDS, FIRST).map(seed => wrongAfter(seed, count, teacher, test, { labels, distilled }));
    console.log(count, { labels, distilled }, mean(wrong.map(pair => pair[0])), mean(wrong.map(pair => pair[1])),
      `better in ${wrong.filter(([a, b]) => b < a).length} of ${SEEDS}`);
    return { points: count, validation: tuned, rates: { labels, distilled }, wrong };
  });
  const record = {
    settings: {
      HIDDEN, STEPS, TEMPERATURE, GRID, TEST_POINTS, TUNING_SEEDS,
      first_tuning_seed: FIRST_TUNING, first_seed: FIRST, teacher: TEACHER,
    },
    teacher_wrong: wrongShare(teacher, test), experiments, picture: picture(FIRST, experiments.find(({ points }) => points === 12), teacher),
  };
  writeFileSync(new URL('../results/lessons.json', import.meta.url), `${JSON.stringify(record)}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
