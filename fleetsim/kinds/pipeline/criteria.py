"""How what was found about a pipeline decides its criteria; `CRITERIA` enters them.

What is deterministic is counted, and no p-value is put on it; times have their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fleetsim.base.chances import percent
from fleetsim.base.verdict import Verdict
from fleetsim.delivery.plan import Relation, relation
from fleetsim.experiment.criterion import (
    MB,
    Criterion,
    CriterionKind,
    Judgement,
    Rule,
    by_intervals,
    measured,
    undecided,
)
from fleetsim.experiment.expectation import Expectation
from fleetsim.experiment.prospects import Prospect
from fleetsim.experiment.spec import Experiment
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.kinds.pipeline.evidence import QUANTITIES, Cost, Evidence, StartRecord
from fleetsim.kinds.pipeline.keys import PipelineKeys
from fleetsim.kinds.pipeline.words import must_be_refused, needless, what_came_out, what_was_done
from fleetsim.reconcile.result import SURPLUS, UNEXPECTED, Reconciliation, WrongLine
from fleetsim.stats.variation import variation_interval

CONFIDENCE = 0.95
#: Kills below which a claim of no fatal one says little: it could have missed one in five.
FEW_KILLS = 14
_NOTHING = "no row was accepted"
_TOLD = 200  # characters of stderr in a note
_SHOWN = 160  # characters of a line in a note


@dataclass(frozen=True)
class PipelineExpectation(Expectation):
    """What a configuration leads to expect of a run on a pipeline, and what it tries."""

    keys: PipelineKeys | None = None

    @property
    def tries(self) -> PipelineKeys:
        """The keys of the experiment."""
        if self.keys is None:
            raise ValueError("an expectation of another kind")
        return self.keys


def expectation_of(experiment: Experiment) -> PipelineExpectation:
    """Return what the model says before a run."""
    return PipelineExpectation(
        config=experiment.config,
        batches=experiment.keys.batches,
        alpha=experiment.alpha,
        family=1,
        keys=experiment.keys,
    )


def _at_most(criterion: Criterion, observed: int, note: str) -> Judgement:
    high = criterion.high or 0.0
    verdict = Verdict.PASS if observed <= high else Verdict.FAIL
    return Judgement(float(observed), verdict, note, None, high)


def _judge_completes(criterion: Criterion, evidence: Evidence) -> Judgement:
    """Count the starts of the reference, variants and repeats that did not end well."""
    starts = [s for s in evidence.starts if not s.trial.startswith(("change-", "time-"))]
    if not starts:
        return undecided("nothing ran", None, criterion.high or 0.0)
    failed = [start for start in starts if not start.well]
    note = f"{len(failed)} of {len(starts)} starts did not end by themselves with exit code 0."
    if failed:
        note += f" The first: {_ending(failed[0])}."
    left = [start for start in starts if start.left]
    if left:
        note += f" {len(left)} starts left processes running, which were ended."
    return _at_most(criterion, len(failed), note + _noted(evidence))


def _ending(start: StartRecord) -> str:
    """Return how a start ended, as words."""
    where = f"{start.trial}, after delivery {start.after}"
    how = {
        "timeout": f"it ran into the limit of time after {start.seconds:.1f} s",
        "output": f"its output grew to {start.output_bytes / MB:.0f} MB, beyond the limit",
    }.get(start.ended, f"exit code {start.exit_code}")
    last = last_words(start.stderr)
    return f"{where}: {how}" + (f"; stderr ends with: {last}" if last else "")


def last_words(stderr: str) -> str:
    """Return the last line of an error that says something, without the marks below it."""
    lines = [line.strip() for line in stderr.splitlines() if any(map(str.isalnum, line))]
    return lines[-1][:_TOLD] if lines else ""


def _noted(evidence: Evidence) -> str:
    """Return what the pipeline did where it should not, as sentences."""
    return "".join(f" {note[0].upper()}{note[1:]}." for note in dict.fromkeys(evidence.notes))


def _judge_lost(criterion: Criterion, evidence: Evidence) -> Judgement:
    found = evidence.found
    if not found.lost and not found.accepted_rows:
        return undecided("no valid record was delivered", None, criterion.high or 0.0)
    note = f"{found.lost} valid records are in no accepted output."
    return _at_most(criterion, found.lost, note + _first(found, _is_lost))


def _judge_rows(name: str, outcome: str, words: str) -> Callable[[Criterion, Evidence], Judgement]:
    """Return what counts accepted rows that are wrong in one way.

    Parameters
    ----------
    name : str
        The number of them in `Reconciliation`.
    outcome : str
        That of their lines, of which the first is told.
    words : str
        What is counted; ``{n}`` of ``{rows}`` accepted rows.
    """

    def judge(criterion: Criterion, evidence: Evidence) -> Judgement:
        found = evidence.found
        if not found.accepted_rows:
            return undecided(_NOTHING, None, criterion.high or 0.0)
        n: int = getattr(found, name)
        note = words.format(n=n, rows=found.accepted_rows)
        first = _first(found, lambda line: line.outcome == outcome)
        return _at_most(criterion, n, note + first)

    return judge


def _judge_recall(criterion: Criterion, evidence: Evidence) -> Judgement:
    low, found = criterion.low or 0.0, evidence.found
    counts = found.must_reject
    if criterion.defect is not None:
        counts = {criterion.defect: counts.get(criterion.defect, 0)}
    lines = sum(counts.values())
    if not lines:
        return undecided("no line that must be refused was delivered", low, None)
    if found.rejected_rows is None and not found.accepted_rows:
        return undecided(f"{_NOTHING}, and there is no output of refused lines", low, None)
    refused = sum(found.refused.get(kind, 0) for kind in counts)
    note = f"{refused} of {lines} lines that must be refused are: {_by_kind(found, counts)}."
    if found.rejected_rows is None:
        note += " There is no output of refused lines: what was not accepted counts as refused."

    def missed(line: WrongLine) -> bool:
        return line.kind in counts and must_be_refused(line.kind, line.expect)

    observed = refused / lines
    verdict = Verdict.PASS if observed >= low else Verdict.FAIL
    brief = f"{refused} of {lines} lines, {percent(observed)}"
    return Judgement(observed, verdict, note + _first(found, missed), low, None, brief)


def _by_kind(found: Reconciliation, counts: Mapping[str, int]) -> str:
    """Return each kind with its refused lines, those of which some were not refused first."""
    refused = {kind: found.refused.get(kind, 0) for kind in counts}
    ordered = sorted(counts, key=lambda kind: refused[kind] == counts[kind])
    return ", ".join(
        f"{kind} {refused[kind]} of {counts[kind]}" for kind in ordered if counts[kind]
    )


def _judge_precision(criterion: Criterion, evidence: Evidence) -> Judgement:
    low, found = criterion.low or 0.0, evidence.found
    if found.rejected_rows is None:
        return undecided("there is no output of refused lines", low, None)
    refusals = found.refusals_right + needless(found)
    if not refusals:
        return undecided("no line was refused", low, None)
    observed = found.refusals_right / refusals
    note = f"{found.refusals_right} of {refusals} refusals had to be."

    def not_needed(line: WrongLine) -> bool:
        valid = line.outcome in ("rejected", "accepted and rejected")
        return line.outcome == SURPLUS or (valid and not must_be_refused(line.kind, line.expect))

    verdict = Verdict.PASS if observed >= low else Verdict.FAIL
    brief = f"{found.refusals_right} of {refusals} refusals, {percent(observed)}"
    return Judgement(observed, verdict, note + _first(found, not_needed), low, None, brief)


def _judge_unaccounted(criterion: Criterion, evidence: Evidence) -> Judgement:
    found = evidence.found
    if found.rejected_rows is None:
        why = (
            "there is no output of refused lines, so that nobody can tell a refused line from one "
            "that was dropped"
        )
        return undecided(why, None, criterion.high or 0.0)
    if not found.delivered:
        return undecided("no line was delivered", None, criterion.high or 0.0)
    note = f"{found.unaccounted} lines are neither accepted nor reported as refused."
    return _at_most(
        criterion,
        found.unaccounted,
        note + _first(found, lambda line: line.outcome == "unaccounted"),
    )


def _is_lost(line: WrongLine) -> bool:
    gone = line.outcome in ("unaccounted", "rejected")
    return gone and not must_be_refused(line.kind, line.expect)


def _first(found: Reconciliation, which: Callable[[WrongLine], bool]) -> str:
    """Say of the first line that went wrong in a way where it was delivered and what happened."""
    line = next((line for line in found.wrong if which(line)), None)
    if line is None:
        return ""
    where = f"line {line.line} of {line.batch_id} (delivery {line.delivery})" if line.line else ""
    what = f" {line.kind}" if line.kind else ""
    text, out = line.text or "", what_came_out(line)
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if not where:
        return f" The first: {out or text}."
    done = what_was_done(line)
    done = f", {done}" if done else ""
    out = f"; what came out: {out}" if out else ""
    return f" The first:{what} {where}{done}, {line.outcome}: {text}{out}."


def _judge_variants(tried: Relation) -> Callable[[Criterion, Evidence], Judgement]:
    """Return what decides on the variants that try one thing."""

    def judge(criterion: Criterion, evidence: Evidence) -> Judgement:
        variants = [v for v in evidence.variants if v.relation == tried]
        if not variants:
            return undecided("no variant tries it", None, 0.0)
        differ = sum(variant.differ for variant in variants)
        if not differ and not evidence.found.accepted_rows:
            return undecided(f"{_NOTHING}, in the reference neither", None, 0.0)
        each = "; ".join(f"{v.name}: {v.differ} rows differ" for v in variants)
        failed = sum(variant.starts_failed for variant in variants)
        note = f"Accepted rows beside those of the reference: {each}."
        if failed:
            note += f" {failed} starts of them did not end well."
        return _at_most(criterion, differ, note)

    return judge


def _judge_crash_safe(criterion: Criterion, evidence: Evidence) -> Judgement:
    struck = [kill for kill in evidence.kills if kill.struck]
    if not struck:
        why = (
            "no kill struck: the pipeline had ended before"
            if evidence.kills
            else "nothing was killed"
        )
        return undecided(why, None, 0.0)
    fatal = [kill for kill in struck if kill.fatal]
    if not fatal and not evidence.found.accepted_rows:
        return undecided(f"{_NOTHING}, without a kill neither", None, 0.0)
    note = f"{len(fatal)} of {len(struck)} kills that struck led to another outcome."
    if fatal:
        first = fatal[0]
        at = f"visible change {first.at:g}" if first.how == "change" else f"{first.at:.2f} s"
        ended = "" if first.recovered else ", and it never ended well again"
        note += f" The first, at {at}: {first.differ} rows and lines differ{ended}."
        last = [s for s in evidence.starts_of(first.name) if not s.well and s.ended != "killed"]
        if last and (words := last_words(last[-1].stderr)):
            note += f" stderr ends with: {words}."
    else:
        missed = 1 - (1 - CONFIDENCE) ** (1 / len(struck))
        note += (
            f" So many kills could have missed a share of fatal ones of up to {100 * missed:.0f} % "
            f"({100 * CONFIDENCE:.0f} % confidence)."
        )
    if len(struck) < len(evidence.kills):
        note += f" {len(evidence.kills) - len(struck)} more struck nothing and do not count."
    return _at_most(criterion, len(fatal), note)


def _costs(evidence: Evidence) -> tuple[list[Cost], str]:
    """Return the cold runs that ended well, or why none speaks of a whole run."""
    well = [cost for cost in evidence.costs if cost.well]
    if not evidence.costs:
        return [], "nothing ran"
    if not well:
        return [], "no run ended well, so that none says what a whole one takes"
    return well, ""


def _judge_cost(name: str, unit: float, words: str) -> Callable[[Criterion, Evidence], Judgement]:
    """Return what decides on the largest of one cost over the cold runs."""

    def judge(criterion: Criterion, evidence: Evidence) -> Judgement:
        high = criterion.high or 0.0
        costs, why = _costs(evidence)
        if not costs:
            return undecided(why, None, high)
        values = np.array([getattr(cost, name) for cost in costs]) / unit
        note = (
            f"{words} of {len(values)} cold runs: {values.max():.3f} at most, "
            f"{np.median(values):.3f} in the median; the limit is {high:g}."
        )
        verdict = Verdict.PASS if values.max() < high else Verdict.FAIL
        return Judgement(float(values.max()), verdict, note, None, high)

    return judge


def _judge_variation(criterion: Criterion, evidence: Evidence) -> Judgement:
    high = criterion.high or 0.0
    costs, why = _costs(evidence)
    seconds = np.array([cost.seconds for cost in costs])
    try:
        ends = variation_interval(seconds)
    except ValueError as error:
        return undecided(why or str(error), None, high)
    observed = float(np.std(seconds, ddof=1) / np.mean(seconds))
    verdict, open_ = by_intervals([ends], high=high)
    note = (
        f"The run time of {len(seconds)} cold runs varies by {100 * observed:.1f} % (standard "
        f"deviation/mean), 95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f} %."
    )
    brief = f"{100 * observed:.1f} %, 95 % interval to {100 * ends[1]:.1f} %"
    return Judgement(observed, verdict, note + open_, None, high, brief)


def _judge_throughput(criterion: Criterion, evidence: Evidence) -> Judgement:
    """Decide on the lower 95 % limit of the mean rate, by Student's t over the runs."""
    low = criterion.low or 0.0
    costs, why = _costs(evidence)
    if len(costs) < 2:
        return undecided(why or "one run has no interval; repeats is at least 2", low, None)
    rates = np.array([cost.events / cost.seconds for cost in costs])
    half = special.stdtrit(len(rates) - 1, CONFIDENCE) * rates.std(ddof=1) / math.sqrt(len(rates))
    limit = float(rates.mean() - half)
    note = (
        f"{rates.mean():.0f} events a second in the mean of {len(rates)} cold runs, start-up "
        f"included; the lower 95 % limit is {limit:.0f}."
    )
    verdict = Verdict.PASS if limit > low else Verdict.FAIL
    return Judgement(limit, verdict, note, low, None)


def _judge_growth(criterion: Criterion, evidence: Evidence) -> Judgement:
    quantity = criterion.quantity or "time"
    if not evidence.sizes:
        return undecided("the experiment names no sizes", criterion.low, criterion.high)
    law = evidence.laws[quantity]
    if isinstance(law, str):
        return undecided(law, criterion.low, criterion.high)
    verdict, why = by_intervals([law.interval], low=criterion.low, high=criterion.high)
    note = (
        f"{quantity} grows as the lines to the power {law.exponent:.3f}, 95 % interval "
        f"{law.interval[0]:.3f} to {law.interval[1]:.3f}, over {law.sizes} sizes."
    )
    return Judgement(law.exponent, verdict, note + why, criterion.low, criterion.high)


def _lacks_variant(tried: Relation) -> Callable[[Criterion, PipelineExpectation], str]:
    def lack(criterion: Criterion, expectation: PipelineExpectation) -> str:
        keys = expectation.tries
        if any(relation(steps, keys.reference) == tried for steps in keys.tried.values()):
            return ""
        wanted = {
            Relation.ORDER: "delivers the same batches in another order",
            Relation.REPEAT: "delivers a batch again",
            Relation.PARTIAL: "delivers half a file first ({batch: 0, as: cut})",
        }
        return f"no variant {wanted[tried]}"

    return lack


def _lacks_defects(criterion: Criterion, expectation: PipelineExpectation) -> str:
    defects = expectation.config.defects
    if criterion.defect is not None and criterion.defect not in defects:
        return f"the configuration injects no {criterion.defect}"
    refused = [kind for kind, form in defects.items() if must_be_refused(kind, form.expect)]
    return "" if refused else "the configuration injects nothing that must be refused"


def _lacks_kills(criterion: Criterion, expectation: PipelineExpectation) -> str:
    killed = expectation.tries.killed
    return "" if killed.changes + killed.times else "kills is missing"


def _lacks_sizes(criterion: Criterion, expectation: PipelineExpectation) -> str:
    sizes = expectation.tries.sizes
    wanted = 2 if criterion.quantity == "memory" else 3
    return "" if len(sizes) >= wanted else f"sizes has {len(sizes)}, and a law takes {wanted}"


def _lacks_repeats(least: int) -> Callable[[Criterion, PipelineExpectation], str]:
    def lack(criterion: Criterion, expectation: PipelineExpectation) -> str:
        repeats = expectation.tries.repeats
        return "" if repeats >= least else f"repeats is {repeats}, and an interval takes {least}"

    return lack


def _foresee_kills(criterion: Criterion, expectation: PipelineExpectation) -> Prospect:
    killed = expectation.tries.killed
    kills = killed.changes + killed.times
    if not kills or kills >= FEW_KILLS:
        return Prospect()
    missed = 1 - (1 - CONFIDENCE) ** (1 / kills)
    return Prospect(
        warnings=(
            f"few kills: {kills}, where all strike, could miss a share of fatal ones of up to "
            f"{100 * missed:.0f} %; {FEW_KILLS} would leave 20 %.",
        )
    )


def _counted(
    claim: str,
    judge: Callable[[Criterion, Evidence], Judgement],
    limits: Sequence[str] = (),
    fault: Callable[[Criterion, PipelineExpectation], str] | None = None,
    unit: str = "",
    method: str = "",
) -> CriterionKind:
    """Return a kind of criterion that counts what went wrong; none may, where no limit is given."""
    return CriterionKind(
        claim,
        tuple(limits),
        judge,
        measured,
        unit=unit,
        method=method,
        optional=("high",),
        rule=Rule.FEW_WRONG,
        fault=fault,
    )


CRITERIA: dict[str, CriterionKind] = {
    "completes": _counted(
        "every start ends by itself with exit code 0",
        _judge_completes,
        unit="failed starts",
        method="exit codes of all starts",
    ),
    "lost": _counted(
        "no valid record is missing from the accepted output",
        _judge_lost,
        unit="records",
        method="every valid delivered record looked for among the accepted rows",
    ),
    "unexpected": _counted(
        "every accepted row belongs to a delivered record",
        _judge_rows(
            "unexpected", UNEXPECTED, "{n} of {rows} accepted rows belong to no delivered line."
        ),
        unit="rows",
        method="every accepted row traced to a delivered line",
    ),
    "duplicated": _counted(
        "no record is accepted more than once",
        _judge_rows("duplicated", "accepted twice", "{n} records are accepted more than once."),
        unit="records",
        method="accepted rows of each delivered record counted",
    ),
    "altered": _counted(
        "no accepted row has other values than the delivered",
        _judge_rows(
            "altered", "altered", "{n} accepted rows have other values than the delivered line."
        ),
        unit="rows",
        method="six values of each accepted row, texts byte for byte and the time as an instant",
    ),
    "recall": CriterionKind(
        "the share of lines refused, of those that must be",
        ("low",),
        _judge_recall,
        measured,
        choices={"defect": tuple(DEFECT_KINDS)},
        fault=_lacks_defects,
        method="refused lines of those that must be, by kind of defect",
        rule=Rule.ABOVE,
    ),
    "precision": CriterionKind(
        "the share of refusals that had to be",
        ("low",),
        _judge_precision,
        measured,
        method="refusals that had to be, of all",
        rule=Rule.ABOVE,
    ),
    "unaccounted": _counted(
        "every line is accepted or reported as refused",
        _judge_unaccounted,
        unit="lines",
        method="lines that are neither accepted nor reported as refused",
    ),
    "idempotent": _counted(
        "a repeated delivery changes nothing",
        _judge_variants(Relation.REPEAT),
        fault=_lacks_variant(Relation.REPEAT),
        unit="rows",
        method="accepted rows of the variants with a repeat beside the reference's",
    ),
    "order_independent": _counted(
        "the order of deliveries changes nothing",
        _judge_variants(Relation.ORDER),
        fault=_lacks_variant(Relation.ORDER),
        unit="rows",
        method="accepted rows of the variants in another order beside the reference's",
    ),
    "complete_after_partial": _counted(
        "half a file that is whole later changes nothing",
        _judge_variants(Relation.PARTIAL),
        fault=_lacks_variant(Relation.PARTIAL),
        unit="rows",
        method="accepted rows of the variants with half a file beside the reference's",
    ),
    "crash_safe": CriterionKind(
        "a kill and a new start change nothing",
        (),
        _judge_crash_safe,
        measured,
        optional=("high",),
        fault=_lacks_kills,
        prospect=_foresee_kills,
        unit="kills",
        method="SIGKILL at changes of the output and at times, a new start, then rows and outcomes",
        rule=Rule.FEW_WRONG,
    ),
    "pipeline_time": CriterionKind(
        "every cold run takes less time than a limit",
        ("high",),
        _judge_cost("seconds", 1.0, "Seconds"),
        measured,
        unit="s",
        method="wall time of all starts of a cold run together; the slowest decides",
        rule=Rule.BELOW,
    ),
    "pipeline_cpu": CriterionKind(
        "every cold run takes less CPU time than a limit, all processes together",
        ("high",),
        _judge_cost("cpu_seconds", 1.0, "CPU seconds of the whole process tree"),
        measured,
        unit="s",
        method="CPU time of the whole process tree; the largest decides",
        rule=Rule.BELOW,
    ),
    "pipeline_memory": CriterionKind(
        "every cold run takes less memory than a limit, all processes together",
        ("high",),
        _judge_cost("peak_bytes", MB, "Peak memory of the whole process tree [MB]"),
        measured,
        unit="MB",
        method="largest sampled sum over the processes of a start",
        rule=Rule.BELOW,
    ),
    "pipeline_variation": CriterionKind(
        "the run time varies by less than a limit",
        ("high",),
        _judge_variation,
        measured,
        fault=_lacks_repeats(2),
        unit="standard deviation/mean",
        method="coefficient of variation of the cold runs; its upper 95 % limit decides",
        rule=Rule.INTERVAL_BELOW,
    ),
    "output_bytes": CriterionKind(
        "the output takes less room than a limit",
        ("high",),
        _judge_cost("output_bytes", 1.0, "Bytes of the output"),
        measured,
        unit="bytes",
        method="size of all files of the output after the last delivery",
        rule=Rule.BELOW,
    ),
    "pipeline_throughput": CriterionKind(
        "it ingests more events a second than a limit",
        ("low",),
        _judge_throughput,
        measured,
        fault=_lacks_repeats(2),
        unit="events/s",
        method="delivered lines over the wall time; the lower 95 % limit decides",
        rule=Rule.LIMIT_ABOVE,
    ),
    "pipeline_growth": CriterionKind(
        "its cost grows with the lines by a power within limits",
        (),
        _judge_growth,
        measured,
        optional=("low", "high"),
        choices={"quantity": tuple(QUANTITIES)},
        fault=_lacks_sizes,
        method="start-up + factor × lines^exponent over the sizes; the whole 95 % interval",
        rule=Rule.INTERVAL_WITHIN,
    ),
}
