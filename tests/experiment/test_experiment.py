"""Experiments as data: every fault in one error, and parameters put in or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import copy_project, faults_of

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project, find_project
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.spec import load_experiment

IDS = "000-smoke, 001-baseline, 002-baseline-5k, 003-calibration"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project with copies of the committed experiments."""
    copy_project(tmp_path, "experiments")
    return Project(tmp_path)


def faults(project: Project, *changes: tuple[str, str]) -> tuple[str, ...]:
    """Return what is wrong with the smoke experiment after changes of its text."""
    return faults_of(project, "000-smoke", *changes)


def refused(project: Project, **parameters: Any) -> tuple[str, ...]:
    """Return why parameters are refused."""
    with pytest.raises(InputError) as error:
        load_experiment(project, "000-smoke", parameters)
    assert error.value.where == "parameters"
    return error.value.faults


@pytest.mark.parametrize(
    "experiment", ["000-smoke", "experiments/000-smoke", "experiments/000-smoke/experiment.yaml"]
)
def test_an_experiment_is_found_by_id_and_by_path(project: Project, experiment: str) -> None:
    """An id, a folder or the file itself: the same experiment, parameters and all."""
    loaded = load_experiment(project, experiment)
    assert loaded.id == "000-smoke"
    assert loaded.config_file == "experiments/000-smoke/config.yaml"
    assert loaded.parameters == {
        "experiment": "000-smoke",
        "repeats": 10,
        "replicates": 1000,
        "seed": 7,
        "number_of_companies": 20,
        "drivers_per_company": 5,
        "event_rate_per_driver": 4.0,
        "company_onboarding_interval": "PT1H",
        "batch_interval": "PT15M",
        "active_fraction": 1.0,
    }
    assert set(kinds()["baseline"].run_parameters) == set(loaded.parameters) - {"experiment"}


def test_all_faults_come_in_one_error(project: Project) -> None:
    """One error names the file, each key, what was found, what is allowed and the nearest."""
    found = faults(
        project,
        ("schema: 1", "schem: 1"),
        ("kind: memory_peak", "kind: memory_peek"),
        ("id: batch_meta", "id: jsonl_valid"),
        ("repeats: 10", "repeats: 9"),
        ("replicates: 1000", "replicates: '1000'"),
        ("interval: now", "interval: 2025-11-08T12:00:00"),
        ("high: 5\n", "high: -5\n"),
        ("low: 0.8", "low: 3"),
        ("tolerance: 0.25", "low: 1"),
        ("tolerance: 0.15", "tolerance: 15"),
        ("alpha: 0.05", "alpha: .nan"),
        ("config: config.yaml", "config: nowhere.yaml"),
    )
    for start in (
        "schem: unknown key (did you mean schema?); allowed: schema, title",
        "schema: missing; allowed: 1",
        "criteria[memory_peak].kind: found 'memory_peek' (did you mean memory_peak?); allowed: ",
        "criteria: duplicate id 'jsonl_valid'",
        "repeats: found 9; allowed: a whole number from 10",
        "replicates: found '1000'; allowed: a whole number",
        "interval: found '2025-11-08T12:00:00'; allowed: a time with its zone",
        "criteria[generation_time].high: found -5.0; allowed: a finite number from 0",
        "criteria[event_count_spread].low: found 3.0, above high (1.25)",
        "criteria[event_count_expected].low: found 1.0; a criterion of kind event_count_law has",
        "criteria[event_count_expected].tolerance: missing; a criterion of kind event_count_law",
        "criteria[event_type_weights].tolerance: found 15.0; allowed: a fraction between 0 and 1",
        "alpha: found nan; allowed: a number between 0 and 1",
        "config: found 'nowhere.yaml'; allowed: the path of a configuration file",
    ):
        assert [fault for fault in found if fault.startswith(start)], start
    assert len(found) == 14


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("batches: 1", "batches: 2"), "batches: found more than 1 with interval now"),
        (("batches: 1", "batches: 0"), "batches: found 0; allowed: a whole number from 1"),
        (("    high: 512\n", ""), "criteria[memory_peak].high: missing; a criterion of kind"),
        (("high: 512", "high: true"), "criteria[memory_peak].high: found True; allowed: a number"),
        (("high: 512", "high: .inf"), "criteria[memory_peak].high: found inf; allowed: a finite"),
        (("title: Smoke test", "title: ''"), "title: found ''; allowed: text"),
        (("title: Smoke test", "title: 7"), "title: found 7; allowed: text"),
        (("config: config.yaml", "config: 7"), "config: found 7; allowed: text"),
        (("config: config.yaml", "config: ."), "config: found '.'; allowed: the path of a"),
        (("interval: now", "interval: tomorrow"), "interval: found 'tomorrow'; allowed: a time"),
        (("criteria:\n", "criteria:\n  - 7\n"), "criteria[1]: found 7; allowed: a mapping"),
        (("alpha: 0.05", "alpha: 1"), "alpha: found 1; allowed: a number between 0 and 1"),
    ],
)
def test_a_single_fault_is_the_only_one(
    project: Project, change: tuple[str, str], fault: str
) -> None:
    """One wrong thing gives one sentence."""
    (found,) = faults(project, change)
    assert found.startswith(fault)


def changed_calibration(project: Project, *changes: tuple[str, str]) -> tuple[str, ...]:
    """Return what is wrong with the calibration after changes of its text."""
    return faults_of(project, "003-calibration", *changes)


def test_a_calibration_has_numbers_of_its_own(project: Project) -> None:
    """Honest seeds and control seeds are its parameters; repeats and interval are not."""
    loaded = load_experiment(project, "003-calibration", {"control_seeds": np.int64(7)})
    assert loaded.notebook == "calibration.ipynb"
    assert (loaded.keys.replicates, loaded.keys.control_seeds, loaded.batches) == (10_000, 7, 8)
    assert set(loaded.parameters) - {"experiment"} == set(kinds()["calibration"].run_parameters)
    assert "repeats" not in loaded.parameters
    with pytest.raises(InputError, match="repeats: no such parameter"):
        load_experiment(project, "003-calibration", {"repeats": 10})
    with pytest.raises(InputError, match="control_seeds: no such parameter"):
        load_experiment(project, "000-smoke", {"control_seeds": 10})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            ("alpha:", "repeats: 10\nalpha:"),
            "repeats: found 10; only an experiment of kind ",
        ),
        (("alpha:", "interval: now\nalpha:"), "interval: found 'now'; only an experiment of kind "),
        (("control_seeds: 500", ""), "control_seeds: missing; allowed: a whole number from 2"),
        (("control_seeds: 500", "control_seeds: 1"), "control_seeds: found 1; allowed: a whole"),
        (
            ("kind: calibration", "kind: calibratio"),
            "kind: found 'calibratio' (did you mean ",
        ),
        (
            ("kind: p_values_uniform", "kind: generation_time"),
            "criteria[p_values_uniform].kind: found 'generation_time', of another kind of "
            "experiment; allowed: rejections_in_band, p_values_uniform, ",
        ),
        (("    low: 0.75\n", ""), "criteria[controls_caught].low: missing; a criterion of kind"),
    ],
)
def test_a_fault_of_a_calibration_is_named(
    project: Project, change: tuple[str, str], fault: str
) -> None:
    """What belongs to another kind, and what this one needs, is said."""
    found = changed_calibration(project, change)
    assert [text for text in found if text.startswith(fault)], found


@pytest.mark.parametrize("value", ["7", "''"])
def test_a_kind_that_is_none_is_the_only_fault(project: Project, value: str) -> None:
    """What depends on the kind is not held against an unknown one."""
    (fault,) = changed_calibration(project, ("kind: calibration", f"kind: {value}"))
    assert fault.startswith(f"kind: found {value}; allowed: baseline, calibration")


def test_an_experiment_of_files_has_no_part_of_a_calibration(project: Project) -> None:
    """Control seeds and the kinds of a calibration are refused."""
    found = faults(
        project,
        ("repeats: 10", "control_seeds: 5"),
        ("kind: memory_peak", "kind: controls_caught"),
    )
    for start in (
        "control_seeds: found 5; only an experiment of kind calibration has control_seeds",
        "criteria[memory_peak].kind: found 'controls_caught', of another kind of experiment; ",
    ):
        assert [fault for fault in found if fault.startswith(start)], start


@pytest.mark.parametrize("name", ["calibration", "scaling", "scale_out"])
def test_an_experiment_of_before_there_were_kinds_is_read(project: Project, name: str) -> None:
    """The notebook that it names says which kind it is of."""
    ids = {"calibration": "003-calibration", "scaling": "005-scaling", "scale_out": "020-scale-out"}
    path = project.experiments / ids[name] / "experiment.yaml"
    path.write_text(path.read_text().replace(f"kind: {name}\n", f"notebook: {name}.ipynb\n"))
    loaded = load_experiment(project, ids[name])
    assert (loaded.kind.name, loaded.notebook) == (name, f"{name}.ipynb")


def test_a_notebook_that_is_not_there_is_refused(project: Project) -> None:
    """The nearest one is named, and those that there are."""
    (project.root / "notebooks").mkdir(exist_ok=True)
    (project.root / "notebooks" / "mine.ipynb").write_text("{}")
    (fault,) = faults(project, ("repeats: 10", "repeats: 10\nnotebook: mime.ipynb"))
    assert fault.startswith("notebook: found 'mime.ipynb' (did you mean mine.ipynb?); allowed: ")


def test_criteria_have_to_be_a_list_of_some(project: Project) -> None:
    """No criterion, no experiment."""
    path = project.experiments / "000-smoke" / "experiment.yaml"
    head = path.read_text().partition("criteria:")[0]
    for value in ("[]", "{}", "5", "~"):
        path.write_text(f"{head}criteria: {value}\n")
        with pytest.raises(InputError, match=r"criteria: found .*; allowed: a list of criteria"):
            load_experiment(project, "000-smoke")


def test_faults_of_the_configuration_are_those_of_its_file(project: Project) -> None:
    """A wrong configuration is reported under its own name, not as a parameter."""
    path = project.experiments / "000-smoke" / "config.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seeed: 7"))
    with pytest.raises(InputError, match=r"config\.yaml: 2 faults\n.*seeed: unknown key"):
        load_experiment(project, "000-smoke", {"seed": 1})


@pytest.mark.parametrize("name", ["001-basline", "", "x" * 5000, "a\0b", "../..", "nowhere/else"])
def test_an_unknown_experiment_lists_those_that_exist(project: Project, name: str) -> None:
    """Whatever was asked for, the message stays short and names what there is."""
    with pytest.raises(InputError, match=f"one of {IDS}") as error:
        load_experiment(project, name)
    assert len(str(error.value)) < 500
    assert ("(5000 characters)" in str(error.value)) == (len(name) == 5000)
    assert ("did you mean 001-baseline" in str(error.value)) == (name == "001-basline")


def test_a_fixed_interval_is_kept_in_one_form(project: Project) -> None:
    """Another zone is the same moment, written in UTC."""
    path = project.experiments / "000-smoke" / "experiment.yaml"
    text = path.read_text().replace("interval: now", "interval: 2025-11-08T13:00:00+01:00")
    path.write_text(text.replace("batches: 1", "batches: 3"))
    loaded = load_experiment(project, "000-smoke")
    assert (loaded.interval, loaded.batches) == ("2025-11-08T12:00:00.000000Z", 3)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (5, 5),
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_whole_numbers_are_taken(project: Project, value: Any, plain: int) -> None:
    """NumPy's integers are plain numbers, up to the last seed."""
    seed = load_experiment(project, "000-smoke", {"seed": value}).config.seed
    assert seed == plain
    assert type(seed) is int


@pytest.mark.parametrize(
    ("value", "plain"),
    [(3, 3.0), (1e-3, 0.001), (np.float64(3.5), 3.5), (np.float32(0.5), 0.5), (np.int8(3), 3.0)],
)
def test_numbers_are_taken(project: Project, value: Any, plain: float) -> None:
    """NumPy's floats are plain numbers, and a whole number is a rate."""
    loaded = load_experiment(project, "000-smoke", {"event_rate_per_driver": value})
    assert loaded.config.event_rate_per_driver == plain
    assert type(loaded.parameters["event_rate_per_driver"]) is float


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), 1e-3, "7", 3.0, np.float64(3.0), -1, 2**64, [1], {}, np.array([1, 2])],
    ids=repr,
)
def test_other_seeds_are_refused(project: Project, value: Any) -> None:
    """Wrong types and ranges are refused with what was found and what is allowed."""
    (fault,) = refused(project, seed=value)
    assert fault.startswith("seed: found ")
    assert fault.endswith("; allowed: a whole number from 0 to 2**64 - 1")


@pytest.mark.parametrize(
    "value", [True, "7", -1, 1e5, float("nan"), np.float64("inf"), np.float32("nan")], ids=repr
)
def test_other_rates_are_refused(project: Project, value: Any) -> None:
    """A rate is a finite number within its limits."""
    (fault,) = refused(project, event_rate_per_driver=value)
    assert fault.endswith("; allowed: a number from 0 to 10000")


def test_all_faults_of_the_parameters_come_in_one_error(project: Project) -> None:
    """Names, the run's own numbers and the configuration's together; None means the YAML's."""
    found = refused(
        project,
        **{"a b": 1, "sed": 3, "repeats": 3, "replicates": np.int64(1), "batch_interval": "P2D"},
        seed=None,
    )
    for start in (
        "'a b' is not a name; allowed: repeats, ",
        "sed: no such parameter (did you mean seed?); allowed: ",
        "repeats: found 3; allowed: a whole number from 10 to 10000",
        "replicates: found 1; allowed: a whole number from 2",
        "batch_interval: found 'P2D'; allowed: at most P1D",
    ):
        assert [fault for fault in found if fault.startswith(start)], start
    assert len(found) == 5


def test_parameters_change_the_run_and_not_the_claims(project: Project) -> None:
    """What was claimed stays as it was written."""
    plain = load_experiment(project, "000-smoke")
    changed = load_experiment(project, "000-smoke", {"repeats": np.int32(12), "seed": 9})
    assert (changed.keys.repeats, changed.config.seed) == (12, 9)
    assert changed.criteria == plain.criteria
    assert changed.hypothesis == plain.hypothesis


def test_the_project_is_found_from_below_and_by_name(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest parent with experiments/, or $FLEETSIM_ROOT; otherwise the next step is said."""
    monkeypatch.delenv("FLEETSIM_ROOT", raising=False)
    below = tmp_path / "notebooks" / "deep"
    below.mkdir(parents=True)
    assert find_project(below).root == tmp_path
    with pytest.raises(InputError, match="set FLEETSIM_ROOT"):
        find_project(Path("/proc"))
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
    assert find_project(Path("/proc")).root == tmp_path
    monkeypatch.setenv("FLEETSIM_ROOT", str(below))
    with pytest.raises(InputError, match="holds no experiments/"):
        find_project()


def test_paths_outside_of_the_project_keep_their_last_name(project: Project) -> None:
    """No absolute path gets into a record."""
    assert project.relative(project.root / "a" / "b.yaml") == "a/b.yaml"
    assert project.relative(Path("/etc/passwd")) == "passwd"
    assert project.is_dirty() is None
    assert project.notebook_hash("experiment.ipynb") is None
