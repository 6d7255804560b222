// A figure's setting as a link. It stands in the query of the address, so that the page's anchors stay free. Only the
// site has an address to send: a notebook's is its reader's own, and says nothing to anybody else.
import { element } from './figure.js';

const parameter = kind => `figure-${kind}`; // also the anchor of the figure, see kdutils/play.py
const onSite = root => root.closest('.bd-article') !== null;

/** The address with this setting in it, at the figure's anchor. Everything else that it asks for stays. */
export function addressWith(kind, setting, address) {
  const url = new URL(address);
  url.searchParams.set(parameter(kind), setting);
  url.hash = parameter(kind);
  return url.href;
}

/** What the query of an address says about a figure: any text, since anybody can write a link. */
export function settingIn(query, kind) {
  return new URLSearchParams(query).get(parameter(kind)) ?? '';
}

/** The setting with which a figure has been sent, or nothing. */
export function settingSent(root) {
  return onSite(root) ? settingIn(location.search, root.dataset.figure) : '';
}

/** The numbers of a setting in which they are joined by "_"; NaN for what is none. */
export function numbersIn(texts) {
  return texts.map(text => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : NaN));
}

export const within = (low, high) => number => number >= low && number <= high;

/** A button that copies the link, on the site; elsewhere nothing. `write()` returns the setting. */
export function linkButton(root, write) {
  if (!onSite(root)) return '';
  const said = element('span', { role: 'status' });
  const copy = async () => {
    const address = addressWith(root.dataset.figure, write(), location.href);
    said.textContent = ''; // so that the same words are heard again
    history.replaceState(history.state, '', address);
    try {
      await navigator.clipboard.writeText(address);
      said.textContent = 'Link copied.';
    } catch {
      said.textContent = 'The link is in the address bar: copy it there.';
    }
  };
  const button = element('button', { type: 'button', click: copy }, 'Copy link to this setting');
  return element('div', { class: 'kd-buttons kd-link' }, button, said);
}
