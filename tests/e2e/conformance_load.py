"""What the API promises when many ask, leave and share: conformance_load.py COGWHEEL DEMO-MODEL
LONG-MODEL. The second model's answers must be long. Prints TAP. The lines of the conformance list:

line 14 leaving           leaving_at_every_stage; test_engine.c cancelling_*, a_c*;
                          test_server_metrics.c clients_leave_at_every_stage
line 15 slow readers      test_server_stream.c slow_reader_is_cut, stalled_reader_is_cut,
                          others_are_undisturbed
line 22 tenants           nothing_is_shared_between_tenants
line 23 own answers       isolation.py all_answers_are_their_own
line 27 overload          test_server_stream.c queue_full; test_server_load.c
                          refused_before_the_json; test_server_limits.c requests_per_minute and on
line 29 watchdog          a_stopped_engine_is_noticed; test_server_drain.c stuck_engine
line 30 SIGTERM           shutdown.py running_streams_finish
line 31 metrics           metrics.py all_names_are_there, the_parser_is_strict,
                          counters_hold_under_load_with_aborts, waiting_counts_image_stages
line 35 equal bits        alone_in_company_cached_or_not; isolation.py; test_engine.c logits_are_*
"""
import ctypes
import http.client
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading

import checkpoint
import pictures
import tap
from clients import head_of
from server import Server, joined, picture_part, question, stream_chunks, until

BINARY, MODEL, LONG = map(os.path.abspath, sys.argv[1:4])
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000
FLOOD = 24


def gauge(server, series):
    """The value of one series of /metrics."""
    page = server.get('/metrics')[2].decode()
    return float(re.search(f'^{re.escape(series)} (\\S+)$', page, re.MULTILINE)[1])


def in_stages(server):
    """Requests by the stage where they are now."""
    page = server.get('/metrics')[2].decode()
    return {stage: int(n) for stage, n in re.findall(
        r'^cogwheel_requests_in_stage\{stage="(\w+)"\} (\d+)$', page, re.MULTILINE)}


# ---------------------------------------------------------------------- leaving


def whole(*parts, **fields):
    """The bytes of one request."""
    data = json.dumps(question('Describe this image.', *parts, **fields)).encode()
    return head_of(len(data)) + data


def half_sent(_):
    """Bodies that stop in the middle."""
    return [whole()[:-5]] * 2


def large_pictures(_):
    """Two that take a while to decode."""
    side = 5000
    data = pictures.png(side, side, bytes(side * side * 3))
    return [whole(picture_part(data))] * 2


def new_pictures(turn):
    """Many that nobody has encoded yet."""
    return [whole(picture_part(pictures.png(8, 8, bytes([turn, i, 200]) * 64)), max_tokens=4)
            for i in range(FLOOD)]


def long_prompts(turn):
    """Texts that nobody has sent yet, nearly as long as the context."""
    return [whole({'type': 'text', 'text': f'{turn} {i} ' + 'a ' * 1800}, max_tokens=4)
            for i in range(8)]


def long_answers(turn):
    """More than are worked on at a time."""
    return [whole(temperature=1.5, seed=turn * 10 + i, n=8, stream=True) for i in range(4)]


STAGES = {'read': half_sent, 'image_decode': large_pictures, 'encode': new_pictures,
          'prefill': long_prompts, 'queue': long_answers, 'decode': long_answers}


def is_answered(connection):
    """Whether something has come."""
    try:
        return connection.recv(1, socket.MSG_PEEK) != b''
    except BlockingIOError:
        return False


def leave_at(server, stage, requests):
    """Sends the requests, closes their connections while one is at the stage, and waits until
    nothing of them is left. What is at a stage may be the undisturbed client's: try again."""
    sockets = [socket.create_connection((server.host, server.port), 60) for _ in requests]
    for s, raw in zip(sockets, requests):
        s.sendall(raw)
        s.setblocking(False)
    enough = 2 if stage == 'decode' else 1  # there the undisturbed client nearly always is
    while in_stages(server)[stage] < enough:
        if all(map(is_answered, sockets)):
            break
    for s in sockets:
        s.close()
    until(lambda: sum(in_stages(server).values()) <= 1, 'what was left to end')


def left_at(server):
    """Where clients left so far."""
    return [e['abort_stage'] for e in server.events('request') if e['status'] == '499']


class Undisturbed:
    """A client that asks the same all the time; every answer must be the one it gets alone."""

    def __init__(self, server, body):
        self.alone = server.answer(body)
        self.texts, self.is_over = [], False
        self.thread = threading.Thread(target=self.ask, args=(server, body))
        self.thread.start()

    def ask(self, server, body):
        """Until it is over."""
        while not self.is_over:
            self.texts.append(server.answer(body))

    def end(self):
        """How many answers it got."""
        self.is_over = True
        self.thread.join()
        assert set(self.texts) == {self.alone}, set(self.texts)
        return len(self.texts)


def leaving_at_every_stage():
    """Work stops, pages come back, and who stays is told what he is told alone."""
    with tempfile.TemporaryDirectory() as slow:
        checkpoint.grow(MODEL, slow, 60000)
        with Server(BINARY, slow, '--dtype', 'f32', '--max-seqs', '3', '--step-tokens', '32',
                    '--vision-batch', '1', '--drain-delay', '0') as server:
            other = Undisturbed(server, question(
                'Describe this image.', picture_part(pictures.scene(3)), max_tokens=40,
                cache_prompt=False))
            try:
                for stage, make in STAGES.items():
                    turn = 0
                    while stage not in left_at(server):
                        assert turn < 30, f'nobody could leave at {stage}: {left_at(server)}'
                        leave_at(server, stage, make(turn))
                        turn += 1
            finally:
                answers = other.end()
            print(f'# {answers} answers beside',
                  *(f'{s}: {left_at(server).count(s)}' for s in STAGES))
            code, left = server.stop(signal.SIGTERM)
            assert code == 0, code
            for what in ('waiting', 'running', 'kv_pages_used'):
                assert left[what] == '0', left


# ---------------------------------------------------------------------- sharing


def cached(server, body, key):
    """Tokens of the prompt that were found computed, and the answer."""
    status, _, data = server.chat(body, {'Authorization': f'Bearer {key}'})
    assert status == 200, data
    return (data['usage']['prompt_tokens_details']['cached_tokens'],
            data['choices'][0]['message']['content'])


def nothing_is_shared_between_tenants():
    """Of one picture each key and each salt finds only what it left itself."""
    with tempfile.NamedTemporaryFile('w', suffix='.keys') as keys:
        keys.write('key-one\nkey-two\n')
        keys.flush()
        os.chmod(keys.name, 0o600)
        with Server(BINARY, MODEL, '--api-key-file', keys.name) as server:
            body = question('What is shown in the image?', picture_part(pictures.scene(5)),
                            max_tokens=30)
            encoded, texts = 0, set()
            for key in ('key-one', 'key-two'):
                for salt in (None, 'a', 'b'):
                    asked = {**body, 'cache_salt': salt}
                    found, text = cached(server, asked, key)
                    assert found == 0, (key, salt, found)
                    encoded += 1
                    assert gauge(server, 'cogwheel_images_encoded_total') == encoded, (key, salt)
                    again, same = cached(server, asked, key)
                    assert again > 0 and same == text, (key, salt, again)
                    never, same = cached(server, {**asked, 'cache_prompt': False}, key)
                    assert never == 0 and same == text, (key, salt, never)
                    encoded = gauge(server, 'cogwheel_images_encoded_total')
                    texts.add(text)
            assert len(texts) == 1, texts


# ---------------------------------------------------------------------- the same bits


def alone_in_company_cached_or_not():
    """Greedy answers: alone and cold, alone and found, in company in any order."""
    parts = [picture_part(pictures.scene(n)) for n in range(4)]
    asks = [question(text, *part, max_tokens=40) for part in ([p] for p in parts)
            for text in ('Describe this image.', 'What is shown in the image?')]
    asks += [question(f'Tell me about {word}.', max_tokens=40) for word in ('cats', 'rain')]
    with Server(BINARY, MODEL, '--step-tokens', '48') as server:
        cold = [server.answer({**body, 'cache_prompt': False}) for body in asks]
        rng = random.Random(35)
        for _ in range(3):
            order = rng.sample(range(len(asks)), len(asks))
            got = {}
            threads = [threading.Thread(
                target=lambda n=n: got.__setitem__(n, server.answer(asks[n]))) for n in order]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert [got.get(n) for n in range(len(asks))] == cold, (got, cold)
        found = 0
        for body, text in zip(asks, cold):
            _, _, data = server.chat(body)
            found += data['usage']['prompt_tokens_details']['cached_tokens'] > 0
            assert data['choices'][0]['message']['content'] == text, (data, text)
        assert found >= 8, found
        assert len(set(cold)) > len(cold) // 2, cold


# ---------------------------------------------------------------------- a stuck engine


class Debugger:
    """Stops all threads of a process but its first, which is the loop's."""

    def __init__(self, pid):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
        self.libc.ptrace.restype = ctypes.c_long
        self.stopped = []
        for name in os.listdir(f'/proc/{pid}/task'):
            thread = int(name)
            if thread == pid:
                continue
            if self.libc.ptrace(SEIZE, thread, None, None) != 0:
                raise OSError(ctypes.get_errno(), 'ptrace')
            self.libc.ptrace(INTERRUPT, thread, None, None)
            os.waitpid(thread, WALL)
            self.stopped.append(thread)

    def go_on(self):
        """Lets them run."""
        for thread in self.stopped:
            self.libc.ptrace(DETACH, thread, None, None)


def a_stopped_engine_is_noticed():
    """A debugger holds it: /livez says so, and takes it back when the engine moves again."""
    with Server(BINARY, LONG, '--watchdog-seconds', '1', '--drain-delay', '0') as server:
        body = question('Describe this image.', picture_part(pictures.scene(3)), max_tokens=1900)
        alone = server.answer(body)
        connection, answer = server.stream({**body, 'n': 4})
        answer.peek(1)
        for attempt in range(5):
            try:
                debugger = Debugger(server.process.pid)
            except OSError as e:
                connection.close()
                print(f'# not shown here: {e}')
                return
            try:
                assert json.loads(until(lambda: stuck(server), 'a 503')) == {'status': 'stuck'}
                assert server.get('/readyz')[0] == 200
                assert gauge(server, 'cogwheel_engine_heartbeat_age_seconds') >= 1
                break
            except TimeoutError:
                # a debugger may stop a thread with a lock in its hand, which no stuck device does
                assert attempt < 4
            finally:
                debugger.go_on()
        until(lambda: server.get('/livez')[0] == 200, 'life')
        chunks = stream_chunks(answer)
        assert {joined(chunks, choice) for choice in range(4)} == {alone}
        connection.close()


def stuck(server):
    """The body of a /livez that is not 200."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    connection.request('GET', '/livez')
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return body if answer.status == 503 else None


TESTS = [leaving_at_every_stage, nothing_is_shared_between_tenants, alone_in_company_cached_or_not,
         a_stopped_engine_is_noticed]
tap.need_model(MODEL)
sys.exit(tap.run(TESTS))
