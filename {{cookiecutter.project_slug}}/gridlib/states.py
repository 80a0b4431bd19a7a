"""The state of a job, decided from what was seen. Nothing unseen is taken for a success.

Evidence counts in this order: the record of an end, which the job itself writes; a row in the queue; how it was found to
have been lost (lost.json); the scheduler's accounting. polling.py sees to it; this room only decides.

    decide         the Status of one task from all that is known
    summarize      the Status of a job from those of its tasks
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from gridlib import project
from gridlib.schedulers import End, Row, exit_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gridlib.folder import JobFolder

STATES = ("PENDING", "RUNNING", "DONE", "FAILED", "CANCELLED")
LIVE = ("PENDING", "RUNNING")

# What is known of a task beside its record, where it is no row of the queue.
GONE = "gone"  # it left the queue
SUBMITTING = "submitting"  # it has no id yet, but one may come
UNSUBMITTED = "unsubmitted"  # it has no id, and none will come
SILENT = "the scheduler does not respond"
NOT_ASKED = ""


class Status(NamedTuple):
    """The state of a task or a job, its exit code, the reason, and what it has written down (a dict of texts)."""

    state: str
    exit_code: int | None
    reason: str
    record: dict
    stuck: bool = False  # the scheduler has it and will never run it


def decide(record: dict, seen: Row | str, stopped: bool = False, end: End | None = None) -> Status:
    """Return the Status of a task from all that is known.

    Args:
        record: what the task has written down; with the int "exit" when it has ended, and "stopped" if by a signal.
        seen: its row in the queue, or one of the words above; any other text is why nobody can tell.
        stopped: whether somebody asked to stop it.
        end: of a task that is gone, what the scheduler's accounting says.
    """
    if "exit" in record:
        return _ended(record, stopped)
    so_far = "RUNNING" if record else "PENDING"
    if isinstance(seen, Row):
        stuck = seen.state == "FAILED"
        return Status("CANCELLED" if stopped and stuck else seen.state, None, seen.reason, record, stuck)
    if seen == SUBMITTING:
        return Status(so_far, None, "being submitted", record)
    if seen not in (GONE, UNSUBMITTED):
        return Status(so_far, None, seen, record)
    if stopped and (end is None or end.state not in LIVE):
        return Status("CANCELLED", None, "stopped on request" + ("" if record else " before it began"), record)
    if seen == UNSUBMITTED:
        return Status("FAILED", None, "never submitted: the submission was interrupted", record)
    if end:
        return Status(*end, record)
    if record:
        where = f"it started on {record.get('host')} and left no record of its end (killed, with all its processes)"
        return Status("FAILED", None, f"vanished: {where}", record)
    never = "it left the queue without starting (deleted with qdel/scancel, or lost by the scheduler)"
    return Status("FAILED", None, f"vanished: {never}", record)


def _ended(record: dict, stopped: bool) -> Status:
    code = record["exit"]
    if code == 0:
        return Status("DONE", 0, "", record)
    if "stopped" in record and stopped:
        return Status("CANCELLED", code, "stopped on request", record)
    reason = record.get("reason")
    if not reason and "stopped" in record:
        reason = "stopped by the scheduler: deleted there, or over a limit"
    return Status("FAILED", code, reason or exit_reason(code), record)


def summarize(job: JobFolder, statuses: list[Status]) -> Status:
    """Return the Status of a job from those of its tasks."""
    if not job.array:
        return statuses[0]
    counts = Counter(status.state for status in statuses)
    failed = [number for number, status in enumerate(statuses, 1) if status.state == "FAILED"]
    words = [f"{counts[state]} {state.lower()}" for state in STATES if counts[state]]
    reason = f"of {len(job)} tasks {', '.join(words)}" if len(words) > 1 else f"all {words[0].replace(' ', ' tasks ')}"
    if failed:
        which = project.format_ranges(failed)
        reason += ": " + (which if len(which) < 60 else which[:60].rpartition(",")[0] + " ...")
    stuck = any(status.stuck for status in statuses)
    if counts["PENDING"] or counts["RUNNING"]:
        special = {status.reason for status in statuses if status.state in LIVE and status.reason}
        begun = counts["RUNNING"] or any(status.record for status in statuses)
        text = "; ".join([reason, *sorted(special)[:2]])
        return Status("RUNNING" if begun else "PENDING", None, text, {}, stuck)
    state = "FAILED" if failed else "CANCELLED" if counts["CANCELLED"] else "DONE"
    code = 0 if state == "DONE" else statuses[failed[0] - 1].exit_code if failed else None
    record = {"exit": code, "ended": job.last_record(job.submissions())}
    return Status(state, code, reason, record, stuck)
