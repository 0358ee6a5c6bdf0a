"""Audit with a ledger: what it explains is no finding, and nothing else is excused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dirtied import make_dirty, read_lines
from support import AT, NAME, Cli, Project

from fleetsim.generate.config import load_config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.tally.audit import audit_data

pytestmark = pytest.mark.slow

FINDING, BAD_INPUT = 3, 2
SECOND = "20251108T121500Z"
RATES = dict.fromkeys(DEFECT_KINDS, 0.01) | {"late": 0.03}
COLUMNS = {kind: rate for kind, rate in RATES.items() if DEFECT_KINDS[kind].columns}


def clean(
    project: Project, cli: Cli, *options: object, rates: Any = RATES, companies: int = 40
) -> Project:
    """Make a clean data set of two batches, about 1,400 events each, and say that it is dirty."""
    project.write(
        event_rate_per_driver=1400 / companies / 10,
        number_of_companies=companies,
        drivers_per_company=10,
    )
    project.companies.unlink()
    assert cli(*project.make_companies("--at", AT)).code == 0
    assert cli(*project.make_events("--batches", 2, *options)).code == 0
    project.write(defects=rates)
    return project


def soil(project: Project, **options: Any) -> int:
    """Inject defects by hand into both batches."""
    batches = [project.batch, project.events / SECOND]
    return make_dirty(load_config(project.config), batches, ledger_of(project), **options)


def ledger_of(project: Project) -> Path:
    """Return the folder of the ledgers."""
    return project.events.parent / "ledger"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the dirty data are kept, which are made once."""
    return tmp_path_factory.mktemp("dirty") / "data"


@pytest.fixture
def data(project: Project, fleetsim_cli: Cli, kept: Path) -> Project:
    """Return dirty data of two batches with all kinds of defects."""
    if not kept.exists():
        soil(clean(project, fleetsim_cli))
        shutil.copytree(project.config.parent, kept)
    else:
        shutil.copytree(kept, project.config.parent, dirs_exist_ok=True)
    return project


def audit_of(project: Project, *options: object, ledger: bool = True) -> list[object]:
    """Return the command that audits a data set with its ledger."""
    more = ["--ledger", ledger_of(project)] if ledger else []
    return ["audit", project.config.parent, "--config", project.config, *more, *options]


def audited(project: Project, cli: Cli, *options: object, code: int = 0) -> dict[str, Any]:
    """Return the audit as plain data."""
    done = cli(*audit_of(project, "--json", *options))
    assert done.code == code, done.out
    found: dict[str, Any] = json.loads(done.out)
    return found


def entries_of(project: Project, name: str = NAME) -> list[dict[str, Any]]:
    """Return the entries of a ledger."""
    lines = (ledger_of(project) / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_entries(project: Project, entries: list[dict[str, Any]], *, signed: bool = True) -> None:
    """Write the ledger of the first batch anew, and its hash into the record."""
    path = ledger_of(project) / f"{NAME}.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if signed:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        change_meta(project, lambda meta: meta["defects"].update(ledger_sha256=digest))


def change_meta(project: Project, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the record of the first batch."""
    path = project.batch / "batch_meta.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def change_lines(project: Project, change: Callable[[list[bytes]], object]) -> None:
    """Change the lines of the first batch, and its record with them."""
    path = project.batch / "events.jsonl"
    lines = path.read_bytes().splitlines()
    change(lines)
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(content)
    own = hashlib.sha256(content).hexdigest()
    change_meta(
        project,
        lambda meta: meta.update(
            event_count=len(lines), bytes=len(content), sha256=own, content_sha256=own
        ),
    )


def first_of(project: Project, kind: str) -> dict[str, Any]:
    """Return the first entry of a kind in the first batch."""
    return next(entry for entry in entries_of(project) if entry["kind"] == kind)


# --- what is right passes


def test_what_the_ledger_explains_is_no_finding(data: Project, fleetsim_cli: Cli) -> None:
    """Exit 0; each kind has its entries, all of them found; the tests look at the clean lines."""
    found = audited(data, fleetsim_cli)
    assert found["findings"] == []
    rows = {row["kind"]: row for row in found["explained"]}
    assert list(rows) == list(DEFECT_KINDS)
    entries = entries_of(data) + entries_of(data, SECOND)
    for kind, row in rows.items():
        assert row["entries"] == row["found"] == sum(e["kind"] == kind for e in entries) > 0
        assert 0 < row["p_value"] <= 1
    lines = sum(len(read_lines(data.events / n / "events.jsonl")) for n in (NAME, SECOND))
    assert found["event_count"] == lines
    (group,) = found["groups"]
    assert group["event_count"] == lines - len(entries)
    assert group["lines_left_out"] == 0
    names = [test["name"] for test in group["tests"]]
    assert names[-len(DEFECT_KINDS) :] == [f"defects_{kind}" for kind in DEFECT_KINDS]
    assert all(test["p_holm"] for test in group["tests"][-len(DEFECT_KINDS) :])
    assert found["examined"]["member"] == {"number": lines - len(entries)} | {
        "of": lines - len(entries)
    }


def test_counts_are_held_among_the_records_that_were_drawn(
    data: Project, fleetsim_cli: Cli
) -> None:
    """Copies and late records of others are no records; late ones are known of the first batch."""
    found = audited(data, fleetsim_cli)
    rows = {row["kind"]: row for row in found["explained"]}
    entries = entries_of(data) + entries_of(data, SECOND)
    away = sum(e["kind"] in ("duplicate", "conflicting_duplicate", "late") for e in entries)
    assert rows["null_value"]["n"] == found["event_count"] - away
    first = len(read_lines(data.batch / "events.jsonl"))
    first -= sum(e["kind"] in ("duplicate", "conflicting_duplicate") for e in entries_of(data))
    assert rows["late"]["n"] == first + rows["late"]["found"]
    assert rows["late"]["expected"] == pytest.approx(0.03 * rows["late"]["n"])
    chance = 0.01 / 0.97
    assert rows["null_value"]["expected"] == pytest.approx(chance * rows["null_value"]["n"])


def test_the_table_says_what_is_explained(data: Project, fleetsim_cli: Cli) -> None:
    """A row a kind, with entries, found, expected and p."""
    done = fleetsim_cli(*audit_of(data))
    assert done.code == 0
    assert "Explained by the ledger" in done.out
    assert re.search(r"kind +entries +found +expected +p", done.out)
    assert re.search(r"^late +\d+ +\d+ +[\d.]+ +[\d.]+", done.out, re.MULTILINE)
    assert "Nothing found." in done.out


def test_without_a_ledger_each_defect_is_a_finding(data: Project, fleetsim_cli: Cli) -> None:
    """As before; one line says that there is the option."""
    done = fleetsim_cli(*audit_of(data, ledger=False))
    assert done.code == FINDING
    assert done.out.count("--ledger DIR") == 1
    assert "Explained by the ledger" not in done.out
    found = json.loads(fleetsim_cli(*audit_of(data, "--json", ledger=False)).out)
    assert "explained" not in found
    assert "ledger" not in found["fault_counts"]
    entries = len(entries_of(data) + entries_of(data, SECOND))
    assert sum(found["fault_counts"].values()) >= entries * 0.9  # a copy is one, a pair is one


def test_one_batch_alone_knows_no_late_records(data: Project, fleetsim_cli: Cli) -> None:
    """Those of its own come later, those it brings are of a batch that is not there: no test."""
    done = fleetsim_cli(
        "audit",
        data.events / SECOND,
        *("--config", data.config, "--ledger", ledger_of(data), "--json"),
    )
    assert done.code == 0, done.out
    found = json.loads(done.out)
    row = next(row for row in found["explained"] if row["kind"] == "late")
    assert row["entries"] == row["found"] > 0
    assert (row["tested"], row["n"], row["p_value"]) == (0, 0, None)
    names = [test["name"] for test in found["groups"][0]["tests"]]
    assert "defects_null_value" in names
    assert "defects_late" not in names  # as tests of several batches are left out


@pytest.mark.parametrize("format", ["jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("parts", [False, True])
def test_every_format_and_parts_are_explained(
    project: Project, fleetsim_cli: Cli, format: str, parts: bool
) -> None:
    """The ledger's hashes are those of the lines, which a row of Parquet is written as."""
    rates = COLUMNS if format == "parquet" else RATES
    more = ["--part-events", 500] if parts else []  # a part has 1,024 drivers or more
    size = 220 if parts else 40
    clean(project, fleetsim_cli, "--format", format, *more, rates=rates, companies=size)
    total = soil(project)
    found = audited(project, fleetsim_cli)
    assert sum(row["found"] for row in found["explained"]) == total
    assert len(list(ledger_of(project).rglob("part-*.jsonl"))) == (6 if parts else 0)


def test_workers_see_the_same(data: Project) -> None:
    """A mapper that hands back the last file first gives the same audit."""
    import pickle

    def backwards(function: Any, tasks: Any) -> Any:
        for task in reversed(list(tasks)):
            yield task, pickle.loads(pickle.dumps(function(task)))  # noqa: S301

    config = load_config(data.config)
    folder, ledger = data.config.parent, ledger_of(data)
    here = audit_data(config, folder, ledger=ledger)
    there = audit_data(config, folder, ledger=ledger, mapper=backwards)
    assert there.as_dict() == here.as_dict()
    assert here.findings == ()


def test_without_a_roster_the_ledger_still_explains(data: Project, fleetsim_cli: Cli) -> None:
    """Nobody is unknown then; an orphan is explained all the same."""
    found = audited(data, fleetsim_cli, "--roster", "from-events")
    assert found["findings"] == []
    assert all(row["entries"] == row["found"] for row in found["explained"])


def test_clean_data_need_no_ledger(project: Project, fleetsim_cli: Cli) -> None:
    """Where nothing is injected an empty folder is in order."""
    clean(project, fleetsim_cli, rates={})
    ledger_of(project).mkdir()
    found = audited(project, fleetsim_cli)
    assert (found["findings"], found["explained"]) == ([], [])


# --- what must fail


def repaired(data: Project) -> str:
    """Repair a defect of the ledger in the data."""
    entry = first_of(data, "null_value")

    def repair(lines: list[bytes]) -> None:
        record = json.loads(lines[entry["line"] - 1]) | {entry["field"]: entry["original"]}
        lines[entry["line"] - 1] = json.dumps(record, separators=(",", ":")).encode()

    change_lines(data, repair)
    return f"{NAME} line {entry['line']}: the ledger has null_value here, and a line of other bytes"


def one_more(data: Project) -> str:
    """Add one more defect than the ledger has."""
    touched = {entry["line"] for entry in entries_of(data)}
    number = next(n for n in range(10, 1000) if n not in touched)

    def spoil(lines: list[bytes]) -> None:
        record = json.loads(lines[number - 1]) | {"truck_id": None}
        lines[number - 1] = json.dumps(record, separators=(",", ":")).encode()

    change_lines(data, spoil)
    return f"{NAME} line {number}: truck_id is null, not text"


def one_entry_less(data: Project) -> str:
    """Leave a line that has a defect out of the ledger."""
    entry = first_of(data, "wrong_type")
    write_entries(data, [e for e in entries_of(data) if e != entry])
    return f"{NAME} line {entry['line']}: {entry['field']} is a list, not text"


def copy_not_named(data: Project) -> str:
    """Leave a copy out of the ledger: its id stands twice."""
    entry = first_of(data, "duplicate")
    write_entries(data, [e for e in entries_of(data) if e != entry])
    return f"event_id {entry['event_id']} already stands in"


def late_twice(data: Project) -> str:
    """Deliver a late record in its own batch as well."""
    entry = next(e for e in entries_of(data, SECOND) if e["kind"] == "late")
    line = read_lines(data.events / SECOND / "events.jsonl")[entry["line"] - 1]
    change_lines(data, lambda lines: lines.append(line))
    return f"event_id {entry['event_id']} already stands in"


def swapped_kind(data: Project) -> str:
    """Swap the kind of an entry, in a ledger that its record knows."""
    entry = first_of(data, "null_value")
    entries = [e | {"kind": "extra_field"} if e == entry else e for e in entries_of(data)]
    write_entries(data, entries)
    return (
        f"{NAME} line {entry['line']}: the ledger has extra_field here, which is not what the "
        "line has"
    )


def clean_line_named(data: Project) -> str:
    """Excuse a clean line by an entry."""
    entries = entries_of(data)
    touched = {entry["line"] for entry in entries}
    number = next(n for n in range(10, 1000) if n not in touched)
    raw = read_lines(data.batch / "events.jsonl")[number - 1]
    entry = first_of(data, "null_value") | {
        "line": number,
        "event_id": json.loads(raw)["event_id"],
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    write_entries(data, sorted([*entries, entry], key=lambda e: e["line"]))
    return f"line {number}: the ledger has null_value here, which is not what the line has"


def line_beyond(data: Project) -> str:
    """Name a line that is not there."""
    entry = first_of(data, "null_value")
    write_entries(data, [*entries_of(data), entry | {"line": 10**6}])
    return f"{NAME} line 1000000: the ledger has null_value here: there is no such line"


def other_hash(data: Project) -> str:
    """Change the ledger, so that it is not the one that the record names."""
    entries = entries_of(data)
    write_entries(data, [*entries[:-1], entries[-1] | {"expect": "either"}], signed=False)
    return f"{NAME}: ledger: found a ledger with the sha256"


def other_batch(data: Project) -> str:
    """Give the batch the ledger of another one, which its record knows."""
    write_entries(data, entries_of(data, SECOND))
    return f"found an entry of the batch '{SECOND}'"


def cut_off(data: Project) -> str:
    """Cut the ledger within a line."""
    path = ledger_of(data) / f"{NAME}.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    return f"{NAME}: ledger: the ledger is cut off within a line"


def missing(data: Project) -> str:
    """Remove the ledger of a batch."""
    (ledger_of(data) / f"{NAME}.jsonl").unlink()
    return f"{NAME}: ledger: no such file"


def no_hash(data: Project) -> str:
    """Let the record name no ledger."""
    change_meta(data, lambda meta: meta.pop("defects"))
    return f"{NAME}/batch_meta.json: it names no ledger"


def other_rates(data: Project) -> str:
    """Give the record other rates than the configuration."""
    change_meta(data, lambda meta: meta["defects"]["rates"].update(late=0.5))
    return "defects.rates is"


def bad_digest(data: Project) -> str:
    """Give an entry a hash that is none."""
    entries = entries_of(data)
    write_entries(data, [*entries[:-1], entries[-1] | {"sha256": "soon"}])
    return "ledger: damaged: found 'soon'"


def last_line_cut(data: Project) -> str:
    """Take the line feed of the last line, which is one of the ledger's."""
    path = data.events / SECOND / "events.jsonl"
    assert entries_of(data, SECOND)[-1]["line"] == len(read_lines(path))
    path.write_bytes(path.read_bytes()[:-1])
    return "the ledger has late here, and a line of other bytes"


@pytest.mark.parametrize(
    "spoil",
    [
        repaired,
        one_more,
        one_entry_less,
        copy_not_named,
        late_twice,
        swapped_kind,
        clean_line_named,
        line_beyond,
        other_hash,
        other_batch,
        cut_off,
        missing,
        no_hash,
        other_rates,
        bad_digest,
        last_line_cut,
    ],
)
def test_what_the_ledger_does_not_explain_is_a_finding(
    data: Project, fleetsim_cli: Cli, spoil: Callable[[Project], str]
) -> None:
    """Exit 3, and the finding says which."""
    expected = spoil(data)
    findings = audited(data, fleetsim_cli, code=FINDING)["findings"]
    assert any(expected in finding for finding in findings), findings


def test_a_ledger_of_no_use_makes_no_test_of_counts(data: Project, fleetsim_cli: Cli) -> None:
    """What cannot be told apart is not counted: no false alarm beside the finding."""
    missing(data)
    found = audited(data, fleetsim_cli, code=FINDING)
    tests = {test["name"]: test for test in found["groups"][0]["tests"]}
    for name in ("event_count", "defects_null_value", "defects_late"):
        assert tests[name]["verdict"] == "inconclusive"
    assert "1 of 2 batches" in tests["event_count"]["note"]


def test_too_few_of_a_kind_fail(project: Project, fleetsim_cli: Cli) -> None:
    """A generator that injects half of one kind: its test fails, and that is the finding."""
    rates = {"null_value": 0.2, "late": 0.03}
    clean(project, fleetsim_cli, rates=rates)
    soil(project, rates={**rates, "null_value": 0.1})
    found = audited(project, fleetsim_cli, code=FINDING)
    assert any("defects_null_value fails" in finding for finding in found["findings"])
    row = found["explained"][0]
    assert row["p_value"] < 1e-6
    assert row["entries"] == row["found"] < 0.6 * row["expected"]


def test_a_kind_that_the_configuration_lacks_fails(data: Project, fleetsim_cli: Cli) -> None:
    """What is in the ledger and not in the configuration has p = 0."""
    rates = {kind: rate for kind, rate in RATES.items() if kind != "extra_field"}
    data.write(defects=rates)
    found = audited(data, fleetsim_cli, code=FINDING)
    row = next(row for row in found["explained"] if row["kind"] == "extra_field")
    assert (row["expected"], row["p_value"]) == (0, 0)
    assert any("defects_extra_field fails" in finding for finding in found["findings"])


def test_a_folder_that_is_not_there_is_bad_input(data: Project, fleetsim_cli: Cli) -> None:
    """Exit 2, and what was expected."""
    done = fleetsim_cli(*audit_of(data, "--ledger", "nowhere", ledger=False))
    assert done.code == BAD_INPUT
    assert "nowhere: no such folder; expected the ledgers of the batches" in done.err


def test_a_query_has_no_lines_to_explain(data: Project, fleetsim_cli: Cli) -> None:
    """The options exclude each other."""
    done = fleetsim_cli(*audit_of(data, "--read", "SELECT 1"))
    assert done.code == BAD_INPUT
    assert "--ledger explains lines of files" in done.err


def test_folders_named_key_value_have_the_ledgers_of_their_batches(
    data: Project, fleetsim_cli: Cli
) -> None:
    """The id is that of the interval, which the records of such folders say."""
    for minute, name in enumerate((NAME, SECOND)):
        folder = data.events / f"date=2025-11-08/part={minute}"
        folder.parent.mkdir(exist_ok=True)
        (data.events / name).rename(folder)
    found = audited(data, fleetsim_cli)
    assert found["findings"] == []
    assert all(row["entries"] == row["found"] > 0 for row in found["explained"])
