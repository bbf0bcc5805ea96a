// A control: its last value, an input, and how the last command went.

import { el, setText, humanize, number, request, operator } from './util.js';
import { may } from './session.js';

const pollEvery = 1500; // ms
const words = {
  queued: 'queued…', executing: 'executing…', verified: 'verified', executed: 'executed', failed: 'failed',
  expired: 'expired', rejected: 'rejected', cancelled: 'cancelled', superseded: 'superseded', unknown: 'unknown',
};

export function isFinal(state) { return state !== 'queued' && state !== 'executing' && state !== ''; }

// chip shows the state of a command.
export function chip(state) {
  return el('span', { class: 'chip ' + state }, words[state] || state);
}

export class ControlRow {
  constructor(model, name, point) {
    this.model = model;
    this.name = name;
    this.point = point || {};
    this.pending = null; // the id of the command that is shown
    this.current = el('span', { class: 'value' });
    this.input = this.makeInput();
    this.button = el('button', { type: 'submit', 'data-operate': true }, 'Send');
    this.button.setAttribute('aria-label', `Send ${humanize(name)} to ${model.name}`);
    this.status = el('div', { class: 'status', role: 'status' });
    const fields = el('fieldset', { disabled: !model.enabled }, this.input, this.button);
    this.node = el('form', { class: 'control', novalidate: true, onsubmit: (event) => { event.preventDefault(); this.send(); } },
      el('div', { class: 'head' }, el('span', { title: name }, humanize(name)), el('span', { class: 'now' }, this.current)),
      fields, this.status);
    this.update(null);
  }

  makeInput() {
    const { labels, min, max, step } = this.point;
    const label = `New value of ${humanize(this.name)}`;
    const onOff = min === 0 && max === 1 && step === 1 ? { 0: 'Off', 1: 'On' } : undefined;
    this.labels = labels || onOff;
    if (this.labels) {
      return el('select', { 'aria-label': label, 'data-operate': true },
        el('option', { value: '' }, 'Choose…'),
        ...Object.entries(this.labels).map(([value, text]) => el('option', { value }, text)));
    }
    return el('input', {
      type: 'number', inputmode: 'decimal', step: 'any', min, max, 'aria-label': label, 'data-operate': true, autocomplete: 'off',
      placeholder: this.range(),
    });
  }

  range() {
    const { min, max, unit } = this.point;
    const tail = unit ? ' ' + unit : '';
    if (min === undefined && max === undefined) return unit || 'value';
    if (max === undefined) return `from ${number(min)}${tail}`;
    if (min === undefined) return `up to ${number(max)}${tail}`;
    return `${number(min)} … ${number(max)}${tail}`;
  }

  text(value, unit) {
    if (value === null || value === undefined) return '—';
    const label = this.labels && this.labels[value];
    if (label) return label;
    return (typeof value === 'number' ? number(value) : value) + (unit ? ' ' + unit : '');
  }

  update(v) { setText(this.current, v ? this.text(v.value, v.unit || this.point.unit) : '—'); }

  tick() {}

  show(state, ...rest) { this.status.replaceChildren(...(state ? [chip(state)] : []), ...rest); }

  async send() {
    const text = this.input.value.trim();
    const value = Number(text);
    if (text === '' || !Number.isFinite(value)) {
      this.show('', el('span', { class: 'trouble' }, this.labels ? 'Choose a value.' : 'Enter a number.'));
      this.input.focus();
      return;
    }
    this.button.disabled = true;
    this.show('queued', ' ' + this.text(value, this.point.unit));
    const body = { value };
    if (operator()) body.user = operator();
    try {
      const path = `models/${encodeURIComponent(this.model.id)}/control/${encodeURIComponent(this.name)}?wait=0`;
      const result = await request('POST', path, body);
      // Its transitions may have come over the WebSocket already.
      const known = this.early && this.early.id === result.id ? this.early : result;
      this.pending = result.id;
      this.command(known);
      this.poll(result.id, Date.parse(result.deadline));
    } catch (error) {
      const refused = error.problem && error.problem.command;
      this.show(refused ? refused.state : '', el('span', { class: 'trouble' }, refused ? ' ' + (refused.detail || refused.reason || '') : error.message));
    } finally {
      this.button.disabled = document.body.dataset.link !== 'live' || !may('operator');
    }
  }

  // command shows a transition of the command that was sent from here. Others are
  // kept: it may be that the answer to this one's POST is still on its way.
  command(result) {
    if (result.id !== this.pending) {
      this.early = result;
      return;
    }
    if (isFinal(this.shown) && this.shownID === result.id && !(this.shown === 'unknown' && isFinal(result.state))) return;
    this.shown = result.state;
    this.shownID = result.id;
    const details = [' ' + this.text(result.value, this.point.unit)];
    if (result.state === 'verified' && result.read_back !== undefined) details.push(', reads ' + this.text(result.read_back, this.point.unit));
    const why = result.detail || result.reason;
    if (why) details.push(el('span', { class: 'trouble' }, ' ' + why));
    this.show(result.state, ...details);
  }

  // poll asks for the command's state, in case the WebSocket drops meanwhile.
  poll(id, deadline) {
    setTimeout(async () => {
      if (this.pending !== id || (isFinal(this.shown) && this.shownID === id)) return;
      try {
        this.command(await request('GET', 'commands/' + encodeURIComponent(id)));
      } catch {
        // The next time, or the WebSocket, will tell.
      }
      if (!(Date.now() > deadline + 30000)) this.poll(id, deadline);
    }, pollEvery);
  }
}
