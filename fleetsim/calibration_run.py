"""A run that tests the tests: honest data by the thousand, and every control that must fail.

It writes no events: all data are drawn in memory, by the code that makes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fleetsim.calibration import (
    CONTROL_TRIALS,
    Calibration,
    PowerRow,
    PValues,
    SizeRow,
    UniformRow,
    calibrate,
    counted,
    make_calibration,
    measure_controls,
    process_pool,
)
from fleetsim.calibration_plots import CALIBRATION_PLOTS, draw_calibration
from fleetsim.controls import CONTROLS
from fleetsim.crew import cores
from fleetsim.experiment import Experiment
from fleetsim.plots import ShownFigure
from fleetsim.progress import notebook_bar
from fleetsim.project import Project
from fleetsim.record import CalibrationRecord
from fleetsim.run import BaseRun, Summary, find_experiment
from fleetsim.tables import Table, number

__all__ = ["CalibrationRun", "open_calibration"]

NOTEBOOK = "calibration.ipynb"
_FAULTS = {control.name: control.fault for control in CONTROLS}


def open_calibration(
    experiment: str = "003-calibration",
    results: str | None = None,
    replicates: int | None = None,
    control_seeds: int | None = None,
    *,
    workers: int | None = None,
    **configuration: Any,
) -> CalibrationRun:
    """Start a calibration of the tests.

    Parameters
    ----------
    experiment : str
        Id of an experiment of calibration.ipynb, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    replicates : int, optional
        Honest seeds.
    control_seeds : int, optional
        Seeds with which each control is tried.
    workers : int, optional
        Processes; as many as there are cores by default. No figure depends on it.
    **configuration
        Scalar keys of the configuration. None means "as the YAML says", here and above.

    Raises
    ------
    InputError
        Where the experiment or a parameter is wrong, or the configuration leaves no room for a
        control; nothing has been written.
    """
    parameters = {"replicates": replicates, "control_seeds": control_seeds, **configuration}
    project, loaded, folder = find_experiment(NOTEBOOK, experiment, results, parameters)
    return CalibrationRun(project, loaded, folder, workers=workers or cores())


class CalibrationRun(BaseRun):
    """A calibration under way. The steps: calibrate, measure_controls, judge, finish.

    Parameters
    ----------
    project, experiment, results
        See `BaseRun`.
    workers : int
        Processes.
    """

    plots = CALIBRATION_PLOTS
    steps = ("calibrate", "measure_controls", "judge")

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        super().__init__(project, experiment, results)
        self._pool = process_pool(workers) if workers > 1 else None  # starts with the first work
        self._passes: tuple[PValues, ...] | None = None
        self._calibration: Calibration | None = None

    def calibrate(self) -> Table:
        """Run every test on the honest seeds, in one batch and in many; return the rejections."""
        experiment = self.experiment
        sizes = list(dict.fromkeys((1, experiment.batches)))
        with notebook_bar(len(sizes) * experiment.replicates, "seed") as update:
            self._passes = tuple(
                calibrate(
                    experiment.config,
                    experiment.replicates,
                    batches,
                    workers=self._pool or 1,
                    progress=update,
                )
                for batches in sizes
            )
        return _rejection_table(make_calibration(self._passes, ()), experiment.replicates)

    def uniformity(self) -> Table:
        """Return how far the p-values of each test are from uniform."""
        found = make_calibration(self._need(self._passes, "calibrate"), ())
        return _uniformity_table(found)

    def measure_controls(self) -> Table:
        """Try every control; return how often it is caught, beside the computed power."""
        passes, experiment = self._need(self._passes, "calibrate"), self.experiment
        with notebook_bar(CONTROL_TRIALS * experiment.control_seeds, "seed") as update:
            controls = measure_controls(
                experiment.config,
                experiment.control_seeds,
                level=experiment.alpha,
                workers=self._pool or 1,
                progress=update,
            )
        self._calibration = make_calibration(passes, controls)
        return _control_table(controls)

    def plot(self, name: str) -> ShownFigure:
        """Draw a plot of `CALIBRATION_PLOTS`, keep it under ``figures/`` and show it."""

        def make() -> tuple[Figure, str]:
            return draw_calibration(name, self._need(self._calibration, "measure_controls"))

        return self._draw(name, make)

    def judge(self) -> Table:
        """Decide every criterion on what was found; return the verdicts."""
        found = self._need(self._calibration, "measure_controls")
        return self._judge(
            found,
            calibration=CalibrationRecord(
                rejections=list(found.sizes),
                uniformity=list(found.laws),
                controls=list(found.controls),
            ),
        )

    def finish(self, *, engine: str = "notebook") -> Summary:
        """Write record, document and parameters, and let the run appear under its name."""
        summary = super().finish(engine=engine)
        if self._pool is not None:
            self._pool.shutdown()
        return summary


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
        f"Rejections of {seeds} honest seeds by level and number of batches. Joint bands: "
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
