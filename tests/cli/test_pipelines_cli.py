"""The commands deliver, reconcile and new pipeline, as a user types them."""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from support import ROOT, Cli, copy_project, wait_until

import fleetsim.cli.main
from fleetsim.base.clock import parse_time
from fleetsim.base.project import Project
from fleetsim.experiment.spec import load_experiment
from fleetsim.reconcile.outputs import ACCEPTED as ACCEPTED_BY_DEFAULT

ID = "tiny"
CONFIG = {
    "seed": 5,
    "number_of_companies": 5,
    "drivers_per_company": 3,
    "event_rate_per_driver": 4.0,
    "company_onboarding_interval": "PT1H",
    "defects": {
        "missing_field": 0.06,
        "corrupt_record": 0.06,
        "invalid_utf8": 0.05,
        "duplicate": 0.05,
        "late": {"rate": 0.05, "batches": 1},
    },
}
PLAN = {
    "deliveries": [0, 1, 2],
    "variants": {
        "half": [{"batch": 0, "as": "cut"}, 0, 1, 2],
        "elsewhere": [0, {"batch": 0, "as": "copy"}, 1, 2],
    },
}
NAMES = ["20251108T120000Z", "20251108T121500Z", "20251108T123000Z"]
ACCEPTED = ACCEPTED_BY_DEFAULT.replace("**/", "")
REJECTED = "SELECT raw, reason FROM read_json('{output}/rejected/*.jsonl')"
FAST = ("--every", "PT0.001S")


def write_project(root: Path, **changes: Any) -> Path:
    """Write a project with one small experiment on a pipeline, the strict one; return it."""
    copy_project(root, "experiments/030-ingest-duckdb")
    folder = root / "experiments" / ID
    os.rename(root / "experiments" / "030-ingest-duckdb", folder)
    config = CONFIG | changes.pop("config", {})
    (folder / "config.yaml").write_text(json.dumps(config))
    claims = yaml.safe_load((folder / "experiment.yaml").read_text())
    claims |= {**PLAN, "interval": "2025-11-08T12:00:00Z", "date": "2026-11-28", **changes}
    own = ("idempotent", "order_independent", "complete_after_partial", "crash_safe", "growth")
    claims["criteria"] = [row for row in claims["criteria"] if row["id"] not in own]
    for key in ("kills", "sizes"):
        claims.pop(key, None)
    (folder / "experiment.yaml").write_text(json.dumps(claims))
    return root


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project, which is the working folder."""
    monkeypatch.chdir(write_project(tmp_path / "project"))
    return tmp_path / "project"


def rows_of(landing: Path) -> list[dict[str, Any]]:
    """Return the rows of deliveries.jsonl."""
    return [json.loads(line) for line in (landing / "deliveries.jsonl").read_text().splitlines()]


def content(landing: Path) -> dict[str, Any]:
    """Return each file of a landing folder with its content, but for the times of deliveries.

    The record of a batch says when it was made; the rest of it has to be the same.
    """
    made: dict[str, Any] = {
        str(path.relative_to(landing)): path.read_bytes()
        for path in sorted(landing.rglob("*"))
        if path.is_file()
    }
    for name in [name for name in made if name.endswith("batch_meta.json")]:
        meta = json.loads(made[name])
        made[name] = {key: meta[key] for key in ("batch_id", "event_count", "config", "defects")}
    made["deliveries.jsonl"] = [
        {key: value for key, value in row.items() if key != "time"} for row in rows_of(landing)
    ]
    return made


class Enters(io.StringIO):
    """A terminal on which Enter is pressed some times; before each, something is looked at."""

    def __init__(self, times: int, look: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._left, self._look, self.seen = times, look, []

    def readline(self, *_: Any) -> str:
        """Press Enter, or end."""
        self.seen.append(self._look())
        self._left -= 1
        return "\n" if self._left >= 0 else ""


# --- deliver --------------------------------------------------------------------------------------


def test_a_feed_delivers_whole_batches_and_says_so(own: Path, fleetsim_cli: Cli) -> None:
    """One row for each, with the size and hash of what lies there; the ledger lies beside it."""
    done = fleetsim_cli("deliver", ID, "landing", *FAST)
    assert done.code == 0, done.err
    landing = own / "landing"
    rows = rows_of(landing)
    assert [(row["step"], row["batch_id"]) for row in rows] == [*enumerate(NAMES, start=1)]
    for row in rows:
        assert list(row)[:6] == ["step", "batch_id", "path", "bytes", "sha256", "time"]
        lines = (landing / row["path"] / "events.jsonl").read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(lines), hashlib.sha256(lines).hexdigest())
        assert parse_time(row["time"])
        meta = json.loads((landing / row["path"] / "batch_meta.json").read_text())
        assert meta["event_count"] == lines.count(b"\n") > 0
        assert f"{row['step']} of 3: {row['path']}, {len(lines)} bytes, {row['time']}" in done.out
    assert {path.name for path in landing.iterdir()} == {
        *("companies.jsonl", "events", "ledger", "deliveries.jsonl")
    }
    assert {path.name for path in (landing / "events").iterdir()} == set(NAMES)
    assert {path.name for path in (landing / "ledger").iterdir()} == {
        *(f"{name}.jsonl" for name in NAMES),
        "feed.json",
    }


def test_the_same_command_again_has_nothing_to_do(own: Path, fleetsim_cli: Cli) -> None:
    """Not even a file is written anew."""
    assert fleetsim_cli("deliver", ID, "landing", *FAST).code == 0
    before = {path: path.stat().st_mtime_ns for path in (own / "landing").rglob("*")}
    done = fleetsim_cli("deliver", ID, "landing", *FAST)
    assert (done.code, done.out) == (0, "landing: 3 deliveries stand there already\n")
    assert {path: path.stat().st_mtime_ns for path in (own / "landing").rglob("*")} == before


def test_half_a_file_comes_first_and_then_the_whole(
    own: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut one has no record, so that nobody takes it for whole."""
    folder = own / "landing" / "events" / NAMES[0]

    def look() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("*")}

    enters = Enters(4, look)
    monkeypatch.setattr("sys.stdin", enters)
    done = fleetsim_cli("deliver", ID, "landing", "--variant", "half", "--by-hand")
    assert done.code == 0, done.err
    nothing, cut, whole, *_ = enters.seen
    assert nothing == {}
    assert set(cut) == {"events.jsonl"}
    assert set(whole) == {"events.jsonl", "batch_meta.json"}
    assert whole["events.jsonl"].startswith(cut["events.jsonl"])
    assert 0 < len(cut["events.jsonl"]) <= len(whole["events.jsonl"]) // 2
    assert not cut["events.jsonl"].endswith(b"\n")
    assert f"1 of 4: events/{NAMES[0]} (cut), {len(cut['events.jsonl'])} bytes" in done.out


def test_a_copy_has_a_folder_of_another_name(own: Path, fleetsim_cli: Cli) -> None:
    """With the same bytes."""
    assert fleetsim_cli("deliver", ID, "landing", *FAST, "--variant", "elsewhere").code == 0
    first, copy, *_ = rows_of(own / "landing")
    assert (copy["path"], copy["batch_id"]) == (f"{first['path']}-copy", first["batch_id"])
    assert copy["sha256"] == first["sha256"]


def test_by_hand_waits_for_enter_and_ends_with_the_input(
    own: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on from there."""
    for enters, delivered in ((1, 1), (0, 1), (5, 3)):
        monkeypatch.setattr("sys.stdin", Enters(enters))
        done = fleetsim_cli("deliver", ID, "landing", "--by-hand")
        assert done.code == 0, done.err
        assert len(rows_of(own / "landing")) == delivered
        assert ("the input has ended; the same command goes on" in done.err) == (delivered < 3)


def test_an_endless_feed_goes_on_with_the_batches_that_follow(
    own: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is started again; without the option nothing is left to do."""
    for enters, batches in ((4, [0, 1, 2, 3]), (2, [0, 1, 2, 3, 4, 5])):
        monkeypatch.setattr("sys.stdin", Enters(enters))
        assert fleetsim_cli("deliver", ID, "landing", "--by-hand", "--endless").code == 0
        assert [row["batch"] for row in rows_of(own / "landing")] == batches
    assert fleetsim_cli("deliver", ID, "landing").out.endswith("6 deliveries stand there already\n")
    assert len(list((own / "landing" / "events").iterdir())) == 6


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ({}, ["--variant", "half"], "another variant, list of deliveries"),
        ({"config": {"seed": 6}}, [], "another configuration"),
        ({"deliveries": [0, 2, 1]}, [], "another list of deliveries"),
        ({"interval": "2025-11-09T12:00:00Z"}, [], "another interval"),
    ],
)
def test_a_folder_of_another_feed_is_refused(
    own: Path,
    fleetsim_cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    words: list[str],
    said: str,
) -> None:
    """With what is another; everything stays as it was."""
    assert fleetsim_cli("deliver", ID, "landing", *FAST).code == 0
    before = content(own / "landing")
    monkeypatch.chdir(write_project(tmp_path / "other", **change))
    done = fleetsim_cli("deliver", ID, own / "landing", *FAST, *words)
    assert done.code == 2
    assert "found the deliveries of another feed (reference from 2025-11-08T" in done.err
    assert said in done.err
    assert content(own / "landing") == before


@pytest.mark.parametrize("name", ["companies.jsonl", "events/x/y", "deliveries.jsonl"])
def test_a_folder_that_no_feed_made_is_refused(own: Path, fleetsim_cli: Cli, name: str) -> None:
    """What lies there is somebody's; other files may lie beside."""
    path = own / "landing" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    done = fleetsim_cli("deliver", ID, "landing", *FAST)
    assert done.code == 2
    assert f"found {name.partition('/')[0]}, which no feed delivered" in done.err
    assert [p for p in (own / "landing").rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--every", "PT1S", "--by-hand"], "Give at most one of --every, --speed, --by-hand."),
        (["--every", "soon"], "--every: "),
        (["--speed", "0"], "0"),
        (["--variant", "halv"], "--variant: found 'halv' (did you mean half?); allowed: half, "),
    ],
)
def test_what_a_feed_cannot_do_is_refused(
    own: Path, fleetsim_cli: Cli, words: list[str], said: str
) -> None:
    """Before anything is written."""
    done = fleetsim_cli("deliver", ID, "landing", *words)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (own / "landing").exists()


def test_only_experiments_on_pipelines_are_delivered(own: Path, fleetsim_cli: Cli) -> None:
    """The next step is how to make one."""
    copy_project(own, "experiments/000-smoke")
    done = fleetsim_cli("deliver", "000-smoke", "landing")
    assert done.code == 2
    assert "found '000-smoke' of kind baseline; allowed: one of kind pipeline" in done.err
    assert "fleetsim new pipeline ID" in done.err


# --- A feed that is ended -------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_between_two_deliveries(
    own: Path, fleetsim_cli: Cli, number: signal.Signals, code: int
) -> None:
    """The feed ends at once, and the same command goes on; the bytes are those of one feed."""
    words = [sys.executable, "-m", "fleetsim", "deliver", ID, "landing", "--every", "PT1H"]
    log = own / "log"
    with open(log, "wb") as file:
        child = subprocess.Popen(words, stdout=file, stderr=file, cwd=own)
        try:
            place = own / "landing" / "deliveries.jsonl"
            wait_until(lambda: place.is_file() and place.read_bytes(), "the first delivery")
            child.send_signal(number)
            assert child.wait(60) == code, log.read_text()
        finally:
            child.kill()
            child.wait()
    assert "Traceback" not in log.read_text()
    assert len(rows_of(own / "landing")) == 1
    assert fleetsim_cli("deliver", ID, "landing", *FAST).code == 0
    assert fleetsim_cli("deliver", ID, "whole", *FAST).code == 0
    assert content(own / "landing") == content(own / "whole")


#: Where a change of a folder begins, in the modules that make one.
CHANGES = [
    *((os, name) for name in ("mkdir", "rename", "replace", "open", "unlink", "rmdir")),
    (io, "open"),
    (builtins, "open"),
]


def killed_at(call: int, words: list[str], below: Path) -> bool:
    """Run a command in a child that SIGKILL ends at its n-th change below a folder.

    Return whether it struck.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.waitstatus_to_exitcode(status) == 0
        return False
    left = [call]
    scratch = below.with_name("scratch")
    scratch.mkdir(exist_ok=True)
    tempfile.tempdir = str(scratch)  # what the killed one leaves there goes with the test

    def strike(real: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: Any, *args: Any, **kwargs: Any) -> Any:
            if os.path.abspath(str(path)).startswith(str(below)):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(path, *args, **kwargs)

        return changed

    try:
        for module, name in CHANGES:
            setattr(module, name, strike(getattr(module, name)))
        sys.argv = ["fleetsim", *words]
        fleetsim.cli.main.main(0, 0)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(99)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["reference", "half"])
def test_a_kill_at_any_change_leaves_nothing_half_written(
    own: Path, fleetsim_cli: Cli, variant: str
) -> None:
    """What stands there is whole, the same command goes on, and nothing of the killed one stays."""
    more = [] if variant == "reference" else ["--variant", variant]
    assert fleetsim_cli("deliver", ID, "whole", *FAST, *more).code == 0
    expected = content(own / "whole")
    for call in range(1, 400):
        landing = own / f"landing{call}"
        words = ["deliver", ID, landing.name, *FAST, *more]
        struck = killed_at(call, words, landing)
        for path in landing.glob("events/[!.]*/batch_meta.json"):
            name = str(path.with_name("events.jsonl").relative_to(landing))
            assert (landing / name).read_bytes() == expected[name]
        for name in ("companies.jsonl", "ledger/feed.json"):
            if (landing / name).exists():
                assert (landing / name).read_bytes() == expected[name]
        if (landing / "deliveries.jsonl").exists():
            done = content(landing)["deliveries.jsonl"]
            assert done == expected["deliveries.jsonl"][: len(done)]
        assert fleetsim_cli(*words).code == 0
        assert content(landing) == expected, call
        if not struck:
            break
    else:
        pytest.fail("it never ended by itself")
    assert call > 20


# --- reconcile ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a landing folder, and with what the strict pipeline made of it."""
    root = write_project(tmp_path_factory.mktemp("ingested"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "fleetsim", "deliver", ID, "landing", *FAST]
    subprocess.run(words, cwd=root, env=environment, check=True, capture_output=True)
    (root / "out").mkdir()
    environment |= {"FLEETSIM_LANDING": "landing", "FLEETSIM_OUTPUT": "out"}
    script = str(root / "experiments" / ID / "ingest.py")
    subprocess.run([sys.executable, script], cwd=root, env=environment, check=True)
    return root


@pytest.fixture
def here(ingested: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the landing folder; it is the working folder, and stays as it is."""
    monkeypatch.chdir(ingested)
    return ingested


RIGHT = ("--output", "out", "--accepted", ACCEPTED, "--rejected", REJECTED)


def strictly(text: str) -> Any:
    """Return what JSON says, which has no NaN and no infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def test_a_right_pipeline_is_no_finding(here: Path, fleetsim_cli: Cli) -> None:
    """The answer comes first, then the verdicts, the balance and the outcomes."""
    done = fleetsim_cli("reconcile", "landing", *RIGHT)
    assert done.code == 0, done.err + done.out
    lines = sum(
        path.read_bytes().count(b"\n") for path in (here / "landing").glob("events/*/events.jsonl")
    )
    assert done.out.startswith(f"Each of {lines} delivered lines became what it should: ")
    assert "fail" not in done.out.partition("\n\n")[2].partition("\n\n")[0]
    assert "✗" not in done.out


def test_its_json_has_all_figures_and_criteria(here: Path, fleetsim_cli: Cli) -> None:
    """Strict, and the balance closes."""
    done = fleetsim_cli("reconcile", "landing", *RIGHT, "--json")
    assert done.code == 0, done.err
    found = strictly(done.out)
    assert set(found["criteria"]) == {
        *("lost", "unexpected", "duplicated", "altered", "recall", "precision", "unaccounted")
    }
    assert all(row["verdict"] == "pass" for row in found["criteria"].values())
    balance = found["balance"]
    parts = ("accepted", "deduplicated", "rejected", "unaccounted")
    assert sum(balance[part] for part in parts) == found["delivered"] > 100
    assert sum(sum(row.values()) for row in found["matrix"].values()) == found["delivered"]
    assert set(found["must_reject"]) >= {"missing_field", "corrupt_record", "invalid_utf8"}
    assert found["must_reject"] == found["refused"]
    assert found["wrong"] == []


@pytest.mark.parametrize(
    ("accepted", "kind"),
    [
        (f"{ACCEPTED} WHERE event_type <> 'delivered'", "lost"),
        (f"{ACCEPTED} UNION ALL {ACCEPTED}", "duplicated"),
        (ACCEPTED.replace("truck_id", "'TRK-0' AS truck_id"), "altered"),
        (
            f"{ACCEPTED} UNION ALL SELECT 'a', 'b', 'c', 'd', 'e', now()",
            "unexpected",
        ),
    ],
)
def test_what_is_wrong_is_a_finding(
    here: Path, fleetsim_cli: Cli, accepted: str, kind: str
) -> None:
    """Exit code 3, with --json too; the criterion of that name fails."""
    words = ["reconcile", "landing", "--output", "out", "--rejected", REJECTED]
    done = fleetsim_cli(*words, "--accepted", accepted, "--json")
    assert done.code == 3, done.err
    found = strictly(done.out)
    assert found[kind] > 0
    assert found["criteria"][kind] == {
        "observed": found[kind],
        "verdict": "fail",
        "note": found["criteria"][kind]["note"],
    }
    failed = {name for name, row in found["criteria"].items() if row["verdict"] == "fail"}
    assert kind in failed
    assert failed & {"lost", "unexpected", "duplicated", "altered"} <= {kind, "lost"}
    assert found["wrong"]


def test_without_refusals_nobody_can_tell(here: Path, fleetsim_cli: Cli) -> None:
    """Two criteria are inconclusive, and nothing is a finding for that."""
    accepted = ACCEPTED.replace("{output}", "out")
    done = fleetsim_cli("reconcile", "landing", "--accepted", accepted, "--json")
    assert done.code == 0, done.err
    found = strictly(done.out)
    assert found["rejected_rows"] is None
    for name in ("precision", "unaccounted"):
        assert found["criteria"][name]["verdict"] == "inconclusive"
        assert "no output of refused lines" in found["criteria"][name]["note"]


def test_one_row_for_each_line(here: Path, fleetsim_cli: Cli, tmp_path: Path) -> None:
    """As Parquet, in a folder that is made; 'which ones?' is one query."""
    path = tmp_path / "new" / "outcome.parquet"
    done = fleetsim_cli("reconcile", "landing", *RIGHT, "--outcome", path)
    assert done.code == 0, done.err
    assert done.out.endswith(f"\n{path}\n")
    table = duckdb.read_parquet(str(path))
    rows = table.aggregate("batch_id, count(*), count(*) FILTER (kind IS NOT NULL)").order(
        "batch_id"
    )
    ledgers = here / "landing" / "ledger"
    assert rows.fetchall() == [
        (
            name,
            (here / "landing/events" / name / "events.jsonl").read_bytes().count(b"\n"),
            len((ledgers / f"{name}.jsonl").read_text().splitlines()),
        )
        for name in NAMES
    ]
    assert os.listdir(path.parent) == ["outcome.parquet"]


def test_the_page_is_whole_and_begins_with_the_answer(
    here: Path, fleetsim_cli: Cli, tmp_path: Path
) -> None:
    """It needs nothing beside it, and what a line holds is no markup."""
    path = tmp_path / "page.html"
    wrong = ACCEPTED.replace("truck_id", "'<b>' AS truck_id")
    words = ["reconcile", "landing", "--output", "out", "--accepted", wrong, "--page", path]
    done = fleetsim_cli(*words)
    assert done.code == 3, done.err
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    answer = done.out.partition("\n\n")[0]
    assert f'<p class="answer">{answer}</p>' in page
    assert page.index(answer) < page.index("<table")
    assert page.count("<table") == page.count("</table>") >= 4
    assert "http" not in page.replace("http-equiv", "")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_files_that_were_moved_away_do_not_matter(
    here: Path, fleetsim_cli: Cli, tmp_path: Path
) -> None:
    """The lines are made again from the plan: the figures are the same."""
    before = strictly(fleetsim_cli("reconcile", "landing", *RIGHT, "--json").out)
    moved = tmp_path / "moved"
    (moved / "ledger").mkdir(parents=True)
    for name in ("deliveries.jsonl", "ledger/feed.json"):
        (moved / name).write_bytes((here / "landing" / name).read_bytes())
    assert strictly(fleetsim_cli("reconcile", moved, *RIGHT, "--json").out) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-40], "line 3: "),
        (lambda text: "[]\n" + text, "line 1: "),
        (lambda text: text.partition("\n")[2], "line 1: found step 2; allowed: 1"),
        (lambda text: text.replace('"batch":0', '"batch":-1'), "line 1: "),
        (lambda text: text.replace('"whole"', '"hole"'), "line 1: "),
        (lambda text: "\udcff" + text, "line 1: "),
    ],
)
def test_a_damaged_list_of_deliveries_is_named(
    here: Path, fleetsim_cli: Cli, tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    """With its line: one clear error, exit code 2."""
    landing = tmp_path / "landing"
    (landing / "ledger").mkdir(parents=True)
    (landing / "ledger" / "feed.json").write_bytes(
        (here / "landing" / "ledger" / "feed.json").read_bytes()
    )
    text = change((here / "landing" / "deliveries.jsonl").read_text())
    (landing / "deliveries.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    done = fleetsim_cli("reconcile", landing, *RIGHT)
    assert done.code == 2
    assert f"{landing}/deliveries.jsonl: damaged: {said}" in done.err
    assert "Traceback" not in done.err


def test_lines_that_are_made_otherwise_are_not_reconciled(
    here: Path, fleetsim_cli: Cli, tmp_path: Path
) -> None:
    """A hash that is another one ends it: no verdict on other lines than those delivered."""
    landing = tmp_path / "landing"
    (landing / "ledger").mkdir(parents=True)
    for name in ("deliveries.jsonl", "ledger/feed.json"):
        text = (here / "landing" / name).read_text()
        (landing / name).write_text(text.replace('"seed":5', '"seed":6'))
    done = fleetsim_cli("reconcile", landing, *RIGHT)
    assert done.code == 1
    assert "delivery 1, 20251108T120000Z: made again it is another one" in done.err


@pytest.mark.parametrize("there", ["nothing", "folder", "begun"])
def test_where_nothing_was_delivered(
    own: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """A folder that is none, an empty one, and a feed before its first delivery."""
    (own / "out").mkdir()
    if there == "folder":
        (own / "landing").mkdir()
    if there == "begun":
        monkeypatch.setattr("sys.stdin", Enters(0))
        assert fleetsim_cli("deliver", ID, "landing", "--by-hand").code == 0
    done = fleetsim_cli("reconcile", "landing", *RIGHT)
    assert done.code == 2
    assert "landing" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--accepted", "SELEC 1"], "--accepted: found a query that cannot be parsed"),
        (["--accepted", "DROP TABLE x"], "--accepted: "),
        (["--accepted", ""], "--accepted: found no SELECT"),
        (["--accepted", "SELECT 1 AS event_id"], "column driver_id is missing"),
        (["--accepted", "SELECT * FROM nowhere"], "--accepted: DuckDB refuses the query"),
        (["--accepted", ACCEPTED.replace("output", "ouput")], "found the placeholder {ouput} (did"),
        (
            ["--accepted", ACCEPTED, "--rejected", "SELECT 1 AS x"],
            "--rejected: 2 faults\n",
        ),
        (["--accepted", "SELECT * FROM '/etc/passwd'"], "--accepted: DuckDB refuses the query"),
    ],
)
def test_a_query_that_cannot_be_is_one_clear_error(
    here: Path, fleetsim_cli: Cli, words: list[str], said: str
) -> None:
    """Exit code 2, the option by its name, and what is wanted."""
    done = fleetsim_cli("reconcile", "landing", "--output", "out", *words)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err


@pytest.mark.parametrize("option", ["--accepted", "--rejected"])
def test_the_place_of_the_output_has_to_be_said(here: Path, fleetsim_cli: Cli, option: str) -> None:
    """Where a query names it; the option that does is named."""
    queries = {"--accepted": "SELECT 1", option: "SELECT * FROM '{output}/x.parquet'"}
    words = [word for pair in queries.items() for word in pair]
    done = fleetsim_cli("reconcile", "landing", *words)
    assert done.code == 2
    assert f"{option}: found {{output}}, and nothing says which folder that is" in done.err


def test_an_output_that_is_no_folder_is_refused(here: Path, fleetsim_cli: Cli) -> None:
    """Or else all would be lost, for a slip of the pen."""
    for place in ("nowhere", "landing/companies.jsonl"):
        done = fleetsim_cli("reconcile", "landing", "--accepted", ACCEPTED, "--output", place)
        assert done.code == 2
        assert place in done.err


# --- new pipeline ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["pipeline", "100-mine"], ["100-mine", "--kind", "pipeline"]], ids=" ".join
)
def test_a_new_pipeline_is_whole(own: Path, fleetsim_cli: Cli, words: list[str]) -> None:
    """Configuration, claims, document and a script; it is checked at once, and again."""
    done = fleetsim_cli("new", *words)
    assert done.code == 0, done.err
    folder = own / "experiments" / "100-mine"
    files = ["config.yaml", "experiment.md", "experiment.yaml", "ingest.py"]
    assert sorted(os.listdir(folder)) == files
    assert [f"experiments/100-mine/{name}" for name in files] == done.out.splitlines()[:4]
    assert load_experiment(Project(own), "100-mine").kind.name == "pipeline"
    assert "fleetsim" not in [
        word
        for line in (folder / "ingest.py").read_text().splitlines()
        for word in line.split()
        if line.startswith(("import ", "from "))
    ]
    assert fleetsim_cli("check", "100-mine").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pipelin", "100-mine"], "found 'pipelin'"),
        (["pipeline", "100-mine", "x"], "Give an ID, or a kind and an ID."),
        (["pipeline", "100-mine", "--kind", "pipeline"], "Give an ID, or a kind and an ID."),
        (["pipeline", "../x"], "ID: found '../x'"),
        (["pipeline", ID], f"experiments/{ID}: exists"),
    ],
)
def test_what_cannot_be_made_anew_is_refused(
    own: Path, fleetsim_cli: Cli, words: list[str], said: str
) -> None:
    """Exit code 2, and nothing is written."""
    before = sorted(own.rglob("*"))
    done = fleetsim_cli("new", *words)
    assert done.code == 2
    assert said in done.err
    assert sorted(own.rglob("*")) == before


def test_the_first_script_takes_whatever_is_json(own: Path, fleetsim_cli: Cli) -> None:
    """Its output is read as the contract has it, and what it lets pass is found."""
    assert fleetsim_cli("new", "pipeline", "mine").code == 0
    script = own / "experiments" / "mine" / "ingest.py"
    assert fleetsim_cli("deliver", ID, "landing", *FAST).code == 0
    (own / "out").mkdir()
    environment = {**os.environ, "FLEETSIM_LANDING": "landing", "FLEETSIM_OUTPUT": "out"}
    subprocess.run([sys.executable, script], env=environment, check=True, cwd=own)
    accepted = ACCEPTED.replace("parquet", "json", 1).replace("parquet", "jsonl")
    words = ["--output", "out", "--accepted", accepted, "--rejected", REJECTED]
    done = fleetsim_cli("reconcile", "landing", *words, "--json")
    assert done.code == 3, done.err
    found = strictly(done.out)
    assert found["refused"]["corrupt_record"] == found["must_reject"]["corrupt_record"] > 0
    assert found["refused"].get("missing_field", 0) == 0 < found["must_reject"]["missing_field"]


@pytest.mark.slow
def test_a_new_pipeline_runs(own: Path, fleetsim_cli: Cli) -> None:
    """As it is: the run completes, and its verdicts are those of a script that lets much pass."""
    assert fleetsim_cli("new", "pipeline", "mine").code == 0
    copy_project(own, "notebooks")
    done = fleetsim_cli("run", "mine", "-p", "repeats", 1)
    assert done.code == 0, done.err
    record = json.loads((own / "results" / "mine" / "latest" / "result.json").read_text())
    verdicts = {row["id"]: row["verdict"] for row in record["criteria"]}
    assert verdicts["completes"] == "pass"
    assert verdicts["lost"] == "pass"
    assert verdicts["recall"] == "fail"
