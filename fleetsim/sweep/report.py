"""The steps of a sweep's notebook, and the report that is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import nbformat

from fleetsim.base.chances import p_figure
from fleetsim.base.errors import FleetsimError, InputError, found
from fleetsim.base.files import make_folder, write_file
from fleetsim.base.progress import Steps
from fleetsim.base.project import find_project
from fleetsim.base.strict import decoder
from fleetsim.base.tables import Stack, Table, number, with_unit
from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.experiment.figures import ShownFigure, render
from fleetsim.experiment.kind import SWEEP
from fleetsim.experiment.notebook import parameters_of
from fleetsim.experiment.parameters import check_parameters
from fleetsim.experiment.results import SWEEP_FIGURES, Engine, RunError, own_folder
from fleetsim.experiment.starter import find_notebook
from fleetsim.report.gallery import GALLERY_NAME, SWEEP_HTML, leading_page, refresh_gallery
from fleetsim.report.html import render_html
from fleetsim.report.run_report import clean_notebook
from fleetsim.runner.engines import RunOptions, execute_notebook
from fleetsim.runner.watch import Watch
from fleetsim.sweep.analysis import QUANTITIES, SweepRecord, analyse
from fleetsim.sweep.plan import Sweep, plan_sweep
from fleetsim.sweep.plots import SWEEP_PLOTS, draw_sweep, offered_plots
from fleetsim.sweep.results import SweepResults, end_table, sweep_results
from fleetsim.sweep.rows import SHOWN, shown_rows
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

NOTEBOOK = "sweep.ipynb"
SWEEP_RECORD = "sweep.json"
LARGEST_SVG = 200_000  # bytes that a page takes in
LISTED = 6  # points named in one cell of a table
#: Words and address of what stands beside a sweep's page.
LINKS = [["record", SWEEP_RECORD], ["notebook", NOTEBOOK], ["all runs", f"../{GALLERY_NAME}"]]


def open_sweep(
    experiment: str = "000-smoke",
    results: str | None = None,
    engine: str = "library",
    jobs: int | None = None,
) -> SweepReport:
    """Look at a sweep, and run what is missing of it.

    Parameters
    ----------
    experiment : str
        Id of an experiment with a grid, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    engine : str
        What runs the points that are not finished: "library", "notebook", or "none" to run nothing
        and report on what stands.
    jobs : int, optional
        Points at a time; one by default.

    Raises
    ------
    InputError
        Where the experiment has no grid, or an argument is wrong.
    """
    _, faults = check_parameters({"engine": engine, "jobs": jobs}, parameters_of(SWEEP))
    if not faults and engine not in (*Engine, "none"):
        faults = [f"engine: found {found(engine)}; allowed: {', '.join(Engine)}, or none"]
    if faults:
        raise InputError("parameters", *faults)
    sweep = plan_sweep(find_project(), experiment, results=results)
    if engine != "none":
        run_sweep(sweep, SweepOptions(jobs=jobs or 1, engine=Engine(engine)))
    return SweepReport(sweep)


class SweepReport:
    """What a sweep says; each method is a part of its report.

    Parameters
    ----------
    sweep : Sweep
        As it stands.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.results = sweep_results(sweep)
        if not self.results.completed:
            raise FleetsimError(
                f"{sweep.experiment.id}: no point has a completed run of these sources and this "
                "configuration yet; run fleetsim sweep first"
            )
        self.record: SweepRecord = analyse(self.results)

    def __repr__(self) -> str:
        r = self.record
        lines = [f"{r.completed} of {r.planned} runs completed, {r.failed} failed"]
        lines += [
            f"{c.id}: {_counts(c.counts)}{_points(c.fails_at, '; fails at ')}" for c in r.criteria
        ]
        lines.append(
            f"{len(r.rejections)} of {r.tests} tests of the data reject, adjusted together over "
            "the sweep"
        )
        return "\n".join(lines)

    def claims(self) -> Table:
        """Return what the experiment claims."""
        rows = tuple((c.id, c.stated, c.method) for c in self.sweep.experiment.criteria)
        return Table(("criterion", "stated", "measured by"), rows, self.record.hypothesis)

    def points(self) -> Table:
        """Return the points of the grid and what became of each; long ones are folded."""
        table = end_table(self.results)
        return _bounded(replace(table, fold="all points") if len(table.rows) > 12 else table)

    def criteria(self) -> Table:
        """Return how often each criterion holds, and where it fails."""
        rows = tuple(
            (
                row.id,
                row.stated,
                *(str(row.counts[verdict]) for verdict in VERDICTS),
                _places([_setting(s) for s in row.fails_at]),
                "–" if row.expected_failures is None else f"{row.expected_failures:.2g}",
            )
            for row in self.record.criteria
        )
        header = ("criterion", "stated", *VERDICTS, "fails at", "by chance or by the model")
        return Table(
            header,
            rows,
            "Runs by verdict. The last column: how many failures the model leads to expect of a "
            "fault-free generator, where it says.",
        )

    def tests(self) -> Stack:
        """Return what the tests of all runs say, adjusted together."""
        r = self.record
        rows = tuple(
            (
                x.run_id,
                _setting(x.setting),
                str(x.seed),
                x.test,
                p_figure(x.p_value),
                p_figure(x.p_holm),
            )
            for x in r.rejections
        ) or (("none", "", "", "", "", number(r.smallest_p_holm, 3)),)
        caption = (
            f"Of {r.tests} tests of {r.completed} runs, adjusted together by Holm's procedure, "
            f"those below {self.sweep.experiment.alpha:g}. Each run also adjusts its own tests: "
            f"there, {r.alarms} runs have a test that rejects. Of fault-free data, up to "
            f"{r.expected_false_alarms:.2g} would by chance, on average."
        )
        header = ("run", "point", "seed", "test", "p", "p (Holm, sweep)")
        return Stack((_bounded(Table(header, rows, caption)),))

    def laws(self) -> Table:
        """Return the fitted laws: what a cost grows with, and its exponent."""
        rows = tuple(
            (
                QUANTITIES[row.quantity].title,
                "–" if row.startup is None else with_unit(row.startup, row.unit, 3),
                number(row.exponent, 4),
                "–" if row.interval is None else f"{row.interval[0]:.3f} to {row.interval[1]:.3f}",
                "–" if row.deviation is None else f"{100 * row.deviation:.0f} %",
                str(row.sizes),
                row.note,
            )
            for row in self.record.laws
        )
        header = ("cost", "start-up", "exponent", "95 % interval", "farthest off", "sizes", "note")
        return Table(
            header,
            rows,
            "cost = start-up + factor × events^exponent, by least squares of logarithms",
        )

    def spread(self) -> Table:
        """Return how the event counts of each point scatter over its seeds."""
        rows = tuple(
            (
                _setting(row.setting),
                f"{row.expected:g}",
                ", ".join(map(str, row.counts[:LISTED])) + (", …" if row.counts[LISTED:] else ""),
                number(row.ratio, 3),
                "–"
                if row.interval is None
                else f"{number(row.interval[0], 3)} to {number(row.interval[1], 3)}",
                number(row.p_holm, 3),
            )
            for row in self.record.spread
        )
        header = ("point", "expected", "counts", "variance/mean", "95 % interval", "p (Holm)")
        fold = "every point" if len(rows) > 12 else ""
        return _bounded(Table(header, rows, "Expect 1: the counts follow the Poisson law.", fold))

    def plots(self) -> list[str]:
        """Return the names of the plots for which this sweep has something to show."""
        return offered_plots(self.record)

    def plot(self, name: str) -> ShownFigure | None:
        """Draw a plot, keep it beside the report and show it; nothing where nothing is to show."""
        if name not in SWEEP_PLOTS:
            raise InputError("plot", f"found {found(name)}; allowed: {', '.join(SWEEP_PLOTS)}")
        if name not in self.plots():
            return None
        figure, alt = draw_sweep(name, self.results, self.record)
        images = render(figure)
        folder = own_folder(self.sweep.folder / SWEEP_FIGURES, self.sweep.folder)
        make_folder(folder)
        for form, content in images.items():
            write_file(folder / f"{name}.{form}", content)
        # That of many points is some megabytes; a page shows the PNG then, which is far smaller.
        svg = images["svg"] if len(images["svg"]) <= LARGEST_SVG else None
        return ShownFigure(images["png"], alt, svg)

    def finish(self) -> SweepReport:
        """Write ``sweep.json`` beside the runs."""
        content = msgspec.json.format(msgspec.json.encode(self.record), indent=2) + b"\n"
        write_file(self.sweep.folder / SWEEP_RECORD, content)
        return self


def render_sweep(sweep: Sweep, steps: Steps | None = None) -> Path:
    """Execute the sweep's notebook on what stands, and write ``sweep.html`` and ``sweep.ipynb``.

    `steps` is told the sections of the notebook as they begin.

    Raises
    ------
    FleetsimError
        Where the notebook fails.
    """
    notebook = find_notebook(sweep.project, NOTEBOOK)
    values = {"experiment": sweep.name, "results": str(sweep.results), "engine": "none"}
    options = RunOptions(steps=steps)
    ending = execute_notebook(notebook, values, Watch(), root=sweep.project.root, options=options)
    if steps is not None:
        steps.begin("writing the page")
    if ending.error is not None or ending.notebook is None:
        error = ending.error or RunError("NoNotebook", "it left no notebook", None)
        cell = "" if error.cell is None else f"cell {error.cell} failed: "
        raise FleetsimError(f"{NOTEBOOK}: {cell}{error.kind}: {error.message}")
    executed = clean_notebook(ending.notebook)
    executed.metadata["fleetsim"] = nbformat.from_dict(_carried(sweep.folder))
    write_file(sweep.folder / NOTEBOOK, (nbformat.writes(executed) + "\n").encode())
    write_file(sweep.folder / SWEEP_HTML, render_html(executed).encode())
    refresh_gallery(sweep.results)
    return sweep.folder / SWEEP_HTML


def _carried(folder: Path) -> dict[str, Any]:
    """Return what the notebook carries of the sweep, and of what stands beside it, for the page.

    The page is made of the notebook alone. Of a long sweep it shows some rows, and carries these.
    """
    record = decoder(SweepRecord).decode((folder / SWEEP_RECORD).read_bytes())
    rows = shown_rows(record.rows)
    text = msgspec.json.encode(msgspec.structs.replace(record, rows=rows)).decode()
    pages = {
        str(row.number): f"{row.run}/{leading_page(folder / row.run)}"
        for row in rows
        if row.run is not None
    }
    return {"sweep": text, "links": LINKS, "pages": pages}


def failures_text(found: SweepResults) -> str:
    """Return which criteria fail and at which points, a line each; "" where none does."""
    return "\n".join(
        f"{row.id} fails in {row.counts[Verdict.FAIL]} of {sum(row.counts.values())} runs"
        f"{_points(row.fails_at, ' at ')}"
        for row in analyse(found).criteria
        if row.counts[Verdict.FAIL]
    )


def _bounded(table: Table) -> Table:
    """Return a table with its first rows, where it has more than a page should show."""
    if len(table.rows) <= SHOWN:
        return table
    caption = f"{table.caption} The first {SHOWN} of {len(table.rows)} rows.".strip()
    fold = table.fold and f"the first {SHOWN} of {len(table.rows)}"
    return replace(table, rows=table.rows[:SHOWN], caption=caption, fold=fold)


def _counts(counts: Mapping[Verdict, int]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)


def _points(settings: Sequence[dict[str, object]], before: str) -> str:
    """Return points of the grid behind some words; "" where there are none."""
    return f"{before}{_places([_setting(s) for s in settings])}" if settings else ""


def _setting(setting: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items()) or "the configuration"


def _places(places: list[str]) -> str:
    """Return some of these points as text, and how many more there are."""
    more = len(places) - LISTED
    return "; ".join(places[:LISTED]) + (f"; and {more} more" if more > 0 else "") or "–"
