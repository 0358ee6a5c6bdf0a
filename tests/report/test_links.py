"""What a run's page links to."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import failed, made_record

from fleetsim.report.run_report import links_beside

SWEEP = ["sweep", "../sweep.html"]


@pytest.mark.parametrize("follows", [False, True])
def test_a_run_links_to_the_page_of_its_sweep(tmp_path: Path, follows: bool) -> None:
    """Where it stands already, or will be made: of a sweep with a completed run."""
    run = made_record("r1")
    links = links_beside(run, tmp_path / "r1", tmp_path, sweep_follows=follows)
    assert (SWEEP in links) == follows
    assert SWEEP not in links_beside(failed(run), tmp_path / "r1", tmp_path, sweep_follows=follows)
    (tmp_path / "sweep.html").touch()
    for record in (run, failed(run)):
        assert links_beside(record, tmp_path / "r1", tmp_path).count(SWEEP) == 1
