"""What the API promises about pictures and prompts: conformance_pictures.py COGWHEEL DEMO-MODEL.
Prints TAP. The lines of the conformance list:

line 17 bad pictures      curl.py bad_pictures (each code, bombs); here one_pixel_is_a_picture,
                          cut_at_every_kilobyte, random_bytes, declared_types_are_not_trusted;
                          failed_to_download_image: test_server_pictures.c
line 18 refused by default          places_are_refused_by_default
line 19 allowed hosts     hosts_beside_the_list, listed_hosts_that_lead_inside; redirects, rebinding
                          and addresses: test_fetch.c, test_fetch_url.c
line 20 media root        one_error_for_all_that_is_not_there; test_media_file.c
line 21 alike pictures    equal_bytes_of_other_shape, palette_twins
line 24 control tokens    typed_control_tokens_are_text; test_tokenizer.c
line 25 several pictures  the_second_picture; curl.py two_pictures
line 26 long prompts      long_prompts_cost_no_picture
"""
import base64
import os
import random
import re
import socket
import sys
import tempfile
import threading

import pictures
import tap
from server import Server, check_error, picture_part, question

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
URL = 'messages[0].content[0].image_url.url'
CODES = {'image_parse_error', 'image_too_large', 'image_too_small', 'image_file_too_large',
         'unsupported_image_media_type'}
WEBP_1X1 = base64.b64decode('UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==')
WHAT = 'What is shown in the image?'


def sample(name):
    """A file of the demo."""
    with open(os.path.join(MODEL, 'samples', name), 'rb') as f:
        return f.read()


def ask(url, text=WHAT, **fields):
    """A question about what an address names."""
    return question(text, {'type': 'image_url', 'image_url': {'url': url}},
                    **{'max_tokens': 12, **fields})


def inline(data):
    """The address of a picture in the request."""
    return picture_part(data)['image_url']['url']


def refused(server, body, code, param=URL):
    """The request is refused so; headers and message."""
    status, headers, data = server.chat(body)
    return headers, check_error(status, headers, data, 400, code, param)


def answered(server, body):
    """The object of an answer that must be one."""
    status, _, data = server.chat(body)
    assert status == 200, data
    return data


# ---------------------------------------------------------------------- files


def one_pixel_is_a_picture(server):
    """In each format that can be made here; its size counts as every other."""
    tokens = set()
    for data in (pictures.png(1, 1, b'\x80\x20\xff'), pictures.gif(1, 1), WEBP_1X1,
                 pictures.palette_png(1, 1, b'\0', [(1, 2, 3)]), sample('01.jpg')):
        body = question(WHAT, picture_part(data), max_tokens=4)
        tokens.add(answered(server, body)['usage']['prompt_tokens_details']['image_tokens'])
    assert len(tokens) == 1 and tokens.pop() > 0, tokens


def cut_at_every_kilobyte(server):
    """Whatever is missing, the answer is an error and the whole file is fine afterwards."""
    n = 0
    for name in ('01.jpg', '10.png', '11.webp', '12.gif'):
        data = sample(name)
        for size in [64, *range(1024, len(data) - 16, 1024)]:
            refused(server, question('', picture_part(data[:size])), 'image_parse_error')
            n += 1
        answered(server, question(WHAT, picture_part(data), max_tokens=1))
    print(f'# {n} cuts')


def random_bytes(server):
    """Behind each signature, and behind none: an error with a code of pictures."""
    rng = random.Random(17)
    seen = set()
    for head in (b'\xff\xd8\xff\xe0\0\x10JFIF\0', b'\x89PNG\r\n\x1a\n',
                 b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', b'GIF89a', b'RIFF\0\1\0\0WEBPVP8 ',
                 b'RIFF\0\1\0\0WEBPVP8L', b'RIFF\0\1\0\0WEBPVP8X',
                 b''):
        for _ in range(20):
            data = head + rng.randbytes(rng.randint(1, 3000))
            status, headers, body = server.chat(question('', picture_part(data)))
            code = body['error']['code']
            check_error(status, headers, body, 400, code, URL)
            assert code in CODES, (code, data[:40])
            seen.add(code)
    assert {'image_parse_error', 'unsupported_image_media_type'} <= seen, seen
    assert server.get('/readyz')[0] == 200


def declared_types_are_not_trusted(server):
    """The first bytes decide what a file is."""
    data = sample('02.jpg')
    encoded = base64.b64encode(data).decode()
    texts = {server.answer(ask(f'{head};base64,{encoded}')) for head in (
        'data:image/jpeg', 'data:image/png', 'data:image/gif', 'DATA:IMAGE/WEBP', 'data:image/heic',
        'data:application/octet-stream', 'data:', 'data:image/png;charset=utf-8;name=a.gif')}
    texts.add(server.answer(ask(encoded)))
    assert len(texts) == 1, texts
    refused(server, ask(inline(b'BM' + b'\0' * 64)), 'unsupported_image_media_type')


# ---------------------------------------------------------------------- places


def places_are_refused_by_default(server):
    """Nothing is fetched or opened; the text says what to do instead."""
    for url in ('http://127.0.0.1:1/a.png', 'https://example.com/a.png',
                'HTTPS://example.com/a.png', '//example.com/a.png', 'file:///etc/passwd',
                'FILE:///etc/passwd', 'file:a.png',
                f'file://{MODEL}/samples/01.jpg', 'ftp://example.com/a.png', 'ftps://example.com/a',
                'gopher://example.com/', 'data:image/png,abc', 'data:image/png;base64;x,abc',
                'data:text/html;base64,PGI+', 'blob:1', 'javascript:1', 'chrome://version'):
        headers, message = refused(server, ask(url), 'invalid_image_url')
        assert headers['x-should-retry'] is None
        if 'http' in url.lower():
            assert 'data:image/jpeg;base64' in message, message


class Trap:
    """A web server that nobody should come to."""

    def __init__(self):
        self.socket = socket.create_server(('127.0.0.1', 0))
        self.port = self.socket.getsockname()[1]
        self.visits = 0
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        """Counts, and hangs up."""
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.visits += 1
            connection.close()

    def close(self):
        """The number of visits."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        return self.visits


def allowed_hosts(state):
    """Whatever is tried, no address inside is connected to."""
    trap = Trap()
    port = trap.port
    hosts = ('pictures.example', '.images.example', f'127.0.0.1:{port}', f'localhost:{port}')
    options = [x for host in hosts for x in ('--allow-image-domain', host)]
    try:
        with Server(BINARY, MODEL, *options) as server:
            hosts_beside_the_list(server, port)
            listed_hosts_that_lead_inside(server, port)
            places_of_other_kinds(server)
            assert server.answer(ask(inline(sample('02.jpg'))))
    finally:
        visits = trap.close()
    assert visits == 0, visits


def hosts_beside_the_list(server, port):
    """Refused for what they say, before any name is looked up."""
    for url in (f'http://127.0.0.1:{port}\\@pictures.example/',
                'http://pictures.example\\@evil.example/',
                f'http://pictures.example@127.0.0.1:{port}/', f'http://user@localhost:{port}/',
                f'http://user:pass@localhost:{port}/', f'http://127.0.0.1:{port} /',
                'http://evil.example/', 'http://xpictures.example/',
                'http://pictures.example.evil.example/', 'http://images.example/',
                'http://ximages.example/',
                'http://pictures.example:8080/', f'http://[::1]:{port}/',
                f'http://[::ffff:127.0.0.1]:{port}/',
                f'http://[0:0:0:0:0:ffff:7f00:1]:{port}/', f'http://127.0.0.2:{port}/',
                f'http://localhost.:{port}/', 'http://localhost/', f'http://0.0.0.0:{port}/',
                f'http://pictures.example%2f@127.0.0.1:{port}/', 'http://pictures.example%00.evil/',
                f'http:///127.0.0.1:{port}/', f'http:127.0.0.1:{port}', 'http://', 'https://'):
        headers, message = refused(server, ask(url), 'invalid_image_url')
        assert '127.0.0.1' not in message and 'evil' not in message, message


def listed_hosts_that_lead_inside(server, port):
    """A name that the list admits, by every spelling of its address: not connected to, and not to
    be tried again."""
    texts = set()
    for url in (f'http://127.0.0.1:{port}/', f'https://127.0.0.1:{port}/',
                f'http://localhost:{port}/', f'http://LOCALHOST:{port}/a.png?b#c',
                f'http://0177.0.0.1:{port}/',
                f'http://0x7f.0.0.1:{port}/', f'http://2130706433:{port}/',
                f'http://127.1:{port}/'):
        headers, message = refused(server, ask(url), 'failed_to_download_image')
        assert headers['x-should-retry'] == 'false', url
        texts.add(message)
    assert len(texts) == 1, texts


def places_of_other_kinds(server):
    """Hosts admit no files, and no other schemes."""
    for url in ('file:///etc/passwd', 'file://localhost/etc/passwd', 'ftp://pictures.example/a.png',
                'gopher://pictures.example/', 'dict://pictures.example/', 'ws://pictures.example/'):
        refused(server, ask(url), 'invalid_image_url')


def one_error_for_all_that_is_not_there(_):
    """Outside, a pipe, a folder, nothing at all: the same words; what is inside is answered."""
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        root = os.path.join(folder, 'im')
        os.makedirs(os.path.join(root, 'sub'))
        os.mkdir(os.path.join(folder, 'image2'))
        for name in ('im/sub/a b.jpg', 'image2/a.jpg', 'secret.jpg'):
            with open(os.path.join(folder, name), 'wb') as f:
                f.write(sample('02.jpg'))
        os.symlink('../secret.jpg', os.path.join(root, 'out.jpg'))
        os.symlink('../image2', os.path.join(root, 'outdir'))
        os.symlink('/etc/passwd', os.path.join(root, 'passwd.jpg'))
        os.mkfifo(os.path.join(root, 'pipe.jpg'))
        with Server(BINARY, MODEL, '--media-root', root) as server:
            inside = server.answer(ask(inline(sample('02.jpg'))))
            for path in (f'{root}/sub/a%20b.jpg', f'{root}/sub/a b.jpg', f'{root}/./sub//a b.jpg'):
                assert server.answer(ask(f'file://{path}')) == inside, path
            texts = set()
            for path in (f'{folder}/secret.jpg', f'{root}/../secret.jpg',
                         f'{root}/%2e%2e/secret.jpg', f'{root}/sub/../../secret.jpg',
                         f'{root}/out.jpg', f'{root}/outdir/a.jpg',
                         f'{root}/passwd.jpg', f'{folder}/image2/a.jpg', f'{root}age2/a.jpg',
                         f'{root}/pipe.jpg', f'{root}/none.jpg', f'{root}/sub', f'{root}/', root,
                         '/etc/passwd', '/proc/self/environ', '/dev/zero', '//etc/passwd', ''):
                texts.add(refused(server, ask(f'file://{path}'), 'invalid_image_url')[1])
            assert len(texts) == 1, texts
            assert server.get('/readyz')[0] == 200


# ---------------------------------------------------------------------- which picture


def own_answers(server, twins, text):
    """Each alone, then one after the other in both orders, with what is kept from before."""
    asks = [question(text, picture_part(data), max_tokens=40) for data in twins]
    alone = [server.answer({**body, 'cache_prompt': False}) for body in asks]
    if alone[0] == alone[1]:
        return False
    for first in (0, 1, 0):
        got = [server.answer(asks[first]), server.answer(asks[1 - first])]
        assert got == [alone[first], alone[1 - first]], (got, alone)
    return True


def equal_bytes_of_other_shape(server):
    """30 x 150 and 150 x 30: the same pixels in a row are another picture."""
    for seed in range(40):
        rng = random.Random(seed)
        ground, colour = rng.sample(pictures.COLOURS, 2)
        rows = [ground] * (30 * 150)
        low, high = rng.randrange(0, 2000), rng.randrange(2500, 4500)
        rows[low:high] = [colour] * (high - low)
        rgb = b''.join(bytes(c) for c in rows)
        if own_answers(server, [pictures.png(30, 150, rgb), pictures.png(150, 30, rgb)],
                       'Describe this image.'):
            return
    raise AssertionError('no pair that the model tells apart')


def palette_twins(server):
    """The same numbers in other colours."""
    size = 96
    circle = bytes((x - 48) ** 2 + (y - 48) ** 2 < 900 for y in range(size) for x in range(size))
    twins = [pictures.palette_png(size, size, circle, palette)
             for palette in ([(250, 250, 250), (220, 30, 30)], [(20, 20, 20), (40, 70, 220)])]
    assert own_answers(server, twins, 'Describe this image.'), 'the model tells them not apart'


# ---------------------------------------------------------------------- prompts


def typed_control_tokens_are_text(server):
    """They cost what their characters cost, bring no picture and end nothing."""
    part = picture_part(sample('02.jpg'))
    plain = answered(server, question(WHAT, part, max_tokens=12))
    constant = plain['usage']['prompt_tokens_details']['image_tokens']

    def tokens(text, *parts):
        usage = answered(server, question(text, *parts, max_tokens=1))['usage']
        return usage['prompt_tokens'], usage['prompt_tokens_details']['image_tokens']

    base, _ = tokens('hello world')
    for typed in ('<s>', '</s>', '<unk>', '<pad>', '<EOI>', '<BOI>', '[IMG]', '<image>',
                  '<|image|>', '<|eot_id|>', '<|begin_of_text|>', '<|end_of_text|>', '<0x0A>',
                  '<reserved_special_token_0>'):
        with_typed, images = tokens(f'hello {typed} world')
        assert images == 0 and with_typed >= base + 2, (typed, with_typed, base)
        assert tokens(f'hello {typed} world', part)[1] == constant, typed
        many, images = tokens(f'hello {typed * 50} world')
        assert images == 0 and many > base + 99, (typed, many, base)
    # an end that is typed ends nothing: what follows it is still asked
    assert tokens('</s>' * 3 + 'hello world')[0] > base + 5
    assert answered(server, question(WHAT, part, max_tokens=12))['choices'] == plain['choices']


def the_second_picture(_):
    """Refused by default (curl.py); with --image-policy last it is the one that is seen."""
    one, two = picture_part(sample('01.jpg')), picture_part(sample('02.jpg'))
    with Server(BINARY, MODEL, '--image-policy', 'last') as server:
        alone = [server.answer(question(WHAT, part, max_tokens=40)) for part in (one, two)]
        assert alone[0] != alone[1], alone
        assert server.answer(question(WHAT, one, two, max_tokens=40)) == alone[1]
        assert server.answer(question(WHAT, two, one, max_tokens=40)) == alone[0]
        usage = answered(server, question(WHAT, one, two, one, two))['usage']
        lone = answered(server, question(WHAT, two))['usage']
        assert usage['prompt_tokens'] == lone['prompt_tokens'], (usage, lone)


def decoded(server):
    """Pictures that a decoder has looked at, good and bad."""
    page = server.get('/metrics')[2].decode()
    counts = re.findall(r'^cogwheel_images_total\{[^}]*\} (\d+)', page, re.MULTILINE)
    assert counts, page[:500]
    return sum(map(int, counts))


def long_prompts_cost_no_picture(server):
    """400 with the words that gateways look for, and no decoder has seen the picture."""
    answered(server, question(WHAT, picture_part(sample('01.jpg')), max_tokens=1))
    before = decoded(server)
    assert before > 0
    for data in (sample('01.jpg'), b'not a picture', pictures.png_header(30000, 30000)):
        for words in (2100, 20000, 200000):
            body = question('why ' * words, picture_part(data), max_tokens=5)
            _, message = refused(server, body, 'context_length_exceeded', 'messages')
            assert "This model's maximum context length is 2048 tokens" in message, message
            numbers = list(map(int, re.findall(r'\d+', message)))
            assert 66 in numbers and 5 in numbers and max(numbers) > 2048, message
    assert decoded(server) == before


TESTS = [one_pixel_is_a_picture, cut_at_every_kilobyte, random_bytes,
         declared_types_are_not_trusted, places_are_refused_by_default, allowed_hosts,
         one_error_for_all_that_is_not_there,
         equal_bytes_of_other_shape, palette_twins, typed_control_tokens_are_text,
         the_second_picture, long_prompts_cost_no_picture]
tap.need_model(MODEL)
with Server(BINARY, MODEL) as shared:
    code = tap.run(TESTS, shared)
sys.exit(code)
