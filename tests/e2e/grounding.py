"""Boxes of the demo model: grounding.py COGWHEEL DEMO-MODEL. Prints TAP.

That `grounding` says what the text says, in pixels of the picture as a person sees it; that the
questions in docs/api.md get what it says; that the boxes lie where the things are; and that the tool
that draws them does."""
import json
import os
import re
import subprocess
import sys
import tempfile

import tap
from server import Server, joined, picture_part, question, stream_chunks

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
BOXES = re.compile(r'\[\[(\d{3}(?:,\d{3}){3}(?:;\d{3}(?:,\d{3}){3})*)\]\]')
CORNERS = 'x0', 'y0', 'x1', 'y1'

sys.path.insert(0, os.path.join(ROOT, 'tools'))
try:
    import grounding_accuracy
    from PIL import Image
except ImportError as missing:
    grounding_accuracy, MISSING = None, missing


def samples():
    """(path, size, question's body, expected text) of the samples whose answer has boxes."""
    with open(os.path.join(MODEL, 'samples.json'), encoding='utf-8') as f:
        for entry in json.load(f):
            path = os.path.join(MODEL, entry['image'])
            with open(path, 'rb') as picture:
                part = picture_part(picture.read(), 'image/' + path.rsplit('.', 1)[1].replace('jpg', 'jpeg'))
            for case in entry['cases']:
                if '[[' in case['answer'] and 'history' not in case:
                    yield (path, (entry['width'], entry['height']),
                           question(case['question'], part, template_version=case['template']),
                           case['answer'])


def boxes_in(text):
    """All boxes of a text, in thousandths."""
    return [[int(v) for v in box.split(',')] for group in BOXES.findall(text)
            for box in group.split(';')]


def boxes_of(choice):
    """All boxes that grounding gives."""
    return [[box[k] for k in CORNERS] for item in choice['grounding'] for box in item['boxes']]


def overlap(a, b):
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def check(answer, size, kind):
    """Grounding is what the text says; the choice."""
    choice, (width, height) = answer['choices'][0], size
    content = choice['message']['content']
    assert answer['image_sizes'] == [[width, height]], answer
    scale = {'pixel': lambda v, side: v * side // 1000, 'norm1000': lambda v, side: v,
             'norm1': lambda v, side: v / 1000}[kind]
    want = [[scale(v, side) for v, side in zip(box, (width, height) * 2)]
            for box in boxes_in(content)]
    assert boxes_of(choice) == want, (choice, want)
    for item in choice['grounding']:
        assert content.encode()[item['start']:item['end']].decode() == item['phrase'], choice
    return choice


def data_says_what_the_text_says(server):
    n = 0
    for _, size, body, _ in samples():
        for kind in 'pixel', 'norm1000', 'norm1':
            status, _, answer = server.chat({**body, 'grounding': {'format': kind}})
            assert status == 200, answer
            n += len(boxes_of(check(answer, size, kind)))
    assert n >= 30, n


def phrases_name_the_things(server):
    _, size, body, _ = next(s for s in samples() if s[0].endswith('04.jpg') and ' [[' in s[3])
    _, _, answer = server.chat({**body, 'grounding': True})
    assert [i['phrase'] for i in check(answer, size, 'pixel')['grounding']] == ['a pink triangle']


def streams_say_the_same(server):
    for _, size, body, _ in samples():
        _, _, whole = server.chat({**body, 'grounding': True})
        connection, response = server.stream({**body, 'grounding': True})
        chunks = stream_chunks(response)
        connection.close()
        told = [c for chunk in chunks for c in chunk['choices'] if 'grounding' in c]
        assert len(told) == 1 and told[0]['finish_reason'] == 'stop', told
        assert told[0]['grounding'] == check(whole, size, 'pixel')['grounding'], told
        assert joined(chunks) == whole['choices'][0]['message']['content']


def boxes_lie_where_the_things_are(server):
    found = []
    for _, size, body, expected in samples():
        _, _, answer = server.chat({**body, 'grounding': {'format': 'norm1000'}})
        given, truth = boxes_of(check(answer, size, 'norm1000')), boxes_in(expected)
        found += [max([overlap(g, t) for g in given], default=0) for t in truth]
    assert len(found) >= 12 and sum(found) / len(found) > 0.6, found


def questions_of_the_documentation(server):
    with open(os.path.join(ROOT, 'docs', 'api.md'), encoding='utf-8') as f:
        text = f.read()
    rows = re.findall(r'^\| [^|`]+ \| `([^`]+)` \| `([^`]+)` \|$',
                      text[text.index('| To get | Ask | Answer |'):], re.MULTILINE)
    assert len(rows) == 3, rows
    with open(os.path.join(MODEL, 'samples', '02.jpg'), 'rb') as f:
        part = picture_part(f.read(), 'image/jpeg')
    for asked, expected in rows:
        content = server.answer(question(asked, part, template_version='base', grounding=True))
        assert BOXES.sub('[[]]', content) == BOXES.sub('[[]]', expected), (content, expected)
        pairs = zip(boxes_in(content), boxes_in(expected))
        # another processor may round a digit otherwise
        assert all(overlap(a, b) > 0.8 for a, b in pairs), (content, expected)


def unseen_scenes(server):
    """A few of the many that tools/grounding_accuracy.py takes; pictures on their side among them."""
    if not grounding_accuracy:
        raise tap.Skip(str(MISSING))
    if not os.path.exists(grounding_accuracy.EMOJI_FONT):
        raise tap.Skip('no font Noto Color Emoji')
    found, _ = grounding_accuracy.measure(server, 12)
    values = [v for kind in found.values() for v in kind]
    assert len(values) >= 30 and sum(values) / len(values) > 0.65, found


def boxes_are_drawn(server):
    if not grounding_accuracy:
        raise tap.Skip(str(MISSING))
    path = os.path.join(MODEL, 'samples', '02.jpg')
    with tempfile.TemporaryDirectory() as folder:
        said = subprocess.run(
            [sys.executable, os.path.join(ROOT, 'tools', 'grounding_overlay.py'), '--url', server.url,
             '--out', folder, '--template', 'base', '--find', 'the clock', path],
            check=True, capture_output=True, text=True).stdout
        with Image.open(path) as before, Image.open(os.path.join(folder, '02.png')) as after:
            assert before.size == after.size
            x0, y0, x1, y1 = [v * side // 1000 for v, side in zip(boxes_in(said)[0], before.size * 2)]
            red = (0xe6, 0x19, 0x4b)
            for place in (x0, (y0 + y1) // 2), (x1, (y0 + y1) // 2), ((x0 + x1) // 2, y1):
                assert after.convert('RGB').getpixel(place) == red, place
            assert after.convert('RGB').getpixel((10, 10)) == before.convert('RGB').getpixel((10, 10))


if __name__ == '__main__':
    tap.need_model(MODEL)
    with Server(BINARY, MODEL) as the_server:
        sys.exit(tap.run([data_says_what_the_text_says, phrases_name_the_things,
                          streams_say_the_same, boxes_lie_where_the_things_are,
                          questions_of_the_documentation, unseen_scenes, boxes_are_drawn],
                         the_server))
