"""Grids: the values that a sweep gives to parameters, and the points that they make.

In `experiment.yaml` a grid is a mapping of parameter names to values::

    grid:
      number_of_companies: {from: 10, to: 1000, points: 5, scale: log}
      drivers_per_company: [1, 10]
      zip:
        - {event_rate_per_driver: [1, 2], active_fraction: [1.0, 0.5]}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from fleetsim.base.errors import found, nearest
from fleetsim.experiment.parameters import Parameter, name_faults

ZIP = "zip"  # groups of parameters that move together
SCALES = ("linear", "log")
_RANGE_KEYS = ("from", "to", "step", "points", "scale")
_FORMS = (
    "a list of values, {from: A, to: B, step: S}, {from: A, to: B, points: N}, or the same with "
    "scale: log"
)
_LOG_DIGITS = 4  # significant digits of the values between the ends of a log range
_VALUES_MAX = 10**6  # of one axis
_NUMBER_MAX = 1e300  # far beyond the limits of any parameter
_NAME_LIMIT = 80  # characters of a wrong name that a message repeats
_EXACT = Context(prec=50)


@dataclass(frozen=True)
class Axis:
    """Parameters that move together (one, unless they were zipped), and the values they take."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    def settings(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each step along the axis."""
        for row in self.values:
            yield dict(zip(self.names, row, strict=True))


def grid_size(axes: tuple[Axis, ...]) -> int:
    """Return how many points a grid has, without making them."""
    return math.prod(len(axis.values) for axis in axes)


def grid_points(axes: tuple[Axis, ...]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of every point; the last axis moves fastest."""
    for settings in itertools.product(*(tuple(axis.settings()) for axis in axes)):
        yield {name: value for setting in settings for name, value in setting.items()}


def read_grid(
    grid: Mapping[Any, Any], known: Mapping[str, Parameter]
) -> tuple[tuple[Axis, ...], list[str]]:
    """Return the axes of a grid as YAML has it, and what is wrong with it.

    Parameters
    ----------
    grid : mapping
        Parameter names to lists or ranges; ``zip`` to a list of mappings whose lists go together.
    known : mapping
        The parameters that a grid may have.

    Returns
    -------
    axes : tuple of Axis
        Those that are right. Numbers between the ends of a range are exact decimals, those of a
        log range are rounded to 4 significant digits, and those of whole-number parameters to
        whole numbers.
    faults : list of str
        One phrase for each fault. The values' own limits are not looked at here.
    """
    axes: list[Axis] = []
    faults: list[str] = []
    for name, given in grid.items():
        if name == ZIP:
            axes += _zipped(given, known, faults)
        elif (values := _values("grid", name, given, known, faults)) is not None:
            if isinstance(given, list) and (twice := _twice(values)) is not None:
                faults.append(f"grid.{name}: {twice} stands twice among the values")
            axes.append(Axis((name,), tuple((value,) for value in values)))
    names = [name for axis in axes for name in axis.names]
    faults += [
        f"grid: {name} stands twice; every parameter has one place"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    return tuple(axes), faults


def _zipped(groups: Any, known: Mapping[str, Parameter], faults: list[str]) -> list[Axis]:
    where = f"grid.{ZIP}"
    if (
        not isinstance(groups, list)
        or not groups
        or not all(isinstance(group, dict) for group in groups)
    ):
        faults.append(f"{where}: found {found(groups)}; allowed: a list of mappings")
        return []
    axes = []
    for number, group in enumerate(groups, start=1):
        label = f"{where}[{number}]"
        columns = {
            name: _values(label, name, given, known, faults) for name, given in group.items()
        }
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if len(columns) < 2:
            faults.append(f"{label}: found {len(columns)} parameter(s); allowed: two or more")
        elif len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.append(f"{label}: {told} values; allowed: as many of each")
        elif len(lengths) == len(columns):
            rows = tuple(zip(*(values or () for values in columns.values()), strict=True))
            if (twice := _twice(rows)) is not None:
                faults.append(f"{label}: {twice} stands twice among the values")
            axes.append(Axis(tuple(columns), rows))
    return axes


def _values(
    label: str, name: Any, given: Any, known: Mapping[str, Parameter], faults: list[str]
) -> tuple[Any, ...] | None:
    """Return the values of one parameter, or None, with the faults, where they are wrong."""
    if unknown := name_faults([name], known):
        faults += [f"{label}.{fault}" for fault in unknown]
        return None
    if isinstance(given, dict):
        values, wrong = _range(given, whole=known[name].type is int)
    elif isinstance(given, list):
        values, wrong = tuple(given), ["found null"] if None in given else []
        if not given:
            wrong = ["found an empty list"]
    else:
        values, wrong = (), [f"found {found(given)}"]
    if wrong:
        faults += [f"{label}.{name}: {fault}; allowed: {_FORMS}" for fault in wrong]
        return None
    return values


def _twice(values: Iterable[Any]) -> str | None:
    """Return a value that stands twice, as text."""
    seen = set()
    for text in map(repr, values):  # 1 and true are equal, and not the same
        if text in seen:
            return text
        seen.add(text)
    return None


def _range(given: Mapping[Any, Any], *, whole: bool) -> tuple[tuple[Any, ...], list[str]]:
    """Return the values of a range; both ends belong to it where the steps reach them."""
    wrong = [
        f"{found(key)}: unknown key{nearest(str(key)[:_NAME_LIMIT], _RANGE_KEYS)}"
        for key in given
        if key not in _RANGE_KEYS
    ]
    kind = int if whole else int | float
    wrong += [
        f"{key}: found {found(given[key])}, not a {'whole' if whole else 'finite'} number"
        for key in ("from", "to", "step")
        if key in given
        and (
            isinstance(given[key], bool)
            or not isinstance(given[key], kind)
            or not abs(given[key]) < _NUMBER_MAX
        )
    ]
    points: Any = given.get("points")
    scale = given.get("scale", "linear")
    if "from" not in given or "to" not in given or ("step" in given) == ("points" in given):
        wrong.append("a range has from, to, and either step or points")
    if "points" in given and (
        isinstance(points, bool) or not isinstance(points, int) or not 2 <= points <= _VALUES_MAX
    ):
        wrong.append(f"points: found {found(points)}, not a whole number from 2 to {_VALUES_MAX}")
    if scale not in SCALES:
        wrong.append(f"scale: found {found(scale)}, neither of {', '.join(SCALES)}")
    elif scale == "log" and "step" in given:
        wrong.append("step: a log range has points, no step")
    if wrong:
        return (), wrong
    low, high = (Decimal(str(given[key])) for key in ("from", "to"))
    if low > high:
        return (), [f"from: found {given['from']}, above to ({given['to']})"]
    if scale == "log":
        if low <= 0:
            return (), [f"from: found {given['from']}, not above 0 as a log range needs"]
        exact = _log_range(low, high, points)
    elif points is not None:
        width = _EXACT.subtract(high, low)
        exact = (
            _EXACT.add(low, _EXACT.divide(_EXACT.multiply(width, Decimal(i)), Decimal(points - 1)))
            for i in range(points)
        )
    else:
        step = Decimal(str(given["step"]))
        if step <= 0:
            return (), [f"step: found {given['step']}, not above 0"]
        count = int(_EXACT.divide(_EXACT.subtract(high, low), step)) + 1
        if count > _VALUES_MAX:
            return (), [f"step: makes {count:.3g} values, more than {_VALUES_MAX}"]
        exact = (_EXACT.add(low, _EXACT.multiply(step, Decimal(i))) for i in range(count))
    return _rising(int(value.to_integral_value()) if whole else float(value) for value in exact)


def _rising(values: Iterable[float]) -> tuple[tuple[float, ...], list[str]]:
    """Return the values of a range, which rounding must not have brought together."""
    kept: list[float] = []
    for value in values:
        if kept and value <= kept[-1]:
            return (), [f"the values lie too close together: rounded, {value} comes twice"]
        kept.append(value)
    return tuple(kept), []


def _log_range(low: Decimal, high: Decimal, points: int) -> Iterator[Decimal]:
    """Yield values of equal ratio; those between the ends have few digits, and read well."""
    growth = _EXACT.divide(_EXACT.ln(_EXACT.divide(high, low)), Decimal(points - 1))
    short = Context(prec=_LOG_DIGITS)
    yield low
    for i in range(1, points - 1):
        yield short.plus(_EXACT.multiply(low, _EXACT.exp(_EXACT.multiply(growth, Decimal(i)))))
    yield high
