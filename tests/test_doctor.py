"""`python gridctl.py doctor` finds what would keep a job from running, and says how to mend it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from baking import Project, without_schedulers
import sites
from sites import Site
from test_defaults import CUDA, MEM

# the Python that runs the tests, in place of an environment
READY = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"


class Patient(Project):
    """A project and the site where it is."""

    def __init__(self, project, site):
        super().__init__(project.path, project.environ | {"PATH": site.path, "GRID_ACTIVATE": READY}, "")
        self.site = site
        (self.path / "environment" / "requirements.txt").write_text("# none\npytest\n")

    def settings(self, old, new):
        """Change pyproject.toml."""
        text = self.read("pyproject.toml")
        assert text.count(old) == 1
        (self.path / "pyproject.toml").write_text(text.replace(old, new))

    def doctor(self, *words, **variables):
        """The findings, a dict from the subject to "level text"; the exit code must agree with them."""
        done = self.run(sys.executable, "gridctl.py", "doctor", *words, check=False, **variables)
        assert "Traceback" not in done.stdout + done.stderr and "fails:" not in done.stdout, done.stdout + done.stderr
        rows = [line.split(None, 2) for line in done.stdout.splitlines() if re.match("ok |warning |wrong ", line)]
        assert done.returncode == any(row[0] == "wrong" for row in rows), done.stdout + done.stderr
        found = {}
        for level, subject, text in rows:
            found[subject] = f"{found[subject]}\n" if subject in found else ""
            found[subject] += f"{level} {text}"
        return found

    def wrong(self, *words, **variables):
        """The subjects that are wrong, and what is said of them."""
        return {subject: text for subject, text in self.doctor(*words, **variables).items() if "wrong" in text}


@pytest.fixture
def patient(bake, tmp_path, environ):
    """A project that was made at a site with a Grid Engine, and is well."""
    site = Site(tmp_path / "site", without_schedulers(environ)).grid_engine(
        MEM, CUDA, given=["hc:mem=20G", "hc:cuda=2"], environments={"smp": "$pe_slots", "mpi": "$round_robin"}
    )
    return Patient(bake(variables={"PATH": site.path}), site)


@pytest.fixture
def slurm_patient(bake, tmp_path, environ):
    """A project that was made at a site with a Slurm, and is well."""
    site = Site(tmp_path / "slurm", without_schedulers(environ)).slurm("short|gpu:a100:2(S:0,1)", "long|(null)")
    return Patient(bake(variables={"PATH": site.path}), site)


def test_a_project_that_is_well_is_said_to_be(patient, slurm_patient):
    for one in (patient, slurm_patient):
        found = one.doctor()
        assert {text.split()[0] for text in found.values()} == {"ok"}, found
        assert {"scheduler", "folders", "daemon", "cuda", "environment", "jobs"} <= set(found)
        assert not (one.path / ".grid").exists(), "it leaves nothing"


def test_no_scheduler(patient, environ):
    wrong = patient.wrong(PATH=without_schedulers(environ))
    assert set(wrong) == {"scheduler"}
    assert "make local" in wrong["scheduler"] and "GRID_SCHEDULER=background" in wrong["scheduler"]


def test_a_qsub_of_another_scheduler_is_none(patient):
    (patient.site.folder / "qconf").unlink()
    assert "another scheduler's" in patient.wrong()["scheduler"]


def test_both_schedulers(patient):
    patient.site.slurm()
    found = patient.doctor()
    assert found["scheduler"].startswith("warning") and "Grid Engine is taken" in found["scheduler"]
    assert "mem" in found["memory"]


def test_a_project_that_moved_to_a_site_with_the_other_scheduler(bake, tmp_path, environ, patient):
    slurm = Site(tmp_path / "other", without_schedulers(environ)).slurm()
    assert patient.wrong(PATH=slurm.path) == {}, "auto takes what is there"
    patient.settings('# scheduler = "gridengine"', 'scheduler = "gridengine"')
    wrong = patient.wrong(PATH=slurm.path)
    assert set(wrong) == {"scheduler"}
    for advice in ("make grid GRID_SCHEDULER=slurm", "remove that line"):
        assert advice in wrong["scheduler"]
    assert patient.wrong(PATH=slurm.path, GRID_SCHEDULER="slurm") == {}, "as advised"
    assert patient.wrong(GRID_SCHEDULER="slurm")["scheduler"].count("gridengine") == 1


def test_a_scheduler_that_does_not_exist(patient):
    assert "gridengine, slurm, background" in patient.wrong(GRID_SCHEDULER="pbs")["scheduler"]


def test_in_the_background_no_scheduler_is_asked(patient):
    patient.site.program("qstat", "exit 1")
    found = patient.doctor(GRID_SCHEDULER="background")
    assert "daemon" not in found and found["scheduler"].startswith("ok")


@pytest.mark.parametrize("text", ["[tool.grid]\nmemory = 3\n", "[tool.grid", "[tool.grid.gridengine]\nram = 'x'\n"])
def test_a_broken_pyproject_toml(patient, text):
    (patient.path / "pyproject.toml").write_text(text)
    assert "pyproject.toml" in patient.wrong()["scheduler"]


@pytest.mark.parametrize(
    "words", ["error: commlib error: got select error (Connection refused)", "error: SGE_ROOT is not set", ""]
)
def test_the_daemon_is_down(patient, words):
    for program in ("qstat", "qconf", "qhost"):
        patient.site.program(program, f"echo {shlex.quote(words)} >&2; exit 1")
    wrong = patient.wrong()
    assert set(wrong) == {"daemon"}
    assert words in wrong["daemon"] and "settings.sh" in wrong["daemon"]


def test_the_slurm_daemon_is_down(slurm_patient):
    words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    slurm_patient.site.program("squeue", f"echo {shlex.quote(words)} >&2; exit 1")
    wrong = slurm_patient.wrong()
    assert set(wrong) == {"daemon"} and words in wrong["daemon"]


NAMES = {  # what is changed in pyproject.toml, where that is seen, and what is to be done
    "memory": (
        'memory = "mem"',
        'memory = "ram"',
        'wrong this Grid Engine knows no resource ram. Write memory = "mem"',
    ),
    "memory, per": ('memory_per = "slot"', 'memory_per = "job"', 'wrong mem counts per slot here.*memory_per = "slot"'),
    "memory, load": ('memory = "mem"', 'memory = "mem_free"', "wrong mem_free counts per job"),
    "memory, free": (
        'memory = "mem"  # what this site calls memory: qconf -sc\nmemory_per = "slot"',
        'memory = "mf"\nmemory_per = "job"',
        "warning mf is there, but reserves nothing: mem is consumable",
    ),
    "cuda": ('cuda = "cuda"', 'cuda = "gpus"', 'warning this Grid Engine knows no resource gpus. Write cuda = "cuda"'),
    "cuda, per": ('cuda_per = "slot"', 'cuda_per = "job"', "warning cuda counts per slot here"),
    "cores": ('= "smp"', '= "nosuch"', 'wrong there is no parallel environment nosuch.*parallel_environment = "smp"'),
    "cores, spread": ('= "smp"', '= "mpi"', r"warning .*mpi may spread .*\(\$round_robin\).*\"smp\""),
    "cores, none": ('parallel_environment = "smp"', "", "warning no parallel environment is named"),
    "queue": ('# queue = "all.q"', 'queue = "gpu.q"', "wrong there is no queue gpu.q.*all.q, long.q"),
    "queue, there": ('# queue = "all.q"', 'queue = "l*.q@@fast,all.q"', "ok "),
}


@pytest.mark.parametrize("case, change", NAMES.items(), ids=NAMES)
def test_a_name_that_the_site_does_not_have(patient, case, change):
    old, new, expected = change
    patient.settings(old, new)
    found = patient.doctor()
    subject = case.split(",")[0]
    assert re.match(expected, found.pop(subject))
    assert {text.split()[0] for text in found.values()} == {"ok"}, "nothing else is touched"


def test_gpus_that_jobs_ask_for_by_default_must_be_there(patient):
    starter = patient.path / "my_script.py"
    starter.write_text(re.sub("^CUDA = 0", "CUDA = 1", starter.read_text(), flags=re.MULTILINE))
    assert set(patient.doctor()) and patient.wrong() == {}
    patient.settings('cuda = "cuda"', 'cuda = "gpus"')
    assert set(patient.wrong()) == {"cuda"}


def test_a_resource_that_no_host_offers(patient):
    patient.site.grid_engine(MEM, CUDA, given=["hc:cuda=2"])
    assert re.match('wrong mem is known, but no host offers it.*memory = "h_vmem"', patient.wrong()["memory"])


def test_a_site_without_gpus_is_well(patient):
    patient.site.grid_engine(MEM, given=["hc:mem=20G"])
    found = patient.doctor()
    assert found["cuda"].startswith("warning") and "without GPUs" in found["cuda"]


def test_names_of_slurm(slurm_patient):
    slurm_patient.settings('cuda = "gpu"', 'cuda = "gpu:h100"')
    slurm_patient.settings('# partition = "short"', 'partition = "fast"')
    found = slurm_patient.doctor()
    assert re.match('warning this Slurm has no GRES gpu:h100 .*cuda = "gpu"', found["cuda"])
    assert re.match("wrong there is no partition fast. sinfo lists short, long", found["partition"])
    slurm_patient.settings('cuda = "gpu:h100"', 'cuda = "gpu:a100"')
    assert slurm_patient.doctor()["cuda"].startswith("ok")


@pytest.mark.parametrize(
    "lines, partition, warned",
    [
        (["short|down*|(null)", "long|drained|(null)"], "", "no node takes jobs now: all are down*, drained"),
        (["short|idle*|gpu:2"], "", "all are idle*"),
        (["short|draining|(null)", "long|mixed|(null)"], "", None),
        (["short|draining|(null)", "long|mixed|(null)"], "short", "no node of partition short .* all are draining"),
        (["short|draining|(null)", "long|idle~|(null)"], "long", None),
        (["short|down*|(null)", "short|allocated|(null)"], "short", None),
    ],
)
def test_nodes_of_slurm_that_take_no_jobs(slurm_patient, lines, partition, warned):
    if partition:
        slurm_patient.settings('# partition = "short"', f'partition = "{partition}"')
    slurm_patient.site.slurm(*lines)
    found = slurm_patient.doctor()
    assert ("nodes" in found) == bool(warned)
    assert not warned or re.match(
        f"warning .*{warned.replace('*,', '[*],')}".replace("idle*", "idle[*]"), found["nodes"]
    )


def test_a_missing_environment(patient):
    del patient.environ["GRID_ACTIVATE"]
    wrong = patient.wrong()
    assert set(wrong) == {"environment"}
    assert "cannot be activated" in wrong["environment"] and "make env" in wrong["environment"]
    assert not (patient.path / ".grid").exists(), "it leaves nothing"


def test_an_environment_that_lacks_a_dependency(patient):
    requirements = patient.path / "environment" / "requirements.txt"
    requirements.write_text(
        f"# comment\npytest=={pytest.__version__}\n\nnosuch_package==1.0  # why\nPyTest_Timeout==0.1.*\n"
        "black[d]\n-r other.txt\nclick>=7,<99\nwin-only==1; sys_platform == 'win32'\nx @ https://example.org/x.whl\n"
    )
    wrong = patient.wrong()
    assert set(wrong) == {"environment"}
    assert "nosuch_package is missing" in wrong["environment"]
    assert re.search(r"PyTest_Timeout is [0-9.]+ and not 0.1.\*", wrong["environment"])
    assert re.search("lacks packages: [^,]*, [^,]*$", wrong["environment"].split(". ")[0]), "and nothing else"


def test_the_advice_for_a_missing_package_installs_it(patient):
    """The packages of env/ are those of a fake create.sh here, for there may be no network."""
    folder = patient.path / "env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    create = patient.path / "environment" / "create.sh"
    create.write_text("echo pytest >environment/requirements.txt\ntouch env/.ready\n")
    (patient.path / "environment" / "requirements.txt").write_text("no-such-package==1\n")
    (folder / ".ready").write_text("")  # newer than what it is made of, as after `pip uninstall`
    text = patient.wrong()["environment"]
    advice = re.search(r"(make .*?) brings it up to date", text)[1]
    patient.run(*advice.split())
    assert patient.wrong() == {}


@pytest.mark.parametrize(
    "activation, words",
    [
        ("source nosuch.sh", "cannot be activated: source nosuch.sh"),
        ("exit 3", "exit code 3. make env makes the environment; ACTIVATE, in Makefile and my_script.py, is: exit 3"),
        ("PATH=/nowhere", "no python"),
        (f"{READY}; python() {{ :; }}; echo chatter", ""),
        ("export VIRTUAL_ENV=/nosuch", "/nosuch has no python"),
    ],
)
def test_an_activation_is_tried_as_a_job_does_it(patient, activation, words):
    wrong = patient.wrong(GRID_ACTIVATE=activation)
    assert words in wrong["environment"] if words else not wrong


def test_the_environment_of_who_asks_is_not_taken_for_the_jobs(patient):
    folder = patient.path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text("#!/bin/bash\nexit 7\n")
    (folder / "python").chmod(0o755)
    (patient.path / "environment" / "requirements.txt").write_text("")
    path = f"{folder}:{Path(sys.executable).parent}:{patient.site.path}"  # as `make doctor` does
    assert patient.wrong(PATH=path, GRID_ACTIVATE="true") == {}


@pytest.mark.parametrize("name", ["logs", ".grid"])
def test_a_folder_that_cannot_be_written(patient, name):
    (patient.path / name).write_text("a file in its place")
    wrong = patient.wrong()
    assert set(wrong) == {"folders"} and name in wrong["folders"] and "no folder" in wrong["folders"]


def test_dangling_links_are_no_folders(patient):
    (patient.path / "logs").symlink_to("/nosuch/folder")
    assert "logs" in patient.wrong()["folders"]


def submitted(patient, number="77"):
    """Let the fake scheduler take a job."""
    engine = "qsub" if (patient.site.folder / "qsub").exists() else "sbatch"
    patient.site.program(engine, f"echo {number}")
    code = "import grid; grid.submit_script('experiment.py', memory='2G', log_dir='logs')"
    patient.run(sys.executable, "-c", code)


def test_a_job_in_error_state(patient):
    submitted(patient)
    row = "<job_list><JB_job_number>77</JB_job_number><JB_name>x</JB_name><state>Eqw</state></job_list>"
    patient.site.program("qstat", f"[ $1 = -xml ] && echo '<a>{row}</a>' || echo 'error reason 1:   no such folder'")
    wrong = patient.wrong()
    assert set(wrong) == {"jobs"}
    assert "77 experiment is in error state: no such folder" in wrong["jobs"] and "make stop JOB=77" in wrong["jobs"]


OFFERS = 'Job 77 (-l mem=500G) cannot run at host "node1" because it offers only hc:mem=20.000G\nverification: no suitable queues'
LOAD = 'Job 77 (-l mf=1G) cannot run in queue "q" because job requests unknown resource (mf)\nverification: no suitable queues'
DOWN = OFFERS.replace("verification", 'Job 77 cannot run in queue "b.q" because it is in unknown state\nverification')
FITS = "verification: found suitable queue(s)"


@pytest.mark.parametrize(
    "empty, now, never",
    [(OFFERS, OFFERS, True), (LOAD, FITS, False), (LOAD, LOAD, True), (FITS, OFFERS, False), (DOWN, DOWN, False)],
    ids=["too much", "a load value", "unknown", "busy", "a host is down"],
)
def test_a_job_that_waits_for_what_the_site_can_never_give(patient, empty, now, never):
    submitted(patient)
    row = "<job_list><JB_job_number>77</JB_job_number><JB_name>x</JB_name><state>qw</state></job_list>"
    patient.site.program("qstat", f"echo '<a>{row}</a>'")
    patient.site.answers("qalter", {"-w v 77": empty, "-w p 77": now})
    fake = patient.site.folder / "qalter"
    fake.write_text(fake.read_text() + "exit 1\n")  # as the real one, if there is something to say

    wrong = patient.wrong()
    assert set(wrong) == ({"jobs"} if never else set())
    assert not never or "waits for what the site can never give: (-l m" in wrong["jobs"]


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
def test_jobs_of_slurm_that_will_not_run(slurm_patient, reason, never):
    submitted(slurm_patient)
    slurm_patient.site.program("squeue", sites.squeue([sites.row("77", reason=reason)]))
    wrong = slurm_patient.wrong()
    assert set(wrong) == ({"jobs"} if never else set())
    assert not never or reason.strip("()") in wrong["jobs"]


def test_submit_runs_a_job_through_and_cleans_up(patient):
    found = patient.doctor("--submit", GRID_SCHEDULER="background")
    assert {text.split()[0] for text in found.values()} == {"ok"}
    for stage in ("submitted", "began", "ended", "output"):
        assert re.search(r"after [0-9.]+ s", found[stage]), stage
    assert "has the 1 packages" in found["packages"]
    assert not (patient.path / ".grid").exists()


def test_submit_tells_of_a_job_that_fails(patient):
    wrong = patient.wrong("--submit", GRID_SCHEDULER="background", GRID_ACTIVATE="false")
    assert "cannot be activated: false" in wrong["ended"]


def test_submit_is_bounded(patient):
    slow = f'[ "$GRID_SLOW" ] || sleep 300; {READY}'
    code = "import doctor; doctor.ACTIVATE_FOR = 1; raise SystemExit(doctor.doctor(True, 1))"
    variables = {"GRID_SCHEDULER": "background", "GRID_ACTIVATE": slow}
    begin = time.monotonic()
    done = patient.run(sys.executable, "-c", code, check=False, **variables)
    assert time.monotonic() - begin < 30 and done.returncode == 1
    assert "its activation does not end" in done.stdout and "it has not ended after" in done.stdout
    assert running(patient) == []


def running(patient):
    """The job scripts of this project that run."""
    processes = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in processes.splitlines() if f"{patient.path}/.grid/" in line]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", [[], ["--submit"]], ids=["environment", "submit"])
def test_a_signal_stops_the_job_that_was_submitted(patient, number, words):
    # with --submit, the second job is the one that does not end
    mark = patient.path / "second"
    activate = f"if [ -e '{mark}' ]; then sleep 300; fi; touch '{mark}'; {READY}" if words else "sleep 300"
    variables = {"GRID_SCHEDULER": "background", "GRID_ACTIVATE": activate}
    command = [sys.executable, "gridctl.py", "doctor", *words]
    how = dict(
        cwd=patient.path, env=patient.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process = subprocess.Popen(command, **how)
    limit = time.monotonic() + 30
    while not running(patient) or words and not mark.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    if words:
        for line in process.stdout:
            if " submitted " in line:
                break
    process.send_signal(number)
    assert process.wait(30) == 130
    assert "Traceback" not in process.stderr.read()
    assert running(patient) == []
    assert not (patient.path / ".grid").exists(), "it leaves nothing"


def test_a_signal_during_the_submission_stops_what_the_scheduler_has_got(slurm_patient):
    site = slurm_patient.site
    sent, told = site.folder / "sent", site.folder / "told"
    rows = f"[{sites.row('77')[:-1]} + (open({str(sent)!r}).read(),)] if os.path.exists({str(sent)!r}) else []"
    site.program("sbatch", f"for script; do :; done\nprintf %s \"$script\" >'{sent}'\nexec sleep 60")
    site.program("squeue", f"[ -e '{told}' ] || {sites.squeue(rows)}")
    site.program("scancel", f"echo $* >'{told}'")
    command = [sys.executable, "gridctl.py", "doctor", "--submit"]
    process = subprocess.Popen(command, cwd=slurm_patient.path, env=slurm_patient.environ, stderr=subprocess.PIPE)
    limit = time.monotonic() + 30
    while not (sent.exists() and sent.read_text()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.terminate()
    errors = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130 and "stopped the doctor's job 77" in errors
    assert told.read_text().split() == ["77"]
    assert not (slurm_patient.path / ".grid").exists(), "it leaves nothing"


def test_colour_is_for_terminals(patient):
    def seen(**variables):
        ours, its = os.openpty()
        command = [sys.executable, "gridctl.py", "doctor"]
        process = subprocess.Popen(command, cwd=patient.path, env=patient.environ | variables, stdout=its)
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
    assert "\033" not in patient.run(sys.executable, "gridctl.py", "doctor").stdout


def test_make_doctor_needs_no_environment_and_tries_the_makefiles_activation(patient):
    del patient.environ["GRID_ACTIVATE"]
    path = f"{Path(sys.executable).parent}:{patient.site.path}"
    done = patient.run("make", "doctor", check=False, PATH=path)
    assert done.returncode and "wrong    environment" in done.stdout and "source environment/activate.sh" in done.stdout
    assert patient.run("make", "doctor", f"ACTIVATE={READY} # it's", PATH=path).returncode == 0


def test_it_takes_no_record_of_the_project_for_its_own(patient):
    (patient.path / "logs").mkdir()
    submitted(patient)
    [folder] = (patient.path / ".grid").iterdir()
    before = sorted(path.name for path in folder.rglob("*"))
    patient.doctor()
    assert sorted(path.name for path in folder.rglob("*") if path.name != "verdict.json") == before
    assert json.loads((folder / "record.json").read_text())["pieces"][0]["id"] == "77"
