import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import vm from 'node:vm';

// The script is no module, since a page opened as a file can load none; here it meets a page without a Predict.
const page = { querySelectorAll: () => [], getElementById: () => null };
const context = vm.createContext({ document: page, window: { addEventListener() {} }, location: { hash: '' } });
vm.runInContext(readFileSync(new URL('../../book/_static/predict.js', import.meta.url), 'utf8'), context);

test('guess and measurement stand in two sentences, whatever sign the guess ends with', () => {
  assert.equal(context.comparison('about half', '3 of 7'), 'You said: about half. Measured: 3 of 7.');
  assert.equal(context.comparison(' at \\(T = 4\\).\n', '3 '), 'You said: at T = 4. Measured: 3.');
});

test('choices are put in an order one after the other, and taken back', () => {
  assert.equal(context.toggled('ca', 'd'), 'cad');
  assert.equal(context.toggled('cad', 'a'), 'cd');
  assert.equal(context.toggled('', 'b'), 'b');
});
