#!/usr/bin/python3
"""Writes the inputs that fuzzing starts from: seeds.py FOLDER makes FOLDER/HARNESS/NAME.

They come from the pictures, the demo model and the golden fixtures of this repository, and from what
stands here. tests/fuzz.sh adds to them what a corpus already holds.
"""
import base64
import glob
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = sys.argv[1]
made = {}


def seed(harness, data):
    """One input of a harness; text is UTF-8."""
    if isinstance(data, str):
        data = data.encode()
    made[harness] = made.get(harness, 0) + 1
    folder = os.path.join(OUT, harness)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f'seed-{made[harness]:03}'), 'wb') as f:
        f.write(data)


def read(*path):
    with open(os.path.join(ROOT, *path), 'rb') as f:
        return f.read()


def pictures():
    for harness, ending in ('jpeg', 'jpg'), ('png', 'png'), ('webp', 'webp'), ('gif', 'gif'):
        for path in sorted(glob.glob(os.path.join(ROOT, 'tests/images/*.' + ending))):
            data = read(path)
            if len(data) <= 3000:
                seed(harness, data)
                at = data.find(b'Exif\0\0')
                if at >= 0:
                    seed('exif', data[at:at + 200] + bytes((7, 5)))
    tiff = {b'II': 'little', b'MM': 'big'}
    for mark, order in tiff.items():
        for orientation in range(9):
            entry = b''.join(v.to_bytes(n, order) for v, n in ((0x112, 2), (3, 2), (1, 4),
                                                               (orientation, 2), (0, 2)))
            seed('exif', mark + (42).to_bytes(2, order) + (8).to_bytes(4, order)
                 + (1).to_bytes(2, order) + entry + bytes(4) + bytes((3, 9)))
    for sides in (1, 1, 1, 1), (1, 9, 33, 1), (40, 23, 13, 5), (23, 40, 90, 81), (16, 16, 32, 32):
        seed('resize', bytes(range(0, 256, 5)) + bytes(sides))


def messages(*turns):
    return [{'role': role, 'content': content} for role, content in turns]


def forms():
    def part(name, data, more=''):
        return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{data}\r\n'

    end = '--x--\r\n'
    head = 'multipart/form-data; boundary=x\n'
    picture = '; filename="a.png"\r\nContent-Type: image/png'
    bodies = [
        end, part('purpose', 'vision') + part('file', '\x89PNG\r\n--', picture) + end,
        part('file', '', '; filename="a \\"b\\".png"') + part('expires_after[anchor]', 'created_at') + end,
        part('a', 'b', '\r\nContent-Transfer-Encoding: binary') + '--x--',
        part('a', 'b', "; filename*=UTF-8''b") + '--x --', part('a', '--x') + end, part('a', '\r\n--x') + end,
        part('a', 'b') + end + 'c', part('', 'b') + end, 'c\r\n' + part('a', 'b') + end, '--x' + end,
        part('a', 'b') * 17 + end, '--x\r\n\r\nb\r\n' + end,
    ]
    for body in bodies:
        seed('multipart', head + body)
    for boundary in '"a b"', '"a\\"b"', '----formdata-undici-012345678901', '', '""', 'a; boundary=b':
        seed('multipart', f'Multipart/Form-Data;boundary={boundary}\n' + end.replace('x', boundary.strip('"')))


def completions():
    bodies = [
        {'prompt': 'Once upon a'}, {'prompt': ''}, {'prompt': ['a', '', '\u00e9']}, {'prompt': [3, 4.0, 5]},
        {'prompt': [[3], [4, 5]]}, {'prompt': [['a']]}, {'prompt': ['a', 1]}, {'prompt': [7, 8, 31999]},
        {'prompt': 'a', 'max_tokens': 0, 'echo': True}, {'prompt': 'a', 'max_tokens': 3, 'n_predict': 4},
        {'prompt': ['a', 'b'], 'n': 2, 'stream': True, 'stream_options': {'include_usage': True}, 'stop': 'x',
         'suffix': '', 'best_of': 1, 'logprobs': None, 'seed': -1, 'logit_bias': {'5': 1}, 'zzz': 1},
        {'prompt': 'a', 'suffix': 'b'}, {'prompt': 'a', 'logprobs': 2}, {'prompt': []}, {},
    ]
    for body in bodies:
        for flags in 2, 15:
            seed('completion', json.dumps(body).encode() + bytes((flags,)))
    seed('completion', b'{"prompt":"data:\x01"}\x02')


def others(picture):
    """Requests that are chats in other words: see flags in fuzz_chat.c."""
    item = {'type': 'message', 'role': 'assistant', 'id': 'm', 'status': 'completed',
            'content': [{'type': 'output_text', 'text': 'b', 'annotations': [], 'logprobs': []}]}
    asked = messages(('user', [{'type': 'input_text', 'text': 'a'},
                               {'type': 'input_image', 'image_url': picture, 'detail': 'auto'}]))
    form = {'type': 'json_schema', 'name': 'a', 'schema': {'type': 'integer'}, 'strict': True}
    for body in ({'input': 'hi'}, {'input': asked + [item] + messages(('user', 'c')), 'instructions': 'be'},
                 {'input': 'a', 'text': {'format': form}, 'metadata': {'k': 'v'}, 'max_output_tokens': 9,
                  'include': ['message.output_text.logprobs'], 'top_logprobs': 2, 'temperature': 0.5, 'top_p': 1,
                  'tool_choice': 'none', 'truncation': 'disabled', 'user': 'u', 'store': True},
                 {'input': 'a', 'previous_response_id': 'r'}, {'input': 'a', 'text': {'format': {'type': 'text'}}}):
        seed('chat', json.dumps(body).encode() + bytes((0x40,)))
    for body in ({'messages': [asked, 5, messages(('user', 'b'))], 'grounding': True, 'max_tokens': 3},
                 {'messages': [[], messages(('assistant', 'b'))], 'logprobs': True}, {'messages': []}):
        seed('chat', json.dumps(body).encode() + bytes((0x80,)))


def chats():
    picture = 'data:image/png;base64,' + base64.b64encode(b'FAKE').decode()
    part = {'type': 'image_url', 'image_url': {'url': picture}}
    text = {'type': 'text', 'text': 'What is \u00e9?'}
    bodies = [
        {'messages': messages(('user', 'hi'))},
        {'messages': messages(('user', [text, part]))},
        {'messages': messages(('system', 's'), ('user', [part, text]), ('assistant', 'a'), ('user', 'b'))},
        {'messages': messages(('user', 'hi')), 'model': 'm', 'max_completion_tokens': 5, 'max_tokens': 7,
         'temperature': 0.5, 'top_p': 0.9, 'n': 2, 'stop': ['a', 'bb'], 'seed': 7, 'stream': True,
         'stream_options': {'include_usage': True, 'continuous_usage_stats': True}, 'user': 'u'},
        {'messages': messages(('user', 'hi')), 'top_k': 5, 'min_p': 0.1, 'repetition_penalty': 1.1,
         'frequency_penalty': -1, 'presence_penalty': 1, 'template_version': 'vqa', 'request_id': 'r.1',
         'chat_template_kwargs': {'template_version': 'base'}, 'response_format': {'type': 'text'}},
        {'messages': messages(('user', 'hi')), 'tools': [], 'tool_choice': 'none', 'logprobs': False,
         'top_logprobs': 0, 'modalities': ['text'], 'logit_bias': {}, 'metadata': {'a': 1}, 'zzz': 1},
        {'messages': messages(('user', 'hi')), 'logit_bias': {'5': 1.5, '0': -100}, 'min_tokens': 2,
         'stop_token_ids': [2, 7], 'allowed_token_ids': [7, 1, 7], 'ignore_eos': True,
         'include_stop_str_in_output': True, 'skip_special_tokens': False},
        {'messages': messages(('user', [{'type': 'input_image', 'image_url': picture}]))},
        {'messages': [{'role': 'user', 'content': 'a', 'name': 'n'},
                      {'role': 'assistant', 'content': None, 'refusal': None}]},
        {'messages': messages(('user', 'hi')), 'n': 5},
        {'messages': []}, {},
    ]
    for body in bodies:
        for flags in 8, 15:
            seed('chat', json.dumps(body).encode() + bytes((flags,)))
        seed('json_scan', json.dumps(body))
    others(picture)
    long = b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,\x01"}}]}]}'
    seed('chat', long + b'\x08')
    for body in (long, b'["data:\x01\\/\\/\x01", "data:\x01\\n", {"data:\x01": "data:\x01"}]',
                 b'"data:\x01', b'"data:\x01\\', b'"\\\\" : "\\""', b'[' * 70):
        seed('json_scan', body)


def texts():
    for data in (b'', b'TQ==', b'TWE=', b'TWFu', b'TWFu' * 20, b'TWFuTQ', b'TWFu=', b'====', b'A' * 131 + b'-',
                 b'TR==', b'+/+/' * 16 + b'Zg'):
        seed('base64', data)
    for url in ('data:image/png;base64,AAAA', 'DATA:;BASE64,AA==', 'data:image/jpeg;charset=x;base64,',
                'data:text/plain;base64,AAAA', 'data:application/octet-stream;base64,AA', 'data:,x',
                'data:image/png;base64', 'http://a/b', 'HTTPS://a', 'ftp://a', 'file:x', 'AAAA', ''):
        seed('data_url', url)
    for how in 0, 1, 7, 40:
        for stops, text in ((['END'], 'the ENEND of it'), (['ab', 'abc', 'b'], 'xxabcab'),
                            (['aaab', 'aab'], 'aaaaaab'), ([], 'text'), (['\u00e9'], 'caf\u00e9 noir'),
                            (['\n\n', '###'], 'a\n#\n##\n\nb')):
            seed('stops', '\0'.join(stops + ['', text] if stops else ['', text]).encode() + bytes((how,)))
    for data in ('', 'plain', 'caf\u00e9 \u20ac \U0001f600', '"\\/\b\f\n\r\t\x01\x7f', '<\u2028>'):
        seed('utf8', data)
        seed('write', data.encode() + b'\x07')
    seed('write', ('x' + '\u00e9' * 700).encode() + b'\x00') # longer than an error's message
    for data in (b'\xff', b'\xc0\x80', b'\xed\xa0\x80', b'\xf4\x90\x80\x80', b'\xe2\x82', b'a\xf0\x9f\x98b', b'\xf8'):
        seed('utf8', data)
        seed('write', data + b'\x01')
    seed('write', b'{"image":"a.jpg","text":"t","finish_reason":"stop","prompt_tokens":1,"completion_tokens":2}\x00')
    seed('write', b'{"image":"a.jpg","error":"e"}\x00')


def heads():
    post = 'POST /v1/chat/completions HTTP/1.1\nHost: a\nContent-Type: application/json\n'
    for head in ('GET / HTTP/1.1\nHost: a', 'GET / HTTP/1.0\n', post + 'Content-Length: 5',
                 post + 'Transfer-Encoding: chunked\nExpect: 100-continue',
                 post + 'Content-Length: 5\nTransfer-Encoding: chunked',
                 post + 'Content-Length: 5\nContent-Length: 6',
                 post + 'Transfer-Encoding: gzip, chunked', post + 'Host: b',
                 'POST /%00 HTTP/1.1\nHost: a\nContent-Type: a/b+json; charset="utf-8"; q=1\nContent-Length: 1',
                 post + 'Content-Encoding: gzip\nContent-Length: 1',
                 post + 'Authorization: Bearer x\nX-Request-Id: y\nAuthorization: z\nContent-Length: 1',
                 'GET / HTTP/1.1\nHost: a\r\nBad Name: x\n: y\nA:\x01'):
        seed('head', head)


def checkpoints():
    for path in sorted(glob.glob(os.path.join(ROOT, 'tests/golden/fixtures/*/config.json'))) + \
            [os.path.join(ROOT, 'models/demo/config.json')]:
        folder = os.path.dirname(path)
        seed('model_config', read(path))
        generation = os.path.join(folder, 'generation_config.json')
        seed('model_config', read(path) + b'\0' + read(generation))
        model = os.path.join(folder, 'tokenizer.model')
        if os.path.getsize(model) <= 8000:
            seed('tokenizer', read(model))

    def tensor(dtype, shape, begin, end):
        return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}
    a = {'__metadata__': {'format': 'pt'}, 't': tensor('F32', [2, 2], 0, 16), 'u': tensor('BF16', [3], 16, 22)}
    b = {'v': tensor('F16', [], 0, 2), 'w': tensor('F32', [0, 5], 2, 2)}
    index = {'metadata': {'total_size': 24}, 'weight_map': {'t': 'a', 'u': 'a', 'v': 'b', 'w': 'b'}}
    overlapping = {'t': tensor('F32', [2], 0, 8), 'u': tensor('F32', [2], 4, 12)}
    seed('safetensors', json.dumps(overlapping).encode() + b'\0')
    for flags in 0, 4, 8:
        seed('safetensors', json.dumps(a).encode() + bytes((flags,)))
    seed('safetensors', b'\0'.join(json.dumps(v).encode() for v in (index, a, b)) + b'\x02')
    seed('safetensors', b'\0'.join(json.dumps(v).encode() for v in (index, a, b)) + b'\x12')
    text = json.dumps(a).encode()
    seed('safetensors', len(text).to_bytes(8, 'little') + text + bytes(22) + b'\x01')
    seed('safetensors', b'version https://git-lfs\x01')


def settings():
    example = read('config', 'example.json')
    for command in range(4):
        seed('config', example + bytes((command,)))
        seed('config', b'{}\0--help' + bytes((command,)))
    for args in (['--max-seqs', '4', '--step-tokens=64', '--listen', 'a:1', '--listen=b:2', '--insecure'],
                 ['--no-insecure', '--kv-cache', '1.5GiB', '--print-config'], ['--request-timeout', '90'],
                 ['--max-seq', '4'], ['-x'], ['--', 'a', 'b'], ['--kv-block', '48'], ['--key-rpm', '1e2']):
        for command in 0, 1, 2:
            seed('config', b'{"log-level": "warn"}\0' + '\0'.join(args).encode() + bytes((command,)))
    for text in ('sk-one', '# none\n', 'sk-one rpm=60 tpm=100000 concurrent=4 # c\n\nsk-two\r\n', 'a\na',
                 'key rpm=99999999999', 'key rpm=', 'key x=1', '\x01', 'k\xe9y', ' \t lead rpm=0'):
        seed('key_file', text)
    for text in ('', ' ', 'abc abca bc', '</s><unk>', '\u00e9\u4f60\U0001f999', '\u2581x', 'ABCDEFGHIJKLMNO', 'a  b'):
        seed('detokenizer', text)
    seed('detokenizer', b'\xf0\x9f\x41\xa6')


def streams():
    chunk = ('{"id":"c","choices":[{"index":0,"delta":{"content":"a\u00e9"},"finish_reason":null}],'
             '"usage":{"prompt_tokens":7,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":3}}}')
    for end in '\n', '\r', '\r\n':
        lines = ['data: ' + chunk, '', ': ping', '', 'event: x', 'data:a', 'data', 'data: b', '', 'data: [DONE]', '', '']
        seed('sse_read', end.join(lines).encode() + b'\x05')
    for body in ('{"error":{"message":"no"}}', '{"error":"no"}', '{"data":[{"id":"m"}]}', '{"choices":[{"message":{"content":"x"}}]}'):
        seed('sse_read', 'data: ' + body + '\n\n0')


def connections():
    body = b'{"messages":[{"role":"user","content":"count=1"}]}'
    post = b'POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n'
    sized = post + b'Content-Length: %d\r\n\r\n' % len(body)
    chunked = post + b'Transfer-Encoding: chunked\r\n\r\n'
    for request in range(14):
        seed('http', bytes((0xf9, request)))
        seed('http', bytes((0xf9, request, 0xfa, 0xf9, 4)))
    for text in (sized + body, sized[:20] + b'\xf8' + sized[20:] + body[:9] + b'\xfa' + body[9:],
                 chunked + b'%x\r\n' % len(body) + body + b'\r\n0\r\n\r\n',
                 chunked + b'5\r\n' + body[:5] + b'\r\n\xf8' + b'%x\r\n' % (len(body) - 5) + body[5:]
                 + b'\r\n0\r\nTrailer: x\r\n\r\n',
                 post + b'Expect: 100-continue\r\nContent-Length: 5\r\n\r\n\xfa{"a":',
                 post + b'Content-Length: 99999999\r\n\r\n' + body, sized + body[:10] + b'\xfb', sized + body[:10] + b'\xfd',
                 b'GET / HTTP/1.0\r\n\r\n', b'GET /version HTTP/1.1\r\nHost: a\r\n\r\n' * 3, b'PUT /v1/models HTTP/1.1\r\nHost: a\r\n\r\n',
                 b'HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n', b'\xfe\xf9\x05\xfa\xff\xfa', b'\xfe\xf9\x06\xfc\xf9\x06\xfc\xf9\x06\xfd\xf9\x04\xff',
                 b'\xf9\x08\xf8\xf9\x00\xfa', b'\x16\x03\x01\x02\x00\x01', b'GET /' + b'a' * 3000 + b' HTTP/1.1\r\nHost: a\r\n\r\n'):
        seed('http', text)


def operations():
    import random
    rnd = random.Random(1)
    step, arrive = 6, 0
    for n_blocks, max_seqs, tokens in (5, 3, 16), (30, 5, 60), (4, 0, 0):
        for _ in range(4):
            ops = []
            for _ in range(60):
                op = rnd.choice((arrive, arrive, 2, 3, 4, 5, step, step, step, 64 + step)) + 8 * rnd.randrange(12)
                ops += [op & 255] + [rnd.randrange(256) for _ in range({0: 4, 1: 4, 4: 1, 6: 1, 7: 1}.get(op % 8, 0))]
            seed('scheduler', bytes([n_blocks, max_seqs, tokens, 1] + ops))
    for _ in range(20):
        ops = []
        for _ in range(30):
            op = rnd.choice((0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 7)) + 8 * rnd.randrange(10)
            ops += [op] + [rnd.randrange(256) for _ in range({0: 1, 3: 2, 5: 1, 6: 1}.get(op % 8, 0))]
        seed('decode_helper', bytes(ops))
    seed('decode_helper', bytes((0, 1, 7, 15, 7, 15, 0, 1, 8, 2, 16, 3, 24, 1, 7, 15, 2, 7, 15, 9, 7)))


def urls():
    for url in ('http://example.com/a.png', 'https://img.example.com:443/x?y#z', 'http://example.com.evil.org/', 'http://a@example.com/',
                'http://example.com:8080/', 'http:///example.com', 'http://EXAMPLE.com./', 'http://[::1]/', 'http://example.com%2f@b/',
                'http://127.1/', 'http://0x7f000001/', 'https://x.example.com\\@y/', 'http://sub.example.org/%00', 'ftp://example.com/'):
        seed('fetch_url', url)
    for address in (b'\x7f\0\0\1', b'\xa9\xfe\xa9\xfe', b'\0' * 10 + b'\xff\xff\x7f\0\0\1', b'\x20\x02\x7f\0\0\1' + bytes(10), b'\x26\x06' + bytes(14)):
        seed('fetch_url', address)
    for path in ('f', 'd/g', 'd/../f', '../secret', 'out', 'in', 'd/up/f', '%66', 'd//g', 'd/./g', '%2e%2e/secret', 'loop/loop/f', 'x', 'f/'):
        seed('media_file', path)


def boxes():
    for text in ('a dog [[120,340,560,780]] to the left of the two red cats [[1,2,3,4;005,06,7,8]] on grass',
                 '[[654,637,710,728]]', '[[[1,2,3,4]]]', '[[1,2,3', '[[]][[,;,]]', '[[9,9,1,1;0,0,1000,9999]]',
                 'x [[12[[5,6,7,8]]', 'caf\u00e9 \u732b [[1,1,2,2]] [[1,2,3,4,5]] it [[0000,0,0,0]]'):
        for how in range(3):
            seed('grounding', text.encode() + bytes((25, 26, how)))


def grammars():
    """The first byte says what the rest is: an expression, choices, a schema, any object, boxes."""
    for kind, text in ((0, '(ab|a)*c?'), (0, '[^a-c\\n]{2,5}\\d+|^x$'), (0, '(?:a|(?P<n>b)){,2}[]-]\\x41\\u00e9'),
                       (1, '["yes","no"]'), (2, '{"type":["boolean","null"]}'), (2, '{"not":{}}'), (3, ''), (4, ''),
                       (2, '{"properties":{"a":{"minimum":-5}},"required":["a"],"additionalProperties":{"const":1}}'),
                       (2, '{"items":{"$ref":"#"},"minItems":1}'), (2, '{"prefixItems":[{"format":"date"}],"items":false}')):
        seed('grammar', bytes((kind,)) + text.encode())


pictures()
chats()
completions()
forms()
boxes()
grammars()
urls()
operations()
connections()
streams()
texts()
heads()
checkpoints()
settings()
