"""The kernel of a run: this very Python, over a socket file instead of a TCP port."""

from __future__ import annotations

import sys

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

__all__ = ["OwnKernelManager"]


class OwnKernelManager(AsyncKernelManager):
    """Start a kernel of this interpreter, whatever kernels a user has installed."""

    transport = "ipc"  # no TCP port is opened

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel's command line."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")
