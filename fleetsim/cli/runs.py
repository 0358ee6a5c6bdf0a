"""The commands of many runs: sweep, runs, compare."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetsim.base.errors import InputError, found, nearest
from fleetsim.base.progress import Steps
from fleetsim.base.terminal import printable
from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.cli.shared import (
    FINDING,
    PATH,
    RESULTS,
    json_text,
    load_jsonschema,
    named_experiment,
    require_workers,
    say,
    shown,
    tell,
    wrapped,
)
from fleetsim.experiment.results import ENDED, Engine, Status

if TYPE_CHECKING:
    from fleetsim.report.compare.again import Again
    from fleetsim.runner.mirror import Mirror
    from fleetsim.sweep.results import SweepResults
    from fleetsim.sweep.run import Progress


@click.command()
@click.argument("experiment")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="Points at a time, one by default; what is measured runs alone all the same.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Run the points on a Dask cluster: tcp://HOST:PORT, or local:N for N processes here.",
)
@click.option(
    "--engine",
    type=click.Choice([str(engine) for engine in Engine]),
    default=str(Engine.NOTEBOOK),
    show_default=True,
    help="'library' makes the same records without notebooks, reports and figures.",
)
@click.option(
    "--figures",
    is_flag=True,
    help="Draw the figures of every run; by default 'fleetsim report RUN' draws those of one.",
)
@click.option("--dry-run", is_flag=True, help="List the points; run nothing.")
@click.option("--fresh", is_flag=True, help="Run every point, also those that are finished.")
@click.option("--fail-fast", is_flag=True, help="Begin no further point when one has failed.")
@click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="How often a failed point is tried again.",
)
@click.option(
    "--cell-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="What a cell of the notebook may take.",
)
@click.option(
    "--run-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="What a whole run may take.",
)
@click.option("--yes", is_flag=True, help="Begin a very large sweep, or one that seems not to fit.")
@RESULTS
@click.option("--strict", is_flag=True, help="Exit with 3 where a criterion does not pass.")
@click.option("--json", "as_json", is_flag=True, help="Print the points as JSON.")
def sweep(
    experiment: str,
    jobs: int | None,
    scheduler: str | None,
    engine: str,
    figures: bool,
    dry_run: bool,
    fresh: bool,
    fail_fast: bool,
    retries: int,
    cell_timeout: float | None,
    run_timeout: float | None,
    yes: bool,
    results: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Run every point of an experiment's grid; what is finished already is not run again."""
    if scheduler and jobs:
        raise click.UsageError("--jobs are threads here; with --scheduler, workers do the work.")
    if figures and engine == Engine.LIBRARY:
        raise click.UsageError("--figures are those of notebooks; --engine library runs none.")
    require_workers(scheduler, "--results", results)
    with Steps("reading the experiment"):
        load_jsonschema()
        from fleetsim.base.project import find_project
        from fleetsim.runner.mirror import mirrored
        from fleetsim.sweep.plan import plan_sweep
        from fleetsim.sweep.results import listing, plan_table, sweep_results
        from fleetsim.sweep.run import run_sweep
        from fleetsim.sweep.worker import SweepOptions

        project = find_project()
        experiment = named_experiment(project, experiment)
    limits = (cell_timeout, run_timeout)
    options = SweepOptions(
        jobs or 1,
        Engine(engine),
        fresh,
        fail_fast,
        retries,
        *limits,
        figures=figures,
        page_follows=True,
    )
    with mirrored(project, results) as home:
        with Steps("looking at what stands"):
            home.fetch_records()
            planned = plan_sweep(
                project,
                experiment,
                results=str(home.folder),
                sent=home.where is not None,
                fresh=fresh,
                confirmed=yes,
            )
        for line in planned.damaged:
            say(f"skipped: {line}")
        if dry_run:
            rows = listing(planned, home)
            tell(json_text(rows) if as_json else str(plan_table(planned)))
            return
        to_do = len(planned.to_do(fresh=fresh))
        with _workers(scheduler) as cluster, _sweep_steps(to_do) as update:
            count = run_sweep(planned, options, cluster=cluster, home=home, progress=update)
        found = sweep_results(planned)
        _tell_end(found, count, home, as_json=as_json)
        if home.where is not None:
            home.refresh_gallery()
    if count.failed:
        sys.exit(1)
    if strict and not all(run.record.passed for run in found.runs):
        sys.exit(FINDING)


def _tell_end(found: SweepResults, count: Progress, home: Mirror, *, as_json: bool) -> None:
    """Print what became of a sweep, and make its report where any point has verdicts."""
    from fleetsim.sweep.report import failures_text, render_sweep
    from fleetsim.sweep.results import end_table, listing

    if as_json:
        tell(json_text(listing(found.sweep, home)))
    else:
        tell(str(end_table(found)))
        tell(
            f"\n{count.done} done, {count.failed} failed, {count.skipped} finished before, "
            f"{count.left} not begun"
        )
        if found.completed and (failing := failures_text(found)):
            tell(f"\n{wrapped(failing)}\n")
    if found.completed:
        with Steps("reading the records", "page of the sweep") as steps:
            report = render_sweep(found.sweep, steps)
            home.upload(*found.sweep.folder.glob("sweep*"))
        if not as_json:
            tell(f"report: {shown(home.named(report))}")


@click.command()
@RESULTS
@click.option("--experiment", metavar="ID", help="Only the runs of this experiment.")
@click.option("--status", type=click.Choice([str(status) for status in ENDED]))
@click.option(
    "--verdict",
    type=click.Choice([str(verdict) for verdict in VERDICTS]),
    help="Only runs with a criterion of this verdict.",
)
@click.option(
    "--sort",
    "key",
    metavar="KEY",
    help="started, duration, status, pass, fail, inconclusive, or a parameter; with a minus sign "
    "before it, the greatest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the runs as JSON.")
@click.option("--html", "as_html", is_flag=True, help="Make the gallery index.html anew.")
def runs(
    results: str | None,
    experiment: str | None,
    status: str | None,
    verdict: str | None,
    key: str | None,
    as_json: bool,
    as_html: bool,
) -> None:
    """List the runs that stand in the results, with their verdicts."""
    import shutil
    from dataclasses import replace

    from fleetsim.base.project import find_project
    from fleetsim.report.listing import list_runs, runs_table, select_runs, sort_runs
    from fleetsim.runner.mirror import mirrored

    project = find_project()
    with mirrored(project, results) as home:
        if as_html:
            from fleetsim.report.gallery import write_gallery

            home.fetch_records()
            page = write_gallery(home.folder)
            home.upload(page)
            tell(shown(home.named(page)))
            return
        home.fetch_records(*[experiment] if experiment else [])
        # Before the first run there is no folder of results, which is no fault of the user.
        every, damaged = list_runs(home.folder) if results or home.folder.exists() else ([], [])
        for error in damaged:
            say(home.said(f"passed over: {error}"))
        every = [replace(run, folder=home.named(run.folder)) for run in every]
    known = {*project.experiment_ids(), *(run.experiment for run in every)}
    if experiment is not None and experiment not in known:
        raise InputError(
            "--experiment",
            f"found {found(experiment)}{nearest(experiment, known)}; "
            f"allowed: {', '.join(sorted(known))}",
        )
    ordered = sort_runs(every, key)
    chosen = select_runs(
        ordered,
        experiment=experiment,
        status=None if status is None else Status(status),
        verdict=None if verdict is None else Verdict(verdict),
    )
    if as_json:
        tell(json_text([run.as_dict(project) for run in chosen]))
    elif chosen:
        # In a pipe, one line is one run.
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        tell(runs_table(chosen).text(width))
        tell(f"\n{len(chosen)} of {len(every)} runs")
    else:
        tell(f"no run; {len(every)} stand here" if every else "no run yet")


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN_A] [RUN_B]")
@click.option("--baseline", metavar="RUN", help="Run A; RUN_B is its experiment's latest then.")
@RESULTS
@click.option("--html", "page", type=PATH, help="The page; results/compare/A-B.html by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 3 where B is worse than A.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Level of all tests together: how often two fault-free runs are told apart.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1000),
    default=0.1,  # compare_rows.TOLERANCE
    show_default=True,
    help="Fraction by which times and memory may grow before B counts as worse.",
)
@click.option(
    "--measure-again",
    is_flag=True,
    help="Measure times and memory of both runs again, in turn, on this machine.",
)
@click.option(
    "--pairs",
    type=click.IntRange(6, 1000),  # two_samples.MIN_PAIRS, again.MAX_PAIRS
    help="How often both are measured again; by default as often as the runs have repeats.",
)
def compare(
    names: tuple[str, ...],
    baseline: str | None,
    results: str | None,
    page: Path | None,
    as_json: bool,
    strict: bool,
    alpha: float,
    tolerance: float,
    measure_again: bool,
    pairs: int | None,
) -> None:
    """Compare two runs: what differs, by how much, and whether chance explains it.

    Times are compared where machine and load were alike. Where they were not, --measure-again
    measures both runs once more from their records, with the code that is installed now: cold
    processes in turn, A B, B A and so on. The runs stay as they are.
    """
    if baseline is None and len(names) != 2:
        raise click.UsageError("Give two runs, or --baseline RUN and at most one.")
    if baseline is not None and len(names) > 1:
        raise click.UsageError("With --baseline give at most one run, RUN_B.")
    if pairs is not None and not measure_again:
        raise click.UsageError("--pairs says how often --measure-again measures; give both.")
    from fleetsim.base.project import find_project
    from fleetsim.experiment.results import latest_beside
    from fleetsim.report.compare.compare import compare_runs
    from fleetsim.report.compare.page import comparison_text, page_of, write_comparison
    from fleetsim.runner.mirror import mirrored

    with mirrored(find_project(), results) as home:
        run_a, *rest = (home.find(name) for name in (baseline, *names) if name)
        run_b = rest[0] if rest else latest_beside(run_a)
        if not rest:
            home.fetch_run(run_b)
        again = _measured_again(run_a, run_b, pairs, home) if measure_again else None
        result = compare_runs(run_a, run_b, alpha=alpha, tolerance=tolerance, again=again)
        path = page or page_of(home.folder, result)
        write_comparison(path, result)
        if page is None:
            home.upload(path)
    tell(json_text(result.as_dict()) if as_json else comparison_text(result))
    if not as_json:
        tell(f"\npage: {shown(home.named(path))}")
    if strict and result.findings:
        sys.exit(FINDING)


def _measured_again(a: Path, b: Path, pairs: int | None, home: Mirror) -> Again:
    """Return times and memory of two runs, measured again in turn; a bar or lines say how far."""
    from fleetsim.base.progress import terminal_bar
    from fleetsim.report.compare.again import measure_again, plan_again

    plan = plan_again(a, b, pairs)
    with terminal_bar(plan.processes, " cold processes") as update:
        return measure_again(plan, home.folder, update)


@contextmanager
def _workers(scheduler: str | None) -> Iterator[Any]:
    """Yield the cluster of an address, or None for the threads of this process."""
    if scheduler is None:
        yield None
        return
    from fleetsim.base.cluster import connect

    with connect(scheduler) as cluster:
        cluster.client.run(load_jsonschema)  # as here: some seconds for each new worker
        yield cluster


@contextmanager
def _sweep_steps(points: int) -> Iterator[Any]:
    """Yield what a sweep calls after each point: it tells how many are done, and which failed."""
    done = failed = 0
    with Steps("running the points") as steps:

        def update(outcome: Any) -> None:
            nonlocal done, failed
            error = outcome.record.error
            done += 1
            if error is not None:
                failed += 1
                text = f"{outcome.path.name} failed: {error.kind}: {error.message}"
                steps.say(f"fleetsim: {printable(text)}")
            steps.count(done, points, f"runs, {failed} failed" if failed else "runs")

        steps.count(0, points, "runs")
        yield update
