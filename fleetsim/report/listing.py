"""The runs that stand in a results folder: found, read as far as a list needs it, filtered, sorted.

Nothing of the analysis is loaded here, so that hundreds of runs list at once; `record` reads the
whole of one run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import FleetsimError, InputError, found, nearest, refused
from fleetsim.base.project import Project
from fleetsim.base.storage import is_remote
from fleetsim.base.strict import decoder
from fleetsim.base.tables import Table
from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.experiment.answer import Answer, known_answer
from fleetsim.experiment.results import (
    ENDED,
    LATEST,
    RECORD_NAME,
    SWEEP_FIGURES,
    Head,
    RunError,
    Status,
    one_line,
    own_folder,
    read_versioned,
)

#: What stands in place of an answer.
RUN_FAILED = "run failed"


class _Judged(msgspec.Struct, frozen=True):
    id: str
    verdict: Verdict
    title: str = ""
    observed: float | bool | None = None
    brief: str = ""


class _Titled(msgspec.Struct, frozen=True):
    title: str


class _Listed(Head, frozen=True, kw_only=True):
    """What a list shows of a record; everything else in it is passed over."""

    experiment: str
    run_id: str
    error: RunError | None
    started: str
    finished: str
    parameters: dict[str, Any]
    description: _Titled
    answer: Answer | None = None
    criteria: list[_Judged]


decoder(_Listed)  # made with the module, before there are threads


@dataclass(frozen=True)
class ListedRun:
    """One run of a list.

    Attributes
    ----------
    folder : Path
    experiment, title, run_id, started : str
    status : Status
        Completed or failed.
    error : RunError or None
    seconds : float
        From the start of the run to its end.
    parameters : dict
        Every effective parameter, the seed too.
    verdicts, observed : dict
        Verdict and observed value of each criterion that was judged, by its id.
    answer : Answer or None
        None where the run failed.
    """

    folder: Path
    experiment: str
    title: str
    run_id: str
    started: str
    status: Status
    error: RunError | None
    seconds: float
    parameters: dict[str, Any]
    verdicts: dict[str, Verdict]
    observed: dict[str, float | bool | None]
    answer: Answer | None

    @property
    def outlook(self) -> str:
        """What became of its hypothesis, or that there is none since the run failed."""
        return RUN_FAILED if self.answer is None else self.answer.verdict

    def count(self, verdict: Verdict) -> int:
        """Return how many criteria have this verdict."""
        return sum(value == verdict for value in self.verdicts.values())

    def as_dict(self, project: Project) -> dict[str, Any]:
        """Return the run as ``runs --json`` gives it.

        A path outside the project is absolute; a run on a storage has its URL.
        """
        return {
            "experiment": self.experiment,
            "run_id": self.run_id,
            "status": self.status,
            "parameters": self.parameters,
            "path": _path(project, self.folder),
            "verdicts": self.verdicts,
            "started": self.started,
            "seconds": self.seconds,
            "answer": msgspec.to_builtins(self.answer),
            "observed": self.observed,
        }


def _path(project: Project, folder: Path) -> str:
    if is_remote(folder):
        return str(folder)
    whole = folder.resolve()
    root = project.root.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)


def listed_run(folder: Path) -> ListedRun:
    """Return a run of a list by its folder.

    Raises
    ------
    InputError
        Where there is no record, or it is damaged or of another version.
    """
    head = read_versioned(folder, _Listed)
    if head.status not in ENDED:
        raise InputError(
            str(folder / RECORD_NAME),
            f"damaged: Invalid enum value '{head.status}' - at `$.status`",
        )
    try:
        seconds = (parse_time(head.finished) - parse_time(head.started)) / 1e6
    except ValueError as error:
        raise InputError(str(folder / RECORD_NAME), f"damaged: {error}") from None
    return ListedRun(
        folder=folder,
        experiment=head.experiment,
        title=head.description.title,
        run_id=head.run_id,
        started=head.started,
        status=head.status,
        error=head.error,
        seconds=seconds,
        parameters=head.parameters,
        verdicts={row.id: row.verdict for row in head.criteria if row.verdict},
        observed={row.id: row.observed for row in head.criteria if row.verdict},
        answer=known_answer(head.answer, head.criteria, head.status == Status.COMPLETED),
    )


def list_runs(results: Path) -> tuple[list[ListedRun], list[InputError]]:
    """Return the runs of a results folder, and what else stands where runs should.

    Parameters
    ----------
    results : Path
        Holds ``<experiment>/<run_id>/``; hidden folders (runs under way), the links `latest` and
        the figures of sweeps are passed over.

    Returns
    -------
    runs : list of ListedRun
        By experiment, and from the oldest to the newest.
    damaged : list of InputError
        One for each folder without a readable record.

    Raises
    ------
    InputError
        Where there is no such folder, or it cannot be read.
    """
    runs, damaged = [], []
    for experiment in _folders(results):
        try:
            folders = _folders(own_folder(experiment, results))
        except InputError as error:
            damaged.append(error)
            continue
        for folder in folders:
            if folder.name == SWEEP_FIGURES:
                continue
            try:
                own_folder(folder, results)
                if not (folder.name == LATEST and folder.is_symlink()):
                    runs.append(listed_run(folder))
            except InputError as error:
                damaged.append(error)
            except FleetsimError as error:  # the system refused to read it
                damaged.append(InputError(str(folder), str(error).partition("\n")[0]))
    return sort_runs(runs), damaged


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    except FileNotFoundError:
        raise InputError(str(parent), "no such folder; expected a folder of results") from None
    except OSError as error:
        raise refused(error, parent, "cannot be read: {}") from None
    return [parent / name for name in sorted(names)]


def select_runs(
    runs: Iterable[ListedRun],
    *,
    experiment: str | None = None,
    status: Status | None = None,
    verdict: Verdict | None = None,
) -> list[ListedRun]:
    """Return the runs of one experiment, of one status, with a criterion of one verdict."""
    return [
        run
        for run in runs
        if experiment in (None, run.experiment)
        and status in (None, run.status)
        and (verdict is None or run.count(verdict))
    ]


def _count(verdict: Verdict, run: ListedRun) -> int:
    return run.count(verdict)


#: What runs can be sorted by, besides their parameters.
_KEYS: dict[str, Callable[[ListedRun], Any]] = {
    "experiment": lambda run: run.experiment,
    "run_id": lambda run: run.run_id,
    "status": lambda run: run.status,
    "started": lambda run: run.started,
    "duration": lambda run: run.seconds,
    **{str(verdict): partial(_count, verdict) for verdict in VERDICTS},
}


def sort_runs(runs: Iterable[ListedRun], key: str | None = None) -> list[ListedRun]:
    """Return runs in order.

    Parameters
    ----------
    runs : iterable of ListedRun
    key : str, optional
        A key of `_KEYS` or the name of a parameter; with a minus sign before it, from the greatest
        to the least. Runs without the parameter come last. By default by experiment, then by time.

    Raises
    ------
    InputError
        Where no run has such a key.
    """
    ordered = sorted(runs, key=lambda run: (run.experiment, run.started, str(run.folder)))
    if key is None:
        return ordered
    name = key.removeprefix("-")
    known = dict.fromkeys([*_KEYS, *(name for run in ordered for name in run.parameters)])
    if name not in known:
        raise InputError(
            "--sort", f"found {found(key)}{nearest(name, known)}; allowed: {', '.join(known)}"
        )
    rows = [
        (run, _KEYS[name](run) if name in _KEYS else run.parameters.get(name)) for run in ordered
    ]
    with_value = [row for row in rows if row[1] is not None]
    with_value.sort(key=lambda row: _order(row[1]), reverse=key.startswith("-"))
    return [run for run, _ in with_value] + [run for run, found in rows if found is None]


def _order(value: Any) -> tuple[bool, float, str]:
    """Return what puts numbers before texts: parameters of one name may be of both types."""
    if isinstance(value, int | float):
        return False, value, ""
    return True, 0.0, str(value)


def differing_parameters(runs: Sequence[ListedRun]) -> list[dict[str, Any]]:
    """Return of each run the parameters in which the runs of its experiment differ."""
    values: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        seen = values.setdefault(run.experiment, {})
        for name, value in run.parameters.items():
            seen.setdefault(name, set()).add(repr(value))
    return [
        {
            name: value
            for name, value in run.parameters.items()
            if len(values[run.experiment][name]) > 1
        }
        for run in runs
    ]


def runs_table(runs: Sequence[ListedRun]) -> Table:
    """Return runs as a terminal shows them; of a failed one also why."""
    rows = []
    for run, differing in zip(runs, differing_parameters(runs), strict=True):
        words = [f"{name} {value}" for name, value in differing.items()]
        if run.error is not None:
            words.insert(0, f"{run.error.kind}: {run.error.message}")
        rows.append(
            (
                one_line(run.experiment),
                one_line(run.run_id),
                run.outlook,
                *(str(run.count(verdict)) if run.verdicts else "–" for verdict in VERDICTS),
                f"{run.seconds:.1f} s",
                one_line(", ".join(words)),
            )
        )
    header = ("experiment", "run", "hypothesis", *VERDICTS, "duration", "parameters that differ")
    return Table(header, tuple(rows))
