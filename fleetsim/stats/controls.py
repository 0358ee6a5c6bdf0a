"""Generators that must fail: data with one known fault each, against which the tests are measured.

Nothing here is used to make data. A control takes a configuration (its seed included) and a number
of batches, and gives columns of events that look fault-free but for its fault (`faulty`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from scipy import stats as laws

from fleetsim.generate.config import Config
from fleetsim.generate.model import type_law
from fleetsim.stats import faulty, power
from fleetsim.stats import faulty_drivers as inside
from fleetsim.stats.batch_tests import contrasts
from fleetsim.stats.draws import n_drivers
from fleetsim.stats.effects import fit_power, trend_power
from fleetsim.stats.sample import Columns

ComputedPower = Callable[[Config, int, float], float]


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
    computed: Mapping[str, ComputedPower] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------
# Computed power
# ---------------------------------------------------------------------------------------------


def _events(config: Config, batches: int) -> float:
    return batches * n_drivers(config) * config.event_rate_per_driver


def _count_power(config: Config, batches: int, level: float) -> float:
    return power.poisson_power(_events(config, batches), faulty.RATE, level)


def _type_power(config: Config, batches: int, level: float) -> float:
    weights = type_law(config).probabilities
    shares = faulty.shifted_weights(config, faulty.POINTS)
    return power.category_power(_events(config, batches), weights, shares, level)


def _dispersion_power(config: Config, batches: int, level: float) -> float:
    """Return the power against negative-binomial counts, D normal with its own variance.

    D / (n - 1) is the sample's variance over its mean. With mean m, variance v and third and fourth
    central moments m3 and m4 the delta method gives it the variance
    (m4 - v**2 - 2 v m3 / m + v**3 / m**2) / (n m**2).
    """
    rate, size = config.event_rate_per_driver, batches * n_drivers(config)
    size_nb, p = rate / (faulty.RATIO - 1), 1 / faulty.RATIO
    variance = faulty.RATIO * rate
    third = variance**1.5 * (2 - p) / math.sqrt(size_nb * (1 - p))
    fourth = variance**2 * (3 + 6 / size_nb + p**2 / (size_nb * (1 - p)))
    spread = fourth - variance**2 - 2 * variance * third / rate + variance**3 / rate**2
    error = math.sqrt(spread / size) / rate
    df = size - 1
    low, high = (float(laws.chi2.isf(tail, df)) / df for tail in (1 - level / 2, level / 2))
    return float(
        laws.norm.cdf((low - faulty.RATIO) / error) + laws.norm.sf((high - faulty.RATIO) / error)
    )


def _fit_power(config: Config, batches: int, level: float) -> float:
    return fit_power(batches * n_drivers(config), config.event_rate_per_driver, faulty.RATIO, level)


def _trend_power(config: Config, batches: int, level: float) -> float:
    return trend_power(round(_events(config, batches)), faulty.SLOPE, level)


def _company_power(config: Config, batches: int, level: float) -> float:
    """Return the power against rates of companies with a coefficient of variation."""
    mean = config.drivers_per_company * config.event_rate_per_driver
    df = batches * (config.number_of_companies - 1)
    return power.dispersion_power(df, 1 + faulty.COMPANY_CV**2 * mean, level)


def _batch_power(config: Config, batches: int, level: float) -> float:
    return power.dispersion_power(batches, 1 + faulty.BATCH_CV**2 * _events(config, 1), level)


def _memory_power(config: Config, batches: int, level: float) -> float:
    """Return the power of a normal statistic against a correlation of consecutive batches."""
    shift = inside.MEMORY * math.sqrt((batches - 1) * (n_drivers(config) - 1))
    z = float(laws.norm.isf(level / 2))
    return float(laws.norm.sf(z - shift) + laws.norm.cdf(-z - shift))


def _trend_of(factors: Callable[[int], np.ndarray]) -> ComputedPower:
    """Return the power against rates with these factors, by the noncentral chi-square law."""

    def computed(config: Config, batches: int, level: float) -> float:
        basis = contrasts(batches)
        shift = _events(config, 1) * float(np.sum((basis.T @ factors(batches)) ** 2))
        df = basis.shape[1]
        return float(laws.ncx2.sf(laws.chi2.isf(level, df), df, shift))

    return computed


def _lasting_power(config: Config, batches: int, level: float) -> float:
    mean = batches * config.drivers_per_company * config.event_rate_per_driver
    df = config.number_of_companies - 1
    return power.dispersion_power(df, 1 + inside.LASTING_CV**2 * mean, level)


def _change_power(config: Config, batches: int, level: float) -> float:
    """Return the power against changes between halves: X2 is (1 + cv**2 mean / 4) chi-square."""
    mean = batches * config.drivers_per_company * config.event_rate_per_driver
    df = config.number_of_companies - 1
    return power.dispersion_power(df, 1 + inside.CHANGE_CV**2 * mean / 4, level)


def _certain(config: Config, batches: int, level: float) -> float:
    return 1.0


#: Every known fault, with the tests that are there for it.
CONTROLS: tuple[Control, ...] = (
    Control(
        name="rate_2_percent_high",
        fault="the rate is 2 % too high",
        draw=faulty.rate_off,
        caught_by=("event_count",),
        caught_in=32,
        computed={"event_count": _count_power},
    ),
    Control(
        name="negative_binomial_counts",
        fault="counts of drivers are negative binomial, variance/mean 1.25",
        draw=faulty.negative_binomial,
        caught_by=("events_per_driver_dispersion", "events_per_driver"),
        computed={
            "events_per_driver": _fit_power,
            "events_per_driver_dispersion": _dispersion_power,
        },
    ),
    Control(
        name="types_2_points_off",
        fault="the first type is 2 points too common, the second too rare",
        draw=faulty.types_off,
        caught_by=("event_types",),
        caught_in=32,
        computed={"event_types": _type_power},
    ),
    Control(
        name="time_at_interval_end",
        fault="one timestamp equals interval_end",
        draw=faulty.time_at_end,
        caught_by=("event_times_inside",),
        computed={"event_times_inside": _certain},
    ),
    Control(
        name="times_rounded_to_1_s",
        fault="timestamps are rounded, not floored, to a second",
        draw=faulty.rounded_times,
        caught_by=("event_times_ties", "event_times_second", "event_times_digits"),
        computed={"event_times_ties": _certain},
    ),
    Control(
        name="duplicated_events",
        fault="one event in 500 is duplicated",
        draw=faulty.duplicated,
        caught_by=("event_times_ties",),
    ),
    Control(
        name="same_stream_in_every_company",
        fault="every company repeats the first",
        draw=faulty.same_company,
        caught_by=("event_times_ties", "driver_number_totals", "company_totals"),
        computed={"event_times_ties": _certain},
    ),
    Control(
        name="same_seed_in_two_batches",
        fault="the second batch repeats the first",
        draw=faulty.same_seed,
        caught_by=("batch_ties", "batch_pairs"),
        batches=2,
        computed={"batch_ties": _certain, "batch_pairs": _certain},
    ),
    Control(
        name="lost_last_block",
        fault="the events of the last drivers are missing (the last block, or the last twentieth)",
        draw=faulty.lost_last_block,
        caught_by=("events_per_driver", "company_totals", "event_count"),
    ),
    Control(
        name="even_counts",
        fault="every driver has as many events as the next, give or take one",
        draw=faulty.even_counts,
        caught_by=("events_per_driver_dispersion", "events_per_driver"),
    ),
    Control(
        name="constant_total",
        fault="every batch has exactly the expected number of events",
        draw=faulty.constant_total,
        caught_by=("batch_totals",),
        batches=8,
        computed={"batch_totals": _certain},
    ),
    Control(
        name="wandering_rate",
        fault="the rate differs from batch to batch, standard deviation 5 %",
        draw=faulty.wandering_rate,
        caught_by=("batch_totals",),
        batches=8,
        computed={"batch_totals": _batch_power},
    ),
    Control(
        name="company_rates",
        fault="companies have rates of their own, standard deviation 15 %",
        draw=faulty.company_rates,
        caught_by=("company_totals",),
        computed={"company_totals": _company_power},
    ),
    Control(
        name="lasting_driver_rates",
        fault="drivers have lasting rates of their own, standard deviation 12 %",
        draw=faulty.lasting_rates,
        caught_by=("batch_drivers",),
        batches=8,
    ),
    Control(
        name="correlated_neighbours",
        fault="neighbours share half of their events' counts",
        draw=faulty.correlated_neighbours,
        caught_by=("driver_neighbours", "company_totals"),
    ),
    Control(
        name="dominating_driver",
        fault="one driver has a hundredth of all events",
        draw=faulty.dominating_driver,
        caught_by=("events_per_driver_dispersion",),
    ),
    Control(
        name="same_counts_in_two_batches",
        fault="drivers of the second batch have the counts of the first, with new times",
        draw=faulty.same_counts,
        caught_by=("batch_pairs",),
        batches=2,
        computed={"batch_pairs": _certain},
    ),
    Control(
        name="same_times_in_two_batches",
        fault="the second batch uses the offsets of the first, dealt anew",
        draw=faulty.same_times,
        caught_by=("batch_ties",),
        batches=2,
        computed={"batch_ties": _certain},
    ),
    Control(
        name="round_robin_types",
        fault="types follow each other in a fixed order",
        draw=faulty.round_robin,
        caught_by=("types_in_sequence", "types_by_company"),
    ),
    Control(
        name="sorted_types",
        fault="the types of a batch are sorted over its drivers",
        draw=faulty.sorted_types,
        caught_by=("types_by_company", "types_in_sequence"),
    ),
    Control(
        name="shuffled_deck_of_types",
        fault="every batch has exactly the expected share of each type",
        draw=faulty.shuffled_deck,
        caught_by=("batch_types",),
        batches=8,
        computed={"batch_types": _certain},
    ),
    Control(
        name="types_by_company",
        fault="the mix of types differs between companies, by up to 15 points",
        draw=faulty.types_by_company,
        caught_by=("types_by_company",),
    ),
    Control(
        name="types_by_time",
        fault="the mix of types differs between the halves of the interval, by 10 points",
        draw=faulty.types_by_time,
        caught_by=("types_by_time",),
    ),
    Control(
        name="sticky_types",
        fault="a driver's type is kept in 15 % of the steps",
        draw=faulty.sticky_types,
        caught_by=("types_in_sequence",),
    ),
    Control(
        name="millisecond_clock",
        fault="timestamps are floored to a millisecond",
        draw=faulty.millisecond_clock,
        caught_by=("event_times_digits", "event_times_ties"),
        computed={"event_times_digits": _certain},
    ),
    Control(
        name="clumped_times",
        fault="one event in ten follows another within 20 ms",
        draw=faulty.clumped_times,
        caught_by=("event_times_spacings",),
    ),
    Control(
        name="even_times",
        fault="times are stratified: one event in each N-th of the interval",
        draw=faulty.even_times,
        caught_by=("event_times_spacings", "event_times_cells"),
    ),
    Control(
        name="times_avoid_the_edges",
        fault="no event in the first and the last hundredth of the interval",
        draw=faulty.no_edges,
        caught_by=("event_times_ends", "event_times_edges"),
        computed={"event_times_ends": _certain},
    ),
    Control(
        name="rising_rate",
        fault="the rate rises over the interval, by 15 % of its mean at the end",
        draw=faulty.trend,
        caught_by=("event_times_edges", "event_times_uniform"),
        computed={"event_times_edges": _trend_power},
    ),
    Control(
        name="periodic_gaps",
        fault="no event in the last five seconds of a minute",
        draw=faulty.periodic_gaps,
        caught_by=("event_times_minute",),
    ),
    Control(
        name="busy_spells",
        fault="3 % of each batch's events fall in a spell of its own, a fiftieth of the interval",
        draw=faulty.busy_spells,
        caught_by=("batch_times",),
        batches=8,
    ),
    Control(
        name="dead_time_of_drivers",
        fault="a driver's events keep ten seconds apart, as by a debounce",
        draw=inside.dead_time,
        caught_by=("driver_gaps",),
    ),
    Control(
        name="delayed_copies",
        fault="one event in 100 comes again one second later",
        draw=inside.delayed_copies,
        caught_by=("driver_gaps",),
    ),
    Control(
        name="trips",
        fault="a third of the drivers have all events of a batch within half the interval",
        draw=inside.trips,
        caught_by=("driver_times", "driver_gaps"),
    ),
    Control(
        name="spells_of_companies",
        fault="each company has an eighth of its events in a tenth of the interval of its own",
        draw=inside.company_spells,
        caught_by=("company_times",),
    ),
    Control(
        name="even_microseconds",
        fault="the microseconds are even",
        draw=inside.even_microseconds,
        caught_by=("event_times_digits",),
        computed={"event_times_digits": _certain},
    ),
    Control(
        name="ten_microsecond_clock",
        fault="the clock ticks every 10 us",
        draw=inside.ten_microsecond_clock,
        caught_by=("event_times_digits",),
        computed={"event_times_digits": _certain},
    ),
    Control(
        name="wrong_millisecond_digit",
        fault="milliseconds that end with 9 end with 8",
        draw=inside.wrong_millisecond_digit,
        caught_by=("event_times_digits",),
        computed={"event_times_digits": _certain},
    ),
    Control(
        name="types_by_number",
        fault="the mix of types differs by 10 points between even and odd numbers of drivers",
        draw=inside.types_by_number,
        caught_by=("types_by_driver_number",),
    ),
    Control(
        name="types_by_driver",
        fault="drivers have a lasting mix of types of their own, off by up to 20 points",
        draw=inside.types_by_driver,
        caught_by=("types_by_driver",),
        batches=8,
    ),
    Control(
        name="types_by_count",
        fault="the mix of types differs by 10 points between busy drivers and the others",
        draw=inside.types_by_count,
        caught_by=("types_by_count",),
    ),
    Control(
        name="echoed_types",
        fault="a driver's type is that of the event before the last in 15 % of cases",
        draw=inside.echoed_types,
        caught_by=("types_two_apart",),
    ),
    Control(
        name="types_of_first_events",
        fault="the first type is 8 points commoner among the first events of drivers",
        draw=inside.first_types,
        caught_by=("types_by_place",),
        caught_in=8,
    ),
    Control(
        name="drivers_remember",
        fault="a driver has 5 % of its events of the last batch again, counts Poisson",
        draw=inside.memory,
        caught_by=("batch_memory",),
        batches=8,
        caught_in=32,
        computed={"batch_memory": _memory_power},
    ),
    Control(
        name="unequal_halves",
        fault="the rate is 3 % higher in the second half of the batches, the mean as it should be",
        draw=inside.unequal_halves,
        caught_by=("batch_trend",),
        batches=8,
        caught_in=48,
        computed={"batch_trend": _trend_of(inside.halves_of)},
    ),
    Control(
        name="drift_over_batches",
        fault="the rate rises by 5 % over the batches, the mean as it should be",
        draw=inside.drift,
        caught_by=("batch_trend",),
        batches=8,
        caught_in=48,
        computed={"batch_trend": _trend_of(inside.drift_of)},
    ),
    Control(
        name="every_second_batch",
        fault="every second batch has a rate that is 3 % higher, the mean as it should be",
        draw=inside.sway,
        caught_by=("batch_trend",),
        batches=8,
        caught_in=48,
        computed={"batch_trend": _trend_of(inside.sway_of)},
    ),
    Control(
        name="lasting_company_rates",
        fault="companies have lasting rates of their own, standard deviation 8 %",
        draw=inside.lasting_company_rates,
        caught_by=("batch_companies",),
        batches=8,
        computed={"batch_companies": _lasting_power},
    ),
    Control(
        name="companies_that_change",
        fault="companies' rates change between halves of the batches, standard deviation 15 %",
        draw=inside.companies_that_change,
        caught_by=("batch_company_halves",),
        batches=8,
        computed={"batch_company_halves": _change_power},
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
