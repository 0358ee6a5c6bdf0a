"""docs/recipes.md: each recipe runs as it stands, and prints what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, copy_project

from fleetsim.base.yaml12 import load_yaml

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = {
    part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
PIPELINE = "experiments/031-ingest-first-try/experiment.yaml"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "FLEETSIM_ROOT"}
#: Criteria of what the short run of the pipeline below does not do.
LONG = {"idempotent", "order_independent", "complete_after_partial", "crash_safe"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with the runs that the recipes name."""
    root = tmp_path_factory.mktemp("project")
    copy_project(root, "experiments", "notebooks", "results/001-baseline/reference")
    claims = load_yaml((root / PIPELINE).read_text(encoding="utf-8"))
    short = {key: value for key, value in claims.items() if key not in ("variants", "kills")}
    short["criteria"] = [c for c in claims["criteria"] if c["kind"] not in LONG]
    (root / PIPELINE).write_text(json.dumps(short), encoding="utf-8")
    for words in (["000-smoke"], ["031-ingest-first-try", "-p", "repeats", "1"]):
        command = [sys.executable, "-m", "fleetsim", "run", *words]
        done = subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return root


def blocks(recipe: str, language: str) -> list[str]:
    """Return the blocks of a recipe in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", RECIPES[recipe], re.MULTILINE | re.DOTALL)


def printed(project: Path, recipe: str) -> str:
    """Return what the one block of Python of a recipe prints in the project."""
    (code,) = blocks(recipe, "python")
    words = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(words, cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"{recipe}\n{done.stderr}"
    return done.stdout


@pytest.mark.notebook
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_works(project: Path, recipe: str) -> None:
    """It ends well and prints something; where the page shows what, it is that."""
    out = printed(project, recipe)
    assert out.strip()
    for shown in blocks(recipe, "text"):
        assert out == shown


@pytest.mark.notebook
def test_the_recipes_find_what_is_there(project: Path) -> None:
    """Both runs and the kept one are in the table; the pipeline's faults are among its lines."""
    runs = printed(project, "All runs of a results folder in one table").splitlines()
    assert len(runs) == 4
    lines = printed(project, "Which lines did my pipeline lose?")
    assert re.search(r"invalid_enum +reject +accepted ", lines)
