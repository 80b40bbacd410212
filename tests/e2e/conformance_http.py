"""What the API promises of every request, whatever it is about: conformance_http.py COGWHEEL MODEL.
Prints TAP. With the pictures, the load and these come the lines of the conformance list:

line  1 request ids          every_answer_has_an_id, ids_of_clients
line  2 error bodies         every_error_has_its_members
line  3 keys                 test_server_http.c keys; curl.py keys_are_asked_for
line  4 what is open         nothing_without_a_key
line  5 framing and limits   test_server_http.c content_types, too_large_*, largest_body_passes,
                             endless_body, large_heads, slow_heads, slow_bodies; test_head.c;
                             curl.py bad_heads, ways_to_send; here slow_senders
line 28 schema bombs         schema_bombs
line 34 JSON                 test_chat.c broken_json, depth; curl.py bad_bodies; here hostile_json
"""
import json
import os
import socket
import sys
import tempfile
import threading
import time

import tap
from server import ID, Server, check_error, question

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
NAME = os.path.basename(MODEL)
CHAT = '/v1/chat/completions'
JSON = 'Content-Type: application/json\r\n'
HELLO = json.dumps(question('Hello', max_tokens=1)).encode()
PROBES = ('/livez', '/readyz', '/health', '/v1/health')
READ = ('/v1/models', '/models', f'/v1/models/{NAME}', '/version')
ASKED = (CHAT, '/chat/completions')
# later releases, and what is not offered at all
OTHERS = ('/v1/completions', '/completions', '/tokenize', '/v1/tokenize', '/detokenize',
          '/v1/detokenize', CHAT + '/input_tokens', CHAT + '/batch', '/v1/files',
          '/v1/files/file-1', '/v1/files/file-1/content', '/v1/responses',
          '/v1/responses/input_tokens', '/v1/embeddings', '/v1/audio/speech',
          '/v1/images/generations', '/v1/moderations',
          '/v1/rerank', '/v1/score', '/v1/messages', '/', '/nowhere')


def post(path, body, fields=JSON):
    """The bytes of a request."""
    return (f'POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}'
            f'Content-Length: {len(body)}\r\n\r\n').encode('latin-1') + body


def get(path, fields='', method='GET'):
    """The bytes of a request without a body."""
    return f'{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n'.encode('latin-1')


def one_of_each():
    """Status, code, bytes: every kind of answer that a short request can get."""
    for path in PROBES + READ:
        yield 200, None, get(path)
    yield 200, None, post(CHAT, HELLO)
    yield 200, None, post(CHAT, json.dumps(question('Hello', max_tokens=1, stream=True)).encode())
    yield 404, 'unknown_url', get('/nowhere')
    yield 404, 'model_not_found', get('/v1/models/none')
    yield 404, 'model_not_found', post(CHAT, json.dumps(question('x', model='none')).encode())
    yield 405, 'method_not_allowed', get(CHAT)
    yield 405, 'method_not_allowed', get('/v1/models', method='DELETE')
    yield 405, 'method_not_allowed', get('/livez', method='OPTIONS')
    yield 411, 'length_required', f'POST {CHAT} HTTP/1.1\r\nHost: x\r\n{JSON}\r\n'.encode()
    yield 413, 'request_body_too_large', post(CHAT, b' ' * (1 << 20) + HELLO)
    yield 415, 'unsupported_content_type', post(CHAT, HELLO, 'Content-Type: text/plain\r\n')
    yield 415, 'unsupported_content_type', post(CHAT, HELLO, '')
    yield 415, 'unsupported_content_encoding', post(CHAT, HELLO, JSON + 'Content-Encoding: br\r\n')
    yield 431, 'headers_too_large', get('/livez', ''.join(f'H{i}: v\r\n' for i in range(100)))
    yield 431, 'headers_too_large', get('/livez?' + 'x' * 8190)
    yield 400, 'bad_request', get('/livez%00x')
    yield 400, 'invalid_json', post(CHAT, b'{')
    yield 400, 'missing_required_parameter', post(CHAT, b'{}')
    yield 400, 'invalid_type', post(CHAT, b'{"messages":1}')


def every_answer_has_an_id(server):
    """Of its own, the good ones and the bad ones; another for each."""
    seen = set()
    for status, code, raw in one_of_each():
        got, headers, _, _ = server.exchange(raw)
        assert got == status, (got, raw[:80])
        ids = headers.get_all('x-request-id')
        assert ids and len(ids) == 1 and ID.fullmatch(ids[0]), (code, ids)
        assert ids[0] not in seen
        seen.add(ids[0])


def ids_of_clients(server):
    """Taken over when they are what an id may be, else replaced and never repeated."""
    for status, _, raw in one_of_each():
        if status == 431:
            continue
        for name in ('a', 'aZ09._:-', 'x' * 128):
            raw_with_id = raw.replace(b'\r\n', f'\r\nX-Request-Id: {name}\r\n'.encode(), 1)
            got, headers, body, _ = server.exchange(raw_with_id)
            assert got == status, (got, raw[:80])
            assert headers['x-request-id'] == name, (headers, raw[:80])
    for bad in ('', ' ', 'a b', 'x' * 129, 'x' * 10000, 'a/b', 'a"b', '<a>', 'a\tb', 'a%0d%0aX: b',
                '\xe9', 'a\r\n X-Evil: b', 'a\r\n\tb', 'a,b', 'a;b', '{}', '$(id)'):
        got, headers, body, _ = server.exchange(get('/nowhere', f'X-Request-Id: {bad}\r\n'))
        assert got in (400, 404), got
        assert headers['x-request-id'].startswith('req_'), (bad, headers)
        assert headers['x-evil'] is None and headers['x'] is None, headers
        assert bad.strip() == '' or bad[-40:].encode('latin-1') not in body, body


def every_error_has_its_members(server):
    """One object, four members, the code a string; nothing of a stack, a path or a library."""
    codes = set()
    for status, code, raw in one_of_each():
        if code:
            got, headers, data, _ = server.exchange(raw)
            assert headers['content-type'] == 'application/json', headers
            param = {'model_not_found': 'model', 'missing_required_parameter': 'messages',
                     'invalid_type': 'messages'}.get(code)
            check_error(got, headers, json.loads(data), status, code, param)
            codes.add(code)
    assert len(codes) == 12, codes


def nothing_without_a_key(_):
    """Every address but the probes, known or not; the key is looked at before anything else."""
    with tempfile.NamedTemporaryFile('w', suffix='.keys') as keys:
        keys.write('the-key\n')
        keys.flush()
        os.chmod(keys.name, 0o600)
        with Server(BINARY, MODEL, '--api-key-file', keys.name) as server:
            for path in READ + ASKED + OTHERS:
                for raw in (get(path), get(path, method='DELETE'), post(path, HELLO),
                            post(path, b'{', 'Content-Type: text/plain\r\n')):
                    got, headers, data, _ = server.exchange(raw)
                    check_error(got, headers, json.loads(data), 401, 'invalid_api_key')
                    assert headers['www-authenticate'] == 'Bearer', headers
                    key = b'\r\nAuthorization: Bearer the-key\r\n'
                    got, _, _, _ = server.exchange(raw.replace(b'\r\n', key, 1))
                    assert got != 401, (path, raw[:60])
            for path in PROBES + ('/metrics',):
                assert server.exchange(get(path))[0] == 200, path
            # a preflight comes before a key is known
            for path in READ + ASKED + OTHERS + PROBES + ('/metrics',):
                got, _, _, _ = server.exchange(get(path, 'Origin: http://a.example\r\n'
                                                   'Access-Control-Request-Method: POST\r\n',
                                                   'OPTIONS'))
                assert got != 401, path


def slow_senders(_):
    """A head and a body that trickle end in a 408 that says so, and cost nobody else anything."""
    with Server(BINARY, MODEL, '--header-timeout', '400ms',
                '--body-idle-timeout', '400ms') as server:
        for raw in (b'GET /livez HT', post(CHAT, HELLO)[:-10],
                    f'POST {CHAT} HTTP/1.1\r\nHost: x\r\n{JSON}'
                    'Transfer-Encoding: chunked\r\n\r\n5\r\n{"mes'.encode()):
            with socket.create_connection((server.host, server.port), 60) as s:
                s.sendall(raw)
                assert server.answer(question('Hello', max_tokens=1)) is not None
                answer = b''
                while more := s.recv(65536):
                    answer += more
            head, body = answer.split(b'\r\n\r\n')
            lines = head.decode().split('\r\n')
            headers = {k.lower(): v for k, v in (line.split(': ', 1) for line in lines[1:])}
            assert headers['connection'] == 'close' and headers['x-should-retry'] == 'false'
            check_error(int(lines[0].split()[1]), headers, json.loads(body), 408, 'request_timeout')


def hostile_json(server):
    """Refused wherever in the request it stands, and in words of ours."""
    inside = ('{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"metadata":{"a":%s}}',
              '{"messages":[{"role":"user","content":"x","name":%s}],"max_tokens":1}', '{"a":%s}')
    bad = ['{"k":1,"k":2}', '{"k":1,"\\u006b":2}', '"\\u0000"', '{"\\u0000":1}', '"\\ud800"',
           '"\\udc00\\ud800"', '"\\ud800x"', '1e999', '-1e999', '9223372036854775808',
           '-9223372036854775809', '[1,]', '{"a":1,}', '01', '+1', '.5', '1.', '0x1', 'NaN',
           'Infinity', '-Infinity', 'nul', "'a'", '"a\nb"', '"\\x41"', '"\xff"', '/**/1']
    for template in inside:
        before = template[:template.index('%s')]
        depth = 64 - sum(before.count(a) - before.count(b) for a, b in ('{}', '[]'))
        for text in bad + ['[' * (depth + 1) + ']' * (depth + 1)]:
            body = (template % text).encode('latin-1')
            got, headers, data, _ = server.exchange(post(CHAT, body))
            assert got == 400, body[:200]
            check_error(got, headers, json.loads(data), 400, 'invalid_json')
        deep = (template % ('[' * depth + ']' * depth)).encode()
        got, _, data, _ = server.exchange(post(CHAT, deep))
        assert (got == 200 or json.loads(data)['error']['code'] != 'invalid_json'), data
    for tail in (b'x', b'{}', b'\0', b',', b']', HELLO):
        got, headers, data, _ = server.exchange(post(CHAT, HELLO + tail))
        check_error(got, headers, json.loads(data), 400, 'invalid_json')
    assert server.exchange(post(CHAT, b' \t\r\n' + HELLO + b' \r\n'))[0] == 200


def bombs():
    """Schemas that make a careless compiler explode, loop or recurse, and what becomes of them."""
    one_of = {'type': 'string'}
    for _ in range(14):
        one_of = {'oneOf': [one_of, one_of]}
    yield one_of, 'schema_too_complex'
    yield {'enum': [f'value number {i}' for i in range(15000)]}, 'schema_too_complex'
    yield {'$ref': '#/$defs/a', '$defs': {
        'a': {'anyOf': [{'$ref': '#/$defs/b'}, {'$ref': '#/$defs/a'}]},
        'b': {'anyOf': [{'$ref': '#/$defs/a'}, {'$ref': '#/$defs/b'}]}}}, 'invalid_json_schema'
    for pattern, code in (('^(a+)+$', None), ('^(a|a)*b{1000}$', None), ('(.*)*' * 50, None),
                          ('^((a{1,100}){1,100}){1,100}$', 'schema_too_complex'),
                          ('^(a|b)*a(a|b){30}$', 'schema_too_complex'),
                          ('^(?=a)\\1$', 'invalid_json_schema')):
        yield {'type': 'string', 'pattern': pattern}, code
    yield {'type': 'array', 'minItems': 10**9, 'items': {
        'type': 'string', 'minLength': 10**9}}, 'schema_too_complex'


def schema_bombs(server):
    """In each form that carries a schema they are compiled or refused at once, and the probes
    answer meanwhile."""
    probes, slowest, stop = [], 0, threading.Event()

    def probe():
        while not stop.is_set():
            began = time.monotonic()
            probes.append((server.get('/livez')[0], time.monotonic() - began))

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        for schema, code in bombs():
            named = {'type': 'json_schema', 'json_schema': {'name': 'x', 'schema': schema}}
            for field, param in (
                    ({'response_format': named}, 'response_format.json_schema.schema'),
                    ({'response_format': {'type': 'json_object', 'schema': schema}},
                     'response_format.schema'),
                    ({'structured_outputs': {'json': schema}}, 'structured_outputs.json'),
                    ({'guided_json': schema}, 'guided_json'),
                    ({'json_schema': schema}, 'json_schema')):
                began = time.monotonic()
                status, headers, data = server.chat(question('Hello', max_tokens=1, **field))
                slowest = max(slowest, time.monotonic() - began)
                if code:
                    check_error(status, headers, data, 400, code, param)
                else:
                    assert status == 200, (schema, data)
    finally:
        stop.set()
        prober.join()
    assert {status for status, _ in probes} == {200}, probes[:5]
    print(f'# slowest answer {slowest * 1000:.1f} ms, slowest of {len(probes)} probes '
          f'{max(took for _, took in probes) * 1000:.1f} ms')


TESTS = [every_answer_has_an_id, ids_of_clients, every_error_has_its_members,
         nothing_without_a_key, slow_senders, hostile_json, schema_bombs]
tap.need_model(MODEL)
with Server(BINARY, MODEL, '--max-body-bytes', '1MiB') as shared:
    code = tap.run(TESTS, shared)
sys.exit(code)
