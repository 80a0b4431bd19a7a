"""Inside the job: run the user's script as __main__, as `python script args` does. job.sh starts it for every task:

run.py SUBMISSION TASK            SUBMISSION is a numbered folder, TASK the number of a task
run.py SUBMISSION TASK by-hand    nothing is recorded
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LOADED = set(sys.modules)  # by Python itself
# What this file needs comes before anything that the user's folder may call json or signal.
IN_PATH = bool(sys.path) and os.path.realpath(sys.path[0] or ".") == os.path.realpath(HERE)  # not with PYTHONSAFEPATH
if IN_PATH:
    del sys.path[0]
import json  # noqa: E402
import signal  # noqa: E402


def main(submission, task):
    """Run a task of a submission."""
    record = os.environ.get("GRID_RECORD")
    note("python", f"{sys.executable} {sys.version.split()[0]}")
    project = os.path.dirname(HERE)
    sys.path.insert(0, project)
    from gridlib import values

    del sys.path[0]
    try:
        encoding = sys.getfilesystemencoding()  # as Python reads paths
        with open(os.path.join(submission, "..", "job.json"), encoding=encoding, errors="surrogateescape") as file:
            job = json.load(file)
        script = os.fspath(job.get("snapshot") or job["script"])
        words = [values.to_word(value) for value in read_args(submission, task, values)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        leave(f"cannot read the arguments of task {task} in {os.path.dirname(submission)}: {why}")
    warn_of_change(submission, script)
    if "snapshot" in job:  # it brings its own copy of the library
        os.environ["GRID_PROJECT"] = project
    sys.argv = [script, *words]
    if record:
        reset_signals()
    sys.excepthook = report
    start(script)


def read_args(submission, task, values):
    """Return the arguments of a task."""
    with open(os.path.join(submission, "..", "tasks.jsonl"), encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if number == task:
                return values.from_line(line)
    raise ValueError(f"tasks.jsonl has no line {task}")


def warn_of_change(submission, script):
    """Say so if the script is not the one that was submitted."""
    try:
        stat = os.stat(script)
        with open(os.path.join(submission, "submission.json"), encoding="utf-8", errors="surrogateescape") as file:
            then = json.load(file)["script"]
        if (then["size"], then["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns) or then["sha256"] is None:
            return
        import hashlib

        with open(script, "rb") as file:
            same = hashlib.sha256(file.read()).hexdigest() == then["sha256"]
    except (OSError, ValueError, KeyError, TypeError):  # start() tells if it is gone
        return
    if not same:
        print(f"grid: {script} has changed since the job was submitted", file=sys.stderr)
        note("changed", script)


def reset_signals():
    """Answer signals as a program that was started in a terminal does, whatever the job's surroundings ignore."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    os.environ["GRID_MAIN"] = str(os.getpid())
    signal.signal(signal.SIGUSR2, stop)


def start(script):
    """Run a script: a Python file, a compiled one, a folder or a zip file with __main__.py."""
    folder = os.path.isdir(script)
    try:
        with open(os.path.join(script, "__main__.py") if folder else script, "rb") as file:
            source = file.read()
    except OSError as error:
        leave(f"cannot read the script: {error}")
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    try:
        if folder or b"PK\x05\x06" in source[-66_000:]:  # where a zip file has its table of contents
            import runpy

            sys.path.insert(0, script)
            forget_modules()
            # what Python itself calls for them
            runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # it is private
            return
        if IN_PATH:
            sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
        forget_modules()
        if script.endswith(".pyc"):
            from importlib.machinery import SourcelessFileLoader

            loader = SourcelessFileLoader("__main__", script)
            code: object = loader.get_code("__main__")
        else:
            loader = type(globals()["__loader__"])("__main__", script)
            code = compile(source, script, "exec", dont_inherit=True)
        main.__dict__.update(__file__=script, __builtins__=__builtins__, __loader__=loader)
        main.__dict__.update(__cached__=None, __annotations__={})
        exec(code, main.__dict__)  # type: ignore[arg-type]  # an old compiled file raises an error before
    except SystemExit as error:
        if isinstance(error.code, str):
            note("reason", error.code)
        raise


def forget_modules():
    """Forget what this file has imported wherever the script's folder has a module of its own of that name."""
    for name in set(sys.modules) - LOADED:
        top = name.partition(".")[0]
        own = [os.path.join(folder, top) for folder in sys.path[:1]]
        shadowed = top == "gridlib" or any(os.path.isdir(path) or os.path.isfile(f"{path}.py") for path in own)
        if shadowed and name != "__main__":
            del sys.modules[name]


def report(kind, error, traceback):
    """Print an uncaught exception as if the script had been started directly, and write it down as the reason."""
    while traceback and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    try:
        note("reason", f"{kind.__name__}: {error}".rstrip(": "))
    except BaseException:  # its __str__ fails
        note("reason", kind.__name__)
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)


def stop(number, frame):
    """For the script, the one signal to handle is SIGTERM.

    Grid Engine announces a kill, for a time limit or a deletion, by SIGUSR2 to all processes of the job (qsub, -notify).
    """
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if os.environ.get("GRID_MAIN") == str(os.getpid()):  # not in the processes of a pool, which it reaches too
        signal.raise_signal(signal.SIGTERM)


def note(key, text):
    """Add a line to the record of the running task, if there is one."""
    if path := os.environ.get("GRID_RECORD"):
        try:
            with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{key}: {' '.join(text.split())[:500]}\n")
        except OSError:  # a full disk is no reason to end the script
            pass


def leave(reason):
    """End the job with a reason."""
    note("reason", reason)
    sys.exit(f"grid: {reason}")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4 or not sys.argv[2].isdecimal():
        sys.exit("run.py is for job.sh; to run a script on the grid, in Python: from grid import *")
    main(sys.argv[1], int(sys.argv[2]))
