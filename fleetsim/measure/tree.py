"""Run a foreign command as a tree of processes, measure all of it, and leave nothing of it behind.

`run_tree` is to a pipeline under test what `child.run_command` is to our own generator. The command
may do anything: daemonise, ignore signals, print without end, fill the disk, never come back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from fleetsim.base.errors import FleetsimError, InputError, found, refused
from fleetsim.base.strict import decoder
from fleetsim.measure import tree_launcher
from fleetsim.measure.child import measure_lock

#: What a command gets of the user's environment, besides PATH; all else is dropped.
_KEPT = ("HOME", "JAVA_HOME", "TMPDIR")
_LANGUAGE = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
_WHERE = "pipeline.command"
_ABSENT = "name a program that PATH leads to, or a path from the experiment's folder"
_PATIENCE = 30  # seconds that the launcher may take to end a tree


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """When to kill a whole tree with SIGKILL; whichever comes first, where both are given.

    Attributes
    ----------
    change : int, optional
        At the change of the output with this number, from 1, since this start.
    seconds : float, optional
        So long after the start [s].
    """

    change: int | None = None
    seconds: float | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What one start of a command took, and how it ended.

    Attributes
    ----------
    exit_code : int
        Of the command itself; negative: the signal that ended it.
    ended : str
        ``exit`` (by itself), ``timeout``, ``output`` (more output than allowed) or ``killed`` (a
        `Kill` struck).
    seconds : float
        From the start to the command's end [s].
    cpu_seconds : float
        On all cores, of all processes of the tree [s].
    peak_bytes : int
        Largest sampled sum over the tree: proportional shares (PSS), on macOS resident sets. Memory
        that was there for less than the time between two samples, some 10 ms, may be missing; so
        may that of new processes while shares of a large tree cannot be read again, up to a second.
        0 of a command that ended before the first sample.
    largest_bytes : int
        Largest resident set of a single process, as the kernel accounted for it or as sampled. At
        least that of the launcher, some 15 MB.
    processes : int
        Most that were sampled at once.
    left : int
        Processes that still lived half a second after the command had ended by itself, and were
        killed; 0 where it did not end by itself.
    changes : int
        How often the output was seen to change. What changes between two looks, 2 ms apart or
        twenty times as long as a look takes, counts once.
    output_bytes : int
        Allocated bytes of the output at the end.
    """

    exit_code: int
    ended: Literal["exit", "timeout", "output", "killed"]
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    largest_bytes: int
    processes: int
    left: int
    changes: int
    output_bytes: int

    @property
    def well(self) -> bool:
        """Whether it ended by itself, with exit code 0."""
        return self.ended == "exit" and self.exit_code == 0


class _Failure(msgspec.Struct, frozen=True):
    """Why the launcher has no record: an error of the system, or processes that would not end."""

    errno: int | None = None
    path: str | None = None
    pids: tuple[int, ...] | None = None
    ended: str = ""


decoder(Start)  # made with the module, before there are threads
decoder(_Failure)


def run_tree(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    output: Path,
    stdout: Path,
    stderr: Path,
    timeout: float,
    output_limit: int,
    kill: Kill | None = None,
) -> Start:
    """Run a command alone on the machine, in a cleaned environment, and end all that it started.

    However it ends, none of its processes runs on: not after the command's own end, not after a
    limit or a kill, and not where this process is interrupted or killed itself. A process that a
    service outside makes for the command, such as a container, is none of its processes. On macOS,
    a process that has lost its parent before it was sampled is not found.

    Parameters
    ----------
    command : sequence of str
        The program, by a name that PATH leads to or a path from `cwd`, and its arguments.
    cwd : Path
    environment : mapping
        Variables besides those that are kept of the user's: PATH, with the folder of this Python
        before it, HOME, JAVA_HOME and TMPDIR. The language is C.UTF-8.
    output : Path
        The folder whose changes are counted; it need not be there. Links are not followed.
    stdout, stderr : Path
        Files for the last 64 KiB of each, written at the end. Standard input is empty.
    timeout : float
        Limit [s]. Then the command's process group gets SIGTERM, and 1 s later all get SIGKILL.
    output_limit : int
        Allocated bytes of `output` above which all are killed.
    kill : Kill, optional
        A command that ends before is not killed.

    Raises
    ------
    InputError
        Where there is no such command, or a folder or file is not there or not permitted.
    FleetsimError
        Where the system cannot run it, or cannot end it.
    """
    variables = _environment(environment)
    program = _program(command, cwd, variables["PATH"])
    request = {
        "program": program,
        "command": list(command),
        "environment": variables,
        "cwd": os.path.abspath(cwd),
        "output": os.path.abspath(output),
        "stdout": os.path.abspath(stdout),
        "stderr": os.path.abspath(stderr),
        "timeout": timeout,
        "output_limit": output_limit,
        "change": kill.change if kill else None,
        "seconds": kill.seconds if kill else None,
    }
    with measure_lock():
        record = _launch(msgspec.json.encode(request) + b"\n")
    try:
        start: Start = decoder(Start).decode(record)
    except msgspec.ValidationError:
        failure: _Failure = decoder(_Failure).decode(record)
        if failure.path == program:
            raise _not_started(failure, command[0], variables["PATH"]) from None
        raise _explained(failure, command[0]) from None
    return start


def _launch(request: bytes) -> bytes:
    """Hand a request to a launcher; return its record. It ends all when we are interrupted."""
    here, there = os.pipe()
    try:
        # A session of its own: what interrupts us does not interrupt its cleaning up.
        process = subprocess.Popen(
            [sys.executable, "-P", tree_launcher.__file__],
            stdin=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(here)
        here = -1
        with process:
            try:
                with suppress(BrokenPipeError), open(there, "wb", closefd=False) as pipe:
                    pipe.write(request)
                record, printed = process.communicate()
            finally:
                os.close(there)  # it has nothing to do any more, or shall stop
                there = -1
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE)
    finally:
        for descriptor in (here, there):
            if descriptor >= 0:
                os.close(descriptor)
    if process.returncode != 0:
        raise FleetsimError(f"the launcher failed: {printed.decode(errors='replace').strip()}")
    return record


def _not_started(failure: _Failure, name: str, path: str) -> FleetsimError:
    """Return what to tell of a program that is there and executable, and that the system refuses.

    Its '#!' line names nothing that is there, or it is another machine's code.
    """
    reason = os.strerror(failure.errno or 0)
    return FleetsimError(
        f"{name}: cannot be started: {reason} ({failure.path}; PATH: {path})\n"
        "  next: look at the program's first line: '#!' and an interpreter that is there"
    )


def _explained(failure: _Failure, name: str) -> FleetsimError:
    """Return what to tell of a launcher that has no record."""
    if failure.pids is not None:
        pids = " ".join(map(str, failure.pids)) or "none that lives"
        return FleetsimError(
            f"{name}: could not be ended; these processes are still there: {pids}\n"
            "  next: end them by hand; they belong to another user, or wait for a device"
        )
    if failure.ended:
        return FleetsimError(f"{name}: the launcher was told to end, and has ended it")
    return refused(OSError(failure.errno or 0, "", failure.path), failure.path or name)


def find_command(command: Sequence[str], cwd: Path) -> None:
    """Check that there is the program of a command, before anything is started.

    Parameters
    ----------
    command : sequence of str
    cwd : Path
        The folder that a program's path starts from.

    Raises
    ------
    InputError
        Where it is empty, not found, not executable, or a folder.
    """
    _program(command, cwd, _environment({})["PATH"])


def _program(command: Sequence[str], cwd: Path, path: str) -> str:
    """Return the path of a command's program, as a shell in `cwd` finds it."""
    if isinstance(command, str) or not command or not command[0]:
        fault = f"found {found(command)}; allowed: a program and its arguments"
        raise InputError(_WHERE, fault, next_step="write a list, such as [python, ingest.py]")
    if any("\0" in word for word in command):
        fault = f"found {found(list(command))}; allowed: words without the character NUL"
        raise InputError(_WHERE, fault, next_step="remove the character")
    name = command[0]
    folders = [""] if "/" in name else path.split(os.pathsep)
    places = [os.path.abspath(os.path.join(cwd, folder, name)) for folder in folders]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    there = next((place for place in places if os.path.exists(place)), None)
    if there is None:
        looked = f"in {os.path.abspath(cwd)}" if "/" in name else f"on the PATH {path}"
        fault = f"found {found(name)}, which is not there {looked}; allowed: a program"
        raise InputError(_WHERE, fault, next_step=f"check the name, install it, or {_ABSENT}")
    if os.path.isdir(there):
        fault = f"found {found(name)}, which is a folder ({there}); allowed: a program"
        raise InputError(_WHERE, fault, next_step=_ABSENT)
    fault = f"found {found(name)}, which is not executable ({there}); allowed: a program"
    step = f"chmod +x it, or name the interpreter first, such as [python, {name}]"
    raise InputError(_WHERE, fault, next_step=step)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a command.

    A pipeline needs its tools, so that the user's PATH is kept, and so are the folders that tools
    keep things in. What else the user has set would make a run that nobody can repeat.
    """
    own = os.path.dirname(sys.executable)  # so that `python` is this one
    path = os.pathsep.join([own, os.environ.get("PATH", os.defpath)])
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": path, **kept, **_LANGUAGE, **given}
