"""fleetsim: know, not guess, how a batch feed of fleet telematics behaves."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The front door is light: a name's module is imported when the name is first used.
_HOMES = {
    "Config": "config",
    "load_config": "config",
    "make_config": "config",
    "EventBatch": "memory",
    "generate_batch": "memory",
    "make_fleet": "memory",
    "FleetsimError": "errors",
    "InputError": "errors",
    "Run": "run",
    "open_run": "run",
    "CalibrationRun": "calibration_run",
    "open_calibration": "calibration_run",
    "SweepReport": "sweep_report",
    "open_sweep": "sweep_report",
    "take_parameters": "parameters",
    "ScalingRun": "scaling_run",
    "open_scaling": "scaling_run",
    "ScaleOutRun": "scale_out_run",
    "open_scale_out": "scale_out_run",
    "load_experiment": "experiment",
    "check_experiment": "check",
    "find_project": "project",
    "read_record": "record",
    "read_run": "record",
    "Exploration": "playground",
    "explore": "playground",
    "explored_config": "playground",
    "driver_day": "playground",
    "faults_table": "playground",
    "open_panel": "panel",
    "compare_runs": "compare",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fleetsim' has no attribute {name!r}")
    return getattr(import_module(f"fleetsim.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
