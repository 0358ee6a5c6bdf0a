"""The commands of one experiment: check, run, report, document."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from fleetsim.base.errors import FleetsimError, InputError, cut, found
from fleetsim.base.progress import Steps
from fleetsim.base.terminal import on_one_line
from fleetsim.cli.shared import (
    FINDING,
    PATH,
    RESULTS,
    json_text,
    load_jsonschema,
    named_experiment,
    shown,
    tell,
    wrapped,
)

if TYPE_CHECKING:
    from fleetsim.experiment.record import Record

_NULL = ("null", "~")  # as the YAML says; an empty text is rather a variable that was not set


class _RunCommand(click.Command):
    """A command whose help lists the parameters of the experiment that is named beside --help.

    A parameter may be given as two words or as one: ``-p seed 7`` or ``-p seed=7``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = _in_two_words(args)
        # --help ends the command before its arguments are looked at.
        named, _, _ = self.make_parser(ctx).parse_args(list(args))
        ctx.meta[__name__] = named.get("experiment")
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        name = ctx.meta.get(__name__)
        if not isinstance(name, str):
            super().format_epilog(ctx, formatter)
            return
        from fleetsim.base.project import find_project
        from fleetsim.experiment.spec import load_experiment

        project = find_project()
        experiment = load_experiment(project, named_experiment(project, name))
        rows = [
            (
                on_one_line(f"{row.name} {row.type.__name__}"),
                on_one_line(f"{row.about}  [default: {experiment.parameters.get(row.name)}]"),
            )
            for row in experiment.run_parameters.values()
        ]
        with formatter.section(f"Parameters of {on_one_line(experiment.id)}, for -p and -f"):
            formatter.write_dl(rows, col_max=32)


def _in_two_words(args: list[str]) -> list[str]:
    """Return the words of a command line with key and value of each parameter apart."""
    words: list[str] = []
    left = iter(args)
    for word in left:
        if word == "--":
            return [*words, word, *left]
        words.append(word)
        if word in ("-p", "--parameter"):
            given = next(left, "")
            key, equals, value = given.partition("=")
            # What is no name is told as a whole.
            words += [key, value] if equals and key.isidentifier() else [given] if given else []
    return words


@click.command()
@click.argument("experiment")
@click.option("--all", "everything", is_flag=True, help="Show every criterion, remedy and power.")
@click.option("--strict", is_flag=True, help="Exit with 3 where a criterion can hardly pass.")
@click.option("--json", "as_json", is_flag=True, help="Print the check as JSON.")
def check(experiment: str, everything: bool, strict: bool, as_json: bool) -> None:
    """Hold an experiment to its own model, before anything runs.

    Says which criteria cannot pass and why, with the nearest remedy, and what the criteria hardly
    see. Ends with 0 all the same; with --strict with 3.
    """
    from fleetsim.base.project import find_project
    from fleetsim.cli.check_text import short_text, whole_text
    from fleetsim.experiment.check import check_experiment
    from fleetsim.experiment.spec import load_experiment
    from fleetsim.experiment.steps import run_class

    project = find_project()
    loaded = load_experiment(project, named_experiment(project, experiment))
    run_class(loaded.kind)  # one that is not whole is refused here, not in the middle of a run
    result = check_experiment(loaded)
    if as_json:
        tell(json_text(result.as_dict()))
    else:
        tell(wrapped(f"{experiment}: {loaded.kind.extent(loaded)}") + "\n")
        tell(whole_text(result) if everything else short_text(result, experiment))
    if strict and result.findings:
        sys.exit(FINDING)


@click.command(
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
@RESULTS
@click.option("--strict", is_flag=True, help="Exit with 3 where a criterion does not pass.")
def run(
    experiment: str,
    pairs: tuple[tuple[str, str], ...],
    file: Path | None,
    results: str | None,
    strict: bool,
) -> None:
    """Run an experiment: execute its notebook, and make the report."""
    with Steps("reading the experiment") as steps:
        record, path = _executed(experiment, pairs, file, results, steps)
    from fleetsim.experiment.document import verdict_table
    from fleetsim.experiment.steps import Summary
    from fleetsim.report.run_report import REPORT_HTML, REPORT_NOTEBOOK

    if record.error is not None:
        cell = "" if record.error.cell is None else f" in cell {record.error.cell}"
        raise FleetsimError(
            f"{record.experiment}/{record.run_id}: the run failed{cell}: {record.error.kind}: "
            f"{record.error.message}\n  kept as evidence: {path}/{REPORT_NOTEBOOK}"
        )
    tell(str(verdict_table(record)))
    tell(f"\n{wrapped(repr(Summary(record)))}")
    tell(f"\nreport: {path}/{REPORT_HTML}")
    if strict and not record.passed:
        sys.exit(FINDING)


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--check", "only_check", is_flag=True, help="Say what no longer fits; write nothing.")
@click.option("--notebook", type=PATH, help="Executed notebook to take in (papermill's output).")
@RESULTS
def report(name: str, only_check: bool, notebook: Path | None, results: str | None) -> None:
    """Make a run's document and report again from its record, or check them."""
    load_jsonschema()
    from fleetsim.base.project import find_project
    from fleetsim.report.run_report import check_report, render_report
    from fleetsim.runner.mirror import mirrored

    with mirrored(find_project(), results) as home:
        folder = home.find(name)
        inside = folder.is_relative_to(home.folder.resolve())
        if not only_check:
            written = render_report(folder, notebook)
            if inside:
                home.upload(*written)
                home.refresh_gallery()
            for path in written:
                tell(shown(home.named(path)))
            return
        findings = check_report(folder)
    for finding in findings:
        tell(f"{folder.name}: {finding}")
    if findings:
        sys.exit(FINDING)
    tell(f"{folder.name}: document and report fit the record")


@click.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@click.option("--all", "every", is_flag=True, help="The documents of all experiments.")
@click.pass_context
def document(ctx: click.Context, experiments: tuple[str, ...], every: bool) -> None:
    """Write experiment.md, the results document with its blanks, from experiment.yaml.

    --all also writes the parameters into the notebooks and docs/parameters.md, and docs/reference/.
    """
    from fleetsim.base.files import write_file
    from fleetsim.base.project import find_project
    from fleetsim.cli.notebooks import write_parameters
    from fleetsim.experiment.document import planned_record, render_document
    from fleetsim.experiment.spec import load_experiment

    project = find_project()
    if bool(experiments) == every:
        raise click.UsageError("Give experiments, or --all.")
    for name in project.experiment_ids() if every else experiments:
        name = named_experiment(project, name)
        text = render_document(planned_record(load_experiment(project, name)))
        path = project.experiment_file(name).with_name("experiment.md")
        write_file(path, text.encode())
        tell(shown(path))
    if every:
        from fleetsim.cli.reference import write_reference

        commands = cast("click.Group", ctx.find_root().command)
        for path in (*write_parameters(project), *write_reference(project, commands)):
            tell(shown(path))


def _executed(
    experiment: str,
    pairs: tuple[tuple[str, str], ...],
    file: Path | None,
    results: str | None,
    steps: Steps,
) -> tuple[Record, str]:
    """Run an experiment; return its record, and where it stands."""
    from fleetsim.base.project import find_project
    from fleetsim.runner.warm import LIKELY, Nursery

    project = find_project()
    experiment = named_experiment(project, experiment)
    project.experiment_file(experiment)
    # What the kernel needs is imported there while this process imports what it needs itself.
    with Nursery(LIKELY) if Nursery.possible() else nullcontext() as nursery:
        load_jsonschema()
        from fleetsim.experiment.spec import load_experiment
        from fleetsim.runner.engines import RunOptions
        from fleetsim.runner.mirror import mirrored
        from fleetsim.runner.run import execute

        parameters = _parameters(experiment, pairs, file)
        with mirrored(project, results) as home:
            loaded = load_experiment(project, experiment, parameters)
            loaded.kind.check_machine(loaded, home.folder)  # before a kernel starts
            outcome = execute(
                project,
                experiment,
                parameters,
                results=str(home.folder),
                options=RunOptions(steps=steps, nursery=nursery),
                gallery=False,
            )
            home.upload_run(outcome.path)
            home.refresh_gallery()
        return outcome.record, shown(home.named(outcome.path))


def _parameters(
    experiment: str, pairs: tuple[tuple[str, str], ...], file: Path | None
) -> dict[str, Any]:
    """Return the parameters of the command line; a later one replaces an earlier one."""
    from fleetsim.base.strict import parse_scalar, read_mapping

    values = {} if file is None else read_mapping(file, "parameter file")
    named = values.pop("experiment", experiment)
    if named != experiment:
        raise InputError(
            str(file),
            f"experiment: found {found(named)}; the command line names {found(experiment)}",
        )
    given = {key: parse_scalar(text, f"-p {cut(key)}") for key, text in pairs}
    empty = {key: text for key, text in pairs if given[key] is None and text.lower() not in _NULL}
    return {**values, **given, **empty}
