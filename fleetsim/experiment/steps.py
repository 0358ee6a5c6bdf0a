"""One run of an experiment, step by step; the notebook calls the steps, and so may a script.

The run works in a hidden folder beside its final place and appears there when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import yaml
from msgspec import Struct

from fleetsim.base.chances import percent
from fleetsim.base.clock import Instant, batch_name, format_time
from fleetsim.base.errors import FleetsimError, InputError, cut, found, refused
from fleetsim.base.files import PARTIAL, claim_folder, point_link, publish_folder, write_file
from fleetsim.base.project import Project, find_project, source_hash
from fleetsim.base.tables import Lines, Stack, Table
from fleetsim.base.verdict import Verdict
from fleetsim.batch.meta import EVENTS_NAME
from fleetsim.experiment.answer import answer_of
from fleetsim.experiment.check import Check, check_experiment
from fleetsim.experiment.criterion import brief_of
from fleetsim.experiment.document import (
    HARDLY_WORDS,
    by_chance,
    planned_record,
    power_table,
    render_document,
)
from fleetsim.experiment.drawing import Drawn, ShownFigure, open_drawers
from fleetsim.experiment.kept import (
    EVIDENCE_NAME,
    FIGURES,
    FIGURES_FOLDER,
    LATER,
    Undrawn,
    keep_evidence,
)
from fleetsim.experiment.kind import Kind, kind_hash, kinds, missing_methods, origin, refusal
from fleetsim.experiment.parameters import (
    EXPERIMENT,
    RESULTS,
    by_name,
    check_parameters,
    name_faults,
)
from fleetsim.experiment.record import Record, overall_line, provenance
from fleetsim.experiment.results import LATEST, RECORD_NAME, Status, own_folder
from fleetsim.experiment.spec import Experiment, load_experiment, with_parameters
from fleetsim.generate.threads import cores

if TYPE_CHECKING:
    from fleetsim.experiment.figures import Plot

DOCUMENT_NAME = "experiment.md"
#: The form of an output that says which run a notebook made; nothing shows it.
RUN_MARK = "application/vnd.fleetsim.run+json"


def open_run(
    experiment: str = "000-smoke",
    results: str | None = None,
    *,
    kind: str | None = None,
    workers: int | None = None,
    **parameters: Any,
) -> Any:
    """Start a run of an experiment.

    Parameters
    ----------
    experiment : str
        Id of the experiment, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    kind : str, optional
        The kind that the experiment has to be of.
    workers : int, optional
        Processes that a step may use; as many as there are cores by default. No figure depends on
        it, but for times.
    **parameters
        What else the kind's notebook may be told. None means "as the YAML says".

    Returns
    -------
    BaseRun
        Of the class that the experiment's kind has.

    Raises
    ------
    InputError
        Where the experiment or a parameter is wrong, or this machine cannot make the run; nothing
        has been written.
    """
    given = {"experiment": experiment, "results": results}
    places, faults = check_parameters(given, by_name((EXPERIMENT, RESULTS)))
    if faults:
        raise InputError("parameters", *faults)
    project = find_project()
    name = places["experiment"]
    loaded = load_experiment(project, name)
    _refuse_other_kind(loaded, name, kind, parameters)
    loaded = with_parameters(loaded, parameters)
    folder = project.results(places.get("results"))
    loaded.kind.check_machine(loaded, folder)
    return run_class(loaded.kind)(project, loaded, folder, workers=workers or cores())


def _refuse_other_kind(
    experiment: Experiment, name: str, wanted: str | None, parameters: Mapping[str, Any]
) -> None:
    """Refuse an experiment of another kind than the notebook that starts it, with both named."""
    own = experiment.run_parameters
    if wanted is None and not all(key in own for key in parameters):
        # A notebook names all parameters of its kind, set or not.
        owners = (k.name for k in kinds().values() if parameters.keys() <= k.run_parameters.keys())
        wanted = next(owners, None)
    unknown = [key for key in parameters if key not in own and parameters[key] is not None]
    if wanted in (None, experiment.kind.name) and unknown:
        raise InputError(
            "parameters",
            *name_faults(unknown, own),
            next_step="where a notebook of your own declares it, name that one by notebook: in "
            f"experiment.yaml; {name} has {experiment.notebook}",
        )
    if wanted not in (None, experiment.kind.name):
        raise InputError(
            "parameters",
            f"experiment: found {found(name)} of kind {experiment.kind.name}, which "
            f"notebooks/{experiment.notebook} runs; allowed: one of kind {wanted}",
        )


def run_class(kind: Kind) -> type[BaseRun]:
    """Return the class of a kind's runs, which has to be whole.

    Raises
    ------
    FleetsimError
        Where it is not; it lists what is wrong.
    """
    made: Any = kind.run()
    if not (isinstance(made, type) and issubclass(made, BaseRun)):
        faults = [f"run(): found {found(made)}; allowed: a class with the base BaseRun"]
    else:
        faults = [f"run(): {missing_methods(made)}"] if isabstract(made) else []
        faults += [
            f"run(): {made.__name__}.steps names {step!r}, which is no method of the class"
            for step in made.steps
            if not callable(getattr(made, step, None))
        ]
        if "judge" not in made.steps:
            faults.append(f"run(): {made.__name__}.steps lacks 'judge', which ends every run")
    section: Any = kind.section()
    if not (section is None or (isinstance(section, type) and issubclass(section, Struct))):
        faults.append(f"section(): found {found(section)}; allowed: a msgspec struct, or None")
    if not kind.document().is_file():
        faults.append(f"document(): found {kind.document().name!r}; allowed: a file that is there")
    if faults:
        raise FleetsimError(refusal(_named(kind), faults))
    return made  # type: ignore[no-any-return]  # it is one, or there were faults


def _named(kind: Kind) -> str:
    """Return a kind with the package that it comes from."""
    package = " ".join(origin(kind) or ("fleetsim",))
    return f"the kind {kind.name!r} ({type(kind).__module__}, of {package})"


class BaseRun(ABC):
    """What all runs have: a hidden folder, a record that fills up, and their publication.

    Parameters
    ----------
    project : Project
    experiment : Experiment
    results : Path
        Folder of the results; the run appears in ``results/<experiment>/<run_id>``.
    workers : int
        Processes that a step may use.
    """

    steps: ClassVar[tuple[str, ...]] = ()  # methods to call in this order before `finish`

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        self.workers = workers
        self.project = project
        self.experiment = experiment
        self.started = Instant.now()
        self.load = os.getloadavg()[0]
        self._source = source_hash()
        self.key = run_key(
            project, experiment, (project.notebook_hash(experiment.notebook), self._source)
        )
        self.run_id = run_name(self.started, self.key)
        self.final = own_folder(results / experiment.id, results) / self.run_id
        self.folder = self.final.with_name(f".{self.run_id}{PARTIAL}")
        # The folder is ours while this object lives; a sweep's process sees thousands of them.
        weakref.finalize(self, os.close, claim_folder(self.folder))
        self._check = check_experiment(experiment)
        self._record = msgspec.structs.replace(
            planned_record(experiment, self._check),
            run_id=self.run_id,
            key=self.key,
            started=format_time(self.started.wall_us),
        )
        self._later = os.environ.get(FIGURES) == LATER and experiment.kind.evidence() is not None
        self._drawers = open_drawers(experiment.kind.name)  # they are ready before anything runs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.experiment.id!r}, {self.run_id!r})"

    def _repr_html_(self) -> str:
        return self.claims()._repr_html_()

    def claims(self) -> Table:
        """Return what the experiment claims, and how it will be measured."""
        rows = tuple((c.id, c.claim, c.method) for c in self._record.criteria)
        return Table(("criterion", "stated", "measured by"), rows, self.experiment.hypothesis)

    def check(self) -> Stack:
        """Return what the model says of each criterion before anything runs.

        Its probability to pass; warnings; and, folded, what becomes of a generator that is off.
        """
        expected = self._record.expected
        tables = [check_table(self._check)]
        if expected.findings:
            rows = tuple((text,) for text in (*expected.findings, *expected.remedies))
            tables.append(Table(("what does not add up, and what would reconcile it",), rows))
        if expected.warnings:
            rows = tuple((warning,) for warning in expected.warnings)
            tables.append(Table((HARDLY_WORDS.lower(),), rows))
        tables += [
            replace(power_table(row.power), fold=f"{row.criterion}: {row.accepts}")
            for row in expected.foresight
        ]
        return Stack(tuple(tables))

    @property
    def plots(self) -> Mapping[str, Plot]:
        """The plots that there are, by name."""
        return self.experiment.kind.plots()

    @abstractmethod
    def evidence(self) -> Any:
        """Return what the steps found, which criteria judge and plots draw.

        Raises
        ------
        FleetsimError
            Where the step that finds it has not been made.
        """

    def plot(self, name: str, size: tuple[float, float] | None = None) -> ShownFigure | Undrawn:
        """Draw a plot, keep it under ``figures/`` and show it with its alt text.

        In a sweep most runs only keep what it is drawn of, and ``fleetsim report`` draws.

        Parameters
        ----------
        name : str
            One of `plots`.
        size : (float, float), optional
            Width and height [inches].
        """
        if self._draws_later() and name in self.plots:
            run = f"{self.experiment.id}/{self.run_id}"
            return Undrawn(name, self.plots[name].title, size, run)
        drawn = self._drawn_beside(name, size) or self._draw(name, size)
        (self.folder / FIGURES_FOLDER).mkdir(exist_ok=True)
        for form, content in drawn.images.items():
            (self.folder / FIGURES_FOLDER / f"{name}.{form}").write_bytes(content)
        return ShownFigure(drawn.images["png"], drawn.alt, drawn.images["svg"])

    def _draws_later(self) -> bool:
        """Return whether figures are drawn later, once what they are drawn of is kept."""
        if self._later and not (self.folder / EVIDENCE_NAME).exists():
            self._later = keep_evidence(self.folder, self.evidence(), self.experiment.criteria)
        return self._later

    def _drawn_beside(self, name: str, size: tuple[float, float] | None) -> Drawn | None:
        if size is not None or self._drawers is None or name not in self._drawers.names:
            return None
        return self._drawers.take(name, self.evidence(), self.experiment.criteria)

    def _draw(self, name: str, size: tuple[float, float] | None) -> Drawn:
        from fleetsim.experiment.figures import drawn  # not for those who draw nothing

        if name not in self.plots:
            raise InputError("plot", f"found {found(name)}; allowed: {', '.join(self.plots)}")
        return drawn(self.plots[name], self.evidence(), self.experiment.criteria, size)

    def finish(self, *, engine: str = "notebook") -> Summary:
        """Write record, document and parameters, and let the run appear under its name.

        A run of the engine "library" has no report, hence no figures.
        """
        if not self._record.completed:
            raise FleetsimError("the run has no verdicts yet: call judge() first")
        if engine == "notebook" and not self._draws_later():
            drawn_beside = self._drawers.names if self._drawers is not None else ()
            for name in drawn_beside or self.plots:
                if not (self.folder / FIGURES_FOLDER / f"{name}.png").exists():
                    self.plot(name)
        self._drop_data()
        self._record = msgspec.structs.replace(
            self._record,
            finished=format_time(Instant.now().wall_us),
            provenance=provenance_of(
                self.project, self.experiment, engine, self.load, self._source
            ),
        )
        write_run_files(self.folder, self._record)
        publish_run(self.folder, self.final, latest=True)
        return Summary(self._record)

    def _drop_data(self) -> None:  # noqa: B027 (most runs write none)
        """Delete the data that the experiment does not want to keep."""

    @staticmethod
    def _need(value: Any, step: str) -> Any:
        if value is None:
            raise FleetsimError(f"this step comes after {step}()")
        return value

    def _judge(self, *, reasons: str = "", **content: Any) -> Table:
        """Decide every criterion, and put the verdicts, the answer and more into the record.

        `reasons` are the answer's, where the kind has better words for them than the criteria.
        """
        self._check_section(content.get("section"))
        evidence, kinds_of = self.evidence(), self.experiment.kind.criteria()
        criteria = []
        made = {test.name for test in content.get("tests", ())}
        for planned, criterion in zip(self._record.criteria, self.experiment.criteria, strict=True):
            kind = kinds_of[criterion.kind]
            judgement = kind.judge(criterion, evidence)
            criteria.append(
                msgspec.structs.replace(
                    planned,
                    observed=judgement.observed,
                    low=judgement.low,
                    high=judgement.high,
                    verdict=judgement.verdict,
                    tests=[name for name in kind.tests if name in made],
                    note=judgement.note,
                    brief=brief_of(judgement, criterion.unit),
                )
            )
        answer = answer_of(criteria, self.experiment.hypothesis_rests_on, reasons)
        self._record = msgspec.structs.replace(
            self._record, status=Status.COMPLETED, criteria=criteria, answer=answer, **content
        )
        return replace(self._record.table(), caption=str(answer), part="verdicts")

    def _check_section(self, section: Any) -> None:
        """Refuse a section of another type than the kind says: no one could read it again."""
        kind = self.experiment.kind
        form = kind.section()
        if section is None or (form is not None and isinstance(section, form)):
            return
        wanted = "None" if form is None else form.__name__
        fault = (
            f"section(): found {wanted}, but judge() stores a {type(section).__name__}; allowed: "
            "the type that judge() stores"
        )
        raise FleetsimError(refusal(_named(kind), [fault]))


def sample_lines(batch: Path, lines: int = 10) -> Lines:
    """Return the first lines of a batch's events as they stand in the file, long ones cut."""
    with open(batch / EVENTS_NAME, "rb") as file:
        first = [line for line, _ in zip(file, range(lines), strict=False)]
    texts = (line.rstrip(b"\n").decode(errors="replace") for line in first)
    caption = f"The first {len(first)} of {batch.name}/{EVENTS_NAME}" if first else "No line."
    return Lines(tuple(cut(text, 400) for text in texts), caption)


class Summary:
    """The end of a run: the overall line, each criterion that did not pass with its reason.

    A notebook that shows it keeps with the text which run it made, as `RUN_MARK`.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), RUN_MARK: mark_of(self.record)}

    def __repr__(self) -> str:
        lines = [str(self.record.answer), overall_line(self.record.criteria)]
        for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            lines += [
                f"{c.verdict}: {c.id}. {c.note}"
                for c in self.record.criteria
                if c.verdict == verdict
            ]
        return "\n".join([*lines, by_chance(self.record)]).rstrip()


def mark_of(record: Record) -> dict[str, str]:
    """Return what an executed notebook says of the run that it made."""
    return {"experiment": record.experiment, "run_id": record.run_id, "key": record.key}


def check_table(check: Check) -> Table:
    """Return a check as a table."""
    rows = tuple(
        (
            row.criterion.id,
            row.criterion.stated,
            "measured" if row.a_priori is None else percent(row.a_priori),
            row.outlook,
        )
        for row in check.criteria
    )
    return Table(("criterion", "stated", "P(pass)", "outlook"), rows)


def run_key(
    project: Project, experiment: Experiment, sources: tuple[str | None, str] | None = None
) -> str:
    """Return the hash of everything that a run's content depends on.

    `sources` are the hashes of the notebook and of fleetsim, for who has them already.
    """
    notebook, source = sources or (project.notebook_hash(experiment.notebook), source_hash())
    kind_source, files = kind_hash(experiment.kind), experiment.kind.sources(experiment)
    content = {
        "notebook": notebook,
        "source": source,
        "experiment": {
            name: getattr(experiment, name)
            for name in (
                "id",
                "batches",
                "alpha",
                "hypothesis",
                "question",
                "title",
                "keys",
            )
        },
        "kind": experiment.kind.name,
        **({} if kind_source is None else {"kind_source": kind_source}),
        **({"files": files} if files else {}),
        "criteria": experiment.criteria,
        "config": experiment.config.as_dict(),
        "parameters": experiment.parameters,
    }
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def run_name(started: Instant, key: str) -> str:
    """Return the name of a run: the second in which it began, and the first digits of its key."""
    return f"{batch_name(started.wall_us // 1_000_000 * 1_000_000)}-{key[:8]}"


def repeat_commands(experiment: Experiment) -> list[str]:
    """Return the commands that repeat a run."""
    words = [
        f"-p {name} {value}"
        for name, value in experiment.parameters.items()
        if name != "experiment"
    ]
    papermill = f"papermill notebooks/{experiment.notebook} out.ipynb -p experiment {experiment.id}"
    return [
        " ".join(["fleetsim run", experiment.id, *words]),
        " ".join([papermill, *words]),
    ]


def provenance_of(
    project: Project,
    experiment: Experiment,
    engine: str,
    load: float | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Return what a reader needs to judge and repeat a run, with the package of an outside kind."""
    told = provenance(project, repeat_commands(experiment), engine, load, source)
    package = origin(experiment.kind)
    if package is not None:
        told["versions"] |= dict([package])
        told["kind_sha256"] = kind_hash(experiment.kind)
    return told


def write_run_files(folder: Path, record: Record) -> None:
    """Write the record, the document and the parameters of a run."""
    write_file(folder / RECORD_NAME, record.encode())
    write_file(folder / DOCUMENT_NAME, render_document(record).encode())
    parameters = yaml.safe_dump(record.parameters, sort_keys=False, allow_unicode=True)
    write_file(folder / "params.yaml", parameters.encode())


def publish_run(folder: Path, final: Path, *, latest: bool) -> None:
    """Let a finished run appear under its name, and `latest` point to it."""
    try:
        publish_folder(folder, final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise FleetsimError(
                f"{final.name}: a run of this name stands already, started in the same second with "
                "the same inputs; run again"
            ) from None
        raise refused(error, final, "cannot be published: {}") from error
    if latest:
        point_link(final.parent / LATEST, final.name)
