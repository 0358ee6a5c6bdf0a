"""The parameters of runs, each declared once: name, type, limits and help.

Notebooks, experiments, grids, the command line and the documentation take them from here. This
module loads nothing of the analysis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleetsim.base.errors import found, nearest
from fleetsim.base.strict import allowed, check_value, meta_of, text, whole
from fleetsim.generate.config import Config, scalar_keys

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
Interval = Annotated[str, text("now, or the start of the first interval")]
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
        if self.default is not None and self.name not in PLACES:
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
PLACES = (EXPERIMENT.name, RESULTS.name, ENGINE.name, JOBS.name)


def noted(**notes: str) -> Iterable[Parameter]:
    """Return the keys of a configuration, some of them with what they mean to one notebook."""
    return (
        CONFIGURATION | {name: CONFIGURATION[name].at(note=notes[name]) for name in notes}
    ).values()


def by_name(parameters: Iterable[Parameter]) -> dict[str, Parameter]:
    """Return parameters by their names."""
    return {parameter.name: parameter for parameter in parameters}


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
