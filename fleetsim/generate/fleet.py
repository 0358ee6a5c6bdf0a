"""Companies in memory: the columns that a configuration draws, and the fleet that a file holds."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.generate.config import Config
from fleetsim.generate.model import Purpose, choice_law
from fleetsim.generate.streams import BLOCK, choose, uuid_words, words

# Longer than all years that have a name. A longer cadence never has a second cohort, and 64 bits
# might not hold it.
_STEP_MAX_US = 2**60
_SHOWN = 5  # companies in a notebook


class CompanyColumns(msgspec.Struct, frozen=True):
    """Consecutive companies as drawn.

    company_id : uint64 (n, 2); geography, active : int64 (n,), positions in the law's names;
    created_us : int64 (n,), microseconds since 1970 UTC.
    """

    company_id: npt.NDArray[np.uint64]
    geography: npt.NDArray[np.int64]
    active: npt.NDArray[np.int64]
    created_us: npt.NDArray[np.int64]


class Fleet(msgspec.Struct, frozen=True):
    """The companies that a file lists, in its order.

    company_id : uint8 (n, 36), the text of the ids; active : bool (n,); created_us : int64 (n,),
    microseconds since 1970 UTC; sha256 : hash of the file; first : the line of the first company
    here, from 0, which is another one than the file's where this is a part of a fleet.
    """

    company_id: npt.NDArray[np.uint8]
    active: npt.NDArray[np.bool_]
    created_us: npt.NDArray[np.int64]
    sha256: str
    first: int = 0

    def __len__(self) -> int:
        return len(self.active)

    def __repr__(self) -> str:
        return f"<Fleet of {len(self)} companies, {int(self.active.sum())} active>"

    def _repr_html_(self) -> str:
        from fleetsim.base.clock import format_time
        from fleetsim.base.tables import Table  # where something is shown

        shown = min(len(self), _SHOWN)
        rows = tuple(
            (
                str(i),
                self.company_id[i].tobytes().decode(),
                "yes" if self.active[i] else "no",
                format_time(int(self.created_us[i])),
            )
            for i in range(shown)
        )
        n, active = len(self), int(self.active.sum())
        caption = f"{n} companies, {active} of them active; the first {shown}"
        header = ("line", "company_id", "active", "created_at")
        return Table(header, rows, caption)._repr_html_()

    def ids_of(self, company: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the ids of companies by their lines in the file, uint8 (n, 36)."""
        return self.company_id[company - self.first]

    def part(self, start: int, end: int) -> Fleet:
        """Return the companies of the lines from `start` to `end` - 1, copied."""
        part = slice(start - self.first, end - self.first)
        return Fleet(
            self.company_id[part].copy(),
            self.active[part].copy(),
            self.created_us[part].copy(),
            self.sha256,
            first=start,
        )

    def eligible(self, at_us: int) -> npt.NDArray[np.bool_]:
        """Return which companies produce events in an interval that starts at `at_us`."""
        return self.active & (self.created_us <= at_us)


def draw_companies(config: Config, block: int, base_us: int, total: int) -> CompanyColumns:
    """Draw the companies of one block out of `total` lines; the first cohort joins at `base_us`."""
    first = block * BLOCK
    n = min(BLOCK, total - first)

    def raw(purpose: Purpose, count: int) -> npt.NDArray[np.uint64]:
        return words(config.seed, purpose, 0, block, 0, count)

    def choice(purpose: Purpose, key: str) -> npt.NDArray[np.int64]:
        law = choice_law(config, key)
        return np.array(law.sampling_order)[choose(raw(purpose, n), law.thresholds)]

    step_us = min(config.onboarding_us, _STEP_MAX_US)
    cohort = np.arange(first, first + n) // config.number_of_companies
    return CompanyColumns(
        company_id=uuid_words(raw(Purpose.COMPANY_ID, 2 * n)),
        geography=choice(Purpose.COMPANY_GEOGRAPHY, "geographies"),
        active=choice(Purpose.COMPANY_ACTIVE, "active_fraction"),
        created_us=base_us + cohort * step_us,
    )
