"""How Sphinx builds the documentation: `make docs`."""

import ast
import inspect
import re
from enum import EnumType
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy.typing as npt
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles
from sphinx.util.typing import stringify_annotation

import fleetsim
from fleetsim.experiment import CriterionKind, kinds, render, rule_figure

project = "fleetsim"
author = "The fleetsim authors"
version = release = fleetsim.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_drawn"]
html_theme = "furo"
html_title = f"fleetsim {release}"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
# Some pages point to files of the repository, which are no pages of the documentation.
suppress_warnings = ["myst.xref_missing"]

# The reference of Python: docstrings in NumPy's style, of the names on the faces alone.
napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
toc_object_entries = False
default_role = "literal"


#: What autodoc makes of NumPy's name for whatever becomes an array.
ARRAY_LIKE = stringify_annotation(npt.ArrayLike, "smart")


class Face(SphinxDirective):
    """Every name on the face of a package, with its docstring: ``.. face:: fleetsim.stats``.

    The names are those that the package itself gives, so no page lists them. A name that the
    front door has is documented there alone.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what autodoc makes of each name."""
        package = self.arguments[0]
        lines: list[str] = []
        last = ""
        for name, module in homes(package).items():
            if package != "fleetsim" and module != last:
                about = (import_module(module).__doc__ or "").partition("\n")[0]
                lines += [f".. rubric:: {about}", ""]
            last = module
            lines += entry(package, name, module)
        parent = nodes.container()
        self.state.nested_parse(StringList(lines, source=f"face of {package}"), 0, parent)
        return parent.children


#: Where the pictures of a build are drawn; Sphinx copies them from there.
DRAWN = Path(__file__).parent / "_drawn"


class Criteria(SphinxDirective):
    """Every kind of criterion of every kind of experiment, with the picture of how it decides."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each kind of experiment."""
        DRAWN.mkdir(exist_ok=True)
        lines: list[str] = []
        for name, kind in kinds().items():
            rows = kind.criteria()
            if rows:
                lines += [name, "-" * len(name), "", f"{(kind.__doc__ or '').strip()}", ""]
            for criterion, found in rows.items():
                lines += self.entry(criterion, found)
        parent = nodes.section()
        nested_parse_with_titles(self.state, StringList(lines, source="criteria"), parent)
        return parent.children

    def entry(self, name: str, kind: CriterionKind) -> list[str]:
        """Return what is said of a kind of criterion: its claim, its rule, how it is measured."""
        told = (
            f"{kind.claim[:1].upper()}{kind.claim[1:]}. Measured by: {kind.method or 'its rule'}."
        )
        lines = [name, "~" * len(name), "", told, ""]
        if kind.rule is None:
            return lines
        figure, alt = rule_figure(name, kind)
        (DRAWN / f"{name}.svg").write_bytes(render(figure)["svg"])
        rule = re.sub(r"`(\w+)`", r"``\1``", kind.rule)
        return [*lines, rule, "", f".. image:: _drawn/{name}.svg", f"   :alt: {alt}", ""]


def homes(package: str) -> dict[str, str]:
    """Return the names on a face with their modules, but for those that the front door has."""
    if package == "fleetsim":
        return {name: f"fleetsim.{module}" for name, module in fleetsim._HOMES.items()}
    source = Path(str(import_module(package).__file__)).read_text(encoding="utf-8")
    (table,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Dict))
    return {
        name: f"{package}.{module}"
        for module, names in ast.literal_eval(table).items()
        for name in names.split()
        if f"fleetsim.{fleetsim._HOMES.get(name)}" != f"{package}.{module}"
    }


def entry(package: str, name: str, module: str) -> list[str]:
    """Return the directive that documents a name."""
    value = getattr(import_module(package), name)
    if inspect.isclass(value):
        return [f".. autoclass:: {package}.{name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {package}.{name}", ""]
    # autodoc looks for the comment of a constant only in the module that it is asked for.
    comments = ModuleAnalyzer.for_module(module)
    comments.analyze()
    told = comments.attr_docs.get(("", name), [])
    shown = [f"   :value: {value!r}"] if isinstance(value, str | int | float) else []
    return [f".. py:data:: {package}.{name}", *shown, "", *(f"   {line}" for line in told), ""]


def names_alone(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Return arguments without types, where the docstring has them or they fill half a page."""
    if isinstance(value, EnumType):
        return "", ""
    told = what == "function" and "Parameters\n" in (value.__doc__ or "")
    if not signature:
        return None
    if not told and what != "class":
        return signature.replace(ARRAY_LIKE, "ArrayLike"), returns
    try:
        found = inspect.signature(value)
    except ValueError:  # a class that is made by C code
        return None
    empty = inspect.Parameter.empty
    plain = [parameter.replace(annotation=empty) for parameter in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=empty)), returns


def setup(app: Sphinx) -> None:
    """Make the directive known."""
    app.add_directive("face", Face)
    app.add_directive("criteria", Criteria)
    app.connect("autodoc-process-signature", names_alone)
