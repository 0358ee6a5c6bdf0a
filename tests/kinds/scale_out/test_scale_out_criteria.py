"""Each verdict on workers, on hand-made measurements: passing, failing and left open; and plots."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from analysis import config_of, criterion
from support import judge

from fleetsim.base.verdict import Verdict
from fleetsim.experiment.criterion import Judgement
from fleetsim.experiment.figures import draw_plot, render
from fleetsim.kinds.scale_out.criteria import CRITERIA
from fleetsim.kinds.scale_out.measure import steps_of
from fleetsim.kinds.scale_out.plan import Plan
from fleetsim.kinds.scale_out.plots import PLOTS
from fleetsim.kinds.scale_out.run import UNSEEN, plan_tables
from fleetsim.kinds.scale_out.tasks import Tasks
from fleetsim.kinds.scale_out.ways import CLUSTER, WAYS, Constants, ScaleOut, ScaleOutRecord, WayRun
from fleetsim.measure.series import Size
from fleetsim.stats.linear import LinearLaw

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
SIZES = tuple(Size(events=n * 10**6, repeats=4) for n in (2, 10, 50))
TASKS = tuple(Tasks(tasks=n, repeats=3) for n in (1, 16, 128, 1024))
CONSTANTS = Constants(
    cores=2,
    companies=20_000,
    company_seconds=2e-6,
    company_bytes=45.0,
    company_peak_bytes=150.0,
    task_bytes=1200,
)


def measured(
    *,
    ratio: float = 0.95,
    task: float = 0.008,
    memory: float = 0.0,
    noise: float = 0.01,
    largest: int = 10**9,
) -> ScaleOut:
    """Return runs of which time and memory are as told.

    `ratio` is that of two workers to one process at the largest size, `task` the seconds of a core
    for a task, `memory` the exponent of client and scheduler.
    """
    rng = np.random.default_rng(1)

    def scatter(value: float) -> float:
        return float(value * np.exp(noise * rng.standard_normal()))

    runs = []
    for step in steps_of(
        [size for size in SIZES if size.events <= largest],
        [row for row in TASKS if row.drivers <= largest],
    ):
        sized = isinstance(step.what, Size)
        tasks = step.what.events // 10**6 if sized else step.what.tasks
        events = step.what.events if sized else 51 * tasks
        workers = WAYS[step.way].workers
        shared = max(1, min(workers, 2, tasks))
        by_workers = 1.0 + 0.5 * workers + (task * tasks + 3e-7 * events) / shared
        by_two = 2.0 + (task * tasks + 3e-7 * events) / 2
        alone = by_two * ratio if sized else 0.1 + 0.001 * tasks
        grown = (events / 1e6) ** memory if sized else 1.0
        cluster = step.way == CLUSTER
        for _ in range(step.repeats):
            seconds = scatter(by_workers if workers else alone)
            runs.append(
                WayRun(
                    events=events,
                    stated_tasks=0 if sized else tasks,
                    way=step.way,
                    tasks=tasks if workers or not sized else 1,
                    companies=max(1, events // 1000),
                    counted=events + 7,
                    lines=events + 7,
                    bytes=(events + 7) * 254,
                    sha256=f"{events:064x}",
                    as_recorded=True,
                    meta_bytes=1200 + 250 * tasks,
                    generation_seconds=seconds,
                    process_seconds=seconds + 0.1,
                    cpu_seconds=scatter(0.5 + 0.0006 * tasks),
                    peak_rss_bytes=int(70e6 * grown * (1 + 1e-4 * rng.standard_normal())),
                    scheduler_cpu_seconds=scatter(0.05 + 0.001 * tasks) if cluster else None,
                    scheduler_peak_bytes=int(80e6 * grown * (1 + 1e-4 * rng.standard_normal()))
                    if cluster
                    else None,
                )
            )
    return ScaleOut(config_of(), SIZES, TASKS, tuple(runs), CONSTANTS)


NOTHING = ScaleOut(config_of(), SIZES, TASKS, ())


def of_ratio(found: ScaleOut) -> Judgement:
    """Return the judgement of two workers against one process."""
    return judge(criterion("throughput_ratio", low=0.8), found)


@pytest.mark.parametrize(
    ("ratio", "noise", "verdict"),
    [(0.95, 0.01, PASS), (0.7, 0.01, FAIL), (0.82, 0.1, OPEN), (0.8, 0.01, OPEN)],
)
def test_the_interval_of_the_ratio_decides(ratio: float, noise: float, verdict: Verdict) -> None:
    """Above the limit passes, below fails, across leaves it open."""
    judgement = of_ratio(measured(ratio=ratio, noise=noise))
    assert judgement.verdict is verdict, judgement.note
    assert judgement.observed == pytest.approx(ratio, rel=3 * noise)
    assert (judgement.low, judgement.high) == (0.8, None)
    assert "In 4 rounds of 50000000 events" in judgement.note
    assert ("reaches below 0.8" in judgement.note) == (verdict is OPEN)


def test_another_size_says_nothing_of_the_ratio() -> None:
    """The claim is about the largest."""
    judgement = of_ratio(measured(largest=10**7))
    assert (judgement.verdict, judgement.observed) == (OPEN, None)
    assert judgement.note == "No verdict: not measured: 50000000 events."
    found = measured()
    once = [run for run in found.runs if run.stated_tasks]
    for way in WAYS:
        once += [found.of(way, events=size.events, tasks=False)[0] for size in SIZES]
    judgement = of_ratio(replace(found, runs=tuple(once)))
    assert (judgement.verdict, judgement.observed) == (OPEN, None)
    assert "it takes 2 rounds or more" in judgement.note


@pytest.mark.parametrize("kind", ["client_memory", "scheduler_memory"])
@pytest.mark.parametrize(
    ("memory", "verdict"), [(0.0, PASS), (0.03, PASS), (0.05, OPEN), (0.1, FAIL), (-0.1, PASS)]
)
def test_the_interval_of_the_exponent_decides(kind: str, memory: float, verdict: Verdict) -> None:
    """Only growth speaks against the claim."""
    judgement = judge(criterion(kind, high=0.05), measured(memory=memory))
    assert judgement.verdict is verdict, judgement.note
    assert judgement.observed == pytest.approx(memory, abs=2e-3)
    assert kind.partition("_")[0] in judgement.note


@pytest.mark.parametrize("kind", ["client_memory", "scheduler_memory"])
def test_sizes_that_are_missing_leave_the_memory_open(kind: str) -> None:
    """Growth fails a part of the range too; no growth proves nothing beyond it."""
    claim = criterion(kind, high=0.05)
    judgement = judge(claim, measured(largest=10**7))
    assert judgement.verdict is OPEN
    assert judgement.note.endswith("Not measured: 50000000 events.")
    assert judge(claim, measured(largest=10**7, memory=0.2)).verdict is FAIL
    judgement = judge(claim, measured(largest=2 * 10**6))
    assert (judgement.verdict, judgement.observed) == (OPEN, None)
    assert "it takes 2 sizes or more, found 1" in judgement.note


@pytest.mark.parametrize(
    ("task", "noise", "verdict"), [(0.008, 0.01, PASS), (0.2, 0.01, FAIL), (0.1, 0.1, OPEN)]
)
def test_the_interval_of_the_slope_decides_on_a_task(task, noise, verdict) -> None:
    """Two workers share the tasks, so that each adds half of what it takes a core."""
    judgement = judge(criterion("task_overhead", high=0.05), measured(task=task, noise=noise))
    assert judgement.verdict is verdict, judgement.note
    assert judgement.observed == pytest.approx(task / 2, rel=0.2)
    assert "over 12 runs of 4 numbers of tasks" in judgement.note


def test_tasks_that_are_missing_leave_their_cost_open() -> None:
    """A cost above the limit fails all the same."""
    claim = criterion("task_overhead", high=0.05)
    judgement = judge(claim, measured(largest=10**6))
    assert judgement.verdict is OPEN
    assert judgement.note.endswith("Not measured: 1024 tasks.")
    assert judge(claim, measured(largest=10**6, task=0.2)).verdict is FAIL
    judgement = judge(claim, measured(largest=2000))
    assert (judgement.verdict, judgement.observed) == (OPEN, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"as_recorded": False}, "is not what its record says"),
        ({"lines": 5, "sha256": "5"}, "has 5 lines, the streams give"),
        ({"sha256": "5"}, "has other bytes than the first"),
    ],
)
def test_one_batch_at_fault_is_enough(change: dict[str, object], words: str) -> None:
    """Whichever way made it."""
    found = measured()
    claim = criterion("same_bytes")
    judgement = judge(claim, found)
    assert (judgement.verdict, judgement.observed) == (PASS, 0.0)
    assert f"{len(found.runs)} batches" in judgement.note
    place = next(n for n, run in enumerate(found.runs) if run.way == "local:4")
    runs = list(found.runs)
    runs[place] = msgspec.structs.replace(runs[place], **change)
    judgement = judge(claim, replace(found, runs=tuple(runs)))
    assert (judgement.verdict, judgement.observed) == (FAIL, 1.0)
    assert "by 4 workers" in judgement.note
    assert words in judgement.note


@pytest.mark.parametrize("kind", CRITERIA)
def test_nothing_measured_leaves_everything_open(kind: str) -> None:
    """Without a run there is no verdict."""
    judgement = judge(criterion(kind, low=0.8, high=0.05), NOTHING)
    assert (judgement.verdict, judgement.observed) == (OPEN, None)
    assert judgement.note.startswith("No verdict: ")


def test_the_model_finds_what_the_runs_pay_for() -> None:
    """Start, worker, task and event, each within its interval; so do scheduler and client."""
    found = measured()
    law = found.model
    assert isinstance(law, LinearLaw)
    for term, value in {"start": 1.0, "worker": 0.5, "task": 0.008, "event": 3e-7}.items():
        each = law.each(term)
        assert each.value == pytest.approx(value, rel=0.1)
    assert isinstance(found.scheduler_cpu, LinearLaw)
    assert found.scheduler_cpu.each("task").value == pytest.approx(0.001, rel=0.1)
    assert isinstance(found.client_cpu, LinearLaw)
    assert found.client_cpu.each("task").value == pytest.approx(0.0006, rel=0.1)
    costs = found.costs
    assert not isinstance(costs, str)
    assert (costs.meta_bytes, costs.meta_part_bytes) == (1200, 250)
    assert costs.part.value == pytest.approx(0.008 + 4e6 * 3e-7, rel=0.05)


def record_of(found: ScaleOut) -> ScaleOutRecord:
    """Return what a run keeps."""
    plan = found.plan
    return ScaleOutRecord(
        runs=list(found.runs),
        constants=found.constants,
        model=found.rows(),
        plan=plan if isinstance(plan, Plan) else None,
        no_plan=plan if isinstance(plan, str) else "",
        unseen=UNSEEN,
    )


@pytest.mark.parametrize(
    "found",
    [measured(), measured(noise=0.5), measured(largest=2 * 10**6), NOTHING],
    ids=["whole", "rough", "part", "nothing"],
)
def test_a_record_survives_being_written_and_read(found: ScaleOut) -> None:
    """As strict JSON, with a plan or with the reason why there is none."""
    record = record_of(found)
    content = msgspec.json.encode(record)
    json.loads(content, parse_constant=pytest.fail)
    assert msgspec.json.decode(content, type=ScaleOutRecord) == record
    assert (record.plan is None) == bool(record.no_plan)


def test_a_plan_is_shown_with_what_it_cannot_know() -> None:
    """Three tables, or one sentence."""
    whole = plan_tables(measured().plan)
    text = str(whole)
    assert "cores for 24 h" in text
    assert "where it breaks first" in text
    assert "no byte crosses a network" in text.replace("\n", " ")
    none = plan_tables(NOTHING.plan)
    assert "No plan: no run has a repeat." in str(none)


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize(
    ("found", "times"), [(measured(), 2), (measured(largest=2 * 10**6), 1)], ids=["whole", "part"]
)
def test_a_plot_is_drawn_with_its_text(name: str, found: ScaleOut, times: int) -> None:
    """The same bytes each time, and an alt text that says what is seen."""
    made = []
    for _ in range(times):
        figure, alt = draw_plot(PLOTS[name], found)
        made.append((render(figure), alt))
    assert made == made[:1] * times
    images, alt = made[0]
    assert images["png"].startswith(b"\x89PNG")
    assert len(alt) > 80
    assert alt.endswith(".")
    assert "nan" not in alt


def test_the_steps_hold_every_way() -> None:
    """Sizes by all ways, a cluster twice; tasks by those that tell of them."""
    steps = steps_of(SIZES, TASKS)
    of_size = {step.way: step.repeats for step in steps if step.what is SIZES[-1]}
    assert of_size == {"process": 4, "local:1": 4, "local:2": 4, "local:4": 4, CLUSTER: 2}
    assert {step.way for step in steps if step.what is TASKS[0]} == set(WAYS)
    assert {step.way for step in steps if step.what is TASKS[-1]} == {
        "process",
        "local:2",
        CLUSTER,
    }
