// A hub of one's own, and a network between it and the page that can be broken.

import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

const BINARY = process.env.HEARTWIRE_BIN ?? path.resolve(import.meta.dirname, '../../target/debug/heartwire');

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

export async function until(what, condition, within = 30_000) {
  const deadline = Date.now() + within;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export async function startHub() {
  const dir = await mkdtemp(path.join(tmpdir(), 'heartwire-browser-'));
  const port = await freePort();
  const child = spawn(BINARY, ['serve', '--listen', `127.0.0.1:${port}`, '--data-dir', dir], {
    env: { HEARTWIRE_LOG: 'warn' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const url = `http://127.0.0.1:${port}`;
  await until('the hub is ready', () => fetch(`${url}/readyz`).then(({ ok }) => ok, () => false));
  const token = (await readFile(path.join(dir, 'first-token'), 'utf8')).trim();
  const call = async (method, address, body) => {
    const answer = await fetch(url + address, {
      method,
      headers: { authorization: `Bearer ${token}` },
      body: body && JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${address}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const [{ id: workspace }] = await call('GET', '/api/workspaces');
  return {
    port,
    token,
    workspace,
    call,
    register: async (daemon, ...providers) => {
      const runtimes = providers.map((type) => ({ type }));
      const body = { workspace_id: workspace, daemon_id: daemon, device_name: daemon, runtimes };
      return (await call('POST', '/api/daemon/register', body)).runtimes;
    },
    /** An agent of its own runtime, and its daemon. */
    agent: async (name) => {
      const body = { workspace_id: workspace, daemon_id: name, device_name: name, runtimes: [{ type: 'claude' }] };
      const [runtime] = (await call('POST', '/api/daemon/register', body)).runtimes;
      const wish = { name, runtime_id: runtime.id, visibility: 'workspace' };
      const agent = await call('POST', `/api/agents?workspace_id=${workspace}`, wish);
      return {
        id: agent.id,
        /** Somebody wishes for something. */
        ask: (title) => call('POST', `/api/issues?workspace_id=${workspace}`, {
          title, assignee_type: 'agent', assignee_id: agent.id, allow_duplicate: true,
        }),
        claim: async () => (await call('POST', `/api/daemon/runtimes/${runtime.id}/tasks/claim`, {})).task,
      };
    },
    /** What a daemon calls about a task. */
    task: (id) => {
      const post = (step, body = {}) => call('POST', `/api/daemon/tasks/${id}/${step}`, body);
      return {
        start: () => post('start'),
        progress: (summary, step, total) => post('progress', { summary, step, total }),
        say: (...messages) => post('messages', { messages }),
        complete: (output = '') => post('complete', { output }),
        fail: (error) => post('fail', { error }),
      };
    },
    cancel: (id) => call('POST', `/api/tasks/${id}/cancel?workspace_id=${workspace}`),
    stop: async () => {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill('SIGTERM');
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** A TCP proxy to the hub. `broken` cuts everything; `noSockets` cuts upgrades only. */
export async function startNetwork(port) {
  const network = { broken: false, noSockets: false };
  const open = new Set();
  const server = net.createServer((page) => {
    if (network.broken) return page.destroy();
    const hub = net.connect(port, '127.0.0.1');
    for (const socket of [page, hub]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        page.destroy();
        hub.destroy();
      });
    }
    page.on('data', (bytes) => {
      if (network.noSockets && /upgrade: websocket/i.test(bytes.toString('latin1'))) page.destroy();
      else hub.write(bytes);
    });
    hub.on('data', (bytes) => page.write(bytes));
  });
  server.listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  network.url = `http://127.0.0.1:${server.address().port}`;
  network.cut = () => open.forEach((socket) => socket.destroy());
  network.stop = () => {
    network.cut();
    return new Promise((done) => server.close(done));
  };
  return network;
}
