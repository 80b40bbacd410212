// What the clients' tests share: servers, pictures with their questions, a request without a client.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

export const { DEMO_URL, LONG_URL, SHORT_URL, API_KEY } = process.env;
const { DEMO } = process.env;
export const model = path.basename(DEMO);

export const samples = JSON.parse(fs.readFileSync(path.join(DEMO, 'samples.json'), 'utf8'));
// [{image, question, template, greedy}]: questions with an answer in words
export const cases = samples.flatMap((s) =>
  s.cases.filter((c) => c.kind === 'text' && !c.history).map((c) => ({ image: s.image, ...c })));
// those whose question has words, which some clients need
export const asked = cases.filter((c) => c.question);

export const bytesOf = (name) => fs.readFileSync(path.join(DEMO, name));
export const typeOf = (name) => `image/${path.extname(name).slice(1).replace('jpg', 'jpeg')}`;
export const urlOf = (name) => `data:${typeOf(name)};base64,${bytesOf(name).toString('base64')}`;
export const picture = (name) => ({ type: 'image_url', image_url: { url: urlOf(name) } });

export function ask(sample, more = {}) {
  return {
    model,
    temperature: 0,
    max_completion_tokens: 100,
    chat_template_kwargs: { template_version: sample.template },
    messages: [{ role: 'user', content: [{ type: 'text', text: sample.question }, picture(sample.image)] }],
    ...more,
  };
}

// takes many seconds
export const endless = { model: 'long', n: 8, max_tokens: 1900, temperature: 0, stream: true,
                         messages: [{ role: 'user', content: 'Hello' }] };

export function post(base, address, body, options = {}) {
  return fetch(base + address, { method: 'POST', body: JSON.stringify(body), ...options, headers: {
    'Content-Type': 'application/json', Authorization: `Bearer ${API_KEY}` } });
}

// the answer to a request without any client
export async function plain(body, address = '/v1/chat/completions') {
  const response = await post(DEMO_URL, address, body);
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function until(condition, what) {
  for (let tries = 0; tries < 1500; tries++) {
    if (await condition()) return;
    await sleep(20);
  }
  assert.fail(`waited in vain for ${what}`);
}

// the sum of a metric's series that have these labels
export async function metric(base, name, labels = '') {
  const text = await (await fetch(`${base}/metrics`)).text();
  const lines = text.split('\n').filter((l) => l.startsWith(`${name}{`) && l.includes(labels));
  assert.ok(lines.length > 0, `there is no ${name}{${labels}}`);
  return lines.reduce((sum, l) => sum + Number(l.split(' ').at(-1)), 0);
}

// leave() ends a request that runs on LONG; the server must see a client that left, and have its room back
export async function makesRoom(leave) {
  const left = () => metric(LONG_URL, 'cogwheel_client_disconnects_total');
  const ended = () => metric(LONG_URL, 'cogwheel_requests_ended_total', 'reason="abort"');
  assert.ok(await metric(LONG_URL, 'cogwheel_kv_pages', 'state="used"') > 0);
  const before = [await left(), await ended()];
  await leave();
  await until(async () => (await left()) === before[0] + 1 && (await ended()) === before[1] + 1, 'the end');
  await until(async () => (await metric(LONG_URL, 'cogwheel_kv_pages', 'state="used"')) === 0, 'pages');
}

// Fills LONG: one answer runs, one waits. Returns what ends both.
export async function fillUp() {
  const leave = new AbortController();
  const running = await post(LONG_URL, '/v1/chat/completions', endless, { signal: leave.signal });
  const reader = running.body.getReader();
  await reader.read();
  const waiting = post(LONG_URL, '/v1/chat/completions', endless, { signal: leave.signal }).catch(() => {});
  await until(async () => (await metric(LONG_URL, 'vllm:num_requests_waiting')) === 1, 'a full queue');
  const held = [running, reader, waiting]; // a response that nobody refers to is closed
  return () => {
    leave.abort();
    held.length = 0;
  };
}

// fetch for a client, and what went over the wire with it: [{body, status, retry}]
export function recorder() {
  const requests = [];
  return { requests, fetch: async (url, init) => {
    const body = init.body && JSON.parse(init.body);
    const retry = new Headers(init.headers).get('x-stainless-retry-count');
    const response = await fetch(url, init);
    requests.push({ body, retry, status: response.status });
    return response;
  } };
}

// Runs the tests one after the other, prints TAP, and ends the program.
export async function run(tests) {
  let number = 0, failed = 0;
  console.log(`1..${Object.keys(tests).length}`);
  for (const [name, test] of Object.entries(tests)) {
    number++;
    try {
      await test();
      console.log(`ok ${number} - ${name}`);
    } catch (error) {
      failed++;
      console.log(`not ok ${number} - ${name}`);
      console.error(error);
    }
  }
  process.exit(failed ? 1 : 0);
}
