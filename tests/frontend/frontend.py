"""What the front end costs, beside nginx in the same run: frontend.py BUILD [--seconds N]

  trivial request   processor time of GET /livez on kept connections, and of nginx answering one byte
  token             from the engine making it to a client having it, with 1 and with 1,000 streams
  idle stream       memory of the server for each of 1,000 streams that say nothing
  bench             what `cogwheel bench` takes for 1,000 streams, and how far its clock is off

Needs nginx and wrk. Where others use the machine, start it with `chrt -f 1` in front, as root, so that
they do not show in the tokens' times. Exit code 1: a target is missed.
"""
import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONNECTIONS, ROUNDS, STREAMS = 32, 3, 1000
TICK = os.sysconf('SC_CLK_TCK')
TARGETS = {'request': 1.5, 'token_us': 300, 'idle_kib': 32}


def processor_seconds(pid):
    """Of a process, all its threads."""
    with open(f'/proc/{pid}/stat', encoding='ascii') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_kib(pid):
    """Memory in use."""
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read())[1])


def free_port():
    """One that nobody has now."""
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


def wait_for(port):
    """Until somebody listens."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
            return
        time.sleep(0.1)
    sys.exit(f'nobody listens on {port}')


@contextlib.contextmanager
def running(*command, **options):
    """A process for the length of a block."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def nginx(folder):
    """One worker, in one process, that answers one byte; port and process."""
    port = free_port()
    config = os.path.join(folder, 'nginx.conf')
    with open(config, 'w', encoding='ascii') as f:
        f.write(f'''daemon off; master_process off; worker_processes 1; pid {folder}/pid;
error_log {folder}/error.log; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/1;
proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4;
scgi_temp_path {folder}/5; default_type text/plain;
server {{ listen 127.0.0.1:{port}; location / {{ return 200 "x"; }} }} }}
''')
    with running('nginx', '-c', config, '-p', folder, stderr=subprocess.DEVNULL) as process:
        wait_for(port)
        yield port, process


@contextlib.contextmanager
def cogwheel(build):
    """The real server on the demo; port and process."""
    port = free_port()
    with running(os.path.join(build, 'cogwheel'), 'serve', '--model',
                 os.path.join(ROOT, 'models', 'demo'), '--listen', f'127.0.0.1:{port}',
                 '--drain-delay', '0', stderr=subprocess.DEVNULL) as process:
        wait_for(port)
        for _ in range(600):
            out = subprocess.run(['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}',
                                  f'http://127.0.0.1:{port}/readyz'], capture_output=True,
                                 text=True, check=False).stdout
            if out == '200':
                break
            time.sleep(0.1)
        yield port, process


def cost_of_requests(port, pid, path, seconds):
    """Processor microseconds of one request, and requests in a second."""
    before = processor_seconds(pid)
    out = subprocess.run(['wrk', '-t1', f'-c{CONNECTIONS}', f'-d{seconds}s',
                          f'http://127.0.0.1:{port}{path}'], capture_output=True, text=True,
                         check=True).stdout
    used = processor_seconds(pid) - before
    assert 'Non-2xx' not in out and 'Socket errors' not in out, out
    count = int(re.search(r'(\d+) requests in', out)[1])
    return used / count * 1e6, count / seconds


def trivial_request(build, folder, seconds):
    """Rounds in turn, so that both see the same neighbours; medians."""
    with nginx(folder) as (nginx_port, nginx_process), cogwheel(build) as (port, process):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(cost_of_requests(port, process.pid, '/livez', seconds))
            theirs.append(cost_of_requests(nginx_port, nginx_process.pid, '/', seconds))
    cost = [statistics.median(r[0] for r in rows) for rows in (ours, theirs)]
    rate = [statistics.median(r[1] for r in rows) for rows in (ours, theirs)]
    print(f'trivial request   {cost[0]:.2f} us of a processor (nginx {cost[1]:.2f}): '
          f'{cost[0] / cost[1]:.2f} times nginx; {rate[0]:.0f} requests/s (nginx {rate[1]:.0f})')
    return cost[0] / cost[1]


@contextlib.contextmanager
def front(program):
    """The server over the engine's double; address and process."""
    process = subprocess.Popen([program, 'serve'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.stdin.close()
        process.wait(60)


def stream_ages(program, address, n, every, seconds):
    """The client's report."""
    out = subprocess.run([program, 'streams', address, str(n), str(every), str(seconds)],
                         capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def tokens(program, seconds):
    """Ages of tokens with few and with many streams open; the larger median."""
    worst = 0
    for n, every in ((1, 10), (STREAMS, 100)):
        with front(program) as (address, process):
            before = processor_seconds(process.pid)
            began = time.monotonic()
            r = stream_ages(program, address, n, every, seconds)
            cpu = (processor_seconds(process.pid) - before) / (time.monotonic() - began)
        worst = max(worst, r['p50_us'])
        print(f'token             {n:4} streams, {r["tokens"] / r["seconds"]:.0f} tokens/s: '
              f'p50 {r["p50_us"]:.0f} us, p90 {r["p90_us"]:.0f}, p99 {r["p99_us"]:.0f} '
              f'(processors: server {cpu:.2f}, client {r["client_cpu"]:.2f})')
    return worst


def idle_stream(program):
    """KiB that the server grows by for each stream."""
    with front(program) as (address, process):
        stream_ages(program, address, 20, 100, 1)  # what the first ones need is there
        before = rss_kib(process.pid)
        with running(program, 'streams', address, str(STREAMS), '1000000', '60',
                     stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as client:
            assert client.stderr.readline() == 'open\n'
            time.sleep(0.5)
            grown = (rss_kib(process.pid) - before) / STREAMS
    print(f'idle stream       {grown:.1f} KiB of memory')
    return grown


def bench_client(build, program):
    """`cogwheel bench` on streams whose times are known: a token every 100 ms, the end 100 ms after
    the last one."""
    with front(program) as (address, _):
        out = subprocess.run([os.path.join(build, 'cogwheel'), 'bench', f'http://{address}',
                              '--json', '--image-share', '0', '--concurrency', str(STREAMS),
                              '--num-prompts', str(STREAMS), '--ignore-eos', 'off',
                              '--prompt', 'count=50 every=100'],
                             capture_output=True, text=True, check=True).stdout
    r = json.loads(out)
    print(f'cogwheel bench    {r["completed"]} streams of 50 tokens, one every 100 ms: '
          f'TPOT median {r["median_tpot_ms"]:.2f} ms of 102.04, p99 {r["p99_tpot_ms"]:.2f}; '
          f'{r["output_throughput"]:.0f} tokens/s, {r["failed"]} failed; '
          f'client took {r["client_cpu"] * 100:.0f} % of a processor')


def main():
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser()
    parser.add_argument('build')
    parser.add_argument('--seconds', type=int, default=5)
    options = parser.parse_args()
    for program in ('nginx', 'wrk', 'curl'):
        if not shutil.which(program):
            sys.exit(f'needs {program}: apt-get install {program}')
    build = os.path.abspath(options.build)
    program = os.path.join(build, 'tests', 'frontend', 'front')
    with open('/proc/cpuinfo', encoding='utf-8') as f:
        model = re.search(r'model name\s*: (.*)', f.read())
    print(f'{datetime.date.today()}, {os.cpu_count()} processors, {model[1] if model else "?"}, '
          f'load {os.getloadavg()[0]:.1f}')
    with tempfile.TemporaryDirectory() as folder:
        results = {'request': trivial_request(build, folder, options.seconds),
                   'token_us': tokens(program, options.seconds),
                   'idle_kib': idle_stream(program)}
    bench_client(build, program)
    missed = [k for k, v in results.items() if v > TARGETS[k]]
    for name in missed:
        print(f'missed: {name} {results[name]:.2f}, at most {TARGETS[name]}')
    return 1 if missed else 0


sys.exit(main())
