// Networks in the browser: weights from a safetensors file, and the layers that kdutils' CNN, MLP and
// ConvNet are made of.

const TYPES = { F32: Float32Array, I8: Int8Array, I64: BigInt64Array };
const NORM = ['weight', 'bias', 'running_mean', 'running_var']; // of a batch norm

/** The tensors of a safetensors file, as a map from names to { shape, values }. */
export function readSafetensors(buffer) {
  // Eight bytes of length, that many of JSON, then the data; all of it little-endian.
  const length = buffer.byteLength < 8 ? Infinity : Number(new DataView(buffer).getBigUint64(0, true));
  const start = 8 + length;
  if (start > buffer.byteLength) throw new Error('not a safetensors file, or cut off in its header');
  const { __metadata__: _, ...header } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensors = new Map();
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    const Type = TYPES[dtype];
    if (!Type) throw new Error(`${name} is stored as ${dtype}; this page reads ${Object.keys(TYPES).join(', ')}`);
    if (start + to > buffer.byteLength) throw new Error(`the file is cut off in ${name}`);
    const values = new Type(buffer.slice(start + from, start + to)); // a copy, since the data may lie unaligned
    const count = shape.reduce((a, b) => a * b, 1);
    if (values.length !== count) throw new Error(`${name} has ${values.length} numbers, not ${count}`);
    tensors.set(name, { shape, values });
  }
  return tensors;
}

/** A function from 784 grey levels in [0, 1] to ten logits. `layers` are { kind, name } and details, in order. */
export function makeNetwork(layers, buffer) {
  const tensors = readSafetensors(buffer);
  const find = name => (part, dimensions) => weights(tensors, `${name}.${part}`, dimensions);
  const steps = layers.map(layer => makeStep(layer, find(layer.name)));
  return pixels => {
    if (pixels.length !== 784) throw new RangeError(`an image has 784 pixels, got ${pixels.length}`);
    const image = { shape: [1, 28, 28], values: Float32Array.from(pixels) };
    return Array.from(steps.reduce((maps, step) => step(maps), image).values);
  };
}

/** One layer as a function from maps to maps; `get(part, dimensions)` finds its weights. */
function makeStep({ kind, padding, bias, epsilon }, get) {
  switch (kind) {
    case 'conv': return conv3x3(get('weight', 4), bias ? get('bias', 1) : null, padding);
    case 'linear': return linear(get('weight', 2), get('bias', 1));
    case 'norm': return norm(NORM.map(part => get(part, 1).values), epsilon);
    case 'relu': return relu;
    case 'maxpool': return pool2x2(Math.max);
    case 'avgpool': return pool2x2((a, b, c, d) => (a + b + c + d) / 4);
    case 'mean': return mean;
    case 'flatten': return ({ values }) => ({ shape: [values.length], values });
    default: throw new Error(`unknown kind of layer: ${kind}`);
  }
}

/** Weights as float32: whole numbers are multiplied by the scale of their output, the first dimension. */
function weights(tensors, name, dimensions) {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`the file has no ${name}`);
  const { shape, values } = tensor;
  if (shape.length !== dimensions) throw new Error(`${name} has ${shape.length} dimensions, not ${dimensions}`);
  if (values instanceof Float32Array) return tensor;
  const scales = tensors.get(`${name}.scale`);
  if (scales?.values.length !== shape[0]) throw new Error(`the file has no scale for each output of ${name}`);
  const each = values.length / shape[0];
  return { shape, values: Float32Array.from(values, (whole, i) => whole * scales.values[Math.floor(i / each)]) };
}

/** 3×3. With a border of zeros (`padding` 1) the maps keep their size, without (0) they lose a pixel at each side. */
function conv3x3({ shape: [mapsOut, mapsIn], values: kernel }, bias, padding) {
  if (padding !== 0 && padding !== 1) throw new Error(`a padding of ${padding}; this page has 0 and 1`);
  return ({ shape: [count, height, width], values }) => {
    expect('maps', mapsIn, count);
    const input = padding ? withBorder(values, count, height, width) : values;
    const [tall, wide] = [height + 2 * padding, width + 2 * padding];
    const [rows, columns] = [tall - 2, wide - 2];
    const size = rows * columns;
    const output = new Float32Array(mapsOut * size);
    for (let out = 0; out < mapsOut; out++) {
      if (bias) output.fill(bias.values[out], out * size, (out + 1) * size);
      for (let map = 0; map < mapsIn; map++) {
        // Named one by one and not in a loop: this is where all the time goes.
        const k = 9 * (out * mapsIn + map);
        const [a, b, c, d, e, f, g, h, i] = kernel.subarray(k, k + 9);
        for (let y = 0; y < rows; y++) {
          const above = (map * tall + y) * wide;
          const middle = above + wide;
          const below = middle + wide;
          const write = out * size + y * columns;
          for (let x = 0; x < columns; x++)
            output[write + x] += a * input[above + x] + b * input[above + x + 1] + c * input[above + x + 2]
              + d * input[middle + x] + e * input[middle + x + 1] + f * input[middle + x + 2]
              + g * input[below + x] + h * input[below + x + 1] + i * input[below + x + 2];
        }
      }
    }
    return { shape: [mapsOut, rows, columns], values: output };
  };
}

function withBorder(values, count, height, width) {
  const larger = new Float32Array(count * (height + 2) * (width + 2));
  for (let row = 0; row < count * height; row++) {
    const place = (Math.floor(row / height) * (height + 2) + (row % height) + 1) * (width + 2) + 1;
    larger.set(values.subarray(row * width, (row + 1) * width), place);
  }
  return larger;
}

function linear({ shape: [outputs, inputs], values: matrix }, { values: bias }) {
  return ({ values: input }) => {
    expect('inputs', inputs, input.length);
    const output = new Float32Array(outputs);
    for (let row = 0; row < outputs; row++) {
      let sum = bias[row];
      for (let i = 0; i < inputs; i++) sum += matrix[row * inputs + i] * input[i];
      output[row] = sum;
    }
    return { shape: [outputs], values: output };
  };
}

function relu({ shape, values }) {
  return { shape, values: values.map(value => Math.max(0, value)) };
}

/** Batch norm at rest: each map minus the mean that training saw, over its deviation, times a weight, plus a bias. */
function norm([weight, bias, average, variance], epsilon) {
  const scale = weight.map((w, map) => w / Math.sqrt(variance[map] + epsilon));
  return ({ shape, values }) => {
    expect('maps', weight.length, shape[0]);
    const size = values.length / shape[0];
    return {
      shape,
      values: values.map((value, i) => {
        const map = Math.floor(i / size);
        return (value - average[map]) * scale[map] + bias[map];
      }),
    };
  };
}

/** One number for each 2×2 pixels; an odd row or column at the end is left out, as PyTorch does. */
function pool2x2(join) {
  return ({ shape: [count, height, width], values }) => {
    const [rows, columns] = [height >> 1, width >> 1];
    const output = new Float32Array(count * rows * columns);
    for (let map = 0, write = 0; map < count; map++)
      for (let y = 0; y < rows; y++)
        for (let x = 0; x < columns; x++, write++) {
          const read = map * height * width + 2 * y * width + 2 * x;
          output[write] = join(values[read], values[read + 1], values[read + width], values[read + width + 1]);
        }
    return { shape: [count, rows, columns], values: output };
  };
}

/** The mean of each map. */
function mean({ shape: [count], values }) {
  const size = values.length / count;
  const sum = map => values.subarray(map * size, (map + 1) * size).reduce((a, b) => a + b, 0);
  return { shape: [count, 1, 1], values: Float32Array.from({ length: count }, (_, map) => sum(map) / size) };
}

function expect(what, wanted, got) {
  if (wanted !== got) throw new Error(`a layer wants ${wanted} ${what}, got ${got}`);
}
