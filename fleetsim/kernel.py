"""The kernel of a run: this very Python, over sockets in a private folder instead of TCP ports."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

__all__ = ["OwnKernelManager"]


class OwnKernelManager(AsyncKernelManager):
    """Start a kernel of this interpreter, whatever kernels a user has installed."""

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
        return KernelSpec(argv=command, display_name="Python 3", language="python")
