"""The law of costs and the plan by it: known costs come back, intervals cover, sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from fleetsim.batch.formats import FORMATS
from fleetsim.kinds.scale_out.plan import GOAL, Costs, Goal, plan_fleet
from fleetsim.stats.linear import Estimate, LinearLaw, fit_linear

TERMS = ("start", "worker", "task", "event")
#: Amounts as in experiment 020: workers, tasks, and events, the latter two shared by two cores.
KINDS = [
    (1.0, workers, tasks / min(workers, 2, tasks), events / min(workers, 2, tasks))
    for workers, tasks, events in [
        *((w, 1, 51) for w in (1, 2, 4)),
        *((2, n, 51 * n) for n in (16, 128, 1024)),
        *((w, n, n * 10**6) for n in (2, 10, 50) for w in (1, 2, 4)),
    ]
]
TRUTH = np.array([1.0, 0.5, 0.008, 3e-7])


def runs(
    truth: np.ndarray, noise: float, repeats: int, seed: int = 1
) -> tuple[list[tuple[float, ...]], np.ndarray]:
    """Return amounts and costs that scatter by a fraction of themselves."""
    amounts = [kind for kind in KINDS for _ in range(repeats)]
    rng = np.random.default_rng(seed)
    costs = np.array(amounts) @ truth
    return amounts, costs * np.exp(noise * rng.standard_normal(len(costs)))


@settings(max_examples=examples(50), deadline=None)
@given(
    truth=st.tuples(
        st.floats(0.1, 10), st.floats(0.01, 5), st.floats(1e-4, 0.1), st.floats(1e-8, 1e-5)
    )
)
def test_known_costs_come_back(truth: tuple[float, ...]) -> None:
    """Without noise every coefficient is found, and no interval is wide."""
    amounts, costs = runs(np.array(truth), 0.0, 2)
    law = fit_linear(TERMS, amounts, costs)
    assert law.coefficients == pytest.approx(truth, rel=1e-6)
    assert law.deviation < 1e-6
    for term, value in zip(TERMS, truth, strict=True):
        each = law.each(term)
        assert each.high - each.low < 1e-4 * value
    assert law.at(amounts) == pytest.approx(costs)


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """In some 95 of 100 simulations, for each cost and for a sum of them."""
    sought = {**{term: {term: 1.0} for term in TERMS}, "part": {"task": 1.0, "event": 4e6}}
    true = {
        name: sum(TRUTH[TERMS.index(term)] * amount for term, amount in amounts.items())
        for name, amounts in sought.items()
    }
    held = dict.fromkeys(sought, 0)
    for seed in range(400):
        law = fit_linear(TERMS, *runs(TRUTH, 0.08, 3, seed))
        for name, amounts in sought.items():
            found = law.sum(amounts)
            held[name] += found.low < true[name] < found.high
    assert all(0.92 * 400 <= count <= 399 for count in held.values()), held


def test_a_bend_widens_the_intervals() -> None:
    """Where equal runs agree and the law misses them, the interval tells of the law."""
    tasks = np.repeat([1.0, 16, 128, 1024], 3)
    rng = np.random.default_rng(1)
    straight = (1 + 0.01 * tasks) * np.exp(0.01 * rng.standard_normal(len(tasks)))
    amounts = np.column_stack([np.ones_like(tasks), tasks])
    one = fit_linear(("start", "task"), amounts, straight)
    bent = fit_linear(("start", "task"), amounts, straight * np.where(tasks == 128, 1.4, 1.0))
    assert one.scale < 2 < bent.scale
    assert bent.deviation > 0.1
    assert bent.each("task").high - bent.each("task").low > 5 * (
        one.each("task").high - one.each("task").low
    )


def test_runs_without_any_scatter_still_have_an_interval() -> None:
    """Only their distance from the law tells then how good it is."""
    amounts = [(1.0, n) for n in (1.0, 2.0, 3.0) for _ in range(2)]
    law = fit_linear(("start", "task"), amounts, [1.0, 1.0, 2.0, 2.0, 3.5, 3.5])
    assert law.degrees == 1
    assert law.each("task").low < 1 < law.each("task").high


@pytest.mark.parametrize(
    ("amounts", "costs", "words"),
    [
        ([(1.0, 1.0), (1.0, 2.0)], [1.0, 2.0], "no run has a repeat"),
        ([], [], "no run has a repeat"),
        ([(1.0, 1.0)] * 3, [1.0] * 3, "do not tell 2 costs apart"),
        ([(1.0, 0.0)] * 2, [1.0] * 2, "do not tell 2 costs apart"),
        ([(1.0, 1.0), (1.0, 2.0)] * 2, [1.0, 0.0] * 2, "finite numbers above 0"),
        ([(1.0, 1.0), (1.0, math.inf)] * 2, [1.0, 2.0] * 2, "finite numbers above 0"),
    ],
)
def test_runs_that_tell_nothing_are_refused(amounts, costs, words) -> None:
    """With the reason in words."""
    with pytest.raises(ValueError, match=words):
        fit_linear(("start", "task"), amounts, costs)


def test_a_law_of_two_kinds_of_runs_goes_through_both() -> None:
    """As a straight line does: nothing is left to tell of a bend."""
    law = fit_linear(("start", "task"), [(1.0, 1.0)] * 2 + [(1.0, 3.0)] * 2, [1.9, 2.1, 3.8, 4.2])
    assert law.coefficients == pytest.approx([1.0, 1.0])
    assert (law.scale, law.groups, law.runs) == (1.0, 2, 4)
    assert isinstance(law, LinearLaw)


def costs(**changes: object) -> Costs:
    """Return round costs: a part takes 2 s of a core, 1 ms of the scheduler and half of that."""
    values: dict[str, object] = {
        "task": Estimate(0.0, 0.0, 0.0),
        "event": Estimate(5e-7, 4e-7, 6e-7),
        "part": Estimate(2.0, 1.6, 2.4),
        "scheduler_task": Estimate(1e-3, 0.9e-3, 1.1e-3),
        "client_task": Estimate(5e-4, 4e-4, 6e-4),
        "line_bytes": 250.0,
        "meta_bytes": 1000.0,
        "meta_part_bytes": 250.0,
        "company_seconds": 2e-6,
        "company_bytes": 45.0,
        "company_peak_bytes": 150.0,
        "task_bytes": 1000.0,
    }
    return Costs(**values | changes)  # type: ignore[arg-type]


#: 10^6 drivers with 4 events each, 100 batches of 4 parts of a million.
SMALL = Goal(
    companies=10_000,
    drivers_per_company=100,
    events=4e8,
    rate=4.0,
    part_events=10**6,
    hours=(1.0,),
    cores=(10, 4000),
)


def test_the_arithmetic_of_a_plan_is_that_by_hand() -> None:
    """Every row of a small goal."""
    plan = plan_fleet(SMALL, costs())
    rows = {row.quantity: row for row in plan.rows}

    def found(name: str) -> float:
        return rows[name].value

    assert (SMALL.drivers, SMALL.batches, SMALL.parts) == (10**6, 100, 4)
    assert found("batches") == 100
    assert found("parts of a batch") == 4
    assert found("tasks in all") == 400
    assert found("size of a part") == pytest.approx(0.25)  # GB
    assert found("core time") == pytest.approx(800 / 3600)
    assert rows["core time"].low == pytest.approx(640 / 3600)
    assert rows["core time"].high == pytest.approx(960 / 3600)
    reading = 10_000 * 2e-6
    assert found("reading of the companies") == pytest.approx(reading)
    assert found("cores for 1 h") == pytest.approx(800 / (3600 - reading))
    assert found("time with 10 cores") == pytest.approx((80 + reading) / 3600)
    # 800 s on 4000 cores would be 0.2 s, but the scheduler takes 0.4 s for 400 tasks.
    assert found("time with 4000 cores") == pytest.approx((0.4 + reading) / 3600)
    assert rows["time with 4000 cores"].high == pytest.approx((0.44 + reading) / 3600)
    assert found("scheduler's load by 10 cores") == pytest.approx(100 * 10 / 2.0 * 1e-3)
    assert found("JSON Lines in all") == pytest.approx(0.1)  # TB
    for name in ("jsonl.zst", "parquet"):
        assert found(f"{name} in all") == pytest.approx(0.1 * FORMATS[name].share)
    # 250 MB are 15 pieces of 16 MiB; 2 more to begin and to complete; a record for each batch.
    assert found("requests that write") == 400 * 17 + 100
    assert found("requests that list") == 200
    assert found("batch_meta.json") == pytest.approx(2e-3)  # MB
    assert found("the client's companies") == pytest.approx(45e-5)  # GB
    assert found("the same while they are read") == pytest.approx(150e-5)
    task = 1000 + 45 * 2500  # a million events are 2500 companies
    assert found("a task as it is sent") == pytest.approx(task / 1e6)
    assert found("all tasks as they are sent") == pytest.approx(400 * task / 1e9)
    assert found("tasks under way with 10 cores") == pytest.approx(30 * task / 1e9)


def test_the_bounds_stand_in_the_order_in_which_they_are_met() -> None:
    """Each from as many cores on as it says, the lowest first, and first among the remarks."""
    plan = plan_fleet(SMALL, costs())
    cores = {bound.what: bound.cores for bound in plan.bounds}
    assert list(cores.values()) == sorted(cores.values())
    assert cores["scheduler"] == pytest.approx(2.0 / 1e-3)
    assert cores["client"] == pytest.approx(2.0 / 5e-4)
    assert cores["network"] == pytest.approx(12.5e9 / 125e6)
    assert cores["requests"] == pytest.approx(3500 * 2.0 / 17)
    assert cores["tasks under way"] == pytest.approx(16e9 / (3 * 113_500))
    assert plan.remarks[0].startswith(f"From {math.ceil(plan.bounds[0].cores)} cores on: ")
    slow = plan_fleet(SMALL, costs(scheduler_task=Estimate(0.5, 0.4, 0.6)))
    assert slow.bounds[0].what == "scheduler"


def test_the_goal_is_a_thousand_million_drivers() -> None:
    """And a million million events."""
    assert (GOAL.drivers, GOAL.events, GOAL.batches, GOAL.parts) == (10**9, 1e12, 286, 875)


def test_an_interval_that_reaches_to_zero_has_no_end_as_an_inverse() -> None:
    """The plan then shows none, and stays strict JSON."""
    assert Estimate(1.0, 0.0, 2.0).inverse() == Estimate(1.0, 0.5, math.inf)
    plan = plan_fleet(SMALL, costs(part=Estimate(2.0, 0.0, 4.0)))
    row = next(row for row in plan.rows if row.quantity == "scheduler's load by 10 cores")
    # 10 cores end 2.5 tasks a second at least, of at least 0.9 ms each.
    assert (row.low, row.high) == (pytest.approx(0.225), None)
