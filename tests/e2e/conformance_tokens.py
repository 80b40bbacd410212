"""What the API promises about tokens: conformance_tokens.py COGWHEEL DEMO-MODEL. Prints TAP.

line  6 ranges of fields  test_chat.c ranges, lists_of_tokens; test_server_sampling.c;
                          here tokens_by_their_ids, nothing_ends_too_soon
line 33 ids out of range  ids_out_of_range; test_tokenize.c ids, test_server_sampling.c ids_out_of_range
"""
import json
import math
import os
import sys

import pictures
import tap
from server import Server, check_error, joined, picture_part, question, stream_chunks

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
TEXTS = ('', 'a', ' a', 'a ', 'Is there a blue car?', 'two\nlines\n\nand more', 
         'na\u00efve \u4e2d\u6587 \U0001f600', '</s><s><unk><EOI>', 'tab\tand "quotes" \\', '  many   spaces  ', 'x' * 5000,
         'data:image/png;base64,' + 'A' * 6000, ''.join(map(chr, range(32, 500))))


def post(server, path, body):
    """Status, headers, the answer's object."""
    status, headers, data = server.request('POST', path, json.dumps(body),
                                           {'Content-Type': 'application/json'})
    return status, headers, json.loads(data)


def tokens(server, **body):
    """The answer of /tokenize, whose count is right."""
    status, _, data = post(server, '/tokenize', body)
    assert status == 200, data
    assert set(data) == {'count', 'max_model_len', 'tokens', 'token_strs'}, data
    assert data['count'] == len(data['tokens']) and data['max_model_len'] == 2048, data
    return data


def there_and_back(server):
    """The text of a text's tokens is the text; both families' names for it."""
    for text in TEXTS:
        ids = tokens(server, prompt=text)['tokens']
        plain = tokens(server, prompt=text, add_special_tokens=False)['tokens']
        assert ids == [1, *plain], (text, ids)
        assert tokens(server, content=text)['tokens'] == plain
        for sent in (ids, plain):
            status, _, data = post(server, '/v1/detokenize', {'tokens': sent})
            assert (status, data) == (200, {'prompt': text, 'content': text}), (text, data)


def strings_of_tokens(server):
    """Beside the ids, joined they are the text; bytes where a token is a part of a character."""
    for text in TEXTS[1:8]:
        data = tokens(server, prompt=text, add_special_tokens=False, return_token_strs=True)
        assert len(data['token_strs']) == data['count']
        pieces = tokens(server, content=text, with_pieces=True)['tokens']
        assert [p['id'] for p in pieces] == data['tokens']
        raw = b''.join(bytes(p['piece']) if isinstance(p['piece'], list) else p['piece'].encode()
                       for p in pieces)
        assert raw.decode() == ' ' + text, (raw, text)


def chats_count_as_when_they_are_asked(server):
    """With and without a picture, which nobody looks at."""
    part = picture_part(pictures.scene(1))
    for body in (question('Hello'), question('What is this?', part), {'messages': [
            {'role': 'user', 'content': [part, {'type': 'text', 'text': 'One?'}]},
            {'role': 'assistant', 'content': 'Yes.'}, {'role': 'user', 'content': 'Two?'}]}):
        counted = tokens(server, messages=body['messages'])
        status, _, data = server.chat({**body, 'max_tokens': 1})
        assert status == 200 and data['usage']['prompt_tokens'] == counted['count'], (data, counted)
        images = data['usage']['prompt_tokens_details']['image_tokens']
        assert len(set(counted['tokens'][1:1 + images])) == (images > 0), counted
        status, _, asked = post(server, '/v1/chat/completions/input_tokens', body)
        assert (status, asked) == (200, {'object': 'response.input_tokens', 'image_tokens': images,
                                         'input_tokens': counted['count']}), asked
    broken = question('What is this?', picture_part(b'no picture'))
    whole = question('What is this?', part)
    assert tokens(server, messages=broken['messages']) == tokens(server, messages=whole['messages'])


def ids_out_of_range(server):
    """Whatever is no token of the model is refused, with its place; nothing is read beside a
    table."""
    with open(os.path.join(MODEL, 'config.json'), encoding='utf-8') as f:
        vocab = json.load(f)['vocab_size']
    assert post(server, '/detokenize', {'tokens': list(range(vocab))})[0] == 200
    for bad in (vocab, vocab + 1, -1, -2**31, 2**31, 2**32, 2**32 + 5, 2**63 - 1, -2**63, 1e300):
        status, headers, data = post(server, '/detokenize', {'tokens': [5, bad, 6]})
        check_error(status, headers, data, 400, 'invalid_value', 'tokens[1]')
        for fields, param in (({'logit_bias': {'5': 1, str(bad): 1}}, 'logit_bias'),
                              ({'stop_token_ids': [5, bad]}, 'stop_token_ids[1]'),
                              ({'allowed_token_ids': [5, bad]}, 'allowed_token_ids[1]')):
            status, headers, data = server.chat(question('Hello', max_tokens=1, **fields))
            check_error(status, headers, data, 400, 'invalid_value', param)
    status, headers, data = server.chat(question('Hello', max_tokens=1, logit_bias={
        str(vocab - 1): -100, '0': 100}, stop_token_ids=[0, vocab - 1]))
    assert status == 200, data
    for bad in ('1', True, None, [1], 1.5, {}):
        status, headers, data = post(server, '/detokenize', {'tokens': [bad]})
        check_error(status, headers, data, 400, 'invalid_type', 'tokens[0]')
    status, headers, data = post(server, '/detokenize', {'tokens': [2**63]})
    check_error(status, headers, data, 400, 'invalid_json')


def first_id(server, text):
    """The first token of a word."""
    return tokens(server, content=text)['tokens'][0]


def answer(server, body, **fields):
    """Text, finish_reason, stop_reason and number of tokens: the same as a stream and not."""
    found = []
    for stream in (False, True):
        sent = {**body, 'temperature': 0, **fields}
        if stream:
            connection, response = server.stream({**sent, 'stream_options': {'include_usage': True}})
            chunks = stream_chunks(response)
            connection.close()
            last = [c['choices'][0] for c in chunks if c['choices']][-1]
            found.append((joined(chunks), last['finish_reason'], last['stop_reason'],
                          chunks[-1]['usage']['completion_tokens']))
        else:
            status, _, data = server.chat(sent)
            assert status == 200, data
            one = data['choices'][0]
            found.append((one['message']['content'], one['finish_reason'], one['stop_reason'],
                          data['usage']['completion_tokens']))
    assert found[0] == found[1], found
    return found[0]


def tokens_by_their_ids(server):
    """Biases and lists of what is allowed choose the tokens; an id ends an answer."""
    body = question('What is shown in the image?', picture_part(pictures.scene(1)))
    plain, finish, reason, n = answer(server, body)
    assert (finish, reason) == ('stop', None) and n > 4, (plain, n)
    words = plain.split()
    first = first_id(server, words[0])
    text = answer(server, body, logit_bias={str(first): -100}, max_tokens=4)[0]
    assert text and not text.startswith(words[0]), text
    cube = first_id(server, 'cube')
    piece = tokens(server, content='cube', return_token_strs=True)['token_strs'][0]
    assert answer(server, body, logit_bias={str(cube): 100}, max_tokens=3)[1:] == ('length', None, 3)
    for more in ({'logit_bias': {str(cube): 100}}, {'allowed_token_ids': [cube]}):
        text = answer(server, body, max_tokens=5, **more)[0]
        assert text == (5 * piece).removeprefix(' '), text
        assert answer(server, body, stop_token_ids=[1, cube], **more) == ('', 'stop', cube, 1)
        assert answer(server, body, stop_token_ids=[cube], include_stop_str_in_output=True,
                      **more) == (piece.removeprefix(' '), 'stop', cube, 1)
        assert answer(server, body, stop_token_ids=[cube], min_tokens=3,
                      logit_bias={str(cube): 100})[1:] == ('stop', cube, 4)


def nothing_ends_too_soon(server):
    """min_tokens holds back end tokens, stop tokens and stop strings; ignore_eos, end tokens."""
    body = question('What is shown in the image?', picture_part(pictures.scene(1)))
    plain, _, _, n = answer(server, body)
    longer, finish, _, m = answer(server, body, min_tokens=n + 5, max_tokens=n + 9)
    assert longer.startswith(plain) and m >= n + 5, (plain, longer)
    assert answer(server, body, min_new_tokens=n + 5, max_tokens=n + 9)[0] == longer
    _, finish, _, m = answer(server, body, ignore_eos=True, max_tokens=n + 9)
    assert (finish, m) == ('length', n + 9)
    text = answer(server, body, ignore_eos=True, max_tokens=n + 1, skip_special_tokens=False)[0]
    assert text.startswith(plain + '</s>'), text
    assert answer(server, body, skip_special_tokens=False)[0] == plain
    letter = next(c for c in plain[1:] if c != ' ')
    cut = plain[:plain.index(letter)]
    assert answer(server, body, stop=letter)[:3] == (cut, 'stop', letter)
    assert answer(server, body, stop=letter, include_stop_str_in_output=True)[:3] == (
        cut + letter, 'stop', letter)
    later, _, reason, m = answer(server, body, stop=letter, min_tokens=3)
    assert plain.startswith(later) and len(later) > len(cut) and m > 3, (later, reason)
    for fields, code, param in (
            ({'min_tokens': 5, 'max_tokens': 4}, 'integer_above_max_value', 'min_tokens'),
            ({'min_new_tokens': 2048}, 'integer_above_max_value', 'min_new_tokens'),
            ({'min_tokens': 1, 'allowed_token_ids': [2]}, 'invalid_value', 'min_tokens')):
        status, headers, data = server.chat({**body, **fields})
        check_error(status, headers, data, 400, code, param)


def check_entries(server, content, entries, n_top):
    """Bytes joined are the text, values are probabilities in their order."""
    assert bytes(b for e in entries for b in e['bytes']).decode() == content, (content, entries)
    for e in entries:
        assert set(e) == {'token', 'logprob', 'bytes', 'top_logprobs'}, e
        assert e['token'] == bytes(e['bytes']).decode('utf-8', 'replace'), e
        assert -9999 <= e['logprob'] <= 0, e
        top = e['top_logprobs']
        assert len(top) == n_top, e
        values = [t['logprob'] for t in top]
        assert values == sorted(values, reverse=True), e
        assert sum(map(math.exp, values)) < 1 + 1e-5, e
        for t in top:
            assert set(t) == {'token', 'logprob', 'bytes'}, t
            assert t['bytes'] != e['bytes'] or t['logprob'] == e['logprob'], e


def logprobs_of(server, body, n_top, **fields):
    """The entries of an answer, the same as a stream and not."""
    sent = {**body, 'logprobs': True, 'top_logprobs': n_top, **fields}
    status, _, data = server.chat(sent)
    assert status == 200, data
    one = data['choices'][0]
    assert one['logprobs']['refusal'] is None
    check_entries(server, one['message']['content'], one['logprobs']['content'], n_top)
    connection, response = server.stream(sent)
    chunks = stream_chunks(response)
    connection.close()
    streamed = []
    for c in chunks:
        choice = c['choices'][0]
        if choice['delta'].get('content'):
            streamed += choice['logprobs']['content']
        else:
            assert choice['logprobs'] is None, c
    assert streamed == one['logprobs']['content']
    return one['message']['content'], streamed


def tokens_tell_how_likely_they_were(server):
    """Greedy tokens are the likeliest; what changes the draw does not change the values."""
    body = question('What is shown in the image?', picture_part(pictures.scene(1)))
    text, entries = logprobs_of(server, body, 20)
    assert len(entries) > 4
    for e in entries:
        assert e['token'] == e['top_logprobs'][0]['token'], e
        assert e['logprob'] == e['top_logprobs'][0]['logprob'], e
        assert math.isclose(sum(math.exp(t['logprob']) for t in e['top_logprobs']), 1, abs_tol=0.2)
    assert logprobs_of(server, body, 0) == (text, [{**e, 'top_logprobs': []} for e in entries])
    wanted = first_id(server, 'cube')
    for fields in ({'logit_bias': {str(wanted): 100}}, {'allowed_token_ids': [wanted]},
                   {'logit_bias': {str(wanted): 100}, 'temperature': 2, 'seed': 1}):
        _, changed = logprobs_of(server, body, 20, max_tokens=1, **fields)
        assert changed[0]['top_logprobs'] == entries[0]['top_logprobs'], fields
        assert changed[0]['logprob'] < entries[0]['logprob'], fields
    assert server.answer(body) == text  # nothing of it stays


def what_a_stop_string_takes_is_not_told(server):
    """Entries are of the tokens whose text is there, at least in part."""
    body = question('What is shown in the image?', picture_part(pictures.scene(1)))
    text, entries = logprobs_of(server, body, 1)
    for stop in {text[i:i + n] for n in (1, 2, 3, 5) for i in range(1, len(text) - 6, 4)}:
        sent = {**body, 'logprobs': True, 'stop': stop}
        one = server.chat(sent)[2]['choices'][0]
        connection, response = server.stream(sent)
        chunks = stream_chunks(response)
        connection.close()
        assert joined(chunks) == one['message']['content'], stop
        told = one['logprobs']['content']
        raw = b''.join(bytes(e['bytes']) for e in told).decode()
        assert raw.startswith(one['message']['content']), (stop, raw)
        last = len(told[-1]['bytes']) if told else 0
        assert len(raw) - last < len(one['message']['content']) or not told, (stop, raw)
        assert [e['bytes'] for e in told] == [e['bytes'] for e in entries[:len(told)]], stop
        streamed = [e for c in chunks if c['choices'][0]['delta'].get('content')
                    for e in c['choices'][0]['logprobs']['content']]
        assert streamed == told, stop


TESTS = [there_and_back, strings_of_tokens, chats_count_as_when_they_are_asked, ids_out_of_range,
         tokens_by_their_ids, nothing_ends_too_soon, tokens_tell_how_likely_they_were,
         what_a_stop_string_takes_is_not_told]
tap.need_model(MODEL)
with Server(BINARY, MODEL) as shared:
    code = tap.run(TESTS, shared)
sys.exit(code)
