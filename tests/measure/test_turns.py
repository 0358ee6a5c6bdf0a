"""Works measured in turn: who comes when, that each process is a new one, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from analysis import config_of
from support import AT

from fleetsim.base.errors import FleetsimError
from fleetsim.measure import cold
from fleetsim.measure.child import Child, Launcher
from fleetsim.measure.turns import Work, measure_in_turn

SMALL = {"number_of_companies": 5, "drivers_per_company": 3}
SLIPS = {"missing_field": 0.1}


def works() -> list[Work]:
    """Return two works of one fleet, of which the second makes three batches."""
    dirty = config_of(**SMALL, defects=SLIPS)
    return [Work(config_of(**SMALL), "now", 1), Work(dirty, AT, 3)]


def test_each_round_does_each_work_once_and_every_other_one_backwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is that of the processes themselves, one unmeasured one of each work before."""
    ran: list[tuple[str, Child]] = []
    real = cold.run_child

    def spied(arguments: Sequence[str], cwd: Path, launcher: Launcher) -> Child:
        child = real(arguments, cwd, launcher)
        if arguments[0] == "events":
            ran.append((cwd.name, child))
        return child

    monkeypatch.setattr(cold, "run_child", spied)
    steps: list[int] = []
    turns = measure_in_turn(works(), tmp_path, 3, progress=steps.append)
    assert [name for name, _ in ran] == ["0", "1", "0", "1", "1", "0", "0", "1"]
    assert [turn.work for turn in turns] == [0, 1, 1, 0, 0, 1]
    assert steps == [1] * 8
    for turn, (_, child) in zip(turns, ran[2:], strict=True):
        assert turn.repeat.process_seconds == child.seconds
        assert turn.repeat.peak_rss_bytes == child.peak_rss_bytes
        assert 0 < turn.repeat.generation_seconds < child.seconds


def test_no_batch_is_left(tmp_path: Path) -> None:
    """Nor a ledger: configuration and companies stand there alone."""
    measure_in_turn(works(), tmp_path, 1)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {f"{i}/{name}" for i in "01" for name in ("config.json", "raw/companies.jsonl")}


def test_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not make the same again is no measurement of one work."""
    prints = iter("abac")
    monkeypatch.setattr(cold, "content_fingerprint", lambda batch: next(prints))
    two = [works()[0]] * 2
    with pytest.raises(FleetsimError, match="repeat 2 made other events than the first"):
        measure_in_turn(two, tmp_path, 3)
