// Who uses the page: the credential, kept in this tab alone, and the form that asks
// for it where the site wants one.

import { el, setText } from './util.js';

const $ = (id) => document.getElementById(id);
let token = '';
try { token = sessionStorage.getItem('credential') || ''; } catch { /* it is kept until the page is left */ }
let waiting = null; // the page that waits for a login

// who is what the site says of the credential: name, role, and whether it wants one.
export let who = { name: '', role: '', login: false };

const ranks = ['viewer', 'operator', 'engineer', 'admin'];
export function may(role) { return ranks.indexOf(who.role) >= ranks.indexOf(role); }

// headers returns what every request carries.
export function headers() { return token ? { Authorization: 'Bearer ' + token } : {}; }

// protocols returns what a WebSocket carries: a browser sets no headers on one, and
// in an address the credential would end up in logs.
export function protocols() {
  if (!token) return ['voltage'];
  const bytes = String.fromCharCode(...new TextEncoder().encode(token));
  return ['voltage', 'voltage.bearer.' + btoa(bytes).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')];
}

function keep(text) {
  token = text;
  try {
    if (text) sessionStorage.setItem('credential', text);
    else sessionStorage.removeItem('credential');
  } catch { /* it is kept until the page is left */ }
}

// enter returns when the site knows who asks; until then it shows the form. It
// throws when the site cannot be reached.
export async function enter() {
  const response = await fetch('session', { headers: headers() });
  if (response.ok) {
    who = await response.json();
    show();
    return;
  }
  const problem = await response.json().catch(() => ({}));
  if (response.status !== 401) throw new Error(problem.detail || 'error ' + response.status);
  const had = token !== '';
  keep('');
  await ask(had ? problem.detail : '');
}

// ask shows the form and waits until somebody is let in.
export function ask(reason) {
  waiting ||= new Promise((resolve) => {
    const input = el('input', { type: 'password', id: 'credential', autocomplete: 'current-password', required: true, maxlength: 8192 });
    const trouble = el('p', { class: 'trouble', role: 'alert' });
    const button = el('button', { type: 'submit' }, 'Log in');
    const form = el('form', { class: 'panel login', id: 'login', 'aria-label': 'Log in', onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      keep(input.value.trim());
      try {
        const response = await fetch('session', { headers: headers() });
        const answer = await response.json();
        if (!response.ok) throw new Error(answer.detail || 'error ' + response.status);
        who = answer;
        form.remove();
        waiting = null;
        show();
        resolve();
      } catch (error) {
        keep('');
        input.value = '';
        setText(trouble, error.message[0].toUpperCase() + error.message.slice(1) + '.');
        button.disabled = false;
        input.focus();
      }
    } }, el('h2', {}, 'Log in'), el('label', { for: 'credential' }, 'API key or token'), input, trouble, button,
    el('p', { class: 'muted' }, 'It is kept in this tab until you log out or close it.'));
    setText(trouble, reason ? reason[0].toUpperCase() + reason.slice(1) + '.' : '');
    document.body.dataset.link = 'login';
    document.querySelector('main').before(form);
    input.focus();
  });
  return waiting;
}

// show tells who is logged in. A name that anybody may type is asked for only where
// there is no credential to tell it.
function show() {
  $('operator').parentNode.hidden = who.login || !may('operator');
  $('who').hidden = !who.login;
  document.body.dataset.role = who.role; // what the role does not allow is not shown
  setText($('who-name'), `${who.name} (${who.role})`);
}

export function logout() {
  keep('');
  location.reload();
}
