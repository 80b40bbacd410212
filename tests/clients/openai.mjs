// The openai package. Run by clients.py.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { API_KEY, DEMO_URL, LONG_URL, SHORT_URL, ask, bytesOf, cases, endless, fillUp, makesRoom, model, picture, plain,
         recorder, run, samples, until, urlOf } from './common.mjs';

const wire = recorder();
const demo = new OpenAI({ baseURL: `${DEMO_URL}/v1`, apiKey: API_KEY, maxRetries: 0 });
const long = new OpenAI({ baseURL: `${LONG_URL}/v1`, apiKey: 'any', fetch: wire.fetch });
const short = new OpenAI({ baseURL: `${SHORT_URL}/v1`, apiKey: 'any', fetch: wire.fetch });

const textOf = (completion) => completion.choices[0].message.content;

// the same question in the form of a response
function respond(sample, more = {}) {
  const { messages, max_completion_tokens, ...rest } = ask(sample);
  return { ...rest, max_output_tokens: max_completion_tokens, ...more, input: more.input ?? [
    { role: 'user', content: [{ type: 'input_text', text: sample.question },
                              { type: 'input_image', detail: 'auto', image_url: urlOf(sample.image) }] }] };
}

const endlessResponse = { model: 'long', max_output_tokens: 1900, temperature: 0, input: 'Hello' };

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

await run({
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

  async 'what is drawn is what a request without a client gets'() {
    for (const [seed, c] of cases.slice(0, 4).entries()) {
      const body = ask(c, { seed, temperature: 1.5, n: 2 });
      const { choices } = await demo.chat.completions.create(body);
      assert.deepEqual(choices, (await plain(body)).choices);
    }
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
    assert.equal(await runner.finalContent(), cases[0].greedy);
    assert.equal((await runner.finalMessage()).content, cases[0].greedy);
    assert.equal(contents.join('').length, 2 * cases[0].greedy.length);
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
        await makesRoom(() => stream.controller.abort());
      } else {
        await makesRoom(async () => {
          for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
        });
      }
      const next = await long.chat.completions.create({ ...endless, n: 1, max_tokens: 3, stream: false });
      assert.equal(next.usage.completion_tokens, 3);
    }
    const runner = long.chat.completions.stream({ ...endless, n: 1 });
    await new Promise((heard) => runner.once('content', heard));
    const thrown = assert.rejects(runner.finalContent(), OpenAI.APIUserAbortError);
    await makesRoom(() => runner.abort());
    await thrown;
    const controller = new AbortController();
    const waiting = long.chat.completions.create({ ...endless, stream: false }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 100);
    await assert.rejects(waiting, OpenAI.APIUserAbortError);
  },

  async 'a full queue is 503, and the client comes back'() {
    const leave = await fillUp();
    const small = { ...endless, n: 1, max_tokens: 2, stream: false };
    const error = await long.chat.completions.create(small, { maxRetries: 0 }).catch((e) => e);
    assert.ok(error instanceof OpenAI.InternalServerError, String(error));
    assert.deepEqual([error.status, error.code], [503, 'server_is_overloaded']);
    assert.ok(Number(error.headers.get('retry-after')) >= 1);
    wire.requests.length = 0;
    const next = long.chat.completions.create(small);
    await until(() => wire.requests.length > 0, 'an answer');
    leave();
    assert.equal((await next).usage.completion_tokens, 2);
    assert.equal(wire.requests[0].status, 503);
    const last = wire.requests.at(-1);
    assert.deepEqual([last.status, last.retry], [200, String(wire.requests.length - 1)]);
  },

  async 'an error in the middle of a stream is thrown, with what came before'() {
    const stream = await short.chat.completions.create(endless);
    let heard = 0;
    const error = await (async () => {
      for await (const chunk of stream) heard += chunk.choices.length;
    })().then(() => assert.fail('it came to an end'), (e) => e);
    assert.ok(error instanceof OpenAI.APIError && heard > 0, `${heard} ${error}`);
    assert.equal(error.code, 'request_deadline_exceeded');
    const runner = short.chat.completions.stream(endless);
    await assert.rejects(runner.finalContent(), { code: 'request_deadline_exceeded' });
    wire.requests.length = 0;
    await refused(short.chat.completions.create({ ...endless, stream: false }), OpenAI.InternalServerError, 504,
                  'request_deadline_exceeded');
    assert.equal(wire.requests.length, 1, 'it was tried again');
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

  async 'an answer in the form of a schema'() {
    const Seen = z.object({ thing: z.enum(['car', 'clock', 'bee']), sure: z.boolean(), rest: z.string().max(20) });
    const response_format = zodResponseFormat(Seen, 'seen');
    for (const c of cases.slice(0, 3)) {
      const body = ask(c, { response_format, temperature: 1, seed: 4 });
      const { message } = (await demo.chat.completions.parse(body)).choices[0];
      assert.deepEqual(message.parsed, Seen.parse(JSON.parse(message.content)));
      assert.equal(message.content, (await plain(body)).choices[0].message.content);
      const runner = demo.chat.completions.stream(body);
      assert.deepEqual((await runner.finalMessage()).parsed, message.parsed);
    }
    const object = await demo.chat.completions.create(
      ask(cases[0], { response_format: { type: 'json_object' }, max_completion_tokens: 300 }));
    assert.match(textOf(object), /^\s*\{/);
    if (object.choices[0].finish_reason === 'stop') assert.equal(typeof JSON.parse(textOf(object)), 'object');
    await assert.rejects(demo.chat.completions.parse(ask(cases[0], { response_format, max_completion_tokens: 3 })),
                         OpenAI.LengthFinishReasonError);
  },

  async 'errors have their classes'() {
    const body = ask(cases[0]);
    const create = (more, options) => demo.chat.completions.create({ ...body, ...more }, options);
    await refused(create({ temperature: 3 }), OpenAI.BadRequestError, 400, 'decimal_above_max_value', 'temperature');
    await refused(create({ messages: [] }), OpenAI.BadRequestError, 400, 'empty_array', 'messages');
    await refused(create({ top_logprobs: 2 }), OpenAI.BadRequestError, 400, 'invalid_value', 'top_logprobs');
    await refused(create({ response_format: { type: 'json_object', schema: { not: {} } } }), OpenAI.BadRequestError, 400,
                  'invalid_json_schema', 'response_format.schema');
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
        const said = await demo.chat.completions.create(ask({ ...h, image: s.image }, { messages: turns }));
        right += textOf(said) === h.greedy;
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

  async 'boxes come as data'() {
    const s = samples.find((x) => x.cases.some((c) => c.kind === 'box'));
    const c = s.cases.find((x) => x.kind === 'box');
    const body = ask({ ...c, image: s.image }, { grounding: { format: 'norm1000' } });
    const [choice] = (await demo.chat.completions.create(body)).choices;
    const [x0, y0, x1, y1] = choice.message.content.match(/\d+/g).map(Number);
    assert.deepEqual(choice.grounding[0].boxes, [{ x0, y0, x1, y1 }]);
    const far = c.greedy.match(/\d+/g).map((edge, i) => Math.abs(edge - [x0, y0, x1, y1][i]));
    assert.ok(Math.max(...far) < 50, `${choice.message.content} is not ${c.greedy}`);
    const streamed = await demo.chat.completions.stream(body).finalChatCompletion();
    assert.equal(textOf(streamed), choice.message.content);
    assert.deepEqual(streamed.choices[0].grounding, choice.grounding);
  },

  async 'responses answer about pictures as chats do'() {
    let right = 0;
    for (const c of cases) {
      const response = await demo.responses.create(respond(c));
      assert.deepEqual([response.status, response.error, response.store], ['completed', null, false]);
      assert.ok(response.usage.input_tokens_details.image_tokens > 0);
      right += response.output_text === c.greedy;
    }
    assert.ok(right >= cases.length * 0.9, `${right} of ${cases.length} right`);
    const [c] = cases;
    const chat = await demo.chat.completions.create(ask(c, { seed: 5, temperature: 2 }));
    const response = await demo.responses.create(
      respond(c, { seed: 5, temperature: 2, metadata: { scene: '1' }, user: 'me', instructions: '' }));
    assert.equal(response.output_text, textOf(chat));
    assert.equal(response.usage.input_tokens, chat.usage.prompt_tokens);
    assert.deepEqual([response.metadata, response.user, response.temperature], [{ scene: '1' }, 'me', 2]);
    const counted = await demo.responses.inputTokens.count({ model, input: respond(c).input,
                                                             chat_template_kwargs: respond(c).chat_template_kwargs });
    assert.equal(counted.input_tokens, chat.usage.prompt_tokens);
  },

  async 'what a response said goes back as history'() {
    const c = cases.find((x) => x.template === 'chat');
    const first = respond(c);
    const one = await demo.responses.create(first);
    const input = [...first.input, ...one.output, { role: 'user', content: 'Are you sure?' }];
    const two = await demo.responses.create({ ...first, input });
    const chat = await demo.chat.completions.create(ask(c, { messages: [
      ask(c).messages[0], { role: 'assistant', content: one.output_text }, { role: 'user', content: 'Are you sure?' }] }));
    assert.equal(two.output_text, textOf(chat));
    assert.equal(two.usage.input_tokens, chat.usage.prompt_tokens);
  },

  async 'the stream helper of responses'() {
    for (const c of cases.slice(0, 4)) {
      const body = respond(c, { include: ['message.output_text.logprobs'], top_logprobs: 2 });
      const whole = await demo.responses.create(body);
      const runner = demo.responses.stream(body);
      const types = [];
      let text = '';
      runner.on('response.output_text.delta', (e) => {
        text += e.delta;
        assert.equal(e.snapshot, text);
      });
      for await (const event of runner) {
        assert.equal(event.sequence_number, types.length);
        types.push(event.type);
      }
      const final = await runner.finalResponse();
      assert.equal(text, c.greedy);
      assert.equal(final.output_text, c.greedy);
      assert.deepEqual(final.output[0].content[0].logprobs, whole.output[0].content[0].logprobs);
      assert.equal(final.output[0].content[0].logprobs[0].top_logprobs.length, 2);
      assert.deepEqual({ ...final.usage, input_tokens_details: 0 }, { ...whole.usage, input_tokens_details: 0 });
      assert.deepEqual(types.slice(0, 4), ['response.created', 'response.in_progress', 'response.output_item.added',
                                           'response.content_part.added']);
      assert.deepEqual(types.slice(-4), ['response.output_text.done', 'response.content_part.done',
                                         'response.output_item.done', 'response.completed']);
    }
    const cut = await demo.responses.stream(respond(cases[0], { max_output_tokens: 2 })).finalResponse();
    assert.deepEqual([cut.status, cut.incomplete_details], ['incomplete', { reason: 'max_output_tokens' }]);
    assert.ok(cases[0].greedy.startsWith(cut.output_text));
  },

  async 'a response in the form of a schema'() {
    const Seen = z.object({ thing: z.enum(['car', 'clock', 'bee']), sure: z.boolean(), rest: z.string().max(20) });
    const text = { format: zodTextFormat(Seen, 'seen') };
    const body = respond(cases[0], { text, temperature: 1, seed: 4 });
    const response = await demo.responses.parse(body);
    assert.deepEqual(response.output_parsed, Seen.parse(JSON.parse(response.output_text)));
    const chat = await demo.chat.completions.create(
      ask(cases[0], { response_format: zodResponseFormat(Seen, 'seen'), temperature: 1, seed: 4 }));
    assert.equal(response.output_text, textOf(chat));
    assert.deepEqual((await demo.responses.stream(body).finalResponse()).output_parsed, response.output_parsed);
    const { format } = response.text;
    assert.deepEqual([format.type, format.name], ['json_schema', 'seen']);
  },

  async 'errors of responses'() {
    const [c] = cases;
    const create = (more) => demo.responses.create(respond(c, more));
    await refused(create({ previous_response_id: 'resp_1' }), OpenAI.BadRequestError, 400, 'unsupported_parameter',
                  'previous_response_id');
    await refused(create({ tools: [{ type: 'web_search' }] }), OpenAI.BadRequestError, 400, 'unsupported_parameter',
                  'tools');
    await refused(create({ input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'data:,a' }] }] }),
                  OpenAI.BadRequestError, 400, 'invalid_image_url', 'input[0].content[0].image_url');
    await refused(create({ model: 'gpt-4o' }), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
    await refused(demo.responses.retrieve('resp_1'), OpenAI.NotFoundError, 404, 'unknown_url');
    const runner = short.responses.stream(endlessResponse);
    const heard = [];
    runner.on('event', (event) => heard.push(event.type));
    await assert.rejects(runner.finalResponse());
    assert.ok(heard.includes('response.output_text.delta') && heard.includes('error'), heard.slice(-3).join());
    const stream = await short.responses.create({ ...endlessResponse, stream: true });
    let last, before;
    for await (const event of stream) [before, last] = [last, event];
    assert.deepEqual([before.type, before.code], ['error', 'request_deadline_exceeded']);
    assert.deepEqual([last.type, last.response.status, last.response.error.code],
                     ['response.failed', 'failed', 'request_deadline_exceeded']);
  },

  async 'an aborted response makes room'() {
    const runner = long.responses.stream(endlessResponse);
    await new Promise((heard) => runner.once('response.output_text.delta', heard));
    const thrown = assert.rejects(runner.finalResponse(), OpenAI.APIUserAbortError);
    await makesRoom(() => runner.abort());
    await thrown;
    const next = await long.responses.create({ ...endlessResponse, max_output_tokens: 3 });
    assert.equal(next.usage.output_tokens, 3);
  },

  async 'a full queue is 503 to responses, and the client comes back'() {
    const leave = await fillUp();
    wire.requests.length = 0;
    const next = long.responses.create({ ...endlessResponse, max_output_tokens: 2 });
    await until(() => wire.requests.length > 0, 'an answer');
    leave();
    assert.equal((await next).usage.output_tokens, 2);
    assert.equal(wire.requests[0].status, 503);
    assert.equal(wire.requests.at(-1).status, 200);
  },

  async 'several conversations in one request'() {
    const some = [...cases.slice(0, 6), cases[0]];
    const body = ask(cases[0], { messages: some.map((c) => ask(c).messages) });
    const template = cases[0].template;
    const broken = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] }];
    body.messages.splice(3, 0, broken);
    some.splice(3, 0, null);
    const whole = await demo.post('/chat/completions/batch', { body });
    assert.deepEqual(whole.choices.map((x) => x.index), some.map((_, i) => i));
    const usage = { prompt_tokens: 0, completion_tokens: 0 };
    for (const [i, choice] of whole.choices.entries()) {
      if (i === 3) {
        assert.deepEqual([choice.error.code, choice.error.param, choice.message.content],
                         ['unsupported_image_media_type', 'messages[3][0].content[0].image_url.url', null]);
        continue;
      }
      const alone = await demo.chat.completions.create(
        ask(some[i], { chat_template_kwargs: { template_version: template } }));
      assert.equal(choice.message.content, textOf(alone));
      for (const name of Object.keys(usage)) usage[name] += alone.usage[name];
    }
    assert.deepEqual({ ...whole.usage, ...usage }, whole.usage);
    const encoded = async () => {
      const text = await (await fetch(`${DEMO_URL}/metrics`)).text();
      return Number(text.match(/^cogwheel_images_encoded_total(?:{.*})? (\d+)$/m)[1]);
    };
    const before = await encoded();
    const same = { ...ask(cases[1]), cache_salt: 'a batch', messages: Array(4).fill(ask(cases[1]).messages) };
    const { choices } = await demo.post('/chat/completions/batch', { body: same });
    assert.deepEqual(choices.map((x) => x.message.content), Array(4).fill(cases[1].greedy));
    assert.equal(await encoded(), before + 1, 'a picture was looked at more than once');
    await refused(demo.post('/chat/completions/batch', { body: { ...body, messages: [] } }), OpenAI.BadRequestError, 400,
                  'empty_array', 'messages');
  },

  async 'pictures are uploaded and asked about by id'() {
    const sample = cases[0], bytes = bytesOf(sample.image);
    const file = await demo.files.create({ purpose: 'vision', file: new File([bytes], 'a b.jpg'),
                                           expires_after: { anchor: 'created_at', seconds: 3600 } });
    assert.deepEqual([file.object, file.bytes, file.purpose, file.filename, file.expires_at - file.created_at],
                     ['file', bytes.length, 'vision', 'a b.jpg', 3600]);
    const { messages, ...body } = ask(sample);
    for (const part of [{ type: 'file', file: { file_id: file.id } }, { type: 'input_image', file_id: file.id }]) {
      const content = [{ type: 'text', text: sample.question }, part];
      assert.equal(textOf(await demo.chat.completions.create({ ...body, messages: [{ role: 'user', content }] })),
                   sample.greedy);
    }
    const response = await demo.responses.create(respond(sample, { input: [{ role: 'user', content: [
      { type: 'input_text', text: sample.question }, { type: 'input_image', detail: 'auto', file_id: file.id }] }] }));
    assert.equal(response.output_text, sample.greedy);
    const other = await demo.files.create({ purpose: 'user_data', file: new File([bytes], 'b') });
    const ids = [];
    for await (const each of demo.files.list({ limit: 1 })) ids.push(each.id); // a page for each
    assert.deepEqual(ids, [other.id, file.id]);
    assert.deepEqual((await demo.files.list({ purpose: 'user_data' })).data.map((x) => x.id), [other.id]);
    assert.deepEqual(await demo.files.retrieve(file.id), file);
    assert.deepEqual(Buffer.from(await (await demo.files.content(file.id)).arrayBuffer()), bytes);
    assert.equal((await demo.files.delete(file.id)).deleted, true);
    assert.equal((await demo.files.delete(other.id)).deleted, true);
    await refused(demo.files.retrieve(file.id), OpenAI.NotFoundError, 404, 'file_not_found', 'id');
    const gone = [{ type: 'file', file: { file_id: file.id } }, { type: 'text', text: 'What?' }];
    await refused(demo.chat.completions.create({ ...body, messages: [{ role: 'user', content: gone }] }),
                  OpenAI.BadRequestError, 400, 'image_file_not_found', 'messages[0].content[0].file.file_id');
    await refused(demo.files.create({ purpose: 'vision', file: new File(['words'], 'a.jpg') }),
                  OpenAI.BadRequestError, 400, 'unsupported_image_media_type', 'file');
  },

  async 'completions go on from texts'() {
    const body = { model, prompt: ['Question: Can you', 'The blue car'], max_tokens: 8, temperature: 1, seed: 3, n: 2 };
    const whole = await demo.completions.create(body);
    assert.deepEqual(whole.choices, (await plain(body, '/v1/completions')).choices);
    assert.deepEqual(whole.choices.map((x) => x.index), [0, 1, 2, 3]);
    const texts = ['', '', '', ''];
    let usage;
    const stream = await demo.completions.create({ ...body, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
      usage = chunk.usage ?? usage;
    }
    assert.deepEqual(texts, whole.choices.map((x) => x.text));
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
    const echo = await demo.completions.create({ model, prompt: body.prompt[0], echo: true, max_tokens: 0 });
    assert.equal(echo.choices[0].text, body.prompt[0]);
    await refused(demo.completions.create({ model, prompt: [[1 << 30]] }), OpenAI.BadRequestError, 400, 'invalid_value',
                  'prompt[0][0]');
  },
});
