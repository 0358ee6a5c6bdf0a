"""The command line: it finds a command, runs it, and sets the exit code."""

from __future__ import annotations

import importlib
import sys

import click

import fleetsim
from fleetsim.base.clock import Instant
from fleetsim.base.errors import FleetsimError
from fleetsim.cli.shared import State, say
from fleetsim.cli.signals import Terminated, unwinding

#: Where the commands are; a module is loaded when one of its commands is asked for.
COMMANDS = {
    "data": ("companies", "events", "verify", "audit"),
    "experiments": ("check", "run", "report", "document"),
    "runs": ("sweep", "runs", "compare"),
}


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
    with unwinding():
        code = _run(state)
    sys.exit(code)


def _run(state: State) -> int:
    try:
        code: int = cli.main(standalone_mode=False, prog_name="fleetsim", obj=state)
    except click.exceptions.Abort:
        say("interrupted")
        code = 130
    except Terminated as end:
        say("terminated")
        code = end.code
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
    return code


def _failure(state: State, error: FleetsimError, code: int) -> int:
    if state.debug:
        import traceback

        traceback.print_exc()
    say(str(error))
    return code
