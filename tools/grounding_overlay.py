#!/usr/bin/python3
"""Asks a running server about pictures and draws the boxes of its answers.

    tools/grounding_overlay.py --out boxes models/demo/samples/0*.jpg
    tools/grounding_overlay.py --out boxes --find "the clock" models/demo/samples/02.jpg

For each picture it writes a PNG of the same size with the boxes and their phrases into the folder,
and prints the answer. It needs Pillow (Debian: python3-pil)."""
import argparse
import base64
import io
import json
import os
import sys
import urllib.error
import urllib.request

from PIL import Image, ImageDraw, ImageFont, ImageOps

# What the grounding checkpoints were trained to be asked; also in docs/api.md.
CAPTION = ('Can you provide a description of the image and include the coordinates '
           '[[x0,y0,x1,y1]] for each mentioned object?')
FIND = 'Where is {}? answer in [[x0,y0,x1,y1]] format.'
COLOURS = ['#e6194b', '#3cb44b', '#4363d8', '#f58231', '#911eb4', '#008080', '#9a6324', '#e6beff']
MEDIA_TYPES = {'JPEG': 'image/jpeg', 'PNG': 'image/png', 'WEBP': 'image/webp', 'GIF': 'image/gif'}


def request_body(file, question, **fields):
    """A greedy question about a picture's file, which asks for boxes in pixels."""
    with Image.open(io.BytesIO(file)) as picture:
        media_type = MEDIA_TYPES[picture.format]
    url = f'data:{media_type};base64,' + base64.b64encode(file).decode('ascii')
    content = [{'type': 'image_url', 'image_url': {'url': url}}, {'type': 'text', 'text': question}]
    return {'temperature': 0, 'grounding': True, 'messages': [{'role': 'user', 'content': content}],
            **fields}


def upright(file):
    """The picture as the server and a person see it."""
    with Image.open(io.BytesIO(file)) as picture:
        return ImageOps.exif_transpose(picture).convert('RGB')


def corners(box):
    return box['x0'], box['y0'], box['x1'], box['y1']


def draw(picture, grounding, truth=()):
    """A copy with the boxes, a colour for each phrase, and the true ones (tuples) in white on black.
    """
    picture = picture.copy()
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default()
    width = max(1, min(picture.size) // 150)
    for box in truth:
        canvas.rectangle(box, outline='black', width=width + 2)
        canvas.rectangle(box, outline='white', width=width)
    for index, item in enumerate(grounding):
        colour = COLOURS[index % len(COLOURS)]
        for box in item['boxes']:
            x0, y0, _, _ = corners(box)
            canvas.rectangle(corners(box), outline=colour, width=width + 1)
            if item['phrase']:
                place = (x0 + width + 2, y0 + width + 1)
                text = item['phrase'].encode('latin-1', 'replace').decode('latin-1')
                canvas.rectangle(canvas.textbbox(place, text, font), fill=colour)
                canvas.text(place, text, 'white', font)
    return picture


def post(url, body, key):
    headers = {'Content-Type': 'application/json'}
    if key:
        headers['Authorization'] = f'Bearer {key}'
    request = urllib.request.Request(url + '/v1/chat/completions', json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f'{error.code}: {error.read().decode("utf-8", "replace")}')


def main():
    parser = argparse.ArgumentParser(description='Draw the boxes of answers into pictures.')
    parser.add_argument('pictures', nargs='+', metavar='PICTURE')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the PNG files')
    parser.add_argument('--url', default='http://127.0.0.1:8000', help='server (default %(default)s)')
    parser.add_argument('--key-env', metavar='NAME', help='environment variable with the API key')
    parser.add_argument('--template', choices=['base', 'chat', 'vqa'],
                        help="form of the prompt (default: the model's)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--find', metavar='PHRASE', help='ask where this is, "the red car"')
    what.add_argument('--ask', metavar='QUESTION', help='ask this instead of for a description')
    args = parser.parse_args()

    question = args.ask or (FIND.format(args.find) if args.find else CAPTION)
    fields = {'template_version': args.template} if args.template else {}
    os.makedirs(args.out, exist_ok=True)
    for path in args.pictures:
        with open(path, 'rb') as f:
            file = f.read()
        answer = post(args.url.rstrip('/'), request_body(file, question, **fields),
                      os.environ.get(args.key_env or '', ''))
        picture, choice = upright(file), answer['choices'][0]
        if [list(picture.size)] != answer['image_sizes']:
            sys.exit(f'{path}: the server sees it as {answer["image_sizes"]}, not {picture.size}; '
                     'it may not turn pictures upright (--exif)')
        out = os.path.join(args.out, os.path.splitext(os.path.basename(path))[0] + '.png')
        draw(picture, choice['grounding']).save(out)
        print(f'{out}: {choice["message"]["content"]}')


if __name__ == '__main__':
    main()
