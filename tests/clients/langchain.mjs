// LangChain's package for OpenAI. Run by clients.py.
import assert from 'node:assert/strict';
import { AIMessage, HumanMessage, SystemMessage } from '@langchain/core/messages';
import { ChatOpenAI, OpenAI } from '@langchain/openai';
import { z } from 'zod';
import { API_KEY, DEMO_URL, LONG_URL, SHORT_URL, ask, asked, bytesOf, endless, fillUp, makesRoom, model, picture,
         plain, recorder, run, typeOf, until } from './common.mjs';

console.warn = () => {}; // when chunks are put together, it warns of numbers that it put there itself
const wire = recorder();
const at = (url, apiKey = API_KEY) => ({
  apiKey, maxRetries: 0, configuration: { baseURL: `${url}/v1`, fetch: wire.fetch } });
const chat = (c, more = {}) => new ChatOpenAI({
  ...at(DEMO_URL), model, temperature: 0, maxTokens: 100,
  modelKwargs: { chat_template_kwargs: { template_version: c.template } }, ...more });
const slowly = (url, more = {}) => new ChatOpenAI({
  ...at(url), model: 'long', temperature: 0, maxTokens: 1900, ...more });
const human = (c, part = picture(c.image)) => new HumanMessage({ content: [{ type: 'text', text: c.question }, part] });

async function refused(promise, status, code) {
  const error = await promise.then(() => assert.fail('was answered'), (e) => e);
  assert.deepEqual([error.status, error.code], [status, code], String(error));
}

await run({
  async 'invoke answers about pictures as a plain request is answered'() {
    for (const c of asked) {
      const message = await chat(c).invoke([human(c)]);
      const whole = await plain(ask(c));
      assert.equal(message.content, whole.choices[0].message.content);
      assert.equal(message.response_metadata.finish_reason, 'stop');
      const { input_tokens, output_tokens } = message.usage_metadata;
      assert.deepEqual([input_tokens, output_tokens], [whole.usage.prompt_tokens, whole.usage.completion_tokens]);
    }
  },

  async 'a picture in the form that is common to all models'() {
    for (const c of asked.slice(0, 3)) {
      const part = { type: 'image', source_type: 'base64', mime_type: typeOf(c.image),
                     data: bytesOf(c.image).toString('base64') };
      assert.equal((await chat(c).invoke([human(c, part)])).content, c.greedy);
    }
  },

  async 'stream is the whole answer in pieces'() {
    for (const c of asked.slice(0, 8)) {
      let whole, pieces = 0;
      for await (const chunk of await chat(c).stream([human(c)])) {
        whole = whole ? whole.concat(chunk) : chunk;
        pieces++;
      }
      assert.equal(whole.content, (await plain(ask(c))).choices[0].message.content);
      assert.ok(pieces > 2);
      assert.equal(whole.response_metadata.finish_reason, 'stop');
      assert.ok(whole.usage_metadata.output_tokens > 0);
    }
  },

  async 'a system text and a talk'() {
    const [c] = asked;
    const { content } = await chat(c).invoke([
      new SystemMessage('Be brief.'), human(c), new AIMessage('A car.'), new HumanMessage('Are you sure?')]);
    assert.equal(content, (await plain(wire.requests.at(-1).body)).choices[0].message.content);
  },

  async 'a batch, and several choices'() {
    const c = asked[0];
    const many = asked.filter((x) => x.template === c.template).slice(0, 4);
    const messages = await chat(c).batch(many.map((x) => [human(x)]));
    const alone = await Promise.all(many.map((x) => plain(ask(x))));
    assert.deepEqual(messages.map((m) => m.content), alone.map((a) => a.choices[0].message.content));
    const { generations } = await chat(c, { n: 3, temperature: 1 }).generate([[human(c)]]);
    assert.equal(generations[0].length, 3);
  },

  async 'completions'() {
    const llm = new OpenAI({ ...at(DEMO_URL), model, temperature: 0, maxTokens: 12 });
    const text = await llm.invoke('Can you see');
    const body = { model, prompt: 'Can you see', temperature: 0, max_tokens: 12 };
    assert.equal(text, (await plain(body, '/v1/completions')).choices[0].text);
    assert.ok(text.length > 0);
    let streamed = '';
    for await (const piece of await llm.stream('Can you see')) streamed += piece;
    assert.equal(streamed, text);
  },

  async 'an object in the form of a schema'() {
    const Seen = z.object({ thing: z.enum(['car', 'clock', 'bee']), count: z.number().int().min(0).max(9) });
    for (const c of asked.slice(0, 3)) {
      const object = await chat(c).withStructuredOutput(Seen).invoke([human(c)]);
      assert.deepEqual(object, Seen.parse(object));
      const whole = await plain(wire.requests.at(-1).body);
      assert.deepEqual(object, JSON.parse(whole.choices[0].message.content));
    }
  },

  async 'log-probabilities'() {
    const [c] = asked;
    const { content, response_metadata } = await chat(c, { logprobs: true, topLogprobs: 2 }).invoke([human(c)]);
    const entries = response_metadata.logprobs.content;
    assert.equal(Buffer.from(entries.flatMap((e) => e.bytes)).toString(), content);
    assert.ok(entries.every((e) => e.logprob <= 0 && e.top_logprobs.length === 2));
  },

  async 'errors say what they are'() {
    const [c] = asked;
    await refused(chat(c, { temperature: 3 }).invoke([human(c)]), 400, 'decimal_above_max_value');
    await refused(chat(c, at(DEMO_URL, 'wrong')).invoke([human(c)]), 401, 'invalid_api_key');
    await refused(chat(c, { model: 'gpt-4o' }).invoke([human(c)]), 404, 'model_not_found');
    await refused(chat(c, { topP: 2 }).stream([human(c)]), 400, 'decimal_above_max_value');
  },

  async 'a full queue is tried again'() {
    const leave = await fillUp();
    await refused(slowly(LONG_URL, { maxTokens: 2 }).invoke('Hello'), 503, 'server_is_overloaded');
    wire.requests.length = 0;
    const next = slowly(LONG_URL, { maxTokens: 2, maxRetries: 4 }).invoke('Hello');
    await until(() => wire.requests.length > 0, 'an answer');
    leave();
    assert.equal((await next).usage_metadata.output_tokens, 2);
    assert.deepEqual([wire.requests[0].status, wire.requests.at(-1).status], [503, 200]);
  },

  async 'an aborted stream makes room'() {
    const controller = new AbortController();
    const stream = await slowly(LONG_URL).stream('Hello', { signal: controller.signal });
    await stream.next();
    await makesRoom(() => controller.abort());
  },

  async 'an error in the middle of a stream is thrown'() {
    let heard = '';
    const stream = await slowly(SHORT_URL, { n: endless.n }).stream('Hello');
    await refused((async () => {
      for await (const chunk of stream) heard += chunk.content;
    })(), undefined, 'request_deadline_exceeded');
    assert.ok(heard.length > 0);
  },
});
