"""The exceptions that reach a user, and the exit codes they carry."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

VALUE_LIMIT = 200  # characters of an offending value that a message repeats
LINE_LIMIT = 300  # the same where two whole lines are held against each other
_FAULT_LIMIT = 2000  # characters of one fault, whatever it is made of
_FAULTS_LIMIT = 100  # faults that one message lists
_DIGITS_BITS = 13_000  # of a number whose digits Python writes: 4300 of them at most
_NAME_LIMIT = 100  # characters of a name for which a near one is looked for

_PLACE_LIMIT = 200  # characters of a path that a message repeats
_RIGHTS = "change its permissions, or name another place"
_FREE = "free some space, or name another place"
#: Codes of the system that mean a wrong input (exit code 2), and what to do about each.
_INPUT = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path; a file stands on the way",
    errno.EISDIR: "name a file",
    errno.EEXIST: "move what stands there away, or name another place",
    errno.ENOTEMPTY: "move what stands there away, or name another place",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "name the file itself, not a link",
    errno.ENXIO: "name a plain file",
    errno.ENODEV: "name a plain file",
    errno.ESPIPE: "name a plain file",
}
#: Codes of what the system refused (exit code 1).
_SYSTEM = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or name another place",
    errno.EROFS: "name a place that can be written",
    errno.EIO: "look at the disk, or name another place",
    errno.ESTALE: "run the command again",
    errno.EBUSY: "run the command again when nothing else uses it",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs; the machine has too many files open",
    errno.ENOMEM: "close other programs, or take a larger machine",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)",
    errno.ENOLCK: "name a place on a file system that has locks",
    errno.EOPNOTSUPP: "name a place on another file system",
    errno.ENOSYS: "name a place on another file system",
    errno.EXDEV: "name a place on one file system",
    errno.ECONNREFUSED: "start what should answer there, or check the address",
    errno.ECONNRESET: "run the command again",
    errno.ETIMEDOUT: "run the command again",
    errno.EHOSTUNREACH: "check the address and the network",
    errno.ENETUNREACH: "check the address and the network",
    errno.EADDRNOTAVAIL: "check the address and the network",
}
#: What the kit writes first under a hidden name: a file or folder, or a folder of many.
_HIDDEN = re.compile(r"\.(?P<name>.+?)(\.[0-9a-f]{8,32})?(\.gone)?\.partial")
_SCRATCH = re.compile(r"\.(run|url|again)-[0-9a-f]{32}\.partial")


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
        where = cut(self.where, _FAULT_LIMIT)
        shown = [cut(fault, _FAULT_LIMIT) for fault in self.faults[:_FAULTS_LIMIT]]
        if len(self.faults) == 1:
            text = f"{where}: {shown[0]}"
        else:
            if len(self.faults) > len(shown):
                shown.append(f"and {len(self.faults) - len(shown)} more")
            text = "\n".join([f"{where}: {len(self.faults)} faults", *(f"  {f}" for f in shown)])
        return text if self.next_step is None else f"{text}\n  next: {self.next_step}"


def _input_error(where: str, faults: tuple[str, ...], next_step: str | None) -> InputError:
    """Return an error that another process has sent."""
    return InputError(where, *faults, next_step=next_step)


def refused(
    error: OSError,
    where: object = None,
    words: str = "cannot be used: {}",
    *,
    next_step: str | None = None,
) -> FleetsimError:
    """Return what to tell a user of an error of the operating system.

    Only the error's code is told, in the system's own words: what a library has put into its text
    may hold secrets.

    Parameters
    ----------
    error : OSError
    where : object, optional
        The place at fault; by default the path that the error names.
    words : str
        What became of the work, with ``{}`` for the reason.
    next_step : str, optional
        What the user can do about it, where the code does not say it best.

    Returns
    -------
    FleetsimError
        An `InputError` where the place was wrong: missing, not permitted, of another kind, or of
        too long a name. What the system refused, such as space, is no fault of the input.
    """
    code = error.errno or 0
    place = named_place(error) if where is None else str(where)
    if len(place) > _PLACE_LIMIT:
        place = f"{place[:_PLACE_LIMIT]}… ({len(place)} characters)"
    fault = words.format(os.strerror(code) if code else type(error).__name__)
    step = next_step or _INPUT.get(code) or _SYSTEM.get(code)
    if code in _INPUT:
        return InputError(place, fault, next_step=step)
    return FleetsimError(f"{place}: {fault}" + (f"\n  next: {step}" if step else ""))


def is_of_the_system(error: OSError) -> bool:
    """Return whether an error tells of a place, or of a machine at its limits; no user made others.

    Others are those that a library raised by itself, without a code of the system.
    """
    return error.filename is not None or error.errno in _INPUT or error.errno in _SYSTEM


def named_place(error: OSError) -> str:
    """Return the path that an error names, as the user knows it: nothing hidden of our own."""
    name = error.filename if error.filename2 is None else error.filename2
    text = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "this machine"
    parts = text.split(os.sep)
    for i, part in enumerate(parts):
        if match := _HIDDEN.fullmatch(part):
            shown = [] if _SCRATCH.fullmatch(part) else [match["name"]]
            return os.sep.join([*parts[:i], *shown]) or os.curdir
    return text


def modules_of(error: BaseException) -> list[str]:
    """Return the names of the modules that an error has come through, the innermost last."""
    names, step = [], error.__traceback__
    while step is not None:
        names.append(str(step.tb_frame.f_globals.get("__name__", "")))
        step = step.tb_next
    return names


def cut(text: str, limit: int = VALUE_LIMIT) -> str:
    """Return a text as a message repeats it: cut where it is long, with its length told."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def found(value: object, limit: int = VALUE_LIMIT) -> str:
    """Return a value as an error message shows it: on one line, text in quotes.

    A long one is cut, with its length told. No more of it is looked at than is shown, since a
    foreign value may be of any size.
    """
    shown = ""
    for piece in _pieces(value, limit):
        shown += piece
        if len(shown) > limit:
            break
    long = isinstance(value, str | bytes) and len(value) > limit
    if len(shown) <= limit and not long:
        return shown
    return f"{shown[: limit - 1]}…{_length(value)}"


def _length(value: object) -> str:
    """Return how long a value is that was cut."""
    if isinstance(value, str):
        return f" ({len(value)} characters)"
    if isinstance(value, bytes):
        return f" ({len(value)} bytes)"
    if isinstance(value, dict | list | tuple | set | frozenset):
        return f" ({len(value)} items)"
    if isinstance(value, int):
        return f" ({len(repr(value))} characters)"
    return ""


def _pieces(value: object, limit: int) -> Iterator[str]:
    """Yield the text of a value bit by bit; only plain containers are looked into."""
    if type(value) is dict:
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key, limit)
            yield ": "
            yield from _pieces(item, limit)
        yield "}"
    elif type(value) is list or type(value) is tuple:
        start, end = ("[", "]") if type(value) is list else ("(", ",)" if len(value) == 1 else ")")
        yield start
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item, limit)
        yield end
    elif isinstance(value, str | bytes):
        yield repr(value[: limit + 1])
    elif (
        isinstance(value, int) and value.bit_length() > _DIGITS_BITS
    ):  # Python may refuse its digits
        yield f"a whole number of about {value.bit_length() * 0.30103:.0f} digits"
    else:
        yield repr(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean ...?)' with the nearest known name, or nothing where none is near."""
    if len(name) > _NAME_LIMIT:
        return ""
    names, typed = list(known), name.casefold()
    longer = [known_name for known_name in names if known_name.startswith(typed)]
    from difflib import get_close_matches  # only where something is wrong

    matches = longer if len(longer) == 1 else get_close_matches(typed, names, n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""
