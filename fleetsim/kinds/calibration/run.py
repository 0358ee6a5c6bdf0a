"""A run that tests the tests: fault-free data by the thousand, and every control that must fail.

It writes no events: all data are drawn in memory, by the code that makes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleetsim.base.progress import notebook_bar
from fleetsim.base.project import Project
from fleetsim.base.tables import Table, counted, number
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import BaseRun, Summary, open_run
from fleetsim.kinds.calibration.trials import (
    CONTROL_TRIALS,
    Calibration,
    CalibrationRecord,
    CaughtRow,
    PowerRow,
    PValues,
    SizeRow,
    UniformRow,
    calibrate,
    make_calibration,
    measure_controls,
    process_pool,
)
from fleetsim.stats.controls import CONTROLS

_FAULTS = {control.name: control.fault for control in CONTROLS}


def open_calibration(experiment: str = "003-calibration", **parameters: Any) -> CalibrationRun:
    """Start a calibration of the tests, as `open_run` does."""
    run: CalibrationRun = open_run(experiment, kind="calibration", **parameters)
    return run


class CalibrationRun(BaseRun):
    """A calibration under way. The steps: calibrate, measure_controls, judge, finish.

    Parameters
    ----------
    project, experiment, results
        See `BaseRun`.
    workers : int
        Processes.
    """

    steps = ("calibrate", "measure_controls", "judge")

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        super().__init__(project, experiment, results, workers=workers)
        self._pool = process_pool(workers) if workers > 1 else None  # starts with the first work
        self._passes: tuple[PValues, ...] | None = None
        self._calibration: Calibration | None = None

    def calibrate(self) -> Table:
        """Run every test on the fault-free seeds, in one batch and many; return the rejections."""
        experiment = self.experiment
        sizes = list(dict.fromkeys((1, experiment.batches)))
        with notebook_bar(len(sizes) * experiment.keys.replicates, "seed") as update:
            self._passes = tuple(
                calibrate(
                    experiment.config,
                    experiment.keys.replicates,
                    batches,
                    workers=self._pool or 1,
                    progress=update,
                )
                for batches in sizes
            )
        return _rejection_table(make_calibration(self._passes, ()), experiment.keys.replicates)

    def uniformity(self) -> Table:
        """Return how far the p-values of each test are from uniform."""
        found = make_calibration(self._need(self._passes, "calibrate"), ())
        return _uniformity_table(found)

    def measure_controls(self) -> Table:
        """Try every control; return how often it is caught, beside the computed power."""
        passes, experiment = self._need(self._passes, "calibrate"), self.experiment
        with notebook_bar(CONTROL_TRIALS * experiment.keys.control_seeds, "seed") as update:
            controls, caught = measure_controls(
                experiment.config,
                experiment.keys.control_seeds,
                level=experiment.alpha,
                workers=self._pool or 1,
                progress=update,
            )
        self._calibration = make_calibration(passes, controls, caught)
        return _control_table(controls)

    def who_catches(self) -> Table:
        """Return for each control the tests of the battery that catch it most often."""
        return caught_table(self.evidence().caught)

    def evidence(self) -> Calibration:
        """Return what was found."""
        found: Calibration = self._need(self._calibration, "measure_controls")
        return found

    def judge(self) -> Table:
        """Decide every criterion on what was found; return the verdicts."""
        found = self.evidence()
        return self._judge(
            section=CalibrationRecord(
                rejections=list(found.sizes),
                uniformity=list(found.laws),
                controls=list(found.controls),
                caught=list(found.caught),
            ),
        )

    def finish(self, *, engine: str = "notebook") -> Summary:
        """Write record, document and parameters, and let the run appear under its name."""
        summary = super().finish(engine=engine)
        if self._pool is not None:
            self._pool.shutdown()
        return summary


#: Tests that a row of `caught_table` names, and the least share of the seeds that it takes.
NAMED, LEAST_SHARE = 4, 0.1


def caught_table(rows: Sequence[CaughtRow]) -> Table:
    """Return a row for each control: the tests that caught it most often, of all tests."""
    body = []
    for row in rows:
        order = sorted(row.caught.items(), key=lambda item: -item[1])
        told = [f"{test} {share:.2f}" for test, share in order if share >= LEAST_SHARE]
        more = f", {len(told) - NAMED} more" if len(told) > NAMED else ""
        names = ", ".join(told[:NAMED]) + more
        body.append((row.control, number(row.batches), names or f"none in {LEAST_SHARE:g}"))
    seeds = rows[0].seeds if rows else 0
    caption = (
        f"Share of {seeds} seeds in which a test decides after Holm's adjustment, for the "
        f"{NAMED} tests that catch most, from {LEAST_SHARE:g} on."
    )
    return Table(("control", "batches", "caught by"), tuple(body), caption)


def _rejection_table(found: Calibration, seeds: int) -> Table:
    """Return the counts with a row for each test and a column for each level and pass."""
    rows = {(row.test, row.batches, row.level): row for row in found.sizes}
    columns = list(dict.fromkeys((row.batches, row.level) for row in found.sizes))
    body = tuple(
        (test, *(_rejections(rows.get((test, *column)), seeds) for column in columns))
        for test in dict.fromkeys(row.test for row in found.sizes)
    )
    bands = []
    for batches, level in columns:
        alike = [row for row in found.sizes if (row.batches, row.level) == (batches, level)]
        low, high = max(alike, key=lambda row: (row.seeds, row.joint)).joint
        bands.append(f"{low} to {high} at {level:g}, {counted(batches)}")
    caption = (
        f"Rejections of {seeds} fault-free seeds by level and number of batches. Joint bands: "
        f"{'; '.join(bands)}. Discrete p-values have no lower limit."
    )
    header = ("test", *(f"{level:g}, {counted(batches)}" for batches, level in columns))
    return Table(header, body, caption)


def _rejections(row: SizeRow | None, seeds: int) -> str:
    if row is None:
        return "–"
    made = "" if row.seeds == seeds else f" of {row.seeds}"
    return f"{row.rejected}{made}{'' if row.inside else ' outside'}"


def _uniformity_table(found: Calibration) -> Table:
    rows = {(row.test, row.batches): row for row in found.laws}
    passes = list(dict.fromkeys(row.batches for row in found.laws))
    body = tuple(
        (test, *(text for batches in passes for text in _distance(rows.get((test, batches)))))
        for test in dict.fromkeys(row.test for row in found.laws)
    )
    limits = sorted({f"{row.limit:.2g}" for row in found.laws})
    caption = f"Kolmogorov-Smirnov distance; p below {' or '.join(limits)} speaks against the test."
    columns = (f"{what}, {counted(batches)}" for batches in passes for what in ("distance", "p"))
    return Table(("test", *columns), body, caption if limits else "")


def _distance(row: UniformRow | None) -> tuple[str, str]:
    if row is None:
        return "–", "–"
    return f"{row.distance:.4f}", f"{row.p_value:.3g}{'' if row.inside else ' not uniform'}"


def _control_table(controls: Sequence[PowerRow]) -> Table:
    """Return a row for each measurement; a fault is told once, in its first row."""
    rows, told = [], set()
    for row in controls:
        test = row.test if row.batches == 1 else f"{row.test}, {counted(row.batches)}"
        shares = (number(share, 3) for share in (row.share_holm, row.share))
        interval = f"{row.interval[0]:.3f}–{row.interval[1]:.3f}"
        fault = "" if row.control in told else f": {_FAULTS[row.control]}"
        told.add(row.control)
        rows.append((row.control + fault, test, *shares, interval, number(row.computed, 3)))
    header = ("control", "test", "caught", "power", "95 % interval", "computed")
    seeds = controls[0].seeds if controls else 0
    caption = (
        f"{seeds} seeds each. Caught: p below the level after Holm's adjustment. Power: the test's "
        "own, without it."
    )
    return Table(header, tuple(rows), caption)
