"""What a sweep's runs say together, held to plain arithmetic, and the report that shows it."""

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_runs import failed
from scipy import stats as laws
from sweeps import LIBRARY, generate_here, smoke_project

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.sweep.analysis import SweepRecord, analyse
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.plots import SWEEP_PLOTS, draw_sweep, offered_plots
from fleetsim.sweep.report import SweepReport, open_sweep, render_sweep
from fleetsim.sweep.results import SweepResults, sweep_results
from fleetsim.sweep.rows import SHOWN, RunRow, run_rows, shown_rows
from fleetsim.sweep.run import run_sweep

SMOKE = "000-smoke"
GRID = {"number_of_companies": [5, 10, 40], "event_rate_per_driver": [2.0, 4.0]}


def make_project(folder, **changes):
    """Return a project with all criteria of 000-smoke, few replicates and another grid."""
    given = {"replicates": 20, "date": "2026-11-23", **changes}
    return smoke_project(folder, criteria=None, **given)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a finished sweep of six points with two seeds each."""
    project = make_project(tmp_path_factory.mktemp("project"), grid=GRID, seeds=2)
    sweep = plan_sweep(project, SMOKE)
    with pytest.MonkeyPatch.context() as here:  # 120 cold processes would take 20 s
        here.setattr("fleetsim.measure.cold.run_child", generate_here)
        assert run_sweep(sweep, LIBRARY).done == 12
    return sweep


@pytest.fixture
def results(swept):
    """Return the sweep's runs."""
    return sweep_results(swept)


def with_runs(results, change):
    """Return the sweep with every run's record changed."""
    runs = tuple(replace(run, record=change(run)) for run in results.runs)
    return SweepResults(results.sweep, runs)


def with_seconds(results, seconds):
    """Return the sweep as if generating had taken these times: a function of events and repeat."""

    def change(run):
        config = run.record.config
        events = (
            config["number_of_companies"]
            * config["drivers_per_company"]
            * config["event_rate_per_driver"]
        )
        times = [seconds(events, repeat) for repeat in range(10)]
        measured = msgspec.structs.replace(run.record.measurements, generation_seconds=times)
        return msgspec.structs.replace(run.record, measurements=measured)

    return with_runs(results, change)


def test_the_value_of_a_point_is_the_geometric_mean_of_its_runs(results):
    """Values and pooled intervals, by loops and SciPy's t law."""
    record = analyse(results)
    cells = record.costs["generation_seconds"]
    assert [cell.setting for cell in cells] == [
        {"number_of_companies": n, "event_rate_per_driver": r}
        for n in GRID["number_of_companies"]
        for r in GRID["event_rate_per_driver"]
    ]
    squares, logs = 0.0, []
    for start in range(0, 12, 2):
        pair = [
            np.log(np.median(run.record.measurements.generation_seconds))
            for run in results.runs[start : start + 2]
        ]
        squares += (pair[0] - pair[1]) ** 2 / 2
        logs.append(sum(pair) / 2)
    half = laws.t.ppf(0.975, 6) * np.sqrt(squares / 6) / np.sqrt(2)
    for cell, log in zip(cells, logs, strict=True):
        assert cell.value == pytest.approx(np.exp(log))
        assert cell.interval == pytest.approx((np.exp(log - half), np.exp(log + half)))
        assert cell.runs == 2
    assert cells[0].events == 5 * 5 * 2.0


def test_one_seed_gives_no_interval(results):
    """Without a second run at any point nothing says how far runs differ."""
    alone = SweepResults(results.sweep, results.runs[::2])
    record = analyse(alone)
    assert all(cell.interval is None for cell in record.costs["peak_rss"])
    assert record.spread == []
    assert "spread" not in offered_plots(record)
    draw_sweep("costs", alone, record)


def test_a_known_law_is_found_and_no_law_is_said(results):
    """Times that were made by a law give its exponent; times that do not grow give a reason."""
    made = with_seconds(results, lambda n, i: (0.1 + 2e-4 * n) * (1 + 0.002 * (-1) ** i))
    law = next(row for row in analyse(made).laws if row.quantity == "generation_seconds")
    assert law.exponent == pytest.approx(1, abs=0.02)
    assert law.startup == pytest.approx(0.1, rel=0.02)
    assert law.interval is not None
    assert law.interval[0] < 1 < law.interval[1]
    flat = with_seconds(results, lambda n, i: 0.2 + 0.001 * i)
    none = next(row for row in analyse(flat).laws if row.quantity == "generation_seconds")
    assert none.exponent is None
    assert none.note.startswith("no law: costs do not grow enough")


def test_tests_are_adjusted_over_the_whole_sweep(results):
    """A p-value that one run alone would reject may stand by chance; a smaller one does not."""

    def with_p(p_value):
        def change(run):
            if run.point.number != 3:
                return run.record
            tests = [
                msgspec.structs.replace(test, p_value=p_value, verdict="fail")
                if test.name == "event_count"
                else test
                for test in run.record.tests
            ]
            return msgspec.structs.replace(run.record, tests=tests)

        return analyse(with_runs(results, change))

    before = analyse(results)
    many = before.tests
    assert many > 12 * 15
    chance = with_p(0.06 / many)
    assert (chance.rejections, chance.alarms) == ([], before.alarms + 1)
    assert chance.expected_false_alarms == pytest.approx(12 * 0.05)
    found = with_p(0.04 / many)
    assert [(row.test, row.setting, row.seed) for row in found.rejections] == [
        ("event_count", {"number_of_companies": 5, "event_rate_per_driver": 4.0}, 8)
    ]
    assert found.rejections[0].p_holm == pytest.approx(0.04)


def test_the_report_says_where_a_criterion_fails(results, swept):
    """A criterion's row counts its verdicts and names the points at which it ever fails."""

    def change(run):
        slow = run.record.config["number_of_companies"] == 40
        criteria = [
            msgspec.structs.replace(row, verdict="fail")
            if slow and row.id == "generation_time"
            else row
            for row in run.record.criteria
        ]
        return msgspec.structs.replace(run.record, criteria=criteria)

    row = analyse(with_runs(results, change)).criteria[0]
    assert row.counts == {"pass": 8, "fail": 4, "inconclusive": 0}
    assert [setting["number_of_companies"] for setting in row.fails_at] == [40, 40]
    report = SweepReport(swept)
    report.record = analyse(with_runs(results, change))
    text = str(report.criteria())
    assert "number_of_companies 40, event_rate_per_driver 2.0; number_of_companies 40" in text


def test_counts_over_seeds_are_held_to_their_law(results):
    """Variance over mean of each point, and its test, adjusted over the points."""
    for row in analyse(results).spread:
        mean = sum(row.counts) / 2
        assert row.ratio == pytest.approx((row.counts[0] - row.counts[1]) ** 2 / 2 / mean)
        assert row.p_holm >= row.p_value


def test_every_plot_that_is_offered_can_be_drawn(results):
    """And its alt text tells what it shows."""
    record = analyse(results)
    assert offered_plots(record) == list(SWEEP_PLOTS)
    told = {name: draw_sweep(name, results, record)[1] for name in SWEEP_PLOTS}
    assert "Over number_of_companies: generation time from" in told["costs"]
    for row in record.criteria:
        failed = row.counts["fail"]
        assert (f"{row.id} fails in {failed} of 12" in told["verdicts"]) == (failed > 0)
    assert "6 points with 2 seeds each" in told["spread"]


def test_a_grid_of_words_has_no_axis_of_numbers(tmp_path, monkeypatch):
    """Costs over a parameter that is text are not drawn as a curve; verdicts are."""
    grid = {"batch_interval": ["PT5M", "PT15M"]}
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    sweep = plan_sweep(make_project(tmp_path, grid=grid, seeds=2), SMOKE)
    run_sweep(sweep, LIBRARY)
    results = sweep_results(sweep)
    record = analyse(results)
    assert offered_plots(record) == ["verdicts", "laws", "spread"]
    for name in offered_plots(record):
        draw_sweep(name, results, record)


@pytest.mark.notebook
def test_the_sweeps_notebook_makes_its_report(swept, monkeypatch):
    """The page loads nothing, has no script, and tells what the record holds."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(swept.project.root))
    html = render_sweep(swept).read_text(encoding="utf-8")
    assert "<script" not in html
    assert not re.search(r"src=\"(?!data:)", html)
    links = re.findall(r"href=\"(?!data:|#)([^\"]*)", html)  # to what stands beside the page
    assert not [link for link in links if ":" in link or link.startswith("/")]
    assert {"sweep.json", "sweep.ipynb", "../index.html"} < set(links)
    assert len(links) == 3 + 12  # and the page of each run
    assert all((swept.folder / link).is_file() for link in links)
    assert html.count('<td data-label="CPU">n/a</td>') == 12
    assert html.count("<h1") == 1
    gallery = (swept.results / "index.html").read_text(encoding="utf-8")
    assert f'href="{SMOKE}/sweep.html"' in gallery
    assert "12 of 12 runs completed" in html
    assert len(re.findall(r"<img[^>]* alt=\"[^\"]{40,}", html)) == len(SWEEP_PLOTS)
    record = msgspec.json.decode((swept.folder / "sweep.json").read_bytes(), type=SweepRecord)
    assert record == analyse(sweep_results(swept))
    notebook = (swept.folder / "sweep.ipynb").read_text(encoding="utf-8")
    assert str(swept.project.root) not in notebook
    assert {path.stem for path in (swept.folder / "sweep-figures").iterdir()} == set(SWEEP_PLOTS)


def test_each_run_has_a_row(results):
    """Parameters, seed, answer, verdicts and medians of the costs, as its record has them."""
    rows = run_rows(results)
    assert [row.number for row in rows] == list(range(1, 13))
    for row, run in zip(rows, results.runs, strict=True):
        measured = run.record.measurements
        assert {**row.setting, "seed": row.seed} == run.point.parameters
        assert row.run == run.record.run_id
        assert row.answer == run.record.answer.verdict
        assert row.counts == run.verdicts()
        assert row.fails == [c.title for c in run.record.criteria if c.verdict == "fail"]
        assert row.seconds == np.median(measured.generation_seconds)
        assert row.peak_bytes == np.median(measured.peak_rss_bytes)
        assert row.cpu_seconds is None  # nothing measures it


def test_runs_that_failed_or_are_missing_have_a_row_too(results):
    """With nothing measured, and the failed one with its folder."""
    first = results.runs[0]
    broken = replace(first, record=failed(first.record))
    rows = run_rows(SweepResults(results.sweep, (broken, *results.runs[2:])))
    assert [row.answer for row in rows[:2]] == ["run failed", "not run"]
    assert (rows[0].run, rows[1].run) == (first.path.name, None)
    assert rows[0].counts == rows[1].counts == {}
    assert rows[0].seconds is rows[1].seconds is None


def test_a_long_sweep_shows_first_what_went_wrong():
    """A page shows some rows; a short sweep all of them, in their order."""
    good = {"counts": {"pass": 1}, "answer": "supported"}
    rows = [RunRow(number=n, setting={}, seed=7, **good) for n in range(1, SHOWN + 100)]
    assert shown_rows(rows[:SHOWN]) == rows[:SHOWN]
    rows[250] = RunRow(number=251, setting={}, seed=7, answer="run failed")
    rows[260] = RunRow(number=261, setting={}, seed=7, answer="open", fails=["Time"])
    unsure = {"pass": 1, "inconclusive": 1}
    rows[270] = RunRow(number=271, setting={}, seed=7, answer="supported", counts=unsure)
    rows[0] = RunRow(number=1, setting={}, seed=7)
    shown = shown_rows(rows)
    assert [row.number for row in shown[:5]] == [251, 261, 271, 2, 3]
    assert len(shown) == SHOWN
    assert rows[0] not in shown  # not run


def test_tables_of_many_points_are_cut_and_say_so(swept):
    """So that no page grows with the sweep."""
    report = SweepReport(swept)
    row = report.record.spread[0]
    report.record = msgspec.structs.replace(report.record, spread=[row] * 1000)
    table = report.spread()
    assert len(table.rows) == SHOWN
    assert table.fold == f"the first {SHOWN} of 1000"
    assert f"The first {SHOWN} of 1000 rows." in table.caption


def test_a_large_plot_is_an_image_of_points(swept, monkeypatch):
    """An SVG that grows with the sweep stays beside the page, which shows the PNG."""
    report = SweepReport(swept)
    assert report.plot("verdicts").svg is not None
    monkeypatch.setattr("fleetsim.sweep.report.LARGEST_SVG", 1000)
    assert report.plot("verdicts").svg is None
    assert (swept.folder / "sweep-figures" / "verdicts.svg").is_file()


def test_a_sweep_without_runs_has_no_report(tmp_path, monkeypatch):
    """What is missing is said, with what to do about it."""
    project = make_project(tmp_path, grid=GRID)
    monkeypatch.setenv("FLEETSIM_ROOT", str(project.root))
    with pytest.raises(FleetsimError, match="run fleetsim sweep first"):
        open_sweep(SMOKE, engine="none")
    with pytest.raises(InputError, match="engine: found 'fast'"):
        open_sweep(SMOKE, engine="fast")


def test_the_report_of_another_plot_is_refused(swept):
    """An unknown plot is an error that lists the known ones."""
    with pytest.raises(InputError, match="allowed: costs, heat"):
        SweepReport(swept).plot("cost")


def test_hostile_words_of_an_experiment_stay_words(swept):
    """Nothing that an experiment says becomes part of the page."""
    from nbformat.v4 import new_notebook

    from fleetsim.report.html import render_html

    record = analyse(sweep_results(swept))
    words = '<img src=x onerror="alert(1)">'
    hostile = msgspec.structs.replace(record, title=words, question=words, names=[words])
    text = msgspec.json.encode(hostile).decode()
    html = render_html(new_notebook(metadata={"fleetsim": {"sweep": text}}))
    assert "<img" not in html
    assert "&lt;img" in html
