"""The machine that measurements were made on, in the words that a reader needs to judge them."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from fleetsim.experiment.record import cpu_model
from fleetsim.generate.threads import cores

__all__ = ["describe_machine"]

_PACKAGES = "numpy numba polars duckdb orjson pandas mimesis faker".split()


def describe_machine(folder: Path) -> str:
    """Return processor, cores, memory, system, file system of a folder, and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{cpu_model()}, {cores()} cores, {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.machine()}, files on {_file_system(folder)}. "
        f"Python {platform.python_version()}, {versions}."
    )


def _file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on, where Linux tells it."""
    mounts = Path("/proc/self/mounts")
    if sys.platform != "linux" or not mounts.exists():
        return "a disk"
    place = folder.resolve()
    rows = (line.split() for line in mounts.read_text().splitlines())
    kinds = {Path(row[1]): row[2] for row in rows}
    return next(kinds[path] for path in (place, *place.parents) if path in kinds)
