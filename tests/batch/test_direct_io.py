"""Bytes that pass a direct file stand in the file unchanged, whatever the file system allows."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from fleetsim.batch import direct_io
from fleetsim.batch.direct_io import DirectFile

PAGE = 4096


@pytest.fixture(autouse=True, scope="module")
def small_buffer() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct_io, "BUFFER", 2 * PAGE)
        yield


def pour(path: Path, pieces: list[bytes]) -> bytes:
    with open(path, "wb", buffering=0) as file:
        target = DirectFile(file.fileno())
        for piece in pieces:
            again = bytearray(piece)
            target.write(memoryview(again))
            again[:] = b"\0" * len(again)  # the caller's memory is the caller's again
        target.finish()
    return path.read_bytes()


def pour_paged(path: Path, pieces: list[bytes], paged: list[bool]) -> bytes:
    """Write pieces, some of them in memory whose free bytes before them may be overwritten."""
    with open(path, "wb", buffering=0) as file:
        target, position = DirectFile(file.fileno()), 0
        for piece, has_room in zip(pieces, paged, strict=True):
            first = position % direct_io.PAGE
            room = np.frombuffer(mmap.mmap(-1, first + len(piece) + 1), np.uint8)
            room[:] = ord("?")
            room[first : first + len(piece)] = np.frombuffer(piece, np.uint8)
            content = room[first : first + len(piece)].data
            target.write(content, room[: first + len(piece)].data if has_room else None)
            assert content == piece  # what is hashed meanwhile stays as it is
            room[:] = 0
            position += len(piece)
        target.finish()
    return path.read_bytes()


def lines(sizes: list[int]) -> list[bytes]:
    return [bytes((k * 31 + i) % 251 for i in range(size)) for k, size in enumerate(sizes)]


SIZES = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 20_000)), max_size=6)


@settings(max_examples=examples(60), deadline=None)
@given(sizes=SIZES)
def test_what_goes_in_stands_in_the_file(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("direct") / "file"
    assert pour(path, lines(sizes)) == b"".join(lines(sizes))


@settings(max_examples=examples(100), deadline=None)
@given(sizes=SIZES, paged=st.lists(st.booleans(), min_size=6, max_size=6))
def test_pieces_that_stand_ready_for_the_disk_are_written_in_their_order(
    sizes: list[int], paged: list[bool], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With room before them or not, in any mixture."""
    path = tmp_path_factory.mktemp("direct") / "file"
    made = pour_paged(path, lines(sizes), paged[: len(sizes)])
    assert made == b"".join(lines(sizes))


def test_pieces_that_stand_ready_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole units go from where they stand to the disk, the rest with the next piece."""
    system = System(monkeypatch)
    pieces = lines([10_000, 10_000, 5_000])
    assert pour_paged(tmp_path / "file", pieces, [True] * 3) == b"".join(pieces)
    assert system.writes == [(True, 8192), (True, 8192), (True, 8192), (False, 424)]


@pytest.mark.parametrize("size", [2 * PAGE - 1, 2 * PAGE, 2 * PAGE + 1, 6 * PAGE, 6 * PAGE + 1])
def test_the_edges_of_the_buffer(tmp_path: Path, size: int) -> None:
    assert pour(tmp_path / "file", lines([size])) == lines([size])[0]


class System:
    """Stands between a direct file and the system, and keeps what was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.writes: list[tuple[bool, int]] = []
        self.direct = False
        self._write, self._fcntl = os.write, fcntl.fcntl
        patch.setattr(direct_io, "_DIRECT", os.O_NONBLOCK)  # a flag that every file system takes
        patch.setattr(fcntl, "fcntl", self.fcntl)
        patch.setattr(os, "write", self.write)

    def fcntl(self, descriptor: int, command: int, flags: int = 0) -> int:
        """Note whether writes are direct from here on."""
        if command == fcntl.F_SETFL:
            self.direct = bool(flags & direct_io._DIRECT)
        return self._fcntl(descriptor, command, flags)

    def write(self, descriptor: int, view: memoryview) -> int:
        """Note how much is to be written, and whether directly."""
        self.writes.append((self.direct, len(view)))
        return self._write(descriptor, view)


def test_only_whole_buffers_go_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch)
    content = lines([5 * PAGE])
    assert pour(tmp_path / "file", content) == content[0]
    assert system.writes == [(True, 2 * PAGE), (True, 2 * PAGE), (False, PAGE)]


def test_what_is_small_asks_the_system_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(monkeypatch)
    monkeypatch.setattr(fcntl, "fcntl", None)
    assert pour(tmp_path / "file", [b"one line\n"]) == b"one line\n"
    assert system.writes == [(False, 9)]


class Refusing(System):
    """Knows no direct writes."""

    def fcntl(self, descriptor: int, command: int, flags: int = 0) -> int:
        """Refuse the flag."""
        if command == fcntl.F_SETFL:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().fcntl(descriptor, command, flags)


class Coarse(System):
    """Takes the flag, and then wants larger blocks."""

    def write(self, descriptor: int, view: memoryview) -> int:
        """Refuse what is direct."""
        if self.direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().write(descriptor, view)


@pytest.mark.parametrize("kind", [Refusing, Coarse])
def test_where_direct_writes_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[System]
) -> None:
    system = kind(monkeypatch)
    content = lines([4 * PAGE])
    assert pour(tmp_path / "file", content) == content[0]
    assert system.writes == [(False, 2 * PAGE)] * 2


def test_writes_that_take_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sparing(System):
        def write(self, descriptor: int, view: memoryview) -> int:
            return super().write(descriptor, view[:3000])

    system = Sparing(monkeypatch)
    content = lines([4 * PAGE])
    assert pour(tmp_path / "file", content) == content[0]
    assert [direct for direct, _ in system.writes] == [True] + 5 * [False]  # no whole pages left


@pytest.mark.parametrize("direct", [True, False])
def test_other_errors_are_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    class Full(System):
        def write(self, descriptor: int, view: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    Full(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        pour(tmp_path / "file", lines([4 * PAGE if direct else 10]))
