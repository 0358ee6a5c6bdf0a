"""Audit: honest data pass whoever made them; whatever is wrong is a finding, never a traceback."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import AT, NAME, Cli, Project

from fleetsim.base.files import hash_file
from fleetsim.generate.config import load_config
from fleetsim.tally.audit import audit_data
from fleetsim.tally.faults import EXAMPLES

FINDING = 3


@pytest.fixture
def data(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a data set of two batches, about 30 events each."""
    project.write(event_rate_per_driver=3.0, number_of_companies=20)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    assert fleetsim_cli(*project.make_events("--batches", 2)).code == 0
    return project


def audit_of(project: Project, *options: object, folder: Path | None = None) -> list[object]:
    """Return the command that audits a data set."""
    return ["audit", folder or project.config.parent, "--config", project.config, *options]


def events_file(data: Project) -> Path:
    """Return the events of the first batch."""
    return data.batch / "events.jsonl"


def test_honest_data_are_found_in_order(data: Project, fleetsim_cli: Cli) -> None:
    """Exit 0, no finding, and every test of two batches is listed with its verdict."""
    done = fleetsim_cli(*audit_of(data))
    assert (done.code, done.err) == (0, "")
    assert "Nothing found. Of fault-free data, 5 % fail some test by chance." in done.out
    assert "2 batches" in done.out
    for name in ("event_count", "events_per_driver", "batch_ties"):
        assert re.search(rf"^{name} .* pass ", done.out, re.MULTILINE)


def test_json_holds_what_the_table_shows(data: Project, fleetsim_cli: Cli) -> None:
    """Findings, faults by kind, and each test with its figures, as strict JSON."""
    found = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    assert found["batch_ids"] == [NAME, "20251108T121500Z"]
    assert found["findings"] == found["faults"] == []
    assert set(found["fault_counts"].values()) == {0}
    (group,) = found["groups"]
    assert group["drivers"] == 60
    assert group["event_count"] == found["event_count"]
    assert {test["name"] for test in group["tests"]} >= {"event_count", "batch_pairs"}
    assert all(test["verdict"] in ("pass", "inconclusive") for test in group["tests"])


@pytest.mark.parametrize("where", ["data set", "events", "batch"])
def test_a_folder_is_known_by_what_stands_in_it(
    data: Project, fleetsim_cli: Cli, where: str
) -> None:
    """The data set, its folder of batches, and one batch: the companies are found from each."""
    folder = {"data set": None, "events": data.events, "batch": data.batch}[where]
    done = fleetsim_cli(*audit_of(data, folder=folder))
    assert done.code == 0, done.out + done.err
    assert ("1 batch," if where == "batch" else "2 batches,") in done.out


def test_the_seed_does_not_matter_but_has_to_agree_with_itself(
    data: Project, fleetsim_cli: Cli
) -> None:
    """Data of another seed follow the same law; a record that names two seeds is wrong."""
    shutil.rmtree(data.events)
    assert fleetsim_cli(*data.make_events("--seed", 7)).code == 0
    assert fleetsim_cli(*audit_of(data)).code == 0
    meta = data.batch / "batch_meta.json"
    meta.write_text(
        meta.read_text().replace('"seed":7', '"seed":8', 1).replace('"seed": 7', '"seed": 8', 1)
    )
    done = fleetsim_cli(*audit_of(data))
    assert done.code == FINDING
    assert "config.seed is 7" in done.out


def test_companies_that_joined_later_do_not_spoil_earlier_batches(
    data: Project, fleetsim_cli: Cli
) -> None:
    """A batch is held to the companies that stood in the file when it was made."""
    # An interval after the second cohort joins, made before the file has that cohort.
    ahead = data.make_events("--interval-start", "2025-11-08T15:00:00Z", "--ordinal", 2)
    assert fleetsim_cli(*ahead).code == 0
    assert fleetsim_cli(*data.make_companies("--at", AT, "--cohorts", 2)).code == 0
    later = data.make_events("--interval-start", "2025-11-08T13:00:00Z", "--ordinal", 3)
    assert fleetsim_cli(*later).code == 0
    found = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    assert found["findings"] == []
    assert [(g["drivers"], g["batch_ids"][0]) for g in found["groups"]] == [
        (60, NAME),
        (120, "20251108T130000Z"),
        (60, "20251108T150000Z"),
    ]
    done = fleetsim_cli(*audit_of(data))
    assert done.code == 0, done.out
    assert "of 120 drivers" in done.out


def test_another_law_is_found(data: Project, fleetsim_cli: Cli) -> None:
    """The same files do not fit a configuration with another rate: records and counts say so."""
    data.write(event_rate_per_driver=6.0)
    done = fleetsim_cli(*audit_of(data))
    assert done.code == FINDING
    assert "config.event_rate_per_driver is 3.0" in done.out
    assert re.search(
        r"- 20251108T120000Z .. 20251108T121500Z: event_count fails \(p < 1 in ", done.out
    )
    assert "Are there as many events as the configuration expects? No: most at batch" in (
        " ".join(done.out.split())
    )


# --- bad input: each change of a folder, and what the finding says


def line(number: int, change: Callable[[bytes], bytes]) -> Callable[[Project], None]:
    """Return a change of one line of the first batch, counted from 1."""

    def apply(data: Project) -> None:
        lines = events_file(data).read_bytes().splitlines(keepends=True)
        lines[number - 1] = change(lines[number - 1])
        events_file(data).write_bytes(b"".join(lines))

    return apply


def empty_folder(data: Project) -> None:
    for path in (data.events, data.companies):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def no_batch(data: Project) -> None:
    shutil.rmtree(data.events)
    data.events.mkdir()


def foreign_folder(data: Project) -> None:
    empty_folder(data)
    (data.config.parent / "photos").mkdir()
    (data.config.parent / "photos" / "holiday.jpg").write_bytes(b"\xff\xd8\xff")


def foreign_events(data: Project) -> None:
    events_file(data).write_bytes(bytes(range(255, -1, -1)) * 500)


def stray_file(data: Project) -> None:
    (data.events / "notes.txt").write_text("mine")


def no_companies(data: Project) -> None:
    data.companies.unlink()


def broken_companies(data: Project) -> None:
    lines = data.companies.read_bytes().splitlines(keepends=True)
    data.companies.write_bytes(b"".join([*lines[:2], b'{"company_id": 3}\n', *lines[3:]]))


def binary_companies(data: Project) -> None:
    data.companies.write_bytes(b"\xff\xfe\x00")


def companies_is_a_folder(data: Project) -> None:
    data.companies.unlink()
    data.companies.mkdir()


def half_written_batch(data: Project) -> None:
    content = events_file(data).read_bytes()
    events_file(data).write_bytes(content[: len(content) // 2])
    (data.batch / "batch_meta.json").unlink()


def left_behind(data: Project) -> None:
    (data.events / f".{NAME}.1234.partial").mkdir()


def no_events_file(data: Project) -> None:
    events_file(data).unlink()


def empty_events(data: Project) -> None:
    events_file(data).write_bytes(b"")


def events_is_a_folder(data: Project) -> None:
    events_file(data).unlink()
    events_file(data).mkdir()


def everything_twice(data: Project) -> None:
    content = events_file(data).read_bytes()
    events_file(data).write_bytes(content + content)


def crlf_everywhere(data: Project) -> None:
    events_file(data).write_bytes(events_file(data).read_bytes().replace(b"\n", b"\r\n"))


def utf16(data: Project) -> None:
    events_file(data).write_bytes(events_file(data).read_text().encode("utf-16"))


def byte_order_mark(data: Project) -> None:
    events_file(data).write_bytes(b"\xef\xbb\xbf" + events_file(data).read_bytes())


def one_endless_line(data: Project) -> None:
    events_file(data).write_bytes(b"[" * 20_000_000)


def nested_record(data: Project) -> None:
    (data.batch / "batch_meta.json").write_text("[" * 200_000 + "]" * 200_000)


def nested_value_in_record(data: Project) -> None:
    path = data.batch / "batch_meta.json"
    text = path.read_text().rstrip().removesuffix("}")
    path.write_text(text + ',"extra":' + "[" * 100_000 + "]" * 100_000 + "}")


def record_is_binary(data: Project) -> None:
    (data.batch / "batch_meta.json").write_bytes(b"\xff\xfe\x00\x01")


def record_key_twice(data: Project) -> None:
    path = data.batch / "batch_meta.json"
    path.write_text(path.read_text().replace("{", '{"event_count": 1, ', 1))


def huge_numbers_in_record(data: Project) -> None:
    path = data.batch / "batch_meta.json"
    path.write_text(re.sub(r'"event_count": ?\d+', '"event_count": ' + "9" * 400, path.read_text()))


def same_batch_again(data: Project) -> None:
    shutil.copytree(data.batch, data.events / "20251108T123000Z")


def dangling_link(data: Project) -> None:
    events_file(data).unlink()
    events_file(data).symlink_to("nowhere.jsonl")


def link_to_itself(data: Project) -> None:
    events_file(data).unlink()
    events_file(data).symlink_to("events.jsonl")


def edit(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda text: text.replace(old, new, 1)


CHANGES: list[tuple[str, Callable[[Project], None], str]] = [
    ("empty folder", empty_folder, "not a data set: neither events/ nor a batch stands here"),
    ("no batch", no_batch, "events: there is no batch here"),
    ("foreign folder", foreign_folder, "not a data set"),
    ("foreign events", foreign_events, f"{NAME} line 1: not UTF-8"),
    ("stray file", stray_file, "events/notes.txt: does not belong here"),
    ("no companies", no_companies, "companies.jsonl: no such file"),
    ("broken companies", broken_companies, "companies.jsonl: line 3: "),
    ("binary companies", binary_companies, "companies.jsonl: line 1"),
    ("companies is a folder", companies_is_a_folder, "companies.jsonl: cannot be read"),
    ("half written", half_written_batch, f"{NAME}: batch_meta.json is missing"),
    ("half written, last line", half_written_batch, "the last line is cut"),
    ("left behind", left_behind, "left by a writer that did not finish"),
    ("no events", no_events_file, f"{NAME}: events.jsonl is missing"),
    ("empty events", empty_events, "event_count is "),
    ("events is a folder", events_is_a_folder, f"{NAME}: events.jsonl cannot be read"),
    ("dangling link", dangling_link, f"{NAME}: events.jsonl is missing"),
    ("link to itself", link_to_itself, f"{NAME}: events.jsonl cannot be read"),
    ("everything twice", everything_twice, "already stands in"),
    ("same batch again", same_batch_again, "already stands in"),
    ("CRLF", line(7, edit(b"\n", b"\r\n")), f"{NAME} line 7: ends with CR LF"),
    ("CRLF everywhere", crlf_everywhere, f"{NAME} line 1: ends with CR LF"),
    ("UTF-16", utf16, f"{NAME} line 1: not UTF-8"),
    ("BOM", byte_order_mark, f"{NAME} line 1: begins with a byte order mark"),
    ("endless line", one_endless_line, f"{NAME} line 1: a line of 20 000 000 bytes"),
    ("invalid UTF-8", line(7, edit(b"TRK", b"T\xffK")), f"{NAME} line 7: not UTF-8: byte"),
    ("a key twice", line(7, edit(b"{", b'{"event_id":"x",')), "line 7: key 'event_id' twice"),
    ("deep", line(7, lambda _: b"[" * 9999 + b"]" * 9999 + b"\n"), "line 7: not valid JSON"),
    ("deep in a key", line(7, edit(b"{", b'{"a":' + b'{"a":' * 9999)), "line 7: not valid JSON"),
    ("a number as text", line(7, edit(b'"TRK-', b'"')), "line 7: truck_id is "),
    (
        "text as a number",
        line(7, lambda t: re.sub(rb'"TRK-(\d+)"', rb"\1", t)),
        "line 7: truck_id is a number",
    ),
    ("NaN", line(7, lambda t: re.sub(rb'"TRK-\d+"', b"NaN", t)), "line 7: not valid JSON: NaN"),
    ("huge number", line(7, lambda t: re.sub(rb'"TRK-\d+"', b"9" * 9999, t)), "line 7: "),
    ("NUL bytes", line(7, lambda t: b"\0" * len(t)), "line 7: "),
    ("blank line", line(7, lambda t: t + b"\n"), "line 8: a blank line"),
    ("two in a line", line(7, lambda t: t[:-1] + t), "line 7: not valid JSON: Extra data"),
    ("nested record", nested_record, f"{NAME}: "),
    ("nested value", nested_value_in_record, f"{NAME}"),
    ("a key of the record twice", record_key_twice, "duplicate key 'event_count'"),
    ("binary record", record_is_binary, f"{NAME}: damaged: "),
    ("huge number in the record", huge_numbers_in_record, "event_count is 9999"),
]


@pytest.mark.parametrize(
    ("change", "sentence"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_what_is_wrong_is_a_finding(
    data: Project, fleetsim_cli: Cli, change: Callable[[Project], None], sentence: str
) -> None:
    """Exit 3, the place and the fault on standard output, and nothing else goes wrong."""
    change(data)
    done = fleetsim_cli(*audit_of(data))
    assert done.code == FINDING, done.out + done.err
    assert sentence in done.out
    assert done.err == ""
    assert "Nothing found" not in done.out
    assert max(map(len, done.out.splitlines())) < 600
    found = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    assert any(sentence in finding for finding in found["findings"])


def test_faults_beyond_the_first_are_counted(data: Project, fleetsim_cli: Cli) -> None:
    """Hundreds of bad lines are a number, the first of them by name, and a sum at the end."""
    lines = len(events_file(data).read_bytes().splitlines())
    crlf_everywhere(data)
    found = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    assert found["fault_counts"]["line"] == lines
    shown = [fault for fault in found["faults"] if fault["kind"] == "line"]
    assert len(shown) == EXAMPLES
    assert f"and {lines - EXAMPLES} more faults of the same kinds" in found["findings"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--config", "C"], "nowhere: no such folder; expected a data set"),
        (["C", "--config", "C"], "not a folder; expected a data set"),
        ([".", "--config", "nothing.yaml"], "nothing.yaml"),
        ([".", "--config", "C", "--companies", "nothing.jsonl"], "nothing.jsonl: no such file"),
        ([".", "--config", "C", "--alpha", "1"], "Invalid value for '--alpha'"),
        (["."], "Missing option '--config'"),
    ],
)
def test_bad_usage_is_no_finding(
    data: Project,
    fleetsim_cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """What the user named wrongly is an error of usage: exit 2, one message on standard error."""
    monkeypatch.chdir(data.config.parent)
    done = fleetsim_cli("audit", *[data.config.name if a == "C" else a for a in arguments])
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_empty_batch_of_rate_zero_is_in_order(project: Project, fleetsim_cli: Cli) -> None:
    """No event where none is expected: the count says so, the rest cannot tell."""
    project.write(event_rate_per_driver=0)
    assert fleetsim_cli(*project.make_events()).code == 0
    done = fleetsim_cli(*audit_of(project))
    assert done.code == 0, done.out
    assert re.search(r"questions: 1 yes, 0 no, \d+ cannot tell", done.out)


@pytest.fixture(params=["jsonl.gz", "jsonl.zst", "parquet"])
def packed(request: pytest.FixtureRequest, data: Project, fleetsim_cli: Cli) -> Path:
    """Return the events file of the same batches in another format."""
    shutil.rmtree(data.events)
    assert fleetsim_cli(*data.make_events("--batches", 2, "--format", request.param)).code == 0
    return next(data.batch.glob("events.*"))


def test_every_format_is_read(packed: Path, data: Project, fleetsim_cli: Cli) -> None:
    """The figures are those of the same events as JSON Lines, and nothing is found."""
    found = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    assert found["findings"] == []
    shutil.rmtree(data.events)
    assert fleetsim_cli(*data.make_events("--batches", 2)).code == 0
    plain = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    assert found["groups"] == plain["groups"]


def test_a_compressed_file_is_hashed_on_the_way(
    packed: Path, data: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not fetched again, unless its end was not reached; Parquet is not read in order."""
    hashed: list[str] = []

    def hash_again(path: Path) -> str:
        hashed.append(path.parent.name)
        return hash_file(path)

    for module in ("fleetsim.batch.verify", "fleetsim.tally.file"):
        monkeypatch.setattr(f"{module}.hash_file", hash_again)
    verify = ("verify", data.batch, "--companies", data.companies)
    assert fleetsim_cli(*audit_of(data)).code == 0
    assert fleetsim_cli(*verify).code == 0
    assert len(hashed) == (3 if packed.suffix == ".parquet" else 0)
    hashed.clear()
    packed.write_bytes(b"x" + packed.read_bytes())
    assert fleetsim_cli(*audit_of(data)).code == FINDING
    assert fleetsim_cli(*verify).code == FINDING
    assert hashed.count(packed.parent.name) == 2


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "missing", "swapped"])
def test_a_damaged_file_of_any_format_is_a_finding(
    packed: Path, data: Project, fleetsim_cli: Cli, damage: str
) -> None:
    """Half a file, other bytes, none, another batch's: named, with exit code 3."""
    content = packed.read_bytes()
    if damage == "missing":
        packed.unlink()
    elif damage == "swapped":
        other = next((data.events / "20251108T121500Z").glob("events.*"))
        packed.write_bytes(other.read_bytes())
    else:
        changed = {"cut": content[: len(content) // 2], "garbage": b"x" * 500, "empty": b""}
        packed.write_bytes(changed[damage])
    done = fleetsim_cli(*audit_of(data))
    assert done.code == FINDING, done.out + done.err
    assert done.err == ""
    assert NAME in done.out
    if damage in ("cut", "garbage"):
        assert f"{packed.name} cannot be read as " in done.out
    if damage == "missing":
        assert f"{packed.name} is missing" in done.out


@pytest.fixture
def parted(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a data set of one batch of four parts."""
    project.write(event_rate_per_driver=1.0, number_of_companies=4, drivers_per_company=1000)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    assert fleetsim_cli(*project.make_events("--part-events", 1000)).code == 0
    return project


def part(data: Project, number: int) -> Path:
    """Return a part of the batch."""
    return data.batch / f"part-{number:06d}.jsonl"


def change_record(data: Project, old: str, new: str) -> None:
    """Replace a piece of the record."""
    path = data.batch / "batch_meta.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def missing_part(data: Project) -> None:
    part(data, 1).unlink()


def extra_part(data: Project) -> None:
    shutil.copy(part(data, 1), part(data, 9))


def bent_part(data: Project) -> None:
    content = part(data, 2).read_bytes()
    at = content.index(b'"event_id":"') + 12
    part(data, 2).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def swapped_parts(data: Project) -> None:
    other = part(data, 2).read_bytes()
    part(data, 2).write_bytes(part(data, 1).read_bytes())
    part(data, 1).write_bytes(other)


def no_record(data: Project) -> None:
    (data.batch / "batch_meta.json").unlink()


def record_names_no_parts(data: Project) -> None:
    path = data.batch / "batch_meta.json"
    record = json.loads(path.read_text())
    del record["parts"]
    path.write_text(json.dumps(record))


def single_file_beside(data: Project) -> None:
    (data.batch / "events.jsonl").write_bytes(b"")


def other_format_beside(data: Project) -> None:
    (data.batch / "part-000001.jsonl.gz").write_bytes(b"")


def path_for_a_name(data: Project) -> None:
    change_record(data, "part-000002.jsonl", "../companies.jsonl")


def a_name_twice(data: Project) -> None:
    change_record(data, "part-000002.jsonl", "part-000001.jsonl")


def folder_for_a_part(data: Project) -> None:
    part(data, 1).unlink()
    part(data, 1).mkdir()


PART_CHANGES: list[tuple[Callable[[Project], None], str]] = [
    (missing_part, f"{NAME}: part-000001.jsonl is missing"),
    (extra_part, f"{NAME}: part-000009.jsonl is a part that the record does not name"),
    (bent_part, f"{NAME}/batch_meta.json: part-000002.jsonl: sha256 is"),
    (swapped_parts, f"{NAME}/part-000002.jsonl line 1: a driver that stands above"),
    (no_record, f"{NAME}: batch_meta.json is missing"),
    (record_names_no_parts, f"{NAME}/batch_meta.json: parts is None; the files and the"),
    (single_file_beside, f"{NAME}: events.jsonl does not belong to a batch"),
    (other_format_beside, "part-000001.jsonl.gz is a part in another format than part-000000"),
    (path_for_a_name, "parts: '../companies.jsonl' is no name of a part of the format 'jsonl'"),
    (a_name_twice, "parts: duplicate part-000001.jsonl"),
    (folder_for_a_part, f"{NAME}: part-000001.jsonl cannot be read"),
]


def test_parts_are_audited_as_one_file_is(parted: Project, fleetsim_cli: Cli) -> None:
    """The same figures, and nothing is found."""
    assert len(list(parted.batch.glob("part-*"))) == 4
    parts = json.loads(fleetsim_cli(*audit_of(parted, "--json")).out)
    assert parts["findings"] == []
    assert fleetsim_cli(*parted.make_events("--force")).code == 0
    assert json.loads(fleetsim_cli(*audit_of(parted, "--json")).out) == parts


@pytest.mark.parametrize(
    ("change", "sentence"), PART_CHANGES, ids=[change.__name__ for change, _ in PART_CHANGES]
)
def test_what_is_wrong_with_parts_is_a_finding(
    parted: Project, fleetsim_cli: Cli, change: Callable[[Project], None], sentence: str
) -> None:
    """Exit 3 with the name of the part; where the files are in order, their tests are made."""
    change(parted)
    done = fleetsim_cli(*audit_of(parted, "--json"))
    assert (done.code, done.err) == (FINDING, "")
    found = json.loads(done.out)
    assert any(sentence in finding for finding in found["findings"]), found["findings"]
    if change in (bent_part, extra_part, no_record, record_names_no_parts, single_file_beside):
        assert len(found["findings"]) <= 2  # the hash of the file, and of its lines
        assert found["groups"][0]["drivers"] == 4000


def test_audit_writes_nothing(data: Project) -> None:
    """Looking changes neither data nor folder."""
    from support import tree

    before: dict[str, Any] = tree(data.config.parent)
    assert audit_data(load_config(data.config), data.config.parent).findings == ()
    assert tree(data.config.parent) == before


# --- every cause is told, and what was not examined


def rewrite(data: Project, change: Callable[[int, bytes], bytes]) -> int:
    """Change every line of the first batch by its number, from 1; return how many there are."""
    lines = events_file(data).read_bytes().splitlines(keepends=True)
    events_file(data).write_bytes(b"".join(change(i, row) for i, row in enumerate(lines, start=1)))
    return len(lines)


def spaced(_: int, row: bytes) -> bytes:
    """Return a line as json.dumps writes it by default."""
    return json.dumps(json.loads(row)).encode() + b"\n"


def changed(row: bytes, **values: object) -> bytes:
    """Return a line with other values, in compact form; a value of Ellipsis drops its key."""
    event = {key: value for key, value in (json.loads(row) | values).items() if value is not ...}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def rest(data: Project, fleetsim_cli: Cli) -> dict[str, Any]:
    """Return the audit of a data set as plain data."""
    done = fleetsim_cli(*audit_of(data, "--json"))
    assert done.code == FINDING, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_a_frequent_fault_does_not_hide_a_rare_one(data: Project, fleetsim_cli: Cli) -> None:
    """Twenty-five lines out of order, then one key missing and one time that is null."""

    def change(number: int, row: bytes) -> bytes:
        if number <= 25:
            return changed(row, event_id=..., driver_id=json.loads(row)["driver_id"])[:-2] + (
                b',"event_id":"' + json.loads(row)["event_id"].encode() + b'"}\n'
            )
        if number == 30:
            return changed(row, truck_id=...)
        return changed(row, timestamp=None) if number == 40 else row

    rewrite(data, change)
    found = rest(data, fleetsim_cli)
    assert {(row["cause"], row["number"]) for row in found["causes"] if row["kind"] == "line"} == {
        ("order of keys", 25),
        ("missing key truck_id", 1),
        ("timestamp is null", 1),
    }
    for sentence in ("line 30: missing key 'truck_id'", "line 40: timestamp is null, not text"):
        assert f"{NAME} {sentence}" in found["findings"]
    assert found["examined"]["member"] == {
        "number": found["event_count"] - 1,
        "of": found["event_count"],
    }
    assert found["examined"]["time"]["number"] == found["event_count"] - 1
    text = fleetsim_cli(*audit_of(data)).out
    assert re.search(r"^missing key truck_id +1 ", text, re.MULTILINE)
    first = found["event_count"] - 1, found["event_count"]
    assert re.search(rf"timestamp outside .* none found in {first[0]} of {first[1]} lines", text)


def test_one_line_may_have_several_faults(data: Project, fleetsim_cli: Cli) -> None:
    """CR LF, an unknown type, a null truck and a time outside, all of line 7."""
    rewrite(
        data,
        lambda i, row: (
            row
            if i != 7
            else changed(
                row, event_type="parked", truck_id=None, timestamp="2030-01-01T00:00:00.000000Z"
            ).replace(b"\n", b"\r\n")
        ),
    )
    told = [finding for finding in rest(data, fleetsim_cli)["findings"] if "line 7: " in finding]
    assert [finding.partition("line 7: ")[2].split()[0] for finding in told] == [
        "ends",
        "truck_id",
        "event_type",
        "2030-01-01T00:00:00.000000Z",
    ]


def test_lines_in_another_spelling_are_asked_for_everything(
    data: Project, fleetsim_cli: Cli
) -> None:
    """Default spaces of json.dumps everywhere: ids twice, types and times are found as ever."""
    honest = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    lines = rewrite(data, spaced)
    found = rest(data, fleetsim_cli)
    assert found["fault_counts"] | {"meta": 0} == {**honest["fault_counts"], "line": lines}
    assert found["groups"] == honest["groups"]  # the same events count, in every test
    assert found["examined"] == honest["examined"]

    first = json.loads(events_file(data).read_bytes().splitlines()[0])["event_id"]
    late = "2030-01-01T00:00:00.000000Z"
    rewrite(data, lambda _, row: spaced(0, changed(row, event_id=first, timestamp=late)))
    found = rest(data, fleetsim_cli)
    assert (found["fault_counts"]["duplicate"], found["fault_counts"]["time"]) == (lines - 1, lines)
    rewrite(data, lambda _, row: spaced(0, changed(row, event_type="parked")))
    found = rest(data, fleetsim_cli)
    # What has no known type is no event of the statistics, but still a copy that lies outside.
    assert found["fault_counts"] | {"meta": 0} == {
        **{"folder": 0, "line": lines, "member": lines, "meta": 0},
        **{"duplicate": lines - 1, "time": lines},
    }


def test_what_was_not_examined_is_never_said_to_be_clean(data: Project, fleetsim_cli: Cli) -> None:
    """Lines that are no JSON: no id, no time, nobody; and no test of any of them."""
    shutil.rmtree(data.events / "20251108T121500Z")
    lines = rewrite(data, lambda *_: b"garbage\n")
    found = rest(data, fleetsim_cli)
    for kind in ("member", "duplicate", "time"):
        assert found["examined"][kind] == {"number": 0, "of": lines}
    assert {test["verdict"] for test in found["groups"][0]["tests"]} == {"inconclusive"}
    why = f"no test: none of {lines} lines could be read as an event of a known driver"
    assert {test["note"] for test in found["groups"][0]["tests"]} == {why}
    text = fleetsim_cli(*audit_of(data)).out
    assert re.search(rf"^event_id twice +– +0 of {lines} +0 of {lines} lines examined", text, re.M)
    assert not re.search(r"none found$", text, re.MULTILINE)


def test_half_of_the_lines_refused_are_refused_in_every_test(
    data: Project, fleetsim_cli: Cli
) -> None:
    """The count and the drivers' counts see the same lines."""
    rewrite(data, lambda number, row: row if number % 2 else b"garbage\n")
    (group,) = rest(data, fleetsim_cli)["groups"]
    tests = {test["name"]: test for test in group["tests"]}
    assert tests["event_count"]["statistic"] == group["event_count"] == tests["event_types"]["n"]
    assert tests["events_per_driver"]["verdict"] == tests["event_count"]["verdict"]


def test_a_file_that_cannot_be_read_is_a_finding_and_no_test(
    data: Project, fleetsim_cli: Cli
) -> None:
    """One of two batches has no events: what counts events cannot tell, with the reason."""
    events_file(data).unlink()
    found = rest(data, fleetsim_cli)
    (group,) = found["groups"]
    tests = {test["name"]: test for test in group["tests"]}
    for name in ("event_count", "event_count_within_margin", "events_per_driver", "batch_totals"):
        assert (tests[name]["verdict"], tests[name]["p_value"]) == ("inconclusive", None)
        assert tests[name]["note"] == "no test: 1 of 2 files could not be read"
    assert tests["event_times_inside"]["n"] == group["event_count"]
    assert f"{NAME}: events.jsonl is missing" in found["findings"]
    assert not any("event_count fails" in finding for finding in found["findings"])
    shutil.rmtree(data.events / "20251108T121500Z")
    (group,) = rest(data, fleetsim_cli)["groups"]
    assert {test["verdict"] for test in group["tests"]} == {"inconclusive"}


@pytest.mark.parametrize("name", ["events.parquet", "events.jsonl.gz"])
@pytest.mark.parametrize("kind", ["FIFO", "folder"])
def test_what_is_no_plain_file_ends_no_audit(
    data: Project, fleetsim_cli: Cli, name: str, kind: str
) -> None:
    """It is a finding of its batch, and the other batch is read."""
    events_file(data).unlink()
    path = data.batch / name
    os.mkfifo(path) if kind == "FIFO" else path.mkdir()
    found = rest(data, fleetsim_cli)
    (reason,) = [finding for finding in found["findings"] if f"found a {kind}" in finding]
    assert name in reason
    assert found["groups"][0]["event_count"] > 100


def test_times_without_an_interval_are_not_inside(data: Project, fleetsim_cli: Cli) -> None:
    """Neither name nor record says which interval it is: no test passes on what nobody saw."""
    shutil.rmtree(data.events / "20251108T121500Z")
    (data.batch / "batch_meta.json").unlink()
    data.batch.rename(data.events / "mine")
    found = rest(data, fleetsim_cli)
    (group,) = found["groups"]
    tests = {test["name"]: test for test in group["tests"]}
    for name, test in tests.items():
        if name.startswith("event_times"):
            assert (test["verdict"], test["p_value"]) == ("inconclusive", None)
    lines = found["event_count"]
    assert tests["event_times_inside"]["note"] == (
        f"no test: no interval is known of {lines} of {lines} events"
    )
    assert tests["event_count"]["verdict"] == "pass"
    assert found["examined"]["time"] == {"number": 0, "of": lines}


def test_bad_companies_are_listed_and_the_others_read(data: Project, fleetsim_cli: Cli) -> None:
    """A geography that is null, 24 more bad lines would be listed too; the events are read."""
    honest = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    rows = data.companies.read_bytes().splitlines(keepends=True)
    rows[2] = re.sub(rb'"geography":"\w+"', b'"geography":null', rows[2])
    rows[5], rows[7] = b"\n", rows[6]
    data.companies.write_bytes(b"".join(rows))
    found = rest(data, fleetsim_cli)
    assert found["event_count"] == honest["event_count"]
    assert len(found["batch_ids"]) == 2
    for line, what in ((3, "geography"), (6, "not valid JSON"), (8, "already stands on line 7")):
        (told,) = (f for f in found["findings"] if f.startswith(f"companies.jsonl: line {line}: "))
        assert what in told
    (group,) = found["groups"]
    assert group["drivers"] == 60 - 3 * 3
    tests = {test["name"]: test["verdict"] for test in group["tests"]}
    assert tests["event_count"] == tests["events_per_driver"] == "pass"
    strangers = [f for f in found["faults"] if f["cause"] == "unknown company"]
    assert all("is not on a good line of the companies file" in f["message"] for f in strangers)
    lost = sum(row["number"] for row in found["causes"] if row["cause"] == "unknown company")
    assert lost + group["event_count"] == honest["event_count"]
    data.companies.write_bytes(b"{}\n" * 25)
    found = rest(data, fleetsim_cli)
    assert sum(f.startswith("companies.jsonl: line ") for f in found["findings"]) == 25
    assert found["event_count"] == honest["event_count"]


# --- other layouts, and no companies


@pytest.mark.parametrize("change", [empty_folder, foreign_folder])
def test_where_nothing_is_found_the_layout_is_shown(
    data: Project, fleetsim_cli: Cli, change: Callable[[Project], None]
) -> None:
    """What an audit expects, with an example of the folders; and nothing is said to be clean."""
    change(data)
    text = fleetsim_cli(*audit_of(data)).out
    for part in ("companies.jsonl ", "events/\n", f"{NAME}/", "--read", "--roster from-events"):
        assert part in text
    assert "none found" not in text
    assert NAME in rest(data, fleetsim_cli)["expected"]


def test_without_companies_the_events_are_read_all_the_same(
    data: Project, fleetsim_cli: Cli
) -> None:
    """Missing it is a finding; wanted it is none. The tests that need a roster are left out."""
    honest = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    data.companies.unlink()
    found = rest(data, fleetsim_cli)
    assert (found["roster"], found["event_count"]) == ("none", honest["event_count"])
    done = fleetsim_cli(*audit_of(data, "--roster", "from-events", "--json"))
    assert done.code == 0, done.out
    wanted = json.loads(done.out)
    assert (wanted["roster"], wanted["findings"]) == ("from-events", [])
    assert wanted["examined"]["member"]["number"] == 0
    assert {"event_count", "events_per_driver", "batch_drivers"} <= set(wanted["left_out"])
    mine = {test["name"]: test for test in wanted["groups"][0]["tests"]}
    its = {test["name"]: test for test in honest["groups"][0]["tests"]}
    assert set(mine) == set(its) - set(wanted["left_out"])
    for name in mine:  # p-values are those with a roster; only the size of the family differs
        assert mine[name]["p_value"] == its[name]["p_value"], name
    text = fleetsim_cli(*audit_of(data, "--roster", "from-events")).out
    assert "There is no roster" in text
    assert "event_count," in text
    refused = fleetsim_cli(
        *audit_of(data, "--roster", "from-events", "--companies", data.companies)
    )
    assert refused.code == 2


def test_without_a_roster_what_an_event_says_of_itself_is_still_held(
    data: Project, fleetsim_cli: Cli
) -> None:
    """A driver of another company, a number out of range, a type."""

    def change(number: int, row: bytes) -> bytes:
        driver = json.loads(row)["driver_id"]
        other = driver.replace(driver[4:12], "00000000")
        return {
            1: lambda: changed(row, driver_id=other),
            2: lambda: changed(row, driver_id=driver[:-3] + "007"),
            3: lambda: changed(row, event_type="parked"),
        }.get(number, lambda: row)()

    rewrite(data, change)
    data.companies.unlink()
    done = fleetsim_cli(*audit_of(data, "--roster", "from-events", "--json"))
    causes = {row["cause"]: row["number"] for row in json.loads(done.out)["causes"]}
    for cause in ("driver of another company", "unknown driver", "unknown event_type"):
        assert causes[cause] == 1


def hive(data: Project, *, records: bool, files: str = "part-{}.jsonl") -> None:
    """Put the batches below folders named key=value, with or without their records."""
    hour = data.events / "date=2025-11-08" / "hour=12"
    hour.parent.mkdir()
    for number, name in enumerate((NAME, "20251108T121500Z")):
        if records:
            (data.events / name).rename(hour.with_name(f"minute={number}"))
        else:
            hour.mkdir(exist_ok=True)
            (data.events / name / "events.jsonl").rename(hour / files.format(number, name=name))
            shutil.rmtree(data.events / name)
    (data.events / "date=2025-11-08" / "_SUCCESS").touch()


@pytest.mark.parametrize("files", ["part-{}.jsonl", "{name}.jsonl", None])
def test_folders_named_key_value_hold_batches(
    data: Project, fleetsim_cli: Cli, files: str | None
) -> None:
    """Each file is a batch: by its record, its name, or the interval of its first event."""
    honest = json.loads(fleetsim_cli(*audit_of(data, "--json")).out)
    hive(data, records=files is None, files=files or "")
    done = fleetsim_cli(*audit_of(data, "--json"))
    assert done.code == 0, done.out + done.err
    found = json.loads(done.out)
    assert found["groups"][0]["tests"] == honest["groups"][0]["tests"]
    assert all(name.startswith("date=2025-11-08/") for name in found["batch_ids"])
    assert found["examined"]["meta"] == {"number": 2 if files is None else 0, "of": 2}
    (data.events / "date=2025-11-08" / "photo.jpg").touch()
    assert (
        "date=2025-11-08/photo.jpg: does not belong here: no file of events"
        in (rest(data, fleetsim_cli)["findings"])
    )


def test_files_of_one_interval_are_parts_of_one_batch(data: Project, fleetsim_cli: Cli) -> None:
    """A folder as long as an interval: its start is the batch's, whatever its files are called."""
    data.write(event_rate_per_driver=3.0, number_of_companies=20, batch_interval="PT1H")
    lines = events_file(data).read_bytes().splitlines(keepends=True)
    hour = data.events / "date=2025-11-08" / "hour=12"
    hour.mkdir(parents=True)
    (hour / "a.jsonl").write_bytes(b"".join(lines[:50]))
    (hour / "b.jsonl").write_bytes(b"".join(lines[50:]))
    shutil.rmtree(data.batch)
    shutil.rmtree(data.events / "20251108T121500Z")
    found = rest(data, fleetsim_cli)  # all events in the first quarter of the hour
    assert found["batch_ids"] == ["date=2025-11-08/hour=12"]
    assert (found["event_count"], sum(found["fault_counts"].values())) == (len(lines), 0)


# --- any data by a query

READ = "SELECT * FROM read_csv('{data}/*.csv')"


@pytest.fixture
def table(data: Project) -> Project:
    """Return the data set with its events as one CSV, in no order."""
    rows = [
        json.loads(line)
        for path in sorted(data.events.glob("*/events.jsonl"))
        for line in path.read_text().splitlines()
    ]
    rows.sort(key=lambda row: row["event_id"])
    with (data.config.parent / "feed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return data


def test_a_query_is_audited_as_the_batches_are(table: Project, fleetsim_cli: Cli) -> None:
    """Every test has the figures that the files give; files and records are not looked at."""
    honest = json.loads(fleetsim_cli(*audit_of(table, "--json")).out)
    done = fleetsim_cli(*audit_of(table, "--read", READ, "--json"))
    assert done.code == 0, done.out + done.err
    found = json.loads(done.out)
    assert (found["groups"], found["read"]) == (honest["groups"], READ)
    for kind in ("folder", "meta"):
        assert found["examined"][kind] == {"number": 0, "of": 2}
    text = fleetsim_cli(*audit_of(table, "--read", f"{READ} -- mine")).out
    assert "Nothing is said of files" in text
    start = ("--interval-start", "2025-11-08T12:00:00Z", "--batches", "2")
    again = json.loads(fleetsim_cli(*audit_of(table, "--read", f"{READ};", *start, "--json")).out)
    assert again["groups"] == honest["groups"]


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("timestamp", "NULL", "timestamp is null"),
        ("truck_id", "NULL", "truck_id is null"),
        ("truck_id", "truck_id || chr(10) || '{}'", "form of truck_id"),
        ("event_type", "'parked'", "unknown event_type"),
        ("event_type", "repeat('x', 1000000)", "unknown event_type"),
        ("event_id", "'00000000-0000-4000-8000-000000000000'", "event_id twice"),
        ("timestamp", "TIMESTAMPTZ '2030-01-01 00:00:00Z'", "outside the interval"),
        ("timestamp", "TIMESTAMPTZ 'infinity'", "timestamp is null"),
    ],
)
def test_what_is_wrong_with_a_row_is_a_finding(
    table: Project, fleetsim_cli: Cli, column: str, value: str, cause: str
) -> None:
    """A row is never more than one line, whatever its texts hold."""
    sql = (
        f"SELECT * REPLACE (CASE WHEN driver_id LIKE '%-001' THEN {value} ELSE {column} END "  # noqa: S608
        f"AS {column}) FROM read_csv('{{data}}/*.csv')"
    )
    start = ("--interval-start", "2025-11-08T12:00:00Z", "--batches", "2")
    done = fleetsim_cli(*audit_of(table, "--read", sql, *start, "--json"))
    assert done.code == FINDING, done.out + done.err
    found = json.loads(done.out)
    rows = (table.config.parent / "feed.csv").read_text().splitlines()[1:]
    wrong = sum("-001," in row for row in rows) - (cause == "event_id twice")
    assert found["event_count"] == len(rows)
    assert {row["cause"]: row["number"] for row in found["causes"]}[cause] == wrong
    assert max(map(len, found["findings"])) < 400


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1 AS a", "column event_id is missing"),
        (
            "SELECT * REPLACE (timestamp::TIMESTAMP AS timestamp) FROM read_csv('{data}/*.csv')",
            "CAST",
        ),
        ("SELECT * REPLACE (1 AS truck_id) FROM read_csv('{data}/*.csv')", "found 'INTEGER'"),
        ("COPY (SELECT 1) TO '{data}/out.csv'", "found COPY; allowed: one SELECT"),
        ("SELECT 1; SELECT 2", "found SELECT, SELECT; allowed: one SELECT"),
        ("SET threads = 1", "allowed: one SELECT"),
        ("", "found nothing"),
        ("SELEC", "the query cannot be run: Parser Error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT * FROM read_csv('{data}/../*.csv')", "the query cannot be run"),
        ("SELECT * FROM read_csv('https://example.org/a.csv')", "Permission Error"),
        ("SELECT * FROM settings", "the query cannot be run: Catalog Error"),
    ],
)
def test_a_query_that_is_not_one_is_refused(
    table: Project, fleetsim_cli: Cli, sql: str, message: str
) -> None:
    """Exit 2, one message; nothing outside of the data is read, and nothing is written."""
    before = sorted(table.config.parent.iterdir())
    done = fleetsim_cli(*audit_of(table, "--read", sql))
    assert (done.code, done.out) == (2, "")
    assert "--read: " in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert sorted(table.config.parent.iterdir()) == before


@pytest.mark.parametrize("shift", ["- INTERVAL 3000 YEAR", "+ INTERVAL 9000 YEAR"])
def test_times_outside_of_the_calendar_are_faults_of_their_rows(
    table: Project, fleetsim_cli: Cli, shift: str
) -> None:
    """Of all rows, and of one beside others, whose interval then is that of the others."""
    every = READ.replace("*", f"* REPLACE (timestamp {shift} AS timestamp)", 1)
    one = f"{READ} UNION ALL ({every} LIMIT 1)"
    for query, faults in ((every, None), (one, 1)):
        done = fleetsim_cli(*audit_of(table, "--read", query, "--json"))
        assert done.code == 3, done.err
        causes = json.loads(done.out)["causes"]
        found = sum(row["number"] for row in causes if "timestamp" in row["cause"])
        assert found == faults or (faults is None and found > 100)


def test_intervals_beyond_the_calendar_are_refused(table: Project, fleetsim_cli: Cli) -> None:
    """Before any row is looked at."""
    start = ("--interval-start", "9999-12-31T23:45:00Z", "--batches", "3")
    done = fleetsim_cli(*audit_of(table, "--read", READ, *start))
    assert done.code == 2
    assert "found 3 x PT15M from 9999-12-31T23:45:00.000000Z on; allowed: an end" in done.err


def test_times_that_make_too_many_intervals_are_refused(table: Project, fleetsim_cli: Cli) -> None:
    """One stray year is not two million batches."""
    sql = READ.replace("*", "* REPLACE (TIMESTAMPTZ '2125-01-01 00:00:00Z' AS timestamp)", 1)
    both = f"{READ} UNION ALL {sql}"
    done = fleetsim_cli(*audit_of(table, "--read", both))
    assert done.code == 2
    assert "give --interval-start and --batches" in done.err
