"""Programs run in this process, where TensorFlow is imported already."""

import pathlib
import runpy
import sys
from unittest import mock

from absl import app, flags  # noqa: F401  (app's own flags are none of a program's)

ROOT = pathlib.Path(__file__).parents[2]


def refusal(program, *arguments):
    """What a program says when it ends with an error: the one line that the user sees.

    Python prints the text that `sys.exit` is given and ends with code 1; anything else, such as an
    exception, is not caught here and fails the test.
    """
    code = ending(program, *arguments)
    assert isinstance(code, str), f"{program} ended with {code!r}"
    return code


def ending(program, *arguments):
    """What a program calls `sys.exit` with: None where all went well."""
    known = set(flags.FLAGS)
    path = ROOT / f"tools/{program}.py"
    try:
        with mock.patch.object(sys, "argv", [str(path), *map(str, arguments)]):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        for name in set(flags.FLAGS) - known:  # The next program defines its own.
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    raise AssertionError(f"{program} did not end")
