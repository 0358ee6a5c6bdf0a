"""The file `companies.jsonl`: made, extended by whole cohorts, and read back with care."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from fleetsim.clock import LAST_US, format_time, parse_time
from fleetsim.config import Config
from fleetsim.encode import encode_companies
from fleetsim.errors import InputError, found
from fleetsim.files import exclusive, make_folder, write_file
from fleetsim.fleet import Fleet, draw_companies
from fleetsim.streams import BLOCK

__all__ = ["CompaniesResult", "read_companies", "write_companies"]

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
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
    """
    make_folder(path.parent)
    if path.is_dir():
        raise InputError(str(path), "a folder stands here; a file is needed")
    with exclusive(path.parent):
        existing = path.read_bytes() if path.exists() else b""
        base_us = _base_time(path, existing, at_us, now_us) if existing else (at_us or now_us)
        if at_us is not None:
            base_us = at_us
        if base_us + (cohorts - 1) * config.onboarding_us > LAST_US:
            raise InputError(
                "--cohorts", f"found {cohorts}: the last one joins after the year 9999"
            )
        total = config.number_of_companies * cohorts
        content = b"".join(_blocks(config, base_us, total))
        if existing == content:
            return CompaniesResult(total, 0)
        if not content.startswith(existing):
            raise _not_a_prefix(path, existing, content)
        write_file(path, content)
    return CompaniesResult(total, total - existing.count(b"\n"))


def _blocks(config: Config, base_us: int, total: int) -> Iterator[bytes]:
    for block in range(-(-total // BLOCK)):
        yield encode_companies(config, draw_companies(config, block, base_us, total))


def _base_time(path: Path, existing: bytes, at_us: int | None, now_us: int) -> int:
    """Return the base time of an existing file: the created_at of its first line."""
    first = existing.split(b"\n", 1)[0]
    base_us = parse_time(_decode(path, 1, first).created_at)
    if at_us is not None and at_us != base_us:
        raise InputError(
            str(path),
            f"the file's first cohort joins at {format_time(base_us)}, --at asks for "
            f"{format_time(at_us)}; allowed: the file's own time",
            next_step="leave out --at to extend the file, or choose another --output",
        )
    return base_us


def _not_a_prefix(path: Path, existing: bytes, content: bytes) -> InputError:
    old, new = existing.split(b"\n"), content.split(b"\n")
    if existing.startswith(content):
        return InputError(
            str(path),
            f"holds {len(old) - 1} companies, more than the {len(new) - 1} asked for",
            next_step="ask for more --cohorts, or choose another --output",
        )
    line = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    return InputError(
        str(path),
        f"not a prefix of the fleet asked for: line {line + 1} is {found(_text(old[line]))}, "
        f"this configuration and seed make {found(new[line].decode())}",
        next_step="use the configuration and seed that made the file, or choose another --output",
    )


def read_companies(path: Path, *, lines: int | None = None) -> Fleet:
    """Return the fleet that a companies file lists.

    Parameters
    ----------
    path : Path
    lines : int, optional
        Read only the first lines: the fleet as it was before the file was extended.

    Raises
    ------
    InputError
        Where the file is missing, unreadable or empty, or a line is not a company; the message
        names the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(str(path), f"no such file; expected {_EXPECTED}") from None
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror}); expected {_EXPECTED}"
        ) from None
    if not content:
        raise InputError(str(path), f"the file is empty; expected {_EXPECTED}")
    if not content.endswith(b"\n"):
        number = content.count(b"\n") + 1
        raise InputError(str(path), f"line {number} has no end: the file is cut short")
    rows = content[:-1].split(b"\n")
    if lines is not None and lines < len(rows):
        rows = rows[:lines]
        content = b"\n".join(rows) + b"\n"
    companies = [_decode(path, number, row) for number, row in enumerate(rows, start=1)]
    _refuse_duplicates(path, companies)
    times = {text: parse_time(text) for text in {company.created_at for company in companies}}
    ids = "".join(company.company_id for company in companies).encode()
    return Fleet(
        company_id=np.frombuffer(ids, np.uint8).reshape(-1, 36),
        active=np.array([company.active for company in companies], np.bool_),
        created_us=np.array([times[company.created_at] for company in companies], np.int64),
        sha256=hashlib.sha256(content).hexdigest(),
    )


_decoder = msgspec.json.Decoder(_Company)


def _decode(path: Path, number: int, row: bytes) -> _Company:
    try:
        company = _decoder.decode(row)
        parse_time(company.created_at)
    except msgspec.ValidationError as error:
        fault = f"line {number}: {str(error)[0].lower()}{str(error)[1:]}"
        if "company_id" in str(error) and "regex" in str(error):
            fault = f"line {number}: company_id is not a lower-case UUID of version 4"
        raise InputError(str(path), f"{fault}; found {found(_text(row))}") from None
    except msgspec.DecodeError as error:
        raise InputError(
            str(path), f"line {number}: not valid JSON ({error}); found {found(_text(row))}"
        ) from None
    except ValueError as error:
        raise InputError(str(path), f"line {number}: created_at: {error}") from None
    return company


def _text(row: bytes) -> str:
    return row.decode(errors="replace")


def _refuse_duplicates(path: Path, companies: list[_Company]) -> None:
    seen: dict[str, int] = {}
    for number, company in enumerate(companies, start=1):
        first = seen.setdefault(company.company_id, number)
        if first != number:
            raise InputError(
                str(path),
                f"line {number}: company_id {company.company_id} already stands on line {first}; "
                "every company is listed once",
            )
