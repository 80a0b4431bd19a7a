"""Ask: look at jobs, at what they have left in their folders and at what the schedulers say of them.

Absence from the queue is no evidence until that very job was asked for, where it was submitted, and the answer was that
there is none. A scheduler that does not respond changes nothing.

    poll, poll_tasks     the Status of some jobs, of each task of some jobs: each scheduler is asked once for all of them
    poll_until_ended     the same until all have ended, gently
"""

from __future__ import annotations

import time
from typing import NamedTuple

from gridlib import project
from gridlib.errors import GridError, JobTimeout, SubmitError
from gridlib.schedulers import End, Owner, Row, Scheduler, scheduler
from gridlib.states import GONE, LIVE, NOT_ASKED, SILENT, SUBMITTING, UNSUBMITTED, Status, decide, summarize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gridlib.folder import JobFolder
    from gridlib.submission import Submission


class Answer(NamedTuple):
    """What a scheduler said: its queue, who asked which cluster, and the ids that were known before it was asked."""

    queue: dict[str, list[Row]]
    place: str | None
    asked: set[str]


def poll(jobs: list[JobFolder], ask: bool = True) -> list[Status]:
    """Return the Status of each job; see poll_tasks."""
    return [summarize(job, statuses) for job, statuses in zip(jobs, poll_tasks(jobs, ask), strict=True)]


def poll_tasks(jobs: list[JobFolder], ask: bool = True, mine: bool = False) -> list[list[Status]]:
    """Return the Status of each task of each job, lists in a list.

    When tasks have left the queue without a record of their end, the record is waited for, up to limits.grace seconds:
    file systems may be slow. Then the scheduler is asked for those very jobs, and the answer is written down; only a
    record, or the queue, can change it later.

    Args:
        ask: call each scheduler, once for all its jobs that have not ended; else only what is on the disk counts.
        mine: this process holds the lock of the jobs, and will submit tasks of them.
    """
    found = [_Look(job, mine) for job in jobs]
    unsure = [look for look in found if ask and look.is_unsure()]
    if unsure:
        answers = _ask(unsure)
        end = time.monotonic() + project.limits.grace
        while unsure:
            for look in unsure:
                look.read(answers[look.job.scheduler])
            unsure = [look for look in unsure if look.gone]
            if not any(look.may_still_write() for look in unsure) or time.monotonic() > end:
                break
            time.sleep(0.25)
        if unsure:
            _settle(unsure)
    return [look.statuses for look in found]


def _ask(looks: list[_Look]) -> dict[str, Answer | str]:
    """Ask each scheduler of these jobs for its queue, and for ids that were lost. A text: why it did not tell."""
    answers: dict[str, Answer | str] = {}
    for name in {look.job.scheduler for look in looks}:
        ours = [look for look in looks if look.job.scheduler == name]
        known = {submission.id for look in ours for submission in look.submissions if submission.id}
        lost = {one.script: (look, one) for look in ours for one in look.submissions if not one.id}
        try:
            asked = scheduler(name)
            queue = asked.queue()
            for script, job_id in asked.find(set(lost), {look.job.name for look in ours}, queue).items():
                look, submission = lost[script]
                if submission.stopped():  # somebody asked for that while nobody knew the id
                    asked.cancel([job_id], False)
                submission.save_id(job_id)
                known.add(job_id)
            answers[name] = Answer(queue, asked.place(), known)
        except GridError:
            answers[name] = SILENT
    return answers


def _settle(looks: list[_Look]) -> None:
    """Decide on tasks that are gone: by a second look at the queue, then by asking for these very jobs."""
    answers = _ask(looks)
    for look in looks:
        look.read(answers[look.job.scheduler])
        if look.gone:
            look.settle(scheduler(look.job.scheduler), answers[look.job.scheduler])


class _Look:
    """One look at one job: what is on the disk, and what its scheduler says of it."""

    def __init__(self, job: JobFolder, mine: bool):
        self.job, self.mine = job, mine
        self.read(NOT_ASKED)

    def read(self, answer: Answer | str) -> None:
        """Decide on each task: self.statuses. Those that are gone are in self.gone: (task, submission, index, record)."""
        self.submissions = self.job.submissions()
        self.statuses: list[Status] = []
        self.gone: list[tuple[int, Submission, int, dict]] = []
        self._unsure = False
        records = {one.number: one.records(refresh=answer != NOT_ASKED) for one in self.submissions}
        self._learn_ids(records)
        lost = {one.number: one.lost() for one in self.submissions}
        self._stopped = {one.number: one.stopped() is not None for one in self.submissions}
        queue = {one.number: self._rows(one, answer) for one in self.submissions}
        newest, alike = self.job.newest(self.submissions), {}
        nowhere = self._of_tasks_in_no_submission(answer) if len(newest) < len(self.job) else NOT_ASKED
        for task in range(1, len(self.job) + 1):
            submission, index = newest.get(task, (None, 0))
            number = submission.number if submission else 0
            record = records.get(number, {}).get(task, {})
            rows, otherwise = queue.get(number, ({}, nowhere))
            seen = NOT_ASKED if "exit" in record else rows.get(index, otherwise)
            end = lost.get(number, {}).get(task)
            if end and "exit" not in record and not isinstance(seen, Row):
                self.statuses.append(Status(end[0], end[1], end[2], record))
                self._unsure = self._unsure or not end[3]
                continue
            if seen == GONE and submission:
                self.gone.append((task, submission, index, record))
                seen = NOT_ASKED
            key = id(seen) if isinstance(seen, Row) else seen, tuple(record.items()), self._is_stopped(submission)
            if key not in alike:  # of thousands of tasks most are alike
                alike[key] = decide(record, seen, key[2])
            self.statuses.append(alike[key])

    def is_unsure(self) -> bool:
        """Whether the scheduler could tell more: it has not ended, or nobody knew how it ended."""
        return self._unsure or any(status.state in LIVE for status in self.statuses)

    def may_still_write(self) -> bool:
        """Whether a record may come of a task that is gone."""
        return any(record or not self._is_stopped(submission) for _, submission, _, record in self.gone)

    def settle(self, asked: Scheduler, answer: Answer | str) -> None:
        """Decide on the tasks that are gone, and write it down."""
        if self.job.array:
            self.gone = [
                (task, one, index, record and one.read_record(task, record)) for task, one, index, record in self.gone
            ]
        queue = answer.queue if isinstance(answer, Answer) else {}
        copies = self._find_copies(queue)
        for task, submission, _, record in self.gone:
            if submission.number in copies:
                self.statuses[task - 1] = decide(record, NOT_ASKED)
        self.gone = [one for one in self.gone if one[1].number not in copies]
        ends = self._account(asked, queue)
        new: dict[int, dict[int, tuple]] = {}
        for task, submission, index, record in self.gone:
            said = ends.get(submission.number)
            stopped = self._is_stopped(submission)
            status = decide(record, SILENT) if said is None else decide(record, GONE, stopped, said.get(index))
            self.statuses[task - 1] = status
            if status.state not in LIVE:
                known = stopped or index in (said or {})
                new.setdefault(submission.number, {})[task] = (status.state, status.exit_code, status.reason, known)
        for submission in self.submissions:
            if submission.number in new:
                submission.save_lost(new[submission.number])

    def _find_copies(self, queue: dict[str, list[Row]]) -> set[int]:
        """Return the submissions that the scheduler has had twice, and of which another copy lives; from now on that counts."""
        found = set()
        for _, submission, _, record in self.gone:
            job_id = record.get("id") or submission.id or ""
            if job_id != submission.id and any(self._is_ours(row, submission) for row in queue.get(job_id, ())):
                submission.save_id(job_id)
                found.add(submission.number)
        return found

    def _account(self, asked: Scheduler, queue: dict[str, list[Row]]) -> dict[int, dict[int, End]]:
        """What the scheduler says of each submission that has tasks that are gone; nothing of one if it does not respond."""
        found: dict[int, dict[int, End]] = {}
        open_questions = {submission.number: submission for _, submission, _, _ in self.gone}
        for last in (False, True):
            for submission in list(open_questions.values()):
                owner = Owner(project.user(), self.job.name, submission.script)
                listed = any(self._is_ours(row, submission) for row in queue.get(submission.id or "", ()))
                try:
                    found[submission.number] = asked.account(submission.id or "", owner, listed)
                except SubmitError:
                    found.pop(submission.number, None)
                    del open_questions[submission.number]
                    continue
                if found[submission.number] or self._stopped[submission.number]:
                    del open_questions[submission.number]
            if not open_questions or last:
                break
            time.sleep(project.limits.grace / 5)  # it may be late: ask again before its silence counts
        return found

    def _learn_ids(self, records: dict[int, dict[int, dict]]) -> None:
        """Take ids from what tasks have written down: those that nobody knows, and of two copies of a job the one that runs.

        What a single job has written is read as a whole; of arrays the names of the records tell enough.
        """
        for submission in self.submissions:
            named = records[submission.number]
            if self.job.array and submission.id:
                continue
            for task, record in list(named.items())[:1]:
                written = submission.read_record(task, record)
                if not self.job.array:
                    named[task] = written
                if written.get("id") and written["id"] != submission.id:
                    submission.save_id(written["id"])

    def _rows(self, submission: Submission, answer: Answer | str) -> tuple[dict[int, Row], str]:
        """The rows of a submission's tasks in the queue, by index, and what is known of its other tasks."""
        if isinstance(answer, str):
            return {}, answer
        if submission.place and answer.place and submission.place != answer.place:
            return {}, f"as last seen; it was submitted as {submission.place}, this is {answer.place}: ask there"
        if not submission.id:
            return {}, SUBMITTING if self.job.is_being_submitted(submission, self.mine) else UNSUBMITTED
        if submission.id not in answer.asked:  # it came while the queue was read
            return {}, SUBMITTING
        rows: dict[int, Row] = {}
        for row in answer.queue.get(submission.id, ()):
            if self._is_ours(row, submission):
                rows |= dict.fromkeys(row.indexes or range(1, len(submission.tasks) + 1), row)
        return rows, GONE

    def _is_ours(self, row: Row, submission: Submission) -> bool:
        """Whether a row with the id of a submission is about it: ids are used again, and by other clusters."""
        if row.script:
            return project.same_path(row.script, submission.script)
        return row.name in ("", self.job.name)

    def _of_tasks_in_no_submission(self, answer: Answer | str) -> str:
        if isinstance(answer, str):
            return answer
        return SUBMITTING if self.job.is_being_submitted(None, self.mine) else UNSUBMITTED

    def _is_stopped(self, submission: Submission | None) -> bool:
        """Tasks that never were in a submission were stopped with the last one that was."""
        last = submission or next(reversed(self.submissions), None)
        return bool(last and self._stopped[last.number])


def poll_until_ended(jobs: list[JobFolder], timeout: float | None = None) -> Iterator[list[list[Status]]]:
    """Look at jobs until all have ended, gently; after each look yield what poll_tasks() returns.

    What jobs leave in their folders is read every second. The scheduler is asked after half a second and then ever more
    seldom, up to once a minute.

    Args:
        timeout: in seconds, and up to limits.grace more; None: no limit.

    Raises:
        JobTimeout: the time was over first.
    """
    begin = time.monotonic()
    asked, pause, unfinished = begin, 0.5, jobs
    known: dict[int, list[Status]] = {}
    while unfinished:
        now = time.monotonic()
        if ask := now - asked >= pause:
            asked, pause = now, min(60, 1.5 * pause)
        known |= {id(job): statuses for job, statuses in zip(unfinished, poll_tasks(unfinished, ask), strict=True)}
        unfinished = [job for job in unfinished if any(status.state in LIVE for status in known[id(job)])]
        yield [known[id(job)] for job in jobs]
        left = 1 if timeout is None else begin + timeout - time.monotonic()
        if unfinished and left <= 0:
            names = ", ".join(map(str, unfinished[:5])) + (" ..." if len(unfinished) > 5 else "")
            still = f"still not finished after {timeout:g} s: {names}"
            raise JobTimeout(f"{still}. They keep running; wait again or cancel them.")
        if unfinished:
            rest = max(1, 10 * (time.monotonic() - now))  # records of many tasks take longer to read
            time.sleep(min(rest, left, max(0.05, asked + pause - time.monotonic())))


def pending_reason(job: JobFolder, stuck: bool = False) -> str:
    """Return why a job waits or is in error state, in the scheduler's words; empty if it does not tell."""
    newest = [submission.id for submission in job.submissions() if submission.id]
    try:
        return scheduler(job.scheduler).pending_reason(newest[-1], stuck) if newest else ""
    except GridError:
        return ""
