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
from fleetsim.errors import FleetsimError, InputError

FINDING = 3


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
    r"""Know, not guess, how a batch feed of fleet telematics behaves.

    \b
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
    with _progress(expected * fleet.active.sum() * batches) as update:
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

    from fleetsim.check import check_experiment, remedy_text
    from fleetsim.document import POWER_WORDS, power_table
    from fleetsim.experiment import load_experiment
    from fleetsim.project import find_project
    from fleetsim.run import check_table

    result = check_experiment(load_experiment(find_project(), experiment))
    if as_json:
        click.echo(_as_json(result.as_dict()))
    else:
        expectation = result.expectation
        click.echo(
            f"{experiment}: {expectation.mean:g} events expected, standard deviation "
            f"{expectation.standard_deviation:.4g}\n"
        )
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


@cli.command()
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
    from fleetsim.project import find_project
    from fleetsim.record import find_run
    from fleetsim.report import check_report, render_report

    folder = find_run(find_project(), name, results)
    if not only_check:
        for path in render_report(folder, notebook):
            click.echo(_shown(path))
        return
    findings = check_report(folder)
    for finding in findings:
        click.echo(f"{folder.name}: {finding}")
    if findings:
        sys.exit(FINDING)
    click.echo(f"{folder.name}: document and report fit the record")


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
    with _progress(size, " bytes") as update:
        result = audit_data(settings, data, companies_file, alpha=alpha, progress=update)
    click.echo(_as_json(result.as_dict()) if as_json else audit_text(result))
    if result.findings:
        sys.exit(FINDING)


@cli.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@click.option("--all", "every", is_flag=True, help="The documents of all experiments.")
def document(experiments: tuple[str, ...], every: bool) -> None:
    """Write experiment.md, the results document with its blanks, from experiment.yaml."""
    from fleetsim.document import planned_record, render_document
    from fleetsim.experiment import load_experiment
    from fleetsim.files import write_file
    from fleetsim.project import find_project

    project = find_project()
    if bool(experiments) == every:
        raise click.UsageError("Give experiments, or --all.")
    for name in project.experiment_ids() if every else experiments:
        text = render_document(planned_record(load_experiment(project, name)))
        path = project.experiment_file(name).with_name("experiment.md")
        write_file(path, text.encode())
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
    return {**values, **{key: parse_scalar(text) for key, text in pairs}}


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
    from fleetsim.record import find_run

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
def _progress(expected: float, unit: str = " events") -> Iterator[Any]:
    """Yield an update function that draws a bar on a terminal, and None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=round(expected), unit=unit, unit_scale=True, delay=1, file=sys.stderr) as bar:
        yield bar.update


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
