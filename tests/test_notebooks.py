"""The committed notebooks: thin and clean. Their parameters are in test_parameters.py."""

import json

import pytest
from support import tracked_files

from fleetsim.experiment.notebook import notebook_parameters

NOTEBOOKS = tracked_files("notebooks/*.ipynb")
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
    """At most 17 code cells of at most 12 lines, one of them tagged parameters, and no logic."""
    code = cells(notebook, "code")
    assert len(code) <= 18
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


def test_every_notebook_with_parameters_is_there():
    """What an experiment may name, and what else has parameters, is a committed notebook."""
    assert set(notebook_parameters()) <= {path.name for path in NOTEBOOKS}
