"""The way up and the way down: shutdown.py COGWHEEL MODEL. Prints TAP.

The model's answers must be long: it is any that does not end them by itself within a few tokens.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile

import checkpoint
import pictures
import tap
from server import Server, joined, picture_part, question, stream_chunks, until

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
TEMPORARY = tempfile.TemporaryDirectory()
SLOW = TEMPORARY.name
LONG = question('Describe this image.', picture_part(pictures.scene(3)), max_tokens=1900)
ENDLESS = {**LONG, 'n': 8}  # takes many seconds on the slow model
ONE_BY_ONE = ('--dtype', 'f32', '--max-seqs', '1')


def error_of(data):
    """Code and type of an error body."""
    error = json.loads(data)['error']
    assert set(error) == {'message', 'type', 'param', 'code'}, error
    return error['code'], error['type']


def begin_streams(server, number, body):
    """Streams of which the first bytes have come."""
    streams = [server.stream(body) for _ in range(number)]
    for _, answer in streams:
        assert answer.status == 200, answer.read()
        answer.peek(1)
    return streams


def wait_for_stop_to_begin(server):
    """The signal was seen."""
    return until(lambda: len(server.events('phase')) > 1, 'the way down')


def running_streams_finish():
    """Readiness falls at once, new work is refused, what runs ends well; exit code 0."""
    with Server(BINARY, MODEL, '--drain-delay', '8s', '--drain-timeout', '10min') as server:
        _, _, alone = server.chat(LONG)
        assert alone['choices'][0]['finish_reason'] == 'length', 'not a model for this test'
        streams = begin_streams(server, 6, LONG)
        server.process.send_signal(signal.SIGTERM)
        wait_for_stop_to_begin(server)
        status, _, body = server.get('/readyz')
        assert (status, json.loads(body)['status']) == (503, 'draining'), body
        assert server.get('/livez')[0] == 200
        assert server.get('/health')[0] == 503
        status, head, body = server.request('POST', '/v1/chat/completions', json.dumps(LONG),
                                            {'Content-Type': 'application/json'})
        assert status == 503, body
        assert error_of(body) == ('server_draining', 'service_unavailable_error')
        assert (head['Retry-After'], head['Connection']) == ('1', 'close'), head
        for connection, answer in streams:
            chunks = stream_chunks(answer)
            assert joined(chunks) == alone['choices'][0]['message']['content']
            assert chunks[-1]['choices'][0]['finish_reason'] == 'length'
            connection.close()
        code, left = server.stop()
        assert code == 0 and left['running'] == left['kv_pages_used'] == left['features'] == '0'


def what_takes_too_long_is_told():
    """After the drain time-out a stream ends with an error inside it, and a whole one with 503."""
    with Server(BINARY, SLOW, *ONE_BY_ONE, '--drain-delay', '0', '--drain-timeout',
                '0') as server:
        [(connection, answer)] = begin_streams(server, 1, ENDLESS)
        waiting = server.connect()
        waiting.request('POST', '/v1/chat/completions', json.dumps(LONG),
                        {'Content-Type': 'application/json'})
        assert server.get('/livez')[0] == 200
        assert server.stop(signal.SIGTERM)[0] == 0
        chunks = stream_chunks(answer)
        assert chunks[-1]['error']['code'] == 'server_draining', chunks[-1]
        whole = waiting.getresponse()
        assert whole.status == 503 and error_of(whole.read())[0] == 'server_draining'
        connection.close()
        waiting.close()


def a_second_signal_stops_now():
    """Though the drain would take an hour."""
    for second in (signal.SIGTERM, signal.SIGINT):
        with Server(BINARY, SLOW, *ONE_BY_ONE, '--drain-delay', '1h', '--drain-timeout',
                    '1h') as server:
            [(connection, answer)] = begin_streams(server, 1, ENDLESS)
            server.process.send_signal(signal.SIGTERM)
            wait_for_stop_to_begin(server)
            assert server.stop(second)[0] == 0
            try:
                text = answer.read()
            except (OSError, http.client.IncompleteRead):
                text = b''
            assert b'[DONE]' not in text, 'the stream came to its end'
            connection.close()


def idle_connections_do_not_hold_it_up():
    """Clients that keep a connection open, or send nothing at all."""
    with Server(BINARY, MODEL, '--drain-delay', '0', '--drain-timeout', '1h') as server:
        idle = [socket.create_connection((server.host, server.port)) for _ in range(5)]
        kept = server.connect()
        kept.request('GET', '/livez')
        kept.getresponse().read()
        assert server.stop(signal.SIGTERM)[0] == 0
        for s in idle:
            s.close()
        kept.close()


def a_killed_client_frees_its_place():
    """A process that dies without a word: its request ends, the next one is answered."""
    with Server(BINARY, SLOW, *ONE_BY_ONE, '--drain-delay', '0') as server:
        alone = server.answer({**LONG, 'max_tokens': 20})
        child = os.fork()
        if child == 0:
            connection, answer = server.stream(ENDLESS)
            answer.peek(1)
            os.kill(os.getpid(), signal.SIGKILL)
            connection.close()
        os.waitpid(child, 0)
        assert server.answer({**LONG, 'max_tokens': 20}) == alone
        gone = until(lambda: [e for e in server.events('request') if e['status'] == '499'],
                     'the log line of the client that left')
        assert gone[0]['abort_stage'] in ('queue', 'prefill', 'decode'), gone
        code, left = server.stop(signal.SIGTERM)
        assert code == 0 and left['running'] == left['kv_pages_used'] == '0'
        assert int(left['tokens']) < ENDLESS['n'] * ENDLESS['max_tokens'], left


def see_it_load(folder):
    """What /readyz said before it was ready; every answer on the way is looked at."""
    seen = []
    with Server(BINARY, folder, '--drain-delay', '0', '--dtype', 'f32', '--max-seqs', '1',
                wait=False) as server:
        while True:
            status, _, body = server.get('/readyz')
            state = json.loads(body)
            if status == 200:
                assert state == {'status': 'ready', 'progress': 1.0}, state
                break
            assert (status, state['status']) == (503, 'loading'), body
            assert (seen or [0])[-1] <= state['progress'] <= 1, (seen, state)
            seen.append(state['progress'])
            assert server.get('/livez')[0] == 200
            status, head, body = server.request('POST', '/v1/chat/completions', json.dumps(LONG),
                                                {'Content-Type': 'application/json'})
            if status == 503:
                assert error_of(body) == ('model_loading', 'service_unavailable_error')
                assert 1 <= int(head['Retry-After']) <= 60, head
        assert server.chat({**LONG, 'max_tokens': 3})[0] == 200
        assert server.stop(signal.SIGTERM)[0] == 0
    return seen


def probes_answer_while_it_loads():
    """Alive at once, ready when the weights are there."""
    # a fast machine may be done before the first question
    assert any(see_it_load(SLOW) for _ in range(5)), 'never seen loading'


def a_broken_model_ends_it():
    """Exit code 1 and the reason in the log; never ready."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(os.path.join(MODEL, 'config.json'), folder)
        with Server(BINARY, folder, wait=False) as server:
            assert server.process.wait(60) == 1
            assert server.events('engine_failed'), server.log()


TESTS = [running_streams_finish, what_takes_too_long_is_told, a_second_signal_stops_now,
         idle_connections_do_not_hold_it_up, a_killed_client_frees_its_place,
         probes_answer_while_it_loads, a_broken_model_ends_it]
with TEMPORARY:
    checkpoint.grow(MODEL, SLOW, 100000)
    code = tap.run(TESTS)
sys.exit(code)
