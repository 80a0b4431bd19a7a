"""A submission: a numbered folder of a job, with tasks that were handed to the scheduler together. See folder.py."""

from __future__ import annotations

import contextlib
import os
import re

from gridlib import project

RECORD = re.compile(r"([0-9]+)\.(?:(running)|(exit|stopped)-([0-9]+))")


class Submission:
    """One numbered folder: tasks that were handed to the scheduler together.

    Attributes:
        path: its folder. number: its name. facts: what is in submission.json.
        id: the scheduler's id; None if it is not known (yet).
        tasks: the numbers of its tasks, in the order of the scheduler's indexes, which begin with 1.
        place: who submitted it to which cluster, as user@cluster; None if that is not known.
    """

    def __init__(self, path: str, facts: dict | None = None):
        """facts: of one that is being made; else they are read."""
        self.path, self.number = path, int(os.path.basename(path))
        self.script = os.path.join(path, "job.sh")
        try:
            self.facts = facts or project.load_json(os.path.join(path, "submission.json"))
            self.tasks = project.parse_ranges(self.facts["tasks"])
        except (OSError, ValueError, KeyError, AttributeError):  # being made, or damaged: its other files tell enough
            self.facts, self.tasks = {}, self._read_tasks()
        self.id, self.place = (
            value if isinstance(value, str) else None for value in map(self.facts.get, ("id", "place"))
        )

    def _read_tasks(self) -> list[int]:
        try:
            with open(os.path.join(self.path, "tasks"), encoding="utf-8") as file:
                return [int(line) for line in file]
        except (OSError, ValueError):
            return []

    def save(self, **facts) -> None:
        """Write submission.json, with these facts added."""
        self.facts |= facts
        self.id = self.facts.get("id")
        project.write_whole(os.path.join(self.path, "submission.json"), project.dump_json(self.facts))

    def save_id(self, job_id: str) -> None:
        """Keep an id that was found again. All who find it write the same; if nobody can, it is found once more."""
        with contextlib.suppress(OSError):
            self.save(id=job_id)
        self.id = job_id

    def stopped(self) -> int | None:
        """Return when somebody last asked to stop it, in nanoseconds of the file server; None if nobody did."""
        try:
            return os.stat(os.path.join(self.path, "stopped")).st_mtime_ns
        except OSError:
            return None

    def mark_stopped(self) -> None:
        """Note that somebody asks to stop it."""
        path = os.path.join(self.path, "stopped")
        with open(path, "a"):
            os.utime(path)

    def unmark_stopped(self) -> None:
        """Take that back: the scheduler refused."""
        with contextlib.suppress(OSError):
            os.remove(os.path.join(self.path, "stopped"))

    def records(self, refresh: bool = False) -> dict[int, dict]:
        """Return what the names of the records tell, by task: {"running": ""}, {"exit": 3} or {"exit": 143, "stopped": ""}.

        Args:
            refresh: look again, also where a network file system remembers what it saw before.
        """
        folder, found = os.path.join(self.path, "records"), {}
        try:
            if refresh:
                with contextlib.suppress(OSError):
                    os.utime(folder)  # after a change of ours it looks again
            names = os.listdir(folder)
        except OSError:  # not there, or not there yet
            return {}
        for name in names:
            if match := RECORD.fullmatch(name):
                task, running, end, code = match.groups()
                if not running:
                    found[int(task)] = {"exit": int(code)} | ({"stopped": ""} if end == "stopped" else {})
                else:
                    found.setdefault(int(task), {"running": ""})
        return found

    def read_record(self, task: int, named: dict) -> dict:
        """Return all that a task has written down: texts by name, beside what the name of its record tells."""
        end = "stopped" if "stopped" in named else "exit"
        name = f"{task}.{end}-{named['exit']}" if "exit" in named else f"{task}.running"
        try:
            with open(os.path.join(self.path, "records", name), encoding="utf-8", errors="replace") as file:
                fields = dict(line.rstrip("\n").split(": ", 1) for line in file if ": " in line)
        except (OSError, ValueError):  # just renamed
            fields = {}
        return fields | named

    def lost(self) -> dict[int, tuple]:
        """Return how tasks ended that left no record, (state, exit code, reason, whether somebody knew), by task."""
        try:
            lines = project.load_json(os.path.join(self.path, "lost.json"))["lost"]
            return {task: tuple(end) for *end, tasks in lines for task in project.parse_ranges(tasks) if len(end) == 4}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def save_lost(self, new: dict[int, tuple]) -> None:
        """Add to lost.json. Where it cannot be written, the same is found out again."""
        import json

        groups: dict[tuple, list[int]] = {}
        for task, end in (self.lost() | new).items():
            groups.setdefault(end, []).append(task)
        lines = [json.dumps([*end, project.format_ranges(tasks)], ensure_ascii=False) for end, tasks in groups.items()]
        with contextlib.suppress(OSError):
            if os.path.isdir(self.path):
                text = '{"lost": [\n' + ",\n".join(lines) + "\n]}\n"
                project.write_whole(os.path.join(self.path, "lost.json"), text)
