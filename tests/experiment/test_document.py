"""The document: the source's sections and figures with blanks, or filled in from the record."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from analysis import baseline, config_of, hand_made, quick_repeats, tally_of, with_keys
from support import ROOT, judge, tracked_files

from fleetsim.base.chances import percent
from fleetsim.base.project import Project
from fleetsim.base.tables import Table, number
from fleetsim.experiment.check import check_experiment
from fleetsim.experiment.document import (
    by_chance,
    planned_record,
    power_table,
    render_document,
    verdict_table,
)
from fleetsim.experiment.prospects import Power
from fleetsim.experiment.record import Measurements, Record, overall_line
from fleetsim.experiment.results import RunError
from fleetsim.experiment.spec import Experiment, load_experiment
from fleetsim.kinds.baseline.criteria import CRITERIA
from fleetsim.kinds.baseline.evidence import Evidence
from fleetsim.measure.cold import Repeat

EXPERIMENTS = [path.parent.name for path in tracked_files("experiments/*/experiment.yaml")]


def filled(experiment: Experiment, evidence: Evidence, **values: Any) -> Record:
    """Return the record of a completed run on the evidence, as `run` fills it in."""
    planned = planned_record(experiment)
    criteria = []
    for row, claim in zip(planned.criteria, experiment.criteria, strict=True):
        judgement = judge(claim, evidence)
        criteria.append(
            msgspec.structs.replace(
                row,
                observed=judgement.observed,
                low=judgement.low,
                high=judgement.high,
                verdict=judgement.verdict.value,
                tests=list(CRITERIA[claim.kind].tests),
                note=judgement.note,
            )
        )
    content: dict[str, Any] = {
        "status": "completed",
        "run_id": "20251108T120000Z-0a1b2c3d",
        "started": "2025-11-08T12:00:00.000000Z",
        "finished": "2025-11-08T12:00:09.500000Z",
        "batch_ids": list(evidence.tally.batch_ids),
        "criteria": criteria,
        "tests": list(evidence.tests),
        "measurements": Measurements(
            event_count=evidence.tally.lines,
            generation_seconds=[r.generation_seconds for r in evidence.repeats],
            stated_generation_seconds=[r.stated_generation_seconds for r in evidence.repeats],
            process_seconds=[r.process_seconds for r in evidence.repeats],
            peak_rss_bytes=[r.peak_rss_bytes for r in evidence.repeats],
            batch_bytes=evidence.tally.batch_bytes,
            batch_disk_bytes=evidence.tally.batch_disk_bytes,
        ),
        "provenance": {"commands": [f"fleetsim run {experiment.id} -p seed 42"]},
    }
    return msgspec.structs.replace(planned, **content | values)


@pytest.fixture
def record() -> Record:
    """Return the record of a run of experiment 001 whose figures are awkward to print."""
    repeats = tuple(
        Repeat(0.037421817 + i / 997, 0.138 + i / 1009, 0.2 + i / 991, 44_830_720 + 4096 * i)
        for i in range(30)
    )
    tally = tally_of(batch_disk_bytes=897_024, batch_bytes=884_321)
    return filled(baseline(), hand_made(tally=tally, repeats=repeats))


def section(text: str, title: str) -> str:
    """Return a section of a document."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_committed_documents_are_what_the_yaml_says(experiment: str) -> None:
    """experiment.md is rendered, never edited (refresh: fleetsim document --all)."""
    planned = render_document(planned_record(load_experiment(Project(ROOT), experiment)))
    committed = ROOT / "experiments" / experiment / "experiment.md"
    assert committed.read_text(encoding="utf-8") == planned


def test_the_planned_document_has_the_sources_sections_and_figures() -> None:
    """From the hypothesis to the results: nothing of the user's document is missing."""
    text = render_document(planned_record(baseline()))
    assert text.startswith("# Experiment 001: Baseline ")
    assert "**Date**: 2025-11-08" in text
    assert "**Feature**: Driving batch generators (v0.1)" in text
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [t.lower() for t in titles if t != "What the model says before the run"] == [
        "hypothesis",
        "metrics to collect",
        "configuration",
        "run instructions",
        "expected variance",
        "validation",
        "results",
    ]
    for title, figures in {
        "Hypothesis": ["5000 events", "100 companies × 10 drivers × 3.5", "less than 5 seconds"],
        "Metrics to collect": ["below 5 s", "5000 ± 10 %", "below 512 MB", "1-2 MB", "du counts"],
        "Configuration": [
            "seed: 42",
            "number_of_companies: 100",
            "drivers_per_company: 10",
            "event_rate_per_driver: 3.5",
            "company_onboarding_interval: PT1H",
        ],
        "Run instructions": [
            "docker compose up -d",
            "companies --config",
            "--output data/raw/companies.jsonl --seed 42",
            "--companies data/raw/companies.jsonl --output data/raw/events --now",
            "batch_meta.json",
            "fleetsim verify data/raw",
        ],
        "Expected variance": ["√3500", "59.16", "1.7 %", "Generation time"],
        "Validation": [
            "data/raw/events/",
            "valid JSON Lines",
            "event_count, seed and interval",
            "±10 %",
            "[interval_start, interval_end)",
            "40/35/25",
        ],
    }.items():
        for figure in figures:
            assert figure in section(text, title), (title, figure)
    assert re.findall(r"^- \*\*(.+)\*\*: ___$", section(text, "Results"), re.MULTILINE) == [
        "Actual generation time",
        "Actual event count",
        "Memory peak",
        "File size",
        "Pass/Fail",
        "Notes",
    ]
    assert section(text, "Validation").count("- [ ] ") == len(baseline().criteria)
    assert "[x]" not in text


def test_a_filled_document_has_no_blank_and_ticks_what_passed(record: Record) -> None:
    """Exactly the passed criteria are ticked, and each criterion has its verdict."""
    text = render_document(record)
    assert "___" not in text
    ticked = dict(re.findall(r"^- \[(.)\] \*\*(\w+)\*\*", text, re.MULTILINE))
    boxes = re.findall(r"^- \[(.)\] \*\*(\w+)\*\*", section(text, "Validation"), re.MULTILINE)
    assert {name: box == "x" for box, name in boxes} == {
        c.id: c.verdict == "pass" for c in record.criteria
    }
    assert set(ticked) == {"x", " "}
    for c in record.criteria:
        assert c.verdict.capitalize() in text
    assert f"`001-baseline/{record.run_id}`" in text
    assert "fleetsim run 001-baseline -p seed 42" in text


NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")


def numbers_in(value: Any) -> set[float]:
    """Return every number of a JSON value, those inside its texts included."""
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, int | float):
        return {float(value)}
    if isinstance(value, str):
        return {float(text) for text in NUMBER.findall(value)}
    items = value.values() if isinstance(value, dict) else value
    return set().union(*(numbers_in(item) for item in items))


def test_every_number_of_the_results_stands_in_the_record(record: Record) -> None:
    """As the number itself, inside a note, or as the megabytes of a number of bytes there."""
    results = section(render_document(record), "Results")
    known = numbers_in(json.loads(record.encode()))
    # Two sentences count over the record instead of repeating it; they are held to it below.
    assert overall_line(record.criteria) in results
    assert by_chance(record) in results
    rest = results.replace(overall_line(record.criteria), "").replace(by_chance(record), "")
    lines = [line for line in rest.splitlines() if line.startswith("- ")]
    assert len(lines) == 6
    checked = 0
    for line in lines:
        for text in NUMBER.findall(line.replace("\\", "")):
            value = float(text)
            in_bytes = re.search(rf"(?<![\d.]){re.escape(text)} MB", line) and value * 1e6 in known
            counted = f"{text} cold runs" in line and value == len(
                record.measurements.generation_seconds if record.measurements else ()
            )
            assert value in known or in_bytes or counted, (text, line)
            checked += 1
    assert checked > 12


def test_the_sentences_that_count_are_right(record: Record) -> None:
    """The overall line and the false alarms, by counting."""
    verdicts = [c.verdict for c in record.criteria]
    assert overall_line(record.criteria) == (
        f"{verdicts.count('pass')} pass, {verdicts.count('fail')} fail, "
        f"{verdicts.count('inconclusive')} inconclusive"
    )
    odds = [c.a_priori for c in record.criteria if c.a_priori is not None and c.a_priori > 0.5]
    said = by_chance(record)
    assert f"does not pass at least one of {len(odds)} criteria" in said
    assert f"with probability {percent(sum(1 - p for p in odds))} at most." in said
    adjusted = [test.p_holm for test in record.tests if test.p_holm is not None]
    assert f"Of the {len(adjusted)} tests of this run that count together" in said
    assert f"smallest adjusted p is {number(min(adjusted), 2)}:" in said
    assert by_chance(msgspec.structs.replace(record, tests=[])) == said.partition(" Of the ")[0]


def test_figures_are_printed_without_the_noise_of_floats(record: Record) -> None:
    """44830720 bytes are 44.83072 MB, never 44.830719999999996."""
    results = section(render_document(record), "Results")
    assert "44.949504 MB (44949504 bytes)" in results
    assert "0.897024 MB on the disk (897024 bytes in allocated blocks); 884321 bytes" in results
    for text in NUMBER.findall(results):
        assert len(text.partition(".")[2]) <= 18, text
        assert not re.search(r"(0{6}|9{6})\d$", text), text
    for size in range(40_000_000, 60_000_000, 99_991):
        assert len(str(size / 1e6).partition(".")[2]) <= 6


def test_the_document_says_what_the_criteria_would_see(record: Record) -> None:
    """Planned or filled, the same warnings, sentences and tables as `fleetsim check`."""
    check = check_experiment(baseline())
    title = "What the model says before the run"
    planned = section(render_document(planned_record(baseline())), title)
    assert section(render_document(record), title) == planned
    for warning in check.warnings:
        assert f"- {warning}" in planned
    seen = [row for row in check.criteria if row.prospect.power]
    assert len(seen) >= 5
    for row in seen:
        assert f"**{row.criterion.id}**: {row.prospect.accepts}.\n\n| if the truth" in planned
        table = power_table(row.prospect.power)
        assert f"| {' | '.join(table.header)} |\n{'|---' * len(table.header)}|\n" in planned
        for cells in table.rows:
            assert f"\n| {' | '.join(cells)} |".replace("<", "\\<") in planned


def test_the_table_of_power_has_a_line_for_each_alternative() -> None:
    """Levels side by side; the verdict is that of the first; without a test no column for one."""
    rows = [
        Power(alternative="a", level=0.05, power=0.5, fails=0.6, inconclusive=0.1),
        Power(alternative="a", level=1e-6, power=0.01, fails=0.02, inconclusive=0.9),
        Power(alternative="b", level=0.05, power=1.0, fails=1.0, inconclusive=0.0),
        Power(alternative="b", level=1e-6, power=0.25, fails=0.3, inconclusive=0.0),
    ]
    table = power_table(rows)
    assert table.header == ("if the truth were", "at 0.05", "at 1e-06", "fails", "inconclusive")
    assert table.rows == (
        ("a", "50 %", "1 %", "60 %", "10 %"),
        ("b", "100 %", "25 %", "100 %", "< 1 in a million"),
    )
    alone = [Power(alternative="c", level=None, power=None, fails=0.2, inconclusive=0.0)]
    assert power_table(alone).header == ("if the truth were", "fails", "inconclusive")
    assert power_table(alone).rows == (("c", "20 %", "< 1 in a million"),)


def test_a_record_of_an_earlier_version_can_be_read(record: Record) -> None:
    """It has no power and no warnings, and its document leaves them out."""
    data = json.loads(record.encode())
    del data["expected"]["foresight"], data["expected"]["warnings"]
    old = msgspec.json.decode(json.dumps(data), type=Record)
    text = render_document(old)
    assert "If the truth were another" not in text
    assert "Warnings" not in text


def test_a_fixed_interval_is_told_with_its_own_formula() -> None:
    """Start, number of batches and the monotonic clock replace --now and the document's formula."""
    experiment = with_keys(interval="2025-11-08T12:00:00.000000Z", batches=3)
    text = render_document(planned_record(experiment))
    assert "--interval-start 2025-11-08T12:00:00.000000Z --batches 3" in text
    assert "--seed 42 --at 2025-11-08T12:00:00.000000Z" in text
    assert "--now" not in text
    evidence = hand_made(repeats=quick_repeats(), interval=experiment.interval)
    results = section(render_document(filled(experiment, evidence)), "Results")
    assert "0.12 s, the slowest of 30 cold runs (generation_seconds)" in results


def test_an_empty_batch_has_a_document() -> None:
    """Rate 0: nothing divides by zero, and nothing is left blank."""
    config = config_of(event_rate_per_driver=0)
    experiment = replace(baseline(), config=config)
    evidence = hand_made(config, tally_of(config), replicates=np.zeros(2000))
    text = render_document(filled(experiment, evidence))
    assert "___" not in text
    assert "nan" not in text
    assert "- **Actual event count**: 0 events" in text


def test_a_failed_run_says_why() -> None:
    """No results, but the error with its cell; the text cannot break out of its line."""
    error = RunError("ValueError", "line one\n## Not a heading", 0)
    record = msgspec.structs.replace(planned_record(baseline()), status="failed", error=error)
    results = section(render_document(record), "Results")
    assert results.strip() == (
        "The run failed and has no results. ValueError in cell 0: line one ## Not a heading"
    )


def test_text_like_markup_stays_text() -> None:
    """Bars, tags, backticks, emphasis and line ends in titles break neither tables nor lists."""
    nasty = "a|b <b>x</b> `c` *d* \\e\n| f |\r\n# g"
    experiment = baseline()
    claim = msgspec.structs.replace(experiment.criteria[0], title=nasty, stated=nasty, method=nasty)
    experiment = replace(experiment, title=nasty, question=nasty, criteria=(claim,))
    text = render_document(planned_record(experiment))
    escaped = r"a\|b \<b>x\</b> \`c\` \*d\* \\e \| f \| # g"
    assert f"# Experiment 001: {escaped}\n" in text
    assert f"| {escaped} | {escaped} | {escaped} |\n" in text
    assert f"**generation_time**: {escaped} ({escaped})\n" in text
    for row in section(text, "Metrics to collect").strip().splitlines():
        assert len(re.findall(r"(?<!\\)\|", row)) == 4


@pytest.mark.parametrize(
    ("experiment", "title"), [("001-baseline", "001"), ("my-trial", "my-trial"), ("7", "7")]
)
def test_an_experiment_is_called_by_its_number_or_its_name(experiment: str, title: str) -> None:
    """Only an id that begins with a number is shortened to it."""
    record = planned_record(replace(baseline(), id=experiment))
    assert render_document(record).startswith(f"# Experiment {title}: ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (3500, "3500"),
        (3500.0, "3500"),
        (0.897024, "0.897"),
        (1e20, "1e+20"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_in_tables_are_short(value: float | bool | None, text: str) -> None:
    """Yes or no, whole numbers, four digits, a dash for nothing."""
    assert number(value) == text


def test_tables_read_well_in_both_forms(record: Record) -> None:
    """Aligned columns with a wrapped last one; HTML with its text escaped."""
    table = record.table()
    lines = str(table).splitlines()
    start = lines[0].index("why")
    assert max(len(line) for line in lines) <= start + max(100 - start, 30)
    assert repr(verdict_table(record)).splitlines()[0].split() == list(table.header[:4])
    html = Table(("a<b",), (("<i>",), ("pass",)), "x & y")._repr_html_()
    assert "<caption>x &amp; y</caption>" in html
    assert re.search("<td[^>]*>&lt;i&gt;</td>", html)
    assert re.search('<td class="pass"[^>]*>pass</td>', html)
    assert re.search('<th scope="col"[^>]*>a&lt;b</th>', html)
