"""A client from npm as it is against the real server: clients.py COGWHEEL DEMO-MODEL LONG-MODEL
BUILD-FOLDER SCRIPT. LONG-MODEL is one whose answers are long. Prints TAP.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(os.path.dirname(HERE), 'e2e'))
# pylint: disable=wrong-import-position
import checkpoint
import packages
import tap
from server import Server

BINARY, DEMO, LONG, BUILD = (os.path.abspath(a) for a in sys.argv[1:5])
SCRIPT = sys.argv[5]
KEY = 'sesame'
LEFT = ('waiting', 'running', 'kv_pages_used', 'features')


def servers(temporary):
    """One for answers, with keys; one for what takes long, with a queue of one; one that gives up
    soon on what takes long."""
    keys = os.path.join(temporary, 'keys')
    slow = os.path.join(temporary, 'slow')
    os.mkdir(slow)
    checkpoint.grow(LONG, slow, 100000)
    with open(keys, 'w', encoding='ascii', opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(KEY + '\n')
    long = ('--dtype', 'f32', '--served-model-name', 'long', '--drain-delay', '0')
    return {
        'DEMO': Server(BINARY, DEMO, '--api-key-file', keys, '--max-body-bytes', '1MiB',
                       '--drain-delay', '0'),
        'LONG': Server(BINARY, slow, '--max-seqs', '1', '--max-queue', '1', *long),
        'SHORT': Server(BINARY, slow, '--request-timeout', '3s', *long)}


def run(modules, temporary, started):
    """The script, among the packages; then every server must end with nothing left."""
    os.symlink(modules, os.path.join(temporary, 'node_modules'))
    for name in ('common.mjs', SCRIPT):
        shutil.copy(os.path.join(HERE, name), temporary)
    env = {**os.environ, **{f'{name}_URL': s.url for name, s in started.items()}, 'DEMO': DEMO,
           'API_KEY': KEY}
    failed = subprocess.run(['node', os.path.join(temporary, SCRIPT)], env=env, check=False,
                            timeout=500).returncode
    for name, server in started.items():
        code, left = server.stop(signal.SIGTERM)
        if code or {left[k] for k in LEFT} != {'0'}:
            print(f'not ok - the server {name} ended with {code} and {left}')
            failed = 1
    return failed


def main():
    """The exit code."""
    tap.need_model(DEMO)
    try:
        modules = packages.install(BUILD)
    except packages.Missing as e:
        return tap.skip_all(e)
    with tempfile.TemporaryDirectory() as temporary:
        started = servers(temporary)
        try:
            return run(modules, temporary, started)
        finally:
            for server in started.values():
                server.kill()


sys.exit(main())
