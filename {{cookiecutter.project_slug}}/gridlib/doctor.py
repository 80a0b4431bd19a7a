"""Check whether jobs can run here, and how to fix what is wrong: python grid.py doctor

Each check is a generator of Findings; some return what others need to know.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from gridlib import polling, project, schedulers, states
from gridlib.errors import GridError, JobFailed, JobTimeout, SubmitError, printable
from gridlib.job import all_jobs
from gridlib.schedulers import Scheduler, scheduler
from gridlib.site import UNAVAILABLE, GridEngineSite, SlurmSite, query_site, unsatisfiable
from gridlib.testjob import PROJECT, TestJob, activation, starter_default, starters

COLORS = {"ok": 32, "warning": 33, "error": 31}
ACTIVATION_TIMEOUT = 120.0  # seconds
GPUS_MISSING = "Jobs run without GPUs here; jobs that request one are refused"


class Finding(NamedTuple):
    """What a check has found."""

    level: str  # ok, warning or error
    subject: str
    text: str
    fix: str = ""  # what to do about it


Check = Generator[Finding, None, Any]


def doctor(submit: bool = False, timeout: float = 300) -> int:
    """Print what each check finds; return the exit code, 1 if there are errors.

    Args:
        submit: also submit a test job.
        timeout: how long the test job may take, in seconds.
    """
    project.limits.call = 20  # somebody is waiting
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # else it is meant to be ignored, as by nohup
            signal.signal(number, interrupt)
    os.chdir(PROJECT)
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    # the check of the environment must not find the one that runs this, as in `make doctor`
    path = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(folder for folder in path if folder != str(PROJECT / "env" / "bin"))
    counts = dict.fromkeys(COLORS, 0)
    with contextlib.closing(run_checks(submit, timeout)) as findings:  # so that they clean up, whatever happens here
        for level, subject, text, fix in findings:
            counts[level] += 1
            word = f"\033[{COLORS[level]}m{level}\033[0m" if colored else level
            line = printable(f"{text}. {fix}" if fix else text)
            print(f"{word}{' ' * (9 - len(level))}{subject:13}{' '.join(line.split())}", flush=True)
    words = [f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}" for level in ("error", "warning")]
    print("\n" + (", ".join(words) if counts["error"] or counts["warning"] else "no problems found"))
    return 1 if counts["error"] else 0


def interrupt(number: int, frame: Any) -> None:
    """End as by Ctrl-C, which stops the test job and removes its folder."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def run_checks(submit: bool, timeout: float) -> Check:
    """Yield all Findings, in the order in which to fix what is wrong."""
    engine = yield from catch_errors("scheduler", check_scheduler())
    writable = yield from catch_errors("folders", check_folders())
    responds = False
    if engine and engine.programs:
        responds = yield from catch_errors("daemon", check_daemon(engine))
    if responds:
        yield from catch_errors("names", check_site(engine))
    if writable:
        yield from catch_errors("environment", check_environment())
    else:
        yield Finding("warning", "environment", "not checked: that needs a folder that can be written to")
    if responds:
        yield from catch_errors("jobs", stuck_jobs())
    if submit and engine and writable:
        yield from catch_errors("job", check_job(engine.name, timeout))


def catch_errors(subject: str, check: Check) -> Check:
    """Yield what a check yields, and return what it returns. If the check fails, that is one more Finding, and None."""
    try:
        return (yield from check)
    except Exception as error:
        expected = isinstance(error, (GridError, OSError))
        yield Finding("error", subject, str(error) if expected else f"this check itself failed: {error!r}")
        return None


# --- The scheduler ----------------------------------------------------------------------------------------------------


def check_scheduler() -> Generator[Finding, None, Scheduler | None]:
    """Check which scheduler is used, and return it if it is here."""
    here = schedulers.found_here()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # what it warns of is a Finding here
            engine, because = schedulers.choose()
    except SubmitError as error:
        fix = "The qsub on this machine is another scheduler's" if shutil.which("qsub") else ""
        yield Finding("error", "scheduler", str(error).rstrip("."), fix)
        return None
    missing = [program for program in engine.programs if not shutil.which(program)]
    if missing:
        text = (
            f"{engine.title} is to be used, {because}, but it is not on this machine ({', '.join(missing)} not found)"
        )
        fix = "Submit on a machine that has it (the cluster's login node), or for once: make grid GRID_SCHEDULER="
        if here:
            fix = f"{here[0].title} is: for once, make grid GRID_SCHEDULER={here[0].name}; for good, "
            by_variable = os.environ.get("GRID_SCHEDULER")
            fix += "change that variable" if by_variable else "remove that line, or write another name there"
        else:
            fix += "background"
        yield Finding("error", "scheduler", text, fix)
        return None
    engine.find_program()
    if len(here) == 2 and because.endswith("found on PATH"):
        fix = 'To choose, write scheduler = "slurm", or "gridengine", into [tool.grid] of pyproject.toml'
        text = f"found both Grid Engine and Slurm, using {engine.title}"
        yield Finding("warning", "scheduler", text, fix)
    else:
        yield Finding("ok", "scheduler", f"{engine.title}, {because}")
    return engine


def check_daemon(engine: Scheduler) -> Generator[Finding, None, bool]:
    """Check that the scheduler responds; return whether it does."""
    try:
        number = len(engine.queue())
    except SubmitError as error:
        fix = "Try again in some minutes, then ask the site's administrators"
        if engine.name == "gridengine":
            fix += ". Have you sourced its settings.sh?"
        yield Finding("error", "daemon", f"{engine.title} does not respond: {error}", fix)
        return False
    yield Finding("ok", "daemon", f"it responds; you have {number} waiting or running jobs")
    return True


def check_folders() -> Generator[Finding, None, bool]:
    """Check that the project's folder, that of the jobs and that of the logs can be written to; return whether they can."""
    good, jobs = True, Path(project.jobs_folder())
    for folder in (PROJECT, jobs, PROJECT / "logs"):
        try:
            if folder.exists() or folder.is_symlink():
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except NotADirectoryError:
            good = False
            yield Finding("error", "folders", f"{folder} is not a folder", "Remove it, or rename it")
        except OSError as error:
            good = False
            fix = "Is the disk full, or your quota used up? Is the folder yours (ls -ld)?"
            yield Finding("error", "folders", f"cannot write to {folder}: {error}", fix)
    if good:
        yield Finding("ok", "folders", f"{PROJECT}, {jobs.name} and logs can be written to")
    return good


# --- The site's names -------------------------------------------------------------------------------------------------


def check_site(engine: Scheduler) -> Check:
    """Check the names in [tool.grid] by what the site offers."""
    site = query_site(engine)
    yield from slurm_names(engine, site) if isinstance(site, SlurmSite) else grid_engine_names(engine, site)


def grid_engine_names(engine: Scheduler, site: GridEngineSite) -> Check:
    """Check the resources, the parallel environment and the queue of [tool.grid.gridengine]."""
    where = "into [tool.grid.gridengine] of pyproject.toml"
    if not site.per:
        yield Finding("warning", "names", "qconf -sc does not list the site's resources; their names are not checked")
        return
    yield check_resource("memory", True, site.memory, engine, site, where)
    yield check_resource("cuda", starter_default("CUDA", "0") != "0", site.cuda, engine, site, where)
    yield check_cores(engine.site.get("parallel_environment"), site.parallel_environments, where)
    yield check_names("queue", engine.site.get("queue"), site.queues, where, "qconf -sql")


def check_resource(
    key: str, needed: bool, names: list[str], engine: Scheduler, site: GridEngineSite, where: str
) -> Finding:
    """Check a resource of Grid Engine. key: memory or cuda; needed: jobs request it by default; names: what is there."""
    name, per, level = engine.site[key], engine.site[f"{key}_per"], "error" if needed else "warning"
    best = names[0] if names else None
    fix = "qconf -sc lists all resources" if key == "memory" else GPUS_MISSING
    if best:
        fix = f'Write {key} = "{best}" and {key}_per = "{site.per[best]}" {where}'
    if name not in site.per:
        return Finding(level, key, f"this Grid Engine has no resource {name}", fix)
    if name not in site.offered:
        return Finding(level, key, f"no host offers {name}: a job that requests it waits forever", fix)
    if per != site.per[name]:
        fix = f'Write {key}_per = "{site.per[name]}" {where}'
        return Finding(level, key, f"{name} counts per {site.per[name]} here, pyproject.toml says per {per}", fix)
    if key == "memory" and name not in site.consumable and best in site.consumable:
        return Finding("warning", key, f"{name} exists but reserves nothing; {best} is consumable", fix)
    kind = "consumable" if name in site.consumable else "requestable"
    return Finding("ok", key, f"{name} is {kind} here, per {per}")


def check_cores(name: str | None, there: dict[str, str], where: str) -> Finding:
    """Check the parallel environment of Grid Engine. there: the allocation rules of all of them."""
    best = next(iter(there), None)
    fix = f'Write parallel_environment = "{best}" {where}' if best else "Jobs get one core here"
    if not name:
        return Finding("warning", "cores", "no parallel environment is set: jobs get one core", fix)
    if name not in there:
        return Finding("error" if there else "warning", "cores", f"no parallel environment {name} (qconf -spl)", fix)
    if there[name] != "$pe_slots":
        if best is None or there[best] != "$pe_slots":
            fix = "Ask the site's administrators for one with $pe_slots"
        text = f"the parallel environment {name} may spread the cores of a job over hosts ({there[name]})"
        return Finding("warning", "cores", text, fix)
    return Finding("ok", "cores", f"the parallel environment {name} keeps a job on one host")


def slurm_names(engine: Scheduler, site: SlurmSite) -> Check:
    """Check the GRES and the partition of [tool.grid.slurm]."""
    where = "into [tool.grid.slurm] of pyproject.toml"
    if not site.partitions:
        yield Finding("warning", "names", "sinfo does not list the site's partitions; names are not checked")
        return
    partition = engine.site.get("partition")
    known = [name for name in (partition or "").split(",") if name in site.partitions] or list(site.partitions)
    found = sorted({state for name in known for state in site.partitions[name]})
    if all(re.fullmatch(UNAVAILABLE, state) for state in found):
        fix = "Jobs wait until the site's administrators have fixed that; sinfo -R tells the reason"
        of = f" of partition {partition}" if partition else ""
        yield Finding("warning", "nodes", f"no node{of} runs jobs now: all are {', '.join(found)}", fix)
    name = engine.site.get("cuda", "gpu")
    if name in site.gres:
        yield Finding("ok", "cuda", f"{name} is available (sinfo -o %G)")
    else:
        level = "error" if starter_default("CUDA", "0") != "0" else "warning"
        fix = f'Write cuda = "{site.cuda[0]}" {where}' if site.cuda else GPUS_MISSING
        yield Finding(level, "cuda", f"this Slurm has no GRES {name} (sinfo -o %G)", fix)
    yield check_names("partition", partition, list(site.partitions), where, "sinfo")


def check_names(key: str, setting: str | None, there: list[str], where: str, command: str) -> Finding:
    """Check the queues or partitions of a setting, with commas between them."""
    patterns = [(name, name.partition("@")[0] or "*") for name in (setting or "").split(",") if name]
    missing = [name for name, pattern in patterns if not any(fnmatch(one, pattern) for one in there)]
    if missing and there:
        fix = f'{command} lists {", ".join(there[:10])}: write {key} = "NAME" {where}, or remove the line'
        return Finding("error", key, f"no {key} {', '.join(missing)}", fix)
    return Finding("ok", key, setting or "the site's default")


# --- The environment, by a job ----------------------------------------------------------------------------------------


def check_environment() -> Check:
    """Check that the environment can be activated and has the packages, by a job in the background of this machine."""
    with TestJob("background") as test:
        try:
            test.submit().wait(ACTIVATION_TIMEOUT)
        except JobTimeout:
            text = f"the activation does not finish: {activation()}"
            yield Finding("error", "environment", text, "Look at what that command does")
        except JobFailed:
            yield failure(test, "environment")
        else:
            yield packages_found(test, "environment")


def check_job(name: str, timeout: float) -> Check:
    """Check that a job of the scheduler is submitted, starts, ends, and that its output is seen; say when."""
    with TestJob(name) as test:
        begin = time.monotonic()
        job = test.submit(memory=starter_default("MEMORY", None), cuda=int(starter_default("CUDA", 0)))
        yield Finding("ok", "submitted", f"job {job.id} after {time.monotonic() - begin:.1f} s")
        begin, started, status = time.monotonic(), False, states.Status("PENDING", None, "", {})
        try:
            for [[status]] in polling.poll_until_ended([job.files], timeout):
                if status.record and not started:
                    started = True
                    yield Finding(
                        "ok", "started", f"after {time.monotonic() - begin:.1f} s on {status.record.get('host')}"
                    )
        except JobTimeout:
            why = "" if started else f": {polling.pending_reason(job.files) or 'it waits'}"
            fix = "It was stopped. If the site is busy, allow more time (--timeout 3600)"
            text = f"it has not {'ended' if started else 'started'} after {timeout:g} s{why}"
            yield Finding("error", "job", text, fix)
            return
        if "exit" not in status.record:
            why = polling.pending_reason(job.files, True) if status.stuck else ""
            fix = "The site's administrators may know more: give them the job's id"
            yield Finding("error", "job", f"it is {status.state}: {why or status.reason}", fix)
            return
        if status.state != "DONE":
            yield failure(test, "ended")
            return
        yield Finding("ok", "ended", f"after {time.monotonic() - begin:.1f} s")
        end = time.monotonic() + min(timeout, 60)
        while not test.report() and time.monotonic() < end:
            time.sleep(0.2)  # the file may be late on a network file system
        if test.report():
            yield Finding("ok", "output", f"seen after {time.monotonic() - begin:.1f} s")
        yield packages_found(test, "packages")


def packages_found(test: TestJob, subject: str) -> Finding:
    """Return whether the environment of a job, which has ended, has all packages."""
    report = test.report()
    if report is None:
        text = f"the job's output is not in {test.job.stdout}"
        return Finding("error", subject, text, f"Look at what this command does: {activation()}")
    where = f"{report['python']} on {report['host']}"
    if problems := report["problems"]:
        words = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        fix = "Install that there"
        if (PROJECT / "env").exists():
            fix = "Packages belong into environment/requirements.in; make -B env installs them"
        return Finding("error", subject, f"{where}: {words}", fix)
    text = f"Python {report['version']} on {report['host']} has the {report['packages']} packages"
    names = ", ".join(f"{starter.stem}_local.py" for starter in starters())
    text += " that environment/ names" + (f", and all that {names} imports" if names else "")
    return Finding("ok", subject, text)


def failure(test: TestJob, subject: str) -> Finding:
    """Return why a job failed."""
    status = polling.poll([test.job.files], ask=False)[0]
    lines = test.job.log(2000).strip().splitlines()[-3:]
    words = "; ".join(line for line in lines if status.reason not in line)
    if "python" in status.record:  # which run.py notes
        fix = f"All of its log: {test.job.stdout}"
    elif (PROJECT / "environment" / "create.sh").exists():
        files = ", ".join(["Makefile", *(starter.name for starter in starters())])
        fix = f"make env creates the environment; ACTIVATE, in {files}, is: {activation()}"
    else:
        fix = f"Look at what this command does: {activation()}"
    return Finding("error", subject, f"{status.reason}: {words}" if words else status.reason, fix)


# --- Jobs that wait ---------------------------------------------------------------------------------------------------


def stuck_jobs() -> Check:
    """Find jobs of this project that will never run as things are."""
    jobs, waiting, running, asked, good = all_jobs(), 0, 0, 0, True
    for job, statuses in zip(jobs, polling.poll_tasks([job.files for job in jobs]), strict=True):
        words, fix = "", f"make stop JOB={job.id}, fix that, and submit it again"
        pending = any(status.state == "PENDING" for status in statuses)
        if any(status.stuck for status in statuses):
            words = f"is in error state: {polling.pending_reason(job.files, True) or 'the scheduler gives no reason'}"
        elif pending and job.ids and asked < 10:  # a question that costs the scheduler something
            asked += 1
            if reason := unsatisfiable(scheduler(job.scheduler), job.ids[-1]):
                words = f"requests more than this site has: {reason}"
                fix = f"make stop JOB={job.id}, and request what the site has (make grid ARGS=--help)"
        waiting, running = waiting + pending, running + any(status.state == "RUNNING" for status in statuses)
        if words:
            good = False
            yield Finding("error", "jobs", f"{job.id} {job.name} {words}", fix)
    if good:
        yield Finding("ok", "jobs", f"of this project's jobs {waiting} wait and {running} run; none is stuck")
