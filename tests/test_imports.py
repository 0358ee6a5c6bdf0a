"""The direction of imports, and what the generator's path may load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import HEAVY

import fleetsim

PACKAGE = Path(fleetsim.__file__).parent

#: From the ground up: a module imports only from the lines before its own.
ORDER = [
    "errors",
    "tables",
    "yaml12",
    "documents",
    "clock",
    "progress",
    "signals",
    "config",
    "parameters",
    "model",
    "streams",
    "fleet",
    "generate",
    "encode",
    "layout",
    "compiled",
    "sink",
    "crew",
    "workshop",
    "produce",
    "columnar",
    "formats",
    "files",
    "places",
    "stage",
    "companies",
    "parts",
    "batch_meta",
    "targets",
    "batch",
    "memory",
    "verify",
    "project",
    "cluster",
    "lines",
    "fingerprint",
    "faults",
    "diagnosis",
    "times",
    "sample",
    "store",
    "partial",
    "reading",
    "contents",
    "tally",
    "launcher",
    "measure",
    "scaling",
    "sizes",
    "scale_out",
    "ways",
    "measure_ways",
    "laws",
    "stats",
    "two_samples",
    "power",
    "moments",
    "effects",
    "battery",
    "controls",
    "calibration",
    "claims",
    "calibration_criteria",
    "scaling_criteria",
    "scale_out_criteria",
    "evidence",
    "apriori",
    "alternatives",
    "criteria",
    "grid",
    "experiment",
    "check",
    "runs",
    "audit",
    "answers",
    "record",
    "document",
    "notebooks",
    "plots",
    "run",
    "calibration_plots",
    "calibration_run",
    "scaling_plots",
    "scaling_run",
    "scale_out_plots",
    "scale_out_run",
    "html",
    "report",
    "pages",
    "gallery",
    "mirror",
    "differences",
    "readback",
    "compare_rows",
    "compare",
    "compare_page",
    "playground",
    "panel",
    "warm",
    "watch",
    "kernel",
    "engines",
    "execute",
    "points",
    "sweep",
    "sweep_results",
    "sweep_analysis",
    "sweep_plots",
    "sweep_report",
    "reference",
    "cli_shared",
    "cli_data",
    "cli_experiments",
    "cli_runs",
    "cli",
    "__main__",
]


def imported_modules(path: Path) -> set[str]:
    """Return the modules of fleetsim that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "fleetsim":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fleetsim."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fleetsim.")}
    return {name for name in found if (PACKAGE / f"{name}.py").exists()}


def test_every_module_has_its_place_in_the_order():
    """The list above names every module, and nothing else."""
    names = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert names == set(ORDER)


def test_imports_run_in_one_direction():
    """No module imports one that stands after it."""
    for number, name in enumerate(ORDER):
        later = imported_modules(PACKAGE / f"{name}.py") & set(ORDER[number:])
        assert not later, f"{name} imports {later}"


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
