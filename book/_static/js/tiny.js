// A world small enough to watch: points of three classes in a plane, and networks that learn them in the page.
import { soften } from './probability.js';

export const CLASSES = 3;
export const REACH = 1.5; // the plane is shown from -REACH to REACH, both ways
const TURN = 2; // how far an arm turns on its way out, in radians
const SPREAD = 0.7; // of the angle, in radians: the arms overlap, so no network is always right
const MOMENTUM = 0.9;

/** Numbers in [0, 1) that a seed decides (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One number of a normal distribution (Box and Muller). */
function normal(next) {
  return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** Points of a pinwheel: each class is an arm that turns on its way out, and the arms overlap. */
export function makePoints(count, next) {
  return Array.from({ length: count }, () => {
    const label = Math.floor(CLASSES * next());
    const radius = 0.15 + 1.15 * next();
    const angle = (2 * Math.PI * label) / CLASSES + TURN * radius + SPREAD * normal(next);
    return { x: radius * Math.cos(angle), y: radius * Math.sin(angle), label };
  });
}

/** A network with one hidden layer: for each hidden unit two weights in, a bias and three weights out; three biases. */
export function makeNetwork(hidden, next) {
  const unit = () => [2 * normal(next), 2 * normal(next), normal(next),
    ...Array.from({ length: CLASSES }, () => normal(next) / Math.sqrt(hidden))];
  return [...Array.from({ length: hidden }, unit).flat(), ...Array(CLASSES).fill(0)];
}

const UNIT = 3 + CLASSES; // numbers that belong to one hidden unit

function activities(network, { x, y }) {
  const values = [];
  for (let i = 0; i + UNIT <= network.length; i += UNIT)
    values.push(Math.tanh(network[i] * x + network[i + 1] * y + network[i + 2]));
  return values;
}

function output(network, active) {
  const logits = network.slice(-CLASSES);
  active.forEach((value, unit) => {
    for (let k = 0; k < CLASSES; k++) logits[k] += value * network[UNIT * unit + 3 + k];
  });
  return logits;
}

/** The three logits of a network at a point. */
export function answer(network, point) {
  return output(network, activities(network, point));
}

/** Which share of the points a network gets wrong. */
export function wrongShare(network, points) {
  const wrong = points.filter(point => {
    const logits = answer(network, point);
    return logits.indexOf(Math.max(...logits)) !== point.label;
  });
  return wrong.length / points.length;
}

/**
 * The gradient, for all weights, of the mean over the points of T² · KL(target ‖ softmax(logits / T)).
 * With a label as target, all of it on one class, and T = 1 that is the gradient of the usual cross-entropy.
 */
export function gradient(network, points, targets, temperature) {
  const slope = Array(network.length).fill(0);
  const biases = network.length - CLASSES;
  points.forEach((point, i) => {
    const active = activities(network, point);
    const shares = soften(output(network, active), temperature);
    const push = shares.map((share, k) => (temperature * (share - targets[i][k])) / points.length);
    push.forEach((value, k) => { slope[biases + k] += value; });
    active.forEach((value, unit) => {
      const start = UNIT * unit;
      let back = 0;
      for (let k = 0; k < CLASSES; k++) {
        slope[start + 3 + k] += value * push[k];
        back += network[start + 3 + k] * push[k];
      }
      back *= 1 - value * value;
      slope[start] += back * point.x;
      slope[start + 1] += back * point.y;
      slope[start + 2] += back;
    });
  });
  return slope;
}

/** A student with what it is to learn; `learn` goes on from where it stands. */
export function makeLesson(network, points, targets, { temperature, rate }) {
  return { network: [...network], speed: Array(network.length).fill(0), points, targets, temperature, rate };
}

/** Steps of gradient descent with momentum, all points in each of them. Changes the lesson's network. */
export function learn(lesson, steps) {
  const { network, speed, points, targets, temperature, rate } = lesson;
  for (let step = 0; step < steps; step++)
    gradient(network, points, targets, temperature).forEach((slope, i) => {
      speed[i] = MOMENTUM * speed[i] - rate * slope;
      network[i] += speed[i];
    });
}

/** What a label asks for: all of the probability on one class. */
export function labelTargets(points) {
  return points.map(({ label }) => Array.from({ length: CLASSES }, (_, k) => Number(k === label)));
}

/** What a teacher asks for: its own softened answers. */
export function softTargets(teacher, points, temperature) {
  return points.map(point => soften(answer(teacher, point), temperature));
}
