"""Each criterion's verdict, case by case, on evidence made by hand: DESIGN, section 7."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from analysis import (
    baseline,
    config_of,
    criterion,
    hand_made,
    quick_repeats,
    tally_of,
)
from support import all_criteria, judge

from fleetsim import stats
from fleetsim.base.verdict import Verdict
from fleetsim.kinds.baseline.criteria import Judgement, margins
from fleetsim.kinds.baseline.evidence import Evidence, gather
from fleetsim.measure.cold import DataSet, Repeat, generate_data
from fleetsim.stats import power
from fleetsim.stats.battery import BATTERY, family_size
from fleetsim.stats.judged import Test
from fleetsim.tally.batches import tally_batches
from fleetsim.tally.faults import Fault, FaultKind

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def counts_of(total: int) -> npt.NDArray[np.int64]:
    """Return 1000 drivers' counts with this total."""
    return np.random.default_rng(1).multinomial(total, np.full(1000, 1e-3))


def of_count(total: int) -> Evidence:
    """Return evidence of a batch with so many events, everything else as it should be."""
    return hand_made(tally=tally_of(counts=counts_of(total)))


@pytest.mark.parametrize(
    ("total", "verdict"), [(4499, FAIL), (4500, PASS), (5000, PASS), (5500, PASS), (5501, FAIL)]
)
def test_a_stated_count_includes_its_limits(total: int, verdict: Verdict) -> None:
    """4500 <= count <= 5500 passes, anything else fails."""
    claim = criterion("event_count_range", low=4500, high=5500)
    judgement = judge(claim, of_count(total))
    assert judgement.verdict is verdict
    assert judgement.observed == total
    assert (judgement.low, judgement.high) == (4500, 5500)


def test_a_stated_count_that_fails_says_how_unlikely_it_was() -> None:
    """The configuration is named as the reason, with the probability."""
    note = judge(criterion("event_count_range", low=4500, high=5500), of_count(3473)).note
    assert "3473 events lie outside 4500 to 5500" in note
    assert "makes 3500 on average" in note
    assert "probability < 1 in a million" in note


@pytest.mark.parametrize(
    ("total", "verdict"), [(3150, FAIL), (3349, PASS), (3500, PASS), (3650, PASS), (3850, FAIL)]
)
def test_the_expected_count_needs_range_and_test(total: int, verdict: Verdict) -> None:
    """3150 lies within ten percent, and the exact test denies it: both have to hold."""
    judgement = judge(criterion("event_count_law", tolerance=0.10), of_count(total))
    assert judgement.verdict is verdict
    assert (judgement.low, judgement.high) == (3150, 3850)


def test_the_tolerance_decides_where_the_test_does_not() -> None:
    """A count that the test keeps fails outside of a narrow range, and passes at its edge."""
    evidence = of_count(3535)
    assert judge(criterion("event_count_law", tolerance=0.01), evidence).verdict is PASS
    assert judge(criterion("event_count_law", tolerance=0.00999), evidence).verdict is FAIL


def with_p(evidence: Evidence, name: str, p_holm: float | None) -> Evidence:
    """Return evidence in which one test has another adjusted p-value."""
    tests = tuple(
        msgspec.structs.replace(t, p_holm=p_holm) if t.name == name else t for t in evidence.tests
    )
    return replace(evidence, tests=tests)


@pytest.mark.parametrize(
    ("p_holm", "count", "types"),
    [(0.05, PASS, PASS), (math.nextafter(0.05, 0), FAIL, FAIL), (0.0, FAIL, FAIL), (1, PASS, PASS)],
)
def test_the_adjusted_p_decides_at_alpha(p_holm: float, count: Verdict, types: Verdict) -> None:
    """p_holm >= .05 is kept, less is not."""
    evidence = of_count(3500)
    law = criterion("event_count_law", tolerance=0.10)
    weights = criterion("event_type_law", tolerance=0.05)
    assert judge(law, with_p(evidence, "event_count", p_holm)).verdict is count
    assert judge(weights, with_p(evidence, "event_types", p_holm)).verdict is types


@pytest.mark.parametrize(
    ("types", "margin", "verdict"),
    [
        ((1400, 1225, 875), 0.05, PASS),
        ((1400, 1225, 875), 0.005, OPEN),  # no 90 % interval is that short
        ((1250, 1225, 1025), 0.05, FAIL),
        ((1250, 1225, 1025), 0.5, FAIL),  # far inside the margin, and still not the weights
        ((0, 0, 0), 0.05, OPEN),
    ],
)
def test_types_pass_fail_or_stay_open(
    types: tuple[int, ...], margin: float, verdict: Verdict
) -> None:
    """A small p fails; an interval that reaches beyond the margin leaves it open."""
    counts = counts_of(sum(types))
    evidence = hand_made(tally=tally_of(counts=counts, types=types))
    judgement = judge(criterion("event_type_law", tolerance=margin), evidence)
    assert judgement.verdict is verdict
    assert (judgement.observed is None) == (sum(types) == 0)


def test_types_pass_up_to_their_margin() -> None:
    """A margin that the widest interval just reaches is enough, one below is not."""
    evidence = hand_made(tally=tally_of(counts=counts_of(3500), types=(1400, 1225, 875)))
    reach = 1.6448536269514722 * math.sqrt(0.4 * 0.6 / 3500)
    assert judge(criterion("event_type_law", tolerance=reach + 1e-12), evidence).verdict is PASS
    assert judge(criterion("event_type_law", tolerance=reach - 1e-12), evidence).verdict is OPEN


@pytest.mark.parametrize(
    ("values", "time", "memory"),
    [((4.999, 1.0), PASS, PASS), ((5.0, 1.0), OPEN, OPEN), ((1.0, 5.001), FAIL, FAIL)],
)
def test_the_largest_of_the_repeats_decides(
    values: tuple[float, ...], time: Verdict, memory: Verdict
) -> None:
    """Below passes, above fails; exactly the limit is neither."""
    repeats = tuple(Repeat(0.1, v, 0.2, round(v * 100e6)) for v in values)
    evidence = hand_made(repeats=repeats)
    judgement = judge(criterion("generation_time", high=5), evidence)
    assert (judgement.verdict, judgement.observed) == (time, max(values))
    judgement = judge(criterion("memory_peak", high=500), evidence)
    assert (judgement.verdict, judgement.observed) == (memory, max(values) * 100)


def test_a_fixed_interval_is_timed_by_the_monotonic_clock() -> None:
    """The document's formula is a duration only where the interval starts at the trigger."""
    repeats = (Repeat(0.5, 9e9, 1.0, 1),) * 3
    judgement = judge(
        criterion("generation_time", high=5),
        hand_made(repeats=repeats, interval="2025-11-08T12:00:00.000000Z"),
    )
    assert judgement.observed == 0.5
    assert "monotonic" in judgement.note


def limits_of_variation(spread: float) -> tuple[float, float, tuple[Repeat, ...]]:
    """Return the 95 % interval of the CV and the runs that it is of."""
    seconds = tuple(1 + spread * math.sin(i) for i in range(30))
    repeats = tuple(Repeat(0.1, s, 0.2, 1) for s in seconds)
    return (*stats.variation_interval(seconds), repeats)


def test_the_whole_interval_of_the_variation_decides() -> None:
    """Its upper end below the limit passes, its lower end above fails, in between is open."""
    below, above, repeats = limits_of_variation(0.2)
    evidence = hand_made(repeats=repeats)

    def verdict(high: float) -> Verdict:
        return judge(criterion("generation_time_variation", high=high), evidence).verdict

    assert verdict(above + 1e-9) is PASS
    assert verdict(above) is OPEN
    assert verdict(below) is OPEN
    assert verdict(below - 1e-9) is FAIL


def test_the_variation_is_shown_by_resampling_too() -> None:
    """The bootstrap interval beside the verdict is the same every time, and near the other one."""
    below, above, repeats = limits_of_variation(0.2)
    notes = {
        judge(criterion("generation_time_variation", high=0.2), hand_made(repeats=repeats)).note
        for _ in range(2)
    }
    (note,) = notes
    low, high = (float(text) / 100 for text in re.findall(r"gives ([\d.]+) to ([\d.]+) %", note)[0])
    assert below * 0.7 < low < high < above * 1.1


@pytest.mark.parametrize("n", [0, 1])
def test_no_verdict_on_no_runs(n: int) -> None:
    """One run has no variation, and none has neither time nor memory."""
    evidence = hand_made(repeats=quick_repeats((0.1,) * n))
    assert judge(criterion("generation_time_variation", high=0.2), evidence).verdict is OPEN
    if n == 0:
        for kind in ("generation_time", "memory_peak"):
            judgement = judge(criterion(kind, high=5), evidence)
            assert (judgement.verdict, judgement.observed) == (OPEN, None)


@pytest.mark.parametrize(
    ("size", "verdict"),
    [(999_999, FAIL), (1_000_000, PASS), (2_000_000, PASS), (2_000_001, FAIL)],
)
def test_the_stated_size_is_that_on_the_disk(size: int, verdict: Verdict) -> None:
    """1.0 <= MB <= 2.0 of allocated blocks, the limits included."""
    evidence = hand_made(tally=tally_of(batch_disk_bytes=size, batch_bytes=5))
    judgement = judge(criterion("batch_size_range", low=1, high=2), evidence)
    assert judgement.verdict is verdict
    assert judgement.observed == size / 1e6


def test_the_expected_size_is_that_of_the_files() -> None:
    """Within ten percent of configured mean x bytes of a line, the limits included."""
    claim = criterion("batch_size_law", tolerance=0.10)
    limits = judge(claim, hand_made())
    assert limits.verdict is PASS
    assert limits.low == pytest.approx(0.802, abs=1e-3)
    for low, size, verdict in (
        (True, math.ceil(limits.low * 1e6), PASS),
        (True, math.ceil(limits.low * 1e6) - 1, FAIL),
        (False, math.floor(limits.high * 1e6), PASS),
        (False, math.floor(limits.high * 1e6) + 1, FAIL),
    ):
        judgement = judge(claim, hand_made(tally=tally_of(batch_bytes=size)))
        assert judgement.verdict is verdict, low


def spread_of(ratio: float, n: int = 2000) -> Evidence:
    """Return evidence whose replicates have about this variance/mean."""
    rng = np.random.default_rng(5)
    replicates = np.rint(3500 + math.sqrt(3500 * ratio) * rng.standard_normal(n)).astype(int)
    return hand_made(replicates=replicates)


@pytest.mark.parametrize(
    ("ratio", "n", "low", "high", "verdict"),
    [
        (1.0, 2000, 0.8, 1.25, PASS),
        (1.5, 2000, 0.8, 1.25, FAIL),
        (0.7, 2000, 0.8, 1.25, FAIL),
        (1.5, 2000, 0.1, 9.0, FAIL),  # the interval excludes 1, however wide the limits
        (1.0, 50, 0.8, 1.25, OPEN),  # too few seeds for so narrow limits
    ],
)
def test_the_spread_is_that_of_the_law(
    ratio: float, n: int, low: float, high: float, verdict: Verdict
) -> None:
    """The interval of variance/mean contains 1 and lies inside; excluding 1 fails."""
    judgement = judge(criterion("event_count_spread", low=low, high=high), spread_of(ratio, n))
    assert judgement.verdict is verdict


def test_the_spread_has_to_lie_strictly_inside() -> None:
    """A limit that the interval touches leaves it open."""
    evidence = spread_of(1.0)
    below, above = evidence.test("event_count_spread").interval or (0, 0)
    assert judge(criterion("event_count_spread", low=below, high=9), evidence).verdict is OPEN
    assert judge(criterion("event_count_spread", low=0, high=above), evidence).verdict is OPEN
    assert judge(criterion("event_count_spread", low=0, high=9), evidence).verdict is PASS


def test_equal_counts_of_all_seeds_fail() -> None:
    """A constant count is too good to be true."""
    evidence = hand_made(replicates=np.full(2000, 3500))
    assert judge(criterion("event_count_spread", low=0.8, high=1.25), evidence).verdict is FAIL


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("batch_directory", FaultKind.FOLDER),
        ("jsonl_valid", FaultKind.LINE),
        ("jsonl_valid", FaultKind.MEMBER),
        ("jsonl_valid", FaultKind.DUPLICATE),
        ("batch_meta", FaultKind.META),
        ("timestamps_in_interval", FaultKind.TIME),
    ],
)
def test_any_fault_fails_its_criterion_alone(kind: str, fault: FaultKind) -> None:
    """One fault is enough, and the note shows it and counts the others."""
    tally = replace(
        tally_of(),
        faults=(Fault(fault, "20251108T120000Z line 7", "is wrong"),),
        fault_counts={fault: 3},
    )
    evidence = hand_made(tally=tally)
    for name in ("batch_directory", "jsonl_valid", "batch_meta", "timestamps_in_interval"):
        judgement = judge(criterion(name), evidence)
        assert judgement.verdict is (FAIL if name == kind else PASS)
    assert judge(criterion(kind), evidence).note == (
        "20251108T120000Z line 7: is wrong and 2 more."
    )


def test_holm_covers_the_family_without_equivalence_tests() -> None:
    """The adjusted p-values are Holm's of all tests of evidence, the replicates' included."""
    evidence = of_count(3400)
    family = [t for t in evidence.tests if t.kind == "evidence"]
    assert len(family) == family_size(1) == len(evidence.tests) - 3
    assert family[-1].name == "event_count_spread"
    expected = stats.holm([t.p_value for t in family if t.p_value is not None])
    assert [t.p_holm for t in family] == pytest.approx(list(expected))
    assert evidence.test("event_types_within_margin").p_holm is None
    assert evidence.test("event_types_within_margin").p_value is not None


def test_a_test_that_cannot_be_made_is_no_member_of_the_family() -> None:
    """Fewer tests, less adjustment: a test without p-value costs nothing."""
    config = config_of(event_types={"only": 1.0})
    evidence = hand_made(config, tally_of(config, counts=counts_of(3500)))
    types = evidence.test("event_types")
    assert (types.p_value, types.p_holm, types.detectable) == (None, None, None)
    family = [t.p_value for t in evidence.tests if t.p_holm is not None]
    types = [entry.name for entry in BATTERY if "types" in entry.name and entry.batches == 1]
    types.remove("event_types_within_margin")
    assert [t.name for t in evidence.tests if t.kind == "evidence" and t.p_value is None] == types
    assert len(family) == family_size(1) - len(types)


def test_the_detectable_effects_are_told_where_they_exist() -> None:
    """At the level that Holm's first step leaves to each of the family; alpha for equivalence."""
    tests = of_count(3500).tests
    told = {t.name: t.detectable for t in tests}
    level = 0.05 / family_size(1)
    assert told["event_count"] == pytest.approx(power.detectable_rate_shift(3500, level))
    assert told["event_types"] == pytest.approx(power.detectable_shares(3500, 2, level))
    for name, n in (("events_per_driver_dispersion", 1000), ("event_count_spread", 2000)):
        assert told[name] == pytest.approx(power.detectable_dispersion(n - 1, level))
    without = {t.name for t in tests if t.detectable is None}
    assert without == {"event_times_inside", "event_times_spacings"}
    for test in tests:
        assert f"{test.caught}. It does not see" in test.reach


def judged(evidence: Evidence) -> dict[str, Judgement]:
    """Return the judgements of experiment 001 on the evidence."""
    return {c.id: judge(c, evidence) for c in baseline().criteria}


def finite(evidence: Evidence) -> bool:
    """Return whether strict JSON loses nothing of the tests."""
    return (
        msgspec.json.decode(msgspec.json.encode(evidence.tests), type=tuple[Test, ...])
        == evidence.tests
    )


def test_an_empty_batch_of_rate_zero_gets_sensible_verdicts() -> None:
    """Nothing was expected and nothing came: what needs data stays open, nothing crashes."""
    config = config_of(event_rate_per_driver=0)
    evidence = hand_made(config, tally_of(config), replicates=np.zeros(2000))
    verdicts = {name: judgement.verdict for name, judgement in judged(evidence).items()}
    assert verdicts["event_count_expected"] is PASS
    assert verdicts["event_count_stated"] is FAIL
    for name in (
        "jsonl_valid",
        "timestamps_in_interval",
        "event_type_weights",
        "event_count_spread",
        "batch_size_expected",
    ):
        assert verdicts[name] is OPEN, name
    assert finite(evidence)
    assert not any("None" in j.note or "nan" in j.note for j in judged(evidence).values())


def test_events_where_none_are_expected_fail() -> None:
    """One event at rate 0 is a failure of the count and of the spread's law."""
    config = config_of(event_rate_per_driver=0)
    tally = tally_of(config, counts=counts_of(1), types=(1, 0, 0))
    evidence = hand_made(config, tally, replicates=np.arange(2000))
    assert judged(evidence)["event_count_expected"].verdict is FAIL
    assert judged(evidence)["event_count_spread"].verdict is FAIL
    assert finite(evidence)


def test_a_type_of_weight_zero_is_left_out_or_fails() -> None:
    """It makes no difference where it is empty, and nothing excuses it where it is not."""
    config = config_of(event_types={"a": 0.6, "never": 0.0, "b": 0.4})
    claim = criterion("event_type_law", tolerance=0.05)
    good = hand_made(config, tally_of(config, counts=counts_of(3500), types=(2100, 0, 1400)))
    assert judge(claim, good).verdict is PASS
    bad = hand_made(config, tally_of(config, counts=counts_of(3500), types=(2100, 1, 1399)))
    assert judge(claim, bad).verdict is FAIL
    assert finite(bad)


@pytest.mark.parametrize(
    ("values", "batches", "interval"),
    [
        ({"active_fraction": 0.4}, 1, "now"),
        ({"active_fraction": 0.4}, 3, "2025-11-08T12:00:00.000000Z"),
        ({"batch_interval": "PT0.5S"}, 3, "2025-11-08T12:00:00.000000Z"),
        ({"event_rate_per_driver": 0}, 2, "2025-11-08T12:00:00.000000Z"),
        ({"event_types": {"a": 1.0, "b": 0.0}}, 1, "now"),
    ],
)
def test_real_data_of_every_kind_get_sensible_verdicts(
    tmp_path: Path, values: dict[str, Any], batches: int, interval: str
) -> None:
    """Inactive companies, several batches, fractions of a second: what is claimed by law passes."""
    config = config_of(**values)
    (tmp_path / "made").mkdir()
    data = generate_data(config, tmp_path / "made", interval=interval, batches=batches, repeats=1)
    tally = tally_batches(config, data.companies, list(data.batches))
    evidence = hand_made(config, tally, repeats=data.repeats, interval=interval)
    assert tally.faults == ()
    assert tally.sample.counts.shape[0] == batches
    verdicts = {name: judgement.verdict for name, judgement in judged(evidence).items()}
    for name in ("batch_directory", "batch_meta", "event_count_expected"):
        assert verdicts[name] is PASS, name
    if config.event_rate_per_driver:
        for name in ("jsonl_valid", "timestamps_in_interval", "batch_size_expected"):
            assert verdicts[name] is PASS, name
    assert evidence.mean == tally.sample.counts.size * config.event_rate_per_driver
    starts = [batch.name for batch in data.batches]
    assert tally.batch_ids == tuple(starts)


def test_the_smallest_margin_of_the_criteria_is_tested() -> None:
    """The equivalence test takes the YAML's margin, 3 points where it names none."""
    assert margins([]) == {"count_margin": 0.1, "type_margin": 0.03}
    claims = [criterion("event_type_law", tolerance=t) for t in (0.05, 0.02)]
    assert margins(claims)["type_margin"] == 0.02


@pytest.mark.parametrize(
    ("change", "verdict", "observed", "words"),
    [
        ({}, PASS, 0, r"None of \d+ tests rejects at the level 0.05 of them all"),
        (
            {"total": 4200},
            FAIL,
            2,
            r"2 of \d+ tests reject: event_count \(p < 1 in a million, adjusted p \(Holm\) .*\)",
        ),
        ({"outside": 1}, FAIL, 1, r"1 of \d+ tests reject: event_times_inside \(p < 1 in a mil"),
        ({"types": {"only": 1.0}}, OPEN, None, r"No verdict: 9 of \d+ tests could not be made: e"),
        ({"total": 0}, FAIL, 2, "event_count"),
    ],
)
def test_the_battery_passes_where_no_test_rejects(
    change: dict[str, Any], verdict: Verdict, observed: int | None, words: str
) -> None:
    """One rejecting test of law or structure fails it; a test that is missing leaves it open."""
    config = config_of(**({"event_types": change["types"]} if "types" in change else {}))
    tally = tally_of(config, counts=counts_of(change.get("total", 3500)))
    if "outside" in change:
        sample = replace(tally.sample, outside=change["outside"])
        tally = replace(tally, samples=(sample,))
    judgement = judge(criterion("battery"), hand_made(config, tally))
    assert (judgement.verdict, judgement.observed) == (verdict, observed), judgement.note
    assert re.match(words, judgement.note) or words in judgement.note


def test_the_margins_of_the_criteria_reach_the_tests() -> None:
    """The tests of equivalence ask for the margins that they are given."""
    data = DataSet(Path(), (), quick_repeats())
    replicates = np.random.default_rng(1).poisson(3500, 100)
    margins = {"count_margin": 0.02, "type_margin": 0.01}
    evidence = gather(
        config_of(), data, tally_of(), replicates, interval="now", alpha=0.05, **margins
    )
    assert "0.02 of it or more" in evidence.test("event_count_within_margin").null
    assert evidence.test("event_count_within_margin").verdict == "inconclusive"
    assert "0.01" in evidence.test("event_types_within_margin").null


def test_every_kind_is_judged_by_some_test_here() -> None:
    """A new kind needs its cases in this file, or in that of what it judges."""
    names = ("calibration", "scaling", "scale_out")
    here = Path(__file__).parent
    files = [Path(__file__), *(here.parent / name / f"test_{name}_criteria.py" for name in names)]
    files += [here.parent / "pipeline" / f"test_{name}.py" for name in ("pipeline_criteria", "zoo")]
    text = "".join(file.read_text() for file in files)
    assert [name for name in all_criteria() if f'"{name}"' not in text] == []
