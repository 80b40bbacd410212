"""The openai npm package as it is against the real server: openai.py COGWHEEL DEMO-MODEL LONG-MODEL
BUILD-FOLDER. Installs the package into the build folder; without network and cache it skips.
LONG-MODEL is one whose answers are long. Prints TAP.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import checkpoint
import tap
from server import Server

BINARY, DEMO, LONG, BUILD = (os.path.abspath(a) for a in sys.argv[1:5])
HERE = os.path.dirname(os.path.abspath(__file__))
KEY = 'sesame'


def install():
    """The folder that has node_modules; None and the reason when there is none."""
    if not shutil.which('node') or not shutil.which('npm'):
        return None, 'node and npm are not installed'
    folder = os.path.join(BUILD, 'openai')
    os.makedirs(folder, exist_ok=True)
    shutil.copy(os.path.join(HERE, 'package.json'), folder)
    try:
        ran = subprocess.run(['npm', 'install', '--no-package-lock', '--no-audit', '--no-fund',
                              '--prefer-offline', '--loglevel=error'], cwd=folder,
                             capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        return None, 'npm install takes too long'
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()] or ['npm failed']
        return None, f'the npm package cannot be installed: {lines[0][:120]}'
    return folder, None


def main():
    """One server for answers, with keys; one for what takes long, with a queue of one."""
    tap.need_model(DEMO)
    folder, reason = install()
    if not folder:
        return tap.skip_all(reason)
    with tempfile.TemporaryDirectory() as temporary:
        keys = os.path.join(temporary, 'keys')
        slow = os.path.join(temporary, 'slow')
        os.mkdir(slow)
        checkpoint.grow(LONG, slow, 100000)
        with open(keys, 'w', encoding='ascii', opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(KEY + '\n')
        with Server(BINARY, DEMO, '--api-key-file', keys, '--max-body-bytes', '1MiB',
                    '--drain-delay', '0') as demo, \
             Server(BINARY, slow, '--dtype', 'f32', '--max-seqs', '1', '--max-queue', '1',
                    '--served-model-name', 'long', '--drain-delay', '0') as long:
            env = {**os.environ, 'DEMO_URL': demo.url, 'LONG_URL': long.url, 'DEMO': DEMO,
                   'API_KEY': KEY, 'CLIENT': folder}
            failed = subprocess.run(['node', os.path.join(HERE, 'openai.mjs')], env=env,
                                    check=False, timeout=400).returncode
            for server in (demo, long):
                code, left = server.stop(signal.SIGTERM)
                if code or {left[k] for k in ('waiting', 'running', 'kv_pages_used',
                                              'features')} != {'0'}:
                    print(f'not ok - the server ended with {code} and {left}')
                    failed = 1
    return failed


sys.exit(main())
