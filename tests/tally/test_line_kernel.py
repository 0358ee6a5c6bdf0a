"""The kernel's columns against NumPy's, of lines that nobody would write, and its memory."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, quick_and_full
from test_lines import BASE, BYTES, World, mutated, split

from fleetsim.generate.config import make_config
from fleetsim.tally import lines
from fleetsim.tally.ledger import Marks
from fleetsim.tally.lines import LineReader, Rows


@pytest.fixture(scope="module", autouse=True)
def both(reader: str) -> None:
    """Compare the two once."""
    if reader != "kernel":
        pytest.skip("the other one is compared with it")


@pytest.fixture(scope="module")
def world() -> World:
    """Return a fleet, of which the second company is not eligible, and names of all lengths."""
    names = ("start driving", 'odd "ü\\\n', "x", "seven..", "eight...", "nine.....")
    made = World.of(event_types=dict.fromkeys(names, 1 / len(names)), event_rate_per_driver=9.0)
    eligible = made.eligible.copy()
    eligible[1] = False
    return made._replace(eligible=eligible)


@pytest.fixture(scope="module")
def texts(world: World) -> list[bytes]:
    """Return good lines, and some of companies that nobody knows."""
    return split(world.content()) + split(World.of(seed=7).content())[:5]


def plain(rows: Rows | None) -> Any:
    """Return rows as plain data, with the types of their columns."""
    if rows is None:
        return None
    columns = {"number": rows.number, "driver": rows.driver, "company": rows.company}
    columns |= {"membership": rows.membership, **rows.drawn}
    return (
        rows.lines,
        {name: (str(column.dtype), column.tolist()) for name, column in columns.items()},
        rows.deviating,
        rows.strangers,
        plain(rows.explained),
    )


def read(
    world: World, content: bytes, roster: bool, kernel: bool, chunk_bytes: int, named: list[int]
) -> Any:
    """Return what a reader makes of a file, of which a ledger names some lines."""
    with pytest.MonkeyPatch.context() as patch:
        if not kernel:
            patch.setattr(lines, "line_kernel", lambda *_: None)
        reader = LineReader(world.config, world.fleet if roster else None)
    assert (reader._kernel is not None) == kernel
    eligible = world.eligible if roster else np.ones(1, np.bool_)
    marks = None
    if named:
        there = split(content)
        digests = [hashlib.sha256(there[n - 1][:-1]).digest() for n in named]
        marks = Marks(
            np.array(named),
            np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
            np.zeros(len(named), np.uint8),
            np.zeros((len(named), 2), np.uint64),
            np.full(len(named), -1, np.int32),
            (),
        )
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        where = Path(file.name)
        parts = list(reader.read(where, eligible, chunk_bytes=chunk_bytes, marks=marks))
    states = None if marks is None else marks.state.tolist()
    return [plain(part) for part in parts], reader.lines, reader.sha256, states


def assert_equal(
    world: World, content: bytes, roster: bool, chunk_bytes: int = 1 << 22, named: Any = ()
) -> None:
    """Hold the kernel to NumPy."""
    cases = [read(world, content, roster, on, chunk_bytes, list(named)) for on in (True, False)]
    assert cases[0] == cases[1]


@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**32),
    good=st.sampled_from([0.0, 0.5, 0.97]),
    roster=st.booleans(),
    chunk_bytes=st.sampled_from([97, 250, 1000, 70_000, 1 << 22]),
    named=st.sets(st.integers(1, 60), max_size=8),
    cut=st.integers(0, 300),
)
def test_mutated_lines_give_the_same_rows(
    world, texts, seed, good, roster, chunk_bytes, named, cut
):
    """Whatever is changed in lines: the same columns, raw lines and explained ones."""
    chance = random.Random(seed)  # noqa: S311
    made = [
        chance.choice(texts) if chance.random() < good else mutated(texts, chance)
        for _ in range(60 if chunk_bytes >= 1000 else 20)  # small pieces are many
    ]
    content = b"".join(made)
    content = content[: len(content) - cut * (seed % 2)]
    ends = len(split(content))
    assert_equal(world, content, roster, chunk_bytes, sorted(n for n in named if n <= ends))


@settings(max_examples=80)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2**16), st.integers(0, 40), st.binary(max_size=40)), max_size=8
    ),
    roster=st.booleans(),
)
def test_any_bytes_in_place_of_others_give_the_same_rows(world, changes, roster):
    """Whole stretches, too."""
    content = bytearray(world.content()[:3000])
    for at, cut, put in changes:
        content[at % len(content) : at % len(content) + cut] = put
    assert_equal(world, bytes(content), roster)


@pytest.mark.parametrize("roster", [True, False])
def test_every_byte_at_every_place_gives_the_same_rows(world, roster):
    """Of a line that follows another one of its driver, which is compared with that."""
    pair = next(
        (one, two)
        for one, two in zip(split(world.content()), split(world.content())[1:], strict=False)
        if one[60:110] == two[60:110]
    )
    line = pair[1]
    content = b"".join(
        pair[0] + line[:at] + bytes([byte]) + line[at + 1 :]
        for at in range(len(line))
        for byte in BYTES
    )
    assert_equal(world, content, roster)


@pytest.mark.parametrize("drivers", [1, 11, 1001])
def test_lines_in_any_order_give_the_same_rows(drivers):
    """Each company is searched for anew, among many, with numbers of any width."""
    made = World.of(number_of_companies=60, drivers_per_company=drivers, event_rate_per_driver=1.0)
    there = split(made.content())
    random.Random(1).shuffle(there)  # noqa: S311
    content = b"".join(there[:3000])
    for roster in (True, False):
        assert_equal(made, content, roster)
    rows = read(made, content, True, True, 1 << 22, [])[0]
    assert sum(row[0] for row in rows) == sum(len(row[1]["number"][1]) for row in rows)


def test_the_kernel_takes_the_good_lines_itself(world):
    """So the other tests are tests of it."""
    reader = LineReader(world.config, world.fleet)
    content = world.content() + bytes(64)
    ends = np.cumsum([len(line) for line in split(world.content())])
    text = np.frombuffer(content, np.uint8)
    assert reader._kernel is not None
    good = reader._kernel.read(text, 0, ends, np.ones(4, np.bool_))
    assert good.line.tolist() == list(range(len(ends)))


def test_as_many_names_as_there_may_be_are_all_found():
    """A thousand, many of which begin alike."""
    names = {f"type {i}": 1 / 1000 for i in range(1000)}
    made = World.of(event_types=names, event_rate_per_driver=200.0)
    assert_equal(made, made.content(), True)
    assert_equal(made._replace(config=make_config(BASE)), made.content(), True)


@settings(max_examples=60)
@given(
    text=st.binary(max_size=700).map(lambda text: text.replace(b"\1", b"\n" * 70)),
    start=st.integers(0, 80),
    room=st.sampled_from([64, 65, 100, 1 << 14]),
)
def test_ends_are_found_wherever_they_stand(world, text, start, room):
    """As NumPy finds them, however little room there is at a time."""
    from fleetsim.generate.kernel import reader as module

    kernel = LineReader(world.config, world.fleet)._kernel
    assert kernel is not None
    buffer = np.frombuffer(bytes(start) + text + b"\n" * 64, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ENDS", room)
        found = kernel.ends(buffer, start, start + len(text))
    assert found.tolist() == [start + i + 1 for i, byte in enumerate(text) if byte == ord("\n")]


GUARDED = """
import ctypes, mmap, random, sys
sys.path[:0] = [{tests!r}, {tally!r}]
import numpy as np
from test_lines import BASE, BYTES, World, mutated, split
from fleetsim.tally.lines import LineReader

PAGE, MIDDLE = mmap.PAGESIZE, 16 * mmap.PAGESIZE
memory = mmap.mmap(-1, MIDDLE + 2 * PAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc = ctypes.CDLL(None)
for page in (0, PAGE + MIDDLE):  # whoever looks there dies
    assert libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(PAGE), 0) == 0
whole = np.frombuffer(memory, np.uint8)[PAGE : PAGE + MIDDLE]
world = World.of()
base, chance = split(world.content()), random.Random(5)
for roster in (world.fleet, None):
    kernel = LineReader(world.config, roster)._kernel
    for round in range({rounds}):
        line = chance.choice(base) + mutated(base, chance)
        line = line[: chance.randrange(len(line) + 1)]
        line += bytes(chance.choice(BYTES) for _ in range(chance.choice((0, 1, 70))))
        if round % 2:  # the text begins with the page, or its slack ends with it
            text = whole[: len(line) + 64]
        else:
            text = whole[MIDDLE - 64 - len(line) :]
        text[: len(line)] = np.frombuffer(line, np.uint8)
        ends = kernel.ends(text, 0, len(line))
        if round % 3 == 0:  # ends that are none
            ends = np.array([chance.randrange(-2, len(text) + 70) for _ in range(5)])
        kernel.read(text, chance.choice((0, 0, 0, 5)), ends, np.ones(4, np.bool_))
print("alive")
"""


@quick_and_full("rounds", 750, 3000)
def test_no_byte_outside_of_the_buffer_is_looked_at(rounds):
    """Before and behind it lie pages that end the process that looks there."""
    if sys.platform != "linux":
        pytest.skip("needs mprotect")
    tests = ROOT / "tests"
    code = GUARDED.format(tests=str(tests), tally=str(tests / "tally"), rounds=rounds)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "alive", done.stderr
