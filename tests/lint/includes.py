"""Who may include whom. This table is the architecture: see DESIGN.md.

    base <- proto
    base <- engine <- engine/cpu, engine/cuda
    base, engine/engine.h <- engine/image
    base, engine/engine.h <- engine/grammar <- engine
    base, proto, engine/engine.h, server/server.h <- server/picture <- server
    base, proto <- client
    base, client/bench.h, engine/engine.h, server/server.h, server/caption.h <- config <- server/main.c

Headers from outside the project stay where they are listed below. tests/ and tools/ may include
anything.
"""
import os
import re

import source

# (files, what they may include with quotes); the first match decides
OWN = [
    (r'base/', r'base/'),
    (r'proto/', r'(base|proto)/'),
    (r'engine/cpu/', r'(base|engine|engine/cpu)/[^/]*$'),
    (r'engine/cuda/', r'(base|engine|engine/cuda)/[^/]*$'),
    # pictures know what the processor can do, nothing of the model
    (r'engine/image/', r'(base/[^/]*|engine/image/[^/]*|engine/engine\.h|engine/cpu/cpuflags\.h)$'),
    # regular expressions and schemas as automata; of the engine they know the door
    (r'engine/grammar/', r'(base/[^/]*|engine/grammar/[^/]*|engine/engine\.h)$'),
    # the two places that know the backends by name, and the tool that measures kernels
    (r'engine/(backend|bench|bench_kernels)\.c$', r'(base|engine|engine/cpu|engine/cuda)/[^/]*$'),
    (r'engine/', r'(base|engine|engine/grammar)/[^/]*$'),
    (r'client/', r'(base|proto|client)/'),
    (r'config/', r'(base/|client/bench\.h$|config/|engine/engine\.h$|server/(server|caption)\.h$)'),
    (r'server/main\.c$', r'(base/|client/bench\.h$|config/config\.h$|engine/engine\.h$|server/)'),
    # from a file's bytes to pixels; of the server it knows the options
    (r'server/picture/', r'(base/|proto/|engine/engine\.h$|server/server\.h$|server/picture/)'),
    (r'server/', r'(base/|proto/|engine/engine\.h$|server/)'),
]

# (header, the files that may include it)
OUTSIDE = [
    (r'microhttpd\.h', r'server/http\.c'),
    (r'uv\.h', r'server/.*'),
    (r'curl/.*', r'(client/wire|server/picture/fetch(_url)?)\.c'),
    (r'jansson\.h', r'(proto|config|engine|engine/grammar)/[^/]*\.c'),
    (r'openssl/.*', r'(base|server)/.*\.c'),
    (r'jpeglib\.h', r'(engine/image/image_jpeg|client/picture)\.c'),
    (r'(jerror|setjmp)\.h', r'engine/image/image_jpeg\.c'),
    (r'spng\.h', r'engine/image/image_png\.c'),
    (r'webp/.*', r'engine/image/image_webp\.c'),
    (r'gif_lib\.h', r'engine/image/image_gif\.c'),
    (r'sentencepiece.*', r'engine/sp_shim\.cc'),
    (r'dlfcn\.h', r'engine/cuda/.*'), # the driver's libraries are found at run time
    (r'(cuda|cublas|cudnn|nccl).*', r'engine/cuda/.*'),
    (r'(immintrin|cpuid)\.h', r'(engine/cpu/.*|engine/image/resize_avx2\.c|proto/base64[^/]*\.c)'),
    # C, POSIX, Linux; C++ in the shim
    (r'(assert|ctype|errno|float|inttypes|limits|locale|math|signal|stdarg|stdatomic|stdbool|'
     r'stddef|stdint|stdio|stdlib|string|time)\.h', r'.*'),
    (r'(dirent|fcntl|fenv|fnmatch|glob|pthread|sched|strings|unistd|sys/[a-z]+)\.h', r'.*'),
    (r'(arpa|linux|net|netinet)/[a-z0-9_]+\.h|netdb\.h|spawn\.h', r'server/.*'),
    (r'poll\.h', r'((server|client)/.*|base/log\.c)'),
    (r'[a-z]+', r'.*\.cc'),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def problem_of(path, quote, header):
    """What is wrong with path including header; None when nothing is."""
    if quote == '"':
        if not os.path.isfile(os.path.join(source.ROOT, header)):
            return 'is no file, seen from the top of the project'
        for files, allowed in OWN:
            if re.match(files, path):
                return None if re.match(allowed, header) else 'is not for this folder'
        return 'comes from a folder that the table does not know'
    for pattern, allowed in OUTSIDE:
        if re.fullmatch(pattern, header):
            return None if re.fullmatch(allowed, path) else 'is not for this file'
    return 'is not in the table of headers from outside'


problems = []
for name in source.files('.c', '.h', '.cc', '.cu', '.cuh'):
    if name.startswith(('tests/', 'tools/')):
        continue
    with open(os.path.join(source.ROOT, name), encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            m = INCLUDE.match(line)
            reason = m and problem_of(name, m[1], m[2])
            if reason:
                problems.append(f'{name}:{number}: {m[2]} {reason}')
source.finish(problems)
