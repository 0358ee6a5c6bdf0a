"""A kind of experiment: everything that the experiments of one kind have and no others.

A kind is one class behind `Kind`, in a folder of its own. `kinds` finds those of the package and
those that others have installed, and is the only way to them: nothing general imports one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from fleetsim.base.errors import FleetsimError, InputError, found, nearest
from fleetsim.experiment.parameters import PLACES, Parameter
from fleetsim.generate.config import Config, scalar_keys

if TYPE_CHECKING:
    from fleetsim.experiment.criterion import CriterionKind
    from fleetsim.experiment.expectation import Expectation
    from fleetsim.experiment.figures import Plot
    from fleetsim.experiment.spec import Experiment
    from fleetsim.experiment.steps import BaseRun

#: The kind of an experiment that does not say which.
DEFAULT_KIND = "baseline"
#: Entry points of this group are kinds that other packages bring along.
GROUP = "fleetsim.kinds"


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
    """

    name: ClassVar[str]
    notebook: ClassVar[str]
    Keys: ClassVar[type[msgspec.Struct]]
    parameters: ClassVar[tuple[Parameter, ...]]

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
        return (
            f"{expectation.mean:g} events expected{of_many}, standard deviation "
            f"{expectation.standard_deviation:.4g}"
        )

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return what the record's description holds besides what all kinds have."""
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

    def document(self) -> Path:
        """Return the template of its document; it extends ``document.md.j2``."""
        return Path(__file__).with_name("document.md.j2")


@cache
def kinds() -> Mapping[str, Kind]:
    """Return all kinds of experiments by name: the package's own, then those of others.

    Raises
    ------
    FleetsimError
        Where an installed kind cannot be used; it says why, and which package it comes from.
    """
    package = import_module(GROUP)
    known: dict[str, Kind] = {}
    for folder in iter_modules(package.__path__):
        # A folder without `kind.py` is no kind: it has a notebook of its own.
        if folder.ispkg and (Path(package.__path__[0]) / folder.name / "kind.py").is_file():
            kind = import_module(f"{GROUP}.{folder.name}.kind").KIND
            known[kind.name] = kind
    order = [DEFAULT_KIND, *(name for name in known if name != DEFAULT_KIND)]
    known = {name: known[name] for name in order}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        known[entry.name] = _installed(entry, known)
    return known


def find_kind(name: str) -> Kind:
    """Return the kind of a name.

    Raises
    ------
    InputError
        Where there is none.
    """
    if name in kinds():
        return kinds()[name]
    raise InputError(
        "kind", f"found {found(name)}{nearest(name, kinds())}; allowed: {', '.join(kinds())}"
    )


def _installed(entry: EntryPoint, known: Iterable[str]) -> Kind:
    """Return the kind of an entry point, which has to keep to the protocol."""
    package = entry.dist.name if entry.dist else "an unknown package"
    where = f"the kind {entry.name!r} ({entry.value}, of {package})"
    try:
        kind = entry.load()
        kind = kind() if isinstance(kind, type) else kind
    except Exception as error:
        raise FleetsimError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    faults = _kind_faults(kind, entry.name, set(known))
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise FleetsimError(
            f"{where} cannot be used:{listed}\n"
            "  next: docs/extending.md, 'A kind of experiment', shows a whole one"
        )
    return kind  # type: ignore[no-any-return]  # it is one, or there were faults


def _kind_faults(kind: Any, name: str, known: set[str]) -> list[str]:
    """Return in which ways a kind does not keep to the protocol."""
    if not isinstance(kind, Kind):
        return [f"found {found(kind)}; allowed: a class with the base fleetsim.experiment.Kind"]
    missing = [
        wanted for wanted in ("name", "notebook", "Keys", "parameters") if not hasattr(kind, wanted)
    ]
    if missing:
        return [f"{wanted}: missing" for wanted in missing]
    faults = []
    if kind.name != name:
        faults.append(f"name: found {found(kind.name)}; allowed: that of the entry point, {name!r}")
    if name in known:
        faults.append(f"name: found {name!r}, which is taken; allowed: any but {', '.join(known)}")
    if not (isinstance(kind.Keys, type) and issubclass(kind.Keys, msgspec.Struct)):
        return [*faults, f"Keys: found {found(kind.Keys)}; allowed: a msgspec struct"]
    own = {field.name for field in msgspec.structs.fields(kind.Keys)}
    allowed = [*PLACES[:2], *own, *scalar_keys()]
    faults += [
        f"parameters: {parameter.name} is neither a key of Keys nor of the configuration"
        f"{nearest(parameter.name, allowed)}"
        for parameter in kind.parameters
        if parameter.name not in allowed
    ]
    faults += [
        f"parameters: {wanted} is missing; every notebook has it"
        for wanted in PLACES[:2]
        if wanted not in {parameter.name for parameter in kind.parameters}
    ]
    return faults


def kind_of_notebook(notebook: str) -> Kind | None:
    """Return the kind that a notebook of the package runs, or None."""
    return next((kind for kind in kinds().values() if kind.notebook == notebook), None)
