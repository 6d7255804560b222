// Chapter 5, the entrance: a training step with a bug and its symptom; the reader clicks the line that is wrong.
import { announcer, element } from './figure.js';
import { CASES, STEP } from './diagnosis-cases.js';
import { mount } from './museum.js';

/** The lines of a case as the reader sees them: each with its text, whether it is wrong, and else why it may stay. */
export function linesOf({ edits }) {
  return STEP.flatMap(([name, text, reason]) => (edits[name] ?? [{ text, wrong: false, reason }]).map(
    line => ({ name, reason: 'This line only changes with the one that is wrong.', ...line })));
}

/** The same lines with the repair. `mark` is "−" for a line that goes, "+" for one that comes, else "". */
export function mend({ edits }) {
  return STEP.flatMap(([name, text]) => (name in edits
    ? [...edits[name].map(line => ({ text: line.text, mark: '−' })), { text, mark: '+' }]
    : [{ text, mark: '' }]));
}

/** What a click on a line is answered. */
export function answer(one, line) {
  return line.wrong ? `Yes, that is the bug. ${one.because}` : `No. ${line.reason}`;
}

/** The score, in words. */
export function score(first, done) {
  return done ? `Found at the first click: ${first} of ${done}.` : '';
}

const code = text => {
  const node = element('code', {}, text.trimStart());
  node.style.setProperty('--indent', text.length - text.trimStart().length);
  return node;
};
const hidden = text => element('span', { class: 'kd-spoken' }, text);

function build() {
  let number = 0, clicks = 0, solved = false, first = 0, done = 0;
  const title = element('p', { class: 'kd-case' });
  const symptom = element('p', { class: 'kd-symptom' });
  const list = element('ol', { class: 'kd-code', 'aria-label': 'The training step' });
  const verdict = element('p', { class: 'kd-verdict', role: 'status' });
  const button = (text, click) => element('button', { type: 'button', click }, text);
  const reveal = button('Show the line', () => finish(`The marked line is wrong. ${CASES[number].because}`));
  const next = button('Next case', () => open((number + 1) % CASES.length));
  const spoken = announcer(200);

  function open(which) {
    if (which === 0) first = done = 0;
    [number, clicks, solved] = [which, 0, false];
    const one = CASES[number];
    symptom.replaceChildren(element('strong', {}, 'Symptom. '), one.symptom);
    list.replaceChildren(...linesOf(one).map(line => element(
      'li', {},
      element('button', { type: 'button', click: event => suspect(event.currentTarget, line) }, code(line.text)))));
    verdict.replaceChildren('Click the line that you suspect.');
    reveal.hidden = false;
    next.textContent = 'Next case';
    showTitle();
  }

  function showTitle() {
    title.textContent = `Case ${number + 1} of ${CASES.length}. ${score(first, done)}`;
  }

  function suspect(button, line) {
    if (solved) return;
    clicks += 1;
    if (line.wrong) {
      finish(answer(CASES[number], line), clicks === 1);
    } else {
      button.parentElement.classList.add('kd-cleared');
      verdict.textContent = answer(CASES[number], line);
    }
  }

  /** Mark what is wrong, show what mends it, and lead to the room. The buttons stay, so that no focus is lost. */
  function finish(sentence, atFirst = false) {
    const one = CASES[number];
    solved = true;
    done += 1;
    first += atFirst;
    let item = list.firstElementChild;
    for (const { text, mark } of mend(one)) {
      if (mark === '+') {
        const repair = element('div', {}, hidden('The repair: '), code(text));
        list.insertBefore(element('li', { class: 'kd-mended' }, repair), item);
        continue;
      }
      item.firstChild.setAttribute('aria-disabled', 'true');
      if (mark) {
        item.className = 'kd-removed';
        item.firstChild.prepend(hidden('Removed: '));
      }
      item = item.nextElementSibling;
    }
    reveal.hidden = true;
    const last = number === CASES.length - 1;
    next.textContent = last ? 'Start again' : 'Next case';
    const door = element('a', { href: `#room-${one.room}` }, `Room ${one.room}: ${one.title}`);
    verdict.replaceChildren(`${sentence} → `, door);
    showTitle();
  }

  next.addEventListener('click', () => spoken.say(`${title.textContent} ${symptom.textContent}`));
  reveal.addEventListener('click', () => next.focus());
  open(0);
  return element(
    'div', { class: 'kd-figure kd-diagnosis', role: 'group', 'aria-label': 'Diagnosis, to play with' },
    title, symptom, list, verdict, element('div', { class: 'kd-buttons' }, reveal, next), spoken.node,
  );
}

if (typeof document !== 'undefined') mount('diagnosis', build);
