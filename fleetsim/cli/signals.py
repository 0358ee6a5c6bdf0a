"""Ctrl-C and SIGTERM: an exception unwinds what stands open, wherever the signal arrives."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = 0.01  # seconds until a signal strikes again: what swallowed it has ended by then

#: These say at length what a signal that struck among their callbacks has left unfinished; that of
#: papermill, that a kernel was shut down while a cell still waited for its answer.
_LOGS = ("asyncio", "tornado.application", "tornado.general", "papermill")


class Terminated(SystemExit):
    """SIGTERM came. Like KeyboardInterrupt, it passes by whoever handles errors."""

    code: int


class Signals:
    """What became of the signals to a command.

    Attributes
    ----------
    struck : bool
        Whether one has raised its exception. What fails from then on fails because of it, and is
        not told.
    over : bool
        Whether the command has said its last word: further signals come to nothing.
    """

    def __init__(self) -> None:
        self.struck = False
        self.over = False
        self._lost: int | None = None
        # In these a signal must not strike: what a hook raises, Python prints and forgets, and the
        # last word is said only once.
        self._deaf = {Signals.last_word.__code__}

    def strike(self, number: int, frame: FrameType | None) -> None:
        """Raise a signal's exception, or later where it would be printed and lost."""
        if self.over:
            return
        while frame is not None:
            if frame.f_code in self._deaf:
                self._later(number)
                return
            frame = frame.f_back
        self._lost = None
        if not self.struck:
            self.struck = True
            _silence(True)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(128 + number)

    def strike_again(self, _: int, frame: FrameType | None) -> None:
        """Raise the exception that was lost."""
        if self._lost is not None:
            self.strike(self._lost, frame)

    def hook(
        self, tell: Callable[[sys.UnraisableHookArgs], object]
    ) -> Callable[[sys.UnraisableHookArgs], None]:
        """Return what takes up exceptions that Python would print and forget."""

        def hear(lost: sys.UnraisableHookArgs) -> None:
            if issubclass(lost.exc_type, KeyboardInterrupt):
                self._later(signal.SIGINT)
            elif issubclass(lost.exc_type, Terminated):
                self._later(signal.SIGTERM)
            elif not self.struck:
                tell(lost)

        self._deaf.add(hear.__code__)
        return hear

    def last_word(self, say: Callable[[str], object], text: str) -> None:
        """Say how the command ended; no signal strikes any more."""
        self.over = True
        say(text)

    def lost(self) -> BaseException | None:
        """Return the exception of a signal that has not struck again; it does not any more."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._lost is None or self.over:
            return None
        return KeyboardInterrupt() if self._lost == signal.SIGINT else Terminated(128 + self._lost)

    def _later(self, number: int) -> None:
        # A timer of the system: a thread's `start` may still wait when it fires on a busy machine.
        self._lost = number
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)


@contextmanager
def unwinding() -> Iterator[Signals]:
    """Raise `Terminated` on SIGTERM, and let no signal of either kind be lost.

    Python runs a signal's handler between any two steps of the main thread. Where that is a
    finalizer or a callback from C code, what the handler raises goes no further: Python prints it
    and the program works on. Such a signal strikes again. Once one has struck, nothing is printed
    of what fails in finalizers, threads and event loops while the program unwinds.
    """
    signals = Signals()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        handlers[signal.SIGINT] = signal.default_int_handler
    hooks = sys.unraisablehook, threading.excepthook

    def in_thread(failed: threading.ExceptHookArgs) -> None:
        if not signals.struck:
            hooks[1](failed)

    sys.unraisablehook = signals.hook(hooks[0])
    threading.excepthook = in_thread
    for number in handlers:
        again = number == signal.SIGALRM
        signal.signal(number, signals.strike_again if again else signals.strike)
    try:
        yield signals
        if (lost := signals.lost()) is not None:
            raise lost
    finally:
        signals.lost()
        sys.unraisablehook, threading.excepthook = hooks
        if signals.struck:
            _silence(False)
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _silence(yes: bool) -> None:
    if "logging" in sys.modules:
        from logging import getLogger

        for name in _LOGS:
            getLogger(name).disabled = yes
