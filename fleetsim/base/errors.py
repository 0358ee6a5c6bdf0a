"""The exceptions that reach a user, and the exit codes they carry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_FOUND_LIMIT = 80  # characters of an offending value that a message repeats
LINE_LIMIT = 300  # the same where two whole lines are held against each other


class FleetsimError(Exception):
    """Work that was asked for correctly could not be done (exit code 1)."""

    exit_code = 1


class InputError(FleetsimError):
    """Bad usage or bad input; nothing has been written (exit code 2).

    Parameters
    ----------
    where : str
        The file, option or object at fault.
    *faults : str
        Every fault found there, each one a phrase that says what was found and what is allowed.
    next_step : str, optional
        What the user can do about it.

    Attributes
    ----------
    where, faults, next_step
        The arguments, for callers that do not want to read the message.
    """

    exit_code = 2

    def __init__(self, where: str, *faults: str, next_step: str | None = None) -> None:
        self.where = where
        self.faults = faults
        self.next_step = next_step
        super().__init__(self._message())

    def __reduce__(self) -> tuple[Any, ...]:
        return _input_error, (self.where, self.faults, self.next_step)

    def _message(self) -> str:
        if len(self.faults) == 1:
            text = f"{self.where}: {self.faults[0]}"
        else:
            text = "\n".join(
                [f"{self.where}: {len(self.faults)} faults", *(f"  {f}" for f in self.faults)]
            )
        return text if self.next_step is None else f"{text}\n  next: {self.next_step}"


def _input_error(where: str, faults: tuple[str, ...], next_step: str | None) -> InputError:
    """Return an error that another process has sent."""
    return InputError(where, *faults, next_step=next_step)


def found(value: object, limit: int = _FOUND_LIMIT) -> str:
    """Return a value as an error message shows it: short, on one line, text in quotes."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean ...?)' with the nearest known name, or nothing where none is near."""
    names, typed = list(known), name.casefold()
    longer = [known_name for known_name in names if known_name.startswith(typed)]
    from difflib import get_close_matches  # only where something is wrong

    matches = longer if len(longer) == 1 else get_close_matches(typed, names, n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""
