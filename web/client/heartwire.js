// The browser's side of a heartwire hub: one live, gapless stream of a workspace's events.
//
//   const stream = new Stream({ base, workspace, token, position, refresh });
//   stream.addEventListener('event',  ({ detail }) => …);   // one state event, in order, once
//   stream.addEventListener('reset',  () => …);             // refetch everything, then go on
//   stream.addEventListener('state',  ({ detail }) => …);   // see STATES
//   stream.start();
//
//   const task = stream.task(id, { since: 0 });              // what its agent says, from the beginning on
//   task.addEventListener('message',  ({ detail }) => …);   // each message, in order, once
//   task.addEventListener('progress', ({ detail }) => …);   // how far it is; may be missed
//   task.addEventListener('reset',    () => …);             // forget what was shown: it begins anew
//   task.close();
//
// It keeps its position (epoch, seq, id of the last event) over every reconnect and asks the hub to
// continue there. When the hub cannot, it says `reset` and goes on from where the hub is. Whoever
// loads a list first passes the list's X-Event-Epoch and X-Event-Seq headers as `position` and so
// misses nothing in between. Without a `token` it goes by the session's cookie. `refresh` is asked for
// another token before the one in use ends. A task's messages have positions of their own, and it goes on
// from the last one over every reconnect as well. With `delivery: 'scoped'` the hub sends what those tasks
// say and no others. No dependencies but the file beside it; works in any page and in Node's tests.

import { Task } from './task.js';

export const STATES = ['connecting', 'live', 'polling', 'reconnecting', 'refused', 'stopped'];

/** Full jitter: anywhere between nothing and a ceiling that doubles, in milliseconds. */
export function backoff(attempt, random = Math.random) {
  return random() * Math.min(30_000, 500 * 2 ** Math.min(attempt, 10));
}

/** The wait that a close reason asks for, or null. */
export function retryAfter(reason) {
  const match = /^retry_after_ms=(\d+)$/.exec(reason ?? '');
  return match ? Number(match[1]) : null;
}

/** Close codes after which coming back is pointless without a person or a new token. */
const terminal = (code) => code >= 4500 && code < 4600;

/** Sockets that failed to open in a row before the page polls instead. */
const BLOCKED_AFTER = 3;
const POLL_WAIT_MS = 20_000;
const OPEN_WITHIN_MS = 10_000;
/** Between two looks at what tasks say, while the page polls. */
const READ_EVERY_MS = 2000;

export class Stream extends EventTarget {
  #base;
  #workspace;
  #token;
  #position;
  #socket = null;
  #state = 'stopped';
  #attempt = 0;
  #failedOpens = 0;
  #retry = null;
  #watchdog = null;
  #abort = null;
  #generation = 0;
  #heard = false;
  #refresh;
  #delivery;
  #tasks = new Map();
  #wake = () => {
    if (globalThis.document?.visibilityState !== 'hidden') this.#hurry();
  };

  /**
   * @param {{base: string, workspace: string, token?: string, position?: {epoch: string, seq: number},
   *   refresh?: () => Promise<string>, delivery?: 'firehose' | 'scoped'}} options
   */
  constructor({ base, workspace, token = null, position = null, refresh = null, delivery = null }) {
    super();
    this.#refresh = refresh;
    this.#delivery = delivery;
    this.#base = base.replace(/\/$/, '');
    this.#workspace = workspace;
    this.#token = token;
    this.#position = position;
  }

  get state() {
    return this.#state;
  }

  get position() {
    return this.#position;
  }

  start() {
    if (this.#state !== 'stopped') return;
    globalThis.addEventListener?.('online', this.#wake);
    globalThis.document?.addEventListener('visibilitychange', this.#wake);
    this.#connect();
  }

  stop() {
    globalThis.removeEventListener?.('online', this.#wake);
    globalThis.document?.removeEventListener('visibilitychange', this.#wake);
    this.#drop();
    this.#say('stopped');
  }

  /** Follows what a task says: beyond the message at position `since`, or from now on. */
  task(id, { since = null } = {}) {
    this.#tasks.get(id)?.close();
    const begin = (task) => this.#ask('subscribe', task);
    const end = (task) => {
      if (this.#tasks.get(id) === task) this.#tasks.delete(id);
      this.#ask('unsubscribe', task);
    };
    const task = new Task(id, since, { begin, end });
    this.#tasks.set(id, task);
    begin(task);
    return task;
  }

  #ask(type, task) {
    // Whatever is followed is asked for once the stream is live.
    if (this.#state !== 'live') return;
    const payload = { scope: 'task', id: task.id };
    const since = type === 'subscribe' ? task.from() : null;
    if (since !== null) payload.since = since;
    this.#socket?.send(JSON.stringify({ type, payload }));
  }

  #say(state, why) {
    if (this.#state === state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, why } }));
  }

  /** Ends whatever is going on; nothing of it is listened to any more. */
  #drop() {
    this.#generation += 1;
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    this.#abort?.abort();
    this.#socket?.close();
    this.#socket = null;
    for (const task of this.#tasks.values()) if (task.state === 'live') task.say('waiting');
  }

  #connect() {
    this.#drop();
    const generation = this.#generation;
    const gone = () => generation !== this.#generation;
    const ours = (handle) => (event) => !gone() && handle(event);
    this.#heard = false;
    this.#say(this.#attempt === 0 ? 'connecting' : 'reconnecting');
    // Whoever listens may have stopped the stream.
    if (gone()) return;
    let socket;
    try {
      const query = new URLSearchParams({ workspace_id: this.#workspace });
      if (this.#delivery !== null) query.set('delivery', this.#delivery);
      // With a cookie there is no auth frame to say it in.
      if (this.#token === null) this.#place(([name, value]) => query.set(name, value));
      socket = new WebSocket(`${this.#base.replace(/^http/, 'ws')}/ws?${query}`);
    } catch {
      this.#lost(null);
      return;
    }
    this.#socket = socket;
    this.#watch(OPEN_WITHIN_MS);
    socket.onopen = ours(() => {
      if (this.#token !== null) this.#authenticate();
    });
    socket.onmessage = ours(({ data }) => {
      this.#take(JSON.parse(data));
      if (!gone()) this.#watch(this.#heard ? 2 * this.#interval : OPEN_WITHIN_MS);
    });
    socket.onclose = ours((close) => this.#lost(close));
  }

  /** Tells each part of the position by its name in the protocol. */
  #place(tell) {
    if (!this.#position) return;
    const { epoch, seq, id } = this.#position;
    Object.entries({ since: seq, epoch, since_id: id }).filter(([, value]) => value !== undefined).forEach(tell);
  }

  #authenticate() {
    const payload = { token: this.#token };
    if (!this.#heard) this.#place(([name, value]) => { payload[name] = value; });
    this.#socket.send(JSON.stringify({ type: 'auth', payload }));
  }

  #take(frame) {
    if (frame.type === 'auth_ack' || frame.type === 'hello') {
      // The answer to a refresh.
      if (this.#heard) return;
      const { epoch, seq, recovered, ping_interval_ms: interval } = frame.payload;
      this.#heard = true;
      this.#attempt = 0;
      this.#failedOpens = 0;
      this.#interval = interval;
      const generation = this.#generation;
      if (recovered !== true) {
        const asked = this.#position !== null;
        this.#position = { epoch, seq };
        if (asked || recovered === false) this.dispatchEvent(new CustomEvent('reset'));
      }
      if (generation === this.#generation) this.#say('live');
      for (const task of [...this.#tasks.values()]) if (generation === this.#generation) this.#ask('subscribe', task);
    } else if (frame.type === 'refresh') {
      this.#renew();
    } else if (typeof frame.seq === 'number') {
      this.#deliver(frame);
    } else if (frame.type === 'task:message') {
      this.#tasks.get(frame.payload.task_id)?.take(frame.payload);
    } else if (frame.type === 'task:progress') {
      this.#tasks.get(frame.payload.task_id)?.dispatchEvent(new CustomEvent('progress', { detail: frame.payload }));
    } else if (frame.type === 'subscribe_ack' || frame.type === 'subscribe_error') {
      this.#answered(frame);
    } else if (frame.type === 'heartbeat' && this.#position && frame.payload.seq !== this.#position.seq) {
      // The hub says it wrote something that never came: the stream is not to be trusted.
      this.#socket?.close();
    }
  }

  #answered({ payload: { scope, id, pos, error } }) {
    const task = scope === 'task' ? this.#tasks.get(id) : undefined;
    if (!task) return;
    if (error === undefined) task.begin(pos);
    else if (error === 'lookup_failed') this.#askLater(task);
    else task.say('refused', error);
  }

  #askLater(task) {
    const generation = this.#generation;
    const still = () => generation === this.#generation && this.#tasks.get(task.id) === task;
    setTimeout(() => still() && this.#ask('subscribe', task), backoff(2));
  }

  async #renew() {
    const generation = this.#generation;
    try {
      const token = await this.#refresh?.();
      if (!token || generation !== this.#generation) return;
      this.#token = token;
      this.#authenticate();
    } catch {
      // The old one holds a little longer; its end is told by the hub.
    }
  }

  #interval = 25_000;

  #deliver(event) {
    if (event.seq !== this.#position.seq + 1) {
      if (event.seq > this.#position.seq) this.#socket?.close();
      return;
    }
    this.#position = { epoch: this.#position.epoch, seq: event.seq, id: event.event_id };
    this.dispatchEvent(new CustomEvent('event', { detail: event }));
  }

  /** Two intervals without a frame mean a socket that is open on one side only. */
  #watch(ms) {
    clearTimeout(this.#watchdog);
    const generation = this.#generation;
    this.#watchdog = setTimeout(() => {
      if (generation === this.#generation) this.#lost(null);
    }, ms);
  }

  #lost(close) {
    const opened = this.#heard;
    this.#drop();
    const generation = this.#generation;
    if (close && terminal(close.code)) {
      this.#say('refused', close.reason);
      return;
    }
    this.#failedOpens = opened ? 0 : this.#failedOpens + 1;
    this.#attempt += 1;
    if (this.#failedOpens >= BLOCKED_AFTER) {
      this.#poll();
      return;
    }
    this.#say('reconnecting');
    if (generation !== this.#generation) return;
    this.#later(retryAfter(close?.reason) ?? backoff(this.#attempt));
  }

  #later(ms) {
    const generation = this.#generation;
    this.#retry = setTimeout(() => generation === this.#generation && this.#connect(), ms);
  }

  /** Tries now instead of later: the network is back, or somebody looks at the page again. */
  #hurry() {
    if (this.#state !== 'reconnecting') return;
    this.#attempt = 1;
    this.#connect();
  }

  /** Long polling, for where WebSockets do not get through. Tries a socket again now and then. */
  async #poll() {
    const generation = this.#generation;
    const gone = () => generation !== this.#generation;
    let rounds = 0;
    let failures = 0;
    this.#readTasks(gone);
    while (!gone()) {
      this.#abort = new AbortController();
      try {
        const query = new URLSearchParams({ wait_ms: String(POLL_WAIT_MS) });
        this.#place(([name, value]) => query.set(name, value));
        const answer = await this.#get('/api/events', query, this.#abort.signal);
        const body = await answer.json().catch(() => ({}));
        if (gone()) return;
        if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
          this.#drop();
          this.#say('refused', body.error);
          return;
        }
        if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
        const { epoch, events, seq, recovered } = body;
        failures = 0;
        this.#say('polling');
        if (gone()) return;
        if (recovered !== true) {
          const asked = this.#position !== null;
          this.#position = { epoch, seq };
          if (asked) this.dispatchEvent(new CustomEvent('reset'));
        }
        for (const event of events) {
          if (gone()) return;
          this.#deliver(event);
        }
        if (gone()) return;
        rounds += 1;
        if (rounds % 5 === 0) {
          this.#failedOpens = BLOCKED_AFTER - 1;
          this.#connect();
          return;
        }
      } catch {
        if (gone()) return;
        failures += 1;
        this.#say('reconnecting');
        if (gone()) return;
        await new Promise((done) => setTimeout(done, backoff(failures)));
      }
    }
  }

  #get(path, query, signal) {
    query.set('workspace_id', this.#workspace);
    return fetch(`${this.#base}${path}?${query}`, {
      headers: this.#token === null ? {} : { authorization: `Bearer ${this.#token}` },
      credentials: 'include',
      signal,
    });
  }

  /** Without a socket, what tasks say is read now and then. How far they are is not told then. */
  async #readTasks(gone) {
    while (!gone()) {
      for (const task of [...this.#tasks.values()]) {
        try {
          while (!gone() && (await this.#readOn(task, gone)));
        } catch {
          // The next round tries again.
        }
      }
      await new Promise((done) => setTimeout(done, READ_EVERY_MS));
    }
  }

  /** Whether there is more. */
  async #readOn(task, gone) {
    if (task.state === 'refused') return false;
    const path = `/api/tasks/${task.id}/messages`;
    const answer = await this.#get(path, new URLSearchParams({ since_pos: String(task.position ?? 0) }));
    if (gone()) return false;
    if (answer.status === 403 || answer.status === 404) task.say('refused', 'forbidden');
    if (!answer.ok) return false;
    const messages = await answer.json();
    if (gone()) return false;
    task.say('live');
    const before = task.position;
    messages.forEach((message) => task.take(message));
    return answer.headers.has('x-next-pos') && task.position !== before;
  }
}
