"""Ctrl-C and SIGTERM: an exception unwinds what stands open, wherever the signal arrives."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_AGAIN = 0.01  # seconds until a signal is sent again: what swallowed it has ended by then


class Terminated(SystemExit):
    """SIGTERM came. Like KeyboardInterrupt, it passes by whoever handles errors."""

    code: int


@contextmanager
def unwinding() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, and let no signal of either kind be lost.

    Python runs a signal's handler between any two steps of the main thread. Where that is a
    finalizer or a callback from C code, what the handler raises goes no further: Python prints it
    and the program works on. Such a signal is sent again.
    """
    handler, hook = signal.signal(signal.SIGTERM, _terminate), sys.unraisablehook

    def send_again(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            _later(signal.SIGINT)
        elif issubclass(lost.exc_type, Terminated):
            _later(signal.SIGTERM)
        else:
            hook(lost)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


def _terminate(signum: int, frame: object) -> NoReturn:
    raise Terminated(128 + signum)


def _later(number: signal.Signals) -> None:
    """Send a signal to the main thread in a moment: here, it would be lost again."""
    import threading  # only now: small commands do without

    main = threading.main_thread().ident
    thread = threading.Timer(_AGAIN, signal.pthread_kill, (main, number))
    thread.daemon = True
    thread.start()
