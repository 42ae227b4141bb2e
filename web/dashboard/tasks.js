// The tasks: what agents have to do, and the last thing that each did.
import { ago, at, element, list, rows, soon } from '/assets/page.js';

/** Rows that are drawn at most; the newest. */
const MOST = 200;
const ENDED = ['completed', 'failed', 'cancelled'];
const KINDS = { direct: 'issue', quick_create: 'new issue' };

const tasks = new Map();
const agents = new Map();
let openTask = () => {};
let opened = null;

/** `open` is called with a task whose row was clicked. */
export function onOpen(open) {
  openTask = open;
}

/** The task whose transcript is open, or null; it stays in the list. */
export function showOpened(id) {
  opened = id;
  draw();
}

export const find = (id) => tasks.get(id);
export const agentOf = (task) => agents.get(task?.agent_id) ?? 'an agent';

/** What is read later is newer than the first position: whoever follows from there sees some of it twice. */
export async function read(workspace) {
  const snapshot = await list('/api/agent-task-snapshot', workspace);
  const { body: known } = await list('/api/agents', workspace);
  return { ...snapshot, known };
}

export function fill({ body, known }) {
  const kept = opened === null ? undefined : tasks.get(opened);
  tasks.clear();
  agents.clear();
  if (kept) tasks.set(kept.id, kept);
  for (const task of body) tasks.set(task.id, task);
  for (const agent of known) agents.set(agent.id, agent.name);
  draw();
}

export function clear() {
  tasks.clear();
  agents.clear();
  opened = null;
  draw();
}

export function apply({ type, payload }) {
  if (payload.agent?.name) agents.set(payload.agent.id, payload.agent.name);
  else if (type.startsWith('task:') && payload.task_id) change(type, payload);
  else return;
  draw();
}

function change(type, { task_id: id, agent_id, issue_id, chat_session_id: chat, status, failure_reason }) {
  const task = tasks.get(id) ?? { id, agent_id, created_at: new Date().toISOString() };
  task.kind ??= chat ? 'chat' : issue_id ? 'issue' : 'task';
  task.status = type === 'task:dispatch' ? 'dispatched' : status;
  task.failure_reason = failure_reason;
  tasks.set(id, task);
  if (ENDED.includes(task.status)) drop(task);
}

/** Of what an agent did, the list has the last thing that came to an end by itself. */
function drop(ended) {
  for (const task of tasks.values()) {
    const older = task.agent_id === ended.agent_id && task !== ended && ENDED.includes(task.status);
    const over = ended.status === 'cancelled' ? task === ended : older;
    if (over && task.id !== opened) tasks.delete(task.id);
  }
}

function row(id) {
  const button = element('button');
  button.type = 'button';
  button.addEventListener('click', () => openTask(id));
  const [who, kind, status, since] = Array.from({ length: 4 }, () => element('td'));
  who.append(button);
  const made = element('tr');
  made.append(who, kind, status, since);
  const show = (task) => {
    const words = task.failure_reason ? `${task.status}: ${task.failure_reason}` : task.status;
    for (const [cell, text] of [[button, agentOf(task)], [kind, KINDS[task.kind] ?? task.kind], [status, words]]) {
      if (cell.textContent !== text) cell.textContent = text;
    }
    status.dataset.status = task.status;
    since.dataset.seen = task.created_at;
    if (since.textContent === '') since.textContent = ago(task.created_at);
    made.setAttribute('aria-current', String(id === opened));
  };
  return { element: made, show };
}

const keep = rows(at('tasks'), 'task', row);

const draw = soon(() => {
  const all = [...tasks.values()];
  const ended = (task) => Number(ENDED.includes(task.status));
  all.sort((a, b) => ended(a) - ended(b) || b.created_at.localeCompare(a.created_at) || b.id.localeCompare(a.id));
  keep(all.slice(0, MOST));
  const active = all.filter((task) => !ended(task)).length;
  at('active').textContent = `${active} to do` + (all.length > MOST ? `, the newest ${MOST} shown` : '');
  at('no-tasks').hidden = all.length > 0;
  at('tasks').dispatchEvent(new Event('drawn'));
});
