// Digits that the page itself can draw, as strokes on a sheet of 280 by 280.

const points = pairs => pairs.map(([x, y]) => ({ x, y }));

/** A 4, the first `share` of whose open top is closed: at 1 it is a 9. */
export function closingFour(share) {
  const stem = [[185, 60], [180, 240]];
  const open = [[95, 55], [80, 145], [195, 145]];
  const top = [[95, 55], [140, 40], [185, 60]];
  const strokes = [open, stem];
  if (share > 0) strokes.push(firstPart(top, share));
  return strokes.map(points);
}

/** An 8 of two rings; `size` 1 fills the sheet, and (x, y) is its middle. */
export function eight({ size = 1, x = 140, y = 140 } = {}) {
  const ring = (middle, across, down, start) => Array.from({ length: 25 }, (_, i) => {
    const angle = start + (2 * Math.PI * i) / 24;
    return [x + size * across * Math.cos(angle), y + size * (middle + down * Math.sin(angle))];
  });
  return [points([...ring(-48, 45, 45, Math.PI / 2), ...ring(48, 55, 50, -Math.PI / 2)])];
}

/** The beginning of a line through `corners`, up to a share of its length. */
function firstPart(corners, share) {
  const lengths = corners.slice(1).map(([x, y], i) => Math.hypot(x - corners[i][0], y - corners[i][1]));
  let left = share * lengths.reduce((a, b) => a + b, 0);
  const part = [corners[0]];
  for (const [i, length] of lengths.entries()) {
    if (left <= 0) break;
    const step = Math.min(1, left / length);
    part.push([0, 1].map(axis => corners[i][axis] + step * (corners[i + 1][axis] - corners[i][axis])));
    left -= length;
  }
  return part;
}
