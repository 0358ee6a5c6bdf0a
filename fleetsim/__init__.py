"""fleetsim: know, not guess, how a batch feed of fleet telematics behaves."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The front door is light: a name's module is imported when the name is first used.
_HOMES = {
    "Config": "generate.config",
    "load_config": "generate.config",
    "make_config": "generate.config",
    "EventBatch": "batch.memory",
    "generate_batch": "batch.memory",
    "make_fleet": "batch.memory",
    "FleetsimError": "base.errors",
    "InputError": "base.errors",
    "Run": "kinds.baseline.run",
    "open_run": "experiment.steps",
    "CalibrationRun": "kinds.calibration.run",
    "open_calibration": "kinds.calibration.run",
    "SweepReport": "sweep.report",
    "open_sweep": "sweep.report",
    "take_parameters": "experiment.notebook",
    "ScalingRun": "kinds.scaling.run",
    "open_scaling": "kinds.scaling.run",
    "ScaleOutRun": "kinds.scale_out.run",
    "open_scale_out": "kinds.scale_out.run",
    "PipelineRun": "kinds.pipeline.run",
    "open_pipeline": "kinds.pipeline.run",
    "load_experiment": "experiment.spec",
    "check_experiment": "experiment.check",
    "find_project": "base.project",
    "read_record": "experiment.record",
    "read_run": "experiment.record",
    "Exploration": "kinds.explore.playground",
    "explore": "kinds.explore.playground",
    "explored_config": "kinds.explore.playground",
    "driver_day": "kinds.explore.playground",
    "faults_table": "kinds.explore.playground",
    "kept_run": "kinds.explore.playground",
    "open_panel": "kinds.explore.panel",
    "compare_runs": "report.compare.compare",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fleetsim' has no attribute {name!r}")
    return getattr(import_module(f"fleetsim.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
