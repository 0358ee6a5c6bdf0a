"""Write the parameters where people read them: into the notebooks and the documentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fleetsim.base.errors import InputError
from fleetsim.base.files import write_file
from fleetsim.base.project import Project
from fleetsim.experiment.notebook import notebook_parameters, parameters_of

DOCUMENTATION = Path("docs", "parameters.md")
_BEGIN = "<!-- begin: written by fleetsim document --all -->\n"
_END = "<!-- end -->\n"
_VALUES = """The values in the notebooks as they stand. None means "as the YAML says", for `results`
the project's own folder; a dash, that the notebook has no such parameter.
"""


def parameters_cell(notebook: str) -> str:
    """Return the text of a notebook's cell of parameters."""
    return "\n".join(parameter.line() for parameter in notebook_parameters()[notebook])


def write_parameters(project: Project) -> list[Path]:
    """Write the parameters into a project's notebooks, and its documentation; return these files.

    Raises
    ------
    InputError
        Where a file has no place for them.
    """
    written = []
    for name in notebook_parameters():
        path = project.notebooks / name
        if path.is_file():
            write_file(path, _with_cell(path, parameters_cell(name)).encode())
            written.append(path)
    path = project.resolve(DOCUMENTATION)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        before, begin, rest = text.partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if not begin or not end:
            raise InputError(project.relative(path), f"the lines {_BEGIN!r} and {_END!r} are gone")
        write_file(path, (before + begin + parameters_tables() + end + after).encode())
        written.append(path)
    return written


def _with_cell(path: Path, source: str) -> str:
    """Return the text of a notebook with another cell of parameters."""
    notebook = json.loads(path.read_bytes())
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", ()):
            cell["source"] = source.splitlines(keepends=True)
            return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    raise InputError(path.name, "no cell has the tag parameters; allowed: one")


def parameters_tables() -> str:
    """Return what every parameter is, and what the notebooks have as they stand, in Markdown."""
    known: dict[str, dict[tuple[str, ...], None]] = {}  # kinds may have one name with other limits
    for parameters in notebook_parameters().values():
        for p in (parameter.at() for parameter in parameters):  # without a notebook's notes
            row = (f"`{p.name}`", p.type.__name__, p.allowed, p.help)
            known.setdefault(p.name, {})[row] = None
    rows: list[tuple[str, ...]] = [("parameter", "type", "allowed", "what it is")]
    rows += [row for forms in known.values() for row in forms]
    values: list[tuple[str, ...]] = [
        ("parameter", *(f"`{notebook}`" for notebook in notebook_parameters()))
    ]
    values += [
        (f"`{name}`", *(_value(notebook, name) for notebook in notebook_parameters()))
        for name in known
    ]
    return f"\n{markdown_table(rows)}\n{_VALUES}\n{markdown_table(values)}\n"


def _value(notebook: str, name: str) -> str:
    """Return what a notebook has for a parameter, with what it means there and nowhere else."""
    parameter = parameters_of(notebook).get(name)
    if parameter is None:
        return "–"
    return f"`{parameter.default}`" + (f" ({parameter.note})" if parameter.note else "")


def markdown_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of texts, the header first, as a table of Markdown."""
    lines = [f"| {' | '.join(_cell(text) for text in row)} |\n" for row in rows]
    return "".join([lines[0], "|---" * len(rows[0]) + "|\n", *lines[1:]])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
