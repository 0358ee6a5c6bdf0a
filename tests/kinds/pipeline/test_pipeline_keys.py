"""Keys of an experiment on a pipeline: each wrong one is one clear fault, before anything runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from support import copy_project

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project
from fleetsim.base.yaml12 import load_yaml
from fleetsim.experiment.check import check_experiment
from fleetsim.experiment.spec import load_experiment
from fleetsim.kinds.pipeline.trial import check_command, command_of, files_of, spread

EXPERIMENT = "031-ingest-first-try"
CRITERION = {"id": "more", "title": "More", "stated": "-", "method": "-"}


@pytest.fixture
def changed(tmp_path):
    """Return what loads the experiment with other keys; None takes one out."""
    copy_project(tmp_path, f"experiments/{EXPERIMENT}", "notebooks")
    path = tmp_path / "experiments" / EXPERIMENT / "experiment.yaml"
    data = load_yaml(path.read_text(encoding="utf-8"))

    def load(*, criteria: list[dict] | None = None, defects: dict | None = None, **keys):
        values = {k: v for k, v in (data | keys).items() if v is not None}
        if criteria is not None:
            values["criteria"] = [CRITERION | row for row in criteria]
        path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        config = path.with_name("config.yaml")
        if defects is not None:
            there = load_yaml(config.read_text(encoding="utf-8"))
            config.write_text(yaml.safe_dump(there | {"defects": defects}))
        return load_experiment(Project(tmp_path), EXPERIMENT)

    return load


def pipeline(**keys):
    """Return the key `pipeline` with a command and other keys."""
    return {"pipeline": {"command": ["python", "ingest.py"], **keys}}


WRONG = [
    ({"pipeline": None}, "pipeline: missing; allowed: a mapping with command"),
    ({"pipeline": "python ingest.py"}, "pipeline: found 'python ingest.py'; allowed: a mapping"),
    ({"pipeline": {}}, "pipeline.command: missing; allowed: a list of words"),
    (pipeline(command="python ingest.py"), "pipeline.command: found 'python ingest.py'; allowed"),
    (pipeline(command=[]), "pipeline.command: found []; allowed: a list of words"),
    (pipeline(command=["python", 7]), "pipeline.command"),
    (
        pipeline(command=["sh", "{outptu}"]),
        "pipeline.command: found {outptu} (did you mean output?); allowed: {landing}, {output}",
    ),
    (pipeline(command=["sh", "-c", "a {landings}/b"]), "pipeline.command: found {landings} (did"),
    (pipeline(start="twice"), "pipeline.start: found 'twice'; allowed: each_delivery or once"),
    (pipeline(strat="once"), "pipeline.strat: unknown key (did you mean start?)"),
    (pipeline(timeout="2 minutes"), "pipeline.timeout: "),
    (pipeline(timeout=120), "pipeline.timeout: found 120; allowed: text"),
    (pipeline(timeout="P2D"), "pipeline.timeout: found 'P2D'; allowed: at most P1D"),
    (pipeline(timeout="PT0S"), "pipeline.timeout: "),
    (pipeline(accepted="DELETE FROM rows"), "pipeline.accepted: "),
    (pipeline(accepted="-- nothing"), "pipeline.accepted: found no SELECT; allowed: one SELECT"),
    (pipeline(accepted="SELECT FROM WHERE"), "pipeline.accepted: found a query that cannot be"),
    (pipeline(accepted="SELECT 1; SELECT 2"), "pipeline.accepted: "),
    (
        pipeline(accepted="SELECT * FROM '{outputs}/a.csv'"),
        "pipeline.accepted: found the placeholder {outputs} (did you mean output?); allowed: {outp",
    ),
    (pipeline(rejected="DROP TABLE x"), "pipeline.rejected: "),
    ({"deliveries": None}, "deliveries: missing; allowed: a list of batches"),
    ({"deliveries": []}, "deliveries: found []; allowed: a list of batches"),
    ({"deliveries": [0, 0, 1, 2, 3]}, "deliveries: a batch comes twice; allowed: once; a varian"),
    (
        {"deliveries": [0, 1, 2, {"batch": 3, "as": "copy"}]},
        "deliveries[4]: found copy; allowed: whole ones; a variant cuts and copies",
    ),
    ({"deliveries": [0, 1, 2, "3"]}, "deliveries[4]: found '3'; allowed: the ordinal of a batch"),
    ({"variants": [0, 1]}, "variants: found [0, 1]; allowed: a mapping of names to deliveries"),
    (
        {"variants": {"v": [0, 1, 2, 3, 4]}},
        "variants.v: found batch 4, which deliveries has not",
    ),
    ({"variants": {"v": [0, 1, 2]}}, "variants.v: batch 3 never comes whole; deliveries has 0, 1"),
    (
        {"variants": {"v": [0, 1, 2, 3, {"batch": 0, "as": "cut"}]}},
        "variants.v: batch 0 is cut at last; allowed: the whole file after it",
    ),
    ({"variants": {"v": [0, 1, 2, 3]}}, "variants.v: it is the reference; allowed: another order"),
    ({"interval": "now"}, "interval: found 'now'; allowed: a time"),
    ({"interval": None}, "interval: missing; allowed: "),
    ({"kills": 8}, "kills: found 8; allowed: a mapping with changes, times"),
    ({"kills": {"change": 8}}, "kills.change: unknown key (did you mean changes?)"),
    ({"kills": {"times": -1}}, "kills.times: found -1; allowed: a whole number from 0 to 1000"),
    ({"kills": {"times": 1.5}}, "kills.times: found 1.5; allowed: a whole number from 0 to 1000"),
    ({"repeats": 0}, "repeats: found 0; allowed: a whole number from 1"),
    (
        {"sizes": [{"events": 7000, "repeats": 2}, {"events": 3500, "repeats": 2}]},
        "sizes: found 3500 after 7000; allowed: larger and",
    ),
    ({"sizes": [{"events": 7000, "repeats": 1}]}, "sizes[1].repeats: found 1; allowed: a whole"),
]


@pytest.mark.parametrize(("keys", "words"), WRONG)
def test_a_wrong_key_is_one_fault(changed, keys, words):
    """The message names the key, what was found and what is allowed."""
    with pytest.raises(InputError) as error:
        changed(**keys)
    assert error.value.exit_code == 2
    assert error.value.where == f"experiments/{EXPERIMENT}/experiment.yaml"
    assert len(error.value.faults) == 1, error.value.faults
    assert error.value.faults[0].startswith(words), error.value.faults


WRONG_CRITERIA = [
    (
        {"kind": "recall", "low": 1, "defect": "invalid_emun"},
        "criteria[more].defect: found 'invalid_emun' (did you mean invalid_enum?); allowed: missi",
    ),
    (
        {"kind": "lost", "defect": "late"},
        "criteria[more].defect: found 'late'; a criterion of kind lost has no defect",
    ),
    (
        {"kind": "pipeline_growth", "high": 1.1, "quantity": "memroy"},
        "criteria[more].quantity: found 'memroy' (did you mean memory?); allowed: time, cpu, memo",
    ),
    (
        {"kind": "pipeline_time", "high": 1, "quantity": "cpu"},
        "criteria[more].quantity: found 'cpu'; a criterion of kind pipeline_time has no quantity",
    ),
    ({"kind": "recall"}, "criteria[more].low: missing; a criterion"),
    ({"kind": "pipeline_time"}, "criteria[more].high: missing; a criterion"),
    ({"kind": "recal", "low": 1}, "criteria[more].kind: found 'recal' (did you mean recall?)"),
]


@pytest.mark.parametrize(("row", "words"), WRONG_CRITERIA)
def test_a_wrong_criterion_is_one_fault(changed, row, words):
    """With the nearest of what is allowed."""
    with pytest.raises(InputError) as error:
        changed(criteria=[row])
    assert len(error.value.faults) == 1, error.value.faults
    assert error.value.faults[0].startswith(words), error.value.faults


FINDINGS = [
    ({"kind": "idempotent"}, {"variants": None}, "no variant delivers a batch again"),
    ({"kind": "order_independent"}, {"variants": None}, "no variant delivers the same batches in"),
    (
        {"kind": "complete_after_partial"},
        {"variants": {"v": [3, 2, 1, 0]}},
        "no variant delivers half a file first",
    ),
    ({"kind": "crash_safe"}, {"kills": None}, "kills is missing"),
    ({"kind": "crash_safe"}, {"kills": {"changes": 0}}, "kills is missing"),
    ({"kind": "pipeline_growth", "high": 2}, {}, "sizes has 0, and a law takes 3"),
    (
        {"kind": "pipeline_growth", "high": 2, "quantity": "memory"},
        {"sizes": [{"events": 3500, "repeats": 2}]},
        "sizes has 1, and a law takes 2",
    ),
    ({"kind": "pipeline_throughput", "low": 1}, {"repeats": 1}, "repeats is 1, and an interval ta"),
    ({"kind": "pipeline_variation", "high": 1}, {"repeats": 1}, "repeats is 1, and an interval ta"),
    (
        {"kind": "recall", "low": 1, "defect": "null_value"},
        {"defects": {"late": 0.01, "wrong_type": 0.01}},
        "the configuration injects no null_value",
    ),
    (
        {"kind": "recall", "low": 1},
        {"defects": {"late": 0.01, "duplicate": 0.01}},
        "the configuration injects nothing that must be refused",
    ),
    ({"kind": "recall", "low": 1}, {"defects": {}}, "the configuration injects nothing that must"),
]


@pytest.mark.parametrize(("row", "keys", "words"), FINDINGS)
def test_the_check_finds_what_cannot_be_decided(changed, row, keys, words):
    """Before the run; the criterion that asks for what is not there is named."""
    result = check_experiment(changed(criteria=[row], **keys))
    assert len(result.findings) == 1, result.findings
    assert words in result.findings[0]
    assert "more" in result.findings[0]


def test_the_check_finds_nothing_wrong_with_what_ships(changed):
    """But says what few kills could miss."""
    result = check_experiment(changed())
    assert result.findings in ((), [])
    assert [warning for warning in result.warnings if "few kills: 8" in warning]
    many = check_experiment(changed(kills={"changes": 8, "times": 8}))
    assert not [warning for warning in many.warnings if "few kills" in warning]


def test_the_check_tells_the_expected_lines_of_each_kind(changed, fleetsim_cli, monkeypatch):
    """As JSON too, for a script."""
    experiment = changed()
    monkeypatch.chdir(experiment.folder.parents[1])
    done = fleetsim_cli("check", EXPERIMENT, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    text = json.dumps(told)
    assert all(kind in text for kind in experiment.config.defects)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "found 'no-such-program', which is not there on the PATH"),
        (["./absent.sh"], "found './absent.sh', which is not there in "),
        (["./plain.sh"], "found './plain.sh', which is not executable"),
        (["./folder"], "found './folder', which is a folder"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused(changed, command, words):
    """Before a batch is made."""
    experiment = changed(**pipeline(command=command))
    (experiment.folder / "plain.sh").write_text("echo\n")
    (experiment.folder / "folder").mkdir()
    with pytest.raises(InputError, match=words) as error:
        check_command(experiment)
    assert error.value.where == "pipeline.command"
    assert error.value.next_step


def test_placeholders_are_put_in(changed):
    """Those of a shell and of find are left."""
    words = ["{python}", "-c", "find {landing} -exec cat {} > ${HOME}/x", "--to={output}/a"]
    keys = changed(**pipeline(command=words)).keys
    made = command_of(keys.under_test, Path("/l"), Path("/o"))
    assert os.access(made[0], os.X_OK)
    assert made[2:] == ["find /l -exec cat {} > ${HOME}/x", "--to=/o/a"]


def test_the_files_of_a_pipeline_are_its_source(tmp_path):
    """Not what an editor, Python or fleetsim itself leaves there."""
    for name in ("a.py", "sql/b.sql", ".hidden", "__pycache__/a.pyc", "experiment.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(files_of(tmp_path)) == ["a.py", "sql/b.sql"]


@pytest.mark.parametrize(
    ("count", "most", "wanted"),
    [(4, 0, []), (0, 4, []), (4, 2, [1, 2]), (3, 9, [1, 5, 9]), (1, 9, [1])],
)
def test_kills_are_spread_over_the_changes(count, most, wanted):
    """From the first to the last."""
    assert list(spread(count, most)) == wanted
