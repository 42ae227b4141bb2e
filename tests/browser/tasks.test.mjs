// Tasks on the first page: the list, and what each of them says, in a real browser.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { chromium } from 'playwright-core';

import { startHub, startNetwork, until } from './hub.mjs';

let browser;
let hub;
let network;
let page;
let complaints;
let sent;
let received;

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
  [complaints, sent, received] = [[], [], []];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (line) => /Content Security Policy/i.test(line.text()) && complaints.push(line.text()));
  page.on('websocket', (socket) => {
    socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload)));
    socket.on('framereceived', ({ payload }) => received.push(JSON.parse(payload)));
  });
});

after(async () => {
  await browser?.close();
  await network?.stop();
  await hub?.stop();
});

const state = () => page.getAttribute('#state', 'data-state');
const row = (task) => page.locator(`#task-${task}`);
const positions = () => page.$$eval('#messages li', (items) => items.map(({ dataset }) => Number(dataset.pos)));
const text = (seq, content) => ({ seq, type: 'text', content });
const upto = (count) => Array.from({ length: count }, (_, index) => index + 1);

async function signIn(how = 'live') {
  await page.goto(network.url);
  await page.fill('#token', hub.token);
  await page.click('text=Sign in');
  await until(`it is ${how}`, async () => (await state()) === how);
}

/** A task that runs. */
async function running(agent, title = 'Something') {
  await agent.ask(title);
  const { id } = await agent.claim();
  await hub.task(id).start();
  return id;
}

/** From then on the page hears everything. */
async function open(task) {
  const before = received.length;
  await row(task).locator('button').click();
  await page.locator('#transcript').waitFor();
  if ((await state()) !== 'live') return;
  const granted = ({ type, payload }) => type === 'subscribe_ack' && payload.id === task;
  await until('the hub granted it', () => received.slice(before).some(granted));
}

async function shows(task, words) {
  await until(`it is shown as ${words}`, async () => words.test((await row(task).textContent({ timeout: 5000 })) ?? ''));
}

test('tasks appear and change live', async () => {
  const agent = await hub.agent('Ada');
  await signIn();
  await agent.ask('First');
  await until('it is queued', async () => /Ada.*issue.*queued/.test(await page.textContent('#tasks')));
  const { id } = await agent.claim();
  await shows(id, /dispatched/);
  await hub.task(id).start();
  await shows(id, /running/);
  assert.match(await page.textContent('#active'), /^1 to do/);
  await hub.task(id).fail('exit status 1');
  await shows(id, /failed: agent_error/);

  const next = await running(agent, 'Second');
  await shows(next, /running/);
  assert.equal(await row(id).count(), 1, 'the last end stays until there is another');
  await hub.task(next).complete('done');
  await shows(next, /completed/);
  await until('the one before it is gone', async () => (await row(id).count()) === 0);

  const unwanted = await running(agent, 'Third');
  await shows(unwanted, /running/);
  await hub.cancel(unwanted);
  await until('it is gone', async () => (await row(unwanted).count()) === 0);

  await page.reload();
  await shows(next, /Ada.*completed/);
  assert.equal(await page.locator('#tasks tr').count(), 1);
  assert.deepEqual(complaints, []);
});

test('a transcript fills live and goes on after the network breaks, without hole or duplicate', async () => {
  const agent = await hub.agent('Bea');
  const task = await running(agent);
  await hub.task(task).say(text(1, 'before anybody looked'), text(2, 'two'));
  await signIn();
  await open(task);
  await until('what was said is there', async () => (await positions()).length === 2);
  await hub.task(task).progress('Reading the code', 1, 2);
  await until('progress is shown', async () => /Reading the code \(1 of 2\)/.test(await page.textContent('#progress')));
  await hub.task(task).say({ seq: 3, type: 'tool_use', tool: 'Bash', input: { command: 'ls' } });
  await until('it is there', async () => (await positions()).length === 3);
  assert.match(await page.textContent('#messages'), /tool_use Bash\{"command":"ls"\}/);

  network.broken = true;
  network.cut();
  await until('it says so', async () => (await state()) === 'reconnecting');
  await hub.task(task).say(...upto(40).map((n) => text(3 + n, `missed ${n}`)));
  assert.equal((await positions()).length, 3);
  network.broken = false;
  // Whatever is said while it comes back arrives as well.
  for (let n = 44; n <= 60; n += 1) await hub.task(task).say(text(n, `late ${n}`));
  await until('all is there', async () => (await positions()).length >= 60);
  assert.deepEqual(await positions(), upto(60));
  await hub.task(task).complete('done');
  await until('the end is shown', async () => (await page.textContent('#transcript-status')) === 'completed');
  assert.deepEqual(complaints, []);
});

test('the page is told what the open task says, and nothing once it is closed', async () => {
  const [one, other] = [await hub.agent('Cid'), await hub.agent('Dot')];
  const [heard, unheard] = [await running(one), await running(other)];
  await signIn();
  await open(heard);
  await hub.task(unheard).say(text(1, 'nobody listens'));
  await hub.task(heard).say(text(1, 'somebody does'));
  await until('it is there', async () => (await positions()).length === 1);
  await page.click('#close');
  await until('it is hidden', () => page.isHidden('#transcript'));
  await until('the hub was told', () => sent.some(({ type, payload }) => type === 'unsubscribe' && payload.id === heard));
  await until('it answered', () => received.some(({ type }) => type === 'unsubscribe_ack'));
  await hub.task(heard).say(text(2, 'nobody does any more'));
  await hub.task(heard).complete();
  await shows(heard, /completed/);
  const said = received.filter(({ type }) => type === 'task:message').map(({ payload }) => payload.content);
  assert.deepEqual(said, ['somebody does']);
  await open(heard);
  await until('all of it is there', async () => (await positions()).length === 2);
  assert.deepEqual(complaints, []);
});

test('a secret that a daemon reported is not on the page', async () => {
  const agent = await hub.agent('Eve');
  const task = await running(agent);
  await signIn();
  await open(task);
  const secret = 'hunter2hunter2hunter2';
  await hub.task(task).progress(`DB_PASSWORD=${secret}`, 1, 2);
  await hub.task(task).say(
    text(1, `I use DB_PASSWORD=${secret}`),
    { seq: 2, type: 'tool_use', tool: 'Bash', input: { env: { API_KEY: secret } } },
    { seq: 3, type: 'tool_result', tool: 'Bash', output: `Authorization: Bearer ${secret}` },
  );
  await until('all of it is there', async () => (await positions()).length === 3);
  await until('progress is shown', async () => /REDACTED/.test(await page.textContent('#progress')));
  assert.match(await page.textContent('#messages'), /REDACTED/);
  assert.ok(!(await page.content()).includes(secret), 'it is on the page');
  assert.ok(!JSON.stringify(received).includes(secret), 'it was sent');
  assert.deepEqual(complaints, []);
});

test('text that looks like HTML stays text', async () => {
  const agent = await hub.agent('<b>Fay</b>');
  const task = await running(agent, '<i>title</i>');
  await signIn();
  await open(task);
  const markup = '<img src=x onerror="globalThis.broken = 1"><script>globalThis.broken = 2</script>';
  await hub.task(task).progress(markup, 1, 2);
  await hub.task(task).say(text(1, markup), { seq: 2, type: markup, tool: markup, output: markup });
  await until('all of it is there', async () => (await positions()).length === 2);
  assert.equal(await page.textContent('#messages li:first-child pre'), markup);
  assert.equal(await page.textContent('#messages li:last-child pre'), markup);
  await until('progress is shown', async () => (await page.textContent('#progress')).startsWith('<img'));
  assert.match(await row(task).textContent(), /^<b>Fay<\/b>/);
  assert.equal(await page.locator('main img, main script, main b, main i').count(), 0);
  assert.equal(await page.evaluate(() => globalThis.broken), undefined);
  assert.deepEqual(complaints, []);
});

test('without WebSockets a transcript fills all the same', async () => {
  const agent = await hub.agent('Gus');
  const task = await running(agent);
  await hub.task(task).say(text(1, 'one'));
  network.noSockets = true;
  await signIn('polling');
  await open(task);
  await until('what was said is there', async () => (await positions()).length === 1);
  await hub.task(task).say(text(2, 'two'), text(3, 'three'));
  await until('so is the rest', async () => (await positions()).length === 3);
  await hub.task(task).complete();
  await shows(task, /completed/);
  assert.deepEqual(await positions(), upto(3));
  assert.deepEqual(complaints, []);
});
