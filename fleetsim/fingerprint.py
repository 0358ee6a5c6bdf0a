"""A hash of a batch's content that does not depend on when its interval starts."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

import numpy as np

from fleetsim.batch_meta import EVENTS_NAME, read_meta
from fleetsim.clock import parse_time
from fleetsim.lines import read_times

__all__ = ["content_fingerprint"]

_LINES = 1 << 15  # read at once
# The timestamp is the last value of a line: its 27 characters stand before '"}\n'.
_TIME = slice(-30, -3)


def content_fingerprint(batch: Path) -> str:
    """Return a hash of a batch's content that does not depend on when its interval starts.

    Timestamps are replaced by their distance from the interval's start; all other bytes count.

    Parameters
    ----------
    batch : Path
        A batch folder.
    """
    start_us = parse_time(read_meta(batch).interval_start)
    digest = hashlib.sha256()
    with open(batch / EVENTS_NAME, "rb") as file:
        while chunk := list(islice(file, _LINES)):
            digest.update(np.array([len(line) for line in chunk], "<i8").tobytes())
            digest.update(b"".join(line[: _TIME.start] + line[_TIME.stop :] for line in chunk))
            digest.update(_distances([line[_TIME] for line in chunk], start_us))
    return digest.hexdigest()


def _distances(texts: list[bytes], start_us: int) -> bytes:
    """Return times as distances from the start; where one is no time, all texts as they are."""
    width = _TIME.stop - _TIME.start
    if all(len(text) == width for text in texts):
        rows = np.frombuffer(b"".join(texts), np.uint8).reshape(-1, width)
        marks = np.frombuffer(b"--T::.Z", np.uint8)
        times, good = read_times(rows)
        if good.all() and (rows[:, [4, 7, 10, 13, 16, 19, 26]] == marks).all():
            return (times - start_us).astype("<i8").tobytes()
    return b"".join(texts)
