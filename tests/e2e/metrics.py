"""What operators see: /metrics, the log, times in answers: metrics.py COGWHEEL MODEL. With promtool
and Prometheus where they are installed. Prints TAP."""
import collections
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import pictures
import prom_text
import tap
from clients import LEAVE, leave
from server import Server, picture_part, question, stream_chunks, until

BINARY, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])

FIRST = '0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560'
GAP = '0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80'
REQUEST = '0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680'
TOKENS = '1 2 5 10 20 50 100 200 500 1000 2000'  # the demo's context is 2048
STEP = '1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384'
# name: type, or a histogram's bounds
VLLM = {
    'num_requests_waiting': 'gauge', 'num_requests_running': 'gauge',
    'kv_cache_usage_perc': 'gauge', 'gpu_cache_usage_perc': 'gauge', 'cache_config_info': 'gauge',
    'prompt_tokens_total': 'counter', 'generation_tokens_total': 'counter',
    'request_success_total': 'counter', 'num_preemptions_total': 'counter',
    'prefix_cache_queries_total': 'counter', 'prefix_cache_hits_total': 'counter',
    'gpu_prefix_cache_queries_total': 'counter', 'gpu_prefix_cache_hits_total': 'counter',
    'gpu_prefix_cache_hit_rate': 'gauge',
    'mm_cache_queries_total': 'counter', 'mm_cache_hits_total': 'counter',
    'time_to_first_token_seconds': FIRST, 'inter_token_latency_seconds': GAP,
    'request_time_per_output_token_seconds': GAP, 'time_per_output_token_seconds': GAP,
    'e2e_request_latency_seconds': REQUEST, 'request_queue_time_seconds': REQUEST,
    'request_prefill_time_seconds': REQUEST, 'request_decode_time_seconds': REQUEST,
    'request_inference_time_seconds': REQUEST,
    'request_prompt_tokens': TOKENS, 'request_generation_tokens': TOKENS,
    'request_max_num_generation_tokens': TOKENS, 'request_params_max_tokens': TOKENS,
    'request_params_n': TOKENS, 'iteration_tokens_total': STEP,
}
USUAL = {
    'http_requests_total': 'counter', 'http_request_duration_seconds': 'histogram',
    'process_cpu_seconds_total': 'counter', 'process_resident_memory_bytes': 'gauge',
    'process_open_fds': 'gauge', 'process_start_time_seconds': 'gauge',
}
STAGES = {'read', 'image_wait', 'image_decode', 'encode_wait', 'encode', 'queue', 'prefill',
          'decode', 'write'}
WAITING = STAGES - {'read', 'prefill', 'decode', 'write'}
REASONS = {'overloaded', 'rate_limit', 'draining', 'loading', 'bad_image', 'context', 'invalid'}
# name: type, {label: values}
OWN = {
    'requests_in_stage': ('gauge', {'stage': STAGES}),
    'stage_seconds': ('histogram', {'stage': STAGES}),
    'rejected_total': ('counter', {'reason': REASONS}),
    'client_disconnects_total': ('counter', {'stage': STAGES}),
    'images_total': ('counter', {'format': {'jpeg', 'png', 'webp', 'gif', 'unknown'},
                                 'result': None}),
    'image_pixels': ('histogram', {}),
    'image_tokens_total': ('counter', {}), 'image_tokens_cached_total': ('counter', {}),
    'vision_batch_size': ('histogram', {}), 'decode_batch_size': ('histogram', {}),
    'expert_rows_total': ('counter', {'expert': {'vision', 'language'}}),
    'kv_pages': ('gauge', {'state': {'free', 'used', 'cached'}}),
    'engine_heartbeat_age_seconds': ('gauge', {}), 'sdk_retries_total': ('counter', {}),
    'build_info': ('gauge', {'version': None, 'commit': None, 'engine': {'cpu'},
                             'quantization': {'bf16'}}),
}
PICTURE = picture_part(pictures.scene(1))
ASK = question('What is shown in the image?', PICTURE, max_tokens=12)


# ---------------------------------------------------------------------- pages

def page(server, url=None):
    """The families of /metrics; the page must be one."""
    with urllib.request.urlopen((url or server.url) + '/metrics', timeout=60) as answer:
        assert answer.headers['Content-Type'] == 'text/plain; version=0.0.4; charset=utf-8'
        return prom_text.parse(answer.read().decode('utf-8'))


def value(families, name, **labels):
    """One sample."""
    family = families[re.sub('_(sum|count)$', '', name) if name not in families else name]
    found = [v for (n, pairs), v in family.samples.items()
             if n == name and labels.items() <= dict(pairs).items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def total(families, name):
    """The sum over a family's samples."""
    return sum(families[name].samples.values())


def stages(families):
    """{stage: requests}"""
    return {dict(labels)['stage']: v
            for (_, labels), v in families['cogwheel_requests_in_stage'].samples.items()}


def check_page(families):
    """What the numbers of one page say of each other."""
    now = stages(families)
    assert total(families, 'cogwheel_requests_total') == (
        total(families, 'cogwheel_requests_ended_total') + sum(now.values())), now
    assert value(families, 'cogwheel_requests_ended_total', reason='rejected') == \
        total(families, 'cogwheel_rejected_total')
    assert value(families, 'vllm:num_requests_waiting') == sum(now[s] for s in WAITING)
    assert value(families, 'vllm:num_requests_running') == now['prefill'] + now['decode']
    assert total(families, 'vllm:request_success_total') == (
        total(families, 'cogwheel_requests_ended_total') - total(families, 'cogwheel_rejected_total'))
    answered = sum(value(families, 'vllm:request_success_total', finished_reason=r)
                   for r in ('stop', 'length'))
    for name in ('e2e_request_latency_seconds', 'request_prompt_tokens', 'request_params_n'):
        assert value(families, f'vllm:{name}_count') == answered, name
    assert total(families, 'cogwheel_client_disconnects_total') <= \
        value(families, 'cogwheel_requests_ended_total', reason='abort') + \
        total(families, 'cogwheel_rejected_total')


def check_order(before, after):
    """No counter of a later page is behind an earlier one."""
    for name, family in before.items():
        if family.type == 'gauge':
            continue
        for sample, old in family.samples.items():
            assert after[name].samples[sample] >= old, (sample, old, after[name].samples[sample])


# ---------------------------------------------------------------------- tests

def the_parser_is_strict():
    """Each of these pages has one thing wrong with it."""
    good = ('# HELP a_total A.\n# TYPE a_total counter\na_total{x="1\\n\\\\\\"",y=""} 1\na_total 2\n'
            '# HELP h H.\n# TYPE h histogram\nh_bucket{le="0.5"} 1\nh_bucket{le="+Inf"} 2\n'
            'h_sum 1.5e-05\nh_count 2\n')
    assert prom_text.parse(good)['h'].series() == {(): ([('0.5', 1), ('+Inf', 2)], 1.5e-05, 2)}
    for old, new in [
            ('h_count 2\n', 'h_count 2'), ('h_count 2', 'h_count 3'), ('h_count 2\n', ''),
            ('h_sum 1.5e-05\n', ''), ('le="+Inf"} 2', 'le="+Inf"} 0'), ('le="+Inf"', 'le="9"'),
            ('le="0.5"', 'le="+Inf"'), ('"0.5"} 1', '"0.5"} 3'), ('h_bucket{le="0.5"}', 'h_bucket'),
            ('a_total 2', 'a_total  2'), ('a_total 2', 'a_total -2'), ('a_total 2', 'a_total 2 7'),
            ('a_total 2', 'a_total NaN'), ('a_total 2', 'a_total 0x2'), ('a_total 2', 'b 2'),
            ('a_total 2', '2a 2'), ('a_total 2', 'a_total{} 2'), ('a_total 2', 'a_total{z=1} 2'),
            ('a_total 2', 'a_total{x="1",x="2"} 2'), ('a_total 2', 'a_total{x="1",} 2'),
            ('a_total 2', 'a_total{x="\\t"} 2'), ('a_total 2', 'a_total 2\na_total 3'),
            ('# HELP h H.\n', ''), ('# TYPE h histogram\n', ''), ('histogram', 'histo'),
            ('# HELP h H.', '# HELP a_total H.'), ('# HELP h H.', '# HELP h'),
            ('# HELP h H.', '\n# HELP h H.'), ('# HELP h', '#HELP h'), ('y=""', 'y=")')]:
        assert good.count(old) >= 1, old
        try:
            prom_text.parse(good.replace(old, new))
        except AssertionError:
            continue
        raise AssertionError(f'taken: {new!r} for {old!r}')


def all_names_are_there():
    """With type, bounds and labels, from the first page on."""
    with Server(BINARY, MODEL) as server:
        families = page(server)
        model = {'model_name': os.path.basename(MODEL), 'engine': '0'}
        for name, kind in {**{f'vllm:{k}': v for k, v in VLLM.items()}, **USUAL}.items():
            family = families[name]
            assert family.type == (kind if kind in ('gauge', 'counter') else 'histogram'), name
            if name.startswith('vllm:'):
                for _, labels in family.samples:
                    assert model.items() <= dict(labels).items(), (name, labels)
            if family.type == 'histogram' and kind != 'histogram':
                (buckets, _, _), = family.series().values()
                bounds = [str(float(b)) for b in kind.split()] + ['+Inf']
                assert [b for b, _ in buckets] == bounds, (name, buckets)
        for name, (kind, allowed) in OWN.items():
            family = families[f'cogwheel_{name}']
            assert family.type == kind, name
            for _, labels in family.samples:
                labels = {k: v for k, v in labels if k != 'le'}
                assert labels.keys() == allowed.keys(), (name, labels)
            for label, values in allowed.items():
                seen = {dict(labels)[label] for _, labels in family.samples}
                assert values is None or seen == values, (name, seen)
        config, = families['vllm:cache_config_info'].samples
        config = dict(config[1])
        assert config.keys() - model.keys() == {'block_size', 'num_gpu_blocks', 'cache_dtype',
                                                'enable_prefix_caching'}
        assert (config['block_size'], config['cache_dtype']) == ('32', 'bf16'), config
        assert all(f.help.endswith('.') for f in families.values())


def the_manual_has_them_all():
    """docs/operating.md has a row for each name, and no row for a name that is none."""
    path = os.path.join(os.path.dirname(__file__), '..', '..', 'docs', 'operating.md')
    with open(path, encoding='utf-8') as f:
        manual = f.read()
    chapter = manual[manual.index('\n## Metrics\n'):]
    chapter = chapter[:chapter.index('\n## ', 5)]
    rows = {}
    for row in re.findall(r'^\| (`.*?) \| (.*?) \|', chapter, re.M):
        for name in re.findall(r'`([\w:]+)(?:\{.*?\})?`', row[0]):
            assert name not in rows, name
            rows[name] = row[1]
    with Server(BINARY, MODEL) as server:
        families = page(server)
    assert rows.keys() == families.keys(), rows.keys() ^ families.keys()
    for name, kinds in rows.items():
        assert families[name].type in kinds, (name, kinds)


def numbers_are_those_of_the_answers():
    """Tokens, pictures, requests and times of a few answers, to the last one."""
    with Server(BINARY, MODEL) as server:
        begin = time.monotonic()
        usages = [server.chat(ASK)[2]['usage'] for _ in range(3)]
        usages += [server.chat({**ASK, 'n': 2, 'temperature': 1})[2]['usage']]
        connection, answer = server.stream({**ASK, 'stream_options': {'include_usage': True}})
        usages.append(stream_chunks(answer)[-1]['usage'])
        connection.close()
        families = until(lambda: (f := page(server)) and
                         total(f, 'cogwheel_requests_ended_total') == 5 and f, 'the last end')
        took = time.monotonic() - begin
        check_page(families)
        prompt = sum(u['prompt_tokens'] for u in usages)
        output = sum(u['completion_tokens'] for u in usages)
        image = sum(u['prompt_tokens_details']['image_tokens'] for u in usages)
        cached = sum(u['prompt_tokens_details']['cached_tokens'] for u in usages)
        for name, want in {
                'vllm:prompt_tokens_total': prompt, 'vllm:generation_tokens_total': output,
                'cogwheel_output_tokens_total': output, 'vllm:request_prompt_tokens_sum': prompt,
                'vllm:request_generation_tokens_sum': output, 'vllm:request_params_n_sum': 6,
                'vllm:request_params_max_tokens_sum': 60, 'vllm:prefix_cache_queries_total': prompt,
                'vllm:prefix_cache_hits_total': cached, 'cogwheel_image_tokens_total': image,
                'vllm:mm_cache_queries_total': 5, 'vllm:mm_cache_hits_total': 4,
                'vllm:time_to_first_token_seconds_count': 5,
                'vllm:inter_token_latency_seconds_count': output - 6,
                'cogwheel_image_pixels_count': 5}.items():
            assert value(families, name) == want, (name, value(families, name), want)
        assert value(families, 'cogwheel_images_total', format='png', result='ok') == 5
        assert value(families, 'http_requests_total', handler='/v1/chat/completions',
                     method='POST', status='2xx') == 5
        sums = [value(families, f'vllm:{n}_seconds_sum')
                for n in ('request_inference_time', 'e2e_request_latency')]
        assert 0 < sums[0] < sums[1] < took, (sums, took)
        assert total(families, 'cogwheel_requests_in_stage') == 0
        assert abs(value(families, 'process_start_time_seconds') - time.time()) < 600


class Mixed:
    """Clients that ask, leave, and send nonsense, until they are told to stop."""

    def __init__(self, server):
        self.server, self.stop = server, False
        self.done, self.failed = collections.Counter(), []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(8)]

    def work(self, number):
        """One client after the other."""
        rng = random.Random(number)
        try:
            while not self.stop:
                kind = self.ask(rng)
                with self.lock:
                    self.done[kind] += 1
        except Exception as e:  # pylint: disable=broad-except
            self.failed.append(repr(e))

    def ask(self, rng):
        """One request; what it was."""
        body = question('Describe this image.', picture_part(pictures.scene(rng.randrange(6))),
                        max_tokens=rng.choice((1, 20, 60)), n=rng.choice((1, 1, 2)), temperature=1)
        kind = rng.choice(('whole', 'stream', 'leave', 'leave', 'bad', 'picture'))
        if kind == 'whole':
            assert self.server.chat(body)[0] == 200
        elif kind == 'stream':
            connection, answer = self.server.stream(body)
            stream_chunks(answer)
            connection.close()
        elif kind == 'leave':
            leave(self.server, {**body, 'stream': rng.random() < 0.7, 'max_tokens': 200},
                  rng.choice(LEAVE), rng)
        elif kind == 'bad':
            assert self.server.chat({**body, 'temperature': 9})[0] == 400
        else:
            bad = picture_part(b'\x89PNG\r\n\x1a\n' + rng.randbytes(50))
            assert self.server.chat(question('x', bad))[0] == 400
        return kind


def counters_hold_under_load_with_aborts():
    """Every page agrees with itself and with the page before; in the end nothing is left over."""
    with Server(BINARY, MODEL, '--max-seqs', '4') as server:
        crowd, pages = Mixed(server), [page(server)]
        for thread in crowd.threads:
            thread.start()
        seen = collections.Counter()
        # a stage is seen when a page happens to fall into it
        while not crowd.failed and (len(pages) < 60 or len(pages) < 1000 and
                                    not (seen['decode'] and seen['queue'])):
            pages.append(page(server))
            check_page(pages[-1])
            check_order(pages[-2], pages[-1])
            seen.update(s for s, n in stages(pages[-1]).items() if n)
            time.sleep(0.05)
        crowd.stop = True
        for thread in crowd.threads:
            thread.join()
        assert not crowd.failed, crowd.failed
        last = until(lambda: (f := page(server)) and
                     total(f, 'cogwheel_requests_in_stage') == 0 and f, 'the last end')
        check_page(last)
        check_order(pages[-1], last)
        assert seen['decode'] and seen['queue'], seen
        answered = sum(value(last, 'cogwheel_requests_ended_total', reason=r)
                       for r in ('stop', 'length'))
        done = crowd.done['whole'] + crowd.done['stream']
        assert done <= answered <= done + crowd.done['leave'], (answered, crowd.done)
        assert value(last, 'cogwheel_rejected_total', reason='invalid') == crowd.done['bad']
        assert value(last, 'cogwheel_rejected_total', reason='bad_image') == crowd.done['picture']
        assert value(last, 'cogwheel_images_total', format='png',
                     result='image_parse_error') == crowd.done['picture']
        assert total(last, 'cogwheel_client_disconnects_total') > 0
        lines = server.events('request')
        assert collections.Counter(line['finish'] for line in lines if 'finish' in line) == {
            dict(labels)['reason']: n for (_, labels), n in
            last['cogwheel_requests_ended_total'].samples.items() if n}


def waiting_counts_image_stages():
    """Pictures that are being decoded are work that waits, before the engine knows of it."""
    large = picture_part(pictures.png(3000, 3000, bytes(27000000)))
    with Server(BINARY, MODEL, '--image-workers', '1') as server:
        threads = [threading.Thread(target=server.chat, args=(question('x', large, max_tokens=1),))
                   for _ in range(6)]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            families = page(server)
            check_page(families)
            now = stages(families)
            if now['image_decode']:
                most = max(most, value(families, 'vllm:num_requests_waiting'))
        for thread in threads:
            thread.join()
        assert most >= 2, 'never seen a picture waiting while another one is decoded'


def options_choose_what_and_who():
    """--metrics-compat none leaves our own names; --metrics-auth asks for a key."""
    with tempfile.NamedTemporaryFile('w', encoding='ascii') as keys:
        os.chmod(keys.name, 0o600)
        keys.write('k-secret\n')
        keys.flush()
        with Server(BINARY, MODEL, '--metrics-compat', 'none', '--metrics-auth', '--api-key-file',
                    keys.name) as server:
            assert server.get('/metrics')[0] == 401
            status, _, text = server.request('GET', '/metrics',
                                             headers={'Authorization': 'Bearer k-secret'})
    assert status == 200
    names = set(prom_text.parse(text.decode()))
    assert all(name.startswith('cogwheel_') for name in names), names
    assert names >= {f'cogwheel_{name}' for name in OWN}, names
    if shutil.which('promtool'):
        ran = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True,
                             check=False)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, b'', b''), ran


def a_dead_helper_is_counted():
    """Once; and that there is another one."""
    with Server(BINARY, MODEL, '--image-workers', '2') as server:
        def workers(state):
            return value(page(server), 'cogwheel_image_workers', state=state)
        until(lambda: workers('up') == 2, 'two helpers')
        assert value(page(server), 'cogwheel_image_workers_died_total') == 0
        os.kill(server.helpers()[0], signal.SIGKILL)
        until(lambda: value(page(server), 'cogwheel_image_workers_died_total') == 1, 'a death')
        until(lambda: workers('up') == 2 and workers('down') == 0, 'another helper')
        server.answer(ASK)
        assert value(page(server), 'cogwheel_image_workers_died_total') == 1


def promtool_accepts_it():
    """Nothing to say about ours; of vLLM's names, that they have colons, and one a wrong suffix."""
    if not shutil.which('promtool'):
        raise tap.Skip('there is no promtool')
    with Server(BINARY, MODEL) as server:
        server.answer(ASK)
        text = server.get('/metrics')[2]
    ours, in_ours = [], True
    for line in text.decode().splitlines(True):
        if line.startswith('# HELP'):
            in_ours = 'vllm:' not in line
        ours += [line] if in_ours else []
    for given, allowed in ((text, r'vllm:\S+ (metric names should not contain \':\''
                            r'|non-counter metrics should not have "_total" suffix)'),
                           (''.join(ours).encode(), None)):
        ran = subprocess.run(['promtool', 'check', 'metrics'], input=given, capture_output=True,
                             check=False)
        said = (ran.stdout + ran.stderr).decode().split('\n')
        wrong = [s for s in said if s and not (allowed and re.fullmatch(allowed, s))]
        assert not wrong, wrong
        assert ran.returncode == (3 if allowed else 0), (ran.returncode, said)


def free_port():
    """A port that nobody listens on."""
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


def query(url, expression):
    """The values that Prometheus has: [(labels, value)]"""
    with urllib.request.urlopen(f'{url}/api/v1/query?query={urllib.parse.quote(expression)}',
                                timeout=30) as answer:
        data = json.load(answer)
    assert data['status'] == 'success', data
    return [(r['metric'], float(r['value'][1])) for r in data['data']['result']]


def prometheus_scrapes_it():
    """A real one, from an address of the metrics' own; what it stored is what was counted."""
    if not shutil.which('prometheus'):
        raise tap.Skip('there is no prometheus')
    with Server(BINARY, MODEL, '--metrics-listen', '127.0.0.1:0') as server, \
            tempfile.TemporaryDirectory() as folder:
        watch = [e['address'] for e in server.events('listening') if e.get('for') == 'metrics'][0]
        assert server.get('/metrics')[0] == 404
        for _ in range(3):
            server.answer(ASK)
        config = os.path.join(folder, 'prometheus.yml')
        with open(config, 'w', encoding='ascii') as f:
            json.dump({'global': {'scrape_interval': '200ms', 'scrape_timeout': '200ms'},
                       'scrape_configs': [{'job_name': 'cogwheel', 'static_configs': [
                           {'targets': [watch]}]}]}, f)  # JSON is YAML
        url = f'http://127.0.0.1:{free_port()}'
        with subprocess.Popen(
                ['prometheus', f'--config.file={config}', f'--storage.tsdb.path={folder}/data',
                 f'--web.listen-address={url[7:]}', '--log.level=error'],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
            try:
                until(lambda: is_up(url), 'Prometheus to have scraped')
                (labels, count), = query(url, 'vllm:request_success_total{finished_reason="stop"}')
                assert labels['model_name'] == os.path.basename(MODEL), labels
                asked = count + query(url, 'vllm:request_success_total{finished_reason="length"}'
                                      )[0][1]
                assert asked == 3, asked
                assert query(url, 'cogwheel_requests_total')[0][1] == 3
                (_, p50), = query(url, 'histogram_quantile(0.5, '
                                  'vllm:time_to_first_token_seconds_bucket)')
                assert 0 < p50 < 60, p50
            finally:
                prometheus.terminate()


def is_up(url):
    """Whether a scrape went well."""
    try:
        return query(url, 'up{job="cogwheel"} == 1')
    except OSError:
        return False


def the_log_is_json_and_tells_no_secrets():
    """Each line an object; a request's has its numbers, and nothing that a client said in clear."""
    trace = '4bf92f3577b34da6a3ce929d0e0e4736'
    headers = {'traceparent': f'00-{trace}-00f067aa0ba902b7-01', 'X-Stainless-Retry-Count': '2',
               'X-Gateway-Inference-Objective': 'batch', 'X-Request-Id': '123',
               'X-Gateway-Inference-Fairness-Id': 'team "a" \\', 'Authorization': 'Bearer k-secret'}
    with tempfile.NamedTemporaryFile('w', encoding='ascii') as keys:
        os.chmod(keys.name, 0o600)
        keys.write('k-secret\n')
        keys.flush()
        with Server(BINARY, MODEL, '--api-key-file', keys.name, '--log-format', 'json',
                    '--log-level', 'debug') as server:
            ask = {**ASK, 'user': 'u-secret', 'cache_salt': 's-secret'}
            ask['messages'][0]['content'][1]['text'] = 'What is the p-secret?'
            status, _, data = server.chat(ask, headers)
            assert status == 200
            server.chat(ASK, {**headers, 'traceparent': f'00-{trace}-00f067aa0ba902b7-01-',
                              'X-Request-Id': 'second'})
            server.request('GET', '/p%22a\\th?x=q-secret', headers={'X-Request-Id': 'third'})
            server.request('POST', '/v1/chat/completions', '{}', {'X-Request-Id': 'fourth'})
            ask_twice_traced(server, trace)
            lines = until(lambda: (found := logged(server)).keys() >= {
                'second', 'third', 'fourth', 'fifth'} and found, 'five lines')
            text = server.log()
    line = lines['123']
    usage = data['usage']
    want = {'level': 'info', 'event': 'request', 'trace_id': trace, 'method': 'POST',
            'route': '/chat/completions', 'status': 200, 'model': os.path.basename(MODEL),
            'images': 1, 'image_format': 'png', 'objective': 'batch', 'retries': 2,
            'prompt_tokens': usage['prompt_tokens'], 'output_tokens': usage['completion_tokens'],
            'image_tokens': usage['prompt_tokens_details']['image_tokens'],
            'cached_tokens': usage['prompt_tokens_details']['cached_tokens'],
            'finish': data['choices'][0]['finish_reason'],
            'image_bytes': len(pictures.scene(1))}
    assert want.items() <= line.items(), {k: (v, line.get(k)) for k, v in want.items()
                                          if line.get(k) != v}
    assert re.fullmatch('[0-9a-f]{8}', line['key']) and 'fairness' not in line, line
    times = {k: v for k, v in line.items() if k.endswith('_ms') and k != 'first_token_ms'}
    assert {'read_ms', 'image_decode_ms', 'encode_ms', 'prefill_ms', 'decode_ms'} <= times.keys()
    assert 0 < line['first_token_ms'] < line['ms'] and sum(times.values()) < line['ms'] + 2, line
    assert 'trace_id' not in lines['second'] and 'trace_id' not in lines['fifth']
    assert lines['third']['route'] == '/p%22a\\th' and lines['third']['status'] == 401
    assert (lines['fourth']['error'], lines['fourth']['finish']) == ('invalid_api_key', 'rejected')
    answer = data['choices'][0]['message']['content']
    assert len(answer) > 10
    for secret in ('secret', PICTURE['image_url']['url'][60:90], answer):
        assert secret not in text, secret


def an_answer_tells_its_times():
    """In the header and in the member; parts are no more than the whole, and agree."""
    with Server(BINARY, MODEL) as server:
        for fields in ({}, {'stream': True}, {'stream': True, 'stream_options': {
                'include_usage': True}}):
            body = question('What is shown?', picture_part(pictures.scene(len(fields) + 5)),
                            max_tokens=9, return_metrics=True, **fields)
            begin = time.monotonic()
            if fields:
                connection, answer = server.stream(body)
                chunks = stream_chunks(answer)
                connection.close()
                metrics = [c['metrics'] for c in chunks if 'metrics' in c]
                assert len(metrics) == 1 and 'metrics' in chunks[-1], chunks
            else:
                _, head, data = server.chat(body)
                metrics = [data['metrics']]
                parts = dict(re.findall(r'(\w+);dur=([0-9.]+)', head['Server-Timing']))
                assert list(parts) == ['queue', 'decode_image', 'encode', 'prefill', 'generate']
                assert all(abs(float(parts[k]) - metrics[0][v]) < 0.06 for k, v in (
                    ('queue', 'queue_time_ms'), ('decode_image', 'image_decode_ms'),
                    ('encode', 'vision_encode_ms'), ('prefill', 'prefill_ms'))), (parts, metrics)
                assert sum(map(float, parts.values())) < float(head['openai-processing-ms']) + 2
            took, m = (time.monotonic() - begin) * 1000, metrics[0]
            assert all(m[k] > 0 for k in ('image_decode_ms', 'vision_encode_ms', 'prefill_ms')), m
            before = (m['queue_time_ms'] + m['image_decode_ms'] + m['vision_encode_ms']
                      + m['prefill_ms'])
            assert before < m['time_to_first_token_ms'] + 0.1 < took + 0.1, (m, took)
            assert m['generation_time_ms'] < took, (m, took)


def ask_twice_traced(server, trace):
    """A request with two traceparent headers, which is as good as none."""
    connection = server.connect()
    connection.putrequest('GET', '/livez')
    connection.putheader('X-Request-Id', 'fifth')
    for span in '12':
        connection.putheader('traceparent', f'00-{trace}-{span * 16}-01')
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


def logged(server):
    """The lines of requests by id; every line of the log must be an object."""
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert all(line.keys() >= {'ts', 'level', 'event'} for line in lines), lines
    return {line['id']: line for line in lines if line['event'] == 'request'}


TESTS = [the_parser_is_strict, all_names_are_there, the_manual_has_them_all,
         numbers_are_those_of_the_answers, counters_hold_under_load_with_aborts,
         waiting_counts_image_stages, a_dead_helper_is_counted, options_choose_what_and_who,
         promtool_accepts_it, prometheus_scrapes_it, an_answer_tells_its_times,
         the_log_is_json_and_tells_no_secrets]
tap.need_model(MODEL)
sys.exit(tap.run(TESTS))
