"""Where a project's experiments, notebooks and results lie, and what its sources hash to."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import fleetsim
from fleetsim.base.errors import InputError, found, nearest, refused

ROOT_VARIABLE = "FLEETSIM_ROOT"


def _may_be(folder: Path) -> bool:
    """Return whether an experiment is here, or cannot be told: who reads it then says why."""
    try:
        os.stat(folder / "experiment.yaml")
    except PermissionError:
        return True
    except OSError:
        return False
    return True


class Project:
    """A project folder: the nearest parent that holds ``experiments/``.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.experiments = root / "experiments"
        self.notebooks = root / "notebooks"

    def resolve(self, path: Path | str) -> Path:
        """Return a path of an experiment or of results; a relative one starts at the root."""
        return self.root / path

    def results(self, path: Path | str | None) -> Path:
        """Return the results folder that was asked for, or the project's own.

        Raises
        ------
        InputError
            Where it is a URL: runs are made in folders, and sent to a storage by the commands.
        """
        if isinstance(path, str) and "://" in path:
            raise InputError(  # what it holds may be secret
                "results",
                "found a URL; allowed: a folder",
                next_step="give the URL to --results of fleetsim run, sweep, runs or report",
            )
        return self.resolve(path or "results")

    def relative(self, path: Path) -> str:
        """Return a path as it may stand in a record: relative to the root, or its last name."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return path.name

    def experiment_ids(self) -> list[str]:
        """Return the ids of the experiments, sorted; also of those that may not be looked into.

        Raises
        ------
        InputError
            Where the folder of the experiments cannot be read.
        """
        try:
            names = os.listdir(self.experiments)
        except OSError as error:
            raise refused(error, self.experiments, "cannot be read: {}") from None
        return sorted(name for name in names if _may_be(self.experiments / name))

    def experiment_file(self, experiment: str) -> Path:
        """Return the YAML file of an experiment, given by its id or by a path.

        Raises
        ------
        InputError
            Where there is none; the message lists those that exist.
        """
        path = self.resolve(experiment)
        candidates = [self.experiments / experiment / "experiment.yaml"]
        candidates += [path / "experiment.yaml", path]
        for candidate in candidates:
            if os.path.isfile(candidate):  # False too for what no file can be called
                return candidate
        ids = self.experiment_ids()
        raise InputError(
            "experiment",
            f"found {found(experiment)}{nearest(experiment[:80], ids)}; "
            f"allowed: a path, or one of {', '.join(ids) or '(none exists)'}",
        )

    def notebook_hash(self, name: str) -> str | None:
        """Return the SHA-256 of a committed notebook, or None where it is missing."""
        path = self.notebooks / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    def is_dirty(self) -> bool | None:
        """Return whether sources differ from the last commit, or are new; None without git."""
        command = ["git", "status", "--porcelain", "--", "fleetsim", "notebooks", "experiments"]
        try:
            done = subprocess.run(command, cwd=self.root, capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return bool(done.stdout.strip()) if done.returncode == 0 else None


def find_project(start: Path | None = None) -> Project:
    """Return the project that a folder belongs to.

    ``$FLEETSIM_ROOT`` names it where set; otherwise it is the nearest parent of `start` (by
    default the working folder) that holds ``experiments/``.

    Raises
    ------
    InputError
        Where there is none.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        if not (Path(named) / "experiments").is_dir():
            raise InputError(f"${ROOT_VARIABLE}", f"found {found(named)}; it holds no experiments/")
        return Project(Path(named).resolve())
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "experiments").is_dir():
            return Project(folder)
    raise InputError(
        str(here),
        "neither this folder nor a parent holds experiments/",
        next_step=f"go to the project's folder, or set {ROOT_VARIABLE} to it; fleetsim init makes "
        "a new one",
    )


def source_hash(package: Path | None = None) -> str:
    """Return the SHA-256 over a package's own files, names included; by default fleetsim's.

    A package that is one module is a file.
    """
    package = package or Path(fleetsim.__file__).parent
    if package.is_file():
        return hashlib.sha256(package.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix in {".py", ".j2", ".json", ".css"}:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
