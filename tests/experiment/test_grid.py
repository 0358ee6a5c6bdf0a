"""Grids: which values a list or a range has, which points they make, and what is refused."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from support import Cli
from sweeps import SMOKE, rewrite, smoke_project

from fleetsim.base.errors import InputError
from fleetsim.experiment.grid import Range, grid_points, grid_size, read_grid
from fleetsim.experiment.parameters import Parameter
from fleetsim.experiment.spec import load_experiment

KNOWN = {
    name: Parameter(name, Annotated[kind, Meta(description=name)])
    for name, kind in {"seed": int, "rate": float, "companies": int, "every": str}.items()
}


def axis(given: Any, name: str = "rate") -> list[Any]:
    """Return the values of the one parameter of a grid that is right."""
    (only,), faults = read_grid({name: given}, KNOWN)
    assert faults == []
    assert only.names == (name,)
    return [value for (value,) in only.values]


def faults(grid: dict[Any, Any]) -> list[str]:
    """Return what is wrong with a grid."""
    return read_grid(grid, KNOWN)[1]


@pytest.mark.parametrize(
    ("name", "written", "values"),
    [
        ("rate", [1, 2.5, 0], [1, 2.5, 0]),
        ("every", ["PT1H", "PT5M"], ["PT1H", "PT5M"]),
        ("rate", {"from": 0, "to": 1, "step": 0.25}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("rate", {"from": 0, "to": 1, "step": 0.3}, [0.0, 0.3, 0.6, 0.9]),
        ("rate", {"from": 1, "to": 1, "step": 5}, [1.0]),
        ("rate", {"from": 0.1, "to": 0.7, "points": 7}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("companies", {"from": 10, "to": 30, "step": 10}, [10, 20, 30]),
        ("companies", {"from": 1, "to": 10, "points": 4}, [1, 4, 7, 10]),
        ("companies", {"from": 0, "to": 10, "points": 4}, [0, 3, 7, 10]),
        (
            "companies",
            {"from": 10, "to": 1000, "points": 5, "scale": "log"},
            [10, 32, 100, 316, 1000],
        ),
        (
            "rate",
            {"from": 0.001, "to": 10, "points": 5, "scale": "log"},
            [0.001, 0.01, 0.1, 1.0, 10.0],
        ),
        ("rate", {"from": 1, "to": 100, "points": 4, "scale": "log"}, [1.0, 4.642, 21.54, 100.0]),
        ("rate", {"from": 2, "to": 8, "points": 2, "scale": "log"}, [2.0, 8.0]),
    ],
)
def test_lists_and_ranges_have_the_values_that_they_say(
    name: str, written: Any, values: list[Any]
) -> None:
    """Both ends belong to a range; its values are exact decimals, and of the parameter's type."""
    found = axis(written, name)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_no_seed_is_too_large_for_a_range() -> None:
    """Whole numbers beyond 53 bits are exact."""
    last = 2**64 - 1
    found = axis({"from": 0, "to": last, "points": 4}, "seed")
    assert found == [0, last // 3, last // 3 * 2, last]
    assert axis({"from": last - 2, "to": last, "step": 1}, "seed") == [last - 2, last - 1, last]


decimals = st.decimals("-1000", "1000", places=3).map(float)


@given(low=decimals, steps=st.integers(0, 200), step=st.decimals("0.001", "50", places=3))
def test_steps_are_exact_decimals(low: float, steps: int, step: Decimal) -> None:
    """Each value is the one that a person would write; the end belongs where steps reach it."""
    end = Decimal(str(low)) + steps * step
    expected = [float(Decimal(str(low)) + i * step) for i in range(steps + 1)]
    assert axis({"from": low, "to": float(end), "step": float(step)}) == expected
    short = float(end + step / 2)  # not a multiple of the step: the last value lies below
    assert axis({"from": low, "to": short, "step": float(step)}) == expected


@given(low=decimals, width=st.integers(1, 10**6), points=st.integers(2, 60))
def test_points_divide_a_range_evenly(low: float, width: int, points: int) -> None:
    """The values are those of exact fractions, both ends included."""
    high = float(Decimal(str(low)) + Decimal(width) / 1000)
    found = axis({"from": low, "to": high, "points": points})
    a, b = Fraction(str(low)), Fraction(str(high))
    assert found == [float(a + (b - a) * i / (points - 1)) for i in range(points)]
    assert (found[0], found[-1]) == (low, high)


@given(low=st.floats(1e-3, 1e3), decades=st.floats(0.5, 6), points=st.integers(2, 40))
def test_a_log_range_has_equal_ratios(low: float, decades: float, points: int) -> None:
    """Both ends are kept to the last digit; what lies between has 4 digits and the right ratio."""
    high = low * 10**decades
    found = axis({"from": low, "to": high, "points": points, "scale": "log"})
    assert (len(found), found[0], found[-1]) == (points, low, high)
    for i, value in enumerate(found[1:-1], start=1):
        assert value == float(f"{value:.3e}")
        assert math.isclose(value, low * (high / low) ** (i / (points - 1)), rel_tol=5.1e-4)
    assert found == sorted(set(found))


@given(low=st.integers(1, 1000), factor=st.integers(20, 10**6), points=st.integers(2, 6))
def test_a_log_range_of_a_whole_number_parameter_is_whole(
    low: int, factor: int, points: int
) -> None:
    """No rounding leads out of the range or brings two values together."""
    found = axis({"from": low, "to": low * factor, "points": points, "scale": "log"}, "seed")
    assert all(type(value) is int for value in found)
    assert (len(set(found)), found[0], found[-1]) == (points, low, low * factor)


names = st.permutations(["seed", "rate", "companies"])
lengths = st.lists(st.integers(1, 4), min_size=3, max_size=3)


@given(names=names, lengths=lengths, zipped=st.booleans())
def test_points_are_the_product_and_the_last_axis_moves_fastest(
    names: list[str], lengths: list[int], zipped: bool
) -> None:
    """A grid has as many points as it says, in the order of nested loops, none twice."""
    columns = {name: list(range(n)) for name, n in zip(names, lengths, strict=True)}
    grid: dict[str, Any] = dict(columns)
    expected = [
        dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())
    ]
    if zipped:
        grid["zip"] = [{"every": ["PT1H", "PT2H"], "extra": [1, 1]}]
        expected = [
            {**point, "every": every, "extra": 1}
            for point in expected
            for every in ("PT1H", "PT2H")
        ]
    axes, wrong = read_grid(grid, {**KNOWN, "extra": KNOWN["seed"]})
    points = list(grid_points(axes))
    assert wrong == []
    assert points == expected
    assert [list(point) for point in points] == [list(point) for point in expected]
    assert grid_size(axes) == len(points)


def test_zipped_parameters_move_together() -> None:
    """A value may come back in a column, since the rows differ; an axis has its place in order."""
    axes, wrong = read_grid(
        {
            "zip": [{"seed": [1, 2, 3], "rate": [0.5, 0.5, 1]}],
            "companies": {"from": 1, "to": 2, "step": 1},
        },
        KNOWN,
    )
    assert wrong == []
    assert [tuple(point.values()) for point in grid_points(axes)] == [
        (1, 0.5, 1),
        (1, 0.5, 2),
        (2, 0.5, 1),
        (2, 0.5, 2),
        (3, 1, 1),
        (3, 1, 2),
    ]


@pytest.mark.parametrize(
    ("grid", "fault"),
    [
        ({"rat": [1]}, "grid.rat: no such parameter (did you mean rate?); allowed: seed, rate"),
        ({"rate": []}, "grid.rate: found an empty list; allowed: a list of values, {from: A"),
        ({"rate": 5}, "grid.rate: found 5; allowed: a list"),
        ({"rate": "1..5"}, "grid.rate: found '1..5'; allowed: a list"),
        ({"rate": None}, "grid.rate: found None; allowed: a list"),
        ({"rate": {}}, "grid.rate: a range has from, to, and either step or points"),
        ({"rate": [1, 2, 1]}, "grid.rate: duplicate value 1"),
        ({"rate": [math.nan, math.nan]}, "grid.rate: duplicate value nan"),
        ({"rate": {"from": 1, "to": 2}}, "either step or points"),
        ({"rate": {"from": 1, "to": 2, "step": 1, "points": 2}}, "either step or points"),
        ({"rate": {"to": 2, "step": 1}}, "a range has from, to"),
        ({"rate": {"from": 2, "to": 1, "step": 1}}, "from: found 2, above to (1)"),
        ({"rate": {"from": 1, "to": 2, "step": 0}}, "step: found 0, not above 0"),
        ({"rate": {"from": 1, "to": 2, "step": -1}}, "step: found -1, not above 0"),
        ({"rate": {"from": 0, "to": 2, "points": 3, "scale": "log"}}, "not above 0 as a log range"),
        ({"rate": {"from": 1, "to": 2, "step": 1, "scale": "log"}}, "a log range has points"),
        ({"rate": {"from": 1, "to": 2, "points": 3, "scale": "ln"}}, "scale: found 'ln', neither"),
        ({"rate": {"from": 1, "to": 2, "points": 3, "scale": []}}, "scale: found [], neither"),
        ({"rate": {"from": 1, "to": 2, "points": 1}}, "points: found 1, not a whole number from 2"),
        ({"rate": {"from": 1, "to": 2, "points": 2.0}}, "points: found 2.0, not"),
        ({"rate": {"from": 1, "to": 2, "points": True}}, "points: found True, not"),
        ({"rate": {"from": 1, "to": 2, "points": None}}, "points: found None, not"),
        (
            {"rate": {"from": 1, "to": 2, "points": 10**6 + 1}},
            "not a whole number from 2 to 1000000",
        ),
        ({"rate": {"from": 0, "to": 1, "step": 1e-9}}, "step: makes 1e+09 values, more than"),
        ({"rate": {"from": math.nan, "to": 2, "points": 3}}, "from: found nan, not a finite"),
        ({"rate": {"from": 1, "to": math.inf, "points": 3}}, "to: found inf, not a finite"),
        (
            {"rate": {"from": 1, "to": 10**400, "points": 3}},
            "to: found 1000000",
        ),
        ({"rate": {"from": "1", "to": 2, "points": 3}}, "from: found '1', not a finite"),
        ({"rate": {"from": True, "to": 2, "points": 3}}, "from: found True, not a finite"),
        ({"rate": {"from": [1], "to": {}, "points": 3}}, "from: found [1], not a finite"),
        ({"rate": {"from": 1, "to": 2, "step": None}}, "step: found None, not a finite"),
        ({"rate": {"fron": 1, "to": 2, "step": 1}}, "'fron': unknown key (did you mean from?)"),
        ({"rate": {"from": 1, "to": 2, "step": 1, 7: 1}}, "7: unknown key"),
        ({"seed": {"from": 1.5, "to": 4, "step": 1}}, "from: found 1.5, not a whole number"),
        ({"seed": {"from": 1, "to": 4, "points": 5}}, "grid.seed: the values lie too close"),
        (
            {"rate": {"from": 1.00004, "to": 1.0001, "points": 3, "scale": "log"}},
            "grid.rate: the values lie too close together: rounded, 1.0 comes twice",
        ),
        ({"zip": []}, "grid.zip: found []; allowed: a list of mappings"),
        ({"zip": {"seed": [1]}}, "grid.zip: found {'seed': [1]}; allowed: a list of mappings"),
        ({"zip": [[1]]}, "grid.zip: found [[1]]; allowed: a list of mappings"),
        ({"zip": "seed"}, "grid.zip: found 'seed'; allowed"),
        ({"zip": [{}]}, "grid.zip[1]: found 0 parameter(s); allowed: two or more"),
        ({"zip": [{"seed": [1]}]}, "grid.zip[1]: found 1 parameter(s)"),
        (
            {"zip": [{"seed": [1], "rate": [1, 2]}]},
            "grid.zip[1]: seed has 1, rate has 2 values; allowed: as many of each",
        ),
        ({"zip": [{"seed": [1], "rat": [1]}]}, "grid.zip[1].rat: no such parameter (did you"),
        ({"zip": [{"seed": [1, 1], "rate": [2, 2]}]}, "grid.zip[1]: duplicate value (1, 2)"),
        ({"zip": [{"zip": [], "seed": [1]}]}, "grid.zip[1].zip: no such parameter"),
        ({"seed": [1], "zip": [{"seed": [1], "rate": [1]}]}, "grid: duplicate parameter seed"),
        ({None: [1]}, "grid.None: no such parameter"),
        ({5: [1]}, "grid.5 is not a name"),
        ({"a\nb": [1]}, "grid.'a\\nb' is not a name"),
        ({"a=1;import os": [1]}, "grid.'a=1;import os' is not a name"),
        ({"x" * 5000: [1]}, f"grid.'{'x' * 198}… (5000 characters): no such parameter"),
        ({"__class__": [1]}, "grid.__class__: no such parameter"),
    ],
)
def test_a_wrong_grid_is_refused_with_what_is_allowed(grid: dict[Any, Any], fault: str) -> None:
    """One phrase says where, what was found and what is allowed; it stays short and on one line."""
    found = faults(grid)
    assert [text for text in found if fault in text], found
    assert all(len(text) < 400 and "\n" not in text for text in found)


nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "to", "step", "points", "scale", "seed", "zip"]), inner
        )
    ),
    max_leaves=12,
)
keys = st.sampled_from([*KNOWN, "zip", "else", 1, None])


@given(grid=st.dictionaries(keys, nonsense, max_size=3))
def test_whatever_stands_in_a_grid_is_told_and_not_stumbled_over(grid: dict[Any, Any]) -> None:
    """Any nesting of any values gives axes or faults, never an exception."""
    axes, wrong = read_grid(grid, KNOWN)
    assert all(isinstance(fault, str) and fault.startswith("grid") for fault in wrong)
    if not wrong:
        assert grid_size(axes) == len(list(itertools.islice(grid_points(axes), 10**5)))


def test_a_grid_of_millions_is_counted_and_not_made() -> None:
    """The number of points is there at once, and points come one by one."""
    million = {"from": 0, "to": 99_999, "step": 1}
    axes, wrong = read_grid({"seed": million, "companies": [*range(1000)]}, KNOWN)
    assert wrong == []
    assert grid_size(axes) == 10**8  # which no test would live to see counted one by one
    assert next(grid_points(axes)) == {"seed": 0, "companies": 0}


def test_a_wrong_grid_ends_the_command_with_every_fault(
    tmp_path: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shape and values of all axes are told in one error each, exit code 2, nothing is written."""
    project = smoke_project(tmp_path)
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
    file = "experiments/000-smoke/experiment.yaml"
    rewrite(
        tmp_path,
        grid={
            "sed": [1],
            "drivers_per_company": [],
            "number_of_companies": [1, "2"],
            "event_rate_per_driver": [1, math.nan],
            "batch_interval": ["PT1H", "P2D"],
            "zip": [{"repeats": [10, 9], "active_fraction": [1, 1.5]}],
        },
    )
    outcome = fleetsim_cli("sweep", SMOKE)
    assert outcome.code == 2
    assert f"{file}: 7 faults" in outcome.err
    for phrase in (
        "grid.sed: no such parameter (did you mean seed?); allowed: repeats, replicates, seed",
        "grid.drivers_per_company: found an empty list; allowed: a list of values",
        "grid.number_of_companies: found '2'; allowed: a whole number from 1 to 1000000000",
        "grid.event_rate_per_driver: found nan; allowed: a number from 0 to 10000",
        "grid.batch_interval: found 'P2D'; allowed: at most P1D",
        "grid.repeats: found 9; allowed: a whole number from 10 to 10000",
        "grid.active_fraction: found 1.5; allowed: a number from 0 to 1",
    ):
        assert phrase in outcome.err
    assert not (tmp_path / "results").exists()
    with pytest.raises(InputError, match="7 faults"):
        load_experiment(project, SMOKE, {"seed": 1})


@pytest.mark.parametrize(
    ("keys", "phrase"),
    [
        ({"grid": {}}, "grid: found {}; allowed: a mapping of parameters to values"),
        ({"grid": [1]}, "grid: found [1]; allowed: a mapping"),
        ({"grid": "seed"}, "grid: found 'seed'; allowed: a mapping"),
        ({"seeds": 0}, "seeds: found 0; allowed: a whole number from 1 to 1000000"),
        ({"seeds": True}, "seeds: found True; allowed: a whole number"),
        ({"seeds": 2.5}, "seeds: found 2.5; allowed: a whole number"),
        ({"keep_data": "no"}, "keep_data: found 'no'; allowed: true or false"),
        ({"grid": {"seed": [True]}}, "grid.seed: found True; allowed: a whole number"),
        ({"grid": {"seed": [[1]]}}, "grid.seed: found [1]; allowed: a whole number"),
        ({"grid": {"control_seeds": [5]}}, "grid.control_seeds: no such parameter"),
    ],
)
def test_a_sweep_s_keys_are_held_to_their_types(
    tmp_path: Path, keys: dict[str, Any], phrase: str
) -> None:
    """What is no grid, and no number of seeds, is refused like any other key."""
    project = smoke_project(tmp_path, **keys)
    with pytest.raises(InputError) as error:
        load_experiment(project, SMOKE)
    assert phrase in str(error.value)


def test_the_same_parameter_twice_in_the_file_is_refused(tmp_path: Path) -> None:
    """YAML itself would keep the last one in silence."""
    project = smoke_project(tmp_path)
    path = project.experiments / SMOKE / "experiment.yaml"
    path.write_text(path.read_text() + "grid:\n  seed: [1]\n  seed: [2]\n")
    with pytest.raises(InputError, match="duplicate key 'seed'"):
        load_experiment(project, SMOKE)


MILLION = 10**6


@pytest.mark.parametrize(
    ("name", "given", "last"),
    [
        ("seed", {"from": 0, "to": MILLION - 1, "step": 1}, MILLION - 1),
        ("seed", {"from": 5, "to": 2**64 - 1, "points": MILLION}, 2**64 - 1),
        ("rate", {"from": 0.001, "to": 100, "points": MILLION}, 100.0),
        ("rate", {"from": 1e-290, "to": 1e290, "points": MILLION, "scale": "log"}, 1e290),
    ],
)
def test_a_range_of_a_million_is_read_without_its_values(
    monkeypatch: pytest.MonkeyPatch, name: str, given: dict[str, Any], last: float
) -> None:
    """Its ends say that the values rise; they are worked out when they are asked for."""
    asked = []
    exact = Range._exact

    def counted(self: Range, at: int) -> Decimal:
        asked.append(at)
        return exact(self, at)

    monkeypatch.setattr(Range, "_exact", counted)
    axes, wrong = read_grid({name: given}, KNOWN)
    assert wrong == []
    assert grid_size(axes) == MILLION
    assert len(asked) < 10
    (values,) = axes[0].columns
    assert values[-1] == last
    assert values[2] > values[1] > values[0]


def test_a_zip_of_millions_is_read_without_its_values() -> None:
    """Ranges that move together stay ranges."""
    ranges = {
        "seed": {"from": 1, "to": MILLION, "step": 1},
        "rate": {"from": 1, "to": 2, "points": MILLION},
    }
    (axis,), wrong = read_grid({"zip": [ranges]}, KNOWN)
    assert (wrong, len(axis)) == ([], MILLION)
    assert list(itertools.islice(axis.values, 2)) == [(1, 1.0), (2, 1.0000010000010000)]
    assert all(isinstance(column, Range) for column in axis.columns)


def test_too_many_points_for_the_whole_numbers_are_refused_at_once() -> None:
    """No value is looked at; nor are more groups than there are parameters."""
    assert "points: found 1000000; only 999999 whole numbers lie there" in str(
        faults({"seed": {"from": 0, "to": MILLION - 2, "points": MILLION}})
    )
    groups = [{"seed": [1], "rate": [1]}] * 20_000
    assert "grid.zip: found 20000 groups; allowed: every parameter once" in faults({"zip": groups})


@given(
    low=st.integers(1, 50),
    width=st.integers(0, 60),
    points=st.integers(2, 30),
    scale=st.sampled_from(["linear", "log"]),
    name=st.sampled_from(["seed", "rate"]),
)
def test_ranges_rise_or_are_refused(
    low: int, width: int, points: int, scale: str, name: str
) -> None:
    """What is accepted without a look at each value rises all the same."""
    given = {"from": low, "to": low + width, "points": points, "scale": scale}
    axes, wrong = read_grid({name: given}, KNOWN)
    if wrong:
        assert "too close together" in wrong[0]
        return
    values = [value for (value,) in axes[0].values]
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (low, low + width)


def test_a_sweep_of_a_million_points_answers_at_once(
    tmp_path: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is known before a point is made; the check has no use for the points."""
    grid = {
        "seed": {"from": 1, "to": MILLION, "step": 1},
        "event_rate_per_driver": {"from": 1, "to": 2, "points": 2},
    }
    project = smoke_project(tmp_path, grid=grid)
    monkeypatch.setenv("FLEETSIM_ROOT", str(project.root))
    monkeypatch.setattr("fleetsim.sweep.plan.grid_points", lambda axes: pytest.fail("made points"))
    outcome = fleetsim_cli("sweep", SMOKE, "--dry-run")
    assert outcome.code == 2
    assert "2000000 points with 1 seed(s) make 2000000 runs, more than 10000" in outcome.err
    outcome = fleetsim_cli("sweep", SMOKE, "--dry-run", "--yes")
    assert outcome.code == 2
    assert "make 2000000 runs; allowed: at most 1000000" in outcome.err
    assert fleetsim_cli("check", SMOKE).code == 0


def test_the_ends_of_a_range_are_held_to_the_limits(tmp_path: Path) -> None:
    """As each value of a list is."""
    project = smoke_project(
        tmp_path, grid={"active_fraction": {"from": 0.5, "to": 1.5, "points": MILLION}}
    )
    with pytest.raises(InputError, match=r"grid\.active_fraction: found 1\.5; allowed: a number"):
        load_experiment(project, SMOKE)
