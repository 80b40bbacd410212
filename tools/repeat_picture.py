#!/usr/bin/env python3
"""Time to the first token of a second question about a picture, against the first one's.

Starts a server and sends, for each of some new pictures, one question and then two others, one at a
time, as streams over HTTP: the first is answered cold, the second and third find the picture's
prefix computed. Prints the medians, their ratio, and what the answers' usage says was cached.

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

SIDE = 96  # the server resizes pictures anyway


def new_picture(rng):
    """A PNG file that no other picture equals."""
    rows = b''.join(b'\0' + rng.randbytes(3 * SIDE) for _ in range(SIDE))

    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', SIDE, SIDE, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(rows, 1)) + chunk(b'IEND', b''))


def first_token_ms(connection, part, text):
    """Of one answer: time from the request to the first text, and its usage."""
    body = json.dumps(e2e.question(text, part, max_tokens=4, stream=True,
                                   stream_options={'include_usage': True}))
    first, usage = None, None
    begin = time.perf_counter()
    connection.request('POST', '/v1/chat/completions', body, {'Content-Type': 'application/json'})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    for line in response:
        if not line.startswith(b'data: {'):
            continue
        chunk = json.loads(line[6:])
        if chunk.get('usage'):
            usage = chunk['usage']
        elif first is None and chunk['choices'] and chunk['choices'][0]['delta'].get('content'):
            first = time.perf_counter()
    return None if first is None else 1000 * (first - begin), usage


def cached_tokens(usage):
    """What the answer says, where it does."""
    return usage.get('prompt_tokens_details', {}).get('cached_tokens')


def measure(server, n, seed):
    """Three lists of milliseconds, and usages: the first question, the second, the third."""
    rng = random.Random(seed)
    connection = server.connect()
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times, usages = ([], [], []), ([], [], [])
    for i in range(n + 1):
        part = e2e.picture_part(new_picture(rng))
        for k, text in enumerate((f'What is number {i}?', 'How many are there?',
                                  'Where is the dog?')):
            ms, usage = first_token_ms(connection, part, text)
            if i > 0 and ms is not None:  # the first picture warms up
                times[k].append(ms)
                usages[k].append(usage)
    connection.close()
    return times, usages


def main():
    """Measures and prints a table."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('binary')
    p.add_argument('model')
    p.add_argument('--pictures', type=int, default=10)
    p.add_argument('--seed', type=int, default=time.time_ns())
    args, options = p.parse_known_args()
    with e2e.Server(args.binary, args.model, *options) as server:
        times, usages = measure(server, args.pictures, args.seed)
    cold = statistics.median(times[0])
    print(f'{"question":10} {"median ms":>10} {"min":>8} {"max":>8} {"of cold":>8} {"prompt":>7} cached')
    for name, ms, usage in zip(('first', 'second', 'third'), times, usages):
        print(f'{name:10} {statistics.median(ms):10.2f} {min(ms):8.2f} {max(ms):8.2f} '
              f'{statistics.median(ms) / cold:8.1%} {usage[0]["prompt_tokens"]:7} '
              f'{cached_tokens(usage[0])}')


if __name__ == '__main__':
    main()
