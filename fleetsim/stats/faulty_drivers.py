"""Data with one known fault inside the drivers, below the millisecond or along the batches.

As in `faulty`: functions (Config, batches) -> Columns for the controls.
"""

from __future__ import annotations

import numpy as np

from fleetsim.generate.config import Config
from fleetsim.stats.arguments import Floats, Ints
from fleetsim.stats.draws import draw_columns, n_drivers
from fleetsim.stats.faulty import (
    changed,
    draw_types,
    from_counts,
    mixed_types,
    random_of,
    shifted_weights,
)
from fleetsim.stats.sample import Columns

_SECOND_US = 1_000_000

# Sizes of the faults, from which `controls` computes the power, too.
DEAD_TIME_US = 10 * _SECOND_US
MEMORY = 0.05  # share of a driver's events that come again in the next batch
HALVES, DRIFT, SWAY = 0.03, 0.05, 0.03  # whole relative difference: halves, ends, neighbours
LASTING_CV, CHANGE_CV = 0.08, 0.15  # of companies' rates, and of their change between halves


def _runs(columns: Columns) -> tuple[Columns, Ints, Ints]:
    """Return events by batch, driver and time, where each driver's begin, and how many it has."""
    order = np.lexsort((columns.offset_us, columns.driver, columns.batch))
    ordered = columns.take(order)
    new = np.ones(len(order), np.bool_)
    new[1:] = np.diff(ordered.driver).astype(bool) | np.diff(ordered.batch).astype(bool)
    starts = np.flatnonzero(new)
    return ordered, starts, np.diff(starts, append=len(order))


def _place(starts: Ints, sizes: Ints) -> Ints:
    """Return the place of each event among those of its driver in the batch, from 0."""
    place: Ints = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
    return place


# ---------------------------------------------------------------------------------------------
# Faults of the times
# ---------------------------------------------------------------------------------------------


def dead_time(config: Config, batches: int) -> Columns:
    """Return data where a driver's events keep ten seconds apart (a debounce)."""
    columns, starts, sizes = _runs(draw_columns(config, batches))
    length = config.interval_us
    apart = np.minimum(DEAD_TIME_US, length // np.maximum(2 * sizes, 1))
    room = np.repeat(length - (sizes - 1) * apart, sizes)
    # Uniform among all times that keep this distance.
    offset = (columns.offset_us * (room / length)).astype(np.int64)
    offset += _place(starts, sizes) * np.repeat(apart, sizes)
    return changed(columns, offset_us=offset)


def trips(config: Config, batches: int) -> Columns:
    """Return data where a third of the drivers have all events of a batch in half the interval.

    The half begins anywhere and goes on at the start, so that all events together are uniform.
    """
    columns, _, sizes = _runs(draw_columns(config, batches))
    random, length = random_of(config), config.interval_us
    start = np.repeat(random.integers(length, size=len(sizes)), sizes)
    on_trip = np.repeat(random.random(len(sizes)) < 1 / 3, sizes)
    near = (start + columns.offset_us // 2) % length
    return changed(columns, offset_us=np.where(on_trip, near, columns.offset_us))


def delayed_copies(config: Config, batches: int) -> Columns:
    """Return data where one event in a hundred comes again one second later."""
    columns, random = draw_columns(config, batches), random_of(config)
    again = random.random(len(columns)) < 0.01
    again &= columns.offset_us + _SECOND_US < config.interval_us
    copies = columns.take(again)
    return Columns(
        np.concatenate([columns.batch, copies.batch]),
        np.concatenate([columns.driver, copies.driver]),
        np.concatenate([columns.kind, copies.kind]),
        np.concatenate([columns.offset_us, copies.offset_us + _SECOND_US]),
    )


def company_spells(config: Config, batches: int) -> Columns:
    """Return data where each company has an eighth of its events in a tenth of the interval."""
    columns, random = draw_columns(config, batches), random_of(config)
    width = config.interval_us // 10
    shape = (batches, config.number_of_companies)
    start = random.integers(config.interval_us - width, size=shape)
    moved = random.random(len(columns)) < 0.125
    near = start[columns.batch, columns.driver // config.drivers_per_company]
    return changed(
        columns,
        offset_us=np.where(moved, near + columns.offset_us % width, columns.offset_us),
    )


def even_microseconds(config: Config, batches: int) -> Columns:
    """Return data where the microseconds are even."""
    columns = draw_columns(config, batches)
    return changed(columns, offset_us=columns.offset_us // 2 * 2)


def ten_microsecond_clock(config: Config, batches: int) -> Columns:
    """Return data of a clock that ticks every 10 us."""
    columns = draw_columns(config, batches)
    return changed(columns, offset_us=columns.offset_us // 10 * 10)


def wrong_millisecond_digit(config: Config, batches: int) -> Columns:
    """Return data where a millisecond that ends with 9 ends with 8."""
    columns = draw_columns(config, batches)
    nine = columns.offset_us // 1000 % 10 == 9
    return changed(columns, offset_us=columns.offset_us - 1000 * nine)


# ---------------------------------------------------------------------------------------------
# Faults of the types
# ---------------------------------------------------------------------------------------------


def types_by_number(config: Config, batches: int) -> Columns:
    """Return data where drivers of even and odd numbers differ by 10 points in the first type."""
    columns = draw_columns(config, batches)
    return mixed_types(config, columns, columns.driver % config.drivers_per_company % 2 == 0)


def types_by_driver(config: Config, batches: int) -> Columns:
    """Return data where drivers have their own mix of types, off by up to 20 points."""
    columns, random = draw_columns(config, batches), random_of(config)
    share = random.uniform(-0.20, 0.20, n_drivers(config))[columns.driver]
    up = np.array(shifted_weights(config, 0.20))
    down = np.array(shifted_weights(config, -0.20))
    # A mix of both, so that the first type is off by `share`.
    second = random.random(len(columns)) < (share + 0.20) / 0.40
    kinds = [draw_types(list(weights), len(columns), random) for weights in (up, down)]
    return changed(columns, kind=np.where(second, *kinds))


def types_by_count(config: Config, batches: int) -> Columns:
    """Return data where busy drivers differ from others by 10 points in the first type."""
    columns, _, sizes = _runs(draw_columns(config, batches))
    return mixed_types(config, columns, np.repeat(sizes > config.event_rate_per_driver, sizes))


def echoed_types(config: Config, batches: int) -> Columns:
    """Return data where a driver's type is that of the event before the last in 15 % of cases."""
    columns, starts, sizes = _runs(draw_columns(config, batches))
    kind = columns.kind.copy()
    keep = random_of(config).random(len(columns)) < 0.15
    for row in np.flatnonzero(keep & (_place(starts, sizes) >= 2)):  # in order
        kind[row] = kind[row - 2]
    return changed(columns, kind=kind)


def first_types(config: Config, batches: int) -> Columns:
    """Return data where the first type is 8 points commoner among the drivers' first events."""
    columns, starts, _ = _runs(draw_columns(config, batches))
    random, kind = random_of(config), columns.kind.copy()
    kind[starts] = draw_types(shifted_weights(config, 0.08), len(starts), random)
    return changed(columns, kind=kind)


# ---------------------------------------------------------------------------------------------
# Faults along the batches
# ---------------------------------------------------------------------------------------------


def memory(config: Config, batches: int) -> Columns:
    """Return data where a driver has 5 % of its events of the last batch again; counts Poisson."""
    random, rate = random_of(config), config.event_rate_per_driver
    counts = np.empty((batches, n_drivers(config)), np.int64)
    counts[0] = random.poisson(rate, n_drivers(config))
    for batch in range(1, batches):
        again = random.binomial(counts[batch - 1], MEMORY)
        counts[batch] = again + random.poisson(rate * (1 - MEMORY), n_drivers(config))
    return from_counts(counts, config, random)


def _with_rates(config: Config, factors: Floats) -> Columns:
    """Return data whose rates are multiplied by factors, float64 (B, 1) or (B, companies)."""
    random = random_of(config)
    rates = np.repeat(factors, n_drivers(config) // factors.shape[1], axis=1)
    counts = random.poisson(np.maximum(rates, 0) * config.event_rate_per_driver)
    return from_counts(counts.astype(np.int64), config, random)


def halves_of(batches: int) -> Floats:
    """Return the factors of a rate that is 3 % higher in the second half of the batches."""
    second = np.arange(batches) >= batches // 2
    return np.where(second, 1 + HALVES / 2, 1 - HALVES / 2)


def drift_of(batches: int) -> Floats:
    """Return the factors of a rate that rises by 5 % from the first batch to the last."""
    return np.linspace(1 - DRIFT / 2, 1 + DRIFT / 2, batches)


def sway_of(batches: int) -> Floats:
    """Return the factors of a rate that is 3 % higher in every second batch."""
    return np.where(np.arange(batches) % 2 == 1, 1 + SWAY / 2, 1 - SWAY / 2)


def unequal_halves(config: Config, batches: int) -> Columns:
    """Return data with the rates of `halves_of`."""
    return _with_rates(config, halves_of(batches)[:, None])


def drift(config: Config, batches: int) -> Columns:
    """Return data with the rates of `drift_of`."""
    return _with_rates(config, drift_of(batches)[:, None])


def sway(config: Config, batches: int) -> Columns:
    """Return data with the rates of `sway_of`."""
    return _with_rates(config, sway_of(batches)[:, None])


def lasting_company_rates(config: Config, batches: int) -> Columns:
    """Return data where companies have lasting rates of their own, standard deviation 8 %."""
    own = random_of(config, 9).standard_normal(config.number_of_companies)
    return _with_rates(config, np.broadcast_to(1 + LASTING_CV * own, (batches, len(own))))


def companies_that_change(config: Config, batches: int) -> Columns:
    """Return data where companies' rates change between halves, standard deviation 15 %."""
    own = random_of(config, 9).standard_normal(config.number_of_companies)
    second = np.arange(batches) >= batches // 2
    return _with_rates(config, 1 + CHANGE_CV * own * (second[:, None] - 0.5))
