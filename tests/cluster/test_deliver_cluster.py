"""A feed into a storage: the same bytes as into a folder, gone on with, and reconciled there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from cluster_support import BUCKET, SECRET, Store
from support import Cli, copy_project

from fleetsim.base.storage import fetch, place

# The server and the storage's library close their connections when they like.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
ID = "030-ingest-duckdb"
FAST = ("--every", "PT0.001S", "--variant", "half")
LANDING = f"s3://{BUCKET}/landing"
COLUMNS = "event_id, driver_id, company_id, truck_id, event_type, timestamp"
ACCEPTED = f"SELECT {COLUMNS} FROM read_parquet('{{output}}/accepted/*.parquet')"  # noqa: S608


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with one small experiment on a pipeline, which is the working folder."""
    copy_project(tmp_path, f"experiments/{ID}")
    config = tmp_path / "experiments" / ID / "config.yaml"
    small = {"seed": 5, "number_of_companies": 5, "drivers_per_company": 3}
    small |= {"event_rate_per_driver": 4.0, "company_onboarding_interval": "PT1H"}
    config.write_text(json.dumps(small | {"defects": {"missing_field": 0.1}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of deliveries.jsonl, but for their times."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def test_a_storage_holds_what_a_folder_would(own: Path, fleetsim_cli: Cli, s3: Store) -> None:
    """Rows, events, ledgers and companies; no secret stands in any object."""
    assert fleetsim_cli("deliver", ID, "here", *FAST).code == 0
    done = fleetsim_cli("deliver", ID, LANDING, *FAST)
    assert (done.code, done.err) == (0, "")
    fetch(place(LANDING), own / "there")
    here, there = own / "here", own / "there"
    assert rows_of(here / "deliveries.jsonl") == rows_of(there / "deliveries.jsonl")
    names = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
    assert {path.relative_to(there) for path in there.rglob("*") if path.is_file()} == names
    for name in names:
        if name.name not in ("batch_meta.json", "deliveries.jsonl"):  # these tell times
            assert (here / name).read_bytes() == (there / name).read_bytes(), name
    assert SECRET.encode() not in s3.everything()


def test_a_feed_into_a_storage_goes_on_where_it_was_ended(
    own: Path, fleetsim_cli: Cli, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file first: it has no record until the whole one is there."""
    words = ("deliver", ID, LANDING, "--by-hand", *FAST[2:])
    for enters, files in ((1, {"events.jsonl"}), (1, {"events.jsonl", "batch_meta.json"})):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n" * enters))
        assert fleetsim_cli(*words).code == 0
        assert {name.rpartition("/")[2] for name in s3.names("landing/events")} == files
    assert len(rows_of(place(f"{LANDING}/deliveries.jsonl"))) == 2
    assert fleetsim_cli("deliver", ID, LANDING, *FAST).code == 0
    assert fleetsim_cli("deliver", ID, "here", *FAST).code == 0
    there = rows_of(place(f"{LANDING}/deliveries.jsonl"))
    assert there == rows_of(own / "here" / "deliveries.jsonl")


def test_a_delivery_that_was_ended_before_its_row_is_made_again(
    own: Path, fleetsim_cli: Cli, s3: Store
) -> None:
    """The objects of it are replaced, and the row comes."""
    assert fleetsim_cli("deliver", ID, LANDING, *FAST).code == 0
    rows = place(f"{LANDING}/deliveries.jsonl")
    whole = rows_of(rows)
    *_, last = whole
    folder = place(f"{LANDING}/{last['path']}")
    (folder / "batch_meta.json").unlink()
    (folder / "events.jsonl").write_bytes(b"half of it")
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:-1]))
    done = fleetsim_cli("deliver", ID, LANDING, *FAST)
    assert (done.code, done.err) == (0, "")
    assert rows_of(rows) == whole
    assert (folder / "batch_meta.json").exists()
    assert len((folder / "events.jsonl").read_bytes()) == last["bytes"]


def test_a_storage_is_reconciled(own: Path, fleetsim_cli: Cli, s3: Store) -> None:
    """A pipeline that takes everything with six columns, and loses one record."""
    assert fleetsim_cli("deliver", ID, LANDING, "--every", "PT0.001S").code == 0
    fetch(place(f"{LANDING}/events"), own / "copy")
    (own / "out" / "accepted").mkdir(parents=True)
    duckdb.sql(
        f"SELECT {COLUMNS} FROM read_json('{own}/copy/*/events.jsonl', columns = "  # noqa: S608
        "{event_id: 'VARCHAR', driver_id: 'VARCHAR', company_id: 'VARCHAR', truck_id: 'VARCHAR',"
        " event_type: 'VARCHAR', timestamp: 'TIMESTAMPTZ'}) WHERE "
        f"{' IS NOT NULL AND '.join(COLUMNS.split(', '))} IS NOT NULL "
        "ORDER BY event_id OFFSET 1"
    ).write_parquet(f"{own}/out/accepted/all.parquet")
    done = fleetsim_cli(
        *("reconcile", LANDING, "--accepted", ACCEPTED, "--output", "out", "--json")
    )
    assert done.code == 3, done.err
    found = json.loads(done.out)["criteria"]
    assert [found[name]["observed"] for name in ("lost", "unexpected", "altered")] == [1, 0, 0]
    assert SECRET not in done.out + done.err


def test_a_bucket_that_is_not_there(own: Path, fleetsim_cli: Cli, s3: Store) -> None:
    """It is said before anything is delivered."""
    done = fleetsim_cli("deliver", ID, "s3://nobody/landing", *FAST)
    assert done.code == 2
    assert "s3://nobody: no such bucket" in done.err
