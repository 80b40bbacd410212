// The AI SDK with its provider for servers of this kind. Run by clients.py.
import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateObject, generateText, streamObject, streamText } from 'ai';
import { z } from 'zod';
import { API_KEY, DEMO_URL, LONG_URL, SHORT_URL, ask, asked, bytesOf, endless, fillUp, makesRoom, model, plain,
         recorder, run, typeOf, until } from './common.mjs';

const wire = recorder();
const at = (url, more = {}) =>
  createOpenAICompatible({ name: 'cogwheel', baseURL: `${url}/v1`, apiKey: API_KEY, includeUsage: true, ...more });
const demo = at(DEMO_URL, { fetch: wire.fetch });
const long = at(LONG_URL, { fetch: wire.fetch })('long');

function question(c, more = {}) {
  return {
    model: demo(model),
    temperature: 0,
    maxOutputTokens: 100,
    maxRetries: 0,
    providerOptions: { cogwheel: { chat_template_kwargs: { template_version: c.template } } },
    messages: [{ role: 'user', content: [{ type: 'text', text: c.question },
                                         { type: 'image', image: bytesOf(c.image), mediaType: typeOf(c.image) }] }],
    ...more,
  };
}

const endlessly = (more = {}) => ({
  model: long, prompt: 'Hello', temperature: 0, maxOutputTokens: 1900, onError() {}, ...more });

async function refused(promise, status, code, retryable) {
  const error = await promise.then(() => assert.fail('was answered'), (e) => e);
  assert.ok(APICallError.isInstance(error), `${error.constructor.name}: ${error.message}`);
  assert.deepEqual([error.statusCode, error.data.error.code, error.isRetryable], [status, code, retryable]);
}

await run({
  async 'generateText answers about pictures as a plain request is answered'() {
    for (const c of asked) {
      const { text, finishReason, usage } = await generateText(question(c));
      const whole = await plain(ask(c));
      assert.equal(text, whole.choices[0].message.content);
      assert.equal(finishReason, 'stop');
      const { prompt_tokens, completion_tokens } = whole.usage;
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [prompt_tokens, completion_tokens]);
    }
    const { text } = await generateText(question(asked[0]));
    assert.equal(text, asked[0].greedy);
  },

  async 'a system text, a talk, a seed'() {
    const [c] = asked;
    const [first] = question(c).messages;
    const talk = question(c, { system: 'Be brief.', seed: 5, temperature: 1.5, messages: [
      first, { role: 'assistant', content: 'A car.' }, { role: 'user', content: 'Are you sure?' }] });
    const { text } = await generateText(talk);
    assert.equal(text, (await plain(wire.requests.at(-1).body)).choices[0].message.content);
    assert.deepEqual(wire.requests.at(-1).body.messages.map((m) => m.role), ['system', 'user', 'assistant', 'user']);
  },

  async 'streamText is the whole answer in pieces'() {
    for (const c of asked.slice(0, 8)) {
      const result = streamText(question(c));
      const pieces = [];
      for await (const piece of result.textStream) pieces.push(piece);
      const whole = await generateText(question(c));
      assert.equal(pieces.join(''), whole.text);
      assert.ok(c.greedy.length < 10 || pieces.length > 2);
      assert.equal(await result.finishReason, 'stop');
      assert.deepEqual((await result.usage).outputTokens, whole.usage.outputTokens);
    }
    const cut = streamText(question(asked[0], { maxOutputTokens: 1 }));
    await cut.consumeStream();
    assert.equal(await cut.finishReason, 'length');
  },

  async 'completions'() {
    const text = { model: demo.completionModel(model), prompt: 'Can you see a blue car?', temperature: 0,
                   maxOutputTokens: 12, providerOptions: { cogwheel: { min_tokens: 4 } } };
    const whole = await generateText(text);
    assert.equal(whole.text, (await plain(wire.requests.at(-1).body, '/v1/completions')).choices[0].text);
    assert.ok(whole.text.length > 0);
    let streamed = '';
    for await (const piece of streamText(text).textStream) streamed += piece;
    assert.equal(streamed, whole.text);
  },

  async 'an object in the form of a schema'() {
    const schema = z.object({ thing: z.enum(['car', 'clock', 'bee']), sure: z.boolean().nullable(),
                              more: z.array(z.string().max(8)).max(2).optional() });
    const typed = at(DEMO_URL, { fetch: wire.fetch, supportsStructuredOutputs: true })(model);
    for (const c of asked.slice(0, 3)) {
      const drawn = question(c, { model: typed, schema, temperature: 1, seed: 4 });
      const { object } = await generateObject(drawn);
      assert.deepEqual(object, schema.parse(object));
      const whole = await plain(wire.requests.at(-1).body);
      assert.deepEqual(object, JSON.parse(whole.choices[0].message.content));
      let last;
      for await (const partial of streamObject(drawn).partialObjectStream) last = partial;
      assert.deepEqual(last, object);
    }
  },

  async 'errors say what they are'() {
    const [c] = asked;
    await refused(generateText(question(c, { temperature: 3 })), 400, 'decimal_above_max_value', false);
    await refused(generateText(question(c, { model: demo('gpt-4o') })), 404, 'model_not_found', false);
    const stranger = at(DEMO_URL, { apiKey: 'wrong' });
    await refused(generateText(question(c, { model: stranger(model) })), 401, 'invalid_api_key', false);
    const parts = [];
    for await (const part of streamText(question(c, { topP: 2, onError() {} })).fullStream) parts.push(part);
    const error = parts.find((part) => part.type === 'error').error;
    assert.deepEqual([error.statusCode, error.data.error.param], [400, 'top_p']);
  },

  async 'a full queue is tried again'() {
    const leave = await fillUp();
    const small = { model: long, prompt: 'Hello', maxOutputTokens: 2 };
    await refused(generateText({ ...small, maxRetries: 0 }), 503, 'server_is_overloaded', true);
    wire.requests.length = 0;
    const next = generateText({ ...small, maxRetries: 4 });
    await until(() => wire.requests.length > 0, 'an answer');
    leave();
    assert.equal((await next).usage.outputTokens, 2);
    assert.deepEqual([wire.requests[0].status, wire.requests.at(-1).status], [503, 200]);
  },

  async 'an aborted stream makes room'() {
    const controller = new AbortController();
    const stream = streamText(endlessly({ abortSignal: controller.signal })).textStream[Symbol.asyncIterator]();
    await stream.next();
    await makesRoom(() => controller.abort());
  },

  async 'an error in the middle of a stream is a part of it'() {
    const parts = [];
    const slow = at(SHORT_URL)('long');
    const options = { cogwheel: { n: endless.n } };
    const { fullStream } = streamText(endlessly({ model: slow, providerOptions: options }));
    for await (const part of fullStream) parts.push(part);
    assert.ok(parts.some((part) => part.type === 'text-delta'));
    const error = parts.find((part) => part.type === 'error')?.error;
    assert.match(String(error?.message ?? error), /time/);
    assert.equal(parts.at(-1).finishReason, 'error');
  },
});
