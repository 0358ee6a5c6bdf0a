"""Execute the experiment's notebook by papermill, and make the run's report of it.

The kernel never touches the final folder: it works under a private results folder, and only the
runner, when it has seen how the kernel ended, gives the run its name.
"""

from __future__ import annotations

import os
import re
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
from fleetsim.document import planned_record, render_document
from fleetsim.errors import InputError, nearest
from fleetsim.experiment import Experiment, load_experiment
from fleetsim.files import PARTIAL, claim_folder, write_file
from fleetsim.html import render_html
from fleetsim.project import Project
from fleetsim.record import RECORD_NAME, Record, RunError, provenance, read_record
from fleetsim.run import (
    DOCUMENT_NAME,
    LATEST,
    NOTEBOOK,
    publish_run,
    repeat_commands,
    run_key,
    write_run_files,
)

__all__ = ["Outcome", "attach_notebook", "check_report", "execute", "find_run", "render_report"]

REPORT_NOTEBOOK = "report.ipynb"
REPORT_HTML = "report.html"


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
    notebook = _notebook(project, parameters or {})
    target = project.results(results)
    started = Instant.now()
    with _private_results(target) as private:
        values = {
            **{key: experiment.parameters[key] for key in parameters or {}},
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
    return Outcome(final, record)


def _notebook(project: Project, parameters: Mapping[str, Any]) -> Path:
    """Return the notebook, which has to declare every parameter."""
    import papermill

    path = project.notebooks / NOTEBOOK
    if not path.is_file():
        raise InputError(project.relative(path), "no such notebook; the project needs it")
    declared = papermill.inspect_notebook(str(path))
    for key in parameters:
        if key not in declared:
            raise InputError(
                "parameters",
                f"{key}: not declared by {NOTEBOOK}{nearest(key, declared)}; "
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


def attach_notebook(folder: Path, record: Record, executed: nbformat.NotebookNode | None) -> None:
    """Write an executed notebook into a run, cleaned of paths and times, and the report of it."""
    if executed is None:
        return
    carry_record(clean_notebook(executed), record)
    write_file(folder / REPORT_NOTEBOOK, (nbformat.writes(executed) + "\n").encode())
    write_file(folder / REPORT_HTML, render_html(executed).encode())


def clean_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what papermill and Jupyter add of paths and times, and the private results path."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = re.sub(r"^results = .*\n?", "", cell.source, flags=re.MULTILINE)
    return notebook


def carry_record(notebook: nbformat.NotebookNode, record: Record) -> None:
    """Put the record into a notebook's metadata, where the exporter finds it."""
    plain = nbformat.from_dict(msgspec.to_builtins(record))
    notebook.metadata["fleetsim"] = nbformat.from_dict({"record": plain})


def render_report(folder: Path, notebook: Path | None = None) -> list[Path]:
    """Make a run's document and report again, of its record and a notebook.

    Parameters
    ----------
    folder : Path
        The run.
    notebook : Path, optional
        An executed notebook to take in; by default the run's own.

    Returns
    -------
    list of Path
        The files written.
    """
    record = read_record(folder)
    source = notebook or folder / REPORT_NOTEBOOK
    written = [folder / DOCUMENT_NAME]
    if source.is_file():
        executed = _read_notebook(source)
        attach_notebook(folder, record, executed)
        written += [folder / REPORT_NOTEBOOK, folder / REPORT_HTML]
    elif notebook is not None:
        raise InputError(str(notebook), "no such notebook")
    write_file(folder / DOCUMENT_NAME, render_document(record).encode())
    return written


def check_report(folder: Path) -> list[str]:
    """Return what of a run's document and report no longer fits its record; nothing is written."""
    record = read_record(folder)
    findings = []
    if _text(folder / DOCUMENT_NAME) != render_document(record):
        findings.append(f"{DOCUMENT_NAME} is not what {RECORD_NAME} gives")
    if not (folder / REPORT_NOTEBOOK).is_file():
        return [*findings, f"{REPORT_NOTEBOOK} is missing"]
    notebook = _read_notebook(folder / REPORT_NOTEBOOK)
    carried = notebook.metadata.get("fleetsim", {}).get("record")
    if not _carries(carried, record):
        findings.append(f"{REPORT_NOTEBOOK} carries another record than {RECORD_NAME}")
        carry_record(notebook, record)
    if _text(folder / REPORT_HTML) != render_html(notebook):
        findings.append(f"{REPORT_HTML} is not what {RECORD_NAME} and {REPORT_NOTEBOOK} give")
    return findings


def _carries(carried: Any, record: Record) -> bool:
    try:
        return msgspec.convert(carried, Record) == record
    except msgspec.ValidationError:
        return False


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    except (OSError, UnicodeDecodeError, nbformat.reader.NotJSONError) as error:
        raise InputError(str(path), f"not a notebook: {error}") from None
    return notebook


def find_run(project: Project, name: str, results: str | None = None) -> Path:
    """Return the folder of a run: a path, ``<experiment>/<run_id>``, or ``<experiment>``'s latest.

    Raises
    ------
    InputError
        Where there is none.
    """
    folder = project.results(results)
    for candidate in (Path(name), folder / name, folder / name / LATEST):
        if (candidate / RECORD_NAME).is_file():
            return candidate.resolve()
    known = sorted(path.parent.name for path in folder.glob(f"*/{LATEST}"))
    raise InputError(
        "RUN",
        f"found {name!r}{nearest(name, known)}; allowed: a run's folder, <experiment>/<run_id>, "
        f"or an experiment with a completed run: {', '.join(known) or '(none yet)'}",
    )
