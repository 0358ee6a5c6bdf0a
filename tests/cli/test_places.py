"""Every place that a user names, and what a system may say of it: one clear error each."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from made_runs import made_record, write_run
from support import ROOT

from fleetsim.base.errors import InputError
from fleetsim.base.storage import SCHEMES, place
from fleetsim.cli.main import COMMANDS, cli
from fleetsim.cli.shared import PlaceParam
from fleetsim.delivery.feed import FeedPlan, batches_of, open_feed
from fleetsim.delivery.plan import Delivery
from fleetsim.generate.config import make_config
from fleetsim.reconcile.outputs import ACCEPTED

#: What the system says, the code of the exit, and a word of it.
FAULTS = {
    "denied": (errno.EACCES, 2, "Permission denied"),
    "full": (errno.ENOSPC, 1, "No space left on device"),
    "read-only": (errno.EROFS, 1, "Read-only file system"),
    "too long": (errno.ENAMETOOLONG, 2, "File name too long"),
}
SMOKE = "000-smoke"
CONFIG = "experiments/000-smoke/config.yaml"
NEW = "2026-01-01T00:00:00Z"
COMPANY = {
    "drivers_per_company": 2,
    "event_rate_per_driver": 2.0,
    "company_onboarding_interval": "PT1H",
}
#: A command line for each place of each command; {place} is the place that fails.
PLACES: dict[tuple[str, str], str] = {
    ("companies", "config"): "companies --config {place}/c.yaml --output {free}/companies.jsonl",
    ("companies", "output"): f"companies --config {CONFIG} --output {{place}}/new/companies.jsonl",
    ("events", "config"): "events --config {place}/c.yaml --companies {companies} --output {free} "
    "--now",
    ("events", "companies_file"): f"events --config {CONFIG} --companies {{place}}/c.jsonl "
    "--output {free} --now",
    ("events", "output"): f"events --config {CONFIG} --companies {{companies}} "
    f"--output {{place}}/new --interval-start {NEW}",
    ("verify", "target"): "verify {place}/batch",
    ("verify", "companies_file"): "verify {batch} --companies {place}/c.jsonl",
    ("verify", "results"): f"verify {SMOKE} --results {{place}}/r",
    ("audit", "data"): f"audit {{place}} --config {CONFIG}",
    ("audit", "config"): "audit {data} --config {place}/c.yaml",
    ("audit", "companies_file"): f"audit {{data}} --config {CONFIG} --companies {{place}}/c.jsonl",
    ("audit", "page"): f"audit {{data}} --config {CONFIG} --html {{place}}/page.html",
    ("audit", "ledger"): f"audit {{data}} --config {CONFIG} --ledger {{place}}/l",
    ("check", "experiment"): "check {place}/experiment.yaml",
    ("run", "experiment"): "run {place}/experiment.yaml",
    ("run", "file"): f"run {SMOKE} -f {{place}}/p.yaml",
    ("run", "results"): f"run {SMOKE} --results {{place}}/r",
    ("report", "name"): "report {place}/run",
    ("report", "notebook"): "report {run} --notebook {place}/n.ipynb",
    ("report", "results"): f"report {SMOKE} --results {{place}}/r",
    ("document", "experiments"): "document {place}/experiment.yaml",
    ("sweep", "experiment"): "sweep {place}/experiment.yaml --engine library",
    ("sweep", "results"): f"sweep {SMOKE} --engine library --results {{place}}/r",
    ("runs", "results"): "runs --html --results {place}",
    ("compare", "names"): "compare {place}/run {run}",
    ("compare", "baseline"): "compare --baseline {place}/run {run}",
    ("compare", "results"): f"compare {SMOKE} {{run}} --results {{place}}/r",
    ("compare", "page"): "compare {run} {run} --html {place}/page.html",
    ("init", "folder"): "init {place}/new",
    ("deliver", "experiment"): "deliver {place}/experiment.yaml {free}",
    ("deliver", "landing"): "deliver 030-ingest-duckdb {place}/new --every PT0.01S",
    ("reconcile", "landing"): "reconcile {place}/landing --accepted {query}",
    ("reconcile", "output"): "reconcile {landing} --accepted {query} --output {place}/out",
    ("reconcile", "outcome"): "reconcile {landing} --accepted {query} --outcome {place}/o.parquet",
    ("reconcile", "page"): "reconcile {landing} --accepted {query} --page {place}/page.html",
}
#: The places that commands write to; the others are read, which a full disk does not hinder.
WRITTEN = {
    ("companies", "output"),
    ("events", "output"),
    ("run", "results"),
    ("sweep", "results"),
    ("runs", "results"),
    ("compare", "page"),
    ("init", "folder"),
    ("deliver", "landing"),
    ("reconcile", "outcome"),
    ("reconcile", "page"),
}
READ_FAULTS = ("denied", "too long")
#: Texts that name no place.
NO_PLACES = {
    *(("events", name) for name in ("at", "scheduler", "ordinal")),
    *(("audit", name) for name in ("scheduler", "read")),
    *(("new", name) for name in ("names", "kind")),
    *(("deliver", name) for name in ("variant", "every")),
    *(("reconcile", name) for name in ("accepted", "rejected")),
    ("run", "pairs"),
    ("sweep", "scheduler"),
    *(("runs", name) for name in ("experiment", "key")),
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield the commands by name."""
    for name in [name for names in COMMANDS.values() for name in names]:
        found = cli.get_command(click.Context(cli), name)
        assert found is not None
        yield name, found


def test_every_place_of_every_command_is_walked() -> None:
    """A new command or option that takes a text or a path has to be listed here."""
    found = {
        (name, str(parameter.name))
        for name, command in commands()
        for parameter in command.params
        if isinstance(parameter.type, PlaceParam | click.Path)
        or parameter.type is click.STRING
        or isinstance(parameter.type, click.Tuple)
    }
    assert found - NO_PLACES == set(PLACES)


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@pytest.fixture
def repository() -> Path:
    """Return the project's root."""
    return ROOT


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a landing folder with one delivery."""
    folder = tmp_path_factory.mktemp("feed") / "landing"
    config = make_config({"seed": 1, "number_of_companies": 2, **COMPANY})
    plan = FeedPlan(config=config.as_dict(), interval=NEW, variant="reference", deliveries=())
    with batches_of(config, NEW) as batches, open_feed(folder, plan, batches) as feed:
        feed.deliver(Delivery(0))
    return folder


@pytest.fixture
def made(project: Any, fleetsim_cli: Any, landing: Path) -> dict[str, Any]:
    """Return what commands read beside the place that fails."""
    assert fleetsim_cli(*project.make_events()).code == 0
    home = project.companies.parent
    (batch,) = project.events.iterdir()
    run = write_run(home / "made", made_record("a"))
    return {
        "companies": project.companies,
        "batch": batch,
        "data": home,
        "run": run,
        "landing": landing,
        "query": shlex.quote(ACCEPTED.replace("{output}", "nowhere")),
    }


def failing(monkeypatch: pytest.MonkeyPatch, below: Path, code: int) -> None:
    """Let the system refuse whatever is asked of paths in a folder."""
    writes = code in (errno.ENOSPC, errno.EROFS)

    def refuse(real: Callable[..., Any], always: bool) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            paths = [path, *args] if real in (os.replace, os.rename, os.symlink) else [path]
            for one in paths:
                if isinstance(one, str | os.PathLike):
                    text = os.path.abspath(os.fspath(one))
                    opens_to_write = any(
                        (isinstance(x, str) and set(x) & set("wxa+"))
                        or (real is os_open and isinstance(x, int) and x & _WRITING)
                        for x in [*args, *kwargs.values()]
                    )
                    if text.startswith(str(below)) and (always or not writes or opens_to_write):
                        raise OSError(code, os.strerror(code), os.fspath(one))
            return real(path, *args, **kwargs)

        return call

    os_open = os.open
    for module, name, always in (
        (io, "open", False),
        (builtins, "open", False),
        (os, "open", False),
        (os, "scandir", False),
        (os, "stat", False),
        (os, "mkdir", True),
        (os, "replace", True),
        (os, "rename", True),
        (os, "symlink", True),
    ):
        monkeypatch.setattr(module, name, refuse(getattr(module, name), always))


@pytest.mark.parametrize(
    ("command", "parameter", "fault"),
    [(*key, fault) for key in PLACES for fault in (FAULTS if key in WRITTEN else READ_FAULTS)],
)
def test_what_the_system_refuses_is_one_clear_error(
    command: str,
    parameter: str,
    fault: str,
    tmp_path: Path,
    repository: Path,
    made: dict[str, Any],
    fleetsim_cli: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 2 where the place is wrong, 1 where the system refuses; never 'unexpected'."""
    code, exit_code, words = FAULTS[fault]
    below = tmp_path / "place"
    below.mkdir()
    line = PLACES[command, parameter].format(place=below, free=tmp_path / "free", **made)
    monkeypatch.chdir(repository)
    with monkeypatch.context() as patched:
        failing(patched, below, code)
        done = fleetsim_cli(*shlex.split(line))
    assert "unexpected" not in done.err
    assert "Traceback" not in done.err
    assert done.code == exit_code, done.err
    assert str(below) in done.err
    if (command, parameter) in WRITTEN:
        assert words in done.err


@pytest.mark.parametrize(
    "scheme", ["zip", "github", "dask", "jlab", "http", "https", "", "s4", "simplecache::s3"]
)
def test_only_known_schemes_are_taken(scheme: str) -> None:
    """Others are refused by name, and what follows is not repeated."""
    with pytest.raises(InputError, match="found the scheme") as refused:
        place(f"{scheme}://user:secret@host/x")
    assert "secret" not in str(refused.value)
    assert scheme not in SCHEMES


def test_a_file_of_another_machine_is_refused() -> None:
    """Only those of this machine have paths here."""
    assert place("file:///a/b") == Path("/a/b") == place("file://localhost/a/b")
    with pytest.raises(InputError, match="names the machine"):
        place("file://elsewhere/a/b")


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lose_no_work(redirect: str, tmp_path: Path, repository: Path) -> None:
    """No file gets the number of a stream, and the exit code is that of the work."""
    out = tmp_path / "companies.jsonl"
    line = (
        f"exec {sys.executable} -m fleetsim companies --config {CONFIG} --output {out} {redirect}"
    )
    done = subprocess.run(["sh", "-c", line], cwd=repository, check=False)
    assert done.returncode == 0
    assert all(row.startswith('{"company_id":') for row in out.read_text().splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_characters_gets_them_escaped(
    encoding: str, repository: Path
) -> None:
    """A report of a command is no reason for it to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "fleetsim", "check", "001-baseline"],
        cwd=repository,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"unexpected" not in done.stderr
    # click takes an ASCII stream for one that was set up wrongly, and writes UTF-8.
    assert done.stdout.decode("utf-8" if encoding == "ascii" else encoding)


def test_a_full_standard_output_is_told(repository: Path) -> None:
    """It is no fault of the place that the command writes to."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fleetsim", "check", SMOKE],
            cwd=repository,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output: could not be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_words_of_a_storage_are_not_told(
    fleetsim_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the library raises, and by whichever way it comes: with --debug neither."""
    words = "AKIA-secret"
    namespace: dict[str, Any] = {"__name__": "botocore.anything"}
    exec("def fail(kind, *words):\n    raise kind(*words)", namespace)  # noqa: S102

    for kind, arguments in (
        (ValueError, (words,)),
        (OSError, (errno.EIO, words)),
        (PermissionError, (errno.EACCES, words)),
        (RuntimeError, (words,)),
    ):
        monkeypatch.setattr(
            "fleetsim.cli.data.config_of",
            lambda *_, kind=kind, arguments=arguments: namespace["fail"](kind, *arguments),
        )
        line = f"--debug companies --config c --output {tmp_path}/c.jsonl"
        done = fleetsim_cli(*line.split())
        assert done.code == 1
        assert words not in done.err
        assert "a storage: " in done.err


def test_results_start_at_the_working_folder(
    tmp_path: Path, repository: Path, fleetsim_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all paths of the command line do; without the option they are the project's."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(repository))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    done = fleetsim_cli("runs", "--results", "mine")
    assert (done.code, done.out) == (0, "no run yet\n"), done.err
    assert fleetsim_cli("runs", "--results", "none").code == 2
    (tmp_path / "own").mkdir()
    for name in ("experiment.yaml", "config.yaml"):
        text = (repository / "experiments" / SMOKE / name).read_text()
        (tmp_path / "own" / name).write_text(text)
    assert fleetsim_cli("check", "own").code == 0
