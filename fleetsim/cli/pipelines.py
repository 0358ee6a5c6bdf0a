"""The commands for pipelines that run elsewhere: deliver, reconcile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import click

from fleetsim.base.errors import InputError, found, nearest
from fleetsim.cli.shared import (
    FINDING,
    PATH,
    PLACE,
    json_text,
    load_numpy,
    named_experiment,
    say,
    tell,
)

_GAPS = ("--every", "--speed", "--by-hand")


@click.command()
@click.argument("experiment")
@click.argument("landing", type=PLACE)
@click.option("--variant", help="A variant of the experiment; the reference by default.")
@click.option("--every", metavar="DURATION", help="Time from one delivery to the next, as PT10S.")
@click.option("--speed", type=click.FloatRange(0, 1e9, min_open=True), help="So many times faster.")
@click.option("--by-hand", is_flag=True, help="Wait for the Enter key before each delivery.")
@click.option("--endless", is_flag=True, help="After the last, go on with the batches that follow.")
def deliver(
    experiment: str,
    landing: Path,
    variant: str | None,
    every: str | None,
    speed: float | None,
    by_hand: bool,
    endless: bool,
) -> None:
    """Deliver the batches of EXPERIMENT into a LANDING folder, on a clock.

    In real time by default: one each interval. The same command goes on where it was ended.
    """
    if sum((every is not None, speed is not None, by_hand)) > 1:
        raise click.UsageError(f"Give at most one of {', '.join(_GAPS)}.")
    load_numpy()
    from fleetsim.base.progress import terminal_bar
    from fleetsim.base.project import find_project
    from fleetsim.delivery.feed import FeedPlan, batches_of, open_feed, pace
    from fleetsim.experiment.spec import load_experiment

    project = find_project()
    loaded = load_experiment(project, named_experiment(project, experiment))
    steps = _deliveries(loaded, variant)
    seconds = _gap(every, speed, loaded.config.interval_us / 1e6)
    interval = loaded.keys.interval
    plan = FeedPlan(
        config=loaded.config.as_dict(),
        interval=interval,
        variant=variant or "reference",
        deliveries=tuple(steps),
    )
    with (
        batches_of(loaded.config, interval) as batches,
        open_feed(landing, plan, batches) as feed,
    ):
        left = list(islice(steps, len(feed.done), None))
        if feed.done:
            tell(f"{landing}: {len(feed.done)} deliveries stand there already")
        due: Any = _followed(left, len(feed.done), steps) if endless else left
        total = len(feed.done) + len(left)
        with terminal_bar(len(left), " deliveries") as update:
            for delivery in _asked(due) if by_hand else pace(due, seconds):
                row = feed.deliver(delivery)
                update(1)
                form = "" if row.form == "whole" else f" ({row.form})"
                of = "" if endless else f" of {total}"
                tell(f"{row.step}{of}: {row.path}{form}, {row.bytes} bytes, {row.time}")


def _deliveries(loaded: Any, variant: str | None) -> list[Any]:
    """Return the deliveries of an experiment's reference or variant."""
    if loaded.kind.name != "pipeline":
        raise InputError(
            "EXPERIMENT",
            f"found {found(loaded.id)} of kind {loaded.kind.name}; allowed: one of kind pipeline",
            next_step="fleetsim list shows the kinds; fleetsim new pipeline ID makes one",
        )
    tried = loaded.keys.tried
    if variant is None:
        return list(loaded.keys.reference)
    if variant not in tried:
        raise InputError(
            "--variant",
            f"found {found(variant)}{nearest(variant, tried)}; allowed: "
            f"{', '.join(tried) or 'none, the experiment has no variants'}",
        )
    return list(tried[variant])


def _gap(every: str | None, speed: float | None, interval: float) -> float:
    """Return the seconds from one delivery to the next."""
    from fleetsim.base.clock import parse_duration

    if every is None:
        return interval / (speed or 1.0)
    try:
        return parse_duration(every).total_seconds()
    except ValueError as error:
        raise InputError("--every", str(error)) from None


def _followed(left: list[Any], done: int, steps: list[Any]) -> Iterator[Any]:
    """Yield what is left, then the batches that follow the last, one by one."""
    from fleetsim.delivery.plan import Delivery

    yield from left
    following = 1 + max(step.batch for step in steps)
    yield from map(Delivery, count(following + max(0, done - len(steps))))


def _asked(deliveries: Any) -> Iterator[Any]:
    """Yield each delivery once Enter was pressed; the end of the input ends the feed."""
    for delivery in deliveries:
        say("press Enter for the next delivery")
        if not sys.stdin.readline():
            say("the input has ended; the same command goes on from here")
            return
        yield delivery


@click.command()
@click.argument("landing", type=PLACE)
@click.option("--accepted", required=True, metavar="QUERY", help="SELECT of the six columns.")
@click.option("--rejected", metavar="QUERY", help="SELECT of raw and, where it is there, reason.")
@click.option("--output", type=PATH, help="Folder that the queries may read; {output} names it.")
@click.option("--outcome", type=PATH, help="Write one row for each line there, as Parquet.")
@click.option("--page", type=PATH, help="Write a page of HTML there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def reconcile(
    landing: Path,
    accepted: str,
    rejected: str | None,
    output: Path | None,
    outcome: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Hold what a pipeline made of a LANDING folder against what was delivered.

    Ends with 3 where something is lost, unexpected, duplicated or altered.
    """
    load_numpy()
    from fleetsim.kinds.pipeline.elsewhere import reconcile_landing

    result = reconcile_landing(landing, accepted, rejected, output=output, outcome=outcome)
    if page is not None:
        from fleetsim.base.files import make_folder, write_file
        from fleetsim.kinds.pipeline.elsewhere import page_of

        make_folder(page.parent)
        write_file(page, page_of(result).encode())
    if as_json:
        tell(json_text(result.as_dict()))
    else:
        tell(result.text())
        for path in (outcome, page):
            if path is not None:
                tell(f"\n{path}")
    if result.is_wrong:
        sys.exit(FINDING)
