"""Experiments as data: what is claimed, fixed before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleetsim.base.clock import format_time, parse_time
from fleetsim.base.errors import InputError, cut, found, nearest
from fleetsim.base.project import Project
from fleetsim.base.strict import check_fields, read_mapping, text, whole
from fleetsim.experiment.criterion import Criterion, CriterionKind, worded
from fleetsim.experiment.grid import Axis, Range, read_grid
from fleetsim.experiment.kind import (
    DEFAULT_KIND,
    OTHER_NOTEBOOKS,
    Kind,
    find_kind,
    is_broken,
    kind_of_notebook,
    kinds,
    older_kind,
)
from fleetsim.experiment.notebook import own_parameters
from fleetsim.experiment.parameters import Parameter, by_name, check_parameters
from fleetsim.generate.config import Config, load_config, make_config, scalar_keys


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of experiment.yaml that all kinds have; see `Kind.Keys` for the others."""

    schema: Annotated[
        int, Meta(ge=1, le=1, description="version of this form", extra={"allowed": "1"})
    ]
    title: Annotated[str, text("title")]
    date: Annotated[str, text("when it was written down")] = ""
    feature: Annotated[str, text("what is tried")] = ""
    question: Annotated[str, text("the question")]
    hypothesis: Annotated[str, text("the hypothesis")]
    hypothesis_rests_on: Annotated[
        list[Any],
        Meta(
            description="ids of the criteria that decide about the hypothesis; all by default",
            extra={"allowed": "a list of ids"},
        ),
    ] = []
    config: Annotated[str, text("path of the configuration, from the experiment's folder")]
    kind: Annotated[str, text("kind of experiment")] = DEFAULT_KIND
    notebook: Annotated[str, text("file in notebooks/ that runs it; the kind's own by default")] = (
        ""
    )
    batches: Annotated[int, whole("consecutive batches of a run", 1, 10**6)] = 1
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
            max_length=1000,
            description="what is claimed, one by one",
            extra={"allowed": "a list of criteria"},
        ),
    ]


@dataclass(frozen=True)
class Experiment:
    """An experiment, with the parameters of one run put in.

    `id` is the folder's name; the hypothesis rests on the criteria that `hypothesis_rests_on`
    names, or on all where it is empty; `parameters` holds every effective parameter, by its name;
    `keys` are those that only its kind has, a `Kind.Keys`. A sweep takes every point of the grid
    that `axes` make, `seeds` times; without `keep_data` a run deletes its events when they are
    judged.
    `notebook_parameters` are those that only its notebook declares, each with its value. `given` is
    the configuration as file and parameters have it, `config` what the kind makes of it, `written`
    what it makes of the file alone; `folder` is the experiment's own.
    """

    id: str
    title: str
    date: str
    feature: str
    question: str
    hypothesis: str
    hypothesis_rests_on: tuple[str, ...]
    kind: Kind
    notebook: str
    batches: int
    alpha: float
    seeds: int
    keep_data: bool
    axes: tuple[Axis, ...]
    criteria: tuple[Criterion, ...]
    config: Config
    config_file: str
    keys: Any
    folder: Path
    given: Config
    written: Config
    notebook_parameters: tuple[Parameter, ...] = ()

    @property
    def is_moved(self) -> bool:
        """Whether parameters gave this run another configuration than the file, seed apart."""
        return msgspec.structs.replace(self.config, seed=self.written.seed) != self.written

    @property
    def run_parameters(self) -> dict[str, Parameter]:
        """What a run may be told, by name: the kind's parameters, and those of its notebook."""
        return self.kind.run_parameters | by_name(self.notebook_parameters)

    @property
    def parameters(self) -> dict[str, Any]:
        """Every effective parameter: the experiment, its numbers, each scalar of the config."""
        scalars = scalar_keys()
        return {
            "experiment": self.id,
            **{
                name: getattr(self.config if name in scalars else self.keys, name)
                for name in self.kind.run_parameters
            },
            **{p.name: p.default for p in self.notebook_parameters if p.default is not None},
        }

    @property
    def interval(self) -> str | None:
        """The start of the first interval, or "now"; None where a kind writes no batch."""
        return getattr(self.keys, "interval", None)


def load_experiment(
    project: Project, name: str, overrides: Mapping[str, Any] | None = None
) -> Experiment:
    """Read an experiment and put parameters in.

    Parameters
    ----------
    project : Project
    name : str
        An id or a path.
    overrides : mapping, optional
        Values by parameter name, NumPy scalars included; None means "as the YAML says".

    Raises
    ------
    InputError
        One error that lists every fault of the file, or of the parameters.
    """
    path = project.experiment_file(name)
    kind, spec, keys, criteria = _read(project, path)
    config_file = path.parent / spec.config
    axes, faults = read_grid(spec.grid, kind.run_parameters)
    given = load_config(config_file)
    experiment = Experiment(
        id=path.parent.name,
        title=spec.title,
        date=spec.date,
        feature=spec.feature,
        question=spec.question,
        hypothesis=spec.hypothesis,
        hypothesis_rests_on=tuple(spec.hypothesis_rests_on),
        kind=kind,
        notebook=spec.notebook,
        notebook_parameters=own_parameters(
            project.notebooks / spec.notebook, by_name(kind.parameters)
        ),
        batches=spec.batches,
        alpha=spec.alpha,
        seeds=spec.seeds,
        keep_data=spec.keep_data,
        axes=axes,
        criteria=criteria,
        config=given,
        given=given,
        written=given,
        folder=path.parent,
        config_file=project.relative(config_file),
        keys=keys,
    )
    try:
        experiment = with_parameters(experiment, {})
        experiment = replace(experiment, written=experiment.config)
    except InputError as error:
        where = f"{project.relative(path)} with {experiment.config_file}"
        raise InputError(where, *error.faults) from None
    faults += _value_faults(experiment)
    if faults:
        raise InputError(project.relative(path), *faults)
    return with_parameters(experiment, overrides) if overrides else experiment


def _read(project: Project, path: Path) -> tuple[Kind, Spec, Any, tuple[Criterion, ...]]:
    """Return the kind, the general keys, the kind's own keys and the criteria of a file.

    Raises
    ------
    InputError
        One error that lists every fault.
    """
    data = read_mapping(path, "experiment")
    kind, faults = _kind(data)
    foreign = _foreign_keys(kind, data)
    known = {key: value for key, value in data.items() if key not in (*foreign, "kind")}
    if kind is None:  # nobody knows which keys it would have
        known = {key: value for key, value in known.items() if key in Spec.__struct_fields__}
    values, wrong = check_fields((Spec,) if kind is None else (Spec, kind.Keys), known)
    faults += wrong + [fault for fault in foreign.values() if fault]
    values["notebook"] = values.get("notebook") or (kind.notebook if kind else "")
    faults += _notebook_faults(project, kind, values["notebook"])
    criteria = _criteria(values.get("criteria", []), kind, faults)
    faults += _rests_on_faults(values)
    faults += _interval_faults(values)
    if kind is not None:
        faults += kind.key_faults(values)
    if "config" in values and not (path.parent / values["config"]).is_file():
        faults.append(
            f"config: found {found(data['config'])}; allowed: the path of a configuration file, "
            "from the experiment's folder"
        )
    if faults or kind is None:
        raise InputError(project.relative(path), *faults)
    own = {key: values.pop(key) for key in kind.Keys.__struct_fields__ if key in values}
    return kind, Spec(**values), kind.Keys(**own), criteria


def with_parameters(experiment: Experiment, parameters: Mapping[str, Any]) -> Experiment:
    """Return an experiment with other parameters put in, each None as it is.

    Raises
    ------
    InputError
        One error that lists every fault.
    """
    kind, config = experiment.kind, experiment.given
    values, faults = check_parameters(parameters, experiment.run_parameters)
    own = tuple(p.at(values.pop(p.name, p.default)) for p in experiment.notebook_parameters)
    scalars = {key: values.pop(key) for key in scalar_keys() if key in values}
    try:
        config = make_config(config.as_dict(), scalars) if scalars else config
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError("parameters", *faults)
    keys = msgspec.structs.replace(experiment.keys, **values)
    try:
        settled = kind.settle(config, keys, scalars)
    except InputError as error:
        raise InputError("parameters", *error.faults) from None
    return replace(experiment, config=settled, given=config, keys=keys, notebook_parameters=own)


def _value_faults(experiment: Experiment) -> list[str]:
    """Return what is wrong with the single values of a grid, the first of each axis."""
    known = experiment.kind.run_parameters
    faults = []
    for axis in experiment.axes:
        for name, values in zip(axis.names, axis.columns, strict=True):
            one = {name: known[name]}
            # The limits of a parameter are a range as well: its ends decide.
            for value in (values[0], values[-1]) if isinstance(values, Range) else values:
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


def _kind(data: Mapping[str, Any]) -> tuple[Kind | None, list[str]]:
    """Return the kind of an experiment, or None and what is wrong with it."""
    if "kind" not in data:
        # An experiment of before there were kinds names the notebook alone.
        return older_kind(data.get("notebook")) or find_kind(DEFAULT_KIND), []
    name = data["kind"]
    if isinstance(name, str) and (name in kinds() or is_broken(name)):
        return find_kind(name), []
    return None, [
        f"kind: found {found(name)}{nearest(str(name), kinds())}; allowed: {', '.join(kinds())}, "
        "or one of another package, once that is installed"
    ]


def _foreign_keys(kind: Kind | None, data: Mapping[str, Any]) -> dict[str, str]:
    """Return a fault for each key that only experiments of other kinds have."""
    general = {field.name for field in msgspec.structs.fields(Spec)}
    owners: dict[str, list[str]] = {}
    for other in kinds().values():
        for field in msgspec.structs.fields(other.Keys):
            owners.setdefault(field.name, []).append(other.name)
    if kind is None:
        return {key: "" for key in data if key in owners and key not in general}
    return {
        key: f"{key}: found {found(data[key])}; only an experiment of kind "
        f"{' or '.join(owners[key])} has {key}, this is one of kind {kind.name}"
        for key in data
        if key in owners and key not in general and kind.name not in owners[key]
    }


def _notebook_faults(project: Project, kind: Kind | None, name: str) -> list[str]:
    """Return what is wrong with the name of a notebook that is not the kind's own."""
    if kind is None or name == kind.notebook:
        return []
    if name in OTHER_NOTEBOOKS:
        return [f"notebook: found {found(name)}, which runs no experiment"]
    other = kind_of_notebook(name)
    if other is not None:
        return [
            f"notebook: found {found(name)}, which runs experiments of kind {other.name}, this is "
            f"one of kind {kind.name}"
        ]
    there = sorted(path.name for path in project.notebooks.glob("*.ipynb"))
    if name in there:
        return []
    listed = ", ".join(dict.fromkeys([kind.notebook, *there]))
    return [
        f"notebook: found {found(name)}{nearest(name, there)}; allowed: the name of a file in "
        f"notebooks/ that ends in .ipynb: {listed}"
    ]


def _criteria(rows: list[Any], kind: Kind | None, faults: list[str]) -> tuple[Criterion, ...]:
    """Return the criteria of a list, and add what is wrong with it to the faults."""
    known = {} if kind is None else kind.criteria()
    criteria, ids = [], []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            faults.append(f"criteria[{number}]: found {found(row)}; allowed: a mapping")
            continue
        label = f"criteria[{cut(str(row.get('id', number)))}]."
        ids.append(str(row.get("id", number)))
        values, wrong = check_fields(Criterion, row, label)
        name = values.get("kind")
        of = known.get(name or "")
        if name is not None and of is None and kind is not None:
            of = _all_criteria().get(name)
            other = ", of another kind of experiment" if of else nearest(name, known)
            wrong.append(f"{label}kind: found {found(name)}{other}; allowed: {', '.join(known)}")
        wrong += _limit_faults(label, of, row, values)
        wrong += _choice_faults(label, of.choices if of else None, values)
        faults += wrong
        if not wrong and of is not None:
            criteria.append(worded(Criterion(**values), of))
    for name in sorted(name for name, count in Counter(ids).items() if count > 1):
        faults.append(
            f"criteria: duplicate id {found(name)}; allowed: one of its own for every criterion"
        )
    return tuple(criteria)


def _rests_on_faults(values: Mapping[str, Any]) -> list[str]:
    """Return a fault for each id that the hypothesis rests on and that no criterion has."""
    rows = values.get("criteria", [])
    ids = [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]
    named = values.get("hypothesis_rests_on", [])
    faults = [
        f"hypothesis_rests_on: found {found(name)}{nearest(str(name), ids)}; allowed: the ids of "
        f"criteria: {', '.join(map(cut, ids))}"
        for name in named
        if name not in ids
    ]
    if twice := sorted(name for name, count in Counter(map(str, named)).items() if count > 1):
        faults.append(f"hypothesis_rests_on: found {', '.join(map(found, twice))} twice")
    return faults


def _all_criteria() -> dict[str, CriterionKind]:
    """Return the kinds of criteria of all kinds of experiments."""
    return {name: of for kind in kinds().values() for name, of in kind.criteria().items()}


def _limit_faults(
    label: str,
    of: CriterionKind | None,
    row: Mapping[str, Any],
    values: Mapping[str, Any],
) -> list[str]:
    """Return what is wrong with the limits of a criterion, as far as their types are right.

    `of` is its kind, None where that is not known.
    """
    faults = []
    kind = values.get("kind")
    needed, may = (of.limits, of.limits + of.optional) if of else (None, ())
    for name in ("low", "high", "tolerance"):
        value = values.get(name)
        if row.get(name) is None and needed and name in needed:
            faults.append(f"{label}{name}: missing; a criterion of kind {kind} needs {name}")
        elif value is not None and needed is not None and name not in may:
            faults.append(
                f"{label}{name}: found {found(value)}; a criterion of kind {kind} has "
                f"{' and '.join(may) or 'no limits'}"
            )
        elif value is not None and not 0 <= value < float("inf"):
            faults.append(f"{label}{name}: found {found(value)}; allowed: a finite number from 0")
    low, high = values.get("low"), values.get("high")
    if low is not None and high is not None and low > high:
        faults.append(f"{label}low: found {low!r}, above high ({high!r})")
    if values.get("tolerance") is not None and not 0 < values["tolerance"] < 1:
        faults.append(
            f"{label}tolerance: found {values['tolerance']!r}; allowed: a fraction between 0 and 1"
        )
    return faults


def _choice_faults(
    label: str, known: Mapping[str, tuple[str, ...]] | None, values: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with what a criterion narrows itself down to."""
    faults = []
    for name in ("defect", "quantity"):
        value = values.get(name)
        if value is None or known is None:
            continue
        if name not in known:
            fault = (
                f"{label}{name}: found {found(value)}; a criterion of kind {values.get('kind')} "
            )
            faults.append(fault + f"has no {name}")
        elif value not in known[name]:
            near, listed = nearest(value, known[name]), ", ".join(known[name])
            faults.append(f"{label}{name}: found {found(value)}{near}; allowed: {listed}")
    return faults


def _interval_faults(values: dict[str, Any]) -> list[str]:
    """Put an interval into its form; return what is wrong with it."""
    interval = values.get("interval")
    if interval is None:
        return []
    if interval == "now":
        if values.get("batches", 1) > 1:
            return ["batches: found more than 1 with interval now; give a start for more batches"]
        return []
    try:
        values["interval"] = format_time(parse_time(interval))
    except ValueError as error:
        return [f"interval: {error}, or now"]
    return []
