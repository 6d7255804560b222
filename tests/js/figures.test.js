import assert from 'node:assert/strict';
import test from 'node:test';
import { descend, LOSSES, losses, lossOf, step } from '../../book/_static/js/descent.js';
import { positionOf, showTemperature, temperatureAt } from '../../book/_static/js/figure.js';
import { endFor, nats, read, stepText, tell, write } from '../../book/_static/js/loss.js';
import { kl } from '../../book/_static/js/probability.js';
import { addressWith, settingIn } from '../../book/_static/js/setting.js';
import { describe, numberAt, read as readTemperature } from '../../book/_static/js/temperature.js';

const TEACHER = [3, 2, -3, -2], STUDENT = [3, -4, 0, 0];
const lesson = (loss, temperature = 1, label = 0) => ({ teacher: TEACHER, label, temperature, loss, weight: 0.9 });
const gradient = one => LOSSES[one.loss].gradient(STUDENT, one);

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
  const all = losses(STUDENT, lesson('squared', 4));
  const [own, cross, forward, reverse, squared] = Object.values(all);
  assert.ok(Math.abs(cross - own - forward) < 1e-12);
  assert.ok(Math.abs(squared - 16 * forward) < 1e-12);
  assert.notEqual(forward, reverse);
});

test('T² makes the push T² times longer, and only that', () => {
  const long = gradient(lesson('squared', 3)), short = gradient(lesson('forgotten', 3));
  long.forEach((g, i) => assert.ok(Math.abs(g - 9 * short[i]) < 1e-12));
});

for (const temperature of [1, 4, 20]) {
  test(`steps bring the student to its teacher at T = ${temperature}`, () => {
    let student = STUDENT, before = kl(TEACHER, student, temperature);
    for (let i = 0; i < 3000; i++) {
      student = step(student, lesson('squared', temperature));
      const now = kl(TEACHER, student, temperature);
      assert.ok(now <= before + 1e-12, `step ${i}: ${now} after ${before}`);
      before = now;
    }
    assert.ok(kl(TEACHER, student) < 1e-3);
  });
}

test('forward KL pushes a class that the student misses; reverse KL hardly notices it', () => {
  const forward = gradient(lesson('squared'))[1], reverse = gradient(lesson('reverse'))[1];
  assert.ok(forward < -0.2 && Math.abs(reverse) < 0.02, `${forward}, ${reverse}`);
});

test('the label pulls its class up for ever, and the handles stop at the end of their track', () => {
  let student = STUDENT;
  for (let i = 0; i < 2000; i++) student = step(student, lesson('label', 1, 1));
  assert.ok(student[1] > 5 && student.every(logit => Math.abs(logit) <= 6));
});

for (const loss of Object.keys(LOSSES)) {
  test(`a way has the loss of each of its points, and falls: ${loss}`, () => {
    const way = descend(STUDENT, lesson(loss, 2), 40);
    assert.equal(way.length, 41);
    assert.deepEqual(way[0].student, STUDENT);
    way.forEach((here, i) => {
      assert.equal(here.loss, lossOf(here.student, lesson(loss, 2)));
      if (!i) return;
      assert.deepEqual(here.student, step(way[i - 1].student, lesson(loss, 2)));
      assert.ok(here.loss < way[i - 1].loss);
    });
  });

  test(`what the figure marks as followed is printed: ${loss}`, () => {
    const printed = Object.keys(losses(STUDENT, lesson(loss)));
    assert.ok(LOSSES[loss].printed.length && LOSSES[loss].printed.every(name => printed.includes(name)));
  });
}

test('a way that goes on is one way', () => {
  const all = descend(STUDENT, lesson('both', 4), 7), half = descend(STUDENT, lesson('both', 4), 3);
  assert.deepEqual([...half, ...descend(half[3].student, lesson('both', 4), 4).slice(1)], all);
});

test('small numbers are not rounded away', () => {
  assert.deepEqual([1.23456, 0.09876, 0.000321, 0.00009, -1e-17, 0].map(nats),
    ['1.235', '0.099', '0.00032', '< 0.0001', '< 0.0001', '0']);
  assert.deepEqual([1.234, -0.0123, 0.00014, -0.00002, 1e-9, 0].map(stepText), ['+1.23', '−0.01', '+0.0001', '−0.00002', '0', '0']);
  const tiny = gradient(lesson('forgotten', 100)).map(g => stepText(-2 * g));
  assert.ok(tiny.every(text => text !== '0'), tiny);
});

test('a way is told with its number of steps, and its curve has room for them', () => {
  const way = descend(STUDENT, lesson('squared'), 2);
  assert.match(tell(way.slice(0, 1), 'L'), /^L: 1\.3\d\d\. No step taken yet\.$/);
  assert.match(tell(way.slice(0, 2), 'L'), /^L: .* after 1 step; at the start 1\.3\d\d\.$/);
  assert.match(tell(way, 'L'), / after 2 steps; /);
  assert.deepEqual([0, 10, 11, 100, 101, 501, 2001].map(endFor), [10, 10, 20, 100, 200, 1000, 3000]);
});

test('a setting of the loss comes back from its text, and nothing else does', () => {
  const setting = { ...lesson('both', 4), weight: 0.35 };
  const text = write(setting, [1.23456, -0.5, 6, 0]);
  assert.equal(text, '4_both_0.35_3_2_-3_-2_1.23_-0.5_6_0');
  assert.deepEqual(read(text, 4), { temperature: 4, loss: 'both', weight: 0.35, teacher: TEACHER, student: [1.23, -0.5, 6, 0] });
  for (const bad of [
    '', '4', 'both', '_________', `${text}_0`, text.slice(0, -2), text.replace('both', 'toString'), text.replace('both', ''),
    text.replace('4_', '0_'), text.replace('4_', '1e9_'), text.replace('4_', 'NaN_'), text.replace('0.35', '1.5'),
    text.replace('_6_', '_7_'), text.replace('_6_', '__'), text.replace('_6_', '_0x1_'), text.replace('-0.5', '<b>'),
  ]) assert.equal(read(bad, 4), null, bad);
  assert.equal(read(text, 3), null);
});

test('a setting of the temperature likewise', () => {
  assert.deepEqual(readTemperature('20_12', 13), { temperature: 20, image: 12 });
  for (const bad of ['', '20', '20_13', '20_-1', '20_1.5', '0.1_0', '101_0', '20_1_1', 'a_b', '_'])
    assert.equal(readTemperature(bad, 13), null, bad);
});

test('a link keeps what else stands in the address', () => {
  const link = addressWith('loss', '4_both', 'https://example.org/a/b.html?highlight=kl&figure-loss=old#other');
  assert.equal(link, 'https://example.org/a/b.html?highlight=kl&figure-loss=4_both#figure-loss');
  assert.equal(settingIn(new URL(link).search, 'loss'), '4_both');
  assert.equal(settingIn(new URL(link).search, 'temperature'), '');
  assert.equal(settingIn('?figure-loss=%E0%A4%A&=&%', 'loss').length > 0, true); // broken, but no error
});

test('the number of a bar does not stand behind the mark of T = 1', () => {
  for (let bar = 20; bar <= 168; bar++)
    for (let mark = 18; mark <= 168; mark++) {
      const bottom = numberAt(bar, mark), top = bottom - 9;
      assert.ok(bottom < bar && !(mark > top && mark < bottom), `${bar}, ${mark}`);
    }
});
