"""The program of a kernel: ipykernel's own, which ends without a word."""

from __future__ import annotations

import logging
import sys

from ipykernel.kernelapp import IPKernelApp

from fleetsim.base.absent import import_without

_DEBUGGER = "debugpy"  # half of the time of a kernel's start


class QuietKernelApp(IPKernelApp):
    """A kernel that says nothing of what it leaves unfinished at its end.

    Told to end in the middle of an answer, as at every Ctrl-C, it would say on stderr that a task
    of its own 'was destroyed but it is pending'. While it works, what asyncio has to say of the
    tasks of cells is shown as ever.
    """

    def start(self) -> None:
        """Serve until it is told to end."""
        try:
            super().start()  # type: ignore[no-untyped-call]
        finally:
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            # The thread that was told to end may still send its last word. Python's end closes the
            # channel of outputs first: one kernel in ten then waited until it was killed, 2.5 s.
            if self.control_thread is not None and self.control_thread.is_alive():
                self.control_thread.stop()
                self.control_thread.join()


def load_without_debugger() -> None:
    """Load ipykernel's modules without debugpy: nobody steps through a run."""
    import_without(_DEBUGGER, "ipykernel.debugger")


def launch() -> None:
    """Serve as a kernel by the arguments of this process; never returns before its end."""
    load_without_debugger()
    QuietKernelApp.launch_instance(sys.argv[1:])
