"""Run a Python script on a compute grid with the very arguments that it gets on this machine.

    from grid import *

    job = submit_script("train.py", [0.1, [64, 32]], "source env/bin/activate", memory="2G", cuda=1)
    qstat()      # what waits and what runs
    qdel(job)    # stop it

and in train.py

    from grid import typecast

    learning_rate, layers = typecast()    # 0.1 and [64, 32]: a float and a list of ints, not words

This one file needs nothing but Python's standard library: copy it beside your scripts. Each submission is a folder in
.grid/ beside this file. It holds the arguments (tasks.txt), the script that the scheduler runs (job.sh), what was asked
for (record.json) and how it ended (records/), all plain text. `bash job.sh 1` in it runs the job again by hand.
"""

import os
import re
import sys

if sys.version_info < (3, 11):  # before anything that an older Python would stumble over
    sys.exit(f"grid.py needs Python 3.11 or newer, this is {sys.executable}, {sys.version.split()[0]}")

__all__ = "submit_script typecast limit_threads qstat qdel Job GridError ArgumentError SubmitError".split()

GRID_FILE = os.path.abspath(__file__)
PROJECT = os.path.dirname(GRID_FILE)
PYPROJECT = os.path.join(PROJECT, "pyproject.toml")
CALL_TIMEOUT = 60  # seconds that a scheduler's command may take


class GridError(Exception):
    """Whatever goes wrong here; its text says what happened and what to do."""


class ArgumentError(GridError, TypeError):
    """An argument that cannot be used: a value that cannot travel, an unknown keyword, a memory of "lots"."""


class SubmitError(GridError):
    """The scheduler is missing, does not answer or refuses; its own words are in the text."""


# --- 1. What you call -------------------------------------------------------------------------------------------------


def submit_script(
    path,
    args=(),
    activate="",
    *,
    memory=None,
    cuda=0,
    cores=1,
    walltime=None,
    name=None,
    queue=None,
    log_dir="~",
    options=(),
    scheduler=None,
    dry_run=False,
    **unknown,
):
    """Run a Python script on the grid, in an environment of yours, as soon as there is room.

    The job runs in the folder that you submit from. What it prints goes to NAME.oID and NAME.eID in log_dir.

    Args:
        path: the Python script.
        args: a list of what the script gets as arguments: numbers, text, None, and lists, tuples, dicts, sets of them, of
            any size. typecast() in the script gives them back; argparse, click or sys.argv see ordinary words.
        activate: the shell command that activates the environment, such as "source /home/me/env/bin/activate" or
            "module load python". Empty: the Python that submits.
        memory: of the whole job: "2G", "500M"; units K, M, G, T of 1024. None: whatever the site gives.
        cuda: how many GPUs.
        cores: how many cores; numeric libraries get as many threads.
        walltime: how long it may run: seconds, or "90m", "2h", "1d", "1:30:00". None: whatever the site gives.
        name: the job's name; without one, the script's. Characters that schedulers refuse become "_".
        queue: the queue to wait in. None: whatever the site gives.
        log_dir: the folder for the output and the error file, made if missing; the home directory by default.
        options: a list of further options for the scheduler, passed on untouched: ["-P", "vision"].
        scheduler: "gridengine", or "background" (this machine). None: $GRID_SCHEDULER, else `scheduler` in the
            table [tool.grid] of pyproject.toml, else what is on PATH.
        dry_run: only print the job script and the submit command.

    Returns:
        The Job. With dry_run its id is None.

    Raises:
        ArgumentError: an argument cannot be used; it is a TypeError too. Nothing is submitted.
        SubmitError: the scheduler is missing or refuses. Nothing is submitted.
    """
    if unknown:
        raise ArgumentError(_unknown_keywords(unknown, submit_script))
    _check("options", options, isinstance(options, (list, tuple)), 'a list of words, such as ["-P", "vision"]')
    script = _script_path(path)
    line = _task_line(args)
    engine = _engine(scheduler)
    request = {
        "memory": _bytes(memory),
        "cuda": _count("cuda", cuda, 0),
        "cores": _count("cores", cores, 1),
        "walltime": _seconds(walltime),
        "queue": None if queue is None else _text("queue", queue),
        "options": [_text("an option", word) for word in options],
    }
    record = {
        "name": _job_name(os.path.splitext(os.path.basename(script))[0] if name is None else name),
        "script": script,
        "activate": _text("activate", activate),
        "workdir": os.getcwd(),
        "log_dir": _log_dir(log_dir, make=not dry_run),
        "scheduler": engine.name,
        "request": request,
        "python": sys.executable,
    }
    return _submit(engine, record, [line], dry_run)


def typecast(words=None):
    """Turn command-line words back into the Python values that they stand for.

    typecast()               the arguments of this script, sys.argv[1:], as a list of values
    typecast(["4.2", "x"])   [4.2, "x"]
    typecast("[4,2]")        [4, 2], so that argparse takes it: add_argument("--layers", type=typecast)

    A word that is no Python literal stays the text that it is. In a job that submit_script started, values arrive as
    they were passed: the text "42" stays a text. Literals are what Python writes for numbers (inf and nan too), texts,
    bytes, True, False, None, and lists, tuples, dicts and sets of them; 4,2 is the tuple (4, 2), as in Python.
    """
    if words is None:
        words = sys.argv[1:]
    if not isinstance(words, str):
        return [typecast(word) if isinstance(word, str) else word for word in words]
    try:
        return words.grid_value  # a Word, see section 2
    except AttributeError:
        pass
    try:
        return _read(words)
    except (ValueError, RecursionError):
        return str(words)


def limit_threads(cores=1):
    """Let numeric libraries in this process use as many threads as a job with this many cores gets.

    Call it before numpy is imported: with other numbers of threads sums are added up in another order, and the last
    digits of results differ.
    """
    os.environ.update(_thread_limits(_count("cores", cores, 1)))


def qstat(scheduler=None):
    """Print a table of your jobs that wait or run: id, name, state, since when, where."""
    rows = [("id", "name", "state", "since", "where"), *_engine(scheduler).live()]
    if len(rows) == 1:
        print("no jobs are waiting or running")
        return
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def qdel(job=None, scheduler=None):
    """Stop a job, given as a Job or its id; without one, all that qstat() shows.

    Returns the ids of the jobs that the scheduler was told to stop. Raises SubmitError if it does not know the job.
    """
    if isinstance(job, Job):
        scheduler, job = job.scheduler, job.id
    engine = _engine(scheduler)
    ids = [row[0] for row in engine.live()] if job is None else [str(job)]
    if ids:
        engine.cancel(ids)
    return ids


# --- 2. How values are written down and read back ---------------------------------------------------------------------

# Characters that would be invisible or break a line in tasks.txt; both Python and JSON know \uXXXX.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\xa0\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _write(value):
    """The Python literal of a value, where possible one that is JSON as well, for JSON is read ten times faster."""
    kind = type(value)
    if kind is str:
        if _SURROGATE.search(value):  # JSON would join two halves to one character; it refuses single quotes
            return repr(value + '"')[:-2] + "'"
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return '"' + _HIDDEN.sub(_escape, text) + '"'
    if kind is float or kind is bool or value is None or kind is bytes or kind is complex:
        return repr(value)
    if kind is int:  # Python refuses to write very long ones, but not in base 16
        return repr(value) if value.bit_length() < 2000 else hex(value)
    if kind is list:
        return "[" + ", ".join(map(_write, value)) + "]"
    if kind is tuple:
        return "(" + ", ".join(map(_write, value)) + (",)" if len(value) == 1 else ")")
    if kind is dict:
        return "{" + ", ".join(f"{_write(key)}: {_write(item)}" for key, item in value.items()) + "}"
    if kind is set:
        return "{" + ", ".join(map(_write, value)) + "}" if value else "set()"
    if kind is Word:
        return _write(value.grid_value)
    if isinstance(value, os.PathLike):
        return _write(os.fspath(value))
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and type(value.item()) is not kind:
        return _write(value.item())  # a number of numpy's
    raise ArgumentError(f"{_short(value)} of type {kind.__module__}.{kind.__qualname__}")


def _escape(match):
    return f"\\u{ord(match[0]):04x}"


def _short(value):
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _task_line(args):
    """The line of tasks.txt for a list of arguments."""
    if type(args) not in (list, tuple):
        raise ArgumentError(f"args is {_short(args)}: pass a list of arguments, such as [0.1, [64, 32]]")
    parts = []
    for number, value in enumerate(args, 1):
        try:
            parts.append(_write(value))
        except RecursionError:
            raise ArgumentError(f"argument {number} is nested too deeply, or holds itself") from None
        except ArgumentError as error:
            raise ArgumentError(
                f"argument {number} holds {error}, which cannot travel to the job. Pass numbers, text, None, or lists, "
                "tuples, dicts and sets of them: for an array its .tolist(), for a model or an open file its path, for "
                "a function its name."
            ) from None
    return "[" + ", ".join(parts) + "]"


_NAMES = {"True": True, "False": False, "None": None}
_TOKEN = re.compile(
    r"""[ \t\n\r\f]*+(?:
        (b?'[^'\\\r\n]*+(?:\\.[^'\\\r\n]*+)*+' | b?"[^"\\\r\n]*+(?:\\.[^"\\\r\n]*+)*+"  # 1: a text, bytes,
            | set\(\) | [^\[\](){},:'" \t\n\r\f]+)                                      #    a number or a name
        | ([\[({]) | ([,:]) | ([\])}]) | [\s\S] | $ )""",  # 2, 3, 4: brackets and marks; none: nonsense, or the end
    re.VERBOSE,
)
_REAL = r"(?:inf|nan|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9][0-9_]*)?)"
_NUMBERS = (
    (re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*)"), lambda word: int(word, 0)),
    (re.compile(rf"[-+]?{_REAL}"), float),
    (re.compile(rf"(?:[-+]?{_REAL}(?=[-+]))?[-+]?{_REAL}[jJ]"), complex),
)


def _read(text):
    """The value of a Python literal; ValueError if the text is none.

    ast.literal_eval takes ten times as long and as much memory, knows neither inf nor nan, and reads `...` and `4 # x`.
    """
    items, marks = _read_items(_TOKEN.finditer(text), "")
    if not items or ":" in marks:
        raise ValueError(text)
    return tuple(items) if marks else items[0]


def _read_line(line):
    """The arguments in a line of tasks.txt. Where _write's text is JSON as well, it means the same."""
    import json

    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _read(line)


def _read_items(tokens, closing):
    """What stands before the closing bracket: the values, and the commas and colons between them."""
    items, marks = [], []
    for match in tokens:
        token, kind = match[match.lastindex or 0].strip(" \t\n\r\f"), match.lastindex
        if token == closing and kind in (4, None):
            return items, "".join(marks)
        if (kind == 3) == (len(marks) == len(items)) or kind in (4, None):  # a mark after a mark, a value after a value
            raise ValueError(token)
        if kind == 1:
            items.append(_read_word(token))
        elif kind == 2:
            items.append(_bracketed(token, *_read_items(tokens, {"[": "]", "(": ")", "{": "}"}[token])))
        else:
            marks.append(token)
    raise ValueError(closing)


def _bracketed(opening, items, marks):
    pairs = len(items) // 2
    if ":" in marks and (opening != "{" or len(items) % 2 or marks.rstrip(",") + "," != ":," * pairs):
        raise ValueError(marks)
    if opening == "[":
        return items
    if opening == "(":
        return items[0] if len(items) == 1 and not marks else tuple(items)
    try:
        return dict(zip(items[::2], items[1::2])) if ":" in marks or not items else set(items)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _read_word(word):
    if word in _NAMES:
        return _NAMES[word]
    if word == "set()":
        return set()
    if word[-1] in "'\"":
        if word[0] != "b" and "\\" not in word:
            return word[1:-1]
        import ast
        import warnings

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an unknown escape such as \\d, which means itself
                return ast.literal_eval(word)
        except SyntaxError:
            raise ValueError(word) from None
    for pattern, number in _NUMBERS:
        if pattern.fullmatch(word):
            return number(word)
    raise ValueError(word)


class Word(str):
    """A word of sys.argv that carries the exact value it stands for, for typecast."""

    def __new__(cls, value):
        try:
            word = super().__new__(cls, value)  # as Python writes it
        except ValueError:  # an int that is too long for base 10
            word = super().__new__(cls, _write(value))
        word.grid_value = value
        return word

    def __reduce__(self):  # in another process (a pool's) this class may not be known: an ordinary word there
        return str, (str(self),)


# --- 3. What is asked for, checked before anything is written ---------------------------------------------------------


def _unknown_keywords(unknown, function):
    from difflib import get_close_matches

    known = list(function.__kwdefaults__)
    close = get_close_matches(next(iter(unknown)), known, 1)
    return (
        f"{function.__name__} has no argument {', '.join(map(repr, unknown))}"
        + (f"; did you mean {close[0]!r}?" if close else ".")
        + f" It takes path, args, activate, {', '.join(known)}."
    )


def _check(what, value, good, wanted):
    if not good:
        raise ArgumentError(f"{what} is {_short(value)}: pass {wanted}")
    return value


def _text(what, value):
    good = isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)
    return str(_check(what, value, good, "a text"))


def _count(what, value, least):
    return _check(what, value, type(value) is int and value >= least, f"a whole number, {least} or more")


def _path(what, value, wanted):
    _check(what, value, isinstance(value, (str, os.PathLike)) and os.fspath(value) != "", f"the path of {wanted}")
    return os.path.expanduser(os.fspath(value))


def _bytes(memory):
    """ "1.5G" in bytes; None stays None."""
    if memory is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGT])(?:i?B)?", str(memory), re.IGNORECASE)
    size = round(float(match[1]) * 1024 ** (" KMGT".index(match[2].upper()))) if match else 0
    _check("memory", memory, size >= 1, 'a number and a unit, K, M, G or T, such as "2G" or "500M"')
    return size


def _seconds(walltime):
    """A walltime in whole seconds; None stays None."""
    if walltime is None:
        return None
    text = str(walltime)
    if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text):
        seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    elif match := re.fullmatch(r"([0-9]+):([0-5]?[0-9]):([0-5]?[0-9])", text):
        seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    else:
        seconds = 0
    _check("walltime", walltime, seconds >= 1, 'seconds, or a text such as "90m", "2h", "1d", "1:30:00"')
    return int(seconds)


def _script_path(path):
    script = os.path.abspath(_path("path", path, "a Python script"))
    if os.path.isdir(script):
        raise ArgumentError(f"{script} is a folder: pass the path of the Python script in it that is to run")
    if not os.path.isfile(script):
        raise ArgumentError(f"there is no script {script}: check the path; a relative one counts from {os.getcwd()}")
    return script


def _job_name(name):
    """A name that every scheduler takes: letters, digits, and . _ + -; it begins with a letter."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", _text("name", name))[:100] or "job"
    # Grid Engine takes the names none, all and template for something else
    return name if name[0].isalpha() and name.lower() not in ("none", "all", "template") else "job_" + name


def _log_dir(log_dir, make):
    """The absolute folder for output and error files. It is made now, for a job could not tell that it cannot be."""
    folder = _path("log_dir", log_dir, "a folder")
    if str(log_dir) == "~" and not os.path.isdir(folder):
        raise ArgumentError(f"log_dir is ~, but there is no home directory {folder}: pass log_dir another folder")
    folder = os.path.abspath(folder)
    if make:
        try:
            os.makedirs(folder, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError("you may not write there")
        except OSError as error:
            raise ArgumentError(f"the log folder {folder} cannot be used: {error}. Pass log_dir another one.") from None
    return folder


def _thread_limits(cores):
    """What tells OpenMP, OpenBLAS, MKL, numexpr and Accelerate how many threads to use."""
    names = "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS"
    return dict.fromkeys(names.split(), str(cores))


def _settings():
    """The table [tool.grid] of the pyproject.toml beside this file; empty if there is none."""
    import tomllib

    try:
        with open(PYPROJECT, "rb") as file:
            return tomllib.load(file).get("tool", {}).get("grid", {})
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"{PYPROJECT} cannot be read: {error}") from None


# --- 4. The submission's folder, and the one job script ---------------------------------------------------------------

_JOB_SCRIPT = r"""
# 1. Which task is this? By hand the output stays in this terminal and nothing is recorded.
if [ $# -gt 0 ] || [ -z "$id" ]; then
    task=${1:-1} id=by-hand record=
else
    task=${index:-1}
    [ "$task" != undefined ] || task=1
    record="$folder/records/$task.$attempt.running"
fi

own_path=$PATH # whatever the activation makes of it

# 2. The record. Its name tells the end: TASK.ATTEMPT.running becomes TASK.ATTEMPT.exit-CODE.
note() { [ -z "$record" ] || printf '%s: %s\n' "$1" "$2" >>"$record"; }
fail() {
    printf 'grid: %s\n' "$1" >&2
    note reason "$1"
    exit 1
}
end() {
    code=$? PATH=$own_path
    mkdir -p "$folder/records"
    note ended "$(date +%Y-%m-%dT%H:%M:%S%z)"
    mv -f "$record" "${record%.running}.exit-$code"
    exit "$code"
}
if [ -n "$record" ]; then
    mkdir -p "$folder/records"
    printf '%s: %s\n' id "$id" host "$HOSTNAME" started "$(date +%Y-%m-%dT%H:%M:%S%z)" >"$record"
    trap end EXIT
    # the scheduler's warning signals reach everything that runs here; before Python runs they end the job
    trap 'fail "stopped by a signal before the script began"' TERM USR1 USR2

    # 3. The output and error files.
    mkdir -p "$log_dir" && : >>"$log_dir/$name.o$id" && : >>"$log_dir/$name.e$id" ||
        fail "the log folder $log_dir cannot be written on $HOSTNAME"
    exec >>"$log_dir/$name.o$id" 2>>"$log_dir/$name.e$id"
fi

# 4. The folder and the environment. Nothing runs in a wrong one.
cd "$workdir" || fail "the working directory $workdir cannot be entered on $HOSTNAME"
if [ -n "$activate" ]; then
    unset VIRTUAL_ENV
    conda_before=${CONDA_PREFIX:-}
    eval "$activate" || fail "the environment cannot be activated: $activate"
    python=$(type -P python || type -P python3) || fail "there is no python after: $activate"
    [ "${CONDA_PREFIX:-}" = "$conda_before" ] || : "${VIRTUAL_ENV:=$CONDA_PREFIX}"
    [ -z "${VIRTUAL_ENV:-}" ] || [ "${python%/*}" -ef "$VIRTUAL_ENV/bin" ] ||
        fail "the environment $VIRTUAL_ENV has no python on $HOSTNAME: make it again. Activated by: $activate"
else
    [ -x "$python" ] || fail "there is no python $python on $HOSTNAME: pass activate a command that provides one"
fi

# 5. The script.
export GRID_JOB_ID="$id" GRID_JOB_NAME="$name" GRID_TASK="$task" GRID_RECORD="$record" PYTHONUNBUFFERED=1
trap : TERM USR1 USR2 # Python answers them (see "run" in grid.py), and its end is still recorded
"$python" "$grid" run "$folder" "$task"
"""


def _job_script(folder, record, engine):
    """The text of job.sh. Every value is quoted for the shell; only `activate` is meant to be run by it."""
    import shlex

    settings = {
        "folder": folder,
        "attempt": "1",
        "name": record["name"],
        "log_dir": record["log_dir"],
        "workdir": record["workdir"],
        "activate": record["activate"],
        "python": record["python"],
        "grid": GRID_FILE,
    }
    lines = [
        "#!/bin/bash",
        "# Written by grid.py for the scheduler, which runs it once for each task.",
        "# To run task 1 again by hand, with its output in the terminal:  bash job.sh 1",
        "",
        *(f"{key}={shlex.quote(value)}" for key, value in settings.items()),
        "export " + " ".join(f"{key}={value}" for key, value in _thread_limits(record["request"]["cores"]).items()),
        engine.job_ids,
    ]
    return "\n".join(lines) + "\n" + _JOB_SCRIPT


def _new_folder(name, make):
    """The path of a fresh folder for a submission. mkdir decides when two processes want the same name."""
    import time

    stem = os.path.join(PROJECT, ".grid", f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    number, folder = 1, stem
    while make:
        try:
            os.makedirs(os.path.join(folder, "records"))
            break
        except FileExistsError:
            number += 1
            folder = f"{stem}-{number}"
        except OSError as error:
            raise SubmitError(f"the job's folder {folder} cannot be made: {error}") from None
    return folder


def _save(path, text):
    """Write a file so that a reader, or a crash, never sees half of it."""
    with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
    os.replace(path + ".new", path)


def _load(path):
    import json

    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return json.load(file)


def _submit(engine, record, lines, dry_run):
    """Write the folder, call the scheduler, write down the id."""
    import json
    import shlex
    import shutil

    def save(record):
        _save(os.path.join(folder, "record.json"), json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    command = engine.command(record)
    if not dry_run:
        engine.find()
    folder = _new_folder(record["name"], make=not dry_run)
    script = os.path.join(folder, "job.sh")
    record = record | {"id": None, "command": command + [script], "submitted": _now()}
    if dry_run:
        print(_job_script(folder, record, engine))
        print("# To submit it:\n" + shlex.join(record["command"]))
        return Job(folder, record)
    try:
        _save(os.path.join(folder, "tasks.txt"), "".join(line + "\n" for line in lines))
        _save(script, _job_script(folder, record, engine))
        save(record)
        answer = _call(record["command"], engine.hint)
    except (OSError, SubmitError) as error:
        shutil.rmtree(folder, ignore_errors=True)  # nothing half-submitted is left
        if isinstance(error, OSError):
            raise SubmitError(f"the folder {folder} for the job cannot be written: {error}") from None
        raise
    ids = re.findall(engine.answer, answer, re.MULTILINE)
    if len(ids) != 1:
        raise SubmitError(
            f"{record['command'][0]} did not answer with a job's id but with: {answer.strip() or 'nothing'}\n"
            f"See with qstat whether a job {record['name']} is there. Its folder: {folder}"
        )
    record["id"] = ids[0]
    save(record)
    return Job(folder, record)


def _now():
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _call(command, hint=None):
    """What a scheduler's command prints. Its refusal, with its own words and a hint where there is one, is a SubmitError."""
    import subprocess

    try:
        # a session of its own: Ctrl-C stops this program, not the scheduler's command half-way, nor a background job
        how = dict(
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="surrogateescape", start_new_session=True
        )
        done = subprocess.run(command, timeout=CALL_TIMEOUT, **how)
    except FileNotFoundError:
        raise SubmitError(f"{command[0]} was not found on this machine. {_WAYS_OUT}") from None
    except OSError as error:
        raise SubmitError(f"{command[0]} cannot be run: {error}") from None
    except subprocess.TimeoutExpired:
        raise SubmitError(f"{command[0]} did not answer within {CALL_TIMEOUT} seconds") from None
    if done.returncode:
        words = (done.stderr.strip() + "\n" + done.stdout.strip()).strip() or f"nothing, exit code {done.returncode}"
        advice = hint(words) if hint else ""
        raise SubmitError(f"{command[0]} refuses and says: {words}" + (f"\n{advice}" if advice else ""))
    return done.stdout


_WAYS_OUT = (
    "Work on this machine (make local), submit where a scheduler is installed (the cluster's login node), or let the "
    "job run in the background of this machine: GRID_SCHEDULER=background."
)


# --- 5. The schedulers ------------------------------------------------------------------------------------------------
# All that differs between them: how to submit, what the answer looks like, how to list and to cancel.


class _GridEngine:
    """Sun/Univa/Altair/Open Grid Engine and their kin; see the man pages qsub, qstat, submit, sge_conf."""

    name = "gridengine"
    job_ids = "id=${JOB_ID:-} index=${SGE_TASK_ID:-}"  # what the scheduler tells a job
    answer = r"^([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?$"  # of qsub -terse; whole lines only, for sites print notices too

    def __init__(self, settings):
        self.site = {"memory": "h_vmem", "cuda": "cuda"} | settings.get(self.name, {})

    def find(self):
        import shutil

        if not shutil.which("qsub"):
            raise SubmitError(f"there is no Grid Engine on this machine: qsub was not found. {_WAYS_OUT}")

    def command(self, record):
        request = record["request"]
        # -b n -C "" -S: a script, no #$ lines in it, and bash, whatever the site's defaults are. The job script opens its
        # files and changes the folder itself, for Grid Engine expands $HOME and refuses : and , in such paths.
        words = "qsub -terse -notify -b n -j n -C  -S /bin/bash -wd / -o /dev/null -e /dev/null".split(" ")
        words += ["-N", record["name"]]
        if request["memory"]:
            # the resource counts per slot; rounded up, so that the total never falls short
            words += ["-l", f"{self.site['memory']}={_size(-(-request['memory'] // request['cores']))}"]
        if request["cuda"]:
            words += ["-l", f"{self.site['cuda']}={request['cuda']}"]
        if request["cores"] > 1:
            if not self.site.get("parallel_environment"):
                raise ArgumentError(
                    f"for {request['cores']} cores Grid Engine needs the name of a parallel environment (qconf -spl "
                    f'lists them): write parallel_environment = "NAME" {self._where()}'
                )
            words += ["-pe", self.site["parallel_environment"], str(request["cores"])]
        if request["walltime"]:
            words += ["-l", f"h_rt={request['walltime']}"]
        if request["queue"]:
            words += ["-q", request["queue"]]
        return words + request["options"]

    def _where(self):
        return f"into the table [tool.grid.{self.name}] of {PYPROJECT}"

    def hint(self, words):
        """What to do about a refusal, where the cause is known."""
        if match := re.search(r'unknown resource "([^"]*)"', words):
            key = next((key for key in ("memory", "cuda") if self.site[key] == match[1]), None)
            if key:
                return (
                    f'This site has another name for {key} (qconf -sc lists them): write {key} = "NAME" {self._where()}'
                )
        if "parallel environment" in words:
            return f'This site has others (qconf -spl lists them): write parallel_environment = "NAME" {self._where()}'
        return ""

    def live(self):
        """A row (id, name, state, since, where) for each job of this user that waits or runs."""
        import getpass
        import xml.etree.ElementTree as ElementTree

        rows = []
        for job in ElementTree.fromstring(_call(["qstat", "-xml", "-u", getpass.getuser()])).iter("job_list"):
            fields = {field.tag: field.text or "" for field in job}
            number, tasks = fields.get("JB_job_number", ""), fields.get("tasks", "")
            since = fields.get("JAT_start_time") or fields.get("JB_submission_time", "")
            state = fields.get("state", "")
            word = "error" if "E" in state else "running" if "r" in state or "t" in state else "pending"
            rows.append(
                (
                    number + ("." + tasks if tasks else ""),
                    fields.get("JB_name", ""),
                    f"{word} ({state})",
                    since.replace("T", " "),
                    fields.get("queue_name", ""),
                )
            )
        return rows

    def cancel(self, ids):
        _call(["qdel", *ids])


class _Background:
    """No scheduler: the job script as a process of this machine, started at once. Memory and GPUs are not limited."""

    name = "background"
    job_ids = "id=${GRID_BACKGROUND:+$$} index=\nunset GRID_BACKGROUND"
    answer = r"^([0-9]+)$"

    def __init__(self, settings):
        pass

    def find(self):
        pass

    def command(self, record):
        # set -m: a process group of its own, by which the job and all that it starts can be stopped
        start = 'set -m; GRID_BACKGROUND=1 bash "$0" </dev/null >/dev/null 2>&1 & echo $!'
        return ["bash", "-c", start]

    def hint(self, words):
        return ""

    def live(self):
        import socket

        processes = {}
        for line in _call(["ps", "-ww", "-u", str(os.getuid()), "-o", "pid=,pgid=,args="]).splitlines():
            pid, group, args = line.split(None, 2)
            if pid == group and args.endswith("/job.sh"):
                processes[pid] = args
        rows = []
        for job in _jobs():
            ended = any(".exit-" in name for name in os.listdir(job.folder / "records"))
            if job.scheduler == self.name and job.id in processes and not ended:
                rows.append((job.id, job.name, "running", job.record["submitted"], socket.gethostname()))
        return rows

    def cancel(self, ids):
        import signal

        for number in ids:
            if number not in [row[0] for row in self.live()]:
                raise SubmitError(f"no job {number} runs in the background of this machine")
            os.killpg(int(number), signal.SIGTERM)


_ENGINES = {engine.name: engine for engine in (_GridEngine, _Background)}


def _engine(name=None):
    """The scheduler to use: as named, else by $GRID_SCHEDULER, else by [tool.grid], else as found on PATH."""
    import shutil

    settings = _settings()
    name = name or os.environ.get("GRID_SCHEDULER") or settings.get("scheduler")
    if not name:
        # other schedulers bring a qsub as well; only Grid Engine brings qconf
        if not (shutil.which("qsub") and shutil.which("qconf")):
            raise SubmitError(f"there is no Grid Engine on this machine: qsub and qconf were not found. {_WAYS_OUT}")
        name = _GridEngine.name
    if name not in _ENGINES:
        raise ArgumentError(f"there is no scheduler {name!r}: pass one of {', '.join(_ENGINES)}")
    return _ENGINES[name](settings)


def _size(number):
    """Bytes as Grid Engine takes them, in the largest unit that fits, rounded up to a K of 1024."""
    number = -(-number // 1024)
    for unit in "KMG":
        if number % 1024 or unit == "G":
            return f"{number}{unit}"
        number //= 1024


# --- 6. A job afterwards ----------------------------------------------------------------------------------------------


class Job:
    """A submission. All of it is in its folder; Job(folder) picks it up again in any process.

    Attributes:
        id: the scheduler's id, a text; None if it was not submitted.
        name: as the scheduler knows it.
        folder: the Path of the folder with tasks.txt, job.sh, record.json and records/.
        scheduler: "gridengine" or "background".
        stdout, stderr: the Paths of the output and the error file; None without an id. The job makes them at its start.
        record: all that was written down at submission, a dict.
    """

    def __init__(self, folder, record=None):
        from pathlib import Path

        self.folder = Path(folder)
        self.record = record or _load(os.path.join(folder, "record.json"))
        self.id, self.name, self.scheduler = (self.record[key] for key in ("id", "name", "scheduler"))
        log_dir = Path(self.record["log_dir"])
        self.stdout = log_dir / f"{self.name}.o{self.id}" if self.id else None
        self.stderr = log_dir / f"{self.name}.e{self.id}" if self.id else None

    def __repr__(self):
        return f"<Job {self.id} {self.name}>"


def _jobs():
    """The jobs of this project, the oldest first."""
    home = os.path.join(PROJECT, ".grid")
    for name in sorted(os.listdir(home)) if os.path.isdir(home) else []:
        if os.path.isfile(os.path.join(home, name, "record.json")):
            yield Job(os.path.join(home, name))


# --- 7. What runs inside the job --------------------------------------------------------------------------------------


def _run(folder, task):
    """Run task number `task` of a submission: the script as __main__, with words that carry their values in sys.argv."""
    import itertools
    import signal
    import types

    with open(os.path.join(folder, "tasks.txt"), encoding="utf-8", newline="\n") as file:
        line = next(itertools.islice(file, task - 1, None), None)
    if line is None:
        sys.exit(f"grid: {folder}/tasks.txt has no line {task}")
    args = _read_line(line)
    script = _load(os.path.join(folder, "record.json"))["script"]
    _note("python", f"{sys.executable} {sys.version.split()[0]}")
    try:
        with open(script, "rb") as file:
            source = file.read()
    except OSError as error:
        _note("reason", f"the script cannot be read: {error}")
        sys.exit(f"grid: the script cannot be read: {error}")

    sys.argv = [script] + [Word(value) for value in args]
    if sys.path and sys.path[0] == PROJECT:
        sys.path[0] = os.path.dirname(script)
    sys.excepthook = _report
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGUSR2, _stop)
    main = types.ModuleType("__main__")
    main.__file__, main.__builtins__ = script, __builtins__
    sys.modules["__main__"] = main
    try:
        exec(compile(source, script, "exec", dont_inherit=True), vars(main))
    except SystemExit as error:
        if isinstance(error.code, str):
            _note("reason", error.code)
        raise


def _report(kind, error, traceback):
    """Print an uncaught exception as if the script had been started directly, and write it down as the reason."""
    while traceback and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)
    _note("reason", f"{kind.__name__}: {error}")


def _stop(number, frame):
    """For the script, the one signal to handle is SIGTERM.

    Grid Engine announces a kill, for a time limit or a deletion, by SIGUSR2 to all processes of the job, and a mere
    suspension by SIGUSR1 (qsub, -notify), of which Python would die.
    """
    import signal

    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    _note("signal", signal.Signals(number).name)
    signal.raise_signal(signal.SIGTERM)


def _note(key, text):
    """Add a line to the record of the running task, if there is one."""
    if path := os.environ.get("GRID_RECORD"):
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{key}: {' '.join(text.split())[:500]}\n")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "run" or not sys.argv[3].isdecimal():
        sys.exit(f"usage: {sys.argv[0]} run FOLDER TASK (this is what job.sh does; to use grid.py: from grid import *)")
    _run(sys.argv[2], int(sys.argv[3]))
