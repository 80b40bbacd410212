"""The clients of the soak: what each does, again and again, and what it must get."""
import collections
import http.client
import json
import random
import threading
import time

from asks import texts_of
from clients import LEAVE, leave, read_slowly, send_slowly
from server import chunks_of, joined

KEYS = ('sk-alpha', 'sk-beta', 'sk-gamma')
SALTS = (None, None, 'one', 'two')
# After a helper was killed or stopped, its picture fails, and the file is refused for a while: so long
# at most, with these codes and no others.
FAULT_S = 15
EXCUSED = ('internal_error', 'request_quarantined')
WEIGHTS = {'whole': 24, 'streamed': 26, 'slow_sender': 3, 'slow_reader': 4, 'leaves': 22, 'bad': 14,
           'costly': 1, 'probe': 6}


class Refused(Exception):
    """503 or 429: as overload may do, with a time to come back."""


class Failed(Exception):
    """An error instead of an answer."""

    def __init__(self, status, code, text=''):
        super().__init__(f'{status} {code} {text}'[:400])
        self.code = code


class Traffic:
    """All clients, and what they saw."""

    def __init__(self, server, asks, bads, costly):
        self.server, self.asks, self.bads, self.costly = server, asks, bads, costly
        self.lock = threading.Lock()
        self.done, self.refused = collections.Counter(), collections.Counter()
        self.wrong = []
        self.is_over = threading.Event()
        self.faults = []  # when a helper was made to fail

    def count(self, what, counter=None):
        """One more of these."""
        with self.lock:
            (self.done if counter is None else counter)[what] += 1

    def complain(self, text):
        """Something that must not be."""
        with self.lock:
            self.wrong.append(text)

    def fault(self):
        """From now on, for a while, pictures may be refused."""
        with self.lock:
            self.faults.append(time.monotonic())

    def is_excused(self, since):
        """Whether a helper was made to fail while a request of that age was under way."""
        with self.lock:
            return any(since - FAULT_S < t for t in self.faults)

    def start(self, n, seed):
        """That many clients; their threads."""
        threads = [threading.Thread(target=Client(self, seed * 1000 + k).run, daemon=True)
                   for k in range(n)]
        for t in threads:
            t.start()
        return threads


class Client:
    """One thread, one kept connection where that is possible."""

    def __init__(self, traffic, seed):
        self.traffic, self.rng = traffic, random.Random(seed)
        self.connection = traffic.server.connect()
        self.favourite = self.rng.randrange(len(traffic.asks))

    def run(self):
        """Until the traffic is over."""
        kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
        while not self.traffic.is_over.is_set():
            kind = self.rng.choices(kinds, weights)[0]
            since = time.monotonic()
            try:
                getattr(self, kind)()
            except Refused as e:
                self.traffic.count(str(e), self.traffic.refused)
                time.sleep(self.rng.uniform(0, 0.5))
            except (OSError, http.client.HTTPException, AssertionError, ValueError, KeyError,
                    Failed) as e:
                self.connection.close()
                if getattr(e, 'code', None) in EXCUSED and self.traffic.is_excused(since):
                    self.traffic.count(f'failed with a helper, {e.code}')
                else:
                    self.traffic.complain(f'{kind}: {type(e).__name__} {e}'[:600])
                    time.sleep(0.2)
        self.connection.close()

    # ---------------------------------------------------------------- parts

    def headers(self):
        """With one of the keys."""
        return {'Authorization': f'Bearer {self.rng.choice(KEYS)}'}

    def ask(self):
        """One of the questions, often the one asked before."""
        if self.rng.random() < 0.6:
            self.favourite = self.rng.randrange(len(self.traffic.asks))
        return self.traffic.asks[self.favourite]

    def body_of(self, ask, **more):
        """Its request, with what must not change the answer."""
        salt = self.rng.choice(SALTS)
        body = {**ask.body, 'priority': self.rng.randint(-5, 5), **more}
        if salt:
            body['cache_salt'] = salt
        if self.rng.random() < 0.1:
            body['cache_prompt'] = False
        return body

    def post(self, body):
        """A response of status 200."""
        self.connection.request('POST', '/v1/chat/completions', json.dumps(body),
                                {'Content-Type': 'application/json', **self.headers()})
        return self.accepted(self.connection.getresponse())

    @staticmethod
    def accepted(answer):
        """The response, if it is an answer."""
        if answer.status in (429, 503):
            after = answer.headers.get('Retry-After')
            answer.read()
            assert after and 1 <= int(after) <= 60, f'{answer.status}, Retry-After {after}'
            raise Refused(answer.status)
        if answer.status != 200:
            data = answer.read()
            raise Failed(answer.status, json.loads(data)['error']['code'], data)
        return answer

    def compare(self, ask, texts, how):
        """Is it what the request gets alone?"""
        self.traffic.count(how)
        if texts != ask.texts:
            self.traffic.complain(f'{how}: {ask.name}: {texts} instead of {ask.texts}')

    @staticmethod
    def streamed_texts(ask, data):
        """The choices' texts of a stream, which must end as one does."""
        chunks = chunks_of(data)
        for c in chunks:
            if 'error' in c:
                raise Failed(200, c['error']['code'], c)
        return [joined(chunks, k) for k in range(ask.body.get('n', 1))]

    # ---------------------------------------------------------------- kinds

    def whole(self):
        """An answer in one piece."""
        ask = self.ask()
        self.compare(ask, texts_of(json.loads(self.post(self.body_of(ask)).read())), 'whole')

    def streamed(self):
        """An answer in pieces."""
        ask = self.ask()
        data = self.post(self.body_of(ask, stream=True)).read()
        self.compare(ask, self.streamed_texts(ask, data), 'streamed')

    def slow_sender(self):
        """A body that takes its time."""
        ask = self.ask()
        answer = self.accepted(send_slowly(self.connection, self.body_of(ask), self.headers(),
                                           self.rng.randint(2, 10), self.rng.uniform(0.1, 2)))
        self.compare(ask, texts_of(json.loads(answer.read())), 'sent slowly')

    def slow_reader(self):
        """A stream read in small pieces, sometimes not to its end."""
        ask = self.ask()
        answer = self.post(self.body_of(ask, stream=True))
        if self.rng.random() < 0.3:
            answer.read(200)
            time.sleep(self.rng.uniform(0, 1))
            self.connection.close()
            self.traffic.count('left a slow read')
            return
        data = read_slowly(answer, self.rng.choice((64, 512, 2048)), 0.005)
        self.compare(ask, self.streamed_texts(ask, data), 'read slowly')

    def leaves(self):
        """Goes away at some stage."""
        stage = self.rng.choice(LEAVE)
        ask = self.ask()
        leave(self.traffic.server, self.body_of(ask, stream=self.rng.random() < 0.7), stage,
              self.rng, self.headers())
        self.traffic.count(f'left while {stage}')

    def bad(self):
        """What is refused alone is refused in a crowd, in the same words."""
        bad = self.rng.choice(self.traffic.bads)
        got = bad.send(self.traffic.server.request, self.headers())
        if got[0] in (429, 503):
            raise Refused(got[0])
        self.traffic.count('bad')
        if got != bad.expected:
            raise Failed(*got, f'{bad.name}, instead of {bad.expected}')

    def costly(self):
        """A small file of many pixels."""
        ask = self.rng.choice(self.traffic.costly)
        self.compare(ask, texts_of(json.loads(self.post(self.body_of(ask)).read())), 'costly')

    def probe(self):
        """Whatever happens, the probes answer."""
        path = self.rng.choice(('/livez', '/readyz', '/v1/models'))
        self.connection.request('GET', path, headers=self.headers())
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
        self.traffic.count('probes')
