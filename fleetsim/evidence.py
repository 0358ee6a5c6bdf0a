"""What a run gathered: the tally of its files, its measurements, and the tests on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim import power, stats
from fleetsim.config import SEED_MAX, Config, make_config
from fleetsim.generate import count_events
from fleetsim.measure import DataSet, Repeat
from fleetsim.model import count_law, type_law
from fleetsim.tally import Tally

__all__ = ["TESTS", "Evidence", "Test", "gather", "replicate_counts"]


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One test as the record holds it; `p_holm` is None where it is outside the family.

    `detectable` is the smallest effect that this test would have caught with 90 % power at the
    run's alpha, unadjusted: for event_count the relative increase of the rate (0.05 is 5 %), for
    event_types Cohen's w, for the dispersion tests variance/mean above 1. None elsewhere: against
    every alternative the other tests have another power, so no single number exists.
    """

    __test__ = False  # not a test case of pytest

    name: str
    statistic: float | None
    p_value: float | None
    p_holm: float | None
    df: int | None
    n: int | None
    estimate: float | None
    interval: tuple[float, float] | None
    detectable: float | None
    null: str
    note: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that verdicts rest on.

    Attributes
    ----------
    config : Config
    interval : str
        "now", or the start of the first interval.
    tally : Tally
    repeats : tuple of Repeat
    replicates : int64 array (n_replicates,)
        Event counts of as many seeds, drawn in memory; the run's own is the first.
    mean : float
        Events that the configuration and the eligible drivers lead to expect, all batches.
    alpha : float
        Level at which the adjusted p-values decide.
    tests : tuple of Test
    """

    config: Config
    interval: str
    tally: Tally
    repeats: tuple[Repeat, ...]
    replicates: npt.NDArray[np.int64]
    mean: float
    alpha: float
    tests: tuple[Test, ...]

    def test(self, name: str) -> Test:
        """Return a test by its name."""
        return next(test for test in self.tests if test.name == name)

    @property
    def generation_seconds(self) -> npt.NDArray[np.float64]:
        """Seconds of each repeat by the formula that the interval allows.

        The source document's formula is a duration only where the interval starts at the trigger.
        """
        if self.interval == "now":
            return np.array([repeat.stated_generation_seconds for repeat in self.repeats])
        return np.array([repeat.generation_seconds for repeat in self.repeats])


@dataclass(frozen=True)
class _Data:
    """What the tests look at."""

    config: Config
    tally: Tally
    replicates: npt.NDArray[np.int64]
    mean: float
    type_margin: float


@dataclass(frozen=True)
class TestEntry:
    """One test of the battery.

    Attributes
    ----------
    name : str
    make : callable
    family : bool
        Whether a small p speaks against the generator; such tests are adjusted together (Holm).
    detectable : callable
        What the test would have caught at a level, or None (see `Test`).
    """

    __test__ = False

    name: str
    make: Callable[[_Data], stats.TestResult]
    family: bool = True
    detectable: Callable[[_Data, stats.TestResult, float], float | None] = lambda d, t, a: None


def _detectable_shares(data: _Data, test: stats.TestResult, alpha: float) -> float | None:
    if not test.n or test.df is None:  # the exact test has no noncentral chi-square law
        return None
    return power.detectable_shares(test.n, test.df, alpha)


def _detectable_dispersion(data: _Data, test: stats.TestResult, alpha: float) -> float | None:
    return None if test.df is None else power.detectable_dispersion(test.df, alpha)


#: The battery of a run. A new test is one entry here.
TESTS = (
    TestEntry(
        "event_count",
        lambda d: stats.poisson_count_test(d.tally.lines, d.mean),
        detectable=lambda d, t, alpha: power.detectable_rate_shift(d.mean, alpha),
    ),
    TestEntry(
        "event_types",
        lambda d: stats.category_test(d.tally.type_counts, type_law(d.config).probabilities),
        detectable=_detectable_shares,
    ),
    TestEntry(
        "event_types_within_margin",
        lambda d: stats.category_equivalence_test(
            d.tally.type_counts, type_law(d.config).probabilities, d.type_margin
        ),
        family=False,  # an equivalence test: a small p speaks for the claim
    ),
    TestEntry(
        "events_per_driver",
        lambda d: stats.poisson_fit_test(d.tally.counts.ravel(), count_law(d.config).mean),
    ),
    TestEntry(
        "events_per_driver_dispersion",
        lambda d: stats.dispersion_test(d.tally.counts.ravel()),
        detectable=_detectable_dispersion,
    ),
    TestEntry(
        "event_times_uniform",
        lambda d: stats.uniformity_test(d.tally.offsets_us, d.config.interval_us, 1),
    ),
    TestEntry(
        "event_count_spread",
        lambda d: stats.dispersion_test(d.replicates),
        detectable=_detectable_dispersion,
    ),
)


def replicate_counts(
    config: Config, eligible: npt.NDArray[np.bool_], replicates: int, batches: int = 1
) -> npt.NDArray[np.int64]:
    """Return the event counts of replicate seeds, int64 (n_replicates,), without drawing events.

    Replicate r has the seed config.seed + r modulo 2**64 and the run's own companies: it counts
    what ``fleetsim events --seed`` would write. The first is the run itself.
    """
    seeds = ((config.seed + r) % (SEED_MAX + 1) for r in range(replicates))
    settings = (make_config(config.as_dict(), {"seed": seed}) for seed in seeds)
    return np.array(
        [
            sum(count_events(setting, eligible, ordinal) for ordinal in range(batches))
            for setting in settings
        ],
        np.int64,
    )


def gather(
    config: Config,
    data: DataSet,
    tally: Tally,
    replicates: npt.NDArray[np.int64],
    *,
    interval: str,
    alpha: float,
    type_margin: float,
) -> Evidence:
    """Make all tests and return the evidence of a run.

    Parameters
    ----------
    config, data, tally
    replicates : int64 array
        See `replicate_counts`.
    interval : str
        "now", or the start of the first interval.
    alpha : float
    type_margin : float
        How far a share of an event type may lie from its weight, as a fraction.
    """
    drivers = tally.counts.shape[1]
    mean = len(tally.batch_ids) * drivers * config.event_rate_per_driver
    look = _Data(config, tally, replicates, mean, type_margin)
    return Evidence(
        config=config,
        interval=interval,
        tally=tally,
        repeats=data.repeats,
        replicates=replicates,
        mean=mean,
        alpha=alpha,
        tests=_make_tests(look, alpha),
    )


def _make_tests(data: _Data, alpha: float) -> tuple[Test, ...]:
    results = [(entry, _attempt(entry, data)) for entry in TESTS]
    family = [
        entry.name for entry, result in results if entry.family and result.p_value is not None
    ]
    p_values = [result.p_value for entry, result in results if entry.name in family]
    adjusted = dict(zip(family, stats.holm([p for p in p_values if p is not None]), strict=True))
    return tuple(
        Test(
            name=entry.name,
            statistic=_finite(result.statistic),
            p_value=result.p_value,
            p_holm=float(adjusted[entry.name]) if entry.name in adjusted else None,
            df=result.df,
            n=result.n,
            estimate=_finite(result.estimate),
            interval=result.interval,
            detectable=None if result.p_value is None else entry.detectable(data, result, alpha),
            null=result.null,
            note=result.note,
        )
        for entry, result in results
    )


def _finite(value: float | None) -> float | None:
    """Keep what strict JSON can write: an infinite statistic has p = 0 and a note that says why."""
    return value if value is None or math.isfinite(value) else None


def _attempt(entry: TestEntry, data: _Data) -> stats.TestResult:
    """Make a test; data that it cannot be made on give a result without p-value that says why."""
    try:
        return entry.make(data)
    except ValueError as error:
        return stats.TestResult(name=entry.name, note=f"not made: {error}")
