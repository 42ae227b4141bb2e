// The first page in a real browser.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { chromium } from 'playwright-core';

import { startHub, startNetwork, until } from './hub.mjs';

let browser;
let hub;
let network;
let page;
let complaints;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
  hub = await startHub();
});

beforeEach(async () => {
  await page?.context().close();
  await network?.stop();
  network = await startNetwork(hub.port);
  page = await (await browser.newContext()).newPage();
  complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (line) => /Content Security Policy/i.test(line.text()) && complaints.push(line.text()));
});

after(async () => {
  await browser?.close();
  await network?.stop();
  await hub?.stop();
});

async function signIn() {
  await page.goto(network.url);
  await page.fill('#token', hub.token);
  await page.click('text=Sign in');
}

const state = () => page.getAttribute('#state', 'data-state');
const row = (runtime) => page.locator(`#runtime-${runtime.id}`);

test('signing in shows the fleet, live', async () => {
  await page.goto(network.url);
  await page.fill('#token', 'mul_nonsense');
  await page.click('text=Sign in');
  await until('the refusal is told', async () => (await page.textContent('#refusal')).includes('not accepted'));
  await signIn();
  await until('it is live', async () => (await state()) === 'live');
  assert.equal(await page.isVisible('#enter'), false);
  const [claude, codex] = await hub.register('box-a', 'claude', 'codex');
  await row(claude).waitFor();
  assert.match(await row(claude).textContent(), /claude.*online/);
  await hub.call('POST', '/api/daemon/deregister', { runtime_ids: [claude.id] });
  await until('it is offline', async () => /offline/.test(await row(claude).textContent()));
  await hub.call('PATCH', `/api/runtimes/${codex.id}`, { visibility: 'public' });
  await until('the change shows', async () => /public/.test(await row(codex).textContent()));
  await until('last seen ticks', async () => /[1-9]\d* s ago/.test(await row(codex).textContent()));
  await hub.call('DELETE', `/api/runtimes/${codex.id}`);
  await until('it is gone', async () => (await row(codex).count()) === 0);
  assert.deepEqual(complaints, []);
});

test('a broken network is shown, and what was missed comes without a reload', async () => {
  await signIn();
  await until('it is live', async () => (await state()) === 'live');
  await page.evaluate(() => { globalThis.sameDocument = true; });
  network.broken = true;
  network.cut();
  await until('it says so', async () => (await state()) === 'reconnecting');
  const [missed] = await hub.register('box-b', 'gemini');
  assert.equal(await row(missed).count(), 0);
  network.broken = false;
  await row(missed).waitFor();
  await until('it is live again', async () => ['live', 'polling'].includes(await state()));
  assert.equal(await page.evaluate(() => globalThis.sameDocument), true);
  assert.deepEqual(complaints, []);
});

test('without WebSockets the page follows all the same, and says so', async () => {
  network.noSockets = true;
  await signIn();
  await until('it polls', async () => (await state()) === 'polling');
  const [runtime] = await hub.register('box-c', 'pi');
  await row(runtime).waitFor();
  assert.match(await page.textContent('#state'), /polling/);
  assert.deepEqual(complaints, []);
});

test('a session lasts over a reload, keeps its secret from scripts and ends by signing out', async () => {
  await signIn();
  await until('it is live', async () => (await state()) === 'live');
  await page.reload();
  await until('it is live again', async () => (await state()) === 'live');
  const visible = await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage }));
  assert.doesNotMatch(visible, /multica_auth|mul_|eyJ/);
  await page.click('text=Sign out');
  await until('it is signed out', () => page.isVisible('#enter'));
  await page.reload();
  await until('it stays so', () => page.isVisible('#enter'));
  assert.deepEqual(complaints, []);
});

test('a token that ended signs the page out', async () => {
  const made = await hub.call('POST', '/api/tokens', { name: 'short' });
  await page.goto(network.url);
  await page.fill('#token', made.token);
  await page.click('text=Sign in');
  await until('it is live', async () => (await state()) === 'live');
  assert.equal(await page.isVisible('#enter'), false);
  await fetch(`http://127.0.0.1:${hub.port}/api/tokens/${made.id}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${hub.token}` },
  });
  // Nobody cuts the connection: the hub closes what rests on the token.
  await until('it is signed out', () => page.isVisible('#enter'));
});
