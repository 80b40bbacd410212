// Run by openai.py, which starts the servers and installs the client.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const { DEMO_URL, LONG_URL, DEMO, API_KEY, CLIENT } = process.env;
const OpenAI = createRequire(path.join(CLIENT, 'index.js'))('openai');

const model = path.basename(DEMO);
const requests = []; // what went over the wire: status and retry count

async function countingFetch(url, init) {
  const response = await fetch(url, init);
  const retry = new Headers(init.headers).get('x-stainless-retry-count');
  requests.push({ status: response.status, retry });
  return response;
}

const demo = new OpenAI({ baseURL: `${DEMO_URL}/v1`, apiKey: API_KEY, maxRetries: 0 });
const long = new OpenAI({ baseURL: `${LONG_URL}/v1`, apiKey: 'any', fetch: countingFetch });
const samples = JSON.parse(fs.readFileSync(path.join(DEMO, 'samples.json'), 'utf8'));

function picture(name) {
  const bytes = fs.readFileSync(path.join(DEMO, name));
  const type = path.extname(name).slice(1).replace('jpg', 'jpeg');
  return { type: 'image_url', image_url: { url: `data:image/${type};base64,${bytes.toString('base64')}` } };
}

// [{image, question, template, greedy}]: questions with an answer in words
const cases = samples.flatMap((s) =>
  s.cases.filter((c) => c.kind === 'text' && !c.history).map((c) => ({ image: s.image, ...c })));

function ask(sample, more = {}) {
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
const endless = { model: 'long', n: 8, max_tokens: 1900, temperature: 0, stream: true,
                  messages: [{ role: 'user', content: 'Hello' }] };

const textOf = (completion) => completion.choices[0].message.content;

async function refused(promise, Class, status, code, param = null) {
  const error = await promise.then(() => assert.fail('was answered'), (e) => e);
  assert.ok(error instanceof Class, `${error.constructor.name}: ${error.message}`);
  assert.deepEqual([error.status, error.code, error.param], [status, code, param]);
  assert.match(error.requestID, /^[\w.:-]+$/);
  return error;
}

async function listening(stream) { // the first words have come
  const iterator = stream[Symbol.asyncIterator]();
  for (;;) {
    const { value } = await iterator.next();
    if (value.choices[0].delta.content) return iterator;
  }
}

const tests = {
  async 'it lists the model'() {
    const page = await demo.models.list();
    assert.deepEqual(page.data.map((m) => m.id), [model]);
    assert.equal((await demo.models.retrieve(model)).object, 'model');
    await refused(demo.models.retrieve('none'), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
  },

  async 'it answers about pictures as the reference does'() {
    assert.ok(cases.length >= 8);
    let right = 0;
    for (const c of cases) {
      const completion = await demo.chat.completions.create(ask(c));
      assert.match(completion._request_id, /^req_\w+$/);
      assert.equal(completion.choices[0].finish_reason, 'stop');
      assert.ok(completion.usage.prompt_tokens_details.image_tokens > 0);
      right += textOf(completion) === c.greedy;
    }
    assert.ok(right >= cases.length * 0.9, `${right} of ${cases.length} right`);
  },

  async 'a stream is the whole answer in pieces'() {
    for (const c of cases.slice(0, 8)) {
      const whole = await demo.chat.completions.create(ask(c));
      const stream = await demo.chat.completions.create(ask(c, { stream: true }));
      let text = '', finish = null, pieces = 0;
      for await (const chunk of stream) {
        assert.equal(chunk.choices.length, 1);
        assert.equal(chunk.usage, undefined);
        text += chunk.choices[0].delta.content ?? '';
        finish = chunk.choices[0].finish_reason;
        pieces++;
      }
      assert.equal(text, textOf(whole));
      assert.equal(finish, 'stop');
      assert.ok(pieces > 2);
    }
  },

  async 'the stream helper puts several choices together'() {
    const contents = [];
    const runner = demo.chat.completions.stream(ask(cases[0], { n: 2, stream_options: { include_usage: true } }));
    runner.on('content', (delta) => contents.push(delta));
    const completion = await runner.finalChatCompletion();
    assert.equal(completion.choices.length, 2);
    for (const [index, choice] of completion.choices.entries()) {
      assert.deepEqual([choice.index, choice.finish_reason], [index, 'stop']);
      assert.deepEqual([choice.message.role, choice.message.content], ['assistant', cases[0].greedy]);
    }
    assert.ok(contents.length > 0);
    assert.ok((await runner.totalUsage()).completion_tokens > 0);
  },

  async 'usage comes last when it is asked for'() {
    const whole = await demo.chat.completions.create(ask(cases[0]));
    const stream = await demo.chat.completions.create(
      ask(cases[0], { stream: true, stream_options: { include_usage: true } }));
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.deepEqual(last.usage, whole.usage);
    assert.ok(chunks.every((c) => c.usage === null));
  },

  async 'an aborted stream makes room'() {
    for (const leave of ['abort', 'break']) {
      const stream = await long.chat.completions.create(endless);
      if (leave === 'abort') {
        await listening(stream);
        stream.controller.abort();
      } else {
        for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
      }
      const next = await long.chat.completions.create({ ...endless, n: 1, max_tokens: 3, stream: false });
      assert.equal(next.usage.completion_tokens, 3);
    }
    const controller = new AbortController();
    const waiting = long.chat.completions.create({ ...endless, stream: false }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 100);
    await assert.rejects(waiting, OpenAI.APIUserAbortError);
  },

  async 'a full queue is 503, and the client comes back'() {
    const running = await long.chat.completions.create(endless);
    await listening(running);
    const queued = new AbortController();
    const second = long.chat.completions.create({ ...endless, stream: false }, { signal: queued.signal })
      .then(() => null, (e) => e);
    let error; // the second may not have reached the queue yet
    do {
      error = await long.chat.completions.create({ ...endless, max_tokens: 1, n: 1, stream: false },
                                                 { maxRetries: 0, timeout: 300 }).catch((e) => e);
    } while (error instanceof OpenAI.APIConnectionTimeoutError);
    assert.ok(error instanceof OpenAI.InternalServerError, String(error));
    assert.deepEqual([error.status, error.code], [503, 'server_is_overloaded']);
    assert.ok(Number(error.headers.get('retry-after')) >= 1);
    requests.length = 0;
    const third = long.chat.completions.create({ ...endless, n: 1, max_tokens: 2, stream: false });
    while (requests.length === 0) await new Promise((done) => setTimeout(done, 20));
    running.controller.abort();
    queued.abort();
    assert.equal((await third).usage.completion_tokens, 2);
    assert.ok((await second) instanceof OpenAI.APIUserAbortError);
    assert.equal(requests[0].status, 503);
    assert.deepEqual([requests.at(-1).status, requests.at(-1).retry], [200, String(requests.length - 1)]);
  },

  async 'log-probabilities, also in the stream helper'() {
    const body = ask(cases[0], { logprobs: true, top_logprobs: 3 });
    const whole = (await demo.chat.completions.create(body)).choices[0];
    const helped = (await demo.chat.completions.stream(body).finalChatCompletion()).choices[0];
    const entries = whole.logprobs.content;
    assert.equal(Buffer.from(entries.flatMap((e) => e.bytes)).toString(), whole.message.content);
    assert.ok(entries.every((e) => e.logprob <= 0 && e.top_logprobs.length === 3));
    assert.deepEqual(helped.logprobs.content, entries);
  },

  async 'errors have their classes'() {
    const body = ask(cases[0]);
    const create = (more, options) => demo.chat.completions.create({ ...body, ...more }, options);
    await refused(create({ temperature: 3 }), OpenAI.BadRequestError, 400, 'decimal_above_max_value', 'temperature');
    await refused(create({ messages: [] }), OpenAI.BadRequestError, 400, 'empty_array', 'messages');
    await refused(create({ top_logprobs: 2 }), OpenAI.BadRequestError, 400, 'invalid_value', 'top_logprobs');
    await refused(create({ response_format: { type: 'json_object' } }), OpenAI.BadRequestError, 400,
                  'unsupported_parameter', 'response_format');
    const web = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] }];
    await refused(create({ messages: web }), OpenAI.BadRequestError, 400, 'invalid_image_url',
                  'messages[0].content[0].image_url.url');
    await refused(create({ messages: web, stream: true }), OpenAI.BadRequestError, 400, 'invalid_image_url',
                  'messages[0].content[0].image_url.url');
    await refused(create({ model: 'gpt-4o' }), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
    await refused(demo.post('/embeddings', { body: {} }), OpenAI.NotFoundError, 404, 'unknown_url');
    await refused(create({ user: 'x'.repeat(2 << 20) }), OpenAI.APIError, 413, 'request_body_too_large');
    await refused(create({}, { headers: { 'Content-Type': 'text/plain' } }), OpenAI.APIError, 415,
                  'unsupported_content_type');
    for (const apiKey of ['wrong', 'sesame2']) {
      const stranger = new OpenAI({ baseURL: `${DEMO_URL}/v1`, apiKey });
      await refused(stranger.chat.completions.create(body), OpenAI.AuthenticationError, 401, 'invalid_api_key');
    }
    assert.equal(textOf(await create({})), cases[0].greedy);
  },

  async 'n, stop, seed, max tokens'() {
    const [c] = cases;
    const create = (more) => demo.chat.completions.create(ask(c, more));
    const three = await create({ n: 3 });
    assert.deepEqual(three.choices.map((x) => x.message.content), [c.greedy, c.greedy, c.greedy]);
    const word = c.greedy.split(' ').slice(-2)[0];
    const stopped = await create({ stop: [` ${word}`, 'never'] });
    assert.equal(textOf(stopped), c.greedy.slice(0, c.greedy.indexOf(` ${word}`)));
    assert.deepEqual([stopped.choices[0].finish_reason, stopped.choices[0].stop_reason], ['stop', ` ${word}`]);
    const short = await create({ max_completion_tokens: 2 });
    assert.deepEqual([short.choices[0].finish_reason, short.usage.completion_tokens], ['length', 2]);
    assert.ok(c.greedy.startsWith(textOf(short)));
    const texts = new Set();
    for (let seed = 1; seed <= 6; seed++) {
      const sampled = { seed, temperature: 2, max_completion_tokens: 40 };
      const text = textOf(await create(sampled));
      assert.equal(textOf(await create(sampled)), text, `seed ${seed} twice`);
      texts.add(text);
    }
    assert.ok(texts.size > 1, 'no seed makes a difference');
    const choices = (await create({ seed: 1, temperature: 2, n: 6 })).choices;
    assert.ok(new Set(choices.map((x) => x.message.content)).size > 1, 'choices differ');
  },

  async 'a talk of two turns'() {
    const c = cases.find((x) => x.template === 'chat'); // base ignores what was said before
    const first = ask(c).messages[0];
    const one = await demo.chat.completions.create(ask(c));
    const two = await demo.chat.completions.create(ask(c, {
      messages: [first, { role: 'assistant', content: textOf(one) }, { role: 'user', content: 'Are you sure?' }],
    }));
    assert.ok(two.usage.prompt_tokens > one.usage.prompt_tokens + one.usage.completion_tokens - 2);
    assert.equal(two.usage.prompt_tokens_details.image_tokens, one.usage.prompt_tokens_details.image_tokens);
    let asked = 0, right = 0; // follow-up questions that the model was trained on
    for (const s of samples) {
      for (const h of s.cases.filter((x) => x.kind === 'text' && x.history)) {
        const turns = h.history.flatMap(([query, answer]) =>
          [{ role: 'user', content: query }, { role: 'assistant', content: answer }]);
        turns.push({ role: 'user', content: [{ type: 'text', text: h.question }, picture(s.image)] });
        asked++;
        right += textOf(await demo.chat.completions.create(ask({ ...h, image: s.image }, { messages: turns }))) === h.greedy;
      }
    }
    assert.ok(right >= asked * 0.9, `${right} of ${asked} right`);
  },

  async 'text without a picture'() {
    const completion = await demo.chat.completions.create({
      model, temperature: 0, max_tokens: 10, messages: [
        { role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Describe this image.' }] });
    assert.equal(typeof textOf(completion), 'string');
    assert.equal(completion.usage.prompt_tokens_details.image_tokens, 0);
  },
};

let number = 0, failed = 0;
console.log(`1..${Object.keys(tests).length}`);
for (const [name, run] of Object.entries(tests)) {
  number++;
  try {
    await run();
    console.log(`ok ${number} - ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok ${number} - ${name}`);
    console.error(error);
  }
}
process.exit(failed ? 1 : 0);
