"""Where runs stand, and how a record is found and read, without anything of the analysis."""

from __future__ import annotations

import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from fleetsim.base.errors import InputError, found, nearest
from fleetsim.base.files import clear_left, leads_out, links_out
from fleetsim.base.project import Project
from fleetsim.base.storage import is_remote
from fleetsim.base.strict import decode_struct, decoder, read_content

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


decoder(Versioned)  # these are made with the module, before there are threads
decoder(Head)


def read_versioned(folder: Path, kind: type[S]) -> S:
    """Return the record of a run folder, or the part of it that a struct names.

    Raises
    ------
    InputError
        Where there is none, or it is damaged or of another version.
    """
    path = folder / RECORD_NAME
    return decode_versioned(read_record_file(folder), path, kind)


def read_record_file(folder: Path) -> bytes:
    """Return the bytes of a run's record.

    Raises
    ------
    InputError
        Where there is none, or it lies elsewhere: results may be another's, and what a link in them
        leads to is not theirs.
    """
    path = folder / RECORD_NAME
    if not is_remote(path) and path.is_symlink():
        refuse_links(folder)
    return read_content(path, "run")


def refuse_links(folder: Path) -> None:
    """Refuse a folder of results, or a run's, with links that lead out of it.

    Raises
    ------
    InputError
        It names each of them.
    """
    if found := links_out(folder):
        raise InputError(
            str(folder),
            *(f"{link}: a symbolic link that leads out of the folder" for link in found),
            next_step="results are read and written without following such links; remove them, or "
            "put copies in their place",
        )


def own_folder(path: Path, results: Path) -> Path:
    """Return a folder of results that is made or written to; it may not be there yet.

    Raises
    ------
    InputError
        Where a link in its place leads out of the results.
    """
    if leads_out(path, results):
        link = next(p for p in (path, *path.parents) if p.is_symlink())
        raise InputError(
            str(link),
            f"a symbolic link that leads out of the results, to {link.readlink()}",
            next_step="results are read and written without following such links; remove it, or "
            "name the folder itself by --results",
        )
    return path


def clear_results(results: Path) -> None:
    """Clear what killed runs, sweeps and reports left in a folder of results.

    What a living process holds stays. Folders of experiments are looked at too, those of runs not.
    """
    clear_left(results)
    with suppress(OSError), os.scandir(results) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                clear_left(Path(entry.path))


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
    latest = _latest(folder / name)
    for candidate in (Path(name), folder / name, *([latest] if latest else [])):
        if os.path.lexists(candidate / RECORD_NAME):
            if candidate.absolute().is_relative_to(folder.absolute()):
                own_folder(candidate, folder)
            run = candidate.resolve()
            refuse_links(run)
            return run
    known = sorted(path.name for path in folder.glob("[!.]*/") if _latest(path))
    raise InputError(
        "RUN",
        f"found {found(name)}{nearest(name, known)}; allowed: a run's folder, "
        "<experiment>/<run_id>, or an experiment with a completed run: "
        f"{', '.join(known) or '(none yet)'}",
    )


def latest_beside(run: Path) -> Path:
    """Return the newest completed run of the experiment that a run belongs to.

    Raises
    ------
    InputError
        Where there is none, or it is the run itself.
    """
    latest = _latest(run.parent)
    if latest is None:
        raise InputError(
            "RUN_B", f"{run.parent.name} has no latest run; run the experiment, or name RUN_B"
        )
    if latest.resolve() == run.resolve():
        raise InputError(
            "RUN_B",
            f"the latest run of {run.parent.name} is the baseline itself",
            next_step="run the experiment again, or name RUN_B",
        )
    run = own_folder(latest, run.parents[1]).resolve()
    refuse_links(run)
    return run


def _latest(experiment: Path) -> Path | None:
    """Return the newest completed run in a folder, as its link says or, without one, the records.

    Not every file system has links.
    """
    link = experiment / LATEST
    if (link / RECORD_NAME).is_file():
        return link
    if link.is_symlink():
        return None  # it leads to what is gone
    for record in sorted(experiment.glob(f"[!.]*/{RECORD_NAME}"), reverse=True):
        with suppress(OSError, msgspec.DecodeError, RecursionError):
            head = decoder(Head).decode(record.read_bytes())
            if head.status == Status.COMPLETED:
                return record.parent
    return None
