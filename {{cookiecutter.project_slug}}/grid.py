"""Run a Python script on a compute grid with the very arguments that it gets on this machine.

    from grid import *

    job = submit_script("train.py", [0.1, [64, 32]], "source env/bin/activate", memory="2G", cuda=1)
    many = submit_array("train.py", [[rate, [64, 32]] for rate in (0.1, 0.01)], "source env/bin/activate")
    qstat()      # what waits and what runs
    qdel(job)    # stop it

and in train.py

    from grid import typecast

    learning_rate, layers = typecast()    # 0.1 and [64, 32]: a float and a list of ints, not words

This one file needs nothing but Python's standard library: copy it beside your scripts. Each submission is a folder in
.grid/ beside this file. It holds the arguments (tasks.txt, a line for each task), the script that the scheduler runs
(job.sh), what was asked for (record.json) and how it ended (records/), all plain text. `bash job.sh 1` in it runs task 1
again by hand. A single job is an array of one task.
"""

import contextlib
import os
import re
import sys
import time
from _thread import get_ident
from collections import Counter, namedtuple

if sys.version_info < (3, 11):  # before anything that an older Python would stumble over
    sys.exit(f"grid.py needs Python 3.11 or newer, this is {sys.executable}, {sys.version.split()[0]}")

__all__ = "submit_script submit_array typecast limit_threads qstat qdel jobs wait Job Task".split()
__all__ += "GridError ArgumentError SubmitError JobFailed JobTimeout".split()

GRID_FILE = os.path.abspath(__file__)
PROJECT = os.environ.get("GRID_PROJECT") or os.path.dirname(GRID_FILE)  # the variable: of jobs that run a snapshot
PYPROJECT = os.path.join(PROJECT, "pyproject.toml")
CALL_TIMEOUT = 60  # seconds that a scheduler's command may take
RETRY_FOR = 60  # seconds for which a submission tries to reach a scheduler that does not answer
MOST_FILES = 5000  # that a snapshot copies
GRACE = 5  # seconds that the record of a job may take to arrive, after the job has left the queue


class GridError(Exception):
    """Whatever goes wrong here; its text says what happened and what to do.

    Attribute: job, the Job that it is about: one that was waited for and is not DONE, or one of which the scheduler took some
    tasks and not all; else None.
    """

    def __init__(self, text, job=None):
        super().__init__(text)
        self.job = job


class ArgumentError(GridError, TypeError):
    """An argument that cannot be used: a value that cannot travel, an unknown keyword, a memory of "lots"."""


class SubmitError(GridError):
    """The scheduler is missing, does not answer or refuses; its own words are in the text."""


class Unreachable(SubmitError):
    """The scheduler does not answer, or not in a form that can be read. It may do so later."""


class _Refused(SubmitError):
    """The scheduler said no, and does not have the job."""


class JobFailed(GridError):
    """A job that was waited for is not DONE."""


class JobTimeout(GridError, TimeoutError):
    """A job that was waited for has not ended in the given time; it goes on."""


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
    after=None,
    options=(),
    scheduler=None,
    snapshot=False,
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
        after: a Job, or a list of Jobs: begin when they have ended. If one of them fails, so does this, and never runs.
        options: a list of further options for the scheduler, passed on untouched: ["-P", "vision"].
        scheduler: "gridengine", "slurm", or "background" (this machine). None: $GRID_SCHEDULER, else `scheduler` in the
            table [tool.grid] of pyproject.toml, else what is on PATH.
        snapshot: run a copy of the code as it is now, so that it may be edited while the job waits: in a git repository
            all files that git does not ignore, up to 1 MB each; elsewhere the Python files of the script's folder and
            below. The working directory stays. Data and ignored files are not copied.
        dry_run: only print the job script and the submit command.

    Returns:
        The Job. With dry_run its id is None.

    Raises:
        ArgumentError: an argument cannot be used; it is a TypeError too. Nothing is submitted.
        SubmitError: the scheduler is missing or refuses; or the job was stopped meanwhile. Nothing is submitted, unless the
            text says that this is not known.
    """
    keywords = {name: value for name, value in locals().items() if name in submit_script.__kwdefaults__}
    if unknown:
        raise ArgumentError(_unknown_keywords(unknown, list(keywords), "submit_script has", "args"))
    return _submit(path, [_task_line(args)], activate, array=False, max_running=None, **keywords)


def submit_array(path, tasks, activate="", *, max_running=None, **keywords):
    """Run a Python script many times on the grid, each time with other arguments: one submission, however many tasks.

    Tasks are numbered from 1, in the order of the list. Task 7's output and errors go to NAME.oID.7 and NAME.eID.7 in a
    folder of the array's own in log_dir. More tasks than the site takes at once go in as several pieces; they are one Job.

    Args:
        path, activate: as of submit_script.
        tasks: a list with the list of arguments of each task; they may differ in length.
        max_running: how many tasks may run at the same time. None: as many as there is room for.
        keywords: those of submit_script, such as memory="2G"; of each task, not of all of them together.

    Returns:
        The Job, with len(job), job.tasks and job.counts.

    Raises:
        ArgumentError: an argument cannot be used; the text names the task. Nothing is submitted.
        SubmitError: the scheduler is missing or refuses. If it took some tasks and refuses others, the text says so, and
            the error's `job` is the Job with those that it took.
    """
    defaults = submit_script.__kwdefaults__
    if unknown := keywords.keys() - defaults.keys():
        raise ArgumentError(_unknown_keywords(unknown, ["max_running", *defaults], "submit_array has", "tasks"))
    wanted = "a list with the list of arguments of each task, such as [[0.1, 32], [0.1, 64]]"
    _check("tasks", tasks, isinstance(tasks, (list, tuple)) and len(tasks) > 0, wanted)
    if max_running is not None:
        _count("max_running", max_running, 1)
    lines = []
    for number, args in enumerate(tasks, 1):
        try:
            lines.append(_task_line(args))
        except ArgumentError as error:
            raise ArgumentError(f"task {number}: {error}") from None
    return _submit(path, lines, activate, array=True, max_running=max_running, **defaults | keywords)


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


def jobs():
    """The jobs of this project, a list of Job, the oldest first."""
    home = os.path.join(PROJECT, ".grid")
    names = os.listdir(home) if os.path.isdir(home) else []
    found = []
    for name in names:
        try:
            found.append(Job(os.path.join(home, name)))
        except FileNotFoundError:  # being made, or just removed
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(
                f"grid: {os.path.join(home, name)} is passed by, its record.json is broken: {error!r}", file=sys.stderr
            )
    return sorted(found, key=lambda job: job.record["provenance"]["submitted"])


def wait(jobs, timeout=None):
    """Wait until jobs have ended; Ctrl-C and a timeout end the waiting, not the jobs.

    What the jobs leave in their folders is read every second. The scheduler is asked after half a second and then ever
    more seldom, up to once a minute, in one call for all jobs.

    Args:
        jobs: a Job, or several.
        timeout: seconds, and up to GRACE more; None: for ever.

    Raises:
        JobFailed: one of them, or more, is FAILED or CANCELLED; all have ended.
        JobTimeout: the time was over first.
    """
    jobs = [jobs] if isinstance(jobs, Job) else list(jobs)
    for known in _polls(jobs, timeout):
        pass
    ends = {id(job): _overall(job, known[id(job)]) for job in jobs}
    if failed := [job for job in jobs if ends[id(job)].state != "DONE"]:
        epitaphs = "\n".join(_epitaph(job, ends[id(job)]) for job in failed[:5])
        raise JobFailed(epitaphs + "\n..." * (len(failed) > 5), failed[0])


def qstat(scheduler=None):
    """Print a table of your jobs that wait or run: id, name, state, since when, where, and what is special."""
    rows = []
    for number, lines in _engine(scheduler).queue().items():
        alike = {}  # the tasks of an array are counted
        for row in lines:
            alike.setdefault((row["name"], f"{row['state']} ({row['word']})", row["reason"]), []).append(row)
        for (name, state, reason), some in alike.items():
            indexes = [index for row in some for index in row["indexes"] or ()]
            hosts = sorted({row["host"] for row in some})
            where = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"
            what = [reason] * bool(reason) + [f"{len(indexes)} tasks: {_ranges(indexes)}"] * bool(indexes)
            rows.append((number, name, state, min(row["since"] for row in some), where, ", ".join(what)))
    if not rows:
        print("no jobs are waiting or running")
        return
    rows.insert(0, ("id", "name", "state", "since", "where", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def qdel(job=None, scheduler=None):
    """Stop jobs: a Job or its id, or a list of them; without one, all that qstat() shows.

    A job is told once, by SIGTERM, and so can save and leave; in the background, a second qdel kills it.

    Returns the ids of the jobs that the scheduler was told to stop. Raises SubmitError if it does not know one of them.
    """
    mine = {number: ours for ours in jobs() for number in ours.ids}
    lost, wanted = [], {}  # for each scheduler: Jobs of this project, and the ids of others
    for one in job if isinstance(job, (list, tuple)) else [job]:
        # a job of this project knows its scheduler; another one may have another job with the same id
        ours = one.refresh() if isinstance(one, Job) else mine.get(str(one))
        if ours and not (ours.ids or ours.being_submitted()):
            lost.append(ours)
            continue
        name = ours.scheduler if ours and not scheduler else _engine(scheduler).name
        wanted.setdefault(name, []).append(ours or one)
    told = []
    for name, some in wanted.items():
        engine = _engine(name)
        busy = [one for one in some if isinstance(one, Job) and one.being_submitted()]
        queue = engine.queue()
        if job is None:
            some = [mine[number] if number in mine and mine[number].scheduler == name else number for number in queue]
        others = [str(one) for one in some if not isinstance(one, Job)]
        if unknown := [number for number in others if number not in queue]:
            raise SubmitError(f"there is no job {', '.join(unknown)} of yours in {name}; qstat shows those that are")
        ours = [one for one in dict.fromkeys(some) if isinstance(one, Job)]
        ours = [one for one in ours if one in busy or not queue.keys().isdisjoint(one.ids)]
        before, known = [(one, one.cancelled()) for one in ours], {number for one in ours for number in one.ids}
        again = len(ours) > 0
        for one in ours:
            try:
                again = not one.mark_cancelled() and again
            except OSError as error:  # a full disk is no reason to let it run on, but its submitter cannot know
                again = False
                if one in busy:
                    raise SubmitError(f"{one} cannot be stopped while it is submitted: {error}", one) from None
        # another process that still submits the job sees the mark, and stops what is not known here
        ids = [number for one in ours for number in one.refresh().ids if number in queue or number not in known]
        try:
            if ids := others + ids:
                engine.cancel(ids, again)
        except SubmitError:
            queue = engine.queue()
            left = [number for number in ids if any(row["reason"] != "being deleted" for row in queue.get(number, ()))]
            for one, cancelled in before:
                if not set(one.ids).isdisjoint(left):  # it goes on: do not say that it was stopped
                    one.mark_cancelled(cancelled)
            if left:  # of a job that has ended meanwhile there is nothing to say
                raise
        told += ids
    if lost:
        raise SubmitError(f"the job in {lost[0].folder} cannot be stopped: its id is not known (yet)", lost[0])
    return told


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
        if "\\" not in word and (word[0] != "b" or word.isascii()):
            return word[2:-1].encode() if word[0] == "b" else word[1:-1]
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


def _unknown_keywords(unknown, known, who, second):
    from difflib import get_close_matches

    close = get_close_matches(next(iter(unknown)), known, 1)
    return (
        f"{who} no argument {', '.join(map(repr, unknown))}"
        + (f"; did you mean {close[0]!r}?" if close else ".")
        + f" It takes path, {second}, activate, {', '.join(known)}."
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
    good = isinstance(value, (str, os.PathLike)) and os.fspath(value) and "\0" not in os.fspath(value)
    _check(what, value, good, f"the path of {wanted}")
    return os.path.expanduser(os.fspath(value))


def _bytes(memory):
    """ "1.5G" in bytes, rounded up; None stays None."""
    if memory is None:
        return None
    from fractions import Fraction

    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGT])i?B?", str(memory), re.I | re.A)
    size = Fraction(match[1]) * 1024 ** " KMGT".index(match[2].upper()) if match else 0
    _check("memory", memory, size > 0, 'a number and a unit, K, M, G or T, such as "2G" or "500M"')
    return _up(size)


def _up(number, step=1):
    """How many steps it takes to reach a number."""
    return int(-(-number // step))


def seconds(walltime, what="walltime"):
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
    _check(what, walltime, seconds >= 1, 'seconds, or a text such as "90m", "2h", "1d", "1:30:00"')
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
    """The table [tool.grid] of the pyproject.toml beside this file, checked; empty if there is none."""
    import tomllib

    try:
        with open(PYPROJECT, "rb") as file:
            table = tomllib.load(file).get("tool", {}).get("grid", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{PYPROJECT} cannot be read: {error}") from None
    wanted = {"scheduler": None} | {name: engine.settings for name, engine in _ENGINES.items()}
    _known(table, wanted, "[tool.grid]")
    for name, keys in wanted.items():
        if keys is not None:
            _known(table.get(name, {}), dict.fromkeys(keys), f"[tool.grid.{name}]")
    return table


def _known(table, wanted, title):
    """Refuse what a table of pyproject.toml should not hold: a wrong name would otherwise have no effect, in silence."""
    for key, value in table.items() if isinstance(table, dict) else [(title, None)]:
        if key not in wanted:
            raise ArgumentError(f"{PYPROJECT}, {title}: {key} has no meaning; known are {', '.join(wanted) or 'none'}")
        if wanted[key] is None and not (isinstance(value, str) and value):
            raise ArgumentError(f"{PYPROJECT}, {title}: {key} is {_short(value)}: write a text in quotes")
        if key.endswith("_per") and value not in ("slot", "job"):
            raise ArgumentError(f'{PYPROJECT}, {title}: {key} is {_short(value)}: write "slot" or "job"')


# --- 4. The submission's folder, and the one job script ---------------------------------------------------------------

_JOB_SCRIPT = r"""
# 1. Which task is this? By hand the output stays in this terminal and nothing is recorded.
# Names that are needed after the activation begin with grid_, for it may use all others.
if [ $# -gt 0 ] || [ -z "$grid_id" ]; then
    grid_task=${1:-1} grid_id=by-hand grid_record=
else
    [ "${index:-undefined}" != undefined ] || index=1 # as Grid Engine says where there is no array
    grid_task=$(sed -n "${index}p" "$grid_map")
    grid_record="$grid_folder/records/$grid_task.$attempt.running"
fi
grid_path=$PATH grid_begun=

# 2. The record. Its name tells the end: TASK.ATTEMPT.running becomes TASK.ATTEMPT.exit-CODE.
grid_note() { [ -z "$grid_record" ] || printf '%s: %s\n' "$1" "${2//$'\n'/ }" >>"$grid_record"; }
grid_fail() {
    printf 'grid: %s\n' "$1" >&2
    grid_note reason "$1"
    exit 1
}
grid_end() {
    grid_code=$? PATH=$grid_path
    mkdir -p "$grid_folder/records"
    [ -z "$grid_walltime" ] || [ "$SECONDS" -lt "$grid_walltime" ] || ! grep -q "^signal: " "$grid_record" ||
        grid_note reason "the walltime of $grid_walltime s was over"
    [ "$grid_code$grid_begun" != 0 ] || { grid_code=1 && grid_note reason "the activation ended the job: $grid_activate"; }
    grid_note ended "$(date +%Y-%m-%dT%H:%M:%S%z)"
    mv -f "$grid_record" "${grid_record%.running}.exit-$grid_code"
    # to Grid Engine 99 would mean: run it again, and 100: keep it in error state
    case $grid_code in 99 | 100) grid_code=1 ;; esac
    exit "$grid_code"
}
if [ -n "$grid_record" ]; then
    mkdir -p "$grid_folder/records"
    for old in "${grid_record%.running}".*; do
        # the same job under another id has come before this one: nothing runs twice
        [ ! -e "$old" ] || grep -qx "id: $grid_id" "$old" || exit 1
    done
    rm -f "${grid_record%.running}".exit-* # of a run that the scheduler has begun anew
    printf '%s: %s\n' id "$grid_id" host "$HOSTNAME" started "$(date +%Y-%m-%dT%H:%M:%S%z)" >"$grid_record"
    trap grid_end EXIT
    # the scheduler's warning signals reach everything that runs here; before Python runs they end the job
    trap 'grid_note signal SIGUSR2; grid_fail "stopped by a signal before the script began"' TERM USR2
    trap '' USR1 # which announces a mere suspension

    # 3. The output and error files.
    out="$log_dir/$grid_name.o$grid_id${array:+.$grid_task}" err="$log_dir/$grid_name.e$grid_id${array:+.$grid_task}"
    mkdir -p "$log_dir" && : >>"$out" && : >>"$err" || grid_fail "the log folder $log_dir cannot be written on $HOSTNAME"
    exec >>"$out" 2>>"$err"
    [ -n "$grid_task" ] || grid_fail "$grid_map, which tells what index $index stands for, cannot be read on $HOSTNAME"
fi

# 4. The jobs before this one. The scheduler lets it begin when they have ended, however; their records tell how.
shopt -s nullglob
grid_count() { # sets ended and well: how many tasks of a job have ended, in their newest attempt, and how many did well
    local names=("$1/records/"*)
    read -r ended well < <(printf '%s\n' "${names[@]##*/}" | awk -F. '
        $2 + 0 > newest[$1] || $2 + 0 == newest[$1] && end[$1] !~ /^exit-/ { newest[$1] = $2 + 0; end[$1] = $3 }
        END { for (task in end) { ended += end[task] ~ /^exit-/; well += end[task] == "exit-0" }; print ended + 0, well + 0 }')
}
for number in "${!after[@]}"; do
    for try in {1..10}; do # a record may be late on a slow file system
        while runs ${after_ids[number]}; do sleep 0.5; done
        grid_count "${after[number]}"
        [ "$ended" -lt "${after_tasks[number]}" ] || break
        sleep 0.5
    done
    [ "$well" -ge "${after_tasks[number]}" ] ||
        grid_fail "job ${after_ids[number]}, on which this one waits, did not succeed: ${after[number]}"
done
shopt -u nullglob

# 5. The folder and the environment. Nothing runs in a wrong one.
cd "$workdir" || grid_fail "the working directory $workdir cannot be entered on $HOSTNAME"
if [ -n "$grid_activate" ]; then
    unset VIRTUAL_ENV
    grid_conda=${CONDA_PREFIX:-}
    # any command that fails ends the job, not only the last one; in files that it sources some may, as conda's do
    trap '[ ${#BASH_SOURCE[@]} -gt 1 ] || grid_fail "the environment cannot be activated: $grid_activate"' ERR
    eval "$grid_activate"
    trap - ERR
    python=$(type -P python || type -P python3) || grid_fail "there is no python after: $grid_activate"
    [ "${CONDA_PREFIX:-}" = "$grid_conda" ] || : "${VIRTUAL_ENV:=$CONDA_PREFIX}"
    [ -z "${VIRTUAL_ENV:-}" ] || [ "${python%/*}" -ef "$VIRTUAL_ENV/bin" ] ||
        grid_fail "the environment $VIRTUAL_ENV has no python on $HOSTNAME: make it again. Activated by: $grid_activate"
else
    [ -x "$python" ] || grid_fail "there is no python $python on $HOSTNAME: pass activate a command that provides one"
fi

# 6. The script.
export GRID_JOB_ID="$grid_id" GRID_JOB_NAME="$grid_name" GRID_TASK="$grid_task" GRID_RECORD="$grid_record"
export PYTHONUNBUFFERED=1
grid_begun=yes
# Python answers them (see "run" in grid.py), and its end is still recorded
trap 'grid_note signal SIGTERM' TERM
trap 'grid_note signal SIGUSR2' USR2
"$python" "$grid_file" run "$grid_folder" "$grid_task"
"""


def _job_script(job, piece, request):
    """The text of a piece's job script. Every value is quoted for the shell; only `activate` is meant to be run by it."""
    import shlex

    record, before = job.record, job.record["after"]
    settings = {
        "grid_folder": str(job.folder),
        "grid_name": record["name"],
        "grid_activate": record["activate"],
        "grid_walltime": str(request["walltime"] or ""),
        "grid_file": GRID_FILE,
        "grid_map": str(job.folder / piece["map"]),
        "attempt": str(piece["attempt"]),
        "array": "yes" if record["array"] else "",
        "log_dir": str(job.log_dir),
        "workdir": record["workdir"],
        "python": record["python"],
    }
    lists = {
        "after": [earlier["folder"] for earlier in before],
        "after_ids": [" ".join(earlier["ids"]) for earlier in before],
        "after_tasks": [str(earlier["tasks"]) for earlier in before],
    }
    lines = [
        "#!/bin/bash",
        "# Written by grid.py for the scheduler, which runs it once for each task.",
        "# To run task 1 again by hand, with its output in the terminal:  bash job.sh 1",
        "",
        *(f"{key}={shlex.quote(value)}" for key, value in settings.items()),
        *(f"{key}=({shlex.join(values)})" for key, values in lists.items() if before),
        "export " + " ".join(f"{key}={value}" for key, value in _thread_limits(request["cores"]).items()),
        _engine(record["scheduler"]).job_ids,
    ]
    return "\n".join(lines) + "\n" + _JOB_SCRIPT


def _new_folder(name, make):
    """The path of a fresh folder for a submission. mkdir decides when two processes want the same name."""
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
    new = f"{path}.{os.getpid()}.new"
    with open(new, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
    os.replace(new, path)


def _load(path):
    import json

    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return json.load(file)


def _after(after, engine):
    """The jobs to wait for, as they stand in the record."""
    after = [] if after is None else [after] if isinstance(after, Job) else after
    good = isinstance(after, (list, tuple)) and all(isinstance(job, Job) and job.ids for job in after)
    _check("after", after, good, "a Job that was submitted, or a list of them")
    for job in after:
        if job.scheduler != engine.name:
            raise ArgumentError(f"after: job {job.id} is one of {job.scheduler}, this one is for {engine.name}")
    return [{"ids": job.ids, "folder": str(job.folder), "tasks": len(job)} for job in after]


def _provenance(script):
    """Who submits what, from where, and in which state of the code."""
    import platform

    with open(script, "rb") as file:
        digest = _digest(file.read())
    facts = {
        "submitted": _now(),
        "host": platform.node(),
        "pid": os.getpid(),
        "user": _user(),
        "command": sys.orig_argv,
    }
    facts |= {"python": f"{sys.executable} {platform.python_version()}", "script_sha256": digest}
    lines = (_git(script, "status", "--porcelain=v2", "--branch") or "").splitlines()
    if commit := [line.split()[-1] for line in lines if line.startswith("# branch.oid")]:
        facts |= {"git_commit": commit[0], "git_changes": any(not line.startswith("#") for line in lines)}
    return facts


def _user():
    """The name of the user whose process this is; $LOGNAME, which getpass asks, may be another's after su."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _digest(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _git(script, *words):
    """What git says in the folder of the script; None if there is no git, or no repository."""
    import subprocess

    command = ["git", "-C", os.path.dirname(script), *words]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CALL_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else os.fsdecode(done.stdout)


def _snapshot(script, folder):
    """Copy the code into the folder; returns the path of the script's copy, and what was left out though git has it."""
    import shutil

    folder = os.path.join(folder, "snapshot")
    here, name = os.path.realpath(os.path.dirname(script)), os.path.basename(script)
    root = (_git(script, "rev-parse", "--show-toplevel") or "").rstrip("\n")
    if root:
        root = os.path.realpath(root)
        listed = _git(script, "ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard", root)
        names = [file for file in (listed or "").split("\0") if file and ".grid" not in file.split("/")]
    else:
        root, names = here, []
        for path, below, files in os.walk(root):
            # not what is hidden, nor environments
            below[:] = [
                d
                for d in below
                if d[0] != "." and not {"pyvenv.cfg", "conda-meta"} & {*os.listdir(os.path.join(path, d))}
            ]
            names += [os.path.relpath(os.path.join(path, file), root) for file in files if file.endswith(".py")]
    script, left_out = os.path.relpath(os.path.join(here, name), root), []
    if len(names) > MOST_FILES:
        raise ArgumentError(
            f"snapshot: {root} holds {len(names)} files of code, which is no project; {MOST_FILES} at most"
        )
    for file in sorted({script, *names}):
        source, copy = os.path.join(root, file), os.path.join(folder, file)
        if os.path.isdir(source) or os.path.isfile(source) and os.path.getsize(source) > 1024**2 and file != script:
            left_out.append(file)  # a submodule, a link to a folder, a large file
        elif os.path.isfile(source):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(source, copy)
    return os.path.join(folder, script), left_out


ASKED = ("memory", "cuda", "cores", "walltime", "queue", "options")


def _request(memory, cuda, cores, walltime, queue, options):
    """What is asked of the scheduler for each task, checked."""
    _check("options", options, isinstance(options, (list, tuple)), 'a list of words, such as ["-P", "vision"]')
    return {
        "memory": _bytes(memory),
        "cuda": _count("cuda", cuda, 0),
        "cores": _count("cores", cores, 1),
        "walltime": seconds(walltime),
        "queue": None if queue is None else _text("queue", queue),
        "options": [_text("an option", word) for word in options],
    }


def _submit(path, lines, activate, array, max_running, name, log_dir, after, scheduler, snapshot, dry_run, **request):
    """Write the folder, call the scheduler, write down the id.

    Whenever this is interrupted, the job is either not submitted, or found again by the path of its job script.
    """
    import shutil

    request = _request(**request)
    script = _script_path(path)
    engine = _engine(scheduler)
    record = {
        "name": _job_name(os.path.splitext(os.path.basename(script))[0] if name is None else name),
        "tasks": len(lines),
        "array": array,
        "max_running": max_running,
        "script": script,
        "activate": _text("activate", activate),
        "workdir": os.getcwd(),
        "log_dir": _log_dir(log_dir, make=not dry_run),
        "scheduler": engine.name,
        "request": request,
        "python": sys.executable,
        "after": _after(after, engine),
        "provenance": _provenance(script),
        "retries": [],
        "pieces": [],
    }
    if dry_run:
        job = Job(_new_folder(record["name"], make=False), record)
        _show(engine, job, lines)
        return job
    engine.find_program()
    engine.command(record, request, [], 0)  # what the engine refuses is refused before anything is written
    job = Job(_new_folder(record["name"], make=True), record)
    try:
        with job.lock():
            if snapshot:
                record["snapshot"], record["snapshot_without"] = _snapshot(script, job.folder)
            _save(job.folder / "tasks.txt", "".join(line + "\n" for line in lines))
            job.save()
            _submit_pieces(engine, job, list(range(1, len(lines) + 1)), request, 1)
    except (OSError, ArgumentError, _Refused) as error:
        shutil.rmtree(job.folder, ignore_errors=True)  # nothing half-submitted is left
        if isinstance(error, ArgumentError):
            raise
        if isinstance(error, _Refused):
            raise SubmitError(str(error)) from None
        raise SubmitError(f"the folder {job.folder} for the job cannot be written: {error}") from None
    return job


def _submit_pieces(engine, job, tasks, request, attempt):
    """Hand tasks, a list of their numbers, to the scheduler, in as few pieces as it takes. The job's lock must be held.

    Raises _Refused or OSError if none of them is submitted, SubmitError if some are.
    """
    record, most, left = job.record, engine.usual_most, tasks
    if len(tasks) > most:
        most = max(1, engine.most_tasks())
    while left:
        piece, hold = _new_piece(job, left[:most], attempt)
        command = engine.command(record, request, hold, piece["tasks"] if record["array"] else 0)
        piece["command"] = [*command, str(job.folder / piece["script"])]
        record["pieces"].append(piece)
        try:
            # the intent is on disk before the scheduler is called, and the id right after
            _save(job.folder / piece["map"], "".join(f"{task}\n" for task in left[:most]))
            _save(job.folder / piece["script"], _job_script(job, piece, request))
            job.save()
            piece["id"] = _call_until_it_has_the_job(engine, job, piece)
        except (_Refused, OSError) as error:
            record["pieces"].remove(piece)
            with contextlib.suppress(OSError):
                job.save()
            if piece["tasks"] > 1 and re.search(engine.too_many, str(error)):
                site = engine.most_tasks()
                most = site if 0 < site < piece["tasks"] else piece["tasks"] // 2
                continue
            if left is tasks:
                raise
            raise SubmitError(
                f"{len(tasks) - len(left)} of {len(tasks)} tasks are submitted, as {job}; but then: {error}\n"
                f"To submit those later: job.resubmit(), or python gridctl.py retry {job.id}",
                job,
            ) from None
        with contextlib.suppress(OSError):  # the disk is full, say; the id will be found again
            job.save()
        left = left[most:]
        if job.cancelled() - job._marks:  # another process was told to stop it, and could not know this piece
            job.mark_cancelled()
            words = f"{job} was stopped while it was submitted"
            try:
                engine.cancel([piece["id"]], False)
            except SubmitError as error:
                if "does not exist" not in str(error):
                    words += f", but {piece['id']} may go on: {error}"
            raise SubmitError(words, job)


def _new_piece(job, tasks, attempt):
    """A piece of a submission for these tasks, and the ids of the jobs that it has to wait for."""
    before, number = job.record["pieces"], 1 + len(job.record["pieces"])
    stem = "job" if number == 1 else f"job-{number}"
    piece = {"id": None, "attempt": attempt, "tasks": len(tasks), "script": f"{stem}.sh", "map": f"{stem}.map"}
    hold = [number for earlier in job.record["after"] for number in earlier["ids"]]
    if job.record["max_running"]:
        hold += job.ids[-1:]  # the scheduler counts within a piece: the pieces run one after the other
    return piece, hold


def _show(engine, job, lines):
    """Print what would be submitted."""
    import shlex

    record, most = job.record, engine.usual_most
    piece, hold = _new_piece(job, lines[:most], 1)
    command = engine.command(record, record["request"], hold, piece["tasks"] if record["array"] else 0)
    print(_job_script(job, piece, record["request"]))
    print("# tasks.txt, the arguments:", *(line[:2000] for line in lines[:20]), sep="\n")
    if len(lines) > 20:
        print(f"# ... and {len(lines) - 20:,} more lines")
    if len(lines) > most:
        print(
            f"\n# The {len(lines):,} tasks go in as several pieces of {most:,}, or as many as the site takes at once."
        )
    print("\n# To submit it (the time in the folder's name will be that of the submission):")
    print(shlex.join([*command, str(job.folder / piece["script"])]))


def _call_until_it_has_the_job(engine, job, piece):
    """Submit; returns the id. Before a second try comes a look whether the first one got through."""
    command, script, trouble = piece["command"], str(job.folder / piece["script"]), None
    end, pause, call = time.monotonic() + RETRY_FOR, 0.5, True
    while True:
        if call:
            try:
                # qsub keeps the lock while it is at work; a job in the background would keep it until its end
                answer = _call(command, engine, [job._lock] if job._lock and engine.programs else [])
                ids = re.findall(engine.answer, answer, re.MULTILINE)
                if len(ids) == 1:
                    return ids[0]
                words = answer.strip() or "nothing"
                trouble = SubmitError(f"{command[0]} did not answer with a job's id but with: {words}")
            except SubmitError as error:
                trouble = error
        # whether it surely does not have the job, so that it is safe to try again, or to give up
        call = isinstance(trouble, _Refused) or bool(re.search(engine.not_sent, str(trouble)))
        try:
            found, call = engine.find([script], engine.queue()).get(script), True
        except SubmitError:
            found = None  # nobody can tell yet
        job.read_records()  # a task that has begun has written its id down; it may have left the queue already
        if found or piece["id"]:
            return found or piece["id"]
        left = end - time.monotonic()
        if call and (left <= 0 or not isinstance(trouble, Unreachable)):
            raise _Refused(str(trouble))
        if left <= 0:
            piece["unknown"] = True  # the scheduler may still take it
            with contextlib.suppress(OSError):
                job.save()
            raise SubmitError(f"{trouble}\nWhether it has the job is not known; it will be seen in {job.folder}")
        if pause == 0.5:
            print(f"grid: {command[0]} does not answer; trying for {RETRY_FOR} seconds", file=sys.stderr)
        pause = min(2 * pause, 10)
        time.sleep(min(pause, left))


def _now():
    from datetime import datetime

    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _call(command, engine=None, keep=()):
    """What a scheduler's command prints. Its refusal, with its own words and a hint where there is one, is a SubmitError."""
    import subprocess

    try:
        # a session of its own: what it starts in the background outlives this terminal
        how = dict(pass_fds=keep, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True)
        if engine:
            how["env"] = {key: value for key, value in os.environ.items() if not re.match(engine.foreign, key)}
            how["env"] |= engine.variables
        done = subprocess.run(command, timeout=CALL_TIMEOUT, errors="surrogateescape", **how)
    except FileNotFoundError:
        raise SubmitError(f"{command[0]} was not found on this machine. {_WAYS_OUT}") from None
    except OSError as error:
        raise SubmitError(f"{command[0]} cannot be run: {error}") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} did not answer within {CALL_TIMEOUT} seconds") from None
    if done.returncode:
        words = (done.stderr.strip() + "\n" + done.stdout.strip()).strip()
        advice = engine.hint(words) if engine else ""
        unsure = Unreachable if engine and re.search(engine.unreachable, words) else SubmitError
        kind = _Refused if done.stderr.strip() and unsure is SubmitError and done.returncode > 0 else unsure
        words = words or f"nothing, exit code {done.returncode}"
        raise kind(f"{command[0]} refuses and says: {words}" + (f"\n{advice}" if advice else ""))
    return done.stdout


_WAYS_OUT = (
    "Work on this machine (make local), submit where a scheduler is installed (the cluster's login node), or let the "
    "job run in the background of this machine: GRID_SCHEDULER=background."
)


# --- 5. The schedulers ------------------------------------------------------------------------------------------------
# All that differs between them: how to submit, what the answer looks like, how to list and to cancel.


class _Scheduler:
    """What the schedulers have in common."""

    settings = ()  # how the site calls things: what may stand in [tool.grid.NAME]
    programs = ()  # by what it is known that it is here; the first one submits
    unreachable = not_sent = "(?!)"  # words of one that does not answer, and of one that surely got nothing; no words
    too_many = "(?!)"  # words that refuse a number of tasks
    foreign = "(?!)"  # variables of the user's that would change what its commands do, and variables for them
    variables = {}
    usual_most = 1_000_000_000  # tasks in one submission, if the site has changed nothing

    def __init__(self, settings):
        self.site = settings.get(self.name, {})

    def find_program(self):
        import shutil

        if self.programs and not shutil.which(self.programs[0]):
            raise SubmitError(
                f"there is no {self.title} on this machine: {self.programs[0]} was not found. {_WAYS_OUT}"
            )

    def where(self):
        return f"into the table [tool.grid.{self.name}] of {PYPROJECT}"

    def hint(self, words):
        """What to do about a refusal, where the cause is known; else an empty text."""
        return ""

    def most_tasks(self):
        """How many tasks the site takes in one submission."""
        return self.usual_most

    def find(self, scripts, queue):
        """The ids of the jobs with these job scripts, a dict from the script's path: for ids that were lost."""
        rows = ((number, row) for number, lines in queue.items() for row in lines)
        return {row["script"]: number for number, row in rows if row.get("script") in scripts}

    def why(self, job_id, state):
        """Why a job does not run, in the scheduler's words: the error of one in error state, else what it lacks."""
        return ""

    def accounting(self, job_id):
        """How tasks ended that left no record, if the scheduler remembers: index -> (state, exit code, reason).

        Of one that it knows to live, though its list has it no more, the state says so.
        """
        return {}


class _GridEngine(_Scheduler):
    """Sun/Univa/Altair/Open Grid Engine and their kin; see the man pages qsub, qstat, submit, sge_conf."""

    name, title, programs = "gridengine", "Grid Engine", ("qsub", "qconf")
    settings = ("memory", "memory_per", "cuda", "cuda_per", "parallel_environment", "queue")
    # What the scheduler tells a job, and whether a job has to wait for another by itself: no, the scheduler holds it.
    job_ids = "grid_id=${JOB_ID:-} index=${SGE_TASK_ID:-}\nruns() { false; }"
    answer = r"^([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?$"  # of qsub -terse; whole lines only, for sites print notices too
    unreachable = "unable to (send message to|contact) qmaster|commlib error|got (send|select|read) error|timeout"
    not_sent = "unable to (send message to|contact) qmaster|Connection refused"
    too_many = "more than .*tasks|jobs are allowed|job limit|too many"
    usual_most = 75_000  # max_aj_tasks, see the man page sge_conf

    def __init__(self, settings):
        usual = {"memory": "h_vmem", "memory_per": "slot", "cuda": "cuda", "cuda_per": "job"}
        self.site = usual | settings.get(self.name, {})

    def command(self, record, request, hold, tasks):
        # -b n -C "" -S: a script, no #$ lines in it, and bash, whatever the site's defaults are. The job script opens its
        # files and changes the folder itself, for Grid Engine expands $HOME and refuses : and , in such paths.
        words = "qsub -terse -notify -b n -j n -C  -S /bin/bash -wd / -o /dev/null -e /dev/null".split(" ")
        words += ["-N", record["name"]]
        # what counts per slot is divided by the slots, rounded up so that the total never falls short
        slots = {key: request["cores"] if self.site[f"{key}_per"] == "slot" else 1 for key in ("memory", "cuda")}
        if request["memory"]:
            words += ["-l", f"{self.site['memory']}={_size(_up(request['memory'], slots['memory']))}"]
        if request["cuda"]:
            words += ["-l", f"{self.site['cuda']}={_up(request['cuda'], slots['cuda'])}"]
            if total := -request["cuda"] % slots["cuda"]:
                total += request["cuda"]
                cores = f"{slots['cuda']} cores get {total} GPUs in all"
                _say_once(f"grid: {self.site['cuda']} counts per slot here (cuda_per in pyproject.toml): {cores}")
        if request["cores"] > 1:
            if not self.site.get("parallel_environment"):
                raise ArgumentError(
                    f"for {request['cores']} cores Grid Engine needs the name of a parallel environment (qconf -spl "
                    f'lists them): write parallel_environment = "NAME" {self.where()}'
                )
            words += ["-pe", self.site["parallel_environment"], str(request["cores"])]
        if request["walltime"]:
            words += ["-l", f"h_rt={request['walltime']}"]
        if queue := request["queue"] or self.site.get("queue"):
            words += ["-q", queue]
        if hold:
            words += ["-hold_jid", ",".join(hold)]
        if tasks:
            words += ["-t", f"1-{tasks}"] + (["-tc", str(record["max_running"])] if record["max_running"] else [])
        return words + request["options"]

    def most_tasks(self):
        try:
            match = re.search(r"^max_aj_tasks +([0-9]+)", _call(["qconf", "-sconf"], self), re.MULTILINE)
        except SubmitError:
            match = None
        return int(match[1]) or self.usual_most if match else self.usual_most  # 0: no limit

    def hint(self, words):
        if match := re.search(r'unknown resource "([^"]*)"', words):
            key = next((key for key in ("memory", "cuda") if self.site[key] == match[1]), None)
            if key:
                return (
                    f'This site has another name for {key} (qconf -sc lists them): write {key} = "NAME" {self.where()}'
                )
        if "parallel environment" in words:
            return f'This site has others (qconf -spl lists them): write parallel_environment = "NAME" {self.where()}'
        return ""

    def queue(self):
        """The jobs of this user that wait or run: id -> rows, see the man page qstat.

        A row is a dict of texts; its "indexes" are those of the tasks in an array that it tells of, else None.
        """
        import xml.etree.ElementTree as ElementTree

        answer = _call(["qstat", "-xml", "-u", _user()], self)
        try:
            lines = list(ElementTree.fromstring(answer).iter("job_list"))
        except ElementTree.ParseError as error:
            raise Unreachable(f"qstat answered what is no XML ({error}): {_short(answer)}") from None
        rows = {}
        for line in lines:
            fields = {field.tag: field.text or "" for field in line}
            word = fields.get("state", "")
            if "E" in word:
                state, reason = "FAILED", "in error state; the scheduler will not run it"
            elif "q" in word:
                state, reason = "PENDING", "held" if "h" in word else ""
            else:
                state, reason = "RUNNING", "suspended" if set(word) & set("sSTNP") else ""
            row = {
                "indexes": _numbers(fields["tasks"]) if fields.get("tasks") else None,
                "name": fields.get("JB_name", ""),
                "state": state,
                "word": word,
                "reason": "being deleted" if "d" in word else reason,
                "since": (fields.get("JAT_start_time") or fields.get("JB_submission_time", "")).replace("T", " "),
                "host": fields.get("queue_name", "").rpartition("@")[2],
            }
            rows.setdefault(fields.get("JB_job_number", ""), []).append(row)
        return rows

    def find(self, scripts, queue):
        ours = {number for job in jobs() for number in job.ids}
        ids, found = [number for number in queue if number not in ours], {}
        try:
            text = _call(["qstat", "-j", ",".join(ids)], self) if ids and scripts else ""
        except SubmitError as error:
            if "do not exist" not in str(error):  # they have just ended
                raise
            text = ""
        for job in re.split("^={20,}$", text, flags=re.MULTILINE):
            number = re.search(r"^job_number: +([0-9]+)$", job, re.MULTILINE)
            for script in scripts:  # in full and unquoted
                if number and re.search(rf"^script_file: +{re.escape(script)}$", job, re.MULTILINE):
                    found[script] = number[1]
        return found

    def why(self, job_id, state):
        try:
            words = _call(["qstat", "-j", job_id] if state == "FAILED" else ["qalter", "-w", "p", job_id], self)
        except SubmitError as error:  # qalter exits with 1 if there is something to say
            words = str(error)
        reasons = r"(?:^error reason +[0-9]+: +|^Job [0-9]+ |says: Job [0-9]+ )(.*)$"
        return "; ".join(re.findall(reasons, words, re.MULTILINE))

    def accounting(self, job_id):
        try:
            words = _call(["qacct", "-j", job_id], self)
        except SubmitError:
            return {}
        found = {}
        for part in re.split("^={20,}$", words, flags=re.MULTILINE):
            facts = dict(re.findall(r"^(taskid|failed|exit_status) +(\w+)", part, re.MULTILINE))
            try:
                failed, code = int(facts["failed"]), int(facts["exit_status"])
            except (KeyError, ValueError):
                continue
            end = "FAILED", code, f"Grid Engine's accounting: failed {failed}, {_exit_reason(code)}"
            if failed == 37:
                end = "FAILED", code, "killed by Grid Engine: over a limit of time or memory (h_rt, h_cpu, h_vmem)"
            elif failed == 100 and code == 137:
                end = "FAILED", code, "killed: by the system, as when memory runs out, or deleted by qdel"
            elif not failed and not code:
                end = "DONE", 0, "as the accounting says"
            index = facts.get("taskid", "")
            found[int(index) if index.isdecimal() else 1] = end
        return found

    def task(self, job_id, index):
        return f"{job_id}.{index}"

    def cancel(self, ids, again):
        _call(["qdel", *ids], self)


class _Slurm(_Scheduler):
    """Slurm; see the man pages sbatch, squeue, scancel, scontrol, sacct."""

    name, title, programs = "slurm", "Slurm", ("sbatch",)
    settings = ("cuda", "partition")
    job_ids = "grid_id=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-}} index=${SLURM_ARRAY_TASK_ID:-}\nunset SLURM_EXPORT_ENV"
    job_ids += "\nruns() { false; }"
    answer = r"^([0-9]+)(?:;\S+)?$"  # of sbatch --parsable: the id, and the cluster where there are several
    unreachable = (
        "Unable to contact slurm controller|[Ss]ocket timed out|Connection (refused|timed out)|Zero Bytes were"
    )
    unreachable += "|Unexpected message received|standby mode|Transport endpoint|Unable to establish controller"
    not_sent = "Unable to contact slurm controller|Connection refused|Unable to establish controller"
    too_many = "Invalid job array specification|job submit limit|SubmitLimit|MaxSubmit|temporarily unable to accept"
    usual_most = 1000  # MaxArraySize - 1, see the man page slurm.conf
    foreign = "SQUEUE_|SBATCH_(ARRAY_INX|WAIT)$"
    variables = {"SLURM_BITSTR_LEN": "0"}  # indexes of tasks that wait are not to be cut off after 64 characters
    clusters = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
    held = ["REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"]
    live = "PENDING RUNNING COMPLETING CONFIGURING SUSPENDED STOPPED SIGNALING STAGE_OUT RESIZING REQUEUED".split()
    live += ["REQUEUE_FED", *held]

    def command(self, record, request, hold, tasks):
        if any(re.match("-M|--clu", word) for word in request["options"]) or any(map(os.environ.get, self.clusters)):
            raise ArgumentError(
                "a job of another cluster could not be found again: submit on a host of that cluster, without the option "
                f"-M, --clusters, and without {' and '.join(self.clusters)} in the environment"
            )
        # --export=NONE: the environment of a login, not that of this terminal; no requeue: nothing runs twice unasked
        words = "sbatch --parsable --export=NONE --no-requeue --chdir=/ --output=/dev/null --error=/dev/null".split()
        words += [f"--job-name={record['name']}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={request['cores']}"]
        if request["memory"]:
            words += [f"--mem={_size(request['memory'], 'M')}"]  # of the node, and so of the whole job
        if request["cuda"]:
            words += [f"--gres={self.site.get('cuda', 'gpu')}:{request['cuda']}"]
        if request["walltime"]:
            words += [f"--time={request['walltime'] // 60}:{request['walltime'] % 60:02d}"]  # minutes:seconds
        if queue := request["queue"] or self.site.get("partition"):
            words += [f"--partition={queue}"]
        if hold:
            words += ["--dependency=afterany:" + ":".join(hold)]
        if tasks:
            words += [f"--array=1-{tasks}" + (f"%{record['max_running']}" if record["max_running"] else "")]
        return words + request["options"]

    def most_tasks(self):
        try:
            match = re.search(r"^MaxArraySize *= *([0-9]+)", _call(["scontrol", "show", "config"], self), re.MULTILINE)
        except SubmitError:
            match = None
        return int(match[1]) - 1 if match else self.usual_most

    def hint(self, words):
        if "generic resource" in words:
            return f'This site has another name for GPUs (sinfo -o %G lists them): write cuda = "NAME" {self.where()}'
        if "ccount" in words:
            return 'This site wants the name of an account: options=["--account=NAME"], or export SBATCH_ACCOUNT=NAME'
        if "artition" in words:
            return f'The partitions are what sinfo lists: pass queue, or write partition = "NAME" {self.where()}'
        if "node configuration is not available" in words:
            return "No node has so much: ask for less memory, fewer cores or GPUs, or for another queue (sinfo -Nl)"
        return ""

    def queue(self):
        """The jobs of this user that wait or run: id -> rows, as of Grid Engine; see the man page squeue."""
        # other jobs' names and paths may hold anything, newlines too: nobody can know this text
        rows, begin = {}, os.urandom(8).hex()
        fields = begin + "\t%F\t%K\t%T\t%r\t%S\t%V\t%N\t%j\t%o"
        # --all: also those in partitions that are hidden
        answer = _call(["squeue", "--all", "--noheader", "--user", _user(), "--format", fields], self)
        for line in answer.split(begin + "\t")[1:]:
            number, index, word, reason, started, submitted, host, name, script = line[:-1].split("\t", 8)
            reason, state = reason.strip("()"), "RUNNING"
            if word in ("PENDING", "REQUEUED", *self.held):
                state = "PENDING"
            if reason.startswith(("launch failed", "user env retrieval failed")):
                state, reason = "FAILED", "in error state; the scheduler will not run it"
            elif re.match("JobHeld|Dependency$|job requeued in held", reason) or word in self.held:
                reason = "held"
            elif state == "RUNNING":
                reason = {"SUSPENDED": "suspended", "STOPPED": "suspended"}.get(word, "")
            elif reason in ("None", "Priority", "Resources", "JobArrayTaskLimit"):
                reason = ""
            since = submitted if state == "PENDING" else started
            row = {"indexes": None if index == "N/A" else _numbers(index), "name": name, "state": state, "word": word}
            row |= {"reason": reason, "since": since.replace("T", " "), "host": host, "script": script}
            rows.setdefault(number, []).append(row)
        return rows

    def why(self, job_id, state):
        try:
            words = _call(["squeue", "--all", "--noheader", "--job", job_id, "--format", "%r"], self)
            return "; ".join(dict.fromkeys(line.strip("()") for line in words.splitlines()))
        except SubmitError:
            return ""

    def accounting(self, job_id):
        # the controller remembers a job for some minutes; the database, where there is one, for ever
        for command in (
            ["scontrol", "-o", "show", "job", job_id],
            ["sacct", "-nPXj", job_id, "-o", "JobID,State,ExitCode"],
        ):
            try:
                words = _call(command, self)
            except SubmitError:
                continue
            found = {}
            for line in words.splitlines():
                # tasks that never began share a line: ArrayTaskId=2,4,6-10, and of sacct 123_[2,4,6-10]
                task = re.search(r"ArrayTaskId=([0-9]\S*)|^[0-9]+_\[?([0-9][^]|]*)", line)
                end = re.search(r"(?:JobState=|\|)([A-Z_]+).*?(?:ExitCode=|\|)([0-9]+):([0-9]+)", line)
                if end:
                    indexes = _numbers(task[1] or task[2]) if task else [1]
                    found |= dict.fromkeys(indexes, self._end(end[1], int(end[2]), int(end[3])))
            if found:
                return found
        return {}

    def _end(self, word, code, number):
        if word in self.live:
            return "PENDING" if word == "PENDING" else "RUNNING", None, f"{word}, though squeue does not list it"
        if word == "COMPLETED":
            return "DONE", 0, "as Slurm says"
        if number == 53:  # no signal, but how Slurm notes that the job script did not begin
            return "FAILED", None, "Slurm could not start it: JobLaunchFailure"
        code = code or (128 + number if 0 < number < 65 else 0)  # other numbers are no signals: 125 is out of memory
        reasons = {
            "TIMEOUT": "killed by Slurm: over its time limit",
            "OUT_OF_MEMORY": "killed by Slurm: over its memory",
            "CANCELLED": "deleted: by scancel, or by the site",
            "FAILED": _exit_reason(code),
        }
        return "FAILED", code or None, reasons.get(word, f"Slurm says: {word}")

    def task(self, job_id, index):
        return f"{job_id}_{index}"

    def cancel(self, ids, again):
        _call(["scancel", *ids], self)


class _Background(_Scheduler):
    """No scheduler: the job script as a process of this machine, started at once. Memory and GPUs are not limited."""

    name = "background"
    job_ids = "grid_id=${GRID_BACKGROUND:-}\nunset GRID_BACKGROUND\n"
    runs = 'ps -ww -o args= -p "$id" | grep -q "/job[-0-9]*\\.sh$"'  # not kill -0: another process may have its number by now
    job_ids += f'runs() {{ for id in "$@"; do ! {runs} || return 0; done; return 1; }}'
    answer = r"^([0-9]+)$"

    def command(self, record, request, hold, tasks):
        # set -m: a process group of its own, by which the job and all that it starts can be stopped
        start = 'set -m; bash -c {} "$0" </dev/null >/dev/null 2>&1 & echo $!'
        if not tasks:
            return ["bash", "-c", start.format("'GRID_BACKGROUND=$$ exec bash \"$0\"'")]
        import shlex

        room = record["max_running"] or max(1, (os.cpu_count() or 1) // request["cores"])
        many = (
            f"last={tasks}; trap last=0 USR2; for id in {' '.join(hold)}; do\n"
            f'    while [ "$last" -gt 0 ] && {self.runs}; do sleep 0.5; done\n'
            "done; for ((index = 1; index <= last; index++)); do\n"
            '    GRID_BACKGROUND=$$ index=$index bash "$0" &\n'
            f'    while [ "$(jobs -rp | wc -l)" -ge {room} ]; do wait -n; done\n'
            'done; while [ -n "$(jobs -rp)" ]; do wait; done'
        )
        return ["bash", "-c", start.format(shlex.quote(many))]

    def queue(self):
        import platform

        rows = {}
        # in this locale ps shows every path as it is
        ps = ["env", "LC_ALL=C.UTF-8", "ps", "-ww", "-u", str(os.getuid()), "-o", "pid=,pgid=,lstart=,args="]
        for line in _call(ps).splitlines():
            pid, group, *since, args = (line.split(None, 7) + [""] * 8)[:8]
            if pid == group and f" {PROJECT}/.grid/" in args and re.search(r"/job(-[0-9]+)?\.sh$", args):
                name = args.split("/")[-2].split("-", 2)[-1]
                row = {"indexes": None, "name": name, "state": "RUNNING", "word": "background", "reason": ""}
                rows[pid] = [row | {"since": " ".join(since[1:4]), "host": platform.node()}]
        return rows

    def cancel(self, ids, again):
        import signal

        for number in ids:
            try:
                os.killpg(int(number), signal.SIGKILL if again else signal.SIGUSR2)  # the latter as Grid Engine does
            except ProcessLookupError:
                pass  # it has just ended


_ENGINES = {engine.name: engine for engine in (_GridEngine, _Slurm, _Background)}


def _engine(name=None):
    """The scheduler to use: as named, else by $GRID_SCHEDULER, else by [tool.grid], else as found on PATH."""
    import shutil

    settings = _settings()
    name = name or os.environ.get("GRID_SCHEDULER") or settings.get("scheduler")
    if not name:
        # other schedulers bring a qsub as well; only Grid Engine brings qconf
        found = [engine for engine in (_GridEngine, _Slurm) if all(map(shutil.which, engine.programs))]
        if not found:
            raise SubmitError(f"neither Grid Engine (qsub, qconf) nor Slurm (sbatch) is on this machine. {_WAYS_OUT}")
        if len(found) == 2:
            _say_once(
                "grid: Grid Engine and Slurm are both here; Grid Engine is taken. GRID_SCHEDULER=slurm takes Slurm."
            )
        name = found[0].name
    if name not in _ENGINES:
        raise ArgumentError(f"there is no scheduler {name!r}: pass one of {', '.join(_ENGINES)}")
    return _ENGINES[name](settings)


_said = set()


def _say_once(text):
    if text not in _said:
        _said.add(text)
        print(text, file=sys.stderr)


def _numbers(text):
    """The numbers that a scheduler writes as "3,5-9,20-30:2%4", a list."""
    numbers = []
    for part in text.partition("%")[0].split(","):
        if match := re.fullmatch(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?", part.strip()):
            numbers += range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))
    return numbers


def _ranges(numbers):
    """Numbers as a text, "3,5-9"."""
    parts = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def _size(number, units="KMG"):
    """Bytes as schedulers take them, in the largest of the units that fits, rounded up to the smallest."""
    number = _up(number, 1024 ** " KMG".index(units[0]))
    for unit in units:
        if number % 1024 or unit == units[-1]:
            return f"{number}{unit}"
        number //= 1024


# --- 6. A job afterwards ----------------------------------------------------------------------------------------------


Status = namedtuple("Status", "state exit_code reason record")


def _decide(record, queue, accounting=None, cancelled=False):
    """The Status of a job from all that is known. Nothing unseen is taken for a success.

    Args:
        record: what the job has written down, a dict of texts; with the int "exit" when it has ended. Empty: nothing yet.
        queue: its row in the scheduler's queue, or "gone"; of a job whose id nobody knows, "submitting" or "unsubmitted";
            None if the scheduler does not answer.
        accounting: of a job that is gone, what the scheduler's accounting says, (state, exit code, reason), or None.
        cancelled: whether grid.py was told to stop it.
    """
    if "exit" in record:
        code = record["exit"]
        if code == 0:
            return Status("DONE", 0, "", record)
        if cancelled:
            return Status("CANCELLED", code, "stopped on request", record)
        stopped = "stopped by the scheduler: deleted there, or over a limit" if "signal" in record else ""
        return Status("FAILED", code, record.get("reason") or stopped or _exit_reason(code), record)
    so_far = "RUNNING" if record else "PENDING"
    if queue is None:
        return Status(so_far, None, "the scheduler does not answer", record)
    if queue == "submitting":
        return Status(so_far, None, "being submitted", record)
    if queue == "unsubmitted" and not cancelled:
        return Status("FAILED", None, "it never reached the scheduler: the submission was interrupted", record)
    if queue not in ("gone", "unsubmitted"):
        state = "CANCELLED" if cancelled and queue["state"] == "FAILED" else queue["state"]
        return Status(state, None, queue["reason"], record)
    if cancelled:
        return Status("CANCELLED", None, "stopped on request" + ("" if record else " before it began"), record)
    if accounting:
        return Status(*accounting, record)
    if record:
        began = f"it began on {record.get('host')}, and was killed with all that it had started"
        return Status("FAILED", None, f"vanished: {began}", record)
    return Status("FAILED", None, "vanished: it left the queue and never began; deleted there, or lost", record)


def in_error_state(status):
    """Whether the scheduler has it and will not run it; a script's own words may be alike."""
    return "error state" in status.reason and "exit" not in status.record


def _exit_reason(code):
    import signal

    if code > 128 and code - 128 in set(signal.Signals):
        name = signal.Signals(code - 128).name
        return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")
    return f"exit code {code}"


def look(jobs, ask=True):
    """The Status of each job; see look_at_tasks."""
    return [_overall(job, statuses) for job, statuses in zip(jobs, look_at_tasks(jobs, ask))]


def look_at_tasks(jobs, ask=True):
    """The Status of each task of each job, lists in a list.

    With ask, each scheduler is called once, for all its jobs that have not ended. When tasks have left the queue without
    a record of their end, it is waited for, GRACE seconds at most: file systems may be slow. Then the accounting is asked,
    and the verdict is written down; only a record that arrives later can change it.
    """
    found = {id(job): _judge(job.refresh())[0] for job in jobs}
    unsure = [job for job in jobs if ask and any(status.state in LIVE for status in found[id(job)])]
    queues, asked = {}, {id(job): set(job.ids) for job in unsure}
    for name in {job.scheduler for job in unsure}:
        engine = _engine(name)
        lost = {
            str(job.folder / piece["script"]): (job, piece)
            for job in unsure
            for piece in job.record["pieces"]
            if job.scheduler == name and not piece["id"]
        }
        try:
            queues[name] = engine.queue()
            for script, number in engine.find(lost, queues[name]).items():
                job, piece = lost[script]
                if (job.map(piece)[0], piece["attempt"]) in job.cancelled():  # while nobody knew what to stop
                    engine.cancel([number], False)
                job.know_id(piece, number)
                asked[id(job)].add(number)
        except GridError:
            queues[name] = None
    end = time.monotonic() + GRACE
    while unsure:
        left = []
        for job in unsure:
            found[id(job)], gone = _judge(job, queues[job.scheduler], asked[id(job)])
            if gone:
                left.append((job, gone))
        if not any(patience for _, gone in left for *_, patience in gone) or time.monotonic() > end:
            for job, gone in left:
                _conclude(job, gone, found[id(job)])
            break
        unsure = [job for job, _ in left]
        time.sleep(0.25)
    for job in jobs:
        job.looked = time.monotonic(), found[id(job)]
    return [found[id(job)] for job in jobs]


LIVE = ("PENDING", "RUNNING")


def _judge(job, queue=None, asked=()):
    """The Status of each task as far as it is known, and those that are gone, a list of (task, piece, index, patience):
    whether a record may still come that would tell more.

    queue is what the scheduler lists; None: it does not answer, or was not asked.
    """
    records, verdicts, cancelled = job.read_records(queue is not None), job.verdicts(), job.cancelled()
    places, rows, submission = job.places(), {}, None
    for piece in job.record["pieces"]:
        for row in (queue or {}).get(piece["id"], ()):
            rows |= {(piece["id"], index): row for index in row["indexes"] or range(1, piece["tasks"] + 1)}
    statuses, gone, alike = [], [], {}
    for task in range(1, len(job) + 1):
        piece, index = places.get(task, (None, 0))
        attempt = piece["attempt"] if piece else job.attempt
        newest, name, record = records.get(task, (0, "", {}))
        record = record if newest == attempt else {}
        if "exit" not in record and (task, attempt) in verdicts:
            statuses.append(verdicts[task, attempt])
            continue
        row = queue
        if queue is not None and "exit" not in record:
            if piece and piece["id"]:
                row = rows.get((piece["id"], index), "gone" if piece["id"] in asked else "submitting")
            else:
                row = submission = submission or job.submission()
                if not piece and job.holds_lock():  # this process is about to run again what was not submitted
                    row = "unsubmitted"
            if row == "gone":
                gone.append((task, piece, index, bool(record) or (task, attempt) not in cancelled))
                row = None
        key = id(row), tuple(record.items()), (task, attempt) in cancelled
        if key not in alike:  # of thousands of tasks most are alike
            alike[key] = _decide(record, row if "exit" not in record else None, None, key[2])
        statuses.append(alike[key])
    return statuses, gone


def _conclude(job, gone, statuses):
    """Decide on tasks that have left the queue without a record of their end, and write the verdicts down."""
    engine, cancelled, told = _engine(job.scheduler), job.cancelled(), {}
    for task, piece, index, _ in gone:
        number, attempt = piece["id"], piece["attempt"]
        was_cancelled = (task, attempt) in cancelled
        if number not in told and not was_cancelled:
            told[number] = engine.accounting(number)
        record = job.read_record(task) if statuses[task - 1].state == "RUNNING" else {}
        end = told.get(number, {}).get(index)
        statuses[task - 1] = _decide(record, "gone", end, was_cancelled)
    ended = [(task, piece) for task, piece, *_ in gone if statuses[task - 1].state not in LIVE]
    job.save_verdicts([(statuses[task - 1], piece["attempt"], task) for task, piece in ended])


def _overall(job, statuses):
    """The Status of a job from those of its tasks."""
    if not job.record["array"]:
        return statuses[0]
    counts = Counter(status.state for status in statuses)
    failed = [number for number, status in enumerate(statuses, 1) if status.state == "FAILED"]
    words = [f"{counts[state]} {state.lower()}" for state in STATES if counts[state]]
    reason = f"of {len(job)} tasks {', '.join(words)}" if len(words) > 1 else f"all {words[0].replace(' ', ' tasks ')}"
    if failed:
        which = _ranges(failed)
        reason += ": " + (which if len(which) < 60 else which[:60].rpartition(",")[0] + " ...")
    if counts["PENDING"] or counts["RUNNING"]:
        special = {status.reason for status in statuses if status.state in LIVE and status.reason}
        begun = counts["RUNNING"] or any(status.record for status in statuses)
        return Status("RUNNING" if begun else "PENDING", None, "; ".join([reason, *sorted(special)[:2]]), {})
    state = "FAILED" if failed else "CANCELLED" if counts["CANCELLED"] else "DONE"
    code = 0 if state == "DONE" else statuses[failed[0] - 1].exit_code if failed else None
    return Status(state, code, reason, {"exit": code, "ended": job.last_record()})


STATES = ("PENDING", "RUNNING", "DONE", "FAILED", "CANCELLED")


def _polls(jobs, timeout=None):
    """Look at the tasks of jobs until all have ended, gently; yields id(job) -> the Status of each task, after each look."""
    begin = time.monotonic()
    asked, pause, unfinished, known = begin, 0.5, jobs, {}
    while unfinished:
        now = time.monotonic()
        if ask := now - asked >= pause:
            asked, pause = now, min(60, 1.5 * pause)
        known |= {id(job): statuses for job, statuses in zip(unfinished, look_at_tasks(unfinished, ask))}
        unfinished = [job for job in unfinished if any(status.state in LIVE for status in known[id(job)])]
        yield known
        left = 1 if timeout is None else begin + timeout - time.monotonic()
        if unfinished and left <= 0:
            names = ", ".join(map(str, unfinished[:5])) + (" ..." if len(unfinished) > 5 else "")
            raise JobTimeout(f"not ended after {timeout} seconds: {names}. They go on; wait again, or cancel them.")
        if unfinished:
            rest = max(1, 10 * (time.monotonic() - now))  # records of many tasks take longer to read
            time.sleep(min(rest, left, max(0.05, asked + pause - time.monotonic())))


def why(job, state):
    """Why a job waits for ever or is in error state, in the scheduler's words; a text, empty if it does not tell."""
    try:
        return _engine(job.scheduler).why(job.id, state) if job.id else ""
    except SubmitError:
        return ""


def _epitaph(job, status):
    """What JobFailed says of a job: its end, and the last lines of its log, or of that of the first task that failed."""
    code = "" if status.exit_code is None or "exit code" in status.reason else f"; exit code {status.exit_code}"
    log, text = job, f"job {job.id} {job.name} is {status.state}: {status.reason}{code}."
    if job.record["array"] and status.state == "FAILED":
        log = next(task for task in job.tasks if task.state == "FAILED")
        text += f" Task {log.number}: {log.reason}."
    lines = [line for line in log.log(10_000).splitlines() if line.strip()][-10:]
    return "\n    ".join([f"{text} The end of its log:", *lines])


class _Logged:
    """What a job and a task have in common: where they print."""

    stdout = property(lambda self: self._log_file("o"))
    stderr = property(lambda self: self._log_file("e"))
    state = property(lambda self: self.status.state)
    exit_code = property(lambda self: self.status.exit_code)
    reason = property(lambda self: self.status.reason)

    def log(self, last=None):
        """What was printed so far, a text: the output, then the errors; of each the last so many bytes."""
        texts = []
        for path in (self.stdout, self.stderr):
            if path and path.exists():
                with open(path, "rb") as file:
                    file.seek(max(0, path.stat().st_size - last) if last else 0)
                    texts.append(file.read().decode("utf-8", "replace"))
        return "".join(texts)


class Task(_Logged):
    """One task of a job: job.tasks[0] is the first.

    Attributes:
        job: its Job.
        number: from 1 on, in the order of the list of tasks.
        args: the list of its arguments.
        status, state, exit_code, reason: as of a Job. The scheduler is asked once a second at most for all tasks.
        stdout, stderr: the Paths of the output and the error file of its newest attempt; None before that has an id.
    """

    def __init__(self, job, number):
        self.job, self.number = job, number

    args = property(lambda self: _task_args(self.job.folder, self.number))

    def __repr__(self):
        return f"<Task {self.number} of {self.job}>"

    @property
    def status(self):
        status = self.job.recent_statuses()[self.number - 1]
        if status.state not in ("FAILED", "CANCELLED") or "exit" not in status.record:
            return status
        # of many tasks only the names of the records were read so far; the reason stands in them
        record = self.job.read_record(self.number, status.record["exit"]) or status.record
        return _decide(record, None, None, status.state == "CANCELLED")

    def _log_file(self, letter):
        number = self.job.places().get(self.number, ({"id": None}, 0))[0]["id"]
        end = f".{self.number}" if self.job.record["array"] else ""
        return self.job.log_dir / f"{self.job.name}.{letter}{number}{end}" if number else None


class Job(_Logged):
    """A submission. All of it is in its folder; Job(folder) picks it up again in any process. len(job) counts its tasks.

    Attributes:
        id: the scheduler's id, a text; None if it is not known (yet). ids: of all its pieces and retries, a list.
        name: as the scheduler knows it.
        folder: the Path of the folder with tasks.txt, job.sh, record.json and records/.
        scheduler: "gridengine", "slurm" or "background".
        log_dir: the Path of the folder with its output and error files.
        stdout, stderr: the Paths of the output and the error file; None without an id. The job makes them at its start.
            Of an array: those of its first task.
        record: all that was written down at submission, a dict.
        status: (state, exit_code, reason, record). Asking costs a call to the scheduler until the job has ended.
        state: PENDING, RUNNING, DONE, FAILED or CANCELLED; of an array: RUNNING as soon as a task has begun, and DONE only
            if all tasks are.
        exit_code: of the script, an int; None before its end, and if it was killed so that nobody could see it. Of an
            array: that of the first task that failed.
        reason: why the state is what it is, a text.
        counts: how many tasks are in each state, a dict.
        tasks: a list of Task.
    """

    def __init__(self, folder, record=None):
        from pathlib import Path

        self.folder = Path(folder)
        self._stamp = None if record else self._stamp_of_record()
        self.record = record or _load(self.folder / "record.json")
        self.name, self.scheduler = self.record["name"], self.record["scheduler"]
        self.log_dir = Path(self.record["log_dir"], self.folder.name if self.record["array"] else "")
        self.tasks = [Task(self, number) for number in range(1, self.record["tasks"] + 1)]
        self._places, self._lock, self._owner, self.looked = None, None, None, (float("-inf"), [])
        self._read_ids()

    ids = property(lambda self: [piece["id"] for piece in self.record["pieces"] if piece["id"]])
    id = property(lambda self: (self.ids or [None])[0])
    status = property(lambda self: look([self])[0])
    attempt = property(lambda self: 1 + len(self.record["retries"]))

    def __len__(self):
        return len(self.tasks)

    def __repr__(self):
        return f"<Job {self.id} {self.name}>"

    @property
    def counts(self):
        return self._count(look_at_tasks([self])[0])

    def _count(self, statuses):
        return dict.fromkeys(STATES, 0) | Counter(status.state for status in statuses)

    def wait(self, timeout=None):
        """Wait until the job has ended; see wait. Returns the job if it is DONE, raises JobFailed otherwise."""
        wait([self], timeout)
        return self

    def watch(self, timeout=None):
        """Yield counts, now and about every second until all tasks have ended; raises JobTimeout after timeout seconds."""
        for known in _polls([self], timeout):
            yield self._count(known[id(self)])

    def as_completed(self, timeout=None):
        """Yield each Task as it ends, however, and once, even if it runs again; raises JobTimeout after timeout seconds."""
        told = set()
        for known in _polls([self], timeout):
            for task, status in zip(self.tasks, known[id(self)]):
                if status.state not in LIVE and task not in told:
                    told.add(task)
                    yield task

    def cancel(self):
        """Stop the job; see qdel. One that has ended already stays as it is."""
        status = self.status
        if status.state in LIVE or in_error_state(status):
            qdel(self)

    def resubmit(self, failed=True, **changes):
        """Run again the tasks that are FAILED or CANCELLED, with the same arguments; what they left before is kept.

        Args:
            failed: only those; False: all that have ended.
            changes: what to ask for instead of what was asked for: memory, cuda, cores, walltime, queue, options.

        Returns the job. Raises GridError if no task has failed, else as submit_array.
        """
        if unknown := changes.keys() - set(ASKED):
            raise ArgumentError(_unknown_keywords(unknown, ASKED, "resubmit takes", "failed"))
        usual = {key: submit_script.__kwdefaults__[key] for key in ASKED}
        changes = {key: value for key, value in _request(**usual | changes).items() if key in changes}
        try:
            with self.lock():
                self._reload()
                self._resubmit(("FAILED", "CANCELLED") + ("DONE",) * (not failed), changes)
        except OSError as error:
            raise SubmitError(f"nothing can be submitted from {self.folder}: {error}") from None
        return self

    def _resubmit(self, ended, changes):
        """Run again the tasks in these states."""
        statuses = look_at_tasks([self])[0]
        record, engine = self.record, _engine(self.scheduler)
        tasks = [number for number, status in enumerate(statuses, 1) if status.state in ended]
        if not tasks:
            raise GridError(f"{self} has no task to run again: {_overall(self, statuses).reason or statuses[0].state}")
        request = (record["retries"] or [record])[-1]["request"] | changes
        provenance = _provenance(_script_path(record.get("snapshot") or record["script"]))
        if "snapshot" in record:
            provenance |= {key: fact for key, fact in record["provenance"].items() if key.startswith("git_")}
        engine.command(record, request, [], 0)  # what the engine refuses is refused before anything is done
        for before in record["after"]:  # they may have run again as well
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                before["ids"] = Job(before["folder"]).ids
        # what is in error state still is in the queue: it must not run as well
        stuck = [self.places()[task] for task in tasks if in_error_state(statuses[task - 1])]
        if stuck:
            ids = [engine.task(piece["id"], index) if record["array"] else piece["id"] for piece, index in stuck]
            engine.cancel(ids, False)
        record["retries"].append({"request": request, "provenance": provenance, "tasks": len(tasks)})
        self.looked = float("-inf"), []
        try:
            _submit_pieces(engine, self, tasks, request, self.attempt)
        except (_Refused, ArgumentError, OSError):
            record["retries"].pop()
            with contextlib.suppress(OSError):
                self.save()
            raise

    def _log_file(self, letter):
        return self.tasks[0]._log_file(letter)

    # What follows is for this file.

    def save(self):
        import json

        _save(self.folder / "record.json", json.dumps(self.record, indent=2, ensure_ascii=False) + "\n")
        self._stamp, self._places = self._stamp_of_record(), None

    def _stamp_of_record(self):
        """What tells that record.json is another one than before; None if there is none."""
        try:
            stat = os.stat(self.folder / "record.json")
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino

    def refresh(self):
        """Read again what another process may have added, a retry or a piece; returns the job."""
        if self._lock is None and self._stamp_of_record() not in (None, self._stamp):
            self._reload()
        return self

    def _reload(self):
        try:
            self._stamp, self.record = self._stamp_of_record(), _load(self.folder / "record.json")
        except (OSError, ValueError):  # removed; what is known stays known
            return
        self._places = None
        self._read_ids()

    @contextlib.contextmanager
    def lock(self):
        """Be the one process that may submit tasks; it ends with the process, and with a qsub that it has called."""
        import fcntl

        with open(self.folder / "lock", "a") as file:
            for left in reversed(range(20)):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._lock, self._owner = file.fileno(), get_ident()
                    break
                except BlockingIOError:  # being_submitted asks by locking it for a moment
                    if not left:
                        raise SubmitError(
                            f"another process submits tasks of {self} just now: try again later"
                        ) from None
                    time.sleep(0.05)
                except OSError:  # a file system without locks
                    break
            self._marks = self.cancelled()
            try:
                yield
                if self._lock:  # children that were forked meanwhile have it too
                    fcntl.flock(file, fcntl.LOCK_UN)
            finally:  # if it was interrupted, a qsub that still is at work keeps it
                self._lock = self._owner = None

    def holds_lock(self):
        return self._owner == get_ident()  # not another thread

    def being_submitted(self):
        """Whether a process submits tasks of this job at this moment; None if nobody can tell."""
        import fcntl

        try:
            with open(self.folder / "lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def know_id(self, piece, number):
        """Keep an id that was found again, in a file of its own, for record.json belongs to the process that submits."""
        piece["id"] = number
        try:
            _save((self.folder / piece["script"]).with_suffix(".id"), number)
        except OSError:  # it will be found once more
            pass

    def _read_ids(self):
        for piece in self.record["pieces"]:
            try:
                piece["id"] = (self.folder / piece["script"]).with_suffix(".id").read_text()
            except OSError:
                pass

    def map(self, piece):
        """The numbers of a piece's tasks, in the order of the scheduler's indexes."""
        if len(self) == 1:
            return [1]
        try:
            with open(self.folder / piece["map"], encoding="utf-8") as file:
                return [int(line) for line in file]
        except OSError:  # its folder was removed
            return []

    def places(self):
        """Where each task's newest attempt is: its number -> (piece, index there)."""
        if self._places is None:
            pieces = self.record["pieces"]
            self._places = {task: (piece, index) for piece in pieces for index, task in enumerate(self.map(piece), 1)}
        return self._places

    def recent_statuses(self):
        """The Status of each task, as it was a second ago at most."""
        return self.looked[1] if time.monotonic() - self.looked[0] < 1 else look_at_tasks([self])[0]

    def cancelled(self):
        """What was told to stop, a set of (task, attempt)."""
        try:
            marks = _load(self.folder / "cancelled")
        except (OSError, ValueError):
            return set()
        return {(task, int(attempt)) for attempt, tasks in marks.items() for task in _numbers(tasks)}

    def mark_cancelled(self, marks=None):
        """Write down that what has not ended was told to stop, or exactly these marks; returns whether that is new."""
        import json

        before = self.cancelled()
        if marks is None:
            live = {task for task, status in enumerate(_judge(self)[0], 1) if status.state in LIVE}
            attempts = {task: piece["attempt"] for task, (piece, _) in self.places().items()}
            marks = before | {(task, attempts.get(task, self.attempt)) for task in live}
        if marks == before or not os.path.isdir(self.folder):
            return marks != before
        by_attempt = {}
        for task, attempt in marks:
            by_attempt.setdefault(attempt, []).append(task)
        _save(self.folder / "cancelled", json.dumps({key: _ranges(tasks) for key, tasks in by_attempt.items()}) + "\n")
        return True

    def submission(self):
        """Of tasks whose id nobody knows: whether they are on the way to the scheduler, "submitting" or "unsubmitted"."""
        import platform

        busy = not self.holds_lock() and self.being_submitted()
        if busy or self._stamp_of_record() not in (None, self._stamp):
            return "submitting"
        # the submitter is no more, but a qsub that it had called may still be at work
        origin = (self.record["retries"] or [self.record])[-1]["provenance"]
        soon = busy is False and origin["host"] == platform.node()  # elsewhere locks may not be seen
        soon = soon and not any("unknown" in piece for piece in self.record["pieces"] if not piece["id"])
        age = time.time() - (self._stamp_of_record() or (0,))[0] / 1e9
        return "submitting" if age < (GRACE if soon else RETRY_FOR + 2 * CALL_TIMEOUT) else "unsubmitted"

    def read_records(self, refresh=False):
        """What the tasks have written down: task -> (attempt, name of the file, fields), of the newest attempt.

        The name tells the end. What else is in the fields, see read_record, is only read for a job that is no array.
        """
        folder, found = self.folder / "records", {}
        try:
            if refresh:
                with contextlib.suppress(OSError):
                    os.utime(folder)  # a change of ours makes a network file system look again
            names = os.listdir(folder)
        except OSError:  # not there, or not there yet
            names = []
        for name in names:
            task, _, rest = name.partition(".")
            attempt, _, end = rest.partition(".")
            if not (task.isdecimal() and attempt.isdecimal()):
                continue
            _, _, code = end.partition("exit-")
            old = found.get(int(task))
            if (end == "running" or code.isdecimal()) and (
                not old or (int(attempt), bool(code)) > (old[0], "exit" in old[2])
            ):
                found[int(task)] = int(attempt), name, {"exit": int(code)} if code else {"running": ""}
        if not self.record["array"] and 1 in found:
            attempt, name, fields = found[1]
            found[1] = attempt, name, self._read(name) or ({} if "running" in fields else fields)
        self._learn_ids(found)
        return found

    def _read(self, name):
        try:
            with open(self.folder / "records" / name, encoding="utf-8", errors="replace") as file:
                fields = dict(line.rstrip("\n").split(": ", 1) for line in file if ": " in line)
        except (OSError, ValueError):  # just renamed
            return {}
        return fields | ({"exit": int(name.rpartition("-")[2])} if ".exit-" in name else {})

    def read_record(self, task, code=None):
        """What a task has written down so far, or by its end with an exit code, a dict; see _decide."""
        attempt = self.places()[task][0]["attempt"]
        return self._read(f"{task}.{attempt}." + ("running" if code is None else f"exit-{code}"))

    def _learn_ids(self, records):
        """Take ids from what tasks have written down: those that nobody knows, and of two copies of a job the one that runs."""
        for piece in self.record["pieces"]:
            if piece["id"] and self.record["array"]:
                continue
            for task in self.map(piece):
                attempt, name, fields = records.get(task, (0, "", {}))
                if attempt == piece["attempt"]:
                    number = fields.get("id") or not piece["id"] and self._read(name).get("id")
                    if number and number != piece["id"]:
                        self.know_id(piece, number)
                    break

    def last_record(self):
        """When the last task ended."""
        from datetime import datetime

        try:
            return datetime.fromtimestamp(os.stat(self.folder / "records").st_mtime).astimezone().isoformat()
        except OSError:
            return None

    def verdicts(self):
        """What was decided on tasks that had left the queue without a record of their end: (task, attempt) -> Status."""
        try:
            lines = _load(self.folder / "verdict.json")
            return {(task, line[1]): Status(*line[0]) for line in lines for task in _numbers(line[2])}
        except (OSError, ValueError, TypeError):
            return {}

    def save_verdicts(self, new):
        """Add verdicts: (Status, attempt, task) each."""
        import json

        lines = {}
        for key, status in (self.verdicts() | {(task, attempt): status for status, attempt, task in new}).items():
            lines.setdefault((key[1], json.dumps(status)), []).append(key[0])
        if new and os.path.isdir(self.folder):
            texts = [
                f"[{status}, {attempt}, {json.dumps(_ranges(tasks))}]" for (attempt, status), tasks in lines.items()
            ]
            with contextlib.suppress(OSError):  # another one's folder, a full disk: it is decided again
                _save(self.folder / "verdict.json", "[" + ",\n".join(texts) + "]\n")


# --- 7. What runs inside the job --------------------------------------------------------------------------------------


def _run(folder, task):
    """Run task number `task` of a submission: the script as __main__, with words that carry their values in sys.argv."""
    import signal
    import types

    args = _task_args(folder, task)
    record = _load(os.path.join(folder, "record.json"))
    script = record.get("snapshot") or record["script"]
    _note("python", f"{sys.executable} {sys.version.split()[0]}")
    try:
        with open(script, "rb") as file:
            source = file.read()
    except OSError as error:
        _note("reason", f"the script cannot be read: {error}")
        sys.exit(f"grid: the script cannot be read: {error}")

    # the name of the record tells the attempt; by hand it is the newest
    attempt = int(os.path.basename(os.environ.get("GRID_RECORD") or ".0").split(".")[1]) or None
    if _digest(source) != [record, *record["retries"]][:attempt][-1]["provenance"]["script_sha256"]:
        print(f"grid: {script} has changed since the job was submitted", file=sys.stderr)
        _note("changed", script)
    if "snapshot" in record:
        os.environ["GRID_PROJECT"] = PROJECT
    sys.argv = [script] + [Word(value) for value in args]
    if sys.path and sys.path[0] in (PROJECT, os.path.dirname(os.path.realpath(__file__))):  # it may be a link
        sys.path[0] = os.path.dirname(script)
    sys.excepthook = _report
    os.environ["GRID_MAIN"] = str(os.getpid())
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


def _task_args(folder, task):
    """The arguments of a task, from its line of tasks.txt."""
    import itertools

    with open(os.path.join(folder, "tasks.txt"), encoding="utf-8", newline="\n") as file:
        line = next(itertools.islice(file, task - 1, None), None)
    if line is None:
        sys.exit(f"grid: {folder}/tasks.txt has no line {task}")
    return _read_line(line)


def _report(kind, error, traceback):
    """Print an uncaught exception as if the script had been started directly, and write it down as the reason."""
    while traceback and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)
    _note("reason", f"{kind.__name__}: {error}".rstrip(": "))


def _stop(number, frame):
    """For the script, the one signal to handle is SIGTERM.

    Grid Engine announces a kill, for a time limit or a deletion, by SIGUSR2 to all processes of the job (qsub, -notify).
    """
    import signal

    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if os.environ.get("GRID_MAIN") == str(os.getpid()):  # not in the processes of a pool, which it reaches too
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
