"""What every use of DuckDB on data of others shares: limits, one SELECT, errors as ours.

DuckDB works in memory and spills to a folder of its own. It loads no extension, uses no network,
and reads nothing outside of the folder that it is confined to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from fleetsim.base.errors import FleetsimError, InputError

_MESSAGE = 300  # characters of DuckDB's words that a message repeats


def open_duck(folder: str, memory: str, **settings: Any) -> Any:
    """Return a DuckDB in memory, which draws no bar and loads nothing.

    Parameters
    ----------
    folder : str
        Where it spills what is beyond its limit.
    memory : str
        The limit, as DuckDB writes it: ``256MB``.
    **settings
        Further ones of DuckDB.
    """
    kept: dict[str, Any] = {
        "memory_limit": memory,
        "threads": 2,
        "temp_directory": folder,
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,  # variables of this program are no tables
    }
    base = duckdb.connect(":memory:", config=kept | settings)
    # In a notebook without ipywidgets it draws none, and takes no setting of it either.
    with suppress(duckdb.InvalidInputException):
        base.execute("SET enable_progress_bar = false")
    return base


def confine(base: Any, folder: str) -> bool:
    """Keep a DuckDB to one folder for good; return False where its version cannot."""
    try:
        base.execute(f"SET allowed_directories = [{quoted(folder)}]")
    except duckdb.Error:
        return False
    close_doors(base)
    return True


def close_doors(base: Any) -> None:
    """Let a DuckDB read and write nothing more outside of what it is confined to."""
    base.execute("SET enable_external_access = false")
    base.execute("SET lock_configuration = true")


def one_select(base: Any, sql: str, where: str) -> str:
    """Return the one SELECT that a text holds, without its semicolon.

    Raises
    ------
    InputError
        Where it holds anything else; `where` names it.
    duckdb.Error
        Where DuckDB cannot parse it.
    """
    statements = base.extract_statements(sql)
    kinds = [statement.type for statement in statements]
    if len(kinds) != 1 or kinds[0] != duckdb.StatementType.SELECT:
        shown = ", ".join(kind.name for kind in kinds) or "nothing"
        raise InputError(where, f"found {shown}; allowed: one SELECT")
    return str(statements[0].query).strip().rstrip(";")


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def told_of_duckdb(where: str) -> Iterator[None]:
    """Turn DuckDB's errors into ours; `where` names what it was asked to run."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise FleetsimError(f"{where}: {first_words(error)}") from error
    except duckdb.Error as error:
        raise InputError(where, f"the query cannot be run: {first_words(error)}") from error


def first_words(error: BaseException) -> str:
    """Return the first line of an error."""
    return str(error).strip().partition("\n")[0][:_MESSAGE]
