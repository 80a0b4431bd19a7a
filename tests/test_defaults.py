"""The questions come with the defaults of the site where they are asked, and never late."""

import ast
import copy
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from baking import QUESTIONS, TEMPLATE, without_schedulers
from sandbox import compiled_library, load, room
from sites import Site
from until import until

MEM = "mem mem MEMORY <= YES YES 0 0"
CUDA = "cuda cuda INT <= YES YES 0 0"
PROJECT = "{{cookiecutter.project_slug}}"


@pytest.fixture
def site(tmp_path, environ):
    """A machine without schedulers, to which a test gives some."""
    return Site(tmp_path / "site", without_schedulers(environ))


@pytest.fixture
def hook(monkeypatch):
    """hooks/pre_prompt.py as a module, in a process where grid.py is loaded already and time does not matter."""
    load(compiled_library())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.chdir(TEMPLATE)
    spec = importlib.util.spec_from_file_location("pre_prompt", TEMPLATE / "hooks" / "pre_prompt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 60)
    return module


@pytest.fixture
def ask(hook, site, monkeypatch):
    """ask() returns cookiecutter.json as the hook changes it at this site."""

    def run():
        monkeypatch.setenv("PATH", site.path)
        found, questions = {}, copy.deepcopy(QUESTIONS)
        hook.query(found)
        hook.set_defaults(questions, found)
        return questions

    return run


@pytest.fixture
def run_hook(template, tmp_path, environ, site):
    """run_hook() runs the hook at this site in a process of its own, as cookiecutter does; returns cookiecutter.json."""
    copied = tmp_path / "copy"

    def run(**variables):
        command = [sys.executable, "hooks/pre_prompt.py"]
        variables = environ | {"PATH": site.path} | variables
        done = subprocess.run(command, cwd=copied, env=variables, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return json.loads((copied / "cookiecutter.json").read_text(encoding="utf-8"))

    shutil.copytree(template / "hooks", copied / "hooks")
    shutil.copytree(template / PROJECT / "gridlib", copied / PROJECT / "gridlib")
    shutil.copy(template / "cookiecutter.json", copied)
    run.library = copied / PROJECT / "gridlib"
    return run


def names(questions):
    """What [tool.grid.gridengine] gets with these defaults: memory, memory_per, cuda, cuda_per."""
    memory, cuda, per = questions["memory_resource"], questions["cuda_resource"], questions["_per"]
    return [memory, per.get(memory, "slot"), cuda, per.get(cuda, "job")]


def prompts(questions):
    """What is asked, and the default, in one line."""
    texts = []
    for name, prompt in questions["__prompts__"].items():
        text = prompt["__prompt__"] if isinstance(prompt, dict) else prompt
        texts.append(f"{text} ({questions[name]})")
    return " ".join(texts)


def table(project):
    """[tool.grid] of a project."""
    return tomllib.loads(project.read("pyproject.toml"))["tool"]["grid"]


# --- The names that a site offers -------------------------------------------------------------------------------------

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
def test_names_of_memory_and_gpus_are_those_of_the_site(ask, site, complexes, given, expected):
    site.grid_engine(*complexes, given=given)
    assert names(ask()) == expected.split()


@pytest.mark.parametrize("consumable, per", [("NO", "slot"), ("YES", "slot"), ("JOB", "job")])
def test_a_limit_of_the_queue_counts_per_slot_unless_per_job(ask, site, consumable, per):
    site.grid_engine(h_vmem=f"h_vmem h_vmem MEMORY <= YES {consumable} 0 0")
    assert names(ask())[:2] == ["h_vmem", per]


def test_another_answer_is_counted_as_the_site_counts_it(ask, site):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    per = ask()["_per"]
    expected = {"mem": "slot", "mem_free": "job", "mf": "job", "h_vmem": "slot", "unheard_of": "slot"}
    assert {name: per.get(name, "slot") for name in expected} == expected


def test_gpus_of_a_queue_are_found(ask, site):
    unused = "gpu gpu INT <= YES YES 0 0"
    site.grid_engine(unused, "ngpus ngpus INT <= YES YES 0 0", values="NONE,[@gpu=ngpus=2],[node2=ngpus=4]")
    assert ask()["cuda_resource"] == "ngpus"


def test_a_parallel_environment_on_one_host_comes_first(ask, site):
    rules = {"mpi": "$round_robin", "make": "$fill_up", "threaded": "$pe_slots", "zeta": "$pe_slots"}
    site.grid_engine(environments=rules)
    assert ask()["parallel_environment"] == "threaded"


def test_a_parallel_environment_may_begin_with_a_digit(ask, site):
    site.grid_engine(environments={"12way": "$pe_slots"})
    assert ask()["parallel_environment"] == "12way"


@pytest.mark.parametrize(
    "gres, cuda",
    [
        ("mps:100,gpu_mem:40,gpu:a100:2", "gpu"),
        ("gpu_load:1,nvidia_big:2,gpus:4", "gpus"),
        ("gpu_mem:40,mps:100", "gpu"),
        ("4gpu:2", "4gpu"),
    ],
)
def test_gpus_of_slurm_are_sorted_and_are_gpus(ask, site, gres, cuda):
    site.slurm(f"short|{gres}")
    assert ask()["slurm_cuda"] == cuda


def test_variables_of_sinfo_and_hidden_partitions_change_nothing(run_hook, site):
    site.slurm("short|gpus:2")
    program = site.folder / "sinfo"
    check = '[ "$SINFO_PARTITION$SINFO_SORT$SINFO_FEDERATION" ] && exit 1'
    program.write_text(program.read_text().replace("#!/bin/bash", f"#!/bin/bash\n{check}"))
    assert run_hook(SINFO_PARTITION="x", SINFO_SORT="y", SINFO_FEDERATION="1")["slurm_cuda"] == "gpus"
    assert "--all " in program.read_text(), "which the real one needs for hidden partitions"


@pytest.mark.parametrize(
    "name",
    ["mem@x", "mem:x", "+mem", ".mem", "mem,y", "mem*", "{{x}}", "{%raw%}", "[bold]", "$(touch/pwned)", "ü", "-l"],
)
def test_no_default_is_one_that_would_be_refused_or_read_as_something_else(ask, hook, site, name):
    site.grid_engine(
        f"{name} {name} MEMORY <= YES YES 0 0",
        f"{name}mem {name}m MEMORY <= YES YES 0 0",
        given=[f"hc:{name}=2G", f"hc:{name}mem=2G"],
        environments={name: "$pe_slots"},
    )
    site.slurm(f"{name}|gpu{name}:2")
    questions = ask()
    assert (questions["memory_resource"], questions["parallel_environment"]) == ("h_vmem", "smp")
    assert re.fullmatch(hook.GRES, questions["slurm_cuda"])
    if set(name) & set("{[$ü"):
        assert name not in json.dumps(questions, ensure_ascii=False), "nor does a prompt show it"


@pytest.mark.parametrize("text", ["", "no table", "name short type\n" * 3, "\0\xff"])
def test_nonsense_from_a_scheduler_leaves_the_plain_defaults(ask, site, text):
    site.grid_engine().slurm()
    for program in ("qconf", "qhost", "sinfo"):
        site.program(program, f"printf %s {text!r}")
    questions = ask()
    assert questions["memory_resource"] == "h_vmem" and questions["parallel_environment"] == "smp"


# --- What the questions say -------------------------------------------------------------------------------------------


def test_each_question_says_where_its_default_comes_from(bake, site):
    site.grid_engine(MEM, CUDA, given=["hc:mem=20G", "hc:cuda=2"]).slurm(
        "short|gpu:a100:2(S:0,1),shard:4", "long|(null)"
    )
    project = bake(typed=True, variables={"PATH": site.path})
    asked = " ".join(project.output.split())
    for text in (
        "(found here: Grid Engine (SGE 8.1.9) and Slurm (slurm-wlm 22.05.8); auto uses Grid Engine)",
        "Grid Engine's name for memory (mem is consumable here, per slot: qconf -sc; also h_vmem, mem_free) (mem)",
        "Grid Engine's name for GPUs (cuda is consumable here, per slot: qconf -sc) (cuda)",
        "for more than one core (smp is found here: qconf -spl) (smp)",
        "Grid Engine's queue (found here: all.q, long.q; empty: the site's default)",
        "Slurm's name for GPUs (gpu is found here: sinfo -o %G; also gpu:a100) (gpu)",
        "Slurm's partition (found here: short, long; empty: the site's default)",
    ):
        assert text in asked
    assert table(project)["gridengine"]["memory"] == "mem"


def test_without_a_scheduler_the_usual_names_are_offered_as_such(ask):
    asked = prompts(ask())
    for text in (
        "(none detected)",
        "Grid Engine's name for memory (no Grid Engine detected; press Enter) (h_vmem)",
        "Slurm's name for GPUs (no Slurm detected; press Enter) (gpu)",
    ):
        assert text in asked


def test_with_only_slurm_the_rest_is_plain(ask, site):
    site.slurm("short|gpu:2")
    asked = prompts(ask())
    assert "(found here: Slurm (slurm-wlm 22.05.8))" in asked
    assert "(no Grid Engine detected; press Enter) (h_vmem)" in asked


def test_with_only_grid_engine_the_rest_is_plain(ask, site):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    asked = prompts(ask())
    assert "(found here: Grid Engine (SGE 8.1.9))" in asked
    assert "(qconf -sc lists none here; press Enter) (cuda)" in asked
    assert "(no Slurm detected; press Enter) (gpu)" in asked


def test_what_is_asked_stays_as_cookiecutter_json_says(ask, site):
    site.grid_engine(MEM, given=["hc:mem=20G"]).slurm("short|gpu:2")
    for before, after in zip(QUESTIONS["__prompts__"].values(), ask()["__prompts__"].values(), strict=True):
        if isinstance(before, dict):
            before, after = before["__prompt__"], after["__prompt__"]
        assert after.partition(" (")[0] == before.partition(" (")[0]


# --- What comes of the answers ----------------------------------------------------------------------------------------


def test_names_of_the_site_end_in_the_table(bake, site):
    """With characters that a template, a shell or TOML could take for something else, were they not quoted."""
    complexes = ["80gmem+x m+ MEMORY <= YES JOB 0 0", "4gpu+gpu g+ INT <= YES YES 0 0"]
    site.grid_engine(*complexes, given=["hc:80gmem+x=2G", "hc:4gpu+gpu=2"], environments={"12way": "$pe_slots"})
    made = table(bake(variables={"PATH": site.path}))["gridengine"]
    assert made == {
        "memory": "80gmem+x",
        "memory_per": "job",
        "cuda": "4gpu+gpu",
        "cuda_per": "slot",
        "parallel_environment": "12way",
    }


def test_answers_end_in_the_table_and_grid_takes_it(bake, hook, monkeypatch):
    own = dict(memory_resource="ram", cuda_resource="ngpus", parallel_environment="", queue="a.q,b.q@@gpu")
    plain, changed = bake(), bake(scheduler="slurm", slurm_cuda="gpu:a100", partition="long", **own)
    assert "scheduler" not in table(plain)
    assert "queue" not in table(plain)["gridengine"] and "partition" not in table(plain)["slurm"]
    assert table(changed) == {
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
    for project in (plain, changed):
        monkeypatch.setattr(room("project"), "PYPROJECT", str(project.path / "pyproject.toml"))
        assert room("schedulers").checked_settings() == table(project)


def test_plain_defaults_of_cookiecutter_json_name_no_site():
    assert QUESTIONS["_per"] == {}
    assert QUESTIONS["scheduler"][0] == "auto"
    assert (QUESTIONS["memory_resource"], QUESTIONS["queue"], QUESTIONS["partition"]) == ("h_vmem", "", "")


# --- Whatever goes wrong ----------------------------------------------------------------------------------------------

HANGING = {
    "sleeps": "exec sleep 31415",
    "ignores SIGTERM": "trap '' TERM HUP INT; while :; do sleep 31415; done",
    "leaves a child that keeps the pipe": "sleep 31415 & echo; exit 0",
    "prints for ever": "while :; do echo spam; done",
    "leaves a child and waits": "trap '' TERM; sleep 31415 & wait",
}


ALL = "qconf qhost sinfo"


@pytest.mark.parametrize(
    "kind, programs",
    [*((kind, ALL) for kind in HANGING), *(("leaves a child and waits", program) for program in ALL.split())],
)
def test_a_command_that_hangs_is_given_up_and_what_does_not_hang_is_heard(run_hook, site, kind, programs):
    site.grid_engine(MEM, given=["hc:mem=20G"]).slurm("short|gpu:2")
    mark = f"31415.{id(site)}"
    for program in programs.split():
        site.program(program, HANGING[kind].replace("31415", mark))
    questions = run_hook()
    assert questions["memory_resource"] == ("h_vmem" if "qconf" in programs else "mem")
    assert ("short" in questions["__prompts__"]["partition"]) == ("sinfo" not in programs)
    if "qconf" in programs:
        assert "did not respond in time" in questions["__prompts__"]["memory_resource"]

    def nothing_is_left():
        left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        return mark not in left and str(site.folder) not in left

    until(nothing_is_left, "all is ended that hangs")


def test_all_of_it_takes_less_than_two_seconds(hook, monkeypatch):
    monkeypatch.undo()  # which the fixture gives all the time
    assert hook.ANSWER_TIMEOUT < hook.TIMEOUT < 2


def test_without_schedulers_the_defaults_are_the_plain_ones(run_hook):
    changed = {"__prompts__"}
    questions = run_hook()
    assert {name: questions[name] for name in questions.keys() - changed} == {
        name: QUESTIONS[name] for name in QUESTIONS.keys() - changed
    }


@pytest.mark.parametrize("code", ["import sys; sys.exit('needs Python 3.11')", "match 1:\n", "1 / 0", None])
@pytest.mark.parametrize("name", ["site.py", "schedulers/__init__.py"])
def test_a_library_that_cannot_be_loaded_leaves_the_plain_defaults(run_hook, site, name, code):
    site.grid_engine(MEM, given=["hc:mem=20G"])
    file = run_hook.library / name
    file.unlink() if code is None else file.write_text(code)
    assert run_hook()["memory_resource"] == "h_vmem"


def test_an_older_python_can_read_the_hook():
    code = (TEMPLATE / "hooks" / "pre_prompt.py").read_text(encoding="utf-8")
    ast.parse(code, feature_version=(3, 7))
