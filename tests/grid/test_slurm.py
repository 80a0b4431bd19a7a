"""The promise: what Slurm says is understood, whatever others call their jobs, and nothing that lives is taken for dead."""

import re
import shlex

import pytest

import sites
from sandbox import room
from sites import row

OURS = "our script"


@pytest.fixture
def slurm(sandbox, monkeypatch):
    """A folder with a Slurm that knows no job; slurm.squeue(rows) lets it list some, OURS is the script of our job."""
    monkeypatch.setenv("GRID_SCHEDULER", "slurm")

    def squeue(*rows):
        code = repr(list(rows)).replace(repr(OURS), "open('script').read().strip()")
        sandbox.program("squeue", f'echo "$@" >>asked; {sites.squeue(code)}')

    sandbox.squeue = squeue
    squeue()
    sandbox.program(
        "sbatch", 'echo "${@: -1}" >script; echo "$@" >>submitted; env | grep -E "^(SBATCH|SLURM)" >>submitted; echo 41'
    )
    sandbox.program("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    sandbox.program("sacct", "exit 1")
    sandbox.write("worker.py", "")
    sandbox.limits.grace = 0
    return sandbox


def scontrol(slurm, words, script=None, user=None):
    """Let scontrol show the job, as one of ours if not told otherwise."""
    user = user or room("project").user()
    script = script or (slurm.path / "script").read_text().strip()
    text = f"JobId=41 JobName=worker UserId={user}(1) JobState={words} Command={script} WorkDir=/"
    slurm.program("scontrol", f"echo {shlex.quote(text)}")


@pytest.mark.parametrize(
    "word, reason, state, shown",
    [
        *(("PENDING", "Priority", "PENDING", ""), ("PENDING", "(Resources)", "PENDING", "")),
        *(("PENDING", "JobHeldUser", "PENDING", "held"), ("PENDING", "Dependency", "PENDING", "held")),
        ("PENDING", "job requeued in held state", "PENDING", "held"),
        ("PENDING", "PartitionTimeLimit", "PENDING", "PartitionTimeLimit"),
        ("PENDING", "(launch failed requeued held)", "FAILED", "in error state; the scheduler will not run it"),
        *(("REQUEUE_HOLD", "None", "PENDING", "held"), ("SPECIAL_EXIT", "None", "PENDING", "held")),
        *(("RUNNING", "None", "RUNNING", ""), ("COMPLETING", "None", "RUNNING", "")),
        *(("CONFIGURING", "None", "RUNNING", ""), ("SUSPENDED", "None", "RUNNING", "suspended")),
    ],
)
def test_every_state_of_slurm_has_a_meaning(slurm, word, reason, state, shown):
    job = slurm.submit()
    slurm.squeue(row(word=word, reason=reason, script=OURS))
    assert (job.state, job.reason) == (state, shown)


@pytest.mark.parametrize("name", ["a\nb", "x\n9999999\tN/A\tRUNNING\tx", "a\tb\tc", "", "%T", "ü;$HOME\r"])
def test_whatever_other_jobs_are_called_the_table_is_right(slurm, name):
    slurm.squeue(row("7", name=name), row("41", word="RUNNING"))
    queue = room("schedulers").scheduler("slurm").queue()
    assert set(queue) == {"7", "41"} and queue["41"][0].state == "RUNNING" and queue["41"][0].host == "node1"
    slurm.program("scancel", 'echo "$@" >>deleted')
    assert sorted(slurm.grid.qdel()) == ["41", "7"]


def test_hidden_partitions_are_asked_for_and_the_users_variables_change_nothing(slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SBATCH_ARRAY_INX", "1-3")
    monkeypatch.setenv("SBATCH_ACCOUNT", "vision")
    slurm.program("squeue", 'env | grep ^SQUEUE_ >>asked; echo "$@" >>asked')
    assert slurm.submit().state
    asked, submitted = ((slurm.path / name).read_text() for name in ("asked", "submitted"))
    assert "SQUEUE" not in asked and "--all" in asked
    assert "ARRAY_INX" not in submitted and "SBATCH_ACCOUNT=vision" in submitted


@pytest.mark.parametrize("word", "CONFIGURING RUNNING PENDING SUSPENDED REQUEUED COMPLETING".split())
def test_a_job_that_squeue_does_not_list_but_slurm_knows_to_live_is_not_declared_dead(slurm, word):
    job = slurm.submit()
    scontrol(slurm, f"{word} Reason=None ExitCode=0:0")
    assert job.state in ("PENDING", "RUNNING") and word in job.reason
    scontrol(slurm, "TIMEOUT Reason=TimeLimit ExitCode=0:15")
    assert (job.state, job.exit_code, job.reason) == ("FAILED", 143, "killed by Slurm: over its time limit")


@pytest.mark.parametrize(
    "words, state, code, reason",
    [
        ("OUT_OF_MEMORY|0:125", "FAILED", None, "killed by Slurm: over its memory"),
        ("CANCELLED by 1000|0:0", "FAILED", None, "deleted with scancel, or by the site"),
        ("NODE_FAIL|0:0", "FAILED", None, "Slurm says: NODE_FAIL"),
        ("FAILED|5:0", "FAILED", 5, "exit code 5"),
        ("COMPLETED|0:0", "DONE", 0, "according to Slurm"),
    ],
)
def test_the_database_tells_what_the_controller_has_forgotten(slurm, words, state, code, reason):
    slurm.program("sacct", f"echo '41|{room('project').user()}|worker|{words}'")
    job = slurm.submit()
    assert (job.state, job.exit_code, job.reason) == (state, code, reason)


@pytest.mark.parametrize("other", [{"script": "/home/other/.grid/x/1/job.sh"}, {"user": "somebody"}])
def test_another_job_that_has_had_our_id_tells_nothing(slurm, other):
    """Ids are used again, and other clusters have the same."""
    job = slurm.submit()
    scontrol(slurm, "COMPLETED Reason=None ExitCode=0:0", **other)
    slurm.program("sacct", "echo '41|somebody|worker|COMPLETED|0:0'; echo '41|' $(id -un) '|other|COMPLETED|0:0'")
    assert (job.state, job.exit_code) == ("FAILED", None) and "vanished" in job.reason


@pytest.mark.parametrize("options", [["-M", "other"], ["-Mother"], ["--clusters=other"], ["--cluster", "other"]])
def test_another_cluster_is_refused_for_its_jobs_could_not_be_found_again(slurm, options):
    with pytest.raises(slurm.grid.ArgumentError, match="submit on a host of that cluster"):
        slurm.submit(options=options)
    assert slurm.jobs() == []


@pytest.mark.parametrize(
    "words, advice",
    [
        ("Invalid generic resource (gres) specification", 'write cuda = "NAME" into'),
        ("invalid partition specified: nope", 'write partition = "NAME" into'),
        ("Requested node configuration is not available", "ask for less memory"),
        ("Invalid account or account/partition combination specified", "export SBATCH_ACCOUNT=NAME"),
    ],
)
def test_a_refusal_comes_with_what_to_do(slurm, words, advice):
    slurm.program("sbatch", f"echo 'sbatch: error: {words}' >&2; exit 1")
    with pytest.raises(slurm.grid.SubmitError, match=f"(?s){re.escape(words)}.*{re.escape(advice)}"):
        slurm.submit(cuda=1)
    assert slurm.jobs() == []


def test_the_call_of_sbatch_holds_what_was_asked_for(slurm):
    slurm.write("pyproject.toml", "[tool.grid.slurm]\ncuda = 'gpu:a100'\npartition = 'long'\n")
    slurm.submit(memory="1.5G", cuda=2, cores=4, walltime="1:30:00", options=["--qos=high"])
    words = (slurm.path / "submitted").read_text().split()
    asked = "--cpus-per-task=4 --mem=1536M --gres=gpu:a100:2 --time=90:00 --partition=long --qos=high"
    assert words[words.index("--cpus-per-task=4") :][:6] == asked.split()


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_site_that_takes_hardly_any_arrays_is_a_clear_error_and_no_endless_loop(slurm, most):
    slurm.program("scontrol", f"echo 'MaxArraySize            = {most}'")
    slurm.program("sbatch", "echo x >>calls; echo 'sbatch: error: Invalid job array specification' >&2; exit 1")
    with pytest.raises(slurm.grid.SubmitError, match="Invalid job array specification"):
        slurm.grid.submit_array("worker.py", [[1]] * 2000, log_dir="logs")
    assert slurm.jobs() == [] and len((slurm.path / "calls").read_text().split()) <= 12
