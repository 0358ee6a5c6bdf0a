"""The commands that make data, and hold them to what they should be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from fleetsim.base.errors import InputError
from fleetsim.base.progress import terminal_bar
from fleetsim.base.storage import place
from fleetsim.batch.formats import FORMATS
from fleetsim.cli.shared import (
    FINDING,
    PATH,
    PLACE,
    RESULTS,
    SEED,
    TIME,
    OrdinalParam,
    State,
    config_of,
    json_text,
    load_numpy,
    require_workers,
    say,
    shown,
    tell,
)
from fleetsim.generate.kernel import KERNELS


@click.command()
@click.option("--config", type=PATH, required=True, help="Configuration (YAML or JSON).")
@click.option("--output", type=PLACE, required=True, help="The companies file to make or extend.")
@click.option("--seed", type=SEED, help="Seed in place of the configuration's.")
@click.option("--at", type=TIME, help="When the first cohort joins; now by default.")
@click.option("--cohorts", type=click.IntRange(min=1), default=1, show_default=True)
@click.pass_obj
def companies(
    state: State, config: Path, output: Path, seed: int | None, at: int | None, cohorts: int
) -> None:
    """Make the companies of a fleet, or extend an existing file by further cohorts."""
    load_numpy()
    from fleetsim.batch.companies import write_companies

    settings = config_of(config, seed)
    result = write_companies(
        settings, output, at_us=at, now_us=state.started.wall_us, cohorts=cohorts
    )
    kept = result.lines - result.added
    note = f" ({kept} kept, {result.added} added)" if kept else ""
    tell(f"{output}: {result.lines} companies{note}")


@click.command()
@click.option("--config", type=PATH, required=True, help="Configuration (YAML or JSON).")
@click.option(
    "--companies", "companies_file", type=PLACE, required=True, help="The companies file."
)
@click.option("--output", type=PLACE, required=True, help="Folder of the batches.")
@click.option("--now", is_flag=True, help="The interval starts at this moment.")
@click.option("--interval-start", type=TIME, help="Start of the first interval, with its zone.")
@click.option("--batches", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--ordinal",
    type=OrdinalParam(),
    default=0,
    show_default=True,
    help="Number of the first batch among those of its seed; 'next' takes the next free one.",
)
@click.option("--seed", type=SEED, help="Seed in place of the configuration's.")
@click.option(
    "--format",
    type=click.Choice(list(FORMATS)),
    default="jsonl",
    show_default=True,
)
@click.option(
    "--part-events",
    type=click.IntRange(min=1),
    metavar="N",
    help="Write parts of about N events each in place of one file; with --scheduler a million.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="Threads for large batches; as many as there are cores by default.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Make the parts on a Dask cluster: tcp://HOST:PORT, or local:N for N processes here.",
)
@click.option(
    "--force", is_flag=True, help="Replace batches that differ; begin what seems not to fit."
)
@click.option("--allow-empty", is_flag=True, help="Write a batch although no company is eligible.")
@click.option("--allow-repeat", is_flag=True, help="Write a copy of a batch in another interval.")
@click.option(
    "--kernel",
    type=click.Choice(KERNELS),
    default="auto",
    envvar="FLEETSIM_KERNEL",
    hidden=True,  # the bytes are the same; tests and benchmarks force one path
)
@click.pass_obj
def events(
    state: State,
    config: Path,
    companies_file: Path,
    output: Path,
    now: bool,
    interval_start: int | None,
    batches: int,
    ordinal: Any,
    seed: int | None,
    format: str,
    part_events: int | None,
    jobs: int | None,
    scheduler: str | None,
    force: bool,
    allow_empty: bool,
    allow_repeat: bool,
    kernel: Any,
) -> None:
    """Make batches of events, one folder each."""
    if now == (interval_start is not None):
        raise click.UsageError("Give exactly one of --now and --interval-start TIME.")
    if scheduler and jobs:
        raise click.UsageError("--jobs are threads here; with --scheduler, workers do the work.")
    if now and batches > 1:
        raise click.UsageError("--now makes one batch; give --interval-start for --batches.")
    load_numpy()
    from fleetsim.batch.companies import read_companies
    from fleetsim.batch.plan import WriteOptions
    from fleetsim.batch.write import write_batches

    options = WriteOptions(
        batches=batches,
        ordinal=ordinal,
        force=force,
        allow_empty=allow_empty,
        allow_repeat=allow_repeat,
        format=format,
        part_events=part_events,
        jobs=jobs,
        kernel=kernel,
    )
    settings = config_of(config, seed)
    fleet = read_companies(companies_file)
    start_us = state.started.wall_us if interval_start is None else interval_start
    expected = settings.event_rate_per_driver * settings.drivers_per_company
    require_workers(scheduler, "--output", output)
    with ExitStack() as stack:
        maker = None
        if scheduler:
            from fleetsim.base.cluster import connect
            from fleetsim.batch.parts import parts_on

            maker = parts_on(stack.enter_context(connect(scheduler)))
        bar = terminal_bar(expected * fleet.active.sum() * batches, " events")
        update = stack.enter_context(bar)
        for result in write_batches(
            settings,
            fleet,
            output,
            start_us=start_us,
            started=state.started,
            options=options,
            maker=maker,
            progress=update,
        ):
            meta = result.meta
            note = "" if result.written else " (stood there already)"
            tell(f"{result.path}: {meta.event_count} events, {meta.bytes} bytes{note}")


@click.command()
@click.argument("target", metavar="RUN_OR_BATCH")
@click.option("--companies", "companies_file", type=PLACE, help="The companies file of the batch.")
@RESULTS
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(target: str, companies_file: Path | None, results: str | None, as_json: bool) -> None:
    """Make batches again from their own records, and compare the content."""
    import msgspec

    from fleetsim.batch.verify import verify_below

    with _run_or_folder(target, results) as folder:
        found = verify_below(folder, companies_file)
    if as_json:
        rows = [
            {
                "batch_id": r.batch_id,
                "event_count": r.event_count,
                "findings": r.findings,
                "kept": r.kept,
                "compared": msgspec.to_builtins(r.compared),
            }
            for r in found
        ]
        tell(json_text(rows))
    else:
        for result in found:
            if not result.findings:
                what = f"reproduced, {result.event_count} events"
                if not result.kept:
                    what = (
                        f"record reproduced; its {result.event_count} events were not kept on the "
                        "disk; their record fits"
                    )
                tell(f"{result.batch_id}: {what} (compared: {result.compared})")
            for finding in result.findings:
                tell(f"{result.batch_id}: {finding}")
    if any(result.findings for result in found):
        sys.exit(FINDING)


@click.command()
@click.argument("data", type=PLACE, metavar="DATA_DIR")
@click.option("--config", type=PATH, required=True, help="Configuration that the data follow.")
@click.option("--companies", "companies_file", type=PLACE, help="The companies file of the data.")
@click.option(
    "--ledger",
    type=PLACE,
    metavar="DIR",
    help="Folder of the ledgers of injected defects: what they explain is no finding, the number "
    "of each kind is tested, and the other tests look at the clean lines.",
)
@click.option(
    "--roster",
    type=click.Choice(["companies", "from-events"]),
    default="companies",
    show_default=True,
    help="Who the drivers are: those of the companies file, or whom the events name; tests that "
    "need to know are then left out.",
)
@click.option(
    "--read",
    metavar="SQL",
    help="A SELECT of DuckDB with the six columns in place of batches of the kit's formats; {data} "
    "is DATA_DIR, as in: SELECT * FROM read_csv('{data}/*.csv').",
)
@click.option(
    "--interval-start",
    type=TIME,
    help="With --read: start of the first interval; by default that of the smallest time.",
)
@click.option(
    "--batches",
    type=click.IntRange(min=1),
    help="With --read: number of intervals; by default up to the largest time.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Level of all tests together: how often fault-free data are found at fault.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Read the files on a Dask cluster: tcp://HOST:PORT, or local:N for N processes here.",
)
@click.option("--html", "page", type=PATH, help="Write a page of HTML there.")
@click.option("--json", "as_json", is_flag=True, help="Print the audit as JSON.")
def audit(
    data: Path,
    config: Path,
    companies_file: Path | None,
    ledger: Path | None,
    roster: str,
    read: str | None,
    interval_start: int | None,
    batches: int | None,
    alpha: float,
    scheduler: str | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Hold any batches in this format to a configuration: structure, then every test."""
    from fleetsim.tally.audit import audit_data, audit_text, bytes_to_read

    from_events = roster == "from-events"
    if from_events and companies_file:
        raise click.UsageError("--roster from-events reads no companies; leave out --companies.")
    if read is None and (interval_start is not None or batches is not None):
        raise click.UsageError("--interval-start and --batches divide the rows of --read.")
    if read is not None and scheduler:
        raise click.UsageError("--read works in this process; leave out --scheduler.")
    if read is not None and ledger is not None:
        raise click.UsageError("--ledger explains lines of files, and --read has none.")
    settings = config_of(config, None)
    require_workers(scheduler, "DATA_DIR", data)
    if ledger is not None:
        require_workers(scheduler, "--ledger", ledger)
    with ExitStack() as stack:
        mapper = None
        if scheduler:
            from fleetsim.base.cluster import connect

            mapper = stack.enter_context(connect(scheduler)).map
        update = stack.enter_context(terminal_bar(bytes_to_read(data), " bytes"))
        result = audit_data(
            settings,
            data,
            companies_file,
            from_events=from_events,
            read=read,
            start_us=interval_start,
            batches=batches,
            ledger=ledger,
            alpha=alpha,
            mapper=mapper,
            progress=update,
        )
    if page is not None:
        from fleetsim.report.audit_page import write_audit_page

        write_audit_page(page, result, settings)
    tell(json_text(result.as_dict()) if as_json else audit_text(result))
    if page is not None and as_json:
        say(f"page: {shown(page)}")
    elif page is not None:
        tell(f"\npage: {shown(page)}")
    if result.findings:
        sys.exit(FINDING)


@contextmanager
def _run_or_folder(target: str, results: str | None) -> Iterator[Path]:
    """Yield a folder given by its path or URL, or the run that a name stands for."""
    if "://" in target:
        yield place(target)
        return
    try:
        os.stat(target)
        exists = True
    except (FileNotFoundError, NotADirectoryError, ValueError):
        exists = False
    except OSError as error:
        raise InputError(target, f"cannot be read: {error.strerror}") from None
    if exists:
        from fleetsim.experiment.results import RECORD_NAME, refuse_links

        if (Path(target) / RECORD_NAME).exists():
            refuse_links(Path(target))
        yield Path(target)
        return
    from fleetsim.base.project import find_project
    from fleetsim.runner.mirror import mirrored

    with mirrored(find_project(), results) as home:
        yield home.find(target)
