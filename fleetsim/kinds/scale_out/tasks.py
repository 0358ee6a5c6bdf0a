"""What `tasks:` of a scale-out experiment states: batches of few events in many parts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fleetsim.generate.streams import BLOCK


class Tasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch of few events in many parts, and how many cold commands make it in each way."""

    tasks: Annotated[
        int, Meta(ge=1, le=10**5, extra={"allowed": "a whole number from 1 to 100000"})
    ]
    repeats: Annotated[int, Meta(ge=2, le=1000, extra={"allowed": "a whole number from 2 to 1000"})]

    @property
    def drivers(self) -> int:
        """A part is at least one block of them."""
        return self.tasks * BLOCK
