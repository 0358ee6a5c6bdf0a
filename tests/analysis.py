"""What the tests of the analysis share: a configuration, one real data set, and its evidence."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from support import ROOT, judge

from fleetsim.base.project import Project
from fleetsim.batch.meta import EVENTS_NAME, META_NAME
from fleetsim.experiment.spec import Experiment, load_experiment
from fleetsim.generate.config import Config, make_config
from fleetsim.kinds.baseline.criteria import Criterion, Judgement
from fleetsim.kinds.baseline.evidence import Evidence, gather
from fleetsim.measure.cold import DataSet, Repeat
from fleetsim.stats.sample import Columns, make_sample
from fleetsim.tally.batches import Tally, tally_batches
from fleetsim.tally.faults import FaultKind

BASELINE: dict[str, Any] = {
    "seed": 42,
    "number_of_companies": 100,
    "drivers_per_company": 10,
    "event_rate_per_driver": 3.5,
    "company_onboarding_interval": "PT1H",
}


def config_of(**values: Any) -> Config:
    """Return the baseline's configuration with other values."""
    return make_config({**BASELINE, **values})


@cache
def baseline(**parameters: Any) -> Experiment:
    """Return experiment 001."""
    return load_experiment(Project(ROOT), "001-baseline", parameters)


def with_keys(*, batches: int = 1, **keys: Any) -> Experiment:
    """Return experiment 001 with other keys of its kind."""
    experiment = baseline()
    changed = msgspec.structs.replace(experiment.keys, **keys)
    return replace(experiment, keys=changed, batches=batches)


@dataclass
class Copy:
    """A data set that a test may damage."""

    config: Config
    data: DataSet

    @property
    def batch(self) -> Path:
        """Folder of the first batch."""
        return self.data.batches[0]

    @property
    def events(self) -> Path:
        """Events of the first batch."""
        return self.batch / EVENTS_NAME

    @property
    def meta(self) -> Path:
        """Record of the first batch."""
        return self.batch / META_NAME

    @property
    def lines(self) -> list[bytes]:
        """Lines of the first batch, with their ends."""
        return self.events.read_bytes().splitlines(keepends=True)

    def write(self, lines: list[bytes]) -> None:
        """Replace the lines of the first batch."""
        self.events.write_bytes(b"".join(lines))

    def edit(self, number: int, old: bytes, new: bytes) -> None:
        """Replace a piece of one line, counted from 1."""
        lines = self.lines
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)
        self.write(lines)

    def tally(self) -> Tally:
        """Return what stands in the files now."""
        return tally_batches(self.config, self.data.companies, list(self.data.batches))

    def evidence(self) -> Evidence:
        """Return the evidence of the files as they are now; the replicates are made up."""
        tally = self.tally()
        mean = tally.sample.counts.size * self.config.event_rate_per_driver
        return gather(
            self.config,
            self.data,
            tally,
            np.random.default_rng(1).poisson(mean, 2000),
            interval="now",
            alpha=0.05,
            type_margin=0.03,
        )

    def judgements(self) -> dict[str, Judgement]:
        """Return the judgements of experiment 001, by id."""
        evidence = self.evidence()
        return {c.id: judge(c, evidence) for c in baseline().criteria}

    def verdicts(self) -> dict[str, str]:
        """Return the verdicts of experiment 001, by id; run times are as they were measured."""
        return {name: judgement.verdict.value for name, judgement in self.judgements().items()}


def copy_of(config: Config, data: DataSet, folder: Path) -> Copy:
    """Return a copy of a data set under another folder."""
    raw = data.companies.parent
    shutil.copytree(raw, folder / "raw")
    batches = tuple(folder / "raw" / batch.relative_to(raw) for batch in data.batches)
    return Copy(config, DataSet(folder / "raw" / data.companies.name, batches, data.repeats))


def quick_repeats(seconds: tuple[float, ...] = (0.10, 0.11, 0.12) * 10) -> tuple[Repeat, ...]:
    """Return made-up measurements of cold runs."""
    return tuple(Repeat(s, s + 0.01, s + 0.05, 45_000_000) for s in seconds)


def tally_of(
    config: Config | None = None,
    *,
    counts: npt.ArrayLike | None = None,
    types: npt.ArrayLike | None = None,
    faults: dict[FaultKind, int] | None = None,
    **values: Any,
) -> Tally:
    """Return a tally made by hand: by default a faultless batch of the configuration's mean."""
    config = config or config_of()
    drivers = config.number_of_companies * config.drivers_per_company
    if counts is None:
        rng = np.random.default_rng(1)
        total = round(drivers * config.event_rate_per_driver)
        counts = rng.multinomial(total, np.full(drivers, 1 / drivers))
    per_driver = np.atleast_2d(np.asarray(counts, np.int64))
    lines = int(per_driver.sum())
    if types is None:
        weights = np.array(list(config.event_types.values()))
        types = np.floor(lines * weights).astype(np.int64)
        types[0] += lines - types.sum()
    rng = np.random.default_rng(2)
    kind = np.repeat(np.arange(len(types)), types)
    assert len(kind) == lines
    columns = Columns(
        batch=np.repeat(np.arange(len(per_driver)), per_driver.sum(axis=1)),
        driver=np.concatenate([np.repeat(np.arange(row.size), row) for row in per_driver]),
        kind=rng.permutation(kind),
        offset_us=rng.integers(config.interval_us, size=lines),
    )
    sample = make_sample(
        columns,
        n_batches=len(per_driver),
        n_drivers=per_driver.shape[1],
        n_types=len(types),
        drivers_per_company=math.gcd(config.drivers_per_company, per_driver.shape[1]),
        length_us=config.interval_us,
    )
    content: dict[str, Any] = {
        "batch_ids": ("20251108T120000Z",),
        "unread": (),
        "lines": lines,
        "samples": (sample,),
        "spans": ((0, len(per_driver)),),
        "batch_bytes": lines * 254,
        "batch_disk_bytes": lines * 254 + 8192,
        "faults": (),
        "fault_counts": faults or {},
    }
    return Tally(**content | values)


def hand_made(
    config: Config | None = None,
    tally: Tally | None = None,
    *,
    replicates: npt.ArrayLike | None = None,
    repeats: tuple[Repeat, ...] | None = None,
    interval: str = "now",
) -> Evidence:
    """Return evidence made by hand."""
    config = config or config_of()
    tally = tally or tally_of(config)
    mean = tally.sample.counts.size * config.event_rate_per_driver
    if replicates is None:
        replicates = np.random.default_rng(1).poisson(mean, 2000)
    return gather(
        config,
        DataSet(Path(), (), quick_repeats() if repeats is None else repeats),
        tally,
        np.asarray(replicates, np.int64),
        interval=interval,
        alpha=0.05,
        type_margin=0.03,
    )


def criterion(kind: str, **values: Any) -> Criterion:
    """Return a criterion of a kind."""
    texts = {"id": kind, "title": kind, "stated": "as stated", "method": "looked at"}
    return Criterion(kind=kind, **texts | values)
