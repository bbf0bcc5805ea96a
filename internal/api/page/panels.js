// The panels beside the models: alarms, channels and commands.

import { el, setText, humanize, number, ago, clock, request, operator } from './util.js';
import { chip, isFinal } from './control.js';

const severities = ['critical', 'high', 'medium', 'low'];
const stateWords = { active: 'active', acknowledged: 'acknowledged', cleared: 'back to normal' };

// Alarms shows the open alarms.
export class Alarms {
  constructor(node, count) {
    this.node = node;
    this.count = count;
    this.alarms = [];
    this.names = {};
    this.timer = 0;
  }

  set(alarms) {
    this.alarms = alarms.filter((a) => a.status !== 'closed').sort((a, b) =>
      severities.indexOf(a.severity) - severities.indexOf(b.severity) || Date.parse(b.timestamp) - Date.parse(a.timestamp));
    this.count.hidden = this.alarms.length === 0;
    setText(this.count, String(this.alarms.length));
    if (this.alarms.length === 0) {
      this.node.replaceChildren(el('p', { class: 'empty' }, 'No open alarms.'));
      return;
    }
    this.node.replaceChildren(...this.alarms.map((a) => this.item(a)));
  }

  // changed asks for the alarms soon: an event has less than the record, and
  // events come in bursts.
  changed(delay = 150) {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        this.set((await request('GET', 'alarms')).alarms);
      } catch {
        this.changed(3000);
      }
    }, delay);
  }

  item(a) {
    const problem = el('p', { class: 'trouble', role: 'alert', hidden: true });
    const act = async (event, verb, question) => {
      if (question && !confirm(question)) return;
      event.target.disabled = true;
      try {
        const by = operator();
        await request('POST', `alarms/${encodeURIComponent(a.id)}/${verb}`, by ? { by } : undefined);
        this.changed(0);
      } catch (error) {
        problem.hidden = false;
        setText(problem, error.message);
        event.target.disabled = false;
      }
    };
    const title = a.message || `${humanize(a.point_name)} is ${number(a.value)}`;
    const seen = a.status === 'acknowledged';
    return el('article', { class: 'alarm ' + a.severity + ' ' + a.status },
      el('div', { class: 'line' },
        el('span', { class: 'severity' }, a.severity),
        el('span', { class: 'muted' }, stateWords[a.status] || a.status),
        el('time', { class: 'muted right', datetime: a.timestamp, title: a.timestamp }, clock(a.timestamp))),
      el('p', { class: 'message' }, title),
      el('p', { class: 'muted' }, `${this.names[a.model_id] || a.model_id} · ${humanize(a.point_name)} · value ${number(a.value)}, limit ${number(a.threshold)}`
        + (a.count > 1 ? ` · ${a.count} times` : '')
        + (seen && a.acknowledged_by ? ` · by ${a.acknowledged_by}` : '')),
      problem,
      el('div', { class: 'actions' },
        seen ? null : el('button', { 'data-operate': true, 'aria-label': 'Acknowledge: ' + title, onclick: (e) => act(e, 'ack') }, 'Acknowledge'),
        el('button', { class: 'quiet', 'data-operate': true, 'aria-label': 'Close: ' + title,
          onclick: (e) => act(e, 'close', 'Close this alarm by hand? If its condition still holds, it is raised again.') }, 'Close')));
  }
}

// Channels shows the channels.
export class Channels {
  constructor(node) {
    this.node = node;
    this.channels = new Map();
  }

  set(channels) {
    this.channels = new Map(channels.map((c) => [c.id, c]));
    this.render();
  }

  update(c) {
    this.channels.set(c.id, c);
    this.render();
  }

  online() { return [...this.channels.values()].filter((c) => c.state === 'online').length; }

  render() {
    const sorted = [...this.channels.values()].sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));
    if (sorted.length === 0) {
      this.node.replaceChildren(el('p', { class: 'empty' }, 'No channels are defined yet.'));
      return;
    }
    this.node.replaceChildren(...sorted.map((c) => {
      const facts = [];
      if (c.last_scan) facts.push('last values ' + ago(Date.parse(c.last_scan)));
      if (c.errors) facts.push(c.errors + (c.errors === 1 ? ' error' : ' errors'));
      if (c.lost) facts.push(c.lost + ' lost');
      // An old error of a channel that works is no news.
      const fresh = c.last_error && (c.state !== 'online' || Date.parse(c.last_error_at) >= Date.parse(c.since));
      return el('div', { class: 'channel', title: `${c.reads} reads, ${c.samples} samples, ${c.errors} errors, ${c.reconnects} reconnects, ${c.commands} commands` },
        el('div', { class: 'line' },
          el('span', { class: 'dot ' + c.state, 'aria-hidden': 'true' }),
          el('span', { class: 'name' }, c.name || c.id),
          c.name && c.name !== c.id ? el('span', { class: 'id' }, c.id) : null,
          el('span', { class: 'right state ' + c.state }, c.state)),
        facts.length ? el('p', { class: 'muted' }, facts.join(' · ')) : null,
        fresh ? el('p', { class: c.state === 'online' ? 'muted' : 'trouble' }, `${c.last_error} (${ago(Date.parse(c.last_error_at))})`) : null);
    }));
  }

  tick() { if (!document.hidden) this.render(); }
}

const keptCommands = 30;

// Commands shows the latest commands, from everybody.
export class Commands {
  constructor(node) {
    this.node = node;
    this.commands = [];
    this.names = {};
    this.render();
  }

  update(c) {
    const at = this.commands.findIndex((known) => known.id === c.id);
    if (at < 0) {
      this.commands.unshift(c);
      this.commands.length = Math.min(this.commands.length, keptCommands);
    } else if (!isFinal(this.commands[at].state) || isFinal(c.state)) {
      this.commands[at] = c;
    }
    this.render();
  }

  render() {
    if (this.commands.length === 0) {
      this.node.replaceChildren(el('p', { class: 'empty' }, 'None since this page was opened.'));
      return;
    }
    this.node.replaceChildren(...this.commands.map((c) => el('div', { class: 'command' },
      el('div', { class: 'line' },
        el('time', { class: 'muted', datetime: c.created }, clock(c.created)),
        el('span', { class: 'right' }, chip(c.state))),
      el('p', { class: 'name' }, `${this.names[c.model] || c.model} · ${humanize(c.control)} = ${number(c.value)}`),
      el('p', { class: 'muted' }, [c.user, c.origin && 'via ' + c.origin, c.detail || c.reason].filter(Boolean).join(' · ')))));
  }
}
