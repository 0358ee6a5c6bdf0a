"""Words: every text that a person sees keeps to the glossary."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support import ROOT, tracked_files

GLOSSARY = ROOT / "docs" / "glossary.md"
SECTION = "## Words that are not used"


def banned() -> list[str]:
    """Return the words that the glossary replaces by others."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", GLOSSARY.read_text().partition(SECTION)[2], re.M)
    return [row for row in rows if row != "Not"]


def strings_of(source: str) -> Iterator[str]:
    """Yield the texts in a module's code, but for its docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    # The help of a command is its docstring.
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            yield ast.get_docstring(node) or ""
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            yield node.value


@cache
def texts() -> list[tuple[str, str]]:
    """Return each text that a person sees, with the file that it stands in."""
    return list(read_texts())


def read_texts() -> Iterator[tuple[str, str]]:
    """Yield each text that a person sees, with the file that it stands in."""
    for pattern in ("fleetsim/*.py", "fleetsim/*/*.py", "fleetsim/*/*/*.py"):
        for path in tracked_files(pattern):
            for text in strings_of(path.read_text()):
                yield str(path.relative_to(ROOT)), text
    for pattern in (
        *("README.md", "docs/*.md", "docs/reference/*", "experiments/*/*.yaml"),
        *("experiments/*/*.md", "fleetsim/*/*.j2", "fleetsim/*/*/*.j2", "fleetsim/*/*/*/*.j2"),
        *("fleetsim/*/*/*/*.yaml", "compose.yaml", "environment.yml", "Makefile"),
    ):
        for path in tracked_files(pattern):
            text = path.read_text()
            yield str(path.relative_to(ROOT)), text.partition(SECTION)[0]
    for path in tracked_files("notebooks/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            yield str(path.relative_to(ROOT)), "".join(cell["source"])


@pytest.mark.parametrize("word", banned())
def test_no_text_has_a_word_that_the_glossary_replaces(word: str) -> None:
    """Nor any spelling of it with underscores or capitals."""
    pattern = re.compile(rf"\b{re.escape(word).replace(chr(92) + ' ', '[ _-]')}\b", re.I)
    assert [(where, text[:200]) for where, text in texts() if pattern.search(text)] == []


def test_a_word_would_be_found() -> None:
    """In a message, in a page, in a notebook: the reader sees all of them."""
    seen = {Path(where).suffix for where, _ in texts()}
    assert {".py", ".md", ".j2", ".yaml", ".ipynb"} <= seen
    assert len(banned()) >= 9
    assert list(strings_of('"""honest"""\nx = "honest"\n')) == ["honest"]


def test_each_term_stands_once_in_the_glossary() -> None:
    """With one meaning."""
    text = GLOSSARY.read_text().partition(SECTION)[0]
    terms = [row for row in re.findall(r"^\| (.+?) \|", text, re.M) if row not in ("Term", "---")]
    names = [name.strip() for term in terms for name in term.split(",")]
    assert len(names) == len(set(names)) >= 40
