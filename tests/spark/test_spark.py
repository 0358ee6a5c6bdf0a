"""Experiment 032 for real: Spark Structured Streaming under test, with kills."""

from dataclasses import replace

import msgspec
import pytest
from support import ROOT

from fleetsim.base.project import Project
from fleetsim.experiment.spec import load_experiment, with_parameters
from fleetsim.kinds.pipeline.run import PipelineRun

pytestmark = pytest.mark.spark

#: What a kill may do: a checkpoint that was killed in the middle of a write may never start again.
DETERMINISTIC = (
    "completes lost unexpected duplicated altered recall precision unaccounted idempotent "
    "complete_after_partial"
).split()


def test_spark_ingests_the_feed_as_its_experiment_says(tmp_path, monkeypatch):
    """Every criterion but those of kills and costs passes; each kill that struck is told."""
    # A start is too short for Java's second compiler: without it, it takes a fifth less.
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    experiment = with_parameters(load_experiment(Project(ROOT), "032-ingest-spark"), {"repeats": 1})
    # One kill in place of two: a start takes twenty seconds.
    keys = msgspec.structs.replace(experiment.keys, kills={"changes": 1})
    experiment = replace(experiment, keys=keys)
    run = PipelineRun(Project(ROOT), experiment, tmp_path)
    for step in run.steps:
        getattr(run, step)()
    verdicts = {c.id: (c.verdict, c.note) for c in run._record.criteria}
    assert {name: verdicts[name][0] for name in DETERMINISTIC} == dict.fromkeys(
        DETERMINISTIC, "pass"
    ), verdicts
    evidence = run.evidence()
    assert any(kill.struck for kill in evidence.kills)
    starts = evidence.starts_of("reference")
    # The JVM is a child of Python: its memory is part of the tree's.
    assert all(start.processes >= 2 and start.peak_bytes > 150e6 for start in starts)
