"""The analysis really looks: every change of the files turns the right criterion, and no other."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis import Copy, baseline, config_of, copy_of
from hypothesis import given
from hypothesis import strategies as st
from support import judge

from fleetsim.base.clock import batch_name, format_time, parse_time
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.verdict import Verdict
from fleetsim.batch.meta import META_NAME, in_time, read_meta
from fleetsim.generate.config import Config
from fleetsim.measure.cold import DataSet, _distances, content_fingerprint, generate_data
from fleetsim.stats.draws import sample_of
from fleetsim.stats.sample import Columns, Sample
from fleetsim.stats.times import Times
from fleetsim.tally.batches import tally_batches
from fleetsim.tally.faults import FaultKind

#: Criteria that rest on the files alone; 001 states two more that its configuration cannot meet.
OF_FILES = {
    "event_count_expected",
    "batch_size_expected",
    "batch_directory",
    "jsonl_valid",
    "batch_meta",
    "timestamps_in_interval",
    "event_type_weights",
}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, DataSet]:
    """Return a data set that the real commands made, once for all tests."""
    config = config_of()
    return config, generate_data(config, tmp_path_factory.mktemp("original"), repeats=2)


@pytest.fixture
def copy(original: tuple[Config, DataSet], tmp_path: Path) -> Copy:
    """Return a copy of the data set, to be damaged."""
    return copy_of(*original, tmp_path)


def turned(copy: Copy) -> set[str]:
    """Return the criteria about the files that do not pass."""
    verdicts = copy.verdicts()
    return {name for name in OF_FILES if verdicts[name] != "pass"}


def set_meta(copy: Copy, **values: Any) -> None:
    """Change keys of the record."""
    record = json.loads(copy.meta.read_bytes())
    copy.meta.write_text(json.dumps(record | values))


def test_untouched_data_pass(copy: Copy) -> None:
    """Nothing is found in data as the generator made them."""
    tally = copy.tally()
    assert tally.faults == ()
    assert tally.fault_counts == {}
    assert turned(copy) == set()
    sample = tally.sample
    assert tally.lines == len(copy.lines) == sample.counts.sum() == sample.type_counts.sum()
    assert sample.counts.shape == (1, 1000)
    assert (sample.counts == 0).any()


def test_tally_agrees_with_a_plain_reading(copy: Copy) -> None:
    """The statistics are those of the events that the json module and a loop find."""
    events = [json.loads(line) for line in copy.lines]
    start = parse_time(read_meta(copy.batch).interval_start)
    index = {name: i for i, name in enumerate(copy.config.event_types)}
    truck = [int(event["truck_id"].removeprefix("TRK-")) - 1 for event in events]
    columns = Columns(
        np.zeros(len(events), np.int64),
        np.array(truck),
        np.array([index[event["event_type"]] for event in events]),
        np.array([parse_time(event["timestamp"]) - start for event in events]),
    )
    same_sample(copy.tally().sample, sample_of(columns, copy.config))


def same_sample(one: Sample, other: Sample) -> None:
    """Assert that two samples are equal, sums of logarithms but for their rounding."""
    for name in Sample.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if name in ("driver_times", "company_times"):
            for part, value in vars(a).items():
                np.testing.assert_array_equal(value, getattr(b, part), f"{name}.{part}")
        elif name != "times":
            np.testing.assert_array_equal(a, b, name)
    for name in Times.__dataclass_fields__:
        a, b = getattr(one.times, name), getattr(other.times, name)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=0, err_msg=name)


def drop_line(copy: Copy) -> None:
    copy.write([*copy.lines[:99], *copy.lines[100:]])


def cut_line(copy: Copy) -> None:
    copy.events.write_bytes(copy.events.read_bytes()[:-40])


def no_final_newline(copy: Copy) -> None:
    copy.events.write_bytes(copy.events.read_bytes()[:-1])


def at_interval_end(copy: Copy) -> None:
    set_time(copy, read_meta(copy.batch).interval_end)


def before_start(copy: Copy) -> None:
    set_time(copy, format_time(parse_time(read_meta(copy.batch).interval_start) - 1))


def no_date(copy: Copy) -> None:
    set_time(copy, "2025-02-30T12:00:00.000000Z")


def set_time(copy: Copy, text: str) -> None:
    lines = copy.lines
    lines[99] = lines[99][:-30] + text.encode() + lines[99][-3:]
    copy.write(lines)


def company_unknown(copy: Copy) -> None:
    company = json.loads(copy.lines[99])["company_id"].encode()
    other = b"00000000-0000-4000-8000-000000000000"
    lines = copy.lines
    lines[99] = lines[99].replace(company, other)
    copy.write(lines)


def event_id_twice(copy: Copy) -> None:
    first = json.loads(copy.lines[9])["event_id"].encode()
    copy.edit(100, json.loads(copy.lines[99])["event_id"].encode(), first)


def driver_of_another(copy: Copy) -> None:
    own = json.loads(copy.lines[99])["company_id"].encode()
    other = json.loads(copy.lines[-1])["company_id"].encode()
    copy.edit(100, b"DRV-" + own, b"DRV-" + other)


def wrong_truck(copy: Copy) -> None:
    truck = json.loads(copy.lines[99])["truck_id"].encode()
    copy.edit(100, b'"' + truck + b'"', b'"TRK-1000"')


def driver_number(copy: Copy) -> None:
    driver = json.loads(copy.lines[99])["driver_id"].encode()
    copy.edit(100, driver, driver[:-3] + b"010")


def huge_truck(copy: Copy) -> None:
    truck = json.loads(copy.lines[99])["truck_id"].encode()
    copy.edit(100, b'"' + truck + b'"', b'"TRK-' + b"9" * 5000 + b'"')


def unknown_type(copy: Copy) -> None:
    kind = json.loads(copy.lines[99])["event_type"].encode()
    copy.edit(100, b'"' + kind + b'"', b'"parked"')


def escaped_type(copy: Copy) -> None:
    kind = json.loads(copy.lines[99])["event_type"]
    copy.edit(100, f'"{kind}"'.encode(), f'"\\u{ord(kind[0]):04x}{kind[1:]}"'.encode())


def half_surrogate(copy: Copy) -> None:
    kind = json.loads(copy.lines[99])["event_type"].encode()
    copy.edit(100, b'"' + kind + b'"', b'"\\ud800"')


def surrogate_in_id(copy: Copy) -> None:
    copy.edit(100, json.loads(copy.lines[99])["event_id"].encode(), b"\\ud800")


def extra_key(copy: Copy) -> None:
    copy.edit(100, b'"}\n', b'","speed":"80"}\n')


def missing_key(copy: Copy) -> None:
    truck = json.loads(copy.lines[99])["truck_id"].encode()
    copy.edit(100, b'"truck_id":"' + truck + b'",', b"")


def key_twice(copy: Copy) -> None:
    copy.edit(100, b'"truck_id"', b'"truck_id":"TRK-1","truck_id"')


def reordered_keys(copy: Copy) -> None:
    event = json.loads(copy.lines[99])
    event["event_id"] = event.pop("event_id")
    lines = copy.lines
    lines[99] = json.dumps(event, separators=(",", ":")).encode() + b"\n"
    copy.write(lines)


def number_for_text(copy: Copy) -> None:
    truck = json.loads(copy.lines[99])["truck_id"].encode()
    copy.edit(100, b'"' + truck + b'"', b"17")


def text_without_prefix(copy: Copy) -> None:
    truck = json.loads(copy.lines[99])["truck_id"].encode()
    copy.edit(100, b'"' + truck + b'"', b'"17"')


def null_for_text(copy: Copy) -> None:
    kind = json.loads(copy.lines[99])["event_type"].encode()
    copy.edit(100, b'"' + kind + b'"', b"null")


def spaces(copy: Copy) -> None:
    copy.edit(100, b'","', b'", "')


def crlf(copy: Copy) -> None:
    copy.edit(100, b"\n", b"\r\n")


def byte_order_mark(copy: Copy) -> None:
    copy.events.write_bytes(b"\xef\xbb\xbf" + copy.events.read_bytes())


def invalid_utf8_in_type(copy: Copy) -> None:
    kind = json.loads(copy.lines[99])["event_type"].encode()
    copy.edit(100, b'"' + kind + b'"', b'"\xff' + kind + b'"')


def invalid_utf8_in_key(copy: Copy) -> None:
    copy.edit(100, b'"event_type"', b'"event\xfftype"')


def blank_line(copy: Copy) -> None:
    copy.write([*copy.lines[:99], b"\n", *copy.lines[99:]])


def not_json(copy: Copy) -> None:
    copy.edit(100, b"{", b"{{")


def nan(copy: Copy) -> None:
    truck = json.loads(copy.lines[99])["truck_id"].encode()
    copy.edit(100, b'"' + truck + b'"', b"NaN")


def a_list(copy: Copy) -> None:
    lines = copy.lines
    lines[99] = b"[1]\n"
    copy.write(lines)


def deep(copy: Copy) -> None:
    lines = copy.lines
    lines[99] = b"[" * 20_000 + b"]" * 20_000 + b"\n"
    copy.write(lines)


def gigantic(copy: Copy) -> None:
    lines = copy.lines
    lines[99] = lines[99][:-3] + b" " * 5_000_000 + lines[99][-3:]
    copy.write(lines)


def later_event_first(copy: Copy) -> None:
    lines = copy.lines
    same = (i for i in range(len(lines)) if lines[i][48:94] == lines[i + 1][48:94])
    first = next(same)
    copy.write([*lines[:first], lines[first + 1], lines[first], *lines[first + 2 :]])


def two_lines_swapped(copy: Copy) -> None:
    lines = copy.lines
    copy.write([lines[-1], *lines[1:-1], lines[0]])


LINE_CHANGES: list[tuple[Callable[[Copy], None], str, str]] = [
    (cut_line, "jsonl_valid", "line LAST: the last line is cut"),
    (no_final_newline, "jsonl_valid", "line LAST: the last line is cut"),
    (at_interval_end, "timestamps_in_interval", r"line 100: \S+Z lies not before the end"),
    (before_start, "timestamps_in_interval", r"line 100: \S+Z lies before the interval"),
    (no_date, "timestamps_in_interval", "line 100: 2025-02-30T12:00:00.000000Z is no time"),
    (company_unknown, "jsonl_valid", "line 100: company_id 0{8}.* is not in the companies file"),
    (event_id_twice, "jsonl_valid", r"line 100: event_id .* already stands in \S+ line 10\."),
    (driver_of_another, "jsonl_valid", "line 100: driver_id names the company"),
    (wrong_truck, "jsonl_valid", "line 100: truck_id is TRK-1000, this driver's is TRK-"),
    (driver_number, "jsonl_valid", "line 100: driver number 010 is not one of 000 .. 009"),
    (huge_truck, "jsonl_valid", "line 100: truck_id is 'TRK-999.*does not have its form"),
    (unknown_type, "jsonl_valid", "line 100: event_type 'parked' is not in the configuration"),
    (escaped_type, "jsonl_valid", "line 100: event_type .* has not the shortest escapes"),
    (half_surrogate, "jsonl_valid", r"line 100: event_type '\\ud800' is not in the"),
    (surrogate_in_id, "jsonl_valid", r"line 100: event_id is '\\ud800', which does not have"),
    (extra_key, "jsonl_valid", "line 100: extra key 'speed'"),
    (missing_key, "jsonl_valid", "line 100: missing key 'truck_id'"),
    (key_twice, "jsonl_valid", "line 100: key 'truck_id' twice"),
    (reordered_keys, "jsonl_valid", "line 100: keys in another order: driver_id, "),
    (number_for_text, "jsonl_valid", "line 100: truck_id is a number, not text"),
    (text_without_prefix, "jsonl_valid", "line 100: truck_id is '17', which does not have"),
    (null_for_text, "jsonl_valid", "line 100: event_type is null, not text"),
    (spaces, "jsonl_valid", "line 100: valid JSON, but not in the compact form"),
    (crlf, "jsonl_valid", "line 100: ends with CR LF"),
    (byte_order_mark, "jsonl_valid", "line 1: begins with a byte order mark"),
    (invalid_utf8_in_type, "jsonl_valid", "line 100: not UTF-8: byte"),
    (invalid_utf8_in_key, "jsonl_valid", "line 100: not UTF-8: byte"),
    (blank_line, "jsonl_valid", "line 100: a blank line"),
    (not_json, "jsonl_valid", "line 100: not valid JSON"),
    (nan, "jsonl_valid", "line 100: not valid JSON: NaN is not JSON"),
    (a_list, "jsonl_valid", "line 100: not a JSON object"),
    (deep, "jsonl_valid", "line 100: not valid JSON"),
    (gigantic, "jsonl_valid", r"line 100: a line of 5 000 25\d bytes, far longer than any event"),
    (later_event_first, "jsonl_valid", r"line \d+: an event earlier than the one above"),
    (two_lines_swapped, "jsonl_valid", "line 2: a driver that stands above"),
]


@pytest.mark.parametrize(
    ("change", "criterion", "sentence"), LINE_CHANGES, ids=[c.__name__ for c, _, _ in LINE_CHANGES]
)
def test_a_changed_line_turns_its_criterion_and_the_record(
    copy: Copy, change: Callable[[Copy], None], criterion: str, sentence: str
) -> None:
    """The criterion names folder and line; besides, only the record's hash no longer fits."""
    change(copy)
    evidence = copy.evidence()
    judgements = {c.id: judge(c, evidence) for c in baseline().criteria}
    failed = {n for n in OF_FILES if judgements[n].verdict is Verdict.FAIL}
    expected = {criterion, "batch_meta"} | (
        {"batch_size_expected"} if change is gigantic else set()
    )
    assert failed == expected
    assert {n for n in OF_FILES if judgements[n].verdict is not Verdict.PASS} == expected
    note = judgements[criterion].note
    sentence = sentence.replace("LAST", str(len(copy.lines)))
    assert re.match(rf"{re.escape(copy.batch.name)} {sentence}", note), note
    assert len(note) < 400
    assert "sha256 is" in " ".join(str(f) for f in evidence.tally.faults_of(FaultKind.META)[1])


def test_a_dropped_line_turns_only_the_record(copy: Copy) -> None:
    """One event of 3500 moves no statistic, but the record counts it."""
    count = len(copy.lines)
    drop_line(copy)
    assert turned(copy) == {"batch_meta"}
    note = copy.judgements()["batch_meta"].note
    assert f"event_count is {count}; the files and the configuration give {count - 1}" in note
    assert note.startswith(f"{copy.batch.name}/{META_NAME}: ")


def test_swapped_labels_turn_the_types(copy: Copy) -> None:
    """Two types that change their names are the wrong shares, though every line is in form."""
    swap = {b'"start driving"': b'"delivered"', b'"delivered"': b'"start driving"'}
    text = re.sub(b"|".join(swap), lambda m: swap[m[0]], copy.events.read_bytes())
    copy.events.write_bytes(text)
    assert turned(copy) == {"event_type_weights", "batch_meta"}
    assert "start driving 25.5 (weight 40)" in copy.judgements()["event_type_weights"].note


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"event_count": 1}, "event_count is 1; the files and the configuration give"),
        ({"seed": 43}, "seed is 43; the files and the configuration give 42"),
        ({"sha256": "0" * 64}, "sha256 is '000"),
        ({"content_sha256": None}, "content_sha256 is None"),
        ({"bytes": 5}, "bytes is 5"),
        ({"interval_end": "2030-01-01T00:00:00.000000Z"}, "interval_end is '2030"),
        ({"interval_start": "2030-01-01T00:00:00.000000Z"}, "interval_start is '2030"),
        (
            {
                "interval_start": "2030-01-01T00:00:00.000000Z",
                "interval_end": "2030-01-01T00:15:00.000000Z",
            },
            "interval_start is '2030",
        ),
        ({"interval_start": "noon"}, "interval_start is 'noon'"),
        ({"batch_id": "20300101T000000Z"}, "batch_id is '20300101T000000Z'"),
        ({"format": "parquet"}, "format is 'parquet'"),
        ({"config": {}}, "config.seed is None; the files and the configuration give 42"),
        ({"config": {"speed": 1}}, "config.seed is None"),
        ({"companies": {"lines": 99, "eligible": 100, "sha256": ""}}, "companies.lines is 99"),
        ({"companies": {"lines": 100, "eligible": 7, "sha256": ""}}, "companies.eligible is 7"),
        ({"schema": 2}, "found schema 2; allowed: 1"),
        ({"event_count": "many"}, "damaged: "),
        ({"companies": 3}, "damaged: "),
    ],
)
def test_an_altered_record_turns_the_record_alone(
    copy: Copy, values: dict[str, Any], sentence: str
) -> None:
    """Whatever the record says wrongly, the data themselves stay as good as they are."""
    set_meta(copy, **values)
    assert turned(copy) == {"batch_meta"}
    note = copy.judgements()["batch_meta"].note
    assert sentence in note
    assert copy.batch.name in note


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"schema": NaN}'])
def test_a_damaged_record_turns_the_record_alone(copy: Copy, content: bytes) -> None:
    """A record that cannot be read is a fault; the folder's name still tells the interval."""
    copy.meta.write_bytes(content)
    assert turned(copy) == {"batch_meta"}


def test_a_missing_record_turns_record_and_folder(copy: Copy) -> None:
    """Without batch_meta.json the folder is incomplete, too, and only a little lighter."""
    copy.meta.unlink()
    assert turned(copy) == {"batch_meta", "batch_directory"}
    judgements = copy.judgements()
    assert f"{META_NAME} is missing" in judgements["batch_directory"].note
    assert "not a batch" in judgements["batch_meta"].note


@pytest.mark.parametrize("how", ["missing", "folder"])
def test_missing_events_never_pass(copy: Copy, how: str) -> None:
    """No file, no claim about events: each one fails or stays open."""
    copy.events.unlink()
    if how == "folder":
        copy.events.mkdir()
    judgements = copy.judgements()
    for name in ("batch_directory", "jsonl_valid", "event_count_expected", "batch_size_expected"):
        assert judgements[name].verdict is Verdict.FAIL
        assert copy.batch.name in judgements[name].note
    for name in ("timestamps_in_interval", "event_type_weights"):
        assert judgements[name].verdict is Verdict.INCONCLUSIVE


def test_missing_events_never_pass_where_none_is_expected(tmp_path: Path) -> None:
    """At rate 0 an empty file is right, and a missing one is not."""
    config = config_of(event_rate_per_driver=0, number_of_companies=3)
    (tmp_path / "made").mkdir()
    data = generate_data(config, tmp_path / "made", repeats=1)
    (tmp_path / "copy").mkdir()
    copy = copy_of(config, data, tmp_path / "copy")
    verdicts = copy.verdicts()
    assert verdicts["batch_directory"] == verdicts["batch_meta"] == "pass"
    assert verdicts["event_count_expected"] == "pass"
    for name in ("jsonl_valid", "timestamps_in_interval", "event_type_weights"):
        assert verdicts[name] == "inconclusive"
    copy.events.unlink()
    assert "pass" not in {
        verdict
        for name, verdict in copy.verdicts().items()
        if name in OF_FILES and name != "batch_meta"
    }


def test_an_empty_events_file_never_passes(copy: Copy) -> None:
    """Where 3500 events are expected, none is a failure of the count and no evidence of form."""
    copy.events.write_bytes(b"")
    verdicts = copy.verdicts()
    assert verdicts["event_count_expected"] == verdicts["batch_meta"] == "fail"
    for name in ("jsonl_valid", "timestamps_in_interval", "event_type_weights"):
        assert verdicts[name] == "inconclusive"


def test_a_folder_that_is_gone_fails(copy: Copy) -> None:
    """Nothing raises where the whole batch is missing."""
    copy.events.unlink()
    copy.meta.unlink()
    copy.batch.rmdir()
    assert "pass" not in {copy.verdicts()[name] for name in OF_FILES}
    assert "there is no such folder" in copy.judgements()["batch_directory"].note


def test_an_extra_file_turns_the_folder(copy: Copy) -> None:
    """A file that does not belong to a batch is named."""
    (copy.batch / "notes.txt").write_text("")
    assert turned(copy) == {"batch_directory"}
    assert "notes.txt does not belong to a batch" in copy.judgements()["batch_directory"].note


def test_what_a_killed_writer_left_turns_the_folder(copy: Copy) -> None:
    """A hidden unfinished folder beside the batch is named."""
    (copy.batch.parent / ".20300101T000000Z.partial").mkdir()
    assert turned(copy) == {"batch_directory"}
    assert ".20300101T000000Z.partial" in copy.judgements()["batch_directory"].note


@pytest.mark.parametrize("name", ["20300101T000000Z", "my batch"])
def test_a_renamed_folder_turns_folder_and_record(copy: Copy, name: str) -> None:
    """The record says which interval it is; the folder no longer does."""
    renamed = copy.batch.rename(copy.batch.with_name(name))
    tally = tally_batches(copy.config, copy.data.companies, [renamed])
    assert {fault.kind for fault in tally.faults} == {FaultKind.FOLDER, FaultKind.META}


def test_a_batch_of_unknown_interval_has_no_times(copy: Copy) -> None:
    """Neither record nor name: the times cannot be held to anything, and that is a fault."""
    copy.meta.unlink()
    renamed = copy.batch.rename(copy.batch.with_name("x"))
    tally = tally_batches(copy.config, copy.data.companies, [renamed])
    assert tally.fault_counts[FaultKind.TIME] == 1
    assert tally.timed == 0
    assert tally.lines == tally.sample.counts.sum()


def test_lines_that_cannot_be_placed_count_in_no_test(copy: Copy) -> None:
    """A broken line and a stranger's: the tests of the total and of drivers see the same lines."""
    lines = len(copy.lines)
    not_json(copy)
    copy.edit(200, json.loads(copy.lines[199])["event_type"].encode(), b"parked")
    sample = copy.tally().sample
    assert (sample.unplaced, sample.n_events) == (2, lines - 2)
    assert sample.counts.sum() == sample.type_counts.sum() == sample.times.n == lines - 2
    assert copy.evidence().test("event_count").statistic == lines - 2


def test_all_faults_are_counted_and_the_first_are_kept(copy: Copy) -> None:
    """A thousand bad lines are a number and twenty examples, in the order of the file."""
    copy.write([b"x\n"] * 1000)
    number, examples = copy.tally().faults_of(FaultKind.LINE)
    assert number == 1000
    assert [fault.where.split()[-1] for fault in examples] == [str(i) for i in range(1, 21)]
    assert copy.judgements()["jsonl_valid"].note.endswith(" and 999 more.")
    assert copy.verdicts()["timestamps_in_interval"] == "inconclusive"


def test_times_outside_and_ids_twice_are_all_counted_too(copy: Copy) -> None:
    """Three thousand of each, of which twenty are kept, the first ones."""
    before = format_time(parse_time(read_meta(copy.batch).interval_start) - 1).encode()
    first = json.loads(copy.lines[0])["event_id"].encode()
    copy.write(
        [b'{"event_id":"' + first + line[49:-30] + before + line[-3:] for line in copy.lines]
    )
    tally, lines = copy.tally(), len(copy.lines)
    for kind, number, start in ((FaultKind.TIME, lines, 1), (FaultKind.DUPLICATE, lines - 1, 2)):
        total, kept = tally.faults_of(kind)
        assert (total, len(kept)) == (number, 20)
        assert [fault.where.split()[-1] for fault in kept] == [str(start + i) for i in range(20)]
    assert tally.sample.outside == lines
    assert tally.timed == 0


@pytest.mark.parametrize(
    ("piece", "end"), [(1, 600), (7, None), pytest.param(1, None, marks=pytest.mark.slow)]
)
def test_lines_are_the_same_in_many_pieces(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, piece: int, end: int | None
) -> None:
    """How many lines are looked at together has no influence, order and duplicates included."""
    event_id_twice(copy)
    lines = copy.lines
    copy.write([*lines[:200], lines[300], *lines[200:end]])
    whole = copy.tally()
    monkeypatch.setattr("fleetsim.tally.lines.SLAB_LINES", piece)
    pieces = copy.tally()
    assert pieces.faults == whole.faults
    same_sample(pieces.sample, whole.sample)
    assert any("the order is company, driver, time" in str(fault) for fault in whole.faults)


def split(copy: Copy, *cuts: int) -> list[Path]:
    """Turn the first batch into parts without a record, cut before these lines."""
    ends = [0, *cuts, None]
    pieces = [copy.lines[first:end] for first, end in pairwise(ends)]
    copy.events.unlink()
    paths = [copy.batch / f"part-{number:06d}.jsonl" for number in range(len(pieces))]
    for path, lines in zip(paths, pieces, strict=True):
        path.write_bytes(b"".join(lines))
    return paths


@pytest.mark.parametrize("change", [drop_line, *(change for change, _, _ in LINE_CHANGES)])
def test_parts_give_what_one_file_gives(copy: Copy, change: Callable[[Copy], None]) -> None:
    """Whatever is wrong, also in a part's only line; only the names of places are others."""
    change(copy)
    copy.meta.unlink()
    whole = copy.tally()
    starts = [0, 50, 99, 100, 100]
    split(copy, *starts[1:])
    parts = copy.tally()
    same_sample(parts.sample, whole.sample)
    assert parts.fault_counts == whole.fault_counts

    def at_line(match: re.Match[str]) -> str:
        return f"{match[1]} line {starts[int(match[2])] + int(match[3])}"

    told = [re.sub(r"(\S+)/part-(\d+).jsonl line (\d+)", at_line, str(f)) for f in parts.faults]
    assert told == [str(fault) for fault in whole.faults]


@pytest.mark.parametrize("cut", [1, 5])
def test_a_part_whose_last_line_has_no_end_loses_that_line_alone(copy: Copy, cut: int) -> None:
    """Joined with the next part's first line, as one file, it would spoil that one too.

    Where only the newline is missing, the event can be read, and counts.
    """
    copy.meta.unlink()
    lines = copy.lines
    if cut > 1:
        copy.write([*lines[:49], b"x\n", *lines[50:]])
    whole = copy.tally()
    copy.write(lines)
    first, _ = split(copy, 50)
    first.write_bytes(first.read_bytes()[:-cut])
    parts = copy.tally()
    same_sample(parts.sample, whole.sample)
    assert parts.fault_counts == whole.fault_counts | {FaultKind.LINE: 1}
    assert any(
        str(fault) == f"{copy.batch.name}/{first.name} line 50: the last line is cut: it has no end"
        for fault in parts.faults
    )


def test_an_id_twice_is_told_with_both_parts(copy: Copy) -> None:
    """Whichever file is read first."""
    event_id_twice(copy)
    split(copy, 50)
    (fault,) = copy.tally().faults_of(FaultKind.DUPLICATE)[1]
    assert re.search(
        r"/part-000001.jsonl line 50: event_id .*/part-000000.jsonl line 10$", str(fault)
    )


def test_files_that_come_in_any_order_give_the_same(copy: Copy) -> None:
    """A mapper may hand back the last file first; tasks and results can travel."""

    def backwards(function: Any, tasks: Any) -> Any:
        for task in reversed(list(tasks)):
            sent = pickle.loads(pickle.dumps(task))  # noqa: S301 (our own)
            yield task, pickle.loads(pickle.dumps(function(sent)))  # noqa: S301

    event_id_twice(copy)
    split(copy, 50, 99, 2000)
    here = copy.tally()
    there = tally_batches(
        copy.config, copy.data.companies, list(copy.data.batches), mapper=backwards
    )
    assert replace(there, samples=()) == replace(here, samples=())
    same_sample(there.sample, here.sample)


def test_what_travels_is_small(copy: Copy) -> None:
    """24 bytes an event, 16 a driver or a company with a type that occurs, and little more."""
    sent = []

    def mapper(function: Any, tasks: Any) -> Any:
        for task in tasks:
            result = function(task)
            sent.append(len(pickle.dumps(task)))
            sent.append(len(pickle.dumps(result)) - 24 * len(result[1].line))
            yield task, result

    tally_batches(copy.config, copy.data.companies, list(copy.data.batches), mapper=mapper)
    assert sent[0] < 2000
    assert sent[1] < 16 * (min(3 * 1000, 3600) + 3 * 100) + 5000


def test_a_company_that_is_not_onboarded_is_a_stranger(copy: Copy) -> None:
    """Events of a company that joins later do not belong to the batch."""
    lines = copy.data.companies.read_bytes().splitlines(keepends=True)
    lines[0] = re.sub(rb'created_at":"\d{4}', b'created_at":"2099', lines[0])
    copy.data.companies.write_bytes(b"".join(lines))
    note = copy.judgements()["jsonl_valid"].note
    assert "is not active or not onboarded yet" in note
    assert copy.verdicts()["batch_meta"] == "fail"


def test_a_companies_file_of_no_whole_cohort_is_a_fault(copy: Copy) -> None:
    """A company that is missing with all its events does not shrink what is expected unseen."""
    lines = copy.data.companies.read_bytes().splitlines(keepends=True)
    gone = json.loads(lines.pop())["company_id"].encode()
    copy.data.companies.write_bytes(b"".join(lines))
    copy.write([line for line in copy.lines if gone not in line])
    assert "it has 99 lines; the configuration gives" in copy.judgements()["jsonl_valid"].note


def test_a_companies_file_that_cannot_be_read_is_an_input_error(copy: Copy) -> None:
    """Without a roster there is nothing to hold the lines to, and the file is named."""
    copy.data.companies.write_bytes(b"x\n")
    with pytest.raises(InputError, match=r"companies\.jsonl: line 1"):
        copy.tally()
    with pytest.raises(InputError, match="no batch to read"):
        tally_batches(copy.config, copy.data.companies, [])


def test_duplicates_are_found_across_batches(copy: Copy, tmp_path: Path) -> None:
    """The same events in two batches are duplicates, each named with both of its places."""
    start = parse_time(copy.batch.name)
    twin = copy.batch.with_name(batch_name(start + copy.config.interval_us))
    twin.mkdir()
    (twin / "events.jsonl").write_bytes(copy.lines[0])
    tally = tally_batches(copy.config, copy.data.companies, [twin, copy.batch])
    number, examples = tally.faults_of(FaultKind.DUPLICATE)
    assert number == 1
    assert f"{twin.name} line 1: event_id" in str(examples[0])
    assert f"already stands in {copy.batch.name} line 1" in str(examples[0])
    assert tally.batch_ids == (copy.batch.name, twin.name)


def test_a_roster_that_grows_between_batches_makes_samples_apart(copy: Copy) -> None:
    """Counts of drivers that joined later have no place in one table; neither batch is lost."""
    lines = copy.data.companies.read_bytes().splitlines(keepends=True)
    lines[-1] = re.sub(rb'created_at":"\d{4}', b'created_at":"2099', lines[-1])
    copy.data.companies.write_bytes(b"".join(lines))
    later = copy.batch.with_name("21000101T000000Z")
    later.mkdir()
    tally = tally_batches(copy.config, copy.data.companies, [copy.batch, later])
    assert [sample.n_drivers for sample in tally.samples] == [990, 1000]
    assert tally.spans == ((0, 1), (1, 2))
    assert tally.unread == (later.name,)
    with pytest.raises(FleetsimError, match="grew between the batches"):
        _ = tally.sample


def test_batches_are_in_the_order_of_time() -> None:
    """A fraction of a second sorts after the whole second, as its name does not."""
    whole, half, later = (Path(batch_name(us)) for us in (0, 500_000, 1_000_000))
    assert sorted([whole, half]) == [half, whole]
    assert in_time([Path("x"), later, half, whole]) == [whole, half, later, Path("x")]


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)),
    st.integers(0, 26),
    st.binary(min_size=1, max_size=1),
)
def test_distances_are_those_of_times_and_of_nothing_else(
    moment: datetime, at: int, byte: bytes
) -> None:
    """With one byte of a time changed it is another time, or the text itself counts."""
    text = moment.isoformat(timespec="microseconds").encode() + b"Z"
    changed = text[:at] + byte + text[at + 1 :]
    try:
        expected = parse_time(changed.decode())
        form = re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", changed)
    except ValueError:
        form = None
    made = _distances([text, changed], 1_000_000)
    if form:
        times = np.array([parse_time(text.decode()), expected]) - 1_000_000
        assert made == times.astype("<i8").tobytes()
    else:
        assert made == text + changed


def test_the_fingerprint_does_not_see_the_instant(copy: Copy) -> None:
    """The same events of another interval have the same fingerprint."""
    before = content_fingerprint(copy.batch)
    start = parse_time(read_meta(copy.batch).interval_start)
    moved = []
    for line in copy.lines:
        time = parse_time(line[-30:-3].decode()) + 123_456_789
        moved.append(line[:-30] + format_time(time).encode() + line[-3:])
    copy.write(moved)
    set_meta(copy, interval_start=format_time(start + 123_456_789))
    assert content_fingerprint(copy.batch) == before


@pytest.mark.parametrize("at", [*range(-254, 0, 7), *range(-32, 0)])
def test_the_fingerprint_sees_every_other_byte(copy: Copy, at: int) -> None:
    """No byte of a line can change without the fingerprint."""
    before = content_fingerprint(copy.batch)
    text = bytearray(copy.events.read_bytes())
    text[at] ^= 1
    copy.events.write_bytes(text)
    assert content_fingerprint(copy.batch) != before


def test_the_fingerprint_sees_lines_moved_dropped_and_cut(copy: Copy) -> None:
    """Order, number and ends of the lines are content, and so is the form of a time."""
    lines = copy.lines
    spaced = lines[0].replace(b"T", b" ")
    seen = {content_fingerprint(copy.batch)}
    for changed in (
        [lines[1], lines[0], *lines[2:]],
        lines[:-1],
        [*lines, lines[-1]],
        [*lines[:-1], lines[-1][:-1]],
        [lines[0][:-1], b"\n", *lines[1:]],
        [lines[0][:-30] + spaced[-30:], *lines[1:]],
        [b"\n", *lines],
        [],
    ):
        copy.write(changed)
        seen.add(content_fingerprint(copy.batch))
    assert len(seen) == 8
