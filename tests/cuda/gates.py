#!/usr/bin/env python3
"""What nvcc made of the kernels, looked at without a GPU.

    gates.py [--update] [--budget FILE] [--launches PROGRAM] OBJECT...

Each OBJECT is a compiled .cu file with what ptxas said of it beside it (OBJECT.log). For every
kernel and architecture:

  memory     no spills, no stack frame, no load or store of local memory
  budget     registers and static shared memory at most what the budget file says, and at least as
             many blocks on a multiprocessor; a kernel that is not listed fails
  opcodes    the instructions that the kernel exists for (RULES below), counted in the machine code
  ptx        there is PTX for 9.0 or later of the files that are launched dependent, and it waits
  launches   PROGRAM (tests/cuda/launches.c) reports every launch for the shapes of the real models:
             grid, block and shared memory are within the architecture's limits, and every kernel is
             launched

--update accepts the kernels as they are into the budget file: registers and shared memory are
replaced, the blocks of kernels that are listed already are kept. Without nvcc's dumping tools: an
object holds a fat binary, whose cubins are ELF files; an instruction has 16 bytes, and the low 12
bits say which one it is.
"""
import argparse
import collections
import os
import re
import struct
import subprocess
import sys

OPCODES = {0x23c: 'HMMA', 0x83b: 'LDSM', 0xfae: 'LDGSTS', 0x983: 'LDL', 0x387: 'STL', 0x981: 'LDG',
           0x986: 'STG', 0x82d: 'PDL', 0x82e: 'PDL'}
# bits 73 to 75 of a load: how much it loads
WIDTH = {6: 'LDG.128', 5: 'LDG.64', 4: 'LDG.32'}

# (source file, kernel, architecture) as regular expressions -> instructions that must be there
RULES = [
    (r'attention_flash', r'.*', r'.*', ('HMMA', 'LDGSTS', 'LDSM')),
    (r'skinny', r'.*', r'.*', ('HMMA', 'LDG.128')),
    (r'skinny', r'.*', r'90a|120', ('PDL',)),
    (r'attention_rows', r'rows_paged.*', r'90a|120', ('PDL',)),
]
# source files whose kernels are launched dependent: on devices without machine code of their own
# PTX for 8.0, where nothing waits, would be too old
DEPENDENT = ('skinny', 'attention_rows')
FORBIDDEN = ('LDL', 'STL')

KIB = 1024
# per multiprocessor: warps, blocks, shared memory; per block: shared memory (CUDA C++ Programming
# Guide, "Compute Capabilities"). 65536 registers everywhere.
Limits = collections.namedtuple('Limits', 'warps blocks shared block_shared')
LIMITS = {
    '80': Limits(64, 32, 164 * KIB, 163 * KIB),
    '86': Limits(48, 16, 100 * KIB, 99 * KIB),
    '89': Limits(48, 24, 100 * KIB, 99 * KIB),
    '90a': Limits(64, 32, 228 * KIB, 227 * KIB),
    '120': Limits(48, 24, 100 * KIB, 99 * KIB),
}
REGISTERS = 65536
MAX_GRID = (2**31 - 1, 65535, 65535)

HEADER = """\
# What each kernel may cost: architecture, registers of a thread, bytes of static shared memory,
# blocks that must fit on a multiprocessor at once, kernel. Read by tests/cuda/gates.py; to accept
# kernels that cost more, or new ones: gates.py --update, with the arguments of the test "gates".
"""


class Kernel:
    """One kernel on one architecture."""

    def __init__(self, source, symbol, arch):
        self.source, self.symbol, self.arch = source, symbol, arch
        self.registers = self.shared = self.stack = self.spills = None
        self.max_threads = None
        self.opcodes = collections.Counter()
        self.launches = []      # (grid, block, dynamic shared memory)
        self.name = symbol


# ------------------------------------------------------------------ what ptxas said

def read_log(path, kernels):
    """Registers, memory; returns the milliseconds ptxas took."""
    source, kernel, milliseconds = source_of(path), None, 0.0
    with open(path, encoding='utf-8') as log:
        for line in log:
            if m := re.search(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", line):
                kernel = Kernel(source, m[1], m[2])
                kernels[source, m[1], m[2]] = kernel
            elif m := re.search(r'Function properties for (\w+)', line):
                # of a function that is called, not of a kernel: its frame counts all the same
                if kernel is not None and m[1] != kernel.symbol:
                    sys.exit(f'{path}: {m[1]} is a function of its own: it must be inlined')
            elif m := re.search(r'(\d+) bytes stack frame, (\d+) bytes spill stores, '
                                r'(\d+) bytes spill loads', line):
                kernel.stack, kernel.spills = int(m[1]), int(m[2]) + int(m[3])
            elif m := re.search(r'Used (\d+) registers', line):
                kernel.registers = int(m[1])
                smem = re.search(r'(\d+) bytes smem', line)
                kernel.shared = int(smem[1]) if smem else 0
            elif m := re.search(r'Compile time = ([\d.]+) ms', line):
                milliseconds += float(m[1])
    return milliseconds


def source_of(path):
    return re.sub(r'\.o(\.log)?$', '', os.path.basename(path))


# ------------------------------------------------------------------ machine code

def sections(data, start=0):
    """Yields (name, contents) of the ELF file at start."""
    table, = struct.unpack_from('<Q', data, start + 40)
    count, names = struct.unpack_from('<HH', data, start + 60)
    rows = [struct.unpack_from('<IIQQQQIIQQ', data, start + table + 64 * i) for i in range(count)]
    for row in rows:
        at = start + rows[names][4] + row[0]
        name = data[at:data.index(b'\0', at)].decode()
        yield name, data[start + row[4]:start + row[4] + (row[5] if row[1] != 8 else 0)]


def cubins(path):
    """Yields (architecture, sections) of the cubins in an object."""
    with open(path, 'rb') as f:
        fat = dict(sections(f.read())).get('.nv_fatbin', b'')
    at = fat.find(b'\x7fELF')
    while at >= 0:
        machine, = struct.unpack_from('<H', fat, at + 18)
        flags, = struct.unpack_from('<I', fat, at + 48)
        if machine == 190:
            yield str(flags >> 8 & 0xff), list(sections(fat, at))
        at = fat.find(b'\x7fELF', at + 4)


def census(code):
    """Counts instructions by name."""
    count = collections.Counter()
    for low, high in struct.iter_unpack('<QQ', code):
        name = OPCODES.get(low & 0xfff)
        if name:
            count[name] += 1
        if name == 'LDG':
            count[WIDTH.get(high >> 9 & 7, 'LDG.narrow')] += 1
    return count


def max_threads(info):
    """The kernel's __launch_bounds__, or None."""
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from('<BBH', info, at)
        at += 4
        if form == 4:
            if attribute == 5:
                x, y, z = struct.unpack_from('<III', info, at)
                return x * y * z
            at += size
    return None


def ptx_problems(path):
    if source_of(path) not in DEPENDENT:
        return []
    with open(path, 'rb') as f:
        modules = re.findall(rb'\.target sm_(\d+)([^\0]*)', f.read())
    late = [text for arch, text in modules if int(arch) >= 90]
    if not late:
        return [f'{path}: no PTX for 9.0 or later']
    return [f'{path}: PTX for 9.0 or later without griddepcontrol' for text in late
            if b'griddepcontrol.wait' not in text]


def read_object(path, kernels):
    source = source_of(path)
    found = set()
    for number, parts in cubins(path):
        for name, contents in parts:
            section, _, symbol = name.rpartition('.')
            of_arch = [k for (s, y, a), k in kernels.items()
                       if s == source and y == symbol and re.sub(r'\D', '', a) == number]
            if section == '.text':
                for kernel in of_arch:
                    kernel.opcodes = census(contents)
                    found.add((symbol, kernel.arch))
            elif section == '.nv.info':
                for kernel in of_arch:
                    kernel.max_threads = max_threads(contents)
    return [f'{k.name} on {k.arch}: {path} has no machine code of it' for (s, y, a), k
            in kernels.items() if s == source and (y, a) not in found]


# ------------------------------------------------------------------ names

def give_names(kernels):
    """Readable names, the same on every machine."""
    symbols = sorted({k.symbol for k in kernels.values()})
    ran = subprocess.run(['c++filt'], input='\n'.join(symbols), capture_output=True, text=True,
                         check=True)
    readable = {}
    for symbol, name in zip(symbols, ran.stdout.splitlines()):
        name = name.replace('(anonymous namespace)::', '')
        depth = 0
        for i, c in enumerate(name):        # without the arguments
            depth += (c == '<') - (c == '>')
            if c == '(' and depth == 0:
                name = name[:i]
                break
        readable[symbol] = re.sub(r'^(void|int) ', '', name)
    for kernel in kernels.values():
        kernel.name = f'{kernel.source}: {readable[kernel.symbol]}'


# ------------------------------------------------------------------ launches

def read_launches(program, kernels):
    """Gives each kernel its launches; returns problems."""
    ran = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
    problems = [] if ran.returncode == 0 else [f'{program} ended with {ran.returncode}']
    for line in ran.stdout.splitlines():
        symbol, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        launch = (tuple(numbers[0:3]), tuple(numbers[3:6]), numbers[6])
        of_symbol = [k for k in kernels.values() if k.symbol == symbol]
        if not of_symbol:
            problems.append(f'{symbol} is launched but in no object')
        for kernel in of_symbol:
            kernel.launches.append(launch)
    problems += [f'{k.name} on {k.arch}: no launch in tests/cuda/launches.c'
                 for k in kernels.values() if not k.launches]
    return problems


def launch_problems(kernel):
    limits = LIMITS[kernel.arch]
    for grid, block, dynamic in kernel.launches:
        threads = block[0] * block[1] * block[2]
        if any(g < 1 or g > most for g, most in zip(grid, MAX_GRID)):
            yield f'grid {grid} is beyond {MAX_GRID}'
        if threads > (kernel.max_threads or 1024) or threads < 1:
            yield f'{threads} threads, the kernel is compiled for {kernel.max_threads or 1024}'
        if kernel.shared + dynamic > limits.block_shared:
            yield (f'{kernel.shared + dynamic} bytes of shared memory, a block has '
                   f'{limits.block_shared}')


def blocks_at_once(kernel):
    """How many blocks fit on a multiprocessor, by the launch that fits worst."""
    limits = LIMITS[kernel.arch]
    worst = limits.blocks
    launches = kernel.launches or [(None, (kernel.max_threads or 1024, 1, 1), 0)]
    for _, block, dynamic in launches:
        warps = -(-block[0] * block[1] * block[2] // 32)
        # registers go to warps in pieces of 256; a block's shared memory in pieces of 128 bytes,
        # and the system takes 1 KiB of it
        registers = warps * (-(-kernel.registers * 32 // 256) * 256)
        shared = -(-(kernel.shared + dynamic) // 128) * 128 + KIB
        worst = min(worst, limits.warps // warps, REGISTERS // registers, limits.shared // shared)
    return worst


# ------------------------------------------------------------------ the gates

def read_budget(path):
    budget = {}
    if os.path.exists(path):
        with open(path, encoding='utf-8') as f:
            for line in f:
                if line.strip() and not line.startswith('#'):
                    arch, registers, shared, blocks, name = line.split(None, 4)
                    budget[name.strip(), arch] = (int(registers), int(shared), int(blocks))
    return budget


def write_budget(path, kernels, old):
    with open(path, 'w', encoding='utf-8') as f:
        f.write(HEADER)
        last = None
        for k in in_order(kernels):
            if k.name != last:
                f.write('\n')
            last = k.name
            blocks = old.get((k.name, k.arch), (0, 0, blocks_at_once(k)))[2]
            f.write(f'{k.arch:<4}{k.registers:>4}{k.shared:>7}{blocks:>4}  {k.name}\n')


def in_order(kernels):
    order = list(LIMITS)
    return sorted(kernels.values(), key=lambda k: (k.name, order.index(k.arch)))


def memory_problems(kernel):
    if kernel.registers is None or kernel.stack is None:
        yield 'ptxas said nothing of it'
        return
    if kernel.stack:
        yield f'{kernel.stack} bytes of stack'
    if kernel.spills:
        yield f'{kernel.spills} bytes spilled'
    for name in FORBIDDEN:
        if kernel.opcodes[name]:
            yield f'{kernel.opcodes[name]} {name}: local memory'


def opcode_problems(kernel):
    for source, name, arch, wanted in RULES:
        if (re.fullmatch(source, kernel.source) and re.fullmatch(name, kernel.name.split(': ', 1)[1])
                and re.fullmatch(arch, kernel.arch)):
            for opcode in wanted:
                if not kernel.opcodes[opcode]:
                    yield f'no {opcode}'


def budget_problems(kernel, budget):
    if (kernel.name, kernel.arch) not in budget:
        yield 'is not in the budget file'
        return
    registers, shared, blocks = budget[kernel.name, kernel.arch]
    if kernel.registers > registers:
        yield f'{kernel.registers} registers, the budget is {registers}'
    if kernel.shared > shared:
        yield f'{kernel.shared} bytes of static shared memory, the budget is {shared}'
    if blocks_at_once(kernel) < blocks:
        yield f'{blocks_at_once(kernel)} blocks fit on a multiprocessor, the budget is {blocks}'


def show(kernels):
    """One line per kernel: registers on each architecture, blocks, and what matters of its code."""
    groups = collections.defaultdict(dict)
    for k in in_order(kernels):
        groups[k.name][k.arch] = k
    for name, archs in groups.items():
        registers = ' '.join(f'{a}:{k.registers}r/{blocks_at_once(k)}b' for a, k in archs.items())
        last = archs.get('90a') or list(archs.values())[-1]
        opcodes = ' '.join(f'{o} {n}' for o, n in sorted(last.opcodes.items()))
        print(f'# {name}: {registers}; {last.arch}: {opcodes}')


def main():
    parser = argparse.ArgumentParser(description='Checks of compiled kernels.')
    parser.add_argument('--update', action='store_true', help='accept the kernels as they are')
    parser.add_argument('--budget', default=None)
    parser.add_argument('--launches', help='the program of launches.c')
    parser.add_argument('objects', nargs='+')
    args = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = args.budget or os.path.join(root, 'engine', 'cuda', 'budget.txt')

    kernels, problems, milliseconds = {}, [], 0.0
    for name in args.objects:
        milliseconds += read_log(name + '.log', kernels)
    give_names(kernels)
    for name in args.objects:
        problems += read_object(name, kernels)
        problems += ptx_problems(name)
    if args.launches:
        problems += read_launches(args.launches, kernels)
    budget = read_budget(path)
    if args.update:
        write_budget(path, kernels, budget)
        budget = read_budget(path)

    over_budget = False
    for k in in_order(kernels):
        over = list(budget_problems(k, budget))
        over_budget = over_budget or bool(over)
        problems += [f'{k.name} on {k.arch}: {p}' for p in
                     [*memory_problems(k), *opcode_problems(k), *launch_problems(k), *over]]
    built = {(k.name, k.arch) for k in kernels.values()}
    archs = {k.arch for k in kernels.values()}
    gone = sorted({n for n, a in budget if a in archs and (n, a) not in built})
    problems += [f'{name} is in the budget file but not in the objects' for name in gone]

    show(kernels)
    print(f'# {len(built)} kernels on {len(archs)} architectures; ptxas took '
          f'{milliseconds / 1000:.1f} s')
    for problem in dict.fromkeys(problems):
        print(problem)
    if over_budget or gone:
        print('To accept the kernels as they are: the same command with --update')
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
