"""Structured output of the real server: structured.py COGWHEEL MODEL [--schemas N] [--regexes N].
Random schemas and regular expressions, drawn hot; every finished answer is valid, as Python's re and,
where it is installed, python3-jsonschema say. Prints TAP.
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import random
import re
import statistics
import sys
import time

import tap
from server import Server, picture_part, question

try:
    import jsonschema
except ImportError:
    sys.path.append('/usr/lib/python3/dist-packages') # Debian's, also for another Python
    try:
        import jsonschema
    except ImportError:
        jsonschema = None

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARSER = argparse.ArgumentParser()
PARSER.add_argument('binary')
PARSER.add_argument('model')
PARSER.add_argument('--schemas', type=int, default=60)
PARSER.add_argument('--regexes', type=int, default=60)
ARGS = PARSER.parse_args()
BINARY, MODEL = os.path.abspath(ARGS.binary), os.path.abspath(ARGS.model)
SCENE = os.path.join(MODEL, 'samples', '02.jpg')
BOX = re.compile(r'(\d{3}),(\d{3}),(\d{3}),(\d{3})')
NAMES = ['name', 'count', 'x', '\u00fcber', 'a"b', 'kind of', 'na', 'names']


def random_scalar(rng):
    """A schema of a value without parts."""
    low = rng.randint(-2000, 2000)
    return rng.choice((
        lambda: {'type': 'string', 'maxLength': rng.randint(0, 12)},
        lambda: {'type': 'string', 'minLength': 2, 'maxLength': rng.randint(2, 6)},
        lambda: {'type': 'string', 'pattern': rng.choice(('^[a-z]{1,5}$', '^\\d{3}(-\\d+)?$', '^"?x$'))},
        lambda: {'type': 'string', 'format': rng.choice(('date', 'time', 'date-time', 'uuid'))},
        lambda: {'type': 'integer', 'minimum': low, 'maximum': low + rng.randint(0, 5000)},
        lambda: {'type': 'integer', 'minimum': low},
        lambda: {'type': 'integer'}, lambda: {'type': 'number'},
        lambda: {'type': rng.choice(('boolean', 'null', ['null', 'integer']))},
        lambda: {'enum': rng.sample(['a', 'b"', 1, 2.5, None, True, [1], {'k': 'v'}], 3)},
        lambda: {'const': rng.choice(['only', 7])}))()


def random_schema(rng, depth):
    """A schema of the supported subset."""
    kind = rng.randrange(5) if depth else 4
    if kind == 0:
        names = rng.sample(NAMES, rng.randint(0, 4))
        schema = {'type': 'object', 'properties': {n: random_schema(rng, depth - 1) for n in names},
                  'required': [n for n in names if rng.random() < 0.5]}
        if rng.random() < 0.2:
            schema['additionalProperties'] = random_scalar(rng)
        return schema
    if kind == 1:
        least = rng.randint(0, 2)
        return {'type': 'array', 'items': random_schema(rng, depth - 1), 'minItems': least,
                'maxItems': least + rng.randint(0, 3)}
    if kind == 2:
        return {'anyOf': [random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]}
    if kind == 3:
        return {'type': 'array', 'prefixItems': [random_schema(rng, depth - 1) for _ in range(2)],
                'items': rng.choice([False, {'type': 'integer'}]), 'maxItems': 3}
    return random_scalar(rng)


def random_regex(rng, depth):
    """An expression that Python reads alike."""
    kind = rng.randrange(5) if depth else 4
    if kind == 0:
        return random_regex(rng, depth - 1) + random_regex(rng, depth - 1)
    if kind == 1:
        return '(?:' + random_regex(rng, depth - 1) + '|' + random_regex(rng, depth - 1) + ')'
    if kind in (2, 3):
        low = rng.randint(0, 2)
        return '(?:' + random_regex(rng, depth - 1) + ')' + rng.choice(
            ('?', f'{{{low}}}', f'{{{low},{low + 3}}}', '{0,2}?'))
    return rng.choice(('a', 'yes', '[a-f]', '[^a-z]', '\\d', '\\w', '\\s', '.', '\u00e9', '[\u00e0-\u00ff ]', '\\.'))


def ask_all(server, requests):
    """Answers, some at a time: (text, finish reason). Requests without messages ask the same."""
    def ask(fields):
        body = {**question('What is it?'), 'temperature': 1.5, 'max_tokens': 300, **fields}
        status, _, data = server.chat(body)
        assert status == 200, (fields, data)
        choice = data['choices'][0]
        return choice['message']['content'], choice['finish_reason']

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, requests))


def answers_are_valid_by_their_schemas(server):
    """Those that ended by themselves; a number must."""
    if not jsonschema:
        raise tap.Skip('python3-jsonschema is not installed')
    rng = random.Random(11)
    schemas = [random_schema(rng, 3) for _ in range(ARGS.schemas)]
    answers = ask_all(server, [
        {'response_format': {'type': 'json_schema', 'json_schema': {'name': 'x', 'schema': s}},
         'seed': i} for i, s in enumerate(schemas)])
    validator = jsonschema.Draft202012Validator
    formats = getattr(validator, 'FORMAT_CHECKER', None) or jsonschema.draft202012_format_checker
    finished = 0
    for schema, (text, reason) in zip(schemas, answers):
        if reason != 'stop':
            continue
        finished += 1
        validator(schema, format_checker=formats).validate(json.loads(text))
    print(f'# {finished} of {len(schemas)} answers ended and are valid')
    assert finished > len(schemas) / 2, finished


def answers_match_their_expressions(server):
    """The whole answer, as Python sees it."""
    rng = random.Random(12)
    sources = [random_regex(rng, 4) for _ in range(ARGS.regexes)]
    answers = ask_all(server, [{'structured_outputs': {'regex': s}, 'seed': i}
                               for i, s in enumerate(sources)])
    finished = 0
    for source, (text, reason) in zip(sources, answers):
        if reason == 'stop':
            finished += 1
            assert re.fullmatch(source, text), (source, text)
    print(f'# {finished} of {len(sources)} answers ended and match')
    assert finished > len(sources) * 0.8, finished


def any_object_is_an_object(server):
    """Where it ended; what the limit cut begins as one."""
    answers = ask_all(server, [{'response_format': {'type': 'json_object'}, 'seed': i}
                               for i in range(20)])
    for text, reason in answers:
        assert text.startswith('{'), text
        if reason == 'stop':
            assert isinstance(json.loads(text), dict), text


def a_choice_is_one_of_them(server):
    """And the only one, if there is one; also in a stream, and as several."""
    for choices in (['no other'], ['yes', 'no'], [' a dog', '{}', 'n\u00e9']):
        for text, reason in ask_all(server, [{'guided_choice': choices, 'n': 2, 'seed': i}
                                             for i in range(4)]):
            assert text in choices and reason == 'stop', (choices, text, reason)


def is_well_formed(text):
    """Each "[[" begins boxes that are some, but for one that the output limit cut."""
    for group in text.split('[[')[1:]:
        inside, end, _ = group.partition(']]')
        boxes = [BOX.fullmatch(b) for b in inside.split(';')]
        if not end or not all(b and b[1] <= b[3] and b[2] <= b[4] for b in boxes):
            return False
    return True


def boxes_are_well_formed(server):
    """Drawn hot, alone and with words around them, with a bias for their beginning and without;
    the same requests without the form give others."""
    with open(SCENE, 'rb') as f:
        part = picture_part(f.read(), 'image/jpeg')
    asked = [question(text, part, template_version='base', temperature=1.5, seed=seed, max_tokens=120,
                      **fields)
             for seed in range(12)
             for fields in ({}, {'logit_bias': {str(token): 9 for token in token_ids(server, '[[')}})
             for text in ('Where is the clock? answer in [[x0,y0,x1,y1]] format.',
                          'Can you provide a description of the image and include the coordinates '
                          '[[x0,y0,x1,y1]] for each mentioned object?')]
    free = ask_all(server, asked)
    held = ask_all(server, [{**a, 'structured_outputs': {'boxes': True}} for a in asked])
    ended = [text for text, reason in held if reason == 'stop']
    wrong = [text for text in ended if not is_well_formed(text)]
    assert not wrong, wrong
    n_boxes = sum(len(BOX.findall(text)) for text in ended)
    n_broken = sum(not is_well_formed(text) for text, reason in free if reason == 'stop')
    print(f'# {len(ended)} of {len(held)} answers ended, {n_boxes} boxes; free, {n_broken} are broken')
    assert len(ended) > len(held) / 2 and n_boxes > len(ended) and n_broken > 0


def token_ids(server, text):
    """Of a word."""
    body = json.dumps({'prompt': 'a ' + text, 'add_special_tokens': False})
    status, _, data = server.request('POST', '/tokenize', body,
                                     {'Content-Type': 'application/json'})
    assert status == 200, data
    return json.loads(data)['tokens'][1:]


def words_do_not_come_up(server):
    """Neither as words nor inside of others, in chats and in texts that go on."""
    usual, _ = ask_all(server, [{'temperature': 0}])[0]
    words = sorted({w for w in re.findall('[a-z]{2,}', usual)})[:4] + ['e']
    assert len(words) > 1, usual
    for text, _ in ask_all(server, [{'bad_words': words, 'seed': i, 'temperature': t, 'n': 2}
                                    for i, t in enumerate((0, 1, 1.5))]):
        assert text and not any(w in text for w in words), (words, text)
    for seed in range(4):
        status, _, data = server.request('POST', '/v1/completions', json.dumps(
            {'prompt': 'Question: What is this? Answer:', 'bad_words': [' a', 'e'], 'seed': seed,
             'max_tokens': 30, 'ignore_eos': True}), {'Content-Type': 'application/json'})
        text = json.loads(data)['choices'][0]['text']
        assert status == 200 and text and ' a' not in text and 'e' not in text, data


def the_documented_example_works(server):
    """As docs/api.md has it, with a picture in the place of its dots."""
    with open(os.path.join(ROOT, 'docs/api.md'), encoding='utf-8') as f:
        blocks = re.findall(r'```json\n(.*?)```', f.read(), re.DOTALL)
    body = json.loads(next(b for b in blocks if 'response_format' in b))
    with open(SCENE, 'rb') as f:
        body['messages'][0]['content'][0] = picture_part(f.read(), 'image/jpeg')
    status, _, data = server.chat({**body, 'temperature': 0})
    assert status == 200, data
    answer = json.loads(data['choices'][0]['message']['content'])
    assert answer['thing'] in ('clock', 'cat', 'bus') and 0 <= answer['count'] <= 9, answer
    assert all(len(word) <= 12 for word in answer.get('words', [])), answer


def speed(server):
    """Measured and printed: tokens a second with a schema and without, in turns."""
    schema = {'type': 'array', 'items': {'type': 'string', 'maxLength': 20}, 'minItems': 40}
    rates = {'plain': [], 'schema': []}
    for kind, i in itertools.product(rates, range(5)):
        fields = {'guided_json': schema} if kind == 'schema' else {'ignore_eos': True}
        began = time.monotonic()
        _, _, data = server.chat(question('What is it?', temperature=1, max_tokens=400, seed=i,
                                          **fields))
        rates[kind].append(data['usage']['completion_tokens'] / (time.monotonic() - began))
    plain, held = (statistics.median(rates[k]) for k in ('plain', 'schema'))
    print(f'# {plain:.0f} tokens/s, with a schema {held:.0f} ({held / plain:.0%})')


def main():
    """One server for all."""
    tap.need_model(MODEL)
    with Server(BINARY, MODEL) as server:
        return tap.run([answers_are_valid_by_their_schemas, answers_match_their_expressions,
                        any_object_is_an_object, a_choice_is_one_of_them,
                        boxes_are_well_formed, words_do_not_come_up,
                        the_documented_example_works, speed], server)


sys.exit(main())
