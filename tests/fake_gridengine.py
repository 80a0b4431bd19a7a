"""One fake Grid Engine for all tests: qsub, qstat, qdel, qacct, qconf and qalter on the PATH of a Sandbox.

All that it knows is in its folder, so that tests, and several processes at once, see the same:

    jobs/101          the job with this number waits or runs; one that has ended has no file here
    numbers/101       this number has been given
    accounting/101    what qacct knows of it
    calls             a line for each call: the program and its words, written when it is at work
    max_aj_tasks      how many tasks an array may have; max_u_jobs: how many jobs a user may have
    crowd             how many jobs of this user it has beside these, without a file for each

Switches are files, SWITCH-PROGRAM or SWITCH-PROGRAM-OPTION, such as `down-qsub` and `hold-qstat-xml`:

    hold              wait as long as the file is there; it may hold the numbers of the first and the last call that wait.
                      qsub waits before it takes the job, qstat after it has read the queue
    refuse            say no, in the words that the file holds
    down              the master does not respond; the file may hold for how many calls
    hang              never end
    answer            print what the file holds, and do nothing

Jobs do not run by themselves: `gridengine run ID [INDEX]` runs a task as an execution host does.
"""

import json
import os
import sys
import time

FIRST, CROWD = 101, 1_000_000  # the first number that is given, and that of a crowd of jobs from elsewhere
HEAD = "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\n"
EMPTY = HEAD + "  <queue_info>\n  </queue_info>\n  <job_info>\n  </job_info>\n</job_info>\n"
LINE = "=" * 62 + "\n"
DOWN = "error: commlib error: got select error (Connection refused)"
FOLDER = ""  # of the programs that run now


# --- The programs, each a new process ---------------------------------------------------------------------------------


def main(folder, program, *words):
    """Be one of the programs."""
    global FOLDER
    FOLDER = folder
    if program == "qstat":
        option = "-" + words[0].lstrip("-")
        text, code = show_queue(words) if option == "-xml" else show_jobs(words)
        obey(program, option, words)
        return end(text, code)
    if program != "run":
        obey(program, "", words)
    return {"qsub": submit, "qdel": delete, "qacct": account, "qconf": configuration, "qalter": verify, "run": run}[
        program
    ](*words)


def end(text="", code=0):
    """Print a text, an error where the code says so, and end."""
    (sys.stderr if code else sys.stdout).write(text)
    sys.exit(code)


def read(name, otherwise=""):
    try:
        with open(f"{FOLDER}/{name}", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return otherwise


def write(name, text):
    """Nobody sees half of a file."""
    new = f"{FOLDER}/{name.replace('/', '-')}.{os.getpid()}.new"
    with open(new, "w", errors="surrogateescape") as file:
        file.write(text)
    os.replace(new, f"{FOLDER}/{name}")


def obey(program, option, words):
    """Do what the switches say."""
    with open(f"{FOLDER}/calls", "a") as file:
        file.write(json.dumps([program, *words]) + "\n")
    number = sum(json.loads(line)[0] == program for line in read("calls").splitlines())
    here = [f"-{program}", f"-{program}{option}"] if option else [f"-{program}"]
    for each in here:
        while os.path.exists(f"{FOLDER}/hold{each}"):
            first, last = (read(f"hold{each}").split() + [1, 10**9])[:2] if read(f"hold{each}") else (1, 10**9)
            if not int(first) <= number <= int(last):
                break
            time.sleep(0.01)
        while os.path.exists(f"{FOLDER}/hang{each}"):
            time.sleep(0.05)
        if os.path.exists(f"{FOLDER}/answer{each}"):
            with open(f"{FOLDER}/answer{each}", "rb") as file:
                sys.stdout.buffer.write(file.read())
            end()
        if os.path.exists(f"{FOLDER}/refuse{each}"):
            end(read(f"refuse{each}"), 1)
        if os.path.exists(f"{FOLDER}/down{each}"):
            calls = read(f"down{each}")
            if not calls or number <= int(calls):
                end(DOWN + "\n", 1)


def jobs():
    """All jobs that wait or run, by number."""
    numbers = sorted(os.listdir(f"{FOLDER}/jobs"), key=int) + [str(CROWD + n) for n in range(int(read("crowd", "0")))]
    return [job for number in numbers if (job := find_job(number))]


def find_job(number):
    """A job by its number; None if there is none."""
    if text := read(f"jobs/{number}"):
        return json.loads(text)
    many = number.isdecimal() and CROWD <= int(number) < CROWD + int(read("crowd", "0"))
    return new_job(int(number), "worker", f"/elsewhere/{number}/job.sh", owner="crowd") if many else None


def new_job(number, name, script, tasks=0, state="qw", owner=None, words=()):
    """A job as its file holds it; rows: what is in the queue, a state and the tasks that are in it."""
    import pwd

    owner = owner or pwd.getpwuid(os.getuid()).pw_name
    rows = [[state, f"1-{tasks}:1" if tasks else ""]]
    return {"number": number, "name": name, "owner": owner, "script": script, "rows": rows, "words": list(words)}


def submit(*words):
    options = dict(zip(words, words[1:]))
    tasks = int(options.get("-t", "1-0").partition("-")[2])
    most = int(read("max_aj_tasks", "75000"))
    if tasks > most:
        end(f'Unable to run job: job rejected: the requested array has more than "{most}" tasks.\nExiting.\n', 1)
    if len(jobs()) >= int(read("max_u_jobs", "1000000")):
        end(f"Unable to run job: job rejected: only {read('max_u_jobs')} jobs are allowed per user.\nExiting.\n", 25)
    number = FIRST + len(os.listdir(f"{FOLDER}/numbers"))
    while True:
        try:
            os.close(os.open(f"{FOLDER}/numbers/{number}", os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            number += 1
    write(f"jobs/{number}", json.dumps(new_job(number, options["-N"], words[-1], tasks, words=words)))
    end(f"{number}.1-{tasks}:1\n" if tasks else f"{number}\n")


def show_queue(words):
    from xml.sax.saxutils import escape

    user, parts = words[words.index("-u") + 1] if "-u" in words else "*", {"running": [], "pending": []}
    for job in jobs():
        if user not in ("*", job["owner"]) and job["owner"] != "crowd":
            continue
        for state, tasks in job["rows"]:
            where = "pending" if "q" in state else "running"
            begin, time = ("JB_submission_time", "10:00:00") if where == "pending" else ("JAT_start_time", "11:00:00")
            fields = {"JB_job_number": job["number"], "JAT_prio": "0.55500", "JB_name": job["name"]}
            fields |= {"JB_owner": job["owner"], "state": state, begin: f"2026-11-23T{time}"}
            fields |= {"queue_name": "" if where == "pending" else "all.q@node1", "slots": 1}
            fields |= {"tasks": tasks} if tasks else {}
            text = "".join(f"      <{key}>{escape(str(value))}</{key}>\n" for key, value in fields.items())
            parts[where].append(f'    <job_list state="{where}">\n{text}    </job_list>\n')
    running, pending = ("".join(parts[where]) for where in ("running", "pending"))
    return f"{HEAD}  <queue_info>\n{running}  </queue_info>\n  <job_info>\n{pending}  </job_info>\n</job_info>\n", 0


def show_jobs(words):
    asked = words[1].split(",")
    found = [job for number in asked if (job := find_job(number))]
    if not found:  # those that are there are shown, whatever is said of the others
        return f"Following jobs do not exist: \n{', '.join(asked)}\n", 1
    text = ""
    for job in found:
        facts = {"job_number": job["number"], "exec_file": f"job_scripts/{job['number']}", "owner": job["owner"]}
        facts |= {"job_name": job["name"], "jobshare": 0, "script_file": job["script"], "binding": "NONE"}
        text += LINE + "".join(f"{key + ':':28}{value}\n" for key, value in facts.items())
    return text + "scheduling info:            (Collecting of scheduler job information is turned off)\n", 0


def delete(*numbers):
    text, code = "", 0
    for number in numbers:
        try:
            os.remove(f"{FOLDER}/jobs/{number.partition('.')[0]}")
            text += f"user has deleted job {number}\n"
        except FileNotFoundError:
            text, code = text + f'denied: job "{number}" does not exist\n', 1
    sys.stdout.write(text)  # errors too
    sys.exit(code)


def account(_, number):
    if not (text := read(f"accounting/{number}")):
        end(f"error: job id {number} not found\n", 1)
    for facts in json.loads(text):
        sys.stdout.write(LINE + "".join(f"{key:13}{value}\n" for key, value in facts.items()))


def configuration(*_):
    end(f"#global:\nmax_aj_instances             2000\nmax_aj_tasks                 {read('max_aj_tasks', '75000')}\n")


def verify(*_):
    end("verification: found suitable queue(s)\n")


def run(number, index="undefined"):
    """Run a task to its end, as an execution host does."""
    import subprocess

    job = json.loads(read(f"jobs/{number}"))
    environ = os.environ | {"JOB_ID": number, "SGE_TASK_ID": index}
    null = subprocess.DEVNULL
    code = subprocess.run(
        ["bash", job["script"]], env=environ, cwd="/", stdin=null, stdout=null, stderr=null
    ).returncode
    add_account(number, job, index, 0, code)
    os.remove(f"{FOLDER}/jobs/{number}")


def add_account(number, job, index, failed, code):
    facts = {"owner": job["owner"], "jobname": job["name"], "jobnumber": number, "taskid": index}
    known = json.loads(read(f"accounting/{number}", "[]"))
    write(f"accounting/{number}", json.dumps([*known, facts | {"failed": failed, "exit_status": code}]))


# --- What tests hold --------------------------------------------------------------------------------------------------


class FakeGridEngine:
    """A fake Grid Engine on the PATH of a Sandbox."""

    def __init__(self, sandbox):
        global FOLDER
        self.sandbox, self.folder = sandbox, sandbox.path / "gridengine"
        FOLDER = str(self.folder)
        for name in ("jobs", "numbers", "accounting", "default/common"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "default/common/cluster_name").write_text("fake\n")
        import shlex

        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); import fake_gridengine; fake_gridengine.main(*sys.argv[2:])"
        )
        words = [sys.executable, "-SE", "-c", code, os.path.dirname(os.path.abspath(__file__)), FOLDER]
        for name in ("qsub", "qstat", "qdel", "qacct", "qconf", "qalter"):
            sandbox.program(name, f'exec {shlex.join([*words, name])} "$@"')
        sandbox.program("gridengine", f'exec {shlex.join(words)} "$@"')  # all of them, for programs that wrap one

    def close(self):
        """End the programs that still wait."""
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)

    # switches

    def switch(self, name, program, content=""):
        data = content if isinstance(content, bytes) else str(content).encode(errors="surrogateescape")
        (self.folder / f"{name}-{program}.new").write_bytes(data)
        os.replace(self.folder / f"{name}-{program}.new", self.folder / f"{name}-{program}")

    def hold(self, program, first=1, last=10**9):
        """Its calls wait, from this one to that one."""
        self.switch("hold", program, f"{first} {last}")

    def release(self, program):
        (self.folder / f"hold-{program}").unlink()

    def refuse(self, program, words=""):
        self.switch("refuse", program, words)

    def down(self, program, calls=""):
        self.switch("down", program, calls)

    def hang(self, program):
        self.switch("hang", program)

    def answer(self, program, content):
        self.switch("answer", program, content)

    def recover(self, program):
        """It does again what it is for."""
        for name in ("hold", "refuse", "down", "hang", "answer"):
            for path in self.folder.glob(f"{name}-{program}*"):
                path.unlink()

    def limit(self, name, number):
        write(name, str(number))

    # what it was told

    def calls(self, program):
        """The words of each call of a program, or of a program with an option, as in "qstat -j"."""
        begin, option = (program.split() + [""])[:2]
        found = [json.loads(line) for line in read("calls").splitlines()]
        return [words for name, *words in found if name == begin and (not option or words[0] == option)]

    def wait_for_call(self, program, number=1):
        """Wait until a call is at work."""
        from sandbox import until

        until(lambda: len(self.calls(program)) >= number, f"{program} was called {number} times")

    # what it has

    def queue(self):
        """The numbers of its jobs."""
        return sorted(os.listdir(self.folder / "jobs"), key=int)

    def add(self, number, name="worker", script="/elsewhere/job.sh", state="r", **more):
        """A job that comes from elsewhere."""
        write(f"jobs/{number}", json.dumps(new_job(int(number), name, script, state=state, **more)))

    def set_rows(self, number, *rows):
        """What the queue shows of a job: ("r", "1"), ("qw", "2-4:1")."""
        job = json.loads(read(f"jobs/{number}"))
        write(f"jobs/{number}", json.dumps(job | {"rows": rows}))

    def forget(self, *numbers):
        """Lose jobs without a trace; without numbers all."""
        for number in numbers or self.queue():
            (self.folder / "jobs" / number).unlink()

    def account(self, number, index="undefined", failed=0, exit_status=0, name="worker", owner=None):
        """Let qacct know how a task has ended."""
        add_account(number, new_job(number, name, "", owner=owner), index, failed, exit_status)

    def run(self, *words):
        """Run a task of a job to its end: its number, and its index in an array."""
        import subprocess

        subprocess.run(["gridengine", "run", *map(str, words)], check=True)
