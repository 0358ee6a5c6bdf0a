"""Progress for those who watch: a bar on a terminal and in a notebook, lines in a pipe.

A kernel that nobody looks at tells what its bars would show to who executes the notebook, by a
message of a kind of its own (`PROGRESS`); `Steps` shows it there.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fleetsim.base.terminal import on_one_line

#: Set in the environment of a kernel that executes a notebook while nobody looks.
UNWATCHED = "FLEETSIM_UNWATCHED"

#: The type of the messages by which a kernel tells how far its cell has come.
PROGRESS = "fleetsim_progress"
_WIDTH = 16  # characters of a bar of steps
_SELDOM = 0.2  # seconds from one such message to the next

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
        if self._done <= self._total:  # content may be more than was stated of it
            of, left = f" of {self._total}", _left(now - self._began, self._done, self._total)
        print(f"fleetsim: {self._done}{of} {self._unit}{left}", file=sys.stderr, flush=True)


class Steps:
    """Tells the steps of a work by name: one line on a terminal, and a line now and then in a pipe.

    A context; at its end nothing of it is left on a terminal.

    Parameters
    ----------
    first : str
        The step that it begins with.
    work : str
        What the steps make together, where that does not go without saying.
    """

    def __init__(self, first: str, work: str = "") -> None:
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._drawn = False  # whether a line stands on the terminal
        self._work, self._total, self._number = f"{work}, " if work else "", 0, 0
        self._start = time.monotonic()
        self.begin(first)

    def __enter__(self) -> Steps:
        self._drawn = sys.stderr.isatty()
        self._draw()
        threading.Thread(target=self._tick, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # No longer than this: a signal may have struck just when the lock was taken.
        held = self._lock.acquire(timeout=1)
        if self._drawn:
            self._drawn = False
            _write("\r\x1b[K")
        if held:
            self._lock.release()

    def plan(self, total: int) -> None:
        """Say how many steps there are in all."""
        with self._lock:
            self._total = total

    def begin(self, name: str) -> None:
        """Begin the next step."""
        with self._lock:
            self._name, self._number = on_one_line(name), self._number + 1
            self._done, self._of, self._unit = 0, 0, ""
            self._began = time.monotonic()
            self._draw()

    def count(self, done: int, of: int, unit: str) -> None:
        """Say how far the step has come, and of what, in the plural."""
        with self._lock:
            self._done, self._of, self._unit = done, of, on_one_line(unit)
            self._draw()

    def say(self, text: str) -> None:
        """Print a line of its own, of printable text."""
        with self._lock:
            _write(f"\r\x1b[K{text}\n" if self._drawn else f"{text}\n")
            self._draw()

    def text(self) -> str:
        """Return the step in words: which one, how much of it is done, and how much is left."""
        which = f"step {self._number} of {self._total}, " if self._total else ""
        told = f"{self._work}{which}{self._name}"
        if self._of:
            told += f": {self._done} of {self._of} {self._unit}"
        if not 0 < self._done < self._of:
            return told
        return told + _left(time.monotonic() - self._began, self._done, self._of)

    def _share(self) -> float:
        within = self._done / self._of if self._of else 0.0
        share = (self._number - 1 + within) / self._total if self._total else within
        return min(max(share, 0.0), 1.0)

    def _draw(self) -> None:
        if not self._drawn:
            return
        filled = int(self._share() * _WIDTH)
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {minutes:02}:{seconds:02}  "
        line = f"{bar}{self.text()}"[: _columns() - 1]
        _write(f"\r{line}\x1b[K")

    def _tick(self) -> None:
        """Let the clock go on where nothing else happens, until the end."""
        told = time.monotonic()
        while not self._over.wait(1):
            with self._lock:
                if self._over.is_set():
                    return
                self._draw()
                if not self._drawn and time.monotonic() - told >= EVERY:
                    told = time.monotonic()
                    _write(f"fleetsim: {self.text()}\n")


def _left(passed: float, done: int, of: int) -> str:
    """Return how many seconds are left, where the rest takes as long as what is done."""
    seconds = passed * max(of - done, 0) / max(done, 1)
    return f", about {seconds:.0f} s left"


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(text)
        sys.stderr.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


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
    if not in_notebook():
        yield None
        return
    if os.environ.get(UNWATCHED):
        yield _Teller(total, unit)
        return
    from IPython.display import clear_output

    with warnings.catch_warnings(action="ignore"):  # without ipywidgets the bar is text
        from tqdm.auto import tqdm

    with tqdm(total=total, unit=unit, leave=False) as bar:
        yield bar.update
    clear_output()  # type: ignore[no-untyped-call]


class _Teller:
    """Sends how far a cell has come to who executes the notebook; nothing of it is kept there."""

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit, self._done = total, f"{unit}s", 0
        self._told = 0.0
        self(0)

    def __call__(self, n: int) -> None:
        """Count what was done, and tell it."""
        self._done += n
        now = time.monotonic()
        if now - self._told < _SELDOM and self._done < self._total:
            return
        self._told = now
        kernel = sys.modules["IPython"].get_ipython().kernel
        content = {"done": self._done, "of": self._total, "unit": self._unit}
        kernel.session.send(
            kernel.iopub_socket, PROGRESS, content, parent=kernel.get_parent("shell")
        )


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    here = shell.get_ipython() if shell is not None else None
    return getattr(here, "kernel", None) is not None
