"""The criteria of cost, on costs made by hand; those of outcomes are held to the zoo."""

import math

import numpy as np
import pytest
from scipy import stats as laws

from fleetsim.experiment.criterion import Criterion
from fleetsim.generate.config import make_config
from fleetsim.kinds.pipeline.criteria import CRITERIA
from fleetsim.kinds.pipeline.evidence import Cost, Evidence, KillRecord
from fleetsim.kinds.pipeline.keys import PipelineKeys
from fleetsim.reconcile.result import Balance, Reconciliation

CONFIG = make_config(
    {
        "seed": 1,
        "number_of_companies": 1,
        "drivers_per_company": 1,
        "event_rate_per_driver": 1.0,
        "company_onboarding_interval": "PT1H",
    }
)
KEYS = PipelineKeys(
    interval="2025-11-08T12:00:00Z", deliveries=[0], pipeline={"command": ["python"]}
)
SECONDS = [2.0, 2.2, 2.1, 2.4, 2.3]


def _cost(seconds, events=1000, *, well=True, power=1.0):
    """Return a run whose CPU, memory and output follow from its seconds and events."""
    return Cost(
        events=events,
        seconds=seconds,
        cpu_seconds=2 * seconds,
        peak_bytes=int(100e6 * (events / 1000) ** power),
        output_bytes=7000,
        well=well,
    )


def _evidence(**parts):
    return Evidence(CONFIG, KEYS, **parts)


def _judge(kind, evidence, **limits):
    criterion = Criterion(id="c", kind=kind, title="t", stated="s", method="m", **limits)
    return CRITERIA[kind].judge(criterion, evidence)


@pytest.mark.parametrize(
    ("kind", "largest"),
    [
        ("pipeline_time", 2.4),
        ("pipeline_cpu", 4.8),
        ("pipeline_memory", 100.0),
        ("output_bytes", 7000.0),
    ],
)
def test_a_cost_is_that_of_the_largest_run(kind, largest):
    """It passes below the limit alone; a run that did not end well says nothing of a whole one."""
    evidence = _evidence(costs=[_cost(s) for s in SECONDS])
    passed, failed = (_judge(kind, evidence, high=high) for high in (1.01 * largest, largest))
    assert (passed.verdict, failed.verdict) == ("pass", "fail")
    assert passed.observed == pytest.approx(largest)
    ended = _evidence(costs=[_cost(s, well=False) for s in SECONDS])
    assert _judge(kind, ended, high=1e12).verdict == "inconclusive"
    assert _judge(kind, _evidence(), high=1e12).verdict == "inconclusive"


def test_throughput_is_judged_by_its_lower_limit():
    """The one-sided 95 % limit of the mean rate, by SciPy's own t law."""
    rates = 1000 / np.array(SECONDS)
    limit = laws.t.interval(0.9, len(rates) - 1, rates.mean(), laws.sem(rates))[0]
    evidence = _evidence(costs=[_cost(s) for s in SECONDS])
    below, above = (
        _judge("pipeline_throughput", evidence, low=low) for low in (0.999 * limit, 1.001 * limit)
    )
    assert (below.verdict, above.verdict) == ("pass", "fail")
    assert below.observed == pytest.approx(limit)
    one = _evidence(costs=[_cost(2.0)])
    assert _judge("pipeline_throughput", one, low=1.0).verdict == "inconclusive"


def test_variation_is_judged_by_its_interval():
    """A wide interval reaches over the limit: neither pass nor fail."""
    evidence = _evidence(costs=[_cost(s) for s in SECONDS])
    verdicts = [_judge("pipeline_variation", evidence, high=h).verdict for h in (9.0, 0.07, 1e-3)]
    assert verdicts == ["pass", "inconclusive", "fail"]
    one = _evidence(costs=[_cost(2.0)])
    assert _judge("pipeline_variation", one, high=9.0).verdict == "inconclusive"


@pytest.mark.parametrize(("quantity", "power"), [("time", 1.0), ("cpu", 1.0), ("memory", 0.5)])
def test_growth_is_judged_by_the_interval_of_its_exponent(quantity, power):
    """A cost that grows by a known power, with little noise."""
    chance = np.random.default_rng(7)
    costs = [
        _cost(0.2 + n / 10_000 * math.exp(chance.normal(0, 0.003)), n, power=0.5)
        for n in (3000, 30_000, 300_000)
        for _ in range(4)
    ]
    evidence = _evidence(sizes=costs)
    near, beyond = (
        _judge("pipeline_growth", evidence, quantity=quantity, high=power + more)
        for more in (0.05, -0.05)
    )
    assert (near.verdict, beyond.verdict) == ("pass", "fail")
    assert near.observed == pytest.approx(power, abs=0.02)


def test_growth_over_runs_that_failed_is_no_growth():
    """Nor is that over no sizes."""
    costs = [_cost(1.0, n, well=n != 3000) for n in (3000, 30_000, 300_000) for _ in range(3)]
    for evidence in (_evidence(sizes=costs), _evidence()):
        assert _judge("pipeline_growth", evidence, high=9.0).verdict == "inconclusive"


def test_kills_that_struck_nothing_are_no_evidence():
    """Of n kills without harm a share of up to 1 - 0.05^(1/n) may be fatal."""

    def kill(*, struck, differ=0, recovered=True):
        return KillRecord(
            name="change-1",
            how="change",
            at=1.0,
            struck=struck,
            starts=1,
            recovered=recovered,
            differ=differ,
        )

    def judge(*kills, accepted=1):
        found = Reconciliation(
            delivered=1,
            accepted_rows=accepted,
            rejected_rows=None,
            balance=Balance(
                accepted=accepted,
                deduplicated=0,
                rejected=0,
                unaccounted=1 - accepted,
                doubles=0,
                unexpected=0,
                surplus_rejections=0,
            ),
            lost=1 - accepted,
            unexpected=0,
            duplicated=0,
            altered=0,
            must_reject={},
            refused={},
            refusals_right=0,
            refusals_all=0,
            unaccounted=1 - accepted,
            matrix={},
            wrong=[],
        )
        return _judge("crash_safe", _evidence(kills=list(kills), reconciliation=found))

    idle = judge(*[kill(struck=False)] * 3)
    assert idle.verdict == "inconclusive"
    safe = judge(*[kill(struck=True)] * 13, kill(struck=False))
    assert (safe.verdict, safe.observed) == ("pass", 0)
    share = laws.beta.ppf(0.95, 1, 13)  # Clopper and Pearson's upper limit for 0 of 13
    assert f"up to {100 * share:.0f} %" in safe.note
    assert "1 more struck nothing" in safe.note
    for harm in ({"differ": 2}, {"recovered": False}):
        hurt = judge(kill(struck=True, **harm))
        assert (hurt.verdict, hurt.observed) == ("fail", 1)
    assert judge(kill(struck=True), accepted=0).verdict == "inconclusive"
