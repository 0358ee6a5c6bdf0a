"""A run over many sizes: from the notebook to the published folder, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support import ROOT, by_papermill, check_files, copy_project, faults_of

import fleetsim
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.record import decode_record, read_record
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import repeat_commands, run_key
from fleetsim.kinds.scaling.plots import PLOTS
from fleetsim.kinds.scaling.run import open_scaling
from fleetsim.kinds.scaling.sizes import Scaling
from fleetsim.measure import series
from fleetsim.measure.series import Size
from fleetsim.report.run_report import check_report

pytestmark = pytest.mark.slow

EXPERIMENT = "005-scaling"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Return a run of few sizes, made by plain papermill, with its report."""
    folder = tmp_path_factory.mktemp("scaling")
    return by_papermill(folder, EXPERIMENT, "scaling.ipynb", largest_events=2000)


@pytest.mark.notebook
def test_a_run_leaves_everything_that_belongs_to_it(outcome):
    """Report, notebook, document, record, parameters and figures; the data are gone."""
    check_files(outcome.path, PLOTS)
    assert check_report(outcome.path) == []


@pytest.mark.notebook
def test_the_record_holds_every_run(outcome):
    """Each cold process of the smaller sizes, the laws fitted to them, and verdicts left open."""
    record = outcome.record
    assert record.status == "completed"
    assert record.parameters == {
        **load_experiment(Project(ROOT), EXPERIMENT, {"largest_events": 2000}).parameters
    }
    assert (record.tests, record.measurements, record.batch_ids) == ([], None, [])
    assert record.description.own["sizes"] == [{"events": n, "repeats": 10} for n in (1000, 2000)]
    sizes = [Size(**row) for row in record.description.own["sizes"]]
    found = record.section
    assert sorted(run.events for run in found.runs) == [1000] * 10 + [2000] * 10
    assert [run.events for run in found.runs] != sorted(run.events for run in found.runs)
    assert found.laws == Scaling(tuple(sizes), tuple(found.runs)).rows()
    verdicts = {c.id: c.verdict for c in record.criteria}
    assert verdicts == {
        "time_exponent": "inconclusive",
        "memory_exponent": "inconclusive",
        "memory_peak": "inconclusive",
        "same_content": "pass",
    }
    assert record.criterion("same_content").a_priori == 1
    assert record.criterion("time_exponent").a_priori is None


@pytest.mark.notebook
def test_a_record_survives_being_written_and_read(outcome):
    """The runs come back one by one, and other records are without the part."""
    again = read_record(outcome.path)
    assert again.encode() == (outcome.path / "result.json").read_bytes()
    json.loads(again.encode(), parse_constant=pytest.fail)
    without = msgspec.structs.replace(again, section=msgspec.UNSET)
    assert "scaling" not in json.loads(without.encode())
    assert decode_record(without.encode()) == without


@pytest.mark.notebook
def test_the_document_holds_sizes_and_laws(outcome):
    """No blank is left; sizes with their middle times, laws or why there is none."""
    text = (outcome.path / "experiment.md").read_text(encoding="utf-8")
    assert "___" not in text
    assert "| 2000 | 10 |" in text
    runs = [run for run in outcome.record.section.runs if run.events == 2000]
    seconds = np.median([run.generation_seconds for run in runs])
    start = f"| {runs[0].lines} | numpy | 2 | {runs[0].bytes} | 10 | {seconds:.4g}"
    assert start in text
    assert text.count("it takes 3 sizes or more, found 2") >= 2
    assert "| numpy | peak_rss_bytes | 2 | 20 |" in text


@pytest.mark.notebook
def test_fleetsim_run_gives_the_whole_range(tmp_path, monkeypatch):
    """The notebook's small default does not come into a run by the command."""
    given: dict[str, Any] = {}

    def stop(*arguments, parameters, **_):
        given.update(parameters)
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", stop)
    with pytest.raises(KeyboardInterrupt):
        fleetsim_execute(EXPERIMENT, tmp_path)
    given.pop("results")
    assert given == load_experiment(Project(ROOT), EXPERIMENT).parameters
    assert (given["largest_events"], given["number_of_companies"]) == (10**8, 10**5)


def fleetsim_execute(name: str, results: Path) -> None:
    """Run an experiment as the command does."""
    from fleetsim.runner.run import execute

    execute(Project(ROOT), name, results=str(results))


def test_the_experiment_covers_what_it_claims():
    """From a thousand to a hundred million events, on both paths, with enough sizes for laws."""
    experiment = load_experiment(Project(ROOT), EXPERIMENT)
    assert (experiment.keys.sizes[0].events, experiment.keys.sizes[-1].events) == (10**3, 10**8)
    assert experiment.keys.measured == experiment.keys.sizes
    paths = [series.path_of(size) for size in experiment.keys.sizes]
    assert min(paths.count(path) for path in series.PATHS) >= 5
    assert experiment.config == series.config_of_size(experiment.config, experiment.keys.sizes[-1])


def test_a_smaller_largest_size_is_a_parameter():
    """Sizes above it are left out, the claims stay, the configuration is that of the largest."""
    whole = load_experiment(Project(ROOT), EXPERIMENT)
    part = load_experiment(Project(ROOT), EXPERIMENT, {"largest_events": np.int64(60_000)})
    assert [size.events for size in part.keys.measured][-1] == 50_000
    assert part.keys.sizes == whole.keys.sizes
    assert part.criteria == whole.criteria
    assert part.config.number_of_companies == 50
    assert set(part.parameters) - {"experiment"} == set(kinds()["scaling"].run_parameters)
    project = Project(ROOT)
    assert run_key(project, part) != run_key(project, whole)
    one, other = repeat_commands(part)
    assert one.startswith(f"fleetsim run {EXPERIMENT} -p largest_events 60000 ")
    assert other.startswith("papermill notebooks/scaling.ipynb out.ipynb -p experiment")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"largest_events": 999}, "largest_events: found 999; allowed: a whole number from 1000"),
        ({"largest_events": 0}, "largest_events: found 0; allowed: a whole number from 1"),
        ({"largest_events": 1e4}, "largest_events: found 10000.0; allowed: a whole number"),
        (
            {"largest_events": 1000, "number_of_companies": 5},
            "number_of_companies: found 5; it follows from the sizes, 1 for the largest",
        ),
        (
            {"largest_events": 2000, "drivers_per_company": 700},
            "sizes: 1000 events are no whole number of companies",
        ),
        ({"event_rate_per_driver": 0}, "sizes: no event is expected of any company"),
        ({"repeats": 10}, "repeats: no such parameter"),
        ({"replicates": 10}, "replicates: no such parameter"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path, parameters, words):
    """Before anything is written, with what is allowed."""
    with pytest.raises(InputError, match=re.escape(words)):
        open_scaling(results=str(tmp_path), **parameters)
    assert list(tmp_path.iterdir()) == []


def test_no_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """The largest batch needs its place in the results."""
    monkeypatch.setattr(series, "free_bytes", lambda _: 25_000_000_000)
    with pytest.raises(InputError, match=r"100000000 events, needs 26\.\d GB"):
        open_scaling(results=str(tmp_path))
    open_scaling(results=str(tmp_path), largest_events=1000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("events: 2000,", "events: 1000,"), "sizes: found 1000 after 1000; allowed: larger and"),
        (("events: 2000,", "events: 99,"), "sizes[2].events: found 99; allowed: a whole number fr"),
        (("events: 2000, repeats: 10", "events: 2000"), "sizes[2].repeats: missing; allowed: a wh"),
        (
            ("events: 2000, repeats: 10", "events: 2000, repeats: 1"),
            "sizes[2].repeats: found 1; allowed: a whole number from 2",
        ),
        (("events: 2000,", "event: 2000,"), "sizes[2].event: unknown key (did you mean events?)"),
        (("{events: 2000, repeats: 10}", "2000"), "sizes[2]: found 2000; allowed: events and rep"),
        (("interval: 2025-11-08T12:00:00Z", "interval: now"), "interval: found 'now'; allowed: a"),
        (("interval: 2025-11-08T12:00:00Z\n", ""), "interval: missing; allowed: "),
        (("largest_events: 100000000\n", ""), "largest_events: missing; allowed: a whole number"),
        (
            ("interval: 2025", "repeats: 10\ninterval: 2025"),
            "repeats: found 10; only an experiment of kind baseline or pipeline has repeats, this "
            "is one of kind scaling",
        ),
        (
            ("interval: 2025", "replicates: 10\ninterval: 2025"),
            "replicates: found 10; only an experiment of kind baseline or calibration has "
            "replicates, this is one of kind scaling",
        ),
        (("    tolerance: 0.05\n", ""), "criteria[time_exponent].tolerance: missing; a criterion"),
        (
            ("kind: memory_of_largest", "kind: memory_peak"),
            "criteria[memory_peak].kind: found 'memory_peak', of another kind of experiment; al",
        ),
    ],
)
def test_a_fault_of_the_experiment_is_named(tmp_path, change, words):
    """One wrong thing in the file gives one sentence."""
    copy_project(tmp_path, "experiments")
    faults = faults_of(Project(tmp_path), EXPERIMENT, change)
    assert [fault for fault in faults if fault.startswith(words)], faults


@pytest.mark.parametrize("value", ["[]", "{}", "7", "~"])
def test_sizes_have_to_be_a_list_of_some(tmp_path, value):
    """No size, no experiment of growth."""
    copy_project(tmp_path, "experiments")
    path = tmp_path / "experiments" / EXPERIMENT / "experiment.yaml"
    text = re.sub(r"sizes:\n(  [-#].*\n)+", f"sizes: {value}\n", path.read_text())
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"sizes: found .*; allowed: a list of \{events: \.\.\., rep"
    ):
        load_experiment(Project(tmp_path), EXPERIMENT)


def test_steps_out_of_order_are_refused(tmp_path):
    """A step says which one comes before it."""
    run = open_scaling(results=str(tmp_path), largest_events=1000)
    for step in (run.laws, run.judge, lambda: run.plot("rate_over_events")):
        with pytest.raises(FleetsimError, match=r"comes after measure\(\)"):
            step()
    with pytest.raises(FleetsimError, match=r"call judge\(\) first"):
        run.finish()
    with pytest.raises(InputError, match="rate_over_events"):
        run.plot("events_per_driver")


def test_the_other_notebooks_experiments_are_refused(tmp_path):
    """The front door names the notebook that runs the experiment."""
    with pytest.raises(
        InputError, match=r"notebooks/experiment\.ipynb runs; allowed: one of kind scaling"
    ):
        open_scaling("001-baseline", results=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_front_door_opens_a_run():
    """``fleetsim.open_scaling`` is what the notebook calls."""
    assert fleetsim.open_scaling is open_scaling
