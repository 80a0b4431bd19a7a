"""The schedulers, and which one is used. A new one is a file beside these, with a subclass of base.Scheduler, and a name here."""

from __future__ import annotations

import os

from gridlib import project
from gridlib.errors import ArgumentError, SubmitError
from gridlib.schedulers.background import Background
from gridlib.schedulers.base import NO_SCHEDULER_ADVICE, End, Owner, Row, Scheduler, exit_reason, warn_once
from gridlib.schedulers.gridengine import GridEngine
from gridlib.schedulers.slurm import Slurm
from gridlib.values import short

__all__ = ["SCHEDULERS", "NO_SCHEDULER_ADVICE", "Background", "End", "GridEngine", "Owner", "Row", "Scheduler", "Slurm"]
__all__ += ["choose", "exit_reason", "scheduler", "warn_once"]

SCHEDULERS: dict[str, type[Scheduler]] = {kind.name: kind for kind in (GridEngine, Slurm, Background)}


def scheduler(name: str) -> Scheduler:
    """Return the scheduler of this name, with the site's settings.

    Raises:
        ArgumentError: there is none of this name, or the settings hold a mistake.
    """
    if name not in SCHEDULERS:
        raise ArgumentError(f"there is no scheduler {name!r}: use one of {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name](checked_settings())


def found_here() -> list[type[Scheduler]]:
    """Return the schedulers whose programs are on PATH. Others bring a qsub as well; only Grid Engine brings qconf."""
    import shutil

    return [kind for kind in SCHEDULERS.values() if kind.programs and all(map(shutil.which, kind.programs))]


def choose(name: str | None = None) -> tuple[Scheduler, str]:
    """Return the scheduler to use, and the reason: as named, by $GRID_SCHEDULER, by [tool.grid], or as found on PATH.

    Raises:
        ArgumentError: there is none of this name, or the settings hold a mistake.
        SubmitError: this machine has none.
    """
    table = checked_settings()
    for chosen, because in (
        (name, "as asked for"),
        (os.environ.get("GRID_SCHEDULER"), "as GRID_SCHEDULER says"),
        (table.get("scheduler"), "as [tool.grid] in pyproject.toml says"),
    ):
        if chosen:
            return scheduler(chosen), because
    found = found_here()
    if not found:
        raise SubmitError(
            f"found neither Grid Engine (qsub, qconf) nor Slurm (sbatch) on this machine. {NO_SCHEDULER_ADVICE}"
        )
    if len(found) > 1:
        warn_once("found both Grid Engine and Slurm, using Grid Engine; set GRID_SCHEDULER=slurm for Slurm")
    return found[0](table), f"{' and '.join(found[0].programs)} found on PATH"


def checked_settings() -> dict:
    """Return the table [tool.grid]; a wrong name in it would otherwise have no effect, in silence."""
    table = project.settings()
    _check(table, {"scheduler": None} | {name: kind.settings for name, kind in SCHEDULERS.items()}, "[tool.grid]")
    for name, kind in SCHEDULERS.items():
        _check(table.get(name, {}), dict.fromkeys(kind.settings), f"[tool.grid.{name}]")
    return table


def _check(table: object, valid: dict, title: str) -> None:
    where = f"{project.PYPROJECT}, {title}"
    if not isinstance(table, dict):
        raise ArgumentError(f"{where} must be a table, not {short(table)}")
    for key, value in table.items():
        if key not in valid:
            raise ArgumentError(f"{where}: unknown key {key}; valid keys: {', '.join(valid) or 'none'}")
        if valid[key] is None and not (isinstance(value, str) and value):
            raise ArgumentError(f"{where}: {key} must be a string in quotes, not {short(value)}")
        if key.endswith("_per") and value not in ("slot", "job"):
            raise ArgumentError(f'{where}: {key} must be "slot" or "job", not {short(value)}')
