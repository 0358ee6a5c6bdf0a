"""What arrived, as reconciliation wants to know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fleetsim.batch.ledger import ledger_path
from fleetsim.batch.meta import EVENTS_NAME
from fleetsim.delivery.landing import half_of
from fleetsim.delivery.plan import CUT, Delivery
from fleetsim.reconcile.delivered import Arrival


def arrivals_of(
    deliveries: Sequence[Delivery], batches: Mapping[int, Path] | Sequence[Path]
) -> list[Arrival]:
    """Return the arrivals of a plan, each with the pristine files of its batch.

    Parameters
    ----------
    deliveries : sequence of Delivery
    batches : mapping or sequence of Path
        Folders of the batches by ordinal.
    """
    made = []
    for number, delivery in enumerate(deliveries, start=1):
        batch = batches[delivery.batch]
        lines, fragment = None, None
        if delivery.form == CUT:
            content = half_of(batch / EVENTS_NAME)
            lines = content.count(b"\n")
            fragment = content[content.rfind(b"\n") + 1 :] or None
        ledger = ledger_path(batch)
        made.append(
            Arrival(
                delivery=number,
                batch_id=batch.name,
                events=batch / EVENTS_NAME,
                ledger=ledger if ledger.is_file() else None,
                lines=lines,
                fragment=fragment,
            )
        )
    return made
