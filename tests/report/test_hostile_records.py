"""Whatever a record says, a page has the elements, attributes and addresses of its template."""

import json
from functools import cache
from html.parser import HTMLParser

import msgspec
import nbformat
import pytest
from made_runs import failed, made_record, measured
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from support import ROOT

from fleetsim.base.errors import InputError
from fleetsim.experiment.document import render_document
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.record import decode_record, read_record
from fleetsim.experiment.results import RunError
from fleetsim.report.compare.compare import compare_runs
from fleetsim.report.compare.page import render_comparison
from fleetsim.report.gallery import render_gallery
from fleetsim.report.html import render_html
from fleetsim.report.run_report import carry_record

REFERENCE = ROOT / "results" / "001-baseline" / "reference"
HOSTILE = (
    "\"'><meta http-equiv=refresh content=0;url=//x><script>x</script><img src=x onerror=y>"
    "\n</style></title></textarea>`\n```\n~~~\n<base href=//x>\\<b>\\\\<i> [a](javascript:x) "
    "![b](//x) [c]: //x\n--> {{ 7 * 7 }} \\"
)
HARMLESS = "words"
ADDRESSES = {"href", "src", "srcset", "action", "content", "data", "style", "http-equiv"}


class Structure(HTMLParser):
    """Keeps every element with its attributes, and the addresses as they are."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Keep an element."""
        kept = ((name, value if name in ADDRESSES else None) for name, value in attrs)
        self.elements.append((tag, tuple(kept)))

    def handle_comment(self, data):
        """Keep a comment."""
        self.elements.append(("comment", ()))


def strings(value, at=()):
    """Yield where strings stand in JSON, and where names of members do."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        if isinstance(item, str):
            yield (*at, name), False
        elif isinstance(item, list | dict):
            yield from strings(item, (*at, name))
        if isinstance(name, str):
            yield (*at, name), True


def put(value, at, name, text):
    """Return JSON with this text for the string at a place, or added to the name there."""
    first, *rest = at
    made = list(value) if isinstance(value, list) else dict(value)
    if rest:
        made[first] = put(value[first], rest, name, text)
    elif name:
        return {f"{key} {text}" if key == first else key: item for key, item in value.items()}
    else:
        made[first] = text
    return made


def decoded(value):
    """Return a record, or None where a file cannot hold it."""
    try:
        return decode_record(json.dumps(value).encode())
    except InputError:
        return None


@cache
def walked(name):
    """Return a record as JSON, `HOSTILE` in every place that a file may hold it."""
    value, kept = json.loads(RECORDS[name].encode()), {}
    for at, is_name in list(strings(value)):  # what is inside a member before its name
        form = (tuple(part for part in at if isinstance(part, str)), is_name)
        if form not in kept:  # of all rows of a list, the first tells
            kept[form] = decoded(put(value, at, is_name, HOSTILE)) is not None
        if kept[form]:
            value = put(value, at, is_name, HOSTILE)
    return value


def hostile(name, text, **changes):
    """Return a record with this text in every place that a file may hold it."""
    content = json.dumps(walked(name)).replace(json.dumps(HOSTILE)[1:-1], json.dumps(text)[1:-1])
    made, record = decoded(json.loads(content)), RECORDS[name]
    # What templates look up has to be there; that it is none of theirs is seen all the same.
    return msgspec.structs.replace(
        made,
        config={**dict.fromkeys(record.config, text), **made.config, "event_types": {text: text}},
        parameters={**dict.fromkeys(record.parameters, text), **made.parameters, text: text},
        provenance={**made.provenance, "versions": {text: text}, "commands": [text]},
        description=msgspec.structs.replace(
            made.description, **{"kind": record.description.kind, **changes}
        ),
    )


RECORDS = {
    "reference": read_record(REFERENCE),
    "completed": msgspec.structs.replace(made_record(), measurements=measured(1)),
    "failed": failed(made_record()),
}


def test_the_walk_reaches_what_is_foreign():
    """Key, times, names of event types, error and sections of other kinds are replaced."""
    made = hostile("reference", HOSTILE)
    assert (made.key, made.started, made.finished) == (HOSTILE,) * 3
    assert (made.run_id, made.experiment) == (HOSTILE,) * 2
    assert list(made.config["event_types"]) == [HOSTILE]
    assert {HOSTILE} == {x.title for x in made.criteria} == {x.name for x in made.tests}
    assert any(HOSTILE in name for name in made.provenance)
    assert hostile("failed", HOSTILE).error.message == HOSTILE


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("kind", ["baseline", "unknown"])
def test_report(name, kind):
    """The page of one run."""
    pages = []
    for text in (HOSTILE, HARMLESS):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
        carry_record(
            notebook,
            hostile(name, text, kind=kind),
            [[text, "../x"], ["all runs", f"javascript:{text}"]],
        )
        pages.append(Structure(render_html(notebook)).elements)
    assert pages[0] == pages[1]
    assert len(pages[0]) > 20


def test_sweep():
    """The page of a sweep, of a record that is plain data there."""
    pages = []
    for text in (HOSTILE, HARMLESS):
        row = {"title": text, "stated": text, "counts": {f"pass {text}": 1, text: text}}
        sweep = dict.fromkeys(
            ("experiment", "title", "date", "question", "hypothesis", "completed", "planned"), text
        )
        sweep |= {"failed": text, "names": [text, text], "criteria": [row]}
        run = dict.fromkeys(("seconds", "cpu_seconds", "peak_bytes"), 1.0)
        run |= {"number": text, "seed": text, "answer": text, "fails": [text] * 9}
        sweep["rows"] = [{**run, "setting": {text: text}, "counts": {"pass": text}}]
        pages_of_runs = {text: f"javascript:{text}"}
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_raw_cell(text)])
        notebook.metadata["fleetsim"] = {"sweep": json.dumps(sweep), "pages": pages_of_runs}
        pages.append(Structure(render_html(notebook)).elements)
    assert pages[0] == pages[1]
    assert any(tag == "td" and ("class", None) in given for tag, given in pages[0])


@pytest.mark.parametrize("mime", ["text/html", ""])
def test_a_raw_cell_is_no_html(mime):
    """What a notebook would hand to a page as it is."""
    cell = nbformat.v4.new_raw_cell(HOSTILE, metadata={"raw_mimetype": mime})
    elements = Structure(render_html(nbformat.v4.new_notebook(cells=[cell]))).elements
    assert elements == Structure(render_html(nbformat.v4.new_notebook())).elements


@pytest.mark.parametrize("name", RECORDS)
def test_gallery_and_comparison(tmp_path, name):
    """The pages of several runs; texts of the folders are ours, those of the records are not."""
    pages = []
    for text in (HOSTILE, HARMLESS):
        runs = []
        for run in ("a", "b"):
            folder = tmp_path / "000-smoke" / run
            folder.mkdir(parents=True, exist_ok=True)
            made = hostile(name, text)
            # A list needs times that are times.
            made = msgspec.structs.replace(
                made, started=RECORDS[name].started, finished=RECORDS[name].finished
            )
            (folder / "result.json").write_bytes(made.encode())
            runs.append(folder)
        comparison = Structure(render_comparison(compare_runs(*runs))).elements
        pages.append((Structure(render_gallery(tmp_path)).elements, comparison))
    assert pages[0] == pages[1]


#: What the documents of kinds look up in a record's own part.
OWN = {
    "sizes": [],
    "tasks": [],
    "deliveries": [{"batch": HOSTILE, "form": HOSTILE}],
    "variants": {HOSTILE: [{"batch": HOSTILE, "form": HOSTILE}]},
    "pipeline": {"command": [HOSTILE, HOSTILE], "start": HOSTILE, "timeout": HOSTILE},
    "kills": {"changes": HOSTILE, "times": HOSTILE},
    "expected_lines": {HOSTILE: 1.0},
}


@pytest.mark.parametrize("kind", sorted(kinds()))
@pytest.mark.parametrize("name", RECORDS)
def test_document(name, kind):
    """The Markdown document: what a viewer makes of it has no element but Markdown's own."""
    made = hostile(name, HOSTILE, kind=kind, own=OWN)
    if kind != RECORDS[name].description.kind:  # no sections of theirs are here, but their heads
        made = msgspec.structs.replace(
            made,
            status="failed",
            error=RunError(HOSTILE, HOSTILE, None),
            parameters={**made.parameters, "control_seeds": 1},
        )
    told = [msgspec.structs.replace(test, verdict="fail") for test in made.tests]
    made = msgspec.structs.replace(made, tests=told)  # a verdict that is none is refused
    viewer = MarkdownWithMath(IPythonRenderer(escape=False, exclude_anchor_links=True))
    page = Structure(viewer.render(render_document(made)))
    markdown = set("h1 h2 p strong em code pre table thead tbody tr th td ul ol li br hr".split())
    assert {tag for tag, _ in page.elements} <= markdown | {
        "span",
        "div",
        "input",
    }  # a task list has
    attributes = {name for _, attrs in page.elements for name, _ in attrs}
    assert attributes <= {"id", "class", "style", "scope", "type", "disabled", "checked"}, (
        page.elements
    )


def test_what_no_document_can_show_is_refused():
    """One error that names the record, whatever the template missed."""
    with pytest.raises(InputError, match=r"^result\.json: not what its document needs"):
        render_document(made_record("a"))  # its times of generation are missing
