"""The entry point: reads the clock before anything else, since ``--now`` means this moment."""

import atexit
import gc
import signal
import sys
import time

_WALL_NS, _MONOTONIC_NS = time.time_ns(), time.monotonic_ns()

# What is imported stays: looking for garbage among it again and again is a tenth of the time of a
# small command.
gc.set_threshold(50_000)


def entry() -> None:
    """Run the command line as the whole of a process, whose end skips what is of no use."""
    ended: list[object] = []
    if not atexit._ncallbacks():  # those of a tool that watches this process want to be called too
        from fleetsim.base.leave import leave_process  # after the clock

        atexit.register(leave_process, ended)
    try:
        main()
    except SystemExit as end:
        ended.append(0 if end.code is None else end.code)
        raise


def main() -> None:
    """Run the command line."""
    try:
        from fleetsim.cli import main as cli  # after the clock, and only where a command runs

        cli.main(_WALL_NS, _MONOTONIC_NS)
    except KeyboardInterrupt:  # before the command line could catch it
        print("fleetsim: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        gc.freeze()  # the same at the end: what is thrown away as a whole is not searched first
        for number in (signal.SIGINT, signal.SIGTERM):  # all is done: no traceback while leaving
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    entry()
