"""Look whether jobs of this project can run here, and say how to mend what is wrong: python gridctl.py doctor

Each check is a generator of Findings. Run as a job, this file tells which of the project's packages are missing there.
"""

import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import namedtuple
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path

import grid

PROJECT = Path(grid.PROJECT)
STARTER = PROJECT / "my_script.py"
REQUIREMENTS = PROJECT / "environment" / "requirements.txt"
TITLES = {"gridengine": "Grid Engine", "slurm": "Slurm", "background": "the background of this machine"}
COLORS = {"ok": 32, "warning": 33, "wrong": 31}
MARK = "doctor: "  # begins the line by which a job tells what it has found
ACTIVATE_FOR = 120  # seconds that an activation may take

Finding = namedtuple("Finding", "level subject text mend", defaults=[""])


# --- What the schedulers tell of the site -----------------------------------------------------------------------------

# How sites call memory and GPUs, the best first, and what is neither.
MEMORY = ["h_vmem", "mem|memory|ram", ".*mem.*|(.*_)?ram(_.*)?", "virtual_free|s_vmem|[hs]_rss"]
CUDA = ["gpu|cuda", "n?(gpu|cuda)s?", ".*(gpu|cuda|nvidia).*"]
NEITHER = {"memory": "total|used|swap|gpu|cuda|disk|tmp", "cuda": "mem|arch|util|temp|version|cap|load"}

# Reasons by which Slurm says that a job asks for what there is not, and states of nodes that take no job.
NEVER = "Bad|Invalid|NotAllowed|NeverSatisfied|Partition(Config|(Node|Time)Limit)|MaxMemPerLimit|JobHoldMaxRequeue"
NEVER += r"|(QOS|Assoc)Max\w*PerJob|QOSMin"
TAKES_NONE = r"(down|drain|fail|err|maint|unk|fut|inval|block|perfctrs).*|.*\*"  # *: the node does not answer


def ask(engine, *commands, refusals=False):
    """What these commands print, all asked at the same time; of one that fails nothing, or what it refuses with."""
    from concurrent.futures import ThreadPoolExecutor

    def one(command):
        try:
            return grid._call(command.split(), engine)
        except grid.SubmitError as error:
            return str(error) if refusals else ""

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, commands))


def offers(engine):
    """What the site of a scheduler offers, a dict; what its commands do not tell stays empty.

    Of both schedulers: version; cuda: names of resources to ask for GPUs with, the best first.
    """
    return {"gridengine": grid_engine_offers, "slurm": slurm_offers}[engine.name](engine)


def fit(what, name):
    """The place of a name among those that sites use for memory or GPUs, 0 the best; None if it is something else."""
    patterns = {"memory": MEMORY, "cuda": CUDA}[what]
    places = [place for place, pattern in enumerate(patterns) if re.fullmatch(pattern, name)]
    return places[0] if places and not re.search(NEITHER[what], name) else None


def grid_engine_offers(engine):
    """What a Grid Engine offers; see the man pages complex, queue_conf, sge_pe.

    memory: as cuda; of all resources, also by their shortcuts, offered: those that jobs can ask for and get, consumable,
    and per: a dict, whether they count per "slot" or "job"; parallel_environments: a dict, best first, of their
    allocation rules ($pe_slots keeps a job on one host); queues.
    """
    version, table, hosts, queues, names = ask(
        engine, "qconf -help", "qconf -sc", "qhost -F", "qconf -sq *", "qconf -spl"
    )
    names, rules = names.split(), ask(engine, *(f"qconf -sp {name}" for name in names.split()))
    lines = re.sub(r"\\\n *", " ", queues)
    # what hosts and queues have to give; [host=name=value] in a queue's is for one host
    given = set(re.findall(r"\b[gh][a-z]:([^=\s]+)=", hosts))
    for values in re.findall("^complex_values(.*)", lines, re.MULTILINE):
        given |= set(re.findall(r"(?:\[[^=]*=)?([\w.+-]+)=", values))
    rank, per, consumable, offered = {"memory": [], "cuda": []}, {}, [], []
    for line in table.splitlines():
        name, short, kind, relation, requestable, consumed, *_ = (line.split() + [""] * 6)[:6]
        if name.startswith("#") or not consumed:
            continue
        # of a queue: it has all of them, and multiplies them by the slots
        limit = re.fullmatch("[hs]_(?!rt$).*", name)
        per[name] = per[short] = "slot" if consumed == "YES" or consumed == "NO" and limit else "job"
        if consumed != "NO":
            consumable += [name, short]
        if requestable != "NO" and (limit or not hosts or name in given):
            offered += [name, short]
        for what, kinds in (("memory", ["MEMORY"]), ("cuda", ["INT", "RSMAP"])):
            place = fit(what, name)
            if name in offered and relation == "<=" and kind in kinds and place is not None:
                rank[what].append((consumed == "NO", requestable != "FORCED", place, name))
    used = re.sub(r"[\[\],=]", " ", " ".join(re.findall("^pe_list(.*)", lines, re.MULTILINE))).split()
    environments = []
    for name, rule in zip(names, rules):
        rule = "".join(re.findall(r"^allocation_rule +(\S+)", rule, re.MULTILINE))
        usual = re.search("smp|shm|thread|omp|openmp|multi|local|single", name)
        environments += [(rule != "$pe_slots", name not in used, not usual, name, rule)] if rule else []
    return {
        "version": "".join(version.splitlines()[:1]).strip(),
        **{what: [name for *_, name in sorted(found)] for what, found in rank.items()},
        "offered": offered,
        "consumable": consumable,
        "per": per,
        "parallel_environments": {name: rule for *_, name, rule in sorted(environments)},
        "queues": re.findall(r"^qname +(\S+)", lines, re.MULTILINE),
    }


def slurm_offers(engine):
    """What a Slurm offers; see the man page sinfo.

    partitions: a dict of the states of their nodes; gres: all generic resources, a type as gpu:a100.
    """
    version, nodes = ask(
        engine,
        "sinfo --version",
        # variables that would leave out some of it, or add to it
        "env -u SINFO_PARTITION -u SINFO_SORT -u SINFO_FEDERATION sinfo --all --noheader --format=%R|%T|%G",
    )
    partitions, gres = {}, {}
    for line in nodes.splitlines():
        if line.count("|") != 2:
            continue
        partition, state, resources = line.split("|")
        partitions.setdefault(partition, []).append(state)
        resources = re.sub(r"\([^)]*\)", "", resources)  # as in gpu:a100:4(S:0-1),shard:8
        for name, kind in re.findall(r"(?:^|,)([^:,]+)(?::([^:,]*[^:,0-9][^:,]*))?", resources):
            gres |= {name: True} | ({f"{name}:{kind}": True} if kind else {})
    places = {name: fit("cuda", name.partition(":")[0]) for name in gres}
    cuda = sorted((name for name in gres if places[name] is not None), key=lambda name: (places[name], ":" in name))
    return {"version": version.strip(), "partitions": partitions, "gres": list(gres), "cuda": cuda}


def never(engine, job_id):
    """Why a job that waits can never run at this site, in the scheduler's words; empty if it can, or nobody knows."""
    if engine.name == "slurm":
        reason = engine.why(job_id, "PENDING")
        return reason if re.search(NEVER, reason) else ""
    if engine.name != "gridengine":
        return ""
    # v: if the cluster were empty. It knows no load values, such as mem_free; p, as things are, does.
    empty, now = ask(engine, f"qalter -w v {job_id}", f"qalter -w p {job_id}", refusals=True)
    unsure = "unknown resource" in empty and "unknown resource" not in now
    busy = re.search("disabled|suspended|state|temporar|calendar", empty)
    if unsure or busy or "no suitable queues" not in empty:
        return ""
    return "; ".join(re.findall(r"(?:^|says: )Job [0-9]+ (.*)$", empty, re.MULTILINE)[:3]) or "no queue is suitable"


# --- The checks -------------------------------------------------------------------------------------------------------


def doctor(submit=False, timeout=300):
    """Print what each check finds; returns the exit code, 1 if something is wrong."""
    grid.CALL_TIMEOUT = 20  # somebody is waiting
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # else it is meant to be ignored, as nohup does
            signal.signal(number, give_up)
    os.chdir(PROJECT)
    sys.stdout.reconfigure(errors="backslashreplace")
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    # the check of the environment must not find the one that runs this, as `make doctor` does
    here = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(path for path in here if path != str(PROJECT / "env" / "bin"))
    count = dict.fromkeys(COLORS, 0)
    with closing(checks(submit, timeout)) as findings:  # so that they clean up at once, whatever happens here
        for level, subject, text, mend in findings:
            count[level] += 1
            word = f"\033[{COLORS[level]}m{level}\033[0m" if colored else level
            line = f"{text}. {mend}" if mend else text
            print(f"{word}{' ' * (9 - len(level))}{subject:13}{' '.join(line.split())}", flush=True)
    wrong, warnings = count["wrong"], count["warning"]
    print(f"\n{wrong} wrong, {warnings} to be warned of" if wrong or warnings else "\nall is well")
    return 1 if wrong else 0


def give_up(number, frame):
    """End as by Ctrl-C, which stops a job that was submitted and removes its folder."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def checks(submit, timeout):
    """All Findings, in the order in which one would mend what is wrong."""
    engine, answers, writable = None, False, True
    for check in (scheduler, folders):
        for finding in guarded(check.__name__, check()):
            if isinstance(finding, Finding):
                writable = writable and not (check is folders and finding.level == "wrong")
                yield finding
            else:
                engine = finding
    if engine and engine.name != "background":
        for finding in guarded("daemon", daemon(engine)):
            answers = finding.level == "ok"
            yield finding
    if answers:
        names = slurm_names if engine.name == "slurm" else grid_engine_names
        yield from guarded("names", names(engine, offers(engine)))
    if writable:
        yield from guarded("environment", environment())
    else:
        yield Finding("warning", "environment", "not tried, for that takes a folder that can be written")
    if answers:
        yield from guarded("jobs", stuck_jobs())
    if submit and engine and writable:
        yield from guarded("job", trial(engine.name, timeout))


def guarded(subject, findings):
    """The findings of a check; that it fails is one more."""
    try:
        yield from findings
    except Exception as error:  # whatever it is: no traceback, and the other checks follow
        text = str(error) if isinstance(error, (grid.GridError, OSError)) else f"this check itself fails: {error!r}"
        yield Finding("wrong", subject, text)


def scheduler():
    """Which scheduler is used, and why that one; the last that comes is the engine itself, if it is there."""
    settings, environ = grid._settings(), os.environ.get("GRID_SCHEDULER")
    name, because = environ or settings.get("scheduler"), "as GRID_SCHEDULER says"
    if not environ:
        because = "as pyproject.toml says in [tool.grid]"
    found = [engine.name for engine in (grid._GridEngine, grid._Slurm) if all(map(shutil.which, engine.programs))]
    if name and name not in grid._ENGINES:
        known = ", ".join(grid._ENGINES)
        yield Finding("wrong", "scheduler", f"there is no scheduler {name!r}, {because}", f"Write one of {known}")
    elif name:
        engine = grid._engine(name)
        missing = [program for program in engine.programs if not shutil.which(program)]
        if missing:
            mend = f"Submit where it is installed (the cluster's login node), or for once: make grid GRID_SCHEDULER="
            if other := [one for one in found if one != name]:
                mend = f"{TITLES[other[0]]} is: for once, make grid GRID_SCHEDULER={other[0]}"
                mend += "; for good, " + ("change that variable" if environ else "remove that line, or name it there")
            else:
                mend += "background"
            text = f"{TITLES[name]} is to be used, {because}, but it is not on this machine ({', '.join(missing)})"
            yield Finding("wrong", "scheduler", text, mend)
        else:
            yield Finding("ok", "scheduler", f"{TITLES[name]}, {because}")
            yield engine
    elif not found:
        other = "; its qsub is another scheduler's" if shutil.which("qsub") else ""
        text = f"neither Grid Engine (qsub, qconf) nor Slurm (sbatch) is on this machine{other}"
        yield Finding("wrong", "scheduler", text, grid._WAYS_OUT)
    else:
        engine = grid._ENGINES[found[0]](settings)
        if len(found) == 1:
            yield Finding("ok", "scheduler", f"{TITLES[found[0]]}: {' and '.join(engine.programs)} found on PATH")
        else:
            mend = 'To say which: scheduler = "slurm", or "gridengine", in [tool.grid] of pyproject.toml'
            yield Finding("warning", "scheduler", "Grid Engine and Slurm are both here; Grid Engine is taken", mend)
        yield engine


def daemon(engine):
    """Whether the scheduler's daemon answers."""
    try:
        number = len(engine.queue())
    except grid.SubmitError as error:
        settings = " Are the variables set that it needs (its settings.sh)?" if engine.name == "gridengine" else ""
        mend = f"Try again in some minutes; if it stays so, ask those who run the site.{settings}"
        yield Finding("wrong", "daemon", f"{TITLES[engine.name]} does not answer: {error}", mend)
    else:
        yield Finding("ok", "daemon", f"it answers; {number} jobs of yours wait or run")


def asked_by_default(constant, otherwise):
    """What the starter asks for by default: the text of a constant in it."""
    code = STARTER.read_text(encoding="utf-8") if STARTER.exists() else ""
    match = re.search(rf'^{constant} = "?([^"\s#]+)', code, re.MULTILINE)
    return match[1] if match else otherwise


def grid_engine_names(engine, offers):
    """Whether the resources, the parallel environment and the queue of [tool.grid.gridengine] are there."""
    site, per, where = engine.site, offers["per"], "into [tool.grid.gridengine] of pyproject.toml"
    if not per:
        yield Finding("warning", "names", "qconf -sc does not tell the site's resources; their names are not checked")
        return
    for key, needed in (("memory", True), ("cuda", asked_by_default("CUDA", "0") != "0")):
        name, said, best = site[key], site[f"{key}_per"], (offers[key] + [None])[0]
        bad = "wrong" if needed else "warning"
        mend = f'Write {key} = "{best}" and {key}_per = "{per[best]}" {where}' if best else "qconf -sc lists all"
        if not best and key == "cuda":
            mend = "Jobs run without GPUs here; those that ask for one are refused"
        if name not in per:
            yield Finding(bad, key, f"this Grid Engine knows no resource {name}", mend)
        elif name not in offers["offered"]:
            yield Finding(
                bad, key, f"{name} is known, but no host offers it: a job that asks for it waits for ever", mend
            )
        elif said != per[name]:
            mend = f'Write {key}_per = "{per[name]}" {where}'
            yield Finding(bad, key, f"{name} counts per {per[name]} here, pyproject.toml says per {said}", mend)
        elif key == "memory" and name not in offers["consumable"] and best in offers["consumable"]:
            yield Finding("warning", key, f"{name} is there, but reserves nothing: {best} is consumable", mend)
        else:
            consumable = "consumable" if name in offers["consumable"] else "requestable"
            yield Finding("ok", key, f"{name} is {consumable} here, per {said}")

    name, there = site.get("parallel_environment"), offers["parallel_environments"]
    best = next(iter(there), None)
    mend = f'Write parallel_environment = "{best}" {where}' if best else "Jobs get one core here"
    if not name:
        yield Finding("warning", "cores", "no parallel environment is named: jobs get one core", mend)
    elif name not in there:
        level = "wrong" if there else "warning"
        yield Finding(level, "cores", f"there is no parallel environment {name} (qconf -spl)", mend)
    elif there[name] != "$pe_slots":
        mend = mend if there[best] == "$pe_slots" else "Ask those who run the site for one with $pe_slots"
        text = f"the parallel environment {name} may spread the cores of a job over hosts ({there[name] or 'no rule'})"
        yield Finding("warning", "cores", text, mend)
    else:
        yield Finding("ok", "cores", f"the parallel environment {name} keeps a job on one host")

    yield from chosen("queue", site.get("queue"), offers["queues"], where, "qconf -sql")


def slurm_names(engine, offers):
    """Whether the GRES and the partition of [tool.grid.slurm] are there."""
    where = "into [tool.grid.slurm] of pyproject.toml"
    if not offers["partitions"]:
        yield Finding("warning", "names", "sinfo does not tell what the site has; names are not checked")
        return
    partition = engine.site.get("partition")
    asked = [name for name in (partition or "").split(",") if name in offers["partitions"]] or offers["partitions"]
    states = sorted({state for name in asked for state in offers["partitions"][name]})
    if all(re.fullmatch(TAKES_NONE, state) for state in states):
        mend = "Jobs wait until those who run the site have mended that: sinfo -R says why"
        where_to = f" of partition {partition}" if partition else ""
        yield Finding("warning", "nodes", f"no node{where_to} takes jobs now: all are {', '.join(states)}", mend)
    name, best = engine.site.get("cuda", "gpu"), (offers["cuda"] + [None])[0]
    if name in offers["gres"]:
        yield Finding("ok", "cuda", f"{name} is there (sinfo -o %G)")
    else:
        level = "wrong" if asked_by_default("CUDA", "0") != "0" else "warning"
        mend = "Jobs run without GPUs here; those that ask for one are refused"
        mend = f'Write cuda = "{best}" {where}' if best else mend
        yield Finding(level, "cuda", f"this Slurm has no GRES {name} (sinfo -o %G)", mend)
    yield from chosen("partition", partition, list(offers["partitions"]), where, "sinfo")


def chosen(key, setting, there, where, command):
    """Whether the queues or partitions of a setting, with commas between them, are there."""
    missing = [
        name
        for name in (setting or "").split(",")
        if name and not any(fnmatch(one, name.partition("@")[0] or "*") for one in there)
    ]
    if missing and there:
        mend = f'{command} lists {", ".join(there[:10])}: write {key} = "NAME" {where}, or remove the line'
        yield Finding("wrong", key, f"there is no {key} {', '.join(missing)}", mend)
    else:
        yield Finding("ok", key, setting or "the site's default")


def folders():
    """Whether the project's folder, that of the submissions and that of the logs can be written."""
    bad = 0
    for folder in (PROJECT, PROJECT / ".grid", PROJECT / "logs"):
        try:
            if folder.exists() or folder.is_symlink():
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except NotADirectoryError:
            bad += 1
            yield Finding("wrong", "folders", f"{folder} is no folder", "Remove it, or give it another name")
        except OSError as error:
            bad += 1
            mend = "Is the disk full, or your quota used up? Is it yours (ls -ld)?"
            yield Finding("wrong", "folders", f"{folder} cannot be written: {error}", mend)
    if not bad:
        yield Finding("ok", "folders", f"{PROJECT}, .grid and logs can be written")


def activation():
    """The command that activates the environment: the Makefile's, else the project's."""
    own = f"source {shlex.quote(str(PROJECT / 'environment' / 'activate.sh'))}"
    return os.environ.get("GRID_ACTIVATE") or own


def environment():
    """Whether the environment can be activated and has the packages: a job tells, in the background of this machine."""
    with Trial("background") as attempt:
        try:
            attempt.submit()
            attempt.job.wait(ACTIVATE_FOR)
        except grid.JobTimeout:
            text = f"its activation does not end: {activation()}"
            yield Finding("wrong", "environment", text, "Look at what that command does")
        except grid.JobFailed:
            yield attempt.failure("environment")
        else:
            yield from attempt.found("environment")


def trial(scheduler, timeout):
    """Whether a job gets through: submitted, begun, ended, its output seen; each with its time."""
    with Trial(scheduler) as attempt:
        attempt.submit(memory=asked_by_default("MEMORY", None), cuda=int(asked_by_default("CUDA", 0)))
        job, begin = attempt.job, time.monotonic()
        yield Finding("ok", "submitted", f"job {job.id} after {begin - attempt.begin:.1f} s")
        begun, asked = False, begin
        while True:
            ask = time.monotonic() - asked > 5
            asked = time.monotonic() if ask else asked
            state, _, reason, record = grid.look([job], ask)[0]
            after = f"after {time.monotonic() - begin:.1f} s"
            if record and not begun:
                begun = True
                yield Finding("ok", "began", f"{after} on {record.get('host')}")
            if "exit" in record:
                break
            if state in ("FAILED", "CANCELLED"):
                mend = "Whoever runs the site may know more: give them the job's id"
                yield Finding("wrong", "job", f"it is {state}: {grid.why(job, state) or reason}", mend)
                return
            if time.monotonic() - begin > timeout:
                waits = "" if begun else f": {grid.why(job, 'PENDING') or 'it waits'}"
                mend = "It was stopped. Give it longer (--timeout 3600), if the site is busy"
                yield Finding("wrong", "job", f"it has not {'ended' if begun else 'begun'} {after}{waits}", mend)
                return
            time.sleep(0.2)
        if record["exit"]:
            yield attempt.failure("ended")
            return
        yield Finding("ok", "ended", after)
        while not attempt.report() and time.monotonic() - begin < timeout and time.monotonic() - begin < 60:
            time.sleep(0.2)  # the file may be late on a network file system
        if attempt.report():
            yield Finding("ok", "output", f"seen after {time.monotonic() - begin:.1f} s")
        yield from attempt.found("packages")


class Trial:
    """A job that runs this file. With it all that it leaves goes away, but for one that went wrong on the grid."""

    def __init__(self, scheduler):
        self.scheduler, self.job = scheduler, None

    def __enter__(self):
        (PROJECT / ".grid").mkdir(exist_ok=True)
        self.logs = tempfile.mkdtemp(prefix="doctor-", dir=PROJECT / ".grid")
        return self

    def submit(self, **resources):
        self.begin = time.monotonic()
        how = {"log_dir": self.logs, "scheduler": self.scheduler, "name": "doctor"}
        self.job = grid.submit_script(__file__, [str(REQUIREMENTS)], activation(), **how, **resources)

    def __exit__(self, kind, error, traceback):
        job, exit_code, stopped = self.job, None, kind in (KeyboardInterrupt, GeneratorExit)
        if stopped and not job:  # while it was being submitted
            job = next((one for one in grid.jobs() if str(one.log_dir) == self.logs), None)
            if job:
                grid.look([job])  # finds its id, if the scheduler has it
        if job and job.ids:
            exit_code = grid.look([job], ask=False)[0].record.get("exit")
            for _ in range(2 if exit_code is None else 0):  # in the background the second time kills it
                try:
                    job.cancel()
                    print(f"stopped the doctor's job {job.id}", file=sys.stderr) if stopped else None
                except grid.GridError as trouble:
                    stopped = False
                    print(trouble, file=sys.stderr)
                if job.scheduler != "background":
                    break
                time.sleep(0.5)
        if not job or exit_code == 0 or stopped or job.scheduler == "background":
            for folder in (self.logs, job and job.folder):
                shutil.rmtree(folder or "", ignore_errors=True)
        try:
            (PROJECT / ".grid").rmdir()  # if it was made for this
        except OSError:
            pass

    def report(self):
        """What the job has told, a dict; None if nothing."""
        lines = [line for line in self.job.log().splitlines() if line.startswith(MARK)]
        return json.loads(lines[-1][len(MARK) :]) if lines else None

    def found(self, subject):
        """Whether the environment of the job that has ended had all packages."""
        report = self.report()
        if report is None:
            mend = f"Look at what this does: {activation()}"
            yield Finding("wrong", subject, f"no output of the job is to be seen in {self.job.stdout}", mend)
        elif report["problems"]:
            problems = ", ".join(report["problems"][:10]) + (", ..." if len(report["problems"]) > 10 else "")
            mend = "make -B env brings it up to date" if (PROJECT / "env").exists() else "Install that into it"
            yield Finding("wrong", subject, f"{report['python']} on {report['host']} lacks packages: {problems}", mend)
        else:
            text = f"Python {report['version']} on {report['host']} has the {report['packages']} packages"
            yield Finding("ok", subject, f"{text} of environment/requirements.txt")

    def failure(self, subject):
        """The Finding that the job has failed."""
        reason, record = grid.look([self.job], ask=False)[0][2:]
        words = "; ".join(line for line in self.job.log(2000).strip().splitlines()[-3:] if reason not in line)
        if "python" in record:  # which Python notes, once it runs
            mend = f"All of its log: {self.job.stdout}"
        elif (PROJECT / "environment" / "create.sh").exists():
            mend = f"make env makes the environment; ACTIVATE, in Makefile and {STARTER.name}, is: {activation()}"
        else:
            mend = f"Look at what this does: {activation()}"
        return Finding("wrong", subject, f"{reason}: {words}" if words else reason, mend)


def stuck_jobs():
    """Jobs that will never run as things are."""
    jobs, waiting, running, asked, bad = grid.jobs(), 0, 0, 0, 0
    for job, statuses in zip(jobs, grid.look_at_tasks(jobs)):
        words, mend = "", f"make stop JOB={job.id}, and submit it again when that is mended"
        pending = any(status.state == "PENDING" for status in statuses)
        if any(map(grid.in_error_state, statuses)):
            words = f"is in error state: {grid.why(job, 'FAILED') or 'the scheduler does not say why'}"
        elif pending and job.id and asked < 10:  # a question that costs the scheduler something
            asked += 1
            if reason := never(grid._engine(job.scheduler), job.id):
                words = f"waits for what the site can never give: {reason}"
                mend = f"make stop JOB={job.id}, and ask for what the site has (make grid ARGS=--help)"
        waiting, running = waiting + pending, running + any(status.state == "RUNNING" for status in statuses)
        if words:
            bad += 1
            yield Finding("wrong", "jobs", f"{job.id} {job.name} {words}", mend)
    if not bad:
        yield Finding("ok", "jobs", f"of this project's, {waiting} wait and {running} run; none is stuck")


def packages(requirements):
    """How many packages a requirements file names, and which of them this Python lacks or has in another version."""
    from importlib import metadata

    number, problems = 0, []
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.exists() else []
    for line in lines:
        # a name, perhaps [extras] and a pinned version; what has a marker or a URL is not judged
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)(?:\[.*?\])?\s*([=<>!~]=?[^;@]*)?", line.split(" #")[0].strip())
        if not match or line.startswith("#"):
            continue
        number += 1
        pin = re.fullmatch(r"==\s*([^,\s]+)", match[2] or "")
        try:
            installed = metadata.version(match[1])
        except metadata.PackageNotFoundError:
            problems.append(f"{match[1]} is missing")
            continue
        versions = {installed, installed.partition("+")[0]}
        if pin and not any(fnmatch(re.sub(r"(\.0)+$", "", one), re.sub(r"(\.0)+$", "", pin[1])) for one in versions):
            problems.append(f"{match[1]} is {installed} and not {pin[1]}")
    return number, problems


def main():
    """As a job: tell what is here."""
    import platform

    number, problems = packages(Path(sys.argv[1]))
    told = {"host": platform.node(), "python": sys.executable, "version": platform.python_version()}
    print(MARK + json.dumps(told | {"packages": number, "problems": problems}))


if __name__ == "__main__":
    main()
