"""The tables of docs/statistics.md: which test catches which fault, and odd fleets.

``python -m benchmarks.calibration power`` takes the last run of experiment 003 and writes the table
of controls. ``... fleets`` draws fault-free data of odd fleets, and writes a row for each.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from fleetsim.base.project import Project
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import find_run
from fleetsim.generate.config import Config, make_config
from fleetsim.kinds.calibration.trials import (
    CalibrationRecord,
    CaughtRow,
    calibrate,
    process_pool,
    size_table,
)
from fleetsim.stats.battery import BATTERY, EntryKind
from fleetsim.stats.controls import CONTROLS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "statistics.md"
LEAST = 0.1  # share of the seeds from which a test stands in the table
#: Families of faults by how the names of the tests that are there for them begin.
FAMILIES = {
    "Counts": ("event_count", "events_per", "company_totals", "driver_nei", "driver_number"),
    "Times": ("event_times", "driver_gaps", "driver_times", "company_times"),
    "Types": ("types", "event_types"),
    "Batches": ("batch",),
}

_BASE: dict[str, Any] = {
    "seed": 1000,
    "number_of_companies": 100,
    "drivers_per_company": 10,
    "event_rate_per_driver": 3.5,
    "company_onboarding_interval": "PT1H",
}
_SHARES = [round(0.98 * 0.8**i * 0.2 / (1 - 0.8**26), 5) for i in range(26)]
_SHARES[0] = round(1 - sum(_SHARES[1:]), 10)
#: Fleets of odd sizes, by what is odd about them. Cohorts that join are samples of their own, and
#: companies that are not active are in none: both are fleets of another number of companies.
FLEETS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "1 company, 1 driver": {"number_of_companies": 1, "drivers_per_company": 1},
    "50 companies": {"number_of_companies": 50},
    "rate 0.01": {"event_rate_per_driver": 0.01},
    "rate 200, 20 drivers": {"event_rate_per_driver": 200, "number_of_companies": 2},
    "rate 9999, 2 drivers": {
        "event_rate_per_driver": 9999,
        "number_of_companies": 1,
        "drivers_per_company": 2,
    },
    "weights 0.999 and 0.001": {"event_types": {"usual": 0.999, "rare": 0.001}},
    "26 types": {"event_types": {f"type {i:02d}": share for i, share in enumerate(_SHARES)}},
    "intervals of 1 s": {"batch_interval": "PT1S"},
    "intervals of a day": {"batch_interval": "P1D"},
}


@click.group()
def main() -> None:
    """Write tables of docs/statistics.md."""


@main.command()
@click.option("--run", "name", default="003-calibration", help="Run of a calibration, or its path.")
def power(name: str) -> None:
    """Write which test catches which control, from a run of experiment 003."""
    folder = find_run(Project(ROOT), name)
    record = read_record(folder)
    found = record.section
    if not isinstance(found, CalibrationRecord) or not found.caught:
        raise click.ClickException(f"{folder}: no calibration with all tests of its controls")
    last = {row.control: row for row in found.caught}  # the trial with most batches
    parts = [_family(title, starts, last) for title, starts in FAMILIES.items()]
    _write("power", [*parts, _unneeded(last)])


def _family(title: str, starts: tuple[str, ...], rows: dict[str, CaughtRow]) -> str:
    """Return the table of the controls whose first test begins so, tests in rows."""
    controls = [c for c in CONTROLS if c.caught_by[0].startswith(starts)]
    listed = "\n".join(
        f"{number}. {control.fault} ({_batches(rows[control.name].batches)})"
        for number, control in enumerate(controls, 1)
    )
    tests = [
        entry.name
        for entry in BATTERY
        if any(rows[c.name].caught.get(entry.name, 0) >= LEAST for c in controls)
    ]
    header = f"| test | {' | '.join(map(str, range(1, len(controls) + 1)))} |"
    lines = [
        f"| `{test}` | {' | '.join(_share(rows[c.name].caught.get(test, 0)) for c in controls)} |"
        for test in tests
    ]
    table = "\n".join([header, "|---" * (len(controls) + 1) + "|", *lines])
    return f"### {title}\n\n{listed}\n\n{table}"


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number} batches"


def _share(share: float) -> str:
    return f"{share:.2f}" if share >= LEAST else ""


def _unneeded(rows: dict[str, CaughtRow]) -> str:
    """Return which tests catch no control best, nor as often as the best one."""
    best = {
        test
        for row in rows.values()
        for test, share in row.caught.items()
        if share >= max(row.caught.values()) - 0.02 and share >= LEAST
    }
    kinds = (EntryKind.EVIDENCE, EntryKind.STRUCTURE)
    rest = [f"`{e.name}`" for e in BATTERY if e.kind in kinds and e.name not in best]
    seeds = next(iter(rows.values())).seeds
    said = f"An empty place stands for less than {LEAST:g} of {seeds} seeds."
    if rest:
        said += f" No control of this list is caught best by: {', '.join(rest)}."
    return said


@main.command()
@click.option("--seeds", default=10_000, help="Fault-free seeds of each fleet.")
@click.option("--batches", "sizes", multiple=True, type=int, default=(1, 8, 48))
@click.option("--fleet", "chosen", multiple=True, type=click.Choice(list(FLEETS)))
@click.option("--workers", default=2)
def fleets(seeds: int, sizes: tuple[int, ...], chosen: tuple[str, ...], workers: int) -> None:
    """Hold all tests to fault-free data of odd fleets; rows of other fleets stay as they are."""
    with process_pool(workers) as pool:
        for name in chosen or FLEETS:
            config = make_config({**_BASE, **FLEETS[name]})
            for batches in sizes:
                began = time.monotonic()
                row = _row(name, config, seeds, batches, pool)
                print(f"{row}  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
                _put_row(row)


def _row(name: str, config: Config, seeds: int, batches: int, pool: object) -> str:
    found = calibrate(config, seeds, batches, workers=pool)  # type: ignore[arg-type]
    rows = size_table(found)
    cells = [f"{name}", str(batches), str(seeds), str(len({row.test for row in rows}))]
    for level in (0.05, 0.01, 0.001):
        often = [r for r in rows if r.level == level and r.seeds >= seeds / 2]
        most = max(often or rows, key=lambda r: r.rejected / r.seeds)
        cells.append(f"{most.rejected} of {most.seeds} `{most.test}`")
    above = [f"`{r.test}` {r.rejected} at {r.level:g}" for r in rows if r.rejected > r.joint[1]]
    cells.append(", ".join(above) or "none")
    return f"| {' | '.join(cells)} |"


_HEAD = [
    "| fleet | batches | seeds | tests made | most at 0.05 | at 0.01 | at 0.001 | too many |",
    "|---|---|---|---|---|---|---|---|",
]


def _put_row(row: str) -> None:
    """Write a row in place of the one with the same fleet and batches."""
    page = PAGE.read_text(encoding="utf-8")
    inside = re.search(r"<!-- fleets:.*?-->\n(.*?)<!-- end of fleets -->", page, re.DOTALL)
    assert inside
    rows = {_key(line): line for line in inside[1].splitlines() if line.startswith("| ")}
    rows.pop(_key(_HEAD[0]), None)
    rows[_key(row)] = row
    order = list(FLEETS)
    listed = sorted(
        rows.values(), key=lambda line: (order.index(_key(line)[0]), int(_key(line)[1]))
    )
    _write("fleets", ["\n".join([*_HEAD, *listed])])


def _key(line: str) -> tuple[str, str]:
    cells = [cell.strip() for cell in line.split("|")]
    return cells[1], cells[2]


def _write(section: str, parts: list[str]) -> None:
    """Put text between the marks of a section of the page."""
    page = PAGE.read_text(encoding="utf-8")
    text = "\n\n".join(parts)
    marks = rf"(<!-- {section}: [^\n]*-->\n).*?(<!-- end of {section} -->)"
    new = re.sub(marks, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
