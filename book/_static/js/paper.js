// A sheet to draw on with mouse, finger, stylus or keys. It keeps strokes, not pixels: they are drawn as sharp as the
// screen allows, and taken back one by one.

import { SIDE, toDigit } from './digit.js';

export const SIZE = 280; // of the sheet, in its own units
const PEN = 22;
const DIRECTIONS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  Home: [-1, -1], PageUp: [1, -1], End: [-1, 1], PageDown: [1, 1],
};
const STEP = 10;
const LARGE_STEP = 40;
const EMPTY = { example: null, strokes: [] };

/**
 * Makes `canvas` a sheet, and `marker` the sign that shows where the keyboard's pen is. `changed()` is called whenever
 * the drawing has changed, `say(text)` when a listener should hear something. `offered` is an image of 784 grey levels
 * that lies on the sheet until the reader draws.
 *
 * For a screen reader the sheet is a slider of two dimensions: so it hands the arrows on, and reads the pen's place.
 * With the role "application", Orca does neither.
 */
export function makePaper(canvas, marker, { changed, say, offered }) {
  const past = [EMPTY, { example: offered, strokes: [], offered: true }]; // every drawing; the last is on the sheet
  const pen = { x: SIZE / 2, y: SIZE / 4, down: false };
  const reader = sheet(SIZE);
  let stroke = null; // the points of the stroke that is being drawn
  let pointer = null;
  let stylusSeen = false;

  const current = () => past.at(-1);

  function put(drawing) {
    past.push(drawing);
    refresh();
  }

  function begin(point) {
    stroke = [point];
    if (current().offered) past.splice(0, past.length, EMPTY);
    put({ example: current().example, strokes: [...current().strokes, stroke] });
  }

  function extend(point) {
    stroke.push(point);
    refresh();
  }

  function refresh() {
    paint(canvas.getContext('2d'), canvas.width / SIZE, current());
    changed();
  }

  function resize() {
    canvas.width = canvas.height = Math.round(SIZE * Math.max(1, window.devicePixelRatio));
    paint(canvas.getContext('2d'), canvas.width / SIZE, current());
  }

  function lift() {
    pen.down = false;
    stroke = null;
    showPen();
  }

  function showPen() {
    marker.style.setProperty('--x', pen.x / SIZE);
    marker.style.setProperty('--y', pen.y / SIZE);
    marker.classList.toggle('pg-down', pen.down);
    // A number of its own for each place and state: Orca reads the text only when the number has changed.
    canvas.setAttribute('aria-valuenow', 2 * (Math.round(pen.y) * SIZE + Math.round(pen.x)) + Number(pen.down));
    canvas.setAttribute('aria-valuetext', `${whereabouts(pen)}, pen ${pen.down ? 'down' : 'up'}`);
  }

  const paper = {
    undo() {
      lift();
      if (past.length === 1) return say('There is nothing to undo.');
      past.pop();
      refresh();
      say('Undone.');
    },
    clear() {
      lift();
      if (!isEmpty(current())) put(EMPTY);
      say('The paper is empty.');
    },
    /** Puts an image of 784 grey levels on the sheet in place of the drawing. */
    show(example) {
      lift();
      put({ example, strokes: [] });
    },
    /** Puts strokes on the sheet in place of the drawing. Of a series of drawings only the last can be undone. */
    draw(strokes, series = null) {
      lift();
      if (series && current().series === series) past.pop();
      put({ example: null, strokes, series });
    },
    /** Whether the reader has still to begin: the sheet is empty, or has what lay on it. */
    isWaiting() {
      return isEmpty(current()) || Boolean(current().offered);
    },
    /** What the networks get: 784 grey levels, or null for an empty sheet. An untouched example stays as it is. */
    pixels() {
      const drawing = current();
      if (drawing.example && !drawing.strokes.length) return drawing.example;
      if (isEmpty(drawing)) return null;
      paint(reader, 1, drawing);
      const { data } = reader.getImageData(0, 0, SIZE, SIZE);
      return toDigit(Float32Array.from({ length: SIZE * SIZE }, (_, i) => 1 - data[4 * i] / 255), SIZE, SIZE);
    },
  };

  const place = event => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * SIZE) / box.width, y: ((event.clientY - box.top) * SIZE) / box.height };
  };

  canvas.addEventListener('pointerdown', event => {
    // A second finger, or the palm of a hand that holds a stylus, draws nothing.
    stylusSeen ||= event.pointerType === 'pen';
    if (pointer !== null || event.button !== 0 || (stylusSeen && event.pointerType === 'touch')) return;
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    lift();
    begin(place(event));
  });
  canvas.addEventListener('pointermove', event => {
    if (event.pointerId !== pointer) return;
    // The browser reports once a frame; the points in between make the line smooth.
    const between = event.getCoalescedEvents?.() ?? [];
    for (const part of between.length ? between : [event]) stroke?.push(place(part));
    if (stroke) refresh();
  });
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture'])
    canvas.addEventListener(end, event => {
      if (event.pointerId !== pointer) return;
      pointer = stroke = null;
    });

  canvas.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = DIRECTIONS[event.key];
    if (direction) move(direction, event.shiftKey ? LARGE_STEP : STEP);
    else if (event.key === ' ') pen.down ? lift() : lower();
    else if (event.key === 'Escape' && pen.down) lift();
    else if (event.key.toLowerCase() === 'z') paper.undo();
    else if (event.key.toLowerCase() === 'c') paper.clear();
    else return;
    event.preventDefault(); // no scrolling
  });
  canvas.addEventListener('blur', lift);

  function move([right, down], step) {
    const within = value => Math.min(SIZE - PEN / 2, Math.max(PEN / 2, value));
    const [x, y] = [within(pen.x + right * step), within(pen.y + down * step)];
    if (x === pen.x && y === pen.y) return say('Edge.');
    Object.assign(pen, { x, y });
    showPen();
    if (pen.down) extend({ x, y });
  }

  function lower() {
    pen.down = true;
    showPen();
    begin({ x: pen.x, y: pen.y });
  }

  canvas.setAttribute('aria-valuemax', 2 * SIZE * (SIZE + 1));
  window.addEventListener('resize', resize); // also fired by zooming
  resize();
  showPen();
  return paper;
}

/** Draws 784 grey levels, dark on white, over the whole of a square context. */
export function paintImage(context, pixels) {
  const small = sheet(SIDE);
  const image = small.createImageData(SIDE, SIDE);
  pixels.forEach((grey, i) => image.data.set([0, 0, 0, Math.round(255 * grey)], 4 * i));
  small.putImageData(image, 0, 0);
  const { width } = context.canvas;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, width);
  context.imageSmoothingEnabled = false;
  context.drawImage(small.canvas, 0, 0, width, width);
}

function paint(context, scale, { example, strokes }) {
  paintImage(context, example ?? []);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.lineWidth = PEN;
  context.lineCap = context.lineJoin = 'round';
  context.strokeStyle = context.fillStyle = '#000';
  for (const [first, ...rest] of strokes) {
    context.beginPath(); // a dot, since a line of no length is not drawn
    context.arc(first.x, first.y, PEN / 2, 0, 2 * Math.PI);
    context.fill();
    context.beginPath();
    context.moveTo(first.x, first.y);
    for (const { x, y } of rest) context.lineTo(x, y);
    context.stroke();
  }
}

function sheet(size) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = size;
  return canvas.getContext('2d', { willReadFrequently: true });
}

function isEmpty({ example, strokes }) {
  return !example && !strokes.length;
}

function whereabouts({ x, y }) {
  const percent = value => `${Math.round((100 * value) / SIZE)} %`;
  return `${percent(x)} from the left, ${percent(y)} from the top`;
}
