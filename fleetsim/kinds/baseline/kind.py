"""The kind of experiment that makes batches, reads them back and holds them to their law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import msgspec

from fleetsim.experiment.kind import Kind
from fleetsim.experiment.parameters import (
    CONFIGURATION,
    EXPERIMENT,
    MIN_REPEATS,
    REPEATS,
    REPLICATES,
    RESULTS,
    Interval,
    Parameter,
    Repeats,
    Replicates,
)

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.expectation import Expectation
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun


class BaselineKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of experiment.yaml that only this kind has."""

    interval: Interval = "now"
    repeats: Repeats = MIN_REPEATS
    replicates: Replicates = 1000


class Baseline(Kind):
    """Batches made by cold processes, their files, the law of their content, time and memory."""

    name: ClassVar[str] = "baseline"
    notebook: ClassVar[str] = "experiment.ipynb"
    Keys: ClassVar[type[msgspec.Struct]] = BaselineKeys
    parameters: ClassVar[tuple[Parameter, ...]] = (
        EXPERIMENT.at("000-smoke"),
        RESULTS,
        REPEATS,
        REPLICATES,
        *CONFIGURATION.values(),
    )

    cold_batches: ClassVar[bool] = True

    def expect(self, experiment: Experiment) -> Expectation:
        """Return what the model says before a run."""
        from dataclasses import replace

        from fleetsim.stats.battery import family_size

        expected = replace(
            super().expect(experiment),
            replicates=experiment.keys.replicates,
            repeats=experiment.keys.repeats,
            ledger=True,
        )
        kinds = sum(lines > 0 for lines in expected.defects.values())
        return replace(expected, family=family_size(experiment.batches, kinds))

    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""
        from fleetsim.kinds.baseline.criteria import CRITERIA

        return CRITERIA

    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name."""
        from fleetsim.kinds.baseline.plots import PLOTS

        return PLOTS

    def evidence(self) -> type:
        """Return the type of what its plots draw."""
        from fleetsim.kinds.baseline.evidence import Evidence

        return Evidence

    def run(self) -> type[BaseRun]:
        """Return the class of its runs."""
        from fleetsim.kinds.baseline.run import Run

        return Run


KIND = Baseline()
