// One alarm: what it is, how it stands, and what a person can do about it.

import { el, setText, humanize, number, clock, remaining, request, operator } from './util.js';

const states = { active: 'unacknowledged', acknowledged: 'acknowledged', cleared: 'returned, unacknowledged', latched: 'latched', closed: 'closed' };
const periods = [[15, '15 min'], [60, '1 h'], [240, '4 h'], [480, '8 h'], [1440, '1 day'], [10080, '7 days']];

export function unacknowledged(a) {
  return !a.suppression && (a.status === 'active' || a.status === 'cleared' || (a.status === 'latched' && !a.acknowledged_at));
}

// limit writes the condition that was met.
function limit(a) {
  switch (a.operator) {
    case 'in_range': case 'out_of_range': return `limits ${number(a.threshold)} … ${number(a.high || 0)}`;
    case 'deviation': return `allowed deviation ${number(a.threshold)}`;
    case 'rate': return `limit ${number(a.threshold)} per second`;
    case 'bit_set': case 'bit_clear': return `bit ${a.threshold}`;
    case 'change': case 'stale': case 'bad_quality': case 'offline': return '';
    default: return `limit ${number(a.threshold)}`;
  }
}

// AlarmItem keeps its node while the alarm changes, for a person may be typing in it.
export class AlarmItem {
  // panel has names and comment(), and is told by changed() of what was done.
  constructor(panel) {
    this.panel = panel;
    this.chips = el('div', { class: 'chips' });
    this.severity = el('span', { class: 'severity' });
    this.time = el('time', { class: 'muted right' });
    this.message = el('p', { class: 'message' });
    this.facts = el('p', { class: 'muted' });
    this.why = el('p', { class: 'muted' });
    this.problem = el('p', { class: 'trouble', role: 'alert', hidden: true });
    this.actions = el('div', { class: 'actions' });
    this.form = this.makeForm();
    this.node = el('article', {}, el('div', { class: 'line' }, this.severity, this.time), this.message, this.chips, this.facts, this.why,
      this.problem, this.actions, this.form);
  }

  update(a) {
    const text = JSON.stringify(a) + (this.panel.names[a.model_id] || '');
    if (this.text === text) return;
    this.text = text;
    this.alarm = a;
    this.node.className = ['alarm', a.severity, a.status, a.suppression ? 'quiet' : ''].join(' ').trim();
    this.title = a.message || `${humanize(a.point_name)} is ${number(a.value)}`;
    setText(this.severity, a.severity);
    setText(this.time, clock(a.timestamp));
    this.time.setAttribute('datetime', a.timestamp);
    this.time.title = a.device_time ? `device time ${a.device_time}` : a.timestamp;
    setText(this.message, this.title);
    setText(this.facts, [this.panel.names[a.model_id] || a.model_id, humanize(a.point_name), 'value ' + number(a.value), limit(a),
      a.count > 1 && `${a.count} times`, a.acknowledged_by && `by ${a.acknowledged_by}`, a.comment].filter(Boolean).join(' · '));
    setText(this.why, [a.suppressed_by, a.reason].filter(Boolean).join(': '));
    this.why.hidden = !this.why.textContent;
    this.actions.replaceChildren(...this.buttons(a));
    if (a.suppression === 'out_of_service') this.form.hidden = true;
    this.tick();
  }

  // tick writes the states anew, of which one has a time that runs.
  tick() {
    const a = this.alarm;
    const words = [[a.status, states[a.status] || a.status]];
    if (a.suppression === 'shelved') words.push(['shelved', a.shelved_until ? `shelved, ${remaining(a.shelved_until)} left` : 'shelved']);
    if (a.suppression === 'out_of_service') words.push(['shelved', 'out of service']);
    if (a.suppression === 'suppressed') words.push(['shelved', 'suppressed by design']);
    if (a.quality) words.push(['held', `held: ${a.quality}`]);
    if (a.chattering) words.push(['held', 'chattering']);
    const text = JSON.stringify(words);
    if (this.words === text) return;
    this.words = text;
    this.chips.replaceChildren(...words.map(([kind, word]) => el('span', { class: 'chip ' + kind }, word)));
  }

  buttons(a) {
    const button = (text, does, more) => el('button', { type: 'button', 'data-operate': true, 'aria-label': `${text}: ${this.title}`, onclick: does, ...more }, text);
    const quiet = { class: 'quiet' };
    const engineer = { class: 'quiet', 'data-engineer': true };
    return [
      a.status === 'active' || a.status === 'cleared' || (a.status === 'latched' && !a.acknowledged_at)
        ? button('Acknowledge', () => this.act('ack', { comment: this.panel.comment() })) : null,
      a.status === 'latched' ? button('Reset', () => this.act('reset', { comment: this.panel.comment() })) : null,
      a.suppression === 'shelved' ? button('Unshelve', () => this.act('unshelve', { comment: this.panel.comment() }), quiet) : null,
      a.suppression === 'out_of_service' ? button('In service', () => this.act('in-service', { comment: this.panel.comment() }), engineer)
        : button('Shelve…', () => this.open(), quiet),
      button('Close', () => {
        if (confirm('Close this alarm by hand? If its condition still holds, it is raised again.')) this.act('close', { comment: this.panel.comment() });
      }, quiet),
    ].filter(Boolean);
  }

  // makeForm asks why, and for how long, nobody is to be told.
  makeForm() {
    const reason = el('input', { type: 'text', maxlength: 200, required: true, placeholder: 'reason', 'aria-label': 'Reason', 'data-operate': true });
    const minutes = el('select', { 'aria-label': 'For how long', 'data-operate': true }, ...periods.map(([n, text]) => el('option', { value: n }, text)));
    minutes.value = '60';
    const send = (verb, more) => {
      if (!reason.value.trim()) {
        this.fail('say why nobody is to be told');
        reason.focus();
        return;
      }
      this.act(verb, { reason: reason.value.trim(), ...more });
    };
    this.reason = reason;
    return el('form', { class: 'shelve', hidden: true, novalidate: true, onsubmit: (event) => { event.preventDefault(); send('shelve', { minutes: Number(minutes.value) }); } },
      reason, el('div', { class: 'actions' }, minutes, el('button', { type: 'submit', 'data-operate': true }, 'Shelve'),
        el('button', { type: 'button', class: 'quiet', 'data-operate': true, 'data-engineer': true, title: 'until that is taken back',
          onclick: () => send('out-of-service', {}) }, 'Out of service'),
        el('button', { type: 'button', class: 'quiet', 'data-operate': true, onclick: () => { this.form.hidden = true; } }, 'Cancel')));
  }

  open() {
    this.form.hidden = false;
    this.reason.focus();
  }

  fail(text) {
    this.problem.hidden = !text;
    setText(this.problem, text);
  }

  async act(verb, body) {
    this.fail('');
    const given = Object.fromEntries(Object.entries({ by: operator(), ...body }).filter(([, value]) => value !== ''));
    for (const node of this.node.querySelectorAll('button')) node.disabled = true;
    try {
      await request('POST', `alarms/${encodeURIComponent(this.alarm.id)}/${verb}`, given);
      this.form.hidden = true;
      this.reason.value = '';
      this.panel.done();
    } catch (error) {
      this.fail(error.message);
    }
    this.panel.operable();
  }
}
