"""The kind of experiment that puts a pipeline under test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from fleetsim.base.errors import InputError
from fleetsim.experiment.kind import Costs, Kind
from fleetsim.experiment.parameters import EXPERIMENT, RESULTS, Parameter, noted
from fleetsim.generate.config import Config, make_config
from fleetsim.kinds.pipeline.keys import (
    DefectFactor,
    PipelineKeys,
    PipelineRepeats,
    key_faults,
)
from fleetsim.measure.series import size_faults

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.expectation import Expectation
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.record import Record
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun

REPEATS = Parameter("repeats", PipelineRepeats)
DEFECT_FACTOR = Parameter("defect_factor", DefectFactor)


class PipelineKind(Kind):
    """A command that ingests batches, and an exact account of what became of each line."""

    name: ClassVar[str] = "pipeline"
    notebook: ClassVar[str] = "pipeline.ipynb"
    Keys: ClassVar[type[msgspec.Struct]] = PipelineKeys
    parameters: ClassVar[tuple[Parameter, ...]] = (
        EXPERIMENT.at("031-ingest-first-try"),
        RESULTS,
        REPEATS,
        DEFECT_FACTOR,
        *noted(),
    )

    def key_faults(self, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong between keys that are right one by one."""
        return key_faults(values)

    def settle(self, config: Config, keys: Any, asked: Mapping[str, Any]) -> Config:
        """Return the configuration with its rates of defects multiplied."""
        if keys.sizes and (faults := size_faults(config, keys.sizes)):
            raise InputError("parameters", *(f"sizes: {fault}" for fault in faults))
        return _multiplied(config, keys.defect_factor)

    def expect(self, experiment: Experiment) -> Expectation:
        """Return what the model says before a run."""
        from fleetsim.kinds.pipeline.criteria import expectation_of

        return expectation_of(experiment)

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return deliveries, variants, the command and its kills, for the record."""
        keys = experiment.keys
        told = {
            "deliveries": keys.reference,
            "variants": keys.tried,
            "pipeline": keys.under_test,
            "kills": keys.killed,
            "sizes": keys.sizes,
            "expected_lines": self.expect(experiment).defects,
        }
        return {name: msgspec.to_builtins(value) for name, value in told.items()}

    def sources(self, experiment: Experiment) -> dict[str, str]:
        """Return the hash of each file of the pipeline: those of the experiment's folder."""
        from fleetsim.kinds.pipeline.trial import files_of

        return files_of(experiment.folder)

    def check_machine(self, experiment: Experiment, results: Path) -> None:
        """Refuse a command that is not there."""
        from fleetsim.kinds.pipeline.trial import check_command
        from fleetsim.measure.series import check_room

        check_command(experiment)
        if experiment.keys.sizes:
            check_room(experiment.config, experiment.keys.sizes, results)

    def files(self) -> Mapping[str, Path]:
        """Return the script that a new experiment begins with."""
        return {"ingest.py": Path(__file__).with_name("template") / "ingest.py"}

    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""
        from fleetsim.kinds.pipeline.criteria import CRITERIA

        return CRITERIA

    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name."""
        from fleetsim.kinds.pipeline.plots import PLOTS

        return PLOTS

    def evidence(self) -> type:
        """Return the type of what its plots draw."""
        from fleetsim.kinds.pipeline.evidence import Evidence

        return Evidence

    def run(self) -> type[BaseRun]:
        """Return the class of its runs."""
        from fleetsim.kinds.pipeline.run import PipelineRun

        return PipelineRun

    def section(self) -> type[msgspec.Struct]:
        """Return the type of its part of ``result.json``."""
        from fleetsim.kinds.pipeline.evidence import PipelineRecord

        return PipelineRecord

    def costs(self, record: Record) -> Costs:
        """Return what the cold runs of all deliveries took, of those that ended well."""
        well = [cost for cost in record.section.costs if cost.well] if record.section else []
        return Costs(
            [cost.seconds for cost in well],
            [cost.cpu_seconds for cost in well],
            [cost.peak_bytes for cost in well],
        )


def _multiplied(config: Config, factor: float) -> Config:
    """Return a configuration with all rates of defects multiplied by a factor."""
    if factor == 1 or not config.defects:
        return config
    data = config.as_dict()
    data["defects"] = {
        kind: {**form, "rate": form["rate"] * factor}
        for kind, form in data["defects"].items()
        if factor
    }
    return make_config(data)


KIND = PipelineKind()
