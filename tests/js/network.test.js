import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { makeNetwork, readSafetensors } from '../../book/_static/js/network.js';

/** A safetensors file of { name: [dtype, shape, numbers] }. */
function file(tensors) {
  const header = {};
  const parts = [];
  let end = 0;
  for (const [name, [dtype, shape, numbers]] of Object.entries(tensors)) {
    const bytes = new Uint8Array((dtype === 'F32' ? Float32Array : Int8Array).from(numbers).buffer);
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
    parts.push(...bytes);
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const whole = new Uint8Array(8 + text.length + parts.length);
  new DataView(whole.buffer).setBigUint64(0, BigInt(text.length), true);
  whole.set(text, 8);
  whole.set(parts, 8 + text.length);
  return whole.buffer;
}

const range = (length, number) => Array.from({ length }, (_, i) => number(i));
const IMAGE = Float32Array.from({ length: 784 }, (_, i) => ((i * 7) % 11) / 11);
const close = (got, wanted) => {
  assert.equal(got.length, wanted.length);
  got.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) < 1e-4, `${i}: ${value} is not ${wanted[i]}`));
};

test('tensors come out with shape and numbers, wherever they lie', () => {
  const tensors = readSafetensors(file({ a: ['I8', [3], [1, -127, 127]], b: ['F32', [1, 2], [0.5, -2]] }));
  assert.deepEqual([...tensors.get('a').values], [1, -127, 127]);
  assert.deepEqual(tensors.get('b').shape, [1, 2]);
  assert.deepEqual([...tensors.get('b').values], [0.5, -2]);
});

test('a file that is none, cut off, or of another type is refused by name', () => {
  const whole = file({ a: ['F32', [2], [1, 2]] });
  assert.throws(() => readSafetensors(new ArrayBuffer(3)), /not a safetensors file/);
  assert.throws(() => readSafetensors(whole.slice(0, 20)), /cut off in its header/);
  assert.throws(() => readSafetensors(whole.slice(0, whole.byteLength - 1)), /cut off in a/);
  assert.throws(() => readSafetensors(file({ a: ['F16', [2], [1, 2]] })), /a is stored as F16/);
  assert.throws(() => readSafetensors(file({ a: ['F32', [3], [1, 2]] })), /a has 2 numbers, not 3/);
});

test('a linear layer, in float32 and in 8 bits with a scale for each output', () => {
  const whole = range(2 * 784, i => (i % 255) - 127);
  const layers = [{ kind: 'flatten', name: '0' }, { kind: 'linear', name: '1' }];
  const bias = ['F32', [2], [1, -1]];
  const scales = [0.5, 0.001];
  const sums = [0, 1].map(row => IMAGE.reduce((sum, x, i) => sum + x * whole[row * 784 + i], 0));
  const plain = makeNetwork(layers, file({ '1.weight': ['F32', [2, 784], whole], '1.bias': bias }));
  close(plain(IMAGE), [sums[0] + 1, sums[1] - 1]);
  const small = makeNetwork(layers, file({
    '1.weight.scale': ['F32', [2], scales], '1.bias': bias, '1.weight': ['I8', [2, 784], whole],
  }));
  close(small(IMAGE), [sums[0] * scales[0] + 1, sums[1] * scales[1] - 1]);
});

test('a convolution by its definition: 3×3, zeros around, every map into every other', () => {
  const kernel = range(2 * 9, i => Math.sin(i));
  const network = makeNetwork([{ kind: 'conv', name: '0' }, { kind: 'flatten', name: '1' }],
    file({ '0.weight': ['F32', [2, 1, 3, 3], kernel], '0.bias': ['F32', [2], [0.25, -0.5]] }));
  const at = (y, x) => (y < 0 || x < 0 || y > 27 || x > 27 ? 0 : IMAGE[28 * y + x]);
  close(network(IMAGE), range(2 * 784, i => {
    const [out, y, x] = [Math.floor(i / 784), Math.floor((i % 784) / 28), i % 28];
    let sum = [0.25, -0.5][out];
    for (let a = 0; a < 3; a++)
      for (let b = 0; b < 3; b++) sum += kernel[out * 9 + 3 * a + b] * at(y + a - 1, x + b - 1);
    return sum;
  }));
});

test('ReLU and pooling', () => {
  const only = range(9, i => (i === 4 ? -1 : 0)); // the image, negated
  const tensors = file({ '0.weight': ['F32', [1, 1, 3, 3], only], '0.bias': ['F32', [1], [0.5]] });
  const network = makeNetwork(['conv', 'relu', 'maxpool'].map(kind => ({ kind, name: '0' })), tensors);
  close(network(IMAGE), range(196, i => {
    const corner = 56 * Math.floor(i / 14) + 2 * (i % 14);
    return Math.max(0, 0.5 - Math.min(...[0, 1, 28, 29].map(step => IMAGE[corner + step])));
  }));
});

test('what does not fit together is refused by name', () => {
  const tensors = file({ '0.weight': ['I8', [2, 784], range(1568, () => 1)], '0.bias': ['F32', [2], [0, 0]] });
  assert.throws(() => makeNetwork([{ kind: 'linear', name: '0' }], tensors), /no scale for each output of 0.weight/);
  assert.throws(() => makeNetwork([{ kind: 'linear', name: '5' }], tensors), /no 5.weight/);
  assert.throws(() => makeNetwork([{ kind: 'conv', name: '0' }], tensors), /0.weight has 2 dimensions, not 4/);
  assert.throws(() => makeNetwork([{ kind: 'attention', name: '0' }], tensors), /unknown kind of layer: attention/);
  const narrow = file({ '0.weight': ['F32', [1, 9], range(9, () => 1)], '0.bias': ['F32', [1], [0]] });
  assert.throws(() => makeNetwork([{ kind: 'linear', name: '0' }], narrow)(IMAGE), /wants 9 inputs, got 784/);
  assert.throws(() => makeNetwork([], tensors)([1, 2]), /784 pixels, got 2/);
});

test('the stored networks know the stored examples', () => {
  const folder = new URL('../../book/_static/playground/', import.meta.url);
  const record = JSON.parse(readFileSync(new URL('playground.json', folder)));
  const answers = {};
  for (const [key, { file: name, layers }] of Object.entries(record.networks)) {
    const bytes = readFileSync(new URL(name, folder));
    const network = makeNetwork(layers, bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    answers[key] = record.examples.map(({ pixels }) => {
      const logits = network(Float32Array.from(Buffer.from(pixels, 'base64'), grey => grey / 255));
      return logits.indexOf(Math.max(...logits));
    });
  }
  record.examples.forEach(({ students_disagree: disagree }, i) =>
    assert.equal(answers.distilled[i] !== answers.labels[i], disagree, `example ${i}`));
  const right = record.examples.filter(({ label }, i) => label === answers.teacher[i]);
  assert.ok(right.length > 10, `the teacher knows ${right.length}`);
});
