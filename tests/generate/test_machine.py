"""Machine code that is kept: where it is taken, where it is refused, and who needs what."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleets import hash_of_batches
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from fleetsim.generate.kernel import dirty, machine, pieces
from fleetsim.generate.kernel.interface import SIGNATURES, SORT_WORDS
from fleetsim.generate.kernel.link import link

pytest.importorskip("numba")
llvm = pytest.importorskip("llvmlite.binding")


def use(patch: pytest.MonkeyPatch, kernels: Any) -> None:
    """Let batches be made by some kernels."""
    for module in (pieces, dirty):
        patch.setattr(module, "kernels", lambda: kernels)


def kept_now() -> machine.LoadedKernels | None:
    """Return what a new process would take."""
    return machine._kept_kernels.__wrapped__()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of machine code as setting up leaves it."""
    for path in machine._places():
        if path.is_file() and machine._read(path, str(machine._key())):
            return path
    folder = tmp_path_factory.mktemp("made")
    python("from fleetsim.generate.kernel.pieces import compile_kernel; compile_kernel()", folder)
    (path,) = folder.rglob("*.bin")
    return path


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of the object code that numba makes here, which no cache has a part in."""
    from fleetsim.generate.kernel import build

    path = tmp_path_factory.mktemp("compiled") / "object"
    path.write_bytes(build.object_code())
    return path


def taken_from(path: Path) -> str:
    """Return code after which a process takes object code from a file, instead of compiling."""
    return f"""
import pathlib
import fleetsim.generate.kernel.build as build
build.object_code = pathlib.Path({str(path)!r}).read_bytes
"""


@pytest.fixture
def kept(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of it, in the only place where machine code is looked for."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    (path,) = machine._places()
    path.parent.mkdir(parents=True)
    shutil.copy(made, path)
    return path


def python(code: str, cache: Path, **environment: str) -> str:
    """Run code with the tests at hand and a cache of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"NUMBA_CACHE_DIR": str(cache), "HOME": str(cache), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def batches(before: str = "", after: str = "") -> str:
    """Return code that makes the batches, with something before and after."""
    tests = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})"
    return f"{tests}\n{before}\nimport fleets\nprint(fleets.hash_of_batches())\n{after}"


# What makes the same bytes.


def test_the_kernels_here_are_machine_code_that_was_kept(kept: Path) -> None:
    """So the other tests of the kernel are tests of that."""
    assert isinstance(kept_now(), machine.LoadedKernels)
    assert isinstance(machine.kernels(), machine.LoadedKernels)
    assert hash_of_batches() == hash_of_batches("numpy")


def test_a_kernel_holds_the_memory_of_its_machine_code(kept: Path) -> None:
    """Whoever keeps one of them may let all others go; what it calls is there until then."""
    loaded = kept_now()
    assert loaded is not None
    find = loaded.find_ends
    homes = [weakref.ref(cell.cell_contents.home) for cell in find.__closure__ if _is_entry(cell)]
    assert len(homes) == 1
    del loaded
    gc.collect()
    assert homes[0]() is not None
    text, ends = np.frombuffer(b"ab\ncd\n".ljust(192, b"\0"), np.uint8), np.zeros(128, np.int64)
    assert find(text, 0, 6, ends)[0] == 2
    assert ends[:2].tolist() == [3, 6]
    del find
    gc.collect()
    assert homes[0]() is None


def _is_entry(cell: Any) -> bool:
    return hasattr(cell.cell_contents, "home")


def test_threads_that_ask_at_once_get_the_same_kernels(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one loads them while the others wait."""
    asked = threading.Barrier(4)
    read = machine._read

    def slowly(path: Path, key: str) -> Any:
        time.sleep(0.2)
        return read(path, key)

    def ask() -> Any:
        asked.wait()
        return machine.kept_kernels()

    monkeypatch.setattr(machine, "_read", slowly)
    monkeypatch.setattr(machine, "_kept_kernels", cache(machine._kept_kernels.__wrapped__))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ask) for _ in range(4)]
    assert isinstance(found[0].result(), machine.LoadedKernels)
    assert len({id(each.result()) for each in found}) == 1


def test_machine_code_works_wherever_it_is_loaded(kept: Path) -> None:
    """Several copies in one process, at several places, make the same bytes."""
    hashes = set()
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            use(patch, kept_now())
            hashes.add(hash_of_batches())
    assert hashes == {hash_of_batches("numpy")}


@pytest.mark.slow
def test_an_object_file_that_llvm_loads_makes_the_same_bytes(
    monkeypatch, tmp_path, compiled_once: Path
) -> None:
    """The form that is kept where no image can be had."""
    monkeypatch.setattr("fleetsim.generate.kernel.build.object_code", compiled_once.read_bytes)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "IMAGES", False)
    machine._host.cache_clear()
    try:
        assert isinstance(machine.new_kernels(), machine.LoadedKernels)
        (path,) = machine._places()
        assert b" object " in path.read_bytes().partition(b"\n")[0]
        use(monkeypatch, kept_now())
        assert hash_of_batches() == hash_of_batches("numpy")
    finally:
        machine._host.cache_clear()


@pytest.mark.slow
def test_numbas_own_functions_make_the_same_bytes(tmp_path: Path) -> None:
    """Where numba's code is not of the expected form, with one warning."""
    code = batches(
        before="""
import fleetsim.generate.kernel.build as build
def refuse():
    raise RuntimeError("plan takes 7 values, not 8")
build.object_code = refuse
""",
        after="""
from fleetsim.generate.kernel import compiled, machine
assert machine.kernels() is compiled
""",
    )
    assert python(code, tmp_path).split() == [hash_of_batches("numpy")]
    assert list(tmp_path.rglob("compiled.encode-*"))  # as numba keeps it
    assert not list(tmp_path.rglob("*.bin"))


# What is loaded.


def test_machine_code_needs_no_numba_and_an_image_no_llvm(kept: Path) -> None:
    """Neither to be loaded nor to be there."""
    missing = ["numba", *(["llvmlite.binding"] if machine.IMAGES else [])]
    code = batches(before=f"sys.modules.update(dict.fromkeys({missing!r}))")
    assert python(code, kept.parents[1]).split() == [hash_of_batches("numpy")]


@pytest.mark.slow
def test_setting_up_keeps_one_file_that_every_batch_takes(tmp_path: Path) -> None:
    """Batches of lines, of columns and with defects compile nothing afterwards."""
    python("from fleetsim.generate.kernel.pieces import compile_kernel; compile_kernel()", tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in files] == [".bin"]
    assert files[0].stat().st_mode & 0o777 == 0o644
    code = batches(after="assert 'numba' not in sys.modules")
    assert python(code, tmp_path).split() == [hash_of_batches("numpy")]
    assert files == [path for path in tmp_path.rglob("*") if path.is_file()]


# What is refused.


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: _flip(path, -1), id="last byte"),
        pytest.param(lambda path: _flip(path, 30_000), id="byte in the middle"),
        pytest.param(lambda path: _flip(path, 25), id="byte of the key"),
        pytest.param(_cut, id="cut off"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="more behind"),
        pytest.param(lambda path: path.chmod(0o664), id="its group may write"),
        pytest.param(lambda path: path.chmod(0o646), id="others may write"),
        pytest.param(_fifo, id="FIFO"),
        pytest.param(_folder, id="folder"),
        pytest.param(lambda path: path.unlink(), id="missing"),
    ],
)
def test_what_is_not_whole_or_not_ours_is_not_loaded(kept: Path, harm) -> None:
    """Unharmed it is."""
    assert kept_now() is not None
    harm(kept)
    assert kept_now() is None


def test_what_belongs_to_somebody_else_is_not_loaded(kept: Path, monkeypatch) -> None:
    """Neither the user, nor who owns the source, nor root."""
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(kept, 12345, 12345)
    assert kept_now() is None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert kept_now() is not None


@pytest.mark.parametrize("what", ["processor", "source", "versions"])
def test_what_fits_something_else_is_not_loaded(kept: Path, what, monkeypatch, tmp_path) -> None:
    """Even under the name that is looked for."""
    if what == "source":
        shutil.copytree(machine._HERE, tmp_path / "kernel")
        monkeypatch.setattr(machine, "_HERE", tmp_path / "kernel")
        with (tmp_path / "kernel" / "compiled.py").open("a") as file:
            file.write("\n")
    elif what == "processor":
        other = f"{machine._host()} avx1024"
        monkeypatch.setattr(machine, "_host", lambda: other)
    else:
        monkeypatch.setattr("llvmlite.__version__", "0.0")
        monkeypatch.setattr(machine, "_host", machine._host.__wrapped__)
    (path,) = machine._places()
    path.parent.mkdir(parents=True, exist_ok=True)
    kept.rename(path)
    assert kept_now() is None


def test_arrays_of_another_kind_are_refused(kept: Path) -> None:
    """Machine code would take them for what it expects."""
    kernels = kept_now()
    words, places = np.zeros((2, 4), np.uint64), np.arange(2)
    kernels.gather(words, 1, 2, 3, 4, 4, places)
    assert words.all()
    for out in (words.astype(np.uint32), words.astype(np.int64), words[0], words.T):
        with pytest.raises(TypeError, match="found an array"):
            kernels.gather(out, 1, 2, 3, 4, 4, places)
    with pytest.raises(ValueError, match="argument"):
        kernels.gather(words, 1, 2, 3, 4, 4)


def test_what_is_kept_can_be_written_by_its_owner_alone(kept: Path, monkeypatch) -> None:
    """Whatever the umask is, so that it is taken for ours; a link in its place stays unfollowed."""
    monkeypatch.setattr("fleetsim.generate.kernel.build.object_code", lambda: b"code")
    monkeypatch.setattr(machine, "IMAGES", False)
    monkeypatch.setattr(machine, "_host", lambda: "a processor")
    elsewhere = kept.parent / "elsewhere"
    elsewhere.write_bytes(b"private")
    elsewhere.chmod(0o600)
    (path,) = machine._places()
    path.symlink_to(elsewhere)
    before = os.umask(0)
    try:
        assert machine._make() == ("object", b"code")
    finally:
        os.umask(before)
    assert machine._read(path, str(machine._key())) == ("object", b"code")
    assert path.stat().st_mode & 0o777 == 0o644
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == b"private"
    assert elsewhere.stat().st_mode & 0o777 == 0o600


# Where it cannot be kept, and where several make it at once.


@pytest.mark.slow
def test_where_nothing_can_be_kept_the_kernel_still_works(
    tmp_path: Path, compiled_once: Path
) -> None:
    """No folder for machine code at all, as in a container that may not write."""
    (tmp_path / "file").touch()
    code = batches(before=taken_from(compiled_once))
    assert python(code, tmp_path / "file" / "in").split() == [hash_of_batches("numpy")]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_full_disk_does_not_keep_the_kernel_from_working(
    tmp_path: Path, compiled_once: Path
) -> None:
    """Nothing is left of what could not be written whole."""
    full = f"""{taken_from(compiled_once)}
import os
def refuse(*words):
    raise OSError(28, "No space left on device")
os.fsync = refuse
"""
    assert python(batches(before=full), tmp_path).split() == [hash_of_batches("numpy")]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_processes_that_compile_at_once_keep_one_whole_file(
    tmp_path: Path, compiled_once: Path
) -> None:
    """And each of them makes the same bytes; afterwards it is taken as it is."""
    code = batches(before=taken_from(compiled_once))
    with ThreadPoolExecutor(3) as pool:
        printed = list(pool.map(lambda _: python(code, tmp_path), range(3)))
    assert {line.strip() for line in printed} == {hash_of_batches("numpy")}
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert machine._read(path, str(machine._key()))


def test_threads_that_load_at_once_get_what_works(kept: Path) -> None:
    """One process may make several batches."""
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: kept_now(), range(8)))
    words = np.zeros((8, 4), np.uint64)
    for row, kernels in zip(words, loaded, strict=True):
        kernels.gather(row.reshape(1, 4), 1, 2, 3, 4, 4, np.zeros(1, np.int64))
    assert (words == words[0]).all()
    assert words.all()


# What becomes an image.


def object_of(text: str) -> bytes:
    """Return an object file of LLVM's text."""
    module = llvm.parse_assembly(f'target triple = "{llvm.get_process_triple()}"\n{text}')
    return bytes(machine.target_machine().emit_object(module))


needs_images = pytest.mark.skipif(not machine.IMAGES, reason="images are of Linux on x86-64")


@needs_images
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "declare i32 @out()\ndefine i32 @x() {\n%1 = call i32 @out()\nret i32 %1\n}",
            "from outside",
        ),
        ("@a = global i32 7\ndefine ptr @x() {\nret ptr @a\n}", "memory to write to"),
        ("@a = global [99 x i8] zeroinitializer", "memory to write to"),
        ("@a = constant ptr @x\ndefine ptr @x() {\nret ptr @a\n}", "memory to write to|its own"),
    ],
)
def test_what_needs_more_than_itself_becomes_no_image(text, why) -> None:
    """A symbol from outside, memory to write to, an address."""
    with pytest.raises(ValueError, match=f"it needs .*({why})"):
        link(object_of(text), "x")


@needs_images
def test_an_image_says_where_its_entries_are() -> None:
    """Those with the prefix, and no others."""
    text = "define i32 @{}() {{\nret i32 {}\n}}\n"
    code = object_of("".join(text.format(f"{a}_{n}", n) for n in range(3) for a in "ab"))
    image, entries = link(code, "a_")
    assert sorted(entries) == ["a_0", "a_1", "a_2"]
    assert len({*entries.values()}) == 3
    assert max(entries.values()) < len(image)


@given(st.binary(max_size=200))
def test_anything_else_becomes_no_image(content: bytes) -> None:
    """With one kind of error."""
    for code in (content, b"\x7fELF\2\1" + content):
        with pytest.raises(ValueError, match=r"object file"):
            link(code, "fleetsim_")


def test_every_kernel_has_a_signature() -> None:
    """Each that is called from Python has as many parameters as its signature says."""
    from fleetsim.generate.kernel.build import source_of

    for name, signature in SIGNATURES.items():
        code = source_of(name).py_func.__code__
        assert code.co_argcount == len(signature.takes), name


# The kernel's own way of sorting.


@given(st.data())
def test_sorting_sorts(data: Any) -> None:
    """Any words, many of them equal, ascending, descending; what stands behind them stays."""
    from fleetsim.generate.kernel import compiled

    word = st.integers(0, data.draw(st.sampled_from([1, 5, 1000, 2**64 - 1])))
    values = data.draw(st.lists(word, max_size=400))
    values = data.draw(st.sampled_from([values, sorted(values), sorted(values, reverse=True)]))
    array = np.array([*values, 7, 0, 9], np.uint64)
    stack = np.zeros(SORT_WORDS, np.uint64)
    compiled._sort.py_func(array, np.uint64(len(values)), stack)
    assert array.tolist() == [*sorted(values), 7, 0, 9]
