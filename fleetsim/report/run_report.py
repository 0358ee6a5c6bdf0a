"""A run's report: the executed notebook, cleaned, as HTML, and the document beside it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from fleetsim.base.errors import InputError
from fleetsim.base.files import write_file
from fleetsim.batch.dataset import RUN_DATA
from fleetsim.experiment.document import render_document
from fleetsim.experiment.record import Record, read_record
from fleetsim.experiment.results import RECORD_NAME, one_line, refuse_links
from fleetsim.experiment.steps import DOCUMENT_NAME
from fleetsim.report.executed import notebook_faults
from fleetsim.report.gallery import GALLERY_NAME, SWEEP_HTML
from fleetsim.report.html import render_html
from fleetsim.report.later import draw_later

REPORT_NOTEBOOK = "report.ipynb"
REPORT_HTML = "report.html"


def attach_notebook(
    folder: Path,
    record: Record,
    executed: nbformat.NotebookNode | None,
    *,
    home: Path | None = None,
    sweep_follows: bool = False,
) -> None:
    """Write an executed notebook into a run, cleaned of paths and times, and the report of it.

    `home` is the folder in which the run will stand, where it does not stand there yet.
    `sweep_follows` says that the page of its sweep will stand there too.
    """
    if executed is None:
        return
    links = links_beside(record, folder, home or folder.parent, sweep_follows=sweep_follows)
    carry_record(clean_notebook(executed), record, links)
    write_file(folder / REPORT_NOTEBOOK, (nbformat.writes(executed) + "\n").encode())
    write_file(folder / REPORT_HTML, render_html(executed).encode())


def clean_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what papermill and Jupyter add of paths and times, and the private results path."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = re.sub(r"^results = .*\n?", "", cell.source, flags=re.MULTILINE)
    return notebook


def carry_record(notebook: nbformat.NotebookNode, record: Record, links: list[list[str]]) -> None:
    """Put the record, and what the page links to, into a notebook's metadata for the exporter.

    The record goes in as text: notebooks are saved with sorted keys, which would lose its order.
    """
    text = record.compact().decode()
    notebook.metadata["fleetsim"] = nbformat.from_dict({"record": text, "links": links})


def links_beside(
    record: Record, folder: Path, home: Path, *, sweep_follows: bool = False
) -> list[list[str]]:
    """Return words and address of what stands beside a run's page when it is made.

    `home` is the folder of the experiment's runs. The page of a sweep is made after its runs, where
    one of them is completed; `sweep_follows` says that it will be.
    """
    own = [
        ("record", RECORD_NAME),
        ("document", DOCUMENT_NAME),
        ("notebook", REPORT_NOTEBOOK),
        ("data", f"{RUN_DATA}/"),
    ]
    links = [
        [words, name] for words, name in own if name == REPORT_NOTEBOOK or (folder / name).exists()
    ]
    earlier = sorted(
        path.parent.name
        for path in home.glob(f"[!.]*/{REPORT_HTML}")
        if path.parent.name < record.run_id and not path.parent.is_symlink()
    )
    if earlier:
        links.append(["previous run", f"../{earlier[-1]}/{REPORT_HTML}"])
    if (sweep_follows and record.completed) or (home / SWEEP_HTML).is_file():
        links.append(["sweep", f"../{SWEEP_HTML}"])
    return [*links, ["all runs", f"../../{GALLERY_NAME}"]]


def render_report(folder: Path, notebook: Path | None = None) -> list[Path]:
    """Make a run's document and report again, of its record and a notebook.

    Figures that the run has not drawn are drawn now.

    Parameters
    ----------
    folder : Path
        The run.
    notebook : Path, optional
        An executed notebook to take in; by default the run's own.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        Where the notebook is not the one that was executed for this run; nothing is written.
    """
    refuse_links(folder)
    record = read_record(folder)
    source = notebook or folder / REPORT_NOTEBOOK
    written = [folder / DOCUMENT_NAME]
    executed = _read_notebook(source) if source.is_file() else None
    text = render_document(record)
    if executed is not None:
        if faults := notebook_faults(executed, record):
            raise InputError(
                str(source),
                *faults,
                next_step="give the notebook that papermill executed for this run by --notebook",
            )
        written += draw_later(folder, record, executed)
        attach_notebook(folder, record, executed)
        written += [folder / REPORT_NOTEBOOK, folder / REPORT_HTML]
    elif notebook is not None:
        raise InputError(str(notebook), "no such notebook")
    write_file(folder / DOCUMENT_NAME, text.encode())
    return written


def check_report(folder: Path) -> list[str]:
    """Return what of a run's document and report no longer fits its record; nothing is written."""
    refuse_links(folder)
    record = read_record(folder)
    findings = []
    if _text(folder / DOCUMENT_NAME) != render_document(record):
        findings.append(f"{DOCUMENT_NAME} is not what {RECORD_NAME} gives")
    if record.provenance.get("engine") == "library":
        return findings  # no notebook was executed
    if not (folder / REPORT_NOTEBOOK).is_file():
        return [*findings, f"{REPORT_NOTEBOOK} is missing"]
    notebook = _read_notebook(folder / REPORT_NOTEBOOK)
    findings += [
        f"{REPORT_NOTEBOOK} is not that of this run: {fault}"
        for fault in notebook_faults(notebook, record)
    ]
    if notebook.metadata.get("fleetsim", {}).get("record") != record.compact().decode():
        findings.append(f"{REPORT_NOTEBOOK} carries another record than {RECORD_NAME}")
        links = notebook.metadata.get("fleetsim", {}).get("links", [])
        carry_record(notebook, record, links)
    if _text(folder / REPORT_HTML) != render_html(notebook):
        findings.append(f"{REPORT_HTML} is not what {RECORD_NAME} and {REPORT_NOTEBOOK} give")
    return findings


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from None
    except Exception as error:  # nbformat has many words for what is no notebook
        reason = str(error).splitlines() or [type(error).__name__]
        raise InputError(str(path), f"not a notebook: {one_line(reason[0])}") from None
    return notebook
