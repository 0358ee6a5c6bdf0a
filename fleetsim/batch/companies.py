"""The file `companies.jsonl`: made, extended by whole cohorts, and read back with care."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import LAST_US, format_time, parse_time
from fleetsim.base.errors import LINE_LIMIT, InputError, found, refused
from fleetsim.base.files import open_plain, write_file
from fleetsim.base.storage import is_remote, require, told
from fleetsim.base.strict import decoder
from fleetsim.batch.publish import alone, open_output
from fleetsim.generate.config import Config
from fleetsim.generate.encode import encode_companies
from fleetsim.generate.fleet import Fleet, draw_companies
from fleetsim.generate.streams import BLOCK

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z"
_LINE_MAX = 1 << 16  # bytes
_COUNTED = 256  # MB that are looked through for more lines than were asked for
_EXPECTED = "a companies file, one JSON object a line (make one with: fleetsim companies)"


class _Company(msgspec.Struct, forbid_unknown_fields=True):
    company_id: Annotated[str, msgspec.Meta(pattern=_UUID)]
    geography: str
    active: bool
    created_at: str


class CompaniesResult(NamedTuple):
    """What `write_companies` did: lines in the file now, and how many of them are new."""

    lines: int
    added: int


def write_companies(
    config: Config, path: Path, *, at_us: int | None, now_us: int, cohorts: int = 1
) -> CompaniesResult:
    """Make or extend a companies file.

    Parameters
    ----------
    config : Config
    path : Path
        Kept where it is a prefix of the fleet asked for, and extended.
    at_us : int or None
        When the first cohort joins [microseconds since 1970 UTC]; None takes the base time of the
        existing file, or `now_us` for a new one.
    now_us : int
        The present.
    cohorts : int
        Onboarding cohorts, each of config.number_of_companies companies.

    Raises
    ------
    InputError
        Where the existing file is not a prefix of the fleet asked for; nothing is written.
    FleetsimError
        Where writing fails; it says what stands.
    """
    if is_remote(path):
        require(path)
    if path.is_dir():
        raise InputError(str(path), "a folder stands here; a file is needed")
    if not path.exists():  # refused before any folder is made
        _check_years(config, cohorts, now_us if at_us is None else at_us)
    total = config.number_of_companies * cohorts
    with told(path), alone(path.parent, escape(path.name)):
        base_us = _base_time(path, at_us)
        if base_us is None:
            base_us = now_us if at_us is None else at_us
        _check_years(config, cohorts, base_us)
        kept = _kept_lines(path, _blocks(config, base_us, total))
        if kept < total:
            try:
                _replace(path, _blocks(config, base_us, total))
            except OSError as error:
                if is_remote(path):
                    raise  # told already; who knows what stands there
                words = "could not be written ({}); it is as it was before"
                raise refused(error, path, words) from error
    return CompaniesResult(total, total - kept)


def _replace(path: Path, content: Iterator[bytes]) -> None:
    if not is_remote(path):
        write_file(path, content)
        return
    with open_output(path.parent, path.name) as output:
        for piece in content:
            output.write(piece)


def _blocks(config: Config, base_us: int, total: int) -> Iterator[bytes]:
    for block in range(-(-total // BLOCK)):
        yield encode_companies(config, draw_companies(config, block, base_us, total))


def _check_years(config: Config, cohorts: int, base_us: int) -> None:
    if base_us + (cohorts - 1) * config.onboarding_us > LAST_US:
        allowed = (LAST_US - base_us) // config.onboarding_us + 1
        raise InputError(
            "--cohorts",
            f"found {cohorts}, the last of which joins after the year 9999; allowed: at most "
            f"{allowed} from {format_time(base_us)} on",
        )


def _base_time(path: Path, at_us: int | None) -> int | None:
    """Return the base time of an existing file, the created_at of its first line, if any."""
    try:
        with open_plain(path, _EXPECTED) as file:
            first = _line(file, path, 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        if is_remote(path):
            raise
        raise refused(error, path, "cannot be read ({})") from None
    if not first:
        return None
    base_us = _joined_us(path, 1, _decode(path, 1, first.removesuffix(b"\n")))
    if at_us is not None and at_us != base_us:
        raise InputError(
            str(path),
            f"the file's first cohort joins at {format_time(base_us)}, --at asks for "
            f"{format_time(at_us)}; allowed: the file's own time",
            next_step="leave out --at to extend the file, or choose another --output",
        )
    return base_us


def _kept_lines(path: Path, blocks: Iterator[bytes]) -> int:
    """Return how many lines of the fleet asked for stand in the file already."""
    kept = 0
    if not path.exists():
        return kept
    with open_plain(path, _EXPECTED) as file:
        for content in blocks:
            old = file.read(len(content))
            if not content.startswith(old):
                raise _not_a_prefix(path, kept, old, content)
            kept += old.count(b"\n")
            if len(old) < len(content):
                return kept
        more, whole = _count_lines(file)
    if more:
        raise InputError(
            str(path),
            f"holds {kept + more} companies{'' if whole else ' or more'}, more than the {kept} "
            "asked for",
            next_step="ask for more --cohorts, or choose another --output",
        )
    return kept


def _line(file: BinaryIO, path: Path, number: int) -> bytes:
    """Return the next line, which may not be longer than any company is."""
    row = file.readline(_LINE_MAX + 1)
    if len(row) > _LINE_MAX:
        raise InputError(
            str(path),
            f"line {number} has more than {_LINE_MAX} bytes, more than any company; found "
            f"{found(_text(row[:LINE_LIMIT]))}…",
        )
    return row


def _rows(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, none of them longer than any company is."""
    number = 1
    while row := _line(file, path, number):
        yield row
        number += 1


def _count_lines(file: BinaryIO) -> tuple[int, bool]:
    """Return how many lines follow, a last one without its end too, and whether all were read."""
    lines, last = 0, b"\n"
    for _ in range(_COUNTED):
        piece = file.read(1 << 20)
        if not piece:
            return lines + (last != b"\n"), True
        lines, last = lines + piece.count(b"\n"), piece[-1:]
    return lines + 1, False


def _not_a_prefix(path: Path, before: int, old: bytes, content: bytes) -> InputError:
    """Say which line is another; `before` lines come ahead of these pieces."""
    pairs = zip(old.split(b"\n"), content.split(b"\n"), strict=False)
    index, (ours, asked) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return InputError(
        str(path),
        f"not a prefix of the fleet asked for: line {before + index + 1} is "
        f"{found(_text(ours), LINE_LIMIT)}, this configuration and seed make "
        f"{found(asked.decode(), LINE_LIMIT)}",
        next_step="use the configuration and seed that made the file, or choose another --output",
    )


def read_companies(
    path: Path, *, lines: int | None = None, bad: Callable[[str], object] | None = None
) -> Fleet:
    """Return the fleet that a companies file lists.

    Parameters
    ----------
    path : Path
    lines : int, optional
        Read only the first lines: the fleet as it was before the file was extended.
    bad : callable, optional
        Called with what is wrong with a line; the line then keeps its place in the fleet as an
        inactive company with an id that nobody has. By default a bad line is an error.

    Raises
    ------
    InputError
        Where the file is missing, unreadable or empty, or a line is not a company; the message
        names the line.
    """
    ids, active, created = bytearray(), [], []
    times: dict[str, int] = {}  # few: one for each cohort
    digest = hashlib.sha256()
    with told(path):
        try:
            with open_plain(path, _EXPECTED) as file:
                for number, row in enumerate(islice(_rows(file, path), lines), start=1):
                    digest.update(row)
                    try:
                        if not row.endswith(b"\n"):
                            raise InputError(
                                str(path), f"line {number} has no end: the file is cut short"
                            )
                        company = _decode(path, number, row[:-1])
                        if company.created_at not in times:
                            times[company.created_at] = _joined_us(path, number, company)
                    except InputError as error:
                        if bad is None:
                            raise
                        bad(error.faults[0])
                        ids += _nobody(number)
                        active.append(False)
                        created.append(0)
                        continue
                    ids += company.company_id.encode()
                    active.append(company.active)
                    created.append(times[company.created_at])
        except FileNotFoundError:
            raise InputError(str(path), f"no such file; expected {_EXPECTED}") from None
        except OSError as error:
            if is_remote(path):
                raise
            words = f"cannot be read ({{}}); expected {_EXPECTED}"
            raise refused(error, path, words) from None
    if not ids:
        raise InputError(str(path), f"the file is empty; expected {_EXPECTED}")
    named, is_active = np.frombuffer(bytes(ids), "S36"), np.array(active, np.bool_)
    again = _duplicates(named)
    if again and bad is None:
        raise InputError(str(path), again[0][1])
    if again and bad is not None:
        named = named.copy()
        for line, fault in again:
            bad(fault)
            named[line - 1], is_active[line - 1] = _nobody(line), False
    return Fleet(
        company_id=named.view(np.uint8).reshape(-1, 36),
        active=is_active,
        created_us=np.array(created, np.int64),
        sha256=digest.hexdigest(),
    )


_decoder: msgspec.json.Decoder[_Company] = decoder(_Company)


def _decode(path: Path, number: int, row: bytes) -> _Company:
    try:
        return _decoder.decode(row)
    except msgspec.ValidationError as error:
        fault = f"line {number}: {str(error)[0].lower()}{str(error)[1:]}"
        if "company_id" in str(error) and "regex" in str(error):
            fault = f"line {number}: company_id is not a lower-case UUID of version 4"
        raise InputError(str(path), f"{fault}; found {found(_text(row))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            str(path), f"line {number}: not valid JSON ({error}); found {found(_text(row))}"
        ) from None


def _joined_us(path: Path, number: int, company: _Company) -> int:
    try:
        return parse_time(company.created_at)
    except ValueError as error:
        raise InputError(str(path), f"line {number}: created_at: {error}") from None


def _text(row: bytes) -> str:
    return row.decode(errors="replace")


def _nobody(line: int) -> bytes:
    """Return the id of the company of a bad line: of the length of an id, and none."""
    return f"line {line}".ljust(36).encode()


def _duplicates(ids: npt.NDArray[np.bytes_]) -> list[tuple[int, str]]:
    """Return the lines that repeat a company, from 1 and rising, and what is wrong with each."""
    order = np.argsort(ids, kind="stable")  # equal ids side by side, in the order of their lines
    same = ids[order[1:]] == ids[order[:-1]]
    if not same.any():
        return []
    # Of a run of equal ids the first is the line that the others repeat.
    heads = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), np.arange(len(ids)), 0))
    again = np.flatnonzero(same) + 1
    rows = sorted(zip(order[again].tolist(), order[heads[again]].tolist(), strict=True))
    return [
        (
            line + 1,
            f"line {line + 1}: company_id {ids[line].decode()} already stands on line {first + 1}; "
            "every company is listed once",
        )
        for line, first in rows
    ]
