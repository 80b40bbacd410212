"""Whether /openapi.json says the truth: openapi.py COGWHEEL DEMO-MODEL [--seconds N] [--seed N].
Prints TAP.

Requests are made from the document, by its schemas and one step beside them; what the server answers
must be in the document. openapi-3.1.json is the OpenAPI Initiative's schema of such documents
(Apache-2.0).

A long run, on 1 December 2026 with the demo model, `--seconds 330 --seed 7`: 6,264 requests one step
beside a schema, 24,816 random ones (13,652 answered, and 2,186 conversations of batches, beside
1,971 that had an error of their own), no 5xx, no answer that the document does not have. The run before
it found that /tokenize looked at the model's name before the fields.
"""
import argparse
import copy
import json
import os
import random
import re
import sys
import time
import urllib.parse

import pictures
import tap
from server import Server, chunks_of, events_of, picture_part

try:
    import jsonschema
except ImportError:
    sys.exit(tap.skip_all('there is no python3-jsonschema'))

HERE = os.path.dirname(os.path.abspath(__file__))
BIG = 10**9
TEXTS = ('', 'a', 'What is shown?', 'na\u00efve \u4e2d\u6587 \U0001f600', '</s> <EOI>', 'x' * 300)
WRONG = (True, 7, 0.5, 'no', [[]], {'no': 1})
PICTURE = picture_part(pictures.scene(1))['image_url']['url']
# what ends an answer at once, so that a limit can be as high as it may be
SHORT = {'temperature': 0, 'logit_bias': {'2': 100}}
CHAT = {'messages': [{'role': 'user', 'content': 'Hi'}], 'max_completion_tokens': 1, **SHORT}
# a request that is right, of each schema
PLAIN = {'ChatRequest': CHAT, 'ResponseRequest': {'input': 'Hi', 'max_output_tokens': 1, **SHORT},
         'BatchRequest': {**CHAT, 'messages': [CHAT['messages']]},
         'CompletionRequest': {'prompt': 'Hi', 'max_tokens': 1, **SHORT},
         'TokenizeRequest': {'prompt': 'Hi'}, 'DetokenizeRequest': {'tokens': [300, 301]}}
# what only a server with keys answers with
NEED_KEYS = {'Error401', 'WWW-Authenticate'}
STRUCTURES = ('bad_words', 'response_format', 'structured_outputs', 'guided_json', 'guided_regex',
              'guided_choice', 'json_schema', 'regex', 'text')
FORM = 'multipart/form-data; boundary=xyz'
IMAGE_CODES = {'image_file_not_found', 'too_many_images', 'invalid_image_url',
               'invalid_base64_image', 'empty_image_file',
               'unsupported_image_media_type', 'image_parse_error'}


class Document:
    """The document, and what it says about a value."""

    def __init__(self, server):
        status, _, data = server.get('/openapi.json')
        assert status == 200, data
        self.whole = json.loads(data)
        self.schemas = self.whole['components']['schemas']
        self.vocab = self.schemas['TokenId']['maximum'] + 1
        closed = copy.deepcopy(self.whole['components'])
        close(closed['schemas'])
        self.requests = self.checkers(self.whole['components'])
        self.answers = self.checkers(closed)

    def checkers(self, components):
        """A validator of each schema."""
        return {name: jsonschema.Draft202012Validator(
            {'$ref': f'#/components/schemas/{name}', 'components': components})
                for name in self.schemas}

    def resolve(self, value):
        """What a reference stands for."""
        while '$ref' in value:
            at = self.whole
            for name in value['$ref'].split('/')[1:]:
                at = at[name]
            value = at
        return value

    def operations(self):
        """Path, method, operation."""
        for path, item in self.whole['paths'].items():
            for method, operation in item.items():
                yield path, method, operation


def close(value):
    """No object has members that are not described."""
    if isinstance(value, dict):
        if 'properties' in value and value.get('type') == 'object':
            value['additionalProperties'] = False
        for v in list(value.values()):
            close(v)
    elif isinstance(value, list):
        for v in value:
            close(v)


def name_of(ref):
    """The last part of a reference."""
    return ref['$ref'].rsplit('/', 1)[1]


def request_name(operation):
    """The name of the schema of an operation's body."""
    return name_of(operation['requestBody']['content']['application/json']['schema'])


# ------------------------------------------------------------------ values from schemas

class Generator:
    """Values that a schema allows."""

    def __init__(self, document, seed):
        self.document, self.random = document, random.Random(seed)

    def any(self, schema):
        """One of them."""
        schema, r = self.document.resolve(schema), self.random
        if 'x-ignored' in schema:
            return r.choice(WRONG)
        if 'const' in schema:
            return schema['const']
        if 'enum' in schema:
            return r.choice(schema['enum'])
        if 'x-alone' in schema:
            return r.choice(WRONG) if r.random() < 0.1 else self.any(schema['x-alone'])
        if 'allOf' in schema:
            return {**self.object(schema), **self.any(schema['allOf'][0])}
        for word in ('anyOf', 'oneOf'):
            if word in schema and 'properties' not in schema:
                return self.any(r.choice(schema[word]))
        kinds = schema.get('type', 'string')
        if not isinstance(kinds, str):
            kinds = r.choice([k for k in kinds if k != 'null'] * 9 + kinds)
        return {'null': lambda _: None, 'boolean': lambda _: r.random() < 0.5, 'array': self.array,
                'object': self.object, 'string': self.string, 'integer': self.integer,
                'number': self.number}[kinds](schema)

    def array(self, schema):
        """Mostly short."""
        least = schema.get('minItems', 0)
        n = min(self.random.randint(least, least + 3), schema.get('maxItems', BIG))
        return [self.any(schema['items']) for _ in range(n)] if 'items' in schema else []

    def object(self, schema, share=0.15):
        """With what it must have, and some of what it may."""
        required = schema.get('required', [])
        out = {name: self.any(s) for name, s in schema.get('properties', {}).items()
               if name in required or self.random.random() < share}
        more = schema.get('additionalProperties')
        if isinstance(more, dict):
            out.update({str(self.random.randrange(self.document.vocab)): self.any(more)
                        for _ in range(self.random.randrange(4))})
        return out

    def string(self, schema):
        """What a pattern allows is some letters."""
        if 'pattern' in schema:
            return ''.join(self.random.choices('aZ09_-', k=self.random.randint(1, 20)))
        return self.random.choice([t for t in TEXTS if schema.get('minLength', 0) <= len(t)
                                   <= schema.get('maxLength', BIG)])

    def integer(self, schema):
        """Ends are likely."""
        low, high = schema.get('minimum', 0), schema.get('maximum', 100)
        return self.random.choice([low, high, self.random.randint(low, high),
                                   self.random.randint(low, min(high, max(low, 0) + 9))])

    def number(self, schema):
        """Ends are likely."""
        low = schema.get('minimum', schema.get('exclusiveMinimum', 0) + 1e-6)
        high = schema.get('maximum', 100)
        return self.random.choice([low, high, self.random.uniform(low, high)])

    def body(self, name):
        """A request, most of whose messages are in order, and whose answer is short."""
        schema, r = self.document.schemas[name], self.random
        if name == 'TokenizeRequest' and r.random() < 0.4:
            return self.body('ChatRequest')
        out = self.object(schema)
        if name == 'TokenizeRequest':
            kept = r.choice(('prompt', 'content'))
            for other in ('prompt', 'content', 'messages'):
                out.pop(other, None)
            out[kept] = r.choice(TEXTS)
        for messages in conversations(name, out):
            self.order(messages)
        if name == 'BatchRequest' and r.random() < 0.9:
            out['stream'] = False
        if 'model' in out and r.random() < 0.8:
            out['model'] = ''
        if out.get('stream_options') is not None and r.random() < 0.8:
            out['stream'] = True
        if name in ('ChatRequest', 'BatchRequest'):
            out['max_completion_tokens'] = r.randint(1, 4)
        if name == 'ResponseRequest':
            out['max_output_tokens'] = r.randint(1, 4)
        if name == 'CompletionRequest':
            out['max_tokens'] = r.randint(0, 4)
        for field in ('min_tokens', 'min_new_tokens'):
            if out.get(field) and r.random() < 0.8:
                out[field] = 1
        return out

    def order(self, messages):
        """Mostly: users and assistants in turns, and one picture that can be read."""
        left = 1
        if not messages:
            return
        for message in messages:
            for part in message['content'] if isinstance(message.get('content'), list) else []:
                if not {'image_url', 'file_id', 'file', 'image_file'} & set(part):
                    continue
                if left == 0 and self.random.random() < 0.9:
                    part.clear()
                    part.update(type='text', text='no second picture')
                elif self.random.random() < 0.8:
                    left = 0
                    if 'image_url' not in part:
                        part.clear()
                        part.update(type='file', file={'file_data': PICTURE})
                    elif isinstance(part['image_url'], str):
                        part['image_url'] = PICTURE
                    else:
                        part['image_url']['url'] = PICTURE
        if self.random.random() < 0.8:
            messages.insert(0, {'role': 'user', 'content': 'Hello'})
            messages.append({'role': 'user', 'content': 'Well?'})


# ------------------------------------------------------------------ what no schema says

def messages_of(body):
    """The list of a conversation; none where it is a text."""
    messages = body.get('messages', body.get('input'))
    return messages if isinstance(messages, list) else []


def conversations(name, body):
    """The lists of messages in a body, of a schema of that name."""
    if name == 'BatchRequest':
        return [c for c in body.get('messages') or [] if isinstance(c, list)
                and all(isinstance(m, dict) for m in c)]
    return [messages_of(body)]


def turns_are_broken(body):
    """The first or the last message is an assistant's, or there is no user's."""
    roles = [m['role'] for m in messages_of(body) if m['role'] not in ('system', 'developer')]
    last = 'assistant' if body.get('continue_final_message') else 'user'
    return not roles or roles[0] != 'user' or roles[-1] != last


def images(body):
    """The parts that are pictures."""
    return [p for m in messages_of(body) if isinstance(m.get('content'), list)
            for p in m['content'] if {'image_url', 'file_id', 'file', 'image_file'} & set(p)]


def url_of(part):
    """What a part says about where its picture is; None: it is a file."""
    url = part.get('image_url', part.get('file', {}).get('file_data'))
    return url['url'] if isinstance(url, dict) else url


def breaks_pictures(body, error):
    """More than one, or one that is no picture."""
    urls = [url_of(p) for p in images(body)]
    return error['code'] in IMAGE_CODES and (len(urls) > 1 or any(u != PICTURE for u in urls))


def breaks_tools(body, error):
    """A call is wanted, or might be."""
    for tools, choice in (('tools', 'tool_choice'), ('functions', 'function_call')):
        if error['param'] == tools:
            return bool(body.get(tools)) and body.get(choice) != 'none'
    return False


def strings(value):
    """All strings in it."""
    if isinstance(value, str):
        yield value
    for v in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(v)


# the names in the document's x-rules: whether that is what the error is about, and true of the body
RULES = {
    'bytes': lambda b, e: e['code'] == 'string_above_max_length'
                          and any(not s.isascii() for s in strings(b)),
    'nul': lambda b, e: any('\0' in s for s in strings(b)),
    'structure': lambda b, e: any(b.get(f) is not None for f in STRUCTURES) and str(
        e['param']).startswith((*STRUCTURES, 'allowed_token_ids')),
    'stream_options': lambda b, e: e['param'] == 'stream_options' and not b.get('stream'),
    'tokens': lambda b, e: e['param'] == 'logit_bias'
                           or (e['param'] == 'allowed_token_ids' and len(b['allowed_token_ids']) > 1000),
    'min_tokens': lambda b, e: e['param'] in ('min_tokens', 'min_new_tokens')
                               and bool(b.get('min_tokens') or b.get('min_new_tokens')),
    'context': lambda b, e: e['code'] == 'context_length_exceeded'
                            and sum(map(len, strings(b))) + 90 * len(images(b)) > 200,
    'turns': lambda b, e: e['code'] == 'invalid_value'
                          and str(e['param']).startswith(('messages', 'input')) and turns_are_broken(b),
    'continue': lambda b, e: e['param'] == 'continue_final_message' and (
        b.get('add_generation_prompt') is True or turns_are_broken(b)),
    'pictures': breaks_pictures,
    'grounding': lambda b, e: e['param'] == 'grounding' and not images(b),
    'top_logprobs': lambda b, e: e['param'] == 'top_logprobs' and not b.get('logprobs')
                                 and 'message.output_text.logprobs' not in (b.get('include') or ()),
    'tools': breaks_tools,
    'batch': lambda b, e: (e['param'] == 'stream' and bool(b.get('stream'))) or (
        e['code'] == 'array_above_max_length' and e['param'] == 'messages'),
    'control': lambda b, e: e['code'] == 'invalid_value' and str(e['param']).startswith('prompt')
                            and not any(strings(b['prompt'])),
    'prompts': lambda b, e: e['code'] == 'array_above_max_length' and e['param'] == 'prompt'
                            and len(b['prompt']) > 1,
    'echo': lambda b, e: e['param'] == 'logprobs' and b.get('echo') is True and b['stream'],
    'prompt_logprobs': lambda b, e: e['param'] == 'prompt_logprobs' and bool(b.get('stream')),
    'max_tokens': lambda b, e: e['param'] == 'max_tokens' and b.get('max_tokens') == 0
                               and not b.get('echo'),
    'chat': lambda b, e: 'messages' in b and any(
        RULES[r](b, e) for r in ('turns', 'continue', 'pictures', 'grounding', 'top_logprobs',
                                 'prompt_logprobs', 'tools')),
}


# ------------------------------------------------------------------ asking

class Asker:
    """Sends requests and looks at what comes back."""

    def __init__(self, server, document, seed):
        self.server, self.document, self.seed = server, document, seed
        self.seen = {}

    def check_headers(self, response, headers, what):
        """Those that must be there are, all are as described."""
        for name, header in response.get('headers', {}).items():
            header = self.document.resolve(header)
            value = headers.get(name)
            assert value is not None or not header.get('required'), (what, name)
            if value is not None:
                typed = int(value) if header['schema'].get('type') == 'integer' else value
                assert jsonschema.Draft202012Validator(header['schema']).is_valid(typed), what

    def check_body(self, content, kind, data, what):
        """It is as described, and has nothing that is not."""
        schema = content.get('schema', {})
        if kind == 'text/event-stream':
            names = [name_of(s) for s in content['x-event']['anyOf']]
            for event in events_of(data) if data.startswith(b'event:') else chunks_of(data):
                assert any(self.document.answers[n].is_valid(event) for n in names), (what, event)
        elif kind == 'application/json':
            value = json.loads(data)
            if len(data) > 10**5: # the tokens of a mebibyte: a few are as good as all
                value = {k: v[:9] if isinstance(v, list) else v for k, v in value.items()}
            names = [name_of(s) for s in schema.get('anyOf', [schema])]
            errors = [next(self.document.answers[n].iter_errors(value), None) for n in names]
            assert None in errors, (what, data, errors)

    def ask(self, path, method, operation, body=None):
        """Status and error of an answer that must be one of those described."""
        status, answer = self.ask_all(path, method, operation, body)
        return status, answer['error'] if status >= 400 else None

    def ask_all(self, path, method, operation, body=None):
        """Status and object; None for a stream or a text."""
        sent = None if body is None else json.dumps(body)
        status, headers, data = self.send(path, method, operation, sent, 'application/json')
        is_json = headers['content-type'].startswith('application/json')
        return status, json.loads(data) if is_json else None

    def send(self, path, method, operation, sent, kind):
        """Status, headers and body of such an answer."""
        status, headers, data = self.server.request(
            method.upper(), path, sent, {'Content-Type': kind} if sent else None)
        what = (self.seed, method, path, (sent or '')[:2000], status, data[:500])
        assert status < 500, what
        assert str(status) in operation['responses'], what
        response = self.document.resolve(operation['responses'][str(status)])
        kind = headers['content-type'].split(';')[0]
        content = response['content'].get(kind) or response['content'].get(kind.split('/')[0] + '/*')
        assert content is not None, what
        self.check_headers(response, headers, what)
        self.check_body(content, kind, data, what)
        self.seen[status] = self.seen.get(status, 0) + 1
        return status, headers, data

    def post(self, path, operation, body):
        """A body is refused when its schema does not allow it, and else only by a rule or for its
        model; the status."""
        name = request_name(operation)
        is_valid = self.document.requests[name].is_valid(body)
        status, answer = self.ask_all(path, 'post', operation, body)
        error = answer.get('error') if answer else None
        what = (self.seed, path, json.dumps(body)[:2000], error)
        if not is_valid:
            assert status == 400, what
        elif status == 404:
            assert body.get('model') not in (None, '', 'demo'), what
        elif status != 200:
            rules = self.document.schemas[name].get('x-rules', {})
            assert status == 400 and any(RULES[rule](body, error) for rule in rules), what
        elif name == 'BatchRequest':
            for choice in answer['choices']:
                self.check_conversation(body, choice)
        return status

    def check_conversation(self, body, choice):
        """One of several, as a chat of its own: refused by its schema, or by a rule."""
        chat = {**body, 'messages': body['messages'][choice['index']]}
        error = choice.get('error')
        what = (self.seed, json.dumps(chat)[:2000], error)
        if not self.document.requests['ChatRequest'].is_valid(chat):
            assert error, what
        elif error:
            rules = self.document.schemas['ChatRequest']['x-rules']
            assert any(RULES[rule](chat, error) for rule in rules), what
        self.seen['error' if error else 'choice'] = self.seen.get('error' if error else 'choice', 0) + 1


# ------------------------------------------------------------------ one step beside a schema

def edges(document, schema):
    """Values at the ends of a schema and one step beyond them."""
    schema = document.resolve(schema)
    for part in schema.get('anyOf', []):
        yield from edges(document, part)
    yield from schema.get('enum', [])
    if 'enum' in schema:
        yield 'none of them'
    for word in ('minimum', 'exclusiveMinimum', 'maximum'):
        if word in schema:
            step = 1 if 'integer' in schema.get('type', ()) else 0.001
            yield from (schema[word], schema[word] - step, schema[word] + step)
    for word in ('minLength', 'maxLength'):
        if word in schema:
            yield from ('a' * max(schema[word] + d, 0) for d in (-1, 0, 1))
    if 'pattern' in schema:
        yield from ('a b', '')
    item = {'type': 'string', 'minLength': 1}
    for word in ('minItems', 'maxItems'):
        if word in schema:
            item = Generator(document, 0).any(schema.get('items', item))
            if isinstance(item, dict) and 'role' in item:
                item = CHAT['messages'][0]
            yield from ([item] * max(schema[word] + d, 0) for d in (-1, 0, 1))
    if 'maxProperties' in schema and 'additionalProperties' in schema:
        yield from ({str(i): 1 for i in range(schema['maxProperties'] + d)} for d in (0, 1))
    for name, member in schema.get('properties', {}).items():
        yield from ({name: v} for v in (*edges(document, member), *WRONG, None))
    yield from WRONG
    yield None


def mutants(document, name):
    """Requests that differ in one field from one that is right."""
    plain = PLAIN[name]
    for field, schema in document.schemas[name]['properties'].items():
        for value in edges(document, schema):
            yield {**plain, field: value}
    for field in plain:
        yield {k: v for k, v in plain.items() if k != field}


def posts(document):
    """Path and operation of each that takes a body of JSON."""
    return [(p, o) for p, m, o in document.operations()
            if m == 'post' and 'application/json' in o['requestBody']['content']]


# ------------------------------------------------------------------ tests

def the_document_is_one(_, document, __):
    """By the OpenAPI Initiative's schema; its own schemas are schemas, its references lead
    somewhere, no name is there twice."""
    with open(os.path.join(HERE, 'openapi-3.1.json'), encoding='utf-8') as f:
        jsonschema.Draft202012Validator(json.load(f)).validate(document.whole)
    for schema in document.schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(document.whole)
    refs = set(re.findall(r'"\$ref": "([^"]*)"', text))
    for ref in refs:
        document.resolve({'$ref': ref})
    for kind, named in document.whole['components'].items():
        for name in named:
            assert name in NEED_KEYS or f'#/components/{kind}/{name}' in refs, f'nothing refers to {kind} {name}'
    ids = [o['operationId'] for _, _, o in document.operations()]
    assert len(ids) == len(set(ids)), ids


def every_rule_is_known_here(_, document, __):
    """What the document says beside its schemas is what this test allows."""
    said = {rule for s in document.schemas.values() for rule in s.get('x-rules', {})}
    assert said == set(RULES), said ^ set(RULES)


def addresses_without_a_body(server, document, options):
    """Each answers as described."""
    asker = Asker(server, document, options.seed)
    files = stored(asker, document, 2)
    for path, method, operation in document.operations():
        if method == 'get':
            known = files[0] if path.startswith('/v1/files') else 'demo'
            for name in (known, 'none') if '{id}' in path else ('',):
                status, _ = asker.ask(path.replace('{id}', name), method, operation)
                assert status == (404 if name == 'none' else 200), (path, status)
        for query in operation.get('parameters', []):
            if query['in'] == 'query':
                check_query(asker, path, operation, query)
    for name, status in ((files[0], 200), (files[0], 200), (files[1], 200), ('none', 404)):
        item = document.whole['paths']['/v1/files/{id}']['delete']
        assert asker.ask(f'/v1/files/{name}', 'delete', item)[0] == status, name


def form(fields):
    """The body of a form; a field's value is text, or bytes of a file."""
    out = b''
    for name, value in fields:
        more = '; filename="a.jpg"' if isinstance(value, bytes) else ''
        out += f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        out += (value if isinstance(value, bytes) else str(value).encode()) + b'\r\n'
    return out + b'--xyz--\r\n'


def stored(asker, document, n):
    """The ids of so many new files."""
    operation = document.whole['paths']['/v1/files']['post']
    fields = [('purpose', 'vision'), ('file', pictures.scene(1))]
    return [json.loads(asker.send('/v1/files', 'post', operation, form(fields), FORM)[2])['id']
            for _ in range(n)]


def check_query(asker, path, operation, query):
    """What the schema allows is taken, and nothing beside it."""
    for value in edges(asker.document, query['schema']):
        text = urllib.parse.quote(value if isinstance(value, str) else json.dumps(value))
        is_valid = jsonschema.Draft202012Validator(query['schema']).is_valid(value)
        if text and 'type' not in query['schema'] or query['schema'].get('type') == 'integer':
            status, error = asker.ask(f'{path}?{query["name"]}={text}', 'get', operation)
            assert status == (200 if is_valid else 400), (path, query, value, error)


def forms_one_step_beside(server, document, options):
    """Fields of an upload at their ends and one step beyond; what must be there is not."""
    asker = Asker(server, document, options.seed)
    operation = document.whole['paths']['/v1/files']['post']
    schema = document.schemas['FileRequest']
    plain = {'purpose': 'vision', 'file': pictures.scene(2), 'expires_after[anchor]': 'created_at',
             'expires_after[seconds]': 3600}
    bodies = [({k: v for k, v in plain.items() if k != name}, False) for name in plain]
    for name, member in schema['properties'].items():
        if name != 'file':
            checker = jsonschema.Draft202012Validator(member)
            bodies += [({**plain, name: v}, checker.is_valid(v)) for v in edges(document, member)
                       if isinstance(v, (str, int, float)) and not isinstance(v, bool)]
    for body, is_valid in bodies:
        status, _, data = asker.send('/v1/files', 'post', operation, form(body.items()), FORM)
        assert status == (200 if is_valid else 400), (list(body.items())[2:], status, data)
    print(f'# seed {options.seed}: {asker.seen}', flush=True)
    assert asker.seen[200] > 3 and asker.seen[400] > 5, asker.seen


def one_step_beside(server, document, options):
    """Each field at its ends, one step beyond them and of every wrong type; what must be there is
    not. A part of them unless there is time for all."""
    asker = Asker(server, document, options.seed)
    chosen = random.Random(options.seed)
    for path, operation in posts(document):
        bodies = list(mutants(document, request_name(operation)))
        if options.seconds < 60:
            bodies = chosen.sample(bodies, min(len(bodies), 80))
        for body in bodies:
            asker.post(path, operation, body)
    print(f'# seed {options.seed}: {asker.seen}', flush=True)
    assert asker.seen[200] > 50 and asker.seen[400] > 100, asker.seen


def random_requests(server, document, options):
    """Whatever the schemas allow."""
    asker = Asker(server, document, options.seed)
    generator = Generator(document, options.seed)
    end = time.monotonic() + options.seconds
    n = 0
    while time.monotonic() < end:
        for path, operation in posts(document):
            body = generator.body(request_name(operation))
            asker.post(path, operation, body)
            n += 1
    print(f'# seed {options.seed}: {n} requests, {asker.seen}', flush=True)
    assert asker.seen[200] > n / 4, asker.seen


def main():
    """Runs the tests."""
    parser = argparse.ArgumentParser()
    parser.add_argument('binary')
    parser.add_argument('model')
    parser.add_argument('--seconds', type=float, default=5)
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args()
    tap.need_model(options.model)
    with Server(os.path.abspath(options.binary), os.path.abspath(options.model)) as server:
        return tap.run([the_document_is_one, every_rule_is_known_here, addresses_without_a_body,
                        forms_one_step_beside, one_step_beside, random_requests], server, Document(server), options)


if __name__ == '__main__':
    sys.exit(main())
