"""The run of experiment 001 that is kept in the repository."""

import json
import re

import pytest
from support import ROOT, judge

from fleetsim.base.clock import parse_time
from fleetsim.base.project import Project
from fleetsim.batch.companies import read_companies
from fleetsim.batch.meta import read_meta
from fleetsim.batch.verify import batches_below, verify_batch
from fleetsim.experiment.record import overall_line, read_record
from fleetsim.experiment.spec import load_experiment
from fleetsim.kinds.baseline.criteria import margins
from fleetsim.kinds.baseline.evidence import gather, replicate_counts
from fleetsim.measure.cold import DataSet, Repeat
from fleetsim.report.run_report import check_report
from fleetsim.tally.batches import tally_batches

REFERENCE = ROOT / "results" / "001-baseline" / "reference"


@pytest.fixture(scope="module")
def record():
    """Return the record of the reference run."""
    return read_record(REFERENCE)


def test_the_document_and_the_report_fit_the_record():
    """Both are what the record gives now."""
    assert check_report(REFERENCE) == []


def test_the_reference_is_experiment_001_at_its_own_values(record):
    """Seed 42 and every other parameter are as the YAML says."""
    experiment = load_experiment(Project(ROOT), "001-baseline")
    assert record.parameters == experiment.parameters
    assert record.config == experiment.config.as_dict()
    assert [c.id for c in record.criteria] == [c.id for c in experiment.criteria]
    assert len(record.criteria) == 13


def test_the_stated_count_and_size_fail_and_nothing_else_does(record):
    """The source document's 5000 events and 1-2 MB contradict its own configuration."""
    failed = {c.id for c in record.criteria if c.verdict == "fail"}
    assert failed == {"event_count_stated", "batch_size_stated"}
    assert overall_line(record.criteria).startswith(f"{record_passes(record)} pass, 2 fail")


def record_passes(record):
    """Return how many criteria passed."""
    return sum(c.verdict == "pass" for c in record.criteria)


def test_the_batch_of_the_reference_can_be_made_again():
    """Its record and its companies make the same bytes today."""
    for batch in batches_below(REFERENCE):
        assert verify_batch(batch).findings == ()


def test_the_verdicts_follow_from_the_files_of_the_reference(record):
    """Reading the committed data again and testing them gives the recorded verdicts."""
    experiment = load_experiment(Project(ROOT), "001-baseline")
    companies = REFERENCE / "data" / "raw" / "companies.jsonl"
    batches = batches_below(REFERENCE)
    measured = record.measurements
    repeats = tuple(
        Repeat(*values)
        for values in zip(
            measured.generation_seconds,
            measured.stated_generation_seconds,
            measured.process_seconds,
            measured.peak_rss_bytes,
            strict=True,
        )
    )
    tally = tally_batches(experiment.config, companies, batches)
    start_us = parse_time(read_meta(batches[0]).interval_start)
    eligible = read_companies(companies).eligible(start_us)
    evidence = gather(
        experiment.config,
        DataSet(companies, tuple(batches), repeats),
        tally,
        replicate_counts(experiment.config, eligible, experiment.keys.replicates),
        interval=experiment.interval,
        alpha=experiment.alpha,
        **margins(experiment.criteria),
    )
    for criterion, kept in zip(experiment.criteria, record.criteria, strict=True):
        verdict = judge(criterion, evidence)
        assert verdict.verdict == kept.verdict, criterion.id
        if criterion.kind != "batch_size_range":  # allocated blocks are the file system's
            assert verdict.observed == pytest.approx(kept.observed), criterion.id
            assert verdict.note == kept.note, criterion.id


def test_the_reference_is_small_and_names_no_machine():
    """Less than 2 MB, and no absolute path in its texts."""
    files = [path for path in REFERENCE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    home = "|".join(("/ho" + "me/", "/Us" + "ers/", "/ro" + "ot/", "/t" + "mp/"))
    for path in files:
        if path.suffix != ".png":
            text = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", "", path.read_text(encoding="utf-8"))
            assert not re.search(home, text), path.name


def test_the_record_is_strict_json():
    """No NaN and no infinity stands in it."""
    text = (REFERENCE / "result.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=pytest.fail)
