"""The gates fail when they should: test_gates.py NVCC. Compiles a few lines; TAP."""
import os
import re
import subprocess
import sys
import tempfile

GATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'gates.py')
GOOD = '''
static __global__ void __launch_bounds__(128) good(float *x)
{
    x[threadIdx.x] *= 2.0f;
}
void start(float *x) { good<<<1, 128>>>(x); }
'''
# an array indexed by what only the device knows lives in local memory
LOCAL = '''
static __global__ void __launch_bounds__(128) local(float *x, const int *at)
{
    float a[64];
    for (int i = 0; i < 64; i++)
        a[at[i] & 63] = x[i];
    x[threadIdx.x] = a[at[threadIdx.x] & 63];
}
void start(float *x, const int *at) { local<<<1, 128>>>(x, at); }
'''

nvcc = sys.argv[1]
tests = 0
failed = 0


def check(what, ran, ends_well, *words):
    """One test: the exit status, and words that its output must hold."""
    global tests, failed
    tests += 1
    good = (ran.returncode == 0) == ends_well and all(w in ran.stdout for w in words)
    failed += not good
    print(f'{"" if good else "not "}ok {tests} - {what}')
    if not good:
        print('\n'.join('# ' + line for line in (ran.stdout + ran.stderr).splitlines()))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)

    def gates(*args):
        return subprocess.run([sys.executable, GATES, '--budget', 'budget', *args],
                              capture_output=True, text=True, check=False)

    def compile_as(name, text):
        with open('it.cu', 'w', encoding='utf-8') as f:
            f.write(text)
        with open(name + '.o.log', 'w', encoding='utf-8') as log:
            subprocess.run([nvcc, '-std=c++17', '-O3', '-Xptxas', '-v', '--compress-mode=none',
                            '-gencode', 'arch=compute_90a,code=sm_90a', '-c', 'it.cu', '-o',
                            name + '.o'], stderr=log, check=True)
        return name + '.o'

    def edit(pattern, replacement):
        with open('budget', encoding='utf-8') as f:
            text = f.read()
        with open('budget', 'w', encoding='utf-8') as f:
            f.write(re.sub(pattern, replacement, text, flags=re.MULTILINE))

    def program(*lines):
        with open('launches', 'w', encoding='utf-8') as f:
            f.write('#!/bin/sh\n' + ''.join(f'echo "{line}"\n' for line in lines))
        os.chmod('launches', 0o755)
        return ['--launches', './launches']

    good = compile_as('plain', GOOD)
    local = compile_as('memory', LOCAL)
    os.link(good, 'skinny.o')
    os.link(good + '.log', 'skinny.o.log')

    check('a kernel without a budget fails', gates(good), False, 'is not in the budget file',
          '--update')
    check('--update accepts it', gates('--update', good), True, '1 kernels on 1 architectures')
    check('an accepted kernel passes', gates(good), True)
    check('one that is gone fails', gates(local), False,
          'in the budget file but not in the objects')
    check('local memory fails', gates('--update', local), False, 'bytes of stack', 'local memory')
    check('a product without tensor cores fails', gates('--update', 'skinny.o'), False, 'no HMMA',
          'no LDG.128', 'no PDL', 'no PTX for 9.0')
    gates('--update', good)
    edit(r'^(90a +)\d+', r'\g<1>1')
    check('more registers than the budget fail', gates(good), False, 'registers, the budget is 1',
          '--update')
    gates('--update', good)
    check('--update replaces them', gates(good), True)
    edit(r'^(90a +\d+ +\d+ +)\d+', r'\g<1>99')
    gates('--update', good)
    check('fewer blocks at once than wanted fail, also after --update', gates(good), False,
          'the budget is 99')
    edit(r'^(90a +\d+ +\d+ +)\d+', r'\g<1>1')
    with open(good + '.log', encoding='utf-8') as f:
        symbol = re.search(r"entry function '(\w+)'", f.read())[1]
    check('a launch within the limits passes', gates(*program(f'{symbol} 1 1 1 128 1 1 0'), good),
          True)
    check('a grid too high fails', gates(*program(f'{symbol} 1 65536 1 128 1 1 0'), good), False,
          'grid (1, 65536, 1)')
    check('too many threads fail', gates(*program(f'{symbol} 1 1 1 256 1 1 0'), good), False,
          '256 threads')
    check('too much shared memory fails',
          gates(*program(f'{symbol} 1 1 1 128 1 1 {228 * 1024}'), good), False,
          'bytes of shared memory')
    check('a kernel that nothing launches fails', gates(*program(), good), False, 'no launch')
    print(f'1..{tests}')

sys.exit(1 if failed else 0)
