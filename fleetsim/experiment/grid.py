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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cached_property
from typing import Any, overload

from fleetsim.base.errors import cut, found, nearest
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
_LOOKED_AT = 10_000  # values among which the first that comes twice is looked for
_NUMBER_MAX = 1e300  # far beyond the limits of any parameter
_NAME_LIMIT = 80  # characters of a wrong name that a message repeats
_EXACT = Context(prec=50)


@dataclass(frozen=True)
class Axis:
    """Parameters that move together (one, unless they were zipped), and the values they take.

    `columns` has the values of each parameter. Those of a range are worked out when they are asked
    for, so that a grid of a million points is read in a moment.
    """

    names: tuple[str, ...]
    columns: tuple[Sequence[Any], ...]

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def values(self) -> Iterator[tuple[Any, ...]]:
        """The values of all its parameters at each step along the axis."""
        return zip(*self.columns, strict=True)


@dataclass(frozen=True)
class Range(Sequence[float]):
    """The values of a range, exact decimals until they become numbers; both ends may belong to it.

    They rise (`first_twice` says where not), and lie between the first and the last.
    """

    low: Decimal
    high: Decimal
    points: int
    step: Decimal | None
    log: bool
    whole: bool

    def __len__(self) -> int:
        return self.points

    @overload
    def __getitem__(self, at: int) -> float: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[float, ...]: ...
    def __getitem__(self, at: int | slice) -> float | tuple[float, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(self.points)))
        if not -self.points <= at < self.points:
            raise IndexError(at)
        exact = self._exact(at % self.points)
        return int(exact.to_integral_value()) if self.whole else float(exact)

    def _exact(self, at: int) -> Decimal:
        if self.step is not None:
            return _EXACT.add(self.low, _EXACT.multiply(self.step, Decimal(at)))
        if at == 0:
            return self.low
        if not self.log:
            width = _EXACT.multiply(_EXACT.subtract(self.high, self.low), Decimal(at))
            return _EXACT.add(self.low, _EXACT.divide(width, Decimal(self.points - 1)))
        if at == self.points - 1:
            return self.high
        # Those between the ends have few digits, and read well.
        grown = _EXACT.multiply(self.low, _EXACT.exp(_EXACT.multiply(self.growth, Decimal(at))))
        return Context(prec=_LOG_DIGITS).plus(grown)

    @cached_property
    def growth(self) -> Decimal:
        """The logarithm of the ratio of a log range's values."""
        whole = _EXACT.ln(_EXACT.divide(self.high, self.low))
        return _EXACT.divide(whole, Decimal(self.points - 1))

    def first_twice(self) -> float | None:
        """Return the first value that rounding makes of two, if any."""
        last = self[0]
        for i in range(1, self.points):
            if self._rises_from(last):
                return None
            value = self[i]
            if value <= last:
                return value
            last = value
        return None

    def _rises_from(self, value: float) -> bool:
        """Return whether all that follows a value is so far apart that rounding changes nothing."""
        if self.log:
            growth = float(self.growth)
            return growth > 1.01 * 10 ** (1 - _LOG_DIGITS) and (
                not self.whole or value * growth > 1.5
            )
        if self.step is not None:
            width = float(self.step)
        else:
            width = float(_EXACT.subtract(self.high, self.low)) / (self.points - 1)
        if self.whole:
            return width >= 1  # its ends are whole, too
        return width > 4 * math.ulp(max(abs(float(self.low)), abs(float(self.high))))


def grid_size(axes: tuple[Axis, ...]) -> int:
    """Return how many points a grid has, without making them."""
    return math.prod(len(axis) for axis in axes)


def grid_points(axes: tuple[Axis, ...]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of every point; the last axis moves fastest."""
    names = [name for axis in axes for name in axis.names]
    for rows in itertools.product(*(tuple(axis.values) for axis in axes)):
        yield dict(zip(names, itertools.chain.from_iterable(rows), strict=True))


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
                faults.append(f"grid.{name}: duplicate value {twice}")
            axes.append(Axis((name,), (values,)))
    names = [name for axis in axes for name in axis.names]
    faults += [
        f"grid: duplicate parameter {name}; allowed: each in one place"
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
    if len(groups) > len(known):
        faults.append(f"{where}: found {len(groups)} groups; allowed: every parameter once")
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
            axis = Axis(tuple(columns), tuple(values or () for values in columns.values()))
            rising = any(isinstance(values, Range) for values in axis.columns)
            if not rising and (twice := _twice(axis.values)) is not None:
                faults.append(f"{label}: duplicate value {twice}")
            axes.append(axis)
    return axes


def _values(
    label: str, name: Any, given: Any, known: Mapping[str, Parameter], faults: list[str]
) -> Sequence[Any] | None:
    """Return the values of one parameter, or None, with the faults, where they are wrong."""
    if unknown := name_faults([name], known):
        faults += [f"{label}.{fault}" for fault in unknown]
        return None
    values: Sequence[Any]
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
            return cut(text)
        seen.add(text)
    return None


def _range(given: Mapping[Any, Any], *, whole: bool) -> tuple[Sequence[Any], list[str]]:
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
        return (), [f"from: found {found(given['from'])}, above to ({found(given['to'])})"]
    if scale == "log" and low <= 0:
        return (), [f"from: found {found(given['from'])}, not above 0 as a log range needs"]
    step: Decimal | None = None
    if points is None:
        step = Decimal(str(given["step"]))
        if step <= 0:
            return (), [f"step: found {found(given['step'])}, not above 0"]
        count = int(_EXACT.divide(_EXACT.subtract(high, low), step)) + 1
        if count > _VALUES_MAX:
            return (), [f"step: makes {count:.3g} values, more than {_VALUES_MAX}"]
        points = count
    if whole and scale != "log" and points > _LOOKED_AT and points - 1 > high - low:
        return (), [f"points: found {points}; only {high - low + 1} whole numbers lie there"]
    values = Range(low, high, points, step, log=scale == "log", whole=whole)
    if (twice := values.first_twice()) is not None:
        return (), [f"the values lie too close together: rounded, {twice} comes twice"]
    return values, []
