"""Where the data depart most from a test's law: the parts that make the largest difference.

A test says yes or no for all data together. For a reader who has to look for the cause, the parts
(batches, drivers, companies, types, times) are put in the order of how far they are from what the
law gives them, in standard deviations. This is a description, no further test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.base.tables import number
from fleetsim.stats import driver_tests, effects, time_tests
from fleetsim.stats.effects import Law
from fleetsim.stats.order import PLACES, TIME_CELLS
from fleetsim.stats.sample import COUNT_CLASSES, OWN_NUMBERS, Sample
from fleetsim.stats.times import CELLS, PERIODS_US, cells_for

SHOWN = 5  # parts of each test
_TOLD = "told"  # the kind of a part whose text says all
_BLOCK = 1 << 18  # cells of a table that are looked at together
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
            "shared": self._batch,
            "type": self._type,
            "next type": lambda at: f"then {self._type(at)}",
            "next but one": lambda at: f"next but one {self._type(at)}",
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
    if place.part == "shared":
        return f"{names.of(place)}: {found} pairs of events with one offset, {wanted} expected"
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
    found: list[tuple[float, tuple[int, ...]]] = []
    rows = max(1, _BLOCK * len(observed) // max(observed.size, 1))
    for start in range(0, len(observed), rows):  # a table of all drivers is large
        block = slice(start, start + rows)
        deviation = _deviations(observed[block], expected[block])
        order = np.argsort(-np.abs(deviation), axis=None, kind="stable")[:SHOWN]
        for flat in order.tolist():
            first, *others = (int(i) for i in np.unravel_index(flat, deviation.shape))
            found.append((float(deviation[first, *others]), (start + first, *others)))
    found.sort(key=lambda item: -abs(item[0]))
    for deviates, at in found[:SHOWN]:
        if deviates == 0:
            return
        yield Place(
            part=part,
            at=at,
            observed=float(observed[at]),
            expected=float(expected[at]),
            deviation=deviates,
            text="" if text is None else text(*at),
        )


def _deviations(observed: Array, expected: Array) -> Array:
    """Return how far counts are from what is expected, in standard deviations of a Poisson law."""
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = (observed - expected) / np.sqrt(expected)
    found: Array = np.where(expected > 0, deviation, np.where(observed > 0, np.inf, 0.0))
    return found


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
    """Yield all pairs of batches together, and the two batches that share most offsets."""
    sizes, length = sample.times.sizes.astype(float), sample.length_us
    expected = effects.pairs_across(sample) / length
    found = sample.times.ties_across
    if found > expected > 0:
        deviation = (found - expected) / np.sqrt(expected)
        text = "pairs of events of two batches with one offset"
        yield Place(_TOLD, (), float(found), float(expected), float(deviation), text)
    for one, two, pairs in sample.times.tied_batches[: SHOWN - 1].tolist():
        expected = sizes[one] * sizes[two] / length
        deviation = (pairs - expected) / np.sqrt(expected)
        yield Place("shared", (one, two), pairs, float(expected), float(deviation))


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


def _digits(sample: Sample, law: Law) -> Iterator[Place]:
    times = sample.times
    rows = [row for row in range(len(times.digits)) if times.length_us >= 2 * 10 ** (row + 1)]
    chances = [time_tests.cell_probabilities(times.length_us, 10 ** (r + 1), 10) for r in rows]
    return _largest(
        _TOLD,
        times.digits[rows],
        times.n * np.array(chances).reshape(-1, 10),
        lambda row, digit: f"digit {digit} of {time_tests.digit_name(rows[row])}",
    )


def _gaps(sample: Sample, law: Law) -> Iterator[Place]:
    found = driver_tests.gap_cells(sample.driver_times, sample.length_us)
    if isinstance(found, str):
        return iter(())
    edges, observed, expected = found
    return _largest(
        "time",
        observed,
        expected,
        lambda cell: f"gaps of {edges[cell] / 1e6:.3g} to {edges[cell + 1] / 1e6:.3g} s",
    )


def _scatter(sample: Sample, law: Law) -> Iterator[Place]:
    """Yield the numbers of events whose drivers' squared spacings are farthest off."""
    times = sample.driver_times
    alone = [
        replace(times, sizes=times.sizes[i : i + 1], runs=times.runs[i : i + 1], squares=row)
        for i, row in enumerate(times.squares.reshape(-1, 1))
    ]
    rows = [driver_tests.scatter_moments(one) for one in alone]
    found = [
        (abs(total - mean) / np.sqrt(variance), i)
        for i, (total, mean, variance, _) in enumerate(rows)
        if variance > 0
    ]
    for _, i in sorted(found, reverse=True)[:SHOWN]:
        total, mean, variance, _ = rows[i]
        runs, size = int(times.runs[i]), int(times.sizes[i])
        expected = runs * 2 / (size + 2)
        text = f"squared gaps of {runs} drivers with {size} events in a batch"
        deviation = (total - mean) / np.sqrt(variance)
        yield Place(_TOLD, (), total / mean * expected, expected, float(deviation), text)


def _company_times(sample: Sample, law: Law) -> Iterator[Place]:
    """Yield the sizes of companies whose events share most parts of the interval."""
    found = sample.company_times
    pairs = found.runs * found.sizes * (found.sizes - 1.0) / 2 / TIME_CELLS
    return _largest(
        "time",
        found.pairs,
        pairs,
        lambda row: (
            f"pairs within {_span(0, TIME_CELLS, sample.length_us).partition(' to ')[2]}, of "
            f"companies with {found.sizes[row]} events in a batch"
        ),
    )


def _types_apart(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.types_apart
    return _largest("type and next but one", table, _independent(table))


def _type_places(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.type_places.T
    return _largest(
        "type and time", table, _independent(table), lambda kind, row: _PLACE_WORDS[row]
    )


_PLACE_WORDS = [f"event of its driver {place}" for place in PLACES]


def _types_by_number(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.types_by_number
    exact = sample.drivers_per_company <= OWN_NUMBERS
    return _largest(
        "type and time",
        table,
        _independent(table),
        lambda kind, group: f"drivers of {'number' if exact else 'group'} {group:03d}",
    )


def _types_by_driver(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.types_by_driver
    expected = table.sum(axis=1, keepdims=True) * np.array(law.weights)
    return _largest("driver and type", table, expected)


def _types_by_count(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.types_by_count.T
    return _largest(
        "type and time", table, _independent(table), lambda kind, row: _count_class(row)
    )


def _count_class(row: int) -> str:
    """Return a class of `sample.count_classes` in words."""
    half = COUNT_CLASSES // 2
    low, high = (row - half) / 2, (row - half + 1) / 2
    if row == 0:
        return f"drivers whose count is {-high:g} standard deviations or more below the mean"
    if row == COUNT_CLASSES - 1:
        return f"drivers whose count is {low:g} standard deviations or more above the mean"
    return f"drivers whose count is {low:+g} to {high:+g} standard deviations off the mean"


def _memory(sample: Sample, law: Law) -> Iterator[Place]:
    """Yield the consecutive batches whose drivers' counts go together most (correlation)."""
    counts = sample.counts.astype(float)
    centred = counts - counts.mean(axis=1, keepdims=True)
    sums = (centred[1:] * centred[:-1]).sum(axis=1)
    sizes = np.sqrt((centred[1:] ** 2).sum(axis=1) * (centred[:-1] ** 2).sum(axis=1))
    alike = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    for k in np.argsort(-np.abs(alike), kind="stable")[:SHOWN].tolist():
        deviation = float(alike[k]) * np.sqrt(sample.n_drivers)
        yield Place("two batches", (k, k + 1), float(alike[k]), 0.0, float(deviation))


def _halves(sample: Sample, law: Law) -> Iterator[Place]:
    totals, half = sample.totals, sample.n_batches // 2
    expected = np.array([half, sample.n_batches - half]) * sample.n_drivers * law.rate
    observed = np.array([totals[:half].sum(), totals[half:].sum()])
    words = ("the first half of the batches", "the second half of the batches")
    found = [*_largest("time", observed, expected, lambda row: words[row]), *_batches(sample, law)]
    yield from sorted(found, key=lambda place: -abs(place.deviation))[:SHOWN]


def _company_halves(sample: Sample, law: Law) -> Iterator[Place]:
    table = sample.company_halves
    words = ("first half of the batches", "second half of the batches")
    return _largest("company and time", table, _independent(table), lambda _, row: words[row])


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
    "event_times_digits": _digits,
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
    "driver_gaps": _gaps,
    "driver_times": _scatter,
    "company_times": _company_times,
    "types_two_apart": _types_apart,
    "types_by_place": _type_places,
    "types_by_driver_number": _types_by_number,
    "types_by_driver": _types_by_driver,
    "types_by_count": _types_by_count,
    "batch_trend": _halves,
    "batch_memory": _memory,
    "batch_companies": _companies,
    "batch_company_halves": _company_halves,
}
