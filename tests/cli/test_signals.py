"""A signal ends a command wherever it strikes, also where Python loses exceptions."""

import subprocess
import sys

import pytest

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
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=50
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
