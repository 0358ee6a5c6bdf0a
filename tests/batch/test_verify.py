"""Verification: what reproduces, and that every kind of change is found and named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import AT, NAME, Cli, Project

from fleetsim.base.errors import InputError
from fleetsim.batch.verify import batches_below, verify_batch


@pytest.fixture
def made(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a project with two batches of about 30 events."""
    assert fleetsim_cli(*project.make_events("--batches", 2)).code == 0
    return project


@pytest.fixture(params=[1, 1 << 15], ids=["many pieces", "one piece"])
def events(request: pytest.FixtureRequest, made: Project, monkeypatch) -> Path:
    """Return the first batch's events, to be regenerated in many pieces and in one."""
    monkeypatch.setattr("fleetsim.generate.events.CHUNK_EVENTS", request.param)
    return made.batch / "events.jsonl"


def findings(batch: Path, companies: Path | None = None) -> list[str]:
    """Return what verification finds."""
    return list(verify_batch(batch, companies).findings)


def change(batch: Path, **values: Any) -> None:
    """Change keys of a batch's record; a dot leads into a mapping."""
    record = json.loads((batch / "batch_meta.json").read_text())
    for key, value in values.items():
        outer, _, inner = key.partition("__")
        if inner:
            record[outer][inner] = value
        else:
            record[key] = value
    (batch / "batch_meta.json").write_text(json.dumps(record))


def test_a_batch_reproduces(events: Path) -> None:
    """Nothing is found in a batch as it was made."""
    result = verify_batch(events.parent)
    assert result.findings == ()
    assert result.batch_id == NAME
    assert result.event_count == len(events.read_bytes().splitlines())


def test_extended_companies_still_verify(made: Project, fleetsim_cli: Cli) -> None:
    """The first lines of the file are those that the batch was made from."""
    assert fleetsim_cli(*made.make_companies("--cohorts", 3)).code == 0
    assert findings(made.batch) == []


def test_an_empty_batch_verifies(project: Project, fleetsim_cli: Cli) -> None:
    """No event is also a content that can be made again, and one line too much is found."""
    project.write(event_rate_per_driver=0)
    assert fleetsim_cli(*project.make_events()).code == 0
    assert findings(project.batch) == []
    (project.batch / "events.jsonl").write_text("{}\n")
    assert findings(project.batch) == ["events.jsonl: 1 lines more than the 0 of the batch"]


@pytest.mark.parametrize("line", [0, 7, -1])
def test_a_changed_byte_is_found(events: Path, line: int) -> None:
    """The first line that differs is shown as it is and as it should be."""
    lines = events.read_bytes().splitlines(keepends=True)
    number = range(len(lines))[line] + 1
    original = lines[line]
    lines[line] = original.replace(b"2025-11-08", b"2026-11-08")
    events.write_bytes(b"".join(lines))
    old, new = lines[line].decode().strip(), original.decode().strip()
    assert findings(events.parent) == [
        f"events.jsonl: line {number} is {old!r}, the batch has {new!r}"
    ]


@pytest.mark.parametrize("line", [0, 7])
def test_a_dropped_line_is_found(events: Path, line: int) -> None:
    """The line that follows stands in its place."""
    lines = events.read_bytes().splitlines(keepends=True)
    dropped = lines.pop(line)
    events.write_bytes(b"".join(lines))
    assert findings(events.parent) == [
        f"events.jsonl: line {line + 1} is {lines[line].decode().strip()!r}, "
        f"the batch has {dropped.decode().strip()!r}"
    ]


def test_a_dropped_last_line_is_found(events: Path) -> None:
    """The file ends too early."""
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:-1]))
    (finding,) = findings(events.parent)
    assert (
        finding == f"events.jsonl: ends within or before line {len(lines)}; more lines belong to it"
    )


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_cut_line_is_found(events: Path, cut: int) -> None:
    """Also where the last line break alone is missing."""
    content = events.read_bytes()
    events.write_bytes(content[:-cut])
    (finding,) = findings(events.parent)
    assert f"ends within or before line {len(content.splitlines())};" in finding


def test_an_emptied_file_is_found(events: Path) -> None:
    """No byte is left."""
    events.write_bytes(b"")
    assert findings(events.parent) == [
        "events.jsonl: ends within or before line 1; more lines belong to it"
    ]


@pytest.mark.parametrize("line", [0, 7])
def test_an_added_line_is_found(events: Path, line: int) -> None:
    """A line that stands twice shifts the others."""
    lines = events.read_bytes().splitlines(keepends=True)
    lines.insert(line, lines[line])
    events.write_bytes(b"".join(lines))
    (finding,) = findings(events.parent)
    assert finding.startswith(f"events.jsonl: line {line + 2} is ")


def test_lines_added_at_the_end_are_found(events: Path) -> None:
    """How many they are is said."""
    content = events.read_bytes()
    events.write_bytes(content + b"{}\n{}\n")
    count = len(content.splitlines())
    assert findings(events.parent) == [f"events.jsonl: 2 lines more than the {count} of the batch"]


def test_bytes_that_are_no_text_are_found(events: Path) -> None:
    """A file of zeros is shown without harm."""
    events.write_bytes(bytes(events.stat().st_size))
    (finding,) = findings(events.parent)
    assert finding.startswith("events.jsonl: line 1 is '\\x00")
    assert len(finding) < 700


def test_missing_events_are_found(made: Project) -> None:
    """A record alone is no batch."""
    (made.batch / "events.jsonl").unlink()
    assert findings(made.batch) == ["events.jsonl: missing"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("event_count", 1),
        ("bytes", 0),
        ("sha256", "0" * 64),
        ("content_sha256", None),
        ("interval_end", "2025-11-08T12:15:00.000001Z"),
        ("interval_start", "2025-11-08T13:00:00.000000+01:00"),
        ("batch_id", "20251108T120001Z"),
        ("seed", 43),
    ],
)
def test_an_altered_record_is_found(made: Project, key: str, value: Any) -> None:
    """The finding says what is recorded and what the batch has."""
    true = json.loads((made.batch / "batch_meta.json").read_text())[key]
    change(made.batch, **{key: value})
    assert findings(made.batch) == [f"batch_meta.json: {key} is {value!r}, the batch has {true!r}"]


def test_an_altered_number_of_companies_is_found(made: Project) -> None:
    """Eligible companies are counted again."""
    change(made.batch, companies__eligible=3)
    assert findings(made.batch) == [
        "batch_meta.json: 3 eligible companies recorded, 5 of the file are"
    ]


@pytest.mark.parametrize("key", ["ordinal", "config__event_rate_per_driver", "config__seed"])
def test_an_altered_law_is_found(made: Project, key: str) -> None:
    """Another ordinal, rate or seed makes other events from the first line on."""
    change(made.batch, **{key: 3})
    assert any(finding.startswith("events.jsonl: ") for finding in findings(made.batch))


def test_other_companies_are_found(made: Project, fleetsim_cli: Cli, tmp_path: Path) -> None:
    """Another fleet's file is named, and so is what follows from it."""
    other = made._replace(companies=tmp_path / "other.jsonl")
    assert fleetsim_cli(*other.make_companies("--seed", 1, "--at", AT)).code == 0
    found = findings(made.batch, other.companies)
    assert found[0] == ("other.jsonl: its first 5 lines are not those that the batch was made from")
    assert found[1].startswith("events.jsonl: line 1 is ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stream_version": 2}, "made by stream version 2; this fleetsim makes 1"),
        ({"format": "csv"}, "found format 'csv'; allowed: jsonl"),
        ({"interval_start": "noon"}, "interval_start: found 'noon'; allowed: a time"),
        ({"config__seed": -1}, "config: seed: found -1; allowed: a whole number"),
    ],
)
def test_a_record_that_cannot_be_made_again_is_an_error(made: Project, values, message) -> None:
    """It is bad input, no finding: nothing can be said about the batch."""
    change(made.batch, **values)
    with pytest.raises(InputError) as caught:
        verify_batch(made.batch)
    assert str(caught.value).startswith(f"{made.batch / 'batch_meta.json'}: {message}")


def test_missing_companies_are_an_error(made: Project) -> None:
    """The message says which option names the file."""
    made.companies.unlink()
    with pytest.raises(
        InputError, match=r"companies\.jsonl: no such file.*\n *next: .*--companies"
    ):
        verify_batch(made.batch)


def test_batches_are_found_below_a_batch_a_data_set_and_a_run(made: Project, tmp_path) -> None:
    """One batch, the folder of batches, the data set and the run that holds it, in order."""
    both = [made.batch, made.events / "20251108T121500Z"]
    assert batches_below(made.batch) == [made.batch]
    assert batches_below(made.events) == both
    assert batches_below(made.events.parent) == both
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    (run / "data" / "raw").symlink_to(made.events.parent)
    assert [batch.name for batch in batches_below(run)] == [batch.name for batch in both]


@pytest.mark.parametrize("exists", [True, False])
def test_a_place_without_batches_is_an_error(tmp_path, exists: bool) -> None:
    """An empty or a missing folder is not a success."""
    place = tmp_path / "x"
    if exists:
        place.mkdir()
    with pytest.raises(InputError, match=r"no batch here; expected batch_meta\.json"):
        batches_below(place)


def test_the_command_reports_and_exits_0_or_3(made: Project, fleetsim_cli: Cli) -> None:
    """Reproduced batches are named with their size; a finding changes the exit code."""
    good = fleetsim_cli("verify", made.events.parent)
    assert (good.code, good.err) == (0, "")
    assert good.out.splitlines()[1].startswith("20251108T121500Z: reproduced, ")
    change(made.batch, event_count=0)
    bad = fleetsim_cli("verify", made.events.parent)
    assert (bad.code, bad.err) == (3, "")
    assert bad.out.splitlines()[0].startswith(f"{NAME}: batch_meta.json: event_count is 0, ")
    assert bad.out.splitlines()[1] == good.out.splitlines()[1]


def test_the_command_prints_json(made: Project, fleetsim_cli: Cli) -> None:
    """--json holds every batch with its findings, and the exit code is the same."""
    assert all(
        row["findings"] == []
        for row in json.loads(fleetsim_cli("verify", made.events, "--json").out)
    )
    (made.batch / "events.jsonl").unlink()
    bad = fleetsim_cli("verify", made.events, "--json")
    assert bad.code == 3
    first, second = json.loads(bad.out)
    hashes = ["sha256", "content_sha256"]
    assert first == {
        "batch_id": NAME,
        "event_count": first["event_count"],
        "findings": ["events.jsonl: missing"],
        "kept": True,
        "compared": {"files": 0, "lines": 0, "bytes": 0, "hashes": hashes, "companies": 5},
    }
    content = (made.events / "20251108T121500Z" / "events.jsonl").read_bytes()
    assert second == {
        "batch_id": "20251108T121500Z",
        "event_count": content.count(b"\n"),
        "findings": [],
        "kept": True,
        "compared": {
            "files": 1,
            "lines": content.count(b"\n"),
            "bytes": len(content),
            "hashes": hashes,
            "companies": 5,
        },
    }


def test_another_stream_version_exits_2(made: Project, fleetsim_cli: Cli) -> None:
    """The message names the way to verify it."""
    change(made.batch, stream_version=2)
    outcome = fleetsim_cli("verify", made.batch)
    assert (outcome.code, outcome.out) == (2, "")
    assert "next: verify it with the version of fleetsim that its record names" in outcome.err


# Nothing is called reproduced that was not compared.


def printed(outcome: Any, code: int) -> str:
    """Return what a command printed that ended as it should."""
    assert outcome.code == code, outcome
    assert "unexpected" not in outcome.err
    return str(outcome.out + outcome.err)


def test_what_was_compared_is_said(made: Project, fleetsim_cli: Cli) -> None:
    """Lines, bytes, hashes and companies."""
    content = (made.batch / "events.jsonl").read_bytes()
    lines = content.count(b"\n")
    assert fleetsim_cli("verify", made.batch).out == (
        f"{NAME}: reproduced, {lines} events (compared: {lines} lines of {len(content)} bytes, "
        "sha256, content_sha256, 5 companies)\n"
    )


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])
def test_what_was_compared_is_said_of_other_formats(
    project: Project, fleetsim_cli: Cli, form: str
) -> None:
    """A Parquet file has no hash of its content; its rows are compared."""
    assert fleetsim_cli(*project.make_events("--format", form)).code == 0
    (row,) = json.loads(printed(fleetsim_cli("verify", project.batch, "--json"), 0))
    hashes = ["sha256"] if form == "parquet" else ["sha256", "content_sha256"]
    assert row["compared"]["hashes"] == hashes
    assert row["compared"]["lines"] == row["event_count"] > 0


@pytest.mark.parametrize("which", ["events", "batch", "record", "target", "companies", "file"])
def test_what_cannot_be_read_is_an_error(
    made: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """A folder or file without permission is passed over by nobody."""
    places = {
        "events": made.events,
        "batch": made.batch,
        "record": made.batch / "batch_meta.json",
        "target": made.events.parent,
        "companies": made.companies,
        "file": made.batch / "events.jsonl",
    }
    denied = str(places[which])
    scandir, opened = os.scandir, os.open

    def deny(call: Any) -> Any:
        def checked(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path) == denied:
                raise PermissionError(13, "Permission denied", denied)
            return call(path, *rest, **more)

        return checked

    monkeypatch.setattr(os, "scandir", deny(scandir))
    monkeypatch.setattr(os, "open", deny(opened))
    outcome = fleetsim_cli("verify", made.events.parent)
    assert "cannot be read" in printed(outcome, 2)
    assert "Permission denied" in outcome.err
    assert "reproduced" not in outcome.out


def test_a_batch_without_its_record_is_found(made: Project, fleetsim_cli: Cli) -> None:
    """Its neighbour reproduces; it does not."""
    (made.batch / "batch_meta.json").unlink()
    out = printed(fleetsim_cli("verify", made.events.parent), 3)
    assert f"{NAME}: no batch_meta.json in it: nothing of it could be compared" in out
    assert "20251108T121500Z: reproduced" in out


@pytest.mark.parametrize("kind", ["empty folder", "file", "dangling link", "parts"])
def test_what_looks_like_a_batch_is_found(made: Project, fleetsim_cli: Cli, kind: str) -> None:
    """Whatever has the name of a batch, or events in it."""
    path = made.events / "20251108T123000Z"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path = made.events / "more"
        path.mkdir()
        (path / "part-000000.jsonl").write_text("{}\n")
    out = printed(fleetsim_cli("verify", made.events), 3)
    assert f"{path.name}: no " in out
    assert "nothing of it could be compared" in out
    hidden = made.events / ".more"
    path.rename(hidden)
    assert fleetsim_cli("verify", made.events).code == 0


def test_a_link_to_itself_is_told_as_such(tmp_path: Path, fleetsim_cli: Cli) -> None:
    """It is no name of a run, of which no project would be needed."""
    link = tmp_path / "round"
    link.symlink_to(link)
    done = fleetsim_cli("verify", link)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "round: cannot be read: Too many levels of symbolic links" in done.err


def test_a_copy_under_another_name_is_found(made: Project, fleetsim_cli: Cli) -> None:
    """A second copy of one batch is not the other batch; a copy elsewhere is a batch."""
    other = made.events / "20251108T121500Z"
    shutil.rmtree(other)
    shutil.copytree(made.batch, other)
    out = printed(fleetsim_cli("verify", made.events), 3)
    assert f"the folder's name is {other.name}, its record is that of {NAME}" in out
    alone = shutil.copytree(made.batch, made.events.parent / "mine")
    assert fleetsim_cli("verify", alone, "--companies", made.companies).code == 0


def test_batches_in_two_places_are_all_compared(made: Project, fleetsim_cli: Cli) -> None:
    """Those of `events` and those of `data/raw/events`."""
    root = made.events.parent
    moved = root / "data" / "raw"
    moved.mkdir(parents=True)
    shutil.copy(made.companies, moved)
    (moved / "events").mkdir()
    made.batch.rename(moved / "events" / NAME)
    out = printed(fleetsim_cli("verify", root), 0)
    assert out.count("reproduced") == 2


@pytest.mark.parametrize("name", ["events.parquet", "part-000001.jsonl", "notes.txt"])
def test_a_file_that_is_not_compared_is_found(made: Project, name: str) -> None:
    """What stands beside the events in the folder of a batch."""
    (made.batch / name).write_text("")
    assert findings(made.batch) == [f"{name}: not compared: no file of it"]


def test_a_removed_last_company_is_found_without_the_original(made: Project) -> None:
    """Also where the hash in the record was replaced, and the company had no events."""
    import hashlib

    lines = made.companies.read_bytes().splitlines(keepends=True)
    made.companies.write_bytes(b"".join(lines[:-1]))
    shorter = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    change(made.batch, companies__sha256=shorter, companies__eligible=4)
    found = findings(made.batch)
    assert "companies.jsonl: it has 4 lines, the batch was made from 5" in found


def test_a_removed_company_without_events_is_found(project: Project, fleetsim_cli: Cli) -> None:
    """Nothing but the number of lines tells: the last cohort had not joined."""
    import hashlib

    assert fleetsim_cli(*project.make_companies("--cohorts", 2)).code == 0
    assert fleetsim_cli(*project.make_events()).code == 0
    assert findings(project.batch) == []
    lines = project.companies.read_bytes().splitlines(keepends=True)
    project.companies.write_bytes(b"".join(lines[:-1]))
    change(project.batch, companies__sha256=hashlib.sha256(b"".join(lines[:-1])).hexdigest())
    assert findings(project.batch) == [
        "companies.jsonl: it has 9 lines, the batch was made from 10"
    ]


def test_events_beside_the_word_that_they_are_gone_are_found(
    made: Project, fleetsim_cli: Cli
) -> None:
    """An empty file must not keep altered events from being compared."""
    (made.batch / "events.dropped").write_text("")
    (made.batch / "events.jsonl").write_text("{}\n")
    assert findings(made.batch) == [
        "events.jsonl: not compared: events.dropped says that the events are gone"
    ]
    (made.batch / "events.jsonl").unlink()
    out = printed(fleetsim_cli("verify", made.batch), 0)
    assert out.startswith(f"{NAME}: record reproduced; its ")
    assert "(compared: sha256, content_sha256, 5 companies)" in out


def test_dropped_events_without_a_hash_of_the_content_are_found(
    project: Project, fleetsim_cli: Cli
) -> None:
    """Of a Parquet file that is gone nothing can be compared."""
    assert fleetsim_cli(*project.make_events("--format", "parquet")).code == 0
    (project.batch / "events.parquet").unlink()
    (project.batch / "events.dropped").write_text("")
    out = printed(fleetsim_cli("verify", project.batch), 3)
    assert "nothing of them could be compared" in out


def test_parts_that_the_record_does_not_list_are_found(project: Project, fleetsim_cli: Cli) -> None:
    """A record that lost its list of parts is a finding, no crash."""
    project.write(number_of_companies=1500)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    assert fleetsim_cli(*project.make_events("--part-events", 100)).code == 0
    assert findings(project.batch) == []
    record = json.loads((project.batch / "batch_meta.json").read_text())
    parts = len(record.pop("parts"))
    (project.batch / "batch_meta.json").write_text(json.dumps(record))
    found = findings(project.batch)
    assert f"batch_meta.json: parts: none recorded, the batch has {parts}" in found
    assert parts > 1
