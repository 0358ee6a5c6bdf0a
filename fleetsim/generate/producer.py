"""The events of a batch, piece by piece in their order, by the path that suits its size.

The plain NumPy path makes small batches and is the other one's oracle; the compiled kernel makes
larger ones, and large ones in threads. Content does not depend on the path, the threads or the size
of a piece.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from fleetsim.base.errors import FleetsimError
from fleetsim.base.terminal import warn
from fleetsim.generate.config import Config
from fleetsim.generate.encode import encode_events
from fleetsim.generate.events import draw_events
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.threads import Piece, Threads, cores

#: Expected events from which on the kernel is compiled where no machine code lies ready: that takes
#: ten seconds once, against 1.4 us an event each time (measured).
LARGE = 1_000_000
#: Those from which on machine code that lies ready is taken (measured: a process that makes 10,000
#: takes 0.9 of NumPy's CPU time, one that makes 3500 takes 0.97), and those from which on threads
#: are worth their start.
_READY, _THREADED = 10_000, 200_000
_READY_WITH_LLVM = 50_000  # where LLVM has to be loaded first, for 45 ms


def expected_events(config: Config, fleet: Fleet, start_us: int) -> float:
    """Return how many events a batch is expected to hold."""
    drivers = int(fleet.eligible(start_us).sum()) * config.drivers_per_company
    return drivers * config.event_rate_per_driver


class Producer:
    """Makes the batches of a configuration and a fleet.

    Parameters
    ----------
    config, fleet
    events : float
        How many are expected, all batches together; the choice of the path follows.
    columns : bool
        Whether pieces come as columns, or else as lines.
    kernel : "auto", "numpy" or "compiled"
        The path, where it is not to follow from the size.
    jobs : int, optional
        Threads; the number of cores by default. Small jobs have none.

    Raises
    ------
    FleetsimError
        Where the compiled kernel is asked for and cannot be had.
    """

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        events: float,
        *,
        columns: bool = False,
        kernel: Kernel = "auto",
        jobs: int | None = None,
    ) -> None:
        self._config, self._fleet = config, fleet
        self._columns = columns
        large = kernel == "compiled" or events >= LARGE
        ready = kernel == "auto" and _READY <= events < LARGE and _lies_ready(events)
        self._piece_maker: Any = None
        if ready or (large and kernel != "numpy"):
            self._piece_maker = _piece_maker(config, fleet, columns, required=kernel == "compiled")
        threaded = large or (ready and events >= _THREADED)
        self.threads = Threads((jobs or cores()) if threaded else 1)

    def __enter__(self) -> Producer:
        self.threads.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.threads.__exit__(*exception)

    def delivered(
        self,
        start_us: int,
        ordinal: int,
        drivers: range | None = None,
        *,
        ledger: Callable[[bytes], object] | None = None,
        part: str | None = None,
    ) -> Iterator[Piece]:
        """Yield a batch as it is delivered: with the defects of its configuration, if any.

        Parameters
        ----------
        start_us, ordinal, drivers
            As in `pieces`.
        ledger : callable, optional
            Takes the lines of the ledger, some at a time, before the piece that they are of.
        part : str, optional
            Name of the part's file, for the ledger.
        """
        if not self._config.defects:
            return self.pieces(start_us, ordinal, drivers)
        config, fleet, take = self._config, self._fleet, ledger or _nowhere
        if drivers is None:
            per_company = config.drivers_per_company
            drivers = range(fleet.first * per_company, (fleet.first + len(fleet)) * per_company)
        if self._piece_maker is not None and not self._columns:
            from fleetsim.generate.kernel.dirty import CompiledInjection, fits

            if fits():
                fast = CompiledInjection(config, fleet, start_us, ordinal, drivers, take, part)
                made: Iterator[Piece] = self._piece_maker.pieces(
                    self.threads, start_us, ordinal, drivers, fast
                )
                return made
        from fleetsim.generate.flows import ColumnFlow, LineFlow  # nothing clean data need
        from fleetsim.generate.inject import Injection

        flow = ColumnFlow(config, fleet, start_us) if self._columns else LineFlow()
        injection = Injection(config, fleet, start_us, ordinal, drivers, flow, take, part)
        return injection.pieces(self.pieces(start_us, ordinal, drivers))

    def pieces(self, start_us: int, ordinal: int, drivers: range | None = None) -> Iterator[Piece]:
        """Yield a batch piece by piece, clean; each is released before many more are taken.

        Parameters
        ----------
        start_us, ordinal : int
        drivers : range, optional
            Only the part of these drivers, by their positions in the whole fleet; it starts with a
            block of the address space.
        """
        if self._piece_maker is not None:
            made: Iterator[Piece] = self._piece_maker.pieces(
                self.threads, start_us, ordinal, drivers
            )
            return made
        return self._plain(start_us, ordinal, drivers)

    def content(
        self,
        start_us: int,
        ordinal: int,
        drivers: range | None = None,
        *,
        ledger: Callable[[bytes], object] | None = None,
        part: str | None = None,
    ) -> Iterator[tuple[int, bytes]]:
        """Yield a batch, or a part of it, as `delivered` does: events, and their lines."""
        for piece in self.delivered(start_us, ordinal, drivers, ledger=ledger, part=part):
            lines = bytes(piece.lines)
            if piece.release:
                piece.release()
            yield piece.events, lines

    def _plain(self, start_us: int, ordinal: int, drivers: range | None) -> Iterator[Piece]:
        fleet = self._fleet
        eligible = fleet.eligible(start_us)
        for events in draw_events(self._config, eligible, ordinal, drivers, fleet.first):
            if self._columns:
                yield Piece(len(events), events, None, None)
            else:
                lines = encode_events(self._config, self._fleet, start_us, events)
                yield Piece(len(events), None, lines, None)


def _nowhere(lines: bytes) -> None:
    """Take the lines of a ledger that nobody asked for."""


def _lies_ready(events: float) -> bool:
    """Return whether machine code lies ready that pays off for so many events."""
    from fleetsim.generate.kernel.machine import IMAGES, kept_kernels  # not on a small job's path

    return (IMAGES or events >= _READY_WITH_LLVM) and kept_kernels() is not None


_warned: set[str] = set()


def _piece_maker(config: Config, fleet: Fleet, columns: bool, *, required: bool) -> Any:
    """Return what makes pieces by the kernel; None, with one warning, where it cannot be had."""
    from fleetsim.generate.kernel.layout import (
        event_layout,  # not on a small job's path, as the piece maker
    )

    layout = event_layout(config)
    if layout is None:
        why = "it does not know every field of the data model"
    elif sys.byteorder != "little":
        why = "it writes for little-endian machines"
    else:
        try:
            from fleetsim.generate.kernel.pieces import PieceMaker

            return PieceMaker(config, fleet, layout, columns)
        except ImportError as error:
            why = f"numba cannot be loaded ({error})"
    if required:
        raise FleetsimError(f"the compiled kernel cannot be used: {why}")
    if why not in _warned:
        _warned.add(why)
        warn(__name__, f"the compiled kernel is not used: {why}; the plain path is slower")
    return None
