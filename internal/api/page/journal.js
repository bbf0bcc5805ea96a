// The alarm journal: every transition, the newest first, in pages, and as a file.

import { el, setText, humanize, number, clock, now, request, download } from './util.js';

const page = 50;
const most = 1000; // rows that are kept
const periods = [[1, 'last hour'], [24, 'last 24 h'], [168, 'last 7 days'], [0, 'all that is kept']];
const words = { reraised: 'raised again', cleared: 'returned', out_of_service: 'out of service', in_service: 'in service', chattering: 'chattering', suppressed: 'suppressed by design' };

export class Journal {
  constructor(node) {
    this.names = {};
    this.positions = new Set();
    this.next = '';
    this.turn = 0;
    this.period = el('select', { 'aria-label': 'Period', onchange: () => this.load() }, ...periods.map(([h, text]) => el('option', { value: h }, text)));
    this.period.value = '24';
    this.model = el('select', { 'aria-label': 'Model of the journal', onchange: () => this.load() }, el('option', { value: '' }, 'all models'));
    this.rows = el('tbody', {});
    this.state = el('p', { class: 'muted', role: 'status' });
    this.older = el('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => this.load(true) }, 'Older');
    const file = (format) => el('button', { type: 'button', class: 'quiet', onclick: () => this.export(format) }, `Export ${format.toUpperCase()}`);
    this.details = el('details', { ontoggle: () => { if (this.details.open) this.load(); } }, el('summary', {}, 'Alarm journal'),
      el('div', { class: 'tools' }, this.period, this.model, file('csv'), file('json')),
      el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {},
        ...['Time', 'What', 'Severity', 'Point', 'Value', 'Message', 'Who'].map((text) => el('th', { scope: 'col' }, text)))), this.rows)),
      this.state, this.older);
    node.append(this.details);
  }

  setNames(names) {
    this.names = names;
    const chosen = this.model.value;
    this.model.replaceChildren(el('option', { value: '' }, 'all models'), ...Object.keys(names).sort().map((id) => el('option', { value: id }, names[id])));
    this.model.value = names[chosen] ? chosen : '';
  }

  query() {
    const query = new URLSearchParams();
    const hours = Number(this.period.value);
    if (hours) query.set('from', String(Math.round(now() - hours * 3600000)));
    if (this.model.value) query.set('model', this.model.value);
    return query;
  }

  // load reads the newest entries, or with older those before.
  async load(older = false) {
    const turn = ++this.turn; // a later choice makes this answer useless
    const query = older ? this.asked : this.query();
    this.asked = query;
    query.set('newest', '1');
    query.set('limit', String(page));
    if (older) query.set('after', this.next);
    this.older.disabled = true;
    try {
      const answer = await request('GET', 'alarms/journal?' + query);
      if (turn !== this.turn) return;
      if (!older) {
        this.positions.clear();
        this.rows.replaceChildren();
      }
      this.next = answer.next;
      for (const event of answer.events) this.put(event, false);
      this.older.hidden = answer.events.length < page || this.positions.size >= most;
      setText(this.state, this.positions.size === 0 ? 'Nothing in this period.' : '');
    } catch (error) {
      if (turn === this.turn) setText(this.state, error.message);
    } finally {
      this.older.disabled = false;
    }
  }

  // add shows a transition that just happened.
  add(event) {
    if (!this.details.open || (this.model.value && event.model_id !== this.model.value)) return;
    this.put(event, true);
    setText(this.state, '');
    if (this.positions.size > most) { // the oldest give way, and are found by Older no more
      this.positions.delete(this.rows.lastChild.dataset.position);
      this.rows.lastChild.remove();
      this.older.hidden = true;
    }
  }

  put(e, first) {
    if (this.positions.has(e.position)) return;
    this.positions.add(e.position);
    const row = el('tr', { 'data-position': e.position, class: e.severity },
      el('td', {}, el('time', { datetime: e.time, title: e.device_time ? `device time ${e.device_time}` : e.time }, clock(e.time))),
      el('td', {}, words[e.transition] || e.transition),
      el('td', { class: 'severity' }, e.severity),
      el('td', {}, `${this.names[e.model_id] || e.model_id} · ${humanize(e.point_name)}`),
      el('td', { class: 'number' }, number(e.value)),
      el('td', {}, e.message || ''),
      el('td', {}, [e.by, e.comment].filter(Boolean).join(': ')));
    if (first) this.rows.prepend(row);
    else this.rows.append(row);
  }

  async export(format) {
    const query = this.query();
    query.set('format', format);
    setText(this.state, 'The file is being made…');
    try {
      await download('alarms/journal/export?' + query);
      setText(this.state, '');
    } catch (error) {
      setText(this.state, error.message);
    }
  }
}
