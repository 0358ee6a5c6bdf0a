"""docs/: reference pages that are up to date, schemas that hold, a tutorial that works."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support import (
    COMMAND_NAMES,
    ROOT,
    all_criteria,
    copy_project,
    copy_tracked,
    tracked_files,
)

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project
from fleetsim.base.yaml12 import load_yaml
from fleetsim.cli import reference
from fleetsim.cli.main import cli
from fleetsim.experiment.spec import load_experiment
from fleetsim.generate.config import make_config
from fleetsim.report import glossary_text

DOCS = ROOT / "docs"
CONFIGS = tracked_files("experiments/*/config.yaml")
EXPERIMENTS = tracked_files("experiments/*/experiment.yaml")


def schema_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "reference" / name).read_text(encoding="utf-8"))
    return found


def faults(data: Any, name: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema_of(name))
    return [error.message for error in validator.iter_errors(data)]


def test_reference_pages_are_what_the_code_gives() -> None:
    """`make documents` writes them; a change of the code that was not followed shows here."""
    texts = {**reference.pages(cli), **reference.schemas()}
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(texts)
    for name, text in texts.items():
        assert (DOCS / "reference" / name).read_text(encoding="utf-8") == text, name
    assert (DOCS / "glossary.md").read_text(encoding="utf-8").endswith(f"\n{glossary_text()}")


def test_everything_that_is_declared_has_its_words() -> None:
    """No key, option or kind is on a page without saying what it is."""
    pages = reference.pages(cli)
    for name, page in pages.items():
        empty = re.findall(r"^\|[^|]*\|\s*\|.*$", page, re.MULTILINE)
        assert empty == [], name
    for command in COMMAND_NAMES:
        assert f"## fleetsim {command}\n" in pages["commands.md"]
    for kind in all_criteria():
        assert f"| `{kind}` |" in pages["experiment.md"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_the_schema_takes_every_configuration(path: Path) -> None:
    assert faults(load_yaml(path.read_text(encoding="utf-8")), "config.schema.json") == []


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_the_schema_takes_every_experiment(path: Path) -> None:
    assert faults(load_yaml(path.read_text(encoding="utf-8")), "experiment.schema.json") == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"number_of_companies": 0},
        {"number_of_companies": 1.5},
        {"drivers_per_company": 10**6 + 1},
        {"event_rate_per_driver": "3"},
        {"active_fraction": 1.01},
        {"event_types": {}},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_schema_and_program_refuse_the_same_configurations(change: dict[str, Any]) -> None:
    data = load_yaml((ROOT / "experiments/001-baseline/config.yaml").read_text()) | change
    assert faults(data, "config.schema.json")
    with pytest.raises(InputError):
        make_config(data)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ((), {"colour": "blue"}),
        ((), {"schema": 2}),
        ((), {"repeats": 3}),
        ((), {"kind": "none"}),
        (("criteria", 0), {"kind": "event_colour"}),
        (("criteria", 0), {"high": None}),
        (("criteria", 0), {"title": ""}),
    ],
    ids=str,
)
def test_schema_and_program_refuse_the_same_experiments(
    tmp_path: Path, where: tuple[Any, ...], value: dict[str, Any]
) -> None:
    """`high` of the first criterion is one that its kind needs."""
    folder = tmp_path / "experiments" / "x"
    copy_tracked("experiments/001-baseline", folder)
    data = load_yaml((folder / "experiment.yaml").read_text(encoding="utf-8"))
    place = data
    for step in where:
        place = place[step]
    for key, new in value.items():
        if new is None:
            del place[key]
        else:
            place[key] = new
    (folder / "experiment.yaml").write_text(json.dumps(data), encoding="utf-8")
    assert faults(data, "experiment.schema.json")
    with pytest.raises(InputError):
        load_experiment(Project(tmp_path), "x")


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of README and docs names a file, and a heading where it has one."""
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")):
        if "_build" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            if target.startswith(("http", "#", "mailto:")):
                continue
            name, _, heading = target.partition("#")
            file = page.parent / name
            assert file.exists(), f"{page.name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = [
                    re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles
                ]
                assert heading in slugs, f"{page.name}: {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("")
        if page.name != "index.md" and "_build" not in page.parts:
            assert f"\n{name}\n" in index


@pytest.mark.notebook
@pytest.mark.slow
def test_the_tutorial_works_from_start_to_end(tmp_path: Path) -> None:
    """Every block but `make run`, typed one after the other, in a copy of the project."""
    copy_project(tmp_path, "experiments", "notebooks", "results/001-baseline/reference")
    (tmp_path / "docs").symlink_to(DOCS)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    typed = [block for block in blocks if block.strip() != "make run"]
    assert len(typed) == len(blocks) - 1 >= 6
    environment = {key: value for key, value in os.environ.items() if key != "FLEETSIM_ROOT"}
    for block in typed:
        done = subprocess.run(
            ["bash", "-e", "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    results = tmp_path / "results" / "100-busy-feed"
    assert (results / "sweep.html").is_file()
    assert len(list(results.glob("2*"))) == 3  # two by hand, of which the grid has one
    made = {path.name for path in (tmp_path / "experiments" / "100-busy-feed").iterdir()}
    assert made == {"config.yaml", "experiment.yaml", "experiment.md"}
    assert len(json.loads((tmp_path / "runs.json").read_text())) == 2
