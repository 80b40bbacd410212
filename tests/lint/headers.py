"""Every header compiles alone: headers.py COMPILER [FLAG...]. Templates (*_tmpl.h) are no headers."""
import concurrent.futures
import os
import subprocess
import sys

import source


def compile_alone(header):
    """The compiler's complaint about a file that is this header and nothing else; '' when none."""
    command = sys.argv[1:] + ['-D_GNU_SOURCE', '-std=gnu11', '-Wall', '-Wextra', '-Werror',
                              '-Wno-unused-parameter', '-Wno-unused-function', '-I', source.ROOT,
                              '-fsyntax-only', '-x', 'c', '-']
    ran = subprocess.run(command, input=f'#include "{header}"\n', capture_output=True, text=True,
                         check=False)
    return f'{header}:\n{ran.stderr}' if ran.returncode else ''


# headers of tests assume tests/unit/unit.h before them
headers = [h for h in source.files('.h') if not h.endswith('_tmpl.h')
           and not h.startswith(('engine/cuda/', 'tests/', 'tools/bench_ceiling_kernels'))]
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    source.finish([p for p in pool.map(compile_alone, headers) if p])
