"""What the API promises about tokens: conformance_tokens.py COGWHEEL DEMO-MODEL. Prints TAP.

line 33 ids out of range  ids_out_of_range; test_tokenize.c ids
"""
import json
import os
import sys

import pictures
import tap
from server import Server, check_error, picture_part, question

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
        for fields in ({'logit_bias': {str(bad): 1}}, {'stop_token_ids': [bad]}):
            status, headers, data = server.chat(question('Hello', max_tokens=1, **fields))
            assert status == 400, (fields, data)
    for bad in ('1', True, None, [1], 1.5, {}):
        status, headers, data = post(server, '/detokenize', {'tokens': [bad]})
        check_error(status, headers, data, 400, 'invalid_type', 'tokens[0]')
    status, headers, data = post(server, '/detokenize', {'tokens': [2**63]})
    check_error(status, headers, data, 400, 'invalid_json')


TESTS = [there_and_back, strings_of_tokens, chats_count_as_when_they_are_asked, ids_out_of_range]
tap.need_model(MODEL)
with Server(BINARY, MODEL) as shared:
    code = tap.run(TESTS, shared)
sys.exit(code)
