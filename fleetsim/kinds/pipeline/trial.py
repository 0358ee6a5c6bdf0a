"""One trial of a pipeline: batches arrive in a landing folder, and its command is started."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleetsim.base.files import make_folder, remove
from fleetsim.delivery.landing import Landing
from fleetsim.delivery.plan import Delivery
from fleetsim.experiment.spec import Experiment
from fleetsim.kinds.pipeline.evidence import StartRecord
from fleetsim.kinds.pipeline.keys import EACH, PLACEHOLDER, Pipeline
from fleetsim.measure.tree import Kill, Start, find_command, run_tree

#: Starts that a pipeline gets to end by itself after a kill.
ATTEMPTS = 3
#: What its output may take, beside what was delivered so many times over [bytes].
OUTPUT_ROOM, OUTPUT_FACTOR = 1 << 30, 20
_TOLD = 4000  # characters of stderr in the record; 64 KiB are kept beside it
_SKIPPED = ("experiment.md", "__pycache__")


@dataclass(frozen=True)
class Plan:
    """What is tried: the deliveries, and a kill in the middle.

    `change` counts visible changes of the output over all starts of the trial, `seconds` their run
    time.
    """

    name: str
    deliveries: tuple[Delivery, ...]
    change: int | None = None
    seconds: float | None = None


class Trial:
    """One trial under way; its starts fill `starts`.

    Parameters
    ----------
    pipeline : Pipeline
    home : Path
        The experiment's folder, in which the command is started.
    folder : Path
        Made here; it gets ``landing`` and ``output``.
    evidence : Path
        Folder that gets the end of stdout and stderr of each start.
    companies : Path
    batches : tuple of Path
        The batches by ordinal, pristine.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        home: Path,
        folder: Path,
        evidence: Path,
        companies: Path,
        batches: tuple[Path, ...],
    ) -> None:
        self._pipeline, self._home, self._evidence = pipeline, home, evidence
        self.output = folder / "output"
        self.landing, self._batches = Landing(folder / "landing", companies), batches
        make_folder(self.output)
        make_folder(evidence)
        self.starts: list[StartRecord] = []
        self.struck = False
        self.notes: list[str] = []
        delivered = sum(file.stat().st_size for batch in batches for file in batch.iterdir())
        self._limit = OUTPUT_ROOM + OUTPUT_FACTOR * delivered

    def run(self, plan: Plan) -> None:
        """Deliver everything, and start the command after each delivery or after all."""
        before = files_of(self._home)
        for number, delivery in enumerate(plan.deliveries, start=1):
            self.landing.deliver(self._batches[delivery.batch], delivery)
            if self._pipeline.start == EACH or number == len(plan.deliveries):
                self._start(plan, number)
        self._look_around(plan, before)

    def _start(self, plan: Plan, after: int) -> None:
        """Start the command; once more, up to `ATTEMPTS` times, where the kill struck it."""
        for attempt in range(1, ATTEMPTS + 2):
            kill = None if self.struck else self._kill(plan)
            start = self._run(plan.name, after, attempt, kill)
            if start.ended != "killed":
                return
            self.struck = True

    def _kill(self, plan: Plan) -> Kill | None:
        """Return the kill of the next start: what is left of its changes or seconds."""
        if plan.change is not None:
            left = plan.change - sum(start.changes for start in self.starts)
            return Kill(change=left) if left > 0 else None
        if plan.seconds is not None:
            rest = plan.seconds - sum(start.seconds for start in self.starts)
            return Kill(seconds=rest) if rest > 0 else None
        return None

    def _run(self, trial: str, after: int, attempt: int, kill: Kill | None) -> Start:
        name = f"{trial}-{len(self.starts) + 1}"
        stdout, stderr = (self._evidence / f"{name}.{stream}" for stream in ("out", "err"))
        start = run_tree(
            command_of(self._pipeline, self.landing.folder, self.output),
            cwd=self._home,
            environment={
                "FLEETSIM_LANDING": str(self.landing.folder),
                "FLEETSIM_OUTPUT": str(self.output),
            },
            output=self.output,
            stdout=stdout,
            stderr=stderr,
            timeout=self._pipeline.seconds,
            output_limit=self._limit,
            kill=kill,
        )
        make_folder(self.output)  # it may have been deleted
        told = "" if start.well or kill else stderr.read_text("utf-8", "replace")[-_TOLD:]
        fields = msgspec.structs.asdict(start)
        self.starts.append(
            StartRecord(trial=trial, after=after, attempt=attempt, stderr=told, **fields)
        )
        for file in (stdout, stderr):
            if file.is_file() and not file.stat().st_size:
                remove(file)
        return start

    def _look_around(self, plan: Plan, before: Mapping[str, str]) -> None:
        """Note what the pipeline did outside of its output, as far as that can be seen."""
        if not self.landing.is_intact():
            self.notes.append(f"{plan.name}: it changed or deleted files of its landing folder")
        after = files_of(self._home)
        changed = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            listed = ", ".join(changed[:3]) + more
            self.notes.append(f"{plan.name}: it wrote into the experiment's folder: {listed}")


def command_of(pipeline: Pipeline, landing: Path, output: Path) -> list[str]:
    """Return the command with its placeholders put in; a bare `python` is this Python."""
    values = {"landing": str(landing), "output": str(output), "python": sys.executable}
    words = [
        PLACEHOLDER.sub(lambda found: values[found.group(1)], word) for word in pipeline.command
    ]
    if words[0] == "python":
        words[0] = sys.executable
    return words


def check_command(experiment: Experiment) -> None:
    """Refuse a command that is not there, before anything is written.

    Raises
    ------
    InputError
    """
    pipeline = experiment.keys.under_test
    find_command(command_of(pipeline, Path("landing"), Path("output")), experiment.folder)


def files_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder by its path, without documents and caches."""
    hashes = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in _SKIPPED)
        for name in sorted(files):
            path = Path(parent, name)
            if name[0] != "." and name not in _SKIPPED and path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                hashes[path.relative_to(folder).as_posix()] = digest
    return hashes


def spread(count: int, most: int) -> Sequence[int]:
    """Return up to so many numbers from 1 to the most, evenly spread, each once."""
    if most <= 0 or count <= 0:
        return ()
    if most <= count:
        return range(1, most + 1)
    return sorted({1 + round(k * (most - 1) / max(1, count - 1)) for k in range(count)})
