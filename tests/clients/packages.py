"""The npm packages of package-lock.json, installed once into a folder outside the source tree."""
import fcntl
import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = ('package.json', 'package-lock.json', '.npmrc')


class Missing(Exception):
    """The packages cannot be had; says why."""


def install(build):
    """The node_modules of $CLIENTS_FOLDER or of a folder in build, to the letter of the lock file.
    One process at a time installs; needs network or npm's cache, unless it was done before."""
    if not shutil.which('node') or not shutil.which('npm'):
        raise Missing('node and npm are not installed')
    folder = os.environ.get('CLIENTS_FOLDER') or os.path.join(build, 'npm')
    os.makedirs(folder, exist_ok=True)
    modules, done = os.path.join(folder, 'node_modules'), os.path.join(folder, 'installed')
    with open(os.path.join(folder, 'busy'), 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(modules) or read(done) != read(os.path.join(HERE, FILES[1])):
            for name in FILES:
                shutil.copy(os.path.join(HERE, name), folder)
            npm_ci(folder)
            shutil.copy(os.path.join(folder, FILES[1]), done)
    return modules


def npm_ci(folder):
    """Runs npm there."""
    try:
        ran = subprocess.run(['npm', 'ci', '--no-audit', '--no-fund', '--ignore-scripts',
                              '--prefer-offline', '--loglevel=error'], cwd=folder,
                             capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as e:
        raise Missing('npm takes too long') from e
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()] or ['npm failed']
        raise Missing(f'the npm packages cannot be installed: {lines[0][:120]}')


def read(path):
    """A file's text; None when there is none."""
    try:
        with open(path, encoding='utf-8') as f:
            return f.read()
    except FileNotFoundError:
        return None
