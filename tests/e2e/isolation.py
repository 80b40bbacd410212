"""Many clients at once, each with its own pictures, leaving when they like: isolation.py COGWHEEL
MODEL [REQUESTS]. Every answer must be the one that its request gets alone, and in the end the
server must hold nothing. Prints TAP.
"""
import collections
import http.client
import json
import os
import random
import signal
import sys
import threading
import time

import pictures
import tap
from clients import LEAVE, leave
from server import Server, joined, picture_part, question, stream_chunks, until

CLIENTS = 64
# of 100 requests that begin; the rest are answered in full
WHOLE, STREAMED = 35, 35
FLOOD = 64
HELPERS = 2  # that decode pictures, each with a socket
HEAD_OF_LINE = ('ts', 'level', 'event')
SAMPLED = {'temperature': 1.2, 'top_p': 0.95}


def ways_to_ask():
    """The requests: each picture is asked about in one way, so that each answer has one owner."""
    for number in range(CLIENTS):
        part = picture_part(pictures.scene(number))
        if number % 4 == 3:
            yield question('Describe this image.', part, max_tokens=200, seed=number, **SAMPLED)
        else:
            yield question('Describe this image.', part, max_tokens=(24, 60, 200)[number % 3])


class Crowd:
    """The clients, the work they share and what they saw."""

    def __init__(self, server, asks, answers, total):
        self.server, self.asks, self.answers = server, asks, answers
        self.left, self.total = total, total
        self.lock = threading.Lock()
        self.done = collections.Counter()
        self.wrong = []
        self.early_rss = None

    def take(self):
        """Whether one request more is to be made."""
        with self.lock:
            if self.left == 0:
                return False
            self.left -= 1
            is_early = self.total - self.left == self.total // 4
        if is_early:
            self.early_rss = self.server.rss_kib()
        return True

    def count(self, what):
        """One request ended so."""
        with self.lock:
            self.done[what] += 1

    def client(self, seed):
        """One thread: requests until all are made, over a kept connection where it can."""
        rng = random.Random(seed)
        connection = self.server.connect()
        while self.take():
            number = rng.randrange(len(self.asks))
            roll = rng.randrange(100)
            try:
                if roll < WHOLE:
                    self.compare(number, self.whole(connection, number), 'whole')
                elif roll < WHOLE + STREAMED:
                    self.compare(number, self.streamed(connection, number), 'streamed')
                else:
                    stage = LEAVE[roll % len(LEAVE)]
                    leave(self.server, {**self.asks[number], 'stream': rng.random() < 0.7},
                          stage, rng)
                    self.count(f'left while {stage}')
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as e:
                self.wrong.append(f'{number}: {type(e).__name__} {e}')
                connection.close()
        connection.close()

    def compare(self, number, text, how):
        """Is it the answer that this request gets alone?"""
        self.count(how)
        if text != self.answers[number]:
            self.wrong.append(f'{number} ({how}): {text!r} instead of {self.answers[number]!r}')

    def post(self, connection, body):
        """The response of a request on a connection that may be used again."""
        connection.request('POST', '/v1/chat/completions', json.dumps(body),
                           {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AssertionError(f'{answer.status} {answer.read()[:300]}')
        return answer

    def whole(self, connection, number):
        """A text in one piece."""
        body = json.loads(self.post(connection, self.asks[number]).read())
        return body['choices'][0]['message']['content']

    def streamed(self, connection, number):
        """A text in pieces."""
        return joined(stream_chunks(self.post(connection, {**self.asks[number], 'stream': True})))


def all_answers_are_their_own(state):
    """The crowd."""
    server, total = state['server'], state['total']
    asks = list(ways_to_ask())
    answers = [server.answer(a) for a in asks]
    assert len(set(answers)) >= CLIENTS * 2 // 3, f'{len(set(answers))} answers are too alike'
    crowd = Crowd(server, asks, answers, total)
    began = time.monotonic()
    threads = [threading.Thread(target=crowd.client, args=(n,)) for n in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f'# {total} requests of {CLIENTS} clients in {time.monotonic() - began:.1f} s, '
          f'{len(set(answers))} different answers')
    for what, n in sorted(crowd.done.items()):
        print(f'# {n:5} {what}')
    state['early_rss'] = crowd.early_rss
    assert not crowd.wrong, '\n'.join(crowd.wrong[:10])
    assert sum(crowd.done.values()) == total
    assert len(crowd.done) == 2 + len(LEAVE), crowd.done


def a_flood_is_no_slow_reader(state):
    """Many copies of an answer come faster than they can be sent, to a client that takes all."""
    ask = next(ways_to_ask()) | {'n': FLOOD, 'max_tokens': 1000, 'stream': True}
    connection, answer = state['server'].stream(ask)
    chunks = stream_chunks(answer)
    connection.close()
    texts = {joined(chunks, choice) for choice in range(FLOOD)}
    assert len(texts) == 1 and texts != {''}, texts
    print(f'# {sum(map(len, texts)) * FLOOD} letters in {len(chunks)} chunks')


def it_still_answers_alone(state):
    """Ready, and the same answer as before the crowd."""
    server = state['server']
    assert server.get('/readyz')[0] == 200
    ask = next(ways_to_ask())
    assert server.answer(ask) == server.answer(ask)


def memory_is_bounded(state):
    """After the first quarter everything has its size."""
    rss = state['server'].rss_kib()
    print(f'# memory {state["early_rss"]} KiB after a quarter, {rss} KiB at the end')
    assert (rss < state['early_rss'] * 1.15 + 8192
            or state['server'].has_sanitizer()), (state['early_rss'], rss)


def connections_are_closed(state):
    """Only its listener and those to its helpers are left, though no deadline has passed."""
    until(lambda: state['server'].sockets() == 1 + HELPERS, 'connections to be closed')


def the_drain_leaves_nothing(state):
    """No page, no picture, no request; exit code 0."""
    code, left = state['server'].stop(signal.SIGTERM)
    print('# left', ' '.join(f'{k}={v}' for k, v in left.items() if k not in HEAD_OF_LINE))
    assert code == 0, code
    for what in ('waiting', 'running', 'kv_pages_used', 'features'):
        assert left[what] == '0', left
    assert state['server'].events('phase')[1]['connections'] == '0'
    bad = [line for line in state['server'].log().splitlines() if 'level=error' in line]
    assert not bad, bad[:5]


def main():
    """Runs all on one server."""
    binary, model = os.path.abspath(sys.argv[1]), sys.argv[2]
    total = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    assert total >= 400, 'fewer do not show whether memory grows'
    tap.need_model(model)
    # without deadlines, so that nothing but the client's leaving ends a connection
    with Server(binary, model, '--drain-delay', '0', '--body-idle-timeout', '1h', '--body-timeout',
                '1h', '--keepalive-timeout', '1h', '--max-n', str(FLOOD), '--image-workers',
                str(HELPERS)) as server:
        state = {'server': server, 'total': total}
        return tap.run([all_answers_are_their_own, memory_is_bounded, a_flood_is_no_slow_reader,
                        it_still_answers_alone, connections_are_closed, the_drain_leaves_nothing],
                       state)


sys.exit(main())
