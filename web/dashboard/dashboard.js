// The first page: sign in with a token, see the fleet and its work, live.
import { Stream } from '/assets/heartwire.js';
import { at, call } from '/assets/page.js';
import * as fleet from '/assets/fleet.js';
import * as tasks from '/assets/tasks.js';
import * as transcript from '/assets/transcript.js';

const WORDS = {
  connecting: 'connecting…',
  live: 'live',
  polling: 'live, by polling (WebSockets do not get through)',
  reconnecting: 'reconnecting…',
  refused: 'signed out',
  stopped: '',
};

/** Between two tries to load the lists anew. */
const AGAIN_MS = 2000;

let stream = null;
/** Loads are counted: only the last one counts. */
let loads = 0;
/** Events that came while the lists were loading; null while none are. */
let held = null;

function show(signedIn) {
  at('enter').hidden = signedIn;
  for (const id of ['fleet', 'work', 'workspace', 'leave']) at(id).hidden = !signedIn;
}

function unfollow() {
  loads += 1;
  closeTask();
  stream?.stop();
  stream = null;
}

function leave(why = '') {
  unfollow();
  fleet.clear();
  tasks.clear();
  show(false);
  at('refusal').textContent = why;
}

async function enter() {
  try {
    const { body } = await call('/api/workspaces');
    const choice = at('workspace');
    choice.replaceChildren(...body.map(({ id, name }) => new Option(name, id)));
    show(true);
    if (body.length > 0) await follow(body[0].id);
  } catch (error) {
    leave(error.status === 401 ? '' : `The hub does not answer: ${error.message}`);
  }
}

async function signIn(token) {
  try {
    await call('/auth/session', 'POST', { token });
  } catch (error) {
    leave(error.status === 401 ? 'This token is not accepted.' : `The hub does not answer: ${error.message}`);
    return;
  }
  await enter();
}

async function signOut() {
  const ended = call('/auth/session', 'DELETE').catch(() => {});
  leave();
  await ended;
}

/** Loads the lists and the position of the first, and follows from exactly there. */
async function follow(workspace) {
  unfollow();
  const position = await load(workspace);
  if (position === null) return;
  stream = new Stream({ base: location.origin, workspace, position, delivery: 'scoped' });
  const mine = stream;
  stream.addEventListener('state', ({ detail }) => {
    at('state').textContent = WORDS[detail.state];
    at('state').dataset.state = detail.state;
    if (detail.state === 'refused' && mine === stream) leave('Signed out: ' + (detail.why || 'not allowed'));
  });
  stream.addEventListener('reset', () => loadAnew(workspace));
  stream.addEventListener('event', ({ detail }) => {
    if (held) held.push(detail);
    else apply(workspace, detail);
  });
  stream.start();
}

/** Fills the lists; null if something else was asked for meanwhile. */
async function load(workspace) {
  loads += 1;
  const mine = loads;
  held = [];
  const work = await tasks.read(workspace);
  const runtimes = await fleet.read(workspace);
  if (mine !== loads) return null;
  tasks.fill(work);
  fleet.fill(runtimes);
  // The lists may have been read before these were.
  const missed = held;
  held = null;
  for (const event of missed) apply(workspace, event);
  return work.position;
}

function loadAnew(workspace) {
  const mine = loads + 1;
  load(workspace).catch(() => setTimeout(() => mine === loads && loadAnew(workspace), AGAIN_MS));
}

function apply(workspace, event) {
  tasks.apply(event);
  if (fleet.apply(event) === 'unknown') loadAnew(workspace);
}

function openTask(id) {
  if (!stream) return;
  transcript.open(stream, id);
  tasks.showOpened(id);
}

function closeTask() {
  transcript.close();
  tasks.showOpened(null);
}

tasks.onOpen(openTask);
at('tasks').addEventListener('drawn', () => {
  const task = tasks.find(transcript.openedTask());
  if (task) transcript.describe(tasks.agentOf(task), task.status);
});
at('close').addEventListener('click', closeTask);
at('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = at('token').value.trim();
  at('token').value = '';
  at('refusal').textContent = '';
  signIn(token);
});
at('leave').addEventListener('click', signOut);
at('workspace').addEventListener('change', ({ target }) => follow(target.value));

enter();
