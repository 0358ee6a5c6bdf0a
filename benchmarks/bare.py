"""The least that writing can take: bytes that lie ready in memory, written and fsynced.

    python benchmarks/bare.py SOURCE OUTPUT cached|direct

`cached` goes through the page cache, as programs do by themselves; `direct` hands whole pieces to
the disk, as the kit does. Prints the seconds and the CPU seconds of `write` and `fsync` as JSON;
getting SOURCE into memory, and the start of the process, are no part of them.
"""

import json
import mmap
import os
import sys
import time

PIECE = 1 << 22  # as the kit writes


def write(file: int, content: memoryview) -> None:
    """Write everything."""
    while content:
        content = content[os.write(file, content) :]


def main() -> None:
    """Write one file as another one."""
    source, output, way = sys.argv[1:]
    with open(source, "rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    for place in range(0, len(content), mmap.PAGESIZE):  # now they are in memory, without a copy
        content[place]
    cpu, started = time.process_time(), time.perf_counter()
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    out = os.open(output, new | (os.O_DIRECT if way == "direct" else 0))
    whole = len(content) // PIECE * PIECE
    for first in range(0, whole, PIECE):
        write(out, content[first : first + PIECE])
    os.close(out)
    out = os.open(output, os.O_WRONLY | os.O_APPEND)  # the rest is less than a piece
    write(out, content[whole:])
    os.fsync(out)
    os.close(out)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
