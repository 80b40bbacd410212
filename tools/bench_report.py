#!/usr/bin/env python3
"""Joins the lines of bench_device and bench_torch.py into one Markdown table: bench_report.py FILE...

floor     the least time the stage's bytes and operations take on this device: parts that follow each
          other, each bound by the measured reading of memory or by the measured large product,
          whichever is longer
of floor  floor / time: 100 % is all that the device can do
torch     the quickest of the ways in which bench_torch.py runs the stage, and its name
ratio     torch's time / ours
spread    (90th - 10th percentile) / median of our repeats; a smaller difference is noise

Several runs of bench_device are taken together by their median; "drift" says how far they are
apart. Nothing is printed that was not measured: a missing value is a dash.
"""
import collections
import json
import statistics
import sys

ORDER = ('vit', 'vit and adapter', 'vision prefill', 'text prefill', 'decode', 'head',
         'head and greedy draw', 'head and top-p draw', 'picture to first token')
SIZE = {'vit': 'pictures', 'vit and adapter': 'pictures', 'vision prefill': 'pictures',
        'text prefill': 'rows', 'picture to first token': 'picture'}


def read(paths):
    """(ceilings, descriptions, {(shape, metric, size): {who: [line]}})."""
    ceilings, about = [], []
    stages = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in paths:
        with open(path, encoding='utf-8') as f:
            for text in f:
                line = json.loads(text)
                if line['who'] == 'ceiling':
                    ceilings.append(line)
                elif line['who'] == 'device':
                    about.append(f'{line["text"]} ({line["backend"]}, {line["dtype"]})')
                elif line['who'] == 'torch':
                    about.append(f'PyTorch {line["version"]} on {line["device"]}')
                else:
                    stages[line['shape'], line['metric'], line['size']][line['who']].append(line)
    return ceilings, list(dict.fromkeys(about)), stages


def floor_ms(work, ceiling):
    """Least time of parts [bytes, operations] that follow each other."""
    return 1e3 * sum(max(b / ceiling['read'], f / ceiling['gemm']) for b, f in work)


def number(x):
    return '-' if x is None else f'{x:.3g}' if x < 100 else f'{x:.0f}'


def row(key, who, ceiling):
    """One line of the table."""
    _, metric, size = key
    ours = who.get('cogwheel', [])
    ms = statistics.median(line['ms'] for line in ours) if ours else None
    floor = floor_ms(ours[0]['work'], ceiling) if ours and ceiling else None
    spread = max((line['high'] - line['low']) / line['ms'] for line in ours) if ours else None
    torch = min(((line['ms'], name) for name, lines in who.items() if name != 'cogwheel'
                 for line in lines), default=None)
    unit = SIZE.get(metric, 'sequences')
    rate = f'{1e3 * size / ms:.0f} tok/s' if metric == 'decode' and ms else ''
    return [f'{metric}, {size} {unit}', number(ms), number(floor),
            f'{100 * floor / ms:.0f} %' if floor and ms else '-',
            f'{number(torch[0])} ({torch[1].replace("torch ", "")})' if torch else '-',
            f'{torch[0] / ms:.2f}' if torch and ms else '-',
            f'{100 * spread:.0f} %' if spread is not None else '-', rate]


def drift(stages):
    """The widest gap between runs of the same stage, as a fraction of its time; None for one run."""
    gaps = [(max(t) - min(t)) / min(t) for who in stages.values()
            if len(t := [line['ms'] for line in who.get('cogwheel', [])]) > 1]
    return statistics.median(gaps) if gaps else None


def main():
    ceilings, about, stages = read(sys.argv[1:])
    # the best that any run saw: a ceiling is what the device can do
    ceiling = {k: (min if k == 'node' else max)(c[k] for c in ceilings)
               for k in ('read', 'copy', 'gemm', 'node', 'h2d')} if ceilings else None
    for line in about:
        print(f'- {line}')
    if ceiling:
        print(f'- ceilings: reading {ceiling["read"] / 1e12:.2f} TB/s, copying '
              f'{ceiling["copy"] / 1e12:.2f} TB/s, bf16 product {ceiling["gemm"] / 1e12:.0f} '
              f'TFLOP/s, a recorded empty kernel {1e6 * ceiling["node"]:.2f} us, host to device '
              f'{ceiling["h2d"] / 1e9:.1f} GB/s')
    apart = drift(stages)
    if apart is not None:
        print(f'- drift between our runs, median over the stages: {100 * apart:.1f} %')
    for shape in dict.fromkeys(key[0] for key in stages):
        print(f'\n### {shape}\n')
        print('| stage | ms | floor ms | of floor | torch ms | ratio | spread | |')
        print('|---|---|---|---|---|---|---|---|')
        keys = [k for k in stages if k[0] == shape]
        for key in sorted(keys, key=lambda k: (ORDER.index(k[1]), k[2])):
            print('| ' + ' | '.join(row(key, stages[key], ceiling)) + ' |')


if __name__ == '__main__':
    main()
