"""What the page of a sweep says of the cost of a pipeline."""

from __future__ import annotations

import msgspec
from made_runs import made_record

from fleetsim.experiment.kind import Costs, kinds
from fleetsim.kinds.pipeline.evidence import Cost


class Section(msgspec.Struct):
    """The part of a record that matters here."""

    costs: list[Cost]


def test_only_whole_runs_count() -> None:
    """A run that did not end well says nothing of what a whole one takes."""
    whole = Cost(events=9, seconds=2.0, cpu_seconds=3.0, peak_bytes=4, output_bytes=5, well=True)
    broken = msgspec.structs.replace(whole, seconds=0.1, well=False)
    record = made_record()
    kind = kinds()["pipeline"]
    run = msgspec.structs.replace(record, section=Section([whole, broken]))
    assert kind.costs(run) == Costs([2.0], [3.0], [4])
    assert kind.costs(record) == Costs([], [], [])  # it came to no costs
