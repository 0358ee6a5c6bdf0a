"""docs/defects.md: its lines are those that the generator writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from support import AT, AT_US, ROOT, Cli

from fleetsim import make_fleet
from fleetsim.base.clock import Instant
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import write_batches
from fleetsim.generate.config import make_config
from fleetsim.generate.defects import DEFECT_KINDS

PAGE = (ROOT / "docs" / "defects.md").read_text(encoding="utf-8")
CONFIG = {
    "seed": 7,
    "number_of_companies": 1,
    "drivers_per_company": 2,
    "event_rate_per_driver": 8,
    "company_onboarding_interval": "PT1H",
}


def lines(output: Path, defects: dict[str, float]) -> list[tuple[Path, list[bytes]]]:
    """Return the folders and lines of two batches."""
    config = make_config({**CONFIG, "defects": defects} if defects else CONFIG)
    fleet = make_fleet(config, at="2025-11-08T11:00:00Z")
    made = write_batches(
        config,
        fleet,
        output,
        start_us=AT_US,
        started=Instant.now(),
        options=WriteOptions(batches=2),
    )
    return [(b.path, (b.path / "events.jsonl").read_bytes().splitlines()) for b in made]


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_the_line_of_a_kind_is_that_of_the_generator(kind: str, tmp_path: Path) -> None:
    """The record of the page, struck with the first defect of the kind."""
    (clean,) = re.findall(r"^```json\n(.*)\n```", PAGE, re.MULTILINE)
    part = PAGE.partition(f"\n### {kind}\n")[2].partition("\n##")[0]
    (shown,) = re.findall(r"^```text\n(.*)\n```", part, re.MULTILINE)
    (_, plain), _ = lines(tmp_path / "clean", {})
    assert clean.encode() == plain[0]
    entries = [
        (entry, dirty)
        for batch, dirty in lines(tmp_path / "dirty" / "events", {kind: 0.5})
        for entry in read_ledger(ledger_path(batch), None)
    ]
    entry, dirty = entries[0]
    assert entry.event_id == json.loads(clean)["event_id"]
    assert dirty[entry.line - 1].decode("latin-1").encode("unicode_escape") == shown.encode()
    assert f"Expect: `{DEFECT_KINDS[kind].expect}`" in part.replace("\n", " ")
    for name in ("copy_of", "from_batch"):
        value = getattr(entry, name)
        assert (value is None) == (name not in part)
        assert value is None or f"line {entry.line} of" in part
        assert value is None or f"{value}. " in part.replace("\n", " ")


def test_the_commands_of_the_page_work(
    tmp_path: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, with the rates of the page, and at a fixed time: chance is fixed too."""
    monkeypatch.chdir(tmp_path)
    (rates,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    values = {**CONFIG, "number_of_companies": 50, "seed": 3}
    Path("config.yaml").write_text(yaml.safe_dump(values) + rates)
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    commands = block.splitlines()
    assert len(commands) == 4
    for command in commands:
        typed = command.replace("--now", f"--interval-start {AT}").split()[1:]
        done = fleetsim_cli(*typed, *(["--at", AT] if "companies" in typed[:1] else []))
        assert done.code == 0, done
        if "audit" in command:
            assert "Nothing found" in done.out
            assert "Explained by the ledger" in done.out


def test_every_kind_is_there_in_its_order() -> None:
    """And no other."""
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == list(DEFECT_KINDS)
