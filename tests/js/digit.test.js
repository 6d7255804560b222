import assert from 'node:assert/strict';
import test from 'node:test';
import { toDigit } from '../../book/_static/js/digit.js';

const SIZE = 280;

/** A sheet with ink in the given rectangles [left, top, width, height]. */
function sheet(...rectangles) {
  const ink = new Float32Array(SIZE * SIZE);
  for (const [left, top, width, height] of rectangles)
    for (let y = top; y < top + height; y++) ink.fill(1, y * SIZE + left, y * SIZE + left + width);
  return ink;
}

const digit = ink => toDigit(ink, SIZE, SIZE);
const pixels = image => [...image].flatMap((grey, i) => (grey > 0 ? [[i % 28, Math.floor(i / 28), grey]] : []));

function extent(image) {
  const [xs, ys] = [0, 1].map(axis => pixels(image).map(pixel => pixel[axis]));
  return [Math.max(...xs) - Math.min(...xs) + 1, Math.max(...ys) - Math.min(...ys) + 1];
}

function centre(image) {
  const total = pixels(image).reduce((sum, [, , grey]) => sum + grey, 0);
  return [0, 1].map(axis => pixels(image).reduce((sum, p) => sum + p[2] * (p[axis] + 0.5), 0) / total);
}

test('an empty sheet is no digit, and neither is a shadow', () => {
  assert.equal(digit(sheet()), null);
  assert.equal(digit(sheet().fill(0.1)), null);
});

test('the longer side becomes 20 pixels, the proportions stay', () => {
  assert.deepEqual(extent(digit(sheet([30, 40, 50, 200]))), [5, 20]);
  assert.deepEqual(extent(digit(sheet([30, 40, 200, 100]))), [20, 10]);
  assert.deepEqual(extent(digit(sheet([7, 9, 40, 40]))), [20, 20]); // small ones grow, too
});

test('place and size of a drawing do not matter', () => {
  const shape = (x, y, unit) => sheet([x, y, 4 * unit, unit], [x, y, unit, 10 * unit]);
  const image = digit(shape(0, 0, 10));
  assert.deepEqual(digit(shape(130, 77, 10)), image);
  assert.deepEqual(digit(shape(60, 3, 26)), image);
});

test('the centre of mass, not of the box, lies in the pixel right below the middle', () => {
  // As in MNIST: there the centres of mass of all images lie between 14 and 15.
  const one = [[0, 0, 40, 200]];
  const corner = [[9, 9, 200, 40], [9, 9, 40, 200]];
  const ell = [[50, 20, 20, 180], [70, 160, 90, 40]];
  for (const rectangles of [one, corner, ell])
    for (const place of centre(digit(sheet(...rectangles)))) assert.ok(place >= 14 && place < 15, `${place}`);
});

test('a pixel covered in part is grey, and no ink is lost', () => {
  // 30 wide and 200 high becomes 3 by 20; without its right half, each third row has one half pixel.
  const image = digit(sheet([100, 20, 30, 195], [100, 215, 15, 5]));
  const greys = pixels(image).map(([, , grey]) => Math.round(grey * 1000) / 1000);
  assert.equal(greys.length, 60);
  assert.deepEqual(greys.slice(-3), [1, 0.75, 0.5]);
  const covered = pixels(image).reduce((sum, [, , grey]) => sum + grey, 0);
  assert.ok(Math.abs(covered - (30 * 195 + 15 * 5) / 100) < 1e-4, `${covered}`);
});

test('a dot and the thinnest line are drawn', () => {
  assert.ok(pixels(digit(sheet([100, 100, 1, 1]))).length === 400);
  assert.deepEqual(extent(digit(sheet([100, 20, 1, 250]))), [1, 20]);
});

test('what would reach over the edge is cut off, without an error', () => {
  const image = digit(sheet([0, 0, 200, 60], [190, 0, 10, 270])); // heavy on top
  assert.equal(image.length, 784);
  assert.ok(image.every(grey => grey >= 0 && grey <= 1.0001));
});
