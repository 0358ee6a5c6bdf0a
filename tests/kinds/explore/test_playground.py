"""Playing with the truth: what is drawn, what the tests say of it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis import config_of
from support import Cli

import fleetsim
from fleetsim import stats
from fleetsim.base.errors import InputError
from fleetsim.batch.companies import read_companies
from fleetsim.generate.config import Config, make_config
from fleetsim.kinds.explore.playground import driver_day, explore, explored_config, faults_table
from fleetsim.stats.controls import CONTROLS


@pytest.fixture(scope="module")
def baseline() -> Config:
    return explored_config("001-baseline")


def changed(config: Config, **values: Any) -> Config:
    return make_config(config.as_dict(), values)


def test_it_draws_what_a_batch_would_hold(baseline: Config) -> None:
    """The events of an exploration are those of `generate_batch`, ordinal by ordinal."""
    shown = explore(baseline, batches=3)
    for ordinal in range(3):
        batch = fleetsim.generate_batch(baseline, ordinal=ordinal)
        assert len(batch) == shown.sample.totals[ordinal]
        counts = np.bincount(batch.columns.driver, minlength=1000)
        np.testing.assert_array_equal(counts, shown.sample.counts[ordinal])


def test_an_honest_truth_is_not_refuted(baseline: Config) -> None:
    shown = explore(baseline)
    assert shown.noticed == ()
    assert shown.expected == ()
    assert "the truth is the law" in shown._repr_html_()


def test_a_rate_that_is_off_is_noticed_by_the_count(baseline: Config) -> None:
    """And the page says in what the truth differs."""
    truth = changed(baseline, event_rate_per_driver=3.85)
    shown = explore(truth, law=baseline)
    assert "event_count" in shown.noticed
    assert "event_types" not in shown.noticed
    assert not any(name.startswith("event_times") for name in shown.noticed)
    page = shown._repr_html_()
    assert "<td" in page
    assert re.search(r"event_rate_per_driver.*3\.5.*3\.85", page)


@pytest.mark.parametrize("fault", ["clumped_times", "sorted_types", "same_times_in_two_batches"])
def test_a_fault_is_noticed_by_a_test_made_for_it(baseline: Config, fault: str) -> None:
    shown = explore(baseline, fault=fault)
    assert set(shown.noticed) & set(shown.expected)
    control = next(control for control in CONTROLS if control.name == fault)
    assert shown.batches == control.batches
    assert control.fault in shown._repr_html_()
    assert shown.answers().rows[0][3] == "no"


def test_the_picture_says_what_it_shows(baseline: Config) -> None:
    """A PNG, the same twice, with the tests that object in its alt text."""
    shown = explore(baseline, fault="clumped_times")
    data, metadata = shown.plot()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["image/png"] == shown.plot().png
    alt = metadata["image/png"]["alt"]
    for name in shown.noticed:
        assert name.replace("_", " ") in alt


def test_a_truth_without_events_can_be_shown(baseline: Config) -> None:
    shown = explore(changed(baseline, event_rate_per_driver=0), law=baseline)
    assert shown.sample.n_events == 0
    assert "event_count" in shown.noticed
    assert "no event" in shown.plot().alt


def test_all_faults_are_listed() -> None:
    assert [row[0] for row in faults_table().rows] == [control.name for control in CONTROLS]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fault": "clumped_time"}, "nearest: 'clumped_times'|did you mean|clumped_times"),
        ({"batches": 0}, "a whole number from 1"),
        ({"batches": 2.5}, "a whole number from 1"),
        ({"batches": 10_000}, "up to 2000000"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    baseline: Config, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        explore(baseline, **arguments)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"number_of_companies": 7}, "number_of_companies"),
        ({"batch_interval": "PT5M"}, "batch_interval"),
        ({"event_types": {"a": 1.0}}, "event_types"),
    ],
)
def test_truth_and_law_have_to_fit(baseline: Config, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        explore(changed(baseline, **values), law=baseline)


def test_a_day_has_the_events_of_its_batches(baseline: Config) -> None:
    """Those of the driver, in order, each in its batch's interval."""
    day = driver_day(baseline, driver=7)
    assert day.batches == 96
    assert (np.diff(day.at_us) >= 0).all()
    for ordinal in (0, 1, 95):
        columns = fleetsim.generate_batch(baseline, ordinal=ordinal).columns
        own = columns.driver == 7
        here = day.at_us // baseline.interval_us == ordinal
        offsets = day.at_us[here] - ordinal * baseline.interval_us
        np.testing.assert_array_equal(offsets, columns.drawn["timestamp"][own])
        np.testing.assert_array_equal(day.kind[here], columns.drawn["event_type"][own])
    assert f"{len(day)} events in 96 batches" in day._repr_html_()
    assert "96 batches" in day.plot().alt


def test_a_day_of_no_events(baseline: Config) -> None:
    day = driver_day(changed(baseline, event_rate_per_driver=0))
    assert len(day) == 0
    assert "0 events" in day.plot().alt


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"driver": 1000}, "from 0 to 999"),
        ({"driver": "x"}, "from 0 to 999"),
        ({"day": "tomorrow"}, "a date"),
    ],
)
def test_a_day_that_is_none(baseline: Config, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        driver_day(baseline, **arguments)


def test_a_day_of_too_many_batches(baseline: Config) -> None:
    with pytest.raises(InputError, match="PT1M or longer"):
        driver_day(changed(baseline, batch_interval="PT1S"))


def test_the_explored_configuration_takes_parameters() -> None:
    config = explored_config("000-smoke", seed=np.int64(9), event_rate_per_driver=None)
    assert config.seed == 9
    with pytest.raises(InputError, match="event_rate"):
        explored_config("000-smoke", event_rate_per_driver=-1)
    with pytest.raises(InputError, match="nowhere"):
        explored_config("nowhere")


def test_rich_displays_show_content_and_escape_it() -> None:
    """Configuration, fleet, batch, test result and record; names are words, never HTML."""
    name = "<b>stop</b>"
    config = config_of(event_types={name: 1.0})
    fleet = fleetsim.make_fleet(config, at="2025-11-08T12:00:00Z")
    batch = fleetsim.generate_batch(config, companies=fleet, interval_start="2025-11-08T12:00:00Z")
    shown = [config, fleet, batch, stats.poisson_count_test(3550, 3500)]
    shown.append(fleetsim.read_run("001-baseline/reference"))
    pages = [thing._repr_html_() for thing in shown]
    assert all("<table>" in page and page.count("<tr>") > 2 for page in pages)
    assert "number_of_companies" in pages[0]
    assert "&lt;b&gt;stop" in pages[0]
    assert f"{len(fleet)} companies" in pages[1]
    assert fleet.company_id[0].tobytes().decode() in pages[1]
    assert "&lt;b&gt;stop" in pages[2]
    assert "0.4" in pages[3]
    assert "11 pass, 2 fail, 0 inconclusive" in pages[4]
    assert not any("<b>" in page for page in pages)


def test_a_fleet_in_memory_is_the_one_in_the_file(tmp_path: Path, fleetsim_cli: Cli) -> None:
    """`make_fleet` gives what `fleetsim companies --at` lists."""
    config = config_of()
    (tmp_path / "c.json").write_text(json.dumps(config.as_dict()))
    words = ["--config", tmp_path / "c.json", "--output", tmp_path / "f.jsonl"]
    assert fleetsim_cli("companies", *words, "--at", "2025-11-08T12:00:00Z").code == 0
    file = read_companies(tmp_path / "f.jsonl")
    fleet = fleetsim.make_fleet(config, at="2025-11-08T12:00:00Z")
    assert fleet.sha256 == file.sha256
    np.testing.assert_array_equal(fleet.company_id, file.company_id)
    with pytest.raises(InputError, match="at"):
        fleetsim.make_fleet(config, at="noon")
