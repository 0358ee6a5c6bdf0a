"""Put the ledger of a batch where it belongs, so that it appears together with its batch.

On a disk it is made in a hidden folder beside its place, and moved there just before the folder of
the batch gets its name. Until that is done the hidden folder keeps what the place held before, and
the record of the batch: so whatever ends the command, the next one can tell whether the batch came
to stand, and brings back the state from before where it did not. On an object store the ledger's
objects come first and the batch's record last.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fleetsim.base.errors import FleetsimError
from fleetsim.base.files import (
    PARTIAL,
    make_folder,
    remove,
    staging_folder,
    sync,
    take_lock,
    write_file,
)
from fleetsim.base.storage import is_remote, sizes, told
from fleetsim.batch.dataset import LEDGER_FOLDER, data_folder
from fleetsim.batch.meta import META_NAME

_NEW, _OLD, _RECORD = "new", "old", "record"
_LEFT = re.compile(rf"\.(?P<batch>.+)\.[0-9a-f]{{8}}(?P<gone>\.gone)?{re.escape(PARTIAL)}")


class LedgerStage:
    """The ledger of a batch in the making.

    Attributes
    ----------
    folder : Path or None
        Where its files are put by `open_output`; None where the batch has no defects.
    """

    def __init__(self, batch: Path, root: Path | None, folder: Path | None) -> None:
        self.folder = folder
        self._batch, self._root = batch, root
        self._kept = False

    def place(self, record: bytes, names: list[str]) -> None:
        """Put the ledger in its place, before the batch is put in its own.

        Parameters
        ----------
        record : bytes
            Content of the record that the batch will have.
        names : list of str
            The files of the ledger.

        Raises
        ------
        FleetsimError
            Where other files stand there, as when two jobs write the same batch.
        """
        if self._root is None:
            return
        if self.folder is not None and sorted(sizes(self.folder)) != sorted(names):
            odd = sorted(sizes(self.folder).keys() ^ set(names))[0]
            raise FleetsimError(f"{self.folder}: {odd} is not what was made")
        write_file(self._root / _RECORD, record)
        place = self._root.parent
        (self._root / _OLD).mkdir()
        for name in _names(self._batch.name):
            if os.path.lexists(place / name):
                os.rename(place / name, self._root / _OLD / name)
        sync(self._root)
        if self.folder is not None:
            sync(self.folder)
            for path in (self._root / _NEW).iterdir():
                os.rename(path, place / path.name)
        sync(place)

    def keep(self) -> None:
        """Leave the ledger where it is: its batch stands."""
        self._kept = True


def _names(batch_id: str) -> tuple[str, str]:
    """Return the names that the ledger of a batch may have: a file, or a folder for its parts."""
    return f"{batch_id}.jsonl", batch_id


@contextmanager
def stage_ledger(batch: Path, *, wanted: bool, parts: bool) -> Iterator[LedgerStage]:
    """Yield the stage of a batch's ledger; where that is not kept, all is as it was before.

    Parameters
    ----------
    batch : Path
        Folder that the batch gets. On a disk the caller holds its parent by `files.exclusive`.
    wanted : bool
        Whether the batch has a ledger; where not, one that stands there goes with what it is of.
    parts : bool
        Whether the batch has parts, each with a ledger of its own.
    """
    place = data_folder(batch) / LEDGER_FOLDER
    if is_remote(batch):
        with _remote(batch, place, wanted=wanted, parts=parts) as stage:
            yield stage
        return
    if not wanted and not any(os.path.lexists(place / name) for name in _names(batch.name)):
        yield LedgerStage(batch, None, None)
        return
    existed = place.is_dir()
    make_folder(place)
    try:
        with staging_folder(place / batch.name) as root, ExitStack() as stack:
            lock = os.open(root, os.O_RDONLY)
            stack.callback(os.close, lock)
            take_lock(lock)
            folder = root / _NEW / batch.name if parts else root / _NEW
            if wanted:
                folder.mkdir(parents=True)
            stage = LedgerStage(batch, root, folder if wanted else None)
            try:
                yield stage
            except BaseException:
                _take_back(root, batch)
                raise
    finally:
        if not existed:
            with suppress(OSError):  # it is not empty where the ledger stands
                place.rmdir()


def _take_back(root: Path, batch: Path) -> None:
    """Bring back what a place held before, unless the batch came to stand."""
    record, place = root / _RECORD, root.parent
    if not record.exists() or _is(batch / META_NAME, record):
        return
    new, old = root / _NEW, root / _OLD
    if new.is_dir() and not any(new.iterdir()):  # it was moved to its place
        for name in _names(batch.name):
            remove(place / name)
    if old.is_dir():
        for path in old.iterdir():
            os.rename(path, place / path.name)


def _is(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def clear_ledgers(output: Path) -> None:
    """Clear what killed commands left of ledgers beside a folder of batches.

    A ledger whose batch did not come to stand goes, and the one that it replaced comes back. What
    a living command makes stays.
    """
    if is_remote(output):
        return  # what has no batch with a record is nothing there
    place = data_folder(output / "batch") / LEDGER_FOLDER
    if not place.is_dir():
        return
    for root in sorted(place.glob(f".*{PARTIAL}")):
        left = _LEFT.fullmatch(root.name)
        if left is None or root.is_symlink() or not root.is_dir():
            continue
        lock = os.open(root, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not left["gone"]:
                _take_back(root, output / left["batch"])
            remove(root)
        except BlockingIOError:
            continue
        except OSError:  # a file system without locks: it may be another's
            continue
        finally:
            os.close(lock)


@contextmanager
def _remote(batch: Path, place: Path, *, wanted: bool, parts: bool) -> Iterator[LedgerStage]:
    """Yield the stage of a ledger on an object store, which goes where its batch is not kept."""
    _clear(batch, place)
    folder = place / batch.name if parts else place
    stage = LedgerStage(batch, None, folder if wanted else None)
    try:
        yield stage
    finally:
        if not stage._kept:
            with suppress(Exception):  # the error under way says more; the next job clears it
                _clear(batch, place)


def _clear(batch: Path, place: Path) -> None:
    """Remove the ledger of a batch from an object store."""
    storage: Any = place
    with told(place):
        root = storage.path.rstrip("/")
        rest = [f"{root}/{batch.name}/{name}" for name in sizes(place / batch.name)]
        if (place / f"{batch.name}.jsonl").exists():
            rest.append(f"{root}/{batch.name}.jsonl")
        if rest:
            storage.fs.rm(rest)
