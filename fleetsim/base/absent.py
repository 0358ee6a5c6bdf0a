"""Import a module as if one that it would load were not installed."""

from __future__ import annotations

import importlib
import sys


def import_without(absent: str, module: str) -> None:
    """Import a module whose import works without another one, which takes long to load.

    Afterwards the other one can be imported as before. Where it is loaded already, nothing is done.

    Parameters
    ----------
    absent, module : str
    """
    if absent in sys.modules:
        return
    sys.modules[absent] = None  # type: ignore[assignment]  # as Python marks what is not there
    try:
        importlib.import_module(module)
    finally:
        del sys.modules[absent]
