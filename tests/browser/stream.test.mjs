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

const said = (pos, task = 'a') => ({ type: 'task:message', payload: { task_id: task, pos, seq: pos } });
const granted = (pos, task = 'a') => ({ type: 'subscribe_ack', payload: { scope: 'task', id: task, pos } });
const asks = (socket) => socket.sent.filter(({ type }) => type !== 'auth');

function follow(id, options) {
  const task = stream.task(id, options);
  const heard = [];
  task.addEventListener('message', ({ detail }) => heard.push(detail.pos));
  task.addEventListener('reset', () => heard.push('reset'));
  return { task, heard };
}

test('what a task says comes once and in order, and what is missing is asked for once', async () => {
  start({ delivery: 'scoped' });
  assert.match(sockets[0].url, /delivery=scoped/);
  const { task, heard } = follow('a', { since: 0 });
  const [socket] = sockets;
  socket.open();
  assert.deepEqual(asks(socket), [], 'nothing is asked for before the stream is live');
  socket.say(ack(5));
  assert.deepEqual(asks(socket), [{ type: 'subscribe', payload: { scope: 'task', id: 'a', since: 0 } }]);
  socket.say(granted(0));
  for (const pos of [1, 2, 2, 1, 3]) socket.say(said(pos));
  socket.say(said(1, 'b'));
  socket.say({ type: 'task:resync', payload: { task_id: 'a' } });
  socket.say({ type: 'task:message', payload: { task_id: 'a' } });
  assert.deepEqual([heard, task.state], [[1, 2, 3], 'live']);
  for (const pos of [6, 7]) socket.say(said(pos));
  assert.deepEqual(asks(socket).slice(1), [{ type: 'subscribe', payload: { scope: 'task', id: 'a', since: 3 } }]);
  socket.say(granted(3));
  for (const pos of [4, 5, 6, 7]) socket.say(said(pos));
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6, 7]);
});

test('a task is followed on from its last message after a reconnect, until it is closed', async () => {
  hurry();
  start();
  sockets[0].open();
  sockets[0].say(ack(5));
  const { task, heard } = follow('a');
  assert.deepEqual(asks(sockets[0]), [{ type: 'subscribe', payload: { scope: 'task', id: 'a' } }]);
  sockets[0].say(granted(40));
  sockets[0].say(said(41));
  let progress;
  task.addEventListener('progress', ({ detail }) => { progress = detail.step; });
  sockets[0].say({ type: 'task:progress', payload: { task_id: 'a', step: 1 } });
  assert.equal(progress, 1);
  sockets[0].end();
  assert.equal(task.state, 'waiting');
  await until('it is back', () => sockets.length === 2);
  sockets[1].open();
  sockets[1].say(ack(5, true));
  assert.deepEqual(asks(sockets[1]), [{ type: 'subscribe', payload: { scope: 'task', id: 'a', since: 41 } }]);
  sockets[1].say(granted(41));
  sockets[1].say(said(42));
  task.close();
  assert.deepEqual(asks(sockets[1]).at(-1), { type: 'unsubscribe', payload: { scope: 'task', id: 'a' } });
  sockets[1].say(said(43));
  assert.deepEqual([heard, task.state], [[41, 42], 'closed']);
});

test('a task that is refused says so, and one that could not be looked up is asked for again', async () => {
  hurry();
  start();
  sockets[0].open();
  sockets[0].say(ack(5));
  const [refused, later] = [follow('a', { since: 0 }), follow('b', { since: 0 })];
  const answer = (id, error) => ({ type: 'subscribe_error', payload: { scope: 'task', id, error } });
  sockets[0].say(answer('a', 'forbidden'));
  sockets[0].say(answer('b', 'lookup_failed'));
  assert.deepEqual([refused.task.state, later.task.state], ['refused', 'waiting']);
  await until('it is asked for again', () => asks(sockets[0]).length === 3);
  sockets[0].say(granted(0, 'b'));
  assert.equal(later.task.state, 'live');
});

test('a task that has less than was seen begins anew', async () => {
  start();
  sockets[0].open();
  sockets[0].say(ack(5));
  const { heard } = follow('a', { since: 9 });
  sockets[0].say(granted(4));
  assert.deepEqual(asks(sockets[0]).at(-1).payload, { scope: 'task', id: 'a', since: 0 });
  sockets[0].say(granted(0));
  sockets[0].say(said(1));
  assert.deepEqual(heard, ['reset', 1]);
});
