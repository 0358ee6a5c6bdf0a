"""Measure the generator at many sizes: cold processes in mixed order, and what they left."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from fleetsim.batch_meta import EVENTS_NAME, BatchMeta, read_meta
from fleetsim.clock import batch_name, parse_time
from fleetsim.companies import read_companies
from fleetsim.config import Config, make_config
from fleetsim.crew import Digest
from fleetsim.encode import mean_width
from fleetsim.errors import InputError
from fleetsim.files import free_bytes, sync
from fleetsim.generate import count_events
from fleetsim.measure import COMPANIES_NAME, CONFIG_NAME, Child, make_companies, run_child
from fleetsim.produce import LARGE
from fleetsim.scaling import PowerLaw, fit_power_law, log_slope

__all__ = [
    "PATHS",
    "QUANTITIES",
    "LawRow",
    "Scaling",
    "Size",
    "SizeRun",
    "Workplace",
    "check_room",
    "config_of_size",
    "measure_sizes",
    "path_of",
    "read_back",
    "running_order",
    "size_faults",
]

#: The two ways to make a batch, by the names of ``--kernel``, and in words.
PATHS = {"numpy": "NumPy path", "compiled": "compiled kernel"}
#: The costs of a run whose growth is fitted: fields of `SizeRun`, in words.
QUANTITIES = {
    "generation_seconds": "generation time",
    "process_seconds": "time of the whole process",
    "cpu_seconds": "CPU time of the whole process",
    "peak_rss_bytes": "peak memory",
}
_COMPANY_BYTES = 150  # of a line of companies.jsonl, amply
_ROOM = 1.02  # of the bytes that are expected
_PIECE = 1 << 22  # read at once


class _Repeated(Protocol):
    """Something that is measured again and again."""

    @property
    def repeats(self) -> int:
        """How often."""


T = TypeVar("T", bound=_Repeated)


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A size of batch: how many events are expected, and how many cold processes make it."""

    events: Annotated[
        int,
        Meta(ge=100, le=10**12, extra={"allowed": "a whole number from 100 to 1000000000000"}),
    ]
    repeats: Annotated[int, Meta(ge=2, le=1000, extra={"allowed": "a whole number from 2 to 1000"})]


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


class LawRow(msgspec.Struct, frozen=True, kw_only=True):
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
        See `fleetsim.scaling.PowerLaw`.
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

    def rows(self) -> list[LawRow]:
        """Return the laws as rows, each path and quantity in turn."""
        return [self._row(path, quantity, fit) for (path, quantity), fit in self._fits.items()]

    def row(self, path: str, quantity: str) -> LawRow:
        """Return the row of a path and a quantity."""
        return self._row(path, quantity, self._fits[path, quantity])

    def _row(self, path: str, quantity: str, fit: PowerLaw | str) -> LawRow:
        runs = self.of(path)
        sizes = len({run.events for run in runs})
        if isinstance(fit, str):
            return LawRow(path=path, quantity=quantity, sizes=sizes, repeats=len(runs), note=fit)
        timed = quantity != "peak_rss_bytes"
        costs = [getattr(run, quantity) for run in runs]
        return LawRow(
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


def path_of(size: Size) -> str:
    """Return the path that makes a batch of this size by itself."""
    return "compiled" if size.events >= LARGE else "numpy"


def config_of_size(config: Config, size: Size) -> Config:
    """Return the configuration of a size: as many companies as its events take, at least one."""
    companies = max(1, round(size.events / _company_events(config)))
    return make_config(config.as_dict(), {"number_of_companies": companies})


def _company_events(config: Config) -> float:
    """Return the events that one company is expected to have."""
    return config.drivers_per_company * config.event_rate_per_driver * config.active_fraction


def size_faults(config: Config, sizes: Sequence[Size]) -> list[str]:
    """Return why sizes cannot be made of a configuration, a phrase each."""
    each = _company_events(config)
    if each <= 0:
        return ["no event is expected of any company, so that no size can be reached"]
    faults = []
    for size in sizes:
        companies = max(1, round(size.events / each))
        if abs(companies * each / size.events - 1) > 0.1:
            faults.append(
                f"{size.events} events are no whole number of companies, which have {each:g} "
                "events each (drivers_per_company x event_rate_per_driver x active_fraction)"
            )
        elif companies > 10**9:
            faults.append(f"{size.events} events take {companies} companies; allowed: 1000000000")
    return faults


def check_room(config: Config, sizes: Sequence[Size], folder: Path) -> None:
    """Refuse sizes that the file system has no room for; one file of events stands at a time.

    Raises
    ------
    InputError
        With what is needed and what is free.
    """
    settings = [config_of_size(config, size) for size in sizes]
    companies = [setting.number_of_companies for setting in settings]
    width = mean_width(config, max(companies) * config.drivers_per_company)
    events = max(size.events for size in sizes)
    needed = _ROOM * width * events + _COMPANY_BYTES * sum(companies)
    free = free_bytes(folder)
    if free is not None and needed > free:
        raise InputError(
            "results",
            f"the largest size, {events} events, needs {needed / 1e9:.3g} GB for a while; the file "
            f"system has {free / 1e9:.3g} GB free",
            next_step="a smaller largest_events, or results on a larger file system",
        )


def running_order(sizes: Sequence[T], seed: int) -> list[T]:
    """Return the sizes, or whatever has repeats, as often as they have them, mixed.

    There are as many rounds as the most repeats; a size with fewer is spread evenly over them, and
    the order within a round comes from the seed. So a machine that slows down in the meantime slows
    all sizes alike, and no size always runs after the same other one.
    """
    rounds = max(size.repeats for size in sizes)
    rng = np.random.default_rng(seed)
    order: list[T] = []
    for number in range(rounds):
        due = [size for size in sizes if number in _rounds_of(size, rounds)]
        order += [due[place] for place in rng.permutation(len(due))]
    return order


def _rounds_of(size: _Repeated, rounds: int) -> set[int]:
    """Return in which of so many rounds a size is measured."""
    return {math.floor((k + 0.5) * rounds / size.repeats) for k in range(size.repeats)}


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


class Workplace:
    """A folder with companies, made once, where batches of them are made one at a time.

    Parameters
    ----------
    setting : Config
    folder : Path
        Made here.
    interval : str
        ISO 8601 start of the interval.

    Attributes
    ----------
    companies : int
    counted : int
        Events that the kit's own streams give each driver, added up without making them.
    batch : Path
        The folder of the batch, while there is one.
    """

    def __init__(self, setting: Config, folder: Path, interval: str) -> None:
        self.folder, self._interval = folder, interval
        folder.mkdir(parents=True)
        start_us = parse_time(interval)
        self.file = make_companies(setting, folder, at=interval)
        fleet = read_companies(self.file)
        self.batch = folder / "events" / batch_name(start_us)
        self.companies = len(fleet)
        self.counted = count_events(setting, fleet.eligible(start_us))

    def make(self, *options: str) -> tuple[Child, BatchMeta]:
        """Make the batch with the real command in a cold process; return what it took."""
        arguments = ["events", "--config", CONFIG_NAME, "--companies", COMPANIES_NAME]
        arguments += ["--output", "events", "--interval-start", self._interval]
        # A share of inactive companies may leave a small size without any.
        arguments += ["--allow-empty", *options]
        return run_child(arguments, self.folder), read_meta(self.batch)

    def clear(self) -> None:
        """Delete the batch; what that takes belongs to no measurement."""
        shutil.rmtree(self.batch.parent)
        sync(self.folder)


class _Series:
    """The repeats of one size: its companies, made once, and batches, made one at a time."""

    def __init__(self, config: Config, size: Size, folder: Path, interval: str) -> None:
        self._size = size
        self._place = Workplace(config_of_size(config, size), folder, interval)

    def run(self) -> SizeRun:
        """Make the batch, read it back, delete it."""
        place = self._place
        child, meta = place.make("--kernel", path_of(self._size))
        lines, size, sha256 = read_back(place.batch / EVENTS_NAME)
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


def read_back(path: Path, whole: Digest | None = None) -> tuple[int, int, str]:
    """Return the lines, bytes and SHA-256 of a file.

    Parameters
    ----------
    path : Path
    whole : Digest, optional
        Takes the content too, as that of all files of a batch.
    """
    lines = size = 0
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            if whole is not None:
                whole.update(piece)
            digest.update(piece)
            lines += piece.count(b"\n")
            size += len(piece)
    return lines, size, digest.hexdigest()
