"""Words and outputs that want to be more than that do nothing in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pytest

from fleetsim.experiment.record import Record, read_record
from fleetsim.report.html import render_html
from fleetsim.report.run_report import carry_record

ROOT = Path(__file__).resolve().parents[2]
MARK = "window.caught = (window.caught || 0) + 1"
HOSTILE = [
    f"<script>{MARK}</script>",
    f"<img src=x onerror='{MARK}'>",
    f"<svg onload='{MARK}'><script>{MARK}</script></svg>",
    f"<a href='javascript:{MARK}'>click</a>",
    "<style>@import url(http://127.0.0.1:9/x.css); body {background: url(http://127.0.0.1:9/y)}</style>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<iframe src='http://127.0.0.1:9/'></iframe><object data='http://127.0.0.1:9/'></object>",
    f"<details open ontoggle='{MARK}'><summary>s</summary></details>",
    f"<form action='http://127.0.0.1:9/'><input autofocus onfocus='{MARK}'></form>",
    "<link rel=stylesheet href='http://127.0.0.1:9/z.css'><base href='http://127.0.0.1:9/'>",
    f"<math><mtext><table><mglyph><style><img src=x onerror='{MARK}'></style></mglyph></table>",
    f"</title></style></textarea></script><script>{MARK}</script>",
    f"<div style='background:url(http://127.0.0.1:9/w)' onmouseover='{MARK}'>over</div>",
    f"[link](javascript:{MARK}) ![image](http://127.0.0.1:9/i.png)",
    "<img srcset='http://127.0.0.1:9/s.png 1x' src='http://127.0.0.1:9/s.png'>",
]


def notebook_of(text: str) -> nbformat.NotebookNode:
    """Return a notebook that has a text everywhere that a report takes something from."""
    v4 = nbformat.v4
    html = v4.new_output("display_data", data={"text/html": text, "text/plain": text})
    outputs = [
        html,
        v4.new_output("execute_result", data={"text/markdown": text, "text/plain": text}),
        v4.new_output("display_data", data={"image/svg+xml": text, "text/plain": text}),
        v4.new_output("display_data", data={"application/javascript": MARK, "text/plain": text}),
        v4.new_output("display_data", data={"text/latex": text, "text/plain": text}),
        v4.new_output("stream", text=text),
        v4.new_output("error", ename=text, evalue=text, traceback=[text]),
    ]
    cells = [v4.new_markdown_cell("# Title"), v4.new_markdown_cell(text)]
    return v4.new_notebook(cells=[*cells, v4.new_code_cell(text, outputs=outputs)])


def record_of(text: str) -> Record:
    """Return a record that has a text in every field that a person or a file can set."""
    record = read_record(ROOT / "results" / "001-baseline" / "reference")
    replace = msgspec.structs.replace
    words = {"title": text, "question": text, "hypothesis": text, "feature": text, "date": text}
    return replace(
        record,
        experiment=text,
        parameters={**record.parameters, text: text},
        description=replace(record.description, **words),
        criteria=[replace(c, title=text, stated=text, note=text) for c in record.criteria],
        provenance={**record.provenance, "cpu_model": text, "commands": [text]},
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_it_does_nothing(browser: Any, tmp_path: Path, text: str) -> None:
    """No script runs, no request leaves, no page goes elsewhere, whatever is clicked."""
    notebook = notebook_of(text)
    carry_record(notebook, record_of(text), [])
    path = tmp_path / "report.html"
    path.write_text(render_html(notebook), encoding="utf-8")
    with browser.open(path.as_uri()) as seen:
        page = seen.page
        for link in page.locator("main a").all():
            href = link.get_attribute("href") or ""
            assert href.startswith(("http://127.0.0.1", "https:", "#", "mailto:")) or not href
        page.mouse.move(300, 300)
        page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
        page.wait_for_timeout(150)
        assert page.evaluate("() => window.caught") is None
        assert page.url == path.as_uri()
        assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
        assert seen.errors == []


def test_the_texts_would_do_something(browser: Any, tmp_path: Path) -> None:
    """In a page that takes them as they are, most of them act: the test above can fail."""
    caught = []
    for number, text in enumerate(HOSTILE):
        path = tmp_path / f"{number}.html"
        path.write_text(f"<!doctype html><title>t</title><body>{text}", encoding="utf-8")
        with browser.open(path.as_uri()) as seen:
            seen.page.wait_for_timeout(150)
            left = [url for url in seen.requests if url.startswith("http")]
            if left or seen.page.url != path.as_uri() or seen.page.evaluate("() => window.caught"):
                caught.append(number)
    assert len(caught) >= len(HOSTILE) - 4
