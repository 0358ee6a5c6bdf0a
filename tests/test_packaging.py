"""The files around the library agree with each other and hold what they promise."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from support import copy_project, tracked

import fleetsim

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DIRECT = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]
PYTHONS = ("3.11.2", "3.12.1", "3.13.0")
SYSTEMS = (
    ("linux", "Linux", "x86_64"),
    ("linux", "Linux", "aarch64"),
    ("darwin", "Darwin", "arm64"),
)

# conda's names where they are not PyPI's.
CONDA_NAMES = {
    "jupyter-client": "jupyter_client",
    "duckdb": "python-duckdb",
    "matplotlib": "matplotlib-base",
    "playwright": "playwright-python",
    "universal-pathlib": "universal_pathlib",
}


class Pin(NamedTuple):
    """One entry of the lock: a version, where it applies, its hashes, and who asked for it."""

    requirement: Requirement
    hashes: list[str]
    via: list[str]

    @property
    def version(self) -> str:
        """Return the version that is pinned."""
        (specifier,) = self.requirement.specifier
        return specifier.version

    def applies(self, environment: dict[str, str]) -> bool:
        """Return whether this entry is installed in an environment."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate(environment)


def _pins() -> list[Pin]:
    pins: list[Pin] = []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            pins.append(Pin(Requirement(line.removesuffix("\\")), [], []))
        elif found := re.fullmatch(r" +--hash=(\S+)(?: \\)?", line):
            pins[-1].hashes.append(found[1])
        elif found := re.fullmatch(r" +# +(?:via)? *(.*)", line):
            pins[-1].via.append(found[1])
        else:
            pytest.fail(f"requirements.lock: not a pin, a hash or a comment: {line}")
    return pins


def _environments() -> Iterator[dict[str, str]]:
    for python in PYTHONS:
        for sys_platform, platform_system, machine in SYSTEMS:
            yield {
                "implementation_name": "cpython",
                "os_name": "posix",
                "platform_machine": machine,
                "platform_python_implementation": "CPython",
                "platform_system": platform_system,
                "python_full_version": python,
                "python_version": python.rpartition(".")[0],
                "sys_platform": sys_platform,
                "extra": "",
            }


def _tracked() -> list[Path]:
    """Return the files that git tracks."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    return list(tracked())


def _lines_with(pattern: str) -> list[str]:
    """Return file, line number and text of what matches in tracked files."""
    regex = re.compile(pattern.encode())
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace').strip()[:100]}"
        for path in _tracked()
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1)
        if regex.search(line)
    ]


def _folder(tmp_path: Path) -> Path:
    """Return a folder, with a space in its name, that holds what `make setup` reads."""
    folder = tmp_path / "a clone"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", ".ci/setup", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def _make(folder: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    """Run make as if by hand, not as part of the make that may run these tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    kept.pop("MFLAGS", None)
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=kept | {"PATH": path}, capture_output=True, text=True
    )


def test_every_pin_is_one_version_with_hashes() -> None:
    """Every entry of the lock names one exact version and at least one SHA-256."""
    for pin in _pins():
        assert [specifier.operator for specifier in pin.requirement.specifier] == ["=="], pin
        assert pin.hashes, pin
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", text) for text in pin.hashes), pin


def test_lock_names_no_address() -> None:
    """The lock holds neither options nor addresses, so it works with any mirror."""
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE)


def test_lock_has_one_version_in_range_for_every_dependency_everywhere() -> None:
    """On each supported Python and system, one pin of each dependency applies, within its range."""
    pins = _pins()
    for environment in _environments():
        for dependency in DIRECT:
            versions = [
                pin.version
                for pin in pins
                if canonicalize_name(pin.requirement.name) == canonicalize_name(dependency.name)
                and pin.applies(environment)
            ]
            assert len(versions) == 1, (dependency, environment, versions)
            assert dependency.specifier.contains(versions[0], prereleases=True), dependency


def test_lock_never_has_two_versions_in_one_place() -> None:
    """In no supported environment do two pins of one package apply."""
    for environment in _environments():
        names = [pin.requirement.name for pin in _pins() if pin.applies(environment)]
        assert len(names) == len(set(names))


def test_lock_was_made_from_these_dependencies() -> None:
    """What the lock says pyproject asked for is what pyproject asks for."""
    asked = {
        canonicalize_name(pin.requirement.name)
        for pin in _pins()
        if any(source.startswith("fleetsim (pyproject.toml)") for source in pin.via)
    }
    assert asked == {canonicalize_name(dependency.name) for dependency in DIRECT}


def test_build_needs_only_what_is_locked() -> None:
    """The build backend is in the lock, and an editable installation asks for nothing else."""
    locked = {canonicalize_name(pin.requirement.name) for pin in _pins()}
    assert {Requirement(text).name for text in PYPROJECT["build-system"]["requires"]} <= locked
    assert PYPROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"] == ["."]


def test_conda_environment_has_the_same_ranges() -> None:
    """environment.yml lists every dependency, under conda's name, with pyproject's range."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (through_pip,) = (entry["pip"] for entry in entries if isinstance(entry, dict))
    *not_in_conda, ours = through_pip
    assert ours == "-e ."
    found = [Requirement(text) for text in not_in_conda]
    conda = {dependency.name: dependency.specifier for dependency in found}
    for entry in entries:
        if isinstance(entry, str):
            name, version_range = re.fullmatch(r"([\w.-]+)(.*)", entry).groups()
            assert name not in conda, f"{name} is listed twice"
            conda[name] = SpecifierSet(version_range)
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    conda.pop("pip")
    ranges = {
        CONDA_NAMES.get(dependency.name, dependency.name): dependency.specifier
        for dependency in DIRECT
    }
    assert conda == ranges


def test_supported_pythons_are_named_alike() -> None:
    """requires-python, the classifiers and the set-up agree on 3.11, 3.12 and 3.13."""
    wanted = SpecifierSet(PROJECT["requires-python"])
    supported = [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in wanted]
    classified = [
        text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python :: 3." in text
    ]
    assert classified == supported
    setup = (ROOT / ".ci/setup").read_text()
    assert f"for name in {' '.join(f'python{text}' for text in reversed(supported))} " in setup
    assert "(3, 11) <= sys.version_info < (3, 14)" in setup
    assert supported == ["3.11", "3.12", "3.13"]


def test_no_tracked_file_names_a_registry() -> None:
    """No tracked file holds a package registry's host name."""
    hosts = [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("pypi", "python", "org"),
        ("anaconda", "org"),
        ("anaconda", "com"),
        ("npmjs", "org"),
        ("ghcr", "io"),
        ("quay", "io"),
    ]
    assert _lines_with("|".join(r"\b" + r"\.".join(parts) for parts in hosts)) == []


def test_no_tracked_file_holds_a_path_of_a_machine() -> None:
    """No tracked file holds an absolute path into somebody's home or work folder."""
    folders = "|".join(("home", "Users", "root", "work"))
    assert _lines_with(rf"(?<![\w.*)}}-])/(?:{folders})/|[A-Z]:\\Users") == []


def test_every_target_of_make_has_help_and_is_phony(tmp_path: Path) -> None:
    """`make`, without a goal, lists every target with what it does, and each is phony."""
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][\w-]*):(?!=)", text, re.MULTILINE)
    assert set(targets) >= {"setup", "run", "test", "test-browser", "lint", "format", "lab", "lock"}
    shown = _make(_folder(tmp_path), path=os.environ["PATH"])
    assert shown.returncode == 0, shown.stderr
    rows = [re.fullmatch(r"make (\S+) +(\S.*)", line) for line in shown.stdout.splitlines()]
    assert [row[1] for row in rows if row] == targets
    assert re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split() == targets


def test_makefile_keeps_to_what_macos_has() -> None:
    """The Makefile uses nothing that GNU make 3.81, which macOS has, does not know."""
    text = (ROOT / "Makefile").read_text()
    assert not re.search(r"\.ONESHELL|\$\(file |&:|^\w+ *!=|::=|\$\(intcmp|\$\(let ", text, re.M)


def test_unknown_extra_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    """An unknown extra is named beside the known ones; nothing is made; broken shims are passed."""
    folder = _folder(tmp_path)
    shims = tmp_path / "shims"
    shims.mkdir()
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        (shims / name).write_text(f"#!/bin/sh\necho '{name}: command not found' >&2\nexit 127\n")
        (shims / name).chmod(0o755)
    done = _make(
        folder, "setup", "EXTRAS=dev,lbas", path=f"{shims}{os.pathsep}{os.environ['PATH']}"
    )
    assert done.returncode == 2
    known = ", ".join(sorted(PROJECT["optional-dependencies"]))
    assert f"setup: no such extra: lbas (pyproject.toml has {known})" in done.stderr
    assert not (folder / ".venv").exists()


def test_missing_python_is_a_clear_error(tmp_path: Path) -> None:
    """Where no suitable Python is found, the set-up says what to install."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("awk", "cat", "cksum", "dirname", "make", "sed", "sh", "sort"):
        (tools / name).symlink_to(shutil.which(name))
    done = _make(_folder(tmp_path), "setup", path=str(tools))
    assert done.returncode == 2
    assert "setup: no Python 3.11, 3.12 or 3.13 with venv on PATH" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


@pytest.mark.parametrize("with_flock", [True, False])
def test_a_second_setup_waits_for_the_first(tmp_path: Path, with_flock: bool) -> None:
    """It says so, and goes on when the first ends; so too where there is no flock command."""
    tools = tmp_path / "bin"
    tools.mkdir()
    if with_flock and shutil.which("flock") is None:
        pytest.skip("no flock here")
    for name in "awk cat cksum dirname rm sed sh sort".split() + ["flock"] * with_flock:
        (tools / name).symlink_to(shutil.which(name))  # type: ignore[arg-type]
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    folder = _folder(tmp_path)
    command = ["sh", ".ci/setup", "no-such-extra"]
    environment = {"PATH": str(tools)}
    with open(folder / ".ci" / "setup", "rb") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = subprocess.Popen(
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert "waiting for another make setup" in second.stderr.readline()
        assert second.poll() is None
    _, rest = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "no such extra" in rest
    alone = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert "waiting" not in alone.stderr


@pytest.mark.parametrize(("script", "shell"), [(".ci/run", "bash"), (".ci/setup", "sh")])
def test_scripts_are_executable_and_parse(script: str, shell: str) -> None:
    """The scripts can be called as they are, and stop at the first error."""
    path = ROOT / script
    assert os.access(path, os.X_OK)
    text = path.read_text()
    assert re.search(r"^set -eu", text, re.MULTILINE)
    subprocess.run([shell, "-n", str(path)], check=True)


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def test_image_runs_experiment_001_as_an_ordinary_user() -> None:
    """The image's entry point is fleetsim, its command experiment 001, its user not root."""
    instructions = _instructions()
    last = dict(instructions)
    first, _ = instructions[:2]
    # Patch and Debian release are named; another image is a build argument.
    assert first[0] == "ARG"
    assert re.fullmatch(r"BASE=python:3\.1[123]\.\d+-slim-[a-z]+", first[1])
    assert [value for name, value in instructions if name == "FROM"] == [
        "${BASE} AS build",
        "${BASE}",
    ]
    assert last["ENTRYPOINT"] == '["fleetsim"]'
    assert last["CMD"] == '["run", "001-baseline"]'
    assert last["USER"] == "fleetsim"
    assert [name for name, _ in instructions].index("USER") > max(
        place for place, (name, _) in enumerate(instructions) if name == "RUN"
    )
    environment = " ".join(value for name, value in instructions if name == "ENV")
    assert "FLEETSIM_ROOT=/app" in environment
    assert last["WORKDIR"] == "/app"


def test_image_needs_no_special_builder() -> None:
    """The Dockerfile has no heredoc, no mount, no link and no syntax line."""
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"<<|--mount|--link|^# *syntax=", text, re.MULTILINE)


def test_image_installs_from_the_lock_with_hashes() -> None:
    """Each installing step of the image checks hashes or installs ours without dependencies."""
    steps = [
        step.strip()
        for name, value in _instructions()
        if name == "RUN"
        for step in value.split("&&")
        if re.search(r"\bpip install\b", step)
    ]
    assert len(steps) == 4
    for step in steps:
        assert (
            "--require-hashes" in step
            or "--constraints requirements.lock" in step
            or "--no-deps /opt/wheel/*.whl" in step
        ), step


def _stages() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the instructions of the stage that builds, and of the one that is the image."""
    instructions = _instructions()
    second = [place for place, (name, _) in enumerate(instructions) if name == "FROM"][1]
    return instructions[:second], instructions[second:]


def test_image_holds_no_tool_that_made_it() -> None:
    """The lock, uv and hatchling stay in the first stage."""
    build, image = _stages()
    assert "COPY pyproject.toml requirements.lock ./" in [" ".join(step) for step in build]
    text = "\n".join(value for name, value in image if name in ("RUN", "COPY"))
    assert not re.search(r"\buv\b|hatchling|requirements|/opt/tools|\bpip\b", text)


def test_kernel_is_compiled_before_what_changes_often_is_copied() -> None:
    """README, notebooks and experiments come after the layer with the kernel."""
    build, _ = _stages()
    steps = [" ".join(step) for step in build]
    kernel = next(place for place, step in enumerate(steps) if "compile_kernel()" in step)
    assert not re.search(r"README|notebooks|experiments", " ".join(steps[: kernel + 1]))


def test_image_takes_extras_as_an_argument() -> None:
    """What the argument becomes, for none, one and two extras."""
    build, _ = _stages()
    assert any(name == "ARG" and value.startswith("EXTRAS=") for name, value in build)
    (made,) = re.findall(r"\$\((printf [^)]*\$EXTRAS[^)]*)\)", (ROOT / "Dockerfile").read_text())
    for extras, words in (
        ("", ""),
        ("lab", "--extra lab"),
        ("cluster,lab", "--extra cluster --extra lab"),
    ):
        done = subprocess.run(
            ["sh", "-c", made], env={**os.environ, "EXTRAS": extras}, capture_output=True, text=True
        )
        assert done.stdout.strip() == words


def test_image_works_for_any_user_and_any_umask() -> None:
    """No folder is sticky; what is written to is open; what was copied can be read."""
    _, image = _stages()
    last = "\n".join(value for name, value in image if name == "RUN")
    assert not re.search(r"chmod [^&]*\b1\d{3}\b|\+t\b", last)
    assert "chmod -R a+rwX data landing results experiments notebooks" in last
    assert "chmod -R a+rX fleetsim" in last
    labels = dict(re.findall(r'(org\.opencontainers\.image\.\w+)="([^"]+)"', str(image)))
    assert labels["org.opencontainers.image.version"] == fleetsim.__version__
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]


def test_builder_gets_every_file_that_is_copied() -> None:
    """.dockerignore lets through exactly what the Dockerfile copies, and this exists."""
    copied = {
        source
        for name, value in _instructions()
        if name == "COPY" and not value.startswith("--from=")
        for source in value.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert sorted(copied) == sorted(line[1:] for line in ignore if line.startswith("!"))
    assert all((ROOT / source).exists() for source in copied)


def test_compose_has_a_generator_that_stays_up_a_lab_and_a_feed() -> None:
    """All services have the same volumes; the lab alone is published, on loopback only."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    generator, lab, feed = (compose["services"][name] for name in ("generator", "lab", "feed"))
    assert generator["entrypoint"] == ["sleep", "infinity"]
    assert generator["init"] is True
    for service in (generator, lab, feed):
        mounts = [mount.split(":") for mount in service["volumes"]]
        assert [target for _, target in mounts] == ["/app/data", "/app/results", "/app/landing"]
        assert {source for source, _ in mounts} == set(compose["volumes"])
        assert "user" not in service
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["stop_grace_period"]
        assert "lab" in service["build"]["args"]["EXTRAS"]
    assert lab["healthcheck"]["test"][0] == "CMD"
    assert "healthcheck" not in generator
    assert feed["entrypoint"][:2] == ["fleetsim", "deliver"]
    assert feed["entrypoint"][3].startswith("/app/landing/")
    assert "--endless" in feed["entrypoint"]
    assert "ports" not in feed
    assert lab["ports"] == ["127.0.0.1:8888:8888"]
    assert "ports" not in generator
    assert not re.search(r"token|password", " ".join(lab["command"]), re.IGNORECASE)


def test_citation_is_of_this_version() -> None:
    """CITATION.cff names the version of the package, a real date and the licence."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == fleetsim.__version__
    assert isinstance(citation["date-released"], date)
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert citation["title"] == PROJECT["name"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["message"]


def test_licence_is_there() -> None:
    """LICENSE is the MIT licence of the fleetsim authors."""
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The fleetsim authors\n")
    assert PROJECT["license-files"] == ["LICENSE"]


def test_what_is_hashed_keeps_its_bytes() -> None:
    """Git converts no line ends in data and golden files, on any machine."""
    rules = (ROOT / ".gitattributes").read_text().splitlines()
    assert "* text=auto eol=lf" in rules
    assert {"*.jsonl -text", "results/** -text", "tests/generate/golden/** -text"} <= set(rules)


def test_tests_take_what_git_lists_and_not_what_a_user_made() -> None:
    """No test copies or lists the project's own folders but by the helpers of tests/support.py."""
    folders = "|".join(("experiments", "notebooks", "results"))
    direct = re.compile(
        rf"""copytree\(\s*ROOT(?! / "fleetsim")|Project\(ROOT\)\.experiment_ids"""
        rf"""|ROOT / "(?:{folders})"\)\.(?:r?glob|iterdir|walk)\("""
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / "tests").rglob("*.py")
        for match in direct.finditer(path.read_text(encoding="utf-8"))
        if path != Path(__file__)
    ]
    assert found == []


def test_what_a_user_made_is_not_copied(tmp_path: Path) -> None:
    """An experiment and runs that git does not know stay out of the tests' projects."""
    ours = {path.relative_to(ROOT) for path in tracked()}
    copy_project(tmp_path, "experiments", "notebooks", "results")
    copied = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert copied
    assert copied <= ours
    assert {path.parts[1] for path in copied if path.parts[0] == "results"} == {"001-baseline"}
