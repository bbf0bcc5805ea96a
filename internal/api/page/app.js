// The page: takes the messages of the site and shows them.

import { el, setText, setServerTime, clock, now } from './util.js';
import { connect } from './socket.js';
import { may, logout } from './session.js';
import { Models } from './models.js';
import { Alarms } from './alarms.js';
import { Journal } from './journal.js';
import { Channels, Commands } from './panels.js';

const $ = (id) => document.getElementById(id);
const models = new Models($('models'));
const alarms = new Alarms({ node: $('alarms'), tools: $('alarms-tools'), counts: $('alarms-count'), changed: () => summary(), operable: () => operable() });
const journal = new Journal($('journal'));
const channels = new Channels($('channels'));
const commands = new Commands($('commands'));

const tiles = {};
for (const [key, label] of [['models', 'Models'], ['values', 'Values'], ['channels', 'Channels online'], ['alarms', 'Open alarms']]) {
  tiles[key] = { value: el('dd'), node: null };
  tiles[key].node = el('div', { class: 'tile' }, el('dt', {}, label), tiles[key].value);
  $('tiles').append(tiles[key].node);
}

function tile(key, text, tone) {
  setText(tiles[key].value, text);
  tiles[key].node.className = 'tile ' + (tone || '');
}

function summary() {
  const n = models.counts();
  tile('models', String(n.models));
  tile('values', n.bad ? `${n.values - n.bad}/${n.values} good` : `${n.values} good`, n.bad ? 'warn' : '');
  const all = channels.channels.size;
  tile('channels', `${channels.online()}/${all}`, channels.online() < all ? 'warn' : '');
  const open = alarms.alarms.length;
  const told = alarms.alarms.filter((a) => !a.suppression);
  const urgent = told.some((a) => a.status === 'active' && (a.severity === 'critical' || a.severity === 'high'));
  tile('alarms', String(open), urgent ? 'bad' : told.length ? 'warn' : '');
  const due = alarms.unacknowledged();
  $('unacknowledged').hidden = due === 0;
  $('unacknowledged').className = 'pill alarms-pill' + (urgent ? ' bad' : '');
  setText($('unacknowledged'), `${due} unacknowledged`);
  document.title = (told.length ? `(${told.length}) ` : '') + $('site').textContent;
}

function notice(text) {
  $('notice').hidden = !text;
  setText($('notice'), text);
}

const handlers = {
  snapshot(m) {
    notice('');
    setServerTime(m.now);
    setText($('site'), m.site || 'Voltage');
    const names = Object.fromEntries(Object.entries(m.models).map(([id, form]) => [id, form.name]));
    alarms.names = commands.names = names;
    journal.setNames(names);
    models.snapshot(m.models);
    alarms.set(m.alarms);
    channels.set(m.channels);
    operable();
    summary();
  },
  values(m) { for (const [id, values] of Object.entries(m.values)) models.values(id, values); },
  alarm(m) {
    alarms.changed();
    journal.add(m.event);
  },
  command(m) {
    commands.update(m.event);
    models.command(m.event);
  },
  channel(m) { channels.update(m.channel); },
  heartbeat(m) {
    setServerTime(m.now);
    alarms.changed(); // that a point loses its usable value is no transition
  },
  error(m) { notice(m.message[0].toUpperCase() + m.message.slice(1) + '.'); },
};

// operable takes away what could not be confirmed while the link is down.
function operable() {
  const live = document.body.dataset.link === 'live' && may('operator');
  for (const node of document.querySelectorAll('[data-operate]')) node.disabled = !live || ('engineer' in node.dataset && !may('engineer'));
}

function link(state, seconds) {
  const before = document.body.dataset.link;
  document.body.dataset.link = state;
  setText($('link'), state === 'live' ? 'Live' : state === 'connecting' ? 'Connecting…' : `Reconnecting in ${seconds} s`);
  if (before !== state) operable();
  if (before === 'live') notice(`The connection to the site is lost. What is shown is from ${clock(now())}.`);
}

$('logout').addEventListener('click', logout);

// The name is kept by the browser alone. Some browsers forbid even that.
try { $('operator').value = localStorage.getItem('operator') || ''; } catch { /* it is not kept */ }
$('operator').addEventListener('change', () => {
  try { localStorage.setItem('operator', $('operator').value.trim()); } catch { /* it is not kept */ }
});

connect((message) => {
  const handle = handlers[message.type];
  if (handle) handle(message);
}, link);

setInterval(() => {
  if (document.hidden) return;
  models.tick();
  alarms.tick();
  summary();
}, 1000);
setInterval(() => channels.tick(), 5000);
