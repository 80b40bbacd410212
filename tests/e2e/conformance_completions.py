"""What the API promises about completions: conformance_completions.py COGWHEEL DEMO-MODEL. Prints TAP.

line 8 (model), 10 (streams: a_thousand_seeds_stream_as_they_are_whole), 11 (order), 33 (ids)
"""
import concurrent.futures
import json
import os
import sys

import tap
from server import Server, check_error, chunks_of, picture_part, until

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
HEADERS = {'Content-Type': 'application/json'}
QUESTIONS = ('What is this?', 'How many are there?', 'Is there a blue car?', 'Where is the dog?')


def send(server, path='/v1/completions', **body):
    """Status, headers, the answer's bytes."""
    return server.request('POST', path, json.dumps(body), HEADERS)


def complete(server, **body):
    """The object of an answer that is fine."""
    status, _, data = send(server, **{'temperature': 0, **body})
    assert status == 200, data
    return json.loads(data)


def texts(data):
    """Of its choices, which are numbered through."""
    assert [c['index'] for c in data['choices']] == list(range(len(data['choices']))), data
    return [c['text'] for c in data['choices']]


def stream(server, **body):
    """Joined texts and finishes by choice, and the usage chunk."""
    status, headers, data = send(server, stream=True, stream_options={'include_usage': True}, **body)
    assert status == 200 and headers['content-type'].startswith('text/event-stream'), data
    events = data.decode().split('\n\n')
    assert events[-2:] == ['data: [DONE]', ''], events[-3:]
    chunks = [json.loads(e.removeprefix('data: ')) for e in events[:-2]]
    usage = chunks.pop()
    assert usage['choices'] == [] and usage['usage'], usage
    joined, finishes = {}, {}
    for chunk in chunks:
        assert chunk['object'] == 'text_completion' and chunk['usage'] is None, chunk
        choice, = chunk['choices']
        assert 'delta' not in choice and choice['index'] not in finishes, chunk
        joined[choice['index']] = joined.get(choice['index'], '') + choice['text']
        if choice['finish_reason']:
            finishes[choice['index']] = choice['finish_reason']
    assert joined.keys() == finishes.keys()
    return [joined[i] for i in range(len(joined))], finishes, usage['usage']


def ids_of(server, text):
    """Without the token that begins a prompt."""
    status, _, data = send(server, '/tokenize', prompt=text, add_special_tokens=False)
    assert status == 200, data
    return json.loads(data)['tokens']


def a_chat_is_a_completion_of_its_text(server):
    """The same tokens, so the same answer; only the space before it is dropped in a chat."""
    for question in QUESTIONS:
        text = f'Question: {question} Answer:'
        chat = json.loads(send(server, '/v1/chat/completions', temperature=0, max_tokens=12,
                               chat_template_kwargs={'template_version': 'chat'},
                               messages=[{'role': 'user', 'content': question}])[2])
        whole = complete(server, prompt=text, max_tokens=12)
        answer = chat['choices'][0]['message']['content']
        assert texts(whole) == [' ' + answer] and answer, (whole, chat)
        assert whole['choices'][0]['finish_reason'] == chat['choices'][0]['finish_reason']
        for name in ('prompt_tokens', 'completion_tokens'):
            assert whole['usage'][name] == chat['usage'][name], (whole, chat)
        ids = ids_of(server, text)
        by_ids = complete(server, prompt=ids, max_tokens=12)
        assert texts(by_ids) == [' ' + answer], by_ids
        assert by_ids['usage']['prompt_tokens'] == 1 + len(ids) == whole['usage']['prompt_tokens']


def a_chat_goes_on_as_its_text_does(server):
    """An answer that has begun, and a question that is not ended; a stream says the same."""
    headers = {'template_version': 'chat'}
    for question in QUESTIONS:
        for begun in ('There', 'It is a', 'The dog '):
            whole = complete(server, prompt=f'Question: {question} Answer: {begun}', max_tokens=12)
            body = {'temperature': 0, 'max_tokens': 12, 'chat_template_kwargs': headers,
                    'messages': [{'role': 'user', 'content': question},
                                 {'role': 'assistant', 'content': begun}],
                    'continue_final_message': True, 'add_generation_prompt': False}
            chat = json.loads(send(server, '/v1/chat/completions', **body)[2])
            assert [chat['choices'][0]['message']['content']] == texts(whole), (chat, whole)
            assert chat['usage']['prompt_tokens'] == whole['usage']['prompt_tokens']
            batch = json.loads(send(server, '/v1/chat/completions/batch',
                                    **{**body, 'messages': [body['messages']] * 2})[2])
            assert [c['message']['content'] for c in batch['choices']] == texts(whole) * 2, batch
            streamed = send(server, '/v1/chat/completions', stream=True, **body)[2].decode()
            deltas = [json.loads(e.removeprefix('data: '))['choices'][0]['delta'].get('content', '')
                      for e in streamed.split('\n\n')[:-2]]
            assert [''.join(deltas)] == texts(whole), streamed
            ids = json.loads(send(server, '/tokenize', messages=body['messages'],
                                  continue_final_message=True, chat_template_kwargs=headers)[2])
            assert ids['count'] == whole['usage']['prompt_tokens'], ids
        whole = complete(server, prompt=f'Question: {question}', max_tokens=6)
        chat = json.loads(send(server, '/v1/chat/completions', temperature=0, max_tokens=6,
                               chat_template_kwargs=headers, add_generation_prompt=False,
                               messages=[{'role': 'user', 'content': question}])[2])
        assert [chat['choices'][0]['message']['content']] == texts(whole), (chat, whole)


def several_are_as_each_alone(server):
    """Texts and ids, greedy and drawn with a seed."""
    prompts = [f'Question: {q} Answer:' for q in QUESTIONS]
    for fields in ({}, {'temperature': 1, 'seed': 5, 'n': 2}):
        alone = [complete(server, prompt=p, max_tokens=8, **fields) for p in prompts]
        for sent in (prompts, [ids_of(server, p) for p in prompts]):
            together = complete(server, prompt=sent, max_tokens=8, **fields)
            assert texts(together) == [t for one in alone for t in texts(one)], together
            for name in ('prompt_tokens', 'completion_tokens', 'total_tokens'):
                assert together['usage'][name] == sum(one['usage'][name] for one in alone)


def a_stream_says_what_the_whole_does(server):
    """With several prompts and choices, echo, a stop string, and text of several bytes."""
    for fields in ({'prompt': ['Question: What is this? Answer:', '\u00fc\u4e2d\U0001f600'], 'n': 2},
                   {'prompt': 'two\nlines', 'echo': True}, {'prompt': [300, 301, 302], 'echo': True},
                   {'prompt': ['a', 'b'], 'stop': ['e', 'a'], 'temperature': 1},
                   {'prompt': ['a', 'b'], 'echo': True, 'max_tokens': 0}):
        for seed in range(6):
            body = {'max_tokens': 20, 'seed': seed, 'temperature': 1, **fields}
            whole = complete(server, **body)
            joined, finishes, usage = stream(server, **body)
            assert joined == texts(whole), (body, joined, whole)
            assert finishes == {c['index']: c['finish_reason'] for c in whole['choices']}
            for name in ('prompt_tokens', 'completion_tokens'):
                assert usage[name] == whole['usage'][name], (usage, whole)


def a_thousand_seeds_stream_as_they_are_whole(server):
    """Hot, so that tokens of parts of characters come; with stop strings that lie across tokens."""
    def ask(seed):
        body = {'prompt': QUESTIONS[seed % len(QUESTIONS)], 'max_tokens': 14, 'seed': seed,
                'temperature': 2, 'ignore_eos': True}
        plain = texts(complete(server, **body))[0]
        if seed % 2 and len(plain) > 6: # what is there, from the middle on
            body['stop'] = [plain[len(plain) // 2:][:2 + seed % 3], 'xyz']
        whole = complete(server, **body)['choices'][0]
        joined, finishes, _ = stream(server, **body)
        assert joined == [whole['text']], (body, joined, whole)
        assert finishes == {0: whole['finish_reason']}, (body, finishes)
        assert 'stop' not in body or (plain.startswith(whole['text']) and whole['text'] != plain)
        return 'stop' in body, not plain.isascii()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(ask, range(1000)))
    assert sum(stopped for stopped, _ in seen) > 400, seen
    assert sum(wide for _, wide in seen) > 50, seen


def check_columns(text, columns, n_top):
    """They are of one length; each token begins where it says, and is among those told for it."""
    assert set(columns) == {'tokens', 'token_logprobs', 'top_logprobs', 'text_offset'}, columns
    assert {len(c) for c in columns.values()} == {len(columns['tokens'])}, columns
    assert columns['text_offset'] == sorted(columns['text_offset']), columns
    for token, value, top, offset in zip(columns['tokens'], columns['token_logprobs'],
                                         columns['top_logprobs'], columns['text_offset']):
        rest = text[offset:]
        assert rest and (token.startswith('bytes:') or rest.startswith(token)
                         or token.startswith(rest)), (text, token, offset) # cut by a stop string
        assert token in top and top[token] >= value and max(top.values()) <= 0, (token, top)
        assert n_top <= len(top) + 1 and len(top) <= n_top + 1, (n_top, top)
        values = [v for t, v in top.items() if t != token]
        assert values == sorted(values, reverse=True), top


def tokens_tell_how_likely_they_were(server):
    """The values of a chat, in the old form; in a stream with the text that they begin."""
    n_tokens = 0
    for question in QUESTIONS:
        prompt = f'Question: {question} Answer:'
        data = complete(server, prompt=prompt, max_tokens=12, logprobs=5)
        columns = data['choices'][0]['logprobs']
        check_columns(texts(data)[0], columns, 5)
        chat = json.loads(send(
            server, '/v1/chat/completions', temperature=0, max_tokens=12, logprobs=True, top_logprobs=5,
            chat_template_kwargs={'template_version': 'chat'},
            messages=[{'role': 'user', 'content': question}])[2])
        entries = chat['choices'][0]['logprobs']['content']
        assert [e['logprob'] for e in entries] == columns['token_logprobs'], (entries, columns)
        for e, top in zip(entries, columns['top_logprobs']):
            assert list(top.values())[0] == e['top_logprobs'][0]['logprob'], (e, top)
        n_tokens += len(entries)
    assert n_tokens >= 4
    for fields in ({'prompt': [prompt, '\u00fc\u4e2d\U0001f600'], 'n': 2, 'logprobs': 20},
                   {'prompt': [300, 301, 302], 'logprobs': 0},
                   {'prompt': ['a', 'b'], 'stop': ['e', 'a'], 'logprobs': 1}):
        for seed in range(4):
            body = {'max_tokens': 20, 'seed': seed, 'temperature': 1.5, **fields}
            whole = complete(server, **body)
            data = send(server, stream=True, **body)[2].decode()
            streamed = {}
            for event in data.split('\n\n')[:-2]:
                choice, = json.loads(event.removeprefix('data: '))['choices']
                if choice['text']:
                    for name, column in choice['logprobs'].items():
                        streamed.setdefault(choice['index'], {}).setdefault(name, []).extend(column)
                else:
                    assert choice['logprobs'] is None, choice
            for c in whole['choices']:
                check_columns(c['text'], c['logprobs'], fields['logprobs'])
                assert streamed.get(c['index'], {k: [] for k in c['logprobs']}) == c['logprobs'], body
    status, headers, data = send(server, prompt='a', logprobs=21)
    check_error(status, headers, json.loads(data), 400, 'integer_above_max_value', 'logprobs')


def an_echo_is_the_prompt(server):
    """Before the answer that comes without it."""
    for prompt in ('Question: What is this? Answer:', ' two  spaces ', '', '\u00fc"\\'):
        plain, echoed = (texts(complete(server, prompt=prompt, echo=e, max_tokens=6))[0]
                         for e in (False, True))
        assert echoed == prompt + plain, (prompt, plain, echoed)
    assert texts(complete(server, prompt=['a', 'b'], echo=True, max_tokens=0)) == ['a', 'b']


def default_and_limits(server):
    """16 tokens where nothing is said; a prompt that is too long is refused in the known words."""
    data = complete(server, prompt='a a a a', logit_bias={'2': -100})
    assert data['usage']['completion_tokens'] == 16, data
    assert data['choices'][0]['finish_reason'] == 'length', data
    status, headers, body = send(server, prompt=['a', 'many words ' * 3000])
    data = json.loads(body)
    check_error(status, headers, data, 400, 'context_length_exceeded', 'prompt')
    assert "This model's maximum context length is 2048 tokens" in data['error']['message']
    status, headers, body = send(server, prompt='a', model='none')
    check_error(status, headers, json.loads(body), 404, 'model_not_found', 'model')


def ids_out_of_range(server):
    """Line 33: what is no token of the model, or stands for no text, is refused with its place."""
    with open(os.path.join(MODEL, 'config.json'), encoding='utf-8') as f:
        config = json.load(f)
    bad = [config['vocab_size'], -1, -2**31, 2**31, 2**32 + 5, 2**63 - 1, -2**63, 1e300, 0,
           config['bos_token_id'], config['eos_token_id']]
    for token in bad:
        for prompt, param in (([5, token, 6], 'prompt[1]'), ([[5], [6, 7, token]], 'prompt[1][2]')):
            status, headers, data = send(server, prompt=prompt)
            check_error(status, headers, json.loads(data), 400, 'invalid_value', param)
    for token in ('1', True, None, 1.5, {}):
        status, headers, data = send(server, prompt=[5, token])
        check_error(status, headers, json.loads(data), 400, 'invalid_type', 'prompt[1]')
    assert complete(server, prompt=[config['vocab_size'] - 1])['usage']['prompt_tokens'] == 2


def stream_of(server, path, **body):
    """Its chunks."""
    status, _, data = send(server, path, stream=True, **body)
    assert status == 200, data
    return chunks_of(data)


def joined_ids(chunks):
    """Of each choice: its tokens, and its prompt's, which are told once and first."""
    ids, prompts = {}, {}
    for choice in (c for chunk in chunks for c in chunk['choices']):
        i = choice['index']
        if 'prompt_token_ids' in choice:
            assert i not in prompts and not ids.get(i), choice
            prompts[i] = choice['prompt_token_ids']
        ids[i] = ids.get(i, []) + choice.get('token_ids', [])
    return [ids[i] for i in range(len(ids))], prompts


def token_ids_are_those_of_the_texts(server):
    """Of prompts and answers, also where a stop string holds text back and takes it away."""
    with open(os.path.join(MODEL, 'config.json'), encoding='utf-8') as f:
        config = json.load(f)
    for more in ({}, {'stop': ['a', 'zz']}, {'max_tokens': 1}, {'echo': True}):
        ask = {'prompt': ['Question: What is this? Answer:', 'a b c'], 'n': 2, 'temperature': 1.5, 'seed': 5,
               'return_token_ids': True, **more}
        data = complete(server, **ask)
        for i, choice in enumerate(data['choices']):
            prompt = ask['prompt'][i // 2]
            assert choice['prompt_token_ids'] == [config['bos_token_id']] + ids_of(server, prompt), choice
            if 'stop' in more or 'echo' in more:
                continue
            tokens = [t for t in choice['token_ids'] if t != config['eos_token_id']]
            text = json.loads(send(server, '/detokenize', tokens=choice['prompt_token_ids'][1:] + tokens)[2])
            assert text['prompt'] == prompt + choice['text'], (text, choice)
        whole = [c['token_ids'] for c in data['choices']]
        assert sum(map(len, whole)) == data['usage']['completion_tokens'], data
        ids, prompts = joined_ids(stream_of(server, '/v1/completions', **ask))
        assert ids == whole, (ids, whole)
        assert prompts == {i: c['prompt_token_ids'] for i, c in enumerate(data['choices'])}, prompts
    assert 'token_ids' not in json.dumps(complete(server, prompt='a'))


def token_ids_of_chats(server):
    """The picture's places are among them; one prompt is told once."""
    with open(os.path.join(MODEL, 'samples', '02.jpg'), 'rb') as f:
        content = [picture_part(f.read(), 'image/jpeg'), {'type': 'text', 'text': 'What is this?'}]
    messages = [{'role': 'user', 'content': content}]
    ask = {'messages': messages, 'n': 2, 'temperature': 1, 'seed': 3, 'return_token_ids': True}
    status, _, data = send(server, '/v1/chat/completions', **ask)
    assert status == 200, data
    data = json.loads(data)
    tokens = json.loads(send(server, '/tokenize', messages=messages)[2])['tokens']
    assert data['prompt_token_ids'] == tokens and len(tokens) == data['usage']['prompt_tokens'], data
    whole = [c['token_ids'] for c in data['choices']]
    assert sum(map(len, whole)) == data['usage']['completion_tokens'], data
    chunks = stream_of(server, '/v1/chat/completions', **ask)
    assert [c.get('prompt_token_ids') for c in chunks] == [tokens] + [None] * (len(chunks) - 1)
    assert joined_ids(chunks) == (whole, {})
    status, _, data = send(server, '/v1/chat/completions/batch', **{**ask, 'n': 1, 'messages': [messages] * 2})
    assert status == 200, data
    assert [c['prompt_token_ids'] for c in json.loads(data)['choices']] == [tokens] * 2, data
    status, headers, data = send(server, '/v1/responses', input='a', return_token_ids=True)
    check_error(status, headers, json.loads(data), 400, 'unsupported_parameter', 'return_token_ids')


def counted_as_one_request(server):
    """In the log and in /metrics, with the tokens of all prompts."""
    def handled():
        page = server.get('/metrics')[2].decode()
        return int(float(next((line.rsplit(' ', 1)[1] for line in page.splitlines() if line.startswith(
            'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}')), 0)))

    before = handled()
    data = complete(server, prompt=['a b c', 'd'], n=2, max_tokens=3, user='somebody')
    until(lambda: handled() == before + 1, 'the request in /metrics')
    name = data['id'].removeprefix('cmpl-')
    line, = until(lambda: [e for e in server.events('request') if e['id'] == name], 'the log line')
    assert line['route'] == '/completions' and line['status'] == '200', line
    assert int(line['prompt_tokens']) == data['usage']['prompt_tokens'], line
    assert int(line['output_tokens']) == data['usage']['completion_tokens'], line
    parts = ('read_ms', 'queue_ms', 'prefill_ms', 'decode_ms', 'write_ms')
    assert sum(float(line.get(p, 0)) for p in parts) <= float(line['ms']) + 1, line


TESTS = [a_chat_is_a_completion_of_its_text, a_chat_goes_on_as_its_text_does, several_are_as_each_alone,
         a_stream_says_what_the_whole_does,
         a_thousand_seeds_stream_as_they_are_whole, tokens_tell_how_likely_they_were,
         an_echo_is_the_prompt, token_ids_are_those_of_the_texts, token_ids_of_chats, default_and_limits,
         ids_out_of_range, counted_as_one_request]
tap.need_model(MODEL)
with Server(BINARY, MODEL) as shared:
    code = tap.run(TESTS, shared)
sys.exit(code)
