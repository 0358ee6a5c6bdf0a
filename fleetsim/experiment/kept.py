"""Figures that are drawn later: what they are drawn of is kept in the run's folder until then.

To draw is more than half of what a point of a sweep costs, and hardly anyone looks at the figures
of every point. Where the environment says `LATER`, a run keeps its evidence, and ``fleetsim
report`` draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from types import GenericAlias
from typing import Any, NamedTuple, get_origin

import msgspec
import numpy as np

from fleetsim.base.errors import InputError, refused
from fleetsim.base.files import read_plain
from fleetsim.experiment.criterion import Criterion

#: The variable of a run's environment that says when its figures are drawn, and its values.
FIGURES, NOW, LATER = "FLEETSIM_FIGURES", "now", "later"
#: Of a run's folder: what its figures stand in, and what they are drawn of.
FIGURES_FOLDER = "figures"
EVIDENCE_NAME = f"{FIGURES_FOLDER}/evidence.msgpack"
#: The form of an output that stands in for a figure, with the name of the plot and its size.
PLOT_MARK = "application/vnd.fleetsim.plot+json"
LARGEST = 1 << 26  # bytes of evidence that are kept
_NUMBERS = "iuf"  # kinds of arrays


class Undrawn:
    """What a notebook shows where a figure is drawn later.

    Parameters
    ----------
    name, title : str
        Of the plot.
    size : (float, float), optional
        Width and height [inches], where they are not the plot's own.
    run : str
        ``<experiment>/<run_id>``.
    """

    def __init__(self, name: str, title: str, size: tuple[float, float] | None, run: str) -> None:
        self.name, self.title, self.size, self.run = name, title, size, run

    def __repr__(self) -> str:
        return f"{self.title}: not drawn yet; fleetsim report {self.run} draws it"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        mark = {"name": self.name, "size": self.size}
        return {"text/plain": repr(self), PLOT_MARK: mark}


class Kept(NamedTuple):
    """What the figures of a run are drawn of."""

    evidence: Any
    criteria: tuple[Criterion, ...]


def keep_evidence(folder: Path, evidence: Any, criteria: Sequence[Criterion]) -> bool:
    """Write into a run's folder what its figures are drawn of; say whether that could be done.

    It cannot where the evidence is larger than `LARGEST`, or holds what cannot be written.
    """
    try:
        content = msgspec.msgpack.encode((evidence, criteria), enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        return False
    if len(content) > LARGEST:
        return False
    path = folder / EVIDENCE_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return True


def read_evidence(folder: Path, form: type) -> Kept:
    """Return what `keep_evidence` has written, of the type that the kind names.

    Raises
    ------
    InputError
        Where it cannot be read, or is no evidence of this type.
    """
    path = folder / EVIDENCE_NAME
    try:
        content = read_plain(path, LARGEST, "what the figures of a run are drawn of")
        both: Any = GenericAlias(tuple, (form, tuple[Criterion, ...]))
        kept = msgspec.msgpack.decode(content, type=both, dec_hook=_array)
    except OSError as error:
        raise refused(error, path, "cannot be read: {}") from None
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
        raise InputError(
            str(path),
            "damaged, or written by another version of fleetsim: no figure can be drawn of it",
            next_step="delete this file to have the report without figures, or make the run again",
        ) from None
    return Kept(*kept)


def _plain(value: Any) -> Any:
    """Return an array as what can be written."""
    if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError


def _array(form: Any, content: Any) -> Any:
    """Return the array that was written; anything else is refused."""
    if np.ndarray not in (form, get_origin(form)):
        raise NotImplementedError
    kind, shape, data = content
    numbers = np.dtype(kind)
    if numbers.kind not in _NUMBERS or prod(shape) * numbers.itemsize != len(data):
        raise ValueError("no array of numbers")
    return np.frombuffer(data, numbers).reshape(shape)
