"""Run commands, one after the other, and print what the kernel accounted for each, as JSON.

`measure` starts this file as ``python -I -S launcher.py``. It imports next to nothing, because
Linux carries the parent's peak memory over fork and exec into a child's ru_maxrss: a child of this
process starts from some 9 MB instead of a notebook kernel's hundreds.

Standard input is a pipe. A command comes as a line with the number of bytes that follow: the folder
to run it in and its words, with a NUL between them. Nothing more comes until its answer, a line on
standard output. When the pipe closes, `measure` is gone, however it ended: then the command is
killed, so that nobody's generator runs on and disturbs the next measurement. Ctrl-C reaches all
processes of a terminal; this one leaves it to the others, and ends after the command.
"""

# The module without its enumerations, which take as long as the start of Python.
import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time


def main() -> None:
    """Run what is asked for, until nothing can be asked any more."""
    # A command is to hear it, unless it is ignored already, as for work in the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    heard = [] if before == signal.SIG_IGN else [signal.SIGINT]
    while command := _asked():
        os.chdir(command[0])
        _run(command[1:], heard)
    os._exit(0)  # there is nothing to put in order


def _asked() -> "list[bytes]":
    """Return the next command behind its folder, nothing where the pipe was closed."""
    head = b""
    while not head.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return []
        head += piece
    request, length = b"", int(head)
    while len(request) < length:
        piece = os.read(0, length - len(request))
        if not piece:
            return []
        request += piece
    return request.split(b"\0")


def _run(command: "list[bytes]", heard: "list[int]") -> None:
    """Run a command; what it prints goes to our standard error."""
    started = time.monotonic_ns()
    child = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 2, 1),
        ],
        setsigdef=heard,
    )
    if hasattr(os, "pidfd_open"):  # Linux
        ends = select.poll()
        done = os.pidfd_open(child)
        ends.register(done, select.POLLIN)
        ends.register(0, select.POLLIN)
        if all(descriptor != done for descriptor, _ in ends.poll()):
            os.kill(child, signal.SIGKILL)
        os.close(done)
    _, status, usage = os.wait4(child, 0)
    seconds = (time.monotonic_ns() - started) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    # Numbers of Python are numbers of JSON; its module would take longer to load than all else.
    print(
        f'{{"exit_code": {os.waitstatus_to_exitcode(status)}, "seconds": {seconds}, '
        f'"cpu_seconds": {usage.ru_utime + usage.ru_stime}, '
        f'"peak_rss_bytes": {usage.ru_maxrss * unit}}}',
        flush=True,
    )


if __name__ == "__main__":
    main()
