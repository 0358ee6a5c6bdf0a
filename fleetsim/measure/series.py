"""Series of cold runs: sizes, their mixed order, the place where batches are made and read back."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from fleetsim.base.clock import batch_name, parse_time
from fleetsim.base.errors import InputError
from fleetsim.base.files import free_bytes, sync
from fleetsim.batch.companies import read_companies
from fleetsim.batch.dataset import EVENTS_FOLDER
from fleetsim.batch.meta import BatchMeta, read_meta
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.encode import mean_width
from fleetsim.generate.events import count_events
from fleetsim.generate.producer import LARGE
from fleetsim.generate.threads import Digest
from fleetsim.measure.child import Child, run_child
from fleetsim.measure.cold import COMPANIES_PATH, CONFIG_NAME, make_companies

#: The two ways to make a batch, by the names of ``--kernel``, and in words.
PATHS = {"numpy": "NumPy path", "compiled": "compiled kernel"}


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


#: The key `sizes` of experiment.yaml.
Sizes = Annotated[
    tuple[Size, ...],
    Meta(
        min_length=1,
        description="sizes of a batch, each with its number of cold processes",
        extra={"allowed": "a list of {events: ..., repeats: ...}"},
    ),
]


def path_of(size: Size) -> str:
    """Return the path that a size is measured on: NumPy's below `LARGE`, or else the kernel."""
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
        self.batch = folder / EVENTS_FOLDER / batch_name(start_us)
        self.companies = len(fleet)
        self.counted = count_events(setting, fleet.eligible(start_us))

    def make(self, *options: str) -> tuple[Child, BatchMeta]:
        """Make the batch with the real command in a cold process; return what it took."""
        arguments = ["events", "--config", CONFIG_NAME, "--companies", COMPANIES_PATH]
        arguments += ["--output", EVENTS_FOLDER, "--interval-start", self._interval]
        # A share of inactive companies may leave a small size without any.
        arguments += ["--allow-empty", *options]
        return run_child(arguments, self.folder), read_meta(self.batch)

    def clear(self) -> None:
        """Delete the batch; what that takes belongs to no measurement."""
        shutil.rmtree(self.batch.parent)
        sync(self.folder)


def count_and_hash(path: Path, whole: Digest | None = None) -> tuple[int, int, str]:
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


def rising_faults(key: str, what: str, numbers: Sequence[int]) -> list[str]:
    """Return a phrase for each number of a key that is not larger than the one before it."""
    return [
        f"{key}: found {other} after {one}; allowed: larger and larger {what}"
        for one, other in pairwise(numbers)
        if one >= other
    ]


def size_key_faults(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between the keys of an experiment over many sizes."""
    faults = rising_faults("sizes", "sizes", [size.events for size in values.get("sizes", ())])
    if values.get("interval") == "now":
        fault = "found 'now'; allowed: a time, so that all repeats have the same bytes"
        faults.append(f"interval: {fault}")
    return faults


def measured_sizes(sizes: Sequence[Size], largest: int) -> tuple[Size, ...]:
    """Return the sizes up to the largest that is measured [events]."""
    return tuple(size for size in sizes if size.events <= largest)


def config_of_largest(
    config: Config, sizes: Sequence[Size], largest: int, companies: int | None
) -> Config:
    """Return the configuration of the largest size that is measured.

    Raises
    ------
    InputError
        Where no size is left, one cannot be made, or another number of companies is asked for.
    """
    measured = measured_sizes(sizes, largest)
    if not measured:
        allowed = f"a whole number from {sizes[0].events}, the smallest size"
        raise InputError("parameters", f"largest_events: found {largest}; allowed: {allowed}")
    if faults := size_faults(config, measured):
        raise InputError("parameters", *(f"sizes: {fault}" for fault in faults))
    config = config_of_size(config, measured[-1])
    if companies not in (None, config.number_of_companies):
        raise InputError(
            "parameters",
            f"number_of_companies: found {companies}; it follows from the sizes, "
            f"{config.number_of_companies} for the largest",
        )
    return config
