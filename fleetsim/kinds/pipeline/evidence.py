"""What a run finds out about a pipeline, and how it stands in ``result.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from fleetsim.base.tables import Table
from fleetsim.delivery.plan import Relation
from fleetsim.generate.config import Config
from fleetsim.kinds.pipeline.keys import PipelineKeys
from fleetsim.measure.tree import Start
from fleetsim.reconcile.result import Reconciliation
from fleetsim.stats.growth import PowerLaw, fit_power_law, log_slope

#: What grows, by the values of `quantity`, with the attribute of `Cost` and its unit.
QUANTITIES = {
    "time": ("seconds", "s"),
    "cpu": ("cpu_seconds", "s"),
    "memory": ("peak_bytes", "bytes"),
}
#: What a note says of a trial whose output is damaged; it counts as nothing.
UNREADABLE = "its output cannot be read"


class StartRecord(Start, frozen=True, kw_only=True):
    """One start of the pipeline: what `Start` says of it, and where it stands in the run.

    Attributes
    ----------
    trial : str
        ``reference``, the name of a variant, or that of a kill.
    after : int
        Deliveries that had arrived.
    attempt : int
        From 1; more where it was started again after a kill.
    stderr : str
        The end of what it wrote there, where it did not end well.
    """

    trial: str
    after: int
    attempt: int
    stderr: str = ""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one cold run of all deliveries took.

    `events` are the lines that were delivered; the other attributes are sums over its starts, but
    for `peak_bytes`, the largest, and `output_bytes`, that of the last. `well` says whether every
    start ended well; only then is it what a whole run takes.
    """

    events: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output_bytes: int
    well: bool


class VariantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One variant, held against the reference.

    `differ` are the rows in which its accepted rows differ from those of the reference, as
    multisets; `starts_failed` those of its starts that did not end well.
    """

    name: str
    relation: Relation
    deliveries: int
    differ: int
    starts_failed: int


class KillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One kill, and what came of it.

    Attributes
    ----------
    name : str
    how : str
        ``change`` or ``time``.
    at : float
        The number of the visible change, or seconds of run time.
    struck : bool
        Whether the pipeline was still running.
    starts : int
        Starts that followed before it ended by itself.
    recovered : bool
        Whether it then ended well, and every later start did.
    differ : int
        Accepted rows, and outcomes of lines, that differ from the reference's.
    """

    name: str
    how: str
    at: float
    struck: bool
    starts: int
    recovered: bool
    differ: int

    @property
    def fatal(self) -> bool:
        """Whether the outcome is another one than without the kill."""
        return self.struck and (self.differ > 0 or not self.recovered)


class GrowthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How one quantity grows with the delivered lines; None where no law fits, and `note` why."""

    quantity: str
    sizes: int
    exponent: float | None = None
    interval: tuple[float, float] | None = None
    startup: float | None = None
    note: str = ""


class PipelineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The part of ``result.json`` that only an experiment on a pipeline has."""

    expects: dict[str, str]
    reconciliation: Reconciliation
    variants: list[VariantRecord]
    kills: list[KillRecord]
    costs: list[Cost]
    sizes: list[Cost]
    growth: list[GrowthRecord]
    starts: list[StartRecord]
    notes: list[str]

    def matrix_table(self) -> Table:
        """Return the lines by kind and outcome, as the document shows them."""
        from fleetsim.kinds.pipeline.words import matrix_table  # which knows this module

        return matrix_table(self.reconciliation, self.expects)

    def variants_table(self) -> Table:
        """Return the variants, as the document shows them."""
        from fleetsim.kinds.pipeline.words import variants_table

        return variants_table(self.variants)

    def kills_table(self) -> Table:
        """Return the kills, as the document shows them."""
        from fleetsim.kinds.pipeline.words import kills_table

        return kills_table(self.kills)


@dataclass
class Evidence:
    """What the steps of a run found so far; criteria judge it and plots draw it."""

    config: Config
    keys: PipelineKeys
    starts: list[StartRecord] = field(default_factory=list)
    reconciliation: Reconciliation | None = None
    variants: list[VariantRecord] = field(default_factory=list)
    kills: list[KillRecord] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    sizes: list[Cost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> Reconciliation:
        """What became of the lines of the reference."""
        if self.reconciliation is None:
            raise RuntimeError("the reference was not reconciled")
        return self.reconciliation

    def starts_of(self, *trials: str) -> list[StartRecord]:
        """Return the starts of some trials, or of all."""
        return [start for start in self.starts if not trials or start.trial in trials]

    @cached_property
    def laws(self) -> dict[str, PowerLaw | str]:
        """The law of growth by quantity, or why there is none; asked for once all is measured."""
        return {name: _law(self.sizes, name) for name in QUANTITIES}

    def growth(self) -> list[GrowthRecord]:
        """Return the laws as rows, where sizes were measured."""
        return [_row(name, law, self.sizes) for name, law in self.laws.items() if self.sizes]


def _law(costs: Sequence[Cost], quantity: str) -> PowerLaw | str:
    """Return the law of one quantity, or why there is none."""
    well = [cost for cost in costs if cost.well]
    if len(well) < len(costs):
        return f"{len(costs) - len(well)} of {len(costs)} runs did not end well"
    name, _ = QUANTITIES[quantity]
    fit = log_slope if quantity == "memory" else fit_power_law
    try:
        return fit([cost.events for cost in well], [getattr(cost, name) for cost in well])
    except ValueError as error:
        return str(error)


def _row(quantity: str, law: PowerLaw | str, costs: Sequence[Cost]) -> GrowthRecord:
    sizes = len({cost.events for cost in costs})
    if isinstance(law, str):
        return GrowthRecord(quantity=quantity, sizes=sizes, note=law)
    return GrowthRecord(
        quantity=quantity,
        sizes=sizes,
        exponent=law.exponent,
        interval=law.interval,
        startup=None if quantity == "memory" else law.startup,
    )
