"""The real server as a test sees it: a process, an address, a log."""
import base64
import http.client
import json
import os
import re
import socket
import subprocess
import tempfile
import time

START_S, STOP_S = 60, 60
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')
ID = re.compile(r'[A-Za-z0-9._:-]{1,128}')
ERROR_TYPE = {401: 'authentication_error', 403: 'permission_error', 408: 'timeout_error',
              429: 'rate_limit_error', 500: 'server_error', 503: 'service_unavailable_error',
              504: 'timeout_error'}


class Server:
    """cogwheel serve on a free port. Ends with the `with` block, killed if it must be.

    wait: until it is ready; else until it listens. early: not even that, see wait_for_address.
    """

    def __init__(self, binary, model, *options, wait=True, early=False):
        clean = {k: v for k, v in os.environ.items() if not k.startswith('COGWHEEL_')}
        self.log_file = tempfile.TemporaryFile(mode='w+', encoding='utf-8')
        self.process = subprocess.Popen(
            [binary, 'serve', '--model', model, '--listen', '127.0.0.1:0',
             '--log-format', 'text', *options],
            stdout=subprocess.DEVNULL, stderr=self.log_file, env=clean)
        try:
            if not early:
                self.wait_for_address()
            if wait and not early:
                self.wait_for('loaded')
                until(lambda: self.get('/readyz')[0] == 200, 'readiness')
        except BaseException:
            self.kill()
            raise

    def wait_for_address(self):
        """Until it listens."""
        address = self.wait_for('listening')['address']
        self.host, port = address.rsplit(':', 1)
        self.port = int(port)
        self.url = f'http://{address}'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """Whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log_file.close()

    def log(self):
        """All that it said so far."""
        self.log_file.seek(0)
        return self.log_file.read()

    def events(self, name):
        """The log's lines of one event, each a dictionary."""
        lines = [fields_of(line) for line in self.log().splitlines()]
        return [line for line in lines if line.get('event') == name]

    def wait_for(self, name):
        """The first line of an event."""
        def seen():
            assert self.process.poll() is None or self.events(name), self.log()
            return self.events(name)
        return until(seen, f'event={name}')[0]

    def stop(self, *signals):
        """Sends the signals; its exit code and the line that says what was left."""
        for number in signals:
            self.process.send_signal(number)
        code = self.process.wait(STOP_S)
        return code, self.events('stopped')[0]

    def helpers(self):
        """Its child processes."""
        folder = f'/proc/{self.process.pid}/task'
        pids = []
        for thread in os.listdir(folder):
            with open(f'{folder}/{thread}/children', encoding='ascii') as f:
                pids += map(int, f.read().split())
        return pids

    def rss_kib(self):
        """Memory in use."""
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as f:
            return int(re.search(r'VmRSS:\s+(\d+)', f.read())[1])

    def has_sanitizer(self):
        """Whether it was built with one, which holds on to memory that was freed."""
        with open(f'/proc/{self.process.pid}/maps', encoding='utf-8') as f:
            return re.search(r'lib[atl]san\.', f.read()) is not None

    def sockets(self):
        """Descriptors that are sockets."""
        folder = f'/proc/{self.process.pid}/fd'
        names = [os.path.join(folder, n) for n in os.listdir(folder)]
        return sum(os.readlink(n).startswith('socket:') for n in names if os.path.islink(n))

    def connect(self):
        """A connection of its own."""
        return http.client.HTTPConnection(self.host, self.port, timeout=STOP_S)

    def request(self, method, path, body=None, headers=None):
        """Status, headers, body bytes."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def exchange(self, *raw):
        """Bytes as they are, each piece for itself; status, headers, body bytes of the first answer
        and whether the connection ended after it."""
        with socket.create_connection((self.host, self.port), STOP_S) as s:
            for piece in raw:
                s.sendall(piece)
            answer = http.client.HTTPResponse(s)
            answer.begin()
            return answer.status, answer.headers, answer.read(), answer.will_close

    def get(self, path):
        """Status, headers, body bytes."""
        return self.request('GET', path)

    def chat(self, body, headers=None):
        """Status, headers, the answer's object."""
        status, head, data = self.request('POST', '/v1/chat/completions', json.dumps(body),
                                          {'Content-Type': 'application/json', **(headers or {})})
        return status, head, json.loads(data)

    def answer(self, body):
        """The text of one answer that must be one."""
        status, _, data = self.chat(body)
        assert status == 200, data
        return data['choices'][0]['message']['content']

    def stream(self, body):
        """An open response whose status is known; close its connection."""
        connection = self.connect()
        connection.request('POST', '/v1/chat/completions', json.dumps({**body, 'stream': True}),
                           {'Content-Type': 'application/json'})
        return connection, connection.getresponse()


def fields_of(line):
    """A line of the log in either form; values as text."""
    if line.startswith('{'):
        return {k: str(v) for k, v in json.loads(line).items()}
    return {k: v.strip('"') for k, v in FIELD.findall(line)}


def until(condition, what):
    """The first true value of condition(), which is tried until then."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f'waited in vain for {what}')


def check_error(got, headers, data, status, code, param=None):
    """An error body has its four members, and words that no gateway takes for a rate limit; its
    message."""
    assert set(data) == {'error'}, data
    assert set(data['error']) == {'message', 'type', 'param', 'code'}, data
    error = data['error']
    assert (got, error['code'], error['param']) == (status, code, param), (got, error)
    assert error['type'] == ERROR_TYPE.get(status, 'invalid_request_error'), error
    if status != 429:
        assert not re.search(r'rate.limit|429', error['message'], re.IGNORECASE), error
    assert not re.search(r'request too large|/(home|tmp|usr)', error['message'],
                         re.IGNORECASE), error
    assert len(error['message']) < 700, error
    assert ('retry-after' in headers) == (status in (429, 503)), headers
    assert 1 <= int(headers.get('retry-after', 1)) <= 60, headers
    assert ID.fullmatch(headers['x-request-id']), headers
    return error['message']


def picture_part(data, media_type='image/png'):
    """The part of a message that holds a picture file."""
    encoded = base64.b64encode(data).decode('ascii')
    return {'type': 'image_url', 'image_url': {'url': f'data:{media_type};base64,{encoded}'}}


def question(text, *parts, **fields):
    """A request: greedy unless the fields say otherwise."""
    content = [*parts, {'type': 'text', 'text': text}]
    return {'temperature': 0, 'messages': [{'role': 'user', 'content': content}], **fields}


def stream_chunks(response):
    """The objects of a stream; it must end as one does."""
    return chunks_of(response.read())


def chunks_of(data):
    """The objects of a stream's bytes."""
    blocks = data.decode('utf-8').split('\n\n')
    blocks = [b for b in blocks if not b.startswith(':')]
    assert blocks[-2:] == ['data: [DONE]', ''], blocks[-2:]
    return [json.loads(b.removeprefix('data: ')) for b in blocks[:-2]]


def events_of(data):
    """The objects of a response's stream, whose events have names, numbers and no [DONE]."""
    blocks = data.decode('utf-8').split('\n\n')
    assert blocks.pop() == '', blocks[-1:]
    events = []
    for block in (b for b in blocks if not b.startswith(':')):
        name, text = block.split('\n')
        event = json.loads(text.removeprefix('data: '))
        assert name == f'event: {event["type"]}' and event['sequence_number'] == len(events), block
        events.append(event)
    return events


def joined(chunks, choice=0):
    """The text of a choice, put together from its chunks."""
    return ''.join(c['delta'].get('content', '') for chunk in chunks for c in chunk['choices']
                   if c['index'] == choice)
