"""The kernel of a run: this very Python, over sockets in a private folder instead of TCP ports."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from traitlets import Type
from zmq import IPC_PATH_MAX_LEN

from fleetsim.base.progress import PROGRESS, UNWATCHED, Steps
from fleetsim.base.project import ROOT_VARIABLE
from fleetsim.experiment.kept import FIGURES, LATER, NOW
from fleetsim.runner.warm import Nursery, program
from fleetsim.runner.watch import Watch

_SOON, _LOOK = 5.0, 0.005  # seconds that a kernel takes to listen, and between two looks
_SILENCE = 0.01  # seconds; a message from another process of this machine takes a tenth of it

_SECTION = re.compile(r"^##[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)

#: Steps of who has a notebook executed beside its sections: one before, the kernel, one afterwards.
OUTSIDE = 3

#: papermill's name for `_WatchedEngine`.
WATCHED = "fleetsim"


class _WarmProvisioner(LocalProvisioner):
    """Have a kernel forked where one would be started."""

    nursery: Nursery
    process: Any = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork a kernel, or start one where that fails."""
        try:
            self.process = self.nursery.start(
                cmd[cmd.index("-f") :], kwargs["env"], kwargs.get("cwd") or os.getcwd()
            )
        except (OSError, EOFError):
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class OwnKernelManager(AsyncKernelManager):
    """Start a kernel of this interpreter, whatever kernels a user has installed.

    Parameters
    ----------
    root : Path, optional
        Of the project that the kernel works on, whatever folder this process works in.
    figures : bool
        Whether runs in it draw their figures.
    """

    def __init__(self, *, root: Path | None = None, figures: bool = True, **kwargs: Any) -> None:
        self.root = root
        self.figures = figures
        # By default the sockets would lie in the working folder, which may not be writable.
        folder = _socket_folder()
        if folder is None:
            super().__init__(transport="tcp", ip="127.0.0.1", **kwargs)
            return
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(transport="ipc", ip=str(Path(folder) / "kernel"), **kwargs)

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel's command line."""
        command = [*program("fleetsim.runner.app", "launch()"), "-f", "{connection_file}"]
        # Errors of cells come as messages; what the kernel logs is noise, such as the interrupt
        # that is part of every shutdown.
        command.append("--IPKernelApp.log_level=CRITICAL")
        environment = {UNWATCHED: "1", "PYTHONFAULTHANDLER": "1"}  # it says where it crashed
        environment[FIGURES] = NOW if self.figures else LATER
        if self.root is not None:  # what starts with $ would be taken for a variable
            environment[ROOT_VARIABLE] = str(self.root.absolute()).replace("$", "$$")
        return KernelSpec(argv=command, display_name="Python 3", language="python", env=environment)


def _socket_folder() -> str | None:
    """Make a private folder for a kernel's sockets, or return None where none can be had.

    The system takes paths of sockets of some hundred bytes at most; that of the folder for
    temporary files may be longer.
    """
    room = IPC_PATH_MAX_LEN - len("/fleetsim-12345678/kernel-12345")
    for parent in (None, os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"):  # noqa: S108
        with suppress(OSError):
            parent = tempfile.gettempdir() if parent is None else parent
            if parent and len(os.fsencode(os.path.abspath(parent))) <= room:
                return tempfile.mkdtemp(prefix="fleetsim-", dir=os.path.abspath(parent))
    return None


class _Outputs(AsyncZMQSocketChannel):
    """The channel of a kernel's outputs, on which no wait is longer than it is told."""

    longest: float | None = None  # [s]

    async def get_msg(  # type: ignore[override]  # as its own base does
        self, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return the next message."""
        if self.longest is not None:
            timeout = self.longest if timeout is None else min(timeout, self.longest)
        return await super().get_msg(timeout)


class _Client(AsyncKernelClient):
    """Talk to a kernel that is near."""

    iopub_channel_class = Type(_Outputs)

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers, and then for silence.

        Usually that has to last 0.2 s; what comes later belongs to no cell and is passed over.
        """
        self.iopub_channel.longest = _SILENCE
        try:
            await self._async_wait_for_ready(timeout)
        finally:
            self.iopub_channel.longest = None


class WatchedKernelManager(OwnKernelManager):
    """Let a watch end the kernel, and fork it where there is a nursery."""

    client_factory = Type(_Client)

    def __init__(self, *, watch: Watch, nursery: Nursery | None = None, **kwargs: Any) -> None:
        self.watch = watch
        self.nursery = nursery
        super().__init__(**kwargs)

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        asyncio.get_running_loop().set_exception_handler(self._tell)
        if self.nursery is not None and self.provisioner is None:
            self.kernel_id = self.kernel_id or str(uuid4())
            self.provisioner = _WarmProvisioner(
                kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
            self.provisioner.nursery = self.nursery
        return await super()._async_pre_start_kernel(**kwargs)

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error that no one waits for, unless the run was interrupted: then all are."""
        if not self.watch.interrupted:
            loop.default_exception_handler(context)

    async def _async_post_start_kernel(self, **kwargs: Any) -> None:
        await super()._async_post_start_kernel(**kwargs)
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            self.watch.attach(process)
        await self._sockets_are_there()

    async def _sockets_are_there(self) -> None:
        """Wait until the kernel listens: who is turned away tries again only after 0.1 s.

        Where that takes long, or the kernel died, the client finds out what is the matter.
        """
        if self.transport != "ipc":
            return
        sockets = [f"{self.ip}-{port}" for port in self.ports]
        end = time.monotonic() + _SOON
        while time.monotonic() < end and not all(map(os.path.exists, sockets)):
            if not await self._async_is_alive():
                return
            await asyncio.sleep(_LOOK)

    async def _async_finish_shutdown(
        self, waittime: float | None = None, pollinterval: float = 0.01, restart: bool = False
    ) -> None:
        # Looking ten times as often as usual spares every run the better part of 0.1 s.
        await super()._async_finish_shutdown(waittime, pollinterval, restart)


class _NotebookClient(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client, which is told how to make a kernel's manager, not of which class.

    It tells its steps, the sections of the notebook, where somebody wants to know.
    """

    def __init__(
        self,
        notebook: Any,
        make_manager: Callable[..., OwnKernelManager],
        *,
        steps: Steps | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(notebook, **kwargs)
        self._make_manager = make_manager
        self._steps = steps
        self._begins = section_beginnings(self.nb) if steps is not None else {}

    def create_kernel_manager(self) -> OwnKernelManager:
        """Make the manager of the only kernel."""
        self.km = self._make_manager(kernel_name=self.kernel_name, config=self.config)
        return self.km

    def execute_cell(self, cell: Any, cell_index: int, *given: Any, **more: Any) -> Any:
        """Execute a cell; where a section begins with it, say so before."""
        if self._steps is not None and cell_index in self._begins:
            self._steps.begin(self._begins[cell_index])
        return super().execute_cell(cell, cell_index, *given, **more)

    def process_message(self, msg: dict[str, Any], *given: Any, **more: Any) -> Any:
        """Take a message of the kernel; one that tells progress is no output of the cell."""
        if msg["msg_type"] != PROGRESS:
            return super().process_message(msg, *given, **more)
        if self._steps is not None:
            with suppress(KeyError, TypeError, ValueError):  # anything may send one
                told = msg["content"]
                self._steps.count(int(told["done"]), int(told["of"]), str(told["unit"]))
        return None


def section_beginnings(notebook: Any) -> dict[int, str]:
    """Return the name of each section of a notebook, by the number of its first cell with code.

    A heading of the second level begins a section; what stands before the first one opens the
    notebook. Without such headings each cell is a section, by its number.
    """
    names = {0: "opening the notebook"}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and "```" not in cell.source:
            for name in _SECTION.findall(cell.source)[-1:]:
                names[number] = name
    code = [n for n, c in enumerate(notebook.cells) if c.cell_type == "code" and c.source.strip()]
    if len(names) == 1:
        return {number: f"cell {number}" for number in code}
    starts = {max(head for head in names if head <= number): number for number in reversed(code)}
    return {number: names[head] for head, number in sorted(starts.items())}


class _WatchedEngine(Engine):  # type: ignore[misc]
    """papermill's usual engine, with a watch over the kernel and the notebook in hand.

    papermill itself would write it to a file before and after each cell, some sixty times a run.
    """

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        keep: Callable[[Any], object],
        watch: Watch,
        nursery: Nursery | None,
        root: Path | None,
        figures: bool,
        start_timeout: float,
        execution_timeout: float | None,
        steps: Steps | None = None,
        **_: Any,
    ) -> Any:
        """Hand the notebook on before its first cell runs; it fills up in place."""
        keep(nb_man.nb)
        if steps is not None:
            steps.plan(OUTSIDE + len(section_beginnings(nb_man.nb)))
            steps.begin("starting the kernel")

        def manager(**kwargs: Any) -> OwnKernelManager:
            return WatchedKernelManager(
                watch=watch, nursery=nursery, root=root, figures=figures, **kwargs
            )

        client = _NotebookClient(
            nb_man,
            manager,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=execution_timeout,
            log=_log(watch),
            steps=steps,
        )
        return client.execute()


def _log(watch: Watch) -> logging.Logger:
    """Return papermill's log, without what is said of a kernel's end that a user wanted."""
    log = logging.Logger("papermill")  # of this run alone: nothing to undo at its end
    log.parent = logging.getLogger("papermill")
    log.setLevel(log.parent.getEffectiveLevel())
    # A signal silences the log before the watch hears of it (`cli.signals`).
    log.addFilter(lambda _: not (watch.interrupted or logging.getLogger("papermill").disabled))
    return log


def register_engine() -> str:
    """Make the engine known to papermill, which takes them by name; return its name."""
    papermill_engines.register(WATCHED, _WatchedEngine)
    return WATCHED
