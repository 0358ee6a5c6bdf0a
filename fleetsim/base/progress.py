"""Progress for those who watch: a bar on a terminal and in a notebook, lines in a pipe."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Set in the environment of a kernel that executes a notebook while nobody looks.
UNWATCHED = "FLEETSIM_UNWATCHED"

Update = Callable[[int], object]


EVERY = 10.0  # seconds from one line to the next


class ProgressLines:
    """Says on stderr now and then how far a work has come: for pipes and logs.

    Parameters
    ----------
    total : float
        0 where it is not known.
    unit : str
        Of what is counted, in the plural.
    """

    def __init__(self, total: float, unit: str) -> None:
        self._total, self._unit, self._done = round(total), unit.strip(), 0
        self._began = self._told = time.monotonic()

    def __call__(self, n: int = 1) -> None:
        """Count what was done; say so where the last line is long ago."""
        self._done += n
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told = now
        of = left = ""
        if self._total:
            seconds = (now - self._began) * max(self._total - self._done, 0) / max(self._done, 1)
            of, left = f" of {self._total}", f", about {seconds:.0f} s left"
        print(f"fleetsim: {self._done}{of} {self._unit}{left}", file=sys.stderr, flush=True)


@contextmanager
def terminal_bar(total: float, unit: str) -> Iterator[Update]:
    """Yield an update function that draws a bar on a terminal, and prints lines in a pipe."""
    if not sys.stderr.isatty():
        yield ProgressLines(total, unit)
        return
    from tqdm import tqdm

    with tqdm(total=round(total), unit=unit, unit_scale=True, delay=1, file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def notebook_bar(total: int, unit: str) -> Iterator[Update | None]:
    """Yield an update function that draws a bar below a notebook's cell, and None elsewhere.

    The bar is gone from the cell at the end, so that a saved notebook has the result alone.
    """
    if not in_notebook() or os.environ.get(UNWATCHED):
        yield None
        return
    from IPython.display import clear_output

    with warnings.catch_warnings(action="ignore"):  # without ipywidgets the bar is text
        from tqdm.auto import tqdm

    with tqdm(total=total, unit=unit, leave=False) as bar:
        yield bar.update
    clear_output()  # type: ignore[no-untyped-call]


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    here = shell.get_ipython() if shell is not None else None
    return getattr(here, "kernel", None) is not None
