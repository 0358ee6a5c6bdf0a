"""YAML by the core schema of YAML 1.2.

So ``1e-3`` is a number, ``no`` is text, and ``2025-11-08T12:00:00Z`` stays what was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml
from yaml import MarkedYAMLError as MarkedYAMLError
from yaml import YAMLError as YAMLError

from fleetsim.base.errors import cut, found

_CORE = "tag:yaml.org,2002:"


#: What a document may be: far more than any configuration is, and read in a moment.
MAX_DEPTH = 64
MAX_VALUES = 50_000


class _CoreLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader with the scalars of YAML 1.2, no other tags, and no duplicate keys."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise _fault(key_node, f"duplicate key {found(key_node.value)}")
                seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing: YAML 1.2 has no merge key."""


def _fault(node: yaml.Node | yaml.Event, problem: str) -> MarkedYAMLError:
    mark: Any = node.start_mark
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _construct_null(loader: Any, node: yaml.ScalarNode) -> None:
    loader.construct_scalar(node)


def _construct_bool(loader: Any, node: yaml.ScalarNode) -> bool:
    text = loader.construct_scalar(node)
    if text.lower() not in ("true", "false"):
        raise _fault(node, f"found {found(text)}; !!bool is true or false")
    return bool(text.lower() == "true")


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    try:
        return int(loader.construct_scalar(node), 10)
    except ValueError as error:  # no number, or more digits than Python converts
        raise _fault(node, cut(str(error))) from error


def _construct_float(loader: Any, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    try:
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        raise _fault(node, cut(str(error))) from error


def _refuse_tag(loader: Any, node: yaml.Node) -> None:
    tag = node.tag.replace(_CORE, "!!")
    raise _fault(node, f"found the tag {found(tag)}; allowed: plain values, without tags")


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
):
    # The order matters: an integer also matches the pattern of a float.
    _CoreLoader.add_implicit_resolver(_CORE + _tag, re.compile(_pattern), _first)
for _tag, _construct in (
    ("null", _construct_null),
    ("bool", _construct_bool),
    ("int", _construct_int),
    ("float", _construct_float),
    ("str", _CoreLoader.construct_yaml_str),
    ("seq", _CoreLoader.construct_yaml_seq),
    ("map", _CoreLoader.construct_yaml_map),
):
    _CoreLoader.add_constructor(_CORE + _tag, _construct)
_CoreLoader.add_constructor(None, _refuse_tag)


@dataclass
class _Open:
    """A list or mapping that is being read: how many values it holds so far, and how deep."""

    anchor: str | None
    values: int = 1
    height: int = 1

    def add(self, values: int, height: int) -> None:
        """Take a value in it into account."""
        self.values += values
        self.height = max(self.height, height + 1)


def _check_size(text: str) -> None:
    """Refuse a document that nests deeply or holds very many values, aliases followed.

    The parser's events are looked at before anything is built of them: building recurses, and what
    an alias stands for is looked at again by whoever reads the value.
    """
    opened: list[_Open] = []
    known: dict[str | None, tuple[int, int]] = {}  # values and height of what an anchor names
    total = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        values, height = 1, 0
        if isinstance(event, yaml.CollectionEndEvent):
            done = opened.pop()
            if done.anchor is not None:
                known[done.anchor] = done.values, done.height
            if opened:
                opened[-1].add(done.values, done.height)
            continue
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(_Open(event.anchor))
        elif isinstance(event, yaml.AliasEvent):
            if any(outer.anchor == event.anchor for outer in opened):
                raise _fault(event, f"the alias {found(event.anchor)} stands for what holds it")
            values, height = known.get(event.anchor, (1, 0))
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        elif event.anchor is not None:
            known[event.anchor] = 1, 0
        if opened and not isinstance(event, yaml.CollectionStartEvent):
            opened[-1].add(values, height)
        total += values
        if len(opened) + height > MAX_DEPTH:
            raise _fault(event, f"nested deeper than {MAX_DEPTH} levels")
        if total > MAX_VALUES:
            raise _fault(event, f"holds more than {MAX_VALUES} values, aliases followed")


def load_yaml(text: str) -> Any:
    """Return what a YAML document holds.

    Raises
    ------
    YAMLError
        Where it is not valid, a key stands twice, a tag asks for more than plain values, or it is
        nested or large beyond every use.
    """
    try:
        _check_size(text)
        return yaml.load(text, Loader=_CoreLoader)  # noqa: S506 (the loader is a safe one)
    except UnicodeEncodeError:  # half of a character of two
        raise YAMLError("holds characters that are no text") from None
