import assert from 'node:assert/strict';
import test from 'node:test';
import {
  crossEntropy, entropy, forwardGradient, kl, labelGradient, logSoften, percent, reverseGradient, soften,
} from '../../book/_static/js/probability.js';

const TEACHER = [9.2, 2.5, 0.0, -1.0, -3.0];
const STUDENT = [1.0, 3.0, -2.0, 0.5, 4.0];
const close = (a, b, tolerance = 1e-10) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);
const sum = values => values.reduce((a, b) => a + b, 0);

/** Central differences: independent of the formulas under test. */
function slopes(loss, logits, step = 1e-5) {
  return logits.map((_, i) => {
    const moved = by => logits.map((z, k) => (k === i ? z + by : z));
    return (loss(moved(step)) - loss(moved(-step))) / (2 * step);
  });
}

test('two equal logits share the probability, and softening keeps the sum', () => {
  soften([3, 3]).forEach(share => close(share, 0.5));
  for (const temperature of [0.1, 1, 4, 100]) close(sum(soften(TEACHER, temperature)), 1);
});

test('a ratio becomes its T-th root', () => {
  const [a, , c] = soften(TEACHER);
  const [softA, , softC] = soften(TEACHER, 4);
  close(softA / softC, (a / c) ** 0.25, 1e-9);
});

test('huge logits neither overflow nor become NaN', () => {
  assert.deepEqual(soften([1e4, 0]), [1, 0]);
  close(logSoften([1e4, 0])[1], -1e4);
  close(entropy([1e4, 0]), 0);
  close(kl([0, 1e4], [1e4, 0]), 1e4);
});

test('entropy lies between 0 and log C', () => {
  close(entropy([7, 7, 7, 7]), Math.log(4));
  assert.ok(entropy(TEACHER, 1) < entropy(TEACHER, 4) && entropy(TEACHER, 4) < Math.log(5));
});

test('cross-entropy is entropy plus KL', () => {
  for (const temperature of [0.5, 1, 4])
    close(crossEntropy(TEACHER, STUDENT, temperature),
      entropy(TEACHER, temperature) + kl(TEACHER, STUDENT, temperature));
});

test('KL is zero at equality, whatever is added to all logits, and positive elsewhere', () => {
  close(kl(TEACHER, TEACHER.map(z => z + 5), 3), 0);
  assert.ok(kl(TEACHER, STUDENT, 3) > 0 && kl(STUDENT, TEACHER, 3) > 0);
  assert.notEqual(kl(TEACHER, STUDENT), kl(STUDENT, TEACHER));
});

for (const temperature of [0.7, 1, 4]) {
  test(`gradients agree with finite differences at T = ${temperature}`, () => {
    const forward = slopes(z => kl(TEACHER, z, temperature), STUDENT);
    forwardGradient(TEACHER, STUDENT, temperature).forEach((g, i) => close(g, forward[i], 1e-7));
    const reverse = slopes(z => kl(z, TEACHER, temperature), STUDENT);
    reverseGradient(TEACHER, STUDENT, temperature).forEach((g, i) => close(g, reverse[i], 1e-7));
  });
}

test('the gradient of the label term agrees with finite differences and sums to zero', () => {
  const numeric = slopes(z => -logSoften(z)[2], STUDENT);
  labelGradient(2, STUDENT).forEach((g, i) => close(g, numeric[i], 1e-7));
  close(sum(labelGradient(2, STUDENT)), 0);
});

test('a temperature that is none is refused by name', () => {
  for (const bad of [0, -1, NaN, Infinity, 'x'])
    assert.throws(() => soften(TEACHER, bad), /temperature.*above 0/);
});

test('percent never says 0 % or 100 % of a softmax', () => {
  assert.deepEqual([0, 0.0004, 0.0005, 0.1234, 0.9994].map(percent), ['< 0.1 %', '< 0.1 %', '0.1 %', '12.3 %', '99.9 %']);
  assert.deepEqual([0.9995, 1].map(percent), ['> 99.9 %', '> 99.9 %']);
});
