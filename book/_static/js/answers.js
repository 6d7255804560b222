// The table of answers: a column for each network, its soft targets as bars with their numbers.

import { percent, soften } from './probability.js';

/** Two digits that matter: 0.034, 1.2, 15. */
export function duration(milliseconds) {
  return `${Number(milliseconds.toPrecision(2))} ms`;
}

/** Builds the rows in `table`. Logits and milliseconds are read from `networks` when they are to be shown. */
export function fillTable(table, networks, testImages) {
  const head = table.createTHead().insertRow();
  const titles = networks.map(({ key, name }) => cell('th', name, { scope: 'col', className: `pg-${key}` }));
  head.append(cell('td'), ...titles);

  const body = table.createTBody();
  const row = (title, className = '') => {
    const line = body.insertRow();
    line.className = className;
    const cells = networks.map(({ key }) => cell('td', '–', { className: `pg-${key}` }));
    line.append(cell('th', title, { scope: 'row' }), ...cells);
    return cells;
  };
  const fill = (cells, text) => cells.forEach((one, i) => { one.textContent = text(networks[i]); });
  const answered = text => network => (network.logits ? text(network) : '–');

  const answers = row('Answer', 'pg-answer');
  const confidences = row('Confidence at T = 1');
  const title = cell('th', '', { scope: 'rowgroup', colSpan: networks.length + 1 });
  body.insertRow().append(title);
  const shares = Array.from({ length: 10 }, (_, digit) => row(digit, 'pg-share'));
  const times = row('Time per answer', 'pg-first-fact');
  fill(row('Weights, bytes'), ({ bytes }) => bytes.toLocaleString('en'));
  fill(row(`Test errors of ${testImages.toLocaleString('en')}`), network => network.test_errors.stored);

  const bars = shares.map(cells => cells.map(one => {
    const bar = cell('span', '', { className: 'pg-bar' });
    const number = cell('span');
    one.replaceChildren(number, bar);
    return { bar, number };
  }));

  return {
    showAnswers() {
      fill(answers, answered(({ logits }) => best(logits)));
      fill(confidences, answered(({ logits }) => percent(Math.max(...soften(logits)))));
    },
    showSoftTargets(temperature) {
      title.textContent = `Soft targets at T = ${temperature}`;
      networks.forEach(({ logits }, column) => {
        const probabilities = logits && soften(logits, temperature);
        bars.forEach((line, digit) => {
          const { bar, number } = line[column];
          number.textContent = logits ? percent(probabilities[digit]) : '–';
          bar.style.setProperty('--share', logits ? probabilities[digit] : 0);
          shares[digit][column].classList.toggle('pg-best', Boolean(logits) && digit === best(logits));
        });
      });
    },
    showTimes() {
      fill(times, ({ milliseconds }) => duration(milliseconds));
    },
  };
}

function best(logits) {
  return logits.indexOf(Math.max(...logits));
}

function cell(name, text = '', properties = {}) {
  const element = Object.assign(document.createElement(name), properties);
  element.textContent = text;
  return element;
}
