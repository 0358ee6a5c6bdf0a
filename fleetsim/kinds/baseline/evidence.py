"""What a run gathered: the tally of its files, its measurements, and the tests on them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.generate.config import SEED_MAX, Config
from fleetsim.generate.events import count_events
from fleetsim.measure.cold import DataSet, Repeat
from fleetsim.stats.battery import Entry
from fleetsim.stats.counts import dispersion_test
from fleetsim.stats.effects import law_of
from fleetsim.stats.judged import Made, Test, judge_tests, make_tests, record_test
from fleetsim.stats.power import detectable_dispersion
from fleetsim.tally.audit import names_of
from fleetsim.tally.batches import Tally


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
        Events that the configuration and the eligible drivers lead to expect, all batches: those
        without injected defects.
    drawn : float
        The same with those that have one.
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
    drawn: float
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


def _spread(replicates: npt.NDArray[np.int64]) -> Entry:
    """Return the test of the replicates' counts, which no sample of files holds."""
    return Entry(
        name="event_count_spread",
        question="Do the event counts of many seeds scatter as much as the law says?",
        null="the variance of the counts over seeds equals their mean",
        make=lambda sample, law: dispersion_test(replicates),
        effect=lambda sample, law, result, level: (
            detectable_dispersion(result.df, level) if result.df else None
        ),
        sees="counts of seeds that scatter {:.3f} times as much in variance as they should",
        misses="a wrong mean, or anything within a batch",
    )


def replicate_counts(
    config: Config, eligible: npt.NDArray[np.bool_], replicates: int, batches: int = 1
) -> npt.NDArray[np.int64]:
    """Return the event counts of replicate seeds, int64 (n_replicates,), without drawing events.

    Replicate r has the seed config.seed + r modulo 2**64 and the run's own companies: it counts
    what ``fleetsim events --seed`` would write. The first is the run itself.
    """
    seeds = ((config.seed + r) % (SEED_MAX + 1) for r in range(replicates))
    settings = (msgspec.structs.replace(config, seed=seed) for seed in seeds)
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
    count_margin: float = 0.10,
    type_margin: float = 0.03,
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
        Level of the whole family of tests.
    count_margin : float
        Margin of the equivalence test of the event count, a fraction of its mean.
    type_margin : float
        How far a share of an event type may lie from its weight, as a fraction.
    """
    sample = tally.sample
    law = law_of(
        config,
        count_margin=count_margin,
        type_margin=type_margin,
        ledger=tally.explained is not None,
    )
    names = names_of(config, tally.batch_ids, data.companies)
    spread = _spread(replicates)
    made = [*make_tests(sample, law), Made(spread, sample, spread.make(sample, law))]
    return Evidence(
        config=config,
        interval=interval,
        tally=tally,
        repeats=data.repeats,
        replicates=replicates,
        mean=sample.counts.size * law.rate,
        drawn=sample.counts.size * config.event_rate_per_driver,
        alpha=alpha,
        tests=tuple(record_test(row, names) for row in judge_tests(made, law, alpha=alpha)),
    )
