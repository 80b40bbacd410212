"""The API to the letter, with curl: curl.py COGWHEEL DEMO-MODEL. Prints TAP."""
import base64
import json
import os
import subprocess
import sys
import tempfile
import threading

import pictures
import tap
from server import ID, Server, check_error, picture_part, question

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
CHAT = '/v1/chat/completions'
IMAGE_URL = 'messages[0].content[0].image_url.url'


def curl(server, path, *options, body=None):
    """Status, headers with small letters, body bytes; the body is sent as it is."""
    data = [] if body is None else ['-H', 'Content-Type: application/json', '--data-binary', '@-']
    with tempfile.NamedTemporaryFile() as head:
        ran = subprocess.run(['curl', '-sS', '--max-time', '60', '-D', head.name, *data, *options,
                              server.url + path], input=body, capture_output=True, check=False)
        blocks = head.read().decode('latin-1').replace('\r', '').strip('\n').split('\n\n')
    assert ran.returncode == 0, (ran.returncode, ran.stderr)
    lines = [b for b in blocks if b][-1].split('\n')
    headers = dict(line.lower().split(': ', 1) for line in lines[1:])
    assert ID.fullmatch(headers['x-request-id']), headers
    return int(lines[0].split()[1]), headers, ran.stdout


def chat(server, body, *options):
    """Status, headers, object of a request given as an object or as bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, headers, data = curl(server, CHAT, *options, body=raw)
    assert headers['content-type'] == 'application/json', headers
    return status, headers, json.loads(data)


def refused(server, body, status, code, param=None, *options):
    """The request is refused so; the message."""
    got, headers, data = chat(server, body, *options)
    return check_error(got, headers, data, status, code, param)


def with_url(url, **fields):
    """A request whose picture has this address."""
    return question('Describe this image.', {'type': 'image_url', 'image_url': {'url': url}},
                    **{'max_tokens': 8, **fields})


def data_url(data):
    """A picture inside a request."""
    return picture_part(data)['image_url']['url']


def samples(kind='text'):
    """The demo's samples: file, case."""
    with open(os.path.join(MODEL, 'samples.json'), encoding='utf-8') as f:
        for entry in json.load(f):
            with open(os.path.join(MODEL, entry['image']), 'rb') as picture:
                data = picture.read()
            for case in entry['cases']:
                if case['kind'] == kind and not case.get('history'):
                    yield data, case


def ask_sample(data, case, **fields):
    """The request of a sample's case."""
    return question(case['question'], picture_part(data), max_tokens=100,
                    chat_template_kwargs={'template_version': case['template']}, **fields)


# ---------------------------------------------------------------------- good requests


def the_demo_sees(server):
    """Its answers are those of the reference, but for a near-tie here and there."""
    total = right = 0
    for data, case in samples():
        total += 1
        text = server.answer(ask_sample(data, case))
        right += text == case['greedy']
        if text != case['greedy']:
            print(f'# {case["question"]} {text!r}, the reference says {case["greedy"]!r}')
    assert total >= 8 and right >= total * 0.9, (right, total)


def a_whole_answer(server):
    """Every member and header."""
    data, case = next(samples())
    status, headers, body = chat(server, ask_sample(data, case), '-H', 'X-Request-Id: my-id.1')
    assert status == 200
    assert headers['x-request-id'] == 'my-id.1' and body['id'] == 'chatcmpl-my-id.1'
    assert headers['cache-control'] == 'no-store'
    assert headers['openai-processing-ms'].isdigit()
    assert [p.split(';')[0] for p in headers['server-timing'].split(', ')] == [
        'queue', 'decode_image', 'encode', 'prefill', 'generate']
    assert set(body) == {'id', 'object', 'created', 'model', 'choices', 'usage',
                         'system_fingerprint'}
    assert body['object'] == 'chat.completion' and body['model'] == os.path.basename(MODEL)
    assert body['choices'] == [{
        'index': 0, 'message': {'role': 'assistant', 'content': case['greedy'], 'refusal': None,
                                'annotations': []},
        'logprobs': None, 'finish_reason': 'stop', 'stop_reason': None}]
    check_usage(body['usage'], has_picture=True)


def check_usage(usage, has_picture):
    """The numbers add up."""
    prompt = usage['prompt_tokens_details']
    assert usage['total_tokens'] == usage['prompt_tokens'] + usage['completion_tokens']
    assert prompt['image_tokens'] + prompt['text_tokens'] == usage['prompt_tokens']
    assert (prompt['image_tokens'] > 0) == has_picture and usage['completion_tokens'] > 0
    assert set(usage['completion_tokens_details'].values()) == {0}


def dumps(value):
    """JSON as the server writes it."""
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False)


def check_stream(server, include_usage, n):
    """Every byte of a stream, from what was said in which chunk."""
    data, case = next(samples())
    fields = {'stream': True, 'n': n}
    if include_usage:
        fields['stream_options'] = {'include_usage': True}
    status, headers, raw = curl(server, CHAT, body=json.dumps(
        ask_sample(data, case, **fields)).encode())
    assert status == 200 and headers['content-type'] == 'text/event-stream; charset=utf-8'
    assert headers['cache-control'] == 'no-cache' and headers['x-accel-buffering'] == 'no'
    text = raw.decode('utf-8')
    chunks = [json.loads(b[6:]) for b in text.split('\n\n')[:-2]]
    usage = chunks.pop()['usage'] if include_usage else None
    first = chunks[0]
    head = {k: first[k] for k in ('id', 'object', 'created', 'model', 'system_fingerprint')}
    assert head['id'] == f'chatcmpl-{headers["x-request-id"]}'
    assert head['object'] == 'chat.completion.chunk'
    tail = {'usage': None} if include_usage else {}

    def event(choices, **more):
        return f'data: {dumps({**head, "choices": choices, **(more or tail)})}\n\n'

    def choice(index, delta, finish=None):
        return {'index': index, 'delta': delta, 'logprobs': None, 'finish_reason': finish}

    expected = ''.join(event([choice(i, {'role': 'assistant', 'content': '', 'refusal': None})])
                       for i in range(n))
    said = [''] * n
    for chunk in chunks[n:]:
        one = chunk['choices'][0]
        index = one['index']
        if one['finish_reason']:
            expected += event([{**choice(index, {}, 'stop'), 'stop_reason': None}])
        else:
            said[index] += one['delta']['content']
            assert one['delta']['content']
            expected += event([choice(index, {'content': one['delta']['content']})])
    if include_usage:
        check_usage(usage, has_picture=True)
        expected += event([], usage=usage)
    assert text == expected + 'data: [DONE]\n\n', text
    assert said == [case['greedy']] * n, said
    ends = [c['choices'][0]['index'] for c in chunks if c['choices'][0]['finish_reason']]
    assert sorted(ends) == list(range(n))


def a_stream_to_the_letter(server):
    """Roles with the first token, texts, one end for each choice, usage, the end of all."""
    for include_usage in (False, True):
        for n in (1, 3):
            check_stream(server, include_usage, n)


def ways_to_send(server):
    """Chunked, with and without waiting for 100, HTTP/1.0, a kept connection, other paths."""
    data, case = next(samples())
    body = json.dumps(ask_sample(data, case)).encode()
    for options in (['-H', 'Transfer-Encoding: chunked'], ['-H', 'Expect: 100-continue'],
                    ['-0'], ['-H', 'Content-Type: application/json; charset=utf-8'],
                    ['-H', 'Authorization: Bearer unasked']):
        status, _, got = curl(server, CHAT, *options, body=body)
        text = json.loads(got)['choices'][0]['message']['content']
        assert status == 200 and text == case['greedy'], (options, got)
    for path in ('/chat/completions', CHAT + '/', CHAT + '?key=secret'):
        assert curl(server, path, body=body)[0] == 200, path
    ran = subprocess.run(['curl', '-sS', '-w', '%{num_connects}\n', '-o', '/dev/null', '-o',
                          '/dev/null', server.url + '/livez', server.url + '/v1/models'],
                         capture_output=True, check=True)
    assert ran.stdout == b'1\n0\n', ran.stdout


def other_addresses(server):
    """Models, version, probes; what is not there."""
    status, _, body = curl(server, '/v1/models')
    name = os.path.basename(MODEL)
    listed = json.loads(body)
    assert status == 200 and listed['object'] == 'list' and listed['data'][0]['id'] == name
    assert json.loads(curl(server, f'/v1/models/{name}')[2]) == listed['data'][0]
    assert json.loads(curl(server, '/version')[2])['model'] == name
    assert curl(server, '/livez')[2] == b'ok'
    assert json.loads(curl(server, '/readyz')[2]) == {'status': 'ready', 'progress': 1.0}
    assert json.loads(curl(server, '/health')[2]) == {'status': 'ok'}
    status, headers, body = curl(server, '/v1/models', '-I')
    assert status == 200 and int(headers['content-length']) > 0 and not body.strip().endswith(b'}')
    for path, options, expected, code, param in (
            ('/v1/models/none', [], 404, 'model_not_found', 'model'),
            ('/v1/embeddings', [], 404, 'unknown_url', None),
            ('/v1/../etc/passwd', ['--path-as-is'], 404, 'unknown_url', None),
            (CHAT, [], 405, 'method_not_allowed', None),
            ('/v1/models', ['-X', 'DELETE'], 405, 'method_not_allowed', None),
            (CHAT, ['-X', 'POST', '-H', 'Content-Type: application/json'], 411, 'length_required',
             None)):
        status, headers, body = curl(server, path, *options)
        check_error(status, headers, json.loads(body), expected, code, param)
        assert (headers.get('allow') is not None) == (expected == 405), headers


# ---------------------------------------------------------------------- bad requests


def bad_pictures(server):
    """Each with its code."""
    good = pictures.scene(1)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xff
    encoded = base64.b64encode(good).decode()
    cases = [('invalid_image_url', url) for url in (
        'http://127.0.0.1/a.png', 'https://example.com/a.png', 'HTTP://example.com/a.png',
        'file:///etc/passwd', 'ftp://example.com/a.png', 'data:image/png,abc', 'data:',
        'data:text/html;base64,' + encoded, 'nonsense', 'javascript:alert(1)')]
    cases += [('invalid_base64_image', 'data:image/png;base64,' + text) for text in (
        '!!!!', encoded[:100] + '\n' + encoded[100:], encoded[:100] + ' ' + encoded[100:],
        encoded[:-1] + '\u00e9', 'A', encoded[:101] + '=' + encoded[101:])]
    cases += [('empty_image_file', 'data:image/png;base64,')]
    cases += [('unsupported_image_media_type', data_url(data)) for data in (
        b'BM' + b'\0' * 100, b'II*\0' + b'\0' * 100, b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'%PDF-1.7 ' + b'\0' * 100, b'\0', b'\0\0\0\x1cftypavif' + b'\0' * 100)]
    cases += [('image_parse_error', data_url(data)) for data in (
        good[:-40], good[:len(good) // 2], good[:33], good[:8], bytes(flipped),
        pictures.png_header(50, 50), pictures.gif(5, 5)[:20], b'\xff\xd8\xff\xe0' + b'\0' * 100,
        b'RIFF\x10\0\0\0WEBPVP8 ' + b'\0' * 9)]
    cases += [('image_too_large', data_url(pictures.png_header(*size))) for size in (
        (30000, 30000), (40000, 1), (1, 40000), (2**31 - 1, 2**31 - 1))]
    cases += [('image_too_small', data_url(pictures.gif(*size))) for size in ((0, 5), (5, 0))]
    cases += [('image_file_too_large', data_url(b'\x89PNG\r\n\x1a\n' + b'\0' * 200000))]
    for code, url in cases:
        message = refused(server, with_url(url), 400, code, IMAGE_URL)
        assert encoded[:40] not in message and 'passwd' not in message, message
    return len(cases)


def every_picture_code_was_seen(server):
    """The short form, too; the streamed one is refused before it begins."""
    bad_pictures(server)
    status, headers, body = curl(server, CHAT, body=json.dumps(
        with_url(data_url(b'BM' + b'\0' * 99), stream=True)).encode())
    check_error(status, headers, json.loads(body), 400, 'unsupported_image_media_type', IMAGE_URL)
    short = question('What?', {'type': 'image_url', 'image_url': 'http://example.com/a.png'})
    refused(server, short, 400, 'invalid_image_url', 'messages[0].content[0].image_url')


def two_pictures(server):
    """One is what the model takes, wherever they stand."""
    part = picture_part(pictures.scene(1))
    body = question('What?', part, part)
    refused(server, body, 400, 'too_many_images', 'messages[0].content[1].image_url.url')
    turns = [body['messages'][0] | {'content': [part]}, {'role': 'assistant', 'content': 'A cat.'},
             {'role': 'user', 'content': [part, {'type': 'text', 'text': 'Sure?'}]}]
    refused(server, {'messages': turns}, 400, 'too_many_images',
            'messages[2].content[0].image_url.url')


def bad_bodies(server):
    """What is no JSON, and what is no request."""
    text = json.dumps(question('Hello', max_tokens=4)).encode()
    for body in (b'', b'{', b'[]', b'"x"', b'nonsense', text + b'x', text + text, b'{"a":1,"a":2}',
                 b'{"a":"\\u0000"}', b'{"a":"\xff"}', b'{"a":1e999}', b'{"a":NaN}',
                 b'[' * 65 + b']' * 65, b'{"a":"\\ud800"}', text[:-1], b'\xef\xbb\xbf' + text,
                 b'{"a":' * 100000):
        refused(server, body, 400, 'invalid_json')
    user = [{'role': 'user', 'content': 'Hello'}]
    for fields, code, param in (
            ({}, 'missing_required_parameter', 'messages'),
            ({'messages': []}, 'empty_array', 'messages'),
            ({'messages': 'Hello'}, 'invalid_type', 'messages'),
            ({'messages': user * 300}, 'array_above_max_length', 'messages'),
            ({'messages': [{'role': 'wizard', 'content': 'x'}]}, 'invalid_value',
             'messages[0].role'),
            ({'messages': [{'role': 'tool', 'content': 'x'}]}, 'unsupported_value',
             'messages[0].role'),
            ({'messages': user, 'temperature': 2.1}, 'decimal_above_max_value', 'temperature'),
            ({'messages': user, 'temperature': -0.1}, 'decimal_below_min_value', 'temperature'),
            ({'messages': user, 'temperature': '1'}, 'invalid_type', 'temperature'),
            ({'messages': user, 'top_p': 1.5}, 'decimal_above_max_value', 'top_p'),
            ({'messages': user, 'max_tokens': 0}, 'integer_below_min_value', 'max_tokens'),
            ({'messages': user, 'max_tokens': 1.5}, 'invalid_type', 'max_tokens'),
            ({'messages': user, 'n': 0}, 'integer_below_min_value', 'n'),
            ({'messages': user, 'n': 9}, 'integer_above_max_value', 'n'),
            ({'messages': user, 'stop': ''}, 'invalid_value', 'stop'),
            ({'messages': user, 'stop': ['x'] * 17}, 'array_above_max_length', 'stop'),
            ({'messages': user, 'stream': 'yes'}, 'invalid_type', 'stream'),
            ({'messages': user, 'stream_options': {}}, 'invalid_value', 'stream_options'),
            ({'messages': user, 'seed': 2**63}, None, None),
            ({'messages': user, 'user': 'x' * 513}, 'string_above_max_length', 'user'),
            ({'messages': user, 'tools': [{'type': 'function'}]}, 'unsupported_parameter',
             'tools'),
            ({'messages': user, 'top_logprobs': 1}, 'invalid_value', 'top_logprobs'),
            ({'messages': user, 'bad_words': ['']}, 'invalid_value', 'bad_words')):
        if code:
            refused(server, fields, 400, code, param)
        else:
            assert chat(server, fields)[0] == 400
    refused(server, {'messages': user, 'model': 'gpt-4'}, 404, 'model_not_found', 'model')
    message = refused(server, question('why ' * 3000), 400, 'context_length_exceeded', 'messages')
    assert "This model's maximum context length is 2048 tokens" in message, message


def bad_heads(server):
    """Type, coding, size of head and body."""
    body = json.dumps(question('Hello', max_tokens=2)).encode()
    for options, status, code in (
            (['-H', 'Content-Type: text/plain'], 415, 'unsupported_content_type'),
            (['-H', 'Content-Type: application/x-www-form-urlencoded'], 415,
             'unsupported_content_type'),
            (['-H', 'Content-Type: application/json; charset=latin1'], 415,
             'unsupported_content_type'),
            (['-H', 'Content-Encoding: gzip'], 415, 'unsupported_content_encoding'),
            *[([h for i in range(101) for h in ('-H', f'X-{i}: 1')], 431, 'headers_too_large')]):
        got, headers, data = curl(server, CHAT, *options, body=body)
        check_error(got, headers, json.loads(data), status, code)
    big = json.dumps(question('x' * (2 << 20))).encode()
    for options in ([], ['-H', 'Expect:'], ['-H', 'Transfer-Encoding: chunked', '-H', 'Expect:']):
        got, headers, data = curl(server, CHAT, *options, body=big)
        check_error(got, headers, json.loads(data), 413, 'request_body_too_large')


def keys_are_asked_for(_):
    """With keys, everything but the probes needs one."""
    body = json.dumps(question('Hello', max_tokens=2)).encode()
    with tempfile.NamedTemporaryFile('w', suffix='.keys') as keys:
        keys.write('first-key\nsecond-key\n')
        keys.flush()
        os.chmod(keys.name, 0o600)
        with Server(BINARY, MODEL, '--api-key-file', keys.name) as server:
            for value in ('Bearer first-key', 'bearer second-key'):
                assert curl(server, CHAT, '-H', f'Authorization: {value}', body=body)[0] == 200
            for options in ([], ['-H', 'Authorization: Bearer third-key'],
                            ['-H', 'Authorization: Basic first-key'],
                            ['-H', 'Authorization: Bearer first-key', '-H',
                             'Authorization: Bearer first-key']):
                for path in (CHAT, '/v1/models', '/nowhere', CHAT + '?api_key=first-key'):
                    got, headers, data = curl(server, path, *options, body=body)
                    message = check_error(got, headers, json.loads(data), 401, 'invalid_api_key')
                    assert 'key' in message and 'third' not in message, message
                    assert headers['www-authenticate'] == 'bearer', headers
            for path in ('/livez', '/readyz', '/health'):
                assert curl(server, path)[0] == 200, path


def bad_ones_next_to_good_ones(server):
    """Change nothing: the same answers while every bad request is sent again and again."""
    asks = [ask_sample(data, case) for data, case in samples()]
    alone = [server.answer(a) for a in asks]
    errors = []

    def be_bad(kind):
        try:
            kind(server)
        except Exception as e:  # pylint: disable=broad-except
            errors.append(repr(e))

    threads = [threading.Thread(target=be_bad, args=(kind,))
               for kind in (bad_pictures, bad_bodies, bad_heads, two_pictures, bad_pictures)]
    for t in threads:
        t.start()
    rounds = 0
    while any(t.is_alive() for t in threads) or not rounds:
        assert [server.answer(a) for a in asks] == alone
        rounds += 1
    for t in threads:
        t.join()
    assert not errors, errors
    print(f'# {rounds * len(asks)} good answers among the bad requests')


TESTS = [the_demo_sees, a_whole_answer, a_stream_to_the_letter, ways_to_send, other_addresses,
         every_picture_code_was_seen, two_pictures, bad_bodies, bad_heads, keys_are_asked_for,
         bad_ones_next_to_good_ones]
tap.need_model(MODEL)
with Server(BINARY, MODEL, '--max-body-bytes', '1MiB', '--max-image-bytes', '128KiB') as shared:
    code = tap.run(TESTS, shared)
sys.exit(code)
