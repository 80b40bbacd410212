"""Which files the checks look at: those git knows, or all outside build folders without git."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# fixtures, what a fuzzer found, and the demo model are data; node_modules is other people's
DATA = ('tests/golden/fixtures/', 'tests/fuzz/corpus/', 'models/')


def files(*endings):
    """Paths relative to ROOT, with '/' between, that end in one of endings; all when there are none."""
    try:
        listed = subprocess.run(
            ['git', '-C', ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
            check=True, capture_output=True).stdout.decode().split('\0')
    except (OSError, subprocess.CalledProcessError):
        listed = walk()
    return sorted(p for p in set(listed)
                  if p and (not endings or p.endswith(endings)) and not p.startswith(DATA)
                  and os.path.isfile(os.path.join(ROOT, p)))


def walk():
    """Yields every file outside build folders, node_modules and hidden folders."""
    for folder, folders, names in os.walk(ROOT):
        relative = os.path.relpath(folder, ROOT)
        folders[:] = [f for f in folders if not f.startswith(('build', '.git'))
                      and f not in ('node_modules', '__pycache__')]
        for name in names:
            yield os.path.normpath(os.path.join(relative, name)).replace(os.sep, '/')


def finish(problems):
    """Prints the problems and ends the program."""
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)
