// What the networks answer: a table, a sentence, a row of bars for each digit, and the same in numbers. Everywhere the
// networks come in one order. Logits and milliseconds are read from `networks` when they are to be shown.

import { element } from './figure.js';
import { percent, soften } from './probability.js';

const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const NOTHING = '–';

/** Two digits that matter: 0.034, 1.2, 15. */
export function duration(milliseconds) {
  return `${Number(milliseconds.toPrecision(2))} ms`;
}

export function best(logits) {
  return logits.indexOf(Math.max(...logits));
}

/** Who says what, in a sentence; whether the two students differ comes first. */
export function verdict(networks) {
  if (!networks.every(({ logits }) => logits)) return 'Nothing is drawn.';
  const sides = new Map();
  for (const { name, logits } of networks) {
    const answer = best(logits);
    sides.set(answer, [...(sides.get(answer) ?? []), name.toLowerCase()]);
  }
  if (sides.size === 1) return `All of them say ${best(networks[0].logits)}.`;
  const parts = [...sides].map(([answer, names]) => `${list(names)} ${names.length > 1 ? 'say' : 'says'} ${answer}`);
  return `${studentsDiffer(networks) ? 'The two students disagree' : 'Not all agree'}: ${parts.join('; ')}.`;
}

function studentsDiffer(networks) {
  const [first, second] = ['distilled', 'labels'].map(key => networks.find(network => network.key === key)?.logits);
  return Boolean(first && second) && best(first) !== best(second);
}

function list(names) {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** Fills `places`, elements by name: table, verdict, title, chart, numbers and facts. */
export function showNetworks(places, networks, testImages) {
  const answers = makeAnswers(places, networks);
  const showTimes = makeFacts(places.facts, networks, testImages);
  const bars = makeChart(places.chart, networks);
  const numbers = makeNumbers(places.numbers, networks);
  return {
    showAnswers: answers,
    showTimes,
    showSoftTargets(temperature) {
      places.title.textContent = `Soft targets at T = ${temperature}`;
      networks.forEach(({ logits }, i) => {
        const shares = logits && soften(logits, temperature);
        for (const digit of DIGITS) {
          bars[digit][i].style.setProperty('--share', shares ? shares[digit] : 0);
          numbers[digit][i].textContent = shares ? percent(shares[digit]) : NOTHING;
          numbers[digit][i].classList.toggle('pg-best', Boolean(shares) && digit === best(logits));
        }
      });
    },
  };
}

/** A row for each network: how large it is, what it says, and how sure it is. */
function makeAnswers({ table, verdict: sentence }, networks) {
  head(table, ['Network', 'Parameters', 'Answer', 'Confidence at T = 1']);
  const rows = networks.map(network => {
    const answer = element('td', { class: 'pg-answer' });
    const confidence = element('td', { class: 'pg-confidence' });
    row(table, network, element('td', {}, network.parameters.toLocaleString('en')), answer, confidence);
    return { network, answer, confidence };
  });
  return () => {
    for (const { network: { logits }, answer, confidence } of rows) {
      answer.textContent = logits ? best(logits) : NOTHING;
      confidence.textContent = logits ? percent(Math.max(...soften(logits))) : NOTHING;
      answer.classList.toggle('pg-apart', Boolean(logits) && best(logits) !== best(networks[0].logits));
    }
    sentence.textContent = verdict(networks);
    sentence.classList.toggle('pg-apart', studentsDiffer(networks));
  };
}

/** A group of bars for each digit, a bar for each network, all on one scale; `numbers` say the same to a listener. */
function makeChart(chart, networks) {
  const bars = DIGITS.map(() => networks.map(({ key }) => element('span', { class: `pg-bar pg-${key}` })));
  chart.append(...bars.map((group, digit) => element('div', { class: 'pg-group' },
    element('span', {}, digit), element('div', { class: 'pg-bars' }, ...group))));
  const scale = ['0', '50 %', '100 %'].map(text => element('span', {}, text));
  chart.append(element('div', { class: 'pg-scale' }, ...scale));
  return bars;
}

function makeNumbers(table, networks) {
  head(table, ['Digit', ...networks.map(network => network.name)]);
  const body = table.createTBody();
  return DIGITS.map(digit => {
    const cells = networks.map(() => element('td'));
    body.append(element('tr', {}, element('th', { scope: 'row' }, digit), ...cells));
    return cells;
  });
}

/** What each network needs and how often it errs. Returns what fills in the times, once they are measured. */
function makeFacts(table, networks, testImages) {
  const columns = ['Parameters', `Errors of ${testImages.toLocaleString('en')}`, 'Time per answer', 'Bytes'];
  head(table, ['Network', ...columns]);
  const times = networks.map(network => {
    const time = element('td', { class: 'pg-time' }, NOTHING);
    const [parameters, errors, bytes] = [network.parameters, network.test_errors.stored, network.bytes].map(
      number => element('td', {}, number.toLocaleString('en')));
    row(table, network, parameters, errors, time, bytes);
    return time;
  });
  return () => times.forEach((time, i) => { time.textContent = duration(networks[i].milliseconds); });
}

function head(table, titles) {
  table.createTHead().append(element('tr', {}, ...titles.map(title => element('th', { scope: 'col' }, title))));
}

function row(table, { key, name }, ...cells) {
  const body = table.tBodies[0] ?? table.createTBody();
  body.append(element('tr', {}, element('th', { scope: 'row', class: `pg-name pg-${key}` }, name), ...cells));
}
