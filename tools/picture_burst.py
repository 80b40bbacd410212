#!/usr/bin/env python3
"""What a burst of new pictures does to running streams: p99 of the gaps between their tokens during
bursts, against that of the quiet between them, on one server in one run.

Some streams of text run all the time, each begun again when it ends. `cogwheel bench` sends the
bursts: so many requests at once, each with a picture that nobody sent before. A gap belongs to a burst
when it ends between the burst's first request and its last answer.

    tools/picture_burst.py build/cogwheel models/demo
    tools/make_checkpoint.py --image-size 490 ... DIR && tools/picture_burst.py build/cogwheel DIR

Options after the model go to `cogwheel serve`."""
import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tests', 'e2e'))
import server as e2e  # noqa: E402

MARGIN = 0.3  # seconds around a burst that are neither quiet nor burst


class Stream:
    """One answer after the other, as chunks with text and the times they came."""

    def __init__(self, server, number, tokens, selector, gaps):
        self.server, self.number, self.tokens, self.selector = server, number, tokens, selector
        self.gaps, self.turn = gaps, 0
        self.begin()

    def begin(self):
        """Asks; what is asked is never the same."""
        self.turn += 1
        body = json.dumps(e2e.question(f'Tell me story {self.number}.{self.turn}.', stream=True,
                                       max_tokens=self.tokens, temperature=1.0, seed=self.turn))
        self.socket = socket.create_connection((self.server.host, self.server.port), 60)
        self.socket.sendall(('POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: '
                             f'application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}').encode())
        self.socket.setblocking(False)
        self.tail, self.last = b'', None
        self.selector.register(self.socket, selectors.EVENT_READ, self)

    def read(self):
        """Takes what came; begins again after the end."""
        data = self.socket.recv(65536)
        now = time.monotonic()
        text = self.tail + data
        # a mark is counted once, by its last byte
        mark = b'"delta":{"content":"'
        n = text.count(mark) - self.tail.count(mark)
        if n and self.last is not None:
            self.gaps.append((now, now - self.last))
        if n:
            self.gaps.extend([(now, 0.0)] * (n - 1))
            self.last = now
        self.tail = text[-len(mark) - 8:]
        if not data or b'[DONE]' in text:
            assert b'[DONE]' in text, text[-300:]
            self.selector.unregister(self.socket)
            self.socket.close()
            self.begin()


def pump(selector, until):
    """Reads all streams until a time, or until a process has ended."""
    while time.monotonic() < until if isinstance(until, float) else until.poll() is None:
        for key, _ in selector.select(0.05):
            key.data.read()


def burst(binary, server, options, selector, seed):
    """Sends one and reads on; when it was, and its report."""
    process = subprocess.Popen(
        [binary, 'bench', server.url, '--json', '--num-prompts', str(options.pictures),
         '--concurrency', str(options.pictures), '--max-tokens', '8', '--image-size', '490x490',
         '--seed', str(seed)], stdout=subprocess.PIPE, text=True)
    pump(selector, process)
    end = time.monotonic()
    report = json.loads(process.stdout.read())
    assert process.returncode == 0, report
    return end - report['duration'], end, report


def p99(values):
    """By rank."""
    return sorted(values)[int(len(values) * 0.99)]


def measure(binary, server, options):
    """Gaps of the quiet, gaps of the bursts, seconds of each burst, median TTFTs in them."""
    selector, gaps, bursts, ttft = selectors.DefaultSelector(), [], [], []
    for number in range(options.streams):
        Stream(server, number, options.tokens, selector, gaps)
    pump(selector, time.monotonic() + 1.0)
    gaps.clear()
    for k in range(options.bursts):
        pump(selector, time.monotonic() + options.quiet)
        begin, end, report = burst(binary, server, options, selector, options.seed + k)
        bursts.append((begin, end))
        ttft.append(report['median_ttft_ms'])
    pump(selector, time.monotonic() + options.quiet)
    loud = [g for t, g in gaps if any(b <= t <= e for b, e in bursts)]
    # what the bench does before its burst, its warm-up's picture, is no quiet either
    quiet = [g for t, g in gaps if not any(b - options.quiet / 2 <= t <= e + MARGIN
                                           for b, e in bursts)]
    return quiet, loud, [e - b for b, e in bursts], ttft


def main():
    """Measures and prints."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('binary')
    p.add_argument('model')
    p.add_argument('--streams', type=int, default=8)
    p.add_argument('--tokens', type=int, default=400, help='of an answer, at most')
    p.add_argument('--pictures', type=int, default=32, help='in a burst')
    p.add_argument('--bursts', type=int, default=3)
    p.add_argument('--quiet', type=float, default=4.0, help='seconds between bursts')
    p.add_argument('--seed', type=int, default=time.time_ns() >> 10)
    args, options = p.parse_known_args()
    with e2e.Server(args.binary, args.model, '--max-seqs', '64', *options) as server:
        quiet, loud, seconds, ttft = measure(args.binary, server, args)
    for name, gaps in (('quiet', quiet), ('burst', loud)):
        print(f'{name:6} {len(gaps):7} gaps: median {sorted(gaps)[len(gaps) // 2] * 1e3:8.2f} ms, '
              f'p99 {p99(gaps) * 1e3:8.2f}, most {max(gaps) * 1e3:8.2f}')
    print(f'{args.bursts} bursts of {args.pictures} new pictures beside {args.streams} streams, '
          f'{min(seconds):.2f} to {max(seconds):.2f} s each, TTFT in them '
          f'{sorted(ttft)[len(ttft) // 2]:.0f} ms (median): p99 '
          f'{p99(loud) / p99(quiet):.2f} times the quiet one')


if __name__ == '__main__':
    main()
