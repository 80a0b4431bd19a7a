"""make bench: what grid.py costs, each measured beside a floor in the same run.

The scheduler is a fake qsub that only prints an id, so what is measured is grid.py. Figures are medians; CPU time counts
this process and all that it starts.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "{{cookiecutter.project_slug}}"
QSUB = '#!/bin/sh\necho "41${3:+.1-9:1}"\n'
QSTAT = """#!/bin/sh
[ "$1" = -xml ] || exit 1
echo '<job_info><queue_info><job_list><JB_job_number>41</JB_job_number><JB_name>worker</JB_name>'
echo "<state>r</state><tasks>1-$(cat "$TASKS"):1</tasks></job_list></queue_info></job_info>"
"""


def cpu(command, times=40, **how):
    """The CPU time of a command, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(times):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **how)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times


def wall(function, times=40):
    """The time that a call takes, in milliseconds: the median."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


def report(what, value, floor, limit):
    print(f"{what:<62} {value:9.1f}   floor {floor:7.1f}   {limit}", flush=True)


def imports():
    Path("bare.py").write_text("")
    Path("imports.py").write_text("from grid import typecast\n")
    for command in (["bare.py"], ["imports.py"]):
        subprocess.run([sys.executable, *command], check=True)  # compiled files are warm
    floor, value = cpu([sys.executable, "bare.py"]), cpu([sys.executable, "imports.py"])
    report("from grid import typecast, CPU ms", value, floor, f"ratio {value / floor:.2f}, at most 1.5")
    floor, value = cpu([sys.executable, "-S", "bare.py"]), cpu([sys.executable, "-S", "imports.py"])
    report("the same without site-packages (python -S), CPU ms", value, floor, f"ratio {value / floor:.2f}")


def task(grid):
    Path("worker.py").write_text("")
    job = grid.submit_script("worker.py", log_dir="logs", scheduler="gridengine")
    script = job.folder / "1" / "job.sh"
    text = script.read_text()
    bare = Path("bare-job.sh")
    bare.write_text(text.replace('"$grid_run" "$grid_folder" "$grid_task"\n', f'"{os.getcwd()}/worker.py"\n'))
    environ = os.environ | {"JOB_ID": "41"}
    floor, value = cpu(["/bin/bash", bare], env=environ), cpu(["/bin/bash", script], env=environ)
    report(
        "an empty worker from the start of job.sh to its end, CPU ms",
        value,
        floor,
        f"+{value - floor:.1f}, at most +40",
    )
    floor = wall(lambda: subprocess.run(["/bin/bash", bare], env=environ))
    value = wall(lambda: subprocess.run(["/bin/bash", script], env=environ))
    report("the same, wall ms", value, floor, f"+{value - floor:.1f}")


def submissions(grid):
    def floor():
        subprocess.run(["qsub"], capture_output=True)

    single = lambda: grid.submit_script("worker.py", [1, "a"], log_dir="logs", scheduler="gridengine")  # noqa: E731
    tasks = [[number, 0.1, [64, 32]] for number in range(1000)]
    array = lambda: grid.submit_array("worker.py", tasks, log_dir="logs", scheduler="gridengine")  # noqa: E731
    single()
    base = wall(floor)
    value = wall(single)
    report("submit_script outside git, wall ms", value, base, f"+{value - base:.1f}, at most +3")
    value = wall(array)
    report("submit_array of 1,000 tasks, wall ms", value, base, "at most 8")
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".gitignore").write_text(".grid\nlogs\n")
    value = wall(single)
    state = wall(lambda: subprocess.run(["git", "status", "--porcelain=v2", "--branch"], capture_output=True))
    report("submit_script in a git repository, wall ms", value, base, f"git status alone {state:.1f}")
    shutil.rmtree(".git")


def many():
    code = """
import resource, time
begin = time.perf_counter()
import grid
job = grid.submit_array("worker.py", [[n, 0.1] for n in range(75_000)], log_dir="logs", scheduler="gridengine")
submitted = time.perf_counter() - begin
begin = time.perf_counter()
counts = grid.Job(job.folder).counts
status = time.perf_counter() - begin
for n in range(1, 75_001, 2): open(f"{job.folder}/1/records/{n}.exit-0", "w").close()
begin = time.perf_counter()
counts = grid.Job(job.folder).counts
half = time.perf_counter() - begin
assert counts["DONE"] == counts["RUNNING"] == 37_500, counts
print(submitted, status, half, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(job.ids))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    submitted, status, half, memory, calls = map(float, done.stdout.split())
    report(f"75,000 tasks in {calls:.0f} qsub, seconds", submitted, 0, f"under 1; {memory:.0f} MB, under 120")
    report("status of them, seconds", status, 0, "under 1")
    report("status of them with 37,500 records, seconds", half, 0, "under 1")


def opened(grid):
    """How many files one look opens, beside no other job and beside 2,500."""
    count = []
    sys.addaudithook(lambda event, args: count.append(args[0]) if event in ("open", "os.listdir") else None)
    numbers = []
    job = grid.submit_script("worker.py", log_dir="logs", scheduler="gridengine")
    assert grid.Job(job.folder).state == "RUNNING"  # what is imported is imported now
    for others in (0, 2500):
        for number in range(others):
            shutil.copytree(job.folder, job.folder.with_name(f"20200101-000000-old-{number}"))
        count.clear()
        assert grid.Job(job.folder).state == "RUNNING"
        numbers.append(len(count))
    print(f"{'files that one look at a job opens, beside 0 and 2,500 others':<62} {numbers}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith(("GRID_", "PYTHON", "GIT_"))]:
            del os.environ[name]
        shutil.copy(PROJECT / "grid.py", ".")
        shutil.copytree(PROJECT / "gridlib", "gridlib")
        for name, text in {"qsub": QSUB, "qstat": QSTAT, "qconf": "#!/bin/sh\nexit 1\n"}.items():
            Path("bin", name).parent.mkdir(exist_ok=True)
            Path("bin", name).write_text(text)
            Path("bin", name).chmod(0o755)
        Path("tasks").write_text("75000")
        os.environ["TASKS"] = str(Path("tasks").resolve())
        os.environ["PATH"] = f"{folder}/bin:{os.environ['PATH']}"
        sys.path.insert(0, folder)
        import grid

        imports()
        task(grid)
        submissions(grid)
        many()
        shutil.rmtree(".grid")
        opened(grid)


if __name__ == "__main__":
    main()
