"""The parameters of runs, each declared once: name, type, limits and help.

Notebooks, experiments, grids, the command line and the documentation take them from here. This
module loads nothing of the analysis.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleetsim.config import Config, scalar_keys
from fleetsim.documents import allowed, check_value, meta_of, whole
from fleetsim.errors import InputError, found, nearest

__all__ = [
    "NOTEBOOK_PARAMETERS",
    "Parameter",
    "check_parameters",
    "name_faults",
    "parameters_of",
    "run_parameters",
    "take_parameters",
]

MIN_REPEATS = 10
NAME_LIMIT = 60  # characters of a wrong name that a message repeats as they are

Experiment = Annotated[
    str,
    Meta(description="id of a folder in experiments/, or a path", extra={"allowed": "text"}),
]
Results = Annotated[
    str,
    Meta(
        description="folder of the results; results/ of the project by default",
        extra={"allowed": "text"},
    ),
]
Repeats = Annotated[int, whole("cold processes that generate the batch", MIN_REPEATS, 10**4)]
Replicates = Annotated[
    int, whole("seeds drawn in memory, their counts or all their data", 2, 10**6)
]
ControlSeeds = Annotated[int, whole("seeds of each control", 2, 10**6)]
LargestEvents = Annotated[int, whole("larger sizes are left out [events]", 1)]
Engine = Annotated[
    str,
    Meta(
        description="what runs the points that are missing: library, notebook, or none",
        extra={"allowed": "library, notebook, or none"},
    ),
]
Jobs = Annotated[int, whole("points that run at a time, one by default", 1, 256)]


@dataclass(frozen=True)
class Parameter:
    """What a run may be told.

    Attributes
    ----------
    name : str
    kind : type
        The annotated type that the value is checked by; its ``Meta`` holds limits and help.
    default : object
        What the notebook has as it stands; None means "as the YAML says".
    note : str
        What it means to one notebook, where that is not what its type says.
    """

    name: str
    kind: Any
    default: Any = None
    note: str = ""

    @property
    def type(self) -> type:
        """The plain type of its values."""
        plain: type = getattr(self.kind, "__origin__", self.kind)
        return plain

    @property
    def help(self) -> str:
        """What it is, in a phrase."""
        return self.note or str(meta_of(self.kind).description)

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        return allowed(self.kind)

    def at(self, default: Any = None, note: str = "") -> Parameter:
        """Return the same parameter as one notebook has it."""
        return replace(self, default=default, note=note)

    @property
    def about(self) -> str:
        """What it is, with the limits of a number."""
        _, start, limits = self.allowed.partition("from ")
        return f"{self.help}; {start}{limits}" if start else self.help

    def line(self) -> str:
        """Return its declaration in a notebook, as papermill's inspection reads it."""
        about = self.about
        if self.default is not None and self.name not in _PLACES:
            about += "; None: as the YAML says"
        value = f'"{self.default}"' if isinstance(self.default, str) else repr(self.default)
        return f"{self.name}: {self.type.__name__} = {value}  # {about}"


EXPERIMENT = Parameter("experiment", Experiment)
RESULTS = Parameter("results", Results)
REPEATS = Parameter("repeats", Repeats)
REPLICATES = Parameter("replicates", Replicates)
CONTROL_SEEDS = Parameter("control_seeds", ControlSeeds)
LARGEST_EVENTS = Parameter("largest_events", LargestEvents)
ENGINE = Parameter("engine", Engine)
JOBS = Parameter("jobs", Jobs)
#: Each key of a configuration that holds one plain value.
CONFIGURATION = {
    field.name: Parameter(field.name, field.type)
    for field in msgspec.structs.fields(Config)
    if field.name in scalar_keys()
}
#: What says where a run comes from and goes to, and how; the others are its effective parameters.
_PLACES = (EXPERIMENT.name, RESULTS.name, ENGINE.name, JOBS.name)


def _noted(**notes: str) -> Iterable[Parameter]:
    """Return the keys of a configuration, some of them with what they mean to one notebook."""
    return (
        CONFIGURATION | {name: CONFIGURATION[name].at(note=notes[name]) for name in notes}
    ).values()


#: Each notebook with its parameters in the order of its cell, and what keeps it short as it stands.
NOTEBOOK_PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "experiment.ipynb": (
        EXPERIMENT.at("000-smoke"),
        RESULTS,
        REPEATS,
        REPLICATES,
        *CONFIGURATION.values(),
    ),
    "calibration.ipynb": (
        EXPERIMENT.at("003-calibration"),
        RESULTS,
        REPLICATES.at(100, note="honest seeds"),
        CONTROL_SEEDS.at(5),
        *_noted(
            seed="the first of the seeds",
            active_fraction="no influence: all companies take part in a calibration",
        ),
    ),
    "scaling.ipynb": (
        EXPERIMENT.at("005-scaling"),
        RESULTS,
        LARGEST_EVENTS.at(10_000),
        *_noted(number_of_companies="follows from the sizes, no other is taken"),
    ),
    "scale_out.ipynb": (
        EXPERIMENT.at("020-scale-out"),
        RESULTS,
        LARGEST_EVENTS.at(20_000, note="larger sizes and tasks are left out"),
        *_noted(number_of_companies="follows from the sizes, no other is taken"),
    ),
    "explore.ipynb": (
        EXPERIMENT.at("001-baseline", note="whose configuration is explored: id, or a path"),
        *CONFIGURATION.values(),
    ),
    "sweep.ipynb": (
        EXPERIMENT.at("000-smoke", note="an experiment with a grid: id of a folder, or a path"),
        RESULTS,
        ENGINE.at("library"),
        JOBS,
    ),
}


def parameters_of(notebook: str) -> dict[str, Parameter]:
    """Return every parameter of a notebook by its name."""
    return {parameter.name: parameter for parameter in NOTEBOOK_PARAMETERS[notebook]}


def run_parameters(notebook: str) -> dict[str, Parameter]:
    """Return what a run by a notebook may be told: all but the experiment and the results."""
    return {
        name: parameter
        for name, parameter in parameters_of(notebook).items()
        if name not in _PLACES
    }


def check_parameters(
    given: Mapping[Any, Any], known: Mapping[str, Parameter]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of parameters as their types have them, and what is wrong.

    Parameters
    ----------
    given : mapping
        Values by name, from anywhere: NumPy's scalars are taken for what they hold. None means "as
        the experiment says", and is left out.
    known : mapping
        The parameters that there are.

    Returns
    -------
    values : dict
    faults : list of str
        One phrase for each name that is none, or is not known, and for each wrong value.
    """
    given = {name: _plain(value) for name, value in given.items() if value is not None}
    values: dict[str, Any] = {}
    faults = name_faults(given, known)
    for name in known:
        if name in given:
            try:
                values[name] = check_value(given[name], known[name].kind)
            except ValueError as error:
                faults.append(f"{name}: {error}")
    return values, faults


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as the plain value that it holds, anything else as it is."""
    import numpy as np  # where a value is checked, for what was only declared needs no NumPy

    return value.item() if isinstance(value, np.generic) else value


def name_faults(names: Iterable[Any], known: Mapping[str, Parameter]) -> list[str]:
    """Return a phrase for each name that is none, or none of the known parameters."""
    listed = ", ".join(known)
    faults = []
    for name in names:
        text = str(name)
        shown = text if text.isidentifier() and len(text) <= NAME_LIMIT else found(name)
        if name in known:
            continue
        if text.isidentifier():
            near = nearest(text[:NAME_LIMIT], known)
            faults.append(f"{shown}: no such parameter{near}; allowed: {listed}")
        else:
            faults.append(f"{shown} is not a name; allowed: {listed}")
    return faults


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
