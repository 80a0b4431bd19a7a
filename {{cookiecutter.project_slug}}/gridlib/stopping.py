"""Tell: stop jobs, those of this project and others of this user."""

from __future__ import annotations

from gridlib import project
from gridlib.errors import SubmitError
from gridlib.folder import JobFolder
from gridlib.schedulers import Owner, Row, Scheduler, scheduler
from gridlib.submission import Submission


def stop(name: str, jobs: list[JobFolder], others: list[str], everything: list[JobFolder] | None = None) -> list[str]:
    """Stop jobs of one scheduler.

    Args:
        name: of the scheduler.
        others: ids of jobs that are not of this project.
        everything: stop all jobs of this user; these are the ones of this project.

    Returns:
        The ids of the jobs that the scheduler was told to stop.

    Raises:
        SubmitError: it does not know one of the others, refuses, or cannot be asked; or a job lives elsewhere.
    """
    engine = scheduler(name)
    locked = {job.path for job in everything or jobs if job.is_locked()}  # before the queue is read
    queue = engine.queue()
    if everything is not None:
        jobs = [job for job in everything if not queue.keys().isdisjoint(job.ids)]
        others = [job_id for job_id in queue if not any(job_id in job.ids for job in jobs)]
    if strange := [job_id for job_id in others if job_id not in queue]:
        raise SubmitError(f"no job {', '.join(strange)} of yours in {engine.title}; qstat() lists your jobs")
    listed = [job_id for job in jobs for job_id in job.ids if job_id in queue]
    scripts = dict.fromkeys(listed, "") | engine.scripts(listed, queue)  # one call for all
    stops = [_Stop(engine, job, queue, scripts, job.path in locked) for job in jobs]
    first, again = list(others), list[str]()  # who was told before and goes on is killed where that is another thing
    for one in stops:
        if one.targets:
            told_before = one.mark()
            (again if told_before else first).extend(one.ids())
    ids = first + again
    try:
        for some, kill in ((first, False), (again, True)):
            if some:
                engine.cancel(some, kill)
    except SubmitError:
        now = engine.queue()
        left = {job_id for job_id in ids if any(row.reason != "being deleted" for row in now.get(job_id, ()))}
        for one in stops:
            one.unmark(left)  # it goes on: do not say that it was stopped
        if left:  # of a job that has ended meanwhile there is nothing to say
            raise
    for one in stops:
        if one.trouble:  # said after the others were stopped
            raise SubmitError(one.trouble, one.job)
    return ids


class _Stop:
    """The stop of one job: which of its submissions are to be stopped."""

    def __init__(
        self, engine: Scheduler, job: JobFolder, queue: dict[str, list[Row]], scripts: dict[str, str], locked: bool
    ):
        self.job, self.locked = job, locked
        submissions = job.submissions()
        self.known = {one.id for one in submissions if one.id}
        present = [one for one in submissions if one.id and (one.id in queue or not self._has_ended(one))]
        place = engine.place() if present else None
        elsewhere = [one.place for one in present if one.place and place and one.place != place]
        live = [one for one in present if not elsewhere and (one.id in queue or self._is_alive(engine, one))]
        hidden = [one.id for one in live if one.id and one.id not in scripts]
        scripts = scripts | engine.scripts(hidden, queue)
        self.live = [one for one in live if project.same_path(scripts.get(one.id or "") or one.script, one.script)]
        # those that are on their way to the scheduler: who submits them sees the mark
        coming = [one for one in submissions if not one.id] + (submissions[-1:] if locked else [])
        self.targets = self.live + [one for one in coming if one not in self.live]
        if not self.live and not locked:
            self.targets = []  # it has ended, or nobody can tell it to stop
        self.trouble = f"{job} was submitted as {elsewhere[0]}, this is {place}: stop it there" if elsewhere else ""
        if not self.known and not locked:
            self.trouble = f"{job} cannot be stopped: its id is not known (yet); see {job.path}"
        self.new: list[Submission] = []

    def _has_ended(self, submission: Submission) -> bool:
        ended = [task for task, record in submission.records().items() if "exit" in record]
        return len(ended) >= len(submission.tasks) or bool(submission.lost())

    def _is_alive(self, engine: Scheduler, submission: Submission) -> bool:
        """Whether the scheduler has it, though its list does not show it."""
        owner = Owner(project.user(), self.job.name, submission.script)
        try:
            ends = engine.account(submission.id or "", owner, False)
        except SubmitError:  # it knows the job, or does not respond: tell it to stop
            return True
        return any(end.state in ("PENDING", "RUNNING") for end in ends.values())

    def mark(self) -> bool:
        """Note the stop in all submissions; returns whether all were noted before."""
        again = True
        for one in self.targets:
            if one.stopped() is None:
                again = False
                self.new.append(one)
            try:
                one.mark_stopped()
            except OSError as error:  # a full disk is no reason to let it run on, but its submitter cannot know
                again = False
                if self.locked:
                    raise SubmitError(
                        f"{self.job} cannot be stopped while it is submitted: {error}", self.job
                    ) from None
        return again

    def ids(self) -> list[str]:
        """What to tell the scheduler to stop: what lives, and what came since we looked."""
        came = [one.id for one in self.job.submissions() if one.id and one.id not in self.known]
        return [one.id for one in self.live if one.id] + came

    def unmark(self, left: set[str]) -> None:
        """Take back what this stop has noted of jobs that go on."""
        for one in self.new:
            if one.id in left:
                one.unmark_stopped()
