"""Measured child processes: one at a time on a machine, each started from a small launcher."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from fleetsim.base.errors import FleetsimError
from fleetsim.base.files import take_lock
from fleetsim.base.strict import decoder
from fleetsim.measure import launcher as program

# One file for the whole machine: the folder that $TMPDIR names may differ between users.
_LOCK = Path("/tmp/fleetsim-measure.lock")  # noqa: S108 (an empty file, only ever locked)
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
_PATIENCE = 60  # seconds until what stands beside measured commands has to be there
_PIECE = 1 << 16  # bytes of a pipe read at once


class Child(msgspec.Struct, frozen=True):
    """What the kernel accounted for one child process; a signal gives a negative exit code.

    `seconds` pass on the clock, `cpu_seconds` on all cores together, in and for the process.
    """

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


decoder(Child)  # made with the module, before there are threads


@contextmanager
def measure_lock() -> Iterator[None]:
    """Hold the machine's only right to measure, so that parallel runs do not measure each other."""
    try:
        # Opened for reading, so that a lock file that another user made serves as well.
        descriptor = os.open(_LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
        with suppress(PermissionError):  # not our file
            os.fchmod(descriptor, 0o644)  # whatever the umask, others can open it too
    except PermissionError:
        descriptor = os.open(_LOCK, os.O_RDONLY)
    except OSError:  # /tmp cannot be written: at least this user's runs take turns
        own = Path(tempfile.gettempdir(), _LOCK.name)
        descriptor = os.open(own, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        take_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


class Launcher:
    """The process from which measured commands are started, one after the other.

    It is started for the first of them, and ends when it is closed.

    Examples
    --------
    >>> with closing(Launcher()) as launcher:  # doctest: +SKIP
    ...     child, printed = launcher.run(["/bin/true"], Path())
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], cwd: Path) -> tuple[Child, str]:
        """Run a command; return what it took, and what it printed.

        What strikes here meanwhile, as Ctrl-C does, goes on when the command has ended as well: who
        unwinds may then delete what it wrote.

        Raises
        ------
        FleetsimError
            Where the launcher itself fails.
        """
        try:
            if self._process is None:
                self._process = _started(subprocess.PIPE)
            answer, printed = _answered(self._process, command, cwd)
        except BaseException:
            self.close()
            raise
        text = printed.decode(errors="replace").strip()
        if not answer.endswith(b"\n"):
            self.close()
            raise FleetsimError(f"the launcher failed: {text}")
        return decoder(Child).decode(answer), text

    def close(self) -> None:
        """Let the launcher end; without its lifeline it kills the command before."""
        if self._process is not None:
            process, self._process = self._process, None
            process.communicate()


def _started(errors: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Return a launcher; it, and all commands, print into `errors`."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", program.__file__],
        env=_ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    if process.stderr is not None:
        os.set_blocking(process.stderr.fileno(), False)
    return process


def _ask(process: subprocess.Popen[bytes], command: Sequence[str], cwd: Path) -> None:
    """Tell a launcher which command to run, and where."""
    requests: Any = process.stdin
    request = b"\0".join(os.fsencode(word) for word in (str(cwd.absolute()), *command))
    with suppress(BrokenPipeError):  # it has ended: its answer says so
        requests.write(b"%d\n%s" % (len(request), request))
        requests.flush()


def _answered(
    process: subprocess.Popen[bytes], command: Sequence[str], cwd: Path
) -> tuple[bytes, bytes]:
    """Return a launcher's answer, a line where it is whole, and what was printed until then."""
    _ask(process, command, cwd)
    answers: Any = process.stdout
    errors: Any = process.stderr
    answer, printed = bytearray(), bytearray()
    with selectors.DefaultSelector() as pipes:
        pipes.register(answers, selectors.EVENT_READ, answer)
        pipes.register(errors, selectors.EVENT_READ, printed)
        while pipes.get_map() and not answer.endswith(b"\n"):
            for key, _ in pipes.select():
                piece = os.read(key.fd, _PIECE)
                key.data.extend(piece)
                if not piece:
                    pipes.unregister(key.fileobj)
    with suppress(BlockingIOError):  # what was printed last may have come after the answer
        while piece := os.read(errors.fileno(), _PIECE):
            printed += piece
    return bytes(answer), bytes(printed)


def run_child(arguments: Sequence[str], cwd: Path, launcher: Launcher | None = None) -> Child:
    """Run ``fleetsim ARGUMENTS`` as a child of the launcher, in a cleaned environment.

    Raises
    ------
    FleetsimError
        Where the command fails; with what it printed.
    """
    command = [sys.executable, "-P", "-m", "fleetsim", *arguments]
    child, printed = run_command(command, cwd, launcher)
    if child.exit_code != 0:
        raise FleetsimError(f"fleetsim {arguments[0]} {ending(child.exit_code)}:\n{printed}")
    return child


def run_command(
    command: Sequence[str], cwd: Path, launcher: Launcher | None = None
) -> tuple[Child, str]:
    """Run a command as a child of a launcher, in a cleaned environment, alone on the machine.

    Parameters
    ----------
    command : sequence of str
    cwd : Path
    launcher : Launcher, optional
        Of a series of commands; by default this one gets its own.

    Returns
    -------
    Child
        Also of a command that fails.
    str
        What it printed.

    Raises
    ------
    FleetsimError
        Where the launcher itself fails.
    """
    with measure_lock():
        if launcher is not None:
            return launcher.run(command, cwd)
        with closing(Launcher()) as own:
            return own.run(command, cwd)


def ending(exit_code: int) -> str:
    """Return how a process ended, as words that follow its name."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was ended by the signal {signal.strsignal(-exit_code) or -exit_code}"


class Standing:
    """A command that stands beside measured ones, such as a scheduler.

    Parameters
    ----------
    process : Popen
        The launcher.
    log : Path
        What the command prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self.log = process, log
        #: What the kernel accounted for it, once it has ended.
        self.child: Child | None = None

    def printed(self, pattern: str) -> str:
        """Wait until it prints a text that fits; return that.

        Raises
        ------
        FleetsimError
            Where it ends before, or prints nothing of the kind.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            text = self.log.read_text(errors="replace")
            if found := re.search(pattern, text):
                return found.group()
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise FleetsimError(f"{self.log.stem} did not start:\n{text.strip()}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken so far, in steps of the system's clock [s]."""
        times = self._command().cpu_times()
        return float(times.user + times.system)

    def _command(self) -> Any:
        import psutil  # comes with Dask

        return psutil.Process(self._process.pid).children()[0]

    def end(self) -> None:
        """Kill the command; it keeps nothing that anyone needs."""
        if self._process.poll() is None:
            with suppress(Exception):  # it has ended by itself, or its launcher will see to it
                self._command().kill()
        printed, _ = self._process.communicate()  # ends the launcher's lifeline too
        if printed:
            self.child = decoder(Child).decode(printed)


@contextmanager
def standing(command: Sequence[str], cwd: Path, log: Path) -> Iterator[Standing]:
    """Yield a command that runs beside measured ones until the context ends.

    Like a measured one it is a child of the launcher, in a cleaned environment, and does not
    outlive this process.

    Parameters
    ----------
    command : sequence of str
    cwd, log : Path
    """
    with open(log, "wb") as output:
        process = _started(output)
    _ask(process, command, cwd)
    stands = Standing(process, log)
    try:
        yield stands
    finally:
        stands.end()
