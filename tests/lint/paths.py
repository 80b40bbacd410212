"""No file names a path of somebody's machine or the host of a package registry."""
import os
import re

import source

FORBIDDEN = [
    re.compile(r'(?<![\w.$}/-])/(root|work|home|mnt|Users)/'),
    re.compile(r'registry\.(npmjs|yarnpkg)|pypi\.org|files\.pythonhosted|'
               r'(deb|security|ftp\.\w+)\.debian\.org'),
]
# /tmp is a fact of containers; and the path of a UNIX socket must be short.
TEMPORARY = re.compile(r'(?<![\w.$}/-])/(var/)?tmp\b')
MAY_NAME_TMP = ('Dockerfile', 'deploy/', 'tests/unit/test_server_')
EXEMPT = ('tests/lint/paths.py', 'LICENSE')

problems = []
for name in source.files():
    if name in EXEMPT:
        continue
    try:
        with open(os.path.join(source.ROOT, name), encoding='utf-8') as f:
            lines = f.read().splitlines()
    except UnicodeDecodeError:
        continue
    patterns = FORBIDDEN + ([] if name.startswith(MAY_NAME_TMP) else [TEMPORARY])
    problems += [f'{name}:{number}: {m[0]}' for number, line in enumerate(lines, 1)
                 for m in (p.search(line) for p in patterns) if m]
source.finish(problems)
