"""The real server under everything at once, for as long as one likes: soak.py COGWHEEL MODEL
[--seconds N]... tests/soak.sh is its front. Every answer is compared with the one that its request
gets alone, and in the end nothing may be left over. Prints TAP, with the figures as comments.
"""
import argparse
import os
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'e2e'))
# pylint: disable=wrong-import-position
import asks
import tap
import watch
from server import Server
from traffic import KEYS, Traffic

SPARE_KEY = 'sk-delta'
HEADERS = {'Authorization': f'Bearer {KEYS[0]}'}
# Small caches, so that they turn over all the time; a short queue, so that it is full now and then.
OPTIONS = ('--kv-cache', '6MiB', '--max-seqs', '24', '--max-queue', '40', '--max-n', '8',
           '--drain-delay', '0', '--slow-reader-timeout', '20s', '--image-helper-timeout', '3s',
           '--image-quarantine', '2s')


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('cogwheel')
    parser.add_argument('model')
    parser.add_argument('--seconds', type=float, default=20)
    parser.add_argument('--clients', type=int, default=48)
    parser.add_argument('--scenes', type=int, default=24, help='pictures beside the files')
    parser.add_argument('--files', type=int, default=24, help='picture files')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--option', action='append', default=[], help='more for cogwheel serve')
    return parser.parse_args()


# ---------------------------------------------------------------- disturbances


class Disturber(threading.Thread):
    """Reloads keys, and stops or kills helper processes, now and then."""

    def __init__(self, server, traffic, key_file, options):
        super().__init__(daemon=True)
        self.server, self.traffic, self.key_file = server, traffic, key_file
        self.period = max(3.0, min(20.0, options.seconds / 10))
        self.until = time.monotonic() + options.seconds - 4  # the last one is back by the end
        self.reloads = self.stopped = self.killed = 0

    def run(self):
        while not self.traffic.is_over.wait(self.period):
            self.reload()
            if time.monotonic() < self.until:
                self.disturb_helper()

    def reload(self):
        """A key comes or goes, while the others are in use."""
        has_spare = self.reloads % 2 == 0
        write_keys(self.key_file, KEYS + ((SPARE_KEY,) if has_spare else ()))
        self.server.process.send_signal(signal.SIGHUP)
        spare = {'Authorization': f'Bearer {SPARE_KEY}'}
        want = 200 if has_spare else 401
        if not watch.until(lambda: self.server.request('GET', '/v1/models', None, spare)[0] == want,
                           20):
            self.traffic.complain(f'SIGHUP: the spare key never got {want}')
        self.reloads += 1

    def disturb_helper(self):
        """Stops and kills in turn."""
        helpers = self.server.helpers()
        if not helpers:
            return
        is_stop = (self.stopped + self.killed) % 2 == 0
        self.traffic.fault()
        try:
            os.kill(helpers[self.reloads % len(helpers)], signal.SIGSTOP if is_stop else signal.SIGKILL)
        except ProcessLookupError:
            return
        self.stopped += is_stop
        self.killed += not is_stop


def write_keys(path, keys):
    """The key file, replaced at once."""
    with open(path + '.new', 'w', encoding='ascii') as f:
        f.write('\n'.join(keys) + '\n')
    os.replace(path + '.new', path)


# ---------------------------------------------------------------- the tests, in order


def each_alone(state):
    """What everything gets when nobody else asks."""
    server, options = state['server'], state['options']
    began = time.monotonic()
    known = [a for a in asks.asks(options.scenes, options.files) if a.solve(server, HEADERS)]
    costly = [a for a in asks.costly() if a.solve(server, HEADERS)]
    bads = list(asks.bads())
    for bad in bads:
        bad.expected = bad.send(server.request, HEADERS)
        assert 400 <= bad.expected[0] < 500 and bad.expected[1], (bad.name, bad.expected)
    texts = {tuple(a.texts) for a in known}
    print(f'# alone: {len(known)} questions with {len(texts)} different answers, {len(bads)} bad '
          f'requests, {time.monotonic() - began:.1f} s')
    assert len(known) > options.scenes, len(known)
    assert len(texts) > len(known) / 4, f'{len(texts)} answers to {len(known)} are too alike'
    again = known[::max(1, len(known) // 10)]
    for ask in again:
        before = ask.texts
        assert ask.solve(server, HEADERS) and ask.texts == before, ask.name
    state.update(asks=known, bads=bads, costly=costly)


def nothing_is_wrong_in_the_crowd(state):
    """The traffic."""
    server, options = state['server'], state['options']
    traffic = Traffic(server, state['asks'], state['bads'], state['costly'])
    time.sleep(0.5)  # until the last connection is closed on both sides
    state['idle_fds'] = watch.descriptors(server.process.pid)
    state['helpers'] = len(server.helpers())
    state['watch'] = watcher = watch.Watch(server, min(1.0, options.seconds / 40))
    disturber = Disturber(server, traffic, state['key_file'], options)
    watcher.start()
    threads = traffic.start(options.clients, options.seed)
    disturber.start()
    time.sleep(options.seconds)
    traffic.is_over.set()
    for t in threads:
        t.join(120)
    disturber.join(60)
    watcher.stop()
    state['faults'] = disturber.stopped + disturber.killed
    report(traffic, disturber, options)
    assert not any(t.is_alive() for t in threads), 'a client never got its answer'
    assert not traffic.wrong, f'{len(traffic.wrong)} wrong:\n' + '\n'.join(traffic.wrong[:20])
    for what in ('whole', 'streamed', 'sent slowly', 'read slowly', 'bad', 'probes'):
        assert traffic.done[what] > 0, (what, traffic.done)
    assert disturber.reloads > 0


def report(traffic, disturber, options):
    """What happened, for people."""
    total = sum(traffic.done.values())
    print(f'# {total} requests of {options.clients} clients in {options.seconds:.0f} s, '
          f'{len(traffic.wrong)} wrong')
    for what, n in sorted(traffic.done.items()):
        print(f'# {n:8} {what}')
    for status, n in sorted(traffic.refused.items()):
        print(f'# {n:8} refused with {status} and Retry-After')
    print(f'# {disturber.reloads} reloads of keys; helpers: '
          + (f'{disturber.stopped} stopped, {disturber.killed} killed'
             if disturber.stopped + disturber.killed else 'none to disturb'))


def it_answers_as_before(state):
    """Alone again."""
    for ask in state['asks'][::max(1, len(state['asks']) // 20)]:
        before = ask.texts
        assert ask.solve(state['server'], HEADERS) and ask.texts == before, ask.name


def memory_and_descriptors_are_flat(state):
    """The rule of watch.py for memory; as many descriptors and helpers as before the crowd."""
    server, watcher = state['server'], state['watch']
    second, last = watcher.quarters()
    print(f'# memory, KiB: median {second:.0f} in the second quarter, {last:.0f} in the last, '
          f'most {max(watcher.rss)}; descriptors: {state["idle_fds"]} idle, most '
          f'{max(watcher.fds)}')
    assert watch.flat(second, last) or server.has_sanitizer(), (second, last)
    pid = server.process.pid
    assert watch.until(lambda: watch.descriptors(pid) == state['idle_fds']), \
        (state['idle_fds'], watch.descriptors(pid))
    assert watch.until(lambda: len(server.helpers()) == state['helpers']), server.helpers()


def metrics_are_at_rest(state):
    """No request is waiting or running."""
    names = ('vllm:num_requests_running', 'vllm:num_requests_waiting')

    def gauges():
        status, _, data = state['server'].request('GET', '/metrics', None, HEADERS)
        assert status == 200, status
        return [float(line.split()[-1]) for line in data.decode().splitlines()
                if line.startswith(names)]
    assert watch.until(lambda: gauges() == [0, 0]), gauges()


def the_stop_leaves_nothing(state):
    """SIGTERM: it ends well, and what it counts is zero."""
    code, stopped = state['server'].stop(signal.SIGTERM)
    assert code == 0, code
    left = {k: stopped[k] for k in ('waiting', 'running', 'kv_pages_used', 'features')}
    print('# ' + ' '.join(f'{k}={v}' for k, v in stopped.items() if k not in ('ts', 'level', 'event')))
    assert set(left.values()) == {'0'}, left
    bad = [line for line in state['server'].log().splitlines() if 'level=error' in line]
    if state['faults']:  # a picture fails with its helper
        bad = [line for line in bad if 'event=picture_failed' not in line]
    assert not bad, bad[:5]


def main():
    """Runs all on one server."""
    options = arguments()
    tap.need_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        key_file = os.path.join(folder, 'keys')
        write_keys(key_file, KEYS)
        with Server(os.path.abspath(options.cogwheel), options.model, '--api-key-file', key_file,
                    *OPTIONS, *options.option) as server:
            state = {'server': server, 'options': options, 'key_file': key_file}
            return tap.run([each_alone, nothing_is_wrong_in_the_crowd, it_answers_as_before,
                            memory_and_descriptors_are_flat, metrics_are_at_rest,
                            the_stop_leaves_nothing], state)


sys.exit(main())
