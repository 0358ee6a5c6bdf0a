"""Pipelines that misbehave: the examination goes on, and the criteria say what happened."""

from __future__ import annotations

import pytest
from bench import ZOO, deliver, examine, failing, judgements, keys_of, under_test

from fleetsim.base.errors import InputError
from fleetsim.base.verdict import Verdict
from fleetsim.kinds.pipeline import trial
from fleetsim.kinds.pipeline.words import answer

#: Ingest as the honest one does, then do one more thing.
HONEST = f"""
import os, pathlib, runpy, shutil, sys, time
landing = pathlib.Path(os.environ["FLEETSIM_LANDING"])
output = pathlib.Path(os.environ["FLEETSIM_OUTPUT"])
batches = sorted(path.name for path in (landing / "events").iterdir())
sys.argv = ["zoo.py", "honest"]
runpy.run_path({str(ZOO)!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """Return three small dirty batches."""
    folder = tmp_path_factory.mktemp("delivered")
    return deliver(folder, 3, number_of_companies=3, drivers_per_company=8)


@pytest.fixture
def found(tmp_path, delivered):
    """Return what is found out about a script."""

    def of(script: str, variants: dict | None = None, kills: dict | None = None, **changes):
        keys = keys_of(
            pipeline=under_test("-c", script, **changes), variants=variants or {}, kills=kills
        )
        return examine(tmp_path / "run", delivered, keys)

    return of


CUT_PARQUET = """
path = output / "accepted" / "more.parquet"
if {when}:
    path.write_bytes(b"PAR1" + bytes(40))
"""
COPIED = {"again_elsewhere": [0, 1, {"batch": 1, "as": "copy"}, 2]}


def test_a_damaged_output_of_the_reference_is_a_result(found):
    """Nothing counts as accepted: all is lost, and a note says why."""
    evidence = found(HONEST + CUT_PARQUET.format(when="True"), {"reordered": [2, 1, 0]})
    assert {"lost", "recall", "unaccounted"} <= failing(evidence)
    assert evidence.notes[0].startswith("reference: its output cannot be read: pipeline.accepted: ")
    judged = judgements(evidence)
    assert "Reference: its output cannot be read" in judged["completes"].note
    for kind in ("unexpected", "duplicated", "altered", "order_independent"):
        assert judged[kind].verdict is Verdict.INCONCLUSIVE, kind
    assert "The output cannot be read after reference" in answer(evidence)
    assert evidence.found.accepted_rows == 0
    assert evidence.found.lost > 200


def test_a_damaged_output_of_a_variant_differs_in_all_rows(found):
    """The reference stays as good as it is."""
    when = "any(name.endswith('-copy') for name in batches)"
    evidence = found(HONEST + CUT_PARQUET.format(when=when), COPIED)
    assert failing(evidence) == {"idempotent"}
    assert [variant.differ for variant in evidence.variants] == [evidence.found.accepted_rows]
    assert evidence.notes[0].startswith("again_elsewhere: its output cannot be read: ")


def test_an_output_that_a_kill_damaged_makes_it_fatal(found):
    """Half a Parquet file is what a kill leaves; the next start trusts it."""
    script = """
import os, pathlib, sys, time
output = pathlib.Path(os.environ["FLEETSIM_OUTPUT"])
if (output / "accepted").exists():
    sys.exit(0)
(output / "accepted").mkdir()
time.sleep(0.05)
(output / "accepted" / "a.parquet").write_bytes(b"PAR1")
time.sleep(0.3)
(output / "accepted" / "a.parquet").unlink()
"""
    script += HONEST
    evidence = found(script, kills={"changes": 0, "times": 6})
    fatal = [kill for kill in evidence.kills if kill.fatal]
    assert fatal
    assert "crash_safe" in failing(evidence)
    assert {note.partition(":")[0] for note in evidence.notes} <= {k.name for k in evidence.kills}
    assert any("its output cannot be read" in note for note in evidence.notes)


SOURCE = "FROM read_json('{output}/accepted/*.jsonl')"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (f"SELECT event_id {SOURCE}", "column driver_id is missing; column company_id is missing"),
        (f"SELECT * EXCLUDE (truck_id), 1 AS truck_id {SOURCE}", "column truck_id: found another"),
        (f"SELECT nothing {SOURCE}", 'Referenced column "nothing" not found'),
        ("SELECT * FROM no_table", "Table with name no_table does not exist"),
        ("SELECT * FROM read_json('/etc/*.json')", "DuckDB refuses the query"),
    ],
)
def test_a_wrong_query_is_an_error(found, query, words):
    """Of a pipeline that ended well: nobody can say what it did."""
    with pytest.raises(InputError) as error:
        found(HONEST, accepted=query)
    assert error.value.where == "pipeline.accepted"
    assert words in "; ".join(error.value.faults)
    assert "docs/pipelines.md" in str(error.value)


def test_an_output_without_its_columns_after_an_error_is_a_result(found):
    """What a start leaves that ended by an error says nothing of the query."""
    script = (
        "import os, pathlib\n"
        "folder = pathlib.Path(os.environ['FLEETSIM_OUTPUT'], 'accepted')\n"
        "folder.mkdir()\n"
        "(folder / 'x.jsonl').write_text('{\"event_id\": \"1\"}')\n"
        "raise RuntimeError('no more room')\n"
    )
    evidence = found(script)
    assert failing(evidence) == {"completes", "lost"}
    note = judgements(evidence)["completes"].note
    assert "1 of 1 starts did not end" in note
    assert "stderr ends with: RuntimeError: no more room" in note
    assert "Reference: its output cannot be read: pipeline.accepted: column driver_id" in note


def test_no_rows_at_all_pass_nothing_but_what_was_looked_at(found):
    """A pipeline that does nothing ends well, and that is all."""
    variants = {"reordered": [2, 0, 1], **COPIED, "half": [{"batch": 0, "as": "cut"}, 0, 1, 2]}
    evidence = found("import time; time.sleep(0.2)", variants, {"changes": 0, "times": 1})
    judged = judgements(evidence)
    assert [kind for kind in judged if judged[kind].verdict is Verdict.PASS] == ["completes"]
    assert failing(evidence) == {"lost"}
    assert [kill.struck for kill in evidence.kills] == [True]
    assert judged["crash_safe"].note.startswith("No verdict: no row was accepted")


def test_a_pipeline_that_deletes_its_landing_folder(found):
    """It has read all before, once started after all deliveries; a note says what it did."""
    evidence = found(HONEST + "shutil.rmtree(landing)\n")
    assert failing(evidence) == set()
    note = "reference: it changed or deleted files of its landing folder"
    assert evidence.notes == [note]
    assert "Reference: it changed or deleted files" in judgements(evidence)["completes"].note


def test_a_pipeline_that_deletes_its_landing_folder_each_time(found):
    """Batches go on arriving; that it then fails is a result."""
    evidence = found(HONEST + "shutil.rmtree(landing)\n", start="each_delivery")
    assert [start.well for start in evidence.starts] == [True, False, False]
    assert {"completes", "lost"} <= failing(evidence)
    assert "FileNotFoundError" in judgements(evidence)["completes"].note


def test_a_pipeline_that_writes_into_its_own_folder(found):
    """The folder of the experiment is none of its business."""
    evidence = found(HONEST + "open('state.db', 'w').write('1')\n")
    assert evidence.notes == ["reference: it wrote into the experiment's folder: state.db"]
    assert failing(evidence) == set()


def test_a_pipeline_that_deletes_its_output(found):
    """There is nothing in it then."""
    evidence = found(HONEST + "shutil.rmtree(output)\n")
    assert failing(evidence) == {"lost"}


def test_gigabytes_are_stopped(found, monkeypatch):
    """Output beyond its limit ends a start, and the run goes on."""
    monkeypatch.setattr(trial, "OUTPUT_ROOM", 1 << 20)
    monkeypatch.setattr(trial, "OUTPUT_FACTOR", 0)
    script = (
        "import os, pathlib\n"
        "file = open(pathlib.Path(os.environ['FLEETSIM_OUTPUT'], 'log'), 'wb')\n"
        "while True:\n"
        "    file.write(bytes(1 << 18)); file.flush()\n"
    )
    evidence = found(script)
    assert {start.ended for start in evidence.starts} == {"output"}
    assert "completes" in failing(evidence)
    assert "beyond the limit" in judgements(evidence)["completes"].note


def test_a_pipeline_that_never_ends(found):
    """The limit of time ends it; what it wrote before counts."""
    script = HONEST + "print('waiting', file=sys.stderr, flush=True)\ntime.sleep(1000)\n"
    evidence = found(script, timeout="PT3S")
    assert failing(evidence) == {"completes"}
    note = judgements(evidence)["completes"].note
    assert "1 of 1 starts did not end by themselves" in note
    assert "it ran into the limit of time after" in note
    assert "stderr ends with: waiting" in note


def test_kills_that_strike_nothing_leave_it_open(found, monkeypatch):
    """A verdict needs a kill that struck."""
    monkeypatch.setattr(trial.Trial, "_kill", lambda *_: None)
    evidence = found(HONEST, kills={"changes": 1, "times": 1})
    assert not any(kill.struck for kill in evidence.kills)
    judged = judgements(evidence)["crash_safe"]
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "no kill struck" in judged.note
