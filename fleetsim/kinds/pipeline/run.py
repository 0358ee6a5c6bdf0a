"""A run that puts a pipeline under test: deliveries, variants, kills, costs, and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleetsim.base.progress import notebook_bar
from fleetsim.base.project import Project
from fleetsim.base.tables import Lines, Stack, Table
from fleetsim.batch.dataset import RUN_DATA
from fleetsim.batch.meta import DROPPED_NAME, EVENTS_NAME, read_meta
from fleetsim.experiment.check import defects_table
from fleetsim.experiment.criterion import MB
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import BaseRun, open_run, sample_lines
from fleetsim.kinds.pipeline.evidence import Evidence, PipelineRecord
from fleetsim.kinds.pipeline.examine import Examination, Progress, Setting
from fleetsim.kinds.pipeline.words import (
    answer,
    balance_table,
    cost_table,
    expects_of,
    growth_table,
    kills_table,
    matrix_table,
    variants_table,
    wrong_table,
)
from fleetsim.measure.cold import DataSet, generate_data


def open_pipeline(experiment: str = "031-ingest-first-try", **parameters: Any) -> PipelineRun:
    """Start a run on a pipeline, as `open_run` does."""
    run: PipelineRun = open_run(experiment, kind="pipeline", **parameters)
    return run


class PipelineRun(BaseRun):
    """A run under way. The steps: generate, deliver, vary, kill, repeat, grow, judge, finish."""

    steps = ("generate", "deliver", "vary", "kill", "repeat", "grow", "judge")

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        super().__init__(project, experiment, results, workers=workers)
        self._data: DataSet | None = None
        self._examination: Examination | None = None

    def check(self) -> Stack:
        """Return the expected lines of each kind, and what to beware of.

        No model says how a pipeline will do: no criterion has a probability before the run.
        """
        tables = [defects_table(self._check)]
        rows = tuple((text,) for text in (*self._check.findings, *self._check.warnings))
        if rows:
            tables.append(Table(("to beware of",), rows))
        return Stack(tuple(tables))

    def generate(self) -> Table:
        """Make companies, batches and ledgers with the real commands; return the batches."""
        experiment = self.experiment
        folder = self.folder / RUN_DATA
        folder.mkdir()
        self._data = generate_data(
            experiment.config,
            folder,
            interval=experiment.keys.interval,
            batches=experiment.keys.batches,
            repeats=1,
        )
        home = experiment.folder.absolute()
        setting = Setting(experiment.config, experiment.keys, home, self.folder)
        self._examination = Examination(setting, self._data)
        rows = []
        for ordinal, batch in enumerate(self._data.batches):
            meta = read_meta(batch)
            rows.append((str(ordinal), batch.name, str(meta.event_count), f"{meta.bytes / MB:.2f}"))
        return Table(("ordinal", "batch", "lines", "MB"), tuple(rows))

    def deliver(self) -> Stack:
        """Deliver the batches to the pipeline and reconcile; return balance and outcomes."""
        found = self._under_way().deliver()
        tables = [balance_table(found), matrix_table(found, expects_of(self.experiment.config))]
        if found.wrong:
            tables.append(wrong_table(found))
        return Stack(tuple(tables))

    def vary(self, progress: Progress = None) -> Table:
        """Try every variant, each in folders of its own; return what differs from the reference."""
        with notebook_bar(len(self.experiment.keys.tried), "variant") as update:
            return variants_table(self._delivered().vary(progress or update))

    def kill(self, progress: Progress = None) -> Table:
        """Kill the pipeline at changes of its output and at times; return what came of it."""
        examination = self._delivered()
        plans = examination.kills()
        with notebook_bar(len(plans), "kill") as update:
            for plan in plans:
                examination.kill(plan)
                if advance := progress or update:
                    advance(1)
        return kills_table(examination.evidence.kills)

    def repeat(self, progress: Progress = None) -> Table:
        """Run the reference again, each time cold; return time, CPU, memory and output."""
        with notebook_bar(self.experiment.keys.repeats - 1, "run") as update:
            return cost_table(self._delivered().repeat(progress or update))

    def grow(self, progress: Progress = None) -> Table:
        """Run it on one batch of each size, in mixed order; return how its cost grows."""
        examination = self._delivered()
        order = examination.sizes()
        with notebook_bar(len(order), "run") as update:
            examination.grow(order, progress or update)
        return growth_table(examination.evidence)

    def sample(self) -> Lines:
        """Return ten lines of the data as they stand in the first file."""
        return sample_lines(self._need(self._data, "generate").batches[0])

    def evidence(self) -> Evidence:
        """Return what was found."""
        return self._delivered().evidence

    def answer(self) -> str:
        """Return in a sentence or two what became of the delivered lines."""
        return answer(self.evidence())

    def judge(self) -> Table:
        """Decide every criterion on what was found; return the verdicts."""
        evidence = self.evidence()
        section = PipelineRecord(
            expects=expects_of(evidence.config),
            reconciliation=evidence.found,
            variants=evidence.variants,
            kills=evidence.kills,
            costs=evidence.costs,
            sizes=evidence.sizes,
            growth=evidence.growth(),
            starts=evidence.starts,
            notes=evidence.notes,
        )
        batches = self._need(self._data, "generate").batches
        names = [batch.name for batch in batches]
        return self._judge(reasons=self.answer(), section=section, batch_ids=names)

    def _under_way(self) -> Examination:
        examination: Examination = self._need(self._examination, "generate")
        return examination

    def _delivered(self) -> Examination:
        examination = self._under_way()
        self._need(examination.evidence.reconciliation, "deliver")
        return examination

    def _drop_data(self) -> None:
        """Delete what was only needed on the way, and the lines that the experiment drops."""
        self._under_way().clear()
        data = self._need(self._data, "generate")
        for batch in () if self.experiment.keep_data else data.batches:
            (batch / DROPPED_NAME).touch()
            (batch / EVENTS_NAME).unlink()
