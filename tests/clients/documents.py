"""What README.md and docs/api.md tell a person to run, run as it stands there: documents.py COGWHEEL
DEMO-MODEL BUILD-FOLDER. Prints TAP.

A block of ```js begins with an import and is followed by a block with what it prints; after a block
of ```sh, that is an object which may be shortened.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(os.path.join(os.path.dirname(HERE), 'e2e'))
# pylint: disable=wrong-import-position
import packages
import tap
from server import Server

BINARY, DEMO, BUILD = (os.path.abspath(a) for a in sys.argv[1:4])
ADDRESS = 'http://127.0.0.1:8000'
SCRIPT = re.compile(r'```(js|python|sh)\n(.*?)```\n+```\n(.*?)```', re.DOTALL)


def text_of(name):
    """A document."""
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


def output(command, folder):
    """What a command prints that must go well."""
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120,
                         check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def shortened(shown, whole):
    """Whether an object is another with some members left out."""
    if isinstance(shown, dict):
        return all(k in whole and shortened(v, whole[k]) for k, v in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(whole) and all(map(shortened, shown, whole))
    return shown == whole


def the_call_in_the_readme(server):
    """curl asks about a sample; the answer is the one that is shown."""
    blocks = re.findall(r'^```\n(.*?)^```$', text_of('README.md'), re.DOTALL | re.MULTILINE)
    at = next(i for i, block in enumerate(blocks) if block.startswith('curl '))
    assert ADDRESS in blocks[at]
    told = output(['sh', '-c', blocks[at].replace(ADDRESS, server.url)], ROOT)
    assert shortened(json.loads(blocks[at + 1]), json.loads(told)), told


def scripts(language):
    """Those of docs/api.md, with what they print."""
    found = [m for m in SCRIPT.findall(text_of('docs/api.md')) if m[0] == language]
    assert found and all(ADDRESS in m[1] for m in found)
    return [m[1:] for m in found]


def scripts_for_node(server):
    """Each prints what is shown below it."""
    try:
        modules = packages.install(BUILD)
    except packages.Missing as e:
        raise tap.Skip(e) from e
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(modules, os.path.join(folder, 'node_modules'))
        os.symlink(os.path.join(ROOT, 'models'), os.path.join(folder, 'models'))
        for text, shown in scripts('js'):
            path = os.path.join(folder, 'script.mjs')
            with open(path, 'w', encoding='utf-8') as f:
                f.write(text.replace(ADDRESS, server.url))
            told = output(['node', path], folder)
            assert told == shown, told


def scripts_for_python(server):
    """The same, with nothing but the standard library."""
    for text, shown in scripts('python'):
        told = output(['python3', '-c', text.replace(ADDRESS, server.url)], ROOT)
        assert told == shown, told


def calls_of_curl(server):
    """The same."""
    for text, shown in scripts('sh'):
        told = output(['sh', '-c', text.replace(ADDRESS, server.url)], ROOT)
        if shown.startswith('{'):
            assert shortened(json.loads(shown), json.loads(told)), told
        else:
            assert told == shown, told


tap.need_model(DEMO)
with Server(BINARY, DEMO, '--served-model-name', 'demo') as shared:
    code = tap.run([the_call_in_the_readme, scripts_for_node, scripts_for_python,
                    calls_of_curl], shared)
sys.exit(code)
