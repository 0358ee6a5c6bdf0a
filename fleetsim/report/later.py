"""The figures that a run has not drawn: drawn of what it kept, and put into its notebook."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nbformat

from fleetsim.base.errors import FleetsimError, InputError, found
from fleetsim.base.files import write_file
from fleetsim.experiment.drawing import ShownFigure
from fleetsim.experiment.kept import EVIDENCE_NAME, FIGURES_FOLDER, PLOT_MARK, read_evidence
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.record import Record

_LARGEST = 100.0  # inches; no figure of a report is as wide


def draw_later(folder: Path, record: Record, notebook: nbformat.NotebookNode) -> list[Path]:
    """Draw what a run has kept evidence for instead of drawing it; return the files written.

    In the notebook a figure takes the place of what stood in for it. Plots of which the notebook
    shows nothing are drawn too, as a run does that draws its own. Where no evidence was kept,
    nothing is drawn.

    Raises
    ------
    InputError
        Where the evidence or the notebook is damaged; nothing has been written.
    FleetsimError
        Where a plot cannot be drawn.
    """
    kind = kinds().get(record.description.kind)
    form = None if kind is None else kind.evidence()
    if kind is None or form is None or not (folder / EVIDENCE_NAME).exists():
        return []
    plots = kind.plots()
    shown = [(output, *_asked(output, list(plots))) for output in _marked(notebook)]
    named = {name for _, name, _ in shown}
    rest = [name for name in plots if name not in named and not _drawn(folder, name)]
    if not shown and not rest:
        return []
    from fleetsim.experiment.figures import drawn

    kept = read_evidence(folder, form)
    made = []
    for output, name, size in [*shown, *((None, name, None) for name in rest)]:
        try:
            figure = drawn(plots[name], kept.evidence, kept.criteria, size)
        except Exception as error:  # whatever the evidence may hold
            raise FleetsimError(
                f"{folder}: the plot {name} cannot be drawn: {type(error).__name__}: {error}"
            ) from error
        made.append((output, name, figure))
    written: list[Path] = []
    for output, name, figure in made:
        for image, content in figure.images.items():
            written.append(folder / FIGURES_FOLDER / f"{name}.{image}")
            write_file(written[-1], content)
        if output is not None:
            _show(output, ShownFigure(figure.images["png"], figure.alt, figure.images["svg"]))
    return written


def _drawn(folder: Path, name: str) -> bool:
    return (folder / FIGURES_FOLDER / f"{name}.png").exists()


def _marked(notebook: nbformat.NotebookNode) -> Iterator[Any]:
    """Yield the outputs that stand in for a figure."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from (output for output in cell.outputs if PLOT_MARK in output.get("data", {}))


def _asked(output: Any, names: list[str]) -> tuple[str, tuple[float, float] | None]:
    """Return of which plot an output speaks, and in what size, if not in its own."""
    mark = output["data"][PLOT_MARK]
    try:
        name = mark["name"]
        size = msgspec.convert(mark["size"], tuple[float, float] | None)
    except (KeyError, TypeError, msgspec.ValidationError):
        name, size = None, None
    if name not in names:
        raise InputError("notebook", f"plot: found {found(name)}; allowed: {', '.join(names)}")
    if size is not None and not all(0 < length <= _LARGEST for length in size):
        raise InputError(
            "notebook", f"size: found {found(size)}; allowed: at most {_LARGEST} inches"
        )
    return name, size


def _show(output: Any, figure: ShownFigure) -> None:
    """Let an output show a figure, as the run's own cell would have."""
    data, metadata = figure._repr_mimebundle_()
    data["image/png"] = b64encode(data["image/png"]).decode()
    output["data"] = nbformat.from_dict(data)
    output["metadata"] = nbformat.from_dict(metadata)
