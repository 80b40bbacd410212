"""What the real server says of the likelihood of answers and prompts: scores.py COGWHEEL MODEL.
Each is compared with what other requests tell of the same tokens. Prints TAP.
"""
import json
import math
import os
import sys

import tap
from server import Server, picture_part, question, stream_chunks

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
LISTS = (['yes', 'no'], ['no', 'yes', 'no'], ['yes', 'yes it is', 'yes it is a', 'no', 'ye', 'y'],
         ['two dogs'], [f'{a} {b}' for a in ('red', 'blue', 'two', 'some') for b in
          ('cat', 'dog', 'car', 'bird', 'clock', 'fox', 'fish', 'bus', 'elephant', 'triangle')])


def about(sample, query, **fields):
    """A VQA question about one of the model's pictures."""
    with open(os.path.join(MODEL, 'samples', f'{sample}.jpg'), 'rb') as f:
        part = picture_part(f.read(), 'image/jpeg')
    return question(query, part, logprobs=True, temperature=0, template_version='vqa', **fields)


def ask(server, body):
    """The answer's only choice."""
    status, _, data = server.chat(body)
    assert status == 200, data
    return data['choices'][0]


def tokens_of(server, text):
    """Of a text as the tokenizer spells it."""
    body = json.dumps({'prompt': text, 'add_special_tokens': False})
    _, _, data = server.request('POST', '/tokenize', body, {'Content-Type': 'application/json'})
    return json.loads(data)['tokens']


def forced(server, sample, query, text):
    """How likely the model finds the text and the end, when it may say nothing else; biases make it
    spell the text as the tokenizer does."""
    ids = tokens_of(server, text)
    choice = ask(server, about(sample, query, guided_choice=[text], skip_special_tokens=False,
                               include_stop_str_in_output=True,
                               logit_bias={str(i): 100 for i in ids}))
    content = choice['logprobs']['content']
    assert ''.join(t['token'] for t in content) == text + '</s>', content
    assert len(content) == len(ids) + 1, (content, ids)
    return sum(t['logprob'] for t in content)


def choices_are_as_likely_as_their_tokens(server):
    """Each by itself, token by token, and then all by what they have of the whole."""
    query = 'Can you see a blue car?'
    for sample, texts in (('01', t) for t in LISTS):
        got = ask(server, about(sample, query, guided_choice=texts))
        told = got['confidence']['choices']
        assert [c['text'] for c in told] == list(dict.fromkeys(texts)), told
        assert abs(sum(c['probability'] for c in told) - 1) < 1e-6, told
        for c in told[:8]:
            want = forced(server, sample, query, c['text'])
            assert abs(want - c['logprob']) < 1e-3, (want, c)
        top = max(c['logprob'] for c in told)
        total = sum(math.exp(c['logprob'] - top) for c in told)
        for c in told:
            assert abs(math.exp(c['logprob'] - top) / total - c['probability']) < 1e-6, told


def the_answer_is_the_likely_one(server):
    """Of the model's own questions, and asking costs the answer nothing."""
    for sample, thing in (('01', 'blue car'), ('01', 'red dog'), ('02', 'clock')):
        query = f'Can you see a {thing}?'
        plain = ask(server, about(sample, query))
        held = ask(server, about(sample, query, structured_outputs={'choice': ['yes', 'no']}))
        told = {c['text']: c['probability'] for c in held['confidence']['choices']}
        print(f"# {thing}: {', '.join(f'{t} {p:.3f}' for t, p in told.items())}")
        assert max(told, key=told.get) == held['message']['content'] == plain['message']['content']
        assert held['logprobs'] == plain['logprobs'], (held, plain)
        assert 'choices' not in plain['confidence']


def means_are_of_the_tokens(server):
    """Whole and in streams, for several choices and for none of the tokens."""
    body = about('02', 'What is it?', n=3) | {'temperature': 1, 'seed': 5}
    _, _, data = server.chat({**body, 'guided_choice': ['a clock', 'a bus']})
    for c in data['choices']:
        values = [t['logprob'] for t in c['logprobs']['content']]
        assert abs(sum(values) / len(values) - c['confidence']['mean_logprob']) < 1e-6, c
        assert c['confidence']['choices'] == data['choices'][0]['confidence']['choices']
    connection, response = server.stream({**body, 'guided_choice': ['a clock', 'a bus']})
    chunks = list(stream_chunks(response))
    connection.close()
    ends = {c['index']: c for k in chunks for c in k['choices'] if c['finish_reason']}
    assert len(ends) == 3
    for i, c in ends.items():
        assert c['confidence'] == data['choices'][i]['confidence'], (c, data['choices'][i])
    none = ask(server, about('02', 'What is it?', allowed_token_ids=[2]))
    assert none['confidence'] == {'mean_logprob': None}, none
    assert 'confidence' not in ask(server, question('What is it?'))


def long_lists_have_no_choices(server):
    """And the answer is one of them all the same."""
    got = ask(server, about('02', 'How many?', guided_choice=[str(n) for n in range(129)]))
    assert list(got['confidence']) == ['mean_logprob'], got
    assert got['message']['content'].isdigit()


def complete(server, **fields):
    """Choices of a completion."""
    body = json.dumps({'temperature': 0, **fields})
    status, _, data = server.request('POST', '/v1/completions', body,
                                     {'Content-Type': 'application/json'})
    data = json.loads(data)
    assert status == 200, data
    return data['choices'], data['usage']


def first_of(server, ids):
    """The likeliest tokens after these, as a completion of one token tells them."""
    (choice,), _ = complete(server, prompt=ids, max_tokens=1, logprobs=20, ignore_eos=True,
                            skip_special_tokens=False)
    return choice['logprobs']['top_logprobs'][0]


def an_echo_tells_of_its_prompt(server):
    """Each token what a completion of those before it says of it, and offsets into the text."""
    text = 'Where is the big r\u00e9d \u20ac clock? It is'
    ids = tokens_of(server, text)
    (plain,), _ = complete(server, prompt=text, max_tokens=5, logprobs=2)
    for prompt in (text, ids):
        (got,), usage = complete(server, prompt=prompt, max_tokens=5, logprobs=2, echo=True)
        assert got['text'] == text + plain['text'], got
        told, n = got['logprobs'], len(ids)
        assert usage['prompt_tokens'] == n + 1
        for column, values in told.items():
            assert len(values) == n + len(plain['logprobs']['tokens']), (column, values)
            if column != 'text_offset':
                assert values[n:] == plain['logprobs'][column], (column, values)
        assert [told[k][0] for k in ('token_logprobs', 'top_logprobs', 'text_offset')] == [None, None, 0]
        for token, at in zip(told['tokens'], told['text_offset']):
            assert token.startswith('bytes:') or got['text'][at:].startswith(token), (token, at)
        for i in range(1, n):
            likeliest = first_of(server, ids[:i])
            for name, value in told['top_logprobs'][i].items():
                if name in likeliest:
                    assert abs(likeliest[name] - value) < 1e-5, (i, name)
                else:
                    assert value <= min(likeliest.values()) + 1e-5, (i, name)
            assert told['top_logprobs'][i][told['tokens'][i]] == told['token_logprobs'][i]
        alone = complete(server, prompt=[prompt, prompt] if prompt is text else [prompt], n=2,
                         max_tokens=0, logprobs=2, echo=True)[0]
        for choice in alone:
            assert choice['text'] == text and choice['finish_reason'] == 'length'
            assert choice['logprobs'] == {k: v[:n] for k, v in told.items()}, choice


def prompts_are_scored(server):
    """As an echo scores them; in a chat all but what begins it and its picture."""
    text = 'Where is the clock?'
    ids = tokens_of(server, text)
    (got,), _ = complete(server, prompt=text, max_tokens=1, logprobs=0, echo=True, prompt_logprobs=3)
    listed = got['prompt_logprobs']
    assert len(listed) == len(ids) + 1 and listed[0] is None, listed
    for i, (token, entry) in enumerate(zip(ids, listed[1:])):
        own = entry[str(token)]
        ranks = sorted(e['rank'] for e in entry.values())
        assert ranks[:3] == [1, 2, 3] and len(entry) == 3 + (own['rank'] > 3), entry
        assert sum(math.exp(e['logprob']) for e in entry.values()) < 1 + 1e-5
        if i:
            assert abs(own['logprob'] - got['logprobs']['token_logprobs'][i]) < 1e-6, (i, own)
    for fields, n in (({'prompt_logprobs': -1}, 20), ({'prompt_logprobs': 0}, 0)):
        status, _, data = server.chat(about('02', 'What is it?', max_tokens=2, **fields))
        assert status == 200, data
        listed, usage = data['prompt_logprobs'], data['usage']
        n_image = usage['prompt_tokens_details']['image_tokens']
        assert len(listed) == usage['prompt_tokens']
        assert not any(listed[:1 + n_image]) and all(listed[1 + n_image:])
        assert all(n <= len(e) <= n + 1 and len(e) > 0 for e in listed[1 + n_image:]), listed[-1]
    conversations = [question(q)['messages'] for q in ('What is it?', 'Where is the big clock?')]
    status, _, data = server.request(
        'POST', '/v1/chat/completions/batch',
        json.dumps({'messages': conversations, 'max_tokens': 2, 'prompt_logprobs': 0}),
        {'Content-Type': 'application/json'})
    for messages, choice in zip(conversations, json.loads(data)['choices']):
        _, _, alone = server.chat({'messages': messages, 'max_tokens': 2, 'prompt_logprobs': 0})
        assert choice['prompt_logprobs'] == alone['prompt_logprobs'], choice
        assert len(alone['prompt_logprobs']) == alone['usage']['prompt_tokens'] > 5
    status, _, data = server.chat(about('02', 'What?', prompt_logprobs=1, stream=True))
    assert status == 400 and data['error']['param'] == 'prompt_logprobs', data


def main():
    """One server for all."""
    tap.need_model(MODEL)
    with Server(BINARY, MODEL, '--dtype', 'f32') as server:
        return tap.run([choices_are_as_likely_as_their_tokens, the_answer_is_the_likely_one,
                        means_are_of_the_tokens, long_lists_have_no_choices,
                        an_echo_tells_of_its_prompt, prompts_are_scored], server)


sys.exit(main())
