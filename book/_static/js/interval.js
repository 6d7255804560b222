// Student's t interval of a mean, as kdutils.mean_interval computes it.

const NORMAL = 1.959963985; // the normal distribution leaves 2.5 % above it
const FEW = [12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912]; // t with 1 to 6 degrees of freedom

/** The number that Student's t with so many degrees of freedom exceeds in 2.5 % of all cases. */
export function studentT(freedom) {
  if (freedom <= FEW.length) return FEW[freedom - 1];
  const z = NORMAL; // Cornish and Fisher's series in 1 / freedom
  return z + (z ** 3 + z) / (4 * freedom)
    + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2)
    + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * freedom ** 3);
}

/** Mean and 95 % interval; one value alone has no spread, and so no interval. */
export function meanInterval(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length < 2) return { mean };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const half = studentT(values.length - 1) * Math.sqrt(squares / (values.length - 1) / values.length);
  return { mean, low: mean - half, high: mean + half };
}
