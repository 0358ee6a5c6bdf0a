"""Execute an experiment's notebook by papermill.

The kernel never touches the final folder: it works under a private results folder, and only the
runner, when it has seen how the kernel ended, gives the run its name.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import nbformat

from fleetsim.clock import Instant, batch_name, format_time
from fleetsim.document import planned_record
from fleetsim.errors import InputError, nearest
from fleetsim.experiment import Experiment, load_experiment
from fleetsim.files import PARTIAL, claim_folder
from fleetsim.gallery import refresh_gallery
from fleetsim.project import Project
from fleetsim.record import Record, provenance, read_record
from fleetsim.report import attach_notebook
from fleetsim.run import (
    publish_run,
    repeat_commands,
    run_key,
    write_run_files,
)
from fleetsim.runs import RECORD_NAME, RunError

__all__ = ["Outcome", "execute"]


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
    progress: bool = False,
    gallery: bool = True,
) -> Outcome:
    """Run an experiment's notebook and make its report.

    Parameters
    ----------
    project : Project
    name : str
        Id of the experiment, or a path.
    parameters : mapping, optional
        Parameters of the run, by name.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    progress : bool
        Show papermill's progress bar.
    gallery : bool
        Make the gallery of the results anew; who runs many does so once, at the end.

    Returns
    -------
    Outcome
        Also of a run that failed: its record says so, and the partial notebook is kept.

    Raises
    ------
    InputError
        Where experiment, parameters or notebook are wrong; no kernel has started.
    """
    experiment = load_experiment(project, name, parameters)
    notebook = _notebook(project, experiment)
    target = project.results(results)
    started = Instant.now()
    with _private_results(target) as private:
        values = {
            **experiment.parameters,  # all of them: a notebook may have small defaults of its own
            "experiment": name,
            "results": os.path.relpath(private, project.root),
        }
        executed, error = _papermill(notebook, private / "out.ipynb", values, progress)
        made = sorted((private / experiment.id).glob(f"[!.]*/{RECORD_NAME}"))
        if error is None and made:
            folder = made[0].parent
            record = read_record(folder)
        else:
            error = error or RunError("NoRecord", "the notebook ended without a record", None)
            folder, record = _failed(project, experiment, private, started, error)
        attach_notebook(folder, record, executed)
        final = target / experiment.id / record.run_id
        final.parent.mkdir(parents=True, exist_ok=True)
        publish_run(folder, final, latest=record.status == "completed")
    if gallery:
        refresh_gallery(target)
    return Outcome(final, record)


def _notebook(project: Project, experiment: Experiment) -> Path:
    """Return the experiment's notebook, which has to declare every parameter."""
    import papermill

    path = project.notebooks / experiment.notebook
    if not path.is_file():
        raise InputError(project.relative(path), "no such notebook; the project needs it")
    declared = papermill.inspect_notebook(str(path))
    for key in experiment.parameters:
        if key not in declared:
            raise InputError(
                "parameters",
                f"{key}: not declared by {experiment.notebook}{nearest(key, declared)}; "
                f"allowed: {', '.join(declared)}",
            )
    return path


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


def _papermill(
    notebook: Path, output: Path, values: dict[str, Any], progress: bool
) -> tuple[nbformat.NotebookNode | None, RunError | None]:
    """Execute a notebook; return what is left of it, and the error that ended it early."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from fleetsim.kernel import OwnKernelManager

    error = None
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=values,
            kernel_name="python3",
            kernel_manager_class=OwnKernelManager,
            progress_bar=progress,
        )
    except PapermillExecutionError as failure:
        error = RunError(failure.ename, failure.evalue, failure.cell_index)
    except (DeadKernelError, CellTimeoutError) as failure:
        error = RunError(type(failure).__name__, str(failure), None)
    except (KeyboardInterrupt, SystemExit):
        # Nobody is left to ask for the error of the cell that the kernel's end interrupts.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    executed = nbformat.read(output, as_version=4) if output.is_file() else None
    return executed, error


def _failed(
    project: Project, experiment: Experiment, private: Path, started: Instant, error: RunError
) -> tuple[Path, Record]:
    """Return the folder and the record of a run that failed; what it had made is kept in it."""
    key = run_key(project, experiment)
    run_id = f"{batch_name(started.wall_us // 1_000_000 * 1_000_000)}-{key[:8]}"
    record = msgspec.structs.replace(
        planned_record(experiment),
        run_id=run_id,
        key=key,
        status="failed",
        error=error,
        started=format_time(started.wall_us),
        finished=format_time(Instant.now().wall_us),
        provenance=provenance(project, repeat_commands(experiment)),
    )
    left = sorted((private / experiment.id).glob(f".*{PARTIAL}"))
    folder = private / "failed"
    if left:
        left[0].rename(folder)
    else:
        folder.mkdir()
    write_run_files(folder, record)
    return folder, record
