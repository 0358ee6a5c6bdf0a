"""What the commands have in common: kinds of values, and ways to say things."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetsim.base.absent import import_without
from fleetsim.base.clock import Instant, parse_time
from fleetsim.base.errors import InputError
from fleetsim.base.storage import is_remote, place
from fleetsim.base.terminal import printable

if TYPE_CHECKING:
    from fleetsim.base.project import Project

FINDING = 3


class TimeParam(click.ParamType):  # type: ignore[type-arg]  # not generic in older versions
    """An ISO 8601 time with its zone, as microseconds since 1970 UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the instant."""
        try:
            return value if isinstance(value, int) else parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class OrdinalParam(click.ParamType):  # type: ignore[type-arg]
    """A whole number from 0, or 'next'."""

    name = "n|next"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number or the word."""
        if value == "next" or isinstance(value, int):
            return value
        return click.IntRange(0, 2**64 - 1).convert(value, param, ctx)


class PlaceParam(click.ParamType):  # type: ignore[type-arg]
    """A path, or a URL of a storage."""

    name = "path|url"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the place."""
        found = place(value)
        if ctx is not None and isinstance(ctx.obj, State):
            ctx.obj.places.append(str(found))
        return found


class ResultsParam(PlaceParam):
    """A folder of results, from the working folder on, or a URL of a storage, as text.

    The library takes relative paths of results from the project's root on, so that notebooks
    agree wherever they are; on the command line all paths start at the working folder.
    """

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the text of an absolute path, or of a URL."""
        if not str(value):
            self.fail("found an empty text; allowed: a folder or a URL", param, ctx)
        found = super().convert(value, param, ctx)
        return value if is_remote(found) else os.path.abspath(found)


class PathParam(PlaceParam):
    """A path of this machine."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the path."""
        if isinstance(value, str) and "://" in value:
            scheme = value.partition("://")[0]
            self.fail(f"found a URL of {scheme[:20]}://; allowed: a path", param, ctx)
        return super().convert(value, param, ctx)


PLACE = PlaceParam()
#: The option of all commands that make or read runs.
RESULTS = click.option(
    "--results",
    type=ResultsParam(),
    metavar="DIR|URL",
    help="Folder or URL of the results, a folder from the working folder on; by default results/ "
    "of the project.",
)
PATH = PathParam()
TIME = TimeParam()
SEED = click.IntRange(0, 2**64 - 1)


class State:
    """What the entry point hands to the commands."""

    def __init__(self, started: Instant) -> None:
        self.started = started
        self.debug = False
        self.places: list[str] = []  # that the user named, in their order


def load_numpy() -> None:
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


def load_jsonschema() -> None:
    """Load jsonschema, which papermill imports, without a grammar of IRIs: 2 s, never needed.

    It comes with jsonschema's extra that JupyterLab asks for; nbformat validates without it.
    """
    import_without("rfc3987_syntax", "jsonschema")


def config_of(path: Path, seed: int | None) -> Any:
    """Return the configuration of a file, with another seed where one is given."""
    from fleetsim.generate.config import load_config

    return load_config(path, {} if seed is None else {"seed": seed})


def require_workers(scheduler: str | None, option: str, where: Path | str | None) -> None:
    """Refuse an address that names no workers, or a place that they do not share with this process.

    Raises
    ------
    InputError
        Before anything is made.
    """
    if scheduler is None:
        return
    from fleetsim.base.cluster import check_address

    check_address(scheduler)
    if str(where).startswith("memory:"):
        raise InputError(option, "memory:// is each process's own; workers need another place")


def named_experiment(project: Project, name: str) -> str:
    """Return an experiment's id, or its path as the project takes it.

    On the command line a path starts at the working folder. One from the project's root on, as the
    notebooks take it, is taken where nothing else is meant.
    """
    if os.path.isfile(project.experiments / name / "experiment.yaml"):
        return name
    path = os.path.abspath(name)
    if os.sep in name:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)  # what the system refuses, it says best
    if not any(map(os.path.isfile, (path, os.path.join(path, "experiment.yaml")))):
        return name
    return os.path.relpath(path, project.root) if _below(project.root, path) else path


def _below(root: Path, path: str) -> bool:
    return Path(path).resolve().is_relative_to(root.resolve())


def shown(path: Path) -> str:
    """Return a path as the user can type it: relative where it lies below the working folder."""
    if is_remote(path):
        return str(path)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def json_text(value: Any) -> str:
    """Return a value as indented JSON."""
    import json  # the modules of text and errors are loaded where they are needed

    # ASCII, of which JSON lets one control character through.
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")


def wrapped(text: str, indent: str = "") -> str:
    """Return lines of 100 characters; a number keeps its per cent sign."""
    import textwrap

    lines = (
        textwrap.fill(line, 100, initial_indent=indent, subsequent_indent=indent + "  ")
        for line in text.replace(" %", "\N{NO-BREAK SPACE}%").splitlines()
    )
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}%", " %")


def tell(text: str) -> None:
    """Print what a command has to say; with `say`, the only way to the terminal."""
    click.echo(printable(text))


def say(text: str) -> None:
    """Tell the user something beside the output."""
    click.echo(f"fleetsim: {printable(text)}", err=True)
