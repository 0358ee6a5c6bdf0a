"""The two ways to go through a run's steps: a notebook that papermill executes, or no notebook."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from fleetsim.base.errors import InputError, nearest
from fleetsim.base.progress import Steps
from fleetsim.base.project import Project
from fleetsim.experiment.results import Engine, RunError
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import run_class
from fleetsim.runner.warm import Nursery
from fleetsim.runner.watch import RunEnded, Watch


@dataclass(frozen=True)
class RunOptions:
    """How a run is made; nothing of it changes what the run says.

    Attributes
    ----------
    engine : Engine
        What goes through its steps. The others are those of a notebook.
    cell_timeout : float, optional
        Seconds that a cell may take.
    steps : Steps, optional
        Is told the sections of the notebook as they begin.
    nursery : Nursery, optional
        What the kernel is forked from; without it, a Python is started.
    figures : bool
        Whether the run draws its figures; else it keeps what they are drawn of, where it can.
    sweep_follows : bool
        Whether the page of a sweep will be made when the run stands; its report links to it.
    turn : context manager
        Held while the engine works, and no longer when the report is written.
    """

    engine: Engine = Engine.NOTEBOOK
    cell_timeout: float | None = None
    steps: Steps | None = None
    nursery: Nursery | None = None
    figures: bool = True
    sweep_follows: bool = False
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)


DEFAULTS = RunOptions()


@dataclass(frozen=True)
class Job:
    """What an engine is to run: an experiment with its parameters, into a private results folder.

    `name` is the experiment's id or path, as the notebook is given it.
    """

    project: Project
    experiment: Experiment
    name: str
    private: Path
    options: RunOptions = DEFAULTS


@dataclass(frozen=True)
class Ending:
    """How an engine ended: the executed notebook as far as it came, and the error, if any."""

    notebook: nbformat.NotebookNode | None = None
    error: RunError | None = None


def check_notebook(project: Project, experiment: Experiment) -> Path:
    """Return the experiment's notebook, which has to declare every parameter.

    Raises
    ------
    InputError
        Where it is missing, or lacks a parameter.
    """
    import papermill

    path = project.notebooks / experiment.notebook
    if not path.is_file():
        raise InputError(
            project.relative(path),
            "no such notebook; the project needs it",
            next_step="fleetsim init FOLDER writes all notebooks of fleetsim, to take it from",
        )
    declared = papermill.inspect_notebook(str(path))
    for key in experiment.parameters:
        if key not in declared:
            raise InputError(
                "parameters",
                f"{key}: not declared by {experiment.notebook}{nearest(key, declared)}; "
                f"allowed: {', '.join(declared)}",
            )
    return path


def run_notebook(job: Job, watch: Watch) -> Ending:
    """Execute the experiment's notebook, which `check_notebook` has looked at."""
    values = {
        **job.experiment.parameters,  # all of them: a notebook may have small defaults of its own
        "experiment": job.name,
        "results": os.path.relpath(job.private, job.project.root),
    }
    return execute_notebook(
        job.project.notebooks / job.experiment.notebook,
        values,
        watch,
        root=job.project.root,
        options=job.options,
    )


def execute_notebook(
    notebook: Path,
    values: Mapping[str, Any],
    watch: Watch,
    *,
    root: Path | None = None,
    options: RunOptions = DEFAULTS,
) -> Ending:
    """Execute a notebook with parameters, in a kernel of its own; say how it ended.

    `root` is that of the project on which the notebook works; by default it looks for one.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from fleetsim.runner.kernel import register_engine

    error = None
    kept: list[nbformat.NotebookNode] = []
    try:
        papermill.execute_notebook(
            str(notebook),
            None,
            parameters=dict(values),
            engine_name=register_engine(),
            keep=kept.append,
            watch=watch,
            nursery=options.nursery,
            figures=options.figures,
            root=root,
            kernel_name="python3",
            execution_timeout=options.cell_timeout,
            progress_bar=False,
            steps=options.steps,
        )
    except PapermillExecutionError as failure:
        error = RunError(failure.ename, failure.evalue, failure.cell_index)
    except CellTimeoutError:
        message = f"a cell took longer than {options.cell_timeout:g} s"
        error = RunError("CellTimeoutError", message, None)
    except DeadKernelError:
        error = RunError("DeadKernelError", watch.death(), None)
    except RuntimeError as failure:  # as jupyter-client says of a kernel that died while starting
        error = RunError("DeadKernelError", f"{watch.death()}: {failure}", None)
    except (KeyboardInterrupt, SystemExit):
        # Nobody is left to ask for the error of the cell that the kernel's end interrupts.
        watch.interrupt()
        raise
    finally:
        _close_event_loop()
    return Ending(kept[0] if kept else None, error)


def _close_event_loop() -> None:
    """Close the event loop that papermill's client leaves to a thread of a sweep."""
    if threading.current_thread() is not threading.main_thread():
        with suppress(RuntimeError):  # it came to none
            asyncio.get_event_loop().close()


def run_library(job: Job, watch: Watch) -> Ending:
    """Go through the steps in this process: the same record, no notebook, no report, no figures.

    The watch is looked at between steps and between cold runs: it can end a run no earlier.
    """
    step = "start"
    try:
        job.experiment.kind.check_machine(job.experiment, job.private)
        run = run_class(job.experiment.kind)(job.project, job.experiment, job.private)
        for step in run.steps:
            watch.check()
            method = getattr(run, step)
            # A step that tells its progress, one cold run after the other, may end earlier.
            watched = "progress" in inspect.signature(method).parameters
            method(progress=lambda _: watch.check()) if watched else method()
        watch.check()
        step = "finish"
        run.finish(engine=Engine.LIBRARY)
    except RunEnded:
        return Ending()
    except Exception as failure:  # whatever it is, it ends this run and no other
        return Ending(error=RunError(type(failure).__name__, f"{step}: {failure}", None))
    return Ending()


#: The engines of `fleetsim sweep`.
ENGINES: Mapping[Engine, Callable[[Job, Watch], Ending]] = {
    Engine.NOTEBOOK: run_notebook,
    Engine.LIBRARY: run_library,
}
