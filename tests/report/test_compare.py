"""Comparisons of two runs: their level and power, what they refuse to test, and the gate."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_runs import (
    EXPERIMENT,
    PROVENANCE,
    failed,
    made_record,
    measured,
    with_verdict,
    write_run,
)
from scipy import stats as scipy_stats
from support import AT_US, quick_and_full

from fleetsim.base.files import point_link
from fleetsim.experiment.record import read_record
from fleetsim.generate.config import make_config
from fleetsim.report.compare.compare import compare_runs, compare_whole
from fleetsim.report.compare.page import comparison_text, render_comparison
from fleetsim.report.compare.readback import RunData, WholeRun, read_back
from fleetsim.report.compare.rows import cost_rows
from fleetsim.stats.controls import CONTROLS
from fleetsim.stats.draws import draw_columns, sample_of
from fleetsim.tally.batches import Tally

DATA = ("event_rate", "event_types", "driver_counts", "event_times")
COSTS = ("generation_time", "process_time", "memory_peak")


def run_of(seed, columns=None, factor=1.0, **parameters):
    """Return a run as if it had been read: data drawn in memory, measurements of a seed."""
    record = made_record(seed=seed, **parameters)
    config = make_config(record.config)
    sample = sample_of(draw_columns(config) if columns is None else columns(config), config)
    tally = Tally(("x",), (), sample.n_events, (sample,), ((0, 1),), 0, 0, (), {})
    data = RunData(config, tally, (f"sha of {seed}",), (1,))
    record = msgspec.structs.replace(record, measurements=measured(seed, factor))
    return WholeRun(Path(f"run {seed} {parameters}"), record, data, "")


def rows_of(comparison):
    """Return the rows by their names."""
    return {row.name: row for row in comparison.rows}


ALPHA = 0.05


def by_chance(pairs):
    """Return the fewest and most rejections of honest pairs, but for 1e-6 on either side."""
    return (int(scipy_stats.binom.ppf(p, pairs, ALPHA)) for p in (1e-6, 1 - 1e-6))


@pytest.fixture
def quick(monkeypatch):
    """Make few resamples for the intervals of times, which no p-value rests on."""
    monkeypatch.setattr("fleetsim.stats.two_samples.RESAMPLES", 99)


@quick_and_full("pairs", 60, 300)
def test_honest_pairs_are_told_apart_at_the_level(quick, pairs):
    """By a comparison as a whole no more often; by each of its tests at about the level."""
    least, most = by_chance(pairs)
    shown, single, covered = 0, dict.fromkeys((*DATA, *COSTS), 0), 0
    for pair in range(pairs):
        rows = rows_of(compare_whole(run_of(2 * pair), run_of(2 * pair + 1), alpha=ALPHA))
        assert set(rows) == {"structure", *single}
        shown += any(row.outcome == "differs" for row in rows.values())
        for name in single:
            single[name] += rows[name].result.p_value < ALPHA
        low, high = rows["event_rate"].result.interval
        covered += low <= 1 <= high
    assert shown <= most
    assert all(least <= hits <= most for hits in single.values()), single
    assert covered >= pairs - most


@quick_and_full("pairs", 60, 300)
def test_tied_measurements_keep_the_level(quick, pairs):
    """Times of a coarse clock and memory in large pages: half of the values are tied."""
    least, most = by_chance(pairs)
    hits = dict.fromkeys(COSTS, 0)
    for pair in range(pairs):
        a, b = (
            WholeRun(
                Path(f"{pair}-{side}"),
                msgspec.structs.replace(
                    made_record(), measurements=measured(2 * pair + side, tied=True)
                ),
                None,
                "",
            )
            for side in (0, 1)
        )
        for row in cost_rows(a, b):
            hits[row.name] += row.result.p_value < ALPHA
    assert all(least <= n <= most for n in hits.values()), hits


LARGE = {"number_of_companies": 200}


def faulty(config):
    """Draw a rate 10 % above the one that the configuration states."""
    return draw_columns(
        make_config(config.as_dict(), {"event_rate_per_driver": 1.1 * config.event_rate_per_driver})
    )


def test_a_rate_ten_per_cent_off_is_found():
    """In 10 of 10 pairs of 12000 events, and it is worse whichever run has more."""
    fleet = {"number_of_companies": 600}
    for seed in range(10):
        a = run_of(2 * seed, **fleet)
        b = run_of(2 * seed + 1, faulty, **fleet)
        for one, other in ((a, b), (b, a)):
            comparison = compare_whole(one, other)
            row = rows_of(comparison)["event_rate"]
            assert (row.outcome, row.worse) == ("differs", True), row
            assert any(finding.startswith("event_rate: ") for finding in comparison.findings)


def clustered(config):
    """Draw negative binomial counts of drivers, with the honest mean."""
    control = next(c for c in CONTROLS if c.name == "negative_binomial_counts")
    return control.draw(config, 1)


def moved(config):
    """Draw other weights of two types."""
    weights = {"start driving": 0.33, "stopped driving": 0.42, "delivered": 0.25}
    return draw_columns(make_config({**config.as_dict(), "event_types": weights}))


def later(config):
    """Draw times that grow more frequent towards the end of the interval."""
    columns = draw_columns(config)
    share = columns.offset_us / config.interval_us
    return replace(columns, offset_us=(np.sqrt(share) * config.interval_us).astype(np.int64))


@pytest.mark.parametrize(
    ("columns", "name"),
    [(clustered, "driver_counts"), (moved, "event_types"), (later, "event_times")],
)
def test_each_law_has_a_row_that_sees_it_change(columns, name):
    """Counts of drivers, types and times; the total is as it was."""
    rows = rows_of(compare_whole(run_of(1, **LARGE), run_of(2, columns, **LARGE)))
    assert (rows[name].outcome, rows[name].worse) == ("differs", True)
    assert rows["event_rate"].outcome == "not shown"


@pytest.mark.parametrize(
    ("factor", "tolerance", "worse"),
    [(1.3, 0.1, True), (1.3, 0.5, False), (1.05, 0.1, False), (1.05, 0.0, True), (0.7, 0.0, False)],
)
def test_only_growth_beyond_the_tolerance_is_worse(factor, tolerance, worse):
    """All of these differ; faster is no fault, and slower only above the tolerance."""
    comparison = compare_whole(run_of(1), run_of(2, factor=factor), tolerance=tolerance)
    row = rows_of(comparison)["generation_time"]
    assert row.outcome == "differs"
    assert row.worse is worse
    assert bool(comparison.findings) is worse
    low, high = row.result.interval
    assert low < factor < high
    beyond = "not shown to exceed the tolerance" in row.sentence
    assert beyond is (factor > 1 and not worse)


def test_another_configured_rate_is_expected_and_held_against_the_configuration():
    """The rate itself has no p; its ratio to the configured one has, and finds a fault."""
    other = {"event_rate_per_driver": 5.0}
    for columns, outcome in ((None, "not shown"), (faulty, "differs")):
        comparison = compare_whole(run_of(3, **LARGE), run_of(4, columns, **LARGE, **other))
        rows = rows_of(comparison)
        assert rows["event_rate"].outcome == rows["driver_counts"].outcome == "expected"
        assert rows["event_rate"].result.p_value is None
        assert "ask for 1.25 times" in rows["event_rate"].sentence
        assert rows["event_rate_by_configuration"].outcome == outcome
        assert rows["event_types"].result.p_value is not None
        for name in COSTS:
            assert rows[name].outcome == "expected"
            assert "event_rate_per_driver" in rows[name].sentence
    assert [f.split(":")[0] for f in comparison.findings] == ["event_rate_by_configuration"]


def test_a_rate_of_nothing_has_no_ratio():
    """Neither division by zero nor a p-value, and strict JSON."""
    comparison = compare_whole(run_of(3), run_of(4, event_rate_per_driver=0.0))
    rows = rows_of(comparison)
    assert rows["event_rate_by_configuration"].outcome == "not compared"
    assert rows["event_types"].outcome == "not compared"
    both = compare_whole(run_of(3, event_rate_per_driver=0.0), run_of(5, event_rate_per_driver=0.0))
    assert rows_of(both)["event_rate"].outcome == "not compared"
    for one in (comparison, both):
        json.dumps(one.as_dict(), allow_nan=False)
        assert comparison_text(one)
        assert render_comparison(one)


def test_other_intervals_compare_by_the_hour():
    """Four events in 15 minutes and 8 in 30 are one rate an hour: a test, and none expected."""
    comparison = compare_whole(
        run_of(5, **LARGE),
        run_of(6, **LARGE, batch_interval="PT30M", event_rate_per_driver=8.0),
    )
    assert rows_of(comparison)["event_rate"].outcome == "not shown"
    assert "event_rate_by_configuration" not in rows_of(comparison)


def test_times_beside_other_work_are_not_compared():
    """Memory is; the page says which load there was, and what to do."""
    b = run_of(2, factor=2.0)
    loaded = {**PROVENANCE, "load_average": 3.5, "cores": 2}
    record = msgspec.structs.replace(b.record, provenance=loaded)
    a = msgspec.structs.replace(run_of(1).record, provenance={**PROVENANCE, "cores": 2})
    comparison = compare_whole(replace(run_of(1), record=a), replace(b, record=record))
    rows = rows_of(comparison)
    assert rows["generation_time"].outcome == rows["process_time"].outcome == "not compared"
    assert "B was measured beside other work (load average 3.5 on 2 cores" in (
        rows["generation_time"].sentence
    )
    assert rows["memory_peak"].outcome != "not compared"
    assert any("Run both again on one quiet machine" in note for note in comparison.notes)
    assert not [text for text in comparison.findings if "_time" in text]


def test_another_machine_is_not_tested():
    """Its times are not comparable, and no regression."""
    b = run_of(2, factor=2.0)
    record = msgspec.structs.replace(b.record, provenance={**PROVENANCE, "cpu_model": "another"})
    comparison = compare_whole(run_of(1), replace(b, record=record))
    row = rows_of(comparison)["generation_time"]
    assert (row.outcome, row.result.p_value, comparison.findings) == ("not compared", None, ())
    assert "different machines" in row.sentence
    assert ("cpu_model", "a machine", "another") in [
        (d.name, d.a, d.b) for d in comparison.differences
    ]


def test_one_seed_under_two_configurations_shares_draws():
    """It is said that p-values are then too large."""
    comparison = compare_whole(run_of(9), run_of(9, event_rate_per_driver=4.5))
    assert any("share draws" in note for note in comparison.notes)


def test_the_family_is_adjusted_together():
    """Holm's procedure over every p-value of the comparison."""
    rows = compare_whole(run_of(11), run_of(12, factor=1.02)).rows
    pairs = sorted((r.result.p_value, r.p_holm) for r in rows if r.p_holm is not None)
    assert len(pairs) == 7
    worst = 0.0
    for place, (p, adjusted) in enumerate(pairs):
        worst = max(worst, min(1.0, p * (7 - place)))
        assert adjusted == pytest.approx(worst)


# --- runs on the disk


@pytest.fixture
def pair(tmp_path):
    """Return a function that writes two runs with data of their own and compares them."""

    def make(a=None, b=None, **options):
        first = a or msgspec.structs.replace(made_record("a", seed=1), measurements=measured(1))
        second = b or msgspec.structs.replace(made_record("b", seed=2), measurements=measured(2))
        later = options.pop("later", 0)
        folders = (
            write_run(tmp_path / "results", first, data=True),
            write_run(tmp_path / "results", second, data=True, at_us=AT_US + later),
        )
        return folders

    return make


def test_the_data_are_read_back_from_the_files(pair):
    """A line that was taken away is missing from the counts, and a fault."""
    one, other = pair()
    path = next(other.glob("data/raw/events/*/events.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:200]))
    comparison = compare_runs(one, other)
    rows = rows_of(comparison)
    assert read_back(other).data.events == 200
    assert rows["structure"].worse
    assert rows["event_rate"].worse
    assert "B has 0.4" in rows["event_rate"].sentence
    assert not rows_of(compare_runs(other, one))["structure"].worse


@pytest.mark.parametrize("later", [0, 3_600_000_000])
def test_identical_content_is_said_and_not_tested(pair, later):
    """One seed, one configuration: no p of data, byte for byte where the intervals agree."""
    first = made_record("a", seed=3)
    one, other = pair(first, msgspec.structs.replace(first, run_id="b"), later=later)
    comparison = compare_runs(one, other)
    rows = rows_of(comparison)
    assert set(rows) == {"structure", "content", "cost"}
    assert (rows["content"].outcome, rows["content"].result) == ("same", None)
    words = "different moments" if later else "byte for byte (SHA-256"
    assert words in rows["content"].sentence
    assert comparison.findings == ()


def test_one_seed_with_other_data_is_worse(pair):
    """What should be the same and is not, is a finding; so is a copy under another seed."""
    first = made_record("a", seed=3)
    one, other = pair(first, msgspec.structs.replace(first, run_id="b"))
    path = next(other.glob("data/raw/events/*/events.jsonl"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert rows_of(compare_runs(one, other))["content"].worse
    record = made_record("a", seed=4)
    copy = other.with_name("copy")
    shutil.copytree(one, copy)
    (copy / "result.json").write_bytes(record.encode())
    content = rows_of(compare_runs(one, copy))["content"]
    assert (content.outcome, content.worse) == ("same", True)
    assert "although their seeds differ" in content.sentence


def test_a_run_with_itself(pair):
    """Nothing differs, nothing is tested, nothing is worse."""
    one, _ = pair()
    comparison = compare_runs(one, one)
    assert (comparison.differences, comparison.findings) == ((), ())
    assert "one and the same run" in comparison.notes[0]
    assert all(row.p_holm is None and row.outcome == "same" for row in comparison.rows)
    assert "Nothing is worse in B. No test could be made." in comparison_text(comparison)


def test_what_a_run_lacks_is_said_and_closes_the_gate_only_for_b(tmp_path):
    """No data never reads as passed."""
    full = msgspec.structs.replace(made_record("a", seed=1), measurements=measured(1))
    one = write_run(tmp_path, full, data=True)
    bare = write_run(tmp_path, made_record("b", seed=2))
    lost = compare_runs(one, bare)
    assert [row.outcome for row in lost.rows] == ["not compared"] * 2
    assert len(lost.findings) == 2
    assert "B: it has no data" in lost.rows[0].sentence
    assert compare_runs(bare, one).findings == ()
    (one / "data" / "raw" / "companies.jsonl").unlink()
    assert "its data cannot be read" in compare_runs(bare, one).rows[0].sentence


def test_verdicts_that_turn(tmp_path):
    """From pass to fail or inconclusive is worse; from fail to pass is a change."""
    good = made_record("a", seed=1)
    one = write_run(tmp_path, good)
    for verdict in ("fail", "inconclusive"):
        bad = with_verdict(msgspec.structs.replace(good, run_id=verdict), "memory_peak", verdict)
        other = write_run(tmp_path, bad)
        assert compare_runs(one, other).findings == (
            f"memory_peak: pass in A, {verdict} (1 MB) in B.",
        )
        back = compare_runs(other, one)
        assert [c.criterion for c in back.verdicts] == ["memory_peak"]
        assert back.findings == ()
    gone = msgspec.structs.replace(good, run_id="gone", criteria=good.criteria[1:])
    other = write_run(tmp_path, gone)
    assert compare_runs(one, other).findings == ("generation_time: pass in A, not judged in B.",)
    down = write_run(tmp_path, failed(msgspec.structs.replace(good, run_id="down")))
    assert compare_runs(one, down).findings == ("status: A completed, B failed (DeadKernelError).",)


def test_the_reference_run_compares_with_a_calibration(tmp_path):
    """A run that measures no data has neither counts nor times; the rest is compared."""
    record = made_record("c", seed=1)
    record = msgspec.structs.replace(
        record,
        experiment="003-calibration",
        description=msgspec.structs.replace(record.description, interval=""),
    )
    reference = Path(__file__).parents[2] / "results" / "001-baseline" / "reference"
    comparison = compare_runs(write_run(tmp_path, record), reference)
    assert "A: it measures no data" in comparison.rows[0].sentence
    assert "different experiments" in comparison.notes[0]
    assert comparison.findings == ()
    assert read_record(reference).experiment == "001-baseline"


# --- the command


def test_the_command_gates(fleetsim_cli, pair, tmp_path):
    """Exit code 3 only with --strict; the page stands in the results; JSON is strict."""
    results = tmp_path / "results"
    slow = msgspec.structs.replace(made_record("b", seed=2), measurements=measured(2, factor=2))
    pair(b=slow)
    point_link(results / EXPERIMENT / "latest", "b")
    names = (f"{EXPERIMENT}/a", EXPERIMENT, "--results", results)
    done = fleetsim_cli("compare", *names)
    assert (done.code, done.err) == (0, "")
    assert "B differs in generation_time, process_time, memory_peak" in " ".join(done.out.split())
    assert done.out.index("seed") < done.out.index("event_rate")
    assert max(map(len, done.out.splitlines())) <= 110
    page = results / "compare" / "a-b.html"
    assert done.out.rstrip().endswith(str(page))
    assert re.search(r"B generates in (1\.9|2\.0)", page.read_text())
    assert fleetsim_cli("compare", *names, "--strict").code == 3
    assert fleetsim_cli("compare", *names, "--strict", "--tolerance", 5).code == 0
    base = ("compare", "--baseline", f"{EXPERIMENT}/a", "--results", results)
    assert fleetsim_cli(*base, "--strict").code == 3
    assert fleetsim_cli(*base, f"{EXPERIMENT}/a", "--strict").code == 0
    own = tmp_path / "new" / "page.html"
    done = fleetsim_cli(*base, "--json", "--html", own)
    found = json.loads(done.out, parse_constant=pytest.fail)
    assert {"a", "b", "differences", "rows", "verdicts", "findings", "notes"} <= set(found)
    assert len(found["findings"]) == 3
    assert own.is_file()
    assert sorted(path.name for path in own.parent.iterdir()) == ["page.html"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("one",), "Give two runs"),
        (("one", "two", "three"), "Give two runs"),
        (("--baseline", "one", "two", "three"), "at most one run"),
        (("--baseline", f"{EXPERIMENT}/b"), "is the baseline itself"),
        ((f"{EXPERIMENT}/a", "nothing"), "allowed: a run's folder"),
        ((f"{EXPERIMENT}/a", f"{EXPERIMENT}/b", "--alpha", "0"), "alpha"),
    ],
)
def test_bad_usage_of_the_command(fleetsim_cli, tmp_path, words, message):
    """One message, exit code 2, and no page."""
    for name in ("a", "b"):
        write_run(tmp_path, made_record(name))
    point_link(tmp_path / EXPERIMENT / "latest", "b")
    done = fleetsim_cli("compare", *words, "--results", tmp_path)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "compare").exists()


def test_the_page_escapes_and_holds_no_script(tmp_path):
    """Names and values of a record are text, whatever they hold."""
    hostile = "<script>alert(1)</script>"
    record = made_record("a", seed=1)
    record = msgspec.structs.replace(
        record,
        experiment=hostile,
        parameters={**record.parameters, hostile: hostile},
        provenance={**PROVENANCE, "cpu_model": hostile},
    )
    folder = tmp_path / "x" / "a"
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(record.encode())
    other = write_run(tmp_path, made_record("b", seed=2))
    text = render_comparison(compare_runs(folder, other))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 4
    assert "default-src 'none'; img-src data:" in text
    assert re.search(r"<h1>.*?<h2>", text, re.DOTALL)
