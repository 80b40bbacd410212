"""Pictures are decoded in helper processes: what becomes of requests when those are killed, stopped
or broken by a picture."""
import os
import signal
import sys
import threading
import time

import pictures
import tap
from server import Server, picture_part, question, until

REQUESTS, CLIENTS = 120, 6
TIMEOUT_S = 2


def fields(pid):
    """The lines of /proc/PID/status."""
    with open(f'/proc/{pid}/status', encoding='utf-8') as f:
        return {k: v.strip() for k, v in (line.split(':', 1) for line in f)}


def helpers(server):
    """The process ids of its helpers that have begun to serve and live."""
    found = []
    for pid in server.helpers():
        try:
            status = fields(pid)
        except OSError:
            continue
        if status['Name'] == 'cog-decode' and status['State'][0] != 'Z':
            found.append(pid)
    return found


def ask(number):
    """A question about a picture of its own."""
    return question('What is shown?', picture_part(pictures.scene(number)), max_tokens=4)


def has_filter(server):
    """Whether this machine and this build allow the whole sandbox."""
    return server.wait_for('image_sandbox')['filter'] == 'yes'


def helpers_are_locked_in(server):
    """No privileges to be had, a filter, no descriptors but the socket, another session."""
    assert len(helpers(server)) == 2
    for pid in helpers(server):
        assert os.getsid(pid) != os.getsid(server.process.pid)
        if has_filter(server):
            status = fields(pid)
            assert status['Seccomp'] == '2' and status['NoNewPrivs'] == '1', status
            with open(f'/proc/{pid}/limits', encoding='ascii') as f:
                limits = {line[:26].strip(): line[26:].split()[0] for line in f}
            assert limits['Max core file size'] == '0', limits
            assert int(limits['Max open files']) <= 8, limits
            assert limits['Max address space'] != 'unlimited', limits
        if os.access(f'/proc/{pid}/fd', os.R_OK):
            names = [os.readlink(f'/proc/{pid}/fd/{n}') for n in os.listdir(f'/proc/{pid}/fd')]
            assert sum(n.startswith('socket:') for n in names) == 1, names
            assert len(names) == 4, names


def attack(server, is_over, hits):
    """Kills and stops helpers until it is over."""
    while not is_over.is_set():
        for pid in helpers(server)[:1]:
            try:
                os.kill(pid, signal.SIGSTOP if hits['n'] % 4 == 3 else signal.SIGKILL)
                hits['n'] += 1
            except OSError:
                pass
        time.sleep(0.15)


def only_their_requests_fail(server):
    """Under kills and stops every answer is right or an internal error, and few are errors."""
    expected = [server.answer(ask(n)) for n in range(REQUESTS)]
    results, numbers, hits = [None] * REQUESTS, iter(range(REQUESTS)), {'n': 0}
    is_over, lock = threading.Event(), threading.Lock()

    def client():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            status, head, data = server.chat(ask(number))
            results[number] = (status, data, head)

    attacker = threading.Thread(target=attack, args=(server, is_over, hits))
    attacker.start()
    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    is_over.set()
    attacker.join()
    failed = 0
    for number, (status, data, _) in enumerate(results):
        if status == 200:
            assert data['choices'][0]['message']['content'] == expected[number], number
        else:
            failed += 1
            assert (status, data['error']['code']) == (500, 'internal_error'), data
    print(f'# {REQUESTS - failed} answered, {failed} failed, {hits["n"]} helpers killed or stopped')
    assert failed <= hits['n'] and hits['n'] > 0


def helpers_come_back(server):
    """As many as there were, and the stopped ones are gone."""
    def running():
        return len([p for p in helpers(server) if fields(p)['State'][0] != 'T']) == 2

    until(lambda: server.chat(ask(1000))[0] == 200 and running(), 'helpers')


def a_picture_that_breaks_a_helper_is_refused(server):
    """The helper dies while it has the picture: 500, then request_quarantined, others unaffected."""
    side = 9000
    large = pictures.palette_png(side, side, bytes(side * side), [(9, 9, 9)])
    large = question('What is shown?', picture_part(large), max_tokens=1)
    until(lambda: len(helpers(server)) == 2, 'helpers')
    answer = {}
    thread = threading.Thread(target=lambda: answer.update(first=server.chat(large)))
    thread.start()
    busy = until(lambda: [p for p in helpers(server) if fields(p)['State'][0] == 'R'],
                 'a helper at work')
    os.kill(busy[0], signal.SIGKILL)
    thread.join()
    status, _, data = answer['first']
    assert (status, data['error']['code']) == (500, 'internal_error'), data
    status, head, data = server.chat(large)
    assert (status, data['error']['code']) == (500, 'request_quarantined'), data
    assert data['error']['type'] == 'server_error' and head['x-should-retry'] == 'false', data
    assert data['error']['param'] == 'messages[0].content[0].image_url.url', data
    assert server.chat(ask(2000))[0] == 200


def helpers_end_with_the_server(server):
    """However it ends."""
    pids = helpers(server)
    assert pids
    server.process.kill()
    server.process.wait()

    def gone():
        return not any(os.path.exists(f'/proc/{p}') and fields(p)['State'][0] != 'Z' for p in pids)

    until(gone, 'helpers to go')


def what_is_required_is_there_or_no_server(binary, model):
    """require starts with a filter only; off has no helper."""
    with Server(binary, model, '--image-sandbox', 'off') as server:
        assert not helpers(server) and not server.events('image_sandbox')
        assert server.chat(ask(1))[0] == 200
    with Server(binary, model) as server:
        whole = has_filter(server)
    try:
        with Server(binary, model, '--image-sandbox', 'require') as server:
            assert whole and has_filter(server)
            assert server.chat(ask(1))[0] == 200
    except AssertionError as e:
        assert not whole and 'cannot be decoded in a sandbox' in str(e), e


def main():
    """Most run on one server."""
    binary, model = os.path.abspath(sys.argv[1]), sys.argv[2]
    tap.need_model(model)
    with Server(binary, model, '--image-workers', '2', '--image-helper-timeout',
                f'{TIMEOUT_S}s') as server:
        def on_its_own(_):
            what_is_required_is_there_or_no_server(binary, model)
        on_its_own.__name__ = what_is_required_is_there_or_no_server.__name__
        return tap.run([helpers_are_locked_in, only_their_requests_fail, helpers_come_back,
                        a_picture_that_breaks_a_helper_is_refused, helpers_end_with_the_server,
                        on_its_own], server)


sys.exit(main())
