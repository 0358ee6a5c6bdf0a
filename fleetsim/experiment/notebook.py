"""What a notebook hands to the library: the parameters of its own cell, and of papermill's."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from fleetsim.base.errors import InputError, found, nearest
from fleetsim.experiment.kind import kinds
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

EXPLORE, SWEEP = "explore.ipynb", "sweep.ipynb"
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

    Raises
    ------
    InputError
        Where papermill was given a name that is none of the notebook's, or where the cell
        `parameters` lacks one.
    """
    known = parameters_of(notebook)
    given = [
        name for cell in namespace.get("In", ()) for name in _injected(cell) if name not in known
    ]
    faults = name_faults(given, known)
    faults += [f"{name}: not declared by this notebook" for name in known if name not in namespace]
    if faults:
        raise InputError("parameters", *faults)
    return {name: namespace[name] for name in known}


def _injected(cell: str) -> list[str]:
    """Return what papermill's cell of parameters sets; anything else it holds is code."""
    if not cell.startswith("# Parameters\n"):
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
