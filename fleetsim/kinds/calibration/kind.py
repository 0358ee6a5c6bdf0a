"""The kind of experiment that tests the tests: fault-free seeds, and controls that must fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from fleetsim.base.errors import InputError
from fleetsim.experiment.kind import Kind
from fleetsim.experiment.parameters import (
    CONTROL_SEEDS,
    EXPERIMENT,
    REPLICATES,
    RESULTS,
    ControlSeeds,
    Parameter,
    Replicates,
    noted,
)
from fleetsim.generate.config import Config

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.expectation import Expectation
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun


class CalibrationKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of experiment.yaml that only this kind has."""

    replicates: Replicates
    control_seeds: ControlSeeds


class CalibrationKind(Kind):
    """The battery on fault-free data drawn in memory, and on data with a known fault."""

    name: ClassVar[str] = "calibration"
    notebook: ClassVar[str] = "calibration.ipynb"
    Keys: ClassVar[type[msgspec.Struct]] = CalibrationKeys
    parameters: ClassVar[tuple[Parameter, ...]] = (
        EXPERIMENT.at("003-calibration"),
        RESULTS,
        REPLICATES.at(100, note="fault-free seeds"),
        CONTROL_SEEDS.at(5),
        *noted(
            seed="the first of the seeds",
            active_fraction="no influence: all companies take part in a calibration",
        ),
    )

    def settle(self, config: Config, keys: Any, asked: Mapping[str, Any]) -> Config:
        """Return the configuration; refuse one that leaves no room for a control."""
        from fleetsim.stats.controls import control_faults

        if unfit := control_faults(config):
            raise InputError("configuration", *unfit)
        return config

    def expect(self, experiment: Experiment) -> Expectation:
        """Return what the model says before a run."""
        from dataclasses import replace

        return replace(super().expect(experiment), replicates=experiment.keys.replicates)

    def extent(self, experiment: Experiment) -> str:
        """Return as a phrase how much data a run makes."""
        batches, mean = experiment.batches, self.expect(experiment).mean
        many = f" and again with {batches} ({mean:g})" if batches > 1 else ""
        return (
            f"{experiment.keys.replicates} fault-free seeds, each with one batch "
            f"({mean / batches:g} events expected){many}; "
            f"{experiment.keys.control_seeds} seeds of each control"
        )

    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""
        from fleetsim.kinds.calibration.criteria import CRITERIA

        return CRITERIA

    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name."""
        from fleetsim.kinds.calibration.plots import PLOTS

        return PLOTS

    def run(self) -> type[BaseRun]:
        """Return the class of its runs."""
        from fleetsim.kinds.calibration.run import CalibrationRun

        return CalibrationRun

    def section(self) -> type[msgspec.Struct]:
        """Return the type of its part of ``result.json``."""
        from fleetsim.kinds.calibration.trials import CalibrationRecord

        return CalibrationRecord


KIND = CalibrationKind()
