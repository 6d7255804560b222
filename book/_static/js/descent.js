// What the figure of the loss computes: losses of a student whose logits are free, and its way down.
import { crossEntropy, entropy, forwardGradient, kl, labelGradient, logSoften, reverseGradient } from './probability.js';

export const LOW = -6, HIGH = 6; // ends of a logit's track
export const RATE = 2; // of gradient descent; the forward divergence falls at every step up to 4

/** Numbers that the figure prints, in nats. P is the teacher's answer, Q the student's, both at temperature T. */
export function losses(student, { teacher, label, temperature }) {
  const forward = kl(teacher, student, temperature);
  return {
    'H(P), the teacher’s entropy': entropy(teacher, temperature),
    'H(P, Q), cross-entropy': crossEntropy(teacher, student, temperature),
    'KL(P ‖ Q), forward': forward,
    'KL(Q ‖ P), reverse': kl(student, teacher, temperature),
    'T² · KL(P ‖ Q)': temperature ** 2 * forward,
    '−log Q of the label, T = 1': -logSoften(student)[label],
  };
}

const squared = {
  value: (student, { teacher, temperature: T }) => T * T * kl(teacher, student, T),
  gradient: (student, { teacher, temperature: T }) => forwardGradient(teacher, student, T).map(g => T * T * g),
};
const hard = {
  value: (student, { label }) => -logSoften(student)[label],
  gradient: (student, { label }) => labelGradient(label, student),
};

/** Losses that a student can follow: value, gradient for its logits, and which printed numbers they are made of. */
export const LOSSES = {
  squared: { name: 'T² · KL(P ‖ Q)', printed: ['T² · KL(P ‖ Q)'], ...squared },
  forgotten: {
    name: 'KL(P ‖ Q), T² forgotten', printed: ['KL(P ‖ Q), forward'],
    value: (student, { teacher, temperature: T }) => kl(teacher, student, T),
    gradient: (student, { teacher, temperature: T }) => forwardGradient(teacher, student, T),
  },
  reverse: {
    name: 'T² · KL(Q ‖ P), reverse', printed: ['KL(Q ‖ P), reverse'],
    value: (student, { teacher, temperature: T }) => T * T * kl(student, teacher, T),
    gradient: (student, { teacher, temperature: T }) => reverseGradient(teacher, student, T).map(g => T * T * g),
  },
  label: { name: 'the label', printed: ['−log Q of the label, T = 1'], ...hard },
  both: {
    name: 'both: w · T² · KL(P ‖ Q) + (1 − w) · label',
    printed: ['T² · KL(P ‖ Q)', '−log Q of the label, T = 1'],
    value: (student, lesson) => lesson.weight * squared.value(student, lesson)
      + (1 - lesson.weight) * hard.value(student, lesson),
    gradient: (student, lesson) => {
      const fromLabel = hard.gradient(student, lesson);
      return squared.gradient(student, lesson).map((g, i) => lesson.weight * g + (1 - lesson.weight) * fromLabel[i]);
    },
  },
};

/** The followed loss of a student. A lesson has `teacher`, `label`, `temperature`, `loss` (a key) and `weight`. */
export const lossOf = (student, lesson) => LOSSES[lesson.loss].value(student, lesson);

/** Where one step of gradient descent takes the student. */
export function step(student, lesson) {
  const gradient = LOSSES[lesson.loss].gradient(student, lesson);
  return student.map((logit, i) => Math.min(HIGH, Math.max(LOW, logit - RATE * gradient[i])));
}

/** A student's way: its logits and its loss at the start and after each step. */
export function descend(student, lesson, steps) {
  const way = [{ student, loss: lossOf(student, lesson) }];
  for (let i = 0; i < steps; i++) {
    student = step(student, lesson);
    way.push({ student, loss: lossOf(student, lesson) });
  }
  return way;
}
