// Chapter 2: move the temperature, and watch a real teacher's soft targets.
import {
  announcer, choice, digitPicture, drawing, element, positionOf, setUp, showTemperature, slider, temperatureAt,
  TEMPERATURES,
} from './figure.js';
import { entropy, percent, soften } from './probability.js';
import { linkButton, numbersIn, settingSent, within } from './setting.js';

/** What the figure says about one answer at one temperature. */
export function describe(logits, label, temperature) {
  const target = soften(logits, temperature);
  const order = target.map((_, i) => i).sort((a, b) => target[b] - target[a]);
  const nats = entropy(logits, temperature);
  return {
    target, nats, order,
    sentence: `At ${showTemperature(temperature)} the soft target gives ${percent(target[order[0]])} to class ${order[0]}`
      + ` and ${percent(target[order[1]])} to class ${order[1]}.`
      + ` The hard label gives 100 % to class ${label}, at every temperature.`
      + ` Entropy ${nats.toFixed(2)} nats of ${Math.log(logits.length).toFixed(2)}: as unsure as between`
      + ` ${Math.exp(nats).toFixed(1)} equally likely classes.`,
  };
}

/** The setting that a text holds: temperature and which of the images; null where it holds none. */
export function read(text, images) {
  const [temperature, image, ...more] = numbersIn(text.split('_'));
  const good = within(0.25, 100)(temperature) && Number.isInteger(image) && within(0, images - 1)(image) && !more.length;
  return good ? { temperature, image } : null;
}

const TOP = 18, BASE = 168, COLUMN = 34;

/** Where the number of a bar stands: above the bar, and above the mark of T = 1 where that would lie on the number. */
export function numberAt(bar, mark) {
  return (bar - 16 < mark && mark < bar ? mark : bar) - 4;
}

function bars(target, plain, label) {
  const width = COLUMN * Math.max(10, target.length);
  const height = share => (BASE - TOP) * share;
  const columns = target.map((share, i) => drawing(
    'g', { transform: `translate(${i * COLUMN} 0)` },
    i === label ? drawing('rect', { class: 'kd-label', x: 3, y: TOP, width: 28, height: BASE - TOP }) : '',
    drawing('rect', { class: 'kd-bar', x: 6, y: BASE - height(share), width: 22, height: height(share) }),
    drawing('path', { class: 'kd-mark', d: `M3 ${BASE - height(plain[i])}h28` }),
    drawing('text', { class: 'kd-value', x: 17, y: numberAt(BASE - height(share), BASE - height(plain[i])) },
      share >= 0.005 ? (100 * share).toFixed(0) : ''),
    drawing('text', { x: 17, y: BASE + 16 }, String(i)),
  ));
  return drawing(
    'svg', { viewBox: `0 0 ${width} ${BASE + 22}`, role: 'img', 'aria-label': 'Soft targets as bars; the numbers are in the table below.' },
    drawing('path', { class: 'kd-axis', d: `M0 ${BASE}h${width}` }), ...columns,
  );
}

function build({ digits, start }, root) {
  const sent = read(settingSent(root), digits.length);
  let image = sent?.image ?? 0, temperature = sent?.temperature ?? start;
  const chart = element('div', { class: 'kd-chart' });
  const picture = element('div', { class: 'kd-picture' });
  const meter = element('div', { class: 'kd-meter', 'aria-hidden': 'true' }, element('span'));
  const sentence = element('p', { class: 'kd-sentence' });
  const table = element('tbody');
  const spoken = announcer();

  function update(aloud = true) {
    const digit = digits[image];
    const { target, nats, sentence: text } = describe(digit.logits, digit.label, temperature);
    const plain = soften(digit.logits);
    chart.replaceChildren(bars(target, plain, digit.label));
    picture.replaceChildren(digitPicture(digit.pixels, 96), element('span', {}, digit.name));
    meter.firstChild.style.width = `${100 * nats / Math.log(target.length)}%`;
    sentence.textContent = text;
    table.replaceChildren(...target.map((share, i) => element(
      'tr', {},
      element('th', { scope: 'row' }, i === digit.label ? `${i} (label)` : String(i)),
      element('td', {}, digit.logits[i].toFixed(2)),
      element('td', {}, percent(plain[i])),
      element('td', {}, percent(share)),
    )));
    if (aloud) spoken.say(`${digit.name}. ${text}`);
  }

  const which = choice({
    legend: 'Which image?', kind: 'kd-digits', start: image,
    options: digits.map((one, i) => [i, digitPicture(one.pixels, 40), one.name]),
    changed: i => { image = i; update(); },
  });
  const heat = slider({
    label: 'Temperature', ...TEMPERATURES, start: positionOf(temperature), read: temperatureAt, show: showTemperature,
    changed: value => { temperature = value; update(); },
  });
  temperature = heat.set(positionOf(temperature)); // one that the slider has
  update(false); // nothing is said unasked
  return element(
    'div', { class: 'kd-figure', role: 'group', 'aria-label': 'Temperature, to play with' },
    which, heat.node,
    element('div', { class: 'kd-beside' }, picture, chart),
    element('p', { class: 'kd-key' },
      element('span', { class: 'kd-swatch kd-bar' }), 'soft target at this T, in % ',
      element('span', { class: 'kd-swatch kd-mark' }), 'at T = 1 ',
      element('span', { class: 'kd-swatch kd-label' }), 'hard label'),
    element('div', { class: 'kd-entropy' }, element('span', {}, `entropy, from 0 to log ${digits[0].logits.length}`), meter),
    sentence, spoken.node,
    element('details', {}, element('summary', {}, 'The numbers'), element(
      'table', {},
      element('thead', {}, element('tr', {}, ...['class', 'logit', 'at T = 1', 'at this T'].map(
        name => element('th', { scope: 'col' }, name)))),
      table,
    )),
    linkButton(root, () => `${temperature}_${image}`),
  );
}

if (typeof document !== 'undefined') setUp('temperature', build);
