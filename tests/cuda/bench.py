"""The benchmark on a tiny model: bench.py PROGRAM BACKEND BENCH_TORCH BENCH_REPORT PYTHON. TAP.

PROGRAM is bench_device; PYTHON may have PyTorch, otherwise the comparison with it is skipped. No
time is judged.
"""
import json
import os
import subprocess
import sys
import tempfile

program, backend, bench_torch, bench_report, python = sys.argv[1:]
METRICS = {'vit', 'vit and adapter', 'vision prefill', 'text prefill', 'decode', 'head',
           'head and greedy draw', 'head and top-p draw', 'picture to first token'}
tests = failed = 0


def result(what, good, text='', skip=''):
    global tests, failed
    tests += 1
    failed += not good
    print(f'{"" if good else "not "}ok {tests} - {what}{" # SKIP " + skip if skip else ""}')
    if not good:
        print('\n'.join('# ' + line for line in text.splitlines()), flush=True)


def run(*command):
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.returncode == 0, ran.stdout, ran.stdout + ran.stderr


def device(*args):
    return run(program, '--backend', backend, '--shape', 'tiny', '--seconds', '0.01', *args)


has_torch = run(python, '-c', 'import torch, numpy')[0]
with tempfile.TemporaryDirectory() as folder:
    ours, theirs = os.path.join(folder, 'ours'), os.path.join(folder, 'torch')
    good, out, text = device()
    result('bench_device runs', good, text)
    lines = [json.loads(line) for line in out.splitlines()] if good else []
    missing = METRICS - {line.get('metric') for line in lines}
    result('every stage is measured', not missing, f'missing: {missing}')
    result('times are times', all(0 < line['low'] <= line['ms'] <= line['high']
                                  for line in lines if 'ms' in line), out)
    result('work is counted', all(b > 0 and f > 0 for line in lines
                                  for b, f in line.get('work', [])), out)
    with open(ours, 'w', encoding='utf-8') as f:
        f.write(out)

    for dtype in ('f32', 'bf16'):
        logits = os.path.join(folder, 'logits')
        good, _, text = device('--dtype', dtype, '--logits', logits)
        result(f'logits are written, {dtype}', good, text)
        what = f'logits agree with PyTorch, {dtype}'
        if not has_torch:
            result(what, True, skip='no PyTorch')
            continue
        good, _, text = run(python, bench_torch, '--shape', 'tiny', '--device', 'cpu', '--dtype',
                            dtype, '--check', logits)
        result(what, good, text)

    what = 'PyTorch is measured'
    if has_torch:
        good, out, text = run(python, bench_torch, '--shape', 'tiny', '--device', 'cpu',
                              '--seconds', '0.01')
        result(what, good, text)
    else:
        result(what, True, skip='no PyTorch')
        out = ''
    with open(theirs, 'w', encoding='utf-8') as f:
        f.write(out)
    good, out, text = run(sys.executable, bench_report, ours, theirs, ours)
    result('the report has every stage', good and all(f'| {m}, ' in out for m in METRICS), text)
    print(f'1..{tests}')
sys.exit(1 if failed else 0)
