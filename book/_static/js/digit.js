// A drawing becomes an image as MNIST has them. Its makers fitted each digit into a box of 20×20 pixels, keeping its
// proportions, with grey levels where a pixel is covered in part, and moved its centre of mass to the centre of
// 28×28 pixels (http://yann.lecun.com/exdb/mnist/).

export const SIDE = 28;
const BOX = 20;
const INK = 0.25; // what counts as ink for the box, so that a faint edge does not widen it

/** 784 grey levels in [0, 1] of a drawing whose pixels are 0 (paper) to 1 (ink); null if there is no ink. */
export function toDigit(ink, width, height) {
  const box = boundingBox(ink, width, height);
  if (!box) return null;
  const scale = BOX / Math.max(box.right - box.left, box.bottom - box.top);
  const columns = Math.max(1, Math.round((box.right - box.left) * scale));
  const rows = Math.max(1, Math.round((box.bottom - box.top) * scale));
  const small = shrink(ink, width, box, columns, rows);
  const mass = centreOfMass(small, columns);
  // Whole pixels, as in MNIST's images: there the centre of mass lies somewhere in the pixel right below the middle.
  const left = SIDE / 2 - Math.floor(mass.x);
  const top = SIDE / 2 - Math.floor(mass.y);
  const image = new Float32Array(SIDE * SIDE);
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < columns; x++) {
      const [row, column] = [top + y, left + x];
      if (row >= 0 && row < SIDE && column >= 0 && column < SIDE)
        image[row * SIDE + column] = small[y * columns + x];
    }
  return image;
}

/** The smallest box around all ink, right and bottom exclusive. */
function boundingBox(ink, width, height) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (ink[y * width + x] >= INK) {
        left = Math.min(left, x);
        right = Math.max(right, x + 1);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y + 1);
      }
  return right > left ? { left, top, right, bottom } : null;
}

/** The part of a picture inside `box` at another size: each new pixel is the mean over the area that it covers. */
function shrink(ink, width, box, columns, rows) {
  const across = shares(box.left, box.right, columns);
  const down = shares(box.top, box.bottom, rows);
  return Float32Array.from({ length: columns * rows }, (_, i) => {
    let sum = 0;
    for (const [y, part] of down[Math.floor(i / columns)])
      for (const [x, share] of across[i % columns]) sum += part * share * ink[y * width + x];
    return sum;
  });
}

/** For each of `count` equal pieces of [from, to): the old pixels under it and the share that each has in it. */
function shares(from, to, count) {
  const size = (to - from) / count;
  return Array.from({ length: count }, (_, i) => {
    const [start, end] = [from + i * size, from + (i + 1) * size];
    const under = [];
    for (let old = Math.floor(start); old < Math.min(end, to); old++) {
      const share = (Math.min(end, old + 1) - Math.max(start, old)) / size;
      if (share > 0) under.push([old, share]);
    }
    return under;
  });
}

/** In pixels from the left and upper edge: the middle of the first pixel lies at 0.5. */
function centreOfMass(values, columns) {
  let [total, x, y] = [0, 0, 0];
  values.forEach((value, i) => {
    total += value;
    x += value * ((i % columns) + 0.5);
    y += value * (Math.floor(i / columns) + 0.5);
  });
  return { x: x / total, y: y / total };
}
