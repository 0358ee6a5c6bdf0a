"""Measurements are the child's own: its memory, its failures, its environment, one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from analysis import config_of
from support import wait_until

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import FleetsimError
from fleetsim.batch.companies import read_companies
from fleetsim.generate.config import SEED_MAX
from fleetsim.kinds.baseline.evidence import replicate_counts
from fleetsim.measure import child as measure
from fleetsim.measure import cold
from fleetsim.measure import launcher as program
from fleetsim.measure.child import Launcher, run_child, run_command
from fleetsim.measure.cold import generate_data

SMALL = {"number_of_companies": 5, "drivers_per_company": 3}
START = "2025-11-08T12:00:00Z"


def test_the_peak_memory_is_the_childs_own(tmp_path: Path) -> None:
    """A parent of 600 MB hands nothing on: Linux would carry its peak over exec."""
    code = """
import json
import numpy as np
ballast = np.ones(600_000_000, np.uint8)
from fleetsim.measure.child import run_child
import resource
from pathlib import Path
child = run_child(["--version"], Path("."))
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([child.peak_rss_bytes, own]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    child, parent = json.loads(done.stdout)
    unit = 1 if sys.platform == "darwin" else 1024
    assert parent * unit > 600e6
    assert 5e6 < child < 100e6


def test_the_launcher_tells_seconds_memory_and_exit_code(tmp_path: Path) -> None:
    """What the command prints is kept apart from what was measured."""
    code = (
        "import sys, time; print('said'); time.sleep(0.2); x = b'1' * 50_000_000\n"
        "while time.process_time() < 0.1: pass\n"
        "sys.exit(7)"
    )
    child, printed = run_command([sys.executable, "-c", code], tmp_path)
    assert printed == "said"
    assert child.exit_code == 7
    assert child.seconds > 0.2
    assert 0.1 <= child.cpu_seconds < child.seconds
    assert 50e6 < child.peak_rss_bytes < 200e6


def test_a_launcher_serves_a_series(tmp_path: Path) -> None:
    """Each command has its own figures, its own folder and its own words, however many."""
    code = (
        "import os, sys; x = b'1' * int(sys.argv[1])\n"
        "print(os.getcwd(), sys.argv[2:], os.getppid())"
    )
    (odd := tmp_path / "a\nfolder").mkdir()
    words = ["", "a\nline", "é" * 20_000]
    with closing(Launcher()) as launcher:
        first, told = launcher.run([sys.executable, "-c", code, "100000000", *words], odd)
        second, again = launcher.run([sys.executable, "-c", code, "0", "1"], tmp_path)
        loud = "import sys; sys.stderr.write('x' * 300_000); sys.stdout.write('y' * 300_000)"
        _, printed = launcher.run([sys.executable, "-c", loud], tmp_path)
    *said, parent = told.rsplit(" ", 1)
    assert said == [f"{odd} {words}"]
    assert again == f"{tmp_path} ['1'] {parent}"
    assert first.peak_rss_bytes > 100e6 > second.peak_rss_bytes
    assert sorted(printed) == ["x"] * 300_000 + ["y"] * 300_000
    wait_until(lambda: not Path(f"/proc/{parent}").exists(), "the launcher lives on")


def test_a_launcher_that_has_failed_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked next is asked of a new one."""
    (script := tmp_path / "launcher.py").write_text("import sys; sys.exit('no such thing')")
    with closing(Launcher()) as launcher, monkeypatch.context() as there:
        there.setattr(program, "__file__", str(script))
        with pytest.raises(FleetsimError, match="the launcher failed: no such thing"):
            launcher.run([sys.executable, "--version"], tmp_path)
        there.undo()
        child, printed = launcher.run([sys.executable, "--version"], tmp_path)
    assert (child.exit_code, printed) == (0, f"Python {sys.version.split()[0]}")


@pytest.mark.skipif(sys.platform != "linux", reason="no pidfd elsewhere")
def test_a_child_does_not_outlive_who_measures_it(tmp_path: Path) -> None:
    """Who measures is killed; the launcher kills the command, which would have run for minutes."""
    child = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(300)"
    code = f"""
import sys
from pathlib import Path
from fleetsim.measure.child import run_command
run_command([sys.executable, "-c", {child!r}], Path({str(tmp_path)!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as measuring:
        file = tmp_path / "pid"
        wait_until(lambda: file.is_file() and file.read_text(), "the child did not start")
        measuring.kill()
    pid = int(file.read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the child lives on")


@pytest.mark.skipif(sys.platform != "linux", reason="no pidfd elsewhere")
@pytest.mark.parametrize("whom", ["the process", "the group"])
def test_an_interrupt_goes_on_when_the_child_has_ended(tmp_path: Path, whom: str) -> None:
    """Who unwinds deletes what the child wrote, and it writes no more."""
    child = """
import os, time
try:
    open("new", "w").write(str(os.getpid()))
    os.rename("new", "pid")
    time.sleep(300)
except KeyboardInterrupt:
    time.sleep(0.2)  # as one that cleans up
"""
    code = f"""
import sys
from pathlib import Path
from fleetsim.measure.child import run_command
try:
    run_command([sys.executable, "-c", {child!r}], Path({str(tmp_path)!r}))
except KeyboardInterrupt:
    pid = Path({str(tmp_path / "pid")!r}).read_text()
    sys.exit("it lives" if Path("/proc", pid).exists() else 0)
"""
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as measuring:
        wait_until((tmp_path / "pid").is_file, "the child did not start")
        if whom == "the group":
            os.killpg(measuring.pid, signal.SIGINT)
        else:
            measuring.send_signal(signal.SIGINT)
    assert measuring.returncode == 0


def test_a_failing_child_surfaces_with_what_it_printed(tmp_path: Path) -> None:
    """Its exit code and its own message, not just that it failed."""
    with pytest.raises(FleetsimError) as error:
        run_child(["companies", "--config", "nowhere.yaml", "--output", "x"], tmp_path)
    assert "fleetsim companies ended with exit code 2" in str(error.value)
    assert "nowhere.yaml: no such file" in str(error.value)


def test_a_child_that_was_killed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal, as the kernel sends it where memory runs out, is named."""
    script = tmp_path / "launcher.py"
    record = {"exit_code": -9, "seconds": 1, "cpu_seconds": 1, "peak_rss_bytes": 1}
    script.write_text(f"print({json.dumps(record)!r})")
    monkeypatch.setattr(program, "__file__", str(script))
    with pytest.raises(FleetsimError, match="fleetsim events was ended by the signal Killed"):
        run_child(["events"], tmp_path)
    script.write_text("import sys; sys.exit('no such thing')")
    with pytest.raises(FleetsimError, match="the launcher failed: no such thing"):
        run_child(["events"], tmp_path)


def test_the_environment_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's environment reaches the generator, and no module of its folder."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET", "1")
    (tmp_path / "msgspec.py").write_text("raise SystemExit('not this one')")
    run_child(["--version"], tmp_path)
    script = tmp_path / "launcher.py"
    script.write_text("import os, sys; sys.exit(repr(sorted(os.environ)))")
    monkeypatch.setattr(program, "__file__", str(script))
    with pytest.raises(FleetsimError) as error:
        run_child(["events"], tmp_path)
    assert "SECRET" not in str(error.value)
    assert "PYTHONPATH" not in str(error.value)
    assert "'PATH'" in str(error.value)


def test_two_measuring_processes_do_not_overlap(tmp_path: Path) -> None:
    """The lock is the machine's: each holder leaves before the next one enters."""
    code = f"""
import os, sys, time
os.environ["TMPDIR"] = sys.argv[1]
from pathlib import Path
from fleetsim.measure.child import measure_lock
log = open({str(tmp_path / "log")!r}, "ab", buffering=0)
for _ in range(20):
    with measure_lock():
        log.write(b"<")
        time.sleep(0.002)
        log.write(b">")
"""
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / str(i))]) for i in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert (tmp_path / "log").read_bytes() == b"<>" * 60


def test_a_lock_file_of_another_user_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is opened for reading only, and readable for all whatever the umask."""
    lock = tmp_path / "lock"
    monkeypatch.setattr(measure, "_LOCK", lock)
    before = os.umask(0o077)
    try:
        with measure.measure_lock():
            assert lock.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    lock.chmod(0o444)
    with measure.measure_lock():
        pass


def test_repeats_are_cold_runs_of_which_the_first_stays(tmp_path: Path) -> None:
    """One batch is left, nothing of the others, and each repeat has its measurements."""
    steps: list[int] = []
    data = generate_data(config_of(**SMALL), tmp_path, repeats=3, progress=steps.append)
    assert steps == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "raw"]
    assert sorted(path.name for path in data.companies.parent.iterdir()) == [
        "companies.jsonl",
        "events",
    ]
    assert list((tmp_path / "raw" / "events").iterdir()) == list(data.batches)
    for repeat in data.repeats:
        assert 0 < repeat.generation_seconds < repeat.process_seconds
        assert 0 < repeat.stated_generation_seconds < repeat.process_seconds
        assert 5e6 < repeat.peak_rss_bytes < 512e6


def test_a_repeat_with_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator whose output depends on more than its configuration is no measurement."""
    prints = iter(["a", "a", "b"])
    monkeypatch.setattr(cold, "content_fingerprint", lambda batch: next(prints))
    with pytest.raises(FleetsimError, match="repeat 3 made other events than the first"):
        generate_data(config_of(**SMALL), tmp_path, repeats=3)


@pytest.mark.parametrize("interval", ["PT15M", "PT0.5S"])
def test_several_batches_come_in_the_order_of_time(tmp_path: Path, interval: str) -> None:
    """Fractions of a second included, whose names sort otherwise."""
    config = config_of(**SMALL, batch_interval=interval)
    data = generate_data(config, tmp_path, interval=START, batches=3, repeats=2)
    starts = [parse_time(batch.name) for batch in data.batches]
    assert starts == [parse_time(START) + i * config.interval_us for i in range(3)]


def test_a_configuration_without_eligible_company_surfaces(tmp_path: Path) -> None:
    """The command refuses a silently empty batch, and its reason reaches the user."""
    with pytest.raises(FleetsimError, match="no company is eligible"):
        generate_data(config_of(**SMALL, active_fraction=0.0), tmp_path, repeats=1)


@pytest.mark.parametrize("seed", [42, SEED_MAX - 1])
def test_replicates_count_what_the_command_writes(tmp_path: Path, seed: int) -> None:
    """Three seeds, the run's own the first and the last one round the corner, line by line."""
    config = config_of(
        seed=seed, number_of_companies=40, active_fraction=0.7, event_rate_per_driver=2.5
    )
    data = generate_data(config, tmp_path, interval=START, batches=2, repeats=1)
    eligible = read_companies(data.companies).eligible(parse_time(START))
    counted = replicate_counts(config, eligible, 3, batches=2)
    written = []
    for r in range(3):
        arguments = ["events", "--config", "config.json", "--companies", "raw/companies.jsonl"]
        arguments += ["--output", f"seed{r}", "--interval-start", START, "--batches", "2"]
        run_child([*arguments, "--seed", str((seed + r) % (SEED_MAX + 1))], tmp_path)
        files = (tmp_path / f"seed{r}").glob("*/events.jsonl")
        written.append(sum(len(path.read_bytes().splitlines()) for path in files))
    assert counted.tolist() == written
    own = sum(len((batch / "events.jsonl").read_bytes().splitlines()) for batch in data.batches)
    assert counted[0] == own
    assert len(np.unique(counted)) > 1


def test_the_containers_memory_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """memory.peak where it exists, and None elsewhere or where it says nothing."""
    peak = tmp_path / "memory.peak"
    monkeypatch.setattr(cold, "_CGROUP_PEAK", peak)
    assert cold.container_memory_peak() is None
    peak.write_text("123456\n")
    assert cold.container_memory_peak() == 123456
    peak.write_text("max\n")
    assert cold.container_memory_peak() is None
