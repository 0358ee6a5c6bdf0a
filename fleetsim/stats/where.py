"""Where the data depart most from a test's law: the parts that make the largest difference.

A test says yes or no for all data together. For a reader who has to look for the cause, the parts
(batches, drivers, companies, types, times) are put in the order of how far they are from what the
law gives them, in standard deviations. This is a description, no further test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.base.tables import number
from fleetsim.stats import effects, time_tests
from fleetsim.stats.effects import Law
from fleetsim.stats.sample import TIME_CELLS, Sample
from fleetsim.stats.times import CELLS, PERIODS_US, cells_for

SHOWN = 5  # parts of each test
_CELLS = 25  # of the interval and of a period, as they are told
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """One part of the data.

    Attributes
    ----------
    part : str
        What it is a part of: batch, driver, company, driver number, type, time and the like.
    at : tuple of int
        Its positions among the parts of that kind, from 0.
    observed, expected : float
        What it holds, and what the law gives it.
    deviation : float
        Their difference in standard deviations of the law.
    text : str
        Its name, as far as it is known without the names of batches, drivers, companies and types.
    """

    part: str
    at: tuple[int, ...]
    observed: float
    expected: float
    deviation: float
    text: str = ""


def _nobody(company: int) -> str:
    return f"company {company + 1} of those with events"


@dataclass(frozen=True)
class Names:
    """What the parts of a sample are called.

    Attributes
    ----------
    batches, types : sequence of str
        By their positions; where there are none, they are numbered from 1.
    drivers_per_company : int
        0 where it is not known who the drivers are.
    company : callable
        Position of a company among those of the sample -> its name.
    """

    batches: Sequence[str] = ()
    types: Sequence[str] = ()
    drivers_per_company: int = 0
    company: Callable[[int], str] = _nobody

    def _batch(self, at: int) -> str:
        return f"batch {self.batches[at] if at < len(self.batches) else at + 1}"

    def _type(self, at: int) -> str:
        return self.types[at] if at < len(self.types) else f"type {at + 1}"

    def _driver(self, at: int) -> str:
        if not self.drivers_per_company:
            return f"driver {at + 1}"
        company, own = divmod(at, self.drivers_per_company)
        return f"driver {own:03d} of {self.company(company)}"

    def of(self, place: Place) -> str:
        """Return the name of a part in a sentence."""
        own: dict[str, Callable[[int], str]] = {
            "batch": self._batch,
            "two batches": self._batch,
            "type": self._type,
            "next type": lambda at: f"then {self._type(at)}",
            "driver": self._driver,
            "company": self.company,
            "driver number": lambda at: f"drivers of number {at:03d}",
            "time": lambda at: place.text,
        }
        parts = place.part.split(" and ") if " and " in place.part else [place.part] * len(place.at)
        words = [own[part](at) for part, at in zip(parts, place.at, strict=True) if part in own]
        return ", ".join(words) or place.text


def sentence_of(place: Place, names: Names) -> str:
    """Return where, what is there, and what the law gives."""
    found, wanted = number(place.observed, 3), number(place.expected, 3)
    if place.part == "two batches":
        return f"{names.of(place)}: correlation {found}, none expected"
    if place.part == "gap":
        return f"{place.text}: {found}, {wanted} expected"
    many = "" if np.isinf(place.deviation) else f" ({place.deviation:+.1f} standard deviations)"
    return f"{names.of(place)}: {found} instead of {wanted}{many}"


def places_of(name: str, sample: Sample, law: Law) -> tuple[Place, ...]:
    """Return the parts of a sample that depart most from what a test of the battery asks.

    Parameters
    ----------
    name : str
        A test of `BATTERY`.
    sample : Sample
    law : Law

    Returns
    -------
    tuple of Place
        At most `SHOWN`, the largest departure first; empty for tests without parts, and where the
        law expects nothing.
    """
    make = _PARTS.get(name)
    if make is None or sample.n_events == 0:
        return ()
    found: Iterator[Place] = make(sample, law)
    return tuple(found)


def _largest(
    part: str, observed: Array, expected: Array, text: Callable[..., str] | None = None
) -> Iterator[Place]:
    """Yield the cells of a table that depart most, as counts of a Poisson law."""
    observed, expected = np.broadcast_arrays(observed, expected)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = (observed - expected) / np.sqrt(expected)
    deviation = np.where(expected > 0, deviation, np.where(observed > 0, np.inf, 0.0))
    order = np.argsort(-np.abs(deviation), axis=None, kind="stable")[:SHOWN]
    for flat in order.tolist():
        at = tuple(int(i) for i in np.unravel_index(flat, observed.shape))
        if deviation[at] == 0:
            return
        yield Place(
            part=part,
            at=at,
            observed=float(observed[at]),
            expected=float(expected[at]),
            deviation=float(deviation[at]),
            text="" if text is None else text(*at),
        )


def _batches(sample: Sample, law: Law) -> Iterator[Place]:
    return _largest("batch", sample.totals, np.array(sample.n_drivers * law.rate))


def _types(sample: Sample, law: Law) -> Iterator[Place]:
    weights = np.array(law.weights)
    return _largest("type", sample.type_counts.sum(axis=0), sample.n_events * weights)


def _batch_types(sample: Sample, law: Law) -> Iterator[Place]:
    expected = sample.totals[:, None] * np.array(law.weights)
    return _largest("batch and type", sample.type_counts, expected)


def _drivers(sample: Sample, law: Law) -> Iterator[Place]:
    counts = sample.counts.sum(axis=0)
    return _largest("driver", counts, np.array(sample.n_batches * law.rate))


def _companies(sample: Sample, law: Law) -> Iterator[Place]:
    totals = sample.company_totals.sum(axis=0)
    return _largest("company", totals, np.array(totals.mean()))


def _driver_numbers(sample: Sample, law: Law) -> Iterator[Place]:
    totals = sample.driver_number_totals.sum(axis=0)
    return _largest("driver number", totals, np.array(totals.mean()))


def _independent(table: Array) -> Array:
    """Return what independence of rows and columns gives each cell."""
    total = max(int(table.sum()), 1)
    expected: Array = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    return expected


def _types_by_company(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.types_by_company
    return _largest("type and company", table, _independent(table))


def _types_by_time(sample: Sample, law: Law) -> Iterator[Place]:
    table, length = sample.types_by_time, sample.length_us
    return _largest(
        "type and time",
        table,
        _independent(table),
        lambda kind, cell: _span(cell, TIME_CELLS, length),
    )


def _type_pairs(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.type_pairs
    return _largest("type and next type", table, _independent(table))


def _phases(row: int | None) -> Callable[[Sample, Law], Iterator[Place]]:
    """Return what yields the parts of the interval, or of a period, that depart most."""

    def make(sample: Sample, law: Law) -> Iterator[Place]:
        times = sample.times
        period = times.length_us if row is None else PERIODS_US[row]
        fine = times.cells.sum(axis=0) if row is None else times.phases[row]
        cells = cells_for(min(period, _CELLS), CELLS)
        chances = time_tests.cell_probabilities(times.length_us, period, cells)
        observed = fine.reshape(cells, -1).sum(axis=1)
        return _largest(
            "time", observed, times.n * chances, lambda cell: _span(cell, cells, period)
        )

    return make


_cells = _phases(None)


def _batch_cells(sample: Sample, law: Law) -> Iterator[Place]:
    times, cells = sample.times, cells_for(_CELLS, CELLS)
    observed = times.cells.reshape(sample.n_batches, cells, -1).sum(axis=2)
    chances = time_tests.cell_probabilities(times.length_us, times.length_us, cells)
    return _largest(
        "batch and time",
        observed,
        times.sizes[:, None] * chances,
        lambda batch, cell: _span(cell, cells, times.length_us),
    )


def _ties(sample: Sample, law: Law) -> Iterator[Place]:
    times = sample.times
    pairs = times.sizes * (times.sizes - 1.0) / 2 / times.length_us
    return _largest("batch", times.ties, pairs)


def _ties_across(sample: Sample, law: Law) -> Iterator[Place]:
    """Yield the pairs of all batches together: of which two batches they are is not kept."""
    expected = effects.pairs_across(sample) / sample.times.length_us
    found = sample.times.ties_across
    if found > expected > 0:
        deviation = (found - expected) / np.sqrt(expected)
        text = "pairs of events of two batches with one offset"
        yield Place("pairs", (), float(found), float(expected), float(deviation), text)


def _ends(sample: Sample, law: Law) -> Iterator[Place]:
    """Yield the two ends: the gap before the first event and after the last [seconds]."""
    times = sample.times
    mean = times.length_us / (times.n + 1) / 1e6
    gaps = ("the start", times.first_us / 1e6), ("the end", (times.length_us - times.last_us) / 1e6)
    for at, (end, gap) in enumerate(gaps):
        text = f"seconds without an event at {end}"
        yield Place("gap", (at,), gap, mean, (gap - mean) / mean, text)


def _pairs(sample: Sample, law: Law) -> Iterator[Place]:
    """Yield the pairs of batches whose drivers' counts are most alike (correlation)."""
    counts = sample.counts.astype(float)
    spread = counts.std(axis=1)
    usable = np.flatnonzero(spread > 0)[:500]  # a table of more pairs is not worth its memory
    if len(usable) < 2 or sample.n_drivers < 2:
        return
    table = np.corrcoef(counts[usable])
    rows, columns = np.triu_indices(len(usable), 1)
    deviation = table[rows, columns] * np.sqrt(sample.n_drivers)
    for k in np.argsort(-np.abs(deviation), kind="stable")[:SHOWN].tolist():
        at = int(usable[rows[k]]), int(usable[columns[k]])
        alike = float(table[rows[k], columns[k]])
        yield Place("two batches", at, alike, 0.0, float(deviation[k]))


def _outside(sample: Sample, law: Law) -> Iterator[Place]:
    if sample.outside:
        yield Place("events", (), sample.outside, 0.0, np.inf, "events outside their interval")


def _span(cell: int, cells: int, length_us: int) -> str:
    """Return a part of an interval or period as words: 840 to 876 s."""
    step = length_us / cells
    units = (("s", 1e6), ("ms", 1e3), ("us", 1.0))
    unit, factor = next((name, size) for name, size in units if length_us >= size)
    return f"{cell * step / factor:.4g} to {(cell + 1) * step / factor:.4g} {unit}"


_PARTS: dict[str, Callable[[Sample, Law], Iterator[Place]]] = {
    "event_count": _batches,
    "event_count_within_margin": _batches,
    "event_types": _types,
    "event_types_within_margin": _types,
    "events_per_driver": _drivers,
    "events_per_driver_dispersion": _drivers,
    "event_times_inside": _outside,
    "event_times_uniform": _cells,
    "event_times_edges": _cells,
    "event_times_ends": _ends,
    "event_times_cells": _cells,
    "event_times_minute": _phases(0),
    "event_times_second": _phases(1),
    "event_times_millisecond": _phases(2),
    "event_times_spacings": _cells,
    "event_times_ties": _ties,
    "company_totals": _companies,
    "driver_number_totals": _driver_numbers,
    "driver_neighbours": _drivers,
    "types_by_company": _types_by_company,
    "types_by_time": _types_by_time,
    "types_in_sequence": _type_pairs,
    "batch_totals": _batches,
    "batch_types": _batch_types,
    "batch_times": _batch_cells,
    "batch_drivers": _drivers,
    "batch_pairs": _pairs,
    "batch_ties": _ties_across,
}
