"""The kind of experiment that shows how time and memory grow with the size of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from fleetsim.experiment.kind import Kind
from fleetsim.experiment.parameters import (
    EXPERIMENT,
    LARGEST_EVENTS,
    RESULTS,
    Interval,
    LargestEvents,
    Parameter,
    noted,
)
from fleetsim.generate.config import Config
from fleetsim.measure.series import Size, Sizes, config_of_largest, measured_sizes, size_key_faults

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun


class ScalingKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of experiment.yaml that only this kind has."""

    interval: Interval
    sizes: Sizes
    largest_events: LargestEvents

    @property
    def measured(self) -> tuple[Size, ...]:
        """The sizes up to the largest that is measured."""
        return measured_sizes(self.sizes, self.largest_events)


class ScalingKind(Kind):
    """Batches of many sizes by cold processes, and the laws through what they took."""

    name: ClassVar[str] = "scaling"
    notebook: ClassVar[str] = "scaling.ipynb"
    Keys: ClassVar[type[msgspec.Struct]] = ScalingKeys
    parameters: ClassVar[tuple[Parameter, ...]] = (
        EXPERIMENT.at("005-scaling"),
        RESULTS,
        LARGEST_EVENTS.at(10_000),
        *noted(number_of_companies="follows from the sizes, no other is taken"),
    )

    def key_faults(self, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong between keys that are right one by one."""
        return size_key_faults(values)

    def settle(self, config: Config, keys: Any, asked: Mapping[str, Any]) -> Config:
        """Return the configuration of the largest size that is measured."""
        companies = asked.get("number_of_companies")
        return config_of_largest(config, keys.sizes, keys.largest_events, companies)

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return the sizes, for the record."""
        return {"sizes": msgspec.to_builtins(experiment.keys.measured)}

    def check_machine(self, experiment: Experiment, results: Path) -> None:
        """Refuse sizes that the file system has no room for."""
        from fleetsim.measure.series import check_room

        check_room(experiment.config, experiment.keys.measured, results)

    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""
        from fleetsim.kinds.scaling.criteria import CRITERIA

        return CRITERIA

    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name."""
        from fleetsim.kinds.scaling.plots import PLOTS

        return PLOTS

    def run(self) -> type[BaseRun]:
        """Return the class of its runs."""
        from fleetsim.kinds.scaling.run import ScalingRun

        return ScalingRun

    def section(self) -> type[msgspec.Struct]:
        """Return the type of its part of ``result.json``."""
        from fleetsim.kinds.scaling.sizes import ScalingRecord

        return ScalingRecord


KIND = ScalingKind()
