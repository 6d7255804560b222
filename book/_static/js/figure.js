// Pieces that the figures to play with share. Native inputs throughout: they bring the keyboard and the screen
// reader with them.

/** An HTML element; attributes whose value is a function become event listeners. */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function drawing(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/**
 * Put what `build(data, root)` returns in the place of the still picture, for every figure of this kind.
 * A notebook may show one output twice, and each script of a page looks at all figures: those done are marked.
 * The still picture stays in the page, hidden: on paper it comes back, since there nothing can be moved.
 */
export function setUp(kind, build) {
  for (const root of document.querySelectorAll(`.kd-play[data-figure="${kind}"]:not([data-ready])`)) {
    const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
    const figure = build(data, root); // where this fails, the still picture stays
    root.dataset.ready = '';
    root.append(figure);
  }
}

/** A labelled slider. `read(position)` turns the input's number into the quantity, `show(quantity)` into words. */
export function slider({ label, min, max, step, start, read = Number, show, changed }) {
  const seen = element('span', { 'aria-hidden': 'true' }); // what is heard is the input's own text
  const input = element('input', { type: 'range', min, max, step, value: start });
  const update = () => {
    const value = read(Number(input.value));
    seen.textContent = show(value);
    input.setAttribute('aria-valuetext', show(value));
    return value;
  };
  input.addEventListener('input', () => changed(update()));
  update();
  const set = position => { input.value = position; return update(); };
  return { node: element('label', { class: 'kd-slider' }, `${label} `, seen, input), input, set };
}

/** Temperatures from 0.25 to 100 on a logarithmic slider: 0 is T = 1. Two digits are enough. */
export const TEMPERATURES = { min: -0.6, max: 2, step: 0.05 };
export const temperatureAt = position => Number((10 ** position).toPrecision(2));
export const positionOf = temperature => Math.log10(temperature);
export const showTemperature = temperature => `T = ${temperature < 10 ? temperature.toFixed(temperature < 1 ? 2 : 1) : temperature}`;

/** One of several, as radio buttons in a group with a legend. `options` are [value, content, spoken name]. */
export function choice({ legend, options, start, changed, kind = 'kd-choice' }) {
  const group = `kd-${Math.random().toString(36).slice(2)}`; // radio buttons belong together by a name of their own
  const buttons = options.map(([value, content, spoken]) => element(
    'label', {},
    element('input', {
      type: 'radio', name: group, value, checked: value === start, 'aria-label': spoken,
      change: () => changed(value),
    }),
    content,
  ));
  return element('fieldset', { class: kind }, element('legend', {}, legend), ...buttons);
}

/** A region that a screen reader reads when it has been quiet for a moment, not at every step of a slider. */
export function announcer(pause = 700) {
  const node = element('div', { class: 'kd-spoken', 'aria-live': 'polite' });
  let timer;
  const say = text => {
    clearTimeout(timer);
    timer = setTimeout(() => { node.textContent = text; }, pause);
  };
  return { node, say };
}

/** A 28×28 picture from 784 bytes in base64, dark ink on white paper. */
export function digitPicture(pixels, size) {
  const bytes = Uint8Array.from(atob(pixels), character => character.charCodeAt(0));
  const canvas = element('canvas', { width: 28, height: 28, class: 'kd-digit', 'aria-hidden': 'true' });
  canvas.style.width = canvas.style.height = `${size}px`;
  const context = canvas.getContext('2d');
  const picture = context.createImageData(28, 28);
  bytes.forEach((ink, i) => picture.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * i));
  context.putImageData(picture, 0, 0);
  return canvas;
}
