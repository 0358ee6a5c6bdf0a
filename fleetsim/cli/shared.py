"""What the commands have in common: kinds of values, and ways to say things."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from fleetsim.base.clock import Instant, parse_time
from fleetsim.base.storage import is_remote, place

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
        return place(value)


PLACE = PlaceParam()
#: The option of all commands that make or read runs.
RESULTS = click.option(
    "--results", metavar="DIR|URL", help="Folder or URL of the results; results/ by default."
)
PATH = click.Path(path_type=Path)
TIME = TimeParam()
SEED = click.IntRange(0, 2**64 - 1)


class State:
    """What the entry point hands to the commands."""

    def __init__(self, started: Instant) -> None:
        self.started = started
        self.debug = False


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
    Afterwards the grammar can be imported as before.
    """
    name = "rfc3987_syntax"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]  # as Python marks what cannot be imported
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules[name]


def config_of(path: Path, seed: int | None) -> Any:
    """Return the configuration of a file, with another seed where one is given."""
    from fleetsim.generate.config import load_config

    return load_config(path, {} if seed is None else {"seed": seed})


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

    return json.dumps(value, indent=2)


def wrapped(text: str, indent: str = "") -> str:
    """Return lines of 100 characters; a number keeps its per cent sign."""
    import textwrap

    lines = (
        textwrap.fill(line, 100, initial_indent=indent, subsequent_indent=indent + "  ")
        for line in text.replace(" %", "\N{NO-BREAK SPACE}%").splitlines()
    )
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}%", " %")


def say(text: str) -> None:
    """Tell the user something beside the output."""
    click.echo(f"fleetsim: {text}", err=True)
