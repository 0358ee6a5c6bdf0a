"""Two or more works measured in turn, so that whatever else the machine does meets them alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fleetsim.base.files import sync
from fleetsim.batch.dataset import EVENTS_FOLDER
from fleetsim.generate.config import Config
from fleetsim.measure.child import Launcher
from fleetsim.measure.cold import ColdBatches, Repeat


@dataclass(frozen=True)
class Work:
    """What one cold process makes: so many batches from the start of an interval, or from now."""

    config: Config
    interval: str
    batches: int


class Turn(NamedTuple):
    """One cold process: which of the works it did, by its place, and what that took."""

    work: int
    repeat: Repeat


def measure_in_turn(
    works: Sequence[Work],
    folder: Path,
    rounds: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> list[Turn]:
    """Do each work once a round, in cold processes, one at a time; return the turns in their order.

    Every other round goes backwards (A B, B A, A B), so that neither always comes first, and a
    machine that slows down slows them alike. Each work is done once before, unmeasured: what the
    system then has in memory serves the first round as the others.

    Parameters
    ----------
    works : sequence of Work
    folder : Path
        Existing; each work gets a folder of its own in it. Batches are deleted once measured.
    rounds : int
    progress : callable, optional
        Called with 1 after each process that made batches, the unmeasured ones too.

    Raises
    ------
    FleetsimError
        Where a command fails, or a work makes other content than the first time.
    """
    with closing(Launcher()) as launcher:
        sides = []
        for place, work in enumerate(works):
            (own := folder / str(place)).mkdir()
            sides.append(
                ColdBatches(
                    work.config,
                    own,
                    interval=work.interval,
                    batches=work.batches,
                    launcher=launcher,
                )
            )

        def turn(place: int) -> Turn:
            scratch = sides[place].folder / "scratch"  # ledgers stand beside the events
            _, repeat = sides[place].make(scratch / EVENTS_FOLDER)
            shutil.rmtree(scratch)
            sync(folder)  # what deleting takes belongs to no measurement
            if progress:
                progress(1)
            return Turn(place, repeat)

        there = range(len(sides))
        for place in there:
            turn(place)
        return [
            turn(place)
            for number in range(rounds)
            for place in (there if number % 2 == 0 else reversed(there))
        ]
