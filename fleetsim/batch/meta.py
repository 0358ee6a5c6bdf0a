"""The record of a batch, `batch_meta.json`: what it holds, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fleetsim.base.clock import LAST_US, parse_time
from fleetsim.base.errors import InputError
from fleetsim.base.storage import told
from fleetsim.base.strict import decoder, read_struct
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.parts import Part
from fleetsim.generate.config import SEED_MAX

META_NAME = "batch_meta.json"
EVENTS_NAME = FORMATS["jsonl"].events_name
#: An empty file that stands where the events of a batch were deleted on purpose.
DROPPED_NAME = "events.dropped"
META_SCHEMA = 1
_MAKE_AGAIN = "make the batch again with --force, or remove its folder"


class CompaniesUsed(msgspec.Struct, frozen=True):
    """The companies file behind a batch: its lines, how many were eligible, and its hash."""

    lines: Annotated[int, msgspec.Meta(ge=1)]
    eligible: int
    sha256: str


class DefectsUsed(msgspec.Struct, frozen=True):
    """The defects of a batch: the rate of each kind, and the hash of the ledger's file.

    The hash is None where there are parts, each of which has its own.
    """

    rates: dict[str, float]
    ledger_sha256: str | None


class BatchMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What `batch_meta.json` records of a batch; times are UTC text, sizes bytes."""

    schema: int
    stream_version: int
    batch_id: str
    interval_start: str
    interval_end: str
    event_count: int
    seed: int
    ordinal: Annotated[int, msgspec.Meta(ge=0)]
    generation_started: str
    generation_time: str
    generation_seconds: float
    bytes: int
    sha256: str | None
    content_sha256: str | None
    format: str
    config: dict[str, Any]
    companies: CompaniesUsed
    versions: dict[str, str]
    part_events: Annotated[int, msgspec.Meta(ge=1)] | msgspec.UnsetType = msgspec.UNSET
    parts: tuple[Part, ...] | msgspec.UnsetType = msgspec.UNSET
    defects: DefectsUsed | msgspec.UnsetType = msgspec.UNSET

    @property
    def files(self) -> dict[str, int]:
        """Names and sizes [bytes] of the files with the events, in their order."""
        if self.parts:
            return {part.name: part.bytes for part in self.parts}
        return {FORMATS[self.format].events_name: self.bytes}

    @property
    def ledgers(self) -> dict[str | None, str | None]:
        """Hashes of the ledgers by the names of their parts; of the only one under None."""
        if not self.defects:
            return {}
        if self.parts:
            return {part.name: part.ledger_sha256 or None for part in self.parts}
        return {None: self.defects.ledger_sha256}

    def identity(self) -> dict[str, Any]:
        """Return what makes two batches the same batch."""
        names = ("stream_version", "interval_start", "seed", "ordinal", "format")
        return (
            {name: getattr(self, name) for name in names}
            | {"part_events": self.part_events or None}
            | {f"companies.{name}": getattr(self.companies, name) for name in ("lines", "sha256")}
            | {f"config.{key}": value for key, value in self.config.items() if key != "seed"}
        )


decoder(BatchMeta)  # made with the module, before there are threads


def read_meta(batch: Path) -> BatchMeta:
    """Return the record of a batch folder.

    Raises
    ------
    InputError
        Where there is none or it is damaged.
    """
    path = batch / META_NAME
    with told(path):
        meta = read_struct(path, BatchMeta, "batch", _MAKE_AGAIN)
    if meta.schema != META_SCHEMA:
        raise InputError(str(path), f"found schema {meta.schema}; allowed: {META_SCHEMA}")
    if meta.ordinal > SEED_MAX:
        fault = f"damaged: found ordinal {meta.ordinal}; allowed: up to 2**64 - 1"
        raise InputError(str(path), fault, next_step=_MAKE_AGAIN)
    return meta


def in_time(batches: Iterable[Path]) -> list[Path]:
    """Return batch folders in the order of their intervals; foreign names come last.

    Names do not sort by time: ``…T120000.500000Z`` comes before ``…T120000Z``.
    """

    def start(batch: Path) -> tuple[int, str]:
        try:
            return parse_time(batch.name), batch.name
        except ValueError:
            return LAST_US, batch.name

    return sorted(batches, key=start)
