"""Parameters: declared once, shown alike everywhere, and refused alike wherever they come from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import papermill
import pytest
from msgspec import Meta
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from support import ROOT, Cli, copy_project

import fleetsim
import fleetsim.kinds.scale_out.run
from fleetsim.base.errors import InputError
from fleetsim.base.project import Project
from fleetsim.cli.notebooks import parameters_cell, parameters_tables, write_parameters
from fleetsim.experiment import notebook as notebook_module
from fleetsim.experiment.kind import kind_of_notebook, kinds
from fleetsim.experiment.notebook import notebook_parameters, parameters_of, take_parameters
from fleetsim.experiment.parameters import EXPERIMENT, RESULTS, Parameter, check_parameters
from fleetsim.experiment.spec import load_experiment
from fleetsim.runner.kernel import OwnKernelManager
from fleetsim.runner.run import execute

SMOKE = "000-smoke"
#: The notebooks that run experiments.
NOTEBOOKS = [kind.notebook for kind in kinds().values()]
WHOLE = "allowed: a whole number from 0 to 2**64 - 1"


@pytest.fixture
def own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a copy of this project, which is the working folder."""
    copy_project(tmp_path, "experiments", "notebooks", "docs")
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what papermill is given; it starts no kernel."""
    taken: dict[str, Any] = {}

    def stop(*_: Any, parameters: dict[str, Any], **__: Any) -> None:
        taken.update(parameters)
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", stop)
    return taken


# --- Declared once -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", notebook_parameters())
def test_papermill_shows_what_is_declared(name: str) -> None:
    """The inspection of the committed notebook has each name, type, default and help."""
    shown = papermill.inspect_notebook(str(ROOT / "notebooks" / name))
    assert list(shown) == list(parameters_of(name))
    for parameter in notebook_parameters()[name]:
        row = shown[parameter.name]
        assert row["inferred_type_name"] == parameter.type.__name__
        assert row["default"] == json.dumps(parameter.default).replace("null", "None")
        assert row["help"].startswith(parameter.about)
        assert len(parameter.line()) <= 100


def test_the_files_are_what_would_be_written_now(own_project: Project) -> None:
    """``make documents`` changes neither notebooks nor documentation."""
    written = write_parameters(own_project)
    assert [path.name for path in written] == [*notebook_parameters(), "parameters.md"]
    for path in written:
        committed = ROOT / path.relative_to(own_project.root)
        assert path.read_text() == committed.read_text(), f"run make documents: {committed.name}"


def test_the_documentation_has_every_parameter() -> None:
    """Its name, its limits and its help stand in docs/parameters.md."""
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert parameters_tables() in text
    for parameters in notebook_parameters().values():
        for row in parameters:
            assert f"| `{row.name}` | {row.type.__name__} | {row.allowed} | " in text


def test_every_notebook_that_runs_experiments_has_its_parameters() -> None:
    """They begin with experiment and results, and are those that its experiments have."""
    project = Project(ROOT)
    assert set(NOTEBOOKS) <= set(notebook_parameters())
    for name in NOTEBOOKS:
        assert list(parameters_of(name))[:2] == ["experiment", "results"]
        own = load_experiment(project, parameters_of(name)["experiment"].default)
        assert own.notebook == name
        assert set(kind_of_notebook(name).run_parameters) == set(own.parameters) - {"experiment"}
        assert all(row.help for row in notebook_parameters()[name])


def test_a_further_notebook_is_one_entry(
    own_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cell and the documentation follow, parameters of its own included."""
    jobs = Annotated[int, Meta(ge=1, description="runs at a time", extra={"allowed": "1 or more"})]
    entry = (EXPERIMENT.at(SMOKE), RESULTS, Parameter("crews", jobs, 2))
    monkeypatch.setitem(notebook_module._OTHERS, "further.ipynb", entry)
    path = own_project.notebooks / "further.ipynb"
    shutil.copy(own_project.notebooks / "experiment.ipynb", path)
    write_parameters(own_project)
    shown = papermill.inspect_notebook(str(path))
    assert list(shown) == ["experiment", "results", "crews"]
    assert (shown["crews"]["default"], shown["crews"]["inferred_type_name"]) == ("2", "int")
    text = (own_project.root / "docs" / "parameters.md").read_text()
    assert "| `crews` | int | 1 or more | runs at a time |" in text
    assert "| `crews` | – | – | – | – | – | – | – | `2` |" in text


def test_a_file_without_a_place_for_parameters_is_named(own_project: Project) -> None:
    """A notebook without the tag, or documentation without its marks, is left as it is."""
    page = own_project.root / "docs" / "parameters.md"
    page.write_text(page.read_text().replace("<!-- end -->", ""))
    with pytest.raises(InputError, match=r"docs/parameters\.md: the lines .* are gone"):
        write_parameters(own_project)
    path = own_project.notebooks / "experiment.ipynb"
    path.write_text(path.read_text().replace('"parameters"\n', '"params"\n'))
    with pytest.raises(InputError, match=r"experiment\.ipynb: no cell has the tag parameters"):
        write_parameters(own_project)


# --- The command's help --------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", ["001-baseline", "003-calibration"])
@pytest.mark.parametrize("first", [True, False])
def test_help_lists_the_parameters_of_an_experiment(
    fleetsim_cli: Cli, experiment: str, first: bool
) -> None:
    """Each with type, help and the value that this experiment has, wherever --help stands."""
    words = ["--help", experiment] if first else [experiment, "-p", "seed", "3", "--help"]
    done = fleetsim_cli("run", *words)
    assert done.code == 0
    text = " ".join(done.out.split())
    assert f"Parameters of {experiment}, for -p and -f:" in text
    loaded = load_experiment(Project(ROOT), experiment)
    for row in loaded.kind.run_parameters.values():
        value = loaded.parameters[row.name]
        assert f"{row.name} {row.type.__name__} {row.about} [default: {value}]" in text


def test_help_alone_says_how_to_see_them_and_loads_nothing(tmp_path: Path) -> None:
    """Without an experiment it needs no project and none of the libraries of the analysis."""
    code = """
import sys
from fleetsim import __main__
sys.argv = ["fleetsim", "run", "--help"]
try:
    __main__.main()
except SystemExit as end:
    assert not end.code
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"numpy", "scipy", "yaml", "papermill"}, loaded
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "`fleetsim run EXPERIMENT --help` lists the parameters of that exp" in done.stdout
    assert "Parameters of" not in done.stdout


def test_help_of_an_unknown_experiment_is_an_error(fleetsim_cli: Cli) -> None:
    """Exit code 2, with the nearest id; the same for a folder without a project."""
    done = fleetsim_cli("run", "--help", "001-basline")
    assert done.code == 2
    assert "did you mean 001-baseline?" in done.err
    assert done.out == ""


# --- Values that are not what they seem ----------------------------------------------------------

#: What is written after -p, and in a parameter file; and the value, or why it is refused.
WRITTEN = [
    ("seed", "7", 7),
    ("seed", "18446744073709551615", 2**64 - 1),
    ("seed", "007", 7),
    ("seed", "+7", 7),
    ("event_rate_per_driver", "1e-3", 0.001),
    ("event_rate_per_driver", "1E1", 10.0),
    ("event_rate_per_driver", ".5", 0.5),
    ("event_rate_per_driver", "4", 4.0),
    ("batch_interval", "PT900S", "PT15M"),
    ("seed", "null", 7),  # as the YAML says
    ("seed", "true", f"seed: found True; {WHOLE}"),
    ("seed", "yes", f"seed: found 'yes'; {WHOLE}"),
    ("seed", "1e3", f"seed: found 1000.0; {WHOLE}"),
    ("seed", "7.0", f"seed: found 7.0; {WHOLE}"),
    ("seed", "0x10", f"seed: found '0x10'; {WHOLE}"),
    ("seed", "1_000", f"seed: found '1_000'; {WHOLE}"),
    ("seed", "18446744073709551616", f"seed: found 18446744073709551616; {WHOLE}"),
    ("seed", "[7]", f"seed: found [7]; {WHOLE}"),
    ("seed", "{a: 7}", f"seed: found {{'a': 7}}; {WHOLE}"),
    ("seed", "'7'", f"seed: found '7'; {WHOLE}"),
    ("event_rate_per_driver", "true", "event_rate_per_driver: found True; allowed: a number"),
    ("event_rate_per_driver", ".nan", "event_rate_per_driver: found nan; allowed: a number"),
    ("event_rate_per_driver", ".inf", "event_rate_per_driver: found inf; allowed: a number"),
    ("event_rate_per_driver", "1e400", "event_rate_per_driver: found inf; allowed: a number"),
    ("event_rate_per_driver", "3,5", "event_rate_per_driver: found '3,5'; allowed: a number"),
    ("batch_interval", "15", "batch_interval: found 15; allowed: an ISO 8601 duration"),
    ("batch_interval", "true", "batch_interval: found True; allowed: an ISO 8601 duration"),
    ("repeats", "9", "repeats: found 9; allowed: a whole number from 10 to 10000"),
    ("sed", "7", "sed: no such parameter (did you mean seed?); allowed: repeats, "),
    ("Seed", "7", "Seed: no such parameter (did you mean seed?); allowed: repeats, "),
    ("control_seeds", "7", "control_seeds: no such parameter"),
    ("event_types", "{a: 1.0}", "event_types: no such parameter"),
    ("class", "7", "class: no such parameter"),
    ("a b", "7", "'a b' is not a name"),
    ("1=a;import os;os.remove('x')", "7", "\"1=a;import os;os.remove('x')\" is not a name"),
]


@pytest.mark.parametrize("from_file", [False, True], ids=["-p", "-f"])
@pytest.mark.parametrize(("name", "text", "outcome"), WRITTEN)
def test_what_is_written_is_taken_or_refused(
    fleetsim_cli: Cli,
    own_project: Project,
    given: dict[str, Any],
    name: str,
    text: str,
    outcome: Any,
    from_file: bool,
) -> None:
    """By `fleetsim run`, before a kernel starts; the value has the parameter's own plain type."""
    Path("params.yaml").write_text(f'"{name}": {text}\n')
    words = ["-f", "params.yaml"] if from_file else ["-p", name, text]
    done = fleetsim_cli("run", SMOKE, *words)
    if isinstance(outcome, str) and outcome.startswith((f"{name}: ", "'", '"')):
        assert done.code == 2
        assert done.err.startswith(f"fleetsim: parameters: {outcome}")
        assert given == {}
        assert not (own_project.root / "results").exists()
    else:
        assert done.code == 130  # as if interrupted, when papermill was asked to start
        assert given[name] == outcome
        assert type(given[name]) is parameters_of("experiment.ipynb")[name].type


@pytest.mark.parametrize("text", ["", " ", "# 7"])
def test_an_empty_value_is_no_default(fleetsim_cli: Cli, own_project: Project, text: str) -> None:
    """A shell variable that was not set does not become a run with other parameters."""
    done = fleetsim_cli("run", SMOKE, "-p", "seed", text)
    assert done.code == 2
    assert done.err.startswith(f"fleetsim: parameters: seed: found {text!r}; {WHOLE}")


#: Values from Python, and the plain value, or why it is refused.
PASSED = [
    ("seed", np.int64(7), 7),
    ("seed", np.uint64(2**64 - 1), 2**64 - 1),
    ("event_rate_per_driver", np.float32(0.5), 0.5),
    ("event_rate_per_driver", 3, 3.0),
    ("batch_interval", np.str_("PT5M"), "PT5M"),
    ("seed", True, "seed: found True"),
    ("seed", np.bool_(True), "seed: found True"),
    ("seed", np.float64(7), "seed: found 7.0"),
    ("seed", "7", "seed: found '7'"),
    ("seed", (7,), "seed: found (7,)"),
    ("seed", [7], "seed: found [7]"),
    ("seed", np.array(7), "seed: found array(7)"),
    ("seed", range(3), "seed: found range(0, 3)"),
    ("event_rate_per_driver", "1e-3", "event_rate_per_driver: found '1e-3'"),
    ("batch_interval", b"PT5M", "batch_interval: found b'PT5M'"),
    ("seeed", 1, "seeed: no such parameter (did you mean seed?)"),
    (7, 1, "7 is not a name"),
    (None, 1, "None: no such parameter"),
]


@pytest.mark.parametrize(("name", "value", "outcome"), PASSED, ids=repr)
def test_what_is_passed_is_taken_or_refused(
    tmp_path: Path, given: dict[str, Any], name: Any, value: Any, outcome: Any
) -> None:
    """By the library's own door, and by the runner, which hands plain values to papermill."""
    project = Project(ROOT)
    if isinstance(outcome, str) and " " in outcome:
        with pytest.raises(InputError) as refused:
            load_experiment(project, SMOKE, {name: value})
        assert refused.value.faults[0].startswith(outcome)
        with pytest.raises(InputError):
            execute(project, SMOKE, {name: value}, results=str(tmp_path))
        assert given == {}
    else:
        with pytest.raises(KeyboardInterrupt):
            execute(project, SMOKE, {name: value}, results=str(tmp_path))
        assert given[name] == outcome
        assert type(given[name]) is type(outcome)
    assert list(tmp_path.iterdir()) == []


def test_values_are_looked_at_once_and_all() -> None:
    """Right values come back although others are wrong; None is left out."""
    known = kinds()["baseline"].run_parameters
    values, faults = check_parameters(
        {"seed": np.int8(3), "repeats": None, "replicates": 1, "x y": 2}, known
    )
    assert values == {"seed": 3}
    assert [fault.split(":")[0].split(";")[0] for fault in faults] == [
        "'x y' is not a name",
        "replicates",
    ]


@pytest.mark.parametrize(
    ("grid", "fault"),
    [
        ("seed: [1, true]", "grid.seed: found True; allowed: a whole number"),
        ("seed: [1, null]", "grid.seed: found null; allowed: a list of values"),
        ("seed: ['7']", "grid.seed: found '7'; allowed: a whole number"),
        ("event_rate_per_driver: [1e-3, 1e5]", "grid.event_rate_per_driver: found 100000.0; allo"),
        ("sed: [1]", "grid.sed: no such parameter (did you mean seed?); allowed: repeats, "),
        ("'a=1;b': [1]", "grid.'a=1;b' is not a name; allowed: repeats, "),
        ("experiment: [001-baseline]", "grid.experiment: no such parameter"),
        ("zip: [{sed: [1], repeats: [10]}]", "grid.zip[1].sed: no such parameter (did you mean"),
    ],
)
def test_a_grid_is_held_to_the_same(own_project: Project, grid: str, fault: str) -> None:
    """Its names and values are those of -p; the place in the file is named."""
    path = own_project.experiments / SMOKE / "experiment.yaml"
    head, _, tail = path.read_text().partition("grid:\n")
    path.write_text(f"{head}grid: {{{grid}}}\n{tail.partition('seeds:')[2].partition(chr(10))[2]}")
    with pytest.raises(InputError) as refused:
        load_experiment(own_project, SMOKE)
    assert refused.value.faults[0].startswith(fault)


# --- papermill by itself -------------------------------------------------------------------------


def opened(name: str, parameters: dict[str, Any]) -> Any:
    """Return the run that a notebook opens when papermill gave it parameters; no kernel starts."""
    notebook = load_notebook_node(str(ROOT / "notebooks" / name))
    notebook = parameterize_notebook(notebook, parameters)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    end = next(i for i, cell in enumerate(code) if cell.get("id") == "open")
    namespace: dict[str, Any] = {"In": [""]}
    for cell in code[: end + 1]:
        namespace["In"].append(cell.source)
        exec(compile(cell.source, name, "exec"), namespace)  # noqa: S102 (our own notebook)
    return namespace["run"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_its_run_with_what_papermill_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest stays as the YAML says, but for what keeps the notebook short."""
    # To open a run takes no Dask, only to go on; the extra need not be installed for this.
    monkeypatch.setattr("fleetsim.base.cluster.require_dask", lambda where: None)
    run = opened(name, {"results": str(tmp_path), "seed": 5, "event_rate_per_driver": 2.5})
    short = {
        row.name: row.default
        for row in kind_of_notebook(name).run_parameters.values()
        if row.default is not None
    }
    given = {**short, "seed": 5, "event_rate_per_driver": 2.5}
    own = load_experiment(Project(ROOT), parameters_of(name)["experiment"].default, given)
    assert run.experiment.parameters == own.parameters
    assert given.items() <= own.parameters.items()
    assert run.folder.parent.parent == tmp_path


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"seed": "true"}, "seed: found 'true'"),  # papermill's -p makes no truth value of it
        ({"seed": True}, "seed: found True"),
        ({"seed": np.int64(7)}, "seed: found '"),  # papermill turns it into text
        ({"seed": (7, 8)}, "seed: found "),
        ({"event_rate_per_driver": "1e-3"}, "event_rate_per_driver: found '1e-3'"),  # from -f
        ({"sed": 7}, "sed: no such parameter (did you mean seed?); allowed: experiment, results"),
        ({"sed": 7, "seed": 5, "ratee": 1}, "sed: no such parameter"),
        ({"experiment": 1}, "experiment: found 1; allowed: text"),
        ({"results": 1}, "results: found 1; allowed: text"),
        ({"repeats": 3}, "repeats: found 3"),
        ({"experiment": "001-basline"}, "found '001-basline' (did you mean 001-baseline?)"),
        (
            {"experiment": "003-calibration"},
            "experiment: found '003-calibration' of kind calibration,",
        ),
    ],
    ids=repr,
)
def test_the_notebook_refuses_what_papermill_lets_through(
    parameters: dict[str, Any], fault: str
) -> None:
    """Its second cell stops it, before a folder appears."""
    with pytest.raises(InputError) as refused:
        opened("experiment.ipynb", parameters)
    assert refused.value.faults[0].startswith(fault)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a=1;import math;b", "'import math' is not a name"),
        ("math.pi", "'math.pi = 5' is not a name"),
        ("!true #", "is not a name"),
    ],
)
def test_code_that_papermill_ran_is_found_out(name: str, told: str) -> None:
    """It ran, which only `fleetsim run` prevents; the notebook goes no further."""
    known = dict.fromkeys(parameters_of("experiment.ipynb"))
    cell = f"# Parameters\n{name} = 5\n"
    with pytest.raises(InputError) as refused:
        take_parameters("experiment.ipynb", {**known, "In": ["", "x = 1", cell]})
    assert any(told in fault for fault in refused.value.faults)


def test_a_notebook_that_lost_a_parameter_says_so() -> None:
    """Also where no history of cells is there; names of the user's own do not matter."""
    known: dict[str, Any] = dict.fromkeys(parameters_of("experiment.ipynb"))
    assert take_parameters("experiment.ipynb", {**known, "mine": 5, "In": ["mine = 5"]}) == known
    known.pop("seed")
    with pytest.raises(InputError, match="seed: not declared by this notebook"):
        take_parameters("experiment.ipynb", known)


@pytest.mark.notebook
def test_papermill_itself_stops_at_an_unknown_name(tmp_path: Path) -> None:
    """In a real kernel, too: the history of cells has what papermill put in."""
    with pytest.raises(papermill.PapermillExecutionError, match=r"did you mean seed\?"):
        papermill.execute_notebook(
            str(ROOT / "notebooks" / "experiment.ipynb"),
            str(tmp_path / "out.ipynb"),
            parameters={"sed": 7, "results": str(tmp_path / "results")},
            kernel_manager_class=OwnKernelManager,
            progress_bar=False,
        )
    assert not (tmp_path / "results").exists()


def test_the_front_door_takes_parameters() -> None:
    """``fleetsim.take_parameters`` is what the notebooks call."""
    assert fleetsim.take_parameters is take_parameters
    for name in NOTEBOOKS:
        text = (ROOT / "notebooks" / name).read_text(encoding="utf-8")
        assert f'fleetsim.take_parameters(\\"{name}\\", globals())' in text
        assert json.dumps(parameters_cell(name).splitlines()[0])[1:-1] in text


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["-p", "seed", "7"], {"seed": 7}),
        (["-p", "seed=7"], {"seed": 7}),
        (["--parameter", "seed=7", "-p", "repeats", "10"], {"seed": 7, "repeats": 10}),
        (["-p", "batch_interval=PT5M"], {"batch_interval": "PT5M"}),
    ],
)
def test_a_parameter_is_two_words_or_one(
    words: list[str], seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fleetsim_cli: Cli
) -> None:
    """Both ways come to the same values."""
    given: list[dict[str, Any]] = []

    def look(project: Any, name: str, parameters: dict[str, Any]) -> None:
        given.append(parameters)
        raise InputError("seen", "enough")

    monkeypatch.setattr("fleetsim.experiment.spec.load_experiment", look)
    fleetsim_cli("run", "000-smoke", *words)
    assert given == [seen]
