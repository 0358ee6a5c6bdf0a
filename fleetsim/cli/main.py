"""The command line: it finds a command, runs it, and sets the exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys
from contextlib import suppress

import click

import fleetsim
from fleetsim.base.clock import Instant
from fleetsim.base.errors import (
    FleetsimError,
    is_of_the_system,
    modules_of,
    refused,
)
from fleetsim.base.terminal import printable
from fleetsim.cli.shared import State, say
from fleetsim.cli.signals import Signals, Terminated, unwinding

#: Where the commands are; a module is loaded when one of its commands is asked for.
COMMANDS = {
    "data": ("companies", "events", "verify", "audit"),
    "experiments": ("check", "run", "report", "document"),
    "runs": ("sweep", "runs", "compare"),
    "pipelines": ("deliver", "reconcile"),
    "projects": ("init", "list", "new"),
}


_WHOLE = 300  # characters: more than any summary has


class _Commands(click.Group):
    """The commands of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for names in COMMANDS.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for module, names in COMMANDS.items():
            if cmd_name in names:
                command: click.Command
                command = getattr(importlib.import_module(f"fleetsim.cli.{module}"), cmd_name)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries; click would cut these to one line."""
        rows = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(_WHOLE)) for name, command in rows if command]
            )

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would say it with an empty line
            if sys.stderr.isatty():
                click.echo(err=True)  # behind the ^C
            raise click.Abort from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(fleetsim.__version__, prog_name="fleetsim")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(state: State, debug: bool) -> None:
    """Know, not guess, how a batch feed of fleet telematics behaves.

    Exit codes: 0 done, 1 a program or run error, 2 bad usage or input, 3 a finding,
    130/143 interrupted. A failed hypothesis is a result, not an error.
    """
    state.debug = debug


def main(wall_ns: int, monotonic_ns: int) -> None:
    """Run the command line and exit with its code."""
    state = State(Instant(wall_ns, monotonic_ns))
    _open_streams()
    with unwinding() as signals:
        code = _run(state, signals)
        _drop_output()
    sys.exit(code)


def _run(state: State, signals: Signals) -> int:
    try:
        code: int = cli.main(standalone_mode=False, prog_name="fleetsim", obj=state)
        sys.stdout.flush()  # what cannot be written is told here, and not at the very end
    except (click.exceptions.Abort, KeyboardInterrupt):  # the other one within click's own care
        signals.last_word(say, "interrupted")
        code = 130
    except Terminated as end:
        signals.last_word(say, "terminated")
        code = end.code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)  # it repeats what was typed
        click.echo(printable(shown.getvalue()), err=True, nl=False)
        code = 2
    except FleetsimError as error:
        code = _failure(state, error, error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except Exception as error:
        told = _told(state, error)
        code = _failure(state, told, told.exit_code)
    return code


def _open_streams() -> None:
    """Let every stream be one that can be written to, and take any text.

    What was closed (``>&-``) leads nowhere: or else the next file that is opened would get its
    number, and with it whatever is printed. Characters that a terminal does not have are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what stdout still holds lead nowhere, where it cannot be written.

    Python would try again at the end, and exit with 120.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())


def _told(state: State, error: Exception) -> FleetsimError:
    """Return what to say of an error that nothing nearer to it has put into words.

    Only what no user can cause is unexpected.
    """
    from fleetsim.base.storage import is_of_a_storage, reason

    if is_of_a_storage(error):  # its words may hold what must stay secret
        where = next((place for place in state.places if "://" in place), "a storage")
        return FleetsimError(f"{where}: {reason(error) or f'failed ({type(error).__name__})'}")
    if isinstance(error, OSError) and is_of_the_system(error):
        if error.filename is not None:
            return refused(error)
        return refused(error, *_nameless(state, error))
    return FleetsimError(f"unexpected {type(error).__name__}: {error} (--debug shows where)")


def _nameless(state: State, error: OSError) -> tuple[str, str]:
    """Return the place of an error that names none, and what could not be done there."""
    modules = modules_of(error)
    if "tempfile" in modules:
        step = "set TMPDIR to a folder that can be written"
        return "temporary files", f"no folder for them ({{}}); {step}"
    if "click.utils" in modules[-2:]:
        return "standard output", "could not be written ({})"
    places = ", ".join(dict.fromkeys(state.places)) or "results"
    return places, "here, or among the temporary files: {}"


def _failure(state: State, error: FleetsimError, code: int) -> int:
    if state.debug:
        from fleetsim.cli.debug import print_traceback

        print_traceback()
    say(str(error))
    return code
