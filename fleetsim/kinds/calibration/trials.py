"""The tests of the tests: how often each rejects fault-free data, and how often it catches a fault.

Every seed that is tried is counted; none is tried again.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats as laws

from fleetsim.base.progress import Update
from fleetsim.generate.config import SEED_MAX, Config
from fleetsim.stats.adjust import holm
from fleetsim.stats.battery import EntryKind, entries
from fleetsim.stats.controls import CONTROLS, Control
from fleetsim.stats.draws import draw_columns, sample_of
from fleetsim.stats.effects import law_of
from fleetsim.stats.sample import Columns

Floats: TypeAlias = npt.NDArray[np.float64]

LEVELS = (0.05, 0.01, 0.001)
#: Probability that some fault-free test falls out of its joint band.
BUDGET = 0.01
_CHUNK = 50  # seeds that a process takes at once, at most


@dataclass(frozen=True)
class PValues:
    """P-values of the battery over many seeds.

    Attributes
    ----------
    tests : tuple of str
        Names of the tests, in the battery's order.
    values : float64 array (seeds, tests)
        NaN where a test could not be made.
    seeds : tuple of int
        One a row.
    batches : int
        Batches that each seed drew.
    """

    tests: tuple[str, ...]
    values: Floats
    seeds: tuple[int, ...]
    batches: int

    def of(self, test: str) -> Floats:
        """Return the p-values of one test, those that exist."""
        column = self.values[:, self.tests.index(test)]
        return column[~np.isnan(column)]


@dataclass(frozen=True)
class SizeRow:
    """How often a test rejected fault-free data at one level.

    `band` is the exact binomial 99 % band of one look, `joint` that of level 1 - budget / (tests x
    levels); counts. A test with discrete p-values has no lower limit (0).
    """

    test: str
    batches: int
    level: float
    seeds: int
    rejected: int
    band: tuple[int, int]
    joint: tuple[int, int]

    @property
    def inside(self) -> bool:
        """Whether the count lies in the joint band."""
        return self.joint[0] <= self.rejected <= self.joint[1]


@dataclass(frozen=True)
class UniformRow:
    """Whether a test's p-values on fault-free data are uniform, by Kolmogorov-Smirnov.

    `limit` is budget / tests: a `p_value` below it speaks against uniformity.
    """

    test: str
    batches: int
    seeds: int
    distance: float
    p_value: float
    limit: float

    @property
    def inside(self) -> bool:
        """Whether the p-values may be called uniform."""
        return self.p_value >= self.limit


@dataclass(frozen=True)
class PowerRow:
    """How often one test caught a control.

    Attributes
    ----------
    control, test : str
    batches, seeds : int
        How many batches each of how many seeds drew.
    share : float
        Share of them in which the test alone has p < level.
    share_holm : float
        Share in which it decides after Holm's adjustment over the family.
    interval : tuple of float
        95 % Clopper-Pearson limits of `share`'s expectation.
    computed : float or None
        What a formula gives for `share`.
    """

    control: str
    test: str
    batches: int
    seeds: int
    share: float
    share_holm: float
    interval: tuple[float, float]
    computed: float | None

    @property
    def interval_holm(self) -> tuple[float, float]:
        """95 % Clopper-Pearson limits of `share_holm`'s expectation."""
        return exact_interval(round(self.share_holm * self.seeds), self.seeds)


class CaughtRow(msgspec.Struct, frozen=True, kw_only=True):
    """How often every test decided on a control, after Holm's adjustment.

    `caught` holds the share of the seeds by test, for the tests that decided in any of them.
    """

    control: str
    batches: int
    seeds: int
    caught: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """Everything that the verdicts on the tests themselves rest on.

    Attributes
    ----------
    passes : tuple of PValues
        Fault-free data; the same seeds with different numbers of batches.
    sizes : tuple of SizeRow
    laws : tuple of UniformRow
        Of all passes together; their joint limits share one `BUDGET`.
    controls : tuple of PowerRow
        Every control, by the tests that are there for it or have a computed power.
    caught : tuple of CaughtRow
        Every control, by all tests.
    """

    passes: tuple[PValues, ...]
    sizes: tuple[SizeRow, ...]
    laws: tuple[UniformRow, ...]
    controls: tuple[PowerRow, ...]
    caught: tuple[CaughtRow, ...] = ()


def process_pool(workers: int) -> Executor:
    """Return a pool of processes, each a fresh interpreter: a fork with threads may hang.

    Ctrl-C reaches all of them; only the one that gives the work has to hear it.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )


def calibrate(
    config: Config,
    seeds: int,
    batches: int = 1,
    *,
    workers: int | Executor = 1,
    progress: Update | None = None,
) -> PValues:
    """Run every test on fault-free data of the kit's own generator.

    Parameters
    ----------
    config : Config
        Seed r of the run is config.seed + r modulo 2**64.
    seeds : int
        How many, >= 1.
    batches : int
        Batches a seed, >= 1.
    workers : int or Executor
        Processes, or a `process_pool` that is used again; the result does not depend on it.
    progress : callable, optional
        Called with the number of seeds after each portion of them.
    """
    return _p_values(draw_columns, config, seeds, batches, workers, progress)


def measure_power(
    control: Control,
    config: Config,
    seeds: int,
    batches: int | None = None,
    *,
    level: float = 0.05,
    workers: int | Executor = 1,
    progress: Update | None = None,
) -> list[PowerRow]:
    """Measure how often each test catches a control, beside the computed power.

    Parameters
    ----------
    control : Control
    config : Config
    seeds : int
    batches : int, optional
        As many as the control needs, by default.
    level : float
        Of each test alone, and of the family for `share_holm`.
    workers, progress
        See `calibrate`.

    Returns
    -------
    list of PowerRow
        One for each test of the battery but those of equivalence.
    """
    size = control.batches if batches is None else batches
    found = _p_values(control.draw, config, seeds, size, workers, progress)
    kinds = {entry.name: entry.kind for entry in entries(size)}
    adjusted = _adjust(found, kinds)
    rows = []
    for number, test in enumerate(found.tests):
        if kinds[test] is EntryKind.EQUIVALENCE:
            continue
        # NaN compares as false: a test that was not made has caught nothing.
        hits = int((found.values[:, number] < level).sum())
        formula = control.computed.get(test)
        rows.append(
            PowerRow(
                control=control.name,
                test=test,
                batches=size,
                seeds=seeds,
                share=hits / seeds,
                share_holm=float((adjusted[:, number] < level).mean()),
                interval=exact_interval(hits, seeds),
                computed=None if formula is None else formula(config, size, level),
            )
        )
    return rows


def measure_controls(
    config: Config,
    seeds: int,
    *,
    level: float = 0.05,
    workers: int | Executor = 1,
    progress: Update | None = None,
) -> tuple[list[PowerRow], list[CaughtRow]]:
    """Measure all of `CONTROLS`, by the tests that are there for each or have a computed power.

    A control that is too small for its number of batches is tried a second time, in as many as it
    takes to catch it (`Control.caught_in`).

    Parameters
    ----------
    config, seeds, level, workers, progress
        See `measure_power`.

    Returns
    -------
    list of PowerRow
    list of CaughtRow
        The same by all tests.
    """
    rows, everything = [], []
    for control in CONTROLS:
        named = list(dict.fromkeys((*control.caught_by, *control.computed)))
        for batches in _trials(control):
            measured = measure_power(
                control,
                config,
                seeds,
                batches,
                level=level,
                workers=workers,
                progress=progress,
            )
            of = {row.test: row for row in measured}
            rows += [of[test] for test in named]
            caught = {test: row.share_holm for test, row in of.items() if row.share_holm}
            everything.append(
                CaughtRow(control=control.name, batches=batches, seeds=seeds, caught=caught)
            )
    return rows, everything


def _trials(control: Control) -> list[int]:
    """Return in how many batches a control is tried, one time after the other."""
    return list(dict.fromkeys((control.batches, control.caught_in or control.batches)))


#: How often `measure_controls` draws each of its seeds.
CONTROL_TRIALS = sum(len(_trials(control)) for control in CONTROLS)


def _adjust(found: PValues, kinds: dict[str, EntryKind]) -> Floats:
    """Return Holm's p-values of each seed's family; the structure's are left as they are."""
    family = np.array([kinds[test] is EntryKind.EVIDENCE for test in found.tests])
    adjusted = found.values.copy()
    for row in adjusted:
        mine = family & ~np.isnan(row)
        row[mine] = holm(row[mine])
    return adjusted


def _p_values(
    draw: Callable[[Config, int], Columns],
    config: Config,
    seeds: int,
    batches: int,
    workers: int | Executor,
    progress: Update | None,
) -> PValues:
    if seeds < 1 or batches < 1:
        raise ValueError(f"seeds is {seeds} and batches is {batches}, both must be >= 1")
    chosen = [(config.seed + r) % (SEED_MAX + 1) for r in range(seeds)]
    size = min(_CHUNK, -(-seeds // 4))  # few seeds are dealt out, too
    chunks = [chosen[start : start + size] for start in range(0, seeds, size)]
    task = partial(_chunk, draw, config, batches)
    with _map(workers) as map_chunks:
        parts = []
        for part in map_chunks(task, chunks):
            parts.append(part)
            if progress:
                progress(len(part))
    tests = tuple(entry.name for entry in entries(batches))
    return PValues(tests, np.concatenate(parts), tuple(chosen), batches)


@contextmanager
def _map(workers: int | Executor) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield what maps a function over chunks: here, in a pool, or in processes of its own."""
    if isinstance(workers, Executor):
        yield workers.map
    elif workers == 1:
        yield map
    else:
        with process_pool(workers) as pool:
            yield pool.map


def _chunk(
    draw: Callable[[Config, int], Columns], config: Config, batches: int, seeds: Sequence[int]
) -> Floats:
    law, battery = law_of(config), entries(batches)
    values = np.full((len(seeds), len(battery)), math.nan)
    for row, seed in enumerate(seeds):
        seeded = msgspec.structs.replace(config, seed=seed)
        sample = sample_of(draw(seeded, batches), config, batches)
        for column, entry in enumerate(battery):
            p = entry.make(sample, law).p_value
            values[row, column] = math.nan if p is None else p
    return values


def binomial_band(n: int, p: float, level: float) -> tuple[int, int]:
    """Return the central band of a binomial count.

    The least and the largest k with P(X <= k) >= tail and P(X >= k) >= tail, tail = (1 - level)/2:
    a count outside has a one-sided probability below `tail`.

    Parameters
    ----------
    n : int
    p : float
    level : float
        Probability of the band, at least.
    """
    tail = (1 - level) / 2
    return int(laws.binom.ppf(tail, n, p)), int(laws.binom.isf(tail, n, p))


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % Clopper-Pearson limits of a probability."""
    limits = laws.binomtest(hits, n).proportion_ci(0.95, "exact")
    return float(limits.low), float(limits.high)


def make_calibration(
    passes: Sequence[PValues],
    controls: Sequence[PowerRow],
    caught: Sequence[CaughtRow] = (),
) -> Calibration:
    """Return the tables of several passes, whose joint limits share one `BUDGET`."""
    budget = BUDGET / len(passes)
    return Calibration(
        passes=tuple(passes),
        sizes=tuple(row for found in passes for row in size_table(found, budget=budget)),
        laws=tuple(row for found in passes for row in uniformity_table(found, budget=budget)),
        controls=tuple(controls),
        caught=tuple(caught),
    )


def size_table(
    found: PValues, levels: Sequence[float] = LEVELS, *, budget: float = BUDGET
) -> list[SizeRow]:
    """Return the rejection counts of fault-free data beside their bands.

    Parameters
    ----------
    found : PValues
        Of fault-free data.
    levels : sequence of float
    budget : float
        Probability that some fault-free test falls out of its joint band, at most.

    Returns
    -------
    list of SizeRow
        For the tests that speak against the generator and could be made at all.
    """
    tested = [
        entry
        for entry in entries(found.batches)
        if entry.kind is EntryKind.EVIDENCE and len(found.of(entry.name))
    ]
    looks = len(tested) * len(levels)
    rows = []
    for entry in tested:
        p = found.of(entry.name)
        for level in levels:
            bands = [binomial_band(len(p), level, wide) for wide in (0.99, 1 - budget / looks)]
            one, joint = [(low if entry.continuous else 0, high) for low, high in bands]
            rejected = int((p < level).sum())
            rows.append(SizeRow(entry.name, found.batches, level, len(p), rejected, one, joint))
    return rows


def uniformity_table(found: PValues, *, budget: float = BUDGET) -> list[UniformRow]:
    """Return the test that p-values of fault-free data are uniform, where their law is continuous.

    Parameters
    ----------
    found : PValues
        Of fault-free data.
    budget : float
        Probability that some fault-free test is called uneven, at most.
    """
    tested = [
        entry
        for entry in entries(found.batches)
        if entry.kind is EntryKind.EVIDENCE and entry.continuous and len(found.of(entry.name))
    ]
    rows = []
    for entry in tested:
        p = found.of(entry.name)
        result = laws.kstest(p, "uniform")
        rows.append(
            UniformRow(
                entry.name,
                found.batches,
                len(p),
                float(result.statistic),
                float(result.pvalue),
                budget / len(tested),
            )
        )
    return rows


class CalibrationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about the tests themselves: on fault-free data, and on the controls."""

    rejections: list[SizeRow]
    uniformity: list[UniformRow]
    controls: list[PowerRow]
    caught: list[CaughtRow] = []
