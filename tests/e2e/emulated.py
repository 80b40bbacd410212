"""The server with its CUDA backend on the emulator against the server on the CPU: emulated.py
COGWHEEL-EMULATED COGWHEEL MODEL. The same questions must get the same answers. Prints TAP.
"""
import concurrent.futures
import json
import os
import sys
import threading
import time

import tap
from server import STOP_S, Server, joined, picture_part, question, stream_chunks

TYPES = {'.jpg': 'image/jpeg', '.png': 'image/png', '.webp': 'image/webp', '.gif': 'image/gif'}
SECONDS = 30  # for as many questions as there is time for, but for some in any case
LEAST = 8
LAUNCHES = 2000  # of kernels, until the device breaks: well after the start


def asks(folder):
    """The samples' questions: one of each picture, then the second of each, and so on."""
    with open(os.path.join(folder, 'samples.json'), encoding='utf-8') as f:
        samples = json.load(f)
    for number in range(max(len(s['cases']) for s in samples)):
        for sample in samples:
            if number < len(sample['cases']):
                path = os.path.join(folder, sample['image'])
                with open(path, 'rb') as f:
                    part = picture_part(f.read(), TYPES[os.path.splitext(path)[1]])
                case = sample['cases'][number]
                yield question(case['question'], part, max_tokens=48,
                               chat_template_kwargs={'template_version': case['template']})


def answers_are_those_of_the_cpu(state):
    """One after another, for a while."""
    began, n = time.monotonic(), 0
    for ask in state['asks']:
        if n >= LEAST and time.monotonic() - began > SECONDS:
            break
        got, want = (state[side].answer(ask) for side in ('cuda', 'cpu'))
        assert got == want, f'{n}: {got!r} instead of {want!r}'
        assert got
        n += 1
    print(f'# {n} of {len(state["asks"])} questions in {time.monotonic() - began:.1f} s')


def company_changes_nothing(state):
    """Several at once, streamed, some sampled."""
    chosen = state['asks'][:4]
    for i in (1, 3):
        chosen[i] = {**chosen[i], 'temperature': 0.7, 'seed': i}
    texts = {}

    def ask(side, i):
        connection, response = state[side].stream(chosen[i])
        texts[side, i] = joined(stream_chunks(response))
        connection.close()

    for side in ('cuda', 'cpu'):
        threads = [threading.Thread(target=ask, args=(side, i)) for i in range(len(chosen))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    for i in range(len(chosen)):
        assert texts['cuda', i] == texts['cpu', i], (texts['cuda', i], texts['cpu', i])


def the_backend_is_the_one_asked_for(state):
    """As the log says."""
    for side in ('cuda', 'cpu'):
        assert state[side].events('memory_plan')[0]['backend'] == side


def a_broken_device_ends_the_server(state):
    """Requests under way and waiting end with an error, the program with 1."""
    os.environ['CUDAEMU_FAIL_AFTER'] = str(LAUNCHES)
    try:
        server = Server(state['binary'], state['model'], '--backend', 'cuda')
    finally:
        del os.environ['CUDAEMU_FAIL_AFTER']
    with server:
        good = []

        def ask_until_refused():
            while True:
                try:
                    status, _, answer = server.chat(state['asks'][0])
                except ConnectionError:
                    return None, None  # it ended between two questions
                if status != 200:
                    return status, answer['error']
                good.append(answer)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ends = [f.result() for f in [pool.submit(ask_until_refused) for _ in range(2)]]
        assert good, 'it broke before the first answer'
        assert all(status in (None, 500, 503) for status, _ in ends), ends
        assert 500 in (status for status, _ in ends), ends
        assert server.process.wait(STOP_S) == 1
        assert server.events('engine_failed'), server.log()


def main():
    """Both servers in f32, where no two tokens are equally likely."""
    emulated, native, model = (os.path.abspath(a) for a in sys.argv[1:4])
    tap.need_model(model)
    with Server(emulated, model, '--backend', 'cuda', '--dtype', 'f32') as cuda, \
         Server(native, model, '--backend', 'cpu', '--dtype', 'f32') as cpu:
        state = {'cuda': cuda, 'cpu': cpu, 'binary': emulated, 'model': model,
                 'asks': list(asks(model))}
        return tap.run([the_backend_is_the_one_asked_for, answers_are_those_of_the_cpu,
                        company_changes_nothing, a_broken_device_ends_the_server], state)


sys.exit(main())
