"""What a notebook hands to the library: the parameters of its own cell, and of papermill's.

A notebook of a user's own may declare more parameters than its kind has. Such a name is assigned in
its cell of parameters, to a plain value; that makes it a parameter of the runs by this notebook.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from fleetsim.base.errors import InputError, found, nearest
from fleetsim.base.strict import read_content
from fleetsim.experiment.kind import EXPLORE, SWEEP, kind_of_notebook, kinds
from fleetsim.experiment.parameters import (
    CONFIGURATION,
    ENGINE,
    EXPERIMENT,
    JOBS,
    RESULTS,
    Parameter,
    by_name,
    name_faults,
)

_INJECTED = "# Parameters\n"  # papermill's cell begins so
_TAKEN = {"kind", "workers"}  # arguments of `open_run` that are no parameters


def _plain(kind: type, words: str) -> Any:
    about = Meta(description="declared by the notebook alone", extra={"allowed": words})
    return Annotated[kind, about]


#: The types of the parameters that a notebook declares on its own.
_PLAIN = {
    "str": _plain(str, "text"),
    "int": _plain(int, "a whole number"),
    "float": _plain(float, "a number"),
    "bool": _plain(bool, "true or false"),
}
#: The notebooks that run no experiment, with their parameters in the order of the cell.
_OTHERS: dict[str, tuple[Parameter, ...]] = {
    EXPLORE: (
        EXPERIMENT.at("001-baseline", note="whose configuration is explored: id, or a path"),
        *CONFIGURATION.values(),
    ),
    SWEEP: (
        EXPERIMENT.at("000-smoke", note="an experiment with a grid: id of a folder, or a path"),
        RESULTS,
        ENGINE.at("library"),
        JOBS,
    ),
}


def notebook_parameters() -> dict[str, tuple[Parameter, ...]]:
    """Return each notebook with its parameters, in the order of its cell."""
    return {kind.notebook: kind.parameters for kind in kinds().values()} | _OTHERS


def parameters_of(notebook: str) -> dict[str, Parameter]:
    """Return every parameter of a notebook by its name.

    Raises
    ------
    InputError
        Where it is neither a kind's notebook nor another one of the package.
    """
    known = notebook_parameters()
    if notebook not in known:
        raise InputError(
            "take_parameters",
            f"found {found(notebook)}{nearest(notebook, known)}; allowed: {', '.join(known)}",
            next_step="a copy of one of them, under any name, keeps the name of its original here",
        )
    return by_name(known[notebook])


def take_parameters(notebook: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a notebook from its own namespace.

    papermill puts any name into a notebook and only warns of those that it does not declare. The
    cell that it puts them in is looked at here, so that plain papermill refuses them as well.

    Parameters
    ----------
    notebook : str
        File name of the notebook.
    namespace : mapping
        ``globals()`` of the notebook.

    Returns
    -------
    dict
        With the parameters that only this notebook declares, where it is one of a user's own.

    Raises
    ------
    InputError
        Where papermill was given a name that is none of the notebook's, or where the cell
        `parameters` lacks one.
    """
    known = parameters_of(notebook)
    cells = namespace.get("In", ())
    own = {} if kind_of_notebook(notebook) is None else _own_of_session(cells, known)
    given = [name for cell in cells for name in _injected(cell) if name not in known | own]
    faults = name_faults(given, known | own)
    faults += [f"{name}: not declared by this notebook" for name in known if name not in namespace]
    faults += [f"{name}: taken by open_run; allowed: another name" for name in _TAKEN & own.keys()]
    if faults:
        raise InputError("parameters", *faults)
    return {name: namespace[name] for name in known | own if name in namespace}


def own_parameters(path: Path, known: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    """Return the parameters that only a notebook declares, beside those of its kind.

    Parameters
    ----------
    path : Path
        The notebook; one that is missing or damaged declares none.
    known : mapping
        The parameters of its kind, `experiment` and `results` included.
    """
    try:
        cells = json.loads(read_content(path, "notebook"))["cells"]
        source = next(c["source"] for c in cells if "parameters" in c["metadata"].get("tags", ()))
    except (
        InputError,
        OSError,
        RecursionError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        StopIteration,
    ):
        return ()
    return tuple(_own(source if isinstance(source, str) else "".join(source), known).values())


def _own_of_session(cells: Any, known: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the own parameters of the notebook that ran these cells: IPython knows no tags."""
    for cell in reversed(cells):
        if not cell.startswith(_INJECTED) and EXPERIMENT.name in _assigned(cell):
            return _own(cell, known)
    return {}


def _own(source: str, known: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return what a cell of parameters declares beside those that are known."""
    own = {}
    for name, (annotation, node) in _assigned(source).items():
        try:
            value = ast.literal_eval(node)
        except ValueError:  # it is calculated: a variable, no parameter
            continue
        kind = _PLAIN.get(annotation or type(value).__name__)
        if name not in known and kind is not None:
            own[name] = Parameter(name, kind, value)
    return own


def cell_values(source: str) -> dict[str, Any]:
    """Return the names to which a cell assigns plain values, each with its value."""
    values = {}
    for name, (_, node) in _assigned(source).items():
        try:
            values[name] = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue  # it is calculated
    return values


def _assigned(source: str) -> dict[str, tuple[str, ast.expr]]:
    """Return the names that a cell assigns, each with its annotation, if any, and its value."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a command of IPython stands in it
        return {}
    assigned = {}
    for node in statements:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            assigned[node.target.id] = (ast.unparse(node.annotation), node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = ("", node.value)
    return assigned


def _injected(cell: str) -> list[str]:
    """Return what papermill's cell of parameters sets; anything else it holds is code."""
    if not cell.startswith(_INJECTED):
        return []
    try:
        statements = ast.parse(cell).body
    except SyntaxError:  # IPython took a name for a command of its own
        return [cell]
    return [
        node.targets[0].id
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        else ast.unparse(node)
        for node in statements
    ]
