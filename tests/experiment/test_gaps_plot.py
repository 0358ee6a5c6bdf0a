"""The plot of the gaps between a driver's events: what it draws, and what it says."""

from __future__ import annotations

import numpy as np
from analysis import config_of
from matplotlib.figure import Figure

from fleetsim.experiment.figures import draw_gaps, titled_figure
from fleetsim.stats import faulty_drivers
from fleetsim.stats.draws import draw_columns, sample_of
from fleetsim.stats.driver_tests import gap_cells


def drawn(draw) -> tuple[Figure, str, tuple]:
    """Return the figure of a baseline batch, its alt text, and the cells that it shows."""
    config = config_of()
    sample = sample_of(draw(config, 1), config, 1)
    figure, alt = titled_figure("Gaps", (8, 3), lambda f: draw_gaps(f.subplots(), sample))
    return figure, alt, gap_cells(sample.driver_times, sample.length_us)


def test_the_line_is_observed_over_expected_and_the_band_that_of_the_law() -> None:
    """Steps at the cells' edges in seconds, on a logarithmic axis."""
    figure, alt, (edges, observed, expected) = drawn(draw_columns)
    (ax,) = figure.axes
    band, line = (patch.get_data() for patch in ax.patches)
    np.testing.assert_allclose(line.values, observed / expected)
    np.testing.assert_allclose(line.edges[1:], edges[1:] / 1e6)
    np.testing.assert_allclose(band.values, 1 + 1.96 / np.sqrt(expected))
    assert ax.get_xscale() == "log"
    assert f"in {len(observed)} cells" in alt


def test_a_dead_time_is_told_as_gaps_that_are_missing() -> None:
    """The alt text names the size that is farthest off."""
    _, alt, _ = drawn(faulty_drivers.dead_time)
    assert "Farthest off: 0 gaps of" in alt


def test_where_no_driver_has_two_events_the_plot_says_so() -> None:
    """No axis without data: the reason stands in its place."""
    config = config_of(event_rate_per_driver=0.0)
    sample = sample_of(draw_columns(config, 1), config, 1)
    _, alt = titled_figure("Gaps", (8, 3), lambda f: draw_gaps(f.subplots(), sample))
    assert alt.endswith("shown: no driver has two events in a batch.")
