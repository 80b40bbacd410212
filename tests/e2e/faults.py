"""What a server must live through: faults.py COGWHEEL MODEL. Prints TAP.

The model's answers must be long: it is any that does not end them by itself within a few tokens.
"""
import ctypes
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

import checkpoint
import pictures
import tap
from server import Server, picture_part, question, stream_chunks, until

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
TEMPORARY = tempfile.TemporaryDirectory()
SLOW = TEMPORARY.name
LONG = question('Describe this image.', picture_part(pictures.scene(3)), max_tokens=1900)
WORDS = question('Describe this image.', max_tokens=5)
QUICK = ('--drain-delay', '0', '--drain-timeout', '0')

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


def ptrace(request, tid):
    """Whether the call of that name was allowed."""
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    call.restype = ctypes.c_long
    return call(request, tid, None, None) == 0


def thread_of(server, name):
    """The id of a thread by its name."""
    folder = f'/proc/{server.process.pid}/task'
    for tid in os.listdir(folder):
        with open(f'{folder}/{tid}/comm', encoding='ascii') as f:
            if f.read().strip() == name:
                return int(tid)
    raise AssertionError(f'no thread {name}')


def an_engine_that_a_debugger_holds():
    """/livez says so, everything that needs no engine goes on, and so does the engine later."""
    with Server(BINARY, SLOW, '--dtype', 'f32', '--threads', '1', '--watchdog-seconds', '1',
                '--request-timeout', '4s', *QUICK) as server:
        right = server.answer(WORDS)
        connection, stream = server.stream(LONG)
        stream.peek(1)
        engine = thread_of(server, 'cog-engine')
        if not ptrace(PTRACE_SEIZE, engine):
            print('# a debugger is not allowed here', flush=True)
            return
        assert ptrace(PTRACE_INTERRUPT, engine)
        os.waitpid(engine, WALL)
        slowest = 0

        def is_stuck():
            nonlocal slowest
            start = time.monotonic()
            status, _, body = server.get('/livez')
            slowest = max(slowest, time.monotonic() - start)
            assert (status, body) == (200, b'ok') or json.loads(body) == {'status': 'stuck'}, body
            return status == 503

        until(is_stuck, '/livez to see it')
        print(f'# slowest probe beside a held engine: {slowest * 1000:.1f} ms', flush=True)
        assert server.get('/readyz')[0] == server.get('/metrics')[0] == 200
        last = stream_chunks(stream)[-1]
        assert last['error']['code'] == 'request_deadline_exceeded', last
        assert ptrace(PTRACE_DETACH, engine)
        until(lambda: server.get('/livez')[0] == 200, 'life')
        assert server.answer(WORDS) == right
        connection.close()
        assert server.stop(signal.SIGTERM)[0] == 0


def out_of_descriptors():
    """New connections are told, old ones answered; over when there are descriptors again."""
    with Server(BINARY, MODEL, *QUICK) as server:
        kept = server.connect()
        kept.request('GET', '/livez')
        kept.getresponse().read()
        right = server.answer(WORDS)
        used = len(os.listdir(f'/proc/{server.process.pid}/fd'))
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 2, limits[1]))
        crowd = [socket.create_connection((server.host, server.port)) for _ in range(12)]
        told = until(lambda: server.events('accept_fails'), 'the shortage to be told')
        refused = 0
        for s in crowd[-8:]:
            s.settimeout(60)
            refused += s.recv(4096).startswith(b'HTTP/1.1 503 ')
        assert refused == 8, refused
        kept.request('POST', '/v1/chat/completions', json.dumps(WORDS),
                     {'Content-Type': 'application/json'})
        answer = kept.getresponse()
        data = json.loads(answer.read())
        assert answer.status == 200, data
        assert data['choices'][0]['message']['content'] == right
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        for s in crowd:
            s.close()
        assert server.answer(WORDS) == right
        until(lambda: server.events('accept_works'), 'the end of it to be told')
        assert len(server.events('accept_fails')) == len(told) == 1, 'told for each connection'
        kept.close()
        assert server.stop(signal.SIGTERM)[0] == 0


class Quiet:
    """A server whose log goes to a given place."""

    def __init__(self, stderr):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(
            [BINARY, 'serve', '--model', MODEL, '--listen', f'127.0.0.1:{self.port}',
             '--log-level', 'debug', '--log-format', 'json', *QUICK],
            stdout=subprocess.DEVNULL, stderr=stderr)
        until(lambda: self.get('/readyz') == 200, 'readiness')

    def get(self, path):
        """A status; None when nobody listens."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        try:
            connection.request('GET', path)
            return connection.getresponse().status
        except ConnectionRefusedError:
            return None
        finally:
            connection.close()

    def end(self):
        """Exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


def a_log_that_nobody_reads():
    """A full pipe stops nothing; what was lost is counted when there is room again."""
    ours, its = os.pipe()
    server = Quiet(its)
    os.close(its)
    for _ in range(1500):
        assert server.get('/livez') == 200
    with open(ours, encoding='utf-8') as log:
        os.set_blocking(ours, False)
        before = log.read()
        os.set_blocking(ours, True)
        assert 'log_lost' not in before
        assert server.get('/livez') == 200
        assert server.end() == 0
        after = [json.loads(line) for line in log.read().splitlines() if line.startswith('{')]
    lost = [line['lines'] for line in after if line['event'] == 'log_lost']
    assert len(lost) == 1 and lost[0] > 100, lost


def a_log_on_a_full_disk():
    """Not a line can be written: the server serves."""
    with open('/dev/full', 'wb') as full:
        server = Quiet(full)
    for _ in range(50):
        assert server.get('/v1/models') == 200
    assert server.end() == 0


def keys_are_read_again():
    """SIGHUP: new keys, and a running stream that does not notice; a bad file changes nothing."""
    path = os.path.join(TEMPORARY.name, 'keys')

    def write(text):
        with open(path, 'w', encoding='ascii') as f:
            f.write(text)

    def status(key):
        return server.chat(WORDS, {'Authorization': f'Bearer {key}'})[0]

    write('one\n')
    with Server(BINARY, MODEL, '--api-key-file', path, *QUICK) as server:
        assert (status('one'), status('two')) == (200, 401)
        connection = server.connect()
        connection.request('POST', '/v1/chat/completions', json.dumps({**LONG, 'stream': True}),
                           {'Content-Type': 'application/json', 'Authorization': 'Bearer one'})
        stream = connection.getresponse()
        stream.peek(1)
        write('two rpm=100\n')
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.events('keys_read'), 'the keys to be read')
        assert (status('one'), status('two')) == (401, 200)
        chunks = stream_chunks(stream)
        assert chunks[-1]['choices'][0]['finish_reason'] == 'length', chunks[-1]
        write('three\nnot a key\n')
        server.process.send_signal(signal.SIGHUP)
        kept = until(lambda: server.events('keys_kept'), 'the bad file to be told')
        assert 'line 2' in kept[0]['reason'] and 'not a key' not in server.log()
        assert (status('two'), status('three')) == (200, 401)
        connection.close()
        assert server.stop(signal.SIGTERM)[0] == 0


TESTS = [an_engine_that_a_debugger_holds, out_of_descriptors, a_log_that_nobody_reads,
         a_log_on_a_full_disk, keys_are_read_again]
with TEMPORARY:
    checkpoint.grow(MODEL, SLOW, 100000)
    code = tap.run(TESTS)
sys.exit(code)
