"""Experiments as data: what is claimed, fixed before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from fleetsim.calibration import Calibration
from fleetsim.clock import format_time, parse_time
from fleetsim.config import Config, load_config, make_config, scalar_keys
from fleetsim.controls import control_faults
from fleetsim.criteria import KINDS, Criterion
from fleetsim.documents import allowed, check_fields, read_mapping, text, whole
from fleetsim.errors import InputError, found, nearest
from fleetsim.evidence import Evidence
from fleetsim.grid import Axis, read_grid
from fleetsim.parameters import (
    ControlSeeds,
    LargestEvents,
    Repeats,
    Replicates,
    check_parameters,
    run_parameters,
)
from fleetsim.project import Project
from fleetsim.sizes import Scaling, Size, config_of_size, size_faults
from fleetsim.ways import ScaleOut, Tasks

__all__ = [
    "NOTEBOOKS",
    "Criterion",
    "Experiment",
    "Spec",
    "load_experiment",
    "with_parameters",
]

R = TypeVar("R", Size, Tasks)

EXPERIMENT_SCHEMA = 1
_LISTS = ("grid", "sizes", "tasks")  # keys that are read by code of their own


@dataclass(frozen=True)
class Notebook:
    """A notebook that runs experiments; its parameters are in `NOTEBOOK_PARAMETERS`.

    Attributes
    ----------
    evidence : type
        What it gathers, and its criteria judge.
    keys : tuple of str
        Keys of experiment.yaml that its experiments need, and those of others may not have.
    """

    evidence: type[Evidence] | type[Calibration] | type[Scaling] | type[ScaleOut]
    keys: tuple[str, ...]


DEFAULT_NOTEBOOK = "experiment.ipynb"
NOTEBOOKS = {
    DEFAULT_NOTEBOOK: Notebook(Evidence, ("interval", "repeats", "replicates")),
    "calibration.ipynb": Notebook(Calibration, ("replicates", "control_seeds")),
    "scaling.ipynb": Notebook(Scaling, ("interval", "sizes", "largest_events")),
    "scale_out.ipynb": Notebook(ScaleOut, ("interval", "sizes", "tasks", "largest_events")),
}


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of experiment.yaml."""

    schema: Annotated[
        int, Meta(ge=1, le=1, description="version of this form", extra={"allowed": "1"})
    ]
    title: Annotated[str, text("title")]
    date: Annotated[str, text("when it was written down")]
    feature: Annotated[str, text("what is tried")]
    question: Annotated[str, text("the question")]
    hypothesis: Annotated[str, text("the hypothesis")]
    config: Annotated[str, text("path of the configuration, from the experiment's folder")]
    notebook: Annotated[str, text("file in notebooks/ that runs it")] = DEFAULT_NOTEBOOK
    # These have a default because not every notebook has them; see `NOTEBOOKS`.
    interval: Annotated[str, text("now, or the start of the first interval")] = ""
    batches: Annotated[int, whole("consecutive batches of a run", 1)] = 1
    repeats: Repeats = 0
    control_seeds: ControlSeeds = 0
    replicates: Replicates = 0
    sizes: Annotated[
        list[Any],
        Meta(
            min_length=1,
            description="sizes of a batch, each with its number of cold processes",
            extra={"allowed": "a list of {events: ..., repeats: ...}"},
        ),
    ] = []
    tasks: Annotated[
        list[Any],
        Meta(
            min_length=1,
            description="numbers of parts of few events, each with its number of cold commands",
            extra={"allowed": "a list of {tasks: ..., repeats: ...}"},
        ),
    ] = []
    largest_events: LargestEvents = 0
    alpha: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="level of the family of tests",
            extra={"allowed": "a number between 0 and 1"},
        ),
    ] = 0.05
    grid: Annotated[
        dict[Any, Any],
        Meta(
            min_length=1,
            description="values of parameters, every combination a point of a sweep",
            extra={"allowed": "a mapping of parameters to values"},
        ),
    ] = {}
    seeds: Annotated[
        int, whole("runs of each point of a sweep, each with the next seed", 1, 10**6)
    ] = 1
    keep_data: Annotated[
        bool,
        Meta(
            description="whether a run keeps its events after the verdicts",
            extra={"allowed": "true or false"},
        ),
    ] = True
    criteria: Annotated[
        list[Any],
        Meta(
            min_length=1,
            description="what is claimed, one by one",
            extra={"allowed": "a list of criteria"},
        ),
    ]


@dataclass(frozen=True)
class Experiment:
    """An experiment, with the parameters of one run put in.

    `id` is the folder's name; `parameters` holds every effective parameter, by its name. What the
    notebook does not have is "", 0 or empty. Where there are sizes, the configuration is that of
    the largest one that is measured. A sweep takes every point of the grid that `axes` make,
    `seeds` times; without `keep_data` a run deletes its events when they are judged.
    """

    id: str
    title: str
    date: str
    feature: str
    question: str
    hypothesis: str
    notebook: str
    interval: str
    batches: int
    repeats: int
    replicates: int
    control_seeds: int
    sizes: tuple[Size, ...]
    tasks: tuple[Tasks, ...]
    largest_events: int
    alpha: float
    seeds: int
    keep_data: bool
    axes: tuple[Axis, ...]
    criteria: tuple[Criterion, ...]
    config: Config
    config_file: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Every effective parameter: the experiment, its numbers, each scalar of the config."""
        scalars = scalar_keys()
        return {
            "experiment": self.id,
            **{
                name: getattr(self.config if name in scalars else self, name)
                for name in run_parameters(self.notebook)
            },
        }

    @property
    def measured_sizes(self) -> tuple[Size, ...]:
        """The sizes up to the largest that is measured."""
        return tuple(size for size in self.sizes if size.events <= self.largest_events)

    @property
    def measured_tasks(self) -> tuple[Tasks, ...]:
        """The numbers of tasks with no more drivers than the largest size may have events."""
        return tuple(row for row in self.tasks if row.drivers <= self.largest_events)


def load_experiment(
    project: Project,
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    notebook: str | None = None,
) -> Experiment:
    """Read an experiment and put parameters in.

    Parameters
    ----------
    project : Project
    name : str
        An id or a path.
    overrides : mapping, optional
        Values by parameter name, NumPy scalars included; None means "as the YAML says".
    notebook : str, optional
        The one that is about to run it; an experiment of another one is refused.

    Raises
    ------
    InputError
        One error that lists every fault of the file, or of the parameters.
    """
    path = project.experiment_file(name)
    data = read_mapping(path, "experiment")
    values, faults = check_fields(Spec, data)
    if "notebook" not in data:
        values["notebook"] = DEFAULT_NOTEBOOK
    runs_it = values.get("notebook", "")
    if runs_it:
        faults += _notebook_faults(runs_it, data)
    criteria = _criteria(values.pop("criteria", []), runs_it, faults)
    sizes = _rows("sizes", values.pop("sizes", []), Size, "events", faults)
    tasks = _rows("tasks", values.pop("tasks", []), Tasks, "tasks", faults)
    faults += _interval_faults(values, fixed="sizes" in data)
    config_file = path.parent / values.get("config", "")
    if "config" in values and not config_file.is_file():
        faults.append(
            f"config: found {found(data['config'])}; allowed: the path of a configuration file, "
            "from the experiment's folder"
        )
    if faults:
        raise InputError(project.relative(path), *faults)
    if notebook is not None and notebook != runs_it:
        raise InputError(
            "parameters",
            f"experiment: found {name!r}, which notebooks/{runs_it} runs; this is {notebook}",
        )
    grid = values.pop("grid", {})
    fields = msgspec.structs.fields(Spec)
    plain = {field.name: field.default for field in fields if not field.required}
    values = {key: value for key, value in plain.items() if key not in _LISTS} | values
    config = load_config(config_file)
    if NOTEBOOKS[runs_it].evidence is Calibration and (unfit := control_faults(config)):
        raise InputError(project.relative(config_file), *unfit)
    axes, faults = read_grid(grid, run_parameters(runs_it))
    experiment = Experiment(
        id=path.parent.name,
        criteria=criteria,
        sizes=sizes,
        tasks=tasks,
        config=config,
        config_file=project.relative(config_file),
        axes=axes,
        **{key: value for key, value in values.items() if key not in ("schema", "config")},
    )
    faults += _value_faults(experiment)
    if faults:
        raise InputError(project.relative(path), *faults)
    return with_parameters(experiment, overrides or {})


def with_parameters(experiment: Experiment, parameters: Mapping[str, Any]) -> Experiment:
    """Return an experiment with other parameters put in, each None as it is.

    Raises
    ------
    InputError
        One error that lists every fault.
    """
    notebook, config = experiment.notebook, experiment.config
    values, faults = check_parameters(parameters, run_parameters(notebook))
    scalars = {key: values.pop(key) for key in scalar_keys() if key in values}
    try:
        config = make_config(config.as_dict(), scalars) if scalars else config
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError("parameters", *faults)
    if experiment.sizes:
        largest = values.get("largest_events", experiment.largest_events)
        asked = scalars.get("number_of_companies")
        config = _config_of_sizes(config, experiment.sizes, largest, asked)
    if NOTEBOOKS[notebook].evidence is Calibration and (unfit := control_faults(config)):
        raise InputError("parameters", *unfit)
    return replace(experiment, config=config, **values)


def _value_faults(experiment: Experiment) -> list[str]:
    """Return what is wrong with the single values of a grid, the first of each axis."""
    known = run_parameters(experiment.notebook)
    faults = []
    for axis in experiment.axes:
        for name, values in zip(axis.names, zip(*axis.values, strict=True), strict=True):
            one = {name: known[name]}
            for value in values:
                # A whole configuration for each value would take a grid of a million a minute.
                wrong = check_parameters({name: value}, one)[1]
                if not wrong and isinstance(value, str):  # durations have rules of their own
                    try:
                        with_parameters(experiment, {name: value})
                    except InputError as error:
                        wrong = list(error.faults)
                if wrong:
                    faults += [f"grid.{fault}" for fault in wrong]
                    break
    return faults


def _notebook_faults(name: str, data: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the notebook, and with the keys that only some notebooks have."""
    if name not in NOTEBOOKS:
        return [
            f"notebook: found {found(name)}{nearest(name, NOTEBOOKS)}; "
            f"allowed: {', '.join(NOTEBOOKS)}"
        ]
    types = {field.name: field.type for field in msgspec.structs.fields(Spec)}
    own = NOTEBOOKS[name].keys
    faults = [f"{key}: missing; allowed: {allowed(types[key])}" for key in own if key not in data]
    for key in data:
        others = [other for other, notebook in NOTEBOOKS.items() if key in notebook.keys]
        if others and key not in own:
            faults.append(
                f"{key}: found {found(data[key])}; only an experiment of {' or '.join(others)} has "
                f"{key}, this is one of {name}"
            )
    return faults


def _rows(key: str, rows: list[Any], kind: type[R], name: str, faults: list[str]) -> tuple[R, ...]:
    """Return the sizes, or the numbers of tasks, of a list, and add what is wrong to the faults."""
    found_rows = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            faults.append(f"{key}[{number}]: found {found(row)}; allowed: {name} and repeats")
            continue
        values, wrong = check_fields(kind, row, f"{key}[{number}].")
        faults += wrong
        if not wrong:
            found_rows.append(kind(**values))
    numbers = [getattr(row, name) for row in found_rows]
    for one, other in pairwise(numbers):
        if one >= other:
            allowed = "larger and larger " + ("sizes" if kind is Size else "numbers")
            faults.append(f"{key}: found {other} after {one}; allowed: {allowed}")
    return tuple(found_rows)


def _config_of_sizes(
    config: Config, sizes: tuple[Size, ...], largest: int, companies: int | None
) -> Config:
    """Return the configuration of the largest size that is measured.

    Raises
    ------
    InputError
        Where no size is left, one cannot be made, or a number of companies is asked for.
    """
    measured = [size for size in sizes if size.events <= largest]
    if not measured:
        allowed = f"a whole number from {sizes[0].events}, the smallest size"
        raise InputError("parameters", f"largest_events: found {largest}; allowed: {allowed}")
    if faults := size_faults(config, measured):
        raise InputError("parameters", *(f"sizes: {fault}" for fault in faults))
    config = config_of_size(config, measured[-1])
    if companies not in (None, config.number_of_companies):
        raise InputError(
            "parameters",
            f"number_of_companies: found {companies}; it follows from the sizes, "
            f"{config.number_of_companies} for the largest",
        )
    return config


def _criteria(rows: list[Any], notebook: str, faults: list[str]) -> tuple[Criterion, ...]:
    """Return the criteria of a list, and add what is wrong with it to the faults."""
    kinds = [
        name
        for name, kind in KINDS.items()
        if notebook not in NOTEBOOKS or kind.evidence is NOTEBOOKS[notebook].evidence
    ]
    criteria, ids = [], []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            faults.append(f"criteria[{number}]: found {found(row)}; allowed: a mapping")
            continue
        label = f"criteria[{row.get('id', number)}]."
        ids.append(str(row.get("id", number)))
        values, wrong = check_fields(Criterion, row, label)
        kind = values.get("kind")
        if kind is not None and kind not in kinds:
            other = ", of another notebook" if kind in KINDS else nearest(kind, kinds)
            wrong.append(f"{label}kind: found {kind!r}{other}; allowed: {', '.join(kinds)}")
        wrong += _limit_faults(label, kind, row, values)
        faults += wrong
        if not wrong:
            criteria.append(Criterion(**values))
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        faults.append(f"criteria: the id {name!r} stands twice; every criterion has its own")
    return tuple(criteria)


def _limit_faults(
    label: str, kind: str | None, row: Mapping[str, Any], values: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with the limits of a criterion, as far as their types are right."""
    faults = []
    needed = KINDS[kind].limits if kind in KINDS else ()
    for name in ("low", "high", "tolerance"):
        value = values.get(name)
        if row.get(name) is None and name in needed:
            faults.append(f"{label}{name}: missing; a criterion of kind {kind} needs {name}")
        elif value is not None and kind in KINDS and name not in needed:
            faults.append(
                f"{label}{name}: found {value!r}; a criterion of kind {kind} has "
                f"{' and '.join(needed) or 'no limits'}"
            )
        elif value is not None and not 0 <= value < float("inf"):
            faults.append(f"{label}{name}: found {value!r}; allowed: a finite number from 0")
    low, high = values.get("low"), values.get("high")
    if low is not None and high is not None and low > high:
        faults.append(f"{label}low: found {low!r}, above high ({high!r})")
    if values.get("tolerance") is not None and not 0 < values["tolerance"] < 1:
        faults.append(
            f"{label}tolerance: found {values['tolerance']!r}; allowed: a fraction between 0 and 1"
        )
    return faults


def _interval_faults(values: dict[str, Any], *, fixed: bool = False) -> list[str]:
    interval = values.get("interval")
    if interval is None:
        return []
    if interval == "now" and fixed:
        return ["interval: found 'now'; allowed: a time, so that all repeats have the same bytes"]
    if interval == "now":
        if values.get("batches", 1) > 1:
            return ["batches: found more than 1 with interval now; give a start for more batches"]
        return []
    try:
        values["interval"] = format_time(parse_time(interval))
    except ValueError as error:
        return [f"interval: {error}, or now"]
    return []
