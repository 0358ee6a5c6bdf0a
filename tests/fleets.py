"""Configurations and fleets for the tests of what makes, writes and reads batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fleetsim.generate.config import Config, make_config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.producer import Producer, expected_events

BASE: dict[str, Any] = {
    "seed": 42,
    "number_of_companies": 7,
    "drivers_per_company": 3,
    "event_rate_per_driver": 3.5,
    "company_onboarding_interval": "PT1H",
}
#: Names of event types that an encoder may stumble over.
NASTY = {
    'Überholt "links"': 0.25,
    "back\\slash": 0.25,
    "line\nend\ttab\x00nul\x7f": 0.125,
    "never": 0.0,
    "😀 zero last": 0.375,
    "ﬀ zero": 0.0,
}

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], max_codepoint=0x1F9FF), min_size=1, max_size=6
)
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 9), min_size=1, max_size=5).filter(
    lambda parts: any(parts.values())
)


def _shares(parts: dict[str, int]) -> dict[str, float]:
    return {name: part / sum(parts.values()) for name, part in parts.items()}


CONFIGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**64 - 1),
        "number_of_companies": st.integers(1, 40),
        "drivers_per_company": st.sampled_from([1, 2, 10, 50, 300]),
        "event_rate_per_driver": st.sampled_from([0, 0.01, 0.3, 1, 2.5]),
        "company_onboarding_interval": st.sampled_from(["PT1H", "PT0.5S", "P2D"]),
        "batch_interval": st.sampled_from(["PT15M", "PT0.000002S", "P1D", "PT1H0.25S"]),
        "event_types": WEIGHTS.map(_shares),
        "geographies": WEIGHTS.map(_shares),
        "active_fraction": st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    }
)


def make_fleet(companies: int, inactive: frozenset[int] = frozenset()) -> Fleet:
    """Return companies with ids of their own, some of them inactive."""
    ids = [hashlib.sha256(str(i).encode()).hexdigest()[:36] for i in range(companies)]
    return Fleet(
        company_id=np.frombuffer("".join(ids).encode(), np.uint8).reshape(-1, 36),
        active=np.array([i not in inactive for i in range(companies)]),
        created_us=np.full(companies, -(2**62)),
        sha256="",
    )


def content_of(
    config: Config,
    fleet: Fleet,
    start_us: int,
    ordinal: int,
    *,
    kernel: Kernel = "auto",
    jobs: int | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Yield the content of a batch piece by piece: number of events, and their JSON lines."""
    events = expected_events(config, fleet, start_us)
    with Producer(config, fleet, events, kernel=kernel, jobs=jobs) as producer:
        yield from producer.content(start_us, ordinal)


def hash_of_batches(kernel: Kernel = "compiled") -> str:
    """Return a hash of lines, of lines with defects and of columns; many events of each driver."""
    digest = hashlib.sha256()
    values = BASE | {"event_rate_per_driver": 60}
    for defects in ({}, {"defects": dict.fromkeys(DEFECT_KINDS, 0.02)}):
        config = make_config(values, defects)
        for _, lines in content_of(config, make_fleet(7), 0, 3, kernel=kernel):
            digest.update(lines)
    with Producer(make_config(values), make_fleet(7), 0, columns=True, kernel=kernel) as producer:
        for piece in producer.pieces(0, 0):
            digest.update(piece.columns.driver.tobytes())
            if piece.release:
                piece.release()
    return digest.hexdigest()
