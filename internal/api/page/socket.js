// The connection to the site: opens the WebSocket, opens it again when it drops.

import { enter, protocols } from './session.js';

const firstWait = 1000; // ms
const longestWait = 30000;
const silence = 40000; // more than two heartbeats

// connect calls onMessage for every message and onState with "connecting",
// "live" or "lost" (and the seconds to the next attempt).
export function connect(onMessage, onState) {
  let wait = firstWait;
  let watch = 0;

  // The site is asked first who we are: of a WebSocket that is refused a browser
  // does not tell why.
  async function open() {
    try {
      await enter();
    } catch {
      again();
      return;
    }
    onState('connecting');
    const url = new URL('ws', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url, protocols());
    let over = false;
    // A connection whose other end lost power looks open for many minutes: what
    // counts is whether something arrives.
    const alive = () => { clearTimeout(watch); watch = setTimeout(end, silence); };
    const end = () => {
      if (over) return;
      over = true;
      clearTimeout(watch);
      socket.close();
      again();
    };
    alive();
    socket.onmessage = (event) => {
      if (over) return;
      alive();
      const message = JSON.parse(event.data);
      if (message.type === 'snapshot') {
        wait = firstWait;
        onState('live');
      }
      onMessage(message);
    };
    socket.onclose = end;
    socket.onerror = end;
  }

  function again() {
    // Spread, so that many pages do not come back at the same moment.
    const pause = wait * (0.75 + Math.random() / 2);
    wait = Math.min(wait * 2, longestWait);
    const at = Date.now() + pause;
    const count = () => onState('lost', Math.max(1, Math.ceil((at - Date.now()) / 1000)));
    count();
    const ticker = setInterval(count, 1000);
    setTimeout(() => {
      clearInterval(ticker);
      onState('connecting');
      open();
    }, pause);
  }

  onState('connecting');
  open();
}
