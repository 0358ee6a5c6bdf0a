"""The order in which batches arrive, and what a variant of it tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from fleetsim.base.errors import found, nearest

#: How a batch arrives: as it is, as a copy in a folder of another name, or as half a file.
WHOLE, COPY, CUT = FORMS = ("whole", "copy", "cut")
#: Batches of a plan, by ordinal.
MOST_BATCHES = 10_000
_MOST_DELIVERIES = 10_000
_ALLOWED = "the ordinal of a batch from 0, or {batch: ORDINAL, as: copy} or {..., as: cut}"


class Delivery(msgspec.Struct, frozen=True):
    """One arrival of one batch.

    Attributes
    ----------
    batch : int
        Ordinal of the batch, from 0.
    form : "whole", "copy" or "cut"
        A copy stands in a folder of another name. A cut one is the first half of the file, written
        in place, without ``batch_meta.json``.
    """

    batch: int
    form: str = WHOLE


class Relation(StrEnum):
    """What a variant tries, beside the reference."""

    ORDER = "order"  # the same deliveries in another order
    REPEAT = "repeat"  # a batch more than once
    PARTIAL = "partial"  # half a file before the whole one


def read_deliveries(rows: Any, where: str) -> tuple[tuple[Delivery, ...], list[str]]:
    """Return the deliveries of a list of experiment.yaml, and what is wrong with it.

    Parameters
    ----------
    rows : object
        What stands there.
    where : str
        The key, for the faults.
    """
    if not isinstance(rows, list | tuple) or not rows or len(rows) > _MOST_DELIVERIES:
        return (), [f"{where}: found {found(rows)}; allowed: a list of deliveries, each {_ALLOWED}"]
    made, faults = [], []
    for number, row in enumerate(rows, start=1):
        delivery = _delivery(row)
        if delivery is None:
            faults.append(f"{where}[{number}]: found {found(row)}; allowed: {_ALLOWED}")
        else:
            made.append(delivery)
    return tuple(made), faults


def _delivery(row: Any) -> Delivery | None:
    """Return one delivery, or None where it is none."""
    batch, form = row, WHOLE
    if isinstance(row, Mapping):
        if not row.keys() <= {"batch", "as"} or "batch" not in row:
            return None
        batch, form = row["batch"], row.get("as", WHOLE)
    whole = isinstance(batch, int) and not isinstance(batch, bool)
    if not whole or not 0 <= batch < MOST_BATCHES or form not in FORMS:
        return None
    return Delivery(batch, form)


def read_variants(
    rows: Any, reference: Sequence[Delivery]
) -> tuple[dict[str, tuple[Delivery, ...]], list[str]]:
    """Return the variants of experiment.yaml by name, and what is wrong with them.

    Each delivers the batches of the reference, in another way: a variant with fewer or more batches
    could not have the same outcome.
    """
    if not isinstance(rows, Mapping) or not all(isinstance(name, str) for name in rows):
        return {}, [f"variants: found {found(rows)}; allowed: a mapping of names to deliveries"]
    made, faults = {}, []
    for name, value in rows.items():
        where = f"variants.{name}"
        if not name.isidentifier() or name == "reference":
            faults.append(
                f"{where}: found {found(name)}; allowed: a name of letters, digits and _, other "
                "than reference"
            )
            continue
        deliveries, wrong = read_deliveries(value, where)
        faults += wrong
        if not wrong and reference:
            wrong = _variant_faults(where, deliveries, reference)
            faults += wrong
        if not wrong:
            made[name] = deliveries
    return made, faults


def _variant_faults(
    where: str, deliveries: Sequence[Delivery], reference: Sequence[Delivery]
) -> list[str]:
    """Return in what a variant cannot be held against the reference."""
    faults = []
    wanted = {delivery.batch for delivery in reference}
    there = {delivery.batch for delivery in deliveries if delivery.form != CUT}
    listed = ", ".join(str(batch) for batch in sorted(wanted))
    for batch in sorted({delivery.batch for delivery in deliveries} - wanted):
        near = nearest(str(batch), map(str, sorted(wanted)))
        faults.append(
            f"{where}: found batch {batch}, which deliveries has not{near}; it has {listed}"
        )
    for batch in sorted(wanted - there):
        faults.append(f"{where}: batch {batch} never comes whole; deliveries has {listed}")
    last = {delivery.batch: place for place, delivery in enumerate(deliveries)}
    for place, delivery in enumerate(deliveries):
        if delivery.form == CUT and last[delivery.batch] == place:
            faults.append(
                f"{where}: batch {delivery.batch} is cut at last; allowed: the whole file after it"
            )
    if not faults and tuple(deliveries) == tuple(reference):
        faults.append(f"{where}: it is the reference; allowed: another order, a repeat, or a cut")
    return faults


def relation(deliveries: Sequence[Delivery], reference: Sequence[Delivery]) -> Relation:
    """Return what a variant tries: half a file before anything else, then a repeat, then order."""
    if any(delivery.form == CUT for delivery in deliveries):
        return Relation.PARTIAL
    if Counter(d.batch for d in deliveries) != Counter(d.batch for d in reference):
        return Relation.REPEAT
    return Relation.ORDER
