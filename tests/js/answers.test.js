import assert from 'node:assert/strict';
import test from 'node:test';
import { duration, percent } from '../../book/_static/js/answers.js';

test('shares as percentages, and never 100 %', () => {
  assert.deepEqual([0, 0.0004, 0.1234, 0.9994].map(percent), ['0.0 %', '0.0 %', '12.3 %', '99.9 %']);
  assert.deepEqual([0.9995, 1].map(percent), ['> 99.9 %', '> 99.9 %']);
});

test('durations with two digits that matter', () => {
  assert.deepEqual([0.0341, 1.239, 14.9, 120].map(duration), ['0.034 ms', '1.2 ms', '15 ms', '120 ms']);
});
