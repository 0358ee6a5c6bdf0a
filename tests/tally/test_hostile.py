"""Files that no writer of events makes: read in little memory, and never for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import Cli, Outcome, Project

from fleetsim.batch.formats import FORMATS

FINDING = 3
LIMIT_BYTES = 512_000_000
BLOCK = 1 << 26


def measured(*arguments: object) -> Outcome:
    """Run a command in a child, and hold its memory to the limit."""
    command = [sys.executable, "-m", "fleetsim", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        out, err = child.stdout.read().decode(), child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < LIMIT_BYTES, f"{peak / 1e6:.0f} MB"
    return Outcome(child.returncode, out, err)


def gzipped(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(content) + packer.flush()


def zstandard(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


PACK = {"jsonl.gz": gzipped, "jsonl.zst": zstandard}


def grow(path: Path, more: int) -> None:
    """Let a file end with zeros that take no room on the disk."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + more)


def endless_line(path: Path, name: str) -> None:
    path.write_bytes(b"")
    grow(path, 2 << 30)


def endless_line_of_a_plain_record(path: Path, name: str) -> None:
    endless_line(path, name)
    state(path, bytes=2 << 30)


def state(path: Path, **values: Any) -> None:
    """Change what the record states."""
    record = path.parent / "batch_meta.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | values))


def zeros(path: Path, name: str) -> None:
    path.write_bytes(PACK[name](bytes(BLOCK)) * 128)


def zeros_without_a_record(path: Path, name: str) -> None:
    zeros(path, name)
    (path.parent / "batch_meta.json").unlink()


def zeros_of_a_boastful_record(path: Path, name: str) -> None:
    zeros(path, name)
    state(path, bytes=path.stat().st_size, event_count=10**11)


def zeros_behind(path: Path, name: str) -> None:
    if name in PACK:
        path.write_bytes(path.read_bytes() + PACK[name](bytes(BLOCK)) * 128)
    else:
        grow(path, 8 << 30)


def bare_zeros_behind(path: Path, name: str) -> None:
    grow(path, 8 << 30)


def newlines(path: Path, name: str) -> None:
    path.write_bytes(PACK[name](b"\n" * BLOCK) * 3)


def newlines_behind(path: Path, name: str) -> None:
    path.write_bytes(path.read_bytes() + PACK[name](b"\n" * BLOCK) * 3)


def newlines_without_a_record(path: Path, name: str) -> None:
    newlines(path, name)
    (path.parent / "batch_meta.json").unlink()


FILES: list[tuple[str, Callable[[Path, str], None]]] = [
    ("jsonl", endless_line),
    ("jsonl", endless_line_of_a_plain_record),
    ("jsonl", zeros_behind),
    *[
        ("jsonl.gz", change)
        for change in (
            zeros_without_a_record,
            zeros_of_a_boastful_record,
            bare_zeros_behind,
            newlines_behind,
            newlines_without_a_record,
        )
    ],
    *[("jsonl.zst", change) for change in (zeros, zeros_behind, bare_zeros_behind, newlines)],
]


def made(project: Project, cli: Cli, name: str) -> Path:
    """Return the events file of a batch in some format."""
    done = cli(*project.make_events("--format", name))
    assert (done.code, done.err) == (0, "")
    return project.batch / FORMATS[name].events_name


def check_both(project: Project, *, verified: bool = True) -> tuple[str, str]:
    """Audit and verify a batch that is not in order; return what both say."""
    said = []
    commands: list[list[object]] = [["audit", project.events.parent, "--config", project.config]]
    commands[0] += ["--companies", project.companies]
    if verified:
        commands.append(["verify", project.batch, "--companies", project.companies])
    for command in commands:
        done = measured(*command)
        assert done.code == FINDING, done
        assert done.err == ""
        assert "reproduced" not in done.out
        assert "Nothing found" not in done.out
        assert max(map(len, done.out.splitlines())) < 900
        said.append(done.out)
    return said[0], said[-1]


@pytest.mark.parametrize(
    ("name", "change"), FILES, ids=[f"{name} {change.__name__}" for name, change in FILES]
)
def test_lines_without_end_are_read_in_little_memory(
    project: Project, fleetsim_cli: Cli, name: str, change: Callable[[Path, str], None]
) -> None:
    """Gigabytes of zeros, newlines or one line: a finding, and little of it is read."""
    path = made(project, fleetsim_cli, name)
    change(path, name)
    there = (path.parent / "batch_meta.json").exists()
    audited, verified = check_both(project, verified=there)
    if change is bare_zeros_behind:
        assert f"{path.name} cannot be read as {name}" in audited
    else:
        assert f"{path.name} goes on behind line " in audited
    if change in (zeros_behind, newlines_behind):
        assert "more than the" in verified
