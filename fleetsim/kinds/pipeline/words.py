"""What a run found out about a pipeline, in a sentence and in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from fleetsim.base.tables import Table, number
from fleetsim.experiment.criterion import MB
from fleetsim.generate.config import Config
from fleetsim.kinds.pipeline.evidence import (
    UNREADABLE,
    Cost,
    Evidence,
    KillRecord,
    VariantRecord,
)
from fleetsim.reconcile.result import CLEAN, FRAGMENT, OUTCOMES, Reconciliation, WrongLine

#: What a variant tries, in words.
RELATIONS = {
    "order": "another order",
    "repeat": "a batch repeated",
    "partial": "half a file first",
}
_NAMED = 3  # kinds that a sentence names
_SHOWN = 120  # characters of a line in a table


def answer(evidence: Evidence) -> str:
    """Return in a sentence or two what the pipeline does to a feed."""
    found = evidence.found
    wrong = [text for text in (_lost(found), *_others(found), _vanished(found)) if text]
    lines = f"{found.delivered} delivered lines"
    if wrong:
        said = f"Of {lines} {'; '.join(wrong)}."
    else:
        balance = found.balance
        parts = f"{balance.accepted} accepted, {balance.deduplicated} deduplicated"
        if found.rejected_rows is not None:
            parts += f", {balance.rejected} refused"
        said = f"Each of {lines} became what it should: {parts}."
    return " ".join([said, *_circumstances(evidence)])


def _lost(found: Reconciliation) -> str:
    return f"{found.lost} valid records are lost" if found.lost else ""


def _vanished(found: Reconciliation) -> str:
    """Say which lines vanish without a word, besides those of lost records."""
    silent = {
        kind: row["unaccounted"]
        for kind, row in found.matrix.items()
        if kind in found.must_reject and row.get("unaccounted")
    }
    if found.rejected_rows is None:
        return f"{sum(silent.values())} are dropped without a word" if silent else ""
    if not silent:
        return ""
    return f"{sum(silent.values())} defective ones vanish without a word: {_listed(silent, found)}"


def _others(found: Reconciliation) -> list[str]:
    taken = {
        kind: sum(
            found.matrix.get(kind, {}).get(outcome, 0)
            for outcome in ("accepted", "accepted twice", "accepted and rejected")
        )
        for kind in found.must_reject
    }
    taken = {kind: count for kind, count in taken.items() if count}
    said = []
    if taken:
        said.append(
            f"{sum(taken.values())} defective ones are taken as good: {_listed(taken, found)}"
        )
    if found.altered:
        said.append(f"{found.altered} are altered")
    if found.duplicated:
        said.append(f"{found.duplicated} are accepted more than once")
    if found.unexpected:
        said.append(f"{found.unexpected} accepted rows belong to no delivered line")
    if refused := needless(found):
        said.append(f"{refused} refusals are wrong")
    return said


def _listed(counts: Mapping[str, int], found: Reconciliation) -> str:
    """Return the most frequent kinds with their counts: all 57 corrupt_record and 43 wrong_type."""
    named = []
    for kind, count in Counter(counts).most_common(_NAMED):
        every = "all " if count == found.must_reject.get(kind) else ""
        named.append(f"{every}{count} {kind}")
    rest = len(counts) - _NAMED
    if rest > 0:
        named.append(f"{rest} more kind{'s' if rest > 1 else ''}")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _circumstances(evidence: Evidence) -> list[str]:
    """Say what repeats, disorder, half files and kills change."""
    said = []
    failed = [start for start in evidence.starts_of("reference") if not start.well]
    if failed:
        said.append(f"{len(failed)} of its starts ended by an error or the limit of time.")
    unread = [note.partition(":")[0] for note in evidence.notes if UNREADABLE in note]
    if unread:
        more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        said.append(f"The output cannot be read after {', '.join(unread[:_NAMED])}{more}.")
    differ = [variant for variant in evidence.variants if variant.differ]
    if differ:
        names = ", ".join(f"{variant.name} ({variant.differ} rows)" for variant in differ)
        said.append(f"The accepted rows are others after {names}.")
    elif evidence.variants:
        count = len(evidence.variants)
        said.append(
            f"The accepted rows are the same in {'all ' if count > 1 else ''}{count} variants."
        )
    struck = [kill for kill in evidence.kills if kill.struck]
    fatal = [kill for kill in struck if kill.fatal]
    if fatal:
        said.append(f"After {len(fatal)} of {len(struck)} kills the outcome is another one.")
    elif struck:
        said.append(f"After {len(struck)} kills the outcome is the same.")
    return said


def needless(found: Reconciliation) -> int:
    """Return the refusals that had not to be: of good lines, of no line, and repeated ones."""
    return found.refusals_all - found.refusals_right + found.balance.surplus_rejections


def must_be_refused(kind: str | None, expect: str | None) -> bool:
    """Return whether a right ingestion refuses a line; of two conflicting records the second."""
    return expect == "reject" or (kind == "conflicting_duplicate" and expect == "once")


def expects_of(config: Config) -> dict[str, str]:
    """Return what a right ingestion does with the lines of each kind, in a word or two."""
    expects = {
        kind: "reject" if must_be_refused(kind, defect.expect) else defect.expect
        for kind, defect in config.defects.items()
    }
    return {CLEAN: "accept", **expects, FRAGMENT: "either"}


def what_was_done(line: WrongLine) -> str:
    """Return what was done to a line, in a phrase."""
    if line.field is None:
        return ""
    return f"{line.field} {shown_value(line.original)} became {shown_value(line.injected)}"


def shown_value(value: object) -> str:
    """Return a value of a ledger as JSON, or 'nothing'."""
    return "nothing" if value is None else msgspec.json.encode(value).decode()


def what_came_out(line: WrongLine) -> str:
    """Return the values of an accepted row that are not those of its line."""
    if line.came_out is None:
        return ""
    other = [
        f"{name} {'NULL' if value is None else value}"
        for name, value in line.came_out.items()
        if f'"{name}":"{value}"' not in (line.text or "")
    ]
    return ", ".join(other) or "as delivered"


def balance_table(found: Reconciliation) -> Table:
    """Return where the delivered lines went; the sum closes."""
    balance = found.balance
    rows = [
        ("delivered", str(found.delivered), ""),
        ("accepted", str(balance.accepted), ""),
        ("deduplicated", str(balance.deduplicated), "copies of which one was accepted or refused"),
        ("rejected", str(balance.rejected), "reported as refused"),
        ("unaccounted", str(balance.unaccounted), "neither accepted nor reported as refused"),
    ]
    accepted = found.accepted_rows
    rows.append(("accepted rows", str(accepted), f"{found.unexpected} of no delivered line"))
    if found.rejected_rows is None:
        rows.append(("rejected rows", "none", "there is no output of refused lines"))
    else:
        rows.append(("rejected rows", str(found.rejected_rows), ""))
    caption = "delivered = accepted + deduplicated + rejected + unaccounted"
    return Table(("lines", "number", "note"), tuple(rows), caption)


def wrong_cells(found: Reconciliation) -> set[tuple[str, str]]:
    """Return which kinds of lines have outcomes that should not be."""
    return {(line.kind or CLEAN, line.outcome) for line in found.wrong}


def in_order(found: Reconciliation, expects: Mapping[str, str]) -> list[str]:
    """Return the kinds that were delivered, in the order of their definition."""
    known = list(expects)
    return sorted(found.matrix, key=lambda kind: known.index(kind) if kind in known else len(known))


def matrix_table(found: Reconciliation, expects: Mapping[str, str]) -> Table:
    """Return the number of lines of each kind with each outcome, wrong ones marked."""
    rows, wrong = [], wrong_cells(found)
    for kind in in_order(found, expects):
        counts, cells = found.matrix[kind], []
        for outcome in OUTCOMES:
            count = counts.get(outcome, 0)
            cells.append(f"{count} ✗" if count and (kind, outcome) in wrong else str(count))
        rows.append((kind, expects.get(kind, ""), *cells))
    caption = "lines by kind and outcome; ✗ marks what should not be"
    return Table(("kind", "expected", *OUTCOMES), tuple(rows), caption)


def wrong_table(found: Reconciliation) -> Table:
    """Return the first lines of each wrong cell: where they were delivered, and what came out."""
    rows = tuple(
        (
            line.kind or CLEAN,
            line.outcome,
            f"{line.batch_id}:{line.line}" if line.line else "",
            _cut(line.text or ""),
            what_was_done(line),
            what_came_out(line) or (f"refused: {line.reason}" if line.reason else ""),
        )
        for line in found.wrong
    )
    header = ("kind", "outcome", "batch:line", "delivered", "what was done to it", "what came out")
    return Table(header, rows, fold=f"the first {len(rows)} wrong lines, up to ten of each cell")


def _cut(text: str) -> str:
    """Return the start and the end of a long line."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 40]} ... {text[-35:]}"


def variants_table(variants: Sequence[VariantRecord]) -> Table:
    """Return a row for each variant."""
    rows = tuple(
        (
            variant.name,
            RELATIONS[variant.relation],
            str(variant.deliveries),
            str(variant.differ),
            str(variant.starts_failed),
        )
        for variant in variants
    )
    header = ("variant", "what it tries", "deliveries", "rows that differ", "starts that failed")
    return Table(header, rows)


def kills_table(kills: Sequence[KillRecord]) -> Table:
    """Return a row for each kill."""
    rows = tuple(
        (
            f"change {kill.at:g}" if kill.how == "change" else f"{kill.at:.3f} s",
            "yes" if kill.struck else "no, it had ended",
            str(kill.starts) if kill.struck else "–",
            ("yes" if kill.recovered else "no") if kill.struck else "–",
            str(kill.differ) if kill.struck else "–",
        )
        for kill in kills
    )
    header = ("killed at", "struck", "starts after it", "ended well", "rows and lines that differ")
    return Table(header, rows)


def cost_table(costs: Sequence[Cost]) -> Table:
    """Return least, median and most of what the cold runs took."""
    series = {
        "time [s]": [cost.seconds for cost in costs],
        "CPU, whole process tree [s]": [cost.cpu_seconds for cost in costs],
        "memory peak, whole process tree [MB]": [cost.peak_bytes / MB for cost in costs],
        "output [MB]": [cost.output_bytes / MB for cost in costs],
    }
    rows = tuple(
        (name, *(f"{value:.3f}" for value in (min(v), median(v), max(v))))
        for name, v in series.items()
    )
    runs = f"{len(costs)} cold run{'s' if len(costs) != 1 else ''}"
    return Table((runs, "least", "median", "most"), rows)


def growth_table(evidence: Evidence) -> Table:
    """Return the exponent of each quantity with its interval."""
    rows = []
    for law in evidence.growth():
        interval = (
            "–" if law.interval is None else f"{law.interval[0]:.3f} to {law.interval[1]:.3f}"
        )
        startup = "–" if law.startup is None else f"{law.startup:.3f}"
        exponent = "–" if law.exponent is None else number(law.exponent)
        rows.append((law.quantity, str(law.sizes), exponent, interval, startup, law.note))
    header = ("quantity", "sizes", "exponent", "95 % interval", "start-up [s]", "note")
    return Table(header, tuple(rows), "" if rows else "the experiment names no sizes")
