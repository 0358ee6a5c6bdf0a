"""A foreign command is measured with all of its processes, and none of them is left."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wait_until

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.measure import tree, tree_launcher
from fleetsim.measure.tree import Kill, Start, find_command, run_tree
from fleetsim.measure.tree_launcher import TAIL, Tail, Watch

MB = 1_000_000
LINUX = sys.platform == "linux"

Run = Callable[..., Start]


@pytest.fixture
def mark() -> str:
    """Return an argument by which the processes of this test are found."""
    return f"tree-{uuid.uuid4().hex}"


@pytest.fixture
def run(tmp_path: Path, mark: str) -> Run:
    """Return a function that runs Python statements as the command, and marks them."""

    def call(code: str | list[str], **changed: Any) -> Start:
        command = [sys.executable, "-c", code, mark] if isinstance(code, str) else code
        settings = {
            "cwd": tmp_path,
            "environment": {},
            "output": tmp_path / "output",
            "stdout": tmp_path / "stdout",
            "stderr": tmp_path / "stderr",
            "timeout": 60.0,
            "output_limit": 1 << 30,
        }
        return run_tree(command, **{**settings, **changed})

    return call


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes with an argument."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_the_exit_code_and_what_was_printed(run: Run, tmp_path: Path) -> None:
    """Both streams are files, standard input is empty, and the command is alone in its session."""
    start = run(
        "import os, sys\n"
        "assert sys.stdin.read() == ''\n"
        "assert os.getsid(0) == os.getpgid(0) == os.getpid()\n"
        "print('said'); print('warned', file=sys.stderr); sys.exit(7)"
    )
    assert (start.exit_code, start.ended, start.left) == (7, "exit", 0)
    assert (tmp_path / "stdout").read_text() == "said\n"
    assert (tmp_path / "stderr").read_text() == "warned\n"
    assert 0 < start.seconds < 60
    assert start.output_bytes == start.changes == 0


def test_a_signal_is_a_negative_exit_code(run: Run) -> None:
    """Who kills itself has ended by itself."""
    start = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (start.exit_code, start.ended) == (-signal.SIGKILL, "exit")


def test_signals_are_as_a_shell_leaves_them(run: Run, tmp_path: Path) -> None:
    """What Python ignores in the launcher, a broken pipe among it, ends the command."""
    run(["sh", "-c", "trap; yes | head -n 1 >&2; kill -PIPE $$"])
    assert (tmp_path / "stderr").read_text() == "y\n"
    assert run(["sh", "-c", "kill -PIPE $$"]).exit_code == -signal.SIGPIPE


def test_only_the_end_of_what_is_printed_is_kept(run: Run, tmp_path: Path) -> None:
    """50 MB on standard error neither block the command nor fill the disk."""
    start = run(
        "import sys\n"
        "for i in range(50_000): sys.stderr.write(f'{i:09}'.ljust(999, '.') + '\\n')\n"
        "sys.stderr.write('the end')"
    )
    kept = (tmp_path / "stderr").read_bytes()
    assert start.exit_code == 0
    assert len(kept) == TAIL == 65536
    assert kept.endswith(b"\nthe end")
    assert b"\n000049998" in kept


def test_the_environment_is_clean(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's tools and folders stay; of all else only what is given is there."""
    for name in ("PYTHONPATH", "SPARK_HOME", "SECRET"):
        monkeypatch.setenv(name, "/of/the/user")
    monkeypatch.setenv("JAVA_HOME", "/opt/java")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    code = "import json, os, sys; json.dump([dict(os.environ), os.getcwd()], sys.stdout)"
    run(["python", "-I", "-c", code], environment={"FLEETSIM_LANDING": "here"})
    variables, folder = json.loads((tmp_path / "stdout").read_text())
    variables.pop("LC_CTYPE", None)  # of the interpreter itself
    assert variables == {
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "JAVA_HOME": "/opt/java",
        "TMPDIR": str(tmp_path),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "FLEETSIM_LANDING": "here",
    }
    assert Path(folder) == tmp_path.resolve()


def test_python_is_this_python(run: Run, tmp_path: Path) -> None:
    """The folder of our interpreter stands first on the PATH."""
    run(["python", "-c", "import sys; print(sys.executable)"])
    printed = (tmp_path / "stdout").read_text().strip()
    assert os.path.dirname(printed) == os.path.dirname(sys.executable)


def test_one_that_ignores_sigterm_is_killed(run: Run, mark: str, tmp_path: Path) -> None:
    """It had its chance to end by itself, and its child had it too."""
    start = run(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "os.fork()\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.1)",
        timeout=0.7,
    )
    assert (start.exit_code, start.ended) == (-signal.SIGKILL, "timeout")
    assert (tmp_path / "stdout").read_text().split() == ["ready", "ready", "asked", "asked"]
    assert start.processes == 2
    assert marked(mark) == []


def test_one_that_heeds_sigterm_may_say_so(run: Run, tmp_path: Path) -> None:
    """Its exit code is its own; the limit of time has ended it all the same."""
    start = run(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('put away'))\n"
        "while True: time.sleep(0.1)",
        timeout=0.7,
    )
    assert (start.exit_code, start.ended, start.left) == (1, "timeout", 0)
    assert (tmp_path / "stderr").read_text() == "put away\n"


DAEMON = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork(): os._exit(0)\n"
    "    for i in range(3): os.close(i)\n"
    "    time.sleep(600)\n"
    "os.wait(); time.sleep(0.1)\n"
)


@pytest.mark.skipif(not LINUX, reason="needs a child subreaper")
def test_a_daemon_is_left_and_ended(run: Run, mark: str) -> None:
    """It has a session of its own and lost its parent: it is ours all the same."""
    start = run(DAEMON)
    assert (start.exit_code, start.ended, start.left) == (0, "exit", 1)
    assert marked(mark) == []


@pytest.mark.skipif(not LINUX, reason="needs a child subreaper")
def test_a_kill_strikes_daemons_too(run: Run, mark: str) -> None:
    """All at once, whichever session they are in."""
    start = run(DAEMON + "time.sleep(600)", kill=Kill(seconds=0.5))
    assert (start.exit_code, start.ended, start.left) == (-signal.SIGKILL, "killed", 0)
    assert marked(mark) == []


def test_a_helper_that_ends_by_itself_is_not_left(run: Run, mark: str) -> None:
    """Python's multiprocessing leaves such ones behind for some milliseconds."""
    start = run("import os, time\nif os.fork() == 0: time.sleep(0.15)")
    assert (start.exit_code, start.left) == (0, 0)
    assert marked(mark) == []


@pytest.mark.skipif(not LINUX, reason="needs a child subreaper")
def test_what_forks_on_and_on_is_ended(run: Run, mark: str) -> None:
    """A bomb of 40 processes, each of which is replaced by a child at once."""
    start = run(
        "import os, time\n"
        "for _ in range(40):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        while True:\n"
        "            if os.fork(): os._exit(0)\n"
        "            time.sleep(0.01)\n"
        "time.sleep(600)",
        kill=Kill(seconds=1.0),
    )
    assert start.ended == "killed"
    assert marked(mark) == []


CHILDREN = """
import os, sys, time
ready = []
for _ in range(2):
    here, there = os.pipe()
    if os.fork() == 0:
        x = bytearray(b"x") * {size}
        os.write(there, b"1")
        time.sleep(1.2)
        os._exit(0)
    ready.append(here)
for here in ready: os.read(here, 1)
os.wait(); os.wait()
"""


def test_memory_is_that_of_all_processes(run: Run) -> None:
    """Two children of 100 MB each are 200 MB more than two that have nothing."""
    empty = run(CHILDREN.format(size=1))
    full = run(CHILDREN.format(size=100 * MB))
    assert empty.processes == full.processes == 3
    assert full.peak_bytes - empty.peak_bytes == pytest.approx(200 * MB, rel=0.05)
    assert 100 * MB < full.largest_bytes < 125 * MB
    assert full.largest_bytes < full.peak_bytes


@pytest.mark.skipif(not LINUX, reason="needs PSS")
def test_memory_that_processes_share_counts_once(run: Run) -> None:
    """A parent's 100 MB that four children have inherited are 100 MB, not 500.

    They live longer than the second for which the shares of new processes may be missing.
    """
    start = run(
        "import os, time\n"
        f"x = bytearray(b'x') * {100 * MB}\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: time.sleep(1.5); os._exit(0)\n"
        "for _ in range(4): os.wait()"
    )
    assert start.processes == 5
    assert 95 * MB < start.peak_bytes < 150 * MB


def test_a_peak_between_two_readings_of_the_shares_is_seen() -> None:
    """Shares of 300 MB may not be read again yet: what the process got since is added to them."""
    code = (
        f"x = bytearray(b'x') * {300 * MB}; print(flush=True); input()\n"
        f"y = bytearray(b'x') * {100 * MB}; print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        watched = tree_launcher.Tree()
        watched.sample()
        before = watched.peak_bytes
        watched._shares_due = float("inf")
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        watched._due = 0.0
        watched.sample()
        process.stdin.write(b"\n")
    assert watched.peak_bytes - before == pytest.approx(100 * MB, rel=0.05)
    assert watched.largest_bytes > 400 * MB


def test_a_look_that_had_to_wait_does_not_blind_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second in which nothing was computed delays the next sample by nothing."""
    watched = tree_launcher.Tree()
    monkeypatch.setattr(watched, "_find", lambda: time.sleep(1.0))
    watched.sample()
    assert watched._due < time.monotonic() + 1.0


BURN = "end = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


def test_the_time_of_children_counts(run: Run) -> None:
    """Of a child that is waited for, and of one whose end is ignored by its parent."""
    waited = run(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    " + BURN.format(0.4).replace("\nwhile", "\n    while") + "    os._exit(0)\n"
        "os.wait()"
    )
    ignored = run(
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    " + BURN.format(0.6).replace("\nwhile", "\n    while") + "    os._exit(0)\n"
        "try: os.wait()\n"
        "except ChildProcessError: pass"
    )
    assert 0.4 <= waited.cpu_seconds < 2
    assert 0.4 <= ignored.cpu_seconds < 2  # the last sample is taken before its end
    if LINUX:
        assert waited.processes == ignored.processes == 2


WRITER = """
import pathlib, sys, time
output = pathlib.Path("output")
output.mkdir()
for number in range({number}):
    time.sleep(0.1)
    (output / str(number)).write_bytes(b"x" * 10_000)
"""


def test_changes_of_the_output_are_seen(run: Run, tmp_path: Path) -> None:
    """The folder itself and five files; a file may be seen before it has its content."""
    start = run(WRITER.format(number=5))
    assert start.ended == "exit"
    assert 3 <= start.changes <= 11  # on a busy machine some are seen together
    assert 50_000 <= start.output_bytes <= 200_000
    (tmp_path / "output").rename(tmp_path / "before")
    unseen = run("pass", output=tmp_path / "before")
    assert (unseen.changes, unseen.output_bytes) == (0, start.output_bytes)


def test_a_kill_strikes_at_a_change(run: Run, tmp_path: Path, mark: str) -> None:
    """At the second: the folder and one file are there, and the last file never."""
    start = run(WRITER.format(number=50), kill=Kill(change=2))
    assert (start.exit_code, start.ended) == (-signal.SIGKILL, "killed")
    assert start.changes == 2
    assert 1 <= len(list((tmp_path / "output").iterdir())) < 50
    assert marked(mark) == []


def test_a_kill_that_comes_too_late_strikes_nothing(run: Run) -> None:
    """The command has ended by itself, and that is what the record says."""
    start = run(WRITER.format(number=1), kill=Kill(change=50, seconds=600))
    assert (start.exit_code, start.ended) == (0, "exit")
    assert start.changes < 50


def test_a_kill_strikes_at_a_time(run: Run, tmp_path: Path) -> None:
    """What it wrote before is there; it had no chance to put anything away."""
    start = run(
        "import atexit, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "print('begun', flush=True)\n"
        "time.sleep(600)",
        kill=Kill(seconds=0.5),
    )
    assert (start.exit_code, start.ended) == (-signal.SIGKILL, "killed")
    assert start.seconds >= 0.5
    assert (tmp_path / "stdout").read_text() == "begun\n"


def test_the_output_has_a_limit(run: Run, mark: str) -> None:
    """Bytes that take room on the disk count; a sparse file has none of them."""
    code = (
        "import os, pathlib, time\n"
        "os.mkdir('output')\n"
        "os.truncate(os.open('output/sparse', os.O_CREAT | os.O_WRONLY), 10**9)\n"
        "if {writes}:\n"
        "    file = open('output/file', 'wb')\n"
        "    while True: file.write(bytes(range(256)) * 4096); file.flush(); time.sleep(0.001)\n"
        "time.sleep(0.1)"
    )
    start = run(code.format(writes=True), output_limit=5 * MB)
    assert (start.exit_code, start.ended) == (-signal.SIGKILL, "output")
    assert 5 * MB < start.output_bytes < 1000 * MB
    assert marked(mark) == []


def test_a_sparse_file_takes_no_room(run: Run) -> None:
    """A terabyte of nothing is no reason to end anything."""
    start = run(
        "import os, time\nos.mkdir('output')\n"
        "with open('output/sparse', 'wb') as file: file.truncate(10**9)\ntime.sleep(0.1)",
        output_limit=5 * MB,
    )
    assert (start.exit_code, start.ended) == (0, "exit")
    assert start.output_bytes < 5 * MB


CALLER = """
import signal, sys
from pathlib import Path
from fleetsim.measure.tree import run_tree
signal.signal(signal.SIGINT, signal.default_int_handler)
here = Path(sys.argv[1])
code = "import os, time\\nif os.fork() == 0: os.setsid()\\ntime.sleep(600)"
run_tree([sys.executable, "-c", code, sys.argv[2]], cwd=here, environment={}, output=here / "out",
         stdout=here / "o", stderr=here / "e", timeout=600, output_limit=1 << 30)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_caller(number: int, tmp_path: Path, mark: str) -> None:
    """However it ends: killed, told to end, interrupted."""
    tag = f"{mark}-command"
    with subprocess.Popen(
        [sys.executable, "-c", CALLER, tmp_path, tag], stderr=subprocess.PIPE, text=True
    ) as caller:
        wait_until(lambda: len(marked(tag)) == 3, "caller, command and child")
        os.kill(caller.pid, number)
        _, printed = caller.communicate(timeout=60)
        if number == signal.SIGINT:
            assert "KeyboardInterrupt" in printed
            assert marked(tag) == []
    wait_until(lambda: marked(tag) == [], "the end of the tree")


def test_a_launcher_that_is_told_to_end_ends_the_command(run: Run, mark: str) -> None:
    """Nothing is left, and the caller hears of it."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(run, "import time; time.sleep(600)")
        (command,) = wait_until(lambda: marked(mark), "the command")
        command.parent().terminate()
        with pytest.raises(FleetsimError, match="the launcher was told to end"):
            future.result(60)
    assert marked(mark) == []


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_a_program_may_have_any_name(run: Run, tmp_path: Path) -> None:
    """Blanks and brackets in a name do not hide its state and its parent."""
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to(os.path.realpath("/bin/sh"))
    start = run([str(program), "-c", "sleep 0.3; true"])
    assert (start.exit_code, start.ended, start.processes) == (0, "exit", 2)


def test_it_waits_for_its_turn_to_measure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine-wide lock is held while the command runs."""
    seen: list[str] = []

    @contextmanager
    def lock() -> Any:
        seen.append("taken")
        yield
        seen.append("given back")

    monkeypatch.setattr(tree, "measure_lock", lock)
    monkeypatch.setattr(tree, "_launch", lambda request: seen.append("run") or b"{}")
    with pytest.raises(FleetsimError):
        run("pass")
    assert seen == ["taken", "run", "given back"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a program, a plain file and a folder."""
    (tmp_path / "program").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "plain").write_text("text")
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "fault", "step"),
    [
        ([], r"found \[\]; allowed: a program and its arguments", "write a list"),
        ([""], r"found \[''\]; allowed", "write a list"),
        ("python ingest.py", r"found 'python ingest.py'; allowed", "write a list"),
        (["no-such-thing"], r"'no-such-thing', which is not there on the PATH /", "install it"),
        (["./no-such-thing"], r"which is not there in /", "check the name"),
        (["./plain"], r"'./plain', which is not executable \(/", "chmod"),
        (["./sub"], r"'./sub', which is a folder \(/", "name a program"),
        (["sh", "a\0b"], r"allowed: words without the character NUL", "remove"),
    ],
)
def test_a_command_that_is_none_is_refused(
    command: Any, fault: str, step: str, folder: Path, run: Run
) -> None:
    """Before anything is started, with what was found and what to do."""
    with pytest.raises(InputError, match=fault) as refusal:
        find_command(command, folder)
    assert refusal.value.where == "pipeline.command"
    assert step in str(refusal.value.next_step)
    if isinstance(command, list):
        with pytest.raises(InputError, match=fault):
            run(command, cwd=folder)
    assert not (folder / "stdout").exists()


def test_a_program_is_found_as_a_shell_finds_it(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By PATH, or by a path that starts from the folder of the experiment."""
    for command in (["sh"], ["python"], [sys.executable], ["./program"], ["sub/../program"]):
        find_command(command, folder)
    run(["./program"], cwd=folder)
    assert (tmp_path / "stdout").read_text() == "ran\n"
    with pytest.raises(InputError):
        find_command(["program"], folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    find_command(["program"], folder / "sub")


def test_a_program_that_the_system_refuses(folder: Path, run: Run) -> None:
    """Its interpreter is not there, or it is no program of any kind."""
    (folder / "program").write_text("#!/no/such/interpreter\n")
    with pytest.raises(FleetsimError, match=r"./program: cannot be started: .*PATH: /.*\n.*'#!'"):
        run(["./program"], cwd=folder)
    (folder / "program").write_bytes(b"\0\1\2")
    with pytest.raises(FleetsimError, match=os.strerror(errno.ENOEXEC)):
        run(["./program"], cwd=folder)


def test_a_place_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    """The folder of the command, and those of what it prints."""
    with pytest.raises(InputError, match=f"{tmp_path}/none: cannot be used: No such file"):
        run("pass", cwd=tmp_path / "none")
    with pytest.raises(InputError, match=f"{tmp_path}/none/stdout: cannot be used: No such file"):
        run("pass", stdout=tmp_path / "none" / "stdout")


def test_processes_that_cannot_be_ended_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher's failures reach the user in words."""
    monkeypatch.setattr(tree, "_launch", lambda request: b'{"pids": [17, 4]}')
    with pytest.raises(FleetsimError, match=r"still there: 17 4\n  next: end them by hand"):
        run(["sh"])
    monkeypatch.setattr(tree, "_launch", lambda request: b'{"ended": "gone"}')
    with pytest.raises(FleetsimError, match="the launcher was told to end"):
        run(["sh"])


@given(st.lists(st.integers(0, 40_000), max_size=12), st.integers(1, 3))
def test_the_tail_is_the_end_of_all(sizes: list[int], between: int) -> None:
    """However it was written, and however often it was taken from the pipe."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "tail")
        tail = Tail(str(path))
        said = b""
        for number, size in enumerate(sizes):
            data = os.urandom(size)
            said += data
            os.write(tail.writes, data)
            if number % between == 0 or not LINUX:
                tail.drain()
        os.close(tail.writes)
        tail.close()
        assert path.read_bytes() == said[-TAIL:]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "d/a", "d/e/b"]),
            st.sampled_from(["write", "append", "remove", "replace", "nothing"]),
        ),
        max_size=12,
    )
)
def test_each_change_counts_once(steps: list[tuple[str, str]]) -> None:
    """Whatever is done to files between two looks, it is one change; nothing is none."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        watch = Watch(name)
        expected = 0
        for number, (file, what) in enumerate(steps):
            path = root / file
            changed = what != "nothing" and (path.exists() or what in ("write", "replace"))
            path.parent.mkdir(parents=True, exist_ok=True)
            if what == "remove" and path.exists():
                path.unlink()
            elif what == "replace" or (what == "write" and changed):
                other = root.parent / f"{root.name}.{number}"
                other.write_bytes(b"same")
                other.replace(path)
            elif what == "append" and path.exists():
                with path.open("ab") as file_:
                    file_.write(b"more")
            before = watch.changes
            watch.look()
            if changed:
                assert watch.changes == before + 1
            assert watch.changes <= before + 1
            watch.look()
            assert watch.changes <= before + 1
            expected += changed
        assert watch.changes >= expected


def test_a_large_output_is_looked_at_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No look takes long; together they see what has changed."""
    for number in range(1000):
        (tmp_path / str(number)).touch()
    watch = Watch(str(tmp_path))
    monkeypatch.setattr(tree_launcher, "_SLICE", 0.0)
    monkeypatch.setattr(tree_launcher, "_WATCH_SHARE", 1)
    (tmp_path / "500").write_text("changed")
    steps = 0
    end = time.monotonic() + 60
    while not watch.changes and time.monotonic() < end:
        watch.step()
        steps += 1
    assert watch.changes == 1
    assert steps > 5
