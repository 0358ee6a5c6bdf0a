"""The ledger of a batch: every line that an injected defect touches, and what was done to it.

It stands beside the folder of the batches, never within a batch, so that what ingests the batches
does not see it. One strict JSON object a line, in the order of the lines that were delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
from msgspec import UNSET, UnsetType

from fleetsim.base.errors import InputError, cut, found, refused
from fleetsim.base.files import open_plain
from fleetsim.base.storage import is_remote, told
from fleetsim.base.strict import decoder
from fleetsim.batch.dataset import LEDGER_FOLDER, data_folder, ledger_name
from fleetsim.generate.defects import DEFECT_KINDS

#: Bytes of a ledger's line that none exceeds.
LEDGER_LINE = 1 << 16

_AT_ONCE = 1 << 20
_AGAIN = "make the batch again with --force, or use the ledger that was made with it"

Value = str | int | float | bool | list[str] | dict[str, str] | None


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line that a defect touches.

    Attributes
    ----------
    batch_id : str
    line : int
        Place of the line in its file as delivered, from 1; a row of Parquet.
    kind : str
        One of `DEFECT_KINDS`.
    event_id : str
        Of the record as it would have been.
    field : str or None
        The key that was struck.
    original, injected : JSON value
        What would have stood there, and what does; None where nothing did, or does.
    copy_of : int or None
        Line of the first, for duplicates.
    from_batch : str or None
        The batch of a late record.
    sha256 : str
        Of the delivered line's bytes without its line feed, in hex digits; for Parquet, of the
        JSON line that the row would be.
    expect : "accept", "reject", "once" or "either"
        What a right ingestion does with the line.
    part : str, optional
        Name of the part's file, where the batch has parts.
    """

    batch_id: str
    line: Annotated[int, msgspec.Meta(ge=1)]
    kind: str
    event_id: str
    field: str | None
    original: str | None
    injected: Value
    copy_of: Annotated[int, msgspec.Meta(ge=1)] | None
    from_batch: str | None
    sha256: str
    expect: str
    part: str | UnsetType = UNSET


decoder(LedgerEntry)  # made with the module, before there are threads


def ledger_path(batch: Path, part: str | None = None) -> Path:
    """Return where the ledger of a batch stands, or that of one of its parts.

    Parameters
    ----------
    batch : Path
        Folder of the batch.
    part : str, optional
        Name of the part's file.
    """
    folder = data_folder(batch) / LEDGER_FOLDER
    return (folder if part is None else folder / batch.name) / ledger_name(batch.name, part)


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a ledger, on this machine or a storage."""
    with open_plain(path, "a ledger") as file:
        digest = hashlib.sha256()
        while piece := _read(path, file):
            digest.update(piece)
    return digest.hexdigest()


def read_ledger(path: Path, sha256: str | None = None) -> Iterator[LedgerEntry]:
    """Yield the entries of a ledger in the order of its lines, in little memory.

    Parameters
    ----------
    path : Path
        As `ledger_path` gives it: entries of another batch than the path names are refused.
    sha256 : str, optional
        Hash of the whole file, as the batch's record has it. It is checked before the first entry
        is given.

    Raises
    ------
    InputError
        Where there is no ledger, or it is cut off, damaged, of another batch, or has another hash.
    """
    part = path.name.startswith("part-")
    batch_id = path.parent.name if part else path.name.removesuffix(".jsonl")
    with _open(path) as file:
        if sha256 is not None:
            _check_hash(path, file, sha256)
            file.seek(0)
        last = 0
        for number, entry in enumerate(_entries(path, file), start=1):
            where = f"{path}: line {number}"
            if entry.batch_id != batch_id:
                raise InputError(
                    where,
                    f"found an entry of the batch {found(entry.batch_id)}; "
                    f"allowed: those of {batch_id}",
                    next_step=_AGAIN,
                )
            if entry.line <= last:
                fault = f"found line {entry.line} after line {last}; allowed: ascending lines"
                raise InputError(where, fault, next_step=_AGAIN)
            last = entry.line
            yield entry


def _open(path: Path) -> BinaryIO:
    try:
        with told(path):
            return open_plain(path, "a ledger")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            str(path), "no such file; expected the ledger of the batch", next_step=_AGAIN
        ) from None
    except OSError as error:
        if is_remote(path):
            raise
        raise refused(error, path, "cannot be read: {}") from None


def _check_hash(path: Path, file: BinaryIO, sha256: str) -> None:
    """Refuse a file that is not the one that was made with its batch."""
    digest = hashlib.sha256()
    end = b"\n"
    while piece := _read(path, file):
        digest.update(piece)
        end = piece[-1:]
    if digest.hexdigest() == sha256:
        return
    if end != b"\n":
        raise InputError(str(path), "the ledger is cut off within a line", next_step=_AGAIN)
    raise InputError(
        str(path),
        f"found a ledger with the sha256 {digest.hexdigest()}; "
        f"allowed: the one that the batch's record names, {found(sha256)}",
        next_step=_AGAIN,
    )


def _read(path: Path, file: BinaryIO) -> bytes:
    with told(path):
        return file.read(_AT_ONCE)


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a ledger with their ends; a longer one than any has is cut there."""
    rest = b""
    while piece := _read(path, file):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > LEDGER_LINE:
            break
    if rest:
        yield rest


def _entries(path: Path, file: BinaryIO) -> Iterator[LedgerEntry]:
    """Yield each line of a ledger as what it holds."""
    decode: Any = decoder(LedgerEntry).decode
    for number, line in enumerate(_lines(path, file), start=1):
        where = f"{path}: line {number}"
        if len(line) > LEDGER_LINE:
            fault = f"damaged: found a line of more than {LEDGER_LINE} bytes"
            raise InputError(where, fault, next_step=_AGAIN)
        if not line.endswith(b"\n"):
            raise InputError(where, "the ledger is cut off within a line", next_step=_AGAIN)
        try:
            entry: LedgerEntry = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(where, f"damaged: {cut(str(error))}", next_step=_AGAIN) from None
        if entry.kind not in DEFECT_KINDS:
            fault = f"found the kind {found(entry.kind)}; allowed: {', '.join(DEFECT_KINDS)}"
            raise InputError(where, fault, next_step=_AGAIN)
        yield entry
