"""What several tests share besides fixtures."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import fleetsim.base.project
from fleetsim.base.errors import InputError
from fleetsim.cli.main import COMMANDS, cli
from fleetsim.experiment.criterion import Criterion, CriterionKind, Judgement
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import find_run
from fleetsim.experiment.spec import load_experiment
from fleetsim.report.run_report import render_report
from fleetsim.runner.run import Outcome as RunOutcome

ROOT = Path(__file__).resolve().parents[1]
AT = "2025-11-08T12:00:00Z"
AT_US = 1_762_603_200_000_000  # the same moment [microseconds since 1970 UTC]
NAME = "20251108T120000Z"  # the batch that starts then


@cache
def tracked() -> tuple[Path, ...]:
    """Return this repository's files as git lists them, or as they lie there without git.

    What its user made there, an experiment, a notebook or runs, is none of the tests' business.
    """
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return tuple(path for path in sorted(ROOT.rglob("*")) if path.is_file())
    command = [git, "-c", "safe.directory=*", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = (ROOT / name for name in sorted(listing.split("\0")) if name)
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def tracked_files(pattern: str) -> list[Path]:
    """Return the files of this repository that match a pattern from its root, sorted."""
    return [
        path
        for path in tracked()
        if (own := path.relative_to(ROOT)).match(pattern)
        and len(own.parts) == len(Path(pattern).parts)  # or else any folder may stand before it
    ]


def copy_tracked(name: str, target: Path) -> Path:
    """Copy a folder of this repository, without what its user made there; return the copy."""
    source = ROOT / name
    files = [path for path in tracked() if path.is_relative_to(source)]
    assert files, f"{name}: no file of the repository"
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return target


def copy_project(target: Path, *names: str) -> Path:
    """Copy experiments and notebooks, or the folders named, to below a folder; return it."""
    for name in names or ("experiments", "notebooks"):
        copy_tracked(name, target / name)
    return target


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, as nobody in particular; return what it printed."""
    who = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fresh_clone(folder: Path) -> Path:
    """Return a clone of this repository as it is here, with its environment ready.

    What `make setup` would do is left out: the environment is this one's.
    """
    if shutil.which("git") is None:
        pytest.skip("needs git")
    origin = copy_tracked(".", folder / "origin")
    (origin / ".ci" / "setup").write_text("")
    git(origin, "init", "--quiet")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "everything")
    clone = folder / "clone"
    git(folder, "clone", "--quiet", "origin", "clone")
    (clone / ".venv").mkdir()
    (clone / ".venv" / "bin").symlink_to(ROOT / ".venv" / "bin")
    return clone


COMMAND_NAMES = sorted(name for names in COMMANDS.values() for name in names)


def command_named(name: str) -> click.Command:
    """Return a command of the command line."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return command


def quick_and_full(name: str, quick: int, full: int) -> pytest.MarkDecorator:
    """Let a test try few cases in ``make test``, and all of them in ``make test-slow``."""
    return pytest.mark.parametrize(name, [quick, pytest.param(full, marks=pytest.mark.slow)])


def examples(full: int) -> int:
    """Return how many examples of a property to try: all of them in ``make test-slow`` alone."""
    return full if os.environ.get("FLEETSIM_EXAMPLES") == "all" else max(10, full // 4)


PATIENCE = 120  # seconds until something that starts has to be there


def wait_until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE) -> Any:
    """Return what a condition gives when it holds; fail where it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


class Outcome(NamedTuple):
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


class Project(NamedTuple):
    """A configuration file, its companies file and the folder of its batches."""

    config: Path
    companies: Path
    events: Path

    @property
    def batch(self) -> Path:
        """The batch that starts at `AT`."""
        return self.events / NAME

    def write(self, **values: Any) -> None:
        """Change keys of the configuration."""
        data = json.loads(self.config.read_text()) | values
        self.config.write_text(json.dumps(data))

    def make_companies(self, *options: object) -> list[object]:
        """Return the command that makes the companies."""
        return ["companies", "--config", self.config, "--output", self.companies, *options]

    def make_events(self, *options: object) -> list[object]:
        """Return the command that makes a batch, at `AT` unless the options say another time."""
        start = [] if {"--interval-start", "--now"} & set(options) else ["--interval-start", AT]
        base = ["events", "--config", self.config, "--companies", self.companies]
        return [*base, "--output", self.events, *start, *options]


def check_files(folder: Path, plots: Iterable[str], *more: str) -> None:
    """Hold a published run to its files: report, notebook, record, figures, and what more it has.

    The report shows every figure, with a text that says what is to be seen.
    """
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "report.ipynb",
        "experiment.md",
        "result.json",
        "params.yaml",
        "figures",
        *more,
    }
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert figures == {f"{name}.{form}" for name in plots for form in ("png", "svg")}
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<img[^>]* alt=\"[^\"]{80,}", html)) == len(figures) / 2


def image_of(folder: Path) -> Path:
    """Return a copy of the project that nobody may write to, as in the image."""
    copy = copy_project(folder)
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return copy


#: Modules that are not there in an image without extras.
EXTRAS = ("ipywidgets", "distributed", "dask")


def papermill_in(image: Path, name: str, *, extras: bool = True, **parameters: Any) -> Path:
    """Execute a notebook as it is in the image, by plain papermill; return papermill's output.

    The project is `image_of` a folder; there is no home, nothing of Jupyter's but in a folder for
    temporary files, and no right to write beyond the files' own.
    """
    out = image.parent / "out"
    out.mkdir(exist_ok=True)
    # A grammar that jsonschema loads where it is there, as in `load_jsonschema`: a second.
    names = ("rfc3987_syntax", *(() if extras else EXTRAS))
    missing = f"import sys; sys.modules.update(dict.fromkeys({names!r}))\n"
    (out / "sitecustomize.py").write_text(missing)
    places = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = {
        **{key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ},
        **{place: str(out / place) for place in places},
        "HOME": "/nonexistent",
        "FLEETSIM_ROOT": str(image),
        "PYTHONPATH": os.pathsep.join((str(out), str(ROOT))),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "papermill", f"notebooks/{name}", str(out / name)]
    for key, value in parameters.items():
        command += ["-p", key, str(value)]
    if os.geteuid() == 0:  # which may write anything, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv may write anything")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(
        [*command, "--no-progress-bar"], cwd=image, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out / name


def by_papermill(folder: Path, experiment: str, notebook: str, **parameters: Any) -> RunOutcome:
    """Return a run of this repository's experiment, made as in the image, with its report."""
    results = str(folder / "results")
    out = papermill_in(image_of(folder / "app"), notebook, results=results, **parameters)
    run = find_run(fleetsim.base.project.Project(ROOT), experiment, results)
    render_report(run, out)
    return RunOutcome(run, read_record(run))


def faults_of(
    project: fleetsim.base.project.Project, experiment: str, *changes: tuple[str, str]
) -> tuple[str, ...]:
    """Return what is wrong with an experiment after changes of its text."""
    path = project.experiments / experiment / "experiment.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_experiment(project, experiment)
    assert error.value.where == f"experiments/{experiment}/experiment.yaml"
    return error.value.faults


def tree(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Return each path below a folder with its content and its time of change."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


#: What the generator's path and the lists of runs have no time to load.
HEAVY = (
    "scipy pandas matplotlib papermill nbformat IPython jinja2 tqdm numba llvmlite pyarrow duckdb "
    "concurrent"
).split()


def all_criteria() -> dict[str, CriterionKind]:
    """Return the kinds of criteria of all kinds of experiments."""
    return {name: of for kind in kinds().values() for name, of in kind.criteria().items()}


def judge(criterion: Criterion, evidence: Any) -> Judgement:
    """Return the verdict on one criterion."""
    return all_criteria()[criterion.kind].judge(criterion, evidence)
