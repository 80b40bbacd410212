"""Reads the Prometheus text format, version 0.0.4, and takes nothing that is not exactly it."""
import math
import re

NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
HELP = re.compile(rf'# HELP ({NAME}) (\S(?:.*\S)?)')
TYPE = re.compile(rf'# TYPE ({NAME}) (counter|gauge|histogram)')
SAMPLE = re.compile(rf'({NAME})(?:\{{(.*)\}})? (\S+)')
NUMBER = re.compile(r'[+-]?Inf|NaN|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?')
SUFFIXES = ('_bucket', '_sum', '_count')


class Family:
    """What follows one HELP and one TYPE."""

    def __init__(self, name, text):
        self.name, self.help, self.type = name, text, None
        self.samples = {}  # (name with suffix, ((label, value), ...) in alphabetical order): value

    def series(self):
        """A histogram's samples by their labels without le: {labels: (buckets, sum, count)};
        buckets are (bound as written, count), in order."""
        found = {}
        for (name, labels), value in self.samples.items():
            rest = tuple(p for p in labels if p[0] != 'le')
            buckets, scalars = found.setdefault(rest, ([], {}))
            if name.endswith('_bucket'):
                buckets.append((dict(labels)['le'], value))
            else:
                scalars[name.removeprefix(self.name)] = value
        assert all(s.keys() == {'_sum', '_count'} for _, s in found.values()), self.name
        return {k: (b, s['_sum'], s['_count']) for k, (b, s) in found.items()}


def read_labels(text):
    """The labels between braces, sorted."""
    labels, at = [], 0
    while True:
        m = LABEL.match(text, at)
        assert m, f'no label at {text[at:]!r}'
        labels.append((m[1], re.sub(r'\\(.)', lambda e: '\n' if e[1] == 'n' else e[1], m[2])))
        at = m.end()
        if at == len(text):
            break
        assert text[at] == ',', f'no comma at {text[at:]!r}'
        at += 1
    assert len({k for k, _ in labels}) == len(labels), f'a label twice: {text}'
    return tuple(sorted(labels))


def read_number(text):
    """A value as written."""
    assert NUMBER.fullmatch(text), f'no number: {text!r}'
    return float(text.replace('Inf', 'inf'))


def add_sample(family, line):
    """A sample of the family that is open."""
    m = SAMPLE.fullmatch(line)
    assert m, f'no sample: {line!r}'
    name, labels, value = m[1], read_labels(m[2]) if m[2] is not None else (), read_number(m[3])
    if family.type == 'histogram':
        assert name.removeprefix(family.name) in SUFFIXES, f'{name} in {family.name}'
        assert ('le' in dict(labels)) == name.endswith('_bucket'), line
    else:
        assert name == family.name and 'le' not in dict(labels), f'{name} in {family.name}'
    if family.type != 'gauge':
        assert 0 <= value < math.inf, line
    assert (name, labels) not in family.samples, f'twice: {line}'
    family.samples[name, labels] = value


def check_histogram(family):
    """Bounds rise to +Inf, counts never fall, and the last one is the count."""
    for labels, (buckets, total, count) in family.series().items():
        bounds = [read_number(b) for b, _ in buckets]
        counts = [c for _, c in buckets]
        assert bounds and bounds[-1] == math.inf, (family.name, labels)
        assert all(a < b for a, b in zip(bounds, bounds[1:])), (family.name, bounds)
        assert all(a <= b for a, b in zip(counts, counts[1:])), (family.name, counts)
        assert counts[-1] == count and all(c == int(c) for c in counts), (family.name, labels)
        assert count > 0 or total == 0, (family.name, labels)


def parse(text):
    """{name: Family} of a page; AssertionError for anything that is wrong with it."""
    families, family = {}, None
    assert text.endswith('\n'), 'the last line has no end'
    for line in text[:-1].split('\n'):
        if line.startswith('# HELP'):
            assert family is None or family.samples, f'{family.name} has no samples'
            m = HELP.fullmatch(line)
            assert m and m[1] not in families, line
            family = families[m[1]] = Family(m[1], m[2])
        elif line.startswith('#'):
            m = TYPE.fullmatch(line)
            assert m and family and m[1] == family.name and not family.type, line
            family.type = m[2]
        else:
            assert family and family.type, f'before its family: {line}'
            add_sample(family, line)
    for one in families.values():
        assert one.type, one.name
        if one.type == 'histogram':
            check_histogram(one)
    return families
