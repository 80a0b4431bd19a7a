"""The tests do not depend on the signals that the shell ignores in which they are started."""

import shlex
import subprocess
import sys

from baking import TEMPLATE


def test_programs_that_tests_start_ignore_no_signal():
    # bash lists the signals that it was started to ignore
    printed = subprocess.run(["bash", "-c", "trap"], capture_output=True, text=True, check=True).stdout
    assert printed == ""


def test_tests_pass_under_nohup_and_in_the_background_of_a_script(environ):
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-k", "ignore_no_signal", __file__]
    script = f"trap '' HUP INT QUIT TERM; {shlex.join(command)}"
    done = subprocess.run(["bash", "-c", script], cwd=TEMPLATE, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
