"""The benchmark turns away what is not the work, compares within rounds, and runs the kit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import peers, performance
from benchmarks.checking import check_batch, check_same, file_hash
from benchmarks.generate import Bench
from benchmarks.performance import Results, tell, write_page
from benchmarks.programs import (
    BARE,
    FASTEST,
    KIT,
    PEERS,
    PROFILED,
    Program,
    Work,
    make_work,
    work_of,
)
from benchmarks.rates import MEASURES, Run, Spread, best, ratio, spread_of
from fleetsim.base.errors import FleetsimError
from fleetsim.generate.config import make_config
from fleetsim.measure.child import Child, run_command

EVENTS = 3000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Return work that the kit has done."""
    work = make_work(tmp_path_factory.mktemp("bench") / "work", work_of(EVENTS))
    child, printed = run_command(KIT[0].command(work), work.folder)
    assert child.exit_code == 0, printed
    return work


def foreign(work: Work, tmp_path: Path, lines: list[bytes]) -> Path:
    """Return a batch of these lines, as a peer would leave it."""
    batch = tmp_path / work.batch.name
    batch.mkdir()
    (batch / "events.jsonl").write_bytes(b"".join(lines))
    return batch


def lines_of(work: Work) -> list[bytes]:
    """Return the lines that the kit made."""
    return work.events.read_bytes().splitlines(keepends=True)


def test_what_the_kit_made_passes_with_its_record_and_without(made: Work, tmp_path: Path) -> None:
    """Peers write no record, so theirs is not asked for; ours is."""
    lines = lines_of(made)
    assert len(lines) == pytest.approx(EVENTS, abs=400)
    assert check_batch(made.config, made.companies, made.batch, recorded=True) == len(lines)
    copy = foreign(made, tmp_path, lines)
    assert check_batch(made.config, made.companies, copy, recorded=False) == len(lines)
    with pytest.raises(FleetsimError, match=r"batch_meta\.json"):
        check_batch(made.config, made.companies, copy, recorded=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'","company_id"', b'", "company_id"'),
        (b'"TRK-', b'"TRK-9'),
        (b"2025-11-08T12:", b"2025-11-08T13:"),
        (b'Z"}\n', b'Z"}\r\n'),
        (b"}\n", b"}"),
    ],
    ids=["space", "other truck", "other hour", "carriage return", "lines joined"],
)
def test_one_damaged_line_is_turned_away(
    made: Work, tmp_path: Path, old: bytes, new: bytes
) -> None:
    """Among thousands, anywhere."""
    lines = lines_of(made)
    damaged = lines[1234].replace(old, new, 1)
    assert damaged != lines[1234]
    batch = foreign(made, tmp_path, [*lines[:1234], damaged, *lines[1235:]])
    with pytest.raises(FleetsimError, match="line 1235"):
        check_batch(made.config, made.companies, batch, recorded=False)


def test_an_event_twice_or_out_of_order_is_turned_away(made: Work, tmp_path: Path) -> None:
    """Each with the line where it stands."""
    lines = lines_of(made)
    again = foreign(made, tmp_path, [*lines, lines[-1]])
    with pytest.raises(FleetsimError, match="already stands"):
        check_batch(made.config, made.companies, again, recorded=False)
    (again / "events.jsonl").write_bytes(b"".join(reversed(lines)))
    with pytest.raises(FleetsimError, match="the order is company, driver, time"):
        check_batch(made.config, made.companies, again, recorded=False)


def test_another_law_is_turned_away(made: Work, tmp_path: Path) -> None:
    """Fewer events, other weights, times in one half only: lines in perfect form."""
    lines = lines_of(made)
    few = foreign(made, tmp_path, lines[::2])
    with pytest.raises(FleetsimError, match=r"do not follow the law: .*event_count"):
        check_batch(made.config, made.companies, few, recorded=False)
    one_type = [line.replace(b"start driving", b"stopped driving") for line in lines]
    (few / "events.jsonl").write_bytes(b"".join(one_type))
    with pytest.raises(FleetsimError, match=r"do not follow the law: .*event_types"):
        check_batch(made.config, made.companies, few, recorded=False)
    early = [line.replace(b"T12:1", b"T12:0") for line in lines]  # minutes 10 to 14: again 0 to 4
    early.sort(key=lambda line: (int(line.split(b"TRK-")[1].split(b'"')[0]), line[-30:]))
    (few / "events.jsonl").write_bytes(b"".join(early))
    with pytest.raises(FleetsimError, match=r"do not follow the law: .*time"):
        check_batch(made.config, made.companies, few, recorded=False)


def test_other_bytes_than_those_checked_are_turned_away(tmp_path: Path) -> None:
    """One bit is enough."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"abc")
    check_same(path, file_hash(path))
    with pytest.raises(FleetsimError, match="has not the bytes"):
        check_same(path, file_hash(path)[:-1] + "g")


def run_of(program: str, number: int, seconds: float, cpu_seconds: float = 1.0) -> Run:
    """Return a run that made two million events of 500 MB."""
    return Run(program, number, 2_000_000, 500_000_000, seconds, cpu_seconds, 60_000_000)


def test_rates_are_per_second_of_the_clock_and_of_the_cpu() -> None:
    """Each in the unit that its name says."""
    found = {name: measure(run_of("a", 0, 4.0, 5.0)) for name, measure in MEASURES.items()}
    assert found == {
        "million events/s": 0.5,
        "million events/CPU s": 0.4,
        "MB/s": 125.0,
        "peak memory [MB]": 60.0,
    }


def test_ratios_are_taken_pair_by_pair_within_rounds() -> None:
    """A slow hour of the machine, which meets both, leaves the ratio alone."""
    slowness = {0: 1.0, 1: 5.0, 2: 0.5}
    runs = [run_of("a", n, 2 * s) for n, s in slowness.items()]
    runs += [run_of("b", n, 6 * s) for n, s in reversed(slowness.items())]
    wall = MEASURES["million events/s"]
    assert ratio(runs, "a", "b", wall) == pytest.approx((3.0, 3.0, 3.0))
    assert ratio(runs, "b", "a", wall) == pytest.approx((1 / 3,) * 3)
    assert best(runs, ["b", "a"], wall) == "a"
    with pytest.raises(ValueError, match="did not run in the same rounds"):
        ratio(runs[1:], "a", "b", wall)
    with pytest.raises(ValueError, match="did not run in the same rounds"):
        ratio(runs, "c", "c", wall)


def test_a_spread_is_the_median_and_both_ends() -> None:
    """The least first, as it is read."""
    assert spread_of([3.0, 1.0, 10.0, 4.0]) == Spread(3.5, 1.0, 10.0)
    assert spread_of([2.5]).text() == "2.50 (2.50–2.50)"
    assert Spread(1234.2, 0.01234, 99.2).text() == "1234 (0.0123–99.2)"


def test_the_peers_do_what_the_kit_is_configured_for() -> None:
    """Their constants are written twice, since a peer imports nothing of the kit."""
    config = make_config(work_of(EVENTS))
    default = make_config({k: v for k, v in work_of(EVENTS).items() if k != "event_types"})
    assert config == default
    assert config.interval_us == peers.LENGTH_US
    assert (
        config.drivers_per_company,
        config.event_rate_per_driver,
    ) == (peers.DRIVERS, peers.RATE)
    assert dict(config.event_types) == peers.TYPES
    code = "import sys, benchmarks.peers; print(any(m.startswith('fleetsim') for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_kit_is_measured_and_checked_from_end_to_end(tmp_path: Path) -> None:
    """All its rows, the bare write, the profile and a cold start; nothing is left but the work."""
    bench = Bench(tmp_path, EVENTS, Results())
    bench.make_ready()
    for program in (*KIT, *BARE, PROFILED):
        bench.run(program, 0)
    bench.run_cold(0)
    results = bench.results
    assert [run.program for run in results.runs] == [program.name for program in (*KIT, *BARE)]
    assert len({(run.events, run.bytes) for run in results.runs}) == 1
    for run in results.runs:
        assert run.events == pytest.approx(EVENTS, abs=400)
        assert run.cpu_seconds > 0
        assert run.seconds > 0
    (profile,) = results.profiles
    assert min(profile[part] for part in ("hashing", "writing", "fsync")) > 0
    assert sum(profile.values()) - profile["process"] < profile["process"]
    ((batch, other),) = results.cold
    assert min(batch.seconds, other.seconds) > 0
    assert not list(tmp_path.rglob("events"))


def test_without_hashing_the_bytes_are_the_same_and_no_hash_is_made(
    made: Work, tmp_path: Path
) -> None:
    """The switch leaves out SHA-256, and nothing else."""
    work = make_work(tmp_path / "work", work_of(EVENTS))
    child, printed = run_command(KIT[1].command(work), work.folder)
    assert child.exit_code == 0, printed
    assert work.events.read_bytes() == made.events.read_bytes()
    assert '"sha256": "",' in (work.batch / "batch_meta.json").read_text()


def test_a_peer_that_fails_or_writes_something_else_ends_the_benchmark(tmp_path: Path) -> None:
    """It is named, with what it said or what is wrong with its lines."""

    def program(code: str) -> Program:
        return Program("a peer", 1, lambda work: [sys.executable, "-c", code])

    bench = Bench(tmp_path, EVENTS, Results())
    with pytest.raises(FleetsimError, match="a peer: exit code 1\\nno idea"):
        bench.run(program("import sys; sys.exit('no idea')"), 0)
    again = tmp_path / "again"
    again.mkdir()
    bench = Bench(again, EVENTS, Results())
    path = "events/20251108T120000Z/events.jsonl"
    with pytest.raises(FleetsimError, match=r"a peer: \d faults: .*line 1"):
        bench.run(program(f"open({path!r}, 'w').write('{{}}\\n')"), 0)
    assert bench.results.runs == []


def test_the_page_and_the_tables_say_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every program with its rates, ratios to the best peer, shares that add up, the cold start."""
    monkeypatch.setattr(performance, "describe_machine", lambda folder: "A machine.")
    results = Results()
    for i, program in enumerate((*KIT, *PEERS, *BARE)):
        results.runs += [run_of(program.name, n, 1.0 + i, 12.0 - i) for n in range(3)]
    parts = {"loading": 1.0, "kernel": 2.0, "hashing": 3.0, "writing": 1.0, "fsync": 1.0}
    results.profiles.append(parts | {"process": 10.0})
    for number in range(3):
        for i, program in enumerate((*FASTEST, *BARE)):
            results.to_disk.append(run_of(program.name, number, 2.0 + i, 4.0 - i / 2))
            if program in FASTEST:
                results.to_memory.append(run_of(program.name, number, 1.0 + i, 1.0 + i))
    batch, other = Child(0, 0.15, 0.12, 1), Child(0, 0.1, 0.1, 1)
    results.cold.append((batch, other))
    page, plot = write_page(results, tmp_path, tmp_path)
    text = page.read_text()
    assert text.startswith("# Performance\n")
    assert "A machine. Rounds: 3." in text
    for program in (*KIT, *PEERS, *BARE):
        assert f"\n| {program.name} | 2 | " in text
    # The first peer is the fastest by the clock, the last one by CPU seconds.
    assert "| ratio | events/s over NumPy + polars | events/CPU s over Faker |" in text
    assert "| fleetsim | 5.00 (5.00–5.00) | 0.250 (0.250–0.250) | 11.0 (11.0–11.0) |" in text
    assert "| hashing | 3.0 (3.0–3.0) | 30 (30–30) |" in text
    assert "imports, companies, end | 2.0 (2.0–2.0) | 20 (20–20) |" in text
    assert "1.50 (1.50–1.50) by the clock and 1.20 (1.20–1.20) in CPU seconds" in text
    assert (
        "| fleetsim | 3.00 (3.00–3.00) | 3.00 (3.00–3.00) | 2.00 (2.00–2.00) | "
        "0.750 (0.750–0.750) |"
    ) in text
    assert "| bare write | – | – | 0.667 (0.667–0.667) | 1.50 (1.50–1.50) |" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    told = tell(results)
    assert all(program.name in told for program in (*KIT, *PEERS, *BARE))
