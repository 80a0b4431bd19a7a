"""The questions come with the defaults of the site where they are asked, and never late."""

import ast
import json
import shutil
import subprocess
import sys
import time
import tomllib

import pytest

from baking import QUESTIONS, TEMPLATE, without_schedulers
from sites import Site

MEM = "mem mem MEMORY <= YES YES 0 0"
CUDA = "cuda cuda INT <= YES YES 0 0"


@pytest.fixture
def site(tmp_path, environ):
    """A machine without schedulers, to which a test gives some."""
    return Site(tmp_path / "site", without_schedulers(environ))


def settings(project):
    return tomllib.loads(project.read("pyproject.toml"))["tool"]["grid"]


def gridengine(bake, site, **answers):
    """What a project that is made at this site has in [tool.grid.gridengine]."""
    return settings(bake(variables={"PATH": site.path}, **answers))["gridengine"]


def prompts(bake, site):
    """What is asked at this site, in one line."""
    return " ".join(bake(typed=True, variables={"PATH": site.path}).output.split())


# complexes, what hosts and queues give, and memory, memory_per, cuda, cuda_per
SITES = {
    "consumables of its own": ([MEM, CUDA], ["hc:mem=20G", "hc:cuda=2"], "mem slot cuda slot"),
    "counted per job": (
        ["ram ram MEMORY <= YES JOB 0 0", "gpu gpu INT <= YES JOB 0 0"],
        ["hc:ram=9G", "gc:gpu=8"],
        "ram job gpu job",
    ),
    "nothing of its own": ([], [], "h_vmem slot cuda job"),
    "consumables that no host has": ([MEM, CUDA], [], "h_vmem slot cuda slot"),
    "fixed values of hosts": (
        ["gpu gpu INT <= YES NO 0 0", "ramsize rs MEMORY <= YES NO 0 0"],
        ["hf:gpu=1", "hf:ramsize=9G"],
        "h_vmem slot gpu job",
    ),
    "one that must be asked for": (
        [MEM, "vmem vm MEMORY <= FORCED YES 0 0"],
        ["hc:mem=20G", "hc:vmem=20G"],
        "vmem slot cuda job",
    ),
    "memory of a GPU, of a disk, a load": (
        ["gpu_mem gm MEMORY <= YES YES 0 0", "disk_mem dm MEMORY <= YES YES 0 0", "gpu_load gl INT <= YES NO 0 0"],
        ["hc:gpu_mem=20G", "hc:disk_mem=20G", "hl:gpu_load=1"],
        "h_vmem slot cuda job",
    ),
    "names that begin with a digit": (
        ["80gmem 80g MEMORY <= YES YES 0 0", "4gpu 4g INT <= YES JOB 0 0"],
        ["hc:80gmem=80G", "hc:4gpu=4"],
        "80gmem slot 4gpu job",
    ),
    "names with a plus": (
        ["mem+x m+ MEMORY <= YES YES 0 0", "gpu+gpu g+ INT <= YES YES 0 0"],
        ["hc:mem+x=2G", "hc:gpu+gpu=2"],
        "mem+x slot gpu+gpu slot",
    ),
    "not to be asked for": ([MEM.replace("YES YES", "NO YES")], ["hc:mem=20G"], "h_vmem slot cuda job"),
    "a newer product": (
        ["m_mem_free mfree MEMORY <= YES YES 0 0 YES 0.0", "gpu gpu RSMAP <= YES HOST NONE 0 NO 0.0"],
        ["hc:m_mem_free=9G", "hc:gpu=2"],
        "m_mem_free slot gpu job",
    ),
}


@pytest.mark.parametrize("complexes, given, expected", SITES.values(), ids=SITES)
def test_names_of_memory_and_gpus_are_those_of_the_site(bake, site, complexes, given, expected):
    table = gridengine(bake, site.grid_engine(*complexes, given=given))
    assert [table[key] for key in ("memory", "memory_per", "cuda", "cuda_per")] == expected.split()


@pytest.mark.parametrize("consumable, per", [("NO", "slot"), ("YES", "slot"), ("JOB", "job")])
def test_a_limit_of_the_queue_counts_per_slot_unless_per_job(bake, site, consumable, per):
    table = gridengine(bake, site.grid_engine(h_vmem=f"h_vmem h_vmem MEMORY <= YES {consumable} 0 0"))
    assert (table["memory"], table["memory_per"]) == ("h_vmem", per)


@pytest.mark.parametrize(
    "memory, per", [("mem", "slot"), ("mem_free", "job"), ("mf", "job"), ("h_vmem", "slot"), ("unheard_of", "slot")]
)
def test_another_answer_is_counted_as_the_site_counts_it(bake, site, memory, per):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    assert gridengine(bake, site, memory_resource=memory)["memory_per"] == per


def test_gpus_of_a_queue_are_found(bake, site):
    unused = "gpu gpu INT <= YES YES 0 0"
    site.grid_engine(unused, "ngpus ngpus INT <= YES YES 0 0", values="NONE,[@gpu=ngpus=2],[node2=ngpus=4]")
    assert gridengine(bake, site)["cuda"] == "ngpus"


def test_a_parallel_environment_on_one_host_comes_first(bake, site):
    rules = {"mpi": "$round_robin", "make": "$fill_up", "threaded": "$pe_slots", "zeta": "$pe_slots"}
    assert gridengine(bake, site.grid_engine(environments=rules))["parallel_environment"] == "threaded"


def test_a_parallel_environment_may_begin_with_a_digit(bake, site):
    assert gridengine(bake, site.grid_engine(environments={"12way": "$pe_slots"}))["parallel_environment"] == "12way"


@pytest.mark.parametrize(
    "gres, cuda",
    [
        ("mps:100,gpu_mem:40,gpu:a100:2", "gpu"),
        ("gpu_load:1,nvidia_big:2,gpus:4", "gpus"),
        ("gpu_mem:40,mps:100", "gpu"),
        ("4gpu:2", "4gpu"),
    ],
)
def test_gpus_of_slurm_are_sorted_and_are_gpus(bake, site, gres, cuda):
    made = settings(bake(variables={"PATH": site.slurm(f"short|{gres}").path}))
    assert made["slurm"]["cuda"] == cuda


def test_variables_of_sinfo_and_hidden_partitions_change_nothing(asked, site):
    site.slurm("short|gpus:2")
    program = site.folder / "sinfo"
    check = '[ "$SINFO_PARTITION$SINFO_SORT$SINFO_FEDERATION" ] && exit 1'
    program.write_text(program.read_text().replace("#!/bin/bash", f"#!/bin/bash\n{check}"))
    assert asked(SINFO_PARTITION="x", SINFO_SORT="y", SINFO_FEDERATION="1")[1]["slurm_cuda"] == "gpus"
    assert "--all " in program.read_text(), "which the real one needs for hidden partitions"


@pytest.mark.parametrize("name", ["mem@x", "mem:x", "+mem", ".mem", "mem,y", "mem*"])
def test_no_default_is_one_that_would_be_refused(bake, site, name):
    site.grid_engine(f"{name} {name} MEMORY <= YES YES 0 0", given=[f"hc:{name}=2G"], environments={name: "$pe_slots"})
    table = gridengine(bake, site.slurm(f"{name}|gpu{name}:2"))
    assert (table["memory"], table["parallel_environment"]) == ("h_vmem", "smp")


def test_each_question_says_where_its_default_comes_from(bake, site):
    site.grid_engine(MEM, CUDA, given=["hc:mem=20G", "hc:cuda=2"]).slurm(
        "short|gpu:a100:2(S:0,1),shard:4", "long|(null)"
    )
    asked = prompts(bake, site)
    for text in (
        "(found here: Grid Engine (SGE 8.1.9) and Slurm (slurm-wlm 22.05.8); auto takes Grid Engine)",
        "Grid Engine's name for memory (mem is consumable here, per slot: qconf -sc; also h_vmem, mem_free) (mem)",
        "Grid Engine's name for GPUs (cuda is consumable here, per slot: qconf -sc) (cuda)",
        "for more than one core (smp is found here: qconf -spl) (smp)",
        "Grid Engine's queue (found here: all.q, long.q; empty: the site's default)",
        "Slurm's name for GPUs (gpu is found here: sinfo -o %G; also gpu:a100) (gpu)",
        "Slurm's partition (found here: short, long; empty: the site's default)",
    ):
        assert text in asked


def test_without_a_scheduler_the_usual_names_are_offered_as_such(bake, site):
    asked = prompts(bake, site)
    for text in (
        "(none was found on this machine)",
        "Grid Engine's name for memory (usual; no Grid Engine was found on this machine) (h_vmem)",
        "Slurm's name for GPUs (usual; no Slurm was found on this machine) (gpu)",
    ):
        assert text in asked


def test_with_only_slurm_the_rest_is_plain(bake, site):
    site.slurm("short|gpu:2")
    asked = prompts(bake, site)
    assert "(found here: Slurm (slurm-wlm 22.05.8))" in asked
    assert "(usual; no Grid Engine was found on this machine) (h_vmem)" in asked
    assert gridengine(bake, site)["memory"] == "h_vmem"


def test_with_only_grid_engine_the_rest_is_plain(bake, site):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    asked = prompts(bake, site)
    assert "(found here: Grid Engine (SGE 8.1.9))" in asked
    assert "(usual; qconf -sc shows none here) (cuda)" in asked
    assert "(usual; no Slurm was found on this machine) (gpu)" in asked


def test_answers_end_in_the_table(bake):
    plain, own = settings(bake()), settings(
        bake(
            scheduler="slurm",
            memory_resource="ram",
            cuda_resource="ngpus",
            parallel_environment="",
            queue="a.q,b.q@@gpu",
            slurm_cuda="gpu:a100",
            partition="long",
        )
    )
    assert "scheduler" not in plain and "queue" not in plain["gridengine"] and "partition" not in plain["slurm"]
    assert own == {
        "scheduler": "slurm",
        "gridengine": {
            "memory": "ram",
            "memory_per": "slot",
            "cuda": "ngpus",
            "cuda_per": "job",
            "queue": "a.q,b.q@@gpu",
        },
        "slurm": {"cuda": "gpu:a100", "partition": "long"},
    }


def test_grid_takes_whatever_the_table_can_hold(bake):
    answers = dict(parallel_environment="", queue="a.q", partition="b", slurm_cuda="gpu:a100")
    for scheduler in QUESTIONS["scheduler"]:
        project = bake(scheduler=scheduler, **answers)
        project.run(sys.executable, "-c", "import grid; grid._settings()")


@pytest.mark.parametrize("evil", ["{{x}}", "{%raw%}", "[bold]", "$(touch/pwned)", "ü", "-l"])
def test_odd_names_of_a_site_are_left_out(bake, site, evil):
    site.grid_engine(f"{evil}mem {evil} MEMORY <= YES YES 0 0", given=[f"hc:{evil}mem=2G"], environments={evil: "1"})
    site.slurm(f"{evil}|gpu{evil}:2")
    table = gridengine(bake, site)
    assert (table["memory"], table["parallel_environment"]) == ("h_vmem", "smp")


def test_plain_defaults_of_cookiecutter_json_name_no_site():
    assert QUESTIONS["_per"] == {}
    assert QUESTIONS["scheduler"][0] == "auto"
    assert (QUESTIONS["memory_resource"], QUESTIONS["queue"], QUESTIONS["partition"]) == ("h_vmem", "", "")


HANGING = {
    "sleeps": "exec sleep 31415",
    "ignores SIGTERM": "trap '' TERM HUP INT; while :; do sleep 31415; done",
    "leaves a child that keeps the pipe": "sleep 31415 & echo; exit 0",
    "prints for ever": "while :; do echo spam; done",
    "leaves a child and waits": "trap '' TERM; sleep 31415 & wait",
}


@pytest.fixture
def asked(template, tmp_path, environ, site):
    """asked() runs the hook at the site; returns the seconds it took and cookiecutter.json after it."""

    def run(**variables):
        copy = tmp_path / "copy"
        if not copy.exists():
            shutil.copytree(template, copy)
        begin = time.monotonic()
        command = [sys.executable, "hooks/pre_prompt.py"]
        variables = environ | {"PATH": site.path} | variables
        done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True)
        seconds = time.monotonic() - begin
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return seconds, json.loads((copy / "cookiecutter.json").read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize("code", HANGING.values(), ids=HANGING)
@pytest.mark.parametrize("programs", ["qconf", "qhost", "sinfo", "qconf qhost sinfo"])
def test_a_command_that_hangs_costs_two_seconds_at_most(asked, site, programs, code):
    site.grid_engine(MEM, given=["hc:mem=20G"]).slurm("short|gpu:2")
    marked = code.replace("31415", f"31415.{id(site)}")
    for program in programs.split():
        site.program(program, marked)
    seconds, questions = asked()
    assert seconds < 2.2, "two seconds, and what starting Python may take on a busy machine"
    # what does not hang is heard
    assert questions["memory_resource"] == ("h_vmem" if "qconf" in programs else "mem")
    assert ("short" in questions["__prompts__"]["partition"]) == ("sinfo" not in programs)
    if "qconf" in programs:
        assert "did not answer in time" in questions["__prompts__"]["memory_resource"]
    for _ in range(20):
        left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        if f"31415.{id(site)}" not in left and str(site.folder) not in left:
            break
        time.sleep(0.1)  # a process that is killed may take a moment to end
    else:
        pytest.fail(f"something is left running: {left}")


def test_without_schedulers_the_hook_takes_no_time(asked):
    seconds, questions = asked()
    assert seconds < 1
    assert {name: questions[name] for name in questions if name != "__prompts__"} == {
        name: QUESTIONS[name] for name in QUESTIONS if name != "__prompts__"
    }


@pytest.mark.parametrize("code", ["import sys; sys.exit('grid.py needs Python 3.11')", "match 1:\n", "1 / 0"])
@pytest.mark.parametrize("name", ["grid.py", "doctor.py"])
def test_a_module_that_cannot_be_loaded_leaves_the_plain_defaults(asked, site, tmp_path, template, name, code):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    shutil.copytree(template, tmp_path / "copy")
    (tmp_path / "copy" / "{{cookiecutter.project_slug}}" / name).write_text(code)
    assert asked()[1]["memory_resource"] == "h_vmem"


@pytest.mark.parametrize("name", ["grid.py", "doctor.py"])
def test_a_module_that_is_not_there_leaves_the_plain_defaults(asked, site, tmp_path, template, name):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    shutil.copytree(template, tmp_path / "copy")
    (tmp_path / "copy" / "{{cookiecutter.project_slug}}" / name).unlink()
    assert asked()[1]["memory_resource"] == "h_vmem"


def test_an_older_python_can_read_the_hook():
    code = (TEMPLATE / "hooks" / "pre_prompt.py").read_text(encoding="utf-8")
    ast.parse(code, feature_version=(3, 7))


@pytest.mark.parametrize("text", ["", "no table", "name short type\n" * 3, "\0\xff"])
def test_nonsense_from_a_scheduler_leaves_the_plain_defaults(asked, site, text):
    site.grid_engine().slurm()
    for program in ("qconf", "qhost", "sinfo"):
        site.program(program, f"printf %s {text!r}")
    questions = asked()[1]
    assert questions["memory_resource"] == "h_vmem" and questions["parallel_environment"] == "smp"
