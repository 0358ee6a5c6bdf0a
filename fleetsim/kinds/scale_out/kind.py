"""The kind of experiment that shows what workers, tasks and a scheduler cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

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
from fleetsim.kinds.scale_out.tasks import Tasks
from fleetsim.measure.series import (
    Size,
    Sizes,
    config_of_largest,
    measured_sizes,
    rising_faults,
    size_key_faults,
)

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun


class ScaleOutKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of experiment.yaml that only this kind has."""

    interval: Interval
    sizes: Sizes
    tasks: Annotated[
        tuple[Tasks, ...],
        Meta(
            min_length=1,
            description="numbers of parts of few events, each with its number of cold commands",
            extra={"allowed": "a list of {tasks: ..., repeats: ...}"},
        ),
    ]
    largest_events: LargestEvents

    @property
    def measured(self) -> tuple[Size, ...]:
        """The sizes up to the largest that is measured."""
        return measured_sizes(self.sizes, self.largest_events)

    @property
    def measured_tasks(self) -> tuple[Tasks, ...]:
        """The numbers of tasks with no more drivers than the largest size may have events."""
        return tuple(row for row in self.tasks if row.drivers <= self.largest_events)


class ScaleOutKind(Kind):
    """Batches made in every way that there is, a model of what they cost, and a plan by it."""

    name: ClassVar[str] = "scale_out"
    notebook: ClassVar[str] = "scale_out.ipynb"
    Keys: ClassVar[type[msgspec.Struct]] = ScaleOutKeys
    parameters: ClassVar[tuple[Parameter, ...]] = (
        EXPERIMENT.at("020-scale-out"),
        RESULTS,
        LARGEST_EVENTS.at(20_000, note="larger sizes and tasks are left out"),
        *noted(number_of_companies="follows from the sizes, no other is taken"),
    )

    def key_faults(self, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong between keys that are right one by one."""
        numbers = [row.tasks for row in values.get("tasks", ())]
        return size_key_faults(values) + rising_faults("tasks", "numbers", numbers)

    def settle(self, config: Config, keys: Any, asked: Mapping[str, Any]) -> Config:
        """Return the configuration of the largest size that is measured."""
        companies = asked.get("number_of_companies")
        return config_of_largest(config, keys.sizes, keys.largest_events, companies)

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return sizes and tasks, for the record."""
        keys = experiment.keys
        rows = {"sizes": keys.measured, "tasks": keys.measured_tasks}
        return {name: msgspec.to_builtins(found) for name, found in rows.items() if found}

    def check_machine(self, experiment: Experiment, results: Path) -> None:
        """Refuse a run without Dask, or with sizes that the file system has no room for."""
        from fleetsim.base.cluster import require_dask
        from fleetsim.measure.series import check_room

        require_dask(experiment.notebook)
        check_room(experiment.config, experiment.keys.measured, results)

    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""
        from fleetsim.kinds.scale_out.criteria import CRITERIA

        return CRITERIA

    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name."""
        from fleetsim.kinds.scale_out.plots import PLOTS

        return PLOTS

    def run(self) -> type[BaseRun]:
        """Return the class of its runs."""
        from fleetsim.kinds.scale_out.run import ScaleOutRun

        return ScaleOutRun

    def section(self) -> type[msgspec.Struct]:
        """Return the type of its part of ``result.json``."""
        from fleetsim.kinds.scale_out.ways import ScaleOutRecord

        return ScaleOutRecord


KIND = ScaleOutKind()
