"""Batches with defects on the disk: their ledger appears with them, or neither does."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dirty_twin
import pyarrow
import pytest
import twin
from dirty_twin import COLUMN_KINDS, KINDS
from fleets import CONFIGS, NASTY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import AT, AT_US, NAME, Cli, Project, tree

import fleetsim
from fleetsim.base.clock import Instant
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.batch.companies import read_companies
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.memory import generate_batch
from fleetsim.batch.meta import read_meta
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.rows import read_rows
from fleetsim.batch.write import write_batches
from fleetsim.generate.config import make_config

pytestmark = pytest.mark.slow

ALL = {kind: 0.05 for kind in KINDS}
HELD = {kind: 0.08 for kind in COLUMN_KINDS}


@pytest.fixture
def dirty(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a project with a larger fleet and every kind of defect."""
    project.write(number_of_companies=400, drivers_per_company=7, event_types=NASTY, defects=ALL)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    return project


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return each path below a folder with its content, but for the configuration."""
    return {name: content for name, (content, _) in tree(folder).items() if name != "config.json"}


def values_of(project: Project) -> dict[str, Any]:
    """Return the configuration of a project."""
    return json.loads(project.config.read_text())


def fleet_of(project: Project) -> list[dict]:
    """Return the companies of a project as the twin has them."""
    return [json.loads(line) for line in project.companies.read_text().splitlines()]


def lines_of(path: Path, format: str) -> bytes:
    """Return a file of events as JSON Lines."""
    if format == "jsonl.gz":
        return gzip.decompress(path.read_bytes())
    if format == "jsonl.zst":
        with pyarrow.CompressedInputStream(str(path), "zstd") as stream:
            return stream.read()
    return read_rows(path).read() if format == "parquet" else path.read_bytes()


@pytest.mark.parametrize("format", list(FORMATS))
@pytest.mark.parametrize("jobs", [1, 2])
def test_every_format_holds_the_batch_and_the_ledger_of_the_twin(
    dirty, fleetsim_cli: Cli, monkeypatch, format, jobs
) -> None:
    """By the kernel and by NumPy; the record counts what is delivered, and names the ledger."""
    if format == "parquet":
        dirty.write(defects=HELD)
    lines, ledger = dirty_twin.delivered(values_of(dirty), fleet_of(dirty), AT_US, 2)
    for kernel in ("numpy", "compiled"):
        monkeypatch.setenv("FLEETSIM_KERNEL", kernel)
        words = dirty.make_events("--ordinal", 2, "--format", format, "--jobs", jobs, "--force")
        shutil.rmtree(dirty.events, ignore_errors=True)
        assert fleetsim_cli(*words).code == 0
        assert lines_of(dirty.batch / FORMATS[format].events_name, format) == b"".join(lines)
        path = ledger_path(dirty.batch)
        assert path == dirty.events.parent / "ledger" / f"{NAME}.jsonl"
        assert path.read_bytes() == dirty_twin.ledger_lines(ledger)
        meta = read_meta(dirty.batch)
        assert meta.event_count == len(lines)
        assert meta.defects.rates == values_of(dirty)["defects"]
        assert [e.line for e in read_ledger(path, meta.defects.ledger_sha256)] == [
            entry["line"] for entry in ledger
        ]
    verified = fleetsim_cli("verify", dirty.batch, "--companies", dirty.companies)
    assert verified.code == 0
    assert " entries of the ledger" in verified.out
    assert " 0 entries" not in verified.out


@pytest.mark.parametrize("format", list(FORMATS))
def test_parts_hold_what_the_twin_makes_of_their_drivers(dirty, fleetsim_cli, format) -> None:
    """Each has a ledger of its own, whose lines count within the part."""
    if format == "parquet":
        dirty.write(defects=HELD)
    words = dirty.make_events("--part-events", 2000, "--format", format, "--ordinal", 1)
    assert fleetsim_cli(*words).code == 0
    meta = read_meta(dirty.batch)
    assert meta.defects.ledger_sha256 is None
    assert len(meta.parts) == 3
    blocks = [range(0, 1024), range(1024, 2048), range(2048, 2800)]
    for part, drivers in zip(meta.parts, blocks, strict=True):
        lines, ledger = dirty_twin.delivered(
            values_of(dirty), fleet_of(dirty), AT_US, 1, drivers, part.name
        )
        assert lines_of(dirty.batch / part.name, format) == b"".join(lines)
        path = ledger_path(dirty.batch, part.name)
        assert path.name == f"{part.name.partition('.')[0]}.jsonl"
        assert path.read_bytes() == dirty_twin.ledger_lines(ledger)
        assert len(list(read_ledger(path, part.ledger_sha256))) == len(ledger)
        assert part.rows == len(lines)
    assert fleetsim_cli("verify", dirty.batch, "--companies", dirty.companies).code == 0
    # Standing equal batches are left as they are, with their ledgers.
    before = tree(dirty.events.parent)
    assert fleetsim_cli(*words).code == 0
    assert tree(dirty.events.parent) == before


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    CONFIGS,
    st.dictionaries(st.sampled_from(COLUMN_KINDS), st.integers(0, 9), min_size=1),
    st.sampled_from([0, 1, 4]),
)
def test_parquet_holds_the_rows_of_the_twin(tmp_path_factory, values, kinds, ordinal) -> None:
    """Nulls, foreign ids, times outside, copies and late rows, whatever is configured."""
    total = sum(kinds.values()) + 8
    values = values | {"defects": {kind: part / total for kind, part in kinds.items()}}
    folder = tmp_path_factory.mktemp("parquet")
    rows = twin.companies(values, AT_US - 1_800_000_000, cohorts=2)
    (folder / "companies.jsonl").write_bytes(twin.content(rows))
    lines, ledger = dirty_twin.delivered(values, rows, AT_US, ordinal)
    (result,) = write_batches(
        make_config(values),
        read_companies(folder / "companies.jsonl"),
        folder / "events",
        start_us=AT_US,
        started=Instant.now(),
        options=WriteOptions(format="parquet", ordinal=ordinal, allow_empty=True),
    )
    assert lines_of(result.path / "events.parquet", "parquet") == b"".join(lines)
    assert ledger_path(result.path).read_bytes() == dirty_twin.ledger_lines(ledger)


def test_a_frame_comes_with_its_ledger(dirty) -> None:
    """The rows of the frame are those of the lines, and the ledger names them."""
    dirty.write(defects=HELD)
    config = make_config(values_of(dirty))
    batch = generate_batch(config, companies=dirty.companies, interval_start=AT, ordinal=1)
    frame, ledger = fleetsim.generate_batch(
        config, companies=dirty.companies, interval_start=AT, ordinal=1, as_frame=True
    )
    lines, entries = dirty_twin.delivered(values_of(dirty), fleet_of(dirty), AT_US, 1)
    assert batch.lines() == b"".join(lines)
    assert len(frame) == len(lines)
    for number in (0, 17, len(lines) - 1):
        row = json.loads(lines[number])
        shown = frame.iloc[number]
        assert shown["event_id"] == row["event_id"] or shown["event_id"] is None
    nulls = ledger[ledger["kind"] == "null_value"]
    for line, field in zip(nulls["line"], nulls["field"], strict=True):
        assert frame[field].isna().iloc[line - 1]
    assert int(frame.isna().sum().sum()) == len(nulls)
    assert ledger["line"].tolist() == [entry["line"] for entry in entries]
    assert ledger["sha256"].tolist() == [entry["sha256"] for entry in entries]
    assert ledger.to_dict("list").keys() == entries[0].keys()
    clean = make_config({k: v for k, v in values_of(dirty).items() if k != "defects"})
    alone = generate_batch(clean, companies=dirty.companies, interval_start=AT, as_frame=True)
    assert list(alone.columns) == list(frame.columns)


def test_a_ledger_in_memory_has_every_kind(dirty) -> None:
    """What is no text stands as JSON; a frame of such a batch is refused."""
    batch = generate_batch(
        make_config(values_of(dirty)), companies=dirty.companies, interval_start=AT
    )
    ledger = batch.ledger_frame()
    _, entries = dirty_twin.delivered(values_of(dirty), fleet_of(dirty), AT_US)
    for shown, entry in zip(ledger["injected"], entries, strict=True):
        value = entry["injected"]
        assert shown == (
            value
            if value is None or isinstance(value, str)
            else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        )
    with pytest.raises(InputError, match="missing_field"):
        batch.frame()


@pytest.mark.parametrize("parts", [False, True])
def test_verify_finds_what_was_changed(dirty, fleetsim_cli: Cli, parts) -> None:
    """A line of the batch, a line of the ledger, its end, the record, and a missing ledger."""
    options = ["--part-events", 100_000] if parts else []
    assert fleetsim_cli(*dirty.make_events(*options)).code == 0
    meta = read_meta(dirty.batch)
    path = ledger_path(dirty.batch, meta.parts[0].name if parts else None)
    content, events = path.read_bytes(), dirty.batch / next(iter(meta.files))

    def finding() -> str:
        done = fleetsim_cli("verify", dirty.batch, "--companies", dirty.companies)
        assert done.code == 3
        return done.out

    for name, other, words in (
        ("first", content.replace(b"reject", b"accept", 1), "line 1 is"),
        ("cut", content[:-10], "ends within or before line"),
        ("longer", content + content[:100], "goes on after the"),
    ):
        path.write_bytes(other)
        assert words in finding(), name
    path.unlink()
    assert f"{path.name}: missing" in finding()
    path.write_bytes(content)
    record = dirty.batch / "batch_meta.json"
    text = record.read_text()
    record.write_text(text.replace('"late": 0.05', '"late": 0.06'))
    assert "defects" in finding()
    record.write_text(text)
    events.write_bytes(events.read_bytes()[:-5] + b"\xff\n")
    assert "line" in finding()


BAD = [
    ({"lat": 0.1}, "late"),
    ({"late": 1.5}, "a number from 0 to 1"),
    ({"late": True}, "a number from 0 to 1"),
    ({"late": 0.6, "duplicate": 0.5}, "sum to 1.1"),
    ({"invalid_enum": {"rate": 0.1, "fields": ["truck_id"]}}, "event_type"),
    ({"invalid_enum": {"rate": 0.1, "fields": []}}, "a list of event_type"),
    ({"duplicate": {"rate": 0.1, "fields": ["truck_id"]}}, "no field"),
    ({"late": {"rate": 0.1, "batches": 0}}, "from 1"),
    ({"duplicate": {"rate": 0.1, "batches": 2}}, "only for the kind late"),
    ({"late": {"rate": 0.1, "expect": "acept"}}, "did you mean accept?"),
    ({"late": {"rat": 0.1}}, "rate"),
    ([], "a mapping of kinds"),
    (None, "a mapping of kinds"),
]


@pytest.mark.parametrize(("defects", "words"), BAD)
def test_bad_defects_are_refused(project: Project, fleetsim_cli: Cli, defects, words) -> None:
    """One clear error, exit 2, and nothing is written."""
    project.write(defects=defects)
    before = tree(project.config.parent)
    done = fleetsim_cli(*project.make_events())
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "defects" in done.err
    assert tree(project.config.parent) == before


def test_all_faults_are_told_at_once(project: Project, fleetsim_cli: Cli) -> None:
    """Those of the defects beside those of the other keys."""
    project.write(seed=-1, defects={"lat": 1, "late": {"batches": 0}})
    done = fleetsim_cli(*project.make_events())
    assert done.code == 2
    for words in ("seed", "'lat' (did you mean late?)", "late.rate: missing", "late.batches"):
        assert words in done.err


def test_a_format_refuses_kinds_that_it_cannot_hold(dirty, fleetsim_cli: Cli) -> None:
    """By name, before anything is written."""
    before = tree(dirty.config.parent)
    done = fleetsim_cli(*dirty.make_events("--format", "parquet"))
    assert (done.code, done.out) == (2, "")
    unfit = [kind for kind in KINDS if kind not in COLUMN_KINDS]
    assert f"found {', '.join(unfit)}; allowed in the format parquet: null_value" in done.err
    assert tree(dirty.config.parent) == before


def test_no_defects_write_no_ledger(project: Project, fleetsim_cli: Cli) -> None:
    """Neither a folder nor a key of the record; an empty mapping is none."""
    assert fleetsim_cli(*project.make_events()).code == 0
    record = json.loads((project.batch / "batch_meta.json").read_text())
    assert "defects" not in record
    assert "defects" not in record["config"]
    project.write(defects={})
    before = tree(project.events.parent)
    assert fleetsim_cli(*project.make_events()).code == 0
    assert tree(project.events.parent) == before
    assert not (project.events.parent / "ledger").exists()


# Whole or not at all.

KILL = """
import os, signal, sys
import fleetsim.batch.publish, fleetsim.batch.ledger_stage
from fleetsim import __main__
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{where}
sys.argv = ["fleetsim", *{words!r}]
__main__.main()
"""
BETWEEN = "fleetsim.batch.publish.publish_folder = die"
BEFORE = "fleetsim.batch.ledger_stage.sync = die"
AFTER = "fleetsim.batch.ledger_stage.LedgerStage.keep = die"


def killed(words: list[object], where: str) -> None:
    """Run a command that is killed at some place."""
    code = KILL.format(where=where, words=[str(word) for word in words])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("where", [BETWEEN, BEFORE])
def test_a_kill_between_ledger_and_batch_leaves_neither(
    dirty, fleetsim_cli: Cli, parts, where
) -> None:
    """After the next command that writes there, whatever that makes."""
    options = ["--part-events", 2000] if parts else []
    killed(dirty.make_events(*options), where)
    ledger = dirty.events.parent / "ledger"
    assert not dirty.batch.exists()
    assert list(ledger.iterdir())
    later = dirty.make_events("--interval-start", "2025-11-08T13:00:00Z", *options)
    assert fleetsim_cli(*later).code == 0
    names = [path.name.partition(".")[0] for path in ledger.iterdir()]
    assert names == ["20251108T130000Z"]
    assert [path.name for path in dirty.events.iterdir()] == names
    assert fleetsim_cli(*dirty.make_events("--ordinal", 1, *options)).code == 0
    assert fleetsim_cli("verify", dirty.events, "--companies", dirty.companies).code == 0


@pytest.mark.parametrize("where", [BETWEEN, BEFORE])
@pytest.mark.parametrize("parts", [False, True])
def test_a_killed_replacement_leaves_the_old_pair(dirty, fleetsim_cli, where, parts) -> None:
    """The ledger that was to be replaced comes back with the next command."""
    assert fleetsim_cli(*dirty.make_events()).code == 0
    before = contents(dirty.events.parent)
    options = ["--part-events", 2000] if parts else []
    dirty.write(seed=7)
    killed(dirty.make_events("--force", *options), where)
    dirty.write(seed=42)
    assert fleetsim_cli(*dirty.make_events()).code == 0  # the old batch still stands, and is equal
    assert contents(dirty.events.parent) == before


def test_a_kill_after_the_batch_appeared_leaves_the_new_pair(dirty, fleetsim_cli) -> None:
    """The next command tells by the record that the ledger is of the batch that stands."""
    killed(dirty.make_events(), AFTER)
    assert fleetsim_cli(*dirty.make_events()).code == 0
    assert [path.name for path in (dirty.events.parent / "ledger").iterdir()] == [f"{NAME}.jsonl"]
    assert fleetsim_cli("verify", dirty.batch, "--companies", dirty.companies).code == 0


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("parts", [False, True])
def test_an_error_leaves_neither_at_once(
    dirty, fleetsim_cli: Cli, monkeypatch, replaced, parts
) -> None:
    """Where the batch cannot be put in its place, all is as it was before."""
    if replaced:
        assert fleetsim_cli(*dirty.make_events()).code == 0
        dirty.write(seed=7)
    dirty.events.mkdir(exist_ok=True)
    before = contents(dirty.events.parent)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("fleetsim.batch.publish.publish_folder", fail)
    options = ["--part-events", 2000] if parts else []
    done = fleetsim_cli(*dirty.make_events("--force", *options))
    assert done.code == 1
    assert contents(dirty.events.parent) == before


def test_a_replacement_takes_the_ledger_with_it(dirty, fleetsim_cli: Cli) -> None:
    """By another dirty batch, by parts, and by a clean one, which has none."""
    ledger = dirty.events.parent / "ledger"
    assert fleetsim_cli(*dirty.make_events()).code == 0
    first = (ledger / f"{NAME}.jsonl").read_bytes()
    dirty.write(seed=7)
    refused = fleetsim_cli(*dirty.make_events())
    assert refused.code == 2
    assert fleetsim_cli(*dirty.make_events("--force")).code == 0
    assert (ledger / f"{NAME}.jsonl").read_bytes() != first
    assert fleetsim_cli(*dirty.make_events("--force", "--part-events", 2000)).code == 0
    assert [path.name for path in ledger.iterdir()] == [NAME]
    assert fleetsim_cli("verify", dirty.batch, "--companies", dirty.companies).code == 0
    dirty.write(defects={})
    assert fleetsim_cli(*dirty.make_events("--force")).code == 0
    assert not ledger.exists() or not list(ledger.iterdir())
    assert fleetsim_cli("verify", dirty.batch, "--companies", dirty.companies).code == 0


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_an_equal_batch_without_its_ledger_differs(dirty, fleetsim_cli: Cli, damage) -> None:
    """It is not taken for the one asked for; --force makes both again."""
    assert fleetsim_cli(*dirty.make_events()).code == 0
    before = tree(dirty.events.parent)
    path = ledger_path(dirty.batch)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"reject", b"accept", 1))
    done = fleetsim_cli(*dirty.make_events())
    assert done.code == 2
    words = "is missing" if damage == "missing" else "has not the sha256 recorded"
    assert f"ledger/{NAME}.jsonl {words}" in done.err
    assert fleetsim_cli(*dirty.make_events("--force")).code == 0
    ledger = "ledger/" + path.name
    assert contents(dirty.events.parent)[ledger] == before[ledger][0]


def test_the_room_is_reckoned_with_defects(dirty, fleetsim_cli: Cli, monkeypatch) -> None:
    """A disk that has room for the lines alone has none for the ledger."""
    clean = make_config({k: v for k, v in values_of(dirty).items() if k != "defects"})
    (result,) = write_batches(
        clean, read_companies(dirty.companies), dirty.config.parent / "clean" / "events",
        start_us=AT_US, started=Instant.now(),
    )  # fmt: skip
    monkeypatch.setattr("fleetsim.batch.plan.free_bytes", lambda path: result.meta.bytes * 1.05)
    done = fleetsim_cli(*dirty.make_events())
    assert done.code == 2
    assert "the file system has" in done.err


# The ledger as it is read.


def entry_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_ledger_that_is_not_the_batchs_is_refused(dirty, fleetsim_cli: Cli) -> None:
    """Missing, cut off, another hash, of another batch, not in order, no entry: one error each."""
    assert fleetsim_cli(*dirty.make_events()).code == 0
    path = ledger_path(dirty.batch)
    content, sha256 = path.read_bytes(), read_meta(dirty.batch).defects.ledger_sha256
    rows = content.splitlines(keepends=True)
    other = content.replace(NAME.encode(), b"20251108T130000Z")

    def refused(words: str, given: bytes, sha256: str | None) -> None:
        path.write_bytes(given)
        entries = read_ledger(path, sha256)
        with pytest.raises(InputError, match=words):
            next(entries) if sha256 else list(entries)

    for known in (sha256, None):
        refused("cut off within a line", content[:-7], known)
    refused("found a ledger with the sha256", content[: -len(rows[-1])], sha256)
    refused("found a ledger with the sha256", other, sha256)
    refused(f"allowed: those of {NAME}", other, None)
    refused("ascending lines", rows[1] + rows[0], None)
    refused("ascending lines", rows[0] + rows[0], None)
    refused("damaged", b"{}\n", None)
    refused("damaged", b"\xff\n", None)
    refused("damaged", b"x" * 100_000 + b"\n", None)
    refused(
        "found the kind 'nothing'",
        rows[0].replace(json.loads(rows[0])["kind"].encode(), b"nothing"),
        None,
    )
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        list(read_ledger(path))
    assert issubclass(InputError, FleetsimError)
