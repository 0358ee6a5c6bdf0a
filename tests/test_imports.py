"""The direction of imports, and what the generator's path may load."""

import ast
import importlib
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from support import HEAVY

import fleetsim

PACKAGE = Path(fleetsim.__file__).parent

#: The packages from the ground up, with those that may not know each other on one floor: a package
#: imports only from the floors below its own.
FLOORS = [
    ["base"],
    ["generate"],
    ["batch", "stats"],
    ["tally"],
    ["measure"],
    ["reconcile"],
    ["delivery"],
    ["experiment"],
    ["kinds.baseline", "kinds.calibration", "kinds.scaling", "kinds.scale_out", "kinds.explore",
     "kinds.pipeline", "report"],
    ["runner"],
    ["sweep"],
    ["cli"],
]  # fmt: skip
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}


#: What `fleetsim.stats` offers to everyone, whether the package uses it or not.
TESTS = (
    "poisson_count_test poisson_interval poisson_equivalence_test category_test "
    "category_equivalence_test poisson_fit_test dispersion_test uniformity_test edge_test "
    "spacing_test independence_test two_sample_rate_test variation_interval holm "
    "benjamini_hochberg TestResult share_intervals"
).split()


class Use(NamedTuple):
    """A name, or a module where `name` is empty, that a file takes from another package."""

    file: str
    by: str
    package: str
    module: str
    name: str


def package_of(module: str) -> str:
    """Return the package of a module; a kind's folder is a package of its own."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[:1] == ["kinds"] else parts[0]


def uses(path: Path) -> Iterator[Use]:
    """Yield what a file imports from other packages of fleetsim, anywhere in it."""
    own = ".".join(["fleetsim", *path.relative_to(PACKAGE).with_suffix("").parts])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        taken: list[tuple[str, str]] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fleetsim."):
            taken = [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            taken = [(a.name, "") for a in node.names if a.name.startswith("fleetsim.")]
        for module, name in taken:
            if (PACKAGE.parent / module.replace(".", "/") / f"{name}.py").is_file():
                module, name = f"{module}.{name}", ""
            if package_of(module) != package_of(own):
                yield Use(own, package_of(own), package_of(module), module, name)


@cache
def all_uses() -> list[Use]:
    """Return what every file of a package imports from other packages."""
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE]
    return [use for path in files for use in uses(path)]


def test_nearly_nothing_is_loose():
    """What is no part of a package is the front door and the entry point."""
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    folders = {
        ".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("__init__.py")
    } - {"", "kinds", "generate.kernel", "report.compare"}
    assert folders == set(FLOOR)


def test_imports_run_in_one_direction():
    """No package imports one of its own floor or above, and no kind imports another."""
    wrong = [use for use in all_uses() if FLOOR[use.package] >= FLOOR[use.by]]
    assert wrong == [], "\n".join(map(str, wrong))


def test_other_packages_import_what_is_on_the_face():
    """A name from another package is on that one's face, and comes from where the face has it."""
    wrong = []
    for use in all_uses():
        if use.module == "fleetsim.base.face":
            continue
        face = importlib.import_module(f"fleetsim.{use.package}")
        there = use.name in dir(face) and getattr(face, use.name) is getattr(
            importlib.import_module(use.module), use.name
        )
        if not there:
            wrong.append(use)
    assert wrong == [], "\n".join(map(str, wrong))


def test_faces_are_small_and_true():
    """Each has fewer than 40 lines, and every name on it can be had."""
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent == PACKAGE:
            continue
        assert len(path.read_text(encoding="utf-8").splitlines()) < 40, path
        name = ".".join(["fleetsim", *path.parent.relative_to(PACKAGE).parts])
        face = importlib.import_module(name)
        modules = {module.name for module in pkgutil.iter_modules(face.__path__)}
        if "__getattr__" in vars(face):
            for public in dir(face):
                assert public not in modules, f"{name}.{public} is a module, too"
                assert getattr(face, public) is not None
            with pytest.raises(AttributeError, match="no attribute 'nothing'"):
                _ = face.nothing


def test_the_statistical_tests_are_public():
    """They can be had from `fleetsim.stats`, which loads nothing before one is used."""
    code = "import sys, fleetsim.stats; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    stats = importlib.import_module("fleetsim.stats")
    for name in TESTS:
        assert getattr(stats, name).__name__ == name


def test_nothing_on_a_face_is_unused():
    """A name that no other package, notebook or page of the documentation uses is private."""
    used = {(use.package, use.name) for use in all_uses()}
    used |= {(package_of(f"fleetsim.{home}"), name) for name, home in fleetsim._HOMES.items()}
    used |= {("stats", name) for name in TESTS}
    text = (PACKAGE.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    for package in FLOOR:
        face = importlib.import_module(f"fleetsim.{package}")
        for name in dir(face) if "__getattr__" in vars(face) else ():
            if name.startswith("__") or (package, name) in used:
                continue
            assert re.search(rf"\b{name}\b", text), f"{package}: {name}"


@pytest.mark.parametrize("name", sorted(fleetsim._HOMES))
def test_the_front_door_takes_its_names_from_faces(name):
    """What the front door offers is public in its package."""
    package = package_of(f"fleetsim.{fleetsim._HOMES[name]}")
    assert name in dir(importlib.import_module(f"fleetsim.{package}"))


#: Modules that are named by a string somewhere: (file, pattern with the name in a group).
NAMED = [
    ("pyproject.toml", r'"(fleetsim[\w.]*)[:"]'),
    (".ci/setup", r"from (fleetsim[\w.]*) import"),
    ("Dockerfile", r"from (fleetsim[\w.]*) import"),
    ("fleetsim/runner/warm.py", r'"(?:from )?(fleetsim\.[\w.]*)'),
    ("docs/extending.md", r"`(fleetsim(?:/\w+)+)\.py`"),
    ("docs/design.md", r"`(fleetsim(?:/\w+)+)\.py`"),
    ("docs/statistics.md", r"`(fleetsim(?:/\w+)+)\.py`"),
    ("docs/parameters.md", r"`(fleetsim(?:/\w+)+)\.py`"),
]


@pytest.mark.parametrize(("file", "pattern"), NAMED, ids=[file for file, _ in NAMED])
def test_a_module_that_a_string_names_is_there(file, pattern):
    """Entry points, set-up, preloaded modules and the documentation name modules that exist."""
    text = (PACKAGE.parent / file).read_text(encoding="utf-8")
    names = {name.replace("/", ".") for name in re.findall(pattern, text)} - {"fleetsim"}
    for name in names:
        assert importlib.util.find_spec(name) is not None, name
    assert names or file.startswith("docs/")


def test_every_command_is_where_its_module_is_said_to_be():
    """The lazy table of commands resolves."""
    from fleetsim.cli.main import COMMANDS, cli

    for module, names in COMMANDS.items():
        for name in names:
            assert hasattr(importlib.import_module(f"fleetsim.cli.{module}"), name)
    assert sorted(name for names in COMMANDS.values() for name in names) == cli.list_commands(None)


def test_the_generator_loads_nothing_heavy(tmp_path):
    """Making companies and a batch imports no library of the analysis."""
    config = PACKAGE.parent / "experiments" / "000-smoke" / "config.yaml"
    code = f"""
import json, sys
from fleetsim import __main__
def run(*words):
    sys.argv = ["fleetsim", *words]
    try:
        __main__.main()
    except SystemExit as end:
        assert not end.code, end.code
run("companies", "--config", {str(config)!r}, "--output", "companies.jsonl")
run("events", "--config", {str(config)!r}, "--companies", "companies.jsonl",
    "--output", "events", "--now")
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    heavy = [name for name in loaded if name.split(".")[0] in HEAVY]
    assert heavy == []


def test_the_generator_starts_no_thread_for_a_small_batch(tmp_path):
    """Neither our own nor those of NumPy's linear algebra; the environment stays as it was."""
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc here")
    config = PACKAGE.parent / "experiments" / "000-smoke" / "config.yaml"
    code = f"""
import os, sys
from fleetsim import __main__
before = dict(os.environ)
sys.argv = ["fleetsim", "companies", "--config", {str(config)!r}, "--output", "companies.jsonl"]
try:
    __main__.main()
finally:
    assert dict(os.environ) == before
    assert len(os.listdir("/proc/self/task")) == 1
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_who_has_a_run_executed_loads_nothing_that_draws_or_tests():
    """SciPy's laws and Matplotlib are the kernel's; here they would be loaded a second time."""
    code = """
import sys
import fleetsim.runner.run, fleetsim.runner.kernel
from fleetsim.base.project import find_project
from fleetsim.experiment.spec import load_experiment
load_experiment(find_project(), "001-baseline")
print(sys.modules.keys() & {"matplotlib", "pandas", "scipy.special", "scipy.stats"})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_front_door_is_light():
    """``import fleetsim`` loads no module of the package before a name is used."""
    code = "import sys, fleetsim; print([m for m in sys.modules if m.startswith('fleetsim.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    """Each name of the front door can be had, and ``dir`` lists it."""
    for name in fleetsim.__all__:
        assert getattr(fleetsim, name) is not None
        assert name in dir(fleetsim)
