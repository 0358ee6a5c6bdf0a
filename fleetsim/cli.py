"""The command line: it parses, calls the library, prints, and sets the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import fleetsim
from fleetsim.clock import Instant, parse_time
from fleetsim.errors import FleetsimError, InputError, nearest
from fleetsim.progress import terminal_bar

FINDING = 3
_NULL = ("null", "~")  # as the YAML says; an empty text is rather a variable that was not set


class _TimeParam(click.ParamType):  # type: ignore[type-arg]  # not generic in older versions
    """An ISO 8601 time with its zone, as microseconds since 1970 UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return value if isinstance(value, int) else parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _OrdinalParam(click.ParamType):  # type: ignore[type-arg]
    """A whole number from 0, or 'next'."""

    name = "n|next"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "next" or isinstance(value, int):
            return value
        return click.IntRange(0, 2**64 - 1).convert(value, param, ctx)


PATH = click.Path(path_type=Path)
TIME = _TimeParam()
SEED = click.IntRange(0, 2**64 - 1)


class _RunCommand(click.Command):
    """A command whose help lists the parameters of the experiment that is named beside --help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # --help ends the command before its arguments are looked at.
        named, _, _ = self.make_parser(ctx).parse_args(list(args))
        ctx.meta[__name__] = named.get("experiment")
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        name = ctx.meta.get(__name__)
        if not isinstance(name, str):
            super().format_epilog(ctx, formatter)
            return
        from fleetsim.experiment import load_experiment
        from fleetsim.parameters import run_parameters
        from fleetsim.project import find_project

        experiment = load_experiment(find_project(), name)
        rows = [
            (
                f"{row.name} {row.type.__name__}",
                f"{row.about}  [default: {experiment.parameters[row.name]}]",
            )
            for row in run_parameters(experiment.notebook).values()
        ]
        with formatter.section(f"Parameters of {experiment.id}, for -p and -f"):
            formatter.write_dl(rows, col_max=32)


class _State:
    """What the entry point hands to the commands."""

    def __init__(self, started: Instant) -> None:
        self.started = started
        self.debug = False


@click.group(context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(fleetsim.__version__, prog_name="fleetsim")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(state: _State, debug: bool) -> None:
    """Know, not guess, how a batch feed of fleet telematics behaves.

    Exit codes: 0 done, 1 a program or run error, 2 bad usage or input, 3 a finding,
    130/143 interrupted. A failed hypothesis is a result, not an error.
    """
    state.debug = debug


@cli.command()
@click.option("--config", type=PATH, required=True, help="Configuration (YAML or JSON).")
@click.option("--output", type=PATH, required=True, help="The companies file to make or extend.")
@click.option("--seed", type=SEED, help="Seed in place of the configuration's.")
@click.option("--at", type=TIME, help="When the first cohort joins; now by default.")
@click.option("--cohorts", type=click.IntRange(min=1), default=1, show_default=True)
@click.pass_obj
def companies(
    state: _State, config: Path, output: Path, seed: int | None, at: int | None, cohorts: int
) -> None:
    """Make the companies of a fleet, or extend an existing file by further cohorts."""
    _load_numpy()
    from fleetsim.companies import write_companies

    settings = _config(config, seed)
    result = write_companies(
        settings, output, at_us=at, now_us=state.started.wall_us, cohorts=cohorts
    )
    kept = result.lines - result.added
    note = f" ({kept} kept, {result.added} added)" if kept else ""
    click.echo(f"{output}: {result.lines} companies{note}")


@cli.command()
@click.option("--config", type=PATH, required=True, help="Configuration (YAML or JSON).")
@click.option("--companies", "companies_file", type=PATH, required=True, help="The companies file.")
@click.option("--output", type=PATH, required=True, help="Folder of the batches.")
@click.option("--now", is_flag=True, help="The interval starts at this moment.")
@click.option("--interval-start", type=TIME, help="Start of the first interval, with its zone.")
@click.option("--batches", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--ordinal",
    type=_OrdinalParam(),
    default=0,
    show_default=True,
    help="Number of the first batch among those of its seed; 'next' takes the next free one.",
)
@click.option("--seed", type=SEED, help="Seed in place of the configuration's.")
@click.option(
    "--format",
    type=click.Choice(["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]),  # formats.FORMATS
    default="jsonl",
    show_default=True,
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="Threads for large batches; as many as there are cores by default.",
)
@click.option(
    "--force", is_flag=True, help="Replace batches that differ; begin what seems not to fit."
)
@click.option("--allow-empty", is_flag=True, help="Write a batch although no company is eligible.")
@click.option("--allow-repeat", is_flag=True, help="Write a copy of a batch in another interval.")
@click.option(
    "--kernel",
    type=click.Choice(["auto", "numpy", "compiled"]),  # produce.KERNELS
    default="auto",
    envvar="FLEETSIM_KERNEL",
    hidden=True,  # the bytes are the same; tests and benchmarks force one path
)
@click.pass_obj
def events(
    state: _State,
    config: Path,
    companies_file: Path,
    output: Path,
    now: bool,
    interval_start: int | None,
    batches: int,
    ordinal: Any,
    seed: int | None,
    format: str,
    jobs: int | None,
    force: bool,
    allow_empty: bool,
    allow_repeat: bool,
    kernel: Any,
) -> None:
    """Make batches of events, one folder each."""
    if now == (interval_start is not None):
        raise click.UsageError("Give exactly one of --now and --interval-start TIME.")
    if now and batches > 1:
        raise click.UsageError("--now makes one batch; give --interval-start for --batches.")
    _load_numpy()
    from fleetsim.batch import write_batches
    from fleetsim.companies import read_companies

    settings = _config(config, seed)
    fleet = read_companies(companies_file)
    start_us = state.started.wall_us if interval_start is None else interval_start
    expected = settings.event_rate_per_driver * settings.drivers_per_company
    with terminal_bar(expected * fleet.active.sum() * batches, " events") as update:
        for result in write_batches(
            settings,
            fleet,
            output,
            start_us=start_us,
            started=state.started,
            batches=batches,
            ordinal=ordinal,
            force=force,
            allow_empty=allow_empty,
            allow_repeat=allow_repeat,
            format=format,
            jobs=jobs,
            kernel=kernel,
            progress=update,
        ):
            meta = result.meta
            note = "" if result.written else " (stood there already)"
            click.echo(f"{result.path}: {meta.event_count} events, {meta.bytes} bytes{note}")


@cli.command()
@click.argument("target", metavar="RUN_OR_BATCH")
@click.option("--companies", "companies_file", type=PATH, help="The companies file of the batch.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(target: str, companies_file: Path | None, as_json: bool) -> None:
    """Make batches again from their own records, and compare the content."""
    from fleetsim.verify import batches_below, verify_batch

    batches = batches_below(_run_or_folder(target))
    results = [verify_batch(batch, companies_file) for batch in batches]
    if as_json:
        rows = [
            {"batch_id": r.batch_id, "event_count": r.event_count, "findings": r.findings}
            for r in results
        ]
        click.echo(_as_json(rows))
    else:
        for result in results:
            if not result.findings:
                note = "" if result.kept else " (not kept on the disk; their record fits)"
                click.echo(f"{result.batch_id}: reproduced, {result.event_count} events{note}")
            for finding in result.findings:
                click.echo(f"{result.batch_id}: {finding}")
    if any(result.findings for result in results):
        sys.exit(FINDING)


@cli.command()
@click.argument("experiment")
@click.option("--strict", is_flag=True, help="Exit with 3 on a finding; a warning is none.")
@click.option("--json", "as_json", is_flag=True, help="Print the check as JSON.")
def check(experiment: str, strict: bool, as_json: bool) -> None:
    """Hold an experiment to its own model, before anything runs."""
    import textwrap

    from fleetsim.check import check_experiment, extent, remedy_text
    from fleetsim.document import POWER_WORDS, power_table
    from fleetsim.experiment import load_experiment
    from fleetsim.project import find_project
    from fleetsim.run import check_table

    loaded = load_experiment(find_project(), experiment)
    result = check_experiment(loaded)
    if as_json:
        click.echo(_as_json(result.as_dict()))
    else:
        click.echo(_wrapped(f"{experiment}: {extent(loaded)}") + "\n")
        click.echo(str(check_table(result)))
        for finding in result.findings:
            click.echo(f"\n{_wrapped(finding)}")
        for name, rows in result.remedies.items():
            click.echo(f"\nTo reconcile {name}:")
            for remedy in rows:
                click.echo(_wrapped(f"- {remedy_text(remedy)}", "  "))
        if not result.findings:
            click.echo("\nNothing contradicts.")
        if result.warnings:
            click.echo("\nWarnings, which are no findings:")
        for warning in result.warnings:
            click.echo(_wrapped(f"- {warning}", "  "))
        seen = [row for row in result.criteria if row.prospect.power]
        if seen:
            click.echo(f"\n{_wrapped(POWER_WORDS)}")
        for row in seen:
            click.echo(f"\n{_wrapped(f'{row.criterion.id}: {row.prospect.accepts}.')}")
            click.echo(textwrap.indent(str(power_table(row.prospect.power)), "  "))
    if strict and result.findings:
        sys.exit(FINDING)


@cli.command(
    cls=_RunCommand,
    epilog="`fleetsim run EXPERIMENT --help` lists the parameters of that experiment.",
)
@click.argument("experiment")
@click.option(
    "-p",
    "--parameter",
    "pairs",
    type=(str, str),
    multiple=True,
    metavar="KEY VALUE",
    help="A parameter of the run; may be given again.",
)
@click.option("-f", "--file", "file", type=PATH, help="YAML file of parameters.")
@click.option("--results", help="Folder of the results; results/ by default.")
@click.option("--strict", is_flag=True, help="Exit with 3 where a criterion does not pass.")
def run(
    experiment: str,
    pairs: tuple[tuple[str, str], ...],
    file: Path | None,
    results: str | None,
    strict: bool,
) -> None:
    """Run an experiment: execute its notebook, and make the report."""
    _lighten_papermill()
    from fleetsim.document import verdict_table
    from fleetsim.execute import execute
    from fleetsim.project import find_project
    from fleetsim.report import REPORT_HTML, REPORT_NOTEBOOK
    from fleetsim.run import Summary

    project = find_project()
    outcome = execute(
        project,
        experiment,
        _parameters(experiment, pairs, file),
        results=results,
        progress=sys.stderr.isatty(),
    )
    record, path = outcome.record, _shown(outcome.path)
    if record.error is not None:
        cell = "" if record.error.cell is None else f" in cell {record.error.cell}"
        raise FleetsimError(
            f"{record.experiment}/{record.run_id}: the run failed{cell}: {record.error.kind}: "
            f"{record.error.message}\n  kept as evidence: {path}/{REPORT_NOTEBOOK}"
        )
    click.echo(str(verdict_table(record)))
    click.echo(f"\n{_wrapped(repr(Summary(record)))}")
    click.echo(f"\nreport: {path}/{REPORT_HTML}")
    if strict and any(criterion.verdict != "pass" for criterion in record.criteria):
        sys.exit(FINDING)


@cli.command()
@click.argument("experiment")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Points at a time; what is measured runs alone all the same.",
)
@click.option(
    "--engine",
    type=click.Choice(["notebook", "library"]),  # engines.ENGINES
    default="notebook",
    show_default=True,
    help="'library' makes the same records without notebooks, reports and figures.",
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
@click.option("--results", help="Folder of the results; results/ by default.")
@click.option("--strict", is_flag=True, help="Exit with 3 where a criterion does not pass.")
@click.option("--json", "as_json", is_flag=True, help="Print the points as JSON.")
def sweep(
    experiment: str,
    jobs: int,
    engine: str,
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
    _lighten_papermill()
    from fleetsim.project import find_project
    from fleetsim.sweep import plan_sweep, run_sweep
    from fleetsim.sweep_report import render_sweep
    from fleetsim.sweep_results import end_table, listing, plan_table, sweep_results

    planned = plan_sweep(find_project(), experiment, results=results, fresh=fresh, confirmed=yes)
    for line in planned.damaged:
        _say(f"skipped: {line}")
    if dry_run:
        click.echo(_as_json(listing(planned)) if as_json else str(plan_table(planned)))
        return
    to_do = len(planned.to_do(fresh=fresh))
    with _sweep_bar(to_do) as update:
        count = run_sweep(
            planned,
            jobs=jobs,
            engine=engine,
            fresh=fresh,
            fail_fast=fail_fast,
            retries=retries,
            cell_timeout=cell_timeout,
            run_timeout=run_timeout,
            progress=update,
        )
    found = sweep_results(planned)
    if as_json:
        click.echo(_as_json(listing(planned)))
    else:
        click.echo(str(end_table(found)))
        click.echo(
            f"\n{count.done} done, {count.failed} failed, {count.skipped} finished before, "
            f"{count.left} not begun"
        )
    if found.completed:
        report = render_sweep(planned)
        if not as_json:
            click.echo(f"report: {_shown(report)}")
    if count.failed:
        sys.exit(1)
    if strict and any(c.verdict != "pass" for run in found.runs for c in run.record.criteria):
        sys.exit(FINDING)


@cli.command()
@click.argument("name", metavar="RUN")
@click.option("--check", "only_check", is_flag=True, help="Say what no longer fits; write nothing.")
@click.option("--notebook", type=PATH, help="Executed notebook to take in (papermill's output).")
@click.option("--results", help="Folder of the results; results/ by default.")
def report(name: str, only_check: bool, notebook: Path | None, results: str | None) -> None:
    """Make a run's document and report again from its record, or check them."""
    _lighten_papermill()
    from fleetsim.gallery import refresh_gallery
    from fleetsim.project import find_project
    from fleetsim.report import check_report, render_report
    from fleetsim.runs import find_run

    project = find_project()
    folder = find_run(project, name, results)
    if not only_check:
        for path in render_report(folder, notebook):
            click.echo(_shown(path))
        home = project.results(results)
        if folder.is_relative_to(home.resolve()):
            refresh_gallery(home)
        return
    findings = check_report(folder)
    for finding in findings:
        click.echo(f"{folder.name}: {finding}")
    if findings:
        sys.exit(FINDING)
    click.echo(f"{folder.name}: document and report fit the record")


@cli.command()
@click.option("--results", help="Folder of the results; results/ by default.")
@click.option("--experiment", metavar="ID", help="Only the runs of this experiment.")
@click.option("--status", type=click.Choice(["completed", "failed"]))  # runs.STATUSES
@click.option(
    "--verdict",
    type=click.Choice(["pass", "fail", "inconclusive"]),  # runs.VERDICTS
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

    from fleetsim.project import find_project
    from fleetsim.runs import list_runs, runs_table, select_runs, sort_runs

    project = find_project()
    folder = project.results(results)
    if as_html:
        from fleetsim.gallery import write_gallery

        click.echo(_shown(write_gallery(folder)))
        return
    # Before the first run there is no folder of results, which is no fault of the user.
    every, damaged = list_runs(folder) if results or folder.exists() else ([], [])
    for error in damaged:
        _say(f"passed over: {error}")
    known = {*project.experiment_ids(), *(run.experiment for run in every)}
    if experiment is not None and experiment not in known:
        raise InputError(
            "--experiment",
            f"found {experiment!r}{nearest(experiment, known)}; "
            f"allowed: {', '.join(sorted(known))}",
        )
    ordered = sort_runs(every, key)
    chosen = select_runs(ordered, experiment=experiment, status=status, verdict=verdict)
    if as_json:
        click.echo(_as_json([run.as_dict(project) for run in chosen]))
    elif chosen:
        # In a pipe, one line is one run.
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        click.echo(runs_table(chosen).text(width))
        click.echo(f"\n{len(chosen)} of {len(every)} runs")
    else:
        click.echo(f"no run; {len(every)} stand here" if every else "no run yet")


@cli.command()
@click.argument("names", nargs=-1, metavar="[RUN_A] [RUN_B]")
@click.option("--baseline", metavar="RUN", help="Run A; RUN_B is its experiment's latest then.")
@click.option("--results", help="Folder of the results; results/ by default.")
@click.option("--html", "page", type=PATH, help="The page; results/compare/A-B.html by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option("--strict", is_flag=True, help="Exit with 3 where B is worse than A.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Level of all tests together: how often two honest runs are told apart.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1000),
    default=0.1,  # compare_rows.TOLERANCE
    show_default=True,
    help="Fraction by which times and memory may grow before B counts as worse.",
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
) -> None:
    """Compare two runs: what differs, by how much, and whether chance explains it."""
    if baseline is None and len(names) != 2:
        raise click.UsageError("Give two runs, or --baseline RUN and at most one.")
    if baseline is not None and len(names) > 1:
        raise click.UsageError("With --baseline give at most one run, RUN_B.")
    from fleetsim.compare import compare_runs
    from fleetsim.compare_page import comparison_text, page_of, write_comparison
    from fleetsim.project import find_project
    from fleetsim.runs import find_run, latest_beside

    project = find_project()
    run_a, *rest = (find_run(project, name, results) for name in (baseline, *names) if name)
    run_b = rest[0] if rest else latest_beside(run_a)
    result = compare_runs(run_a, run_b, alpha=alpha, tolerance=tolerance)
    path = page or page_of(project.results(results), result)
    write_comparison(path, result)
    click.echo(_as_json(result.as_dict()) if as_json else comparison_text(result))
    if not as_json:
        click.echo(f"\npage: {_shown(path)}")
    if strict and result.findings:
        sys.exit(FINDING)


@cli.command()
@click.argument("data", type=PATH, metavar="DATA_DIR")
@click.option("--config", type=PATH, required=True, help="Configuration that the data follow.")
@click.option("--companies", "companies_file", type=PATH, help="The companies file of the data.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Level of all tests together: how often honest data are found at fault.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the audit as JSON.")
def audit(
    data: Path, config: Path, companies_file: Path | None, alpha: float, as_json: bool
) -> None:
    """Hold any batches in this format to a configuration: structure, then every test."""
    from fleetsim.answers import audit_text
    from fleetsim.audit import audit_data

    settings = _config(config, None)
    files = (path for path in data.rglob("events.*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    with terminal_bar(size, " bytes") as update:
        result = audit_data(settings, data, companies_file, alpha=alpha, progress=update)
    click.echo(_as_json(result.as_dict()) if as_json else audit_text(result))
    if result.findings:
        sys.exit(FINDING)


@cli.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@click.option("--all", "every", is_flag=True, help="The documents of all experiments.")
def document(experiments: tuple[str, ...], every: bool) -> None:
    """Write experiment.md, the results document with its blanks, from experiment.yaml.

    --all also writes the parameters into the notebooks and docs/parameters.md, and docs/reference/.
    """
    from fleetsim.document import planned_record, render_document
    from fleetsim.experiment import load_experiment
    from fleetsim.files import write_file
    from fleetsim.notebooks import write_parameters
    from fleetsim.project import find_project

    project = find_project()
    if bool(experiments) == every:
        raise click.UsageError("Give experiments, or --all.")
    for name in project.experiment_ids() if every else experiments:
        text = render_document(planned_record(load_experiment(project, name)))
        path = project.experiment_file(name).with_name("experiment.md")
        write_file(path, text.encode())
        click.echo(_shown(path))
    if every:
        from fleetsim.reference import write_reference

        for path in (*write_parameters(project), *write_reference(project, cli)):
            click.echo(_shown(path))


def _parameters(
    experiment: str, pairs: tuple[tuple[str, str], ...], file: Path | None
) -> dict[str, Any]:
    """Return the parameters of the command line; a later one replaces an earlier one."""
    from fleetsim.documents import parse_scalar, read_mapping

    values = {} if file is None else read_mapping(file, "parameter file")
    named = values.pop("experiment", experiment)
    if named != experiment:
        raise InputError(
            str(file), f"experiment: found {named!r}; the command line names {experiment!r}"
        )
    given = {key: parse_scalar(text) for key, text in pairs}
    empty = {key: text for key, text in pairs if given[key] is None and text.lower() not in _NULL}
    return {**values, **given, **empty}


def _lighten_papermill() -> None:
    """Keep a grammar of IRIs, 2 s to load and never needed, out of papermill's imports.

    It comes with jsonschema's extra that JupyterLab asks for; nbformat validates without it.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def _shown(path: Path) -> str:
    """Return a path as the user can type it: relative where it lies below the working folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _as_json(value: Any) -> str:
    import json  # the modules of text and errors are loaded where they are needed

    return json.dumps(value, indent=2)


def _wrapped(text: str, indent: str = "") -> str:
    """Return lines of 100 characters; a number keeps its per cent sign."""
    import textwrap

    lines = (
        textwrap.fill(line, 100, initial_indent=indent, subsequent_indent=indent + "  ")
        for line in text.replace(" %", "\N{NO-BREAK SPACE}%").splitlines()
    )
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}%", " %")


def _run_or_folder(target: str) -> Path:
    """Return a folder given by its path, or the run that a name stands for."""
    if Path(target).exists():
        return Path(target)
    from fleetsim.project import find_project
    from fleetsim.runs import find_run

    return find_run(find_project(), target)


def _load_numpy() -> None:
    """Load NumPy without the threads of OpenBLAS, which start by spinning on every core.

    The generator has no use for linear algebra. The environment stays as it was.
    """
    name = "OPENBLAS_NUM_THREADS"
    if name in os.environ:
        return
    os.environ[name] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[name]


def _config(path: Path, seed: int | None) -> Any:
    from fleetsim.config import load_config

    return load_config(path, {} if seed is None else {"seed": seed})


@contextmanager
def _sweep_bar(points: int) -> Iterator[Any]:
    """Yield what a sweep calls after each point: it draws a bar on a terminal, nothing in a pipe.

    A point that failed is told on a line of its own, on a terminal or not.
    """
    from tqdm import tqdm

    failed = 0
    with tqdm(total=points, unit="run", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

        def update(outcome: Any) -> None:
            nonlocal failed
            error = outcome.record.error
            if error is not None:
                failed += 1
                bar.write(
                    f"fleetsim: {outcome.path.name} failed: {error.kind}: {error.message}",
                    file=sys.stderr,
                )
            bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()

        yield update


def _terminate(signum: int, frame: object) -> None:
    _say("terminated")
    sys.exit(128 + signum)  # unwinds, so that nothing half-written stays


def main(wall_ns: int, monotonic_ns: int) -> None:
    """Run the command line and exit with its code."""
    state = _State(Instant(wall_ns, monotonic_ns))
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(standalone_mode=False, prog_name="fleetsim", obj=state)
    except click.exceptions.Abort:
        _say("interrupted")
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except FleetsimError as error:
        code = _failure(state, error, error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
        code = _failure(state, FleetsimError(text), 1)
    sys.exit(code)


def _failure(state: _State, error: FleetsimError, code: int) -> int:
    if state.debug:
        import traceback

        traceback.print_exc()
    _say(str(error))
    return code


def _say(text: str) -> None:
    click.echo(f"fleetsim: {text}", err=True)


__all__ = ["cli", "main"]
