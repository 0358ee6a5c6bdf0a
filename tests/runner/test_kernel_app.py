"""The program of a kernel: while it works it warns of lost tasks, at its end it is silent."""

import subprocess
import sys
import tempfile

import pytest
from jupyter_client.manager import KernelManager
from support import wait_until

from fleetsim.runner.kernel import OwnKernelManager

# A task that waits for something which nobody else knows is destroyed when garbage is collected: at
# the latest at the end of all, when stderr is the process's own again.
LOSE = """
import asyncio, atexit, gc, sys
async def wait():
    await asyncio.get_running_loop().create_future()
def lose():
    asyncio.ensure_future(wait())
def collect():
    sys.stderr = sys.__stderr__
    gc.collect()
asyncio.get_running_loop().call_soon(lose)
atexit.register(collect)
"""
INTERRUPT = """
def interrupt():
    raise KeyboardInterrupt
asyncio.get_running_loop().call_later(0.2, interrupt)
"""


@pytest.mark.parametrize("plain", [True, False])
def test_what_a_kernel_leaves_unfinished_at_its_end_is_not_said(plain):
    """A loop that ends by KeyboardInterrupt leaves tasks; plain ipykernel is the control."""
    command = OwnKernelManager().kernel_spec.argv
    if plain:
        command = [sys.executable, "-m", "ipykernel_launcher", *command[3:]]
    manager = KernelManager()
    manager.kernel_spec.argv[:] = command
    with tempfile.TemporaryFile() as stderr:
        manager.start_kernel(stderr=stderr)
        try:
            client = manager.blocking_client()
            client.start_channels()
            client.wait_for_ready(timeout=60)
            loaded = client.execute_interactive("import sys; 1 / ('debugpy' in sys.modules)")
            assert (loaded["content"]["status"] == "ok") == plain  # nobody steps through a run
            client.execute_interactive(LOSE + INTERRUPT, timeout=60)
            assert manager.provisioner.process.wait(60) == 0
        finally:
            manager.shutdown_kernel(now=True)
        stderr.seek(0)
        assert (b"Task was destroyed" in stderr.read()) == plain


#: The thread that is told to end says its last word late, as it may on a busy machine.
LATE = """
import atexit, time
kernel = get_ipython().kernel
say = kernel._publish_status_and_flush
def late(status, channel, *rest, **more):
    if kernel._shutdown_message:
        time.sleep(0.5)
    say(status, channel, *rest, **more)
def tell():
    with open({path!r}, "w") as file:
        file.write(str(kernel.parent.control_thread.is_alive()))
kernel._publish_status_and_flush = late
atexit.register(tell)
"""


@pytest.mark.parametrize("plain", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_kernel_ends_with_the_last_word(plain, tmp_path):
    """Not before: Python's end closes the channel for it, and both may wait for one another.

    Plain ipykernel is the control.
    """
    command = OwnKernelManager().kernel_spec.argv
    if plain:
        command = [sys.executable, "-m", "ipykernel_launcher", *command[3:]]
    manager = KernelManager()
    manager.kernel_spec.argv[:] = command
    manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.execute_interactive(LATE.format(path=str(tmp_path / "told")), timeout=60)
        client.shutdown()
        if not plain:
            assert manager.provisioner.process.wait(60) == 0
        told = wait_until((tmp_path / "told").is_file, "nothing was told") and (tmp_path / "told")
        wait_until(told.read_text, "nothing was written")
        assert told.read_text() == str(plain)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
