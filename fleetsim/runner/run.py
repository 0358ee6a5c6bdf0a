"""Execute a run from outside, and publish it.

Whatever goes through its steps never touches the final folder: it works under a private results
folder, and only the runner, when it has seen how that ended, gives the run its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from fleetsim.base.clock import Instant, format_time
from fleetsim.base.files import PARTIAL, claim_folder
from fleetsim.base.project import Project
from fleetsim.experiment.document import planned_record
from fleetsim.experiment.record import Record, read_record
from fleetsim.experiment.results import RECORD_NAME, Engine, RunError, Status, own_folder
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import (
    provenance_of,
    publish_run,
    run_key,
    run_name,
    write_run_files,
)
from fleetsim.report.gallery import refresh_gallery
from fleetsim.report.html import prepare_html
from fleetsim.report.run_report import attach_notebook
from fleetsim.runner.engines import DEFAULTS, ENGINES, Ending, Job, RunOptions, check_notebook
from fleetsim.runner.watch import RunEnded, Watch


@dataclass(frozen=True)
class Outcome:
    """A run that stands in the results: its folder and its record."""

    path: Path
    record: Record


def execute(
    project: Project,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    results: str | None = None,
    watch: Watch | None = None,
    gallery: bool = True,
    options: RunOptions = DEFAULTS,
) -> Outcome:
    """Run an experiment and publish the run, with its report where a notebook made it.

    Parameters
    ----------
    project : Project
    name : str
        Id of the experiment, or a path.
    parameters : mapping, optional
        Parameters of the run, by name.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    watch : Watch, optional
        Ends the run from outside.
    gallery : bool
        Make the gallery of the results anew; who runs many does so once, at the end.
    options : RunOptions
        How the run is made.

    Returns
    -------
    Outcome
        Also of a run that failed: its record says so, and the partial notebook is kept.

    Raises
    ------
    InputError
        Where experiment, parameters or notebook are wrong; no kernel has started.
    RunEnded
        Where the watch was interrupted; nothing has been published.
    """
    experiment = load_experiment(project, name, parameters)
    if options.engine == Engine.NOTEBOOK:
        check_notebook(project, experiment)
        prepare_html()  # while what the kernel is forked from may still import
    target = project.results(results)
    own_folder(target / experiment.id, target)
    watch = watch or Watch()
    with _private_results(target) as private, ExitStack() as turn:
        turn.enter_context(options.turn)
        if watch.interrupted:  # while it waited for its turn
            raise RunEnded
        started = Instant.now()
        job = Job(project, experiment, name, private, options)
        with watch:
            ending = ENGINES[options.engine](job, watch)
        turn.close()
        if options.steps is not None:
            options.steps.begin("writing the report")
        if watch.interrupted:
            raise RunEnded
        error = watch.error or ending.error
        made = sorted((private / experiment.id).glob(f"[!.]*/{RECORD_NAME}"))
        if error is None and made:
            folder = made[0].parent
            record = read_record(folder)
        else:
            error = error or RunError("NoRecord", "the notebook ended without a record", None)
            folder, record = _failed(job, started, error)
        outcome = _publish(
            folder, record, ending, target / experiment.id, sweep_follows=options.sweep_follows
        )
    if gallery:
        refresh_gallery(target)
    return outcome


def _publish(
    folder: Path, record: Record, ending: Ending, parent: Path, *, sweep_follows: bool
) -> Outcome:
    """Add the report, and give the folder its name below `parent`."""
    attach_notebook(folder, record, ending.notebook, home=parent, sweep_follows=sweep_follows)
    final = parent / record.run_id
    final.parent.mkdir(parents=True, exist_ok=True)
    publish_run(folder, final, latest=record.completed)
    return Outcome(final, record)


@contextmanager
def _private_results(target: Path) -> Iterator[Path]:
    """Yield a hidden results folder that is gone afterwards, whatever happened."""
    private = target / f".run-{uuid4().hex}{PARTIAL}"
    lock = claim_folder(private)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(lock)


def _failed(job: Job, started: Instant, error: RunError) -> tuple[Path, Record]:
    """Return the folder and the record of a run that failed; what it had made is kept in it."""
    project, experiment = job.project, job.experiment
    key = run_key(project, experiment)
    record = msgspec.structs.replace(
        planned_record(experiment),
        run_id=run_name(started, key),
        key=key,
        status=Status.FAILED,
        error=error,
        started=format_time(started.wall_us),
        finished=format_time(Instant.now().wall_us),
        provenance=provenance_of(project, experiment, job.options.engine),
    )
    left = sorted((job.private / experiment.id).glob(f".*{PARTIAL}"))
    folder = job.private / "failed"
    if left:
        left[0].rename(folder)
    else:
        folder.mkdir()
    write_run_files(folder, record)
    return folder, record
