// Chapter 3: move the logits of teacher and student, and watch the losses and the push of the gradient.
import {
  announcer, choice, element, positionOf, setUp, showTemperature, slider, temperatureAt, TEMPERATURES,
} from './figure.js';
import { crossEntropy, entropy, forwardGradient, kl, labelGradient, logSoften, reverseGradient, soften } from './probability.js';

const LOW = -6, HIGH = 6; // ends of a logit's track
const RATE = 2; // of gradient descent; the forward divergence falls at every step up to 4

/** Losses that the figure prints, in nats. P is the teacher's answer, Q the student's, both at temperature T. */
export function losses(teacher, student, label, temperature) {
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

/** The gradient of each loss that can be followed, for the student's logits. */
export const GRADIENTS = {
  'T² · KL(P ‖ Q)': (teacher, student, label, T) => forwardGradient(teacher, student, T).map(g => T * T * g),
  'KL(P ‖ Q), T² forgotten': (teacher, student, label, T) => forwardGradient(teacher, student, T),
  'T² · KL(Q ‖ P), reverse': (teacher, student, label, T) => reverseGradient(teacher, student, T).map(g => T * T * g),
  'the label': (teacher, student, label) => labelGradient(label, student),
};

/** Where one step of gradient descent takes the student. */
export function step(teacher, student, label, temperature, loss) {
  const gradient = GRADIENTS[loss](teacher, student, label, temperature);
  return student.map((logit, i) => Math.min(HIGH, Math.max(LOW, logit - RATE * gradient[i])));
}

function build({ classes, label, situations }) {
  let { teacher, student } = situations[0], temperature = 1, loss = Object.keys(GRADIENTS)[0];
  const place = logit => (logit - LOW) / (HIGH - LOW);
  const spoken = announcer();
  const numbers = element('dl', { class: 'kd-numbers' });

  const handle = (who, i, set) => element('input', {
    type: 'range', min: LOW, max: HIGH, step: 0.1, class: `kd-${who}`, 'aria-label': `${who}’s logit of ${classes[i]}`,
    input: event => { set(Number(event.target.value)); update(); },
  });
  const replaced = (values, i, value) => values.map((old, k) => (k === i ? value : old));
  const rows = classes.map((name, i) => {
    const row = {
      teacher: handle('teacher', i, value => { teacher = replaced(teacher, i, value); }),
      student: handle('student', i, value => { student = replaced(student, i, value); }),
      arrow: element('div', { class: 'kd-arrow', 'aria-hidden': 'true' }),
      shares: element('div', { class: 'kd-shares', 'aria-hidden': 'true' }),
    };
    row.node = element(
      'div', { class: 'kd-class', role: 'group', 'aria-label': name },
      element('span', { class: 'kd-name' }, i === label ? `${name} (label)` : name),
      element('div', { class: 'kd-track' }, row.teacher, row.student, row.arrow),
      row.shares,
    );
    return row;
  });

  function update() {
    const P = soften(teacher, temperature), Q = soften(student, temperature);
    const next = step(teacher, student, label, temperature, loss);
    rows.forEach((row, i) => {
      for (const [who, logits] of [['teacher', teacher], ['student', student]]) {
        row[who].value = logits[i];
        row[who].setAttribute('aria-valuetext', logits[i].toFixed(1));
      }
      const push = next[i] - student[i];
      row.arrow.className = `kd-arrow ${push > 0 ? 'kd-up' : 'kd-down'}`;
      row.arrow.style.setProperty('--from', place(Math.min(student[i], next[i])));
      row.arrow.style.setProperty('--length', Math.abs(push) / (HIGH - LOW));
      row.arrow.hidden = Math.abs(push) < 0.02;
      row.shares.replaceChildren(...[['teacher', P[i]], ['student', Q[i]]].map(([who, share]) => {
        const bar = element('span', { class: `kd-share kd-${who}` });
        bar.style.width = `${100 * share}%`;
        return element('div', {}, bar, element('small', {}, `${(100 * share).toFixed(0)} %`));
      }));
    });
    const all = losses(teacher, student, label, temperature);
    numbers.replaceChildren(...Object.entries(all).map(([name, nats]) => element(
      'div', {}, element('dt', {}, name), element('dd', {}, nats.toFixed(3)))));
    const pushes = next.map((to, i) => to - student[i]);
    const most = pushes.reduce((best, push, i) => (Math.abs(push) > Math.abs(pushes[best]) ? i : best), 0);
    spoken.say(`${showTemperature(temperature)}. `
      + Object.entries(all).map(([name, nats]) => `${name}: ${nats.toFixed(2)}`).join('; ')
      + `. Strongest push: ${classes[most]} ${pushes[most] > 0 ? 'up' : 'down'} by ${Math.abs(pushes[most]).toFixed(2)}.`);
  }

  const heat = slider({
    label: 'Temperature', ...TEMPERATURES, start: positionOf(temperature), read: temperatureAt, show: showTemperature,
    changed: value => { temperature = value; update(); },
  });
  const follow = choice({
    legend: 'The arrows follow', options: Object.keys(GRADIENTS).map(name => [name, name]), start: loss,
    changed: name => { loss = name; update(); },
  });
  const button = (text, click) => element('button', { type: 'button', click }, text);
  const go = count => () => {
    for (let i = 0; i < count; i++) student = step(teacher, student, label, temperature, loss);
    update();
  };
  update();
  return element(
    'div', { class: 'kd-figure', role: 'group', 'aria-label': 'The loss, to play with' },
    element('div', { class: 'kd-buttons' }, element('span', {}, 'Begin with a student that …'),
      ...situations.map(one => button(one.name, () => { ({ teacher, student } = one); update(); }))),
    heat.node, follow,
    element('div', { class: 'kd-classes' }, ...rows.map(row => row.node)),
    element('p', { class: 'kd-key' },
      element('span', { class: 'kd-swatch kd-teacher' }), 'teacher ',
      element('span', { class: 'kd-swatch kd-student' }), 'student. Handles are logits, bars are probabilities at this T. '
        + `An arrow shows where one step of gradient descent takes the student’s logit (learning rate ${RATE}).`),
    element('div', { class: 'kd-buttons' }, button('One step', go(1)), button('Ten steps', go(10))),
    numbers, spoken.node,
  );
}

if (typeof document !== 'undefined') setUp('loss', build);
