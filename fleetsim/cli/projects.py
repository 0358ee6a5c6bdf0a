"""The commands of a project: init, list, new."""

from __future__ import annotations

from pathlib import Path

import click

from fleetsim.cli.shared import PATH, json_text, say, shown, tell


@click.command()
@click.argument("folder", type=PATH, default=".")
def init(folder: Path) -> None:
    """Write a project to begin with into FOLDER: experiments, notebooks and a README.

    The working folder by default. Whole or not at all, and never over what exists.
    """
    from fleetsim.experiment.starter import FIRST, init_project

    for name in init_project(folder):
        tell(shown(folder / name))
    go = "" if folder.resolve() == Path.cwd() else f"cd {shown(folder)} && "
    tell(f"\nnext: {go}fleetsim check {FIRST}")


@click.command()
@click.argument("names", metavar="[KIND] ID", nargs=-1, required=True)
@click.option("--kind", "kind", help="Kind of the experiment; baseline by default.")
@click.pass_context
def new(ctx: click.Context, names: tuple[str, ...], kind: str | None) -> None:
    """Make experiments/ID from a template of its kind, and check it."""
    if len(names) > 2 or (len(names) == 2 and kind is not None):
        raise click.UsageError("Give an ID, or a kind and an ID.")
    name, kind = names[-1], names[0] if len(names) == 2 else kind or "baseline"
    from fleetsim.base.project import find_project
    from fleetsim.cli.experiments import check
    from fleetsim.experiment.starter import new_experiment

    folder = new_experiment(find_project(), name, kind)
    for path in sorted(folder.iterdir()):
        tell(shown(path))
    tell("")
    ctx.invoke(check, experiment=name)
    tell(
        f"\nnext: write down what you claim in {shown(folder / 'experiment.yaml')}, then "
        f"fleetsim check {name} && fleetsim document {name} && fleetsim run {name}"
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the experiments as JSON.")
def list(as_json: bool) -> None:
    """List the experiments of the project, with their kinds and the points of their grids."""
    from fleetsim.base.errors import FleetsimError
    from fleetsim.base.project import find_project
    from fleetsim.base.tables import Table
    from fleetsim.experiment.grid import grid_size
    from fleetsim.experiment.spec import load_experiment

    project = find_project()
    rows = []
    for name in project.experiment_ids():
        try:
            loaded = load_experiment(project, name)
        except FleetsimError as error:
            say(f"skipped: {error}")
            continue
        rows.append(
            {
                "id": name,
                "kind": loaded.kind.name,
                "title": loaded.title,
                "points": grid_size(loaded.axes) if loaded.axes else 1,
                "seeds": loaded.seeds,
            }
        )
    if as_json:
        tell(json_text(rows))
        return
    header = ("experiment", "kind", "points", "seeds", "title")
    cells = ((r["id"], r["kind"], r["points"], r["seeds"], r["title"]) for r in rows)
    tell(str(Table(header, tuple(tuple(map(str, row)) for row in cells))))
