#!/usr/bin/env python3
"""What it costs to hold answers to a form: tokens a second with a schema against those without, on one
server, in pairs of runs that take turns.

A run asks so many requests at once; both runs of a pair have the same prompts and seeds and make the
same number of tokens: the free one goes on, past its end, as long as the held one did. The first pair
is told apart, because it compiles the schema and finds its masks for the first time.

    tools/structured_speed.py build/cogwheel models/demo

Options after the model go to `cogwheel serve`."""
import argparse
import concurrent.futures
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tests', 'e2e'))
import server as e2e  # noqa: E402

RECORD = {'type': 'object', 'properties': {
    'thing': {'type': 'string', 'maxLength': 24}, 'kind': {'enum': ['animal', 'shape', 'tool', 'other']},
    'count': {'type': 'integer', 'minimum': 0, 'maximum': 99}, 'is_large': {'type': 'boolean'},
    'box': {'type': 'array', 'items': {'type': 'number'}, 'minItems': 4, 'maxItems': 4}},
    'required': ['thing', 'kind', 'count', 'is_large', 'box']}
FORMS = {'record': RECORD,
         'list of records': {'type': 'array', 'items': RECORD, 'minItems': 3, 'maxItems': 6},
         'words': {'type': 'array', 'items': {'type': 'string', 'maxLength': 20}, 'minItems': 40},
         'any value': {}}


def ask(server, number, fields):
    """Tokens of an answer."""
    status, _, data = server.chat(e2e.question(
        f'What is the {number}th thing?', seed=number, **fields))
    assert status == 200, data
    return data['usage']['completion_tokens']


def run(server, pool, each):
    """Asks all at once: seconds, tokens of each."""
    began = time.monotonic()
    tokens = list(pool.map(lambda a: ask(server, *a), enumerate(each)))
    return time.monotonic() - began, tokens


def measure(server, schema, clients, options):
    """Tokens a second, free and held, of each pair."""
    free, held = [], []
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for _ in range(options.pairs + 1):
            fields = {'temperature': options.temperature, 'cache_prompt': False}
            seconds, tokens = run(server, pool, [{**fields, 'guided_json': schema,
                                                  'max_tokens': options.tokens}] * clients)
            held.append(sum(tokens) / seconds)
            seconds, again = run(server, pool, [{**fields, 'ignore_eos': True, 'max_tokens': n}
                                                 for n in tokens])
            assert again == tokens, (again, tokens)
            free.append(sum(tokens) / seconds)
    return free, held


def main():
    """Measures and prints."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('binary')
    p.add_argument('model')
    p.add_argument('--pairs', type=int, default=15)
    p.add_argument('--clients', type=int, nargs='+', default=[1, 8, 16], help='requests at once')
    p.add_argument('--tokens', type=int, default=400, help='of an answer, at most')
    p.add_argument('--temperature', type=float, default=1)
    args, options = p.parse_known_args()
    with e2e.Server(args.binary, args.model, *options) as server:
        for name, schema in FORMS.items():
            for clients in args.clients:
                free, held = measure(server, schema, clients, args)
                ratios = sorted(h / f for h, f in zip(held[1:], free[1:]))
                print(f'{name:16} {clients:3} at once: {statistics.median(free[1:]):7.0f} tokens/s free, '
                      f'{statistics.median(held[1:]):7.0f} held: {statistics.median(ratios):.0%} '
                      f'({ratios[len(ratios) // 4]:.0%} to {ratios[-1 - len(ratios) // 4]:.0%}); '
                      f'first {held[0] / free[0]:.0%}', flush=True)


if __name__ == '__main__':
    main()
