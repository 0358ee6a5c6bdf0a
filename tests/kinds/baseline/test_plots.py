"""Every plot, for every kind of data: no warning, the same bytes twice, true words."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from analysis import baseline, config_of, criterion, hand_made, quick_repeats, tally_of
from matplotlib.figure import Figure

from fleetsim.experiment import figures
from fleetsim.experiment.figures import MANY_TYPES, TYPES_TOLD, draw_plot, render
from fleetsim.experiment.kept import keep_evidence, read_evidence
from fleetsim.kinds.baseline.evidence import Evidence
from fleetsim.kinds.baseline.plots import PLOTS
from fleetsim.tally.batches import Tally

ODD = [
    "$a_b^c$",
    "größe ß",
    "bell\x07 tab\t nul\x00",
    "日本 🚚",
    "<b>&amp;",
    "a" * 200,
    "\\frac",
    " ",
]


def with_types(n: int) -> Evidence:
    """Return evidence of many types, the first of odd names."""
    names = (ODD + [f"type {i}" for i in range(n)])[:n]
    config = config_of(event_types=dict.fromkeys(names, 1 / n))
    types = np.random.default_rng(2).multinomial(3500, np.full(n, 1 / n))
    return hand_made(config, tally_of(config, types=types))


def nothing() -> Tally:
    """Return the tally of an empty batch."""
    return tally_of(counts=np.zeros(1000, int))


@cache
def evidence_of(case: str) -> Evidence:
    """Return evidence of a kind."""
    one = config_of(number_of_companies=1, drivers_per_company=1, event_rate_per_driver=0.01)
    zero = config_of(event_rate_per_driver=0)
    big = config_of(number_of_companies=1, drivers_per_company=5, event_rate_per_driver=1e4)
    wide = config_of(number_of_companies=10**5, event_rate_per_driver=1e4)
    five = np.random.default_rng(3).poisson(1e4, 5)
    made = {
        "normal": lambda: hand_made(),
        "none of many": lambda: hand_made(tally=nothing()),
        "rate 0": lambda: hand_made(zero, tally_of(zero), replicates=np.zeros(100)),
        "one event": lambda: hand_made(one, tally_of(one, counts=[1], types=[0, 1, 0])),
        "odd types": lambda: with_types(12),
        "many types": lambda: with_types(MANY_TYPES + 10),
        "one type": lambda: hand_made(
            c := config_of(event_types={"only": 1.0, "never": 0.0}), tally_of(c)
        ),
        "rate 10000": lambda: hand_made(
            big, tally_of(big, counts=five), repeats=quick_repeats((0.1,))
        ),
        "wide counts": lambda: hand_made(
            wide,
            tally_of(big, counts=five, types=[20_000, 20_000, five.sum() - 40_000]),
            replicates=np.random.default_rng(4).poisson(1e10, 300),
        ),
    }
    return made[case]()


CASES = [
    "normal",
    "none of many",
    "rate 0",
    "one event",
    "odd types",
    "many types",
    "one type",
    "rate 10000",
    "wide counts",
]
#: Those that every plot is drawn of twice in `make test`; `make test-slow` takes the others.
TWICE = ("normal", "odd types")
TWICE_EACH = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in TWICE)) for case in CASES]
)


def drawn(name: str, case: str) -> tuple[Figure, str]:
    """Return a plot of experiment 001's criteria."""
    return draw_plot(PLOTS[name], evidence_of(case), baseline().criteria)


@cache
def rendered(name: str, case: str) -> tuple[dict[str, bytes], str]:
    """Return the images of a plot, and its alt text."""
    figure, alt = drawn(name, case)
    return render(figure), alt


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_has_two_images(name: str, case: str) -> None:
    """No data make a warning (all are errors), and no image tells when it was made."""
    images, _ = rendered(name, case)
    assert images["png"].startswith(b"\x89PNG")
    assert b"<svg" in images["svg"]
    assert b"<dc:date>" not in images["svg"]


@TWICE_EACH
@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_the_same_twice(name: str, case: str) -> None:
    """SVG and PNG have equal bytes in two renderings, and the words are the same."""
    figure, alt = drawn(name, case)
    assert (render(figure), alt) == rendered(name, case)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_has_words(name: str, case: str) -> None:
    """Each axis says what it shows, times and memory in their unit; the alt text is a sentence."""
    figure, alt = drawn(name, case)
    assert len(figure.axes) == (2 if name in ("offset_ecdf", "repeats") else 1)
    for ax in figure.axes:
        if not (name == "event_types" and ax.get_xticklabels()):
            assert ax.get_xlabel()
        assert ax.get_ylabel()
        for label in (ax.get_xlabel(), ax.get_ylabel()):
            if re.match("time|memory|share of the events$", label) and name != "offset_ecdf":
                assert re.search(r"\[(s|min|MB|%)\]$", label), label
    assert alt.endswith(".")
    assert len(alt) < 1500
    assert alt.isprintable()
    assert "nan" not in alt


@TWICE_EACH
def test_kept_evidence_draws_the_same(case: str, tmp_path: Path) -> None:
    """What a run of a sweep keeps gives the bytes and the words that it would have drawn."""
    assert keep_evidence(tmp_path, evidence_of(case), baseline().criteria)
    kept = read_evidence(tmp_path, Evidence)
    assert list(kept.criteria) == list(baseline().criteria)
    for name, plot in PLOTS.items():
        assert figures.drawn(plot, *kept) == rendered(name, case)


def test_alt_texts_state_true_numbers() -> None:
    """The figures of the words are those of the data."""
    evidence = evidence_of("normal")
    counts = evidence.tally.sample.counts.ravel()
    alt = {name: drawn(name, "normal")[1] for name in PLOTS}
    assert "of 1000 drivers" in alt["events_per_driver"]
    assert f"{np.sum(counts == 0)} drivers have no event, 30.2 are" in alt["events_per_driver"]
    assert "the mean is 3.500" in alt["events_per_driver"]
    assert "start driving 40.0 % (weight 40 %), stopped driving 35.0 %" in alt["event_types"]
    cells = evidence.tally.sample.times.histogram
    assert f"between {cells.min()} and {cells.max()} a cell" in alt["events_over_interval"]
    assert "uniform law expects 58.3" in alt["events_over_interval"]
    distance = evidence.test("event_times_uniform").statistic
    assert f"the largest distance is {distance:.4f}, inside" in alt["offset_ecdf"]
    assert "30 cold runs. Left: generation takes 0.110 to 0.130 s" in alt["repeats"]
    assert "the whole process 0.150 to 0.170 s. Right: the peak memory is 45.0 to" in alt["repeats"]
    seeds = evidence.replicates
    assert (
        f"2000 seeds, {seeds.min()} to {seeds.max()}, mean {seeds.mean():.1f}" in alt["replicates"]
    )
    assert "this run has 3500. 0 of the seeds lie in the stated range 4500 to" in alt["replicates"]


def test_what_is_not_there_is_said() -> None:
    """No event is a sentence, and no empty axes without a word."""
    for name in ("events_over_interval", "offset_ecdf", "event_types"):
        figure, alt = drawn(name, "none of many")
        assert "no event" in alt.lower()
        if name != "event_types":
            assert all("no event" in [t.get_text() for t in ax.texts] for ax in figure.axes)


def test_many_types_are_not_all_told() -> None:
    """The alt text names those that are farthest off, and how many there are."""
    alt = drawn("event_types", "many types")[1]
    assert f"the {TYPES_TOLD} of {MANY_TYPES + 10} farthest off" in alt
    assert alt.count("(weight 2 %)") == TYPES_TOLD


def test_names_are_shown_as_they_are() -> None:
    """No formula, no missing character, no line that a name breaks."""
    figure, alt = drawn("event_types", "odd types")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[0] == r"\$a_b^c\$"
    assert labels[1] == "größe ß"
    assert labels[3] == "·· ·"
    assert all(len(label) <= 14 for label in labels)
    assert "$a_b^c$ " in alt
    assert "日本" in alt


def test_large_counts_share_their_bars() -> None:
    """Ten thousand events a driver are shown in some forty bars around their mean."""
    figure, _ = drawn("events_per_driver", "rate 10000")
    (ax,) = figure.axes
    assert ax.get_xlim()[0] > 9000
    assert len(ax.patches) <= 41
    assert re.fullmatch(r"drivers in \d+ counts", ax.get_ylabel())
    assert sum(patch.get_height() for patch in ax.patches) == 5


def test_a_stated_range_far_away_is_pointed_at() -> None:
    """It does not squeeze the histogram into a line; without a stated range there is none."""
    figure, alt = drawn("replicates", "rate 10000")
    assert [text.get_text() for text in figure.axes[0].texts] == ["← stated 4500 to 5500"]
    assert "0 of the seeds lie in the stated range 4500 to 5500" in alt
    above = criterion("event_count_range", low=10**6, high=2 * 10**6)
    figure, _ = draw_plot(PLOTS["replicates"], evidence_of("rate 10000"), [above])
    assert [text.get_text() for text in figure.axes[0].texts] == ["stated 1e+06 to 2e+06 →"]
    _, alt = draw_plot(PLOTS["replicates"], evidence_of("normal"), [])
    assert "stated" not in alt
