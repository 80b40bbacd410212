"""Prints the results of test functions in the Test Anything Protocol."""
import os
import sys
import traceback


class Skip(Exception):
    """Raised by a test that needs what is not here; says what."""


def run(tests, *args):
    """Calls each test with the arguments; the program's exit code."""
    failed = 0
    print(f'1..{len(tests)}', flush=True)
    for number, test in enumerate(tests, 1):
        try:
            test(*args)
            print(f'ok {number} - {test.__name__}', flush=True)
        except Skip as reason:
            print(f'ok {number} - {test.__name__} # SKIP {reason}', flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f'not ok {number} - {test.__name__}', flush=True)
            traceback.print_exc()
    return 1 if failed else 0


def skip_all(reason):
    """Instead of run: nothing can be tested here."""
    print(f'1..0 # SKIP {reason}', flush=True)
    return 0


def need_model(folder):
    """Ends the program when the checkpoint is not there."""
    if not os.path.exists(os.path.join(folder, 'config.json')):
        sys.exit(skip_all(f'there is no model in {os.path.basename(folder)}'))
