"""A project to begin with, and experiments from a template of their kind.

The package carries notebooks, and the experiments that they run as they stand: an installed one
below ``fleetsim/starter/`` (pyproject.toml puts them there), a checkout beside the package.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fleetsim
from fleetsim.base.errors import FleetsimError, InputError, found
from fleetsim.base.files import exclusive, make_folder, publish_folder, staging_folder
from fleetsim.base.project import Project
from fleetsim.experiment.document import planned_record, render_document
from fleetsim.experiment.kind import DEFAULT_KIND, Kind, find_kind, kinds, origin
from fleetsim.experiment.notebook import notebook_parameters
from fleetsim.experiment.spec import load_experiment

FIRST = "001-baseline"  # what a newcomer runs
_FILES = ("config.yaml", "experiment.yaml", "experiment.md")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HINT = (
    "# From a template, whose claims these still are: write down your own before anything runs.\n"
)
_README = f"""# Experiments with fleetsim

`experiments/` holds one folder for each experiment: its configuration, what it claims, and the
document with its blanks. `notebooks/` holds what runs them. Runs and reports go to `results/`.

```sh
fleetsim list                       # the experiments that are here
fleetsim check {FIRST}         # can its criteria pass at all?
fleetsim run {FIRST}           # its verdicts, and where the report lies
fleetsim new 100-mine               # an experiment of your own, from a template
fleetsim run 031-ingest-first-try   # what a usual script loses of a dirty feed
fleetsim new pipeline 110-ingest    # a script of your own under test
fleetsim sweep 000-smoke --engine library
jupyter lab notebooks/explore.ipynb # half an hour of playing with data and tests
```

Write down what you claim in `experiments/<id>/experiment.yaml`, then `fleetsim check <id>` and
`fleetsim document <id>`, and commit both before you run it.
"""


def kit_file(name: str) -> Path | None:
    """Return a notebook or a file of an experiment that the package carries, None without it.

    Parameters
    ----------
    name : str
        Its path in a project.
    """
    package = Path(fleetsim.__file__).parent
    places = (package / "starter" / name, package.parent / name)
    return next((path for path in places if path.is_file()), None)


def find_notebook(project: Project, name: str) -> Path:
    """Return a notebook of the project, or else that of the package.

    Raises
    ------
    InputError
        Where neither has it.
    """
    own = project.notebooks / name
    path = own if own.is_file() else kit_file(f"notebooks/{name}")
    if path is None:
        raise InputError(project.relative(own), "no such notebook; the project needs it")
    return path


def starter_files() -> dict[str, bytes]:
    """Return the files of a new project by their paths, the notebooks and what they run included.

    Raises
    ------
    FleetsimError
        Where the package came without them.
    """
    outside = {kind.notebook for kind in kinds().values() if origin(kind) is not None}
    notebooks = {n: own for n, own in notebook_parameters().items() if n not in outside}
    first = {p.default for own in notebooks.values() for p in own if p.name == "experiment"}
    names = [f"experiments/{id_}/{file}" for id_ in sorted(first | {FIRST}) for file in _FILES]
    # What such an experiment runs: its folder has files of these names too.
    names += [
        f"experiments/{own['experiment']}/{file}"
        for own in _defaults(kinds().values())
        for file in own["files"]
    ]
    names += [f"notebooks/{name}" for name in sorted(notebooks)]
    paths = {name: kit_file(name) for name in names}
    if missing := [name for name, path in paths.items() if path is None]:
        raise FleetsimError(
            f"this installation of fleetsim came without {', '.join(missing)}\n"
            "  next: install it from a wheel, or work in a clone of its repository"
        )
    files = {name: path.read_bytes() for name, path in paths.items() if path is not None}
    return {"README.md": _README.encode(), **files}


def _defaults(known: Iterable[Kind]) -> Iterator[dict[str, Any]]:
    """Yield the experiment that each kind's notebook runs as it stands, and its files' names."""
    for kind in known:
        if origin(kind) is None:
            name = next(p.default for p in kind.parameters if p.name == "experiment")
            yield {"experiment": name, "files": sorted(kind.files())}


def init_project(folder: Path) -> list[str]:
    """Write a project to begin with into a folder, whole or not at all; return its files.

    Parameters
    ----------
    folder : Path
        It may be missing, and may hold other things.

    Raises
    ------
    InputError
        Where anything stands in the way, with all of it; nothing was written.
    """
    files = starter_files()
    new = not folder.is_dir()
    make_folder(folder)
    try:
        with exclusive(folder, "fleetsim-init.*"):
            _refuse_existing(folder, files)
            with staging_folder(folder / "fleetsim-init") as partial:
                _write(partial, files)
                # What makes a folder a project comes last.
                _move_in(partial, folder, ("notebooks", "README.md", "experiments"))
                partial.rmdir()
    except BaseException:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise
    return sorted(files)


def _refuse_existing(folder: Path, files: Iterable[str]) -> None:
    """Refuse to write where a file is, or a folder with anything in it."""
    there = [name for name in sorted(files) if os.path.lexists(folder / name)]
    for name in ("experiments", "notebooks"):
        inside = [path for path in there if path.startswith(f"{name}/")]
        if not inside and os.path.lexists(folder / name):
            there.append(name)
    if there:
        raise InputError(
            str(folder),
            *(f"{name} exists" for name in there),
            next_step="nothing was written; choose another folder, or move these away",
        )


def _move_in(partial: Path, folder: Path, names: Iterable[str]) -> None:
    """Give finished files and folders their names, all or none."""
    moved: list[str] = []
    try:
        for name in names:
            os.rename(partial / name, folder / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            os.rename(folder / name, partial / name)
        raise


def new_experiment(project: Project, name: str, kind_name: str = DEFAULT_KIND) -> Path:
    """Make an experiment from the template of a kind: its two files, and the document.

    The template is the kind's own, or else the experiment that its notebook runs as it stands.

    Parameters
    ----------
    project : Project
    name : str
        Its id, a folder in ``experiments/`` that is not there yet.
    kind_name : str
        The kind.

    Returns
    -------
    Path
        The folder. It appears whole or not at all.

    Raises
    ------
    InputError
        Where the id cannot be one or is taken, or there is no such kind, or no template of it.
    """
    if not _ID.fullmatch(name):
        raise InputError(
            "ID",
            f"found {found(name)}; allowed: at most 100 letters, digits, dots, dashes and "
            "underscores, the first a letter or a digit",
        )
    kind = find_kind(kind_name)
    config, claims = _template(project, kind)
    today = datetime.now(UTC).date().isoformat()
    claims = _HINT + _with_lines(claims, title=json.dumps(name), date=today, config="config.yaml")
    folder = project.experiments / name
    make_folder(project.experiments)
    with exclusive(project.experiments, "*"), staging_folder(folder) as partial:
        if os.path.lexists(folder):
            raise InputError(
                project.relative(folder),
                "exists; it was left as it is",
                next_step="choose another id",
            )
        # A project of its own, since an experiment is read under the name of its folder.
        staged = Project(partial)
        home = staged.experiments / name
        own = {file: path.read_bytes() for file, path in kind.files().items()}
        _write(home, {"config.yaml": config.encode(), "experiment.yaml": claims.encode(), **own})
        document = render_document(planned_record(load_experiment(staged, name)))
        _write(home, {"experiment.md": document.encode()})
        publish_folder(home, folder)
    return folder


def _template(project: Project, kind: Kind) -> tuple[str, str]:
    """Return configuration and claims that an experiment of a kind begins with."""
    own = kind.template()
    if own is not None:
        config, claims = ((own / file).read_text(encoding="utf-8") for file in _FILES[:2])
        return config, claims
    first = next(p.default for p in kind.parameters if p.name == "experiment")
    for places in (kit_file, lambda path: project.root / path):
        paths = [places(f"experiments/{first}/{file}") for file in _FILES[:2]]
        texts = [path.read_text(encoding="utf-8") for path in paths if path and path.is_file()]
        if len(texts) == len(paths):
            return texts[0], texts[1]
    raise InputError(
        "--kind",
        f"no template of kind {kind.name}: the experiment that {kind.notebook} names is not here",
        next_step=f"put experiments/{first}/ with config.yaml and experiment.yaml into the project",
    )


def _with_lines(text: str, **values: str) -> str:
    """Return a YAML text with other values of keys that stand on one line each."""
    for key, value in values.items():
        text = re.sub(rf"^{key}:.*$", lambda _, line=f"{key}: {value}": line, text, flags=re.M)  # type: ignore[misc]
    return text


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder that nobody else sees yet."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
