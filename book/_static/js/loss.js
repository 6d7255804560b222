// Move the logits of teacher and student, watch the losses and the push of the gradient, let the student learn.
import { descend, HIGH, LOSSES, losses, LOW, RATE, step } from './descent.js';
import {
  announcer, choice, drawing, element, positionOf, setUp, showTemperature, slider, temperatureAt, TEMPERATURES,
} from './figure.js';
import { soften } from './probability.js';
import { linkButton, numbersIn, settingSent, within } from './setting.js';

const LESSON = 100; // steps of the button that follows
const LEARN = 'Let the student learn';

/** A setting as text: temperature, loss, weight, the teacher's logits, the student's. */
export function write({ temperature, loss, weight, teacher }, student) {
  const logits = [...teacher, ...student].map(logit => Number(logit.toFixed(2)));
  return [temperature, loss, weight, ...logits].join('_');
}

/** The setting that a text holds, for so many classes; null where it holds none. */
export function read(text, classes) {
  const [T, loss, w, ...rest] = text.split('_');
  const [temperature, weight, ...logits] = numbersIn([T, w, ...rest]);
  const good = Object.hasOwn(LOSSES, loss) && within(0.25, 100)(temperature) && within(0, 1)(weight)
    && logits.length === 2 * classes && logits.every(within(LOW, HIGH));
  return good ? { temperature, loss, weight, teacher: logits.slice(0, classes), student: logits.slice(classes) } : null;
}

/** A loss with three decimals, a small one with two digits. */
export function nats(loss) {
  if (loss >= 0.1) return loss.toFixed(3);
  return loss < 0.0001 ? (loss === 0 ? '0' : '< 0.0001') : loss.toPrecision(2);
}

/** How far a step goes: two decimals, or the first digit that is not zero. */
export function distance(length) {
  const far = Math.abs(length);
  if (far < 0.000001) return '0';
  return far < 0.1 ? String(Number(far.toPrecision(1))) : far.toFixed(2);
}

/** The same with the direction. */
export function stepText(length) {
  const far = distance(length);
  return far === '0' ? far : (length > 0 ? '+' : '−') + far;
}

/** What a way comes to, in words. */
export function tell(way, name) {
  const steps = way.length - 1, now = nats(way.at(-1).loss);
  if (!steps) return `${name}: ${now}. No step taken yet.`;
  return `${name}: ${now} after ${steps} ${steps > 1 ? 'steps' : 'step'}; at the start ${nats(way[0].loss)}.`;
}

const ENDS = [10, 20, 50, 100, 200, 500];
/** Where the axis of steps ends. */
export const endFor = steps => ENDS.find(end => end >= steps) ?? Math.ceil(steps / 1000) * 1000;

// A unit square, stretched over its place; lines keep their width.
const stretched = (attributes, ...children) => drawing(
  'svg', { viewBox: '0 0 1 1', preserveAspectRatio: 'none', ...attributes }, ...children);

/** The loss after each step, down to zero. */
function makeCurve() {
  const line = drawing('path', { class: 'kd-line' }), here = drawing('path', { class: 'kd-here' });
  const [top, end] = [element('span'), element('span')];
  const node = element(
    'div', { class: 'kd-curve' }, top, element('span', {}, 'loss'), element('span', {}, '0'),
    stretched({ role: 'img', 'aria-label': 'Loss after each step; its values are in the sentence above.' }, line, here),
    element('div', {}, element('span', {}, '0'), element('span', {}, 'steps'), end),
  );
  const show = (way, planned) => {
    const most = Math.max(...way.map(({ loss }) => loss)), last = endFor(planned);
    const at = ({ loss }, i) => `${i / last} ${most > 0 ? 1 - loss / most : 1}`;
    line.setAttribute('d', `M${way.map(at).join('L')}`);
    here.setAttribute('d', `M${at(way.at(-1), way.length - 1)}h0`);
    top.textContent = nats(most);
    end.textContent = last;
  };
  return { node, show };
}

/** Takes steps one after the other, `pace` milliseconds apart, or all at once where motion is not wanted. */
function makePlayer(take) {
  let left = 0, frame;
  const stop = () => {
    cancelAnimationFrame(frame);
    left = 0;
  };
  const play = (steps, pace) => {
    stop();
    left = steps;
    if (!pace || matchMedia('(prefers-reduced-motion: reduce)').matches) {
      left = 0;
      return take(steps);
    }
    let begun;
    const show = now => {
      begun ??= now;
      const due = Math.min(steps, Math.floor((now - begun) / pace)) - (steps - left);
      left -= due;
      if (due) take(due);
      if (left) frame = requestAnimationFrame(show);
    };
    frame = requestAnimationFrame(show);
  };
  return { play, stop, left: () => left };
}

const place = logit => (logit - LOW) / (HIGH - LOW);

/** A class: both handles, the student's trail and its next step, and both probabilities. */
function makeRow(name, isLabel, moved) {
  const handle = who => element('input', {
    type: 'range', min: LOW, max: HIGH, step: 0.1, class: `kd-${who}`, 'aria-label': `${who}’s logit of ${name}`,
    input: event => moved(who, Number(event.target.value)),
  });
  const handles = { teacher: handle('teacher'), student: handle('student') };
  const trail = drawing('path');
  const arrow = element('div', { 'aria-hidden': 'true' });
  const shares = element('div', { class: 'kd-shares', 'aria-hidden': 'true' });
  const node = element(
    'div', { class: 'kd-class', role: 'group', 'aria-label': name },
    element('span', { class: 'kd-name' }, isLabel ? `${name} (label)` : name),
    element('div', { class: 'kd-track' },
      stretched({ class: 'kd-trail', 'aria-hidden': 'true' }, trail), handles.teacher, handles.student, arrow),
    shares,
  );
  const bar = (who, share) => {
    const length = element('span', { class: `kd-share kd-${who}` });
    length.style.width = `${100 * share}%`;
    return element('div', {}, length, element('small', {}, `${(100 * share).toFixed(0)} %`));
  };
  /** `logits` and `probabilities` of teacher and student, the student's logits so far, and where the next step goes. */
  const show = (logits, probabilities, past, next) => {
    for (const who of ['teacher', 'student']) {
      handles[who].value = logits[who];
      handles[who].setAttribute('aria-valuetext', logits[who].toFixed(1));
    }
    trail.setAttribute('d', past.map(logit => `M${place(logit)} 0v1`).join(''));
    const push = next - logits.student;
    arrow.className = `kd-arrow ${push > 0 ? 'kd-up' : 'kd-down'}`;
    arrow.style.setProperty('--from', place(Math.min(logits.student, next)));
    arrow.style.setProperty('--length', Math.abs(push) / (HIGH - LOW));
    arrow.hidden = distance(push) === '0';
    shares.replaceChildren(
      bar('teacher', probabilities.teacher), bar('student', probabilities.student),
      element('small', { class: 'kd-step' }, `step ${stepText(push)}`));
  };
  return { node, show };
}

const replaced = (values, i, value) => values.map((old, k) => (k === i ? value : old));

function build({ classes, label, situations }, root) {
  const { student: atStart, ...lesson } = {
    label, temperature: 1, loss: 'squared', weight: 0.9, ...situations[0], ...read(settingSent(root), classes.length),
  };
  let student = atStart, way;
  const player = makePlayer(take);
  const spoken = announcer();
  const numbers = element('dl', { class: 'kd-numbers' });
  const sentence = element('p', { class: 'kd-way' });
  const curve = makeCurve();
  const rows = classes.map((name, i) => makeRow(name, i === label, (who, value) => {
    if (who === 'teacher') lesson.teacher = replaced(lesson.teacher, i, value);
    else student = replaced(student, i, value);
    begin();
  }));

  /** A new way begins where the student is now. */
  function begin(aloud = true) {
    player.stop();
    way = descend(student, lesson, 0);
    update(aloud);
  }

  function update(aloud = true) {
    const { teacher, temperature } = lesson, { name, printed } = LOSSES[lesson.loss];
    const P = soften(teacher, temperature), Q = soften(student, temperature), next = step(student, lesson);
    rows.forEach((row, i) => row.show(
      { teacher: teacher[i], student: student[i] }, { teacher: P[i], student: Q[i] },
      way.map(one => one.student[i]), next[i]));
    const all = losses(student, lesson);
    numbers.replaceChildren(...Object.entries(all).map(([printedName, value]) => element(
      'div', { class: printed.includes(printedName) ? 'kd-followed' : undefined },
      element('dt', {}, printedName), element('dd', {}, nats(value)))));
    sentence.textContent = tell(way, name);
    curve.show(way, way.length - 1 + player.left());
    learn.textContent = player.left() ? 'Stop' : LEARN;
    weight.node.hidden = lesson.loss !== 'both';
    if (!aloud) return;
    const pushes = next.map((to, i) => to - student[i]);
    const most = pushes.reduce((best, push, i) => (Math.abs(push) > Math.abs(pushes[best]) ? i : best), 0);
    spoken.say(`${way.length > 1 ? `${tell(way, name)} ` : ''}${showTemperature(temperature)}. `
      + Object.entries(all).map(([printedName, value]) => `${printedName}: ${nats(value)}`).join('; ')
      + `. Longest step: ${classes[most]} ${pushes[most] > 0 ? 'up' : 'down'} by ${distance(pushes[most])}.`);
  }

  /** What is seen step by step is heard once, at the end. */
  function take(steps) {
    way.push(...descend(student, lesson, steps).slice(1));
    student = way.at(-1).student;
    update(player.left() === 0);
  }

  function learnOrStop() {
    if (!player.left()) return go(LESSON, 40);
    player.stop();
    update();
  }

  function go(steps, pace) {
    player.play(steps, pace);
    if (player.left()) update(false);
  }

  const heat = slider({
    label: 'Temperature', ...TEMPERATURES, start: positionOf(lesson.temperature), read: temperatureAt, show: showTemperature,
    changed: value => { lesson.temperature = value; begin(); },
  });
  lesson.temperature = heat.set(positionOf(lesson.temperature)); // one that the slider has
  const follow = choice({
    legend: 'The arrows follow', options: Object.entries(LOSSES).map(([key, { name }]) => [key, name]), start: lesson.loss,
    changed: key => { lesson.loss = key; begin(); },
  });
  const weight = slider({
    label: 'Soft weight', min: 0, max: 1, step: 0.05, start: lesson.weight, show: value => `w = ${value.toFixed(2)}`,
    changed: value => { lesson.weight = value; begin(); },
  });
  lesson.weight = weight.set(lesson.weight);
  const button = (text, click, kind) => element('button', { type: 'button', class: kind, click }, text);
  const learn = button(LEARN, learnOrStop, 'kd-learn');
  begin(false); // nothing is said unasked
  return element(
    'div', { class: 'kd-figure', role: 'group', 'aria-label': 'The loss, to play with' },
    element('div', { class: 'kd-buttons kd-begin' }, element('span', {}, 'Begin with a student that …'),
      ...situations.map(situation => button(situation.name, () => {
        ({ teacher: lesson.teacher, student } = situation);
        begin();
      }))),
    follow, weight.node, heat.node,
    element('div', { class: 'kd-buttons' },
      button('One step', () => go(1)), button('Ten steps', () => go(10, 120)), learn),
    sentence,
    element('div', { class: 'kd-classes' }, ...rows.map(row => row.node)),
    curve.node,
    element('p', { class: 'kd-key' },
      element('span', { class: 'kd-swatch kd-teacher' }), 'teacher ',
      element('span', { class: 'kd-swatch kd-student' }), 'student. Handles are logits, bars are probabilities at this T. '
        + `An arrow shows one step of gradient descent (learning rate ${RATE}), thin lines the steps taken.`),
    numbers, linkButton(root, () => write(lesson, student)), spoken.node,
  );
}

if (typeof document !== 'undefined') setUp('loss', build);
