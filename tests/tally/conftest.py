"""The tests of this folder run twice: with the machine code of the kernels, and without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetsim.generate.kernel.machine import kept_kernels
from fleetsim.stats import order
from fleetsim.tally import lines, store

#: Where the lines themselves are looked at: there `make test` tries both ways.
BOTH = ("test_lines.py", "test_hostile_files.py", "test_ledger.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the way without machine code to `make test-slow` elsewhere, where there is any."""
    if kept_kernels() is None:
        return
    for item in items:
        if item.path.parent != Path(__file__).parent or item.path.name in BOTH:
            continue
        call = getattr(item, "callspec", None)
        if call is not None and call.params.get("reader") == "numpy":
            item.add_marker(pytest.mark.slow)


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
