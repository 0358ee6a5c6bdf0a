"""Results on a storage, by way of a folder of this machine.

Runs are made, and read, in folders. Where results are named by a URL, a hidden folder here stands
for them while a command works: what it needs is brought down, what it made is sent up. A run's
record is sent last, and what has no record is no run: so a run on a storage is there as a whole or
not at all.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.files import PARTIAL, claim_folder, clear_left, point_link
from fleetsim.base.project import Project
from fleetsim.base.storage import is_remote, place, require, told
from fleetsim.base.strict import decoder, read_content
from fleetsim.base.terminal import warn
from fleetsim.batch.dataset import RUN_DATA
from fleetsim.experiment.results import (
    LATEST,
    RECORD_NAME,
    Head,
    Status,
    clear_results,
    find_run,
)

#: Kinds of files that the gallery links to, or shows, where they are there; their names suffice.
_LINKED = (".html", ".md", ".png")


class Mirror:
    """A folder of results, and the place on a storage that it stands for, if any.

    Parameters
    ----------
    project : Project
    folder : Path
        Where commands read and write.
    where : Path, optional
        The place on a storage. Without one, `folder` is the results itself, and nothing here does
        anything.
    """

    def __init__(self, project: Project, folder: Path, where: Path | None = None) -> None:
        self.project = project
        self.folder = folder
        self.where = where
        self._listed: dict[str, str] = {}  # names below `where`, and the storage's own
        self._unsent: list[Path] = []  # runs that are here alone

    def named(self, path: Path) -> Path:
        """Return where a file or folder of the results really is, or will be."""
        if self.where is None or not path.is_relative_to(self.folder):
            return path
        return self.where / path.relative_to(self.folder).as_posix()

    def said(self, text: str) -> str:
        """Return a message with the results' own name in it."""
        return text if self.where is None else text.replace(str(self.folder), str(self.where))

    def fetch_records(self, *experiments: str) -> None:
        """Bring down the records of all runs, or of those of some experiments.

        Of pages and pictures beside them there are empty files, so that the gallery knows of them.
        """
        if self.where is None:
            return
        from fleetsim.report.gallery import GALLERY_NAME  # templates, which a list has no use for

        self._listed = {}
        for below in experiments or ("",):
            self._listed |= self._list(below)
        runs = {name.rpartition("/")[0] for name in self._listed if _is_record(name)}
        wanted = [name for name in self._listed if _is_record(name) or name == GALLERY_NAME]
        self._get(name for name in wanted if not (self.folder / name).exists())
        for name in self._listed:
            parts = name.split("/")
            linked = "/".join(parts[:2]) in runs or len(parts) == 2
            if linked and name.endswith(_LINKED) and not (self.folder / name).exists():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).touch()
        self._point_links(sorted(runs))

    def find(self, name: str) -> Path:
        """Return the folder of a run, as `runs.find_run` does; all of its files are there.

        Raises
        ------
        InputError
            Where there is none.
        """
        experiment = name.partition("/")[0]
        if self.where is not None and not (Path(name) / RECORD_NAME).is_file():
            self.fetch_records(*([experiment] if experiment.strip(".") else []))
        try:
            run = find_run(self.project, name, str(self.folder))
        except InputError:
            self.fetch_records()  # the message names what there is
            run = find_run(self.project, name, str(self.folder))
        self.fetch_run(run)
        for folder in (run, *run.parents[:2]):  # as named, it may be of other results
            clear_left(folder)
        return run

    def fetch_run(self, run: Path) -> None:
        """Bring down all files of a run whose record is here."""
        if self.where is not None and run.is_relative_to(self.folder.resolve()):
            below = run.relative_to(self.folder.resolve()).as_posix()
            self._get(name for name in self._listed if name.startswith(f"{below}/"))

    def upload_run(self, run: Path) -> None:
        """Send a run up, its record last; its data are not needed here any more.

        Raises
        ------
        FleetsimError
            Where that does not come to its end. The run stays on this machine.
        """
        if self.where is None:
            return
        self._unsent.append(run)
        final: Any = self.named(run)
        with told(final):
            if (final / RECORD_NAME).exists():
                raise FleetsimError(f"{final}: a run of this name stands already; run again")
            self._put(path for path in _files(run) if path != run / RECORD_NAME)
            self._put([run / RECORD_NAME])
        self._unsent.remove(run)
        shutil.rmtree(run / RUN_DATA, ignore_errors=True)

    def upload(self, *paths: Path) -> None:
        """Send files up, and all that is in folders, in place of what stands there."""
        if self.where is not None:
            for path in paths:
                self._put(_files(path) if path.is_dir() else [path])

    def refresh_gallery(self) -> None:
        """Make the gallery anew with all runs that stand.

        A run that stands does not fail for want of it.
        """
        from fleetsim.report.gallery import GALLERY_NAME, refresh_gallery

        try:
            self.fetch_records()  # and a page of somebody else, which is left as it is
            refresh_gallery(self.folder)
            self.upload(self.folder / GALLERY_NAME)
        except FleetsimError as error:
            warn(__name__, f"the gallery was not made anew: {error}")

    def keep_unsent(self) -> list[Path]:
        """Move runs that could not be sent up out of the folder, which goes; return where to."""
        kept = []
        results = self.folder.parents[1]  # the hidden folder lies in it: nothing has to be copied
        for run in self._unsent:
            home = results / run.relative_to(self.folder)
            try:
                home.parent.mkdir(exist_ok=True)
                run.rename(home)
            except OSError:  # others hold that place
                home = Path(tempfile.mkdtemp(prefix="unsent-", dir=results)) / run.name
                run.rename(home)
            kept.append(home)
        return kept

    def _list(self, below: str) -> dict[str, str]:
        """Return the files below a folder: their names from `where` on, and the storage's own."""
        storage: Any = self.where
        root = storage.path.rstrip("/") + "/"
        with told(storage):
            try:
                found = storage.fs.find(root + below)
            except FileNotFoundError:
                return {}
        names = {key.removeprefix(root): key for key in found if key.startswith(root)}
        return {name: key for name, key in names.items() if _is_plain(name)}

    def _get(self, names: Iterable[str]) -> None:
        """Bring down files that were listed."""
        storage: Any = self.where
        wanted = list(names)
        with told(storage):
            sources = [self._listed[name] for name in wanted]
            storage.fs.get(sources, [str(self.folder / name) for name in wanted])

    def _put(self, paths: Iterable[Path]) -> None:
        """Send up files of the folder."""
        storage: Any = self.where
        sources = list(paths)
        targets: list[Any] = [self.named(path) for path in sources]
        with told(storage):
            storage.fs.put([str(path) for path in sources], [target.path for target in targets])

    def _point_links(self, runs: list[str]) -> None:
        """Let `latest` of each experiment point to its newest completed run.

        Names of runs begin with the time, so that the newest comes last.
        """
        newest = {}
        for name in runs:
            try:
                content = read_content(self.folder / name / RECORD_NAME, "run")
                completed = decoder(Head).decode(content).status == Status.COMPLETED
            except (InputError, msgspec.DecodeError, RecursionError):  # its reader will say so
                continue
            if completed:
                experiment, _, run = name.partition("/")
                newest[experiment] = run
        for experiment, run in newest.items():
            point_link(self.folder / experiment / LATEST, run)


@contextmanager
def mirrored(project: Project, results: str | None) -> Iterator[Mirror]:
    """Yield the results that a user named: a folder, or a storage's place and a folder for it.

    Raises
    ------
    InputError
        Where the URL is wrong, or the storage cannot be used; nothing has begun.
    FleetsimError
        Where a run could not be sent up; it says where the run is kept.
    """
    where = results_place(results)
    if where is None or not is_remote(where):
        folder = project.results(None if where is None else str(where))
        clear_results(folder)
        yield Mirror(project, folder)
        return
    require(where)
    with _scratch(project) as folder:
        mirror = Mirror(project, folder, where)
        try:
            yield mirror
        except InputError as error:
            faults = [mirror.said(fault) for fault in error.faults]
            raise InputError(
                mirror.said(error.where), *faults, next_step=error.next_step
            ) from error
        except BaseException as error:
            kept = "".join(
                f"\n  the run is kept on {platform.node()}: {path}" for path in mirror.keep_unsent()
            )
            if not isinstance(error, Exception):  # interrupted, or an exit code: it stays that
                if kept:
                    warn(__name__, f"{where}: not sent up{kept}")
                raise
            if kept and not isinstance(error, FleetsimError):
                raise FleetsimError(f"{where}: {type(error).__name__}{kept}") from None
            if isinstance(error, FleetsimError):
                raise FleetsimError(mirror.said(str(error)) + kept) from None
            raise


def results_place(results: str | None) -> Path | None:
    """Return the place that an option ``--results`` names; None for the project's own."""
    return place(results) if results else None


@contextmanager
def _scratch(project: Project) -> Iterator[Path]:
    """Yield a folder for results in a hidden one that is gone afterwards, whatever happened.

    It lies in the project's own results, on a disk that is meant for runs; where nothing can be
    written there, among the temporary files.
    """
    name = f".url-{uuid4().hex}{PARTIAL}"
    home, own = project.results(None), False
    try:
        lock = claim_folder(home / name)
    except (InputError, OSError):
        home, own = Path(tempfile.mkdtemp(prefix="fleetsim-")), True
        lock = claim_folder(home / name)
    try:
        folder = (
            home / name
        ).resolve() / "results"  # whoever runs in it locks it; we hold the other
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(home / name, ignore_errors=True)
        os.close(lock)
        if own:
            with suppress(OSError):  # what is kept stays
                home.rmdir()


def _files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not path.is_symlink())  # nothing from elsewhere


def _is_record(name: str) -> bool:
    return name.count("/") == 2 and name.endswith(f"/{RECORD_NAME}")


def _is_plain(name: str) -> bool:
    """Return whether a name from a storage leads to a file below a folder here, and to no other."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") or "\0" in part for part in parts) and not (
        any(part.startswith(".") for part in parts[:2])
    )
