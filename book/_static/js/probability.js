// What the figures to play with compute: the same quantities, under the same names, as in kdutils. Losses in nats.

/** log softmax(logits / T), without overflow however large the logits are. */
export function logSoften(logits, temperature = 1) {
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`temperature must be a finite number above 0, got ${temperature}`);
  const scaled = logits.map(z => z / temperature);
  const top = Math.max(...scaled);
  const logSum = top + Math.log(scaled.reduce((sum, z) => sum + Math.exp(z - top), 0));
  return scaled.map(z => z - logSum);
}

/** softmax(logits / T): soft targets. */
export function soften(logits, temperature = 1) {
  return logSoften(logits, temperature).map(Math.exp);
}

/** Entropy of softmax(logits / T): 0 for a sure answer, log C for a uniform one. */
export function entropy(logits, temperature = 1) {
  return crossEntropy(logits, logits, temperature);
}

/** How surprised `student` is, on average, by what `teacher` draws: -sum p log q. */
export function crossEntropy(teacherLogits, studentLogits, temperature = 1) {
  const p = soften(teacherLogits, temperature);
  const logQ = logSoften(studentLogits, temperature);
  return -p.reduce((sum, share, i) => sum + share * logQ[i], 0);
}

/** KL(first ‖ second) at temperature T, without a factor T². */
export function kl(firstLogits, secondLogits, temperature = 1) {
  const logP = logSoften(firstLogits, temperature);
  const logQ = logSoften(secondLogits, temperature);
  return logP.reduce((sum, log, i) => sum + Math.exp(log) * (log - logQ[i]), 0);
}

/** Gradient of KL(teacher ‖ student) for the student's logits: (q - p) / T. */
export function forwardGradient(teacherLogits, studentLogits, temperature = 1) {
  const p = soften(teacherLogits, temperature);
  return soften(studentLogits, temperature).map((share, i) => (share - p[i]) / temperature);
}

/** Gradient of KL(student ‖ teacher) for the student's logits: q (log(q/p) - KL) / T. */
export function reverseGradient(teacherLogits, studentLogits, temperature = 1) {
  const logP = logSoften(teacherLogits, temperature);
  const logQ = logSoften(studentLogits, temperature);
  const divergence = kl(studentLogits, teacherLogits, temperature);
  return logQ.map((log, i) => (Math.exp(log) * (log - logP[i] - divergence)) / temperature);
}

/** Gradient of the cross-entropy with a label, at T = 1: q minus the label's one-hot vector. */
export function labelGradient(label, studentLogits) {
  return soften(studentLogits).map((share, i) => share - (i === label ? 1 : 0));
}

/** 0.123 is "12.3 %". A softmax reaches neither 0 nor 1: what would be rounded to them is "< 0.1 %" or "> 99.9 %". */
export function percent(share) {
  if (share >= 0.9995) return '> 99.9 %';
  return share < 0.0005 ? '< 0.1 %' : `${(100 * share).toFixed(1)} %`;
}
