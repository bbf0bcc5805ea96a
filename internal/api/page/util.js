// Helpers: elements, texts, times and requests.

import { headers, ask } from './session.js';

// el makes an element. Everything that comes from the site is put in as text,
// never as HTML.
export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// setText touches the document only when something changed.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const upper = new Set(['soc', 'soh', 'pv', 'ac', 'dc', 'bms', 'pcs', 'l1', 'l2', 'l3', 'id', 'ip', 'ev']);

// humanize makes "active_power_l1" readable: "Active power L1".
export function humanize(name) {
  const words = name.split(/[_.-]+/).filter(Boolean).map((w) => (upper.has(w.toLowerCase()) ? w.toUpperCase() : w));
  const text = words.join(' ') || name;
  return text[0].toUpperCase() + text.slice(1);
}

// decimals returns how many decimals n has, at most the six that are stored.
export function decimals(n) {
  const text = n.toFixed(6).replace(/0+$/, '');
  return text.length - text.indexOf('.') - 1;
}

// number writes n with as many decimals as suit its size, but not more than most.
export function number(n, most = decimals(n)) {
  const size = Math.abs(n);
  const suits = size >= 10000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  const text = n.toFixed(Math.min(suits, most));
  return /^-0(\.0*)?$/.test(text) ? text.slice(1) : text.replace('-', '−');
}

// The difference between the site's clock and the browser's, in ms.
let offset = 0;

export function setServerTime(ms) { offset = ms - Date.now(); }

export function now() { return Date.now() + offset; }

// age writes how long ago a time in ms is.
export function age(ms) {
  const s = Math.max(0, Math.round((now() - ms) / 1000));
  if (s < 2) return 'now';
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min';
  if (s < 172800) return Math.floor(s / 3600) + ' h';
  return Math.floor(s / 86400) + ' d';
}

export function ago(ms) {
  const text = age(ms);
  return text === 'now' ? 'just now' : text + ' ago';
}

// clock writes the time of day, with the date where it is not today.
export function clock(iso) {
  const t = new Date(iso);
  if (isNaN(t)) return '';
  const time = t.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
  const today = new Date(now()).toDateString() === t.toDateString();
  return today ? time : t.toLocaleDateString([], { day: 'numeric', month: 'short' }) + ' ' + time;
}

// request sends JSON and returns the answer. A refusal is thrown as an Error
// with the text of the problem, and its members in error.problem.
export async function request(method, path, body) {
  const options = { method, headers: { Accept: 'application/json', ...headers() } };
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error('the site cannot be reached');
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) ask(answer.detail);
  if (!response.ok) {
    const error = new Error(answer.detail || answer.title || 'error ' + response.status);
    error.problem = answer;
    throw error;
  }
  return answer;
}

// operator is the name that the person gave, recorded with what they do.
export function operator() {
  return document.getElementById('operator').value.trim();
}

// remaining writes how long it is until a time.
export function remaining(iso) {
  const s = Math.max(0, Math.round((Date.parse(iso) - now()) / 1000));
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.ceil(s / 60) + ' min';
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return Math.floor(s / 86400) + ' d';
}

// download has the browser keep an answer as a file. A link alone would not carry the
// credential.
export async function download(path) {
  let response;
  let content;
  try {
    response = await fetch(path, { headers: headers() });
    content = await response.blob();
  } catch {
    throw new Error('the file could not be read to its end');
  }
  if (response.status === 401) ask();
  if (!response.ok) throw new Error(JSON.parse(await content.text()).detail || 'error ' + response.status);
  const name = /filename="?([^";]+)/.exec(response.headers.get('Content-Disposition') || '');
  const link = el('a', { href: URL.createObjectURL(content), download: name ? name[1] : 'alarm-journal' });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
