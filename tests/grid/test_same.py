"""The promise: whatever runs here runs there. What a script sees as a job is what it sees of `python script args`, and no
end is taken for a success but that of the script. In the background of this machine."""

import functools
import json
import os
import py_compile
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sandbox import PROJECT, ends, room, until

HERE = f"PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"  # an activation that changes nothing


def usual_signals():
    """In a child before it begins: signals as in a terminal, also where these tests run under nohup."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def directly(script, args=(), **more):
    """Run `python script args` here: what it prints, its errors, its exit code as a shell shows it."""
    command = [sys.executable, os.path.abspath(script), *map(str, args)]
    environ = os.environ | {"PYTHONUNBUFFERED": "1"} | more
    done = subprocess.run(command, capture_output=True, env=environ, preexec_fn=usual_signals, timeout=60)
    out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    return out, err, done.returncode if done.returncode >= 0 else 128 - done.returncode


def same(sandbox, script="worker.py", args=(), *further, **keywords):
    """Run a script here and as a job, see that both print the same and end alike; return the job that has ended."""
    here = directly(script, args)
    ended = sandbox.run(script, args, *further, **keywords)
    assert (ended.out, ended.err, ended.code) == here
    return ended


def ended_all(jobs):
    """Wait until nothing of these jobs is left on this machine."""
    background = room("schedulers").scheduler("background")
    until(lambda: not {job.id for job in jobs} & set(background.queue()), "all jobs are gone")


# --- Ends -------------------------------------------------------------------------------------------------------------

SIGNALS = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT XCPU XFSZ VTALRM PROF POLL PWR SYS"
)
SIGNALS = [getattr(signal, "SIG" + name) for name in SIGNALS.split() if hasattr(signal, "SIG" + name)] + [
    signal.SIGRTMIN
]
GO = """
import os, signal, sys, time
signal.pthread_sigmask(signal.SIG_UNBLOCK, range(1, 32))
open(f"ready-{sys.argv[1]}", "w")
while not os.path.exists("go"):
    time.sleep(0.05)
open(f"finished-{sys.argv[1]}", "w")
"""


def shells():
    """The processes that run a job script, by the process group that they are in: the job's id."""
    ps = ["env", "LC_ALL=C.UTF-8", "ps", "-ww", "-A", "-o", "pid=,pgid=,args="]
    lines = subprocess.run(ps, capture_output=True, encoding="utf-8", errors="surrogateescape", check=True).stdout
    lines = [line.split(None, 2) for line in lines.splitlines() if line.endswith("/job.sh") and " --run " not in line]
    return {group: int(process) for process, group, _ in lines}


def signalled(sandbox, send):
    """A running job for each signal, which is sent to it. Returns the jobs by signal."""
    sandbox.write("worker.py", GO)
    sandbox.limits.grace = 0.2
    jobs = {number: sandbox.submit(args=[int(number)]) for number in SIGNALS}
    until(lambda: all((sandbox.path / f"ready-{int(number)}").exists() for number in jobs), "all run")
    shell = shells()
    for number, job in jobs.items():
        send(job, shell[job.id], number)
    return jobs


def check_ends(sandbox, jobs):
    """No job was DONE before its script ended, and the others have the signal's name."""
    polling = room("polling")
    assert "DONE" not in {status.state for status in polling.poll([job.files for job in jobs.values()])}
    sandbox.write("go", "")
    ended_all(jobs.values())
    found = dict(zip(jobs, polling.poll([job.files for job in jobs.values()]), strict=True))
    lies = {}
    for number, status in found.items():
        finished = (sandbox.path / f"finished-{int(number)}").exists()
        name = "" if number in (signal.SIGKILL, signal.SIGRTMIN) else number.name
        name = {"SIGINT": "KeyboardInterrupt"}.get(name, name)
        if number in (signal.SIGTERM, signal.SIGUSR2):
            name = "stopped by the scheduler"
        honest = status.state == "FAILED" and (finished or name in status.reason) or status.state == "DONE" and finished
        if not honest:
            lies[number] = status, finished
    assert lies == {}
    return found


def test_a_signal_to_the_job_is_never_a_success(sandbox):
    found = check_ends(sandbox, signalled(sandbox, lambda job, shell, number: os.killpg(int(job.id), number)))
    survived = {number for number, status in found.items() if status.state == "DONE"}
    assert survived == {signal.SIGPIPE, signal.SIGXFSZ}, "Python ignores these two, and the script went on to its end"


def test_a_signal_to_the_jobs_shell_alone_is_no_end_of_the_script(sandbox):
    found = check_ends(sandbox, signalled(sandbox, lambda job, shell, number: os.kill(shell, number)))
    killed = {number for number, status in found.items() if status.state != "DONE"}
    assert killed == {signal.SIGKILL, signal.SIGRTMIN}, "no shell can wait for the script then, so nobody saw its end"


def test_a_signal_to_the_process_that_starts_the_tasks_is_no_end_of_the_script(sandbox):
    found = check_ends(sandbox, signalled(sandbox, lambda job, shell, number: os.kill(int(job.id), number)))
    assert {status.state for status in found.values()} == {"DONE"}


def test_what_waits_for_a_job_that_was_killed_does_not_run(sandbox):
    sandbox.write("worker.py", GO)
    sandbox.write("next.py", "open('ran', 'w')")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGXCPU):
        job = sandbox.submit(args=[int(number)])
        after = sandbox.submit("next.py", after=job)
        until((sandbox.path / f"ready-{int(number)}").exists, "it runs")
        os.killpg(int(job.id), number)
        ended = sandbox.end(after)
        assert ended.code == 1 and "did not succeed" in ended.reason and not (sandbox.path / "ran").exists()


@pytest.mark.parametrize("stop, state", [(lambda job: job.cancel(), "CANCELLED"), (None, "FAILED")])
def test_the_end_of_a_login_session_is_no_success(sandbox, stop, state):
    """systemd sends SIGTERM and then SIGHUP to all; also to a job that we have just stopped."""
    sandbox.write("worker.py", GO)
    job = sandbox.submit(args=[1])
    until((sandbox.path / "ready-1").exists, "it runs")
    (stop or (lambda job: os.killpg(int(job.id), signal.SIGTERM)))(job)
    for process in {int(job.id)}:
        try:
            os.killpg(process, signal.SIGHUP)
        except ProcessLookupError:  # it was that fast
            pass
    sandbox.end(job)
    assert job.state == state


FAILURES = {
    "str() of the exception exits": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E()",
    "str() of the exception fails": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E()",
    "a hook of its own": "import sys\nsys.excepthook = lambda *_: print('mine')\n1 / 0",
    "exit(True)": "import sys; sys.exit(True)",
    "exit(256)": "import sys; sys.exit(256)",
    "exit(None)": "raise SystemExit",
    "exit of a tuple": "import sys; sys.exit((1, 2))",
    "an interrupt": "raise KeyboardInterrupt",
    "abort": "import os; os.abort()",
    "a cause": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e",
    "a group": "raise ExceptionGroup('many', [ValueError(1), KeyError(2)])",
    "deep in a module": "import json; json.loads('{')",
    "a thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='T')\nt.start()\nt.join()",
    "atexit": "import atexit; atexit.register(print, 'bye'); 1 / 0",
    "syntax": "def f(:\n    pass",
    "bytes that are no text": b"print('\xff')",
    "a null byte": b"print(1)\0",
    "another encoding": "# -*- coding: latin-1 -*-\nprint(ascii('\xe4'))".encode("latin-1"),
    "a mark at its begin": b"\xef\xbb\xbfprint(1)",
}


def test_a_script_fails_as_it_does_directly(sandbox):
    lines = {}
    jobs = {}
    for number, (title, text) in enumerate(FAILURES.items()):
        script = sandbox.write(f"w{number}.py", "")
        script.write_bytes(text if isinstance(text, bytes) else text.encode())
        jobs[title] = sandbox.submit(script.name), directly(script)
    for title, (job, here) in jobs.items():
        ended = sandbox.end(job)
        # of a killed program the shell tells; of what is no text Python tells in other words
        there = ended.out, ended.err.removesuffix("Aborted\n"), ended.code
        if title in ("bytes that are no text", "a null byte"):
            assert "SyntaxError" in there[1] and "run.py" not in there[1]
            there = there[0], here[1], there[2]
        if there != here:
            lines[title] = here, there
    assert lines == {}
    assert jobs["str() of the exception exits"][0].reason == "E"


# --- What the script sees ---------------------------------------------------------------------------------------------

GLOBALS = """
import sys, types
names = dict(globals())
for name in sorted(names):
    value = names[name]
    print(name, type(value).__name__, "" if name in ("__loader__", "__builtins__", "sys", "types") else value)
print(__builtins__ is sys.modules["builtins"], sys.modules["__main__"].__dict__ is globals())
print(getattr(__loader__, "name", None), getattr(__loader__, "path", None))
x: int = 3
print(__annotations__, sys.argv, sys.path[0], sys.flags.dont_write_bytecode, __name__, __cached__)
print([name for name in sys.modules if name.partition(".")[0] in ("grid", "gridlib")])
import inspect
print(inspect.getsource(types.FunctionType(compile("0", "x", "exec"), {})) if 0 else inspect.getfile(sys.modules["__main__"]))
"""


def test_the_globals_of_a_script_are_those_of_a_direct_run(sandbox):
    for name in ("worker.py", "code/worker.py"):
        sandbox.write(name, GLOBALS)
        same(sandbox, name, args=["a b", "c"])


def test_a_script_that_is_a_link_finds_what_is_beside_the_file(sandbox):
    sandbox.write("real/helper.py", "text = 'beside the file'")
    sandbox.write("real/real.py", "import helper, sys; print(helper.text, sys.path[0], __file__, sys.argv)")
    (sandbox.path / "worker.py").symlink_to("real/real.py")
    same(sandbox)


@pytest.mark.parametrize("below", ["", "code/"])
def test_modules_of_the_users_may_have_any_name(sandbox, below):
    """Beside grid.py, and in another folder: those that grid.py itself needs are still Python's own."""
    names = "signal json re ast hashlib warnings enum contextlib types subprocess typing dataclasses values errors run".split()
    for name in names:
        sandbox.write(f"{below}{name}.py", f"mine = '{name}'")
    sandbox.write(
        f"{below}worker.py", f"import sys\nimport {', '.join(names)}\nprint([sys.modules[n].mine for n in {names}])"
    )
    assert "'run']" in directly(f"{below}worker.py")[0]
    job = sandbox.grid.submit_script  # the submitter's own modules are loaded
    ended = sandbox.end(job(f"{below}worker.py", ["[1]", [1, "(2"], "x"], HERE, log_dir="logs"))
    assert (ended.out, ended.err, ended.code) == directly(f"{below}worker.py")


def test_a_script_may_have_a_name_that_is_no_utf_8(sandbox):
    name = os.fsdecode(b"caf\xe9.py")
    (sandbox.path / name).write_text("import os, sys; print(os.fsencode(__file__), len(sys.argv[0]))")
    ended = same(sandbox, name)
    assert ended.job.name == "caf_"


def test_python_runs_whatever_it_runs_directly(sandbox):
    """A compiled file, a folder, a zip file with any ending, a script without one."""
    text = "import sys, pickle\nclass A: pass\nprint(__name__, __file__, sys.argv, sys.path[0], pickle.loads(pickle.dumps(A())))"
    text = text.replace("pickle.loads(pickle.dumps(A()))", "type(pickle.loads(pickle.dumps(A()))) is A, __package__")
    source = sandbox.write("app/__main__.py", text + "\nimport beside; print(beside.x)")
    sandbox.write("app/beside.py", "x = 5")
    sandbox.write("worker", text)
    py_compile.compile(str(sandbox.write("plain.py", text)), str(sandbox.path / "plain.pyc"))
    for name in ("app.pyz", "app.zip", "app.py"):
        with zipfile.ZipFile(sandbox.path / name, "w") as file:
            file.write(source, "__main__.py")
            file.write(sandbox.path / "app/beside.py", "beside.py")
    shebang = b"#!/usr/bin/env python3\n" + (sandbox.path / "app.pyz").read_bytes()
    (sandbox.path / "run_me").write_bytes(shebang)
    scripts = ["plain.pyc", "app", "app.pyz", "app.zip", "app.py", "run_me", "worker"]
    jobs = {name: (sandbox.submit(name, ["a"]), directly(name, ["a"])) for name in scripts}
    ends = {name: (sandbox.end(job), here) for name, (job, here) in jobs.items()}
    assert all(here[2] == 0 for _, here in ends.values())
    assert {name: (end.out, end.err, end.code) for name, (end, _) in ends.items()} == {
        n: h for n, (_, h) in ends.items()
    }


# --- Signals in the script and its children ---------------------------------------------------------------------------

DISPOSITIONS = """
import signal, subprocess, sys
code = '''
import signal
print(sorted((s.name, str(signal.getsignal(s))) for s in signal.valid_signals() if isinstance(s, signal.Signals)))
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
'''
exec(code.replace("if isinstance", "if s != signal.SIGUSR2 and isinstance"))
sys.stdout.flush()
subprocess.run([sys.executable, "-c", code])
for name in ("SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM"):
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(getattr(signal, name))
    print(name, child.wait(10))
"""


def test_signals_reach_the_children_of_a_script(sandbox):
    sandbox.write("worker.py", DISPOSITIONS)
    assert "SIGUSR1 -10" in same(sandbox).out


def test_signals_reach_the_children_of_the_tasks_of_an_array(sandbox):
    sandbox.write("worker.py", DISPOSITIONS)
    here = directly("worker.py")
    job = sandbox.grid.submit_array("worker.py", [[], []], log_dir="logs")
    until(lambda: len(ends(job)) == 2, "both have ended")
    assert [(task.log(), task.exit_code) for task in job.tasks] == [(here[0] + here[1], here[2])] * 2


# --- The user's shell -------------------------------------------------------------------------------------------------


def names_of_ours():
    """All variables of the job script and of what starts it."""
    text = "".join((PROJECT / f"gridlib/{name}").read_text() for name in ("job.sh", "dispatch.py"))
    text += "".join(path.read_text() for path in (PROJECT / "gridlib/schedulers").iterdir() if path.is_file())
    return sorted(set(re.findall(r"\bgrid_[a-z_]+\b", text)) - {"grid_engine"})


STEERING = {
    "variables that the job script had once": {
        "after": "x",
        "index": "3",
        "task": "9",
        "code": "0",
        "record": "/tmp/x",
    },
    "a path in each variable of ours": lambda: dict.fromkeys(names_of_ours(), "/nowhere/at/all"),
    "a number in each variable of ours": lambda: dict.fromkeys(names_of_ours(), "3"),
    "variables of jobs": {"GRID_ID": "7", "GRID_INDEX": "9", "GRID_TASK": "9", "GRID_FOLDER": "/x", "GRID_MAIN": "1"},
    "a record": {"GRID_RECORD": "/nowhere/record", "GRID_JOB_ID": "1", "GRID_JOB_NAME": "x"},
    "other schedulers' variables": {"JOB_ID": "5", "SGE_TASK_ID": "4", "SLURM_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "4"},
    **{
        f"SHELLOPTS {name}": {"SHELLOPTS": name}
        for name in "noglob keyword onecmd noexec nounset errexit posix".split()
    },
    **{f"BASHOPTS {name}": {"BASHOPTS": name} for name in ("failglob", "nullglob:dotglob", "extdebug", "lastpipe")},
    "POSIXLY_CORRECT": {"POSIXLY_CORRECT": "1"},
    "CDPATH": {"CDPATH": "/:/tmp"},
    "IFS": {"IFS": "/0123456789abcdef"},
    "GLOBIGNORE": {"GLOBIGNORE": "*"},
    "LC_ALL": {"LC_ALL": "C"},
    "TZ": {"TZ": "Nonsense/Place"},
    "PS4, PROMPT_COMMAND": {"PS4": "$(touch pwned)", "PROMPT_COMMAND": "touch pwned", "ENV": "/nowhere"},
    "options of grep and awk": {"GREP_OPTIONS": "-v", "GREP_COLORS": "x", "POSIX_ME_HARDER": "1"},
}
FUNCTIONS = (
    "cd mkdir mv sed exec grep printf echo trap exit export set unset eval read test [ env rm sleep type awk case_ "
)
FUNCTIONS += "shopt source . builtin command local declare kill wait true : bash ps wc jobs"


@pytest.mark.parametrize("activate", ["", HERE], ids=["no activation", "an activation"])
def test_nothing_in_the_users_environment_steers_the_job(sandbox, monkeypatch, activate):
    """Variables, options of the shell: one job for each, all at once."""
    sandbox.write("worker.py", "import sys; print(sys.argv[1:]); open(sys.argv[1] + '.ran', 'w')")
    jobs = {}
    for number, (title, variables) in enumerate(STEERING.items()):
        with monkeypatch.context() as patch:
            for name, value in (variables() if callable(variables) else variables).items():
                patch.setenv(name, value)
            jobs[title] = sandbox.submit("worker.py", [f"{number} x"], activate), f"['{number} x']\n"
    found = {title: (end.out, end.err, end.code) for title, (job, _) in jobs.items() for end in [sandbox.end(job)]}
    assert found == {title: (out, "", 0) for title, (_, out) in jobs.items()}
    assert not list(sandbox.path.rglob("pwned"))


@pytest.mark.parametrize("activate", ["", HERE], ids=["no activation", "an activation"])
def test_no_function_of_the_users_steers_the_job(sandbox, monkeypatch, activate):
    sandbox.write("worker.py", "import sys; print(sys.argv[1:]); sys.exit(int(sys.argv[1]))")
    jobs = {}
    for number, name in enumerate(FUNCTIONS.split()):
        with monkeypatch.context() as patch:
            patch.setenv(f"BASH_FUNC_{name}%%", "() {  /usr/bin/touch pwned; return 1\n}")
            jobs[name] = sandbox.submit("worker.py", [number % 3], activate), number % 3
    found = {name: (end.out, end.err, end.code) for name, (job, _) in jobs.items() for end in [sandbox.end(job)]}
    assert found == {name: (f"['{code}']\n", "", code) for name, (_, code) in jobs.items()}


@pytest.mark.parametrize("how", ["exported", "BASH_ENV"])
def test_functions_of_the_users_shell_are_there_for_the_activation_as_module_is(sandbox, monkeypatch, how):
    body = "() {  export LOADED=$2\n}"
    if how == "exported":
        monkeypatch.setenv("BASH_FUNC_module%%", body)
    else:
        rc = sandbox.home / "rc"  # the shell expands this path
        rc.write_text(f"echo printed; echo errors >&2\nmodule {body}\n")
        monkeypatch.setenv("BASH_ENV", str(rc))
    sandbox.write("worker.py", "import os; print(os.environ['LOADED'])")
    ended = sandbox.run("worker.py", [], f"module load python/3; {HERE}")
    assert (ended.out, ended.err) == ("python/3\n", "")


def test_exported_functions_reach_the_scripts_own_shells(sandbox, monkeypatch):
    monkeypatch.setenv("BASH_FUNC_module%%", "() {  echo loaded $1\n}")
    sandbox.write("worker.py", "import subprocess; subprocess.run(['bash', '-c', 'module x'])")
    for activate in ("", HERE):
        same(sandbox, "worker.py", [], activate)


@pytest.mark.parametrize(
    "activate",
    [
        "set -e",
        "set -u",
        "set -f",
        "set -C",
        "set -o posix",
        "trap 'echo bye' EXIT",
        "trap '' TERM",
        "shopt -s failglob",
    ]
    + [
        "exec 3>/dev/null",
        "IFS=abcdefg",
        "umask 077",
        "export -n PATH",
        "cd /",
        "set -a",
        "unset HOME",
        "set -- a b c",
    ],
)
def test_an_activation_may_set_what_it_likes(sandbox, activate):
    sandbox.write("worker.py", "import sys; print(sys.argv[1:]); sys.exit(3)")
    ended = sandbox.run("worker.py", ["a b"], f"{HERE}\n{activate}")
    assert (ended.out.replace("bye\n", ""), ended.err, ended.code) == ("['a b']\n", "", 3)


# --- Files ------------------------------------------------------------------------------------------------------------

NOT_OURS = ["a link", "a link to nothing", "a pipe", "a folder", "a socket"] + ["a file of somebody else's"] * (
    os.geteuid() == 0
)


@pytest.mark.parametrize("letter", "oe")
@pytest.mark.parametrize("what", NOT_OURS)
def test_what_lies_in_place_of_a_log_file_is_left_alone(sandbox, what, letter):
    """Where others may write to the folder of logs, a link leads to a file of ours, a pipe waits for ever."""
    sandbox.write("worker.py", "open('ran', 'w')")
    precious = sandbox.write("precious", "data")
    (sandbox.path / "logs").mkdir()
    log = sandbox.path / f"logs/worker.{letter}4242"
    if what.startswith("a link"):
        log.symlink_to(precious if what == "a link" else sandbox.path / "new")
    elif what == "a pipe":
        os.mkfifo(log)
    elif what == "a folder":
        log.mkdir()
    elif what == "a socket":
        server = socket.socket(socket.AF_UNIX)
        os.chdir("logs")  # the name of a socket is short
        server.bind(log.name)
        os.chdir("..")
    else:
        log.write_text("theirs")
        os.chown(log, 65534, 65534)
    sandbox.program("qsub", 'echo 4242; JOB_ID=4242 /bin/bash -p "${@: -1}" >/dev/null 2>&1 &')
    job = sandbox.submit(scheduler="gridengine")
    until(lambda: ends(job), "it has ended")
    assert job.exit_code == 1 and "is not a file of yours; remove it, or pass another log_dir" in job.reason
    assert (
        not (sandbox.path / "ran").exists() and not (sandbox.path / "new").exists() and precious.read_text() == "data"
    )
    assert not log.is_file() or log.read_text() in ("theirs", "data")
    job.log()


def test_what_is_recorded_is_for_its_owner_alone_and_holds_no_command_line(sandbox):
    sandbox.write("worker.py", "")
    sandbox.write("submit.py", "from grid import *; print(submit_script('worker.py', ['arg'], log_dir='logs').folder)")
    done = subprocess.run(
        [sys.executable, "submit.py", "--token", "SECRET-42"], capture_output=True, text=True, umask=0, check=True
    )
    folder = Path(done.stdout.strip())
    job = sandbox.grid.Job(folder)
    sandbox.end(job)
    assert stat.S_IMODE((sandbox.path / ".grid").stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 5 and not [path for path in files if "SECRET" in path.read_text()]


def test_a_folder_of_jobs_that_others_may_read_is_closed(sandbox):
    """Made by hand, or copied: who cannot open a file cannot lock it either."""
    sandbox.write("worker.py", "")
    (sandbox.path / ".grid").mkdir(mode=0o777)
    os.chmod(sandbox.path / ".grid", 0o777)
    sandbox.run()
    assert stat.S_IMODE((sandbox.path / ".grid").stat().st_mode) == 0o700


DAMAGED_LINES = [
    b"",
    b"\n",
    b'{"a": 1}\n',
    b'"text"\n',
    b"3\n",
    b"null\n",
    b"[1, 2\n",
    b"\xff\xfe\n",
    b"\0" * 100,
    None,
]
DAMAGED_LINES += [b'[{"!nothing": 1}]\n', b'[{"!int": {}}]\n', b'[{"!tuple": 3}]\n', b"[" * 100_000]


def test_damaged_arguments_are_named_as_the_cause(sandbox):
    sandbox.write("worker.py", "open('ran', 'w')")
    damages = [("tasks.jsonl", text) for text in DAMAGED_LINES]
    damages += [("job.json", text) for text in (b"", b"[]", b"{}", b"3", b'{"script": 3}', b"\xff", None)]
    jobs = []
    for name, text in damages:
        job = sandbox.submit("worker.py", [1, 2], f"until [ -e go ]; do sleep 0.1; done; {HERE}")
        until(lambda job=job: list(job.folder.glob("1/records/*")), "it has begun")
        file = job.folder / name
        file.unlink() if text is None else file.write_bytes(text)
        jobs.append((job, name, text))
    sandbox.write("go", "")
    wrong = {}
    for job, name, text in jobs:
        [end] = until(lambda job=job: ends(job), "it has ended")
        record = end.read_text()
        if end.name != "1.exit-1" or not re.search(r"reason: cannot read the arguments of task 1 in /.*: .", record):
            wrong[name, text] = record
        if "Traceback" in job.log():
            wrong[name, text] = job.log()
    assert wrong == {} and not (sandbox.path / "ran").exists()


def damages():
    """Ways in which the files of a job may be broken, by a title: what each does to the job's folder."""

    def text(name, content):
        return lambda folder: (folder / name).write_bytes(content)

    def remove(name):
        return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    def key(name, key, *value):
        def change(folder):
            facts = json.loads((folder / name).read_text())
            facts.pop(key)
            (folder / name).write_text(json.dumps(facts | ({key: value[0]} if value else {})))

        return change

    def instead(name, make):
        def change(folder):
            remove(name)(folder) if (folder / name).exists() else None
            make(folder / name)

        return change

    contents = {"nothing": b"", "half": b'{"a": 1, "na', "a list": b"[1]", "a number": b"3", "bytes": b"\xff\0\xfe"}
    for name in ("job.json", "1/submission.json", "tasks.jsonl", "1/tasks", "1/job.sh", "1/lost.json"):
        yield from ((f"{name}: {title}", text(name, content)) for title, content in contents.items())
        yield f"{name}: an empty object", text(name, b"{}")
        if name != "1/lost.json":
            yield f"{name} is gone", remove(name)
        yield f"{name} is a folder", instead(name, Path.mkdir)
        yield f"{name} is a link to itself", instead(name, lambda path: path.symlink_to(path.name))
    for name in "name tasks array script activate workdir log_dir scheduler python after submitted max_running".split():
        yield f"job.json without {name}", key("job.json", name)
        for value in (None, 5, [], {"a": 1}, "x", -1, "\0", [5], True):
            yield f"job.json: {name} is {value!r}", key("job.json", name, value)
    for name in ("tasks", "resources", "script", "host", "place", "id", "user", "submitted"):
        yield f"submission.json without {name}", key("1/submission.json", name)
        for value in (None, 5, [], {"a": 1}, "x", "9-7,a", "5", True):
            yield f"submission.json: {name} is {value!r}", key("1/submission.json", name, value)
    lost = [b'{"lost": 3}', b'{"lost": [3]}', b'{"lost": [[]]}', b'{"lost": [["FAILED", 1, "x", true, 5]]}']
    lost += [b'{"lost": [["NEW", "a", null, true, "1"]]}', b'{"lost": [[["a"], {}, 5, 5, "1"]]}', b'{"lost": null}']
    lost += [b'{"lost": [["FAILED", null, "killed", "x", "1-3"]]}', b'{"lost": [["FAILED", {}, 3, true, "1"]]}']
    yield from ((f"lost.json: {content}", text("1/lost.json", content)) for content in lost)
    yield "stopped is a folder", instead("1/stopped", Path.mkdir)
    yield "stopped is a broken link", instead("1/stopped", lambda path: path.symlink_to("nowhere"))
    yield "records is a file", instead("1/records", Path.touch)
    yield "records is gone", remove("1/records")
    names = ["x", "1", "1.exit", "1.exit-", "1.exit-x", "a.exit-0", "1.exit-0.new", "9.exit-0", "0.exit-0", "-1.exit-0"]
    names += [
        "1.running",
        "1.stopped-0",
        "1.exit-3",
        "\u0661.exit-0",
        "1.exit-99999999999999999999",
        ".nfs0001",
        "1.exit-+3",
    ]
    yield from ((f"a record {name}", instead(f"1/records/{name}", Path.touch)) for name in names)
    yield "a record that is a folder", instead("1/records/1.exit-0", Path.mkdir)
    yield "a record of bytes", text("1/records/1.exit-0", b"\xff\xfe: \0\n:::\nreason: \x1b[2J")
    for name in ("2", "02", "x", "\u0662", "99999999999999999999999", "1 (copy)", ".1"):
        yield f"a folder {name}", instead(name, Path.mkdir)
        yield f"a file {name}", instead(f"{name}.", Path.touch) if name == "2" else instead(name + "a", Path.touch)
    yield "a file 2", instead("2", Path.touch)
    yield "an empty folder", lambda folder: [remove(path.name)(folder) for path in list(folder.iterdir())]


def test_a_damaged_job_hides_no_other_one_and_is_no_crash(sandbox, capsys):
    """All ways of asking, of each damaged job, answer or say in one line why they cannot."""
    sandbox.write("worker.py", "import sys; sys.exit(1)")
    good, pattern = sandbox.run(name="good").job, sandbox.run(name="damaged").job
    array = sandbox.grid.submit_array("worker.py", [[1], [2]], log_dir="logs", name="damaged-array")
    until(lambda: len(ends(array)) == 2, "both tasks have ended")
    kept = sandbox.path / "kept"
    kept.mkdir()
    for job in (pattern, array):
        shutil.move(job.folder, kept / job.folder.name)
    commands, errors, job_room = room("commands"), sandbox.grid.GridError, room("job")
    room("schedulers").Background.command = lambda *_: ["false"]  # nothing is submitted again
    room("schedulers").Background.queue = lambda *_: {}  # nothing runs
    sandbox.limits.grace = 0
    crashes = {}

    def check(title, ask):
        try:
            ask()
        except errors:
            pass
        except BaseException as error:
            crashes.setdefault(f"{type(error).__name__}: {error}", []).append((title, where(error)))

    def where(error):
        import traceback

        return traceback.extract_tb(error.__traceback__)[-1].name

    for damaged in sorted(kept.iterdir()):
        for title, damage in damages():
            folder = shutil.copytree(damaged, sandbox.path / ".grid" / damaged.name)
            damage(folder)
            capsys.readouterr()
            check(title, commands.status)
            printed = capsys.readouterr()
            if not re.search(f"(?m)^{good.id} +good  ", printed.out) or "Traceback" in printed.err:
                crashes.setdefault("the other job is not shown", []).append(title)
            try:
                job = sandbox.grid.Job(folder)
            except (OSError, ValueError):
                if ": its job.json cannot be read: " not in printed.err and (folder / "job.json").is_file():
                    crashes.setdefault("not a word of it", []).append(title)
            else:
                for ask in (
                    lambda job: commands.show(job),
                    lambda job: commands.log(job, False),
                    lambda job: [(task.state, task.reason, task.log()) for task in job.tasks],
                    lambda job: (repr(job), job.ids, job.stdout, job.counts),
                    lambda job: job.cancel(),
                    lambda job: job.resubmit(),
                    lambda job: commands.find_job("good"),
                    lambda job: commands.clean("1000d"),
                    lambda job: job_room.wait([job], 0),
                ):
                    check(title, functools.partial(ask, job))
            shutil.rmtree(folder)
    assert {error: (len(seen), seen[0]) for error, seen in crashes.items()} == {}


# --- git --------------------------------------------------------------------------------------------------------------


def git(*words, **more):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True, **more)
    return done.stdout.strip()


def test_a_submission_leaves_the_users_repository_alone(sandbox, monkeypatch):
    """It takes no lock, waits for none, runs no hook and no program of the repository, and looks at the right one."""
    sandbox.write("worker.py", "")
    sandbox.write("other/file", "")
    for folder in ("other", "."):
        git("init", cwd=folder)
        git("add", "-A", cwd=folder)
        git("commit", "-m", folder, cwd=folder)
    commit = git("rev-parse", "HEAD")
    hook = sandbox.write("hook", "#!/bin/bash\ntouch hooked\n")
    hook.chmod(0o755)
    for name in ("post-index-change", "pre-commit", "post-checkout", "fsmonitor-watchman"):
        shutil.copy(hook, f".git/hooks/{name}")
    git("config", "core.fsmonitor", str(sandbox.home / "fsmonitor"))
    shutil.copy(hook, sandbox.home / "fsmonitor")
    os.utime("worker.py", (1, 1))  # git status would note that in its index
    before = {path: path.stat().st_mtime_ns for path in (sandbox.path / ".git").rglob("*") if path.is_file()}
    for name, value in {"GIT_DIR": "other/.git", "GIT_INDEX_FILE": "/nowhere", "GIT_WORK_TREE": "other"}.items():
        monkeypatch.setenv(name, value)
    for keywords in ({}, {"snapshot": True}, {}):
        if keywords:  # from now on another git holds the lock, or left it
            (sandbox.path / ".git/index.lock").touch()
            before[sandbox.path / ".git/index.lock"] = (sandbox.path / ".git/index.lock").stat().st_mtime_ns
        job = sandbox.run("worker.py", **keywords).job
        facts = job.files.submissions()[0].facts
        assert facts["git_commit"] == commit and (keywords == {} or (job.folder / "snapshot/worker.py").exists())
        files = [path for path in (sandbox.path / ".git").rglob("*") if path.is_file()]
        assert before == {path: path.stat().st_mtime_ns for path in files}
    assert not list(sandbox.path.rglob("hooked"))


# --- The terminal -----------------------------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe\u2066 \x00\x7f\x08\r \u200b \ud83d \u00fc \u5b57"


def test_nothing_that_a_job_says_steers_the_terminal(sandbox, capsys):
    sandbox.write("worker.py", f"raise ValueError({HOSTILE!r})")
    job = sandbox.run(args=[HOSTILE]).job
    with pytest.raises(sandbox.grid.JobFailed) as caught:
        job.wait(10)
    commands = room("commands")
    commands.status()
    commands.show(job)
    commands.log(job, True)
    # the log itself is shown as it is, as by cat
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "is FAILED" in line] + [str(caught.value)]
    lines += printed.out.partition("Traceback")[0].splitlines()
    row = ("42", "N/A", "RUNNING", "None", "t", "t", "node1", HOSTILE.replace("\0", ""), "/x/job.sh")
    code = f"import sys; f = sys.argv[sys.argv.index('--format') + 1]\nfor a, b in zip('FKTrSVNjo', {row!r}): f = f.replace('%' + a, b)\n"
    code += "sys.stdout.buffer.write(f.encode('utf-8', 'surrogatepass'))"
    sandbox.program("squeue", f'exec {sys.executable} -c {shlex.quote(code)} "$@"')
    sandbox.grid.qstat("slurm")
    lines.append(capsys.readouterr().out)
    assert len(lines) > 20 and "42" in lines[-1]
    for line in lines:
        bad = [char for char in line if char != "\n" and not char.isprintable()]
        assert not bad, f"{bad} in {line!r}"
        assert not set(line) & set("\u202e\u2066\u200b\x1b\x9b")


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"},
    ],
    ids=["ascii", "POSIX", "latin-1"],
)
def test_in_a_locale_that_lacks_a_character_all_is_shown(sandbox, monkeypatch, locale):
    """Also what is called from Python in such a terminal: submit, wait, qstat, a dry run."""
    sandbox.write("worker.py", "from grid import typecast\nraise ValueError('\\u00fc \\u5b57', typecast())")
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    lines = [
        "from grid import *; import grid",
        "job = submit_script('worker.py', ['\\u00fc\\u5b57'], log_dir='logs')",
        "qstat()",
        "try: job.wait(30)\nexcept JobFailed as error: print(ascii(str(error)))",
        "submit_script('worker.py', ['\\u5b57'], log_dir='logs', dry_run=True)",
        "try: submit_script('\\u5b57.py')\nexcept GridError as error: raise",
    ]
    sandbox.write("submit.py", "\n".join(lines))
    done = subprocess.run([sys.executable, "submit.py"], capture_output=True, timeout=60)
    assert b"UnicodeEncodeError" not in done.stderr and b"ArgumentError: no such script" in done.stderr
    assert b"\\u5b57" in done.stdout and b"# To submit it" in done.stdout, done.stderr
    [job] = sandbox.grid.jobs()
    assert job.tasks[0].args == ["\u00fc\u5b57"] and job.reason == "ValueError: ('\u00fc \u5b57', ['\u00fc\u5b57'])"
    for words in (["status"], ["show"], ["log"], ["log", "-f"]):
        done = subprocess.run([sys.executable, "grid.py", *words], capture_output=True, timeout=60)
        assert done.returncode == 0 and b"ValueError" in done.stdout + done.stderr, done.stderr
