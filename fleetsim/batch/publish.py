"""Put the files of a batch where they belong, so that the batch appears whole or not at all.

On a disk that is a hidden folder beside the final one, renamed at the end. An object store has
neither folders nor renaming, but every object appears whole: there a batch is what has a
`batch_meta.json`, which is written last and, where a batch is replaced, removed first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from fleetsim.base.errors import FleetsimError
from fleetsim.base.files import PARTIAL, exclusive, make_folder, publish_folder, staging_folder
from fleetsim.base.storage import is_remote, sizes, told
from fleetsim.batch.direct_io import DirectFile
from fleetsim.batch.formats import Output

#: What is held in memory before it is sent [bytes]: of 10,000 such pieces an object may consist.
UPLOAD = 1 << 24


class _Upload:
    """Sends the content of an object, which appears when it is finished."""

    def __init__(self, target: Path) -> None:
        self._target = target
        storage: Any = target
        with told(target):
            self._file = storage.fs.open(storage.path, "wb", block_size=UPLOAD, autocommit=False)

    def write(self, content: Any, paged: Any = None) -> None:
        with told(self._target):
            self._file.write(bytes(content))

    def finish(self) -> None:
        with told(self._target):
            self._file.close()
            self._file.commit()

    def discard(self) -> None:
        """Drop what was sent so far; it was never to be seen."""
        with suppress(Exception):  # the storage may be what failed
            self._file.discard()
        self._file.closed = True  # or else it would be sent when it is collected


@contextmanager
def alone(folder: Path, names: str) -> Iterator[None]:
    """Hold the only right to write files of some names (a glob) in a folder, which is made.

    There is no such right on an object store, where the last writer wins.
    """
    if is_remote(folder):
        yield
        return
    make_folder(folder)
    with exclusive(folder, names):
        yield


@contextmanager
def open_output(folder: Path, name: str) -> Iterator[Output]:
    """Yield what takes a file's content; the file has its name once that is complete.

    Several may write the same file, as when work is done again because a worker seemed to be dead:
    one of them wins, and the content is the same.
    """
    if is_remote(folder):
        upload = _Upload(folder / name)
        try:
            yield upload
            upload.finish()
        except BaseException:
            upload.discard()
            raise
        return
    hidden = folder / f".{name}.{token_hex(4)}{PARTIAL}"
    try:
        with open(hidden, "xb", buffering=0) as file:
            output = DirectFile(file.fileno())
            yield output
            output.finish()
        os.replace(hidden, folder / name)
    finally:
        hidden.unlink(missing_ok=True)


class Stage:
    """A batch in the making.

    Attributes
    ----------
    folder : Path
        Where its files are put by `open_output`.
    """

    def __init__(self, folder: Path, final: Path, record_name: str, replace: bool) -> None:
        self.folder = folder
        self._final, self._record, self._replace = final, record_name, replace
        self.published = False

    def publish(self, record: bytes, files: Mapping[str, int]) -> None:
        """Write the record, and let the batch appear.

        Parameters
        ----------
        record : bytes
        files : mapping
            Names and sizes [bytes] of the files that were made.

        Raises
        ------
        FleetsimError
            Where others stand there, as when two jobs write the same batch to an object store.
        """
        remote = is_remote(self._final)
        if not remote:
            for left in self.folder.glob(f".*{PARTIAL}"):  # of a worker that died
                left.unlink()
        there = sizes(self.folder)
        if there != dict(files):
            odd = sorted(there.items() ^ files.items())[0][0]
            raise FleetsimError(
                f"{self._final}: {odd} is not what was made; another job writes this batch too"
            )
        with open_output(self.folder, self._record) as output:
            output.write(record)
        if not remote:
            publish_folder(self.folder, self._final, replace=self._replace)
        self.published = True


@contextmanager
def stage_batch(final: Path, record_name: str, *, replace: bool) -> Iterator[Stage]:
    """Yield the stage of a batch; what was not published is gone afterwards.

    Parameters
    ----------
    final : Path
        Folder of the batch. On a disk the caller holds its parent by `files.exclusive`.
    record_name : str
        The file that makes a batch of an object store's objects.
    replace : bool
        Whether a batch may stand there.
    """
    if not is_remote(final):
        with staging_folder(final) as partial:
            yield Stage(partial, final, record_name, replace)
        return
    _clear(final, record_name)
    stage = Stage(final, final, record_name, replace)
    try:
        yield stage
    finally:
        if not stage.published:
            with suppress(Exception):  # the error under way says more; the next job clears it
                _clear(final, record_name)


def _clear(folder: Path, record_name: str) -> None:
    """Remove a batch, or what is left of one, from an object store: its record first."""
    names = sizes(folder)
    storage: Any = folder
    with told(folder):
        if record_name in names:
            (folder / record_name).unlink()
        rest = [f"{storage.path.rstrip('/')}/{name}" for name in names if name != record_name]
        if rest:
            storage.fs.rm(rest)
