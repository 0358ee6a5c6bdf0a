"""A signal ends a command wherever it strikes, also where Python loses exceptions."""

import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from fleetsim.cli.signals import Terminated, unwinding
from fleetsim.runner.kernel import _log
from fleetsim.runner.watch import Watch

#: Each sends the signal `number` from a place whose exceptions Python prints and forgets.
PLACES = {
    "finalizer": """
class Gone:
    def __del__(self):
        signal.raise_signal(number)
        [None for _ in range(10)]
Gone()
""",
    "weak reference": """
import weakref
class Gone:
    pass
gone = Gone()
kept = weakref.ref(gone, lambda _: [signal.raise_signal(number), *range(10)])
del gone
""",
    "callback from C": """
import ctypes
callback = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(number))
callback()
""",
}
BEFORE = """
import signal, time
from fleetsim.cli.signals import unwinding
number = signal.{name}
"""
#: What was open is closed, in this order, and nothing goes on.
WITH = """
with unwinding():
    try:
        {place}
        time.sleep(60)
        print("went on")
    finally:
        print("unwound")
"""
KINDS = ["SIGTERM", "SIGINT"]


def ran(text: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_is_never_lost(place: str, name: str) -> None:
    """It unwinds the program, and nothing is printed of where it was lost first."""
    inner = PLACES[place].strip().replace("\n", "\n        ")
    done = ran(BEFORE.format(name=name) + WITH.format(place=inner))
    assert done.stdout == "unwound\n"
    assert "ignored" not in done.stderr
    if name == "SIGTERM":
        assert (done.returncode, done.stderr) == (143, "")
    else:
        assert done.stderr.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("place", PLACES)
def test_python_itself_loses_it(place: str) -> None:
    """The control: without our care the program goes on after Ctrl-C."""
    done = ran(BEFORE.format(name="SIGINT") + PLACES[place] + 'print("went on")')
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "KeyboardInterrupt" in done.stderr


def test_what_else_is_lost_is_still_said_and_all_is_put_back() -> None:
    """Other exceptions of a finalizer are printed; handler and hook are those from before."""
    text = """
import signal, sys
from fleetsim.cli.signals import unwinding
before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
class Broken:
    def __del__(self):
        raise ValueError("broken")
with unwinding():
    Broken()
print((signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before)
"""
    done = ran(text)
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "ValueError: broken" in done.stderr


SHOTS = """
import signal, sys, threading
from random import Random
from fleetsim.cli.signals import Terminated, unwinding
number, main = signal.{name}, threading.main_thread().ident
struck = threading.Event()
class Gone:
    def __del__(self):
        [None for _ in range(20)]
def shoot():
    for _ in range(5):
        for _ in range(Random({seed}).randrange(20_000)):
            pass
        signal.pthread_kill(main, number)
with unwinding() as signals:
    thread = threading.Thread(target=shoot, daemon=True)
    try:
        thread.start()
        while True:
            Gone()
    except (KeyboardInterrupt, Terminated):
        signals.last_word(print, "unwound")
    thread.join()
"""


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_signals_among_finalizers_are_told_once(seed: int, name: str) -> None:
    """Several in a row, at any point: one line, also where one strikes while another is lost."""
    done = ran(SHOTS.format(name=name, seed=seed))
    assert (done.returncode, done.stdout, done.stderr) == (0, "unwound\n", "")


@pytest.mark.parametrize("name", KINDS)
def test_a_signal_within_the_hook_is_not_lost(name: str) -> None:
    """The hook itself is such a place, which a busy machine stays in for long."""
    text = """
def slow(*_):
    signal.raise_signal(number)
    [None for _ in range(10)]
class Broken:
    def __del__(self):
        raise ValueError
import sys
sys.unraisablehook = slow
"""
    inner = "Broken()"
    done = ran(BEFORE.format(name=name) + text + WITH.format(place=inner))
    assert done.stdout == "unwound\n"
    assert "ignored" not in done.stderr
    assert "slow" not in done.stderr
    if name == "SIGTERM":
        assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.parametrize(
    "failing",
    [
        "Broken()",
        "threading.Thread(target=fail).start()",
        "logging.getLogger('asyncio').error('Task exception was never retrieved')",
    ],
)
@pytest.mark.parametrize("struck", [True, False])
def test_what_fails_while_unwinding_is_not_told(failing: str, struck: bool) -> None:
    """Finalizers, threads and event loops are silent after a signal, and only then."""
    text = f"""
import logging, threading
def fail():
    raise ValueError("broken")
class Broken:
    __del__ = lambda self: fail()
with unwinding() as signals:
    try:
        {"signal.raise_signal(number)" if struck else "pass"}
        time.sleep(0)
    finally:
        {failing}
        [thread.join() for thread in threading.enumerate() if thread.name != "MainThread"]
"""
    done = ran(BEFORE.format(name="SIGTERM") + text)
    assert done.returncode == (143 if struck else 0)
    assert bool(done.stderr) != struck


def test_ctrl_c_is_told_in_one_line() -> None:
    """There is no empty line before it where nobody pressed keys at a terminal."""
    text = """
import signal, sys
import fleetsim.cli.main as cli
cli._Commands.get_command = lambda *_: signal.raise_signal(signal.SIGINT)
sys.argv = ["fleetsim", "stop"]
cli.main(0, 0)
"""
    done = ran(text)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fleetsim: interrupted\n")


def test_nothing_is_said_of_a_kernel_that_a_signal_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A cell still waits for its answer while the command unwinds; afterwards all is told again."""
    log = _log(Watch())
    log.error("told before")
    with suppress(Terminated), unwinding() as signals:
        try:
            signals.strike(signal.SIGTERM, None)
        finally:
            log.error("Kernel died while waiting for execute reply.")
    log.error("told after")
    assert [record.message for record in caplog.records] == ["told before", "told after"]
