// The cards of the models: values, states and controls.

import { el, setText, humanize, number, decimals, age } from './util.js';
import { ControlRow } from './control.js';

const usable = new Set(['good', 'uncertain', 'substituted']);
const groups = [['measurements', 'measurement'], ['signals', 'signal'], ['controls', 'control'], ['adjustments', 'adjustment']];

// ValueRow shows one value that cannot be operated.
class ValueRow {
  constructor(name, point) {
    this.point = point || {};
    this.decimals = 0; // the most it had, so that it does not jump about
    this.ts = null;
    this.dot = el('span', { class: 'dot', 'aria-hidden': 'true' });
    this.value = el('span', { class: 'value' });
    this.unit = el('span', { class: 'unit' });
    this.quality = el('span', { class: 'quality', hidden: true });
    this.age = el('span', { class: 'age' });
    this.node = el('div', { class: 'row' },
      el('dt', { title: name }, this.dot, el('span', { class: 'label' }, humanize(name))),
      el('dd', {}, this.quality, this.value, this.unit, this.age));
    this.dot.hidden = true;
    this.update(null);
  }

  update(v) {
    const quality = v ? v.quality : 'good';
    const good = quality === 'good';
    this.ts = v ? v.ts : null;
    this.good = v !== null && v.value !== null && usable.has(quality);
    this.node.classList.toggle('unusable', !usable.has(quality));
    this.quality.hidden = good;
    this.quality.className = 'quality ' + (usable.has(quality) ? 'warn' : 'bad');
    setText(this.quality, good ? '' : quality);
    setText(this.value, this.text(v));
    this.unit.hidden = v !== null && typeof v.value === 'string';
    setText(this.unit, (v && v.value !== null && (v.unit || this.point.unit)) || '');
    if (v && v.kind === 'signal' && (v.value === 0 || v.value === 1)) {
      this.dot.hidden = false;
      this.dot.classList.toggle('on', v.value === 1);
    }
    this.tick();
  }

  text(v) {
    if (!v || v.value === null) return '—';
    if (typeof v.value === 'string') return v.value;
    const label = this.point.labels && this.point.labels[v.value];
    if (label !== undefined) return label;
    this.decimals = Math.max(this.decimals, decimals(v.value));
    return number(v.value, this.decimals);
  }

  tick() { setText(this.age, this.ts === null ? '' : age(this.ts)); }
}

// ModelCard shows one model.
class ModelCard {
  constructor(form, parent) {
    this.rows = new Map();
    this.state = el('span', { class: 'badge', hidden: true });
    this.node = el('article', { class: 'card', 'aria-label': form.name },
      el('header', {}, el('h2', {}, form.name), form.name === form.id ? null : el('span', { class: 'id' }, form.id), this.state));
    if (form.parent) this.node.append(el('p', { class: 'hint part' }, `Part of ${parent}`));
    if (!form.enabled) {
      this.node.append(el('p', { class: 'hint' }, 'Commands to this model are disabled.'));
    }
    for (const [group, kind] of groups) this.addGroup(form, group, kind);
    this.update(form.values);
  }

  addGroup(form, group, kind) {
    const names = new Set(Object.keys(form[group] || {}));
    for (const [name, v] of Object.entries(form.values)) {
      if (v.kind === kind && !this.rows.has(name)) names.add(name);
    }
    if (names.size === 0) return;
    const operated = group === 'controls' || group === 'adjustments';
    const box = el(operated ? 'div' : 'dl', { class: 'rows ' + group });
    for (const name of [...names].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))) {
      const point = form.points && form.points[name];
      // Only bound controls can be operated.
      const row = operated && (form[group] || {})[name] ? new ControlRow(form, name, point) : new ValueRow(name, point);
      this.rows.set(name, row);
      box.append(operated && row instanceof ValueRow ? el('dl', {}, row.node) : row.node);
    }
    if (group === 'adjustments') {
      this.node.append(el('details', {}, el('summary', {}, `Settings (${names.size})`), box));
    } else {
      this.node.append(operated ? el('h3', {}, 'Controls') : '', box);
    }
  }

  // update shows values; one that has no row yet waits for the next snapshot.
  update(values) {
    for (const [name, v] of Object.entries(values)) {
      const row = this.rows.get(name);
      if (row) row.update(v);
    }
    const bad = this.bad();
    this.state.hidden = bad === 0;
    setText(this.state, bad === 1 ? '1 value not good' : bad + ' values not good');
  }

  bad() {
    let n = 0;
    for (const row of this.rows.values()) if (row instanceof ValueRow && !row.good) n++;
    return n;
  }

  command(result) {
    const row = this.rows.get(result.control);
    if (row instanceof ControlRow) row.command(result);
  }

  tick() { for (const row of this.rows.values()) row.tick(); }
}

// tree returns the ids of the models, each followed by its parts. What is part of
// something that is not there stands for itself, and so does a circle.
function tree(models) {
  const order = [];
  const seen = new Set();
  const ids = Object.keys(models).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const parts = new Map();
  for (const id of ids) {
    const { parent } = models[id];
    if (parent) parts.set(parent, [...(parts.get(parent) || []), id]);
  }
  const roots = ids.filter((id) => !models[models[id].parent]);
  for (const root of [...roots, ...ids]) {
    const stack = [root]; // no recursion: a chain may be long
    while (stack.length > 0) {
      const id = stack.pop();
      if (seen.has(id)) continue;
      seen.add(id);
      order.push(id);
      stack.push(...(parts.get(id) || []).slice().reverse());
    }
  }
  return order;
}

// Models shows all models.
export class Models {
  constructor(node) {
    this.node = node;
    this.cards = new Map();
  }

  // snapshot keeps the cards whose definition is as it was, for a person may be
  // typing in one of them.
  snapshot(models) {
    const before = this.cards;
    this.cards = new Map();
    for (const id of tree(models)) {
      const form = models[id];
      const parent = models[form.parent] ? models[form.parent].name : form.parent;
      const definition = JSON.stringify({ ...form, parent, values: Object.keys(form.values).sort() });
      let card = before.get(id);
      if (card && card.definition === definition) {
        card.update(form.values);
      } else {
        card = new ModelCard(form, parent);
        card.definition = definition;
      }
      this.cards.set(id, card);
    }
    const nodes = [...this.cards.values()].map((card) => card.node);
    if (nodes.length === 0) nodes.push(el('p', { class: 'empty panel' }, 'No models are defined yet.'));
    if (nodes.length !== this.node.children.length || nodes.some((node, i) => node !== this.node.children[i])) {
      this.node.replaceChildren(...nodes);
    }
  }

  values(id, values) {
    const card = this.cards.get(id);
    if (card) card.update(values);
  }

  command(result) {
    const card = this.cards.get(result.model);
    if (card) card.command(result);
  }

  tick() { for (const card of this.cards.values()) card.tick(); }

  // counts returns how many values there are and how many are not good.
  counts() {
    let values = 0;
    let bad = 0;
    for (const card of this.cards.values()) {
      values += card.rows.size;
      bad += card.bad();
    }
    return { models: this.cards.size, values, bad };
  }
}
