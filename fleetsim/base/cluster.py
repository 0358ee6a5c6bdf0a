"""Work on the processes of a Dask cluster: who they are, and how tasks get to them and back.

Dask's scheduler does all that is hard: it hands out work, sees who died, and has their work done
again. Here a cluster is found or started, its members are held to this program's version, and no
more tasks are under way at a time than keep it busy, so that neither this process nor the scheduler
grows with their number.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import fleetsim
from fleetsim.base.errors import FleetsimError, InputError, found
from fleetsim.base.project import source_hash
from fleetsim.base.storage import EXTRA

T = TypeVar("T")
R = TypeVar("R")

_PATIENCE = 10  # seconds for a scheduler to answer, and for a first worker to come
_LOOK, _ALONE = 5, 60  # seconds between looks whether workers are there; without any, the end
_FETCH = 60  # seconds for a result to come from its worker, which may have died
_WANTED = 0.5  # seconds between two looks at whether a task is still wanted
WAITING = 2  # tasks for each thread beside the one that it works on
_ALLOWED = "allowed: tcp://HOST:PORT of a Dask scheduler, or local:N for N worker processes here"


class Cluster:
    """Workers that are reached through a Dask scheduler.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    @property
    def threads(self) -> int:
        """How many tasks the workers can do at a time."""
        return sum(self.client.nthreads().values())

    def map(
        self, function: Callable[[T], R], tasks: Iterable[T], *, waiting: int = WAITING
    ) -> Generator[tuple[T, R]]:
        """Yield each task with what the function makes of it, as they end.

        Parameters
        ----------
        function : callable
            Of a module of this package, which workers have too.
        tasks : iterable
            Taken when there is room for them, and what was yielded before has been seen to.
        waiting : int
            Tasks for each thread beside the one that it works on.

        Raises
        ------
        FleetsimError
            What a task raised, or where workers die of a task, or the scheduler is gone.
        """
        rows = iter(tasks)
        under_way: dict[Any, T] = {}
        try:
            while True:
                with _told():
                    room = max(1, self.threads) * (1 + waiting) - len(under_way)
                    for task in islice(rows, max(room, 0)):
                        under_way[self.client.submit(function, task, pure=False)] = task
                    if not under_way:
                        break
                    results: list[tuple[T, R]] = []
                    for future in self._ended(list(under_way)):
                        try:
                            result = future.result(timeout=_FETCH)
                        except TimeoutError:
                            if future.status == "error":  # the task's own
                                raise
                            continue  # it died with its worker, and is to be made again
                        # Forgotten, or else the scheduler keeps the result.
                        results.append((under_way.pop(future), result))
                    del future
                yield from results
        finally:
            if under_way:
                with suppress(Exception):  # the scheduler may be what failed
                    self.client.cancel(list(under_way), force=True)

    def _ended(self, futures: list[Any]) -> set[Any]:
        """Wait until some have ended, as long as anybody is there to do the work."""
        from distributed import wait

        alone_since = None
        while True:
            try:
                with self.client.as_current():
                    ended = wait(futures, timeout=_LOOK, return_when="FIRST_COMPLETED")
            except TimeoutError:
                now = time.monotonic()
                alone_since = None if self.threads else alone_since or now
                if alone_since is not None and now - alone_since >= _ALONE:
                    raise FleetsimError(
                        f"all workers are gone, and none has come for {_ALONE} s"
                    ) from None
            else:
                done: set[Any] = ended.done
                return done


def require_dask(where: str) -> None:
    """Refuse to go on where Dask is not installed.

    Parameters
    ----------
    where : str
        What asks for it.

    Raises
    ------
    InputError
        With what to install.
    """
    if importlib.util.find_spec("distributed") is None:
        raise InputError(where, "Dask is an extra that is not installed", next_step=EXTRA)


@contextmanager
def when_given_up(act: Callable[[], object]) -> Iterator[None]:
    """Call a function, in another thread, once nobody wants this worker's task any more.

    Dask ends no task that has begun. What this worker knows of the task's state, it knows whether
    the task was cancelled or whoever asked for it is gone.
    """
    from distributed import get_worker
    from distributed.worker import thread_state

    tasks, key = get_worker().state.tasks, thread_state.key
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_WANTED):
            task = tasks.get(key)
            if task is None or task.state == "cancelled":
                act()
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def check_address(address: str) -> int | None:
    """Return the number of processes that an address asks for here; None for a scheduler.

    Raises
    ------
    InputError
        Where it is no address.
    """
    kind, _, rest = address.partition(":")
    if kind == "local" and rest.isascii() and rest.isdigit() and len(rest) <= 4:
        if 1 <= int(rest) <= 1024:
            return int(rest)
    elif kind in ("tcp", "tls", "ucx", "ws", "wss") and rest.startswith("//"):
        return None
    raise InputError("--scheduler", f"found {found(address)}; {_ALLOWED}")


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Yield the cluster of an address; one of this machine's own ends with the context.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` (or ``tls://``) of a scheduler, or ``local:N``.

    Raises
    ------
    InputError
        Where it cannot be had, or its members are of another version.
    """
    count = check_address(address)
    require_dask("--scheduler")
    import distributed

    with _quiet(), ExitStack() as stack:
        if count:
            with _deaf_children():
                cluster = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=count,
                        threads_per_worker=1,
                        dashboard_address="127.0.0.1:0",  # or else all may read it
                        silence_logs=logging.CRITICAL,
                    )
                )
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
            client.register_worker_callbacks(_ignore_interrupts)  # of restarted workers too
        else:
            client = stack.enter_context(_client(address))
            _check_versions(client)
        yield Cluster(client)


def _ignore_interrupts() -> None:
    """Ignore them from here on, instead of holding them back: so would kernels started here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _client(address: str) -> Any:
    """Return a client of a scheduler that has workers."""
    import distributed

    try:
        with warnings.catch_warnings():
            # Its advice is two pages long; `_check_versions` refuses what differs.
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise InputError(
            "--scheduler",
            f"no Dask scheduler answers at {address} ({type(error).__name__}); {_ALLOWED}",
            next_step="start one with `dask scheduler`, and workers with `dask worker`",
        ) from None
    except Exception as error:  # what another version answers, it answers in its own way
        raise InputError(
            "--scheduler",
            f"{address} does not speak the protocol of distributed {distributed.__version__} "
            f"({type(error).__name__})",
            next_step="run scheduler, workers and fleetsim from the same environment",
        ) from None
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        client.close()
        raise InputError(
            "--scheduler",
            f"the scheduler at {address} has no workers",
            next_step=f"start some with `dask worker {address}`",
        ) from None
    return client


def _check_versions(client: Any) -> None:
    """Refuse a scheduler or workers that are not of this environment's versions."""
    import distributed

    scheduler = client.get_versions()["scheduler"]
    theirs, ours = scheduler["packages"]["distributed"], distributed.__version__
    if theirs != ours:
        raise InputError(
            "--scheduler",
            f"the scheduler runs distributed {theirs}; this program {ours}",
            next_step="run scheduler, workers and fleetsim from the same environment",
        )

    def versions() -> tuple[str, str | None, str]:  # sent as it is, to workers without fleetsim
        import platform

        try:
            from fleetsim import __version__
            from fleetsim.base.project import source_hash
        except ImportError:
            return platform.python_version(), None, ""
        return platform.python_version(), __version__, source_hash()

    own = (platform.python_version(), fleetsim.__version__, source_hash())
    wrong = []
    for worker, (python, version, source) in sorted(client.run(versions).items()):
        if version is None:
            wrong.append(f"worker {worker} has no fleetsim; this program is {own[1]}")
        elif python.split(".")[:2] != own[0].split(".")[:2]:
            wrong.append(f"worker {worker} runs Python {python}; this program {own[0]}")
        elif version != own[1]:
            wrong.append(f"worker {worker} has fleetsim {version}; this program is {own[1]}")
        elif source != own[2]:
            wrong.append(
                f"worker {worker} has fleetsim {version} with source {source[:8]}; this program "
                f"has source {own[2][:8]}"
            )
    if wrong:
        raise InputError(
            "--scheduler", *wrong, next_step="install the same fleetsim for all workers"
        )


@contextmanager
def _told() -> Iterator[None]:
    """Turn what Dask raises of workers and scheduler into one clear error."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError, FuturesCancelledError
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise FleetsimError(
            f"{error.allowed_failures + 1} workers died of the same task, the last one at "
            f"{getattr(error.last_worker, 'address', '?')}; see their logs, and whether memory ran "
            "out"
        ) from None
    except (CommClosedError, FutureCancelledError, FuturesCancelledError):
        raise FleetsimError("the Dask scheduler is gone, and with it the work under way") from None


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let Ctrl-C reach this process alone, and after what is started here has started.

    A terminal interrupts all processes of a command; workers would tell where they were, and only
    this process knows how to end them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no Ctrl-C comes here
        return
    resource_tracker.ensure_running()  # its start would undo the following
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what Dask logs of lost connections, tracebacks and all: our errors say it.

    So with what it has Tornado call back later: an interrupted wait cancels what may not exist yet.
    """
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [logging.getLogger(name) for name in [*names, "tornado.application"]]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
