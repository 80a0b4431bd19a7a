"""The state of the code: the git commit, digests, and a snapshot of the code for the job."""

from __future__ import annotations

import os
import subprocess
import sys

from gridlib import project
from gridlib.errors import ArgumentError

MAX_SNAPSHOT_FILES = 5000
MAX_SNAPSHOT_FILE = 1024**2  # bytes of a file that is copied


def digest(path: str) -> str | None:
    """Return the SHA-256 of a file; None of a folder."""
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError:
        return None


def script_facts(script: str) -> dict:
    """Return what tells whether the script is still the same: its SHA-256, size in bytes and time in nanoseconds."""
    stat = os.stat(script)
    return {"sha256": digest(script), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def origin() -> dict:
    """Return who submits, from where and when."""
    import platform

    facts = {"submitted": project.now(), "host": platform.node(), "pid": os.getpid(), "user": project.user()}
    return facts | {"python": f"{sys.executable} {platform.python_version()}"}


def _git(script: str, *words: str) -> subprocess.Popen | None:
    """Start git in the folder of the script, such that it writes nothing and runs no hook; None if there is no git."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", os.path.dirname(script), *words]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for name in (
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CEILING_DIRECTORIES",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    ):
        if name in os.environ:
            environ[name] = os.environ[name]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    try:
        return subprocess.Popen(command, env=environ, **pipes)  # type: ignore[call-overload]  # a dict of pipes
    except OSError:
        return None


def _answer(process: subprocess.Popen | None) -> str | None:
    """Return what git printed; None if it failed or takes too long."""
    if process is None:
        return None
    try:
        output, _ = process.communicate(timeout=project.limits.call)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return None if process.returncode else os.fsdecode(output)


def _in_repository(script: str) -> bool:
    """Whether git may know the script: to start it costs more than to look for its folder."""
    folder = os.path.realpath(os.path.dirname(script))
    while not os.path.lexists(os.path.join(folder, ".git")):
        folder, before = os.path.dirname(folder), folder
        if folder == before:
            return False
    return True


class GitState:
    """The commit of the script's repository. git begins to look at once; facts() waits for it."""

    def __init__(self, script: str):
        self._process = _git(script, "status", "--porcelain=v2", "--branch") if _in_repository(script) else None

    def facts(self) -> dict:
        """Return git_commit and git_changes (whether something is not committed); empty outside a repository."""
        lines = (_answer(self._process) or "").splitlines()
        commit = [line.split()[-1] for line in lines if line.startswith("# branch.oid")]
        return {"git_commit": commit[0], "git_changes": any(line[:1] != "#" for line in lines)} if commit else {}


def take_snapshot(script: str, folder: str) -> tuple[str, list[str]]:
    """Copy the code to a folder.

    In a git repository these are all files that git does not ignore; elsewhere the Python files of the script's folder and
    below, and the shell scripts of gridlib. A copy has the rights of its file.

    Returns:
        The path of the script's copy, and the names of files that git has and that were left out, because they are large.

    Raises:
        ArgumentError: it holds too many files, or one that cannot be read.
    """
    import shutil

    here, name = os.path.realpath(os.path.dirname(script)), os.path.basename(script)
    root, names = _code(script, here)
    script, left_out = os.path.relpath(os.path.join(here, name), root), []
    if len(names) > MAX_SNAPSHOT_FILES:
        raise ArgumentError(
            f"snapshot: too many files to copy in {root} ({len(names):,}, limit {MAX_SNAPSHOT_FILES:,}). Submit without a "
            "snapshot, or move the code into a folder of its own."
        )
    for file in sorted({script, *names}):
        source, copy = os.path.join(root, file), os.path.join(folder, file)
        if os.path.isdir(source) and file == script:
            continue  # a folder with __main__.py, whose files are in the list
        if (
            os.path.isdir(source)
            or os.path.isfile(source)
            and os.path.getsize(source) > MAX_SNAPSHOT_FILE
            and file != script
        ):
            left_out.append(file)  # a submodule, a link to a folder, a large file
        elif os.path.isfile(source):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            try:
                shutil.copy2(source, copy)
            except PermissionError as error:
                raise ArgumentError(f"snapshot: {source} cannot be read: {error.strerror}") from None
    return os.path.join(folder, script), left_out


def _code(script: str, here: str) -> tuple[str, list[str]]:
    """Return the folder that holds the project's code, and the names of its files."""
    root = (_answer(_git(script, "rev-parse", "--show-toplevel")) or "").removesuffix("\n")
    if root:
        root = os.path.realpath(root)
        listing = ("ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard", root)
        listed = _answer(_git(script, *listing)) or ""
        return root, [file for file in listed.split("\0") if file and "/.grid" not in f"/{file}"]

    def unreadable(error: OSError) -> None:
        raise ArgumentError(f"snapshot: {error.filename} cannot be read: {error.strerror}")

    names: list[str] = []
    for path, below, files in os.walk(here, onerror=unreadable):
        # not what is hidden, nor environments
        below[:] = [d for d in below if d[0] != "." and not _is_environment(os.path.join(path, d))]
        endings = (".py", ".sh") if os.path.relpath(path, here).split(os.sep)[0] == "gridlib" else (".py",)
        names += [os.path.relpath(os.path.join(path, file), here) for file in files if file.endswith(endings)]
    return here, names


def _is_environment(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, mark)) for mark in ("pyvenv.cfg", "conda-meta"))
