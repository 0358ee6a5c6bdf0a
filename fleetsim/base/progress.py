"""Progress bars for those who watch: on a terminal and in a notebook, none in a pipe or a batch."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Set in the environment of a kernel that executes a notebook while nobody looks.
UNWATCHED = "FLEETSIM_UNWATCHED"

Update = Callable[[int], object]


@contextmanager
def terminal_bar(total: float, unit: str) -> Iterator[Update | None]:
    """Yield an update function that draws a bar on a terminal, and None in a pipe."""
    if not sys.stderr.isatty():
        yield None
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
