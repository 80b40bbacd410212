"""Signals that come early, and a file of keys that cannot be read at once: signals.py COGWHEEL MODEL.
Prints TAP."""
import errno
import os
import signal
import sys
import tempfile

import tap
from server import Server, question, until

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SHORT = question('Which?', max_tokens=1)


class SlowKeys:
    """A file of keys which whoever opens it reads when this says so. For each reading the path leads
    to another pipe."""

    def __init__(self, folder):
        self.path = os.path.join(folder, 'keys')
        self.number = 0
        self.end = None
        self.renew()

    def renew(self):
        """The next reading finds a new pipe."""
        self.number += 1
        self.pipe = f'{self.path}.{self.number}'
        os.mkfifo(self.pipe)
        os.symlink(self.pipe, f'{self.path}.new')
        os.rename(f'{self.path}.new', self.path)

    def wait_for_reader(self):
        """Until somebody reads, who then goes on waiting."""
        def opened():
            try:
                return os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as e:
                assert e.errno == errno.ENXIO, e
                return None
        self.end = until(opened, 'the file of keys to be read')

    def let_read(self, text):
        """What the reader gets."""
        self.renew()
        os.write(self.end, text)
        os.close(self.end)


def status_with(server, key):
    """What a request with the key gets."""
    return server.chat(SHORT, {'Authorization': f'Bearer {key}'})[0]


def start_with(keys, *signals):
    """A server to which the signals are sent at two moments of its start: while it reads its options,
    and while it opens. That it reads the file twice is not for this test to judge."""
    server = Server(BINARY, MODEL, '--drain-delay', '0', '--api-key-file', keys.path, early=True)
    try:
        for number in signals:
            keys.wait_for_reader()
            if number:
                server.process.send_signal(number)
            keys.let_read(b'one\n')
    except BaseException:
        server.kill()
        raise
    return server


def an_early_hangup_is_obeyed_later():
    """And while the file hangs the server answers; it is read once more when it was asked to meanwhile,
    however often."""
    with tempfile.TemporaryDirectory() as folder:
        keys = SlowKeys(folder)
        with start_with(keys, signal.SIGHUP, signal.SIGHUP) as server:
            server.wait_for_address()
            keys.wait_for_reader()
            until(lambda: server.get('/readyz')[0] == 200, 'readiness')
            for _ in range(3):
                server.process.send_signal(signal.SIGHUP)
                assert status_with(server, 'one') == 200
            assert not server.events('keys_read'), server.log()
            keys.let_read(b'two\n')
            keys.wait_for_reader()
            until(lambda: status_with(server, 'two') == 200, 'the new key')
            assert status_with(server, 'one') == 401
            keys.let_read(b'three\n')
            until(lambda: status_with(server, 'three') == 200, 'the newest key')
            assert server.stop(signal.SIGTERM)[0] == 0
            assert [e['keys'] for e in server.events('keys_read')] == ['1', '1'], server.log()


def an_early_end_is_an_orderly_one():
    """As soon as the loop runs, and as if the signal had come then."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with tempfile.TemporaryDirectory() as folder:
            keys = SlowKeys(folder)
            with start_with(keys, None, number) as server:
                code, left = server.stop()
                assert code == 0 and left['running'] == '0', (code, left)
                assert [e['number'] for e in server.events('signal')] == [str(int(number))]


sys.exit(tap.run([an_early_hangup_is_obeyed_later, an_early_end_is_an_orderly_one]))
