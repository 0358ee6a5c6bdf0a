"""The commands and the snippet of docs/scaling.md in turn, as a reader types them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, copy_project

from fleetsim.base.storage import place
from fleetsim.batch.meta import read_meta

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_page_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3) -> None:
    """All of it works in the order in which it stands, with the outputs that it shows."""
    copy_project(tmp_path, "experiments")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for kind, block in blocks:
        if kind == "python":
            words = [sys.executable, "-c", block]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            assert f"```text\n{done.stdout}```" in PAGE
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == ".venv/bin/fleetsim"
            done = subprocess.run(
                [sys.executable, "-m", "fleetsim", *words], capture_output=True, text=True
            )
            assert done.returncode == 0, (line, done.stderr)
    meta = read_meta(place("s3://fleet/data/events/20991108T120000Z"))
    assert meta.event_count == read_meta(tmp_path / "data/events/20991108T120000Z").event_count
