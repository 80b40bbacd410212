"""C and C++ are formatted as .clang-format says; skipped (77) without clang-format."""
import os
import shutil
import subprocess
import sys

import source

tool = shutil.which('clang-format')
if not tool:
    print('clang-format is not installed')
    sys.exit(77)
ran = subprocess.run([tool, '--dry-run', '-Werror', '--ferror-limit=1']
                     + source.files('.c', '.h', '.cc'),
                     cwd=source.ROOT, capture_output=True, text=True, check=False)
source.finish([line for line in ran.stderr.splitlines() if ': error:' in line])
