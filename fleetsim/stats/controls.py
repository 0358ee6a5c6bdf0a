"""Generators that must fail: data with one known fault each, against which the tests are measured.

Nothing here is used to make data. A control takes a configuration (its seed included) and a number
of batches, and gives columns of events that look honest but for its fault. Faults are drawn with
NumPy's default generator, whose stream may change between versions: no golden value rests on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from scipy import stats as laws

from fleetsim.generate.config import Config
from fleetsim.generate.events import draw_events
from fleetsim.generate.model import type_law
from fleetsim.generate.streams import BLOCK
from fleetsim.stats import power
from fleetsim.stats.effects import fit_power, trend_power
from fleetsim.stats.sample import Columns, Ints, Sample, make_sample

_SECOND_US = 1_000_000
#: Sizes of the faults, shared by the control and its computed power.
_RATE, _RATIO, _POINTS, _COMPANY_CV, _BATCH_CV, _SLOPE = 1.02, 1.25, 0.02, 0.15, 0.05, 0.15

Power = Callable[[Config, int, float], float]


@dataclass(frozen=True, kw_only=True)
class Control:
    """One fault.

    Attributes
    ----------
    name : str
    fault : str
        What is wrong, in words.
    draw : callable
        (Config, batches) -> Columns; the configuration's seed is the only source of chance.
    caught_by : tuple of str
        Tests of the battery that are there for this fault, the strongest first.
    batches : int
        How many batches it takes to see it at all.
    caught_in : int
        How many it takes to catch it in nearly every seed; 0 where `batches` are enough.
    computed : mapping
        By test, (Config, batches, level) -> the computed power, where a formula exists.
    """

    name: str
    fault: str
    draw: Callable[[Config, int], Columns]
    caught_by: tuple[str, ...]
    batches: int = 1
    caught_in: int = 0
    computed: Mapping[str, Power] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------
# Honest data
# ---------------------------------------------------------------------------------------------


def draw_columns(config: Config, batches: int = 1) -> Columns:
    """Return what the kit's own generator draws: ordinals 0 .. batches - 1, all companies eligible.

    Parameters
    ----------
    config : Config
    batches : int
    """
    eligible = np.ones(config.number_of_companies, np.bool_)
    batch, driver, kind, offset = [[np.zeros(0, np.int64)] for _ in range(4)]
    for ordinal in range(batches):
        for part in draw_events(config, eligible, ordinal):
            batch.append(np.full(len(part), ordinal, np.int64))
            driver.append(part.driver)
            kind.append(part.drawn["event_type"].astype(np.int64, copy=False))
            offset.append(part.drawn["timestamp"].astype(np.int64, copy=False))
    return Columns(*(np.concatenate(column) for column in (batch, driver, kind, offset)))


def sample_of(columns: Columns, config: Config, batches: int = 1) -> Sample:
    """Return the sample of columns that hold all companies of a configuration."""
    return make_sample(
        columns,
        n_batches=batches,
        n_drivers=_drivers(config),
        n_types=len(config.event_types),
        drivers_per_company=config.drivers_per_company,
        length_us=config.interval_us,
    )


def _drivers(config: Config) -> int:
    return config.number_of_companies * config.drivers_per_company


def _random(config: Config) -> np.random.Generator:
    return np.random.default_rng([config.seed, 7])


def _from_counts(counts: Ints, config: Config, random: np.random.Generator) -> Columns:
    """Return honest types and times for given counts, int64 (B, drivers)."""
    batch, driver = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    weights = type_law(config).probabilities
    kind = random.choice(len(weights), size=len(batch), p=weights)
    return Columns(batch, driver, kind, random.integers(config.interval_us, size=len(batch)))


def _poisson(config: Config, batches: int, random: np.random.Generator) -> Ints:
    shape = (batches, _drivers(config))
    return random.poisson(config.event_rate_per_driver, shape).astype(np.int64)


def _changed(
    columns: Columns, *, kind: Ints | None = None, offset_us: Ints | None = None
) -> Columns:
    return Columns(
        columns.batch,
        columns.driver,
        columns.kind if kind is None else kind,
        columns.offset_us if offset_us is None else offset_us,
    )


def _draw_types(
    weights: tuple[float, ...] | list[float], size: int, random: np.random.Generator
) -> Ints:
    return random.choice(len(weights), size=size, p=weights).astype(np.int64)


def _shifted(config: Config, points: float) -> list[float]:
    """Return the weights with some points moved from the second type to the first."""
    weights = list(type_law(config).probabilities)
    weights[0] += points
    weights[1] -= points
    return weights


# ---------------------------------------------------------------------------------------------
# Faults of the counts
# ---------------------------------------------------------------------------------------------


def _rate_off(config: Config, batches: int) -> Columns:
    rate = config.event_rate_per_driver * _RATE
    return draw_columns(msgspec.structs.replace(config, event_rate_per_driver=rate), batches)


def _negative_binomial(config: Config, batches: int) -> Columns:
    random, rate = _random(config), config.event_rate_per_driver
    shape = (batches, _drivers(config))
    counts = random.negative_binomial(rate / (_RATIO - 1), 1 / _RATIO, shape)
    return _from_counts(counts.astype(np.int64), config, random)


def _even_counts(config: Config, batches: int) -> Columns:
    random, rate = _random(config), config.event_rate_per_driver
    extra = random.random((batches, _drivers(config))) < rate % 1
    return _from_counts(int(rate) + extra.astype(np.int64), config, random)


def _constant_total(config: Config, batches: int) -> Columns:
    random, drivers = _random(config), _drivers(config)
    total = round(drivers * config.event_rate_per_driver)
    counts = random.multinomial(total, np.full(drivers, 1 / drivers), size=batches)
    return _from_counts(counts.astype(np.int64), config, random)


def _wandering_rate(config: Config, batches: int) -> Columns:
    random = _random(config)
    factors = 1 + _BATCH_CV * random.standard_normal((batches, 1))
    rates = np.broadcast_to(
        config.event_rate_per_driver * np.maximum(factors, 0), (batches, _drivers(config))
    )
    return _from_counts(random.poisson(rates).astype(np.int64), config, random)


def _company_rates(config: Config, batches: int) -> Columns:
    random, shape = _random(config), 1 / _COMPANY_CV**2
    factors = random.gamma(shape, 1 / shape, (batches, config.number_of_companies))
    rates = np.repeat(factors, config.drivers_per_company, axis=1) * config.event_rate_per_driver
    return _from_counts(random.poisson(rates).astype(np.int64), config, random)


def _lasting_rates(config: Config, batches: int) -> Columns:
    random, shape = _random(config), 1 / 0.12**2
    factors = np.broadcast_to(
        random.gamma(shape, 1 / shape, _drivers(config)), (batches, _drivers(config))
    )
    counts = random.poisson(factors * config.event_rate_per_driver)
    return _from_counts(counts.astype(np.int64), config, random)


def _correlated_neighbours(config: Config, batches: int) -> Columns:
    random = _random(config)
    halves = random.poisson(config.event_rate_per_driver / 2, (batches, _drivers(config) + 1))
    return _from_counts((halves[:, 1:] + halves[:, :-1]).astype(np.int64), config, random)


def _dominating_driver(config: Config, batches: int) -> Columns:
    random = _random(config)
    counts = _poisson(config, batches, random)
    # Taken from the others, so that the total is as it should be.
    moved = random.binomial(counts, 0.01)
    counts -= moved
    counts[:, _drivers(config) // 2] += moved.sum(axis=1)
    return _from_counts(counts, config, random)


def _lost_last_block(config: Config, batches: int) -> Columns:
    columns, drivers = draw_columns(config, batches), _drivers(config)
    first = (drivers - 1) // BLOCK * BLOCK if drivers > BLOCK else drivers - max(1, drivers // 20)
    return columns.take(columns.driver < first)


def _same_company(config: Config, batches: int) -> Columns:
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


def _duplicated(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    twice = random.random(len(columns)) < 0.002
    return columns.take(np.repeat(np.arange(len(columns)), 1 + twice))


# ---------------------------------------------------------------------------------------------
# Faults of the batches
# ---------------------------------------------------------------------------------------------


def _same_seed(config: Config, batches: int) -> Columns:
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


def _same_counts(config: Config, batches: int) -> Columns:
    random = _random(config)
    counts = _poisson(config, batches, random)
    counts[1] = counts[0]
    return _from_counts(counts, config, random)


def _same_times(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    offset = columns.offset_us.copy()
    source = random.permutation(offset[columns.batch == 0])
    target = np.flatnonzero(columns.batch == 1)[: len(source)]
    offset[target] = source[: len(target)]
    return _changed(columns, offset_us=offset)


# ---------------------------------------------------------------------------------------------
# Faults of the types
# ---------------------------------------------------------------------------------------------


def _types_off(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    return _changed(columns, kind=_draw_types(_shifted(config, _POINTS), len(columns), random))


def _deck(config: Config, size: int) -> Ints:
    """Return types in fixed shares, as evenly as whole numbers allow, sorted."""
    ends = np.cumsum(type_law(config).probabilities)
    return np.minimum(
        np.searchsorted(ends, (np.arange(size) + 0.5) / max(size, 1)), len(ends) - 1
    ).astype(np.int64)


def _round_robin(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    deck = _deck(config, 20)
    # A step of 7 through 20 places mixes the types of the deck in a fixed order.
    return _changed(columns, kind=deck[np.arange(len(columns)) * 7 % 20])


def _sorted_types(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    kind = columns.kind.copy()
    for batch in range(batches):
        kind[columns.batch == batch] = np.sort(kind[columns.batch == batch])
    return _changed(columns, kind=kind)


def _shuffled_deck(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    kind = columns.kind.copy()
    for batch in range(batches):
        mine = columns.batch == batch
        kind[mine] = random.permutation(_deck(config, int(mine.sum())))
    return _changed(columns, kind=kind)


def _mixed_types(config: Config, columns: Columns, second: np.ndarray) -> Columns:
    """Return types whose first share is 5 points up in one half, and down in the other."""
    random = _random(config)
    up = _draw_types(_shifted(config, 0.05), len(columns), random)
    down = _draw_types(_shifted(config, -0.05), len(columns), random)
    return _changed(columns, kind=np.where(second, up, down))


def _types_by_company(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    random = np.random.default_rng([config.seed, 8])
    share = random.uniform(-0.15, 0.15, config.number_of_companies)
    company = columns.driver // config.drivers_per_company
    kind = columns.kind.copy()
    # Each company turns some of one type into the other, more or less often.
    change = random.random(len(columns)) < np.abs(share[company]) / 0.4
    kind[change & (kind == 0) & (share[company] > 0)] = 1
    kind[change & (kind == 1) & (share[company] < 0)] = 0
    return _changed(columns, kind=kind)


def _types_by_time(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    return _mixed_types(config, columns, columns.offset_us * 2 >= config.interval_us)


def _sticky_types(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    kind = columns.kind.copy()
    keep = random.random(len(columns)) < 0.15
    same = np.flatnonzero(
        keep[1:]
        & (columns.driver[1:] == columns.driver[:-1])
        & (columns.batch[1:] == columns.batch[:-1])
    )
    for row in same:  # in order: a type may be handed on more than once
        kind[row + 1] = kind[row]
    return _changed(columns, kind=kind)


# ---------------------------------------------------------------------------------------------
# Faults of the times
# ---------------------------------------------------------------------------------------------


def _time_at_end(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    offset = columns.offset_us.copy()
    if len(offset):
        offset[np.argmax(offset)] = config.interval_us
    return _changed(columns, offset_us=offset)


def _rounded_times(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    seconds = (columns.offset_us + _SECOND_US // 2) // _SECOND_US
    return _changed(columns, offset_us=seconds * _SECOND_US)


def _millisecond_clock(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    return _changed(columns, offset_us=columns.offset_us // 1000 * 1000)


def _clumped_times(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    offset = columns.offset_us.copy()
    order = np.lexsort((offset, columns.batch))
    follow = np.flatnonzero(random.random(len(order) - 1) < 0.1)
    same = columns.batch[order[follow]] == columns.batch[order[follow + 1]]
    follow = follow[same]
    near = offset[order[follow]] + random.integers(1, 20_000, len(follow))
    offset[order[follow + 1]] = np.minimum(near, config.interval_us - 1)
    return _changed(columns, offset_us=offset)


def _even_times(config: Config, batches: int) -> Columns:
    columns, random = draw_columns(config, batches), _random(config)
    offset = columns.offset_us.copy()
    for batch in range(batches):
        mine = np.flatnonzero(columns.batch == batch)
        places = (random.permutation(len(mine)) + random.random(len(mine))) / max(1, len(mine))
        offset[mine] = np.minimum(places * config.interval_us, config.interval_us - 1).astype(
            np.int64
        )
    return _changed(columns, offset_us=offset)


def _no_edges(config: Config, batches: int) -> Columns:
    columns = draw_columns(config, batches)
    margin = config.interval_us // 100
    inner = config.interval_us - 2 * margin
    return _changed(columns, offset_us=margin + columns.offset_us * inner // config.interval_us)


def _trend(config: Config, batches: int) -> Columns:
    """Return offsets with the density 1 + slope (2 u - 1): the later of two, now and then."""
    columns, random = draw_columns(config, batches), _random(config)
    late = random.random(len(columns)) < _SLOPE
    second = random.integers(config.interval_us, size=len(columns))
    return _changed(
        columns,
        offset_us=np.where(late, np.maximum(columns.offset_us, second), columns.offset_us),
    )


def _periodic_gaps(config: Config, batches: int) -> Columns:
    """Return offsets that avoid the last five seconds of every minute."""
    columns = draw_columns(config, batches)
    minute = 60 * _SECOND_US
    place = columns.offset_us % minute * 55 // 60
    return _changed(columns, offset_us=columns.offset_us // minute * minute + place)


def _busy_spells(config: Config, batches: int) -> Columns:
    """Return offsets of which each batch moves a fiftieth to a spell of its own."""
    columns, random = draw_columns(config, batches), _random(config)
    width = config.interval_us // 50
    start = random.integers(config.interval_us - width, size=batches)
    moved = random.random(len(columns)) < 0.03
    near = start[columns.batch] + columns.offset_us % width
    return _changed(columns, offset_us=np.where(moved, near, columns.offset_us))


# ---------------------------------------------------------------------------------------------
# Computed power
# ---------------------------------------------------------------------------------------------


def _events(config: Config, batches: int) -> float:
    return batches * _drivers(config) * config.event_rate_per_driver


def _count_power(config: Config, batches: int, level: float) -> float:
    return power.poisson_power(_events(config, batches), _RATE, level)


def _type_power(config: Config, batches: int, level: float) -> float:
    weights = np.array(type_law(config).probabilities)
    w2 = float(np.sum((np.array(_shifted(config, _POINTS)) - weights) ** 2 / weights))
    df = len(weights) - 1
    return float(laws.ncx2.sf(laws.chi2.isf(level, df), df, _events(config, batches) * w2))


def _scaled_power(df: int, ratio: float, level: float) -> float:
    """Return the power of a two-sided dispersion test where D is ratio times chi-square(df)."""
    low, high = (float(laws.chi2.isf(tail, df)) / ratio for tail in (1 - level / 2, level / 2))
    return float(laws.chi2.cdf(low, df) + laws.chi2.sf(high, df))


def _dispersion_power(config: Config, batches: int, level: float) -> float:
    """Return the power against negative-binomial counts, D normal with its own variance.

    D / (n - 1) is the sample's variance over its mean. With mean m, variance v and third and fourth
    central moments m3 and m4 the delta method gives it the variance
    (m4 - v**2 - 2 v m3 / m + v**3 / m**2) / (n m**2).
    """
    rate, size = config.event_rate_per_driver, batches * _drivers(config)
    size_nb, p = rate / (_RATIO - 1), 1 / _RATIO
    variance = _RATIO * rate
    third = variance**1.5 * (2 - p) / math.sqrt(size_nb * (1 - p))
    fourth = variance**2 * (3 + 6 / size_nb + p**2 / (size_nb * (1 - p)))
    spread = fourth - variance**2 - 2 * variance * third / rate + variance**3 / rate**2
    error = math.sqrt(spread / size) / rate
    df = size - 1
    low, high = (float(laws.chi2.isf(tail, df)) / df for tail in (1 - level / 2, level / 2))
    return float(laws.norm.cdf((low - _RATIO) / error) + laws.norm.sf((high - _RATIO) / error))


def _fit_power(config: Config, batches: int, level: float) -> float:
    return fit_power(batches * _drivers(config), config.event_rate_per_driver, _RATIO, level)


def _trend_power(config: Config, batches: int, level: float) -> float:
    return trend_power(round(_events(config, batches)), _SLOPE, level)


def _company_power(config: Config, batches: int, level: float) -> float:
    """Return the power against rates of companies with a coefficient of variation."""
    mean = config.drivers_per_company * config.event_rate_per_driver
    df = batches * (config.number_of_companies - 1)
    return _scaled_power(df, 1 + _COMPANY_CV**2 * mean, level)


def _batch_power(config: Config, batches: int, level: float) -> float:
    return _scaled_power(batches, 1 + _BATCH_CV**2 * _events(config, 1), level)


def _certain(config: Config, batches: int, level: float) -> float:
    return 1.0


CONTROLS: tuple[Control, ...] = (
    Control(
        name="rate_2_percent_high",
        fault="the rate is 2 % too high",
        draw=_rate_off,
        caught_by=("event_count",),
        caught_in=32,
        computed={"event_count": _count_power},
    ),
    Control(
        name="negative_binomial_counts",
        fault="counts of drivers are negative binomial, variance/mean 1.25",
        draw=_negative_binomial,
        caught_by=("events_per_driver_dispersion", "events_per_driver"),
        computed={
            "events_per_driver": _fit_power,
            "events_per_driver_dispersion": _dispersion_power,
        },
    ),
    Control(
        name="types_2_points_off",
        fault="the first type is 2 points too common, the second too rare",
        draw=_types_off,
        caught_by=("event_types",),
        caught_in=32,
        computed={"event_types": _type_power},
    ),
    Control(
        name="time_at_interval_end",
        fault="one timestamp equals interval_end",
        draw=_time_at_end,
        caught_by=("event_times_inside",),
        computed={"event_times_inside": _certain},
    ),
    Control(
        name="times_rounded_to_1_s",
        fault="timestamps are rounded, not floored, to a second",
        draw=_rounded_times,
        caught_by=("event_times_ties", "event_times_second", "event_times_millisecond"),
        computed={"event_times_ties": _certain},
    ),
    Control(
        name="duplicated_events",
        fault="one event in 500 stands twice",
        draw=_duplicated,
        caught_by=("event_times_ties",),
    ),
    Control(
        name="same_stream_in_every_company",
        fault="every company repeats the first",
        draw=_same_company,
        caught_by=("event_times_ties", "slot_totals", "company_totals"),
        computed={"event_times_ties": _certain},
    ),
    Control(
        name="same_seed_in_two_batches",
        fault="the second batch repeats the first",
        draw=_same_seed,
        caught_by=("batch_ties", "batch_pairs"),
        batches=2,
        computed={"batch_ties": _certain, "batch_pairs": _certain},
    ),
    Control(
        name="lost_last_block",
        fault="the events of the last drivers are missing (the last block, or the last twentieth)",
        draw=_lost_last_block,
        caught_by=("events_per_driver", "company_totals", "event_count"),
    ),
    Control(
        name="even_counts",
        fault="every driver has as many events as the next, give or take one",
        draw=_even_counts,
        caught_by=("events_per_driver_dispersion", "events_per_driver"),
    ),
    Control(
        name="constant_total",
        fault="every batch has exactly the expected number of events",
        draw=_constant_total,
        caught_by=("batch_totals",),
        batches=8,
        computed={"batch_totals": _certain},
    ),
    Control(
        name="wandering_rate",
        fault="the rate differs from batch to batch, standard deviation 5 %",
        draw=_wandering_rate,
        caught_by=("batch_totals",),
        batches=8,
        computed={"batch_totals": _batch_power},
    ),
    Control(
        name="company_rates",
        fault="companies have rates of their own, standard deviation 15 %",
        draw=_company_rates,
        caught_by=("company_totals",),
        computed={"company_totals": _company_power},
    ),
    Control(
        name="lasting_driver_rates",
        fault="drivers have lasting rates of their own, standard deviation 12 %",
        draw=_lasting_rates,
        caught_by=("batch_drivers",),
        batches=8,
    ),
    Control(
        name="correlated_neighbours",
        fault="neighbours share half of their events' counts",
        draw=_correlated_neighbours,
        caught_by=("driver_neighbours", "company_totals"),
    ),
    Control(
        name="dominating_driver",
        fault="one driver has a hundredth of all events",
        draw=_dominating_driver,
        caught_by=("events_per_driver_dispersion",),
    ),
    Control(
        name="same_counts_in_two_batches",
        fault="drivers of the second batch have the counts of the first, with new times",
        draw=_same_counts,
        caught_by=("batch_pairs",),
        batches=2,
        computed={"batch_pairs": _certain},
    ),
    Control(
        name="same_times_in_two_batches",
        fault="the second batch uses the offsets of the first, dealt anew",
        draw=_same_times,
        caught_by=("batch_ties",),
        batches=2,
        computed={"batch_ties": _certain},
    ),
    Control(
        name="round_robin_types",
        fault="types follow each other in a fixed order",
        draw=_round_robin,
        caught_by=("types_in_sequence", "types_by_company"),
    ),
    Control(
        name="sorted_types",
        fault="the types of a batch are sorted over its drivers",
        draw=_sorted_types,
        caught_by=("types_by_company", "types_in_sequence"),
    ),
    Control(
        name="shuffled_deck_of_types",
        fault="every batch has exactly the expected share of each type",
        draw=_shuffled_deck,
        caught_by=("batch_types",),
        batches=8,
        computed={"batch_types": _certain},
    ),
    Control(
        name="types_by_company",
        fault="the mix of types differs between companies, by up to 15 points",
        draw=_types_by_company,
        caught_by=("types_by_company",),
    ),
    Control(
        name="types_by_time",
        fault="the mix of types differs between the halves of the interval, by 10 points",
        draw=_types_by_time,
        caught_by=("types_by_time",),
    ),
    Control(
        name="sticky_types",
        fault="a driver's type is kept in 15 % of the steps",
        draw=_sticky_types,
        caught_by=("types_in_sequence",),
    ),
    Control(
        name="millisecond_clock",
        fault="timestamps are floored to a millisecond",
        draw=_millisecond_clock,
        caught_by=("event_times_millisecond", "event_times_ties"),
        computed={"event_times_millisecond": _certain},
    ),
    Control(
        name="clumped_times",
        fault="one event in ten follows another within 20 ms",
        draw=_clumped_times,
        caught_by=("event_times_spacings",),
    ),
    Control(
        name="even_times",
        fault="times are stratified: one event in each N-th of the interval",
        draw=_even_times,
        caught_by=("event_times_spacings", "event_times_cells"),
    ),
    Control(
        name="times_avoid_the_edges",
        fault="no event in the first and the last hundredth of the interval",
        draw=_no_edges,
        caught_by=("event_times_ends", "event_times_edges"),
        computed={"event_times_ends": _certain},
    ),
    Control(
        name="rising_rate",
        fault="the rate rises over the interval, by 15 % of its mean at the end",
        draw=_trend,
        caught_by=("event_times_edges", "event_times_uniform"),
        computed={"event_times_edges": _trend_power},
    ),
    Control(
        name="periodic_gaps",
        fault="no event in the last five seconds of a minute",
        draw=_periodic_gaps,
        caught_by=("event_times_minute",),
    ),
    Control(
        name="busy_spells",
        fault="3 % of each batch's events fall in a spell of its own, a fiftieth of the interval",
        draw=_busy_spells,
        caught_by=("batch_times",),
        batches=8,
    ),
)


def control_faults(config: Config) -> list[str]:
    """Return which controls a configuration has no room for, and why.

    A fault needs something to spoil: two types for wrong weights, a rate above zero, some drivers.
    """
    # What matters shows in a small fleet as well.
    small = msgspec.structs.replace(
        config,
        number_of_companies=min(config.number_of_companies, 100),
        drivers_per_company=min(config.drivers_per_company, 10),
        event_rate_per_driver=min(config.event_rate_per_driver, 10.0),
    )
    faults = []
    for control in CONTROLS:
        try:
            with np.errstate(divide="raise", invalid="raise"):
                control.draw(small, control.batches)
                for computed in control.computed.values():
                    computed(config, control.batches, 0.05)
        except (ValueError, IndexError, ArithmeticError) as error:
            faults.append(
                f"there is no room for the control {control.name} ({control.fault}): {error}"
            )
    return faults
