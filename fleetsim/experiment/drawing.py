"""A run's figures, drawn by processes beside it that have loaded Matplotlib before.

Half of what a small run does after its measurements is to draw. Where a kernel is the only one, two
processes are forked beside it (`start_drawers`). They load Matplotlib while it calculates what its
claims are worth, do nothing while it measures, and then draw half of the plots each, from a copy of
the evidence. What they cannot draw, the run draws itself.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

from fleetsim.base.tables import SVG
from fleetsim.experiment.kind import kinds

#: Names in the environment of a kernel the kind whose plots are drawn, and the connections.
DRAWERS = "FLEETSIM_DRAWERS"
_COUNT = 2
_LARGEST = 1 << 26  # bytes of evidence that are copied
_PATIENCE = 60  # seconds for Matplotlib, or for a figure


class ShownFigure:
    """A figure that a notebook shows as PNG, with an alt text for those who do not see it.

    A report shows the SVG, where there is one.
    """

    def __init__(self, png: bytes, alt: str, svg: bytes | None = None) -> None:
        self.png = png
        self.alt = alt
        self.svg = svg

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown: dict[str, Any] = {"image/png": self.png, "text/plain": self.alt}
        if self.svg is not None:
            shown[SVG] = self.svg.decode()
        return shown, {"image/png": {"alt": self.alt}}


class Drawn(NamedTuple):
    """A plot as it was drawn: its images by their form, and the alt text."""

    images: dict[str, bytes]
    alt: str


class Drawers:
    """The run's end of the connections to the processes that draw.

    Parameters
    ----------
    connections : sequence of Connection
        One to each of them.

    Attributes
    ----------
    names : tuple of str
        The plots that they draw; none where they could not begin.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._evidence: object = None
        self._drawn: dict[str, Drawn | None] = {}
        answers = [_received(connection) for connection in connections]
        self.names: tuple[str, ...] = answers[0] if None not in answers else ()

    def take(self, name: str, evidence: Any, criteria: Sequence[Any]) -> Drawn | None:
        """Return a plot of the evidence; None where the run has to draw it itself.

        All plots are drawn of the evidence of the first call.
        """
        if name not in self.names:
            return None
        if self._evidence is None:
            self._evidence = evidence
            self._ask(evidence, criteria)
        if self._evidence is not evidence or not self.names:
            return None
        place = self.names.index(name) % len(self._connections)
        while name not in self._drawn:
            answer = _received(self._connections[place])
            if answer is None:
                self.names = ()
                return None
            self._drawn[answer[0]] = answer[1]
        return self._drawn.pop(name)

    def _ask(self, evidence: Any, criteria: Sequence[Any]) -> None:
        """Send all of them what they are to draw."""
        content = _Bounded()
        try:
            pickle.dump((evidence, list(criteria)), content, pickle.HIGHEST_PROTOCOL)
            for connection in self._connections:
                connection.send_bytes(content.getbuffer())
        except Exception:  # whatever evidence may hold that cannot be copied
            self.names = ()


class _Bounded(io.BytesIO):
    def write(self, content: Any) -> int:
        if self.tell() + memoryview(content).nbytes > _LARGEST:
            raise OverflowError
        return super().write(content)


def _received(connection: Connection) -> Any:
    """Return what was sent, or None where nothing comes any more."""
    try:
        return connection.recv() if connection.poll(_PATIENCE) else None
    except (OSError, EOFError):
        return None


def open_drawers(kind: str) -> Drawers | None:
    """Return what draws the plots of a kind beside this process, once it is ready; mostly None."""
    named, _, descriptors = os.environ.pop(DRAWERS, "").partition(":")  # one run has them
    if not descriptors:
        return None
    # Those of another kind too are waited for: then they load nothing while others measure.
    drawers = Drawers([Connection(int(number)) for number in descriptors.split(",")])
    return drawers if named == kind else None


def start_drawers(kind: str, without: Sequence[Connection] = ()) -> list[int]:
    """Fork the processes that draw, from one without threads; return descriptors for the run's end.

    They end when these are closed, in all processes that have them. `without` are connections of
    this process that they are not to hold open.
    """
    pairs = [Pipe() for _ in range(_COUNT)]
    if os.fork() == 0:
        try:
            for connection in (*without, *(near for near, _ in pairs)):
                connection.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            warnings.simplefilter("error")  # the run tells them, when it draws itself
            with suppress(Exception):
                _serve(kind, [there for _, there in pairs])
        finally:
            os._exit(0)
    descriptors = []
    for near, there in pairs:
        there.close()
        descriptors.append(os.dup(near.fileno()))
        near.close()
    return descriptors


def named_drawers(kind: str, descriptors: Sequence[int]) -> dict[str, str]:
    """Return what the environment of the run's process says of those that draw."""
    return {DRAWERS: f"{kind}:{','.join(map(str, descriptors))}"}


def _serve(kind: str, connections: list[Connection]) -> None:
    """Load what draws a kind's plots, become as many processes as there are connections, draw."""
    from fleetsim.experiment.figures import drawn

    plots = kinds()[kind].plots()
    own = 0
    while own + 1 < len(connections) and os.fork() == 0:
        own += 1
    for place, other in enumerate(connections):
        if place != own:
            other.close()
    connection = connections[own]
    connection.send(tuple(plots))
    evidence, criteria = pickle.loads(connection.recv_bytes())  # noqa: S301 (our own run's)
    for name in list(plots)[own :: len(connections)]:
        made = None
        with suppress(Exception):
            made = drawn(plots[name], evidence, criteria)
        connection.send((name, made))
