"""Batches on the disk: whole or not at all, never silently another one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import twin
from support import AT, AT_US, NAME, Cli, Project, tree

from fleetsim import __version__
from fleetsim.base import files
from fleetsim.base.clock import Instant
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.batch.meta import read_meta
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import BatchResult, write_batches
from fleetsim.generate.config import make_config
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import STREAM_VERSION

QUARTER_US = 900_000_000
KEYS = [
    "schema",
    "stream_version",
    "batch_id",
    "interval_start",
    "interval_end",
    "event_count",
    "seed",
    "ordinal",
    "generation_started",
    "generation_time",
    "generation_seconds",
    "bytes",
    "sha256",
    "content_sha256",
    "format",
    "config",
    "companies",
    "versions",
]


class Maker:
    """Makes batches of one small fleet in one folder, by the library."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.values, self.output = values, folder / "data" / "events"
        self.companies = folder / "companies.jsonl"
        write_companies(make_config(values), self.companies, at_us=AT_US, now_us=0, cohorts=2)

    def __call__(self, **options: Any) -> list[BatchResult]:
        """Write batches; keys of the configuration may stand among the options."""
        values = {key: options.pop(key) for key in list(options) if key in ("seed", *KEYS_OF_LAWS)}
        given = {"start_us": AT_US, "started": Instant.now()}
        arguments = {key: options.pop(key) for key in list(options) if key in ARGUMENTS}
        return list(
            write_batches(
                make_config(self.values | values),
                read_companies(self.companies),
                self.output,
                options=WriteOptions(**options),
                **given | arguments,
            )
        )

    def refusal(self, **options: Any) -> InputError:
        """Return the error that the options raise; nothing has changed on the disk."""
        before = tree(self.output) if self.output.exists() else None
        with pytest.raises(InputError) as caught:
            self(**options)
        assert (tree(self.output) if self.output.exists() else None) == before
        if before is None:
            assert not self.output.parent.exists()
        return caught.value

    def names(self) -> list[str]:
        """Return what stands in the output folder, hidden things included."""
        return sorted(path.name for path in self.output.iterdir())


ARGUMENTS = ("start_us", "started", "maker", "progress")
KEYS_OF_LAWS = ("event_rate_per_driver", "event_types", "batch_interval")


@pytest.fixture
def make(tmp_path: Path, small: dict[str, Any]) -> Maker:
    """Return a maker of batches whose companies exist, five at `AT` and five an hour later."""
    return Maker(tmp_path, small)


# What a batch is.


def test_a_batch_holds_the_events_of_the_twin_and_its_record(make: Maker) -> None:
    """The folder holds two files; the record states what stands in the other."""
    (result,) = make(ordinal=3)
    assert result.written
    assert result.path == make.output / NAME
    assert sorted(path.name for path in result.path.iterdir()) == [
        "batch_meta.json",
        "events.jsonl",
    ]
    content = (result.path / "events.jsonl").read_bytes()
    fleet = twin.companies(make.values, AT_US, 2)
    events = twin.events(make.values, fleet, AT_US, 3)
    assert content == twin.content(events)
    meta = json.loads((result.path / "batch_meta.json").read_text())
    assert list(meta) == KEYS
    digest = hashlib.sha256(content).hexdigest()
    clock = {key: meta.pop(key) for key in KEYS if key.startswith("generation")}
    assert set(meta.pop("versions")) == {"fleetsim", "numpy", "python"}
    assert meta == {
        "schema": 1,
        "stream_version": STREAM_VERSION,
        "batch_id": NAME,
        "interval_start": "2025-11-08T12:00:00.000000Z",
        "interval_end": "2025-11-08T12:15:00.000000Z",
        "event_count": len(events),
        "seed": 42,
        "ordinal": 3,
        "bytes": len(content),
        "sha256": digest,
        "content_sha256": digest,
        "format": "jsonl",
        "config": make_config(make.values).as_dict(),
        "companies": {
            "lines": 10,
            "eligible": 5,
            "sha256": hashlib.sha256(make.companies.read_bytes()).hexdigest(),
        },
    }
    started, finished = (twin.datetime.fromisoformat(clock[key]) for key in list(clock)[:2])
    assert clock["generation_started"].endswith("Z")
    assert started <= finished
    assert clock["generation_seconds"] > 0


def test_the_versions_in_the_record_are_those_that_run(make: Maker) -> None:
    """The record names fleetsim's own version."""
    assert make()[0].meta.versions["fleetsim"] == __version__


def test_consecutive_batches_count_ordinals_and_intervals_on(make: Maker) -> None:
    """Each batch starts where the one before ends, and later companies join in time."""
    results = make(batches=5, ordinal=7)
    assert [r.meta.ordinal for r in results] == [7, 8, 9, 10, 11]
    starts = [AT_US + k * QUARTER_US for k in range(5)]
    assert [twin.time_text(at) for at in starts] == [r.meta.interval_start for r in results]
    assert [r.meta.companies.eligible for r in results] == [5, 5, 5, 5, 10]
    fleet = twin.companies(make.values, AT_US, 2)
    for at, result in zip(starts, results, strict=True):
        expected = twin.content(twin.events(make.values, fleet, at, result.meta.ordinal))
        assert (result.path / "events.jsonl").read_bytes() == expected


def test_the_first_batch_counts_its_time_from_the_trigger(make: Maker) -> None:
    """generation_started is the instant given, and the seconds are monotonic from there."""
    started = Instant(AT_US * 1000 + 999, Instant.now().monotonic_ns - 3_000_000_000)
    first, second = make(batches=2, started=started)
    assert first.meta.generation_started == "2025-11-08T12:00:00.000000Z"
    assert first.meta.generation_seconds >= 3
    assert second.meta.generation_seconds < first.meta.generation_seconds


def test_a_start_with_a_fraction_is_in_the_name(make: Maker) -> None:
    """The id of a batch is never ambiguous."""
    assert make(start_us=AT_US + 5)[0].path.name == "20251108T120000.000005Z"


def test_a_rate_of_zero_gives_a_valid_empty_batch(make: Maker) -> None:
    """No event, no error."""
    (result,) = make(event_rate_per_driver=0)
    assert (result.meta.event_count, result.meta.bytes) == (0, 0)
    assert (result.path / "events.jsonl").read_bytes() == b""


def test_the_record_is_strict_json(make: Maker) -> None:
    """No NaN or infinity stands in it."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads((make()[0].path / "batch_meta.json").read_text(), parse_constant=refuse)


# What is refused, with nothing written.


def test_no_eligible_company_is_refused(make: Maker) -> None:
    """An interval before the first company would be silently empty."""
    text = str(make.refusal(start_us=AT_US - 1))
    assert "no company is eligible at 2025-11-08T11:59:59.999999Z" in text
    assert "the first active company joins at 2025-11-08T12:00:00.000000Z" in text
    assert "next: a later interval, or --allow-empty" in text


def test_no_active_company_is_refused(make: Maker) -> None:
    """A fleet of inactive companies is named as such."""
    make.companies.unlink()
    values = make.values | {"active_fraction": 0}
    write_companies(make_config(values), make.companies, at_us=AT_US, now_us=0)
    assert "none of the 5 companies is active" in str(make.refusal())


def test_an_empty_batch_is_written_where_it_is_allowed(make: Maker) -> None:
    """--allow-empty writes what would be refused."""
    (result,) = make(start_us=AT_US - 1, allow_empty=True)
    assert (result.meta.event_count, result.meta.companies.eligible) == (0, 0)


def test_all_targets_are_checked_before_the_first_is_written(make: Maker) -> None:
    """One bad target among four stops them all; each bad one is listed."""
    make(start_us=AT_US + 2 * QUARTER_US, ordinal=9)
    (make.output / "20251108T124500Z").write_text("in the way")
    error = make.refusal(batches=4)
    assert len(error.faults) == 2
    assert "20251108T123000Z exists and differs: ordinal is 9, asked for 2" in str(error)
    assert "20251108T124500Z exists and is no folder" in str(error)


def test_faults_of_several_kinds_come_in_one_error(make: Maker) -> None:
    """A copy, a difference and an empty batch are listed together, each with its next step."""
    make(start_us=AT_US - QUARTER_US, event_rate_per_driver=3, allow_empty=True, ordinal=5)
    make(start_us=AT_US + 2 * QUARTER_US)
    error = make.refusal(start_us=AT_US - QUARTER_US)
    assert len(error.faults) == 3
    for text in ("would be a copy of 20251108T123000Z", "exists and differs", "no company"):
        assert text in str(error)
    for text in ("--ordinal next", "--allow-repeat", "--force", "--allow-empty"):
        assert text in str(error.next_step)


def test_many_faults_are_shortened(make: Maker) -> None:
    """A hundred refused targets do not fill the screen."""
    error = make.refusal(start_us=AT_US - 100 * QUARTER_US, batches=100)
    assert error.faults[-1] == "and 90 more"
    assert len(error.faults) == 11


@pytest.mark.parametrize("start", ["9999-12-31T23:45:00Z", "9999-12-31T23:59:59.999999Z"])
def test_an_interval_beyond_the_year_9999_is_refused(make: Maker, start: str) -> None:
    """Its end could not be written."""
    text = str(make.refusal(start_us=batch_start(start)))
    assert "allowed: an end before the year 10000" in text


def batch_start(text: str) -> int:
    """Return a time as microseconds since 1970."""
    moment = twin.datetime.fromisoformat(text)
    return (moment - twin.EPOCH) // twin.timedelta(microseconds=1)


def test_the_last_interval_of_the_calendar_is_written(make: Maker) -> None:
    """An end in the last microsecond of 9999 is fine."""
    (result,) = make(start_us=batch_start("9999-12-31T23:44:59.999999Z"))
    assert result.meta.interval_end == "9999-12-31T23:59:59.999999Z"


def test_ordinals_beyond_64_bits_are_refused(make: Maker) -> None:
    """The last ordinal is 2**64 - 1; two batches do not fit from there."""
    text = str(make.refusal(ordinal=2**64 - 1, batches=2))
    assert "--ordinal: found 18446744073709551615; allowed: up to 2**64 - 2" in text
    assert make(ordinal=2**64 - 1)[0].meta.ordinal == 2**64 - 1


@pytest.mark.parametrize("place", ["output", "parent"])
def test_a_file_in_place_of_the_output_is_refused(make: Maker, tmp_path, place) -> None:
    """The message names the folder that is needed."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    make.output = blocker if place == "output" else blocker / "events"
    with pytest.raises(InputError, match="a file stands here or on the way; a folder is needed"):
        make()
    assert blocker.read_text() == ""


def test_an_output_where_nobody_may_write_is_refused(make: Maker) -> None:
    """Not even root makes folders below /proc."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    make.output = Path("/proc/nobody/events")
    with pytest.raises(InputError, match="/proc/nobody/events: cannot be created: "):
        make()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_refused(make: Maker) -> None:
    """The message says so before any work is done."""
    make.output.mkdir(parents=True)
    make.output.chmod(0o500)
    with pytest.raises(InputError, match="the folder is not writable"):
        make()


def test_a_folder_that_is_not_writable_is_noticed_by_asking(make: Maker, monkeypatch) -> None:
    """The same for any user: the answer of the system is what counts."""
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="the folder is not writable"):
        make()


# An existing batch.


def test_an_equal_batch_is_not_touched(make: Maker) -> None:
    """The same command again leaves every byte and time of change alone."""
    make()
    before = tree(make.output)
    (again,) = make()
    assert not again.written
    assert tree(make.output) == before
    make(force=True)
    assert tree(make.output) == before


def test_the_order_of_the_weights_is_no_difference(make: Maker) -> None:
    """Equal mappings written in another order are the same batch."""
    types = {"a": 0.25, "b": 0.75}
    make(event_types=types)
    assert not make(event_types=dict(reversed(types.items())))[0].written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 43}, "seed is 42, asked for 43"),
        ({"ordinal": 1}, "ordinal is 0, asked for 1"),
        ({"event_rate_per_driver": 3}, "config.event_rate_per_driver is 2.0, asked for 3.0"),
        ({"batch_interval": "PT30M"}, "config.batch_interval is 'PT15M', asked for 'PT30M'"),
        ({"event_types": {"x": 1}}, "config.event_types is .* asked for {'x': 1.0}"),
    ],
)
def test_a_batch_that_differs_is_refused_and_replaced_by_force(make, change, message) -> None:
    """The message says in what it differs; --force makes the batch that was asked for."""
    make()
    error = make.refusal(**change)
    assert str(error).startswith(f"{make.output}: {NAME} exists and differs: ")
    assert re.search(message, str(error))
    assert "next: --force to replace what differs, or another --output" in str(error)
    (replaced,) = make(**change, force=True)
    assert replaced.written
    assert make.names() == [NAME]
    assert not make(**change)[0].written


def test_other_companies_are_a_difference(make: Maker) -> None:
    """A companies file that was extended makes another batch."""
    make()
    write_companies(make_config(make.values), make.companies, at_us=None, now_us=0, cohorts=3)
    text = str(make.refusal())
    assert "companies.lines is 10, asked for 15; made from another companies file" in text


@pytest.mark.parametrize("fault", ["missing", "cut"])
def test_a_batch_without_its_events_is_not_equal(make: Maker, fault) -> None:
    """A record without the bytes that it states is no batch to be kept."""
    events = make()[0].path / "events.jsonl"
    size = events.stat().st_size
    if fault == "missing":
        events.unlink()
        assert "events.jsonl is missing" in str(make.refusal())
    else:
        os.truncate(events, size - 1)
        assert f"events.jsonl has not the {size} bytes recorded" in str(make.refusal())
    assert make(force=True)[0].written
    assert events.stat().st_size == size


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("", "damaged: Input data was truncated"),
        ("{", "damaged: "),
        ("[]", "damaged: Expected `object`, got `array`"),
        ('{"schema": 1}', "damaged: Object missing required field"),
        (b"\xff", "damaged: "),
        ({"ordinal": -1}, "damaged: Expected `int` >= 0 - at `$.ordinal`"),
        ({"ordinal": 2**64}, "damaged: found ordinal 18446744073709551616"),
        ({"event_count": "many"}, "damaged: Expected `int`, got `str` - at `$.event_count`"),
        ({"companies": {"lines": 0, "eligible": 0, "sha256": ""}}, "damaged: Expected `int` >= 1"),
        ({"schema": 2}, "found schema 2; allowed: 1"),
    ],
)
def test_a_damaged_record_is_refused_and_replaced_by_force(make: Maker, damage, message) -> None:
    """A record that cannot be read stops the command, since its ordinal may be taken."""
    record = make()[0].path / "batch_meta.json"
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(record.read_text()) | damage)
    record.write_bytes(damage.encode() if isinstance(damage, str) else damage)
    text = str(make.refusal())
    assert text.startswith(f"{record}: {message}")
    assert str(make.refusal(start_us=AT_US + QUARTER_US, ordinal=1, force=True)) == text
    assert make(force=True)[0].written
    assert read_meta(record.parent).ordinal == 0


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_no_batch_is_refused(make: Maker, tmp_path, kind) -> None:
    """Other things of that name are in the way; only a folder is replaced by --force."""
    make.output.mkdir(parents=True)
    target = make.output / NAME
    if kind == "folder":
        target.mkdir()
        (target / "notes.txt").write_text("mine")
        assert "is not a batch that can be read (no valid batch_meta.json)" in str(make.refusal())
        assert make(force=True)[0].written
        return
    if kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    for force in (False, True):
        with pytest.raises(InputError, match="exists and is no folder"):
            make(force=force)
    assert os.path.lexists(target)


# One seed and ordinal, two intervals.


def test_a_copy_under_another_interval_is_refused(make: Maker) -> None:
    """The next free ordinal is named."""
    make(batches=3)
    text = str(make.refusal(start_us=AT_US + 10 * QUARTER_US))
    assert "20251108T143000Z would be a copy of 20251108T120000Z: seed 42 and ordinal 0" in text
    assert "next: --ordinal next (or --ordinal 3, the next free one) for new events" in text


def test_ordinal_next_takes_the_next_free_one(make: Maker) -> None:
    """It counts the batches of its own seed only."""
    assert make(ordinal="next")[0].meta.ordinal == 0
    make(seed=43, ordinal=20, start_us=AT_US + QUARTER_US)
    assert make(ordinal="next", start_us=AT_US + 2 * QUARTER_US, batches=2)[1].meta.ordinal == 2


def test_allow_repeat_makes_the_copy(make: Maker) -> None:
    """The copy differs in its timestamps only."""
    (one,) = make()
    (two,) = make(start_us=AT_US + QUARTER_US, allow_repeat=True)
    ids = [
        [
            json.loads(line)["event_id"]
            for line in (r.path / "events.jsonl").read_text().splitlines()
        ]
        for r in (one, two)
    ]
    assert ids[0] == ids[1]


def test_an_equal_batch_with_a_copy_beside_it_is_still_equal(make: Maker) -> None:
    """The first batch's own command stays a success after --allow-repeat made a copy."""
    make()
    make(start_us=AT_US + QUARTER_US, allow_repeat=True)
    before = tree(make.output)
    assert not make()[0].written
    assert not make(start_us=AT_US + QUARTER_US)[0].written
    assert tree(make.output) == before


def test_an_ordinal_that_force_sets_free_may_be_taken(make: Maker) -> None:
    """Two targets of which the second, about to be replaced, holds the first one's ordinal."""
    make(start_us=AT_US + QUARTER_US)
    results = make(batches=2, force=True)
    assert [r.meta.ordinal for r in results] == [0, 1]
    assert all(r.written for r in results)


def test_another_seed_may_use_the_same_ordinal(make: Maker) -> None:
    """Ordinals number the batches of one seed."""
    make()
    assert make(seed=43, start_us=AT_US + QUARTER_US)[0].meta.ordinal == 0


# Whole or not at all.


class Stop(Exception):
    """Raised in the middle of a batch."""


@pytest.fixture
def interrupted(make: Maker, monkeypatch) -> Iterator[Any]:
    """Return a function that makes a batch which is interrupted after its third piece."""
    monkeypatch.setattr("fleetsim.generate.events.CHUNK_EVENTS", 1)

    def run(error: type[BaseException] = Stop, **options: Any) -> list[str]:
        pieces = count(1)
        seen: list[str] = []

        def progress(events: int) -> None:
            if next(pieces) == 3:
                seen.extend(make.names())
                raise error

        with pytest.raises(error):
            make(progress=progress, **options)
        return seen

    return run


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
def test_an_interrupted_batch_leaves_nothing(make: Maker, interrupted, error) -> None:
    """In the middle only a hidden folder stands there, and afterwards not even that."""
    (hidden,) = interrupted(error)
    assert re.fullmatch(rf"\.{NAME}\.\w+{re.escape(files.PARTIAL)}", hidden)
    assert make.names() == []


def test_an_interrupted_replacement_leaves_the_old_batch(make: Maker, interrupted) -> None:
    """--force that does not come to its end changes nothing."""
    make()
    before = tree(make.output / NAME)
    interrupted(force=True, seed=43)
    assert tree(make.output / NAME) == before
    assert make.names() == [NAME]


def test_batches_before_an_interrupted_one_stand_whole(make: Maker) -> None:
    """Each batch appears on its own."""
    results = write_batches(
        make_config(make.values),
        read_companies(make.companies),
        make.output,
        start_us=AT_US,
        started=Instant.now(),
        options=WriteOptions(batches=3),
    )
    assert [next(results).meta.ordinal, next(results).meta.ordinal] == [0, 1]
    results.close()
    assert make.names() == ["20251108T120000Z", "20251108T121500Z"]
    assert not make()[0].written


def test_the_next_command_clears_what_a_killed_one_left(make: Maker) -> None:
    """Half a batch under its hidden name goes; hidden things of others stay."""
    make()
    left = make.output / f".20251108T121500Z{files.PARTIAL}"
    left.mkdir()
    (left / "events.jsonl").write_text("half")
    other = make.output / f".film{files.PARTIAL}"
    other.write_text("mine")
    make()
    assert make.names() == [other.name, NAME]


def test_a_batch_is_on_the_disk_before_it_has_its_name(make: Maker, monkeypatch) -> None:
    """Events, record and folder are flushed in this order, then comes the rename."""
    done: list[object] = []
    fsync, rename = os.fsync, os.rename

    def flush(descriptor: int) -> None:
        done.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def name(one: Path, other: Path) -> None:
        done.append("rename")
        rename(one, other)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", name)
    path = make()[0].path
    events, record = path / "events.jsonl", path / "batch_meta.json"
    inodes = [place.stat().st_ino for place in (events, record, path)]
    assert done == [*inodes, "rename", make.output.stat().st_ino]


def test_a_second_writer_waits_for_the_first(tmp_path, caplog) -> None:
    """The right to write in a folder is given to one at a time."""
    order: list[str] = []

    def second() -> None:
        with files.exclusive(tmp_path):
            order.append("second enters")

    thread = threading.Thread(target=second)
    with files.exclusive(tmp_path):
        thread.start()
        thread.join(0.2)  # time enough to enter, if it were let in
        order.append("first leaves")
    thread.join()
    assert order == ["first leaves", "second enters"]
    assert "waiting for another command" in caplog.text


def test_a_replacement_is_one_exchange(make: Maker, monkeypatch) -> None:
    """Old and new batch change places in one system call, and nothing removes the old before."""
    make()
    seen: list[tuple[bool, bool]] = []
    exchange, rename = files._exchange, os.rename

    def watched(one: Path, other: Path) -> None:
        before = read_meta(other).seed, read_meta(one).seed
        exchange(one, other)
        seen.append((before == (42, 43), (read_meta(other).seed, read_meta(one).seed) == (43, 42)))

    monkeypatch.setattr(files, "_exchange", watched)

    def out_of_the_way(one: Path, other: Path) -> None:
        assert str(other).endswith(files.PARTIAL), "a rename of a batch"
        rename(one, other)

    monkeypatch.setattr(os, "rename", out_of_the_way)
    make(seed=43, force=True)
    monkeypatch.setattr(os, "rename", rename)
    assert seen == [(True, True)]
    assert make.names() == [NAME]


def test_a_file_system_without_exchange_refuses_the_replacement(make: Maker, monkeypatch) -> None:
    """Where two folders cannot change places, the old batch stays and the message says why."""
    make()
    before = tree(make.output)

    class Libc:
        def renameat2(self, *arguments: object) -> int:
            return -1

        renamex_np = renameat2

    monkeypatch.setattr(files.ctypes, "CDLL", lambda *args, **options: Libc())
    with pytest.raises(FleetsimError, match="cannot exchange two folders in one step"):
        make(seed=43, force=True)
    assert tree(make.output / NAME) == {
        key.removeprefix(f"{NAME}/"): value for key, value in before.items() if "/" in key
    }
    assert make.names() == [NAME]


def test_a_full_disk_is_a_plain_error(make: Maker, monkeypatch) -> None:
    """The message says that the batch was not made, and nothing stays of it."""

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FleetsimError, match=r"could not be written \(No space left.*not made"):
        make()
    assert make.names() == []


def test_a_write_that_takes_a_part_only_is_continued(make: Maker, monkeypatch) -> None:
    """Short writes of the system lose no byte."""
    whole = (make()[0].path / "events.jsonl").read_bytes()
    shutil.rmtree(make.output)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:100]))
    assert (make()[0].path / "events.jsonl").read_bytes() == whole


def test_progress_hears_of_every_event(make: Maker, monkeypatch) -> None:
    """The numbers that the callback gets add up to the batch."""
    monkeypatch.setattr("fleetsim.generate.events.CHUNK_EVENTS", 5)
    heard: list[int] = []
    (result,) = make(progress=heard.append)
    assert len(heard) > 3
    assert sum(heard) == result.meta.event_count


def test_hidden_folders_are_no_batches(make: Maker) -> None:
    """A hidden copy of a batch takes no ordinal."""
    (one,) = make()
    one.path.rename(make.output / ".hidden")
    assert make(start_us=AT_US + QUARTER_US)[0].written


def test_the_commands_seed_ordinal_and_start_are_those_of_the_record(
    project: Project, fleetsim_cli: Cli
) -> None:
    """The options reach the batch, and the command says what it wrote and what stood there."""
    options = ["--seed", 2**64 - 1, "--ordinal", 2**64 - 1]
    first = fleetsim_cli(*project.make_events(*options))
    assert (first.code, first.err) == (0, "")
    meta = read_meta(project.batch)
    assert first.out == f"{project.batch}: {meta.event_count} events, {meta.bytes} bytes\n"
    assert (meta.seed, meta.ordinal) == (2**64 - 1, 2**64 - 1)
    assert meta.interval_start == AT.replace("Z", ".000000Z")
    again = fleetsim_cli(*project.make_events(*options))
    assert (again.code, again.out) == (0, first.out.replace("\n", " (stood there already)\n"))


# Very many batches.


def test_very_many_batches_are_refused_at_once(project: Project, fleetsim_cli: Cli) -> None:
    """Before a list of them is made, and before any folder is."""
    outcome = fleetsim_cli(*project.make_events("--batches", 2 * 10**8))
    assert (outcome.code, outcome.out) == (2, "")
    assert "batches: found 200000000; allowed: 1 to 1000000 at a time" in outcome.err
    assert not project.events.exists()


def test_planning_many_batches_is_said(
    project: Project, fleetsim_cli: Cli, caplog, monkeypatch
) -> None:
    """One line says what is being done, and the fleet is not asked about each of them."""
    monkeypatch.setattr("fleetsim.batch.plan._MANY_BATCHES", 50)
    monkeypatch.setattr("fleetsim.batch.plan.free_bytes", lambda path: 1)
    eligible = Fleet.eligible
    asked = []
    monkeypatch.setattr(Fleet, "eligible", lambda self, at: asked.append(at) or eligible(self, at))
    outcome = fleetsim_cli(*project.make_events("--batches", 100))
    assert outcome.code == 2
    assert "about 3e+03 events need about" in outcome.err
    assert "looking at the places of 100 batches first" in caplog.text
    assert asked == []
