import assert from 'node:assert/strict';
import test from 'node:test';
import { positionOf, showTemperature, temperatureAt } from '../../book/_static/js/figure.js';
import { GRADIENTS, losses, step } from '../../book/_static/js/loss.js';
import { kl } from '../../book/_static/js/probability.js';
import { describe } from '../../book/_static/js/temperature.js';

const TEACHER = [3, 2, -3, -2], STUDENT = [3, -4, 0, 0];
const [SQUARED, FORGOTTEN, REVERSE, LABEL] = Object.keys(GRADIENTS);

test('the slider reaches the temperatures that the chapters use', () => {
  for (const temperature of [0.5, 1, 2, 4, 20, 100])
    assert.equal(temperatureAt(Math.round(positionOf(temperature) / 0.05) * 0.05), temperature);
  assert.equal(temperatureAt(0.2), 1.6);
  assert.deepEqual([0.5, 4, 20].map(showTemperature), ['T = 0.50', 'T = 4.0', 'T = 20']);
});

test('the sentence names the two likeliest classes and the label, and the order never changes', () => {
  const cold = describe([1, 5, 3, 0], 2, 1), hot = describe([1, 5, 3, 0], 2, 20);
  assert.deepEqual(cold.order, hot.order);
  assert.match(cold.sentence, /to class 1 and .* to class 3|to class 1 and .* to class 2/);
  assert.match(cold.sentence, /100 % to class 2/);
  assert.ok(hot.nats > cold.nats && hot.nats <= Math.log(4));
});

test('the printed losses belong together', () => {
  const all = losses(TEACHER, STUDENT, 0, 4);
  const [own, cross, forward, reverse, squared] = Object.values(all);
  assert.ok(Math.abs(cross - own - forward) < 1e-12);
  assert.ok(Math.abs(squared - 16 * forward) < 1e-12);
  assert.notEqual(forward, reverse);
});

test('T² makes the push T² times longer, and only that', () => {
  const long = GRADIENTS[SQUARED](TEACHER, STUDENT, 0, 3), short = GRADIENTS[FORGOTTEN](TEACHER, STUDENT, 0, 3);
  long.forEach((g, i) => assert.ok(Math.abs(g - 9 * short[i]) < 1e-12));
});

for (const temperature of [1, 4, 20]) {
  test(`steps bring the student to its teacher at T = ${temperature}`, () => {
    let student = STUDENT, before = kl(TEACHER, student, temperature);
    for (let i = 0; i < 3000; i++) {
      student = step(TEACHER, student, 0, temperature, SQUARED);
      const now = kl(TEACHER, student, temperature);
      assert.ok(now <= before + 1e-12, `step ${i}: ${now} after ${before}`);
      before = now;
    }
    assert.ok(kl(TEACHER, student) < 1e-3);
  });
}

test('forward KL pushes a class that the student misses; reverse KL hardly notices it', () => {
  const forward = GRADIENTS[SQUARED](TEACHER, STUDENT, 0, 1)[1], reverse = GRADIENTS[REVERSE](TEACHER, STUDENT, 0, 1)[1];
  assert.ok(forward < -0.2 && Math.abs(reverse) < 0.02, `${forward}, ${reverse}`);
});

test('the label pulls its class up for ever, and the handles stop at the end of their track', () => {
  let student = STUDENT;
  for (let i = 0; i < 2000; i++) student = step(TEACHER, student, 1, 1, LABEL);
  assert.ok(student[1] > 5 && student.every(logit => Math.abs(logit) <= 6));
});
