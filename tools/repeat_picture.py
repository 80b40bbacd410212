#!/usr/bin/env python3
"""Time to the first token of a second question about a picture, against the first one's.

Starts a server and sends, for each of some new pictures, one question and then two others, one at a
time, as streams over HTTP: the first is answered cold, the second and third find the picture's
prefix computed. Prints medians as the client sees them, as the server does, and of the engine alone,
and what the answers' usage says was cached.

    tools/repeat_picture.py build/cogwheel models/demo
    tools/make_checkpoint.py --image-size 490 ... DIR && tools/repeat_picture.py build/cogwheel DIR

Options after the model go to `cogwheel serve`."""
import argparse
import json
import os
import random
import socket
import statistics
import struct
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tests', 'e2e'))
import server as e2e  # noqa: E402

FIELDS = 7


def new_picture(rng, side):
    """A PNG file, fields of colours, that no other picture equals."""
    size = side // FIELDS
    side = size * FIELDS
    rows = b''.join(size * (b'\0' + b''.join(size * rng.randbytes(3) for _ in range(FIELDS)))
                    for _ in range(FIELDS))

    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(rows, 1)) + chunk(b'IEND', b''))


def ask(connection, part, text):
    """Of one answer: milliseconds to the first text as the client sees it, from the last byte read
    as the server does, and of these in the engine; and its usage."""
    body = json.dumps(e2e.question(text, part, max_tokens=4, stream=True, return_metrics=True,
                                   stream_options={'include_usage': True}))
    first, last = None, None
    begin = time.perf_counter()
    connection.request('POST', '/v1/chat/completions', body, {'Content-Type': 'application/json'})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    for line in response:
        if not line.startswith(b'data: {'):
            continue
        chunk = json.loads(line[6:])
        if chunk.get('metrics'):
            last = chunk
        elif first is None and chunk['choices'] and chunk['choices'][0]['delta'].get('content'):
            first = time.perf_counter()
    seen = last['metrics']
    inside = seen['queue_time_ms'] + seen['vision_encode_ms'] + seen['prefill_ms']
    outside = 1000 * (first - begin) if first else seen['time_to_first_token_ms']
    return (outside, seen['time_to_first_token_ms'], inside), last['usage']


def measure(server, n, side, seed):
    """For the first, second and third question: the times of each picture, and a usage."""
    rng = random.Random(seed)
    times, usages = ([], [], []), [None] * 3
    connection = server.connect()
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(n + 1):
        part = e2e.picture_part(new_picture(rng, side))
        for k, text in enumerate((f'What is number {i}?', 'How many are there?',
                                  'Where is the dog?')):
            ms, usages[k] = ask(connection, part, text)
            if i > 0:  # the first picture warms up
                times[k].append(ms)
    connection.close()
    return times, usages


def main():
    """Measures and prints a table."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('binary')
    p.add_argument('model')
    p.add_argument('--pictures', type=int, default=10)
    p.add_argument('--side', type=int, default=112, help="of the pictures, in pixels")
    p.add_argument('--seed', type=int, default=time.time_ns())
    args, options = p.parse_known_args()
    with e2e.Server(args.binary, args.model, *options) as server:
        times, usages = measure(server, args.pictures, args.side, args.seed)
    medians = [[statistics.median(column) for column in zip(*rows)] for rows in times]
    print('median ms to the first token; in brackets, of the first question\'s')
    print(f'{"question":9}{"client":>18}{"server":>18}{"engine":>18}{"prompt":>8}{"cached":>8}')
    for name, row, usage in zip(('first', 'second', 'third'), medians, usages):
        cells = ''.join(f'{ms:10.2f} {f"({ms / cold:.1%})":>7}' for ms, cold in zip(row, medians[0]))
        cached = usage['prompt_tokens_details']['cached_tokens']
        print(f'{name:9}{cells}{usage["prompt_tokens"]:8}{cached:8}')


if __name__ == '__main__':
    main()
