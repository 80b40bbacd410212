"""Puts each known mistake back into a copy of the source and demands that a test notices:
traps.py [WORD...] runs the rows whose names have all the words. Takes some minutes.
traps.py --check only looks whether every edit still has its place.

Prints a table of what caught what; exits 1 when a mistake got through.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from table import TRAPS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IGNORED = shutil.ignore_patterns('build*', '.git', 'node_modules', '__pycache__', 'models',
                                 'demo-work')
NOT_OK = re.compile(r'^not ok \d+ -? ?(.*)$', re.MULTILINE)


def files_of(root):
    """Where the files are that edits may name: name -> paths."""
    files = {}
    for top in ('base', 'engine'):
        for where, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                files.setdefault(name, []).append(os.path.join(where, name))
    return files


def read(path):
    """A file's text."""
    with open(path, encoding='utf-8') as f:
        return f.read()


def write(path, text):
    """A file's new text."""
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def edited(files, edits):
    """The new texts of the files that the edits change: path -> text."""
    texts = {}
    for name, old, new in edits:
        found = [p for p in files.get(name, []) if old in texts.get(p, read(p))]
        if len(found) != 1:
            raise SystemExit(f'{name}: {len(found)} files have the text\n{old}')
        texts[found[0]] = texts.get(found[0], read(found[0])).replace(old, new)
    return texts


class Copy:
    """A copy of the source, and its build."""

    def __init__(self, folder):
        self.source, self.build = os.path.join(folder, 'source'), os.path.join(folder, 'build')
        shutil.copytree(ROOT, self.source, ignore=IGNORED)
        self.run('meson', 'setup', self.build, self.source, '-Dtests=enabled', '-Dcuda=disabled',
                 '--optimization=1')
        self.files = files_of(self.source)

    def run(self, *command):
        """A command that must work."""
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise SystemExit(f'{" ".join(command)}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}')

    def make(self, tests):
        """Builds the programs of these tests."""
        self.run('ninja', '-C', self.build, *sorted({self.program(t) for t in tests}))

    @staticmethod
    def program(test):
        """The program of a test, seen from the build folder."""
        if isinstance(test, str):
            return f'tests/unit/test_{test}'
        if test[0] == 'conform':
            return 'tests/conform/conform_cuda'
        return 'tests/golden/golden_emu' if test[2:] == ('cuda',) else 'tests/golden/golden'

    def failures(self, test):
        """What fails in a test: names of functions, or a word about how it ended."""
        env = {**os.environ, 'COG_SOURCE_ROOT': self.source, 'CMOCKA_MESSAGE_OUTPUT': 'TAP'}
        args, name = [], test
        if test[0] == 'conform':
            args, name = ['--op', test[1]], 'conform_cuda ' + test[1]
        elif not isinstance(test, str):
            # the scalar kernels: every machine has them
            args = [os.path.join(self.source, 'tests', 'golden', 'fixtures', test[0]), test[1],
                    *(test[2:] or ['0'])]
            name = 'golden ' + ' '.join(test)
        try:
            ran = subprocess.run([os.path.join(self.build, self.program(test)), *args],
                                 capture_output=True, text=True, errors='replace', timeout=300,
                                 env=env, check=False)
        except subprocess.TimeoutExpired:
            return [f'{name} (time limit)']
        names = NOT_OK.findall(ran.stdout)
        if ran.returncode != 0 and not names:
            names = [f'ended with {ran.returncode}']
        return [f'{name}: {n}' for n in names]


def try_row(copy, edits, tests):
    """What the tests say about the edits, which are undone afterwards."""
    texts = edited(copy.files, edits)
    before = {path: read(path) for path in texts}
    for path, text in texts.items():
        write(path, text)
    copy.make(tests)
    caught = [f for t in tests for f in copy.failures(t)]
    for path, text in before.items():
        write(path, text)
    return caught


def main(words):
    """One row after the other."""
    for _, edits, _ in TRAPS:
        edited(files_of(ROOT), edits)
    if words == ['--check']:
        return 0
    rows = [r for r in TRAPS if all(w in r[0] for w in words)]
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(folder)
        everything = list(dict.fromkeys(t for _, _, tests in rows for t in tests))
        copy.make(everything)
        for test in everything:
            if copy.failures(test):
                raise SystemExit(f'{test} fails without a mistake: {copy.failures(test)}')
        for name, edits, tests in rows:
            caught = try_row(copy, edits, tests)
            if not caught:
                survived.append(name)
            first = '; '.join(caught[:3]) + (f' and {len(caught) - 3} more' if caught[3:] else '')
            print(f'{name} | {first or "NOTHING"}', flush=True)
    print(f'{len(rows) - len(survived)} of {len(rows)} mistakes were caught')
    return 1 if survived else 0


sys.exit(main(sys.argv[1:]))
