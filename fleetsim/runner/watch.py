"""A run seen from outside: it can be ended at any time, by a limit of time or by its user."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from types import TracebackType

from fleetsim.experiment.results import RunError
from fleetsim.measure.child import ending
from fleetsim.runner.warm import WarmProcess


class RunEnded(Exception):
    """The run was told to end; raised between two steps of a run without a kernel."""


class Watch:
    """One run's end from outside; a context within which its limit of time counts.

    Parameters
    ----------
    limit : float, optional
        Seconds that the whole run may take.

    Attributes
    ----------
    error : RunError or None
        Why the run was ended; None where it was not, or was interrupted.
    interrupted : bool
        Whether its user ended it: then nothing of it is kept.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.error: RunError | None = None
        self.interrupted = False
        self._limit = limit
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._kernel: subprocess.Popen[bytes] | WarmProcess | None = None

    def __enter__(self) -> Watch:
        if self._limit is not None:
            self._timer = threading.Timer(self._limit, self._time_out)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def attach(self, kernel: subprocess.Popen[bytes] | WarmProcess) -> None:
        """Watch a kernel that has just started, the leader of a process group of its own."""
        with self._lock:
            self._kernel = kernel
            ended = self.interrupted or self.error is not None
        if ended:
            self._kill()

    def interrupt(self) -> None:
        """End the run because its user says so."""
        with self._lock:
            self.interrupted = True
        self._kill()

    def check(self) -> None:
        """Raise `RunEnded` where the run has been told to end."""
        if self.interrupted or self.error is not None:
            raise RunEnded

    def death(self) -> str:
        """Return how the kernel ended, as words."""
        code = None if self._kernel is None else self._kernel.poll()
        if code is None:
            return "the kernel died"
        hint = ""
        if code == -signal.SIGKILL:
            hint = "; the system does this where memory runs out"
        return f"the kernel {ending(code)}{hint}"

    def _time_out(self) -> None:
        with self._lock:
            self.error = RunError("RunTimeout", f"the run took longer than {self._limit:g} s", None)
        self._kill()

    def _kill(self) -> None:
        """Kill the kernel with all that it started: the launcher and the generator too."""
        with self._lock:
            kernel = self._kernel
        if kernel is not None and kernel.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(kernel.pid, signal.SIGKILL)
