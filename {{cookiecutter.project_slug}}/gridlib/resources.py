"""What a job asks for, checked: memory, GPUs, cores, time, queue; and how an argument that cannot be used is refused."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass

from gridlib.errors import ArgumentError
from gridlib.values import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# --- Checks: each returns the value, or raises an ArgumentError -------------------------------------------------------


def require(what: str, value: Any, good: Any, expected: str) -> Any:
    """Return a value that is good."""
    if not good:
        raise ArgumentError(f"{what} must be {expected}, not {short(value)}")
    return value


def require_text(what: str, value: Any) -> str:
    """Return a text that can stand in a file and on a command line."""
    return str(require(what, value, isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value), "a string"))


def require_count(what: str, value: Any, least: int) -> int:
    """Return a whole number that is large enough."""
    return require(what, value, type(value) is int and value >= least, f"a whole number, {least} or more")


def require_path(what: str, value: Any, expected: str) -> str:
    """Return a path with ~ as the home directory."""
    good = isinstance(value, (str, os.PathLike)) and os.fspath(value) and "\0" not in os.fspath(value)
    return os.path.expanduser(os.fspath(require(what, value, good, f"the path of {expected}")))


def require_script(path: Any) -> str:
    """Return the absolute path of a Python script that is there."""
    script = os.path.abspath(require_path("path", path, "a Python script"))
    if os.path.isdir(script) and not os.path.isfile(os.path.join(script, "__main__.py")):
        raise ArgumentError(f"{script} is a folder without __main__.py: pass the path of the Python script to run")
    if not os.path.exists(script):
        raise ArgumentError(f"no such script: {script} (relative paths start at {os.getcwd()})")
    return script


# --- Units ------------------------------------------------------------------------------------------------------------


def ceil_div(number: Any, step: int) -> int:
    """Return how many steps it takes to reach a number."""
    return int(-(-number // step))


def parse_memory(memory: Any) -> int | None:
    """Return "1.5G" in bytes, rounded up. None stays None."""
    if memory is None:
        return None
    from fractions import Fraction

    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGT])i?B?", str(memory), re.I | re.A)
    size = Fraction(match[1]) * 1024 ** " KMGT".index(match[2].upper()) if match else 0
    require("memory", memory, size > 0, 'a number with a unit (K, M, G, T), such as "2G" or "500M"')
    return ceil_div(size, 1)


def format_memory(size: int, units: str = "KMG") -> str:
    """Return bytes as schedulers take them, in the largest of the units that fits, rounded up to the smallest."""
    number = ceil_div(size, 1024 ** " KMG".index(units[0]))
    for unit in units[:-1]:
        if number % 1024:
            return f"{number}{unit}"
        number //= 1024
    return f"{number}{units[-1]}"


def parse_walltime(walltime: Any, what: str = "walltime") -> int | None:
    """Return a duration in whole seconds. None stays None."""
    if walltime is None:
        return None
    text, seconds = str(walltime), 0.0
    if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text):
        seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    elif match := re.fullmatch(r"([0-9]+):([0-5]?[0-9]):([0-5]?[0-9])", text):
        seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    require(what, walltime, 1 <= seconds < 1e12, 'seconds, or a text such as "90m", "2h", "1d", "1:30:00"')
    return int(seconds)


# --- What a job asks for ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resources:
    """What is asked of the scheduler for each task. None: the site's default."""

    memory: int | None = None  # of the whole job, in bytes
    cuda: int = 0  # GPUs
    cores: int = 1
    walltime: int | None = None  # in seconds
    queue: str | None = None
    options: tuple[str, ...] = ()  # further options, passed on as they are

    @classmethod
    def parse(cls, **given: Any) -> Resources:
        """Return the resources that a user asks for with these keywords; see grid.submit_script.

        Raises:
            ArgumentError: one of them cannot be used, or is unknown.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := given.keys() - set(names):
            raise ArgumentError(f"unknown argument {', '.join(sorted(unknown))}; valid are {', '.join(names)}")
        options = given.get("options", ())
        require("options", options, isinstance(options, (list, tuple)), 'a list of words, such as ["-P", "vision"]')
        queue = given.get("queue")
        return cls(
            memory=parse_memory(given.get("memory")),
            cuda=require_count("cuda", given.get("cuda", 0), 0),
            cores=require_count("cores", given.get("cores", 1), 1),
            walltime=parse_walltime(given.get("walltime")),
            queue=None if queue is None else require_text("queue", queue),
            options=tuple(require_text("an option", word) for word in options),
        )

    def replace(self, **changes: Any) -> Resources:
        """Return the same resources but for these keywords, which are checked as in parse()."""
        parsed = self.parse(**changes)
        return dataclasses.replace(self, **{name: getattr(parsed, name) for name in changes})

    @classmethod
    def from_facts(cls, facts: Any) -> Resources:
        """Return the resources that to_facts() has turned into a dict. Raises ArgumentError if it is damaged."""
        try:
            return cls(**facts | {"options": tuple(facts["options"])})
        except (TypeError, KeyError):
            raise ArgumentError(f"what was asked for cannot be read: {short(facts)}") from None

    def to_facts(self) -> dict:
        """Return a dict for JSON."""
        return dataclasses.asdict(self)


def thread_limits(cores: int) -> dict[str, str]:
    """Return the variables that tell OpenMP, OpenBLAS, MKL, numexpr and Accelerate how many threads to use."""
    names = "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS"
    return dict.fromkeys(names.split(), str(cores))
