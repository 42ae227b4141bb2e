// What one task says, message by message: made by `Stream.task`, see heartwire.js. It keeps its position, drops
// what it has seen, and has the hub asked for what is missing.

export const TASK_STATES = ['waiting', 'live', 'refused', 'closed'];

export class Task extends EventTarget {
  #talk;
  /** The hub was asked for what is missing. */
  #asked = false;
  /** From which position on it was asked last. */
  #from = null;
  #state = 'waiting';

  /** `talk` tells the hub: that it is followed, and that it is not any more. */
  constructor(id, since, talk) {
    super();
    this.id = id;
    /** The position of the last message; null until the hub said from where on it tells. */
    this.position = since;
    this.#talk = talk;
  }

  get state() {
    return this.#state;
  }

  close() {
    if (this.#state === 'closed') return;
    this.say('closed');
    this.#talk.end(this);
  }

  /** For the stream. */
  say(state, why) {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, why } }));
  }

  /** For the stream: from where on it is to be asked. */
  from() {
    this.#from = this.position;
    return this.position;
  }

  /** For the stream: the hub tells what lies beyond `pos`. */
  begin(pos) {
    this.#asked = false;
    if (this.position === null) this.position = pos;
    if (this.#from === null || pos >= this.#from) return this.say('live');
    // It has less than we saw: it was put back to an earlier day.
    this.position = 0;
    this.dispatchEvent(new CustomEvent('reset'));
    this.#talk.begin(this);
  }

  /** For the stream. */
  take(message) {
    if (this.#state === 'closed' || typeof message.pos !== 'number' || message.pos <= (this.position ?? 0)) return;
    // Something is missing: the hub is asked for it.
    if (this.position !== null && message.pos !== this.position + 1) return this.#miss();
    this.position = message.pos;
    this.dispatchEvent(new CustomEvent('message', { detail: message }));
  }

  #miss() {
    if (!this.#asked) this.#talk.begin(this);
    this.#asked = true;
  }
}
