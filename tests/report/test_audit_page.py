"""The page of an audit: the answer, where the data depart, nothing that a name could bring in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import AT, Cli, Project


@pytest.fixture
def data(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a project with one batch of some hundred events."""
    project.write(number_of_companies=20, event_rate_per_driver=6.0)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    assert fleetsim_cli(*project.make_events()).code == 0
    return project


def page_of(data: Project, fleetsim_cli: Cli, code: int) -> str:
    """Return the page of an audit that ends with a code."""
    page = data.events.parent / "pages" / "audit.html"
    done = fleetsim_cli("audit", data.events, "--config", data.config, "--html", page)
    assert done.code == code, done.err
    assert f"page: {page}" in done.out
    return page.read_text()


def test_fault_free_data_have_nothing_against_them(data: Project, fleetsim_cli: Cli) -> None:
    """Pictures and all questions are there, folded; no test says no."""
    text = page_of(data, fleetsim_cli, 0)
    assert "Nothing speaks against it." in text
    assert re.search(
        r"1 batch, \d+ lines: no fault was found, and none of \d+ tests says no\.", text
    )
    assert text.count("data:image/svg+xml;base64,") == 4
    assert "Where the data depart" not in text
    assert "<script" not in text


def test_a_crowded_minute_is_named_once(data: Project, fleetsim_cli: Cli) -> None:
    """Several questions have a no for one reason; the parts of the interval stand once."""
    events = data.batch / "events.jsonl"
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % 2:
            row["timestamp"] = row["timestamp"][:14] + f"14:{number % 60:02d}.{number:06d}Z"
    events.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    text = page_of(data, fleetsim_cli, 3)
    assert '<strong class="fail">No.</strong>' in text
    assert "Are the events spread evenly over the interval? No." in text
    assert text.count("864 to 900 s: ") == 1
    assert re.search(r"\d+ faults in the files and \d+ of \d+ tests say no", text)


def test_json_goes_along_with_a_page(data: Project, fleetsim_cli: Cli, tmp_path: Path) -> None:
    """The page is named on stderr then, and each test says where in the JSON."""
    page = tmp_path / "p.html"
    data.write(event_rate_per_driver=9.0)
    done = fleetsim_cli("audit", data.events, "--config", data.config, "--html", page, "--json")
    assert done.code == 3
    tests = {test["name"]: test for test in json.loads(done.out)["groups"][0]["tests"]}
    assert tests["event_count"]["where"][0].startswith("batch 20251108T120000Z: ")
    assert tests["event_types"]["where"] == []
    assert f"page: {page}" in done.err
