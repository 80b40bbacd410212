"""Adds up meson's test logs: count.py LOG.json... -- BUILD... prints what failed, and as the last line
"N passed, N failed, N skipped".

A TAP test counts as many as it has cases, any other test as one. A program that ends badly without
a failed case (a crash, a time limit) is one failure more. A BUILD could not be made and counts as one
failure. Exits 1 when anything failed or nothing passed.
"""
import collections
import json
import re
import sys

CASE = re.compile(r'^(not )?ok\b.*?(# *skip.*)?$', re.IGNORECASE)

split = sys.argv.index('--')
builds = sys.argv[split + 1:]
count = collections.Counter(failed=len(builds))
for path in sys.argv[1:split]:
    try:
        with open(path, encoding='utf-8') as log:
            tests = [json.loads(line) for line in log]
    except (OSError, ValueError) as e:
        print(e)
        tests = [{'name': path, 'result': 'NO LOG'}]
    for test in tests:
        ends = collections.Counter()
        for m in filter(None, map(CASE.match, test.get('stdout', '').splitlines())):
            ends['failed' if m[1] else 'skipped' if m[2] else 'passed'] += 1
        went_well = test['result'] in ('OK', 'EXPECTEDFAIL', 'SKIP')
        if not ends and went_well:
            ends['skipped' if test['result'] == 'SKIP' else 'passed'] += 1
        if not went_well and not ends['failed']:
            ends['failed'] += 1
        count += ends
        if not went_well:
            print(f'{test["name"]}: {test["result"]}')

for name in builds:
    print(f'the build {name}: it cannot be made')
print(f'{count["passed"]} passed, {count["failed"]} failed, {count["skipped"]} skipped')
sys.exit(1 if count['failed'] or not count['passed'] else 0)
