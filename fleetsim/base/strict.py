"""Read YAML and JSON files strictly, and turn mappings into typed structs with every fault listed.

A key that stands twice is a fault: PyYAML and the json module would keep the last one in silence.
"""

from __future__ import annotations

import re
from _thread import allocate_lock
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fleetsim.base.errors import InputError, cut, found, nearest, refused
from fleetsim.base.files import read_plain

S = TypeVar("S", bound=msgspec.Struct)

#: Bytes of a file that people write; far more than any has.
MAX_WRITTEN = 1_000_000
#: Characters of a value on a command line.
MAX_SCALAR = 10_000
#: Bytes and values of a record, which may list many parts or repeats; and how deep JSON may nest.
MAX_RECORD, MAX_RECORD_VALUES, MAX_DEPTH = 32_000_000, 2_000_000, 64
_MAX_WRITTEN_VALUES = 50_000
_PROBLEM = 400  # characters of what PyYAML says; a value in it is cut already
_MAX_UNKNOWN = 50  # unknown keys that are told one by one
_JSON_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

# msgspec looks at a type when it is first asked for it. Two threads that do so at once have ended
# the process with signal 11 (msgspec 0.22), so that all first looks are taken one after the other.
_looking = allocate_lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the only decoder of a type, which any number of threads may use and ask for.

    A module that decodes a struct asks for its decoder when it is imported.
    """
    made = _decoders.get(kind)
    if made is None:
        with _looking:
            made = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return made


def parse_scalar(text: str, where: str = "value") -> Any:
    """Return the value that a text has in a YAML file (``-p KEY VALUE`` reads values so).

    Raises
    ------
    InputError
        Where it is too long for a value; `where` names it.
    """
    from fleetsim.base.yaml12 import YAMLError, load_yaml

    if len(text) > MAX_SCALAR:
        raise InputError(where, f"found {found(text)}; allowed: at most {MAX_SCALAR} characters")
    try:
        return load_yaml(text)
    except YAMLError:
        return text


def read_mapping(path: Path | str, what: str) -> dict[str, Any]:
    """Return the mapping that a YAML or JSON file holds.

    Parameters
    ----------
    path : Path or str
        The file; a name that ends in ``.json`` is read as JSON, any other as YAML.
    what : str
        What the file should be, for the messages ("configuration").

    Raises
    ------
    InputError
        Where the file is missing, unreadable, empty, too large, no plain file, not UTF-8, not
        valid, or not a mapping of names to values.
    """
    path = Path(path)
    try:
        text = read_plain(path, MAX_WRITTEN, f"a {what}").decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            str(path), f"no such file; a {what} is expected here", next_step="check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"not UTF-8 text: byte {error.start} is invalid") from None
    except OSError as error:
        raise refused(error, path, "cannot be read: {}") from None
    data = _parse_json(path, text) if path.suffix == ".json" else _parse_yaml(path, text)
    if data is None:
        raise InputError(str(path), f"the file is empty; a {what} is a mapping of keys to values")
    if not isinstance(data, dict):
        raise InputError(
            str(path),
            f"found {_kind_of(data)}; a {what} is a mapping of keys to values (key: value)",
        )
    return data


def read_struct(path: Path, kind: type[S], what: str, next_step: str | None = None) -> S:
    """Return the typed record that a JSON file of ours holds.

    Parameters
    ----------
    path : Path
    kind : type
        A msgspec struct.
    what : str
        What its folder is, for the messages ("batch").
    next_step : str, optional
        What to do about a damaged file.

    Raises
    ------
    InputError
        Where there is none, or it is damaged.
    """
    return decode_struct(read_content(path, what), path, kind, next_step)


def read_content(path: Path, what: str) -> bytes:
    """Return the bytes of a JSON file of ours.

    Raises
    ------
    InputError
        Where there is none, or it cannot be read, or is no plain file of a record's size.
    """
    try:
        return read_plain(path, MAX_RECORD, f"the record of a {what}")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(str(path.parent), f"no {path.name} here: not a {what}") from None
    except OSError as error:
        if not isinstance(path, Path):
            raise  # a storage's, of which the caller says what it is
        raise refused(error, path, "cannot be read: {}") from None


def decode_struct(content: bytes, path: Path, kind: type[S], next_step: str | None = None) -> S:
    """Return what the bytes of a JSON file hold; a key that stands twice is damage.

    Raises
    ------
    InputError
        Where it does not fit.
    """
    import json  # only to refuse what msgspec takes: it keeps the last of two in silence

    try:
        _check_size(content, MAX_RECORD_VALUES)
        record: S = decoder(kind).decode(content)
        json.loads(content, object_pairs_hook=_unique)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InputError(str(path), f"damaged: {cut(str(error))}", next_step=next_step) from None
    return record


def _parse_yaml(path: Path, text: str) -> Any:
    from fleetsim.base.yaml12 import MarkedYAMLError, YAMLError, load_yaml  # no JSON needs it

    try:
        return load_yaml(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" on line {mark.line + 1}" if mark else ""
        raise InputError(
            str(path), f"not valid YAML{line}: {cut(str(error.problem), _PROBLEM)}"
        ) from None
    except (YAMLError, RecursionError, ValueError) as error:
        message = cut(" ".join(str(error).split()))
        raise InputError(str(path), f"not valid YAML: {message}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a mapping; refuse a key that stands twice."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"duplicate key {found(name)}")
            seen.add(name)
    return mapping


def _check_size(content: bytes, values: int) -> None:
    """Refuse JSON that nests deeply or holds very many values, before anything is built of it."""
    bare = _JSON_TEXT.sub(b"", content)
    steps = (1 if bracket in b"[{" else -1 for bracket in bare.translate(None, _NO_BRACKETS))
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > values:
        raise ValueError(f"holds more than {values} values")


def _parse_json(path: Path, text: str) -> Any:
    import json

    if not text.strip():
        return None
    try:
        _check_size(text.encode(), _MAX_WRITTEN_VALUES)
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        message = f"not valid JSON on line {error.lineno}: {error.msg}"
        raise InputError(str(path), message) from None
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"not valid JSON: {error}") from None


def _kind_of(value: object) -> str:
    names = {list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def check_fields(
    struct: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...],
    data: Mapping[Any, Any],
    prefix: str = "",
) -> tuple[dict[str, Any], list[str]]:
    """Convert a mapping to a struct's field types one by one.

    Parameters
    ----------
    struct : type or tuple of types
        A msgspec struct, or several whose fields stand in one mapping. ``Meta.extra["allowed"]`` of
        a field says in words what it may hold; ``Meta.extra["le"]`` is an upper bound beyond 64
        bits, which msgspec does not take. A field that is a tuple of structs takes a list of
        mappings, each looked at in the same way.
    data : mapping
        What the user wrote.
    prefix : str
        Put before every key in the faults, for nested mappings.

    Returns
    -------
    values : dict
        The converted value of every field that is right.
    faults : list of str
        One phrase for every field that is not, for every unknown and every missing key.
    """
    fields = _fields(struct)
    values: dict[str, Any] = {}
    unknown = [str(key) for key in data if key not in fields]
    faults = [
        f"{prefix}{cut(key)}: unknown key{nearest(key, fields)}; allowed: {', '.join(fields)}"
        for key in unknown[:_MAX_UNKNOWN]
    ]
    if len(unknown) > _MAX_UNKNOWN:
        faults.append(f"{prefix or 'and '}{len(unknown) - _MAX_UNKNOWN} more unknown keys")
    for name, field in fields.items():
        if name not in data:
            if field.required:
                faults.append(f"{prefix}{name}: missing; allowed: {allowed(field.type)}")
            continue
        row = row_type(field.type)
        if row is not None and isinstance(data[name], list) and data[name]:
            rows, wrong = _check_rows(row, data[name], prefix + name)
            faults += wrong
            if not wrong:
                values[name] = rows
            continue
        try:
            values[name] = check_value(data[name], field.type)
        except ValueError as error:
            faults.append(f"{prefix}{name}: {error}")
    return values, faults


def row_type(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct of which a field's type is a tuple, or None."""
    plain = getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind
    inner = getattr(plain, "__args__", ())
    first = inner[0] if getattr(plain, "__origin__", None) is tuple and inner else None
    return first if isinstance(first, type) and issubclass(first, msgspec.Struct) else None


def _check_rows(
    row: type[msgspec.Struct], items: Sequence[Any], name: str
) -> tuple[tuple[Any, ...], list[str]]:
    made, faults = [], []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            names = " and ".join(_fields(row))
            faults.append(f"{name}[{number}]: found {found(item)}; allowed: {names}")
            continue
        values, wrong = check_fields(row, item, f"{name}[{number}].")
        faults += wrong
        if not wrong:
            made.append(row(**values))
    return tuple(made), faults


@cache  # a sweep or ten thousand replicates make as many configurations
def _fields(
    struct: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...],
) -> dict[str, msgspec.structs.FieldInfo]:
    structs = struct if isinstance(struct, tuple) else (struct,)
    return {field.name: field for one in structs for field in msgspec.structs.fields(one)}


def check_value(value: Any, kind: Any) -> Any:
    """Return a value as an annotated type has it (a whole number as the float that a rate is).

    Raises
    ------
    ValueError
        Where it does not fit; the message says what was found and what is allowed.
    """
    try:
        with _looking:  # types of fields cannot be kept: the words in their Meta have no hash
            converted = msgspec.convert(value, kind)
        upper = _extra(kind).get("le")
        if upper is None or converted is None or converted <= upper:
            return converted
    except (msgspec.ValidationError, OverflowError, ValueError):
        pass
    raise ValueError(f"found {found(value)}; allowed: {allowed(kind)}")


def text(what: str) -> msgspec.Meta:
    """Return what a key says of itself that holds a text; `what` is its description."""
    return msgspec.Meta(min_length=1, description=what, extra={"allowed": "text"})


def whole(what: str, least: int, most: int | None = None) -> msgspec.Meta:
    """Return what a key says of itself that holds a whole number within limits."""
    limits = f"a whole number from {least}" + ("" if most is None else f" to {most}")
    return msgspec.Meta(ge=least, le=most, description=what, extra={"allowed": limits})


def meta_of(kind: Any) -> msgspec.Meta:
    """Return what a type says of itself; an empty one where it says nothing."""
    metas = getattr(kind, "__metadata__", ())
    return next((meta for meta in metas if isinstance(meta, msgspec.Meta)), msgspec.Meta())


def allowed(kind: Any) -> str:
    """Return in words what a field of this type may hold."""
    return str(_extra(kind).get("allowed", msgspec.inspect.type_info(kind).__class__.__name__))


def _extra(kind: Any) -> Mapping[str, Any]:
    metas: Sequence[Any] = getattr(kind, "__metadata__", ())
    for meta in metas:
        if isinstance(meta, msgspec.Meta) and meta.extra:
            return meta.extra
    for option in getattr(kind, "__args__", ()):  # X | None
        if hasattr(option, "__metadata__"):
            return _extra(option)
    return {}
