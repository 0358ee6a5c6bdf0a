"""Two runs measured again: from their records alone, in turn, and nothing of it stays."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from made_runs import EXPERIMENT, PROVENANCE, failed, made_record, measured, write_run
from support import ROOT, Cli, wait_until

from fleetsim.base.errors import InputError
from fleetsim.base.project import source_hash
from fleetsim.experiment.record import Record
from fleetsim.experiment.results import clear_results
from fleetsim.measure.cold import Repeat
from fleetsim.measure.turns import Turn
from fleetsim.report.compare import again as module
from fleetsim.report.compare.again import Again, measure_again, plan_again
from fleetsim.report.compare.compare import Comparison, compare_runs
from fleetsim.report.compare.page import comparison_text, render_comparison

LOADED = {**PROVENANCE, "load_average": 9.0}
OPTION = "--measure-again"


def record_of(name: str, *, factor: float = 1.0, load: bool = False, **parameters: Any) -> Record:
    """Return the record of a run whose times nobody could take for new ones: 50 s and more."""
    seed = parameters.pop("seed", {"a": 1, "b": 2}[name])
    old = measured(seed, factor=500 * factor, repeats=10)
    return msgspec.structs.replace(
        made_record(name, seed=seed, **parameters),
        measurements=old,
        provenance=LOADED if load else PROVENANCE,
    )


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return two runs with data of their own, of which the second was made beside other work."""
    results = tmp_path / "results"
    a, b = record_of("a"), record_of("b", load=True)
    return write_run(results, a, data=True), write_run(results, b, data=True)


def made_again(factor: float, pairs: int = 10, **changes: Any) -> Again:
    """Return figures in which B takes so many times what A takes, a few per cent to and fro."""
    random = np.random.default_rng(3)
    turns = []
    for number in range(pairs):
        load = random.lognormal(0, 0.5)  # it meets both
        for work in (0, 1) if number % 2 == 0 else (1, 0):
            seconds = load * random.lognormal(0, 0.01) * (factor if work else 1.0)
            turns.append(Turn(work, Repeat(seconds, seconds, 2 * seconds, int(4e7 * seconds))))
    source = source_hash()
    made = Again(tuple(turns), (0.4, 1.1), 2, "a processor", "0.1.0", source)
    return replace(made, **changes)


def by_name(comparison: Comparison) -> dict[str, Any]:
    """Return the rows by their names."""
    return {row.name: row for row in comparison.rows}


def content(folder: Path) -> dict[str, str]:
    """Return the files of a folder with their hashes and times."""
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mtime_ns} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


def test_the_command_measures_both_in_turn_and_compares_that(
    pair: tuple[Path, Path], fleetsim_cli: Cli
) -> None:
    """From new processes, alternately; the runs stay as they are, and the page alone is new."""
    results = pair[0].parents[1]
    before = [content(run) for run in pair]
    names = ("compare", f"{EXPERIMENT}/a", f"{EXPERIMENT}/b", "--results", results)
    plain = json.loads(fleetsim_cli(*names, "--json").out)
    assert plain["measured_again"] is None
    assert "or both in turn on this one by --measure-again" in " ".join(plain["notes"])
    times = {row["name"]: row["outcome"] for row in plain["rows"]}
    assert times["generation_time"] == "not compared"

    done = fleetsim_cli(*names, OPTION, "--pairs", 6, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out, parse_constant=pytest.fail)
    again = found["measured_again"]
    assert (again["pairs"], again["order"]) == (6, "ABBA" * 3)
    assert len(again["load_average"]) == 2
    assert again["source_sha256"] == source_hash()
    for key in ("generation_seconds", "process_seconds"):
        for side in "ab":
            assert len(set(again[key][side])) == 6
            assert 0 < max(again[key][side]) < 40  # those of the records begin with 50 s
    assert all(5e6 < peak < 512e6 for peak in again["peak_rss_bytes"]["b"])
    rows = {row["name"]: row for row in found["rows"]}
    for name in ("generation_time", "process_time", "memory_peak"):
        row = rows[name]
        assert (row["test"], row["n"]) == ("signed_rank", 6)
        assert row["outcome"] in ("differs", "not shown")
        assert row["interval"][0] <= row["estimate"] <= row["interval"][1]
        assert "measured again, in turn, on this machine" in row["sentence"]
    ratios = np.divide(again["generation_seconds"]["b"], again["generation_seconds"]["a"])
    assert rows["generation_time"]["estimate"] == pytest.approx(np.median(ratios))
    assert [content(run) for run in pair] == before
    assert sorted(path.name for path in results.iterdir()) == [EXPERIMENT, "compare"]


def test_by_default_there_are_as_many_pairs_as_repeats(pair: tuple[Path, Path]) -> None:
    """Those of the run with the more, within limits."""
    assert plan_again(*pair).pairs == 10
    assert plan_again(*pair, pairs=7).pairs == 7
    for repeats, expected in ((30, 30), (3, 10), (1500, 1000)):
        record = msgspec.structs.replace(record_of("b"), measurements=measured(1, repeats=repeats))
        (pair[1] / "result.json").write_bytes(record.encode())
        assert plan_again(*pair).pairs == expected


def test_a_plan_holds_what_the_records_say(tmp_path: Path) -> None:
    """Configuration, interval and batches, whatever the experiment says now."""
    record = record_of("b", number_of_companies=7)
    described = msgspec.structs.replace(
        record.description, interval="2025-11-08T12:00:00Z", batches=3
    )
    other = write_run(tmp_path, msgspec.structs.replace(record, description=described))
    one, two = plan_again(write_run(tmp_path, record_of("a")), other).works
    assert (one.config.seed, one.interval, one.batches) == (1, "now", 1)
    assert (two.config.seed, two.interval, two.batches) == (2, "2025-11-08T12:00:00Z", 3)
    assert two.config.number_of_companies == 7


def test_a_slower_run_is_worse_as_where_times_are_comparable(pair: tuple[Path, Path]) -> None:
    """Beyond the tolerance, also where the loads of the records differ; below it not."""
    for factor, expected in ((1.5, ["generation_time", "process_time", "memory_peak"]), (1.05, [])):
        comparison = compare_runs(*pair, again=made_again(factor))
        rows = by_name(comparison)
        assert [name for name, row in rows.items() if row.worse] == expected
        assert {f.partition(":")[0] for f in comparison.findings} == set(expected)
        assert rows["generation_time"].outcome == "differs"
        low, high = rows["generation_time"].result.interval
        assert low <= factor * 1.01
        assert high >= factor / 1.01
    assert not compare_runs(*pair, again=made_again(0.5)).findings


def test_the_gate_closes_for_it(
    pair: tuple[Path, Path], fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 with --strict where B takes more."""
    names = ("compare", *pair, "--results", pair[0].parents[1], OPTION, "--strict")
    for factor, code in ((2.0, 3), (1.0, 0)):
        turns = list(made_again(factor).turns)
        monkeypatch.setattr(module, "measure_in_turn", lambda *a, t=turns, **k: t)
        assert fleetsim_cli(*names).code == code


def test_other_work_is_not_tested(tmp_path: Path) -> None:
    """A fleet twice as large is expected to take more: its ratio is shown, and no p."""
    a = write_run(tmp_path, record_of("a"))
    b = write_run(tmp_path, record_of("b", number_of_companies=40))
    row = by_name(compare_runs(a, b, again=made_again(2.0)))["generation_time"]
    assert (row.outcome, row.result.p_value, row.worse) == ("expected", None, False)
    assert "the work differs (number_of_companies)" in row.sentence
    assert "2." in row.effect or "1.9" in row.effect


def test_the_notes_say_load_and_code(pair: tuple[Path, Path]) -> None:
    """Whose code it was, and whether the machine was busy."""
    notes = " ".join(compare_runs(*pair, again=made_again(1.0)).notes_again)
    assert "10 pairs of cold processes" in notes
    assert "load average was 0.4 when they began, and 1.1 when they ended" in notes
    assert "A and B were made by other code" in notes
    assert "did other work" not in notes
    busy = made_again(1.0, loads=(2.5, 3.0), source=str(PROVENANCE["source_sha256"]))
    notes = " ".join(compare_runs(*pair, again=busy).notes_again)
    assert "The machine did other work when they began (2 is the limit)" in notes
    assert "made, and measured again, by the same code" in notes
    record = msgspec.structs.replace(
        record_of("b"), provenance={**PROVENANCE, "source_sha256": "cd" * 32}
    )
    (pair[1] / "result.json").write_bytes(record.encode())
    notes = " ".join(compare_runs(*pair, again=busy).notes_again)
    assert "and B was made by other code" in notes


def test_terminal_and_page_show_new_figures_and_old(pair: tuple[Path, Path]) -> None:
    """With the words, the ratio and its interval, the load, and every pair."""
    comparison = compare_runs(*pair, again=made_again(1.5))
    text = comparison_text(comparison)
    assert "Measured again, in turn, on this machine:" in text
    assert max(map(len, text.splitlines())) <= 110
    [line] = [line for line in text.splitlines() if line.startswith("generation_time  0")]
    effect = by_name(comparison)["generation_time"].effect
    assert re.fullmatch(r"1\.\d{3} times \(1\.\d{3} to 1\.\d{3}\)", effect)
    assert effect in line
    page = render_comparison(comparison)
    assert "<h2>Measured again, in turn, on this machine</h2>" in page
    assert "The load average was 0.4" in page
    assert effect in page
    section = page.partition("<h2>Measured again")[2].partition("</section>")[0]
    assert section.count("<tr>") == 1 + 3 + 1 + 10
    assert re.findall(r"<tr><td>\d+</td><td>([AB])</td>", section) == list("ABABABABAB")
    assert "Wilcoxon" in page
    without = render_comparison(compare_runs(*pair))
    assert "<h2>Measured again" not in without
    assert "Wilcoxon" not in without


def broken(record: Record, **values: Any) -> Record:
    """Return a record whose description says something else."""
    described = msgspec.structs.replace(record.description, **values)
    return msgspec.structs.replace(record, description=described)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: broken(r, kind="scaling"), "of kind scaling cannot be measured again; allowed:"),
        (lambda r: broken(r, kind="coins"), "allowed: runs of kind baseline"),
        (failed, "it has no measurements"),
        (lambda r: broken(r, interval="yesterday"), "damaged: interval: "),
        (lambda r: broken(r, batches=2), "damaged: batches: found 2 with interval now"),
        (lambda r: broken(r, interval="2025-11-08T12:00:00Z", batches=10**9), "found 1000000000"),
        (lambda r: msgspec.structs.replace(r, config={"seed": -1}), "seed: found -1"),
    ],
)
def test_what_cannot_be_measured_again_is_refused(
    tmp_path: Path, fleetsim_cli: Cli, change: Any, words: str
) -> None:
    """Exit code 2, which run and why, before anything is measured or written."""
    a = write_run(tmp_path / "r", record_of("a"))
    b = write_run(tmp_path / "r", change(record_of("b", load=True)))
    done = fleetsim_cli("compare", a, b, OPTION, "--results", tmp_path / "r")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"fleetsim: {OPTION}: ")
    assert "B (b): " in done.err
    assert words in done.err
    assert not (tmp_path / "r" / "compare").exists()
    if "kind" in words or "measurements" in words:
        notes = compare_runs(a, b).notes
        assert not [note for note in notes if OPTION in note]


def test_every_fault_of_both_is_one_error(tmp_path: Path) -> None:
    """And one run is no pair."""
    a = write_run(tmp_path, broken(record_of("a"), kind="scaling"))
    b = write_run(tmp_path, failed(record_of("b")))
    with pytest.raises(InputError) as error:
        plan_again(a, b)
    assert [fault[:5] for fault in error.value.faults] == ["A (a)", "B (b)"]
    with pytest.raises(InputError, match="one and the same run"):
        plan_again(a, a)


@pytest.mark.parametrize("words", [("--pairs", "10"), (OPTION, "--pairs", "5")])
def test_wrong_options(tmp_path: Path, fleetsim_cli: Cli, words: tuple[str, ...]) -> None:
    """Pairs without the option, and too few of them."""
    runs = [write_run(tmp_path, record_of(name)) for name in "ab"]
    done = fleetsim_cli("compare", *runs, *words, "--results", tmp_path)
    assert done.code == 2
    assert "--pairs" in done.err


def test_a_failure_leaves_nothing(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor does a kill, once another command looks at the results."""
    results = tmp_path / "new"
    monkeypatch.setattr("fleetsim.measure.cold.content_fingerprint", lambda b: os.urandom(4).hex())
    with pytest.raises(Exception, match="made other events"):
        measure_again(plan_again(*pair), results)
    assert list(results.iterdir()) == []
    left = results / f".again-{'0' * 32}.partial"
    (left / "0").mkdir(parents=True)
    clear_results(results)
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(pair: tuple[Path, Path], number: int) -> None:
    """No folder, no page, no process; the last word is the usual one."""
    results = pair[0].parents[1]
    words = [sys.executable, "-m", "fleetsim", "compare", *map(str, pair), OPTION]
    words += ["--pairs", "1000", "--results", str(results)]
    before = [content(run) for run in pair]
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: list(results.glob(".again-*/1/scratch")), "it did not begin")
    child.send_signal(number)
    out, err = child.communicate()
    assert (child.returncode, out) == (128 + number, b"")
    lines = err.decode().splitlines()
    assert lines[-1] == {2: "fleetsim: interrupted", 15: "fleetsim: terminated"}[number]
    assert all(line.startswith("fleetsim: ") for line in lines)  # on a busy machine of progress
    assert sorted(path.name for path in results.iterdir()) == [EXPERIMENT]
    assert [content(run) for run in pair] == before
