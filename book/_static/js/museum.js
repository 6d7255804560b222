// What both figures of the bug museum share.

/** Put what `build()` returns in the place of the text that stands there without scripts and on paper. */
export function mount(kind, build) {
  for (const root of document.querySelectorAll(`.kd-play[data-figure="${kind}"]:not([data-ready])`)) {
    const figure = build(); // where this fails, the text stays
    root.dataset.ready = '';
    root.append(figure);
  }
}
