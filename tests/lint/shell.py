"""Shell scripts are what shellcheck finds good; skipped (77) without it."""
import shutil
import subprocess
import sys

import source

tool = shutil.which('shellcheck')
if not tool:
    print('shellcheck is not installed')
    sys.exit(77)
ran = subprocess.run([tool, '-x', '--source-path', source.ROOT] + source.files('.sh', '.ci/run'), cwd=source.ROOT,
                     capture_output=True, text=True, check=False)
source.finish(ran.stdout.splitlines())
