"""The committed notebooks: thin, clean, and with the parameters that the library knows."""

import json
from pathlib import Path

import papermill
import pytest

from fleetsim.experiment import NOTEBOOKS as NOTEBOOK_KINDS
from fleetsim.experiment import parameter_types

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
FORBIDDEN = ("def ", "class ", "for ", "while ", "try:", "%", "!", "open(", "/home", "~/")


def cells(path, kind):
    """Return the cells of a kind, in their order."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    """Yield each committed notebook."""
    return request.param


def test_notebooks_carry_no_outputs(notebook):
    """No output, no execution count and no editor's metadata is committed."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert set(cell["metadata"]) <= {"tags"}


def test_notebooks_are_thin(notebook):
    """At most 15 code cells of at most 12 lines, one of them tagged parameters, and no logic."""
    code = cells(notebook, "code")
    assert len(code) <= 15
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1
    for cell in code:
        assert len(cell["source"]) <= 12
        for line in cell["source"]:
            assert not line.startswith(FORBIDDEN), line


def test_notebooks_tell_what_to_expect(notebook):
    """A title opens a notebook, and a text stands before the cells that show something."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["cells"][0]["cell_type"] == "markdown"
    assert "".join(content["cells"][0]["source"]).startswith("# ")
    assert len(cells(notebook, "markdown")) >= 5


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("experiment.ipynb", {"experiment": '"000-smoke"'}),
        (
            "calibration.ipynb",
            {"experiment": '"003-calibration"', "replicates": "100", "control_seeds": "5"},
        ),
        ("scaling.ipynb", {"experiment": '"005-scaling"', "largest_events": "10000"}),
    ],
)
def test_a_notebook_declares_every_parameter(name, small):
    """Its parameters are those of the library, each with its plain type and a help text.

    All but the experiment, and what keeps a run at the defaults short, are as the YAML says.
    """
    path = next(path for path in NOTEBOOKS if path.name == name)
    declared = papermill.inspect_notebook(str(path))
    names = {name: kind.__name__ for name, kind in parameter_types(name).items()}
    expected = {"experiment": "str", "results": "str", **names}
    assert {name: row["inferred_type_name"] for name, row in declared.items()} == expected
    assert all(row["help"] for row in declared.values())
    defaults = {name: row["default"] for name, row in declared.items()}
    assert {key: defaults.pop(key) for key in small} == small
    assert set(defaults.values()) == {"None"}


def test_every_notebook_that_runs_experiments_is_there():
    """What an experiment may name is a committed notebook."""
    assert set(NOTEBOOK_KINDS) <= {path.name for path in NOTEBOOKS}
