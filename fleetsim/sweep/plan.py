"""The plan of a sweep: the points of an experiment's grid, and which of them are finished.

A point is known by its key, the hash of all that its content depends on. A completed run with that
key is the point's result; nothing else is remembered, so there is no state that could be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fleetsim.base.errors import InputError
from fleetsim.base.files import free_bytes, leads_out
from fleetsim.base.project import Project, source_hash
from fleetsim.base.strict import decoder
from fleetsim.base.terminal import warn
from fleetsim.experiment.expectation import expected_line_bytes
from fleetsim.experiment.grid import grid_points, grid_size
from fleetsim.experiment.record import decode_record
from fleetsim.experiment.results import (
    RECORD_NAME,
    Head,
    Status,
    own_folder,
    read_record_file,
)
from fleetsim.experiment.spec import Experiment, load_experiment, with_parameters
from fleetsim.experiment.steps import run_key
from fleetsim.generate.config import SEED_MAX

#: More runs than this are begun only when asked for twice.
MANY_RUNS = 10_000
#: More are refused.
MOST_RUNS = 10**6


@dataclass(frozen=True)
class Point:
    """One run of a sweep: what the grid sets and the seed, and the key of the whole."""

    number: int
    setting: dict[str, Any]
    seed: int
    key: str

    @property
    def parameters(self) -> dict[str, Any]:
        """What is given to the run."""
        return {**self.setting, "seed": self.seed}


@dataclass
class Sweep:
    """A sweep with what stands of it in the results.

    Attributes
    ----------
    project : Project
    name : str
        The experiment's id or path, as it was given.
    experiment : Experiment
    results : Path
        Folder of the results.
    points : list of Point
    finished : dict
        Key of a point to the folder of its newest completed run.
    failed : dict
        Key of a point to the folder of its newest failed run, where none was completed.
    damaged : list of str
        Records that cannot be read; they count for nothing.
    newest : Path or None
        Folder of the experiment's newest completed run, of whatever parameters.
    """

    project: Project
    name: str
    experiment: Experiment
    results: Path
    points: list[Point]
    finished: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, Path] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    newest: Path | None = None

    @property
    def folder(self) -> Path:
        """Folder of the experiment's runs."""
        return self.results / self.experiment.id

    def look(self) -> None:
        """See which points stand in the results."""
        self.finished, self.failed, self.damaged, self.newest = {}, {}, [], None
        wanted = {point.key for point in self.points}
        found: dict[Status, dict[str, Path]] = {status: {} for status in Status}
        # Names begin with the time of the run, so that the newest comes last.
        for path in sorted(self.folder.glob(f"[!.]*/{RECORD_NAME}")):
            if path.parent.is_symlink() and not leads_out(path.parent, self.folder):
                continue  # latest
            try:
                content = read_record_file(own_folder(path.parent, self.results))
            except InputError as error:
                why = "; ".join(error.faults)
                self.damaged.append(f"{path.parent.name}/{RECORD_NAME}: damaged: {why}")
                continue
            try:
                row = decoder(Head).decode(content)
                if row.key in wanted:
                    decode_record(content, Path(path.parent.name, RECORD_NAME))
            except InputError as error:
                self.damaged.append(str(error))
                continue
            except (msgspec.DecodeError, RecursionError) as error:
                self.damaged.append(f"{path.parent.name}/{RECORD_NAME}: damaged: {error}")
                continue
            if row.status == Status.COMPLETED:
                self.newest = path.parent
            if row.key in wanted:
                found[row.status][row.key] = path.parent
        self.finished, failed = found[Status.COMPLETED], found[Status.FAILED]
        self.failed = {key: path for key, path in failed.items() if key not in self.finished}

    def to_do(self, *, fresh: bool = False) -> list[Point]:
        """Return the points that have no completed run, or all of them."""
        return [point for point in self.points if fresh or point.key not in self.finished]


def plan_sweep(
    project: Project,
    name: str,
    *,
    results: str | None = None,
    sent: bool = False,
    fresh: bool = False,
    confirmed: bool = False,
) -> Sweep:
    """Return the points of an experiment's sweep, and which of them stand already.

    Parameters
    ----------
    project : Project
    name : str
        Id of the experiment, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    sent : bool
        Whether runs are sent away as they end, so that the disk has to hold only those under way.
    fresh : bool
        Whether finished points are to run again, and need room on the disk again.
    confirmed : bool
        Whether the user said yes to a sweep of more than `MANY_RUNS` runs, or to one that seems not
        to fit on the disk.

    Raises
    ------
    InputError
        Where the experiment is wrong, has no grid, makes one point twice, or is too large.
    """
    experiment = load_experiment(project, name)
    where = project.relative(project.experiment_file(name))
    if not experiment.axes and experiment.seeds == 1:
        raise InputError(
            where,
            "it has neither grid nor seeds: nothing to sweep over",
            next_step=f"add a grid, or use fleetsim run {name}",
        )
    size = grid_size(experiment.axes) * experiment.seeds
    if size > MANY_RUNS and not confirmed:
        raise InputError(
            where,
            f"{grid_size(experiment.axes)} points with {experiment.seeds} seed(s) make {size} "
            f"runs, more than {MANY_RUNS}",
            next_step="make the grid smaller, or say --yes",
        )
    if size > MOST_RUNS:
        raise InputError(
            where,
            f"its grid and seeds make {size} runs; allowed: at most {MOST_RUNS}",
            next_step="make the grid smaller, or several experiments of it",
        )
    if size > MANY_RUNS:
        warn(__name__, f"{where}: working out the keys of {size} runs")
    sources = project.notebook_hash(experiment.notebook), source_hash()
    points: list[Point] = []
    for number, setting in enumerate(_settings(experiment)):
        made = with_parameters(experiment, setting)
        seed = made.config.seed
        key = run_key(project, made, sources)
        points.append(Point(number, {k: v for k, v in setting.items() if k != "seed"}, seed, key))
    sweep = Sweep(project, name, experiment, project.results(results), points)
    _refuse_twins(where, points)
    sweep.look()
    if not confirmed:
        _refuse_what_does_not_fit(where, sweep, sweep.to_do(fresh=fresh), sent)
    return sweep


def _settings(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Yield the parameters of each run: each point of the grid with its seeds."""
    for setting in grid_points(experiment.axes):
        first = setting.get("seed", experiment.config.seed)
        for r in range(experiment.seeds):
            yield {**setting, "seed": (first + r) % (SEED_MAX + 1)}


def _refuse_twins(where: str, points: Sequence[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in points:
        twin = seen.setdefault(point.key, point)
        if twin is not point:
            raise InputError(
                where,
                f"grid: runs {twin.number + 1} and {point.number + 1} are the same: "
                f"{point.parameters}; allowed: every run once",
            )


def expected_run_events(experiment: Experiment) -> float:
    """Return how many events the batches of a run are expected to have together."""
    config = experiment.config
    drivers = config.number_of_companies * config.drivers_per_company * config.active_fraction
    return drivers * config.event_rate_per_driver * experiment.batches


def _refuse_what_does_not_fit(
    where: str, sweep: Sweep, points: Sequence[Point], sent: bool
) -> None:
    """Refuse a sweep whose data the file system has no room for."""
    runs = [with_parameters(sweep.experiment, point.parameters) for point in points]
    sizes = [expected_run_events(run) * expected_line_bytes(run.config) for run in runs]
    kept = sweep.experiment.keep_data and not sent
    needed = sum(sizes) if kept else 2 * max(sizes, default=0)
    free = free_bytes(sweep.results)
    if free is not None and needed > free:
        raise InputError(
            where,
            f"its runs are expected to need {needed / 1e9:.3g} GB; the file system of the results "
            f"has {free / 1e9:.3g} GB free",
            next_step="make the grid smaller, set keep_data: false, or say --yes",
        )
