"""What a sweep costs beyond the kernels that it starts, and whether its process grows.

Four sweeps of one small grid (000-smoke, reports and all), beside the bare cost of as many
executions of an empty notebook: papermill's API in one process, as many threads, each kernel a
Python of its own that imports what it needs, over sockets in a private folder like those of a
sweep; and the same one after the other, as a loop over papermill does. The cost of generation is
taken out in two ways, both shown. *Made in the kernel*: a cell of the notebook replaces the cold
processes by the same functions within the kernel, whose cost (some 0.1 s a point) stays in the
result. *Less the children*: from the wall of the untouched sweep the seconds of its measured
children are subtracted. These run one at a time under the machine's lock, so that their sum is a
part of the wall, but the other thread works beside them: this is a lower bound of what remains, and
not more.

Wall times are those of a quiet machine or they mean little; CPU times of this process and of all
that it started stand beside them, and the load before and after.

    python benchmarks/sweep.py [--points 24] [--jobs 2] [--library 500]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import numpy as np
import yaml
from scipy import stats

from fleetsim.base.project import Project
from fleetsim.base.tables import Table
from fleetsim.base.yaml12 import load_yaml
from fleetsim.experiment.results import Engine
from fleetsim.runner.run import Outcome
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

ROOT = Path(__file__).parents[1]
SMOKE = "000-smoke"
STUB = """
from pathlib import Path
import fleetsim.measure.cold
from fleetsim.batch import write_batches
from fleetsim.base.clock import Instant, parse_time
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.generate.config import load_config

def run_child(arguments, cwd, launcher=None):
    words = dict(zip(arguments[1::2], arguments[2::2]))
    now, output = Instant.now(), cwd / words["--output"]
    config = load_config(cwd / words["--config"])
    at = parse_time(words.get("--at") or words["--interval-start"])
    if arguments[0] == "companies":
        write_companies(config, output, at_us=at, now_us=now.wall_us)
    else:
        fleet = read_companies(cwd / words["--companies"])
        list(write_batches(config, fleet, output, start_us=at, started=now))
    return fleetsim.measure.cold.Child(
        exit_code=0, seconds=0.1, cpu_seconds=0.1, peak_rss_bytes=10**7
    )

fleetsim.measure.cold.run_child = run_child
"""


@dataclass
class Cost:
    """What some executions took: wall and CPU [s], children [s], memory after each [bytes]."""

    wall: float = 0.0
    cpu: float = 0.0
    children: float = 0.0
    resident: list[int] = field(default_factory=list)


def main() -> None:
    """Measure, and print the tables."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--points", type=int, default=24)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--library", type=int, default=500, help="points for the memory")
    asked = options.parse_args()
    n, jobs = asked.points, asked.jobs
    print(f"{n} points, {jobs} at a time; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-") as name:
        folder = Path(name)
        (folder / "bench_stub.py").write_text(STUB)
        _bare(folder, jobs, jobs)  # what is loaded once is loaded
        bare = _bare(folder, n, jobs)
        turns = _bare(folder, n, 1)
        stubbed = _sweep(folder, "made", n, jobs, "notebook", stub=True)
        real = _sweep(folder, "real", n, jobs, "notebook")
        library = _sweep(folder, "library", n, jobs, "library")
        sys.path.insert(0, name)
        __import__("bench_stub")
        grown = _sweep(folder, "many", asked.library, 1, "library")
    rows = []
    for what, cost in (
        ("empty notebooks", bare),
        ("empty notebooks, in turn", turns),
        ("sweep, made in the kernel", stubbed),
        ("sweep", real),
        ("engine library", library),
        (f"engine library, {asked.library} points, made here", grown),
    ):
        size = asked.library if cost is grown else n
        shown = (cost.wall, cost.wall / size, cost.cpu / size, cost.children / size)
        rows.append((what, *(f"{value:.2f}" for value in shown)))
    print(Table(("", "wall [s]", "a point", "CPU", "children"), tuple(rows)))
    rest = real.wall - real.children
    print("\ncost of a point over that of an empty notebook, target 1.3:")
    for what, empty in ((f"{jobs} at a time", bare), ("in turn, as a loop does", turns)):
        print(
            f"  empty notebooks {what}: wall {stubbed.wall / empty.wall:.2f}, "
            f"CPU {stubbed.cpu / empty.cpu:.2f} (made in the kernel); "
            f"wall {rest / empty.wall:.2f} or more (less the children)"
        )
    print("\nmemory of this process:")
    for what, cost in (("sweep of notebooks", stubbed), ("engine library", grown)):
        print(f"  {what}: {_slope(cost.resident)}")
    print(f"load {os.getloadavg()[0]:.1f}")


@contextmanager
def _timed(cost: Cost) -> Iterator[None]:
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    yield
    cost.wall, cost.cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu


def _bare(folder: Path, count: int, jobs: int) -> Cost:
    import papermill

    from fleetsim.runner.kernel import OwnKernelManager

    path = folder / "empty.ipynb"
    cells = [nbformat.v4.new_code_cell("")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)

    def one(number: int) -> None:
        papermill.execute_notebook(
            str(path),
            str(folder / f"out-{number}.ipynb"),
            kernel_name="python3",
            kernel_manager_class=OwnKernelManager,
            progress_bar=False,
        )

    cost = Cost()
    with _timed(cost), ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, range(count)))
    return cost


def _sweep(
    folder: Path, name: str, count: int, jobs: int, engine: str, *, stub: bool = False
) -> Cost:
    root = folder / name
    shutil.copytree(ROOT / "experiments" / SMOKE, root / "experiments" / SMOKE)
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    path = root / "experiments" / SMOKE / "experiment.yaml"
    data = load_yaml(path.read_text(encoding="utf-8"))
    data.pop("grid")
    data |= {"interval": "2025-11-08T12:00:00Z", "seeds": count}
    path.write_text(yaml.safe_dump(data))
    if stub:
        notebook = nbformat.read(root / "notebooks" / "experiment.ipynb", as_version=4)
        source = f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport bench_stub"
        notebook.cells.insert(2, nbformat.v4.new_code_cell(source))
        nbformat.write(notebook, root / "notebooks" / "experiment.ipynb")
    os.environ["FLEETSIM_ROOT"] = str(root)
    cost = Cost()

    def ended(outcome: Outcome) -> None:
        record = outcome.record
        assert record.measurements is not None, record.error
        cost.children += sum(record.measurements.process_seconds)
        cost.resident.append(_resident())

    with _timed(cost):
        options = SweepOptions(jobs=jobs, engine=Engine(engine))
        run_sweep(plan_sweep(Project(root), SMOKE), options, progress=ended)
    return cost


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _slope(resident: list[int]) -> str:
    """Return the growth a point with its 95 % interval, on the means of 20 blocks.

    The first fifth, in which caches fill, is left out.
    """
    kept = np.array(resident[len(resident) // 5 :]) / 1e3
    blocks = np.array_split(kept, min(20, len(kept)))
    at = np.cumsum([len(block) for block in blocks])
    fit = stats.linregress(at, [block.mean() for block in blocks])
    half = stats.t.ppf(0.975, len(blocks) - 2) * fit.stderr
    return (
        f"{kept[0] / 1e3:.0f} MB after {len(resident) // 5} points, {kept[-1] / 1e3:.0f} MB after "
        f"{len(resident)}; {fit.slope:.1f} kB a point, 95 % interval {fit.slope - half:.1f} to "
        f"{fit.slope + half:.1f}"
    )


if __name__ == "__main__":
    main()
