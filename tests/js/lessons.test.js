import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { trainTeacher, wrongAfter } from '../../book/experiments/lessons.js';
import { meanInterval, studentT } from '../../book/_static/js/interval.js';
import {
  describe, HIDDEN, makePair, RATES, STEPS, TEMPERATURE, TEST_POINTS, TEST_SEED,
} from '../../book/_static/js/lessons.js';
import { crossEntropy, kl, logSoften, soften } from '../../book/_static/js/probability.js';
import { TEACHER } from '../../book/_static/js/teacher.js';
import {
  answer, CLASSES, gradient, labelTargets, learn, makeNetwork, makePoints, random, softTargets, wrongShare,
} from '../../book/_static/js/tiny.js';

const RECORD = JSON.parse(readFileSync(new URL('../../book/results/lessons.json', import.meta.url)));
const close = (a, b, tolerance) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Central differences: independent of the formulas under test. */
function slopes(loss, network, step = 1e-5) {
  return network.map((_, i) => {
    const moved = by => loss(network.map((weight, k) => (k === i ? weight + by : weight)));
    return (moved(step) - moved(-step)) / (2 * step);
  });
}

test('the gradient of labels is that of cross-entropy', () => {
  const next = random(4), points = makePoints(7, next), network = makeNetwork(3, next);
  const loss = weights => mean(points.map(point => -logSoften(answer(weights, point))[point.label]));
  const wanted = slopes(loss, network);
  gradient(network, points, labelTargets(points), 1).forEach((slope, i) => close(slope, wanted[i], 1e-8));
});

test('the gradient of soft targets is that of T² · KL', () => {
  const next = random(5), points = makePoints(7, next), network = makeNetwork(3, next), teacher = makeNetwork(5, next);
  const loss = weights => mean(points.map(point => 9 * kl(answer(teacher, point), answer(weights, point), 3)));
  const wanted = slopes(loss, network);
  gradient(network, points, softTargets(teacher, points, 3), 3).forEach((slope, i) => close(slope, wanted[i], 1e-8));
});

test('a lesson brings a student nearer to its targets', () => {
  const { labels, distilled } = makePair(1, 12, TEACHER);
  const lossOf = ({ network }) => mean(labels.points.map(point => -logSoften(answer(network, point))[point.label]));
  const distance = ({ network }) => mean(labels.points.map(point =>
    crossEntropy(answer(TEACHER, point), answer(network, point), TEMPERATURE)));
  const before = [lossOf(labels), distance(distilled)];
  learn(labels, STEPS);
  learn(distilled, STEPS);
  assert.ok(lossOf(labels) < 0.7 * before[0] && distance(distilled) < before[1]);
});

test('both students of a pair have the same points and the same first weights, and do not share them', () => {
  const { labels, distilled } = makePair(9, 30, TEACHER);
  assert.deepEqual(labels.network, distilled.network);
  assert.equal(labels.network.length, HIDDEN * (3 + CLASSES) + CLASSES);
  assert.deepEqual(labels.points, distilled.points);
  assert.notDeepEqual(labels.targets, distilled.targets);
  const first = [...distilled.network];
  learn(labels, 3);
  assert.deepEqual(distilled.network, first);
});

test('a seed gives the same pair again, another seed another one', () => {
  const weights = seed => makePair(seed, 6, TEACHER).labels.network;
  assert.deepEqual(weights(7), weights(7));
  assert.notDeepEqual(weights(7), weights(8));
  assert.ok(weights(2 ** 32 - 1).every(Number.isFinite));
});

test('random numbers fill [0, 1) evenly', () => {
  const next = random(11), tenths = Array(10).fill(0);
  for (let i = 0; i < 20000; i++) tenths[Math.floor(10 * next())]++;
  tenths.forEach(count => assert.ok(Math.abs(count - 2000) < 200, `${tenths}`));
});

test('each class has a third of the points, and its arm is the other one turned by a third', () => {
  const points = makePoints(9000, random(12));
  for (let label = 0; label < CLASSES; label++) {
    const arm = points.filter(point => point.label === label);
    close(arm.length, 3000, 200);
    const angle = Math.atan2(mean(arm.map(({ y }) => y)), mean(arm.map(({ x }) => x)));
    const first = points.filter(point => point.label === 0);
    const turned = Math.atan2(mean(first.map(({ y }) => y)), mean(first.map(({ x }) => x))) + (2 * Math.PI * label) / 3;
    close(Math.cos(angle - turned), 1, 0.02);
  }
});

test('the interval widens with the spread and narrows with the runs; one run has none', () => {
  assert.deepEqual(meanInterval([3]), { mean: 3 });
  const { mean: middle, low, high } = meanInterval([1, 2, 3]);
  close(middle, 2, 1e-12);
  close(high - middle, 4.302653 / Math.sqrt(3), 1e-6);
  close(middle - low, high - middle, 1e-12);
  assert.ok(studentT(1) > studentT(6) && studentT(6) > studentT(7) && studentT(7) > studentT(1000));
});

test('the sentence names the last run, the interval, and on which side of it zero lies', () => {
  const runs = [{ labels: 0.4, distilled: 0.3 }, { labels: 0.5, distilled: 0.39 }, { labels: 0.45, distilled: 0.36 }];
  assert.match(describe(runs.slice(0, 1)), /^Run 1: .* 40\.0\s% wrong, .* 30\.0\s%\. One run has no interval/);
  assert.match(describe(runs), /^Run 3: .*Difference over 3 runs: −10\.0 points, 95\s% interval −12\.5 to −7\.5\. Zero lies outside\./);
  assert.match(describe([...runs, { labels: 0.3, distilled: 0.6 }]), /Run 4: .*could be luck/);
});

// --- what was measured ---------------------------------------------------------------------------------------------

const validationBest = ({ validation }, side) =>
  RECORD.settings.GRID[validation.reduce((best, row, i) => (row[side] < validation[best][side] ? i : best), 0)];

test('each side has the rate that made the fewest validation errors, and none stands at an end of the grid', () => {
  assert.deepEqual(RECORD.experiments.map(({ points }) => points), Object.keys(RATES).map(Number));
  for (const experiment of RECORD.experiments) {
    const best = { labels: validationBest(experiment, 0), distilled: validationBest(experiment, 1) };
    assert.deepEqual(experiment.rates, best);
    assert.deepEqual(RATES[experiment.points], best);
    for (const rate of Object.values(best)) assert.ok(![RECORD.settings.GRID[0], RECORD.settings.GRID.at(-1)].includes(rate));
  }
});

test('the record was measured with the settings of the figure, and its first runs come out again', () => {
  const { settings, experiments } = RECORD;
  assert.deepEqual([settings.HIDDEN, settings.STEPS, settings.TEMPERATURE, settings.TEST_POINTS],
    [HIDDEN, STEPS, TEMPERATURE, TEST_POINTS]);
  const fresh = makePoints(TEST_POINTS, random(TEST_SEED));
  close(wrongShare(TEACHER, fresh), RECORD.teacher_wrong, 1e-3);
  for (const { points, wrong } of experiments)
    for (let i = 0; i < 5; i++)
      wrongAfter(settings.first_seed + i, points, TEACHER, fresh, RATES[points]).forEach(
        (share, side) => close(share, wrong[i][side], 5e-3));
});

test('the teacher helps with few points, and less with many; single runs go either way', () => {
  const gain = Object.fromEntries(RECORD.experiments.map(({ points, wrong }) =>
    [points, { ...meanInterval(wrong.map(([labels, distilled]) => distilled - labels)), wrong }]));
  assert.ok(gain[12].high < 0, 'the interval leaves zero out');
  assert.ok(gain[12].mean < gain[100].mean);
  const other = gain[12].wrong.filter(([labels, distilled]) => distilled >= labels).length;
  assert.ok(other > 0 && other < gain[12].wrong.length / 2, `${other} runs go the other way`);
});

test('the stored teacher is the one that its script trains', () => {
  trainTeacher().forEach((weight, i) => close(weight, TEACHER[i], 1e-2));
  assert.ok(soften(answer(TEACHER, { x: 0, y: 0 })).every(share => share < 0.9), 'it is unsure where the arms meet');
});
