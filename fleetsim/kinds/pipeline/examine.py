"""The examination of a pipeline, part by part: what each finds stands in its `Evidence`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetsim.base.errors import InputError
from fleetsim.batch.meta import read_meta
from fleetsim.delivery.arrivals import arrivals_of
from fleetsim.delivery.plan import Delivery, relation
from fleetsim.generate.config import Config
from fleetsim.kinds.pipeline.evidence import (
    UNREADABLE,
    Cost,
    Evidence,
    KillRecord,
    StartRecord,
    VariantRecord,
)
from fleetsim.kinds.pipeline.keys import PipelineKeys, queries_of
from fleetsim.kinds.pipeline.trial import Plan, Trial, spread
from fleetsim.measure.cold import DataSet, generate_data
from fleetsim.measure.series import Size, config_of_size, running_order
from fleetsim.reconcile.compare import accepted_difference, outcome_difference
from fleetsim.reconcile.outcome import reconcile
from fleetsim.reconcile.outputs import (
    ACCEPTED_KEY,
    REJECTED,
    REJECTED_KEY,
    Queries,
    UnreadableOutputError,
)
from fleetsim.reconcile.result import Reconciliation

#: The trial that all others are held against.
REFERENCE = "reference"
#: One row for each delivered line of the reference.
OUTCOME_NAME = "outcome.parquet"
_VARIANT_OUTCOMES, _EVIDENCE, _TRIALS = "outcomes", "evidence", "trials"

Progress = Callable[[int], object] | None


@dataclass(frozen=True)
class Setting:
    """What is examined, and where.

    Attributes
    ----------
    config : Config
    keys : PipelineKeys
    home : Path
        The experiment's folder, in which the command is started.
    folder : Path
        Gets ``outcome.parquet``, ``outcomes/``, ``evidence/`` and, for a while, ``trials/``.
    """

    config: Config
    keys: PipelineKeys
    home: Path
    folder: Path


class Examination:
    """An examination under way.

    Parameters
    ----------
    setting : Setting
    data : DataSet
        The batches by ordinal.
    """

    def __init__(self, setting: Setting, data: DataSet) -> None:
        self._setting, self._data = setting, data
        self.evidence = Evidence(setting.config, setting.keys)
        pipeline = setting.keys.under_test
        self._queries = queries_of(pipeline)
        self._accepted_reference = self._accepted(REFERENCE)

    @property
    def _outcome(self) -> Path:
        return self._setting.folder / OUTCOME_NAME

    def deliver(self) -> Reconciliation:
        """Run the reference, and hold what came out against what was delivered."""
        trial = self._try(Plan(REFERENCE, self._setting.keys.reference))
        found = self._reconcile(trial, REFERENCE, self._outcome)
        self.evidence.reconciliation = found
        self.evidence.costs.append(cost_of(found.delivered, trial.starts))
        self._forget(REFERENCE)
        return found

    def vary(self, progress: Progress) -> list[VariantRecord]:
        """Try every variant, each in folders of its own."""
        folder = self._setting.folder / _VARIANT_OUTCOMES
        for name, deliveries in self._setting.keys.tried.items():
            trial = self._try(Plan(name, deliveries))
            folder.mkdir(exist_ok=True)
            self._reconcile(trial, name, folder / f"{name}.parquet", deliveries)
            self.evidence.variants.append(
                VariantRecord(
                    name=name,
                    relation=relation(deliveries, self._setting.keys.reference),
                    deliveries=len(deliveries),
                    differ=accepted_difference(self._accepted_reference, self._accepted(name)),
                    starts_failed=sum(not start.well for start in trial.starts),
                )
            )
            self._forget(name)
            if progress:
                progress(1)
        return self.evidence.variants

    def kills(self) -> list[Plan]:
        """Return the kills to try: at changes that the reference made, and over its time."""
        keys, starts = self._setting.keys, self.evidence.starts_of(REFERENCE)
        changes = spread(keys.killed.changes, sum(start.changes for start in starts))
        seconds, count = sum(start.seconds for start in starts), keys.killed.times
        return [
            *(Plan(f"change-{at}", keys.reference, change=at) for at in changes),
            *(
                Plan(f"time-{k + 1}", keys.reference, seconds=seconds * (k + 0.5) / count)
                for k in range(count)
            ),
        ]

    def kill(self, plan: Plan) -> KillRecord:
        """Kill the pipeline once, let it come to its end, and compare the outcome."""
        trial, differ = self._try(plan), 0
        killed = next((n for n, s in enumerate(trial.starts) if s.ended == "killed"), None)
        later = [] if killed is None else trial.starts[killed + 1 :]
        if trial.struck:
            outcome = self._scratch(plan.name) / OUTCOME_NAME
            self._reconcile(trial, plan.name, outcome)
            differ = accepted_difference(self._accepted_reference, self._accepted(plan.name))
            differ += outcome_difference(self._outcome, outcome)
        record = KillRecord(
            name=plan.name,
            how="time" if plan.change is None else "change",
            at=float((plan.seconds if plan.change is None else plan.change) or 0),
            struck=trial.struck,
            starts=sum(start.attempt > 1 for start in later),
            recovered=all(start.well for start in later),
            differ=differ,
        )
        self.evidence.kills.append(record)
        self._forget(plan.name)
        return record

    def repeat(self, progress: Progress) -> list[Cost]:
        """Run the reference again, each time cold."""
        for number in range(2, self._setting.keys.repeats + 1):
            name = f"repeat-{number}"
            trial = self._try(Plan(name, self._setting.keys.reference))
            self.evidence.costs.append(cost_of(self.evidence.found.delivered, trial.starts))
            self._forget(name)
            if progress:
                progress(1)
        return self.evidence.costs

    def sizes(self) -> list[Size]:
        """Return the sizes to measure as often as each has repeats, in mixed order."""
        sizes = self._setting.keys.sizes
        return running_order(sizes, self._setting.config.seed) if sizes else []

    def grow(self, order: Sequence[Size], progress: Progress) -> None:
        """Run the pipeline on one batch of each size."""
        made: dict[int, DataSet] = {}
        for number, size in enumerate(order, start=1):
            if size.events not in made:
                made[size.events] = self._make_size(size)
            name, data = f"size-{size.events}-{number}", made[size.events]
            trial = self._try(Plan(name, (Delivery(0),)), data)
            lines = read_meta(data.batches[0]).event_count
            self.evidence.sizes.append(cost_of(lines, trial.starts))
            self._forget(name)
            if progress:
                progress(1)

    def clear(self) -> None:
        """Delete what was only needed on the way."""
        shutil.rmtree(self._setting.folder / _TRIALS, ignore_errors=True)

    def _make_size(self, size: Size) -> DataSet:
        folder = self._setting.folder / _TRIALS / f"data-{size.events}"
        folder.mkdir(parents=True)
        config = config_of_size(self._setting.config, size)
        return generate_data(config, folder, interval=self._setting.keys.interval, repeats=1)

    def _scratch(self, name: str) -> Path:
        return self._setting.folder / _TRIALS / name

    def _accepted(self, name: str) -> Path:
        """Return where the accepted rows of a trial are kept while they are needed."""
        return self._setting.folder / _TRIALS / f"{name}.accepted.parquet"

    def _try(self, plan: Plan, data: DataSet | None = None) -> Trial:
        """Run one trial, and keep what its starts took."""
        data = data or self._data
        trial = Trial(
            self._setting.keys.under_test,
            self._setting.home,
            self._scratch(plan.name),
            self._setting.folder / _EVIDENCE,
            data.companies,
            tuple(data.batches),
        )
        trial.run(plan)
        self.evidence.starts += trial.starts
        self.evidence.notes += trial.notes
        return trial

    def _reconcile(
        self,
        trial: Trial,
        name: str,
        outcome: Path,
        deliveries: Sequence[Delivery] | None = None,
    ) -> Reconciliation:
        """Hold what came out against what was delivered; the rows of each are kept in files.

        An output that cannot be read holds nothing, and a note says why: it is the pipeline's doing
        where the file is damaged, a start went wrong, or the reference could be read.
        """

        def held(queries: Queries, output: Path) -> Reconciliation:
            return reconcile(
                arrivals_of(deliveries or self._setting.keys.reference, self._data.batches),
                queries,
                output,
                outcome=outcome,
                keep_accepted=self._accepted(name),
            )

        try:
            return held(self._queries, trial.output)
        except InputError as error:
            own = name != REFERENCE or not all(start.well for start in trial.starts)
            if error.where not in (ACCEPTED_KEY, REJECTED_KEY) or not (
                own or isinstance(error, UnreadableOutputError)
            ):
                raise
            why = f"{error.where}: {'; '.join(error.faults)}"
        self.evidence.notes.append(f"{name}: {UNREADABLE}: {why}")
        reports = self._queries.rejected is not None or (trial.output / "rejected").is_dir()
        nothing = self._scratch(name) / "nothing"
        nothing.mkdir()
        return held(Queries(rejected=REJECTED if reports else None), nothing)

    def _forget(self, name: str) -> None:
        """Delete landing and output of a trial; the reference's accepted rows stay to the end."""
        shutil.rmtree(self._scratch(name), ignore_errors=True)
        if name != REFERENCE:
            self._accepted(name).unlink(missing_ok=True)


def cost_of(events: int, starts: Sequence[StartRecord]) -> Cost:
    """Return what a trial took, all its starts together."""
    return Cost(
        events=events,
        seconds=sum(start.seconds for start in starts),
        cpu_seconds=sum(start.cpu_seconds for start in starts),
        peak_bytes=max(start.peak_bytes for start in starts),
        output_bytes=starts[-1].output_bytes,
        well=all(start.well for start in starts),
    )
