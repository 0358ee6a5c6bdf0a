"""The record of a run, `result.json`: everything that its document and its report say."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project, find_project, source_hash
from fleetsim.base.strict import decoder
from fleetsim.base.tables import Table, with_unit
from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.experiment.answer import Answer, known_answer
from fleetsim.experiment.kind import DEFAULT_KIND, kinds, older_kind
from fleetsim.experiment.prospects import Power
from fleetsim.experiment.results import (
    RECORD_NAME,
    RunError,
    Status,
    Versioned,
    decode_versioned,
    find_run,
    read_record_file,
)
from fleetsim.measure.cold import container_memory_peak
from fleetsim.stats.judged import Test

_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "papermill",
    "nbconvert",
    "jupyterlab",
    "msgspec",
    "pyyaml",
)


class CriterionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One criterion with its verdict.

    `tests` names the tests that it rests on; `note` gives the reason in full, `brief` in a phrase.
    `here` is what the claim comes to, where the run's parameters moved it; else "".
    """

    id: str
    kind: str
    title: str
    stated: str
    low: float | None
    high: float | None
    observed: float | bool | None
    unit: str
    verdict: Verdict
    a_priori: float | None
    tests: list[str]
    method: str
    note: str
    brief: str = ""
    here: str = ""

    @property
    def claim(self) -> str:
        """What was stated, and what it comes to where parameters moved it."""
        return f"{self.stated}; here {self.here}" if self.here else self.stated


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; lists have one entry for each repeat, sizes are bytes, times seconds."""

    event_count: int
    generation_seconds: list[float]
    stated_generation_seconds: list[float]
    process_seconds: list[float]
    peak_rss_bytes: list[int]
    batch_bytes: int
    batch_disk_bytes: int


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was written down before the run.

    `interval` is "" where no data are written; `hypothesis_rests_on` is empty where the hypothesis
    rests on all criteria; `own` is what only its kind has (`Kind.describe`), and stands in the file
    beside the other keys.
    """

    title: str
    date: str
    feature: str
    question: str
    hypothesis: str
    config_file: str
    interval: str
    batches: int
    alpha: float
    notebook: str = "experiment.ipynb"
    kind: str = DEFAULT_KIND
    hypothesis_rests_on: list[str] = []
    own: dict[str, Any] = {}


class Foresight(msgspec.Struct, frozen=True, kw_only=True):
    """What one criterion lets pass, and what becomes of a generator that is off."""

    criterion: str
    accepts: str
    power: list[Power]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said before the run: events and bytes, and what does not add up.

    `foresight` has the criteria that can be held against other truths, `warnings` what the criteria
    hardly see or decide; records of earlier versions have neither.
    """

    mean: float
    standard_deviation: float
    line_bytes: float
    findings: list[str]
    remedies: list[str]
    foresight: list[Foresight] = []
    warnings: list[str] = []


class Record(Versioned, frozen=True, kw_only=True):
    """One run.

    Two runs of one seed are equal but for measurements, started, finished, run_id and provenance.
    `answer` is null before the verdicts. `section` is what only its kind has (`Kind.section`), and
    stands in the file under the kind's name; `tests` and `measurements` are empty and null for
    kinds that have no such.
    """

    experiment: str
    run_id: str
    key: str
    status: Status
    error: RunError | None
    started: str
    finished: str
    parameters: dict[str, Any]
    config: dict[str, Any]
    description: Description
    expected: Expected
    batch_ids: list[str]
    answer: Answer | None = None
    criteria: list[CriterionRecord]
    tests: list[Test]
    measurements: Measurements | None
    section: Any = msgspec.UNSET
    provenance: dict[str, Any]

    @property
    def completed(self) -> bool:
        """Whether the run came to verdicts."""
        return self.status == Status.COMPLETED

    @property
    def passed(self) -> bool:
        """Whether every criterion passed."""
        return all(criterion.verdict == Verdict.PASS for criterion in self.criteria)

    def criterion(self, name: str) -> CriterionRecord:
        """Return a criterion by its id."""
        return next(criterion for criterion in self.criteria if criterion.id == name)

    def table(self) -> Table:
        """Return the criteria with what was observed and the verdicts."""
        rows = [
            (c.id, c.claim, with_unit(c.observed, c.unit), c.verdict, c.note) for c in self.criteria
        ]
        header = ("criterion", "stated", "observed", "verdict", "why")
        return Table(header, tuple(rows))

    def _repr_html_(self) -> str:
        line = f"{self.experiment}/{self.run_id}: "
        line += overall_line(self.criteria) if self.error is None else f"failed, {self.error.kind}"
        return replace(self.table(), caption=line)._repr_html_()

    def encode(self) -> bytes:
        """Return the record as strict, indented JSON."""
        return msgspec.json.format(self.compact(), indent=2) + b"\n"

    def compact(self) -> bytes:
        """Return the record as strict JSON on one line."""
        data = msgspec.to_builtins(self)
        data["description"] |= data["description"].pop("own", {})
        name = self.description.kind
        named = {name if key == "section" else key: value for key, value in data.items()}
        return msgspec.json.encode(named)


decoder(Record)  # made with the module, before there are threads
_parts: msgspec.json.Decoder[dict[str, msgspec.Raw]] = decoder(dict[str, msgspec.Raw])


def read_run(name: str, results: str | None = None) -> Record:
    """Return the record of a run.

    Parameters
    ----------
    name : str
        A folder, ``<experiment>/<run_id>``, or ``<experiment>`` for its latest run.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.

    Raises
    ------
    InputError
        Where there is none, or it is damaged or of another version.
    """
    return read_record(find_run(find_project(), name, results))


def read_record(run: Path) -> Record:
    """Return the record of a run folder.

    Raises
    ------
    InputError
        Where there is none, or it is damaged or of another version.
    """
    return decode_record(read_record_file(run), run / RECORD_NAME)


def decode_record(content: bytes, path: Path = Path(RECORD_NAME)) -> Record:
    """Return the record that the bytes of a file hold.

    Raises
    ------
    InputError
        Where they are damaged or of another version; `path` names the file.
    """
    record = decode_versioned(content, path, Record)
    parts = _parts.decode(content)
    described = msgspec.json.decode(parts["description"])
    general = {field.name for field in msgspec.structs.fields(Description)} - {"own"}
    name = record.description.kind
    if "kind" not in described and (older := older_kind(record.description.notebook)):
        name = older.name  # a record of before there were kinds
    own = {key: value for key, value in described.items() if key not in general}
    description = msgspec.structs.replace(record.description, kind=name, own=own)
    section: Any = msgspec.UNSET
    if name in parts and name not in {field.name for field in msgspec.structs.fields(Record)}:
        section = _section(parts[name], name, path)
    answer = known_answer(record.answer, record.criteria, record.completed)
    return msgspec.structs.replace(record, description=description, section=section, answer=answer)


def _section(content: msgspec.Raw, name: str, path: Path) -> Any:
    """Return a kind's part of a record; of a kind that is not installed, as plain data."""
    kind = kinds().get(name)
    form = None if kind is None else kind.section()
    try:
        return msgspec.json.decode(content) if form is None else decoder(form).decode(content)
    except msgspec.ValidationError as error:
        raise InputError(str(path), f"damaged: {error} in {name}") from None


def overall_line(criteria: Sequence[CriterionRecord]) -> str:
    """Return how many criteria have each verdict: ``11 pass, 2 fail, 0 inconclusive``."""
    verdicts = [criterion.verdict for criterion in criteria]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS)


def provenance(
    project: Project,
    commands: Sequence[str],
    engine: str = "notebook",
    load: float | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Return what a reader needs to judge and repeat a run; no host, user or path stands in it.

    `load` is the load average when the run began: of other work, not of its own. `source` is the
    hash of fleetsim's sources, for who has it already.
    """
    return {
        "versions": dict(versions()),
        "engine": engine,
        "source_sha256": source_hash() if source is None else source,
        "source_dirty": project.is_dirty(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_model": cpu_model(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0] if load is None else load, 2),
        "governor": _governor(),
        "cgroup_memory_peak_bytes": container_memory_peak(),
        "commands": list(commands),
    }


@cache  # the metadata of each package is a file to read and parse
def versions() -> Mapping[str, str]:
    """Return the versions of what a run's content may depend on."""
    return {
        "fleetsim": version("fleetsim"),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _governor() -> str | None:
    """Return how the system sets the clock of the processors, where it says so."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return None


def cpu_model() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
