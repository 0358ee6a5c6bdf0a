"""Where runs stand, and how a record is found and read, without anything of the analysis."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from fleetsim.base.errors import InputError, nearest
from fleetsim.base.project import Project
from fleetsim.base.strict import decode_struct, read_content

RECORD_NAME = "result.json"


RECORD_SCHEMA = 1


SWEEP_FIGURES = "sweep-figures"  # of the report of a sweep, beside its runs


LATEST = "latest"  # link to the newest completed run of an experiment


class Status(StrEnum):
    """How far a run has come."""

    PLANNED = "planned"  # written down; nothing has run, and nothing of it stands in the results
    COMPLETED = "completed"
    FAILED = "failed"


class Engine(StrEnum):
    """What goes through the steps of a run: a notebook in a kernel, or this process."""

    NOTEBOOK = "notebook"
    LIBRARY = "library"


#: What becomes of a run that stands in the results.
ENDED = (Status.COMPLETED, Status.FAILED)


S = TypeVar("S", bound="Versioned")


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """A record, or a part of one, that names the version of its form."""

    schema: int = RECORD_SCHEMA


class Head(Versioned, frozen=True, kw_only=True):
    """What says which point of a sweep a record is of, and how the run ended."""

    key: str
    status: Status


def read_versioned(folder: Path, kind: type[S]) -> S:
    """Return the record of a run folder, or the part of it that a struct names.

    Raises
    ------
    InputError
        Where there is none, or it is damaged or of another version.
    """
    path = folder / RECORD_NAME
    return decode_versioned(read_content(path, "run"), path, kind)


def decode_versioned(content: bytes, path: Path, kind: type[S]) -> S:
    """Return the record, or the part of it, that the bytes of a file hold.

    Raises
    ------
    InputError
        Where they are damaged or of another version; `path` names the file.
    """
    try:
        record = decode_struct(content, path, kind)
    except InputError:
        # What does not fit may be of another version, which says more than its first oddity.
        _check_schema(path, decode_struct(content, path, Versioned))
        raise
    _check_schema(path, record)
    return record


def _check_schema(path: Path, record: Versioned) -> None:
    if record.schema != RECORD_SCHEMA:
        raise InputError(
            str(path),
            f"found schema {record.schema}; allowed: {RECORD_SCHEMA}",
            next_step="read it with the version of fleetsim that its provenance names",
        )


class RunError(msgspec.Struct, frozen=True):
    """Why a run failed: kind of error, its message, and the number of the notebook's cell."""

    kind: str
    message: str
    cell: int | None


def one_line(text: str, limit: int = 120) -> str:
    """Return a foreign text on one line, short, without characters that steer a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def find_run(project: Project, name: str, results: str | None = None) -> Path:
    """Return the folder of a run: a path, ``<experiment>/<run_id>``, or ``<experiment>``'s latest.

    Raises
    ------
    InputError
        Where there is none.
    """
    folder = project.results(results)
    for candidate in (Path(name), folder / name, folder / name / LATEST):
        if (candidate / RECORD_NAME).is_file():
            return candidate.resolve()
    known = sorted(path.parent.name for path in folder.glob(f"*/{LATEST}"))
    raise InputError(
        "RUN",
        f"found {name!r}{nearest(name, known)}; allowed: a run's folder, <experiment>/<run_id>, "
        f"or an experiment with a completed run: {', '.join(known) or '(none yet)'}",
    )


def latest_beside(run: Path) -> Path:
    """Return the newest completed run of the experiment that a run belongs to.

    Raises
    ------
    InputError
        Where there is none, or it is the run itself.
    """
    latest = run.parent / LATEST
    if not (latest / RECORD_NAME).is_file():
        raise InputError(
            "RUN_B", f"{run.parent.name} has no latest run; run the experiment, or name RUN_B"
        )
    if latest.resolve() == run.resolve():
        raise InputError(
            "RUN_B",
            f"the latest run of {run.parent.name} is the baseline itself",
            next_step="run the experiment again, or name RUN_B",
        )
    return latest.resolve()
