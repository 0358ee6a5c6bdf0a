"""Whether what a program wrote is the work: every line in form, and the laws of all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fleetsim.base.errors import FleetsimError
from fleetsim.base.verdict import Verdict
from fleetsim.generate.config import Config
from fleetsim.stats.effects import law_of
from fleetsim.stats.judged import run_battery
from fleetsim.tally.batches import tally_batches
from fleetsim.tally.faults import FaultKind

__all__ = ["ALPHA", "check_batch", "check_same", "file_hash"]

#: Level of all tests on one output together: a fault-free peer fails once in a million runs.
ALPHA = 1e-6

# What tally says of a batch without a record, and of nothing else.
_NO_RECORD = {FaultKind.META: 1, FaultKind.FOLDER: 1}


def check_batch(config: Config, companies: Path, batch: Path, *, recorded: bool) -> int:
    """Hold every line of a batch to form, order, roster and interval, and all to the laws.

    Parameters
    ----------
    config : Config
        What the batch has to follow.
    companies, batch : Path
        The companies file, and the batch's folder.
    recorded : bool
        Whether the batch has a record, which is then held to the file; peers write none.

    Returns
    -------
    int
        How many events there are.

    Raises
    ------
    FleetsimError
        Where a line or the record is wrong, or a test rejects.
    """
    tally = tally_batches(config, companies, [batch])
    if tally.fault_counts != ({} if recorded else _NO_RECORD):
        shown = "; ".join(str(fault) for fault in tally.faults[:5])
        raise FleetsimError(f"{sum(tally.fault_counts.values())} faults: {shown}")
    rows = run_battery(tally.sample, law_of(config), alpha=ALPHA)
    failed = [
        f"{row.entry.name} (p = {row.result.p_value:.3g})"
        for row in rows
        if row.verdict == Verdict.FAIL
    ]
    if failed:
        raise FleetsimError(f"the data do not follow the law: {', '.join(failed)}")
    return tally.lines


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_same(path: Path, sha256: str) -> None:
    """Hold a file to the bytes of one that was checked line by line.

    Raises
    ------
    FleetsimError
        Where it has others.
    """
    if file_hash(path) != sha256:
        raise FleetsimError(f"{path.name} has not the bytes of the batch that was checked")
