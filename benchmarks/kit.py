"""The command line of the kit, with a switch that the product does not have.

    python benchmarks/kit.py unhashed|profiled ARGUMENTS...

`unhashed` leaves out SHA-256, so that its share is known: the batch's record then names no hash.
`profiled` prints, as its last line, in which parts of the work the seconds went, as JSON; with
``--jobs 1`` one thread does everything, and the parts add up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

#: Parts of the work; what none of them holds is the start and the end of the process.
LOADING, KERNEL, HASHING, WRITING, FSYNC = "loading", "kernel", "hashing", "writing", "fsync"


class Unhashed:
    """Stands in for `threads.Digest`, and only counts."""

    def __init__(self, threads: object) -> None:
        self.size = 0

    def update(self, content: Any, release: Callable[[], object] | None = None) -> None:
        """Take the next bytes, and nothing of them but their number."""
        self.size += len(content)
        if release:
            release()

    def hexdigest(self) -> str:
        """Return no hash."""
        return ""


def leave_out_hashing() -> None:
    """Let what is imported from here on make no hash of what it writes."""
    from fleetsim.generate import threads

    threads.Digest = Unhashed  # type: ignore[assignment,misc]


def profile() -> dict[str, float]:
    """Return the seconds of each part, which grow as the command runs."""
    from fleetsim.batch import direct_io
    from fleetsim.generate import producer as produce
    from fleetsim.generate import threads

    seconds = dict.fromkeys((LOADING, KERNEL, HASHING, WRITING, FSYNC), 0.0)

    def time_it(owner: Any, name: str, part: str, then: Callable[[], None] | None = None) -> None:
        original = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                seconds[part] += time.perf_counter() - started
                if then:
                    then()

        setattr(owner, name, timed)

    def time_the_kernel() -> None:  # once it is loaded, and has tried itself out
        from fleetsim.generate.kernel.pieces import PieceMaker

        for name in ("_plan", "_draw", "_encode"):
            time_it(PieceMaker, name, KERNEL)

    time_it(produce, "_piece_maker", LOADING, time_the_kernel)
    time_it(threads.Digest, "_update", HASHING)
    time_it(direct_io.DirectFile, "write", WRITING)
    time_it(os, "fsync", FSYNC)
    return seconds


def main() -> None:
    """Run the command line, switched as the first argument says."""
    # As the command line does itself: NumPy without the threads of its linear algebra.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from fleetsim import __main__

    mode = sys.argv.pop(1)
    if mode == "unhashed":
        leave_out_hashing()
        __main__.main()
        return
    seconds = profile()
    try:
        __main__.main()
    finally:
        sys.stdout.flush()
        print(json.dumps(seconds))


if __name__ == "__main__":
    main()
