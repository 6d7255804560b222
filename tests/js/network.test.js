import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { makeNetwork, readSafetensors } from '../../book/_static/js/network.js';

/** A safetensors file of { name: [dtype, shape, numbers] }. */
function file(tensors) {
  const header = {};
  const types = { F32: Float32Array, I8: Int8Array, I64: BigInt64Array, F16: Uint16Array };
  const parts = [];
  let end = 0;
  for (const [name, [dtype, shape, numbers]] of Object.entries(tensors)) {
    const bytes = new Uint8Array(types[dtype].from(numbers, n => (dtype === 'I64' ? BigInt(n) : n)).buffer);
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
  const network = makeNetwork([{ kind: 'conv', name: '0', padding: 1, bias: true }, { kind: 'flatten', name: '1' }],
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

test('a convolution without border and bias', () => {
  const kernel = range(9, i => Math.sin(i));
  const network = makeNetwork([{ kind: 'conv', name: '0', padding: 0, bias: false }],
    file({ '0.weight': ['F32', [1, 1, 3, 3], kernel] }));
  close(network(IMAGE), range(26 * 26, i => {
    const corner = 28 * Math.floor(i / 26) + (i % 26);
    return kernel.reduce((sum, k, j) => sum + k * IMAGE[corner + 28 * Math.floor(j / 3) + (j % 3)], 0);
  }));
});

test('batch norm, average pooling and the mean of each map', () => {
  const [first, second] = [0.5, -2]; // two maps: the image times these
  const kernels = [first, second].flatMap(factor => range(9, i => (i === 4 ? factor : 0)));
  const norm = { '1.weight': [3, 1], '1.bias': [1, -1], '1.running_mean': [0.25, 0], '1.running_var': [3.5, 0.5] };
  const tensors = file({
    '0.weight': ['F32', [2, 1, 3, 3], kernels],
    ...Object.fromEntries(Object.entries(norm).map(([name, numbers]) => [name, ['F32', [2], numbers]])),
    '1.num_batches_tracked': ['I64', [], [7]], // PyTorch stores it; no answer needs it
  });
  const layers = [
    { kind: 'conv', name: '0', padding: 1, bias: false }, { kind: 'norm', name: '1', epsilon: 0.5 },
    { kind: 'avgpool', name: '2' }, { kind: 'mean', name: '3' },
  ];
  const normed = (x, map) => (map ? x * second - 1 : (3 * (x * first - 0.25)) / 2 + 1);
  close(makeNetwork(layers.slice(0, 2), tensors)(IMAGE), range(2 * 784, i => normed(IMAGE[i % 784], i >= 784)));
  close(makeNetwork(layers.slice(0, 3), tensors)(IMAGE), range(2 * 196, i => {
    const corner = 56 * Math.floor((i % 196) / 14) + 2 * (i % 14);
    return [0, 1, 28, 29].reduce((sum, step) => sum + normed(IMAGE[corner + step], i >= 196), 0) / 4;
  }));
  const average = IMAGE.reduce((sum, x) => sum + x, 0) / 784;
  close(makeNetwork(layers, tensors)(IMAGE), [normed(average, 0), normed(average, 1)]);
});

test('ReLU and pooling', () => {
  const only = range(9, i => (i === 4 ? -1 : 0)); // the image, negated
  const tensors = file({ '0.weight': ['F32', [1, 1, 3, 3], only], '0.bias': ['F32', [1], [0.5]] });
  const layers = ['conv', 'relu', 'maxpool'].map(kind => ({ kind, name: '0', padding: 1, bias: true }));
  const network = makeNetwork(layers, tensors);
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
  const maps = file({ '0.weight': ['F32', [1, 1, 3, 3], range(9, () => 1)] });
  assert.throws(() => makeNetwork([{ kind: 'conv', name: '0', padding: 2 }], maps), /a padding of 2/);
  assert.throws(() => makeNetwork([{ kind: 'attention', name: '0' }], tensors), /unknown kind of layer: attention/);
  const narrow = file({ '0.weight': ['F32', [1, 9], range(9, () => 1)], '0.bias': ['F32', [1], [0]] });
  assert.throws(() => makeNetwork([{ kind: 'linear', name: '0' }], narrow)(IMAGE), /wants 9 inputs, got 784/);
  assert.throws(() => makeNetwork([], tensors)([1, 2]), /784 pixels, got 2/);
});

test('the stored networks give to the stored examples the logits that PyTorch gave', () => {
  const book = new URL('../../book/', import.meta.url);
  const record = JSON.parse(readFileSync(new URL('_static/playground/playground.json', book)));
  const expected = JSON.parse(readFileSync(new URL('results/playground-logits.json', book)));
  assert.deepEqual(Object.keys(expected), Object.keys(record.networks));
  for (const [key, { file: name, layers }] of Object.entries(record.networks)) {
    const bytes = readFileSync(new URL(`_static/playground/${name}`, book));
    const network = makeNetwork(layers, bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    assert.equal(expected[key].length, record.examples.length);
    record.examples.forEach(({ pixels }, i) => {
      const logits = network(Float32Array.from(Buffer.from(pixels, 'base64'), grey => grey / 255));
      logits.forEach((z, digit) => assert.ok(Math.abs(z - expected[key][i][digit]) < 1e-3, `${key}, example ${i}`));
    });
  }
  const best = logits => logits.indexOf(Math.max(...logits));
  record.examples.forEach(({ students_disagree: disagree }, i) =>
    assert.equal(best(expected.distilled[i]) !== best(expected.labels[i]), disagree, `example ${i}`));
});
