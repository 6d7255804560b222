import assert from 'node:assert/strict';
import test from 'node:test';
import { duration } from '../../book/_static/js/answers.js';

test('durations with two digits that matter', () => {
  assert.deepEqual([0.0341, 1.239, 14.9, 120].map(duration), ['0.034 ms', '1.2 ms', '15 ms', '120 ms']);
});
