"""A bench for small pipelines: dirty data, an examination without a notebook, and its verdicts."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import AT

from fleetsim.base.strict import check_fields
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.criterion import Criterion, Judgement
from fleetsim.generate.config import make_config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.kinds.pipeline.criteria import CRITERIA
from fleetsim.kinds.pipeline.evidence import Evidence
from fleetsim.kinds.pipeline.examine import Examination, Setting
from fleetsim.kinds.pipeline.keys import PipelineKeys, key_faults
from fleetsim.measure.cold import DataSet, generate_data

ZOO = Path(__file__).with_name("zoo.py")
#: The criteria that count something, which no clock decides.
COUNTED = (
    "completes",
    "lost",
    "unexpected",
    "duplicated",
    "altered",
    "recall",
    "precision",
    "unaccounted",
    "idempotent",
    "order_independent",
    "complete_after_partial",
    "crash_safe",
)
DELIVERIES = [0, 1, 2]
VARIANTS: dict[str, Any] = {
    "reordered": [2, 0, 1],
    "again": [0, 1, 1, 2, 1],
    "again_elsewhere": [0, 1, {"batch": 1, "as": "copy"}, 2],
    "half": [{"batch": 0, "as": "cut"}, 0, 1, 2],
}
#: 400 events a batch are expected, of which each kind of defect strikes 8.
CONFIG: dict[str, Any] = {
    "number_of_companies": 8,
    "drivers_per_company": 10,
    "event_rate_per_driver": 5.0,
    "company_onboarding_interval": "PT1H",
    "defects": dict.fromkeys(DEFECT_KINDS, 0.02),
}


@dataclass(frozen=True)
class Delivered:
    """Three dirty batches of one seed, and their configuration."""

    values: dict[str, Any]
    data: DataSet


def deliver(folder: Path, seed: int, **changes: Any) -> Delivered:
    """Make three batches with defects of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    values = CONFIG | {"seed": seed} | changes
    config = make_config(values)
    return Delivered(values, generate_data(config, folder, interval=AT, batches=3, repeats=1))


def keys_of(**changes: Any) -> PipelineKeys:
    """Return keys of an experiment that starts the pipeline once and tries every variant."""
    values = {
        "interval": AT,
        "deliveries": DELIVERIES,
        "variants": VARIANTS,
        "repeats": 1,
        **changes,
    }
    made, faults = check_fields(PipelineKeys, values)
    assert faults == []
    assert key_faults(made) == []
    return PipelineKeys(**made)


def under_test(*command: str, **changes: Any) -> dict[str, Any]:
    """Return the key `pipeline`; a script of this Python that needs nothing but its library."""
    return {"command": [sys.executable, "-S", "-E", *command], "start": "once", **changes}


def examine(folder: Path, delivered: Delivered, keys: PipelineKeys) -> Evidence:
    """Examine a pipeline in a folder of its own; return what was found."""
    home = folder / "home"
    home.mkdir(parents=True)
    try:
        config = make_config(delivered.values)
        examination = Examination(Setting(config, keys, home, folder), delivered.data)
        examination.deliver()
        examination.vary(None)
        for plan in examination.kills():
            examination.kill(plan)
        examination.repeat(None)
        return examination.evidence
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def judgements(evidence: Evidence) -> dict[str, Judgement]:
    """Return the verdict of each criterion that counts, with no limit beside all or none."""
    made = {}
    for kind in COUNTED:
        low = 1.0 if kind in ("recall", "precision") else None
        criterion = Criterion(id=kind, kind=kind, title=kind, stated="-", low=low, method="-")
        made[kind] = CRITERIA[kind].judge(criterion, evidence)
    return made


def failing(evidence: Evidence) -> set[str]:
    """Return the criteria that fail."""
    return {kind for kind, judged in judgements(evidence).items() if judged.verdict is Verdict.FAIL}
