"""Fake sites for tests: folders with programs that answer as a scheduler's do."""

import os
import shlex
import sys

COMPLEXES = """\
#name               shortcut   type      relop requestable consumable default  urgency
#--------------------------------------------------------------------------------------
arch                a          STRING    ==    YES         NO         NONE     0
h_rt                h_rt       TIME      <=    YES         NO         0:0:0    0
h_fsize             h_fsize    MEMORY    <=    YES         NO         0        0
{h_vmem}
mem_free            mf         MEMORY    <=    YES         NO         0        0
mem_total           mt         MEMORY    <=    YES         NO         0        0
mem_used            mu         MEMORY    >=    YES         NO         0        0
slots               s          INT       <=    YES         YES        1        1000
swap_free           sf         MEMORY    <=    YES         NO         0        0
{others}
# >#< starts a comment but comments are not saved across edits --------
"""
H_VMEM = "h_vmem h_vmem MEMORY <= YES NO 0 0"

HOSTS = """\
HOSTNAME                ARCH         NCPU NSOC NCOR NTHR  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS
----------------------------------------------------------------------------------------------
global                  -               -    -    -    -     -       -       -       -       -
node1                   lx-amd64        2    1    2    2  0.69   23.5G  429.3M     0.0     0.0
   hl:arch=lx-amd64
   hl:mem_total=23.541G
   hl:mem_free=23.127G
   hl:mem_used=424.020M
"""

# Prints what squeue would for these rows, in the format that it is asked for.
SQUEUE = """
format = sys.argv[sys.argv.index("--format") + 1]
for row in ROWS:
    line = format
    for letter, value in zip("FKTrSVNjo", row):
        line = line.replace("%" + letter, value)
    print(line)
"""
TIME = "2026-01-02T03:04:05"


def squeue(rows):
    """The code of a squeue for Site.program that knows these rows; a string is Python code for them."""
    return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(f'import os, sys; ROWS = {rows}{SQUEUE}')} \"$@\""


def row(number="41", index="N/A", word="PENDING", reason="None", name="worker", script="/x/job.sh", host="node1"):
    """A row of squeue, as squeue() takes it."""
    return (number, index, word, reason, TIME, TIME, host, name, script)


class Site:
    """A machine with fake schedulers: `path` is its PATH."""

    def __init__(self, folder, path):
        self.folder = folder
        folder.mkdir()
        self.path = f"{folder}{os.pathsep}{path}"

    def program(self, name, code):
        file = self.folder / name
        file.write_text(f"#!/bin/bash\n{code}\n", encoding="utf-8")
        file.chmod(0o755)

    def answers(self, name, answers, otherwise="exit 1"):
        """A program that prints the answers to the arguments that it knows."""
        cases = "".join(f"{shlex.quote(words)}) echo {shlex.quote(text)} ;;\n" for words, text in answers.items())
        self.program(name, f'case "$*" in\n{cases}*) {otherwise} ;;\nesac')

    def grid_engine(self, *complexes, given=(), environments=None, values="NONE", h_vmem=H_VMEM):
        """A Grid Engine with these complexes beside the usual ones; given: those that a host has, as in hc:mem=20G."""
        environments = {"smp": "$pe_slots"} if environments is None else environments
        queue = f"qname  all.q\npe_list  {' '.join(environments) or 'NONE'}\ncomplex_values  {values}\n"
        answers = {
            "-help": "SGE 8.1.9\nusage: qconf [options]",
            "-sc": COMPLEXES.format(h_vmem=h_vmem, others="\n".join(complexes)),
            "-sq *": queue + "\n" + queue.replace("all.q", "long.q"),
            "-spl": "\n".join(environments),
        }
        answers |= {f"-sp {name}": f"pe_name  {name}\nallocation_rule  {rule}" for name, rule in environments.items()}
        self.answers("qconf", answers)
        self.answers("qhost", {"-F": HOSTS + "".join(f"   {one}\n" for one in given)})
        for name in ("qsub", "qdel", "qalter", "qacct"):
            self.program(name, "exit 1")
        self.program("qstat", "echo '<job_info/>'")
        return self

    def slurm(self, *lines):
        """A Slurm; lines as in long|gpu:2, or with the state of the nodes, long|down*|gpu:2."""
        rows = [line if line.count("|") == 2 else line.replace("|", "|idle|") for line in lines or ["short|(null)"]]
        answers = {"--version": "slurm-wlm 22.05.8", "--all --noheader --format=%R|%T|%G": "\n".join(rows)}
        self.answers("sinfo", answers)
        self.program("squeue", "exit 0")
        for name in ("sbatch", "scancel", "sacct"):
            self.program(name, "exit 1")
        self.program("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
        return self
