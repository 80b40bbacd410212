"""What the soak asks: questions whose answers are known from asking each alone, and requests that
must be refused, always in the same way."""
import json
import os
import zlib

import pictures
from server import picture_part, question

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TYPES = {'.jpg': 'image/jpeg', '.png': 'image/png', '.webp': 'image/webp', '.gif': 'image/gif'}
TEXTS = ('Describe this image.', 'What is shown in the image?', 'How many shapes are there?',
         'What colour is the background?')
SAMPLED = {'temperature': 1.2, 'top_p': 0.95}


class Ask:
    """A request, and what it gets when it is alone: the texts of its choices."""

    def __init__(self, name, body):
        self.name, self.body, self.texts = name, body, None

    def solve(self, server, headers):
        """Asks it alone; whether it is one that is answered."""
        status, _, data = server.chat(self.body, headers)
        if status == 200:
            self.texts = texts_of(data)
        return status == 200


def texts_of(answer):
    """The choices' texts of a whole answer, in order."""
    return [c['message']['content'] for c in sorted(answer['choices'], key=lambda c: c['index'])]


def files():
    """The picture files of the tests and of the demo, in four formats."""
    for folder in ('models/demo/samples', 'tests/images'):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            kind = TYPES.get(os.path.splitext(name)[1])
            if kind:
                with open(os.path.join(ROOT, folder, name), 'rb') as f:
                    yield name, picture_part(f.read(), kind)


def fields_of(number):
    """How question number so is asked: greedy or by seed, one answer or two, short or long."""
    fields = {'max_tokens': (16, 40, 120)[number % 3]}
    if number % 4 == 1:
        fields |= {'seed': number, **SAMPLED}
    if number % 5 == 2:
        fields['n'] = 2
    return fields


def asks(n_scenes, n_files):
    """Questions about files, about pictures that were never seen, several about one picture, and
    without a picture."""
    parts = list(files())
    parts = parts[::max(1, len(parts) // n_files)]
    parts += [(f'scene {n}', picture_part(pictures.scene(n))) for n in range(n_scenes)]
    number = 0
    for which, (name, part) in enumerate(parts):
        for text in TEXTS[:3 if which % 8 == 0 else 1]:
            yield Ask(f'{name}, {text}', question(text, part, **fields_of(number)))
            number += 1
    for text in TEXTS[:2]:
        yield Ask(text, question(text, max_tokens=20))


# ---------------------------------------------------------------- what must be refused


class Bad:
    """A request that is not answered; the status and code it gets alone."""

    def __init__(self, name, data, path='/v1/chat/completions', method='POST'):
        self.name, self.data, self.path, self.method = name, data, path, method
        self.expected = None

    def send(self, request, headers):
        """Status and error code; request is a function like Server.request."""
        status, _, data = request(self.method, self.path, self.data,
                                  {'Content-Type': 'application/json', **headers})
        try:
            return status, json.loads(data)['error']['code']
        except (ValueError, KeyError, TypeError):
            return status, None


def bomb(width, height, rows=0):
    """A PNG of a size that it does not hold, or that unpacks to far more than it is."""
    header = width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + b'\x08\x02\0\0\0'
    data = zlib.compress((b'\0' * (1 + width * 3)) * rows, 9)
    return (b'\x89PNG\r\n\x1a\n' + pictures.chunk(b'IHDR', header)
            + pictures.chunk(b'IDAT', data) + pictures.chunk(b'IEND', b''))


def bads():
    """Bad bodies, bad fields, bad pictures, bombs."""
    def about(name, data, kind='image/png'):
        return Bad(name, json.dumps(question('What?', picture_part(data, kind))).encode())

    with open(os.path.join(ROOT, 'models/demo/samples/01.jpg'), 'rb') as f:
        jpeg = f.read()
    good = question('Hi')
    yield Bad('no JSON', b'{"messages":')
    yield Bad('no object', b'[]')
    yield Bad('no messages', b'{}')
    yield Bad('deep', b'{"messages":' + b'[' * 5000 + b']' * 5000 + b'}')
    yield Bad('wide', b'{"messages":[' + b'{},' * 100000 + b'{}]}')
    yield Bad('wrong type', json.dumps({**good, 'max_tokens': 'many'}).encode())
    yield Bad('out of range', json.dumps({**good, 'temperature': 99}).encode())
    yield Bad('another model', json.dumps({**good, 'model': 'gpt-17'}).encode())
    yield Bad('too long', json.dumps(question('word ' * 5000)).encode())
    yield Bad('no route', b'{}', '/v1/nothing')
    yield Bad('wrong method', None, method='GET')
    yield Bad('no base64', json.dumps(question('What?', {'type': 'image_url', 'image_url': {
        'url': 'data:image/png;base64,%%%'}})).encode())
    yield about('no picture', b'nothing at all')
    yield about('empty picture', b'')
    yield about('half a JPEG', jpeg[:len(jpeg) // 2], 'image/jpeg')
    yield about('half a head', jpeg[:40], 'image/jpeg')
    yield about('large by its header', bomb(60000, 60000))
    yield about('more pixels than rows', bomb(4000, 4000, 20))
    yield about('GIF of a huge screen', b'GIF89a' + b'\xff\xff\xff\xff' + b'\0' * 30, 'image/gif')


def costly():
    """Small files that cost a lot to decode: they are answered, or refused, as when alone."""
    yield Ask('a large plain picture', question('What?', picture_part(bomb(3000, 3000, 3000)),
                                                max_tokens=8))
