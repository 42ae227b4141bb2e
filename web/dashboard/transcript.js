// What one task says, live. Agents repeat what others wrote: whatever it is, it is shown as text.
import { at, element } from '/assets/page.js';

/** Messages that are shown at most; the newest. */
const MOST = 2000;
/** Characters of one that are shown at most. */
const LONGEST = 20_000;
const WORDS = { waiting: 'reconnecting…', live: '', refused: 'This task is not yours to read.', closed: '' };

let task = null;

export function open(stream, id) {
  close();
  task = stream.task(id, { since: 0 });
  task.addEventListener('message', ({ detail }) => add(detail));
  task.addEventListener('progress', ({ detail }) => showProgress(detail));
  task.addEventListener('reset', () => at('messages').replaceChildren());
  task.addEventListener('state', ({ detail }) => { at('transcript-state').textContent = WORDS[detail.state]; });
  at('transcript').hidden = false;
}

export function close() {
  task?.close();
  task = null;
  at('messages').replaceChildren();
  for (const id of ['progress', 'transcript-state', 'transcript-status']) at(id).textContent = '';
  at('transcript').hidden = true;
}

export const openedTask = () => task?.id ?? null;

/** Whose it is and how it is. */
export function describe(agent, status) {
  at('transcript-agent').textContent = agent;
  at('transcript-status').textContent = status;
  at('transcript-status').dataset.status = status;
}

function showProgress({ summary = '', step, total }) {
  at('progress').textContent = step && total ? `${summary} (${step} of ${total})` : summary;
}

function add({ pos, type, tool, content, input, output }) {
  const body = [content, input === undefined ? undefined : JSON.stringify(input), output];
  const text = body.filter((part) => part !== undefined).join('\n');
  const item = element('li', '', { pos: String(pos), type });
  item.append(element('span', tool ? `${type} ${tool}` : type));
  item.append(element('pre', text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text));
  const list = at('messages');
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  if (list.childElementCount > MOST) list.firstElementChild.remove();
  if (follows) list.scrollTop = list.scrollHeight;
}
