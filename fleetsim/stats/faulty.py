"""Data with one known fault each, drawn for the controls: a function (Config, batches) -> Columns.

The configuration's seed is the only source of chance. Faults are drawn with NumPy's default
generator, whose stream may change between versions: no golden value rests on them.
"""

from __future__ import annotations

import msgspec
import numpy as np

from fleetsim.generate.config import Config
from fleetsim.generate.model import type_law
from fleetsim.generate.streams import BLOCK
from fleetsim.stats.arguments import Ints
from fleetsim.stats.draws import draw_columns, n_drivers
from fleetsim.stats.sample import Columns

_SECOND_US = 1_000_000

# Sizes of the faults, from which `controls` computes the power, too.
RATE = 1.02  # of the configured rate
RATIO = 1.25  # variance/mean of the drivers' counts
POINTS = 0.02  # of the first type, taken from the second
COMPANY_CV, BATCH_CV = 0.15, 0.05  # coefficients of variation of rates
SLOPE = 0.15  # of the density at the interval's end, relative to its mean


def random_of(config: Config, stream: int = 7) -> np.random.Generator:
    """Return the generator of a control's own chance, which the configuration's seed decides."""
    return np.random.default_rng([config.seed, stream])


def from_counts(counts: Ints, config: Config, random: np.random.Generator) -> Columns:
    """Return fault-free types and times for given counts, int64 (B, drivers)."""
    batch, driver = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    weights = type_law(config).probabilities
    kind = random.choice(len(weights), size=len(batch), p=weights)
    return Columns(batch, driver, kind, random.integers(config.interval_us, size=len(batch)))


def _poisson(config: Config, batches: int, random: np.random.Generator) -> Ints:
    shape = (batches, n_drivers(config))
    return random.poisson(config.event_rate_per_driver, shape).astype(np.int64)


def changed(
    columns: Columns, *, kind: Ints | None = None, offset_us: Ints | None = None
) -> Columns:
    """Return the same events with other types or other times."""
    return Columns(
        columns.batch,
        columns.driver,
        columns.kind if kind is None else kind,
        columns.offset_us if offset_us is None else offset_us,
    )


def draw_types(
    weights: tuple[float, ...] | list[float], size: int, random: np.random.Generator
) -> Ints:
    """Return independent types, int64 (size,)."""
    return random.choice(len(weights), size=size, p=weights).astype(np.int64)


def shifted_weights(config: Config, points: float) -> list[float]:
    """Return the weights with some points moved from the second type to the first."""
    weights = list(type_law(config).probabilities)
    weights[0] += points
    weights[1] -= points
    return weights


# ---------------------------------------------------------------------------------------------
# Faults of the counts
# ---------------------------------------------------------------------------------------------


def rate_off(config: Config, batches: int) -> Columns:
    """Return data where the rate is 2 % too high."""
    rate = config.event_rate_per_driver * RATE
    return draw_columns(msgspec.structs.replace(config, event_rate_per_driver=rate), batches)


def negative_binomial(config: Config, batches: int) -> Columns:
    """Return data where counts of drivers are negative binomial, variance/mean 1.25."""
    random, rate = random_of(config), config.event_rate_per_driver
    shape = (batches, n_drivers(config))
    counts = random.negative_binomial(rate / (RATIO - 1), 1 / RATIO, shape)
    return from_counts(counts.astype(np.int64), config, random)


def even_counts(config: Config, batches: int) -> Columns:
    """Return data where every driver has as many events as the next, give or take one."""
    random, rate = random_of(config), config.event_rate_per_driver
    extra = random.random((batches, n_drivers(config))) < rate % 1
    return from_counts(int(rate) + extra.astype(np.int64), config, random)


def constant_total(config: Config, batches: int) -> Columns:
    """Return data where every batch has exactly the expected number of events."""
    random, drivers = random_of(config), n_drivers(config)
    total = round(drivers * config.event_rate_per_driver)
    counts = random.multinomial(total, np.full(drivers, 1 / drivers), size=batches)
    return from_counts(counts.astype(np.int64), config, random)


def wandering_rate(config: Config, batches: int) -> Columns:
    """Return data where the rate differs from batch to batch, standard deviation 5 %."""
    random = random_of(config)
    factors = 1 + BATCH_CV * random.standard_normal((batches, 1))
    rates = np.broadcast_to(
        config.event_rate_per_driver * np.maximum(factors, 0), (batches, n_drivers(config))
    )
    return from_counts(random.poisson(rates).astype(np.int64), config, random)


def company_rates(config: Config, batches: int) -> Columns:
    """Return data where companies have rates of their own, standard deviation 15 %."""
    random, shape = random_of(config), 1 / COMPANY_CV**2
    factors = random.gamma(shape, 1 / shape, (batches, config.number_of_companies))
    rates = np.repeat(factors, config.drivers_per_company, axis=1) * config.event_rate_per_driver
    return from_counts(random.poisson(rates).astype(np.int64), config, random)


def lasting_rates(config: Config, batches: int) -> Columns:
    """Return data where drivers have lasting rates of their own, standard deviation 12 %."""
    random, shape = random_of(config), 1 / 0.12**2
    factors = np.broadcast_to(
        random.gamma(shape, 1 / shape, n_drivers(config)), (batches, n_drivers(config))
    )
    counts = random.poisson(factors * config.event_rate_per_driver)
    return from_counts(counts.astype(np.int64), config, random)


def correlated_neighbours(config: Config, batches: int) -> Columns:
    """Return data where neighbours share half of their events' counts."""
    random = random_of(config)
    halves = random.poisson(config.event_rate_per_driver / 2, (batches, n_drivers(config) + 1))
    return from_counts((halves[:, 1:] + halves[:, :-1]).astype(np.int64), config, random)


def dominating_driver(config: Config, batches: int) -> Columns:
    """Return data where one driver has a hundredth of all events."""
    random = random_of(config)
    counts = _poisson(config, batches, random)
    # Taken from the others, so that the total is as it should be.
    moved = random.binomial(counts, 0.01)
    counts -= moved
    counts[:, n_drivers(config) // 2] += moved.sum(axis=1)
    return from_counts(counts, config, random)


def lost_last_block(config: Config, batches: int) -> Columns:
    """Return data where the events of the last block of drivers (or last twentieth) are missing."""
    columns, drivers = draw_columns(config, batches), n_drivers(config)
    first = (drivers - 1) // BLOCK * BLOCK if drivers > BLOCK else drivers - max(1, drivers // 20)
    return columns.take(columns.driver < first)


def same_company(config: Config, batches: int) -> Columns:
    """Return data where every company repeats the first."""
    columns, per_company = draw_columns(config, batches), config.drivers_per_company
    first = columns.take(columns.driver < per_company)
    copies = config.number_of_companies
    step = np.repeat(np.arange(copies, dtype=np.int64) * per_company, len(first))
    return Columns(
        np.tile(first.batch, copies),
        np.tile(first.driver, copies) + step,
        np.tile(first.kind, copies),
        np.tile(first.offset_us, copies),
    )


def duplicated(config: Config, batches: int) -> Columns:
    """Return data where one event in 500 stands twice."""
    columns, random = draw_columns(config, batches), random_of(config)
    twice = random.random(len(columns)) < 0.002
    return columns.take(np.repeat(np.arange(len(columns)), 1 + twice))


# ---------------------------------------------------------------------------------------------
# Faults of the batches
# ---------------------------------------------------------------------------------------------


def same_seed(config: Config, batches: int) -> Columns:
    """Return data where the second batch repeats the first."""
    columns = draw_columns(config, batches)
    first = columns.take(columns.batch == 0)
    copy = Columns(np.ones_like(first.batch), first.driver, first.kind, first.offset_us)
    rest = columns.take(columns.batch != 1)
    return Columns(
        *(
            np.concatenate([getattr(rest, name), getattr(copy, name)])
            for name in ("batch", "driver", "kind", "offset_us")
        )
    )


def same_counts(config: Config, batches: int) -> Columns:
    """Return data where the second batch has the counts of the first, with new times."""
    random = random_of(config)
    counts = _poisson(config, batches, random)
    counts[1] = counts[0]
    return from_counts(counts, config, random)


def same_times(config: Config, batches: int) -> Columns:
    """Return data where the second batch uses the offsets of the first in another order."""
    columns, random = draw_columns(config, batches), random_of(config)
    offset = columns.offset_us.copy()
    source = random.permutation(offset[columns.batch == 0])
    target = np.flatnonzero(columns.batch == 1)[: len(source)]
    offset[target] = source[: len(target)]
    return changed(columns, offset_us=offset)


# ---------------------------------------------------------------------------------------------
# Faults of the types
# ---------------------------------------------------------------------------------------------


def types_off(config: Config, batches: int) -> Columns:
    """Return data where the first type is 2 points too common, the second too rare."""
    columns, random = draw_columns(config, batches), random_of(config)
    return changed(columns, kind=draw_types(shifted_weights(config, POINTS), len(columns), random))


def _deck(config: Config, size: int) -> Ints:
    """Return types in fixed shares, as evenly as whole numbers allow, sorted."""
    ends = np.cumsum(type_law(config).probabilities)
    return np.minimum(
        np.searchsorted(ends, (np.arange(size) + 0.5) / max(size, 1)), len(ends) - 1
    ).astype(np.int64)


def round_robin(config: Config, batches: int) -> Columns:
    """Return data where types follow each other in a fixed order."""
    columns = draw_columns(config, batches)
    deck = _deck(config, 20)
    # A step of 7 through 20 places mixes the types of the deck in a fixed order.
    return changed(columns, kind=deck[np.arange(len(columns)) * 7 % 20])


def sorted_types(config: Config, batches: int) -> Columns:
    """Return data where the types of a batch are sorted over its drivers."""
    columns = draw_columns(config, batches)
    kind = columns.kind.copy()
    for batch in range(batches):
        kind[columns.batch == batch] = np.sort(kind[columns.batch == batch])
    return changed(columns, kind=kind)


def shuffled_deck(config: Config, batches: int) -> Columns:
    """Return data where every batch has exactly the expected share of each type."""
    columns, random = draw_columns(config, batches), random_of(config)
    kind = columns.kind.copy()
    for batch in range(batches):
        mine = columns.batch == batch
        kind[mine] = random.permutation(_deck(config, int(mine.sum())))
    return changed(columns, kind=kind)


def mixed_types(config: Config, columns: Columns, second: np.ndarray) -> Columns:
    """Return types whose first share is 5 points up in one half, and down in the other."""
    random = random_of(config)
    up = draw_types(shifted_weights(config, 0.05), len(columns), random)
    down = draw_types(shifted_weights(config, -0.05), len(columns), random)
    return changed(columns, kind=np.where(second, up, down))


def types_by_company(config: Config, batches: int) -> Columns:
    """Return data where the mix of types differs between companies, by up to 15 points."""
    columns = draw_columns(config, batches)
    random = np.random.default_rng([config.seed, 8])
    share = random.uniform(-0.15, 0.15, config.number_of_companies)
    company = columns.driver // config.drivers_per_company
    kind = columns.kind.copy()
    # Each company turns some of one type into the other, more or less often.
    change = random.random(len(columns)) < np.abs(share[company]) / 0.4
    kind[change & (kind == 0) & (share[company] > 0)] = 1
    kind[change & (kind == 1) & (share[company] < 0)] = 0
    return changed(columns, kind=kind)


def types_by_time(config: Config, batches: int) -> Columns:
    """Return data where the mix of types differs by 10 points between halves of the interval."""
    columns = draw_columns(config, batches)
    return mixed_types(config, columns, columns.offset_us * 2 >= config.interval_us)


def sticky_types(config: Config, batches: int) -> Columns:
    """Return data where a driver's type is kept in 15 % of the steps."""
    columns, random = draw_columns(config, batches), random_of(config)
    kind = columns.kind.copy()
    keep = random.random(len(columns)) < 0.15
    same = np.flatnonzero(
        keep[1:]
        & (columns.driver[1:] == columns.driver[:-1])
        & (columns.batch[1:] == columns.batch[:-1])
    )
    for row in same:  # in order: a type may be handed on more than once
        kind[row + 1] = kind[row]
    return changed(columns, kind=kind)


# ---------------------------------------------------------------------------------------------
# Faults of the times
# ---------------------------------------------------------------------------------------------


def time_at_end(config: Config, batches: int) -> Columns:
    """Return data where one timestamp equals interval_end."""
    columns = draw_columns(config, batches)
    offset = columns.offset_us.copy()
    if len(offset):
        offset[np.argmax(offset)] = config.interval_us
    return changed(columns, offset_us=offset)


def rounded_times(config: Config, batches: int) -> Columns:
    """Return data where timestamps are rounded, not floored, to a second."""
    columns = draw_columns(config, batches)
    seconds = (columns.offset_us + _SECOND_US // 2) // _SECOND_US
    return changed(columns, offset_us=seconds * _SECOND_US)


def millisecond_clock(config: Config, batches: int) -> Columns:
    """Return data where timestamps are floored to a millisecond."""
    columns = draw_columns(config, batches)
    return changed(columns, offset_us=columns.offset_us // 1000 * 1000)


def clumped_times(config: Config, batches: int) -> Columns:
    """Return data where one event in ten follows another within 20 ms."""
    columns, random = draw_columns(config, batches), random_of(config)
    offset = columns.offset_us.copy()
    order = np.lexsort((offset, columns.batch))
    follow = np.flatnonzero(random.random(len(order) - 1) < 0.1)
    same = columns.batch[order[follow]] == columns.batch[order[follow + 1]]
    follow = follow[same]
    near = offset[order[follow]] + random.integers(1, 20_000, len(follow))
    offset[order[follow + 1]] = np.minimum(near, config.interval_us - 1)
    return changed(columns, offset_us=offset)


def even_times(config: Config, batches: int) -> Columns:
    """Return data where times are stratified: one event in each N-th of the interval."""
    columns, random = draw_columns(config, batches), random_of(config)
    offset = columns.offset_us.copy()
    for batch in range(batches):
        mine = np.flatnonzero(columns.batch == batch)
        places = (random.permutation(len(mine)) + random.random(len(mine))) / max(1, len(mine))
        offset[mine] = np.minimum(places * config.interval_us, config.interval_us - 1).astype(
            np.int64
        )
    return changed(columns, offset_us=offset)


def no_edges(config: Config, batches: int) -> Columns:
    """Return data where no event is in the first and the last hundredth of the interval."""
    columns = draw_columns(config, batches)
    margin = config.interval_us // 100
    inner = config.interval_us - 2 * margin
    return changed(columns, offset_us=margin + columns.offset_us * inner // config.interval_us)


def trend(config: Config, batches: int) -> Columns:
    """Return offsets with the density 1 + slope (2 u - 1): the later of two, now and then."""
    columns, random = draw_columns(config, batches), random_of(config)
    late = random.random(len(columns)) < SLOPE
    second = random.integers(config.interval_us, size=len(columns))
    return changed(
        columns,
        offset_us=np.where(late, np.maximum(columns.offset_us, second), columns.offset_us),
    )


def periodic_gaps(config: Config, batches: int) -> Columns:
    """Return offsets that avoid the last five seconds of every minute."""
    columns = draw_columns(config, batches)
    minute = 60 * _SECOND_US
    place = columns.offset_us % minute * 55 // 60
    return changed(columns, offset_us=columns.offset_us // minute * minute + place)


def busy_spells(config: Config, batches: int) -> Columns:
    """Return offsets of which each batch moves a fiftieth to a spell of its own."""
    columns, random = draw_columns(config, batches), random_of(config)
    width = config.interval_us // 50
    start = random.integers(config.interval_us - width, size=batches)
    moved = random.random(len(columns)) < 0.03
    near = start[columns.batch] + columns.offset_us % width
    return changed(columns, offset_us=np.where(moved, near, columns.offset_us))
