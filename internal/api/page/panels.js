// The panels beside the models: channels and commands.

import { el, humanize, number, ago, clock } from './util.js';
import { chip, isFinal } from './control.js';

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
