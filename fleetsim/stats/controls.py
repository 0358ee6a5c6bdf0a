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
        caught_by=("event_times_ties", "event_times_second", "event_times_millisecond"),
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
        caught_by=("event_times_millisecond", "event_times_ties"),
        computed={"event_times_millisecond": _certain},
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
