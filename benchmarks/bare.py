"""The least that writing can take: bytes that lie ready in memory, written and fsynced.

    python benchmarks/bare.py SOURCE OUTPUT

Prints the seconds and the CPU seconds of `write` and `fsync` as JSON; getting SOURCE into memory,
and the start of the process, are no part of them.
"""

import json
import mmap
import os
import sys
import time

PIECE = 1 << 21  # as the kit writes


def main() -> None:
    """Write one file as another one."""
    source, output = sys.argv[1:]
    with open(source, "rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    for place in range(0, len(content), mmap.PAGESIZE):  # now they are in memory, without a copy
        content[place]
    cpu, started = time.process_time(), time.perf_counter()
    with open(output, "wb", buffering=0) as file:
        for first in range(0, len(content), PIECE):
            piece = content[first : first + PIECE]
            while piece:
                piece = piece[file.write(piece) :]
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
