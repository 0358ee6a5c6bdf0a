"""An object file laid out so that its bytes are what stands in memory, wherever that is.

Machine code that needs nothing from outside, and names its own places by their distance, is ready
when it is in memory: no linker and no LLVM are needed to load it. That is so for ELF on x86-64.
"""

from __future__ import annotations

from struct import Struct, error, pack_into
from typing import NamedTuple

_HEADER = Struct("<16sHHIQQQIHHHHHH")
_SECTION = Struct("<IIQQQQIIQQ")
_SYMBOL = Struct("<IBBHQQ")
_RELOCATION = Struct("<QQq")
_X86_64, _OBJECT = 62, 1  # e_machine and e_type
_ALLOCATED, _WRITABLE = 2, 1  # of sh_flags
_SYMBOLS, _RELOCATIONS, _EMPTY = 2, 4, 8  # of sh_type
_DISTANCES = (2, 4)  # R_X86_64_PC32 and R_X86_64_PLT32: a place less the place of the number


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    width: int


def link(code: bytes, prefix: str) -> tuple[bytes, dict[str, int]]:
    """Return the image of an object file, and where in it each symbol with a prefix stands.

    Raises
    ------
    ValueError
        Where it needs a symbol from outside, memory to write to, or its own address.
    """
    try:
        return _link(code, prefix.encode())
    except (error, IndexError) as fault:
        raise ValueError(f"no whole object file ({fault})") from None


def _link(code: bytes, prefix: bytes) -> tuple[bytes, dict[str, int]]:
    header = _HEADER.unpack_from(code)
    if header[0][:6] != b"\x7fELF\2\1" or header[1:3] != (_OBJECT, _X86_64):
        raise ValueError("no object file of x86-64")
    start, width, count = header[6], header[11], header[12]
    sections = [_Section(*_SECTION.unpack_from(code, start + i * width)) for i in range(count)]
    image = bytearray()
    places: dict[int, int] = {}
    for number, section in enumerate(sections):
        if section.flags & _ALLOCATED and section.size:
            if section.flags & _WRITABLE or section.kind == _EMPTY:
                raise ValueError("it needs memory to write to")
            image += bytes(-len(image) % max(1, section.alignment))
            places[number] = len(image)
            image += code[section.offset : section.offset + section.size]
    entries: dict[str, int] = {}
    for section in sections:
        if section.kind == _SYMBOLS:
            names = sections[section.link].offset
            for at in range(section.offset, section.offset + section.size, _SYMBOL.size):
                name, _, _, home, value, _ = _SYMBOL.unpack_from(code, at)
                text = code[names + name : code.index(b"\0", names + name)]
                if text.startswith(prefix) and home in places:
                    entries[text.decode()] = places[home] + value
        elif section.kind == _RELOCATIONS and section.info in places:
            symbols = sections[section.link]
            for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
                offset, info, addend = _RELOCATION.unpack_from(code, at)
                symbol = _SYMBOL.unpack_from(code, symbols.offset + (info >> 32) * _SYMBOL.size)
                if info & 0xFFFFFFFF not in _DISTANCES:
                    raise ValueError("it needs its own address")
                if symbol[3] not in places:
                    raise ValueError("it needs a symbol from outside")
                place = places[section.info] + offset
                pack_into("<i", image, place, places[symbol[3]] + symbol[4] + addend - place)
    return bytes(image), entries
