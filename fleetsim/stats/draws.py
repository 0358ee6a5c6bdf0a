"""Fault-free data in memory: what the kit's own generator draws, as columns and as a sample."""

from __future__ import annotations

import numpy as np

from fleetsim.generate.config import Config
from fleetsim.generate.events import draw_events
from fleetsim.stats.sample import Columns, Sample, make_sample


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
        n_drivers=n_drivers(config),
        n_types=len(config.event_types),
        drivers_per_company=config.drivers_per_company,
        length_us=config.interval_us,
    )


def n_drivers(config: Config) -> int:
    """Return how many drivers a configuration has."""
    return config.number_of_companies * config.drivers_per_company
