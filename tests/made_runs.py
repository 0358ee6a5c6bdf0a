"""Runs for the tests of lists and comparisons: real data and a real record, measured by nobody."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from support import AT_US, ROOT

from fleetsim.base.clock import Instant, format_time
from fleetsim.base.project import Project
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.batch.write import write_batches
from fleetsim.experiment.document import planned_record
from fleetsim.experiment.record import Measurements, Record
from fleetsim.experiment.results import RunError
from fleetsim.experiment.spec import load_experiment

EXPERIMENT = "000-smoke"
PROVENANCE = {
    "versions": {"fleetsim": "0.1.0", "numpy": "2.0.0"},
    "source_sha256": "ab" * 32,
    "source_dirty": False,
    "system": "Linux x86_64",
    "cpu_model": "a machine",
    "cores": 2,
    "load_average": 0.5,
}


@cache  # the seed changes nothing in what is planned
def _planned(parameters: tuple[tuple[str, Any], ...]) -> Record:
    return planned_record(load_experiment(Project(ROOT), EXPERIMENT, dict(parameters)))


def made_record(name: str = "run", *, seed: int | None = None, **parameters: Any) -> Record:
    """Return the record of a completed run, every criterion passed, nothing measured."""
    planned = _planned(tuple(sorted(parameters.items())))
    seed = {} if seed is None else {"seed": seed}
    return msgspec.structs.replace(
        planned,
        run_id=name,
        key="cd" * 32,
        parameters={**planned.parameters, **seed},
        config={**planned.config, **seed},
        status="completed",
        started=format_time(AT_US),
        finished=format_time(AT_US + 2_500_000),
        criteria=[
            msgspec.structs.replace(c, verdict="pass", observed=1.0) for c in planned.criteria
        ],
        provenance=PROVENANCE,
    )


def measured(seed: int, factor: float = 1.0, repeats: int = 30, tied: bool = False) -> Measurements:
    """Return measurements whose times scatter by 5 %, memory by 1 %; honest where factor is 1."""
    random = np.random.default_rng([seed, 11])
    seconds = factor * random.lognormal(np.log(0.1), 0.05, repeats)
    memory = factor * random.lognormal(np.log(40e6), 0.01, repeats)
    if tied:  # as pages and a coarse clock do
        seconds, memory = np.round(seconds, 3), np.round(memory / 4096 / 64) * 4096 * 64
    return Measurements(
        event_count=0,
        generation_seconds=seconds.tolist(),
        stated_generation_seconds=seconds.tolist(),
        process_seconds=(seconds + random.lognormal(np.log(0.1), 0.05, repeats)).tolist(),
        peak_rss_bytes=[int(value) for value in memory],
        batch_bytes=0,
        batch_disk_bytes=0,
    )


def with_verdict(record: Record, criterion: str, verdict: str) -> Record:
    """Return a record in which one criterion has another verdict."""
    rows = [
        msgspec.structs.replace(c, verdict=verdict) if c.id == criterion else c
        for c in record.criteria
    ]
    return msgspec.structs.replace(record, criteria=rows)


def failed(record: Record, message: str = "Kernel died") -> Record:
    """Return the record of a run that failed before anything was judged."""
    return msgspec.structs.replace(
        record,
        status="failed",
        error=RunError("DeadKernelError", message, 7),
        criteria=[msgspec.structs.replace(c, verdict="", observed=None) for c in record.criteria],
        measurements=None,
    )


def write_run(results: Path, record: Record, *, data: bool = False, at_us: int = AT_US) -> Path:
    """Write a run into a results folder, with its batches where asked for; return its folder."""
    folder = results / record.experiment / record.run_id
    folder.mkdir(parents=True)
    if data:
        settings = load_experiment(Project(ROOT), EXPERIMENT, record_parameters(record)).config
        raw = folder / "data" / "raw"
        companies = raw / "companies.jsonl"
        write_companies(settings, companies, at_us=at_us, now_us=at_us)
        made = write_batches(
            settings,
            read_companies(companies),
            raw / "events",
            start_us=at_us,
            started=Instant.now(),
        )
        assert len(list(made)) == 1
    (folder / "result.json").write_bytes(record.encode())
    return folder


def record_parameters(record: Record) -> dict[str, Any]:
    """Return the parameters that a command could give."""
    return {name: value for name, value in record.parameters.items() if name != "experiment"}
