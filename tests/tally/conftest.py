"""The tests of this folder run twice: with the machine code of the kernels, and without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleetsim.generate.kernel.machine import kept_kernels
from fleetsim.stats import order
from fleetsim.tally import lines, store


@pytest.fixture(scope="module", autouse=True, params=["kernel", "numpy"])
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """Say how lines are read and counted here."""
    if request.param == "kernel":
        if kept_kernels() is None:
            pytest.skip("no machine code here")
        yield request.param
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "line_kernel", lambda *_: None)
        for module in (order, store):
            patch.setattr(module, "kept_kernels", lambda: None)
        yield request.param
