"""What the commands have in common leaves the process as it was."""

import json
import subprocess
import sys

from click import Choice

from fleetsim.base.verdict import VERDICTS
from fleetsim.cli.runs import runs, sweep
from fleetsim.experiment.results import ENDED, Engine
from fleetsim.runner.engines import ENGINES

LOADS = """
import json, sys
from fleetsim.cli.shared import load_jsonschema
load_jsonschema()
import papermill
print(json.dumps([name in sys.modules for name in ("jsonschema", "rfc3987_syntax")]))
"""


def test_jsonschema_is_loaded_without_its_grammar_and_nothing_is_left_behind() -> None:
    """Papermill's imports do not load it either, and whoever wants the grammar can import it."""
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, False]


def test_the_choices_of_commands_are_those_of_the_enums() -> None:
    """Engines, statuses and verdicts are named once."""
    found = {
        (command.name, option.name): tuple(option.type.choices)
        for command in (sweep, runs)
        for option in command.params
        if isinstance(option.type, Choice)
    }
    assert found == {
        ("sweep", "engine"): ("notebook", "library"),
        ("runs", "status"): ("completed", "failed"),
        ("runs", "verdict"): ("pass", "fail", "inconclusive"),
    }
    assert [tuple(map(str, values)) for values in (Engine, ENDED, VERDICTS)] == list(found.values())
    assert set(ENGINES) == set(Engine)
