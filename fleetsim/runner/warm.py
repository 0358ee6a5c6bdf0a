"""Warm kernels: forked from a process that has imported what a run needs, instead of started.

Importing takes a kernel longer than a small run its work. `Nursery` starts this module as a process
that imports once and then forks on request, until the other end of its pipe is closed, however that
comes about. The kernels are processes of their own all the same: what one of them does no other one
sees. multiprocessing has such a server too, but its children import the caller's main module, it
lives as long as any of them, and it cannot be ended.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fleetsim.base.leave import leave_process

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from matplotlib.figure import Figure

#: What is imported before the first fork, beside the runs of the package's own kinds. None of these
#: starts a thread or opens a socket: a fork would take the lock along and leave the thread behind.
PRELOADED = (
    "scipy.stats",
    "fleetsim.experiment.document",
    "fleetsim.experiment.record",
    # What a kernel loads when it starts.
    "faulthandler",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "tornado.platform.asyncio",
)
#: The kind that most runs are of.
LIKELY = "baseline"
_PATIENCE = 60  # seconds for an answer; importing takes two or three


def program(module: str, call: str) -> list[str]:
    """Return the command line of a call in a process of its own.

    It starts without the working folder, which may hold any module; IPython adds it later. It is
    not started by ``-m``: warnings of a main module are shown, as that threads of NumPy are not
    forked along.
    """
    code = f"import sys; sys.path[:] = filter(None, sys.path); import {module}; {module}.{call}"
    return [sys.executable, "-c", code]


class Nursery:
    """A process that kernels are forked from; a context, at whose end it is gone.

    It may be asked by several threads.

    Parameters
    ----------
    kind : str, optional
        That of the runs, probably; by default any. Without an experiment it is for one run: then it
        is ready sooner, and has rehearsed nothing.
    experiment : (Path, str), optional
        Root of the project and name of the experiment that all runs are of: what its claims are
        worth is calculated once, as far as the runs have that in common.
    draws : bool
        Whether many runs draw their figures; if so, it rehearses that too.
    """

    def __init__(
        self, kind: str = "", experiment: tuple[Path, str] | None = None, *, draws: bool = True
    ) -> None:
        from multiprocessing import Pipe

        named = None if experiment is None else (os.path.abspath(experiment[0]), experiment[1])
        self._pipe, there = Pipe()
        with there:
            self._process = subprocess.Popen(
                program(__name__, f"main({there.fileno()}, {kind!r}, {named!r}, draws={draws})"),
                env=os.environ | {"PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                start_new_session=True,  # no Ctrl-C of the terminal comes through
            )
        self._lock = threading.Lock()

    @staticmethod
    def possible() -> bool:
        """Return whether a process may be forked without being replaced; macOS forbids it."""
        return sys.platform == "linux"

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        with self._lock:
            self._pipe.close()

    def start(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> WarmProcess:
        """Return a kernel that has just been forked, the leader of a process group of its own.

        Raises
        ------
        OSError, EOFError
            Where the process is gone, does not answer, or cannot fork.
        """
        return WarmProcess(self, self._ask(list(argv), dict(environment), cwd))

    def poll(self, pid: int) -> int | None:
        """Return how a kernel ended, as subprocess says it; None while it lives."""
        try:
            code: int | None = self._ask(pid)
        except (OSError, EOFError):  # gone, and its kernels follow it
            return -signal.SIGKILL
        return code

    def _ask(self, *request: Any) -> Any:
        with self._lock:
            self._pipe.send(request)
            if not self._pipe.poll(_PATIENCE):
                self._process.kill()  # or the next answer would be to this question
                raise TimeoutError
            answer = self._pipe.recv()
        if isinstance(answer, OSError):
            raise answer
        return answer


class WarmProcess:
    """A forked kernel, as jupyter-client and `Watch` know processes: like a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return how the process ended, or None while it lives."""
        with self._lock:  # only the first to ask is told
            if self.returncode is None:
                self.returncode = self._nursery.poll(self.pid)
            return self.returncode

    def wait(self) -> int | None:
        """Return how the process ended; jupyter-client asks when it has."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, where it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def main(
    descriptor: int,
    kind: str = "",
    experiment: tuple[str, str] | None = None,
    *,
    draws: bool = True,
) -> None:
    """Import what kernels need, then fork one for each request; the rest of a kernel is here too.

    `kind` is that of the only run, or of the many that are of `experiment`; without it they are of
    any kind.

    A request is a kernel's arguments, environment and working folder, answered with its process id,
    or a process id, answered with how it ended.
    """
    ended: list[object] = []  # the code of a kernel that is done
    atexit.register(leave_process, ended)

    from multiprocessing.connection import Connection

    pipe = Connection(descriptor)
    many = not kind or experiment is not None
    gc.disable()  # what is imported stays
    variables = _preload(kind, many=many, draws=draws)
    if experiment is not None:
        with suppress(Exception):  # whoever runs it is told what is wrong
            _foresee(*experiment)
    gc.enable()
    # What all kernels share is neither searched for garbage, here or there, nor copied for that.
    gc.freeze()
    drawers = []
    if not many:
        from fleetsim.experiment.drawing import start_drawers

        with suppress(OSError):  # then the run draws itself
            drawers = start_drawers(kind, without=[pipe])
    with suppress(EOFError):  # nobody is left to ask
        while True:
            request = pipe.recv()
            answer: object
            try:
                if len(request) > 1:
                    argv, environment, cwd = request
                    environment = variables | environment | _named(kind, drawers)
                    answer = _forked(pipe, ended, argv, environment, cwd)
                    while drawers:  # they are the kernel's now
                        os.close(drawers.pop())
                else:
                    answer = _ended(*request)
            except OSError as error:
                answer = error
            pipe.send(answer)


def _preload(kind: str, *, many: bool, draws: bool) -> dict[str, str]:
    """Import what kernels need, and use it once; return the variables that the imports have set."""
    # The kernel sets it for itself, but Matplotlib reads it when it is imported.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # Nobody steps through a run's modules: no warning that a debugger would miss some.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    before = set(os.environ)
    from fleetsim.experiment.kind import DEFAULT_KIND, kinds
    from fleetsim.runner.app import load_without_debugger

    load_without_debugger()
    for name in PRELOADED:
        importlib.import_module(name)
    ours = {each.name: each for each in kinds().values() if _is_ours(each)}
    for each in [ours[kind]] if kind in ours else ours.values():
        each.run()
        each.criteria()
        if many:  # or else others draw them
            each.plots()
    _first_uses(kind if kind in ours else DEFAULT_KIND)
    if many:
        _rehearse(draws=draws)
    return {name: os.environ[name] for name in set(os.environ) - before}


def _first_uses(kind: str) -> None:
    """Find and load what a run of any size looks for once."""
    from fleetsim.experiment.document import template
    from fleetsim.experiment.record import versions

    versions()
    template(kind)


def _foresee(root: str, name: str) -> None:
    """Check the claims of an experiment, and write its document in memory."""
    from fleetsim.base.project import Project
    from fleetsim.experiment.document import planned_record, render_document
    from fleetsim.experiment.spec import load_experiment

    experiment = load_experiment(Project(Path(root)), name)
    if _is_ours(experiment.kind):
        render_document(planned_record(experiment))


def _is_ours(kind: object) -> bool:
    """Return whether a kind is the package's own: what those of others do may start threads."""
    return type(kind).__module__.partition(".")[0] == __package__.partition(".")[0]


def _rehearse(*, draws: bool) -> None:
    """Test what was drawn in memory, and plot it: much is only found or loaded at its first use.

    That makes up a third of the time of a small run.
    """
    from fleetsim.experiment.figures import (
        draw_counts,
        draw_over_interval,
        draw_types,
        render,
        titled_figure,
    )
    from fleetsim.generate.config import make_config
    from fleetsim.kinds.explore.playground import explore

    keys = {"seed": 7, "number_of_companies": 2, "drivers_per_company": 5}
    pace = {"event_rate_per_driver": 2.0, "company_onboarding_interval": "P1D"}
    config = make_config({**keys, **pace})
    seen = explore(config)

    def fill(figure: Figure) -> str:
        counts, types, times = figure.subplots(3)
        draw_counts(counts, seen.sample, config)
        draw_types(types, seen.sample, config)
        return draw_over_interval(times, seen.sample)

    if draws:
        render(titled_figure("Rehearsal", (8, 8), fill)[0])


def _ended(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _named(kind: str, drawers: Sequence[int]) -> dict[str, str]:
    """Return what a kernel's environment says of those that draw for it, if any."""
    if not drawers:
        return {}
    from fleetsim.experiment.drawing import named_drawers  # who asks a nursery has no use for it

    return named_drawers(kind, drawers)


def _forked(
    pipe: Connection, ended: list[object], argv: list[str], environment: dict[str, str], cwd: str
) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        pipe.close()
        try:
            _become_kernel(server, argv, environment, cwd)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
        ended.append(0)
        sys.exit(0)
    os.setpgid(pid, pid)
    return pid


def _become_kernel(server: int, argv: list[str], environment: dict[str, str], cwd: str) -> None:
    """Run as a kernel until it is told to end."""
    import numpy as np

    from fleetsim.runner.app import QuietKernelApp

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["ipykernel_launcher", *argv]
    np.random.seed()  # noqa: NPY002 (the global state: it would be the same in every kernel)
    # It looks every second whether its parent is still there.
    QuietKernelApp.launch_instance([*argv, f"--IPKernelApp.parent_handle={server}"])
