// The first page: sign in with a token, see the fleet, live.
import { Stream } from '/assets/heartwire.js';

const at = (id) => document.getElementById(id);
const WORDS = {
  connecting: 'connecting…',
  live: 'live',
  polling: 'live, by polling (WebSockets do not get through)',
  reconnecting: 'reconnecting…',
  refused: 'signed out',
  stopped: '',
};

let stream = null;
const runtimes = new Map();

/** The session's cookie goes along by itself; what proves that a page of the hub sent it does not. */
function proof() {
  const csrf = /(?:^|; )multica_csrf=([^;]*)/.exec(document.cookie);
  return csrf ? { 'x-csrf-token': csrf[1] } : {};
}

async function call(path, method = 'GET', json = undefined) {
  const answer = await fetch(path, { method, headers: proof(), body: json && JSON.stringify(json) });
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status });
  return { body, headers: answer.headers };
}

function show(signedIn) {
  at('enter').hidden = signedIn;
  at('fleet').hidden = !signedIn;
  at('workspace').hidden = !signedIn;
  at('leave').hidden = !signedIn;
}

function leave(why = '') {
  stream?.stop();
  stream = null;
  runtimes.clear();
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

/** Loads the list and its position, and follows from exactly there. */
async function follow(workspace) {
  stream?.stop();
  const position = await load(workspace);
  stream = new Stream({ base: location.origin, workspace, position });
  const mine = stream;
  stream.addEventListener('state', ({ detail }) => {
    at('state').textContent = WORDS[detail.state];
    at('state').dataset.state = detail.state;
    if (detail.state === 'refused' && mine === stream) leave('Signed out: ' + (detail.why || 'not allowed'));
  });
  stream.addEventListener('reset', () => load(workspace));
  stream.addEventListener('event', ({ detail }) => apply(workspace, detail));
  stream.start();
}

async function load(workspace) {
  const { body, headers } = await call(`/api/runtimes?workspace_id=${workspace}`);
  runtimes.clear();
  for (const runtime of body) runtimes.set(runtime.id, runtime);
  draw();
  return { epoch: headers.get('x-event-epoch'), seq: Number(headers.get('x-event-seq')) };
}

function apply(workspace, event) {
  if (event.type !== 'daemon:register') return;
  const { runtimes: list, action, runtime_ids: ids = [], runtime_id: id } = event.payload;
  for (const runtime of list ?? []) runtimes.set(runtime.id, runtime);
  if (action === 'delete') runtimes.delete(id);
  else if (action === 'update') load(workspace);
  else {
    for (const one of ids) {
      const runtime = runtimes.get(one);
      if (!runtime) continue;
      runtime.status = action === 'online' ? 'online' : 'offline';
      runtime.last_seen_at = new Date().toISOString();
    }
  }
  draw();
}

function ago(time) {
  if (!time) return 'never';
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

function cell(text, data = {}) {
  const td = document.createElement('td');
  td.textContent = text;
  Object.assign(td.dataset, data);
  return td;
}

function draw() {
  const rows = [...runtimes.values()].sort((a, b) => a.created_at.localeCompare(b.created_at) || a.id.localeCompare(b.id));
  at('rows').replaceChildren(
    ...rows.map((runtime) => {
      const row = document.createElement('tr');
      row.id = `runtime-${runtime.id}`;
      row.append(
        cell(runtime.name),
        cell(runtime.provider),
        cell(runtime.device_info),
        cell(runtime.status, { status: runtime.status }),
        cell(ago(runtime.last_seen_at), { seen: runtime.last_seen_at ?? '' }),
        cell(runtime.visibility),
      );
      return row;
    }),
  );
  at('count').textContent = `${rows.filter(({ status }) => status === 'online').length} of ${rows.length} online`;
  at('empty').hidden = rows.length > 0;
}

setInterval(() => {
  for (const td of document.querySelectorAll('td[data-seen]')) td.textContent = ago(td.dataset.seen);
}, 1000);
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
