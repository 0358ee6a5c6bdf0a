"""Run one foreign command, watch all of its processes, and print what they took, as JSON.

This file is started by `measure.tree` as ``python -P tree_launcher.py``. It stands between the two
for two reasons. A process that loses its parent becomes a child of ours (Linux: a child
subreaper), so that no daemon escapes. And we outlive whoever asked: standard input is a pipe that
begins with the request, one line of JSON, and then stays open; when it closes, the caller is gone,
and the whole tree is killed.

It imports little, because Linux carries the parent's peak memory over fork and exec into a child's
ru_maxrss: the largest process of a tree is never told smaller than this one, some 15 MB.

Memory is sampled, and not taken from a cgroup: ``memory.peak`` counts the page cache of the files
that a command has read too, and would mean another thing on each machine.

macOS has neither a subreaper nor /proc. There a process that loses its parent before the first
sample that sees it is not found again, and memory is the sum of resident sets.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import psutil

TAIL = 64 << 10  # bytes that are kept of what the command prints
_TICK = 2  # milliseconds between two looks at whatever is due
_SAMPLE = 0.01  # seconds between two samples, unless a sample takes long
# A look may take one part in so many of the time: what is measured needs the processor more.
_SAMPLE_SHARE, _WATCH_SHARE = 40, 20
_SLICE = 0.002  # seconds that one look at the output may take at a stretch
_SETTLE = 0.5  # seconds in which helpers end by themselves after the command has
_GRACE = 1.0  # seconds between SIGTERM and SIGKILL
_PATIENCE = 20.0  # seconds until nothing of the tree may be left
_READ, _READS = 1 << 20, 8  # bytes of one read, and reads of one pipe in a tick
_BURY = 0.02  # seconds in which a tick buries; a bomb may kill faster than that
_PROC = sys.platform == "linux"
_PR_SET_CHILD_SUBREAPER = 36
# Python ignores some signals, and what is ignored would stay so in the command.
_DEFAULT_SIGNALS = [
    *(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD),
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
]


class Left(Exception):
    """Processes of the tree could not be ended."""


class Tail:
    """A pipe that the command prints into, of which the end is kept.

    Attributes
    ----------
    writes : int
        The end that the command gets.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close`; opened before the start)
        self._reads, self.writes = os.pipe()
        os.set_blocking(self._reads, False)
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):  # the user has too many large pipes already
                fcntl.fcntl(self._reads, fcntl.F_SETPIPE_SZ, _READ)
        self._kept = b""

    def drain(self) -> None:
        """Take what stands in the pipe, but no more than a part of what an endless writer has."""
        for _ in range(_READS):
            try:
                data = os.read(self._reads, _READ)
            except BlockingIOError:
                return
            if not data:
                return
            self._kept = (self._kept + data)[-TAIL:]

    def close(self) -> None:
        """Write the end of what was printed; nobody prints any more."""
        self.drain()
        os.close(self._reads)
        with self._file as file:
            file.write(self._kept)


class Watch:
    """Looks at a folder again and again, and counts how often it has changed.

    Attributes
    ----------
    changes : int
        Looks that differed from the one before.
    allocated : int
        Allocated bytes at the last look.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._due = 0.0
        self.changes = self.allocated = 0
        self._mark: int | None = None
        self.look()

    def look(self) -> None:
        """Look at all of it now."""
        self._looking = self._pieces()
        for _ in self._looking:
            pass
        self._looking = self._pieces()

    def step(self) -> None:
        """Look at it where that is due; a large tree piece by piece, so that nothing else waits."""
        started = time.monotonic()
        if started < self._due:
            return
        for _ in self._looking:
            if time.monotonic() - started > _SLICE:
                break
        else:
            self._looking = self._pieces()
        ended = time.monotonic()
        self._due = ended + (_WATCH_SHARE - 1) * (ended - started)

    def _pieces(self) -> Iterator[None]:
        """Look at the tree, and stop in between; the sum of hashes needs no memory for names."""
        mark = allocated = 0
        linked: set[tuple[int, int]] = set()
        folders = [self._root]
        with suppress(OSError):
            mark = hash(os.lstat(self._root).st_mtime_ns)
        while folders:
            # What goes away while we look is a change that the next look sees.
            with suppress(OSError), os.scandir(folders.pop()) as entries:
                for number, entry in enumerate(entries):
                    if number % 100 == 99:
                        yield
                    try:
                        state = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    mark += hash((entry.path, state.st_size, state.st_mtime_ns, state.st_ino))
                    inode = state.st_dev, state.st_ino
                    if state.st_nlink == 1 or inode not in linked:
                        allocated += state.st_blocks * 512
                    if state.st_nlink > 1:
                        linked.add(inode)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
            yield
        self.changes += self._mark is not None and mark != self._mark
        self._mark, self.allocated = mark, allocated


class Tree:
    """The processes below this one, and what they take.

    Attributes
    ----------
    peak_bytes, largest_bytes, processes : int
        Largest sampled sum and single process, and most processes at once.
    """

    def __init__(self) -> None:
        self._own = os.getpid()
        self._members: dict[int, psutil.Process] = {}
        self._others: set[int] = set()
        self._cpu: dict[tuple[int, float], float] = {}
        self._due = self._shares_due = 0.0
        self._added: tuple[set[psutil.Process], int] = set(), 0
        self.peak_bytes = self.largest_bytes = self.processes = 0
        self._find()  # all that are there before the command, so that the first sample is quick

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes, as far as samples have seen it [s]."""
        return sum(self._cpu.values())

    def census(self) -> dict[int, bool]:
        """Find all processes anew; return whether each lives yet, or only waits to be buried.

        Whoever forks and dies while we look is still seen dead, since nobody but us buries it. So
        an empty answer means that nothing is left.
        """
        states = {pid: state for pid in psutil.pids() if (state := _state(pid))}
        children: dict[int, list[int]] = {}
        for pid, (parent, _) in states.items():
            children.setdefault(parent, []).append(pid)
        open_ones = list(children.get(self._own, ()))
        if not _PROC:  # who has lost its parent is no longer below us
            open_ones += [pid for pid, one in self._members.items() if one.is_running()]
        tree: dict[int, bool] = {}
        while open_ones:
            pid = open_ones.pop()
            if pid in states and pid not in tree:
                tree[pid] = states[pid][1]
                open_ones += children.get(pid, ())
        return tree

    def _find(self) -> None:
        """Find the members among the processes that are new: those whose parent is one.

        A process never leaves the tree, since what loses its parent becomes our child, and none
        joins it. So each has to be looked at once.
        """
        there = set(psutil.pids())
        self._members = {pid: one for pid, one in self._members.items() if pid in there}
        self._others &= there
        fresh = there - self._members.keys() - self._others
        parents = {pid: state[0] for pid in fresh if (state := _state(pid))}
        before = -1
        while len(parents) != before:
            before = len(parents)
            for pid, parent in list(parents.items()):
                if parent == self._own or parent in self._members:
                    with suppress(psutil.Error):
                        self._members[pid] = psutil.Process(pid)
                elif pid == self._own or parent == 0 or parent in self._others:
                    # One with an unknown parent stays open: that may have been a member.
                    self._others.add(pid)
                else:
                    continue
                del parents[pid]

    def sample(self) -> None:
        """Add what the processes take now, where a sample is due."""
        started = time.monotonic()
        if started < self._due:
            return
        worked = time.process_time()
        self._find()
        resident: dict[psutil.Process, int] = {}
        private = 0
        for process in self._members.values():
            with suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                self._cpu[process.pid, process.create_time()] = times.user + times.system
                if process.status() != psutil.STATUS_ZOMBIE:
                    memory = process.memory_info()
                    resident[process] = memory.rss
                    private += memory.rss - getattr(memory, "shared", 0)
        self.processes = max(self.processes, len(resident))
        self.largest_bytes = max(self.largest_bytes, *resident.values(), 0)
        self._due = _next(started, worked, _SAMPLE)
        self._add_up(resident, private)

    def _add_up(self, resident: dict[psutil.Process, int], private: int) -> None:
        """Add the sum of the shares, as far as it may be a new peak.

        Shares are never more than resident sets, and take the kernel long to add up. Until that may
        be done again, what the same processes have got of their own since is added to the last sum.
        """
        if sum(resident.values()) <= self.peak_bytes:
            return
        started = time.monotonic()
        if started >= self._shares_due:
            worked = time.process_time()
            share = sum(_share(process, rss) for process, rss in resident.items())
            self._shares_due = _next(started, worked, 0)
            self._added = set(resident), share - private
        elif self._added[0] == resident.keys():
            share = self._added[1] + private
        else:
            return
        self.peak_bytes = max(self.peak_bytes, share)


def _next(started: float, worked: float, pause: float) -> float:
    """Return when to do again what began at a time and has just ended.

    `worked` is the CPU time at its beginning: a look takes from the command what it computes, and
    not the time for which a busy machine let it wait. By the clock, one look that had to wait would
    leave us blind for forty times as long.
    """
    return started + max(pause, _SAMPLE_SHARE * (time.process_time() - worked))


def _share(process: psutil.Process, rss: int) -> int:
    """Return a process's proportional share of memory (PSS), or its resident set without one."""
    try:
        return int(getattr(process.memory_full_info(), "pss", rss))
    except psutil.AccessDenied:
        return rss
    except (psutil.Error, OSError):  # it has ended meanwhile
        return 0


def _state(pid: int) -> tuple[int, bool] | None:
    """Return a process's parent, and whether it lives; None where it is gone.

    Under a bomb there are thousands to look at, and /proc answers ten times as fast as psutil.
    """
    try:
        if not _PROC:
            process = psutil.Process(pid)
            return process.ppid(), process.status() != psutil.STATUS_ZOMBIE
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            text = os.read(descriptor, 1024)
        finally:
            os.close(descriptor)
    except (psutil.Error, OSError):
        return None
    state, parent = text[text.rindex(b")") + 2 :].split(None, 2)[:2]  # a name may have blanks
    return int(parent), state not in (b"Z", b"X")


class Started:
    """The command, from its start until nothing of it is left."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._tails = [Tail(request["stdout"]), Tail(request["stderr"])]
        self._tree = Tree()
        self._watch = Watch(request["output"])
        self._asked_to_end = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)
        self._code: int | None = None
        self._seconds = 0.0
        os.chdir(request["cwd"])
        out, err = (tail.writes for tail in self._tails)
        self._start = time.monotonic()
        self._command = os.posix_spawn(
            request["program"],
            request["command"],
            request["environment"],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )
        os.close(out)
        os.close(err)
        self._ends = select.poll()
        self._ends.register(0, select.POLLIN)
        with suppress(AttributeError, OSError):  # macOS, or a container that forbids it
            # It wakes us at once; without it the end is seen a tick later.
            self._ends.register(os.pidfd_open(self._command), select.POLLIN)

    def _ask(self, *_: object) -> None:
        self._asked_to_end = True

    def run(self) -> dict[str, Any]:
        """Wait until the command ends or is to be ended, end everything, and return the record."""
        why = self._until_it_ends()
        left = 0
        if why == "exit":
            self._wait_for_all(_SETTLE)
            left = sum(self._tree.census().values())
        elif why == "timeout":
            self._signal_command(signal.SIGTERM)
            self._wait_for_all(_GRACE)
        else:
            self._signal_command(signal.SIGKILL)
            self._signal(self._tree.census(), signal.SIGKILL)
        self.end_all()
        for tail in self._tails:
            tail.close()
        if why in ("killed", "output") and self._code != -signal.SIGKILL:
            why = "exit"  # it was faster
        changes = self._watch.changes
        self._watch.look()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
        return {
            "exit_code": self._code,
            "ended": why,
            "seconds": self._seconds,
            "cpu_seconds": max(usage.ru_utime + usage.ru_stime, self._tree.cpu_seconds()),
            "peak_bytes": self._tree.peak_bytes,
            "largest_bytes": max(usage.ru_maxrss * unit, self._tree.largest_bytes),
            "processes": self._tree.processes,
            "left": left,
            "changes": self._watch.changes if why == "exit" else changes,
            "output_bytes": self._watch.allocated,
        }

    def _until_it_ends(self) -> str:
        """Watch until there is a reason to end; return that."""
        request, watch = self._request, self._watch
        change = request["change"] or sys.maxsize
        moment = sys.maxsize if request["seconds"] is None else request["seconds"]
        while True:
            self._tree.sample()
            watch.step()
            self._tick()
            passed = time.monotonic() - self._start
            if self._code is not None:
                return "exit"
            if self._asked_to_end:
                return "gone"
            if watch.changes >= change or passed >= moment:
                return "killed"
            if watch.allocated > request["output_limit"]:
                return "output"
            if passed >= request["timeout"]:
                return "timeout"

    def _tick(self) -> None:
        """Wait a moment, then empty the pipes and bury what has died."""
        for descriptor, _ in self._ends.poll(_TICK):
            self._ends.unregister(descriptor)  # it would wake us all the time from now on
            if descriptor == 0:
                self._asked_to_end = True
        for tail in self._tails:
            tail.drain()
        end = time.monotonic() + _BURY
        with suppress(ChildProcessError):
            while time.monotonic() < end:
                ended = os.waitpid(-1, os.WNOHANG)
                if ended[0] == 0:
                    break
                if ended[0] == self._command:
                    self._seconds = time.monotonic() - self._start
                    self._code = os.waitstatus_to_exitcode(ended[1])

    def _wait_for_all(self, seconds: float) -> None:
        """Wait until all processes have ended by themselves, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._asked_to_end:
            self._tick()
            if not any(self._tree.census().values()):
                return

    def _signal_command(self, number: int) -> None:
        """Signal the command's group; not after its end, when the number may be another's."""
        if self._code is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._command, number)

    @staticmethod
    def _signal(pids: Iterable[int], number: int) -> None:
        """Signal the groups of processes; all of a group are ours, since its session is."""
        groups = set()
        for pid in pids:
            with suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
        for group in groups - {os.getpgrp()}:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    def end_all(self) -> None:
        """Kill until nothing is left. What is stopped first cannot fork while we look for it.

        Raises
        ------
        Left
            Where processes live on after some seconds: of another user, or stuck in the kernel.
        """
        end = time.monotonic() + _PATIENCE
        while (tree := self._tree.census()) or self._code is None:
            seen: set[int] = set()
            while (fresh := tree.keys() - seen) and time.monotonic() < end:
                self._signal(fresh, signal.SIGSTOP)
                seen |= fresh
                tree = self._tree.census()
            self._signal(tree, signal.SIGKILL)
            self._tick()
            if time.monotonic() >= end:
                raise Left(sorted(pid for pid, lives in tree.items() if lives))


def _request() -> dict[str, Any]:
    """Read the request from standard input, which stays open after it."""
    text = b""
    while not text.endswith(b"\n"):
        data = os.read(0, 1 << 16)
        if not data:
            raise SystemExit  # the caller is gone already
        text += data
    request: dict[str, Any] = json.loads(text)
    return request


def main() -> None:
    """Do what the request says, and print a record, or why there is none."""
    request = _request()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who ignores it gets no exit code
    if _PROC:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        started = Started(request)
        try:
            record = started.run()
        except BaseException:
            started.end_all()
            raise
    except OSError as error:
        record = {"errno": error.errno, "path": error.filename}
    except Left as error:
        record = {"pids": error.args[0]}
    with suppress(BrokenPipeError):  # the caller has gone
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
