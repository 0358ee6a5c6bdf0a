"""The keys of experiment.yaml that only an experiment on a pipeline has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from fleetsim.base.clock import parse_duration
from fleetsim.base.errors import InputError, found, nearest
from fleetsim.base.strict import check_fields, text, whole
from fleetsim.delivery.plan import Delivery, read_deliveries, read_variants
from fleetsim.experiment.parameters import Interval
from fleetsim.measure.series import Sizes, rising_faults

if TYPE_CHECKING:
    from fleetsim.reconcile.outputs import Queries

#: What `{name}` in a command stands for.
PLACEHOLDERS = ("landing", "output", "python")
#: A placeholder; `${name}` is a shell's own, and `{}` is find's.
PLACEHOLDER = re.compile(r"(?<!\$)\{(\w+)\}")
#: When the command is started.
STARTS = EACH, ONCE = ("each_delivery", "once")
#: Longest time that a start may be given.
MOST_TIME = timedelta(days=1)

PipelineRepeats = Annotated[
    int, whole("cold runs of the reference, for time, CPU and memory", 1, 10**4)
]
DefectFactor = Annotated[
    float,
    Meta(
        ge=0,
        le=1000,
        description="factor of all rates of defects; 0: none",
        extra={"allowed": "a number from 0 to 1000"},
    ),
]
Deliveries = Annotated[
    list[Any],
    Meta(
        min_length=1,
        description="batches by ordinal, in the order of their arrival; this is the reference",
        extra={"allowed": "a list of batches by ordinal, from 0"},
    ),
]
Variants = Annotated[
    dict[Any, Any],
    Meta(
        description="other deliveries of the same batches, each held against the reference",
        extra={"allowed": "a mapping of names to deliveries"},
    ),
]


class Kills(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the pipeline is killed: at visible changes of its output, and at times."""

    changes: Annotated[int, whole("kills at a visible change of the output", 0, 1000)] = 0
    times: Annotated[int, whole("kills at times spread over the run", 0, 1000)] = 0


class Pipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The command under test, and where its output is.

    `accepted` and `rejected` are queries of DuckDB; empty: what the contract has by default.
    """

    command: Annotated[
        tuple[Annotated[str, text("a word")], ...],
        Meta(
            min_length=1,
            description="the command, word by word; {landing}, {output} and {python} are put in",
            extra={"allowed": "a list of words, such as [python, ingest.py]"},
        ),
    ]
    start: Annotated[
        str,
        Meta(
            pattern=f"^({'|'.join(STARTS)})$",
            description="each_delivery, or once, after all of them",
            extra={"allowed": " or ".join(STARTS)},
        ),
    ] = EACH
    timeout: Annotated[str, text("longest time of a start, ISO 8601")] = "PT2M"
    accepted: Annotated[str, text("query of the accepted rows; {output} is put in")] = ""
    rejected: Annotated[str, text("query of the refused lines; {output} is put in")] = ""

    @property
    def seconds(self) -> float:
        """The longest time of a start [s]."""
        return parse_duration(self.timeout).total_seconds()


class PipelineKeys(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The keys of experiment.yaml that only this kind has."""

    interval: Interval
    deliveries: Deliveries
    pipeline: Annotated[
        Any,
        Meta(
            description="the command under test: command, start, timeout, accepted, rejected",
            extra={"allowed": "a mapping with command"},
        ),
    ]
    variants: Variants = {}
    repeats: PipelineRepeats = 1
    kills: Annotated[
        Any,
        Meta(
            description="how often it is killed: {changes: ..., times: ...}",
            extra={"allowed": "a mapping with changes and times"},
        ),
    ] = None
    sizes: Sizes = ()
    defect_factor: DefectFactor = 1.0

    @cached_property
    def reference(self) -> tuple[Delivery, ...]:
        """The deliveries of the reference."""
        return read_deliveries(self.deliveries, "deliveries")[0]

    @cached_property
    def tried(self) -> dict[str, tuple[Delivery, ...]]:
        """The deliveries of the variants, by name."""
        return read_variants(self.variants, self.reference)[0]

    @cached_property
    def under_test(self) -> Pipeline:
        """The command under test."""
        return Pipeline(**check_fields(Pipeline, self.pipeline)[0])

    @cached_property
    def killed(self) -> Kills:
        """How often it is killed."""
        return Kills(**check_fields(Kills, self.kills or {})[0])

    @property
    def batches(self) -> int:
        """Consecutive batches that are made: up to the largest ordinal."""
        return 1 + max(delivery.batch for delivery in self.reference)


def key_faults(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong within and between the keys, as far as they are right one by one."""
    reference: tuple[Delivery, ...] = ()
    faults: list[str] = []
    if "deliveries" in values:
        reference, faults = read_deliveries(values["deliveries"], "deliveries")
        if faults:
            reference = ()  # no variant is held against half of it
        faults += [
            f"deliveries[{number}]: found {delivery.form}; allowed: whole ones; a variant cuts and "
            "copies"
            for number, delivery in enumerate(reference, start=1)
            if delivery.form != "whole"
        ]
        if len({delivery.batch for delivery in reference}) < len(reference):
            faults.append("deliveries: a batch comes twice; allowed: once; a variant repeats it")
    if values.get("variants"):
        faults += read_variants(values["variants"], reference)[1]
    if "pipeline" in values:
        faults += _pipeline_faults(values["pipeline"])
    if values.get("kills") is not None:
        faults += _struct_faults(values["kills"], Kills, "kills")
    if values.get("sizes"):
        faults += rising_faults("sizes", "sizes", [size.events for size in values["sizes"]])
    if values.get("interval") == "now":
        faults.append("interval: found 'now'; allowed: a time, so that all runs get the same lines")
    if values.get("batches", 1) != 1:
        faults.append("batches: an experiment on a pipeline makes those that deliveries names")
    return faults


def _struct_faults(value: Any, form: type[msgspec.Struct], where: str) -> list[str]:
    if not isinstance(value, Mapping):
        keys = ", ".join(field.name for field in msgspec.structs.fields(form))
        return [f"{where}: found {found(value)}; allowed: a mapping with {keys}"]
    return check_fields(form, value, f"{where}.")[1]


def _pipeline_faults(value: Any) -> list[str]:
    """Return what is wrong with the key `pipeline`."""
    from fleetsim.reconcile.outputs import check_queries

    if faults := _struct_faults(value, Pipeline, "pipeline"):
        return faults
    pipeline = Pipeline(**check_fields(Pipeline, value)[0])
    for word in pipeline.command:
        faults += [
            f"pipeline.command: found {{{name}}}{nearest(name, PLACEHOLDERS)}; allowed: "
            + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            for name in PLACEHOLDER.findall(word)
            if name not in PLACEHOLDERS
        ]
    try:
        if parse_duration(pipeline.timeout) > MOST_TIME:
            faults.append(
                f"pipeline.timeout: found {found(pipeline.timeout)}; allowed: at most P1D"
            )
    except ValueError as error:
        faults.append(f"pipeline.timeout: {error}")
    try:
        check_queries(queries_of(pipeline))
    except InputError as error:
        faults += [f"{error.where}: {fault}" for fault in error.faults]
    return faults


def queries_of(pipeline: Pipeline) -> Queries:
    """Return how the output of a pipeline is read; what is empty is as the contract has it."""
    from fleetsim.reconcile.outputs import ACCEPTED, Queries

    return Queries(pipeline.accepted or ACCEPTED, pipeline.rejected or None)
