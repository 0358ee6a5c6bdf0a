"""Whether an executed notebook is that of a run: it made this one, with its parameters, to its end.

What a notebook says of itself is not enough: any can be handed in, and carry any metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import nbformat

from fleetsim.base.clock import parse_duration
from fleetsim.base.errors import found
from fleetsim.experiment.notebook import cell_values
from fleetsim.experiment.parameters import EXPERIMENT, RESULTS
from fleetsim.experiment.record import Record, overall_line
from fleetsim.experiment.results import Status
from fleetsim.experiment.steps import RUN_MARK, mark_of


def notebook_faults(notebook: nbformat.NotebookNode, record: Record) -> list[str]:
    """Return why a notebook is not the one that was executed for a run; nothing where it is.

    Parameters
    ----------
    notebook : NotebookNode
        papermill's output, or the report of a run.
    record : Record
        Of the run. Where it failed, its notebook never came to its end; the report alone keeps such
        a notebook, and says in its metadata of which run it is.
    """
    faults = _foreign(notebook, record) + _other_parameters(notebook, record)
    return faults if record.status == Status.FAILED else faults + _unfinished(notebook)


def _outputs(notebook: nbformat.NotebookNode) -> Iterator[Any]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from cell.outputs


def _foreign(notebook: nbformat.NotebookNode, record: Record) -> list[str]:
    """Return a fault where it is not seen that the notebook made the run."""
    own = mark_of(record)
    shown = [output.get("data", {}) for output in _outputs(notebook)]
    marks = [data[RUN_MARK] for data in shown if RUN_MARK in data]
    others = [mark for mark in marks if mark != own]
    if others:
        return [f"made another run: found {_named(others[0])}; allowed: {_named(own)}"]
    if marks:
        return []
    carried = _carried(notebook)
    if carried == own:
        # Older versions left no mark, but for the text; a failed run did not come to it.
        texts = [str(data.get("text/plain", "")).splitlines() for data in shown]
        if not record.completed or any(overall_line(record.criteria) in text for text in texts):
            return []
    elif carried:
        return [f"carries another run: found {_named(carried)}; allowed: {_named(own)}"]
    return [
        f"made no run: no output of a cell shows run.finish() of {_named(own)}, as that of the "
        "last one does"
    ]


def _carried(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Return of which run a notebook in a run's folder says to be."""
    try:
        content = msgspec.json.decode(notebook.metadata["fleetsim"]["record"])
        return {name: content[name] for name in ("experiment", "run_id", "key")}
    except (KeyError, TypeError, msgspec.DecodeError):
        return {}


def _named(mark: Any) -> str:
    if not isinstance(mark, dict):
        return found(mark)
    run = f"{mark.get('experiment')}/{mark.get('run_id')}"
    return f"{found(run)} of key {found(str(mark.get('key'))[:16])}"


def _unfinished(notebook: nbformat.NotebookNode) -> list[str]:
    """Return a fault for each way in which a notebook did not come to its end, cell by cell."""
    faults, last = [], 0
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            faults.append(f"cell {number} ended with an error: {found(errors[0].get('ename'))}")
        if not isinstance(cell.execution_count, int):
            faults.append(f"cell {number} was not executed")
        elif cell.execution_count <= last:
            faults.append(f"cell {number} was executed before one that stands above it")
        elif cell.execution_count > last + 1:
            faults.append(f"a cell that was executed before cell {number} is missing")
        last = max(last, cell.execution_count or 0)
    if notebook.metadata.get("papermill", {}).get("exception"):
        faults.append("papermill says that it ended with an error")
    return faults


def _other_parameters(notebook: nbformat.NotebookNode, record: Record) -> list[str]:
    """Return a fault for each parameter that the notebook set to another value than the run had."""
    values: dict[str, Any] = {}
    for tag in ("parameters", "injected-parameters"):  # the later ones replace the earlier ones
        for cell in notebook.cells:
            if cell.cell_type == "code" and tag in cell.metadata.get("tags", ()):
                values |= cell_values(cell.source)
    faults = [
        f"{name}: found {found(value)}; the run has {found(record.parameters[name])}"
        for name, value in values.items()
        if name in record.parameters
        and name not in (EXPERIMENT.name, RESULTS.name)  # a place may be written in many ways
        and value is not None
        and not _same(value, record.parameters[name])
    ]
    return [f"parameter {fault}" for fault in faults]


def _same(value: Any, other: Any) -> bool:
    """Return whether two values are one to an experiment: durations have many spellings."""
    if value == other:
        return True
    if not (isinstance(value, str) and isinstance(other, str)):
        return False
    try:
        return parse_duration(value) == parse_duration(other)
    except ValueError:
        return False
