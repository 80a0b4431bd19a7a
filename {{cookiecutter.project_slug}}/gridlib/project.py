"""Where the project is, its settings, the limits of time, and files that are written whole."""

from __future__ import annotations

import os

from gridlib.errors import ArgumentError

# GRID_PROJECT is set in jobs that run a snapshot: the copy of the library must not take the copy for the project.
PROJECT = os.environ.get("GRID_PROJECT") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYPROJECT = os.path.join(PROJECT, "pyproject.toml")


class Limits:
    """How long things may take, in seconds."""

    call = 60.0  # a command of the scheduler
    retry = 60.0  # how long a submission tries to reach a scheduler that does not respond
    grace = 5.0  # how late a record may be seen after the job has left the queue: file systems may be slow


limits = Limits()


def settings() -> dict:
    """Return the table [tool.grid] of pyproject.toml; empty if there is none.

    Raises:
        ArgumentError: the file cannot be read.
    """
    import tomllib

    try:
        with open(PYPROJECT, "rb") as file:
            return tomllib.load(file).get("tool", {}).get("grid", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ArgumentError(f"{PYPROJECT} cannot be read: {error}") from None


def user() -> str:
    """Return the name of the user who runs this process; $LOGNAME may name another one after su."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def jobs_folder() -> str:
    """Return the folder of this user's jobs. It is private, so of two users who share a project each has one."""
    folder = os.path.join(PROJECT, ".grid")
    try:
        return folder if os.stat(folder).st_uid == os.getuid() else f"{folder}-{user()}"
    except OSError:
        return folder


def now() -> str:
    """Return the time now, as 2026-11-23T23:48:28.123+01:00."""
    from datetime import datetime

    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Write a file so that nobody ever sees half of it, also after a crash."""
    from _thread import get_ident

    new = f"{os.fspath(path)}.{os.getpid()}.{get_ident()}.new"
    with open(new, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
    os.replace(new, path)


def same_path(path: str, other: str) -> bool:
    """Return whether two paths lead to one file, also through linked folders."""
    return os.path.realpath(path) == os.path.realpath(other)


def load_json(path: str | os.PathLike) -> dict:
    """Read a JSON file that holds an object; ValueError if it holds something else."""
    import json
    import sys

    # as Python reads paths, for most texts in it are such; where that is not UTF-8, write_whole gives the bytes back
    with open(path, encoding=sys.getfilesystemencoding(), errors="surrogateescape") as file:
        found = json.load(file)
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return found


def dump_json(facts: dict) -> str:
    """Return a JSON text for people to read."""
    import json

    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def parse_ranges(text: str) -> list[int]:
    """Return the numbers that a scheduler writes as "3,5-9,20-30:2%4"."""
    numbers: list[int] = []
    for part in text.partition("%")[0].split(","):
        first, _, rest = part.strip().partition("-")
        last, _, step = rest.partition(":")
        if first.isdecimal() and (last or first).isdecimal() and (step or "1").isdecimal():
            numbers += range(int(first), int(last or first) + 1, int(step or 1) or 1)
    return numbers


def format_ranges(numbers) -> str:
    """Return numbers as a text, "3,5-9"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)
