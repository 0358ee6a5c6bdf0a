"""Sweeps that end by SIGKILL, for the tests: at a call that is named, or at any time.

    python sweep_driver.py RESULTS ENGINE JOBS WHEN...

Each WHEN is a sweep of its own, in this order, in a process that is forked off and killed:
``before:3:os.symlink`` at the third call of that function, ``after:...`` when it has returned,
``at:0.25`` after so many seconds; ``end`` lets it come to its end. One line a sweep says how it
ended: the signal, negative, or the exit code. Data are made without cold processes; ``cold:``
before a WHEN makes them with these. After each, every run that stands has to be whole.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from sweeps import SMOKE, assert_whole, generate_here

import fleetsim.cli.main
import fleetsim.measure.cold
import fleetsim.runner.run
import fleetsim.sweep.report
import fleetsim.sweep.run


def main() -> None:
    """Run the sweeps that the command line names."""
    results, engine, jobs, *whens = sys.argv[1:]
    fleetsim.sweep.report.render_sweep = lambda sweep, steps: sweep.folder
    for when in whens:
        cold, word = when.startswith("cold:"), when.removeprefix("cold:")
        child = os.fork()
        if child == 0:
            os.setsid()
            if not cold:
                fleetsim.measure.cold.run_child = generate_here
                os.fsync = lambda descriptor: None  # a kill is no power cut
            arm(word)
            sys.argv = ["fleetsim", "sweep", SMOKE, "--engine", engine, "--jobs", jobs]
            sys.argv += ["--results", results]
            fleetsim.cli.main.main(time.time_ns(), time.monotonic_ns())
        if word.startswith("at:"):
            time.sleep(float(word.removeprefix("at:")))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert_whole(Path(results))
        print(when, os.waitstatus_to_exitcode(status), flush=True)


def arm(when: str) -> None:
    """Let this process kill itself around a call of a function."""
    moment, _, rest = when.partition(":")
    if moment not in ("before", "after"):
        return
    number, _, name = rest.partition(":")
    owner_name, _, attribute = name.rpartition(".")
    owner = resolve_name(owner_name)
    real: Callable[..., Any] = getattr(owner, attribute)
    calls = []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        last = len(calls) == int(number)
        if last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        value = real(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, attribute, call)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
