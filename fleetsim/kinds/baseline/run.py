"""A run that makes batches, reads them back, tests them and judges the criteria."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from fleetsim.base.clock import parse_time
from fleetsim.base.progress import notebook_bar
from fleetsim.base.project import Project
from fleetsim.base.tables import Lines, Stack, Table
from fleetsim.batch.companies import read_companies
from fleetsim.batch.dataset import LEDGER_FOLDER, RUN_DATA
from fleetsim.batch.meta import DROPPED_NAME, EVENTS_NAME, read_meta
from fleetsim.experiment.record import Measurements
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import BaseRun, sample_lines
from fleetsim.kinds.baseline.criteria import margins
from fleetsim.kinds.baseline.evidence import Evidence, gather, replicate_counts
from fleetsim.measure.cold import DataSet, Repeat, generate_data
from fleetsim.stats.answers import answers_table, tests_table
from fleetsim.tally.audit import kind_counts, kinds_table
from fleetsim.tally.batches import Tally, tally_batches
from fleetsim.tally.faults import faults_table


class Run(BaseRun):
    """A run under way. The steps are, in this order: generate, inspect, test, judge, finish."""

    steps = ("generate", "inspect", "test", "judge")

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        super().__init__(project, experiment, results, workers=workers)
        self._data: DataSet | None = None
        self._tally: Tally | None = None
        self._evidence: Evidence | None = None

    def generate(self, progress: Callable[[int], object] | None = None) -> Table:
        """Make companies and batches with the real commands in cold processes; return the times.

        `progress` is called with 1 after each cold run; by default a notebook shows a bar.
        """
        experiment = self.experiment
        folder = self.folder / RUN_DATA
        folder.mkdir()
        with notebook_bar(experiment.keys.repeats, "run") as update:
            self._data = generate_data(
                experiment.config,
                folder,
                interval=experiment.keys.interval,
                batches=experiment.batches,
                repeats=experiment.keys.repeats,
                progress=progress or update,
            )
        repeats = self._data.repeats
        series = {
            "generation, monotonic clock [s]": [r.generation_seconds for r in repeats],
            **self._stated(repeats),
            "whole process [s]": [r.process_seconds for r in repeats],
            "peak resident set [MB]": [r.peak_rss_bytes / 1e6 for r in repeats],
        }
        rows = tuple(
            (name, *(f"{value:.3f}" for value in (min(v), median(v), max(v))))
            for name, v in series.items()
        )
        return Table((f"{len(repeats)} cold runs", "least", "median", "most"), rows)

    def _stated(self, repeats: Sequence[Repeat]) -> dict[str, list[float]]:
        """Return the time by the source document's formula, where the interval begins with it."""
        if self.experiment.keys.interval != "now":
            return {}
        seconds = [repeat.stated_generation_seconds for repeat in repeats]
        return {"generation_time - interval_start [s]": seconds}

    def inspect(self) -> Table | Stack:
        """Read the files back from the disk; return what was found in them.

        Where the configuration injects defects, the batches' own ledgers tell them from others,
        and a second table says what they explain.
        """
        data, config = self._need(self._data, "generate"), self.experiment.config
        ledger = data.companies.parent / LEDGER_FOLDER if config.defects else None
        tally = tally_batches(config, data.companies, list(data.batches), ledger=ledger)
        self._tally = tally
        caption = f"{tally.lines} lines in {len(tally.batch_ids)} batch folder(s)"
        faults = faults_table(tally.faults, tally.fault_counts, tally.examined, caption)
        kinds = kind_counts(config, tally)
        return faults if kinds is None else Stack((faults, kinds_table(kinds)))

    def sample(self) -> Lines:
        """Return ten lines of the data as they stand in the first file."""
        return sample_lines(self._need(self._data, "generate").batches[0])

    def test(self) -> Stack:
        """Draw the counts of the replicate seeds, make all tests; return answers and figures."""
        data, tally = self._need(self._data, "generate"), self._need(self._tally, "inspect")
        experiment = self.experiment
        start_us = parse_time(read_meta(data.batches[0]).interval_start)
        replicates = replicate_counts(
            experiment.config,
            read_companies(data.companies).eligible(start_us),
            experiment.keys.replicates,
            experiment.batches,
        )
        self._evidence = gather(
            experiment.config,
            data,
            tally,
            replicates,
            interval=experiment.keys.interval,
            alpha=experiment.alpha,
            **margins(experiment.criteria),
        )
        tests = self._evidence.tests
        return Stack((answers_table(tests), tests_table(tests)))

    def evidence(self) -> Evidence:
        """Return the tests and what they rest on."""
        found: Evidence = self._need(self._evidence, "test")
        return found

    def judge(self) -> Table:
        """Decide every criterion on the evidence; return the verdicts."""
        evidence = self.evidence()
        tally = evidence.tally
        return self._judge(
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
