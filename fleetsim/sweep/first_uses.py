"""What the points of a sweep use, used once before they run in several threads at a time.

A first use loads and builds things that all later ones share, and not every library does so safely
in two threads at once: msgspec has ended the process with signal 11, and modules that import one
another in two threads may see each other half made.
"""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from pathlib import Path

from fleetsim.base.project import Project
from fleetsim.base.strict import decoder
from fleetsim.experiment.kind import Kind, kinds
from fleetsim.experiment.record import versions
from fleetsim.experiment.results import Engine
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import run_class
from fleetsim.generate.kernel.machine import kept_kernels

#: What functions of a run import when they are called, with each engine.
_MODULES = {
    Engine.LIBRARY: (
        "scipy.stats",
        "fleetsim.base.yaml12",
        "encodings.unicode_escape",
        "duckdb",  # for many events
        "pandas",  # by DuckDB, where rows are fetched
        "pyarrow.pandas_compat",
        "pyarrow.vendored.version",
    ),
    Engine.NOTEBOOK: (
        "scipy.stats",  # for the claims of a run that failed
        "fleetsim.base.yaml12",
        "encodings.unicode_escape",
        "jinja2.ext",
        "papermill",
        "papermill.exceptions",
        "nbclient.exceptions",
        "fleetsim.runner.kernel",
    ),
}

_turn = threading.Lock()
_done: set[tuple[Path, str, Engine]] = set()


def first_uses(kind: Kind, engine: Engine) -> None:
    """Load modules, look up kinds and build decoders, in this thread.

    Parameters
    ----------
    kind : Kind
        That of the experiment.
    engine : Engine
        What goes through the steps of its runs.
    """
    for name in _MODULES[engine]:
        importlib.import_module(name)
    versions()
    if engine == Engine.LIBRARY:
        kept_kernels()  # they read what the points have made
        run_class(kind)
    for other in kinds().values():
        with suppress(Exception):  # whatever one from outside does; who reads its runs is told
            if (form := other.section()) is not None:
                decoder(form)


def first_uses_on_worker(root: Path, name: str, engine: Engine) -> None:
    """Do the same in the first of a worker's threads that asks; the others wait for it."""
    with _turn:
        if (root, name, engine) not in _done:
            first_uses(load_experiment(Project(root), name).kind, engine)
            _done.add((root, name, engine))
