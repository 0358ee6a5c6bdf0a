"""The commands companies, events and verify as a user meets them: messages, codes, signals."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import twin
from support import AT, NAME, Cli, Project, tree

from fleetsim.base import files

FLEETSIM = [sys.executable, "-m", "fleetsim"]
BIG = {"number_of_companies": 1, "drivers_per_company": 1_000_000, "event_rate_per_driver": 10_000}


def refused(project: Project, fleetsim_cli: Cli, command: list[object], *messages: str) -> str:
    """Run a command that must be refused: exit code 2, one message on stderr, nothing written."""
    before = tree(project.config.parent)
    outcome = fleetsim_cli(*command)
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert tree(project.config.parent) == before
    assert "Traceback" not in outcome.err
    for message in messages:
        assert re.search(message, outcome.err), outcome.err
    return outcome.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"config\.json: no such file; a configuration is expected here\n  next: check"),
        ("", "the file is empty"),
        ("[1]", "found a list"),
        ('{"seed": -1}', r"config\.json: 5 faults\n  seed: found -1; allowed: a whole number"),
        ('{"sead": 1}', r"sead: unknown key \(did you mean seed\?\)"),
        ("{", "not valid JSON on line 1"),
    ],
)
@pytest.mark.parametrize("command", ["companies", "events"])
def test_a_bad_configuration_is_refused(
    project: Project, fleetsim_cli: Cli, content, message, command
) -> None:
    """Both commands say what is wrong with the file and write nothing."""
    if content is None:
        project.config.unlink()
    else:
        project.config.write_text(content)
    arguments = project.make_companies() if command == "companies" else project.make_events()
    err = refused(project, fleetsim_cli, arguments, message)
    assert err.startswith("fleetsim: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"companies\.jsonl: no such file; expected a companies file"),
        ("", "the file is empty"),
        ("{}\n", "line 1: object missing required field `company_id`"),
        ("{broken\n", "line 1: not valid JSON"),
    ],
)
def test_bad_companies_are_refused(project: Project, fleetsim_cli: Cli, content, message) -> None:
    """The message names the file and the line."""
    if content is None:
        project.companies.unlink()
    else:
        project.companies.write_text(content)
    refused(project, fleetsim_cli, project.make_events(), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--now", "--interval-start", AT], "Give exactly one of --now and --interval-start"),
        (["--now", "--batches", 2], "--now makes one batch; give --interval-start for --batches"),
        (["--interval-start", "2025-11-08T12:00:00"], "allowed: a time with its zone"),
        (["--interval-start", "noon"], "found 'noon'; allowed: a time with its zone"),
        (["--interval-start", "2025-11-08T11:59:59Z"], "no company is eligible"),
        (["--interval-start", "9999-12-31T23:59:00Z"], "an end before the year 10000"),
        (["--batches", 0], "--batches"),
        (["--batches", "two"], "--batches"),
        (["--ordinal", -1], "--ordinal"),
        (["--ordinal", 2**64], "--ordinal"),
        (["--ordinal", "last"], "--ordinal"),
        (["--seed", -1], "--seed"),
        (["--seed", 2**64], "--seed"),
        (["--format", "csv"], "--format"),
        (["--forse"], "--force"),
    ],
)
def test_a_bad_option_is_refused(project: Project, fleetsim_cli: Cli, options, message) -> None:
    """Usage errors name the option and leave no output folder behind."""
    refused(project, fleetsim_cli, project.make_events(*options), message)
    assert not project.events.exists()


def test_no_interval_at_all_is_refused(project: Project, fleetsim_cli: Cli) -> None:
    """Either --now or --interval-start has to be given."""
    command = [part for part in project.make_events() if part not in ("--interval-start", AT)]
    refused(project, fleetsim_cli, command, "Give exactly one of --now and --interval-start")


@pytest.mark.parametrize("option", ["--config", "--companies", "--output"])
def test_a_missing_option_is_refused(project: Project, fleetsim_cli: Cli, option) -> None:
    """Required options are named."""
    command = project.make_events()
    at = command.index(option)
    refused(project, fleetsim_cli, command[:at] + command[at + 2 :], f"Missing option '{option}'")


@pytest.mark.parametrize("options", [["--at", "2025-11-08"], ["--cohorts", 0], ["--seed", "x"]])
def test_a_bad_option_of_companies_is_refused(project: Project, fleetsim_cli, options) -> None:
    """The companies command checks its own options."""
    refused(project, fleetsim_cli, project.make_companies(*options), re.escape(options[0]))


def test_a_file_in_place_of_the_output_is_refused(project: Project, fleetsim_cli: Cli) -> None:
    """Nothing is put in its place."""
    project.events.write_text("mine")
    refused(project, fleetsim_cli, project.make_events(), "a file stands here or on the way")


def test_a_batch_that_differs_is_refused(project: Project, fleetsim_cli: Cli) -> None:
    """The same interval under another seed names the difference and both ways out."""
    assert fleetsim_cli(*project.make_events()).code == 0
    command = project.make_events("--seed", 1)
    refused(project, fleetsim_cli, command, f"{NAME} exists and differs", "next: --force to")
    assert fleetsim_cli(*command, "--force").code == 0
    assert fleetsim_cli("verify", project.batch, "--companies", project.companies).code == 0


def test_a_copy_is_refused_and_the_next_ordinal_taken(project: Project, fleetsim_cli: Cli) -> None:
    """--ordinal next makes new events, --allow-repeat the same ones again."""
    assert fleetsim_cli(*project.make_events()).code == 0
    later = project.make_events("--interval-start", "2025-11-08T13:00:00Z")
    refused(project, fleetsim_cli, later, "would be a copy", r"--ordinal 1, the next free one")
    assert fleetsim_cli(*later, "--ordinal", "next").code == 0
    last = project.make_events("--interval-start", "2025-11-08T14:00:00Z")
    assert fleetsim_cli(*last, "--allow-repeat").code == 0
    metas = [json.loads(path.read_text()) for path in sorted(project.events.glob("*/batch_meta*"))]
    assert [meta["ordinal"] for meta in metas] == [0, 1, 0]


def test_an_empty_batch_is_written_on_request(project: Project, fleetsim_cli: Cli) -> None:
    """--allow-empty turns the refusal into a batch of 0 events."""
    command = project.make_events("--interval-start", "2025-11-08T11:00:00Z", "--allow-empty")
    outcome = fleetsim_cli(*command)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith("20251108T110000Z: 0 events, 0 bytes\n")


def test_debug_shows_the_traceback_and_nothing_else_does(project: Project, fleetsim_cli) -> None:
    """The same error with and without --debug: one message, and the traceback before it."""
    project.config.unlink()
    plain = fleetsim_cli(*project.make_events())
    debug = fleetsim_cli("--debug", *project.make_events())
    assert plain.code == debug.code == 2
    assert "Traceback" not in plain.err
    assert debug.err.startswith("Traceback (most recent call last)")
    assert debug.err.endswith(plain.err)


def test_an_unexpected_error_exits_1_without_traceback(project, fleetsim_cli, monkeypatch) -> None:
    """A fault of the program is one line, too, that says how to see more."""

    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("fleetsim.generate.producer.draw_events", fail)
    outcome = fleetsim_cli(*project.make_events())
    assert outcome.code == 1
    assert outcome.err == (
        "fleetsim: unexpected ZeroDivisionError: a fault of ours (--debug shows where)\n"
    )
    assert list(project.events.iterdir()) == []


def test_now_starts_at_the_commands_first_statement(project: Project) -> None:
    """--now: the start lies between two readings of the clock, and generation counts from it."""
    project.companies.unlink()
    command = [*FLEETSIM, *map(str, project.make_companies())]
    subprocess.run(command, check=True, capture_output=True)
    before = time.time_ns() // 1000
    command = [*FLEETSIM, *map(str, project.make_events("--now"))]
    subprocess.run(command, check=True, capture_output=True)
    after = time.time_ns() // 1000
    (path,) = project.events.iterdir()
    meta = json.loads((path / "batch_meta.json").read_text())
    start, end, started, finished = (
        (twin.datetime.fromisoformat(meta[key]) - twin.EPOCH) // twin.timedelta(microseconds=1)
        for key in ("interval_start", "interval_end", "generation_started", "generation_time")
    )
    assert before <= start == started < finished <= after
    assert end == start + 900_000_000
    assert meta["companies"]["eligible"] == 5
    assert abs((finished - start) / 1e6 - meta["generation_seconds"]) < 1


def test_the_script_and_the_module_are_the_same(project: Project) -> None:
    """`fleetsim` and `python -m fleetsim` print the same, and errors go to stderr alone."""
    script = Path(sys.executable).with_name("fleetsim")
    results = []
    for program in (FLEETSIM, [str(script)]):
        command = [*program, *map(str, project.make_events("--seed", "-1"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        results.append((done.returncode, done.stdout, done.stderr))
    assert results[0] == results[1]
    assert results[0][:2] == (2, "")
    assert "Usage: fleetsim events" in results[0][2]


def test_output_that_nobody_reads_is_no_traceback(project: Project) -> None:
    """A pipe that is closed at the other end is no fault to be shown; the batch is whole."""
    command = [*FLEETSIM, *map(str, project.make_events())]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert (project.batch / "batch_meta.json").exists()


# Signals.


@pytest.fixture
def start(project: Project) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a command which is in the middle of a huge batch."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [*FLEETSIM, *map(str, project.make_events(*options))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield begin
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def wait_for(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, as long as the child lives and at most two minutes."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if condition():
            return
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    raise AssertionError("the condition never held")


def in_the_middle(project: Project) -> Callable[[], bool]:
    """Return whether a child has written events into its hidden folder."""
    name = f".{NAME}.*{files.PARTIAL}/.events.jsonl.*"
    return lambda: any(path.stat().st_size > 0 for path in project.events.glob(name))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interrupted_command_leaves_no_visible_batch(
    project: Project, fleetsim_cli: Cli, start, number, code
) -> None:
    """Its code says what stopped it, and the next command clears what a killed one left."""
    values = json.loads(project.config.read_text())
    project.write(**BIG | {"number_of_companies": 5})
    child = start("--force")
    wait_for(in_the_middle(project), child)
    child.send_signal(number)
    out, err = child.communicate(timeout=120)
    assert child.returncode == code
    assert (out, "Traceback" in err) == ("", False)
    left = list(project.events.iterdir())
    assert len(left) == (number == signal.SIGKILL)
    assert all(path.match(f".{NAME}.*{files.PARTIAL}") for path in left)
    project.config.write_text(json.dumps(values))
    assert fleetsim_cli(*project.make_events()).code == 0
    assert [path.name for path in project.events.iterdir()] == [NAME]
    assert fleetsim_cli("verify", project.batch).code == 0


def test_a_killed_replacement_leaves_the_old_batch(project, fleetsim_cli, start) -> None:
    """SIGKILL in the middle of --force: the batch that stood there is whole."""
    assert fleetsim_cli(*project.make_events()).code == 0
    before = tree(project.batch)
    project.write(**BIG | {"number_of_companies": 5})
    child = start("--force")
    wait_for(in_the_middle(project), child)
    child.kill()
    child.communicate()
    assert tree(project.batch) == before
    assert fleetsim_cli("verify", project.batch).code == 0


def test_two_commands_in_one_folder_take_turns(project: Project, fleetsim_cli, start) -> None:
    """The second waits for the first, says so, and finds an equal batch where it would write."""
    project.events.mkdir()
    with files.exclusive(project.events):
        first, second = start(), start()
        lines = [first.stderr.readline(), second.stderr.readline()]
    assert all("waiting for another command that writes here" in line for line in lines)
    outcomes = [child.communicate(timeout=120) for child in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    texts = sorted("stood there already" in out for out, _ in outcomes)
    assert texts == [False, True]
    assert fleetsim_cli("verify", project.batch).code == 0


# The compiled kernel and its threads, in real processes.

LARGE = {"number_of_companies": 5, "drivers_per_company": 1000, "event_rate_per_driver": 100}
FAST = ["--kernel", "compiled", "--jobs", 3]


@pytest.mark.parametrize("name", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_a_signal_at_any_time_leaves_no_half_batch(
    project: Project, fleetsim_cli: Cli, start, number, name
) -> None:
    """From the first event on: nothing under any name, or a whole batch that verifies."""
    project.write(**LARGE | {"event_rate_per_driver": 150 if name == "jsonl" else 50})
    random = Random(f"{number} {name}")  # noqa: S311 - no secret
    hidden = project.events / f".{NAME}{files.PARTIAL}"
    codes = {0, 128 + number, -number}  # the last one where Python was leaving already
    for _ in range(2):
        child = start("--format", name, *FAST)
        wait_for(lambda: hidden.exists() or project.batch.exists(), child)
        time.sleep(random.uniform(0, 0.6))
        child.send_signal(number)
        out, err = child.communicate(timeout=120)
        assert child.returncode in codes, err
        assert "Traceback" not in err
        left = list(project.events.iterdir())
        if left:
            assert left == [project.batch]
            assert fleetsim_cli("verify", project.batch).code == 0
            shutil.rmtree(project.batch)
        else:
            assert (child.returncode, out) == (128 + number, "")


@pytest.mark.parametrize("name", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_a_file_that_cannot_grow_is_a_plain_error(project: Project, name) -> None:
    """A limit of the system on the size of files: exit 1, one message, nothing half-written."""
    project.write(**LARGE)
    command = [*FLEETSIM, *map(str, project.make_events("--format", name, *FAST))]
    before = tree(project.config.parent)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert (done.returncode, done.stdout) == (1, "")
    why = r"could not be written \(File too large; [\d.]+ \w+ free\); the batch was not made"
    step = r"raise the limit of a file's size \(ulimit -f\), or name another place"
    assert re.fullmatch(rf"fleetsim: .*: {why}\n  next: {step}\n", done.stderr)
    assert list(project.events.iterdir()) == []
    project.events.rmdir()
    assert {k: v[0] for k, v in tree(project.config.parent).items()} == {
        k: v[0] for k, v in before.items()
    }


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a file system")
@pytest.mark.parametrize("options", [FAST, ["--kernel", "numpy"]], ids=["compiled", "numpy"])
def test_a_full_file_system_leaves_what_stood_there(
    project: Project, fleetsim_cli: Cli, options
) -> None:
    """On 4 MB of memory: exit 1, an older batch untouched, and room again for what fits."""
    project.events.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(project.events)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        assert fleetsim_cli(*project.make_events()).code == 0
        before = tree(project.events)
        project.write(**LARGE)
        outcome = fleetsim_cli(*project.make_events("--force", *options))
        assert (outcome.code, outcome.out) == (1, "")
        assert "could not be written (No space left on device;" in outcome.err
        assert {k: v[0] for k, v in tree(project.events).items()} == {
            k: v[0] for k, v in before.items()
        }
        small = project.make_events("--ordinal", 1, "--interval-start", "2025-11-08T13:00:00Z")
        refused = fleetsim_cli(*small)
        assert (refused.code, "the file system has" in refused.err) == (2, True)
        project.write(event_rate_per_driver=1)
        assert fleetsim_cli(*small).code == 0
    finally:
        subprocess.run(["umount", str(project.events)], check=True)


def test_the_kernel_can_be_chosen_by_the_environment(project, fleetsim_cli, monkeypatch) -> None:
    """FLEETSIM_KERNEL forces a path; another word is bad usage."""
    monkeypatch.setenv("FLEETSIM_KERNEL", "compiled")
    monkeypatch.setitem(sys.modules, "fleetsim.generate.kernel.pieces", None)
    outcome = fleetsim_cli(*project.make_events())
    assert outcome.code == 1
    assert "the compiled kernel cannot be used: numba cannot be loaded" in outcome.err
    monkeypatch.setenv("FLEETSIM_KERNEL", "gpu")
    outcome = fleetsim_cli(*project.make_events())
    assert outcome.code == 2
    assert "'gpu' is not one of" in outcome.err


@pytest.mark.parametrize("jobs", [0, -1, 257, "many"])
def test_a_bad_number_of_jobs_is_refused(project: Project, fleetsim_cli: Cli, jobs) -> None:
    """From 1 to 256."""
    refused(project, fleetsim_cli, project.make_events("--jobs", jobs), "--jobs")
