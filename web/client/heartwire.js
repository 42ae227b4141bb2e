// The browser's side of a heartwire hub: one live, gapless stream of a workspace's events.
//
//   const stream = new Stream({ base, workspace, token, position });
//   stream.addEventListener('event',  ({ detail }) => …);   // one state event, in order, once
//   stream.addEventListener('reset',  () => …);             // refetch everything, then go on
//   stream.addEventListener('state',  ({ detail }) => …);   // see STATES
//   stream.start();
//
// It keeps its position (epoch, seq, id of the last event) over every reconnect and asks the hub to
// continue there. When the hub cannot, it says `reset` and goes on from where the hub is. Whoever
// loads a list first passes the list's X-Event-Epoch and X-Event-Seq headers as `position` and so
// misses nothing in between. No dependencies; works in any page and in Node's tests.

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
  #wake = () => {
    if (globalThis.document?.visibilityState !== 'hidden') this.#hurry();
  };

  /** @param {{base: string, workspace: string, token: string, position?: {epoch: string, seq: number}}} options */
  constructor({ base, workspace, token, position = null }) {
    super();
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
  }

  #connect() {
    this.#drop();
    const generation = this.#generation;
    const ours = (handle) => (event) => generation === this.#generation && handle(event);
    this.#say(this.#attempt === 0 ? 'connecting' : 'reconnecting');
    let opened = false;
    let socket;
    try {
      const url = `${this.#base.replace(/^http/, 'ws')}/ws?workspace_id=${encodeURIComponent(this.#workspace)}`;
      socket = new WebSocket(url);
    } catch {
      this.#lost(null, false);
      return;
    }
    this.#socket = socket;
    this.#watch(OPEN_WITHIN_MS);
    socket.onopen = ours(() => {
      const payload = { token: this.#token };
      if (this.#position) {
        payload.since = this.#position.seq;
        payload.epoch = this.#position.epoch;
        if (this.#position.id) payload.since_id = this.#position.id;
      }
      socket.send(JSON.stringify({ type: 'auth', payload }));
    });
    socket.onmessage = ours(({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === 'auth_ack') opened = true;
      this.#take(frame);
    });
    socket.onclose = ours((close) => this.#lost(close, opened));
  }

  #take(frame) {
    if (frame.type === 'auth_ack') {
      const { epoch, seq, recovered, ping_interval_ms: interval } = frame.payload;
      this.#attempt = 0;
      this.#failedOpens = 0;
      this.#interval = interval;
      if (recovered !== true) {
        const asked = this.#position !== null;
        this.#position = { epoch, seq };
        if (asked || recovered === false) this.dispatchEvent(new CustomEvent('reset'));
      }
      this.#say('live');
    } else if (typeof frame.seq === 'number') {
      this.#deliver(frame);
    } else if (frame.type === 'heartbeat' && this.#position && frame.payload.seq !== this.#position.seq) {
      // The hub says it wrote something that never came: the stream is not to be trusted.
      this.#socket?.close();
    }
    this.#watch(2 * this.#interval);
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
      if (generation === this.#generation) this.#lost(null, true);
    }, ms);
  }

  #lost(close, opened) {
    this.#drop();
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
    while (!gone()) {
      this.#abort = new AbortController();
      try {
        const query = new URLSearchParams({ workspace_id: this.#workspace, wait_ms: String(POLL_WAIT_MS) });
        if (this.#position) {
          query.set('since', String(this.#position.seq));
          query.set('epoch', this.#position.epoch);
        }
        const answer = await fetch(`${this.#base}/api/events?${query}`, {
          headers: { authorization: `Bearer ${this.#token}` },
          signal: this.#abort.signal,
        });
        if (gone()) return;
        if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
          this.#drop();
          this.#say('refused', (await answer.json()).error);
          return;
        }
        if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
        const { epoch, events, seq, recovered } = await answer.json();
        if (gone()) return;
        failures = 0;
        this.#say('polling');
        if (recovered !== true) {
          const asked = this.#position !== null;
          this.#position = { epoch, seq };
          if (asked) this.dispatchEvent(new CustomEvent('reset'));
        }
        for (const event of events) this.#deliver(event);
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
        await new Promise((done) => setTimeout(done, backoff(failures)));
      }
    }
  }
}
