"""Differences of two reconciliations: accepted rows, and outcomes of lines."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from fleetsim.base.errors import InputError
from fleetsim.reconcile.delivered import NAMES
from fleetsim.tally.duck import first_words, open_duck, quoted

_MEMORY = "256MB"


def accepted_difference(a: Path, b: Path) -> int:
    """Return in how many rows two accepted multisets differ.

    Parameters
    ----------
    a, b : Path
        As `reconcile` keeps them.

    Raises
    ------
    InputError
        Where a file is missing or none of these.
    """
    return _difference(a, b, ", ".join(NAMES))


def outcome_difference(a: Path, b: Path) -> int:
    """Return in how many lines two outcomes differ, whatever delivery brought them.

    Parameters
    ----------
    a, b : Path
        As `reconcile` writes them.

    Raises
    ------
    InputError
        Where a file is missing or none of these.
    """
    return _difference(a, b, "batch_id, line, event_id, kind, expect, outcome")


def _difference(a: Path, b: Path, columns: str) -> int:
    """Count the rows of one that the other has not, and the other way round."""
    with TemporaryDirectory(prefix="fleetsim-", ignore_cleanup_errors=True) as folder:
        base = open_duck(folder, _MEMORY)
        try:
            sides = [
                f"SELECT {columns}, {sign} AS more FROM read_parquet({quoted(str(path))})"
                for path, sign in ((a, 1), (b, -1))
            ]
            both = " UNION ALL ".join(sides)
            # As EXCEPT ALL in both directions, in one pass.
            row = base.execute(
                "SELECT coalesce(sum(abs(more)), 0)::BIGINT FROM "
                f"(SELECT sum(more) AS more FROM ({both}) GROUP BY {columns} HAVING more <> 0)"
            ).fetchone()
        except duckdb.Error as error:
            raise InputError(f"{a}, {b}", f"cannot be compared: {first_words(error)}") from error
        finally:
            base.close()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return int(row[0])
