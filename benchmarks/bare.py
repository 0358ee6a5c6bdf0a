"""The least that writing and hashing can take: bytes that lie ready in memory, handled once.

    python benchmarks/bare.py SOURCE OUTPUT cached|direct|hash

`cached` writes through the page cache, as programs do by themselves; `direct` hands whole pieces to
the disk, as the kit does; `hash` writes nothing, and gives the SHA-256. Prints the seconds and the
CPU seconds of `write` and `fsync`, or of the hash, as JSON; getting SOURCE into memory, and the
start of the process, are no part of them.
"""

import hashlib
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
    told = {}
    if way == "hash":
        told["sha256"] = hashlib.sha256(content).hexdigest()
    else:
        copy(content, output, way)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - cpu, **told}))


def copy(content: memoryview, output: str, way: str) -> None:
    """Write the content into a new file, and have it on the disk."""
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


if __name__ == "__main__":
    main()
