"""A project whose folders may not be looked into is not an empty one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project of one experiment, beside what is none."""
    for name in ("001-a", "none"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
    (tmp_path / "experiments" / "001-a" / "experiment.yaml").write_text("")
    (tmp_path / "experiments" / "words.txt").write_text("")
    return Project(tmp_path)


def denied(*_: Any) -> Any:
    raise PermissionError(13, "Permission denied")


def test_experiments_have_their_file(project: Project) -> None:
    assert project.experiment_ids() == ["001-a"]


def test_a_folder_that_cannot_be_read_is_an_error(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(InputError, match=r"experiments.*Permission denied"):
        project.experiment_ids()


def test_an_experiment_that_cannot_be_looked_into_is_listed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who loads it then says why it cannot be."""
    monkeypatch.setattr(os, "stat", denied)
    assert "001-a" in project.experiment_ids()
