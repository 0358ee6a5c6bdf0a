"""Measure the generator at many sizes: cold processes in mixed order, and what they left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from fleetsim.base.tables import Table, number
from fleetsim.batch.meta import EVENTS_NAME
from fleetsim.generate.config import Config
from fleetsim.measure.series import (
    PATHS,
    Size,
    Workplace,
    config_of_size,
    count_and_hash,
    path_of,
    running_order,
)
from fleetsim.stats.growth import PowerLaw, fit_power_law, log_slope

#: The costs of a run whose growth is fitted: fields of `SizeRun`, in words.
QUANTITIES = {
    "generation_seconds": "generation time",
    "process_seconds": "time of the whole process",
    "cpu_seconds": "CPU time of the whole process",
    "peak_rss_bytes": "peak memory",
}


class SizeRun(msgspec.Struct, frozen=True, kw_only=True):
    """One cold run at a size.

    Attributes
    ----------
    events : int
        The size: how many events were expected.
    path : str
        One of `PATHS`.
    companies : int
    counted : int
        Events that the kit's own streams give each driver, added up without making them.
    lines, bytes : int
        Of the file, as read back from the disk.
    sha256 : str
        Of the file, as read back.
    as_recorded : bool
        Whether lines, bytes and hash are those of ``batch_meta.json``.
    generation_seconds : float
        From the command's first statement to the fsync of the events, monotonic clock [s].
    process_seconds : float
        The whole process, interpreter start included [s].
    cpu_seconds : float
        Of the whole process, all threads and the system's part together [s].
    peak_rss_bytes : int
        Largest resident set of the process.
    """

    events: int
    path: str
    companies: int
    counted: int
    lines: int
    bytes: int
    sha256: str
    as_recorded: bool
    generation_seconds: float
    process_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


class GrowthRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one quantity grows on one path; what could not be fitted is None, and `note` says why.

    Attributes
    ----------
    path : str
        One of `PATHS`.
    quantity : str
        One of `QUANTITIES`.
    sizes, repeats : int
        How many there were.
    exponent, interval : float, (float, float)
        Of the fitted power law, with its 95 % interval.
    slope : float
        Of the logarithms as they are, start-up included; for memory, the exponent itself.
    startup : float
        What a run costs whatever its size [s]; None for memory.
    events_per_second : float
        At the largest size, start-up left out; None for memory.
    scale, deviation : float
        See `fleetsim.stats.growth.PowerLaw`.
    """

    path: str
    quantity: str
    sizes: int
    repeats: int
    exponent: float | None = None
    interval: tuple[float, float] | None = None
    slope: float | None = None
    startup: float | None = None
    events_per_second: float | None = None
    scale: float | None = None
    deviation: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Scaling:
    """What was measured: the sizes that the experiment names, and the runs that were made.

    The runs stand in the order in which they ran; a run of the experiment may leave out the sizes
    above a limit.
    """

    sizes: tuple[Size, ...]
    runs: tuple[SizeRun, ...]

    def of(self, path: str) -> list[SizeRun]:
        """Return the runs on a path."""
        return [run for run in self.runs if run.path == path]

    @property
    def missing(self) -> list[int]:
        """The sizes of the experiment that were not measured [events]."""
        made = {run.events for run in self.runs}
        return [size.events for size in self.sizes if size.events not in made]

    @cached_property
    def laws(self) -> dict[tuple[str, str], PowerLaw]:
        """The fitted law by path and quantity, where there is one."""
        return {key: law for key, law in self._fits.items() if isinstance(law, PowerLaw)}

    @cached_property
    def _fits(self) -> dict[tuple[str, str], PowerLaw | str]:
        """The fitted law by path and quantity, or why there is none."""
        fits: dict[tuple[str, str], PowerLaw | str] = {}
        for path in PATHS:
            lines, runs = [run.lines for run in self.of(path)], self.of(path)
            for quantity in QUANTITIES:
                fit = log_slope if quantity == "peak_rss_bytes" else fit_power_law
                try:
                    fits[path, quantity] = fit(lines, [getattr(run, quantity) for run in runs])
                except ValueError as error:
                    fits[path, quantity] = str(error)
        return fits

    def rows(self) -> list[GrowthRow]:
        """Return the laws as rows, each path and quantity in turn."""
        return [self._row(path, quantity, fit) for (path, quantity), fit in self._fits.items()]

    def row(self, path: str, quantity: str) -> GrowthRow:
        """Return the row of a path and a quantity."""
        return self._row(path, quantity, self._fits[path, quantity])

    def _row(self, path: str, quantity: str, fit: PowerLaw | str) -> GrowthRow:
        runs = self.of(path)
        sizes = len({run.events for run in runs})
        if isinstance(fit, str):
            return GrowthRow(path=path, quantity=quantity, sizes=sizes, repeats=len(runs), note=fit)
        timed = quantity != "peak_rss_bytes"
        costs = [getattr(run, quantity) for run in runs]
        return GrowthRow(
            path=path,
            quantity=quantity,
            sizes=sizes,
            repeats=len(runs),
            exponent=fit.exponent,
            interval=fit.interval,
            slope=log_slope([run.lines for run in runs], costs).exponent,
            startup=fit.startup if timed else None,
            events_per_second=fit.largest / fit.factor if timed else None,
            scale=fit.scale,
            deviation=fit.deviation,
        )


def measure_sizes(
    config: Config,
    sizes: Sequence[Size],
    folder: Path,
    *,
    interval: str,
    progress: Callable[[int], object] | None = None,
) -> tuple[SizeRun, ...]:
    """Make batches of every size with the real commands in cold processes, in mixed order.

    Each batch is read back, held to its record and deleted before the next one is made. The first
    process of each path is not counted, since it may have to compile the kernel. The path is named
    to the command, so that a missing kernel is an error instead of another law.

    Parameters
    ----------
    config : Config
        Its number of companies has no influence.
    sizes : sequence of Size
    folder : Path
        Existing folder; what is written there is gone afterwards, whatever happened.
    interval : str
        ISO 8601 start of the interval; the repeats of a size then have the same bytes.
    progress : callable, optional
        Called with 1 after each run.

    Returns
    -------
    tuple of SizeRun
        In the order in which they ran.

    Raises
    ------
    FleetsimError
        Where a command fails.
    """
    scratch = folder / "scratch"
    try:
        series = {}
        for size in sizes:
            series[size] = _Series(config, size, scratch / str(size.events), interval)
        for path in PATHS:
            if first := next((size for size in sizes if path_of(size) == path), None):
                series[first].run()
        runs = []
        for size in running_order(sizes, config.seed):
            runs.append(series[size].run())
            if progress:
                progress(1)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tuple(runs)


class _Series:
    """The repeats of one size: its companies, made once, and batches, made one at a time."""

    def __init__(self, config: Config, size: Size, folder: Path, interval: str) -> None:
        self._size = size
        self._place = Workplace(config_of_size(config, size), folder, interval)

    def run(self) -> SizeRun:
        """Make the batch, read it back, delete it."""
        place = self._place
        child, meta = place.make("--kernel", path_of(self._size))
        lines, size, sha256 = count_and_hash(place.batch / EVENTS_NAME)
        place.clear()
        return SizeRun(
            events=self._size.events,
            path=path_of(self._size),
            companies=place.companies,
            counted=place.counted,
            lines=lines,
            bytes=size,
            sha256=sha256,
            as_recorded=(lines, size, sha256) == (meta.event_count, meta.bytes, meta.sha256),
            generation_seconds=meta.generation_seconds,
            process_seconds=child.seconds,
            cpu_seconds=child.cpu_seconds,
            peak_rss_bytes=child.peak_rss_bytes,
        )


class ScalingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured at many sizes, in the order of running, and the laws fitted to it."""

    runs: list[SizeRun]
    laws: list[GrowthRow]

    def law_table(self) -> Table:
        """Return a row for each law, as the document shows it, by the names of the record."""
        return law_table(self.laws)


def law_table(laws: Sequence[GrowthRow], *, spoken: bool = False) -> Table:
    """Return a row for each path and quantity; with `spoken`, in words instead of their names."""
    rows = []
    for law in laws:
        row = [
            PATHS[law.path] if spoken else law.path,
            QUANTITIES[law.quantity] if spoken else law.quantity,
            str(law.sizes),
            str(law.repeats),
        ]
        if law.interval is None or law.deviation is None:
            row += [*("–" * 5), law.note]
        else:
            row += [
                number(law.exponent),
                f"{number(law.interval[0])} to {number(law.interval[1])}",
                number(law.startup),
                number(law.slope),
                number(law.scale, 3),
                f"{100 * law.deviation:.1f} %",
            ]
        rows.append(tuple(row))
    header = (
        *("path", "quantity", "sizes", "runs", "exponent", "95 % interval", "start-up [s]"),
        *("slope", "interval widened by", "farthest size"),
    )
    caption = (
        "Time: start-up + factor × events^exponent; memory: factor × events^exponent. The slope is "
        "that of the logarithms with the start-up in it."
    )
    return Table(header, tuple(rows), caption)
