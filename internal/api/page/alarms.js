// The list of open alarms, and what can be done to all that are shown.

import { el, setText, request, operator } from './util.js';
import { AlarmItem, unacknowledged } from './alarm.js';

export const severities = ['critical', 'high', 'medium', 'low'];
const most = 200; // alarms that are shown: more than a person reads

export class Alarms {
  // changed is called when the alarms did, operable when buttons were made.
  constructor({ node, tools, counts, changed, operable }) {
    this.node = node;
    this.counts = counts;
    this.told = changed;
    this.operable = operable;
    this.alarms = [];
    this.items = new Map();
    this.names = {};
    this.timer = 0;
    this.took = 0;
    this.makeTools(tools);
  }

  makeTools(tools) {
    const choose = (label, all) => el('select', { 'aria-label': label, onchange: () => this.render() }, el('option', { value: '' }, all));
    this.severity = choose('Severity', 'all severities');
    this.severity.append(...severities.map((s) => el('option', { value: s }, s)));
    this.model = choose('Model', 'all models');
    this.note = el('input', { type: 'text', maxlength: 200, autocomplete: 'off', placeholder: 'comment', 'aria-label': 'Comment', 'data-operate': true,
      title: 'Recorded with what you acknowledge, reset or close' });
    this.all = el('button', { type: 'button', class: 'quiet', 'data-operate': true, onclick: () => this.acknowledgeShown() });
    this.problem = el('p', { class: 'trouble', role: 'alert', hidden: true });
    tools.append(el('div', { class: 'tools' }, this.severity, this.model), el('div', { class: 'tools' }, this.note, this.all), this.problem);
  }

  comment() { return this.note.value.trim(); }

  set(alarms) {
    const rank = (a) => [a.suppression ? 1 : 0, severities.indexOf(a.severity), unacknowledged(a) ? 0 : 1, -Date.parse(a.timestamp)];
    this.alarms = alarms.filter((a) => a.status !== 'closed').map((a) => [rank(a), a])
      .sort(([x], [y]) => x[0] - y[0] || x[1] - y[1] || x[2] - y[2] || x[3] - y[3]).map(([, a]) => a);
    this.render();
    this.told();
  }

  // shown returns the alarms of the selection.
  shown() {
    return this.alarms.filter((a) => (!this.severity.value || a.severity === this.severity.value) && (!this.model.value || a.model_id === this.model.value));
  }

  render() {
    this.renderTools();
    const selected = this.shown();
    const items = new Map();
    for (const a of selected.slice(0, most)) {
      const item = this.items.get(a.id) || new AlarmItem(this);
      item.update(a);
      items.set(a.id, item);
    }
    this.items = items;
    const nodes = [...items.values()].map((item) => item.node);
    if (selected.length === 0) nodes.push(el('p', { class: 'empty' }, this.alarms.length ? 'No open alarms of this selection.' : 'No open alarms.'));
    if (selected.length > most) nodes.push(el('p', { class: 'muted' }, `${selected.length - most} more, of the same or a lower rank.`));
    // An element that moves loses its focus: one that stays is not touched.
    if (nodes.length !== this.node.children.length || nodes.some((node, i) => node !== this.node.children[i])) this.node.replaceChildren(...nodes);
    this.operable();
  }

  renderTools() {
    const chips = severities.map((s) => [s, this.alarms.filter((a) => a.severity === s && !a.suppression).length]).filter(([, n]) => n > 0);
    const hidden = this.alarms.filter((a) => a.suppression).length;
    this.counts.replaceChildren(...chips.map(([s, n]) => el('span', { class: 'count ' + s, title: `${n} ${s}` }, `${n} ${s}`)),
      hidden ? el('span', { class: 'count', title: 'shelved, out of service, or suppressed by design' }, `${hidden} not told`) : '');
    const ids = [...new Set(this.alarms.map((a) => a.model_id))].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const chosen = this.model.value;
    if (chosen && !ids.includes(chosen)) ids.push(chosen);
    const text = JSON.stringify(ids.map((id) => [id, this.names[id]]));
    if (this.models !== text) {
      this.models = text;
      this.model.replaceChildren(el('option', { value: '' }, 'all models'), ...ids.map((id) => el('option', { value: id }, this.names[id] || id)));
      this.model.value = chosen;
    }
    const due = this.shown().slice(0, most).filter(unacknowledged).length;
    setText(this.all, `Acknowledge all shown (${due})`);
    this.all.hidden = due === 0;
    this.note.hidden = this.alarms.length === 0;
  }

  tick() { for (const item of this.items.values()) item.tick(); }

  // unacknowledged returns how many want somebody now.
  unacknowledged() { return this.alarms.filter(unacknowledged).length; }

  // changed asks for the alarms soon: an event has less than the record, and events
  // come in bursts. The more there are, the longer it waits.
  changed(delay = 150) {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const began = performance.now();
      try {
        this.set((await request('GET', 'alarms')).alarms);
        this.took = performance.now() - began;
      } catch {
        this.changed(3000);
      }
    }, Math.max(delay, Math.min(5 * this.took, 5000)));
  }

  // done is told that something was done to an alarm.
  done() {
    this.note.value = '';
    this.changed(0);
  }

  async acknowledgeShown() {
    const ids = this.shown().slice(0, most).filter(unacknowledged).map((a) => a.id);
    if (ids.length === 0) return;
    const body = { ids };
    if (operator()) body.by = operator();
    if (this.comment()) body.comment = this.comment();
    this.all.disabled = true;
    this.problem.hidden = true;
    try {
      await request('POST', 'alarms/ack', body);
      this.done();
    } catch (error) {
      this.problem.hidden = false;
      setText(this.problem, error.message);
    }
    this.operable();
  }
}
