"""Nothing is used for the first time in the threads of a sweep, where it may not be safe."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from sweeps import SMOKE, smoke_project

from fleetsim.base.strict import decoder
from fleetsim.experiment.record import Record
from fleetsim.experiment.results import Engine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: Two threads decode at once what no thread has decoded before. Without decoders that were made
#: before them, 11 of 20 such processes ended with signal 11 (msgspec 0.22).
AT_ONCE = """
import sys, threading
from importlib import import_module
import msgspec
{first}
module, name = {kind!r}.rsplit(".", 1)
kind = getattr(import_module(module), name)
barrier = threading.Barrier(2)
def decode():
    barrier.wait()
    try:
        {decode}
    except msgspec.ValidationError:
        pass
threads = [threading.Thread(target=decode) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
#: Every struct that is decoded.
DECODED = (
    "fleetsim.experiment.record.Record",
    "fleetsim.experiment.results.Head",
    "fleetsim.experiment.results.Versioned",
    "fleetsim.report.listing._Listed",
    "fleetsim.measure.child.Child",
    "fleetsim.batch.meta.BatchMeta",
    "fleetsim.batch.companies._Company",
)
SECTIONS = (
    "fleetsim.kinds.calibration.trials.CalibrationRecord",
    "fleetsim.kinds.scaling.sizes.ScalingRecord",
    "fleetsim.kinds.scale_out.ways.ScaleOutRecord",
)
PREPARED = """
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.results import Engine
from fleetsim.sweep.first_uses import first_uses
first_uses(kinds()["baseline"], Engine.LIBRARY)
"""


def run_at_once(kind: str, first: str, decode: str) -> None:
    """Let two threads of a fresh process decode a struct at once."""
    text = AT_ONCE.format(kind=kind, first=first, decode=decode)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", text],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", DECODED)
def test_two_threads_decode_a_struct_at_once(kind: str) -> None:
    """Its decoder was made with its module."""
    run_at_once(kind, "", "msgspec.json.decode(b'{}', type=kind)")


def test_two_threads_decode_a_record_at_once_in_twenty_processes() -> None:
    """The tries in which half of the processes ended before."""
    content = (ROOT / "results" / "001-baseline" / "reference" / "result.json").read_bytes()
    for _ in range(20):
        run_at_once(DECODED[0], f"content = {content!r}", "msgspec.json.decode(content, type=kind)")


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_sections_of_kinds_are_known_before_threads(kind: str) -> None:
    """A sweep makes their decoders before it starts threads."""
    run_at_once(kind, PREPARED, "msgspec.json.decode(b'{}', type=kind)")


def test_threads_share_one_decoder() -> None:
    """Also one that none of them has asked for before is made once."""

    class New(msgspec.Struct):
        record: Record | None = None

    barrier, made = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        made.append(decoder(New))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in made}) == 1


def test_no_struct_is_decoded_past_the_shared_decoders() -> None:
    """`msgspec.json.decode(..., type=...)` looks at the type in whatever thread it is."""
    for path in sorted((ROOT / "fleetsim").rglob("*.py")):
        text = path.read_text()
        assert "type=" not in "".join(
            line for line in text.splitlines() if "msgspec.json.decode(" in line
        ), path
        if path.name != "strict.py":
            assert "json.Decoder(" not in text, path


@pytest.mark.parametrize("engine", list(Engine))
def test_threads_of_a_sweep_import_nothing(engine: Engine, tmp_path: Path) -> None:
    """What functions import at their call is there: two threads cannot meet in a circle."""
    smoke_project(tmp_path, grid={"seed": [1, 2]})
    text = """
import sys, threading
seen = set()
def hook(event, arguments):
    if event == "import" and threading.current_thread().name.startswith("sweep"):
        seen.add(arguments[0])
sys.addaudithook(hook)
from fleetsim.__main__ import main
try:
    main()
finally:
    print("imported:", *sorted(seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", text, "sweep", SMOKE, "--jobs", "2", "--engine", engine],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    word, *imported = done.stdout.splitlines()[-1].split()
    assert (word, set(imported) - {"black"}) == ("imported:", set())  # papermill looks for it
