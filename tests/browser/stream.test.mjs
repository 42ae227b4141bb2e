// The client module by itself, against a socket and a network that misbehave.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { Stream } from '../../web/client/heartwire.js';
import { until } from './hub.mjs';

const real = { WebSocket: globalThis.WebSocket, fetch: globalThis.fetch, setTimeout: globalThis.setTimeout };
let sockets = [];
let stream;

/** A WebSocket that does what the test tells it to. */
class Puppet {
  constructor(url) {
    this.url = url;
    this.sent = [];
    sockets.push(this);
    Puppet.born?.(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() {}
  open() { this.onopen?.({}); }
  say(frame) { this.onmessage?.({ data: JSON.stringify(frame) }); }
  end(code = 1006, reason = '') { this.onclose?.({ code, reason }); }
}

const ack = (seq, recovered = null) => ({ type: 'auth_ack', payload: { epoch: 'e', seq, recovered, ping_interval_ms: 25_000 } });
const event = (seq) => ({ type: 'x', seq, event_id: `id-${seq}`, payload: {} });

/** Time runs a hundred times as fast. */
function hurry() {
  globalThis.setTimeout = (run, ms, ...rest) => real.setTimeout(run, (ms ?? 0) / 100, ...rest);
}

function start(options = {}) {
  sockets = [];
  globalThis.WebSocket = Puppet;
  stream = new Stream({ base: 'http://hub', workspace: 'w', token: 't', ...options });
  const seen = [];
  for (const kind of ['event', 'reset', 'state']) {
    stream.addEventListener(kind, ({ detail }) => seen.push([kind, detail?.seq ?? detail?.state]));
  }
  stream.start();
  return seen;
}

afterEach(() => {
  stream?.stop();
  Puppet.born = undefined;
  Object.assign(globalThis, real);
});

test('events arrive once and in order, and a hole ends the socket', async () => {
  const seen = start();
  const [socket] = sockets;
  socket.open();
  assert.deepEqual(socket.sent, [{ type: 'auth', payload: { token: 't' } }]);
  socket.say(ack(5));
  for (const seq of [6, 6, 7]) socket.say(event(seq));
  let closed = false;
  socket.close = () => { closed = true; };
  socket.say(event(9));
  assert.ok(closed);
  assert.deepEqual(seen, [['state', 'connecting'], ['state', 'live'], ['event', 6], ['event', 7]]);
  assert.deepEqual(stream.position, { epoch: 'e', seq: 7, id: 'id-7' });
});

test('a socket that opens and says nothing counts as blocked, and the stream polls', async () => {
  hurry();
  Puppet.born = (socket) => real.setTimeout(() => socket.open(), 1);
  let polls = 0;
  globalThis.fetch = async () => {
    polls += 1;
    await new Promise((done) => real.setTimeout(done, 5));
    return new Response(JSON.stringify({ epoch: 'e', events: [], seq: 3, recovered: null }));
  };
  start();
  await until('it polls', () => polls > 0);
  assert.ok(sockets.length >= 3);
});

test('a refusal while polling is final and told', async () => {
  hurry();
  Puppet.born = (socket) => real.setTimeout(() => socket.end(), 1);
  globalThis.fetch = async (_, { signal }) => {
    const body = new ReadableStream({
      start(control) {
        signal.addEventListener('abort', () => control.error(new Error('aborted')));
        real.setTimeout(() => {
          control.enqueue(new TextEncoder().encode('{"error":"invalid token"}'));
          control.close();
        }, 5);
      },
    });
    return new Response(body, { status: 401 });
  };
  start();
  let why;
  stream.addEventListener('state', ({ detail }) => { if (detail.state === 'refused') why = detail.why; });
  await until('it is refused', () => stream.state === 'refused');
  assert.equal(why, 'invalid token');
});

test('stopping inside a listener stops for good', async () => {
  hurry();
  start({ position: { epoch: 'old', seq: 1 } });
  stream.addEventListener('reset', () => stream.stop());
  sockets[0].open();
  sockets[0].say(ack(9, false));
  assert.equal(stream.state, 'stopped');
  const before = sockets.length;
  await new Promise((done) => real.setTimeout(done, 400));
  assert.equal(sockets.length, before, 'it came back');

  start();
  stream.addEventListener('state', ({ detail }) => { if (detail.state === 'reconnecting') stream.stop(); });
  sockets[0].end();
  assert.equal(stream.state, 'stopped');
  await new Promise((done) => real.setTimeout(done, 400));
  assert.equal(sockets.length, 1, 'it came back');
});

test('a terminal code is final, a retry-after is kept, a position goes along', async () => {
  hurry();
  start();
  sockets[0].open();
  sockets[0].say(ack(5));
  sockets[0].say(event(6));
  sockets[0].end(4001, 'retry_after_ms=500');
  await until('it is back', () => sockets.length === 2);
  sockets[1].open();
  assert.deepEqual(sockets[1].sent[0].payload, { token: 't', since: 6, epoch: 'e', since_id: 'id-6' });
  sockets[1].say(ack(6, true));
  sockets[1].end(4502, 'revoked');
  assert.equal(stream.state, 'refused');
});

test('without a token it goes by the cookie: the position is in the address, hello is the welcome', async () => {
  const seen = start({ token: null, position: { epoch: 'e', seq: 4 } });
  assert.match(sockets[0].url, /since=4&epoch=e/);
  sockets[0].open();
  assert.deepEqual(sockets[0].sent, []);
  sockets[0].say({ ...ack(4, true), type: 'hello' });
  assert.equal(seen.at(-1)[1], 'live');
});

test('a new token is fetched when the hub asks for one', async () => {
  start({ refresh: async () => 'next' });
  sockets[0].open();
  sockets[0].say(ack(5));
  sockets[0].say({ type: 'refresh', payload: {} });
  await until('it was sent', () => sockets[0].sent.length === 2);
  assert.deepEqual(sockets[0].sent[1], { type: 'auth', payload: { token: 'next' } });
  sockets[0].say(ack(99));
  assert.equal(stream.position.seq, 5, 'the answer to a refresh is no position');
});
