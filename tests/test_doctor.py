"""`python grid.py doctor` finds what would keep a job from running, and says how to fix it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sites
from baking import Project, without_schedulers
from sandbox import Sandbox, room
from sites import Site
from test_defaults import CUDA, MEM
from until import until

# the Python that runs the tests, in place of an environment
READY = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
BACKGROUND = {"GRID_SCHEDULER": "background"}
TABLES = {
    "gridengine": {
        "memory": "mem",
        "memory_per": "slot",
        "cuda": "cuda",
        "cuda_per": "slot",
        "parallel_environment": "smp",
    },
    "slurm": {"cuda": "gpu"},
}


def by_subject(findings):
    """Findings, (level, subject, text), as a dict from the subject to "level text"."""
    found = {}
    for level, subject, text in findings:
        found[subject] = f"{found[subject]}\n" if subject in found else ""
        found[subject] += f"{level} {text}"
    return found


def errors(found):
    """The subjects with errors, and what is said of them."""
    return {subject: text for subject, text in found.items() if "error " in text}


def levels(found):
    return {text.split()[0] for text in found.values()}


class DoctorProject(Project):
    """A baked project and the site where it is."""

    def __init__(self, project, site):
        super().__init__(project.path, project.environ | {"PATH": site.path, "GRID_ACTIVATE": READY}, "")
        self.site = site
        (self.path / "environment" / "requirements.txt").write_text("# none\npytest\n")
        (self.path / "environment" / "requirements.in").write_text("# none\npytest\n")
        (self.path / "my_script_local.py").write_text("from grid import typecast\n")

    def doctor(self, *words, **variables):
        """What it finds, by subject; the exit code must agree."""
        done = self.run(sys.executable, "grid.py", "doctor", *words, check=False, **variables)
        assert "Traceback" not in done.stdout + done.stderr and "itself failed" not in done.stdout, done
        rows = [line.split(None, 2) for line in done.stdout.splitlines() if re.match("ok |warning |error ", line)]
        number = {level: sum(row[0] == level for row in rows) for level in ("error", "warning")}
        total = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in number.items())
        assert done.stdout.splitlines()[-1] == (total if any(number.values()) else "no problems found")
        assert done.returncode == bool(number["error"]), done
        return by_subject(rows)

    def start(self, *words, **variables):
        """Start it, and return the process."""
        command = [sys.executable, "grid.py", "doctor", *words]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return subprocess.Popen(command, cwd=self.path, env=self.environ | variables, **pipes)

    def running(self):
        """The processes of this project's jobs."""
        processes = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
        return [line for line in processes.splitlines() if f"{self.path}/.grid/" in line]


class DoctorSandbox(Sandbox):
    """A Sandbox with a starter and a worker at a site: the checks are called in this process, one by one."""

    def __init__(self, tmp_path, monkeypatch, environ, scheduler):
        super().__init__(tmp_path, monkeypatch, scheduler)
        self.monkeypatch, self.scheduler = monkeypatch, scheduler
        self.site = Site(tmp_path / "site", without_schedulers(environ))
        monkeypatch.setenv("PATH", self.site.path)
        monkeypatch.setenv("GRID_ACTIVATE", READY)
        self.write("my_script.py", 'MEMORY = "2G"\nCUDA = 0\n')
        self.write("my_script_local.py", "from grid import typecast\n")
        self.write("worker.py", "")
        self.write("environment/requirements.txt", "# none\npytest\n")

    def check(self, name, *args):
        """What a check of the doctor's finds, by subject."""
        findings = getattr(room("doctor"), name)(*args)
        return by_subject((level, subject, f"{text}. {fix}" if fix else text) for level, subject, text, fix in findings)

    def check_scheduler(self, **variables):
        """The same of the check which scheduler is used."""
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)
        return self.check("catch_errors", "scheduler", room("doctor").check_scheduler())["scheduler"]

    def check_names(self, **changes):
        """The same of the names in [tool.grid], with changes of them; None takes one away."""
        table = {key: value for key, value in (TABLES[self.scheduler] | changes).items() if value}
        engine = room("schedulers").SCHEDULERS[self.scheduler]({self.scheduler: table})
        return self.check("check_site", engine)

    def submitted(self, number="77"):
        """A job that the fake scheduler takes."""
        self.site.program("qsub" if self.scheduler == "gridengine" else "sbatch", f"echo {number}")
        return self.submit()


@pytest.fixture
def gridengine(tmp_path, monkeypatch, environ):
    """A DoctorSandbox at a site with a Grid Engine."""
    sandbox = DoctorSandbox(tmp_path, monkeypatch, environ, "gridengine")
    environments = {"smp": "$pe_slots", "mpi": "$round_robin"}
    sandbox.site.grid_engine(MEM, CUDA, given=["hc:mem=20G", "hc:cuda=2"], environments=environments)
    return sandbox


@pytest.fixture
def slurm(tmp_path, monkeypatch, environ):
    """A DoctorSandbox at a site with a Slurm."""
    sandbox = DoctorSandbox(tmp_path, monkeypatch, environ, "slurm")
    sandbox.site.slurm("short|gpu:a100:2(S:0,1)", "long|(null)")
    return sandbox


@pytest.fixture
def project(bake, tmp_path, environ):
    """A project that was made at a site with a Grid Engine, in which nothing is wrong."""
    site = Site(tmp_path / "site", without_schedulers(environ))
    site.grid_engine(MEM, CUDA, given=["hc:mem=20G", "hc:cuda=2"])
    return DoctorProject(bake(variables={"PATH": site.path}), site)


@pytest.fixture
def slurm_project(bake, tmp_path, environ):
    """The same at a site with a Slurm."""
    site = Site(tmp_path / "slurm", without_schedulers(environ)).slurm("short|gpu:a100:2(S:0,1)", "long|(null)")
    return DoctorProject(bake(variables={"PATH": site.path}), site)


# --- The whole of it --------------------------------------------------------------------------------------------------


def test_a_project_that_is_well_is_said_to_be(project, slurm_project):
    for one in (project, slurm_project):
        found = one.doctor()
        assert levels(found) == {"ok"}, found
        assert {"scheduler", "folders", "daemon", "cuda", "environment", "jobs"} <= set(found)
        assert not (one.path / ".grid").exists(), "it leaves nothing"


def test_each_problem_is_counted_and_touches_nothing_else(project):
    text = project.read("pyproject.toml")
    (project.path / "pyproject.toml").write_text(text.replace('"mem"', '"ram"').replace('"cuda"', '"gpus"'))
    found = project.doctor()
    assert found.pop("memory").startswith("error") and found.pop("cuda").startswith("warning")
    assert levels(found) == {"ok"}


def test_in_the_background_no_scheduler_is_asked(project):
    project.site.program("qstat", "exit 1")
    found = project.doctor(**BACKGROUND)
    assert "daemon" not in found and found["scheduler"].startswith("ok")


def test_without_a_scheduler_the_environment_is_checked_all_the_same(project, environ):
    found = project.doctor(PATH=without_schedulers(environ))
    assert set(errors(found)) == {"scheduler"} and found["environment"].startswith("ok")


def test_a_project_that_moved_to_a_site_with_the_other_scheduler(project, tmp_path, environ):
    other = Site(tmp_path / "other", without_schedulers(environ)).slurm()
    assert errors(project.doctor(PATH=other.path)) == {}, "auto takes what is there"
    text = project.read("pyproject.toml").replace('# scheduler = "gridengine"', 'scheduler = "gridengine"')
    (project.path / "pyproject.toml").write_text(text)
    found = errors(project.doctor(PATH=other.path))
    assert set(found) == {"scheduler"}
    for advice in ("make grid GRID_SCHEDULER=slurm", "remove that line"):
        assert advice in found["scheduler"]
    assert errors(project.doctor(PATH=other.path, GRID_SCHEDULER="slurm")) == {}, "as advised"


def test_colour_is_for_terminals(project, environ):
    def seen(**variables):
        ours, its = os.openpty()
        command = [sys.executable, "grid.py", "doctor"]
        variables = project.environ | BACKGROUND | variables
        process = subprocess.Popen(command, cwd=project.path, env=variables, stdout=its)
        os.close(its)
        text = b""
        try:
            while chunk := os.read(ours, 10000):
                text += chunk
        except OSError:  # it has ended
            pass
        assert process.wait() == 0
        return text.decode()

    assert "\033[32mok\033[0m" in seen()
    assert "\033" not in seen(NO_COLOR="1")
    assert "\033" not in project.run(sys.executable, "grid.py", "doctor", **BACKGROUND).stdout


def test_make_doctor_needs_no_environment_and_tries_the_makefiles_activation(project):
    del project.environ["GRID_ACTIVATE"]
    path = f"{Path(sys.executable).parent}:{project.site.path}"
    done = project.run("make", "doctor", check=False, PATH=path)
    assert done.returncode and "error    environment" in done.stdout
    assert "source environment/activate.sh" in done.stdout
    assert project.run("make", "doctor", f"ACTIVATE={READY} # it's", PATH=path).returncode == 0


def test_a_check_that_fails_itself_is_an_error_and_the_others_follow(gridengine, monkeypatch):
    def fail(engine):
        raise KeyError("nonsense")
        yield

    monkeypatch.setattr(room("doctor"), "check_daemon", fail)
    found = gridengine.check("run_checks", False, 1)
    assert "this check itself failed: KeyError('nonsense')" in found["daemon"]
    assert set(errors(found)) == {"daemon"} and "environment" in found


# --- The scheduler ----------------------------------------------------------------------------------------------------


def test_no_scheduler(gridengine, environ, monkeypatch):
    monkeypatch.delenv("GRID_SCHEDULER")
    text = gridengine.check_scheduler(PATH=without_schedulers(environ))
    assert text.startswith("error") and "make local" in text and "GRID_SCHEDULER=background" in text


def test_a_qsub_of_another_scheduler_is_none(gridengine, monkeypatch):
    monkeypatch.delenv("GRID_SCHEDULER")
    (gridengine.site.folder / "qconf").unlink()
    assert "another scheduler's" in gridengine.check_scheduler()


def test_both_schedulers(gridengine, monkeypatch, capfd):
    monkeypatch.delenv("GRID_SCHEDULER")
    gridengine.site.slurm()
    text = gridengine.check_scheduler()
    assert text.startswith("warning") and "using Grid Engine" in text
    assert capfd.readouterr().err == "", "it is said once"
    gridengine.write("pyproject.toml", '[tool.grid]\nscheduler = "slurm"\n')
    assert gridengine.check_scheduler() == "ok Slurm, as [tool.grid] in pyproject.toml says"


def test_a_scheduler_that_is_set_but_not_here(gridengine):
    text = gridengine.check_scheduler(GRID_SCHEDULER="slurm")
    assert re.match(r"error Slurm is to be used, as GRID_SCHEDULER says, but it is not .*\(sbatch not found\)", text)
    assert "Grid Engine is: " in text and text.count("GRID_SCHEDULER=gridengine") == 1
    (gridengine.site.folder / "qconf").unlink()
    assert "GRID_SCHEDULER=background" in gridengine.check_scheduler()


def test_a_scheduler_that_does_not_exist(gridengine):
    assert "gridengine, slurm, background" in gridengine.check_scheduler(GRID_SCHEDULER="pbs")


@pytest.mark.parametrize("text", ["[tool.grid]\nmemory = 3\n", "[tool.grid", "[tool.grid.gridengine]\nram = 'x'\n"])
def test_a_broken_pyproject_toml(gridengine, text):
    gridengine.write("pyproject.toml", text)
    assert re.match("error .*pyproject.toml", gridengine.check_scheduler())


def test_a_background_without_bash_is_an_error_at_once(gridengine, tmp_path, capfd):
    """It was an error after a minute, for it looked as if bash did not respond."""
    text = gridengine.check_scheduler(PATH=str(tmp_path / "nowhere"), **BACKGROUND)
    assert re.match("error bash and ps not found", text)
    with pytest.raises(gridengine.grid.SubmitError, match="bash and ps not found on PATH"):
        gridengine.submit()
    assert gridengine.jobs() == [] and "retrying" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "words", ["error: commlib error: got select error (Connection refused)", "error: SGE_ROOT is not set", ""]
)
def test_the_daemon_is_down(gridengine, words):
    gridengine.site.program("qstat", f"echo {shlex.quote(words)} >&2; exit 1")
    text = gridengine.check("check_daemon", room("schedulers").scheduler("gridengine"))["daemon"]
    assert text.startswith("error") and words in text and "settings.sh" in text


def test_the_slurm_daemon_is_down(slurm):
    words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    slurm.site.program("squeue", f"echo {shlex.quote(words)} >&2; exit 1")
    found = errors(slurm.check("run_checks", False, 1))
    assert set(found) == {"daemon"} and words in found["daemon"]


# --- The site's names -------------------------------------------------------------------------------------------------

NAMES = {  # what is changed in [tool.grid.gridengine], where that is seen, and what is to be done
    "memory": ({"memory": "ram"}, 'error this Grid Engine has no resource ram. Write memory = "mem"'),
    "memory, per": ({"memory_per": "job"}, 'error mem counts per slot here.*memory_per = "slot"'),
    "memory, load": ({"memory": "mem_free"}, "error mem_free counts per job"),
    "memory, free": (
        {"memory": "mf", "memory_per": "job"},
        "warning mf exists but reserves nothing; mem is consumable",
    ),
    "cuda": ({"cuda": "gpus"}, 'warning this Grid Engine has no resource gpus. Write cuda = "cuda"'),
    "cuda, per": ({"cuda_per": "job"}, "warning cuda counts per slot here"),
    "cores": ({"parallel_environment": "no"}, 'error no parallel environment no .*parallel_environment = "smp"'),
    "cores, spread": ({"parallel_environment": "mpi"}, r"warning .*mpi may spread .*\(\$round_robin\).*\"smp\""),
    "cores, none": ({"parallel_environment": None}, "warning no parallel environment is set"),
    "queue": ({"queue": "gpu.q"}, "error no queue gpu.q.*all.q, long.q"),
    "queue, there": ({"queue": "l*.q@@fast,all.q"}, "ok "),
}


@pytest.mark.parametrize("case, change", NAMES.items(), ids=NAMES)
def test_a_name_that_the_site_does_not_have(gridengine, case, change):
    changes, expected = change
    found = gridengine.check_names(**changes)
    assert re.match(expected, found.pop(case.split(",")[0]))
    assert levels(found) == {"ok"}, "nothing else is touched"


def test_gpus_that_jobs_of_slurm_request_by_default_must_be_there(slurm):
    slurm.write("my_script.py", "CUDA = 1\n")
    assert slurm.check_names()["cuda"].startswith("ok")
    assert slurm.check_names(cuda="gpus")["cuda"].startswith("error")


def test_gpus_that_jobs_of_grid_engine_request_by_default_must_be_there(gridengine):
    gridengine.write("my_script.py", "CUDA = 1\n")
    assert errors(gridengine.check_names()) == {}
    assert set(errors(gridengine.check_names(cuda="gpus"))) == {"cuda"}


def test_a_resource_that_no_host_offers(gridengine):
    gridengine.site.grid_engine(MEM, CUDA, given=["hc:cuda=2"])
    assert re.match('error no host offers mem: .*memory = "h_vmem"', gridengine.check_names()["memory"])


def test_a_site_without_gpus_is_well(gridengine):
    gridengine.site.grid_engine(MEM, given=["hc:mem=20G"])
    found = gridengine.check_names()
    assert found["cuda"].startswith("warning") and "without GPUs" in found["cuda"]


def test_a_site_that_tells_no_names_is_a_warning(gridengine):
    gridengine.site.program("qconf", "exit 1")
    assert list(gridengine.check_names()) == ["names"]


def test_names_of_slurm(slurm):
    found = slurm.check_names(cuda="gpu:h100", partition="fast")
    assert re.match('warning this Slurm has no GRES gpu:h100 .*cuda = "gpu"', found["cuda"])
    assert re.match("error no partition fast. sinfo lists short, long", found["partition"])
    assert slurm.check_names(cuda="gpu:a100")["cuda"].startswith("ok")


@pytest.mark.parametrize(
    "lines, partition, warned",
    [
        (["short|down*|(null)", "long|drained|(null)"], None, "no node runs jobs now: all are down*, drained"),
        (["short|idle*|gpu:2"], None, "all are idle*"),
        (["short|draining|(null)", "long|mixed|(null)"], None, None),
        (["short|draining|(null)", "long|mixed|(null)"], "short", "no node of partition short runs jobs now: all are"),
        (["short|draining|(null)", "long|idle~|(null)"], "long", None),
        (["short|down*|(null)", "short|allocated|(null)"], "short", None),
    ],
)
def test_nodes_of_slurm_that_run_no_jobs(slurm, lines, partition, warned):
    slurm.site.slurm(*lines)
    found = slurm.check_names(partition=partition)
    assert ("nodes" in found) == bool(warned)
    assert not warned or found["nodes"].startswith("warning") and warned in found["nodes"]


# --- The environment --------------------------------------------------------------------------------------------------


def test_a_missing_environment(project):
    del project.environ["GRID_ACTIVATE"]
    found = errors(project.doctor())
    assert set(found) == {"environment"}
    assert "cannot activate" in found["environment"] and "make env" in found["environment"]
    assert not (project.path / ".grid").exists(), "it leaves nothing"


@pytest.mark.parametrize(
    "activation, words",
    [
        ("source nosuch.sh", "cannot activate the environment: source nosuch.sh"),
        ("exit 3", "exit code 3. make env creates the environment; ACTIVATE, in Makefile, my_script.py, is: exit 3"),
        ("PATH=/nowhere", "no python"),
        (f"{READY}; python() {{ :; }}; echo chatter", ""),
        ("export VIRTUAL_ENV=/nosuch", "/nosuch has no python"),
    ],
)
def test_an_activation_is_tried_as_a_job_does_it(gridengine, monkeypatch, activation, words):
    gridengine.write("environment/create.sh", "")
    monkeypatch.setenv("GRID_ACTIVATE", activation)
    found = errors(gridengine.check("check_environment"))
    assert words in found["environment"] if words else not found
    assert not Path(".grid").exists(), "it leaves nothing"


def test_the_environment_of_who_asks_is_not_taken_for_the_jobs(project):
    folder = project.path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text("#!/bin/bash\nexit 7\n")
    (folder / "python").chmod(0o755)
    for file in ("requirements.in", "requirements.txt"):
        (project.path / "environment" / file).write_text("")
    path = f"{folder}:{Path(sys.executable).parent}:{project.site.path}"  # as `make doctor` does
    assert errors(project.doctor(PATH=path, GRID_ACTIVATE="true")) == {}


def test_an_environment_that_lacks_a_package(gridengine):
    gridengine.write(
        "environment/requirements.txt",
        f"# comment\npytest=={pytest.__version__}\n\nnosuch_package==1.0  # why\nPyTest_Timeout==0.1.*\n"
        "black[d]\n-r other.txt\nclick>=7,<99\nwin-only==1; sys_platform == 'win32'\nx @ https://example.org/x.whl\n",
    )
    gridengine.write("environment/requirements.in", "pytest\nnosuch_package\nnot_locked_yet\n")
    [text] = errors(gridengine.check("check_environment")).values()
    problems = re.search(r" on \S+: (.*)\. Install that there$", text)[1].split("; ")
    assert problems[:2] == ["nosuch_package is missing", "not_locked_yet is missing"]
    assert re.fullmatch(r"PyTest_Timeout is [0-9.]+, not 0.1.\*", problems[2])
    assert len(problems) == 3, "and nothing else, and nothing twice"


def test_an_environment_that_lacks_what_the_worker_imports(gridengine):
    """It was all green, and the job failed."""
    gridengine.write("my_script_local.py", "import model\nfrom grid import typecast\nimport nosuch_package.layers\n")
    gridengine.write("model/__init__.py", "")
    gridengine.write("model/layers.py", "import nosuch_too\n")
    gridengine.write("my_script_local.py", "import model.layers\nimport nosuch_package.layers as layers\n")
    text = errors(gridengine.check("check_environment"))["environment"]
    assert "my_script_local.py imports nosuch_package, which is missing" in text
    assert "model/layers.py imports nosuch_too, which is missing" in text
    gridengine.write("my_script_local.py", "import json, pytest, model\n")
    [text] = gridengine.check("check_environment").values()
    assert text.startswith("ok") and "all that my_script_local.py imports" in text


IMPORTS = {  # files, and what is missing
    "a module of Python, of the environment, beside it": ({"w.py": "import os.path, pytest, own", "own.py": ""}, []),
    "one that is missing": ({"w.py": "import a.b\nfrom c.d import e"}, ["a", "c"]),
    "in a function, a class, a loop": (
        {"w.py": "def f():\n  import a\nclass C:\n  import b\nfor i in 'x':\n  import c"},
        ["a", "b", "c"],
    ),
    "it can do without": ({"w.py": "try:\n  import a\nexcept ImportError:\n  a = None\nif 0:\n  import b"}, []),
    "by a module of yours": ({"w.py": "import own", "own.py": "import a"}, ["a"]),
    "by a module of yours that is not imported": ({"w.py": "", "own.py": "import a"}, []),
    "by a package": ({"w.py": "from own import part", "own/__init__.py": "import a", "own/part.py": "import b"}, "ab"),
    "relative": (
        {
            "w.py": "import own.x",
            "own/x.py": "from . import y\nfrom .z import a\nfrom .. import no",
            "own/y.py": "import b",
        }
        | {"own/z.py": "import c", "own/__init__.py": ""},
        ["b", "c"],
    ),
    "in a circle": ({"w.py": "import own", "own.py": "import w, a"}, ["a"]),
    "names of gridlib are nobody's": ({"w.py": "import provenance, site"}, ["provenance"]),
    "a script that cannot be read": ({"w.py": "def"}, None),
    "no script": ({}, []),
}


@pytest.mark.parametrize("files, missing", IMPORTS.values(), ids=IMPORTS)
def test_what_a_script_surely_imports_must_be_there(gridengine, tmp_path, files, missing):
    for name, text in files.items():
        gridengine.write(f"../scripts/{name}", text)
    before = sys.path[:]
    found = room("packages").check_imports(str(tmp_path / "scripts" / "w.py"))
    assert sys.path == before
    if missing is None:
        assert "w.py cannot be read" in found[0]
    else:
        assert sorted(re.search("imports (.*), which is missing", text)[1] for text in found) == sorted(missing)


def test_an_environment_with_an_old_python_is_told(gridengine, monkeypatch, capsys):
    packages = room("packages")
    packages.main("no such file")
    assert '"problems": []' in capsys.readouterr().out
    monkeypatch.setattr(sys, "version_info", (3, 9))
    packages.main("no such file")
    assert '"grid.py needs Python 3.11 or newer"' in capsys.readouterr().out


def test_without_a_starter_only_the_environment_is_checked(gridengine):
    """As where grid.py and gridlib/ were copied beside a script of one's own."""
    for path in gridengine.path.glob("my_script*.py"):
        path.unlink()
    [text] = gridengine.check("check_environment").values()
    assert text.startswith("ok") and text.endswith("has the 1 packages that environment/ names")


def test_the_advice_for_a_missing_package_installs_it(project):
    """The packages of env/ are those of a fake create.sh here, for there may be no network."""
    folder = project.path / "env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    create = project.path / "environment" / "create.sh"
    create.write_text("echo pytest >environment/requirements.txt\ntouch env/.ready\n")
    (project.path / "environment" / "requirements.txt").write_text("no-such-package==1\n")
    (folder / ".ready").write_text("")  # newer than what it is made of, as after `pip uninstall`
    text = errors(project.doctor())["environment"]
    advice = re.search(r"(make .*?) installs them", text)[1]
    project.run(*advice.split())
    assert errors(project.doctor()) == {}


# --- The folders ------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_to(project):
    (project.path / ".grid").write_text("a file in its place")
    found = project.doctor("--submit")
    assert set(errors(found)) == {"folders"} and ".grid is not a folder" in found["folders"]
    assert found["environment"].startswith("warning"), "and no job is tried"


@pytest.mark.parametrize("name", ["logs", ".grid"])
def test_files_and_dangling_links_are_no_folders(gridengine, name):
    gridengine.write(name, "a file in its place")
    assert f"{name} is not a folder" in gridengine.check("check_folders")["folders"]
    Path(name).unlink()
    Path(name).symlink_to("/nosuch/folder")
    assert f"cannot write to {Path(name).absolute()}" in gridengine.check("check_folders")["folders"]


# --- Jobs that wait ---------------------------------------------------------------------------------------------------


def qstat(state):
    row = f"<JB_job_number>77</JB_job_number><JB_name>worker</JB_name><state>{state}</state>"
    return f"[ $1 = -xml ] && echo '<job_info><job_list>{row}</job_list></job_info>'"


def test_a_job_in_error_state(gridengine):
    gridengine.submitted()
    gridengine.site.program("qstat", f"{qstat('Eqw')} || echo 'error reason 1:   no such folder'")
    text = gridengine.check("stuck_jobs")["jobs"]
    assert text.startswith("error 77 worker is in error state: no such folder") and "make stop JOB=77" in text


OFFERS = 'Job 77 (-l mem=500G) cannot run at host "node1" because it offers only hc:mem=20.000G\nverification: no suitable queues'
LOAD = 'Job 77 (-l mf=1G) cannot run in queue "q" because job requests unknown resource (mf)\nverification: no suitable queues'
DOWN = OFFERS.replace("verification", 'Job 77 cannot run in queue "b.q" because it is in unknown state\nverification')
FITS = "verification: found suitable queue(s)"


@pytest.mark.parametrize(
    "empty, now, never",
    [(OFFERS, OFFERS, True), (LOAD, FITS, False), (LOAD, LOAD, True), (FITS, OFFERS, False), (DOWN, DOWN, False)],
    ids=["too much", "a load value", "unknown", "busy", "a host is down"],
)
def test_a_job_that_requests_more_than_the_site_has(gridengine, empty, now, never):
    gridengine.submitted()
    gridengine.site.program("qstat", qstat("qw"))
    gridengine.site.answers("qalter", {"-w v 77": empty, "-w p 77": now})
    fake = gridengine.site.folder / "qalter"
    fake.write_text(fake.read_text() + "exit 1\n")  # as the real one, if there is something to say

    text = gridengine.check("stuck_jobs")["jobs"]
    expected = (
        "error 77 worker requests more than this site has: (-l m" if never else "ok of this project's jobs 1 wait"
    )
    assert text.startswith(expected)


@pytest.mark.parametrize(
    "reason, never",
    [
        ("(launch failed requeued held)", True),
        ("(PartitionTimeLimit)", True),
        ("(PartitionConfig)", True),
        ("(QOSMaxCpuPerJobLimit)", True),
        ("(AssocMaxMemPerJob)", True),
        ("(QOSMinGRES)", True),
        ("(JobHoldMaxRequeue)", True),
        ("(QOSMaxJobsPerUserLimit)", False),
        ("(AssocGrpCpuLimit)", False),
        ("(Priority)", False),
        ("(Resources)", False),
    ],
)
def test_jobs_of_slurm_that_will_not_run(slurm, reason, never):
    job = slurm.submitted()
    rows = [sites.row("77", reason=reason, script=str(job.folder / "1" / "job.sh"))]
    slurm.site.program("squeue", sites.squeue(rows))
    text = slurm.check("stuck_jobs")["jobs"]
    assert text.startswith("error 77 worker" if never else "ok of this project's jobs 1 wait")
    assert not never or reason.strip("()") in text


def test_jobs_of_the_project_are_left_as_they_are(gridengine):
    job = gridengine.submitted()
    gridengine.site.program("qstat", qstat("qw"))
    before = {path.relative_to(job.folder): path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}
    assert errors(gridengine.check("run_checks", False, 1)) == {}
    after = {path.relative_to(job.folder): path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}
    assert after == before
    assert gridengine.jobs() == [Path(".grid", job.folder.name).absolute()], "and the doctor's own are gone"


# --- A test job -------------------------------------------------------------------------------------------------------


def test_submit_runs_a_job_through_and_cleans_up(project):
    found = project.doctor("--submit", **BACKGROUND)
    assert levels(found) == {"ok"}
    for stage in ("submitted", "started", "ended", "output"):
        assert re.search(r"after [0-9.]+ s", found[stage]), stage
    assert "has the 1 packages" in found["packages"]
    assert not (project.path / ".grid").exists()


def test_submit_tells_of_a_job_that_fails(project):
    found = errors(project.doctor("--submit", **BACKGROUND, GRID_ACTIVATE="false"))
    assert "cannot activate the environment: false" in found["ended"]


def test_submit_tells_of_a_scheduler_that_refuses(gridengine):
    gridengine.site.program("qsub", "echo 'no such project' >&2; exit 1")
    found = gridengine.check("run_checks", True, 1)
    assert set(errors(found)) == {"job"} and "qsub failed: no such project" in found["job"]
    assert gridengine.jobs() == []


def test_submit_asks_for_what_the_starter_asks_for(gridengine):
    gridengine.write("my_script.py", 'MEMORY = "3G"  # all\nCUDA = 2  # GPUs\n')
    gridengine.site.program("qsub", 'echo "$@" >asked; echo no >&2; exit 1')
    gridengine.check("run_checks", True, 1)
    asked = Path("asked").read_text()
    assert "h_vmem=3G" in asked and "cuda=2" in asked


def test_submit_is_bounded(project):
    code = "from gridlib import doctor; doctor.ACTIVATION_TIMEOUT = 0.5; raise SystemExit(doctor.doctor(True, 0.5))"
    done = project.run(sys.executable, "-c", code, check=False, **BACKGROUND, GRID_ACTIVATE="sleep 300")
    assert done.returncode == 1
    assert "the activation does not finish: sleep 300" in done.stdout and "it has not ended after 0.5 s" in done.stdout
    assert project.running() == []


@pytest.mark.parametrize(
    "number, words",
    [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGHUP, []), (signal.SIGTERM, ["--submit"])],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP", "SIGTERM, submit"],
)
def test_a_signal_stops_the_job_that_was_submitted(project, number, words):
    # with --submit, the second job is the one that does not end
    mark = project.path / "second"
    activate = f"if [ -e '{mark}' ]; then sleep 300; fi; touch '{mark}'; {READY}" if words else "sleep 300"
    process = project.start(*words, **BACKGROUND, GRID_ACTIVATE=activate)
    for line in process.stdout if words else ():
        if " submitted " in line:
            break
    until(project.running, "its job runs")
    process.send_signal(number)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr.read()
    assert project.running() == []
    assert not (project.path / ".grid").exists(), "it leaves nothing"


def test_a_signal_during_the_submission_stops_what_the_scheduler_has_got(slurm_project):
    site = slurm_project.site
    sent, told = site.folder / "sent", site.folder / "told"
    rows = f"[{sites.row('77', name='doctor')[:-1]} + (open({str(sent)!r}).read(),)] if os.path.exists({str(sent)!r}) else []"
    site.program("sbatch", f"for script; do :; done\nprintf %s \"$script\" >'{sent}'\nexec sleep 60")
    site.program("squeue", f"[ -e '{told}' ] || {sites.squeue(rows)}")
    site.program("scancel", f"echo $* >'{told}'")
    process = slurm_project.start("--submit")
    until(lambda: sent.exists() and sent.read_text(), "sbatch is at work")
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "stopped the doctor's job 77" in said
    assert told.read_text().split() == ["77"]
    assert not (slurm_project.path / ".grid").exists(), "it leaves nothing"
