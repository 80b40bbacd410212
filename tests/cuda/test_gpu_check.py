"""tools/gpu-check.sh does what it says, on a machine without a GPU: test_gpu_check.py SCRIPT BENCH.

BENCH is bench_device on the emulator; nvidia-smi and the other programs are stand-ins. TAP.
"""
import os
import subprocess
import sys
import tempfile

script, bench = map(os.path.abspath, sys.argv[1:])
SMI = '''#!/bin/sh
case "$*" in
*--query-gpu=name*) echo Emulated ;;
*compute_cap*) echo 9.0 ;;
*driver_version*) echo 0.0 ;;
*) echo 1 MHz ;;
esac
'''
tests = failed = 0


def check(what, good, text):
    global tests, failed
    tests += 1
    failed += not good
    print(f'{"" if good else "not "}ok {tests} - {what}')
    if not good:
        print('\n'.join('# ' + line for line in text.splitlines()), flush=True)


with tempfile.TemporaryDirectory() as folder:
    tools, packed = os.path.join(folder, 'tools'), os.path.join(folder, 'packed')
    record = os.path.join(folder, 'record.md')
    os.mkdir(tools)
    os.mkdir(packed)

    def program(place, name, text):
        path = os.path.join(place, name)
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
        os.chmod(path, 0o755)

    def run(*args):
        path = os.pathsep.join([tools, os.environ['PATH']])
        ran = subprocess.run(['sh', script, '--record', record, *args], capture_output=True,
                             text=True, check=False, env={**os.environ, 'PATH': path})
        return ran.returncode, ran.stdout, ran.stdout + ran.stderr

    program(tools, 'nvidia-smi', '#!/bin/sh\nexit 9\n')
    status, _, text = run()
    check('without a GPU it is skipped', status == 77 and not os.path.exists(record), text)

    program(tools, 'nvidia-smi', SMI)
    program(tools, 'compute-sanitizer', '#!/bin/sh\nexec "$7"\n')
    for name in ('conform_gpu', 'golden', 'test_engine', 'cogwheel'):
        program(packed, name, '#!/bin/sh\necho "ok 1 - stands in"\n')
    os.symlink(bench, os.path.join(packed, 'bench_device'))
    status, out, text = run('--packed', packed, '--shape', 'tiny')
    check('with all well it succeeds', status == 0, text)
    check('the record has every check', all(w in out for w in (
        '| conformance | passed (1 cases) |', '| parity with the reference | passed (',
        '| engine | passed', '| compute-sanitizer memcheck | passed',
        '| compute-sanitizer racecheck | passed', '| compute-sanitizer initcheck | passed',
        '| compute-sanitizer synccheck | passed', '| times, tiny | passed')), text)
    check('the record has the table', '| decode, 1 sequences |' in out and 'ceilings:' in out, text)
    with open(record, encoding='utf-8') as f:
        check('the record is kept', out.strip() in f.read(), text)

    program(packed, 'conform_gpu', '#!/bin/sh\necho "not ok 1 - broken"\nexit 1\n')
    status, out, text = run('--packed', packed, '--no-bench')
    check('a failure is one', status == 1 and '| conformance | FAILED: status 1 |' in out, text)
    check('what failed is shown', 'not ok 1 - broken' in text, text)
    print(f'1..{tests}')
sys.exit(1 if failed else 0)
