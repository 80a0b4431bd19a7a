"""What the real schedulers of this host tell, and what they grant: defaults of the questions, doctor, memory."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from baking import Project, without_schedulers
from sandbox import Sandbox, room
from until import until

GRID_ENGINE = "qsub qconf qhost qstat qalter qdel qacct"
SLURM = "sbatch sinfo squeue scontrol scancel"
READY = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"  # the Python of the tests, for an environment


def qconf(*words):
    done = subprocess.run(["qconf", *words], env=os.environ | {"SGE_SINGLE_LINE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"qconf {words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def complexes(tmp_path):
    """complexes({"t_mem": "MEMORY <= YES JOB 0 0"}, "t_mem=20G") adds to the site; afterwards all is as it was."""
    added, given, before = [], [], {}

    def put(rows):
        """Change lines of the table: those of others stay as they are now."""
        table = [line for line in qconf("-sc").splitlines() if line.split()[0] not in rows]
        file = tmp_path / "complexes"
        file.write_text("\n".join([*table, *filter(None, rows.values())]) + "\n")
        qconf("-Mc", str(file))

    def add(new, values=""):
        for line in qconf("-sc").splitlines():
            if line.split()[0] in new:
                before[line.split()[0]] = line
        added.extend(new)
        put({name: f"{name} {name} {rest}" for name, rest in new.items()})
        for value in filter(None, values.split(",")):
            qconf("-aattr", "exechost", "complex_values", value, "localhost")
            given.append(value.partition("=")[0])

    yield add
    for name in given:
        qconf("-dattr", "exechost", "complex_values", name, "localhost")
    if added:
        put({name: before.get(name, "") for name in added})


@pytest.fixture
def on_path(tmp_path, environ):
    """on_path(GRID_ENGINE) is a PATH on which no other scheduler's programs are than these."""

    def make(programs):
        folder = tmp_path / ("bin" + programs.replace(" ", ""))
        folder.mkdir()
        for name in programs.split():
            (folder / name).symlink_to(shutil.which(name))
        return f"{folder}{os.pathsep}{without_schedulers(environ)}"

    return make


def grid_engine_site():
    """What gridlib/site.py finds out about this host's Grid Engine."""
    return room("site").query_site(room("schedulers").scheduler("gridengine"))


def table(project):
    return tomllib.loads(project.read("pyproject.toml"))["tool"]["grid"]


def names(project):
    return [table(project)["gridengine"][key] for key in ("memory", "memory_per", "cuda", "cuda_per")]


# --- the questions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("programs", [GRID_ENGINE, f"{GRID_ENGINE} {SLURM}", SLURM, ""])
def test_questions_have_the_defaults_of_what_is_here(bake, on_path, programs):
    project = bake(typed=True, variables={"PATH": on_path(programs)})
    asked = " ".join(project.output.split())
    usual = ["h_vmem", "slot", "cuda", "job"]
    assert names(project) == (["mem", "slot", "cuda", "slot"] if "qsub" in programs else usual)
    assert ("(mem is consumable here, per slot: qconf -sc" in asked) == ("qsub" in programs)
    assert ("found here: all.q" in asked) == ("qsub" in programs)
    assert bool(re.search("Slurm's partition .found here: .*short", asked)) == ("sinfo" in programs)
    assert ("(gpu is found here: sinfo" in asked) == ("sinfo" in programs)
    assert ("auto uses Grid Engine" in asked) == (programs == f"{GRID_ENGINE} {SLURM}")
    assert ("none detected" in asked) == (not programs)


@pytest.mark.parametrize("consumable, per", [("YES", "slot"), ("JOB", "job")])
def test_a_consumable_h_vmem_comes_first(bake, on_path, complexes, consumable, per):
    complexes({"h_vmem": f"MEMORY <= YES {consumable} 0 0"}, "h_vmem=20G")
    assert names(bake(variables={"PATH": on_path(GRID_ENGINE)}))[:2] == ["h_vmem", per]


def test_others_are_known_too_but_not_those_that_no_host_gives(complexes, tmp_path, monkeypatch):
    kinds = {"lab_mem": "MEMORY <= YES JOB 0 0", "lost_mem": "MEMORY <= YES YES 0 0", "gpus": "INT <= YES JOB 0 0"}
    complexes(kinds, "lab_mem=20G,gpus=2")
    Sandbox(tmp_path, monkeypatch, "gridengine")
    site = grid_engine_site()
    assert site.memory[:2] == ["mem", "lab_mem"] and "lost_mem" not in site.memory
    assert site.cuda == ["cuda", "gpus"]
    assert [site.per[name] for name in ("mem", "lab_mem", "lost_mem", "gpus")] == ["slot", "job", "slot", "job"]
    assert site.version.startswith("SGE 8") and site.parallel_environments["smp"] == "$pe_slots"


def test_a_qconf_that_hangs(bake, on_path, tmp_path):
    path = on_path(GRID_ENGINE)
    qconf = Path(path.split(os.pathsep)[0], "qconf")
    qconf.unlink()
    qconf.write_text("#!/bin/bash\ntrap '' TERM\nsleep 300 & wait\n")
    qconf.chmod(0o755)
    project = bake(typed=True, variables={"PATH": path})
    assert names(project)[0] == "h_vmem"
    assert "Grid Engine did not respond in time" in " ".join(project.output.split())


# --- doctor -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def doctor(bake, on_path):
    """doctor(...) runs it in a project that was made on this host, with its real Grid Engine."""
    path = on_path(GRID_ENGINE)
    made = bake(variables={"PATH": path})
    for name in ("requirements.in", "requirements.txt"):
        (made.path / "environment" / name).write_text("pytest\n")
    (made.path / "my_script_local.py").write_text("from grid import typecast\n")
    project = Project(made.path, made.environ | {"GRID_ACTIVATE": READY}, "")

    def run(*words, **variables):
        done = project.run(sys.executable, "grid.py", "doctor", *words, check=False, **variables)
        assert "Traceback" not in done.stdout + done.stderr
        rows = [line.split(None, 2) for line in done.stdout.splitlines() if re.match("ok |warning |error ", line)]
        assert done.returncode == any(row[0] == "error" for row in rows), done.stdout + done.stderr
        return {subject: f"{level} {text}" for level, subject, text in rows}

    run.project = project
    yield run
    project.run(sys.executable, "grid.py", "stop", "all", check=False)


def errors(found):
    return {subject: text for subject, text in found.items() if text.startswith("error")}


def test_doctor_finds_nothing_wrong_on_either_engine_and_runs_a_job(doctor, on_path):
    for variables in ({}, {"PATH": on_path(SLURM)}):
        found = doctor("--submit", **variables)
        assert {text.split()[0] for text in found.values()} == {"ok"}, found
        assert {"submitted", "started", "ended", "output", "packages"} <= set(found)
        assert not (doctor.project.path / ".grid").exists(), "it cleans up"


def test_doctor_sees_that_a_daemon_is_down(doctor, on_path, tmp_path):
    found = errors(doctor(SGE_QMASTER_PORT="1"))
    assert set(found) == {"daemon"} and "commlib error" in found["daemon"]
    text = Path("/etc/slurm/slurm.conf").read_text()
    conf = tmp_path / "slurm.conf"
    conf.write_text(re.sub("^SlurmctldPort.*", "", text, flags=re.MULTILINE) + "\nSlurmctldPort=1\n")
    found = errors(doctor(PATH=on_path(SLURM), SLURM_CONF=str(conf)))
    assert set(found) == {"daemon"} and "Unable to contact slurm controller" in found["daemon"]


def test_doctor_finds_names_that_the_site_does_not_have(doctor):
    pyproject = doctor.project.path / "pyproject.toml"
    text = pyproject.read_text()
    for old, new in (('"mem"', '"ram"'), ('"smp"', '"mpi"'), ('# queue = "all.q"', 'queue = "no.q"')):
        assert old in text
        text = text.replace(old, new)
    pyproject.write_text(text)
    found = errors(doctor())
    assert set(found) == {"memory", "cores", "queue"}
    assert 'memory = "mem" and memory_per = "slot"' in found["memory"] and '"smp"' in found["cores"]


def submit(doctor, **keywords):
    code = f"import grid; print(grid.submit_script('my_script_local.py', log_dir='logs', **{keywords!r}).id)"
    return doctor.project.run(sys.executable, "-c", code).stdout.strip()


def test_doctor_finds_jobs_that_are_stuck(doctor):
    error = submit(doctor, options=["-wd", "/no/such/folder"])
    never = submit(doctor, memory="900G")
    until(lambda: "Eqw" in subprocess.run(["qstat"], capture_output=True, text=True).stdout, "it is in error state")
    done = doctor.project.run(sys.executable, "grid.py", "doctor", check=False).stdout
    name = "my_script_local"
    assert re.search(rf"error    jobs +{error} {name} is in error state: .*can't chdir to /no/such/folder", done), done
    assert re.search(rf"error    jobs +{never} {name} requests more than this site has: .*mem=20.000G", done), done


def test_doctor_finds_jobs_of_slurm_that_are_stuck(doctor, on_path):
    doctor.project.environ["PATH"] = on_path(SLURM)
    never = submit(doctor, cores=500)
    ask = ["squeue", "--noheader", "--job", never, "--format", "%r"]
    until(lambda: "PartitionConfig" in subprocess.run(ask, capture_output=True, text=True).stdout, "Slurm has seen it")
    found = errors(doctor())
    assert set(found) == {"jobs"}
    expected = f"error {never} my_script_local requests more than this site has: PartitionConfig"
    assert found["jobs"].startswith(expected)


def test_doctor_stopped_by_sigterm_takes_its_job_along(doctor, on_path):
    """Of each engine: a job that waits for ever, because no environment is activated in time."""

    def has_left(number, environ):
        return number not in doctor.project.run(sys.executable, "-c", "import grid; grid.qstat()", **environ).stdout

    for path in (None, on_path(SLURM)):
        environ = doctor.project.environ | {"GRID_ACTIVATE": f'[ -n "$JOB_ID$SLURM_JOB_ID" ] && sleep 300; {READY}'}
        environ |= {"PATH": path} if path else {}
        command = [sys.executable, "grid.py", "doctor", "--submit"]
        how = dict(cwd=doctor.project.path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen(command, **how)
        line = next(line for line in process.stdout if " submitted " in line)
        number = re.search(r"job ([0-9]+) after", line)[1]
        process.terminate()
        assert process.wait(60) == 130
        assert f"stopped the doctor's job {number}" in process.stderr.read()
        until(partial(has_left, number, environ), "it has left the queue")
        assert not list((doctor.project.path / ".grid").glob("*")), "it leaves nothing"


def test_doctor_tells_what_is_missing_in_the_environment(doctor):
    assert "cannot activate" in errors(doctor(GRID_ACTIVATE="source environment/activate.sh"))["environment"]
    (doctor.project.path / "environment" / "requirements.txt").write_text("pytest\nno-such-package==1\n")
    found = errors(doctor("--submit"))
    assert set(found) == {"environment", "packages"}, "here and on the node"
    assert all("no-such-package is missing" in text for text in found.values())


def test_a_project_that_moves_to_slurm_runs_after_the_doctors_advice(doctor, on_path):
    pyproject = doctor.project.path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('# scheduler = "gridengine"', 'scheduler = "gridengine"'))
    path = on_path(SLURM)
    found = errors(doctor(PATH=path))
    assert set(found) == {"scheduler"} and "GRID_SCHEDULER=slurm" in found["scheduler"]
    assert errors(doctor("--submit", PATH=path, GRID_SCHEDULER="slurm")) == {}


# --- memory: what is asked for is what is granted ---------------------------------------------------------------------

SIZES = ["512K", "1M", "3M", "0.5G", ".5G", "1.5G", "2GB", "2GiB", "2g", "1000000K", "1T", "0.001T", "10240.5M"]
UNITS = {unit: 1024**power for power, unit in enumerate("KMGT", 1)}


def size(text):
    """A size as schedulers and users write it, in bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)([KMGT]?)(?:i?B)?", text, re.IGNORECASE).groups()
    return Fraction(number) * UNITS.get(unit.upper(), 1)


@pytest.fixture
def site(tmp_path, monkeypatch, complexes):
    """A Sandbox at a Grid Engine with three kinds of resources for memory."""
    kinds = {"t_slot": "YES", "t_job": "JOB", "t_host": "NO"}
    complexes(
        {name: f"MEMORY <= YES {kind} 0 0" for name, kind in kinds.items()}, ",".join(f"{name}=4T" for name in kinds)
    )
    sandbox = Sandbox(tmp_path, monkeypatch, "gridengine")
    yield sandbox
    sandbox.grid.qdel(sandbox.grid.jobs())


def choose(sandbox, resource):
    """Write what the site itself says of a resource into [tool.grid]."""
    per = grid_engine_site().per[resource]
    text = f'[tool.grid.gridengine]\nmemory = "{resource}"\nmemory_per = "{per}"\nparallel_environment = "smp"\n'
    sandbox.write("pyproject.toml", text)
    return per


def test_grid_engine_is_asked_for_the_total_whatever_the_resource_counts_by(site):
    site.write("worker.py", "")
    seen = set()
    for resource in ("t_slot", "t_job", "t_host"):
        per = choose(site, resource)
        seen.add((resource, per))
        for cores in (1, 3):
            for text in SIZES:
                job = site.submit(memory=text, cores=cores, options=["-h"], name="m")
                answer = subprocess.run(["qstat", "-j", job.id], capture_output=True, text=True).stdout
                asked = size(re.search(rf"hard resource_list: .*{resource}=([^,\s]+)", answer)[1])
                slots = int((re.search(r"parallel environment: +smp range: ([0-9]+)", answer) or [0, 1])[1])
                assert slots == cores
                total = asked * (cores if per == "slot" else 1)
                assert size(text) <= total < size(text) + cores * 1024, f"{text} of {resource} for {cores}: {answer}"
    assert seen == {("t_slot", "slot"), ("t_job", "job"), ("t_host", "job")}


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("resource", ["t_slot", "t_job"])
def test_grid_engine_grants_the_total(site, resource, cores):
    choose(site, resource)
    site.write("worker.py", "import os, time\nwhile not os.path.exists('end'): time.sleep(0.1)\n")
    job = site.submit(memory="1.5T", cores=cores)

    def left():
        answer = subprocess.run(["qhost", "-F", resource], capture_output=True, text=True).stdout
        return size(re.search(rf"hc:{resource}=(\S+)", answer)[1])

    until(lambda: job.state == "RUNNING" and left() < 4 * UNITS["T"], "it runs and has its memory")
    assert float(left() / UNITS["T"]) == pytest.approx(2.5, abs=0.002)  # qhost rounds
    site.write("end", "")
    site.end(job)
    category = []

    def accounted():
        answer = subprocess.run(["qacct", "-j", job.id], capture_output=True, text=True).stdout
        category[:] = re.findall(rf"^category .*{resource}=(\S+)", answer, re.MULTILINE)
        return category

    until(accounted, "its accounting tells the category")
    per_slot = resource == "t_slot"
    assert size(category[0].split(",")[0]) == size("1.5T") / (cores if per_slot else 1)


def test_slurm_grants_the_total(tmp_path, monkeypatch):
    sandbox = Sandbox(tmp_path, monkeypatch, "slurm")
    sandbox.write("worker.py", "")
    for cores in (1, 3):
        for text in SIZES:
            if size(text) > 20 * UNITS["G"]:  # more than the node has
                continue
            job = sandbox.submit(memory=text, cores=cores, options=["--hold"])
            answer = subprocess.run(["scontrol", "show", "job", job.id], capture_output=True, text=True).stdout
            subprocess.run(["scancel", job.id], check=True)
            for found in (r"MinMemoryNode=(\S+)", r"TRES=\S*mem=([^,\s]+)"):
                granted = size(re.search(found, answer)[1])
                assert size(text) <= granted < size(text) + UNITS["M"], f"{text} for {cores} cores: {answer}"
            assert f"NumCPUs={cores} " in answer
