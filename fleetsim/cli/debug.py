"""The traceback that ``--debug`` shows, without the words of a storage."""

from __future__ import annotations

import sys
import traceback

import click

from fleetsim.base.storage import is_of_a_storage
from fleetsim.base.terminal import printable


def print_traceback() -> None:
    """Print the traceback of the error under way on stderr.

    Of what a storage's library raised, and of what came of it, the kind is told and not the text.
    """
    _, error, _ = sys.exc_info()
    if error is None or not is_of_a_storage(error):
        lines = [traceback.format_exc()]
    else:
        lines = []
        chain: list[BaseException] = []
        while error is not None and error not in chain:
            chain.append(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        for link in reversed(chain):
            lines += [
                "Traceback (most recent call last):\n",
                *traceback.format_tb(link.__traceback__),
            ]
            lines.append(f"{type(link).__module__}.{type(link).__name__}\n\n")
    click.echo(printable("".join(lines)), err=True, nl=False)
