"""Three times as much as it can do: overload.py COGWHEEL MODEL [--seconds N]. Prints TAP.

Three phases: one client; as many as there are places, so that nobody is refused; and requests that
come at three times the pace of that, whatever becomes of them. Latencies are printed, as clients saw
them and, for refusals, as the server did; none is asserted. For two minutes: --seconds 120.
"""
import argparse
import collections
import http.client
import itertools
import json
import os
import queue
import random
import re
import signal
import sys
import threading
import time

import tap
from server import Server, picture_part, question, until

PARSER = argparse.ArgumentParser()
PARSER.add_argument('binary')
PARSER.add_argument('model')
PARSER.add_argument('--seconds', type=float, default=6, help='of each of the three phases')
ARGS = PARSER.parse_args()
BINARY, MODEL = os.path.abspath(ARGS.binary), os.path.abspath(ARGS.model)

CHOICES, QUEUE = 8, 6
PLACES = QUEUE + 1  # one request's choices fill a step
TIMES = 3
QUESTIONS = ('What is shown in the image?', 'Describe this image.', 'How many objects are there?',
             'Which color is the background?')


def requests():
    """Distinct ones, each with its random choices, that take nothing from a cache."""
    samples = os.path.join(MODEL, 'samples')
    files = sorted(n for n in os.listdir(samples) if n.endswith('.jpg'))
    made = []
    for number, (name, text) in enumerate(itertools.product(files[:6], QUESTIONS)):
        with open(os.path.join(samples, name), 'rb') as f:
            part = picture_part(f.read(), 'image/jpeg')
        made.append(question(text, part, n=CHOICES, temperature=1, seed=number,
                             cache_prompt=False))
    return [json.dumps(body).encode() for body in made]


def texts(data):
    """Of all choices, in order."""
    return [c['message']['content'] for c in json.loads(data)['choices']]


class Client:
    """Sends requests on a connection of its own and notes what comes back."""

    def __init__(self, server, bodies, right):
        self.server, self.bodies, self.right = server, bodies, right
        self.connection = None
        self.accepted, self.refused, self.wrong = [], [], []

    def ask(self, number):
        """One request: its time, and whether its answer is what it should be."""
        number %= len(self.bodies)
        if self.connection is None:
            self.connection = self.server.connect()
        start = time.monotonic()
        try:
            self.connection.request('POST', '/v1/chat/completions', self.bodies[number],
                                    {'Content-Type': 'application/json'})
            answer = self.connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as e:
            self.wrong.append(repr(e))
            self.connection = None
            return
        took = time.monotonic() - start
        if answer.status == 200:
            self.accepted.append(took)
            if self.right and texts(data) != self.right[number]:
                self.wrong.append(f'request {number}: {data!r}')
        elif self.is_refusal(answer, data):
            self.refused.append(took)
        else:
            self.wrong.append((answer.status, data))

    @staticmethod
    def is_refusal(answer, data):
        """A 503 as the API has it."""
        seconds, ms = answer.headers['Retry-After'], answer.headers['retry-after-ms']
        error = json.loads(data)['error']
        return (answer.status == 503 and error['code'] == 'server_is_overloaded'
                and 1 <= int(seconds) <= 30
                and (int(seconds) - 1) * 1000 < int(ms) <= int(seconds) * 1000)


class Load:
    """What a phase's clients noted, all together."""

    def __init__(self, clients):
        self.accepted = sorted(t for c in clients for t in c.accepted)
        self.refused = sorted(t for c in clients for t in c.refused)
        self.wrong = [w for c in clients for w in c.wrong]
        assert not self.wrong, self.wrong[:3]


def run(clients, work):
    """work(client) in a thread for each."""
    threads = [threading.Thread(target=work, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return Load(clients)


def closed_loop(clients, seconds):
    """Each client asks again when it has its answer; answers per second."""
    start = time.monotonic()
    numbers = itertools.count()

    def work(client):
        while time.monotonic() < start + seconds:
            client.ask(next(numbers))

    load = run(clients, work)
    return load, len(load.accepted) / (time.monotonic() - start)


def open_loop(clients, seconds, capacity):
    """Requests come at so many times the rate of answers, whatever becomes of those before. That
    rate is taken anew all the time: what else runs on the machine changes it."""
    due, seen = queue.Queue(), collections.deque()
    random.seed(1)

    def work(client):
        while (number := due.get()) is not None:
            client.ask(number)

    def schedule():
        start = now = time.monotonic()
        rate = capacity
        for number in itertools.count():
            answers = sum(len(c.accepted) for c in clients)
            while seen and seen[0][0] < now - 1:
                seen.popleft()
            seen.append((now, answers))
            if now > start + 1:
                rate = max(answers - seen[0][1], 1)
            now += random.expovariate(TIMES * rate)
            if now > start + seconds:
                break
            time.sleep(max(0, now - time.monotonic()))
            due.put(number)
        for _ in clients:
            due.put(None)

    scheduler = threading.Thread(target=schedule)
    scheduler.start()
    load = run(clients, work)
    scheduler.join()
    return load


def at(values, share):
    """A percentile in milliseconds."""
    return values[min(len(values) - 1, int(share * len(values)))] * 1000 if values else 0


def say(name, values):
    """One line of latencies."""
    print(f'# {name}: {len(values)}, p50 {at(values, .5):.1f} ms, p99 {at(values, .99):.1f} ms',
          flush=True)


def processor_ms(server):
    """Processor time of the server so far."""
    with open(f'/proc/{server.process.pid}/stat', encoding='ascii') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf('SC_CLK_TCK')


def pictures(server):
    """Decoded since the start."""
    page = server.get('/metrics')[2].decode()
    return sum(float(v) for v in re.findall(r'^cogwheel_images_total\{.*\} (\S+)$', page, re.M))


def refusals_are_early_and_answers_right():
    """At three times capacity."""
    bodies = requests()
    with Server(BINARY, MODEL, '--max-seqs', str(CHOICES), '--max-queue', str(QUEUE),
                '--threads', '1', '--drain-delay', '0') as server:
        right = []
        for body in bodies:
            status, _, data = server.request('POST', '/v1/chat/completions', body,
                                             {'Content-Type': 'application/json'})
            assert status == 200, data
            right.append(texts(data))

        def clients(number):
            return [Client(server, bodies, right) for _ in range(number)]

        spent = [processor_ms(server)]
        few, _ = closed_loop(clients(1), ARGS.seconds)
        spent.append(processor_ms(server))
        full, capacity = closed_loop(clients(PLACES), ARGS.seconds)
        assert capacity > 0
        before, rss = pictures(server), server.rss_kib()
        spent.append(processor_ms(server))
        over = open_loop(clients(PLACES + 32), ARGS.seconds, capacity)
        spent.append(processor_ms(server))
        sent = len(over.accepted) + len(over.refused)

        say('alone', few.accepted)
        say(f'at capacity, {capacity:.1f} per second', full.accepted)
        say(f'at {TIMES} times capacity', over.accepted)
        say('refused, as clients saw it', over.refused)
        own = [float(e['ms']) / 1000 for e in server.events('request') if e['status'] == '503']
        say('refused, in the server', sorted(own))
        print(f'# ratio of p50, at {TIMES} times to at capacity: '
              f'{at(over.accepted, .5) / at(full.accepted, .5):.2f}; of p99: '
              f'{at(over.accepted, .99) / at(full.accepted, .99):.2f}', flush=True)
        cost = [(b - a) / len(load.accepted)
                for a, b, load in zip(spent, spent[1:], (few, full, over))]
        print('# processor time per answer: alone {:.1f} ms, at capacity {:.1f} ms, beyond it '
              '{:.1f} ms'.format(*cost), flush=True)
        print(f'# memory: {rss} KiB before, {server.rss_kib()} KiB after', flush=True)

        assert not few.refused
        assert len(over.refused) > sent / 3, 'that was no overload'
        assert len(over.accepted) > PLACES, 'too few were answered'
        assert pictures(server) - before == len(over.accepted), 'a refusal cost a picture'
        if not server.has_sanitizer():
            assert server.rss_kib() - rss < 16 * 1024, 'memory grew'
        until(lambda: server.get('/readyz')[0] == 200, 'readiness')
        code, left = server.stop(signal.SIGTERM)
        assert code == 0, code
        for name in ('waiting', 'running', 'kv_pages_used', 'features'):
            assert left[name] == '0', left


sys.exit(tap.run([refusals_are_early_and_answers_right]))
