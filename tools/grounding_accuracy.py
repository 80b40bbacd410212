#!/usr/bin/python3
"""How well the boxes of a served demo model lie, against the truth of the generator of its scenes.

Starts a server, draws scenes that the model never saw, and asks over HTTP for a description with
boxes, where each thing is, and where things are of which there are several. Prints the mean overlap
(intersection over union) of the boxes that `grounding` gives, in pixels of the pictures, with the
true ones. Boxes of one answer are matched with the true ones so that the sum is largest, each once; a
true box without one counts as 0. The pictures have several sizes and shapes, and one in four is a
JPEG file that lies on its side and says so in its Exif data.

    tools/grounding_accuracy.py build/cogwheel models/demo

Needs NumPy, Pillow and the font Noto Color Emoji (Debian: python3-numpy, python3-pil,
fonts-noto-color-emoji). Options after `--` go to `cogwheel serve`."""
import argparse
import io
import itertools
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'e2e'))
sys.path.insert(0, HERE)
import server as e2e  # noqa: E402
from PIL import Image  # noqa: E402
from demo_scenes import CANVAS, EMOJI_FONT, make_scene, render  # noqa: E402
from demo_text import groups_of, plural  # noqa: E402
from grounding_overlay import CAPTION, FIND, corners, draw, request_body, upright  # noqa: E402

SEED = 11_000_000  # training: from 1 million on, evaluation: from 7, samples: from 9
SIZES = [(448, 448), (336, 336), (448, 336), (336, 448), (640, 480), (480, 640)]
FIND_ALL = 'Where are the {}?'
MOST_BOXES = 6  # of an answer that are looked at
ON_ITS_SIDE = 6  # Exif: to be turned by 90 degrees clockwise


def picture_file(picture, is_turned):
    """As a PNG, or as a JPEG that a camera wrote lying on its side."""
    out = io.BytesIO()
    if is_turned:
        exif = Image.Exif()
        exif[0x112] = ON_ITS_SIDE
        picture.transpose(Image.ROTATE_90).save(out, 'JPEG', quality=93, exif=exif)
    else:
        picture.save(out, 'PNG')
    return out.getvalue()


def make_case(number, is_fitted=False):
    """A scene, its picture's file and the picture's size: a scene is square, and so is what the
    model sees; pictures of another shape show it drawn out, or fitted to them: then it is the model
    that sees things squashed."""
    width, height = SIZES[number % len(SIZES)]
    stretch = (height / width) ** 0.5 if is_fitted else None
    scene = make_scene(SEED + number, stretch=stretch)
    return scene, picture_file(render(scene, width, height), number % 4 == 3), (width, height)


def truth_of(items, size):
    """Their boxes in pixels."""
    return [tuple(v * side / CANVAS for v, side in zip(item.box, size * 2)) for item in items]


def questions_of(scene):
    """(kind, question, the objects whose boxes are due)."""
    groups = groups_of(scene)
    yield 'caption', CAPTION, scene.objects
    for group in groups:
        if len(group) == 1:
            yield 'where is', FIND.format('the ' + group[0].phrase), group
        else:
            yield 'where are', FIND_ALL.format(plural(group[0])), group


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def overlaps(given, truth):
    """Of each true box with one of the answer's, matched so that the sum is largest."""
    given = given[:MOST_BOXES] + [(0, 0, 0, 0)] * (len(truth) - len(given))
    matched = ([overlap(g, t) for g, t in zip(chosen, truth)]
               for chosen in itertools.permutations(given, len(truth)))
    return max(matched, key=sum)


def measure(server, scenes, is_fitted=False, overlays=None):
    """{kind: overlaps} of so many scenes, and how many boxes the answers had in all."""
    found, given_all = {}, 0
    for number in range(scenes):
        scene, file, size = make_case(number, is_fitted)
        for kind, question, items in questions_of(scene):
            status, _, answer = server.chat(request_body(file, question, template_version='base'))
            assert status == 200, answer
            assert answer['image_sizes'] == [list(size)], answer['image_sizes']
            grounding, truth = answer['choices'][0]['grounding'], truth_of(items, size)
            given = [corners(box) for item in grounding for box in item['boxes']]
            found.setdefault(kind, []).extend(overlaps(given, truth))
            given_all += len(given)
            if overlays and kind == 'caption':
                os.makedirs(overlays, exist_ok=True)
                draw(upright(file), grounding, truth).save(f'{overlays}/{scene.seed}.png')
    return found, given_all


def main():
    parser = argparse.ArgumentParser(description='Mean overlap of boxes with the truth.')
    parser.add_argument('cogwheel')
    parser.add_argument('model')
    parser.add_argument('--scenes', type=int, default=200)
    parser.add_argument('--fit', action='store_true',
                        help='things look right in pictures that are not square')
    parser.add_argument('--overlays', metavar='DIR', help='write each scene with its boxes there')
    parser.add_argument('options', nargs='*', help='of cogwheel serve')
    args = parser.parse_args()
    if not os.path.exists(EMOJI_FONT):
        sys.exit('the font Noto Color Emoji is missing (Debian: fonts-noto-color-emoji)')
    with e2e.Server(args.cogwheel, args.model, *args.options) as server:
        found, given = measure(server, args.scenes, args.fit, args.overlays)
    found['all'] = [v for kind in found.values() for v in kind]
    print(f'{args.scenes} unseen scenes, seeds {SEED} to {SEED + args.scenes - 1}: '
          f'{len(found["all"])} boxes, {given} in the answers')
    for kind, values in found.items():
        n, half, most = len(values), sum(v >= 0.5 for v in values), sum(v >= 0.75 for v in values)
        print(f'{kind:10} {n:4} boxes   mean IoU {sum(values) / n:.3f}   >= 0.5: {100 * half / n:.1f} %'
              f'   >= 0.75: {100 * most / n:.1f} %')


if __name__ == '__main__':
    main()
