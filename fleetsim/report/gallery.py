"""The gallery, ``index.html`` of a results folder: every run with its verdicts and a picture."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.files import exclusive, make_folder, open_plain, write_file
from fleetsim.base.terminal import warn
from fleetsim.base.verdict import VERDICTS
from fleetsim.experiment.answer import Outlook
from fleetsim.experiment.kept import FIGURES_FOLDER
from fleetsim.experiment.results import Status
from fleetsim.report.listing import RUN_FAILED, ListedRun, differing_parameters, list_runs
from fleetsim.report.pages import encoded, render_page

GALLERY_NAME = "index.html"
SWEEP_HTML = "sweep.html"  # the report of an experiment's sweep, beside its runs
#: What tells our page from another one of the same name, which is left alone.
_MARK = b'<meta name="generator" content="fleetsim gallery">'
_MARK_WITHIN = 4096  # bytes
# What a link to a run leads to, and a card shows; the first that is there.
_PAGES = ("report.html", "experiment.md", "result.json")
_PICTURES = ("events_per_driver.png", "p_value_quantiles.png")


def write_gallery(results: Path) -> Path:
    """Make the gallery of a results folder anew; return its path.

    The folder is listed while the right to write is held, so that of two who end at once the last
    one sees the run of the other.

    Raises
    ------
    InputError
        Where the folder cannot be written, or holds an ``index.html`` of somebody else.
    """
    make_folder(results)
    path = results / GALLERY_NAME
    with exclusive(results, GALLERY_NAME):
        if not _ours(path):
            raise InputError(
                str(path),
                "another page than a gallery stands here; it is left as it is",
                next_step="move it away, and make the gallery by fleetsim runs --html",
            )
        write_file(path, encoded(render_gallery(results)))
    return path


def refresh_gallery(results: Path) -> None:
    """Make the gallery anew after a run; a run that stands does not fail for want of it."""
    try:
        write_gallery(results)
    except (FleetsimError, OSError) as error:
        warn(__name__, f"the gallery was not made anew: {error}")


def _ours(path: Path) -> bool:
    try:
        if path.is_symlink():
            return False
        with open_plain(path, "the gallery of fleetsim") as file:
            return _MARK in file.read(_MARK_WITHIN)
    except FileNotFoundError:
        return True
    except (OSError, InputError):  # a link, a folder: nothing that was made here
        return False


def render_gallery(results: Path) -> str:
    """Return the page of all runs below a folder; the newest of each experiment comes first."""
    runs, damaged = list_runs(results)
    groups = []
    for experiment, members in groupby(runs, key=lambda run: run.experiment):
        newest_first = list(members)[::-1]
        cards = [
            _card(results, run, differing)
            for run, differing in zip(newest_first, differing_parameters(newest_first), strict=True)
        ]
        sweep = newest_first[0].folder.parent / SWEEP_HTML
        groups.append(
            {
                "id": experiment,
                "title": newest_first[0].title,
                "sweep": _link(results, sweep) if _there(sweep) else "",
                "cards": cards,
            }
        )
    script = Markup(_script())  # noqa: S704 (it is our own)
    comparisons = sorted(p.name for p in results.glob("compare/[!.]*.html") if _there(p))
    return render_page(
        "gallery.html.j2",
        groups=groups,
        n_runs=len(runs),
        n_failed=sum(run.status == Status.FAILED for run in runs),
        verdicts=VERDICTS,
        outlooks=[*map(str, Outlook), RUN_FAILED],
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        comparisons=[(name, quote(os.fsencode(f"compare/{name}"))) for name in comparisons],
        damaged=[
            (error.where.removeprefix(f"{results}/"), "; ".join(error.faults)) for error in damaged
        ],
    )


@cache
def _script() -> str:
    """Return what lets a reader filter, sort and page; without it the page shows every run."""
    return (files("fleetsim.report") / "templates" / "gallery.js").read_text(encoding="utf-8")


def _card(results: Path, run: ListedRun, differing: dict[str, object]) -> dict[str, object]:
    folder = run.folder
    page = folder / leading_page(folder)
    return {
        "run": run,
        "verdict": run.outlook,
        "words": _words(run, differing),
        "differing": differing,
        "href": _link(results, page),
        "leads_to": page.name,
        "picture": _picture(results, folder / FIGURES_FOLDER),
        "counts": [(verdict, run.count(verdict)) for verdict in VERDICTS],
    }


def leading_page(folder: Path) -> str:
    """Return the name of what a link to a run leads to: its report, or what stands in its place."""
    return next(name for name in _PAGES if name == _PAGES[-1] or _there(folder / name))


def _words(run: ListedRun, differing: dict[str, object]) -> str:
    """Return the text by which a run is found, in small letters."""
    said = [run.experiment, run.title, run.run_id, str(run.answer or run.error)]
    said += [f"{name} {value}" for name, value in differing.items()]
    return " ".join(said).lower()


def _picture(results: Path, figures: Path) -> tuple[str, str] | None:
    """Return the address of a run's picture, and its name in words."""
    names = [name for name in _PICTURES if _there(figures / name)]
    names = names or sorted(p.name for p in figures.glob("[!.]*.png") if _there(p))
    if not names:
        return None
    return _link(results, figures / names[0]), names[0].removesuffix(".png").replace("_", " ")


def _there(path: Path) -> bool:
    """Return whether a page or a picture is there itself, and no link to elsewhere."""
    return path.is_file() and not (path.is_symlink() or path.parent.is_symlink())


def _link(results: Path, path: Path) -> str:
    return quote(os.fsencode(path.relative_to(results)))
