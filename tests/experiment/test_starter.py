"""A project to begin with, whole or not at all, and experiments from templates."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import ROOT, Cli, copy_project, tracked_files, tree

from fleetsim.base.project import Project
from fleetsim.experiment import starter
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.notebook import notebook_parameters
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.starter import init_project


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project with the smoke experiment alone, which is the working folder."""
    copy_project(tmp_path, "experiments/000-smoke")
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def test_every_notebook_finds_its_experiment(tmp_path: Path) -> None:
    """What a notebook names as it stands is there; the notebooks are those of this repository."""
    init_project(tmp_path / "deep" / "new")
    project = Project(tmp_path / "deep" / "new")
    for name, own in notebook_parameters().items():
        assert (project.notebooks / name).read_bytes() == (ROOT / "notebooks" / name).read_bytes()
        default = next(p.default for p in own if p.name == "experiment")
        assert load_experiment(project, default).id == default
    assert len(list(project.notebooks.iterdir())) == len(tracked_files("notebooks/*.ipynb"))
    assert (project.experiments / "001-baseline" / "experiment.md").is_file()


def test_init_says_what_it_wrote_and_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleetsim_cli: Cli
) -> None:
    """In the working folder by default, beside what does not stand in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "results").mkdir()
    done = fleetsim_cli("init")
    assert done.code == 0, done.err
    written = done.out.partition("\n\n")[0].splitlines()
    assert written == sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert done.out.endswith("next: fleetsim check 001-baseline\n")


@pytest.mark.parametrize(
    "name", ["README.md", "experiments/000-smoke/config.yaml", "notebooks/mine.ipynb", "dangling"]
)
def test_init_writes_nothing_over_what_exists(tmp_path: Path, fleetsim_cli: Cli, name: str) -> None:
    """What stands in the way is listed, exit code 2, and everything is as it was."""
    path = tmp_path / name
    if name == "dangling":
        (tmp_path / "README.md").symlink_to("nowhere")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = tree(tmp_path) if name != "dangling" else None
    done = fleetsim_cli("init", tmp_path)
    assert done.code == 2
    listed = {"notebooks/mine.ipynb": "notebooks", "dangling": "README.md"}.get(name, name)
    assert f"{listed} exists" in done.err
    if before is not None:
        assert tree(tmp_path) == before
    assert len(os.listdir(tmp_path)) == 1


def test_init_again_lists_every_file(tmp_path: Path, fleetsim_cli: Cli) -> None:
    """The second one changes nothing."""
    assert fleetsim_cli("init", tmp_path).code == 0
    before = tree(tmp_path)
    done = fleetsim_cli("init", tmp_path)
    assert done.code == 2
    assert done.err.count(" exists\n") == sum(content is not None for content, _ in before.values())
    assert tree(tmp_path) == before


@pytest.mark.parametrize("new", [True, False])
def test_init_that_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    """An error between the first name and the last takes all of them back."""
    folder = tmp_path / "x"
    if not new:
        folder.mkdir()
    rename = os.rename

    def full(one: Path, other: Path) -> None:
        if other == folder / "experiments":
            raise OSError(28, "No space left on device")
        rename(one, other)

    monkeypatch.setattr(starter.os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        init_project(folder)
    assert folder.exists() is not new
    assert new or os.listdir(folder) == []


@pytest.mark.parametrize("kind", list(kinds()))
def test_a_new_experiment_of_each_kind(own: Project, fleetsim_cli: Cli, kind: str) -> None:
    """It is whole, is checked at once, and the next step is said; its date is today."""
    done = fleetsim_cli("new", "100-mine", "--kind", kind)
    assert done.code == 0, done.err
    folder = own.experiments / "100-mine"
    own_files = sorted(kinds()[kind].files())
    assert sorted(os.listdir(folder)) == sorted([*starter._FILES, *own_files])
    assert (
        os.listdir(own.experiments) == ["000-smoke", "100-mine"]
        or len(os.listdir(own.experiments)) == 2
    )
    made = load_experiment(own, "100-mine")
    assert (made.kind.name, made.title) == (kind, "100-mine")
    assert made.date == datetime.now(UTC).date().isoformat()
    assert "100-mine: " in done.out
    assert "next: write down what you claim in experiments/100-mine/experiment.yaml" in done.out
    before = tree(folder)
    assert fleetsim_cli("document", "100-mine").code == 0
    assert (folder / "experiment.md").read_bytes() == before["experiment.md"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["000-smoke"], "experiments/000-smoke: exists"),
        (["../x"], "ID: found '../x'; allowed: "),
        ([".x"], "ID: found '.x'; allowed: "),
        (["x" * 300], "ID: found 'xxx"),
        (["new", "--kind", "basline"], "did you mean baseline?"),
    ],
)
def test_what_cannot_be_made_is_refused(
    own: Project, fleetsim_cli: Cli, words: list[str], said: str
) -> None:
    """Exit code 2, and nothing is written."""
    before = tree(own.root)
    done = fleetsim_cli("new", *words)
    assert done.code == 2
    assert said in done.err
    assert {k: v[0] for k, v in tree(own.root).items()} == {k: v[0] for k, v in before.items()}


def test_list_names_kind_points_and_title(own: Project, fleetsim_cli: Cli) -> None:
    """As a table and as JSON; one that cannot be read is said, and hides no other."""
    copy_project(own.root, "experiments/010-fleet-size", "experiments/003-calibration")
    (own.experiments / "900-broken").mkdir()
    (own.experiments / "900-broken" / "experiment.yaml").write_text("schema: 1\n")
    done = fleetsim_cli("list", "--json")
    assert done.code == 0
    assert "skipped: experiments/900-broken/experiment.yaml" in done.err
    assert json.loads(done.out) == [
        {
            "id": "000-smoke",
            "kind": "baseline",
            "title": "Smoke test",
            "points": 6,
            "seeds": 2,
        },
        {
            "id": "003-calibration",
            "kind": "calibration",
            "title": "Calibration of the tests",
            "points": 1,
            "seeds": 1,
        },
        {
            "id": "010-fleet-size",
            "kind": "baseline",
            "title": load_experiment(own, "010-fleet-size").title,
            "points": 24,
            "seeds": 3,
        },
    ]
    lines = fleetsim_cli("list").out.splitlines()
    assert lines[0].split() == ["experiment", "kind", "points", "seeds", "title"]
    assert lines[1].split(maxsplit=4) == ["000-smoke", "baseline", "6", "2", "Smoke test"]
