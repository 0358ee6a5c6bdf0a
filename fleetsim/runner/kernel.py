"""The kernel of a run: this very Python, over sockets in a private folder instead of TCP ports."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from papermill.engines import NBClientEngine, papermill_engines
from traitlets import Type

from fleetsim.base.progress import UNWATCHED
from fleetsim.base.project import ROOT_VARIABLE
from fleetsim.runner.warm import Nursery
from fleetsim.runner.watch import Watch

_SILENCE = 0.01  # seconds; a message from another process of this machine takes a tenth of it

#: Name of the engine that hands a notebook to its argument `keep`.
KEEPING = "fleetsim"


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
    """Start a kernel of this interpreter, whatever kernels a user has installed."""

    root: ClassVar[Path | None] = None

    def __init__(self, **kwargs: Any) -> None:
        # By default the sockets would lie in the working folder, which may not be writable.
        folder = tempfile.mkdtemp(prefix="fleetsim-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(transport="ipc", ip=str(Path(folder) / "kernel"), **kwargs)

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel's command line."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        # Errors of cells come as messages; what the kernel logs is noise, such as the interrupt
        # that is part of every shutdown.
        command.append("--IPKernelApp.log_level=CRITICAL")
        environment = {UNWATCHED: "1"}
        if self.root is not None:  # what starts with $ would be taken for a variable
            environment[ROOT_VARIABLE] = str(self.root.absolute()).replace("$", "$$")
        return KernelSpec(argv=command, display_name="Python 3", language="python", env=environment)


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


class _WatchedKernelManager(OwnKernelManager):
    """Let a watch end the kernel, and fork it where there is a nursery."""

    client_factory = Type(_Client)
    watch: ClassVar[Watch]
    nursery: ClassVar[Nursery | None]

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        if self.nursery is not None and self.provisioner is None:
            self.kernel_id = self.kernel_id or str(uuid4())
            self.provisioner = _WarmProvisioner(
                kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
            self.provisioner.nursery = self.nursery
        return await super()._async_pre_start_kernel(**kwargs)

    async def _async_post_start_kernel(self, **kwargs: Any) -> None:
        await super()._async_post_start_kernel(**kwargs)
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            self.watch.attach(process)

    async def _async_finish_shutdown(
        self, waittime: float | None = None, pollinterval: float = 0.01, restart: bool = False
    ) -> None:
        # Looking ten times as often as usual spares every run the better part of 0.1 s.
        await super()._async_finish_shutdown(waittime, pollinterval, restart)


def watched(
    watch: Watch, nursery: Nursery | None = None, root: Path | None = None
) -> type[OwnKernelManager]:
    """Return the manager class whose kernel a watch can end; papermill takes classes alone.

    With a nursery its kernels are forked from that. The kernel works on the project at `root`,
    whatever folder this process works in.
    """
    content = {"watch": watch, "nursery": nursery, "root": root}
    return type("WatchedKernelManager", (_WatchedKernelManager,), content)


class _KeepingEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's usual engine, with the notebook in hand whatever ends its execution.

    papermill itself would write it to a file before and after each cell, some sixty times a run.
    """

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, keep: Callable[[Any], object], **kwargs: Any
    ) -> Any:
        """Hand the notebook on before its first cell runs; it fills up in place."""
        keep(nb_man.nb)
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register(KEEPING, _KeepingEngine)
