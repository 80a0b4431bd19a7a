"""What a site offers: its names for memory and GPUs, parallel environments, queues, partitions; and which jobs it cannot run.

The doctor compares it with [tool.grid]; the template takes the defaults of its questions from it (hooks/pre_prompt.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gridlib.errors import SubmitError
from gridlib.schedulers import Scheduler

# What sites call memory and GPUs, the best first, and what only looks like it.
NAMES = {
    "memory": ["h_vmem", "mem|memory|ram", ".*mem.*|(.*_)?ram(_.*)?", "virtual_free|s_vmem|[hs]_rss"],
    "cuda": ["gpu|cuda", "n?(gpu|cuda)s?", ".*(gpu|cuda|nvidia).*"],
}
OTHER = {"memory": "total|used|swap|gpu|cuda|disk|tmp", "cuda": "mem|arch|util|temp|version|cap|load"}
KINDS = {"memory": ["MEMORY"], "cuda": ["INT", "RSMAP"]}  # the types that Grid Engine gives them
SINGLE_HOST = "smp|shm|thread|omp|openmp|multi|local|single"  # in names of parallel environments

# Reasons by which Slurm says that a job asks for what there is not, and states of nodes that run no jobs.
UNSATISFIABLE = "Bad|Invalid|NotAllowed|NeverSatisfied|Partition(Config|(Node|Time)Limit)|MaxMemPerLimit"
UNSATISFIABLE += r"|JobHoldMaxRequeue|(QOS|Assoc)Max\w*PerJob|QOSMin"
UNAVAILABLE = r"(down|drain|fail|err|maint|unk|fut|inval|block|perfctrs).*|.*\*"  # *: the node does not respond


@dataclass
class GridEngineSite:
    """What a Grid Engine offers; see the man pages complex, queue_conf, sge_pe. What it does not tell stays empty."""

    version: str
    memory: list[str]  # resources by which to request memory, the best first
    cuda: list[str]  # and GPUs
    offered: set[str]  # all resources that jobs can request and get, by their shortcuts too
    consumable: set[str]
    per: dict[str, str]  # whether a resource counts per "slot" or "job"
    parallel_environments: dict[str, str]  # their allocation rules, the best first; $pe_slots keeps a job on one host
    queues: list[str]


@dataclass
class SlurmSite:
    """What a Slurm offers; see the man page sinfo. What it does not tell stays empty."""

    version: str
    cuda: list[str]  # generic resources by which to request GPUs, the best first
    gres: list[str]  # all generic resources, a type as gpu:a100
    partitions: dict[str, list[str]]  # the states of their nodes


def query_site(scheduler: Scheduler) -> GridEngineSite | SlurmSite:
    """Return what the site of a Grid Engine or a Slurm offers.

    Raises:
        SubmitError: it is another scheduler, of which nothing can be asked.
    """
    if scheduler.name not in ("gridengine", "slurm"):
        raise SubmitError(f"what a site with {scheduler.title} offers cannot be asked; its names are not checked")
    return query_slurm(scheduler) if scheduler.name == "slurm" else query_grid_engine(scheduler)


def ask(scheduler: Scheduler, commands: Iterable[str], errors: bool = False) -> list[str]:
    """Return what commands print, all run at the same time; of one that fails an empty text, or with errors its message."""
    from concurrent.futures import ThreadPoolExecutor

    def answer(command: str) -> str:
        try:
            return scheduler.call(command.split())
        except SubmitError as error:
            return str(error) if errors else ""

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(answer, commands))


def rank(what: str, name: str) -> int | None:
    """Return how well a name fits "memory" or "cuda", 0 the best; None if it means something else."""
    ranks = [number for number, pattern in enumerate(NAMES[what]) if re.fullmatch(pattern, name)]
    return ranks[0] if ranks and not re.search(OTHER[what], name) else None


# --- Grid Engine ------------------------------------------------------------------------------------------------------


def query_grid_engine(scheduler: Scheduler) -> GridEngineSite:
    """Return what a Grid Engine offers."""
    commands = ("qconf -help", "qconf -sc", "qhost -F", "qconf -sq *", "qconf -spl")
    version, table, hosts, queues, environments = ask(scheduler, commands)
    queues = re.sub(r"\\\n *", " ", queues)
    rules = ask(scheduler, [f"qconf -sp {name}" for name in environments.split()])
    site = GridEngineSite(
        version="".join(version.splitlines()[:1]).strip(),
        memory=[],
        cuda=[],
        offered=set(),
        consumable=set(),
        per={},
        parallel_environments=_parallel_environments(environments.split(), rules, queues),
        queues=re.findall(r"^qname +(\S+)", queues, re.MULTILINE),
    )
    _read_complexes(site, table, _given(hosts, queues) if hosts else None)
    return site


def _given(hosts: str, queues: str) -> set[str]:
    """The resources that hosts and queues have to give."""
    given = set(re.findall(r"\b[gh][a-z]:([^=\s]+)=", hosts))
    for values in re.findall("^complex_values(.*)", queues, re.MULTILINE):
        given |= set(re.findall(r"(?:\[[^=]*=)?([\w.+-]+)=", values))  # [host=name=value] is for one host
    return given


def _read_complexes(site: GridEngineSite, table: str, given: set[str] | None) -> None:
    """Read the table of resources into a site. given: what hosts and queues have; None: nobody knows."""
    found: dict[str, list[tuple]] = {"memory": [], "cuda": []}
    for line in table.splitlines():
        name, short, kind, relation, requestable, consumed, *_ = (line.split() + [""] * 6)[:6]
        if name.startswith("#") or not consumed:
            continue
        # a limit of the queue: each queue has all of them, and multiplies them by the slots
        limit = re.fullmatch("[hs]_(?!rt$).*", name)
        site.per[name] = site.per[short] = "slot" if consumed == "YES" or consumed == "NO" and limit else "job"
        if consumed != "NO":
            site.consumable |= {name, short}
        if requestable != "NO" and (limit or given is None or name in given):
            site.offered |= {name, short}
        for what, kinds in KINDS.items():
            fit = rank(what, name)
            if name in site.offered and relation == "<=" and kind in kinds and fit is not None:
                found[what].append((consumed == "NO", requestable != "FORCED", fit, name))
    site.memory, site.cuda = ([name for *_, name in sorted(found[what])] for what in ("memory", "cuda"))


def _parallel_environments(names: list[str], rules: list[str], queues: str) -> dict[str, str]:
    """The allocation rules of parallel environments. Those come first that keep a job on one host, and that queues have."""
    used = re.sub(r"[\[\],=]", " ", " ".join(re.findall("^pe_list(.*)", queues, re.MULTILINE))).split()
    found = []
    for name, text in zip(names, rules):
        rule = "".join(re.findall(r"^allocation_rule +(\S+)", text, re.MULTILINE))
        if rule:
            found.append((rule != "$pe_slots", name not in used, not re.search(SINGLE_HOST, name), name, rule))
    return {name: rule for *_, name, rule in sorted(found)}


# --- Slurm ------------------------------------------------------------------------------------------------------------


def query_slurm(scheduler: Scheduler) -> SlurmSite:
    """Return what a Slurm offers."""
    # without the variables that would leave out some of it, or add to it
    nodes = "env -u SINFO_PARTITION -u SINFO_SORT -u SINFO_FEDERATION sinfo --all --noheader --format=%R|%T|%G"
    version, answer = ask(scheduler, ("sinfo --version", nodes))
    partitions: dict[str, list[str]] = {}
    gres: dict[str, int | None] = {}
    for line in answer.splitlines():
        if line.count("|") != 2:
            continue
        partition, state, resources = line.split("|")
        partitions.setdefault(partition, []).append(state)
        resources = re.sub(r"\([^)]*\)", "", resources)  # as in gpu:a100:4(S:0-1),shard:8
        for name, kind in re.findall(r"(?:^|,)([^:,]+)(?::([^:,]*[^:,0-9][^:,]*))?", resources):
            gres[name] = rank("cuda", name)
            if kind:
                gres[f"{name}:{kind}"] = rank("cuda", name)
    cuda = sorted((fit, ":" in name, place, name) for place, (name, fit) in enumerate(gres.items()) if fit is not None)
    return SlurmSite(version.strip(), [name for *_, name in cuda], list(gres), partitions)


# --- Jobs that can never run ------------------------------------------------------------------------------------------


def unsatisfiable(scheduler: Scheduler, job_id: str) -> str:
    """Return why a job that waits can never run at this site, in the scheduler's words; empty if it can, or nobody knows."""
    if scheduler.name == "slurm":
        reason = scheduler.pending_reason(job_id, False)
        return reason if re.search(UNSATISFIABLE, reason) else ""
    if scheduler.name != "gridengine":
        return ""
    # v: if the cluster were empty. It knows no load values, such as mem_free; p, as things are, does.
    empty, now = ask(scheduler, (f"qalter -w v {job_id}", f"qalter -w p {job_id}"), errors=True)
    unsure = "unknown resource" in empty and "unknown resource" not in now
    busy = re.search("disabled|suspended|state|temporar|calendar", empty)
    if unsure or busy or "no suitable queues" not in empty:
        return ""
    return "; ".join(re.findall(r"(?:^|failed: )Job [0-9]+ (.*)$", empty, re.MULTILINE)[:3]) or "no suitable queue"
