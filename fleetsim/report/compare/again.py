"""Two runs measured again in turn, on one machine, from what their records hold.

Times of two runs compare only where machine and load were the same. Measured in turn, both meet the
same. Configuration, interval and batches are the records'; the code is the one that is installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import InputError
from fleetsim.base.files import PARTIAL, claim_folder
from fleetsim.base.project import source_hash
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.record import Record, cpu_model, read_record, versions
from fleetsim.experiment.results import one_line, own_folder
from fleetsim.generate.config import make_config
from fleetsim.measure.turns import Turn, Work, measure_in_turn
from fleetsim.report.compare.differences import BUSY
from fleetsim.report.compare.readback import WholeRun
from fleetsim.report.compare.rows import COSTS, Row, cost_figures, cost_row, other_work
from fleetsim.stats.two_samples import MIN_PAIRS, paired_test

OPTION = "--measure-again"
WORDS = "measured again, in turn, on this machine"
#: Most pairs, and most batches of a run that are made again, as of an experiment's.
MAX_PAIRS, _MAX_BATCHES = 1000, 10**6


class Plan(NamedTuple):
    """What is measured again: the works of A and B, and how many pairs."""

    works: tuple[Work, Work]
    pairs: int

    @property
    def processes(self) -> int:
        """How many cold processes make batches; the first two are not measured."""
        return 2 * self.pairs + 2


@dataclass(frozen=True)
class Again:
    """What was measured again.

    Attributes
    ----------
    turns : tuple of Turn
        The measured processes in their order; work 0 is A's, 1 is B's.
    loads : tuple of float
        Load average of the machine when they began and when they ended, their own work included.
    cores : int
    machine : str
        Name of the processor.
    version, source : str
        Of the code that both were measured with: fleetsim's version, SHA-256 of its sources.
    """

    turns: tuple[Turn, ...]
    loads: tuple[float, float]
    cores: int
    machine: str
    version: str
    source: str

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(self.turns) // 2

    @property
    def order(self) -> str:
        """Who came when, a letter each."""
        return "".join("AB"[turn.work] for turn in self.turns)

    def values(self, key: str) -> tuple[Any, Any]:
        """Return a quantity of A and of B, float64 (pairs,); those at one place are a pair."""
        sides = ([getattr(t.repeat, key) for t in self.turns if t.work == work] for work in (0, 1))
        a, b = (np.array(side, np.float64) for side in sides)
        return a, b

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``--json``."""
        return {
            "pairs": self.pairs,
            "order": self.order,
            "load_average": list(self.loads),
            "cores": self.cores,
            "cpu_model": self.machine,
            "fleetsim": self.version,
            "source_sha256": self.source,
            **{
                key: {"a": a.tolist(), "b": b.tolist()}
                for key, (a, b) in ((key, self.values(key)) for _, key, *_ in COSTS)
            },
        }


def can_be_again(record: Record) -> bool:
    """Return whether a run can be measured again from its record."""
    kind = kinds().get(record.description.kind)
    return kind is not None and kind.cold_batches and record.measurements is not None


def plan_again(a: Path, b: Path, pairs: int | None = None) -> Plan:
    """Return what is measured again of two runs.

    Parameters
    ----------
    a, b : Path
        Folders of the runs, which are only read.
    pairs : int, optional
        As many as the run with the more repeats has, by default.

    Raises
    ------
    InputError
        One error that lists why a run cannot be measured again.
    """
    if a.resolve() == b.resolve():
        raise InputError(OPTION, "A and B are one and the same run; allowed: two runs")
    works: list[Work] = []
    faults: list[str] = []
    repeats = MIN_PAIRS
    for letter, folder in (("A", a), ("B", b)):
        record = read_record(folder)
        try:
            works.append(_work(record))
        except InputError as error:
            faults += (f"{letter} ({one_line(folder.name)}): {fault}" for fault in error.faults)
        if record.measurements is not None:
            repeats = max(repeats, len(record.measurements.generation_seconds))
    if faults:
        next_step = f"leave {OPTION} away, or run both experiments again on one quiet machine"
        raise InputError(OPTION, *faults, next_step=next_step)
    return Plan((works[0], works[1]), pairs or min(repeats, MAX_PAIRS))


def _work(record: Record) -> Work:
    """Return what a run measured, as its record says.

    Raises
    ------
    InputError
        Where it cannot be measured again.
    """
    described = record.description
    able = [kind.name for kind in kinds().values() if kind.cold_batches]
    if described.kind not in able:
        raise InputError(
            OPTION,
            f"a run of kind {one_line(described.kind)} cannot be measured again; allowed: runs of "
            f"kind {' or '.join(able)}",
        )
    if record.measurements is None:
        raise InputError(OPTION, "it has no measurements; allowed: a run that has some")
    work = Work(make_config(record.config), described.interval, described.batches)
    now = work.interval == "now"
    try:
        _ = now or parse_time(work.interval)
    except ValueError as error:
        raise InputError(OPTION, f"its record is damaged: interval: {error}, or now") from None
    if not 1 <= work.batches <= (1 if now else _MAX_BATCHES):
        batches = f"batches: found {work.batches} with interval {work.interval}"
        raise InputError(OPTION, f"its record is damaged: {batches}")
    return work


def measure_again(
    plan: Plan, results: Path, progress: Callable[[int], object] | None = None
) -> Again:
    """Measure two runs again in turn, in a hidden folder of the results, which is gone afterwards.

    The results are on a disk that is meant for runs, so that events are flushed to what a run
    flushes them to. Each process takes the machine's right to measure, as those of runs do.

    Parameters
    ----------
    plan : Plan
    results : Path
        Made where it is not there.
    progress : callable, optional
        Called with 1 after each of ``plan.processes``.

    Raises
    ------
    InputError
        Where nothing can be written there.
    FleetsimError
        Where a process fails.
    """
    folder = own_folder(results / f".again-{uuid4().hex}{PARTIAL}", results)
    lock = claim_folder(folder)
    try:
        began = os.getloadavg()[0]
        turns = measure_in_turn(plan.works, folder, plan.pairs, progress=progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
    return Again(
        turns=tuple(turns),
        loads=(round(began, 2), round(os.getloadavg()[0], 2)),
        cores=os.cpu_count() or 1,
        machine=cpu_model(),
        version=versions()["fleetsim"],
        source=source_hash(),
    )


def again_rows(a: WholeRun, b: WholeRun, again: Again) -> Iterator[Row]:
    """Yield the rows of times and memory that were measured again, in place of the records'."""
    reason = other_work(a, b)
    for name, key, text, factor, unit in COSTS:
        values = [factor * side for side in again.values(key)]
        row = cost_figures(name, values, unit, ", measured again")
        yield cost_row(row, f"{text}, {WORDS}", paired_test(values[1], values[0]), reason)


def again_notes(a: Record, b: Record, again: Again) -> Iterator[str]:
    """Yield what is to be known of figures that were measured again."""
    began, ended = again.loads
    yield (
        f"{again.pairs} pairs of cold processes, one process after another (A B, B A, and so on), "
        f"on {again.machine} with {again.cores} cores. The load average was {began:g} when they "
        f"began, and {ended:g} when they ended, their own work included."
    )
    if began > BUSY * again.cores:
        yield (
            f"The machine did other work when they began ({BUSY * again.cores:g} is the limit). "
            "It met both runs alike; a quiet machine, or more pairs, make the intervals narrower."
        )
    others = [
        letter
        for letter, record in (("A", a), ("B", b))
        if record.provenance.get("source_sha256") != again.source
    ]
    code = f"fleetsim {again.version}, sources {again.source[:12]}"
    if not others:
        yield f"Both runs were made, and measured again, by the same code ({code})."
        return
    were = f"{' and '.join(others)} {'was' if len(others) == 1 else 'were'}"
    yield (
        f"Both were measured with the code that is installed now ({code}), and {were} made by "
        "other code. What that changed in times and memory is not in these figures: they compare "
        "the configurations alone."
    )
