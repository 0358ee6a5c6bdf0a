"""Each verdict on growth, on hand-made measurements: passing, failing and left open; and plots."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from analysis import criterion
from support import judge

from fleetsim.base.verdict import Verdict
from fleetsim.experiment.criterion import Judgement
from fleetsim.experiment.figures import draw_plot, render
from fleetsim.kinds.scaling.criteria import CRITERIA
from fleetsim.kinds.scaling.plots import PLOTS
from fleetsim.kinds.scaling.sizes import QUANTITIES, Scaling, SizeRun
from fleetsim.measure.series import Size, path_of

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
SIZES = tuple(
    Size(events=int(digit * 10**power), repeats=10) for power in range(3, 8) for digit in (1, 2, 5)
)
START = {"numpy": 0.06, "compiled": 0.6}
RATE = {"numpy": 1e6, "compiled": 3e6}


def measured(
    *,
    exponents: tuple[float, float] = (1.0, 1.0),
    memory: float = 0.0,
    noise: float = 0.01,
    largest: int = 10**9,
    peak: float = 180e6,
) -> Scaling:
    """Return runs of which time and memory grow as told: time by path, memory on the large one."""
    rng = np.random.default_rng(1)
    power = dict(zip(START, exponents, strict=True))
    runs = []
    for size in SIZES:
        path = path_of(size)
        share = size.events / 1e6
        for _ in range(size.repeats if size.events <= largest else 0):
            law = START[path] + 1e6 / RATE[path] * share ** power[path]
            seconds = law * np.exp(noise * rng.standard_normal())
            bytes_ = peak * share**memory if path == "compiled" else 45e6
            runs.append(
                SizeRun(
                    events=size.events,
                    path=path,
                    companies=max(1, size.events // 1000),
                    counted=size.events + 7,
                    lines=size.events + 7,
                    bytes=(size.events + 7) * 254,
                    sha256=f"{size.events:064x}",
                    as_recorded=True,
                    generation_seconds=seconds,
                    process_seconds=seconds + 0.05,
                    cpu_seconds=seconds + 0.04,
                    peak_rss_bytes=int(bytes_ * np.exp(1e-4 * rng.standard_normal())),
                )
            )
    return Scaling(SIZES, tuple(runs))


def changed(scaling: Scaling, number: int, **values) -> Scaling:
    """Return the measurements with one run changed."""
    runs = list(scaling.runs)
    runs[number] = msgspec.structs.replace(runs[number], **values)
    return replace(scaling, runs=tuple(runs))


def of_time(scaling: Scaling) -> Judgement:
    """Return the judgement of the exponent of the time."""
    return judge(criterion("time_exponent", tolerance=0.05), scaling)


def of_memory(scaling: Scaling) -> Judgement:
    """Return the judgement of the exponent of the memory."""
    return judge(criterion("memory_exponent", high=0.05), scaling)


@pytest.mark.parametrize(
    ("exponents", "noise", "verdict", "observed"),
    [
        ((1.0, 1.0), 0.01, PASS, 1.0),
        ((0.98, 1.0), 0.005, PASS, 0.98),
        ((0.85, 1.0), 0.01, FAIL, 0.85),  # one path is enough
        ((1.0, 1.2), 0.01, FAIL, 1.2),
        ((1.0, 1.0), 0.20, OPEN, 1.0),  # the interval reaches out
        ((0.95, 1.0), 0.01, OPEN, 0.95),
    ],
)
def test_the_interval_of_each_path_decides_on_the_time(exponents, noise, verdict, observed) -> None:
    """Inside the limits passes, outside fails, across leaves it open; the farthest is shown."""
    judgement = of_time(measured(exponents=exponents, noise=noise))
    assert judgement.verdict is verdict, judgement.note
    assert judgement.observed == pytest.approx(observed, abs=0.3 if noise > 0.1 else 0.02)
    assert (judgement.low, judgement.high) == (0.95, 1.05)
    assert "NumPy path: exponent" in judgement.note
    assert "compiled kernel: exponent" in judgement.note
    assert ("reaches out of 0.95 to 1.05" in judgement.note) == (verdict is OPEN)


def test_sizes_that_are_missing_leave_the_time_open() -> None:
    """A part of the range does not prove the whole; what is wrong there fails all the same."""
    judgement = of_time(measured(largest=2 * 10**7))
    assert judgement.verdict is OPEN
    assert judgement.note.endswith("Not measured: 50000000 events.")
    judgement = of_time(measured(largest=10**5))
    assert judgement.verdict is OPEN
    assert "Not measured: 200000 to 50000000 events, 8 sizes." in judgement.note
    assert "compiled kernel: it takes 3 sizes or more, found 0" in judgement.note
    assert of_time(measured(exponents=(1.5, 1.0), largest=10**5)).verdict is FAIL


@pytest.mark.parametrize(
    ("memory", "verdict"), [(0.0, PASS), (0.03, PASS), (0.05, OPEN), (0.08, FAIL), (-0.1, PASS)]
)
def test_the_interval_decides_on_the_memory(memory: float, verdict: Verdict) -> None:
    """Only growth of the path for large batches speaks against the claim."""
    judgement = of_memory(measured(memory=memory))
    assert judgement.verdict is verdict, judgement.note
    assert judgement.observed == pytest.approx(memory, abs=1e-3)
    assert (judgement.low, judgement.high) == (None, 0.05)
    assert "compiled kernel, 1000000 to 50000000 events" in judgement.note
    told = re.search(r"ten times the events take ([+-]\d+\.\d) % memory", judgement.note)
    assert float(told.group(1)) == pytest.approx(100 * (10**memory - 1), abs=0.3)


def test_sizes_that_are_missing_leave_the_memory_open() -> None:
    """Growth fails a part of the range too; no growth proves nothing beyond it."""
    assert of_memory(measured(largest=2 * 10**7)).verdict is OPEN
    assert of_memory(measured(largest=2 * 10**7, memory=0.2)).verdict is FAIL
    judgement = of_memory(measured(largest=10**6))
    assert (judgement.verdict, judgement.observed) == (OPEN, None)
    assert "it takes 2 sizes or more, found 1" in judgement.note


def test_the_largest_size_decides_on_the_peak() -> None:
    """Its largest process counts; without it there is no verdict."""
    claim = criterion("memory_of_largest", high=300)
    judgement = judge(claim, measured())
    assert (judgement.verdict, round(judgement.observed)) == (PASS, 180)
    assert "of 10 processes that made 50000000 events" in judgement.note
    judgement = judge(claim, changed(measured(), -1, peak_rss_bytes=301_000_000))
    assert (judgement.verdict, judgement.observed) == (FAIL, 301)
    judgement = judge(claim, measured(largest=2 * 10**7))
    assert (judgement.verdict, judgement.observed) == (OPEN, None)
    assert "50000000 events, was not measured" in judgement.note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"as_recorded": False}, "a file of size 1000 is not what its record says"),
        ({"lines": 999}, "a file of size 1000 has 999 lines, the streams give 1007"),
        ({"sha256": "f" * 64}, "a file of size 1000 has other bytes than the first"),
    ],
)
def test_one_file_at_fault_fails_the_content(change, words) -> None:
    """Against its record, against the streams, against the other repeats."""
    claim = criterion("same_content")
    judgement = judge(claim, measured())
    assert (judgement.verdict, judgement.observed) == (PASS, 0)
    assert "150 files of 15 sizes" in judgement.note
    judgement = judge(claim, changed(measured(), 5, **change))
    assert (judgement.verdict, judgement.observed) == (FAIL, 1)
    assert judgement.note == f"1 of 150 batches: {words}."


def test_no_run_is_no_pass() -> None:
    """Nothing measured leaves every criterion open."""
    nothing = Scaling(SIZES, ())
    for kind, limits in (
        ("time_exponent", {"tolerance": 0.05}),
        ("memory_exponent", {"high": 0.05}),
        ("memory_of_largest", {"high": 300}),
        ("same_content", {}),
    ):
        judgement = judge(criterion(kind, **limits), nothing)
        assert (judgement.verdict, judgement.observed) == (OPEN, None)
        assert judgement.note.startswith("No verdict: ")


def test_each_kind_says_what_it_judges() -> None:
    """The kinds of growth are those that are tested here."""
    kinds = set(CRITERIA)
    assert kinds == {"time_exponent", "memory_exponent", "memory_of_largest", "same_content"}


def test_rows_tell_the_laws() -> None:
    """Time has a start-up and a rate, memory neither; without a law a row says why."""
    scaling = measured(largest=10**6)
    row = scaling.row("numpy", "generation_seconds")
    assert row.exponent == pytest.approx(1, abs=0.02)
    assert row.startup == pytest.approx(0.06, rel=0.05)
    assert row.events_per_second == pytest.approx(1e6, rel=0.05)
    assert row.slope < 0.6
    assert (row.sizes, row.repeats) == (9, 90)
    memory = scaling.row("numpy", "peak_rss_bytes")
    assert (memory.startup, memory.events_per_second) == (None, None)
    assert memory.slope == memory.exponent
    missing = scaling.row("compiled", "generation_seconds")
    assert (missing.exponent, missing.interval, missing.sizes) == (None, None, 1)
    assert "it takes 3 sizes" in missing.note
    assert [(row.path, row.quantity) for row in scaling.rows()][len(QUANTITIES) :] == [
        ("compiled", name) for name in QUANTITIES
    ]


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_the_same_twice(name: str) -> None:
    """SVG and PNG have equal bytes in two renderings; no data make a warning (all are errors)."""
    scaling = measured()
    images, again = (render(draw_plot(PLOTS[name], scaling)[0]) for _ in range(2))
    assert images == again
    assert b"<dc:date>" not in images["svg"]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("largest", [1000, 10**6, 10**9])
def test_plots_have_words(name: str, largest: int) -> None:
    """However few the sizes: an alt text of a sentence or two."""
    figure, alt = draw_plot(PLOTS[name], measured(largest=largest))
    render(figure)
    assert alt.endswith(".")
    assert alt.isprintable()
    assert "nan" not in alt
    assert 80 < len(alt) < 700


def test_the_plot_of_the_time_tells_the_law() -> None:
    """Start-up and exponent of each path stand in its words."""
    _, alt = draw_plot(PLOTS["time_over_events"], measured(exponents=(1.0, 1.1)))
    assert "the NumPy path follows 0.06" in alt
    assert "plus a power 1.1" in alt
    _, alt = draw_plot(PLOTS["time_over_events"], measured(largest=10**6))
    assert "the compiled kernel has no fitted law" in alt
