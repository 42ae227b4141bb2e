// The browser's side of a heartwire hub: one live, gapless stream of a workspace's events.
//
//   const stream = new Stream({ base, workspace, token, position, refresh });
//   stream.addEventListener('event',  ({ detail }) => …);   // one state event, in order, once
//   stream.addEventListener('reset',  () => …);             // refetch everything, then go on
//   stream.addEventListener('state',  ({ detail }) => …);   // see STATES
//   stream.start();
//
// It keeps its position (epoch, seq, id of the last event) over every reconnect and asks the hub to
// continue there. When the hub cannot, it says `reset` and goes on from where the hub is. Whoever
// loads a list first passes the list's X-Event-Epoch and X-Event-Seq headers as `position` and so
// misses nothing in between. Without a `token` it goes by the session's cookie. `refresh` is asked for
// another token before the one in use ends. No dependencies; works in any page and in Node's tests.

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
  #heard = false;
  #refresh;
  #wake = () => {
    if (globalThis.document?.visibilityState !== 'hidden') this.#hurry();
  };

  /**
   * @param {{base: string, workspace: string, token?: string, position?: {epoch: string, seq: number},
   *   refresh?: () => Promise<string>}} options
   */
  constructor({ base, workspace, token = null, position = null, refresh = null }) {
    super();
    this.#refresh = refresh;
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
    const gone = () => generation !== this.#generation;
    const ours = (handle) => (event) => !gone() && handle(event);
    this.#heard = false;
    this.#say(this.#attempt === 0 ? 'connecting' : 'reconnecting');
    // Whoever listens may have stopped the stream.
    if (gone()) return;
    let socket;
    try {
      const query = new URLSearchParams({ workspace_id: this.#workspace });
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
    } else if (frame.type === 'refresh') {
      this.#renew();
    } else if (typeof frame.seq === 'number') {
      this.#deliver(frame);
    } else if (frame.type === 'heartbeat' && this.#position && frame.payload.seq !== this.#position.seq) {
      // The hub says it wrote something that never came: the stream is not to be trusted.
      this.#socket?.close();
    }
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
    while (!gone()) {
      this.#abort = new AbortController();
      try {
        const query = new URLSearchParams({ workspace_id: this.#workspace, wait_ms: String(POLL_WAIT_MS) });
        this.#place(([name, value]) => query.set(name, value));
        const answer = await fetch(`${this.#base}/api/events?${query}`, {
          headers: this.#token === null ? {} : { authorization: `Bearer ${this.#token}` },
          credentials: 'include',
          signal: this.#abort.signal,
        });
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
}
