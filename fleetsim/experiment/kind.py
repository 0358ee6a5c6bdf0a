"""A kind of experiment: everything that the experiments of one kind have and no others.

A kind is one class behind `Kind`, in a folder of its own. `kinds` finds those of the package and
those that others have installed, and is the only way to them: nothing general imports one.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import getfile, isabstract
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from fleetsim.base.errors import FleetsimError, InputError, found, nearest
from fleetsim.base.progress import in_notebook
from fleetsim.base.project import source_hash
from fleetsim.base.terminal import printable
from fleetsim.experiment.parameters import PLACES, Parameter
from fleetsim.generate.config import Config, scalar_keys

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.expectation import Expectation
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.record import Record
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun

#: The kind of an experiment that does not say which.
DEFAULT_KIND = "baseline"
#: Entry points of this group are kinds that other packages bring along.
GROUP = "fleetsim.kinds"
#: Notebooks of the package that run no experiment.
OTHER_NOTEBOOKS = EXPLORE, SWEEP = "explore.ipynb", "sweep.ipynb"


class Costs(NamedTuple):
    """What the cold runs of one run took, one value each; empty where it was not measured."""

    seconds: Sequence[float] = ()
    cpu_seconds: Sequence[float] = ()
    peak_bytes: Sequence[float] = ()


class Kind(ABC):
    """What a kind of experiment brings along; one object serves all its experiments.

    A module that defines a kind imports nothing heavy: `criteria`, `plots` and `run` do that when
    they are asked.

    Attributes
    ----------
    name : str
        The value of ``kind:`` in experiment.yaml, and the name of its part of ``result.json``.
    notebook : str
        The notebook in ``notebooks/`` that runs it; ``notebook:`` may name another one.
    Keys : type
        A msgspec struct: the keys of experiment.yaml that other kinds need not have.
    parameters : tuple of Parameter
        Those of the notebook, in the order of its cell. Each is ``experiment``, ``results``, a key
        of `Keys` or a plain key of the configuration.
    cold_batches : bool
        Whether the `measurements` of its records are those of cold processes that each make the
        batches of the record's configuration and interval. Then two of its runs can be measured
        again from their records (``fleetsim compare --measure-again``).
    """

    name: ClassVar[str]
    notebook: ClassVar[str]
    Keys: ClassVar[type[msgspec.Struct]]
    parameters: ClassVar[tuple[Parameter, ...]]
    cold_batches: ClassVar[bool] = False

    @property
    def run_parameters(self) -> dict[str, Parameter]:
        """What a run may be told, by name: all but the experiment and the results."""
        return {p.name: p for p in self.parameters if p.name not in PLACES}

    def key_faults(self, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong between keys of experiment.yaml that are right one by one."""
        return []

    def settle(self, config: Config, keys: Any, asked: Mapping[str, Any]) -> Config:
        """Return the configuration of a run.

        Parameters
        ----------
        config : Config
            With the parameters put in.
        keys : Keys
            With the parameters put in.
        asked : mapping
            The plain keys of the configuration that parameters have set.

        Raises
        ------
        InputError
            Where no run can be made of them; its place does not matter.
        """
        return config

    def expect(self, experiment: Experiment) -> Expectation:
        """Return what the model says before a run."""
        from fleetsim.experiment.expectation import Expectation
        from fleetsim.stats.battery import family_size

        return Expectation(
            config=experiment.config,
            batches=experiment.batches,
            alpha=experiment.alpha,
            family=family_size(experiment.batches),
        )

    def extent(self, experiment: Experiment) -> str:
        """Return as a phrase how much data a run makes."""
        expectation = self.expect(experiment)
        of_many = f" in {experiment.batches} batches" if experiment.batches > 1 else ""
        clean = "clean " if expectation.ledger and experiment.config.defects else ""
        return (
            f"{expectation.mean:g} {clean}events expected{of_many}, standard deviation "
            f"{expectation.standard_deviation:.4g}"
        )

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return what the record's description holds besides what all kinds have."""
        return {}

    def sources(self, experiment: Experiment) -> dict[str, str]:
        """Return the SHA-256 of each file besides that a run's content depends on, by its path."""
        return {}

    def check_machine(self, experiment: Experiment, results: Path) -> None:  # noqa: B027
        """Refuse a run that this machine cannot make, before anything is written.

        Raises
        ------
        InputError
            With what is missing.
        """

    @abstractmethod
    def criteria(self) -> Mapping[str, CriterionKind]:
        """Return the kinds of criteria by name."""

    @abstractmethod
    def plots(self) -> Mapping[str, Plot]:
        """Return the plots by name, in their order."""

    @abstractmethod
    def run(self) -> type[BaseRun]:
        """Return the class of its runs."""

    def section(self) -> type[msgspec.Struct] | None:
        """Return the type of its part of ``result.json``, or None where it has none."""
        return None

    def evidence(self) -> type | None:
        """Return the type of what its plots draw, where runs of a sweep may have it drawn later.

        It is a dataclass or a msgspec struct of plain values, arrays of numbers and further such:
        the run keeps it, and ``fleetsim report`` draws. With None, every run draws its figures.
        """
        return None

    def costs(self, record: Record) -> Costs:
        """Return what a sweep says of the cost of a run: by default generation time and memory."""
        measured = record.measurements
        if measured is None:
            return Costs()
        return Costs(measured.generation_seconds, (), measured.peak_rss_bytes)

    def files(self) -> Mapping[str, Path]:
        """Return what a new experiment has beside its two YAML files: sources by their names."""
        return {}

    def template(self) -> Path | None:
        """Return the folder with what a new experiment begins with, or None.

        It holds ``config.yaml`` and ``experiment.yaml``. By default it is the one beside the kind's
        module; without one, a new experiment begins as the one that the kind's notebook runs.
        """
        own = Path(getfile(type(self))).with_name("template")
        return own if (own / "experiment.yaml").is_file() else None

    def document(self) -> Path:
        """Return the template of its document: the one beside its module, or the general one.

        A kind's own extends the general ``document.md.j2``.
        """
        own = Path(getfile(type(self))).with_name("document.md.j2")
        return own if own.is_file() else Path(__file__).with_name("document.md.j2")


class _Found(NamedTuple):
    """What there is: kinds by name, where the outside ones come from, and what cannot be used."""

    kinds: dict[str, Kind]
    origins: dict[str, EntryPoint]
    broken: dict[str, str]


def kinds() -> Mapping[str, Kind]:
    """Return all kinds of experiments by name: the package's own, then those of others.

    An installed kind that cannot be used is left out: it stops no experiment of another kind.
    `find_kind` refuses it, and says so once on stderr to who asks for another one.
    """
    return _look().kinds


def find_kind(name: str) -> Kind:
    """Return the kind of a name.

    Raises
    ------
    InputError
        Where there is none.
    FleetsimError
        Where it is installed and cannot be used; it says why, and which package it comes from.
    """
    there = _look()
    if name in there.kinds:
        _warn_of_broken()
        return there.kinds[name]
    if name in there.broken:
        raise FleetsimError(there.broken[name])
    raise InputError(
        "kind",
        f"found {found(name)}, which is not installed{nearest(name, kinds())}; "
        f"allowed: {', '.join(kinds())}",
        next_step="correct the name, or install the package that brings this kind along",
    )


def is_broken(name: str) -> bool:
    """Return whether a kind of this name is installed and cannot be used."""
    return name in _look().broken


def origin(kind: Kind) -> tuple[str, str] | None:
    """Return name and version of the distribution of an outside kind, None for one of fleetsim."""
    entry = _look().origins.get(kind.name)
    if entry is None:
        return None
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "unknown")


@cache
def kind_hash(kind: Kind) -> str | None:
    """Return the SHA-256 of an outside kind's package, None for a kind of fleetsim.

    A run's content depends on it as on fleetsim's own sources.
    """
    if _look().origins.get(kind.name) is None:
        return None
    module = import_module(type(kind).__module__.partition(".")[0])
    folders = list(getattr(module, "__path__", ()))
    return source_hash(Path(folders[0] if folders else str(module.__file__)))


def kind_of_notebook(notebook: Any) -> Kind | None:
    """Return the kind whose own notebook this is, or None."""
    return next((kind for kind in kinds().values() if kind.notebook == notebook), None)


def older_kind(notebook: Any) -> Kind | None:
    """Return the kind of an experiment or a record that names its notebook alone, or None.

    There were no kinds yet when it was written, and so none from outside.
    """
    kind = kind_of_notebook(notebook)
    return None if kind is None or kind.name in _look().origins else kind


@cache
def _look() -> _Found:
    package = import_module(GROUP)
    known: dict[str, Kind] = {}
    for folder in iter_modules(package.__path__):
        # A folder without `kind.py` is no kind: it has a notebook of its own.
        if folder.ispkg and (Path(package.__path__[0]) / folder.name / "kind.py").is_file():
            kind = import_module(f"{GROUP}.{folder.name}.kind").KIND
            known[kind.name] = kind
    order = [DEFAULT_KIND, *(name for name in known if name != DEFAULT_KIND)]
    there = _Found({name: known[name] for name in order}, {}, {})
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            kind = _installed(entry, there.kinds)
        except FleetsimError as error:
            there.broken[entry.name] = str(error)
        else:
            there.kinds[entry.name], there.origins[entry.name] = kind, entry
    return there


@cache  # once is enough
def _warn_of_broken() -> None:
    """Say which installed kinds are left out, to who uses another one.

    In a notebook it would become a part of the report; who asks for the kind is told there, too.
    """
    for text in () if in_notebook() else _look().broken.values():
        print(f"fleetsim: warning: {printable(text)}", file=sys.stderr)


def _installed(entry: EntryPoint, known: Mapping[str, Kind]) -> Kind:
    """Return the kind of an entry point, which has to keep to the protocol."""
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
    where = f"the kind {entry.name!r} (entry point {entry.value}, of {package})"
    try:
        kind = entry.load()
        if isinstance(kind, type) and issubclass(kind, Kind) and not isabstract(kind):
            kind = kind()
        faults = _kind_faults(kind, entry.name, known)
    except Exception as error:  # whatever its module does when it is imported
        raise FleetsimError(
            f"{where} cannot be loaded: {type(error).__name__}: {error}\n"
            f"  next: correct it, or uninstall it; python -c 'import {entry.module}' shows where"
        ) from error
    if faults:
        raise FleetsimError(refusal(where, faults))
    return kind  # type: ignore[no-any-return]  # it is one, or there were faults


def refusal(where: str, faults: Iterable[str]) -> str:
    """Return what to say of a kind that does not keep to the protocol."""
    listed = "".join(f"\n  - {fault}" for fault in faults)
    return (
        f"{where} cannot be used:{listed}\n"
        "  next: docs/extending.md, 'A kind of experiment', shows a whole one"
    )


def _kind_faults(kind: Any, name: str, known: Mapping[str, Kind]) -> list[str]:
    """Return in which ways a kind does not keep to the protocol."""
    if isinstance(kind, type) and issubclass(kind, Kind):
        return [missing_methods(kind)]
    if not isinstance(kind, Kind):
        return [f"found {found(kind)}; allowed: a class with the base fleetsim.experiment.Kind"]
    missing = [
        wanted for wanted in ("name", "notebook", "Keys", "parameters") if not hasattr(kind, wanted)
    ]
    if missing:
        return [f"{wanted}: missing" for wanted in missing]
    faults = _name_faults(kind, name, known)
    if not (isinstance(kind.Keys, type) and issubclass(kind.Keys, msgspec.Struct)):
        return [*faults, f"Keys: found {found(kind.Keys)}; allowed: a msgspec struct"]
    if wrong := [p for p in kind.parameters if not isinstance(p, Parameter)]:
        return [*faults, f"parameters: found {found(wrong[0])}; allowed: Parameter(name, type)"]
    return faults + _key_faults(kind) + _parameter_faults(kind)


def missing_methods(cls: type) -> str:
    """Return as a sentence which methods an abstract class lacks."""
    lacking = sorted(getattr(cls, "__abstractmethods__", ()))
    return f"class {cls.__name__} lacks {' and '.join(f'{name}()' for name in lacking)}"


def _name_faults(kind: Kind, name: str, known: Mapping[str, Kind]) -> list[str]:
    """Return what is wrong with the names of a kind and of its notebook."""
    from fleetsim.experiment.record import Record

    faults = []
    if kind.name != name:
        faults.append(f"name: found {found(kind.name)}; allowed: that of the entry point, {name!r}")
    if name in known:
        faults.append(f"name: found {name!r}, which is taken; allowed: any but {', '.join(known)}")
    if name in {field.name for field in msgspec.structs.fields(Record)}:
        faults.append(f"name: found {name!r}, a key of every result.json; allowed: another name")
    taken = {other.notebook: f"the kind {other.name}" for other in known.values()}
    taken |= dict.fromkeys(OTHER_NOTEBOOKS, "fleetsim")
    if fault := notebook_name_fault(kind.notebook):
        faults.append(f"notebook: {fault}")
    elif kind.notebook in taken and name not in known:
        faults.append(
            f"notebook: found {kind.notebook!r}, which is that of {taken[kind.notebook]}; "
            "allowed: a name of its own"
        )
    return faults


def notebook_name_fault(name: Any) -> str | None:
    """Return what is wrong with the name of a notebook, which is a plain one."""
    if isinstance(name, str) and re.fullmatch(r"[^/\\\x00]+\.ipynb", name) and name[0] != ".":
        return None
    return f"found {found(name)}; allowed: the name of a file in notebooks/ that ends in .ipynb"


def _key_faults(kind: Kind) -> list[str]:
    """Return what is wrong with the keys that only a kind has."""
    from fleetsim.experiment.spec import Spec

    general = {field.name for field in msgspec.structs.fields(Spec)}
    faults = []
    for field in msgspec.structs.fields(kind.Keys):
        if field.name in general:
            faults.append(f"Keys: {field.name} is a key that every experiment has")
        elif field.name in scalar_keys():
            faults.append(f"Keys: {field.name} is a key of the configuration")
    return faults


def _parameter_faults(kind: Kind) -> list[str]:
    """Return what is wrong with the parameters of a kind."""
    own = {field.name for field in msgspec.structs.fields(kind.Keys)}
    allowed = [*PLACES[:2], *own, *scalar_keys()]
    faults = [
        f"parameters: {parameter.name} is neither a key of Keys nor of the configuration"
        f"{nearest(parameter.name, allowed)}; allowed: {', '.join(allowed)}"
        for parameter in kind.parameters
        if parameter.name not in allowed
    ]
    return faults + [
        f"parameters: {wanted} is missing; every notebook has it"
        for wanted in PLACES[:2]
        if wanted not in {parameter.name for parameter in kind.parameters}
    ]
