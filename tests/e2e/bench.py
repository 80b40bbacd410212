"""`cogwheel bench` against a server that does what it is told, and against the real one: bench.py
COGWHEEL MODEL. Prints TAP."""
import collections
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import tap
from server import Server

BINARY, MODEL = os.path.abspath(sys.argv[1]), sys.argv[2]


def chunk(delta, finish=None):
    """One chunk of a stream."""
    return {'object': 'chat.completion.chunk',
            'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]}


def usage(tokens):
    """The chunk behind the last choice."""
    return {'choices': [], 'usage': {'prompt_tokens': 70, 'completion_tokens': tokens,
                                     'prompt_tokens_details': {'image_tokens': 66,
                                                               'cached_tokens': 5}}}


def event(data):
    """Its bytes in the stream."""
    return b'data: ' + json.dumps(data).encode() + b'\n\n'


DONE = b'data: [DONE]\n\n'


class Script(http.server.ThreadingHTTPServer):
    """Answers each chat request as `play(handler, body)` does; keeps what was asked."""
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, play, context=None):
        super().__init__(('127.0.0.1', 0), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.play, self.asked, self.lock = play, [], threading.Lock()
        self.keys = set()
        self.url = f'http{"s" if context else ""}://127.0.0.1:{self.server_address[1]}'
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """A client that left early is part of the play."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):  # pylint: disable=arguments-differ
        """Says nothing."""

    def reply(self, status, data, headers=()):
        """A whole answer."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, *headers):
        """The head of a stream."""
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header('Content-Type', 'text/event-stream')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()

    def send(self, data):
        """Some of a stream's bytes."""
        self.wfile.write(b'%x\r\n%s\r\n' % (len(data), data))
        self.wfile.flush()

    def finish_stream(self):
        """The end of the body."""
        self.wfile.write(b'0\r\n\r\n')

    def cut(self):
        """Leaves in the middle."""
        self.close_connection = True

    def do_GET(self):  # pylint: disable=invalid-name
        """The list of models."""
        self.server.keys.add(self.headers.get('Authorization'))
        assert self.path == '/v1/models', self.path
        self.reply(200, {'data': [{'id': 'a model'}, {'id': 'another'}]})

    def do_POST(self):  # pylint: disable=invalid-name
        """A chat request. The first one is the warm-up's."""
        assert self.path == '/v1/chat/completions', self.path
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.keys.add(self.headers.get('Authorization'))
            number = len(self.server.asked) - 1
        if number == 0 and not getattr(self.server, 'plays_first', False):
            good(self, body)
        else:
            self.server.play(self, body)


def good(handler, _, tokens=3, headers=()):
    """A short answer."""
    handler.begin(*headers)
    handler.send(event(chunk({'role': 'assistant', 'content': ''})))
    for n in range(tokens):
        handler.send(event(chunk({'content': f't{n} '})))
    handler.send(event(chunk({}, 'length')) + event(usage(tokens)) + DONE)
    handler.finish_stream()


def bench(url, *options, code=0, env=None):
    """The report of a run."""
    clean = {k: v for k, v in os.environ.items()
             if not k.startswith('COGWHEEL_') and k != 'OPENAI_API_KEY'}
    ran = subprocess.run([BINARY, 'bench', url, '--json', '--image-size', '16x16', *options],
                         capture_output=True, text=True, timeout=120, check=False,
                         env={**clean, **(env or {})})
    assert ran.returncode == code, (ran.returncode, ran.stdout, ran.stderr)
    return json.loads(ran.stdout) if ran.stdout else ran.stderr


def parts_of(body):
    """Text and picture's URL of a request."""
    content = body['messages'][0]['content']
    assert [p['type'] for p in content] == ['text', 'image_url'][:len(content)], content
    return content[0]['text'], content[1]['image_url']['url'] if len(content) > 1 else None


def times_are_those_of_the_server():
    """What the client says of a server that waits, beside what that server's own clock says."""
    seen = {'ttft': [], 'e2el': [], 'itl': []}

    def play(handler, _):
        came = time.monotonic()
        handler.begin()
        time.sleep(0.08)
        handler.send(b': ping\n\n')
        times = []
        for n in range(5):
            times.append(time.monotonic())
            handler.send(event(chunk({'content': f't{n} '})))
            time.sleep(0.02)
        seen['ttft'].append(times[0] - came)
        seen['e2el'].append(times[-1] - came)
        seen['itl'] += [b - a for a, b in zip(times, times[1:])]
        handler.send(event(usage(5)))
        handler.send(DONE)
        handler.finish_stream()

    with Script(play) as server:
        report = bench(server.url, '--num-prompts', '12', '--concurrency', '3')
    assert (report['completed'], report['failed']) == (12, 0), report
    for name, values in seen.items():
        theirs = sum(values) / len(values) * 1000
        ours = report[f'mean_{name}_ms']
        # 1 ms: a clock read just before a write and one just after a read; a busy machine adds to ours
        assert theirs - 1 < ours < theirs * 10 + 1000, (name, ours, theirs)
    tpot = (report['mean_e2el_ms'] - report['mean_ttft_ms']) / 4
    assert abs(report['mean_tpot_ms'] - tpot) < 1e-3 * tpot, report
    assert report['total_output_tokens'] == 60 and report['total_input_tokens'] == 840, report
    assert report['total_image_tokens'] == 12 * 66 and report['total_cached_tokens'] == 60
    assert report['output_throughput'] * report['duration'] > 59.9


def pieces_may_be_cut_anywhere():
    """The same bytes in pieces of every length, in lines of every kind, with comments."""
    turn = iter(range(10000))

    def play(handler, _):
        n = next(turn)
        data = (b': hello\n\n' + event(chunk({'content': 'ü€'})) + b': ping\n\n'
                + event(chunk({'content': 'x'})) + event(chunk({}, 'stop')) + event(usage(7)) + DONE)
        data = data.replace(b'\n', [b'\n', b'\r\n', b'\r'][n % 3])
        handler.begin()
        size = n // 3 + 1
        for at in range(0, len(data), size):
            handler.send(data[at:at + size])
        handler.finish_stream()

    with Script(play) as server:
        report = bench(server.url, '--num-prompts', '60', '--concurrency', '8')
    assert (report['completed'], report['failed']) == (60, 0), report
    assert report['total_output_tokens'] == 420, report
    assert report['answers_with_estimated_tokens'] == 0, report


def kinds_of_errors(handler, body):
    """What goes wrong is what the prompt says."""
    kind = parts_of(body)[0]
    plain = {'overloaded': (503, [('Retry-After', '3')]), 'status_503': (503, []),
             'status_404': (404, []), 'status_429': (429, [('Retry-After', '1')])}
    if kind in plain:
        handler.reply(plain[kind][0], {'error': {'message': 'no'}}, plain[kind][1])
        return
    if kind == 'silent':
        handler.cut()
        return
    handler.begin()
    handler.send(event(chunk({'content': 'a'})))
    if kind == 'stream_error':
        handler.send(event({'error': {'message': 'broken'}}) + DONE)
    elif kind == 'cut':
        handler.cut()
        return
    elif kind == 'malformed':
        handler.send(b'data: {"choices":[\n\n' + DONE)
    elif kind == 'timeout':
        time.sleep(3)
    elif kind == 'no usage':
        handler.send(event(chunk({'content': 'b'})) + event(chunk({}, 'stop')) + DONE)
    handler.finish_stream()


def errors_have_their_kinds():
    """One kind at a time."""
    for kind in ('overloaded', 'status_503', 'status_404', 'status_429', 'stream_error', 'cut',
                 'malformed', 'unfinished', 'timeout', 'silent'):
        with Script(kinds_of_errors) as server:
            report = bench(server.url, '--num-prompts', '2', '--prompt', kind, '--image-share', '0',
                           '--timeout', '3s' if kind == 'timeout' else '1min', code=1)
        assert (report['completed'], report['failed']) == (0, 2), (kind, report)
        assert report['errors'] == {'cut' if kind == 'silent' else kind: 2}, (kind, report)
        assert report['mean_ttft_ms'] is None, report
    with Script(kinds_of_errors) as server:
        report = bench(server.url, '--num-prompts', '2', '--prompt', 'no usage', '--image-share', '0')
    assert report['answers_with_estimated_tokens'] == 2, report
    assert report['total_output_tokens'] == 4, report


def a_server_that_goes_away():
    """No connection is an error of its own, and none at all ends the run."""
    def play(handler, body):
        handler.server.socket.shutdown(socket.SHUT_RDWR)
        good(handler, body, headers=[('Connection', 'close')])

    with Script(play) as server:
        url = server.url
        report = bench(url, '--num-prompts', '3', code=1)
    assert report['completed'] == 1 and report['errors'] == {'connect': 2}, report
    assert '/v1/models' in bench(url, code=1)
    assert 'is no URL' in bench('ftp://127.0.0.1', code=2)


def late_starts_count():
    """An open loop measures from when a request was due, however late it could be sent."""
    def play(handler, body):
        time.sleep(0.1)
        good(handler, body)

    with Script(play) as server:
        late = bench(server.url, '--num-prompts', '20', '--request-rate', '1000', '--concurrency',
                     '1')
        free = bench(server.url, '--num-prompts', '20', '--request-rate', '1000')
    assert late['mean_ttft_ms'] > 900, late
    assert late['mean_start_delay_ms'] > 800, late
    assert free['mean_start_delay_ms'] < late['mean_start_delay_ms'], (free, late)


def arrivals_keep_their_rate():
    """As many as the rate brings within the duration."""
    with Script(good) as server:
        report = bench(server.url, '--duration', '2s', '--request-rate', '100', '--burstiness', '50',
                       '--image-share', '0')
    assert 150 < report['completed'] < 250, report
    assert 1.5 < report['duration'], report


def keys_models_and_eos():
    """The key goes along, the model is the first of the list, and a refused field is left out."""
    def play(handler, body):
        if 'ignore_eos' in body:
            handler.reply(400, {'error': {'message': 'unknown field'}})
        else:
            good(handler, body)

    with tempfile.NamedTemporaryFile('w') as key, Script(play) as server:
        server.plays_first = True
        key.write('sk-1\nsk-2\n')
        key.flush()
        report = bench(server.url + '/v1/', '--num-prompts', '2', '--key-file', key.name)
        assert report['ignore_eos'] is False and report['completed'] == 2, report
        assert server.keys == {'Bearer sk-1'}, server.keys
        assert [b['model'] for b in server.asked] == ['a model'] * 4, server.asked
        bench(server.url, '--num-prompts', '1', env={'OPENAI_API_KEY': 'sk-3'})
        assert server.keys == {'Bearer sk-1', 'Bearer sk-3'}, server.keys
        assert 'unknown field' in bench(server.url, '--ignore-eos', 'on', code=1)
    with Script(good) as server:
        report = bench(server.url, '--num-prompts', '2', '--request-model', 'mine')
        assert report['ignore_eos'] is True, report
        assert all(b['ignore_eos'] and b['model'] == 'mine' for b in server.asked), server.asked
        assert server.keys == {None}, server.keys


def pictures_are_cold_or_repeated():
    """What the report says of pictures is what the server saw."""
    with Script(good) as server:
        report = bench(server.url, '--num-prompts', '60', '--concurrency', '4', '--image-share',
                       '0.8', '--repeated-image-share', '0.5', '--repeated-images', '3')
        asked = [parts_of(b)[1] for b in server.asked]
    warm, run = asked[:3], asked[3:]
    assert len(set(warm)) == 3 and len(run) == 60, len(asked)
    count = collections.Counter(run)
    repeated = sum(count[url] for url in warm)
    text = count.pop(None, 0)
    assert report['repeated_picture']['completed'] == repeated > 10, report
    assert report['text']['completed'] == text > 2, report
    assert report['cold_picture']['completed'] == 60 - text - repeated, report
    assert all(n == 1 for url, n in count.items() if url not in warm), count


def files_and_folders():
    """Pictures from files, sent as they are."""
    samples = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__)))), 'tests', 'images')
    with tempfile.TemporaryDirectory() as folder:
        for name in ('plain.jpg', 'plain.png', 'plain.webp', 'plain.gif'):
            shutil.copy(os.path.join(samples, name), folder)
        with Script(good) as server:
            report = bench(server.url, '--num-prompts', '6', '--images', folder)
            urls = [parts_of(b)[1].split(',')[0] for b in server.asked[1:]]
        assert report['cold_picture']['completed'] == 4, report
        assert report['repeated_picture']['completed'] == 2, report
        assert set(urls) == {f'data:image/{t};base64' for t in ('jpeg', 'png', 'webp', 'gif')}, urls
        with open(os.path.join(folder, 'bad.png'), 'w', encoding='ascii') as f:
            f.write('nothing')
        with Script(good) as server:
            assert 'bad.png' in bench(server.url, '--images', folder, code=1)


def answers_in_one_piece():
    """Without a stream there is no first token."""
    def play(handler, body):
        assert 'stream' not in body, body
        handler.reply(200, {'choices': [{'message': {'content': 'a b'}, 'finish_reason': 'stop'}],
                            'usage': {'prompt_tokens': 5, 'completion_tokens': 2}})

    with Script(play) as server:
        server.plays_first = True
        report = bench(server.url, '--num-prompts', '3', '--no-stream')
    assert (report['completed'], report['total_output_tokens']) == (3, 6), report
    assert report['mean_ttft_ms'] is None and report['mean_e2el_ms'] > 0, report


def interrupted():
    """SIGINT: what is under way ends, and all that ended is reported."""
    begun = threading.Event()

    def play(handler, body):
        begun.set()
        time.sleep(0.05)
        good(handler, body)

    with Script(play) as server:
        process = subprocess.Popen([BINARY, 'bench', server.url, '--json', '--duration', '1h',
                                    '--concurrency', '4', '--image-share', '0'],
                                   stdout=subprocess.PIPE, text=True)
        assert begun.wait(60)
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=60)[0]
    assert process.returncode == 0, process.returncode
    report = json.loads(out)
    assert report['completed'] >= 4 and report['failed'] == 0, report


def encrypted():
    """Over TLS, to a server that is trusted, and to none that is not."""
    if not shutil.which('openssl'):
        print('# no openssl to make a certificate with')
        return
    with tempfile.TemporaryDirectory() as folder:
        key, cert = os.path.join(folder, 'key'), os.path.join(folder, 'cert')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
                        '-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout',
                        key, '-out', cert], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with Script(good, context) as server:
            report = bench(server.url, '--num-prompts', '3', '--ca-file', cert)
            assert report['completed'] == 3, report
            assert 'certificate' in bench(server.url, '--num-prompts', '3', code=1)


def the_real_server():
    """The demo: closed and open, with pictures and without."""
    with Server(BINARY, MODEL) as server:
        report = bench(server.url, '--num-prompts', '40', '--concurrency', '8', '--max-tokens', '12',
                       '--repeated-image-share', '0.5', '--goodput', 'ttft:60000')
        assert (report['completed'], report['failed']) == (40, 0), report
        assert 40 <= report['total_output_tokens'] <= 480, report
        assert report['total_image_tokens'] == 40 * 66, report
        assert report['request_goodput'] == report['request_throughput'] > 0, report
        assert report['answers_with_estimated_tokens'] == 0, report
        open_loop = bench(server.url, '--num-prompts', '20', '--request-rate', '50', '--max-tokens',
                          '12', '--image-share', '0.5')
        assert (open_loop['completed'], open_loop['failed']) == (20, 0), open_loop
        people = subprocess.run([BINARY, 'bench', server.url, '--num-prompts', '3'],
                                capture_output=True, text=True, check=True, timeout=60).stdout
        assert 'first token (TTFT)' in people and 'completed' in people, people


sys.exit(tap.need_model(MODEL) or tap.run([
    times_are_those_of_the_server, pieces_may_be_cut_anywhere, errors_have_their_kinds,
    a_server_that_goes_away, late_starts_count, arrivals_keep_their_rate, keys_models_and_eos,
    pictures_are_cold_or_repeated, files_and_folders, answers_in_one_piece, interrupted, encrypted,
    the_real_server]))
