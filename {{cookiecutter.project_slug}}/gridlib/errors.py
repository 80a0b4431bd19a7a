"""All errors of grid.py. The message says what happened, to which job or file, and what to do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def printable(text: str) -> str:
    """Return a text that is safe to print anywhere: no control characters but newline and tab, no right-to-left marks."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in "\n\t" or char.isprintable() else char.encode("ascii", "backslashreplace").decode()
        for char in text.replace("\r\n", "\n")
    ).translate(_ESCAPES)


_ESCAPES = {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)] if code not in (9, 10)}


def show(text: str) -> None:
    """Print a text; a character that this terminal lacks is shown by its number."""
    import sys

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


class GridError(Exception):
    """Base class of all errors; the message says what happened and what to do.

    Attributes:
        job: the Job that it is about, if there is one: a job that was waited for and is not DONE, or one of which the
            scheduler took some tasks and refused others. Else None.
    """

    def __init__(self, message: str, job: Any = None):
        super().__init__(printable(message))
        self.job = job


class ArgumentError(GridError, TypeError):
    """An invalid argument: a value that cannot be sent to a job, a missing script, memory="lots"."""


class SubmitError(GridError):
    """The scheduler is missing, does not respond or refuses; its own words are in the message."""


class Unreachable(SubmitError):
    """The scheduler does not respond, or its answer cannot be read. It may respond later."""


class Refused(SubmitError):
    """The scheduler said no, and does not have the job."""


class JobFailed(GridError):
    """A job that was waited for is not DONE."""


class JobTimeout(GridError, TimeoutError):
    """A job that was waited for has not finished in the given time; it keeps running."""


class about:
    """A context: errors that are raised in it name this Job."""

    def __init__(self, job: Any):
        self.job = job

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, GridError):
            error.job = self.job
