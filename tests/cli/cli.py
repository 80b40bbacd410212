"""The program from the outside, without its server: cli.py COGWHEEL SOURCE-ROOT. Prints TAP."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

COGWHEEL, ROOT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
FIXTURE = os.path.join(ROOT, 'tests', 'golden', 'fixtures', 'hd64-bf16')
COMMANDS = ('serve', 'caption', 'inspect', 'bench')
# The values of the fixture are those of f32; the picture with one channel of alpha drops it there.
MODEL = ('--model', FIXTURE, '--dtype', 'f32', '--alpha', 'drop', '--exif', 'ignore')


def run(*args, env=None):
    """Exit code, standard output, standard error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith('COGWHEEL_')}
    ran = subprocess.run([COGWHEEL, *args], capture_output=True, text=True, timeout=300, check=False,
                         env={**clean, **(env or {})})
    return ran.returncode, ran.stdout, ran.stderr


def lines_of(text):
    """The objects of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def fixture_cases():
    """The fixture's cases that one question about one picture can ask."""
    with open(os.path.join(FIXTURE, 'cases.json'), encoding='utf-8') as f:
        return [c for c in json.load(f)['cases']
                if c['picture'] and c['query'] and not c['history'] and min(c['margins_f32']) > 1e-3]


def pictures(folder):
    """Copies the fixture's pictures into folder; their paths, sorted."""
    source = os.path.join(FIXTURE, 'pictures')
    return [shutil.copy(os.path.join(source, n), os.path.join(folder, n))
            for n in sorted(os.listdir(source))]


def version_and_help(_):
    code, out, _ = run('--version')
    assert (code, out.split()[0]) == (0, 'cogwheel'), out
    code, out, _ = run('--help')
    assert code == 0 and all(c in out for c in COMMANDS), out
    for command in COMMANDS:
        code, out, _ = run(command, '--help')
        assert code == 0 and f'Usage: cogwheel {command}' in out and '--log-level' in out, out


def documentation_shows_the_help(_):
    with open(os.path.join(ROOT, 'docs', 'cli.md'), encoding='utf-8') as f:
        text = f.read()
    for command in COMMANDS:
        out = run(command, '--help')[1]
        assert f'```\n{out}```' in text, f'docs/cli.md: {command} --help has changed'


def usage_errors_exit_with_2(_):
    for args, message in [
            ((), 'Usage'), (('frobnicate',), "unknown command 'frobnicate'"),
            (('serve', '--max-seq', '3'), "did you mean '--max-seqs'"),
            (('serve', '--max-seqs', 'x'), "--max-seqs: 'x' is no number"),
            (('serve', '--config', 'none.json'), 'none.json'),
            (('caption', '--model', FIXTURE), 'name at least one picture'),
            (('bench',), 'kernels'), (('inspect', 'a', 'b'), "'b'")]:
        code, out, err = run(*args)
        assert (code, out) == (2, '') and message in err, (args, code, err)


def configuration_is_checked_and_printed(_):
    example = os.path.join(ROOT, 'config', 'example.json')
    code, _, err = run('serve', '--model', FIXTURE, '--config', example, '--check-config')
    assert code == 0, err
    code, out, _ = run('serve', '--model', FIXTURE, '--print-config', '--max-n=3',
                       env={'COGWHEEL_MAX_SEQS': '5'})
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows['max-n'] == ['3', '--max-n'], rows['max-n']
    assert rows['max-seqs'] == ['5', 'COGWHEEL_MAX_SEQS'], rows['max-seqs']
    assert rows['served-model-name'][0] == 'hd64-bf16', rows


def inspect_says_what_will_load(folder):
    code, out, err = run('inspect', FIXTURE)
    assert code == 0 and out, err
    code, out, _ = run('inspect', '--json', FIXTURE)
    assert code == 0 and isinstance(json.loads(out), dict), out
    code, _, err = run('inspect', folder)
    assert code == 1 and folder in err, err


def the_demo_is_found_beside_the_program(folder):
    program = os.path.join(folder, 'bin', 'cogwheel')
    os.mkdir(os.path.dirname(program))
    shutil.copy(COGWHEEL, program)

    def model():
        ran = subprocess.run([program, 'serve', '--print-config'], capture_output=True, text=True,
                             timeout=60, check=False, cwd=folder)
        return ran.stdout.split()[1] if ran.returncode == 0 else ran.stderr

    assert 'no --model, and the demo model is neither beside the program' in model(), model()
    for place in ('share/cogwheel/models', 'models'):
        os.makedirs(os.path.join(folder, place))
        os.symlink(FIXTURE, os.path.join(folder, place, 'demo'))
        assert model() == FIXTURE, model()


def captions_are_those_of_the_reference(_):
    cases = fixture_cases()
    assert cases
    for case in cases:
        code, out, err = run('caption', *MODEL, '--prompt', case['query'], '--template',
                             case['template'], '--max-tokens', str(case['max_tokens']), '--json',
                             os.path.join(FIXTURE, case['picture']))
        assert code == 0, err
        got = lines_of(out)[0]
        assert got['text'] == case['greedy_text_f32'], (case['id'], got)
        assert got['finish_reason'] == case['finish_f32'], (case['id'], got)
        assert got['prompt_tokens'] == len(case['prompt_ids']), (case['id'], got)
        assert got['completion_tokens'] >= len(case['greedy_ids_f32']), (case['id'], got)


def a_folder_is_answered_in_order(folder):
    names = pictures(folder)
    with open(os.path.join(folder, 'notes.txt'), 'w', encoding='utf-8') as f:
        f.write('no picture')
    code, out, err = run('caption', *MODEL, '--json', '--max-tokens', '8', folder)
    assert code == 0, err
    together = lines_of(out)
    assert [line['image'] for line in together] == names, out
    alone = [lines_of(run('caption', *MODEL, '--json', '--max-tokens', '8', n)[1])[0]
             for n in names]
    assert together == alone
    code, out, _ = run('caption', *MODEL, '--max-tokens', '8', names[0])
    assert (code, out) == (0, f'{names[0]}: {alone[0]["text"]}\n'), out


def bad_pictures_are_reported_and_skipped(folder):
    names = pictures(folder)[:2]
    broken, missing = os.path.join(folder, 'broken.png'), os.path.join(folder, 'missing.png')
    with open(broken, 'wb') as f:
        f.write(b'\x89PNG\r\n\x1a\nnothing')
    code, out, err = run('caption', *MODEL, '--json', '--max-tokens', '4', names[0], broken,
                         missing, names[1])
    lines = lines_of(out)
    assert code == 1 and broken in err and missing in err, err
    assert ['text' in line for line in lines] == [True, False, False, True], out
    assert [line['image'] for line in lines] == [names[0], broken, missing, names[1]], out
    assert '\x1b' not in err, 'a progress bar without a terminal'


def an_unfinished_file_is_continued(folder):
    names = pictures(folder)
    whole, part = os.path.join(folder, 'whole.jsonl'), os.path.join(folder, 'part.jsonl')
    ask = ('caption', *MODEL, '--max-tokens', '8')
    assert run(*ask, '--out', whole, folder)[:2] == (0, '')
    with open(whole, encoding='utf-8') as f:
        content = f.read()
    assert [line['image'] for line in lines_of(content)] == names
    with open(part, 'w', encoding='utf-8') as f:
        f.write(content[:content.index('\n') + 20])
    code, _, err = run(*ask, '--out', part, folder)
    assert code == 0 and f'1 already in {part}' in err, err
    with open(part, encoding='utf-8') as f:
        assert f.read() == content
    # nothing is left to do, so not even the model is needed
    code, _, err = run('caption', '--model', os.path.join(folder, 'none'), '--out', part, folder)
    assert code == 0, err
    with open(part, 'w', encoding='utf-8') as f:
        f.write('my diary\n')
    code, _, err = run(*ask, '--out', part, folder)
    assert code == 1 and 'line 1' in err, err
    with open(part, encoding='utf-8') as f:
        assert f.read() == 'my diary\n'


def what_cannot_be_is_said(folder):
    picture = pictures(folder)[0]
    code, _, err = run('caption', '--model', folder, picture)
    assert code == 1 and folder in err, err
    code, _, err = run('caption', *MODEL, '--prompt', 'why ' * 5000, picture)
    assert code == 2 and '--prompt' in err, err


TESTS = (version_and_help, documentation_shows_the_help, usage_errors_exit_with_2,
         configuration_is_checked_and_printed, inspect_says_what_will_load,
         the_demo_is_found_beside_the_program, captions_are_those_of_the_reference,
         a_folder_is_answered_in_order, bad_pictures_are_reported_and_skipped,
         an_unfinished_file_is_continued, what_cannot_be_is_said)

print(f'1..{len(TESTS)}', flush=True)
failed = 0
for number, test in enumerate(TESTS, 1):
    with tempfile.TemporaryDirectory() as temporary:
        try:
            test(temporary)
            print(f'ok {number} - {test.__name__}', flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f'not ok {number} - {test.__name__}', flush=True)
            traceback.print_exc()
sys.exit(1 if failed else 0)
