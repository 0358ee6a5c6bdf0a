"""One run of an experiment, step by step; the notebook calls the steps, and so may a script.

The run works in a hidden folder beside its final place and appears there when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import msgspec
import yaml
from matplotlib.figure import Figure

from fleetsim.answers import answers_table, tests_table
from fleetsim.batch_meta import DROPPED_NAME, EVENTS_NAME, read_meta
from fleetsim.calibration import Calibration
from fleetsim.check import Check, check_experiment
from fleetsim.clock import Instant, batch_name, format_time, parse_time
from fleetsim.companies import read_companies
from fleetsim.criteria import KINDS, Verdict, judge, margins
from fleetsim.document import (
    by_chance,
    chance,
    planned_record,
    power_table,
    render_document,
)
from fleetsim.errors import FleetsimError, InputError
from fleetsim.evidence import Evidence, gather, replicate_counts
from fleetsim.experiment import DEFAULT_NOTEBOOK, Experiment, load_experiment
from fleetsim.faults import FaultKind
from fleetsim.files import PARTIAL, claim_folder, point_link, publish_folder, write_file
from fleetsim.measure import DataSet, generate_data
from fleetsim.parameters import check_parameters, parameters_of
from fleetsim.plots import PLOTS, ShownFigure, draw, render
from fleetsim.progress import notebook_bar
from fleetsim.project import Project, find_project, source_hash
from fleetsim.record import Measurements, Record, overall_line, provenance
from fleetsim.runs import LATEST, RECORD_NAME
from fleetsim.sizes import Scaling
from fleetsim.tables import Stack, Table
from fleetsim.tally import Tally, tally_batches
from fleetsim.ways import ScaleOut

__all__ = ["BaseRun", "Run", "find_experiment", "open_run", "publish_run", "run_key"]

DOCUMENT_NAME = "experiment.md"


def open_run(
    experiment: str = "000-smoke",
    results: str | None = None,
    repeats: int | None = None,
    replicates: int | None = None,
    **configuration: Any,
) -> Run:
    """Start a run of an experiment.

    Parameters
    ----------
    experiment : str
        Id of the experiment, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    repeats : int, optional
        Cold processes that generate the batch.
    replicates : int, optional
        Seeds whose counts are drawn in memory.
    **configuration
        Scalar keys of the configuration. None means "as the YAML says", here and above.

    Raises
    ------
    InputError
        Where the experiment or a parameter is wrong; nothing has been written.
    """
    parameters = {"repeats": repeats, "replicates": replicates, **configuration}
    return Run(*find_experiment(DEFAULT_NOTEBOOK, experiment, results, parameters))


def find_experiment(
    notebook: str, experiment: str, results: str | None, parameters: dict[str, Any]
) -> tuple[Project, Experiment, Path]:
    """Return project, experiment and results folder for a run that a notebook starts.

    Raises
    ------
    InputError
        Where one of them is wrong, or the experiment is another notebook's.
    """
    known = parameters_of(notebook)
    places, faults = check_parameters({"experiment": experiment, "results": results}, known)
    if faults:
        raise InputError("parameters", *faults)
    project = find_project()
    name = places.get("experiment", known["experiment"].default)
    loaded = load_experiment(project, name, parameters, notebook=notebook)
    return project, loaded, project.results(places.get("results"))


class BaseRun(ABC):
    """What all runs have: a hidden folder, a record that fills up, and their publication.

    Parameters
    ----------
    project : Project
    experiment : Experiment
    results : Path
        Folder of the results; the run appears in ``results/<experiment>/<run_id>``.
    """

    plots: ClassVar[Iterable[str]] = ()  # names that `plot` draws and `finish` asks for
    steps: ClassVar[tuple[str, ...]] = ()  # methods to call in this order before `finish`

    def __init__(self, project: Project, experiment: Experiment, results: Path) -> None:
        self.project = project
        self.experiment = experiment
        self.started = Instant.now()
        self.key = run_key(project, experiment)
        self.run_id = run_name(self.started, self.key)
        self.final = results / experiment.id / self.run_id
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.experiment.id!r}, {self.run_id!r})"

    def _repr_html_(self) -> str:
        return self.claims()._repr_html_()

    def claims(self) -> Table:
        """Return what the experiment claims, and how it will be measured."""
        rows = tuple((c.id, c.stated, c.method) for c in self.experiment.criteria)
        return Table(("criterion", "stated", "measured by"), rows, self.experiment.hypothesis)

    def check(self) -> Stack:
        """Return what the model says of each criterion before anything runs.

        Its probability to pass; warnings; and, folded, what becomes of a generator that is off.
        """
        expected = self._record.expected
        tables = [check_table(self._check)]
        if expected.warnings:
            rows = tuple((warning,) for warning in expected.warnings)
            tables.append(Table(("warnings, which are no findings",), rows))
        tables += [
            replace(power_table(row.power), fold=f"{row.criterion}: {row.accepts}")
            for row in expected.foresight
        ]
        return Stack(tuple(tables))

    @abstractmethod
    def plot(self, name: str) -> ShownFigure:
        """Draw a plot, keep it under ``figures/`` and show it with its alt text."""

    def finish(self, *, engine: str = "notebook") -> Summary:
        """Write record, document and parameters, and let the run appear under its name.

        A run of the engine "library" has no report, hence no figures.
        """
        if self._record.status != "completed":
            raise FleetsimError("the run has no verdicts yet: call judge() first")
        for name in self.plots if engine == "notebook" else ():
            if not (self.folder / "figures" / f"{name}.png").exists():
                self.plot(name)
        self._drop_data()
        self._record = msgspec.structs.replace(
            self._record,
            finished=format_time(Instant.now().wall_us),
            provenance=provenance(self.project, repeat_commands(self.experiment), engine),
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

    def _draw(self, name: str, make: Callable[[], tuple[Figure, str]]) -> ShownFigure:
        """Keep a figure of `plots` under ``figures/``."""
        if name not in self.plots:
            raise InputError("plot", f"found {name!r}; allowed: {', '.join(self.plots)}")
        figure, alt = make()
        images = render(figure)
        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        for form, content in images.items():
            (folder / f"{name}.{form}").write_bytes(content)
        return ShownFigure(images["png"], alt)

    def _judge(
        self, evidence: Evidence | Calibration | Scaling | ScaleOut, **content: Any
    ) -> Table:
        """Decide every criterion, and put the verdicts and more into the record."""
        criteria = []
        made = {test.name for test in content.get("tests", ())}
        for planned, criterion in zip(self._record.criteria, self.experiment.criteria, strict=True):
            judgement = judge(criterion, evidence)
            criteria.append(
                msgspec.structs.replace(
                    planned,
                    observed=judgement.observed,
                    low=judgement.low,
                    high=judgement.high,
                    verdict=judgement.verdict.value,
                    tests=[name for name in KINDS[criterion.kind].tests if name in made],
                    note=judgement.note,
                )
            )
        self._record = msgspec.structs.replace(
            self._record, status="completed", criteria=criteria, **content
        )
        return self._record.table()


class Run(BaseRun):
    """A run under way. The steps are, in this order: generate, inspect, test, judge, finish."""

    plots = PLOTS
    steps = ("generate", "inspect", "test", "judge")

    def __init__(self, project: Project, experiment: Experiment, results: Path) -> None:
        super().__init__(project, experiment, results)
        self._data: DataSet | None = None
        self._tally: Tally | None = None
        self._evidence: Evidence | None = None

    def generate(self, progress: Callable[[int], object] | None = None) -> Table:
        """Make companies and batches with the real commands in cold processes; return the times.

        `progress` is called with 1 after each cold run; by default a notebook shows a bar.
        """
        experiment = self.experiment
        folder = self.folder / "data"
        folder.mkdir()
        with notebook_bar(experiment.repeats, "run") as update:
            self._data = generate_data(
                experiment.config,
                folder,
                interval=experiment.interval,
                batches=experiment.batches,
                repeats=experiment.repeats,
                progress=progress or update,
            )
        repeats = self._data.repeats
        series = {
            "generation, monotonic clock [s]": [r.generation_seconds for r in repeats],
            "generation_time - interval_start [s]": [r.stated_generation_seconds for r in repeats],
            "whole process [s]": [r.process_seconds for r in repeats],
            "peak resident set [MB]": [r.peak_rss_bytes / 1e6 for r in repeats],
        }
        rows = tuple(
            (name, *(f"{value:.3f}" for value in (min(v), median(v), max(v))))
            for name, v in series.items()
        )
        return Table((f"{len(repeats)} cold runs", "least", "median", "most"), rows)

    def inspect(self) -> Table:
        """Read the files back from the disk; return what was found in them."""
        data = self._need(self._data, "generate")
        self._tally = tally_batches(self.experiment.config, data.companies, list(data.batches))
        rows = []
        for kind in FaultKind:
            count, examples = self._tally.faults_of(kind)
            rows.append((kind.words, str(count), str(examples[0]) if examples else "none found"))
        caption = f"{self._tally.lines} lines in {len(self._tally.batch_ids)} batch folder(s)"
        return Table(("faults", "number", "the first"), tuple(rows), caption)

    def test(self) -> Stack:
        """Draw the counts of the replicate seeds, make all tests; return answers and figures."""
        data, tally = self._need(self._data, "generate"), self._need(self._tally, "inspect")
        experiment = self.experiment
        start_us = parse_time(read_meta(data.batches[0]).interval_start)
        replicates = replicate_counts(
            experiment.config,
            read_companies(data.companies).eligible(start_us),
            experiment.replicates,
            experiment.batches,
        )
        self._evidence = gather(
            experiment.config,
            data,
            tally,
            replicates,
            interval=experiment.interval,
            alpha=experiment.alpha,
            **margins(experiment.criteria),
        )
        tests = self._evidence.tests
        return Stack((answers_table(tests), tests_table(tests)))

    def plot(self, name: str, size: tuple[float, float] = (8.0, 3.4)) -> ShownFigure:
        """Draw a plot of `PLOTS`, keep it under ``figures/`` and show it with its alt text."""

        def make() -> tuple[Figure, str]:
            evidence = self._need(self._evidence, "test")
            return draw(name, evidence, self.experiment.criteria, size)

        return self._draw(name, make)

    def judge(self) -> Table:
        """Decide every criterion on the evidence; return the verdicts."""
        evidence = self._need(self._evidence, "test")
        tally = evidence.tally
        return self._judge(
            evidence,
            batch_ids=list(tally.batch_ids),
            tests=list(evidence.tests),
            measurements=Measurements(
                event_count=tally.lines,
                generation_seconds=[r.generation_seconds for r in evidence.repeats],
                stated_generation_seconds=[r.stated_generation_seconds for r in evidence.repeats],
                process_seconds=[r.process_seconds for r in evidence.repeats],
                peak_rss_bytes=[r.peak_rss_bytes for r in evidence.repeats],
                batch_bytes=tally.batch_bytes,
                batch_disk_bytes=tally.batch_disk_bytes,
            ),
        )

    def _drop_data(self) -> None:
        data = self._need(self._data, "generate")
        for batch in () if self.experiment.keep_data else data.batches:
            (batch / DROPPED_NAME).touch()
            (batch / EVENTS_NAME).unlink()


class Summary:
    """The end of a run: the overall line, each criterion that did not pass with its reason."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def __repr__(self) -> str:
        lines = [overall_line(self.record.criteria)]
        for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            lines += [
                f"{c.verdict}: {c.id}. {c.note}"
                for c in self.record.criteria
                if c.verdict == verdict.value
            ]
        return "\n".join([*lines, by_chance(self.record)])


def check_table(check: Check) -> Table:
    """Return a check as a table."""
    rows = tuple(
        (
            row.criterion.id,
            row.criterion.stated,
            "measured" if row.a_priori is None else chance(row.a_priori),
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
    content = {
        "notebook": notebook,
        "source": source,
        "experiment": {
            name: getattr(experiment, name)
            for name in (
                *("id", "interval", "batches", "sizes", "tasks", "alpha"),
                *("hypothesis", "question", "title"),
            )
        },
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
        raise FleetsimError(f"{final}: cannot be published: {error.strerror}") from error
    if latest:
        point_link(final.parent / LATEST, final.name)
