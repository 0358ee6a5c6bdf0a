"""What others wrote never steers the terminal, whichever way it comes there."""

import json
import logging
import re
import unicodedata

import msgspec
import pytest
from made_runs import failed, made_record, write_run
from support import ROOT

from fleetsim.base.tables import Table
from fleetsim.base.terminal import on_one_line, printable, warn

STEERING = "\x1b[2J\x1b]0;t\x07\x9b31m\r\x08\x7f\x00\u202e\u2066\u200b\ufeff\u2028\x85\U000e0041"
NAME = "x\x1b[2J\r\x7f\u202ey"  # a file may be called so


def raw(text):
    """Return the characters of a text that steer, but for line feeds and tabs."""
    steering = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {char for char in text if unicodedata.category(char) in steering} - {"\n", "\t"}


def test_what_steers_is_shown_escaped():
    """All else stays: letters of any script, emoji with joiners, spaces that do not break."""
    for text in (STEERING, STEERING + "\ud800"):
        assert raw(printable(text)) == set()
    assert printable("\x1b[2J \u202e \x85 \U000e0041") == "\\x1b[2J \\u202e \\x85 \\U000e0041"
    for kept in (
        "a\tb\nc",
        "été – 5\N{NO-BREAK SPACE}%",
        "שלום",
        "👩\N{ZERO WIDTH JOINER}🔬",
        "a\\b",
    ):
        assert printable(kept) == kept
    assert on_one_line("a\nb\tc\r") == "a b c\\r"


def test_tables():
    """Headers and cells, in whichever column, on their own line."""
    text = Table((STEERING, "b"), ((f"x\n{STEERING}", STEERING), ("y", f"z\n{STEERING}"))).text()
    assert raw(text) == set()
    assert [line[0] for line in text.splitlines()[:1]] == ["\\"]
    assert sum(line.startswith(("x", "y")) for line in text.splitlines()) == 2


def test_warnings(caplog):
    """What is logged goes to the terminal where nobody asks for it."""
    with caplog.at_level(logging.WARNING):
        warn("fleetsim", f"{STEERING}%s%d")
    assert raw(caplog.messages[0]) == set()
    assert caplog.messages[0].endswith("%s%d")


@pytest.fixture
def results(tmp_path):
    """Return results whose names and records want to steer."""
    results = tmp_path / "results"
    for name in ("r1", "r2"):
        record = msgspec.structs.replace(
            made_record(name), experiment=STEERING, run_id=f"{STEERING}{name}"
        )
        record = msgspec.structs.replace(
            record,
            config={**record.config, "event_types": {STEERING: 1.0}},
            parameters={**record.parameters, STEERING: f"{STEERING}{name}", "seed": name},
            criteria=[
                msgspec.structs.replace(c, id=f"{c.id}{STEERING}", title=STEERING, note=STEERING)
                for c in record.criteria
            ],
            provenance={**record.provenance, f"cpu{STEERING}": f"{STEERING}{name}"},
        )
        if name == "r2":
            record = failed(record, STEERING)
        folder = results / NAME / f"{name}{NAME}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_bytes(record.encode())
    write_run(results, made_record("r3"))
    (results / "000-smoke" / NAME).mkdir()
    (results / "000-smoke" / f"{NAME}2").symlink_to("/tmp")
    (results / "000-smoke" / "r3" / NAME).symlink_to(f"/tmp/{NAME}")
    return results


@pytest.mark.parametrize(
    "command",
    [
        ("runs",),
        ("runs", "--json"),
        ("runs", "--html"),
        ("runs", "--sort", STEERING),
        ("runs", "--sort", "nothing"),
        ("runs", "--experiment", NAME),
        ("report", f"{NAME}/r1{NAME}", "--check"),
        ("report", f"{NAME}/r1{NAME}"),
        ("report", "000-smoke/r3"),
        ("report", NAME),
        ("compare", f"{NAME}/r1{NAME}", f"{NAME}/r2{NAME}"),
        ("compare", f"{NAME}/r1{NAME}", f"{NAME}/r2{NAME}", "--json"),
        ("verify", f"{NAME}/r1{NAME}"),
        ("verify", NAME),
        ("run", NAME),
        ("--debug", "run", NAME),
        ("run", "000-smoke", "-p", NAME, NAME),
        ("run", "000-smoke", "-p", "seed", NAME),
        ("check", NAME),
        ("sweep", NAME),
        ("audit", NAME, "--config", NAME),
        ("companies", "--config", NAME, "--output", NAME),
        ("companies", "--at", NAME),
        (NAME,),
        (f"--{NAME}",),
        ("runs", f"--{NAME}"),
        ("runs", "--status", NAME),
    ],
    ids=lambda command: re.sub(r"[^a-z0-9-]+", "_", " ".join(command)),
)
def test_commands(fleetsim_cli, results, command, monkeypatch):
    """Every way in which a command repeats a name, a record or an error."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(ROOT))
    reads = command[0] in ("runs", "report", "compare", "verify", "run", "sweep")
    where = ("--results", results) if reads else ()
    done = fleetsim_cli(*command, *where)
    assert done.out or done.err
    assert raw(done.out + done.err) == set()
    if "--json" in command:
        json.loads(done.out)


def test_nothing_else_prints():
    """Commands speak by `tell` and `say` alone, and what they use does not print."""
    speaking = re.compile(r"click\.s?echo|\bprint\(|print_exc|sys\.std(out|err)\.write|secho")
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fleetsim").rglob("*.py")
        if speaking.search(path.read_text(encoding="utf-8"))
    }
    allowed = {"cli/shared.py", "cli/main.py", "measure/launcher.py", "runner/warm.py"}
    allowed |= {"measure/tree_launcher.py"}  # a record, to the process that started it
    allowed |= {"__main__.py", "experiment/kind.py"}  # a word of ours; a warning, `printable`
    allowed |= {"base/progress.py"}  # numbers, and words of ours
    allowed |= {"cli/debug.py", "kinds/scale_out/run.py"}  # a traceback, `printable`; a notebook
    assert found <= {f"fleetsim/{name}" for name in allowed}
    logging = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fleetsim").rglob("*.py")
        if re.search(r"\)\.warning\(|_log\.warning\(", path.read_text(encoding="utf-8"))
    }
    assert logging == {"fleetsim/base/terminal.py"}  # where it is made `printable`
