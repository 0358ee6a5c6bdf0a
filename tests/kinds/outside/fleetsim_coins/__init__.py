"""A kind of experiment from outside of fleetsim, as a model: whether coins are fair.

Everything of it stands in this module. The entry point is ``coins = fleetsim_coins:CoinsKind`` in
the group ``fleetsim.kinds``. A kind that needs more is a package of several modules: what is heavy
to import is then imported by the methods of `Kind`, when they are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from fleetsim.base.strict import whole
from fleetsim.base.tables import Table
from fleetsim.experiment.criterion import (
    Criterion,
    CriterionKind,
    Judgement,
    Verdict,
    by_intervals,
    certain,
)
from fleetsim.experiment.expectation import Expectation
from fleetsim.experiment.figures import DARK, SIGNAL, Plot
from fleetsim.experiment.kind import Kind
from fleetsim.experiment.parameters import CONFIGURATION, EXPERIMENT, RESULTS, Parameter
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import BaseRun

#: The type of a key says what it is and what it may be; errors and help word it so.
Flips = Annotated[int, whole("flips of each coin", 1, 10**6)]


class CoinsKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of experiment.yaml that only this kind has."""

    flips: Flips
    coins: Annotated[int, whole("coins", 1, 100)] = 3


class Coins(msgspec.Struct, frozen=True):
    """What a run found, and its section of ``result.json``: the heads of each coin."""

    flips: int
    heads: list[int]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval (Clopper and Pearson) of the share of heads."""
        test = stats.binomtest(sum(self.heads), self.flips * len(self.heads))
        found = test.proportion_ci(0.95)
        return float(found.low), float(found.high)


def judge_fair(criterion: Criterion, found: Coins) -> Judgement:
    """Decide whether the share of heads lies within the limits, by its confidence interval."""
    low, high = found.interval
    share = sum(found.heads) / (found.flips * len(found.heads))
    verdict, why = by_intervals([(low, high)], low=criterion.low, high=criterion.high)
    note = f"Share of heads {share:.3f}, 95 % interval {low:.3f} to {high:.3f}.{why}"
    return Judgement(share, verdict, note, criterion.low, criterion.high)


def judge_possible(criterion: Criterion, found: Coins) -> Judgement:
    """Decide whether no coin has more heads than flips."""
    most = max(found.heads)
    verdict = Verdict.PASS if most <= found.flips else Verdict.FAIL
    return Judgement(float(most), verdict, f"At most {most} heads of {found.flips} flips.")


def fair_chance(criterion: Criterion, expectation: Expectation) -> float:
    """Return how likely an honest run passes; `expectation.replicates` are all its flips."""
    n, heads = expectation.replicates, np.arange(expectation.replicates + 1)
    low = stats.beta.ppf(0.025, heads[1:-1], n - heads[1:-1] + 1)
    high = stats.beta.ppf(0.975, heads[1:-1] + 1, n - heads[1:-1])
    passes = (low > (criterion.low or 0.0)) & (high < (criterion.high or 1.0))
    return float(stats.binom.pmf(heads[1:-1][passes], n, 0.5).sum())


def draw_heads(figure: Figure, found: Coins, criteria: Sequence[Criterion]) -> str:
    """Draw the heads of each coin; return the alt text."""
    ax = figure.subplots()
    ax.bar(range(1, len(found.heads) + 1), found.heads, color=DARK)
    ax.axhline(found.flips / 2, color=SIGNAL)
    ax.set(xlabel="coin", ylabel=f"heads of {found.flips} flips")
    least, most = min(found.heads), max(found.heads)
    return (
        f"Bars: heads of each of {len(found.heads)} coins, from {least} to {most}; line: half of "
        f"{found.flips} flips, which is expected."
    )


class CoinsRun(BaseRun):
    """A run under way. Its steps: flip, judge, finish."""

    steps = ("flip", "judge")
    _found: Coins | None = None

    def flip(self) -> Table:
        """Flip all coins; return the heads of each. The seed is that of the configuration."""
        keys, random = self.experiment.keys, np.random.default_rng(self.experiment.config.seed)
        heads = random.binomial(keys.flips, 0.5, size=keys.coins).tolist()
        self._found = Coins(keys.flips, heads)
        return Table(("coin", "heads"), tuple((str(n), str(h)) for n, h in enumerate(heads, 1)))

    def evidence(self) -> Coins:
        """Return what was found, for criteria and plots."""
        found: Coins = self._need(self._found, "flip")
        return found

    def judge(self) -> Table:
        """Decide every criterion, and keep what was found in the record."""
        return self._judge(section=self.evidence())


class CoinsKind(Kind):
    """Coins that are flipped in memory."""

    name: ClassVar[str] = "coins"
    notebook: ClassVar[str] = "coins.ipynb"
    Keys: ClassVar[type[msgspec.Struct]] = CoinsKeys
    parameters: ClassVar[tuple[Parameter, ...]] = (
        EXPERIMENT.at("100-coins"),
        RESULTS,
        Parameter("flips", Flips),
        CONFIGURATION["seed"],
    )

    def expect(self, experiment: Experiment) -> Expectation:
        """Return what the model says: all flips are one sample of a fair coin."""
        flips = experiment.keys.flips * experiment.keys.coins
        return Expectation(experiment.config, 1, experiment.alpha, 1, replicates=flips)

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return what the record's description holds besides what all kinds have."""
        return {"coins": experiment.keys.coins}

    def extent(self, experiment: Experiment) -> str:
        """Return how much a run makes, for `fleetsim check`."""
        return f"{experiment.keys.coins} coins, {experiment.keys.flips} flips of each"

    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""
        return {
            "fair": CriterionKind("the coins are fair", ("low", "high"), judge_fair, fair_chance),
            "possible": CriterionKind("heads are flips", (), judge_possible, certain),
        }

    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name."""
        return {"heads": Plot("Heads of each coin", (6, 3), draw_heads)}

    def run(self) -> type[BaseRun]:
        """Return the class of the runs."""
        return CoinsRun

    def section(self) -> type[msgspec.Struct]:
        """Return the type of what `CoinsRun.judge` stores."""
        return Coins

    def document(self) -> Path:
        """Return the template of the document."""
        return Path(__file__).with_name("document.md.j2")
