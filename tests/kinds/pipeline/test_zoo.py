"""A zoo of broken pipelines: each fault is found by the criteria it should fail, and by no other.

FLEETSIM_ZOO_SEEDS is how many seeds the longer tests try with all variants; 2 by default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from bench import (
    COUNTED,
    VARIANTS,
    ZOO,
    Delivered,
    deliver,
    examine,
    judgements,
    keys_of,
    under_test,
)

from fleetsim.base.verdict import Verdict
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.meta import read_meta
from fleetsim.kinds.pipeline.evidence import Evidence

#: What each fault fails. All start once, after all deliveries, but for those of `EACH`.
FAULTS: dict[str, set[str]] = {
    "accepts_both": {"recall"},
    "accepts_the_end": {"recall"},
    "appends_on_repeat": {"idempotent"},
    "cuts_microseconds": {"altered"},
    "deduplicates_by_driver_and_minute": {"lost", "unaccounted"},
    "depends_on_order": {"order_independent"},
    "drops_late_in_silence": {"lost", "unaccounted"},
    "drops_refused_lines": {"recall", "unaccounted"},
    "drops_the_last_line": set(),  # depends on what the last lines are: see `expected`
    "ends_with_1": {"completes"},
    "fails_and_ends_with_0": {"lost", "recall", "unaccounted"},
    "invents_a_row": {"unexpected"},
    "keeps_duplicates": {"duplicated"},
    "keeps_the_second": {"lost", "recall", "precision"},
    "loses_late": {"lost", "precision"},
    "lowers_a_truck": {"altered"},
    "names_by_the_folder": {"idempotent"},
    "reads_half_a_file": {"complete_after_partial"},
    "rejects_extra_fields": {"lost", "precision"},
    "reports_a_refusal_twice": {"precision"},
    "shifts_a_zone": {"altered"},
    "stops_at_the_first_bad_line": {"lost", "recall", "unaccounted"},
    "swaps_two_columns": {"altered"},
    "takes_null_for_text": {"recall"},
    "trims_and_lowers": {"recall"},
}
#: Faults that show only where the pipeline is started after each delivery.
EACH = ("appends_on_repeat", "depends_on_order", "reads_half_a_file")
#: What stays without a verdict beside `crash_safe`: nothing is refused, or nothing is accepted.
OPEN = {
    "stops_at_the_first_bad_line": {"precision"},
    "fails_and_ends_with_0": {
        *("unexpected", "duplicated", "altered", "precision"),
        *("idempotent", "order_independent", "complete_after_partial"),
    },
}
#: What each variant decides.
DECIDES = {
    "reordered": "order_independent",
    "again": "idempotent",
    "again_elsewhere": "idempotent",
    "half": "complete_after_partial",
}
#: The variant that shows a fault. Of the others one in three is tried with one of `IN_TURN`, and
#: each with all of them in `make test-slow`.
SHOWN_BY = {
    "appends_on_repeat": "again",
    "depends_on_order": "reordered",
    "names_by_the_folder": "again_elsewhere",
    "reads_half_a_file": "half",
}
IN_TURN = ("reordered", "again_elsewhere", "half")
KILLS = {"changes": 4, "times": 3}
SEEDS = range(1, 1 + int(os.environ.get("FLEETSIM_ZOO_SEEDS", "2")))
HONEST_SEEDS = range(1, 51)


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory):
    """Return what gives the dirty batches of a seed, made once each."""
    made: dict[int, Delivered] = {}

    def of(seed: int) -> Delivered:
        if seed not in made:
            made[seed] = deliver(tmp_path_factory.mktemp("delivered"), seed)
        return made[seed]

    return of


def tried(
    folder: Path,
    delivered: Delivered,
    fault: str,
    *,
    each: bool,
    kills: bool,
    names: Iterable[str] = VARIANTS,
) -> Evidence:
    """Examine one animal of the zoo, with some variants.

    Started once, it sees a batch that came twice as one that came once, so that this is left out.
    """
    variants = {name: VARIANTS[name] for name in names if each or name != "again"}
    start = "each_delivery" if each else "once"
    keys = keys_of(
        pipeline=under_test(str(ZOO), fault, start=start),
        variants=variants,
        kills=KILLS if kills else None,
    )
    return examine(folder / "run", delivered, keys)


def expected(fault: str, delivered: Delivered) -> set[str]:
    """Return the criteria that a fault fails on these batches."""
    if fault != "drops_the_last_line":
        return FAULTS[fault]
    failed = set()
    for batch in delivered.data.batches:
        entries = {entry.line: entry for entry in read_ledger(ledger_path(batch))}
        entry = entries.get(read_meta(batch).event_count)
        if entry is not None and entry.kind == "duplicate":
            continue  # the first is accepted
        refuse = entry is not None and (
            entry.expect == "reject" or entry.kind == "conflicting_duplicate"
        )
        failed |= {"recall" if refuse else "lost", "unaccounted"}
    return failed


def check(evidence: Evidence, failed: set[str], left_open: set[str]) -> None:
    """Hold every verdict to what it should be, and each failure to saying where it happened."""
    judged = judgements(evidence)
    wanted = dict.fromkeys(COUNTED, Verdict.PASS)
    wanted |= dict.fromkeys(left_open, Verdict.INCONCLUSIVE) | dict.fromkeys(failed, Verdict.FAIL)
    assert {kind: one.verdict for kind, one in judged.items()} == wanted
    for kind in failed - {"idempotent", "order_independent", "complete_after_partial"}:
        assert " The first" in judged[kind].note, judged[kind].note
    assert evidence.notes == []


def check_fault(
    folder: Path, delivered: Delivered, fault: str, names: Iterable[str] = VARIANTS
) -> None:
    """Examine a fault without kills."""
    evidence = tried(folder, delivered, fault, each=fault in EACH, kills=False, names=names)
    untried = set(DECIDES.values()) - {DECIDES[name] for name in names}
    left_open = OPEN.get(fault, set()) | untried | {"crash_safe"}
    check(evidence, expected(fault, delivered), left_open)


def test_the_zoo_is_large_enough():
    """At least twenty faults, each of which the script has, and every criterion fails for one."""
    assert len(FAULTS) >= 20
    text = ZOO.read_text(encoding="utf-8")
    assert [fault for fault in (*FAULTS, "is_not_atomic") if f'"{fault}"' not in text] == []
    assert set().union(*FAULTS.values()) == set(COUNTED) - {"crash_safe"}


def test_the_batches_hold_every_kind_of_defect(deliveries):
    """Or else a fault had nothing to fail on."""
    batches = deliveries(1).data.batches
    counts: dict[str, int] = {}
    for batch in batches:
        for entry in read_ledger(ledger_path(batch)):
            counts[entry.kind] = counts.get(entry.kind, 0) + 1
    assert len(counts) == 15
    assert min(counts.values()) >= 5


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_no_other(tmp_path, deliveries, fault):
    """The exact set of criteria fails."""
    turn, rest = divmod(list(FAULTS).index(fault), 3)
    names = [SHOWN_BY[fault]] if fault in SHOWN_BY else []
    names = names or [IN_TURN[turn % len(IN_TURN)]] * (rest == 0)
    check_fault(tmp_path, deliveries(1), fault, names)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_at_every_seed(tmp_path, deliveries, fault, seed):
    """The exact set of criteria fails, whatever the seed, and with every variant."""
    check_fault(tmp_path, deliveries(seed), fault)


def test_an_honest_pipeline_passes(tmp_path, deliveries):
    """Nothing fails, whenever it is started."""
    evidence = tried(tmp_path, deliveries(1), "honest", each=True, kills=False)
    check(evidence, set(), {"crash_safe"})


@pytest.mark.slow
@pytest.mark.parametrize("seed", HONEST_SEEDS)
def test_an_honest_pipeline_passes_at_every_seed(tmp_path, seed):
    """No criterion fails by chance."""
    delivered = deliver(tmp_path / "delivered", seed)
    evidence = tried(tmp_path, delivered, "honest", each=seed % 2 == 0, kills=False)
    check(evidence, set(), {"crash_safe"})


def check_kills(evidence: Evidence) -> None:
    """Hold the kills to being real: SIGKILL ended a start, and another followed."""
    struck = {kill.name for kill in evidence.kills if kill.struck}
    killed = [start for start in evidence.starts if start.ended == "killed"]
    assert struck
    assert {start.trial for start in killed} == struck
    assert {start.exit_code for start in killed} == {-9}
    assert all(kill.starts >= 1 for kill in evidence.kills if kill.struck)
    assert {kill.how for kill in evidence.kills} == {"change", "time"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_an_honest_pipeline_survives_kills(tmp_path, deliveries, seed):
    """It writes each file whole or not at all."""
    evidence = tried(tmp_path, deliveries(seed), "honest", each=True, kills=True)
    check(evidence, set(), set())
    check_kills(evidence)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_pipeline_that_is_not_atomic_is_found_by_kills(tmp_path, deliveries, seed):
    """By them alone: without a kill it is as good as any."""
    evidence = tried(tmp_path, deliveries(seed), "is_not_atomic", each=True, kills=True)
    check(evidence, {"crash_safe"}, set())
    check_kills(evidence)
