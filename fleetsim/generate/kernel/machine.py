"""The kernels as machine code that is loaded without numba, in a fraction of the time.

It is made once, and is taken where it fits: this processor, this source, this version of LLVM. On
Linux on x86-64 it is an image, which has only to be in memory; elsewhere an object file, which LLVM
loads. An entry takes the address of a block of words: its parameters, an array as its address and
its dimensions, and behind them room for what it returns.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fleetsim.base.clock import DAY_US
from fleetsim.base.errors import FleetsimError
from fleetsim.base.files import open_plain, write_file
from fleetsim.base.terminal import warn
from fleetsim.generate.kernel.interface import ELEMENTS, SIGNATURES, Kind, Signature
from fleetsim.generate.streams import BLOCK

#: What the names of entries begin with.
ENTRY = "fleetsim_"

_HERE = Path(__file__).parent
_SOURCES = (
    "compiled.py",
    "lines.py",
    "counts.py",
    "interface.py",
    "build.py",
    "link.py",
    "machine.py",
)
_TITLE = "fleetsim kernel"
_MOST = 1 << 24  # bytes that machine code may have, many times what it has
#: Whether an object file becomes an image here.
IMAGES = sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32
_PROCESSOR = ("vendor_id", "cpu family", "model", "stepping", "flags")  # lines of /proc/cpuinfo
_ENTRY_TYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)  # a call lets go of Python's lock


#: Whoever asks for the kernels first makes them, and other threads wait: there is one of each.
_turn = threading.RLock()


def kernels() -> Any:
    """Return the kernels, each under its name in `interface.SIGNATURES`.

    Raises
    ------
    ImportError
        Where there is neither machine code that fits nor numba.
    """
    with _turn:
        return _any_kernels()


@cache
def _any_kernels() -> Any:
    found = kept_kernels()
    return new_kernels() if found is None else found


def new_kernels() -> Any:
    """Return the kernels, compiled now.

    Their machine code is kept where a folder can be written. Where it cannot be had by itself, they
    are numba's own functions, which numba compiles and keeps in its way.

    Raises
    ------
    ImportError
        Where there is no numba.
    """
    from fleetsim.generate.kernel import compiled

    try:
        return LoadedKernels(*_make())
    except Exception as error:  # of numba and LLVM inside, whose ways are nobody's promise
        warn(__name__, f"the kernel's machine code cannot be had without numba ({error})")
    return compiled


def kept_kernels() -> LoadedKernels | None:
    """Return the kernels from machine code that was kept; None where none fits or can be loaded."""
    with _turn:
        return _kept_kernels()


@cache
def _kept_kernels() -> LoadedKernels | None:
    key = _key()
    for path in _places() if key else ():
        found = _read(path, str(key))
        if found is not None:
            with suppress(OSError, RuntimeError):  # the system or LLVM refuses it
                return LoadedKernels(*found)
    return None


def _make() -> tuple[str, bytes]:
    """Return machine code that numba makes now, and keep it where a folder can be written."""
    from fleetsim.generate.kernel.build import object_code
    from fleetsim.generate.kernel.link import link

    form, code = "object", object_code()
    if IMAGES:
        with suppress(ValueError):  # it stays what it is
            image, entries = link(code, ENTRY)
            form, code = "image", json.dumps(entries).encode() + b"\n" + image
    key = _key()
    head = f"{_TITLE} {form} {key} {hashlib.sha256(code).hexdigest()}\n".encode()
    for path in _places() if key else ():
        with suppress(OSError, FleetsimError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, head + code, mode=0o644)  # or it would not be taken for ours
            break
    return form, code


class LoadedKernels:
    """The kernels of machine code; each is called as that of `compiled` of the same name.

    Each holds the memory of all, so that it can be called when this object is gone.

    Parameters
    ----------
    form : "image" or "object"
    code : bytes
        An image with a line before it, which says where each entry stands, or an object file. The
        entries have the names of the kernels behind `ENTRY`.

    Raises
    ------
    OSError, RuntimeError
        Where the system, or LLVM, does not take it.
    """

    def __init__(self, form: str, code: bytes) -> None:
        home, addresses = _map(code) if form == "image" else _load(code)
        for name, signature in SIGNATURES.items():
            entry: Any = _ENTRY_TYPE(addresses[ENTRY + name])
            entry.home = home  # whoever calls it needs its memory
            setattr(self, name, _caller(name, entry, signature))


def _map(code: bytes) -> tuple[Any, dict[str, int]]:
    """Put an image into memory that can be run, and not written; return that, and the entries."""
    places, _, image = code.partition(b"\n")
    memory = mmap.mmap(-1, len(image), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(image)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    size, how = ctypes.c_size_t(len(image)), mmap.PROT_READ | mmap.PROT_EXEC
    if protect(ctypes.c_void_p(address), size, how):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memory, {name: address + place for name, place in json.loads(places).items()}


def _load(code: bytes) -> tuple[Any, dict[str, int]]:
    """Have LLVM load an object file; return what holds it, and the entries."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    names = [ENTRY + name for name in SIGNATURES]
    addresses = {name: int(engine.get_function_address(name)) for name in names}
    if not all(addresses.values()):
        raise RuntimeError("the machine code lacks an entry")
    return engine, addresses


def _caller(name: str, entry: Any, signature: Signature) -> Callable[..., Any]:
    """Return a function that calls an entry with the parameters of a kernel."""
    kinds, gives = _resolved(signature.takes), signature.gives
    room = [0] * max(1, len(gives))

    def call(*arguments: Any) -> Any:
        words: list[int] = []
        _flatten(words, kinds, arguments)
        n = len(words)
        words += room
        block = (ctypes.c_uint64 * len(words))(*words)
        if entry(block):
            raise RuntimeError(f"the kernel {name} has failed")
        given = [
            value - 2**64 if kind == "I" and value >= 2**63 else value
            for kind, value in zip(gives, block[n:], strict=False)
        ]
        return tuple(given) if len(given) > 1 else given[0] if given else None

    return call


def _resolved(kinds: tuple[Kind, ...]) -> list[Any]:
    """Return kinds as `_flatten` takes them: None of a word, type and dimensions of an array."""
    resolved: list[Any] = []
    for kind in kinds:
        if isinstance(kind, tuple):
            resolved.append(_resolved(kind))
        else:
            resolved.append((np.dtype(ELEMENTS[kind[0]]), int(kind[1])) if kind[1:] else None)
    return resolved


def _flatten(words: list[int], kinds: list[Any], values: tuple[Any, ...]) -> None:
    """Add the words of values; machine code takes anything, so that types are looked at here."""
    for kind, value in zip(kinds, values, strict=True):
        if kind is None:
            words.append(int(value))
        elif isinstance(kind, list):
            _flatten(words, kind, value)
        else:
            if (value.dtype, value.ndim) != kind or not value.flags.c_contiguous:
                raise TypeError(
                    f"found an array {value.dtype}, {value.ndim}-d, gaps: "
                    f"{not value.flags.c_contiguous}; allowed: {kind[0]}, {kind[1]}-d, without"
                )
            words.append(value.__array_interface__["data"][0])
            words += value.shape


def target_machine() -> Any:
    """Return the processor here, as LLVM generates code for it."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=_features(),
        opt=3,
        **({"reloc": "pic", "codemodel": "small"} if IMAGES else {"jit": True}),
    )


def _features() -> str:
    import llvmlite.binding as llvm

    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:  # LLVM does not know those of this processor
        return ""


@cache
def _host() -> str:
    """Return what machine code depends on beside its source: processor, system, LLVM."""
    import llvmlite

    if IMAGES:  # LLVM itself takes longer to load than all the rest
        with open("/proc/cpuinfo", "rb") as file:
            lines = file.read(1 << 14).partition(b"\n\n")[0].decode(errors="replace").splitlines()
        named = dict(line.partition(":")[::2] for line in lines)
        named = {name.strip(): text.strip() for name, text in named.items()}
        processor = [named.get(name, "") for name in _PROCESSOR]
    else:
        import llvmlite.binding as llvm

        processor = [llvm.get_process_triple(), llvm.get_host_cpu_name(), _features()]
    return "\n".join([sys.platform, os.uname().machine, *processor, llvmlite.__version__])


def _key() -> str | None:
    """Return the hash of what machine code depends on; None where that cannot be read."""
    try:
        digest = hashlib.sha256(f"{_host()}\n{BLOCK} {DAY_US}\n".encode())
        for name in _SOURCES:
            content = (_HERE / name).read_bytes()
            digest.update(b"%b %d\n" % (name.encode(), len(content)) + content)
    except (OSError, ImportError):
        return None
    return digest.hexdigest()


def _places() -> Iterator[Path]:
    """Yield where machine code for this processor may lie, the first choice first.

    As numba does it: where NUMBA_CACHE_DIR says, or else beside the source, or in the user's cache.
    """
    name = f"kernel-{hashlib.sha256(_host().encode()).hexdigest()[:16]}.bin"
    own = hashlib.sha256(str(_HERE).encode()).hexdigest()[:16]
    if told := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(told) / f"fleetsim-{own}" / name
        return
    yield _HERE / "__pycache__" / name
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        yield Path(home) / "fleetsim" / own / name


def _read(path: Path, key: str) -> tuple[str, bytes] | None:
    """Return the machine code in a file; None where it is not whole, not ours or does not fit.

    Ours is what belongs to the user, to who owns the source, or to root, and nobody else may write.
    """
    try:
        with open_plain(path) as file:
            state = os.fstat(file.fileno())
            owners = {os.geteuid(), (_HERE / _SOURCES[0]).stat().st_uid, 0}
            if state.st_uid not in owners or state.st_mode & 0o022 or state.st_size > _MOST:
                return None
            head, _, code = file.read(_MOST).partition(b"\n")
    except (OSError, FleetsimError):
        return None
    for form in ("image", "object"):
        if head == f"{_TITLE} {form} {key} {hashlib.sha256(code).hexdigest()}".encode():
            return form, code
    return None
