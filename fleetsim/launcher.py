"""Run one command and print what the kernel accounted for it, as JSON.

This file is started by `measure` as ``python -I -S launcher.py COMMAND...`` and imports next to
nothing, because Linux carries the parent's peak memory over fork and exec into a child's
ru_maxrss: a child of this process starts from some 9 MB instead of a notebook kernel's hundreds.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run ``sys.argv[1:]``; what it prints goes to our standard error."""
    started = time.monotonic_ns()
    child = os.posix_spawn(
        sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
    )
    _, status, usage = os.wait4(child, 0)
    seconds = (time.monotonic_ns() - started) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    record = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * unit,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
