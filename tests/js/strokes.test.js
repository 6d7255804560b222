import assert from 'node:assert/strict';
import test from 'node:test';
import { closingFour, eight } from '../../book/_static/js/strokes.js';

const PEN = 11; // half its width
const length = stroke => stroke.slice(1).reduce(
  (sum, { x, y }, i) => sum + Math.hypot(x - stroke[i].x, y - stroke[i].y), 0);
const mean = (stroke, axis) => stroke.reduce((sum, point) => sum + point[axis], 0) / stroke.length;

test('the top of the 4 closes from one end to the other', () => {
  assert.equal(closingFour(0).length, 2);
  const [open, stem, whole] = closingFour(1);
  assert.deepEqual(whole[0], open[0]);
  assert.deepEqual(whole.at(-1), stem[0]);
  for (const share of [0.05, 0.3, 0.5, 0.8, 0.95]) {
    const strokes = closingFour(share);
    assert.deepEqual(strokes.slice(0, 2), [open, stem]);
    assert.ok(Math.abs(length(strokes[2]) - share * length(whole)) < 1e-9, `${share}`);
  }
});

test('the 8 is one closed line, and keeps its shape in any place and size', () => {
  const [whole] = eight();
  const [small] = eight({ size: 0.25, x: 70, y: 60 });
  assert.ok(Math.hypot(whole[0].x - whole.at(-1).x, whole[0].y - whole.at(-1).y) < 10);
  assert.ok(Math.abs(length(small) - length(whole) / 4) < 1e-9);
  small.forEach(({ x, y }, i) => {
    assert.ok(Math.abs(x - 70 - (whole[i].x - 140) / 4) < 1e-9 && Math.abs(y - 60 - (whole[i].y - 140) / 4) < 1e-9);
  });
  for (const axis of ['x', 'y']) assert.ok(Math.abs(mean(whole, axis) - 140) < 10);
});

test('no stroke is cut off by the edge of the sheet', () => {
  const drawings = [closingFour(1), eight(), eight({ size: 0.5, x: 60, y: 70 }), eight({ size: 0.15 })];
  for (const { x, y } of drawings.flat(2))
    assert.ok([x, y].every(place => place >= PEN && place <= 280 - PEN), `${x}, ${y}`);
});
