"""The HTML report: an nbconvert exporter with the package's own, self-contained template.

``jupyter nbconvert --to fleetsim report.ipynb`` uses it too. Nothing is loaded from a network, no
script is needed or let through: the template escapes every value, HTML of Markdown cells and of
outputs passes an allow-list, and a Content-Security-Policy stands behind it.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import nbformat
import nh3
from markupsafe import Markup
from nbconvert.exporters.html import HTMLExporter
from nbconvert.exporters.templateexporter import TemplateExporter
from traitlets import default

from fleetsim.base.tables import Table, number, with_unit
from fleetsim.experiment.criterion import CLAIMED, MB
from fleetsim.experiment.document import by_chance
from fleetsim.experiment.record import CriterionRecord, Record, decode_record, overall_line
from fleetsim.report.layout import Piece, Topic, layout_of
from fleetsim.report.pages import with_words

_TAGS = set(
    """
    a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure
    h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp section small span strong sub
    summary sup table tbody td tfoot th thead tr ul var
    """.split()
)
_ATTRIBUTES = {
    "*": {"class", "id", "title", "lang"},
    "a": {"href"},
    "img": {"alt", "src"},
    "td": {"colspan", "rowspan", "data-label"},
    "th": {"colspan", "rowspan", "scope"},
    "ol": {"start"},
}
#: How an address has to begin, whatever whitespace or entities an author tried.
_ADDRESSES = {
    "href": ("http://", "https://", "mailto:", "#"),
    "src": ("data:image/png;base64,",),
}


#: An image that says nothing to those who do not see it.
_WITHOUT_ALT = re.compile(r"""<img(?=[ >])(?!(?:[^>"]|"[^"]*")*? alt=)""")


#: A path from a run's folder, to one of its files or at most two folders up: no scheme, no host.
_BESIDE = re.compile(r"(\.\./){0,2}[\w-][\w.-]*(/[\w-][\w.-]*)*/?")


def _address(tag: str, name: str, value: str) -> str | None:
    return value if value.startswith(_ADDRESSES.get(name, "")) else None


@lru_cache(maxsize=256)  # the points of a sweep have most of their texts in common
def clean_html(text: str) -> Markup:
    """Return HTML with nothing but the allowed elements and attributes.

    This is the only way into a report for what is not escaped. Of other elements the text stays,
    but nothing of scripts and of rules of style, such as pandas puts before a table.
    """
    cleaned = nh3.clean(
        str(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_address,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel=None,
    )
    described = _WITHOUT_ALT.sub('<img alt="a picture without description"', cleaned)
    return Markup(described)  # noqa: S704 (it is clean now)


class ReportExporter(HTMLExporter):
    """Export an executed notebook of a run as its report."""

    export_from_notebook = "fleetsim report"
    exclude_anchor_links = True
    # The notebook is held to its format when all preprocessors are done, not after each.
    optimistic_validation = True

    @default("template_name")
    def _template_name_default(self) -> str:
        return "fleetsim"

    @default("extra_template_basedirs")
    def _extra_template_basedirs_default(self) -> list[str]:
        return [str(Path(__file__).parent / "templates")]

    def _create_environment(self) -> jinja2.Environment:
        """Return nbconvert's environment, which escapes every value here.

        nbconvert's own does not; what a template writes by itself stays as it is.
        """
        environment: jinja2.Environment = super()._create_environment()  # type: ignore[no-untyped-call]
        environment.autoescape = True
        return environment

    def default_filters(self) -> Any:
        """Yield nbconvert's filters, with ours for HTML and numbers."""
        yield from super().default_filters()  # type: ignore[no-untyped-call]
        yield "clean_html", clean_html
        yield "number", number

    def from_notebook_node(  # type: ignore[override]
        self, nb: Any, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """Convert a notebook; the record that it carries in its metadata makes the page's head."""
        resources = dict(resources or {})
        record, sweep = _record_of(nb), _sweep_of(nb)
        layout = layout_of(nb, without_first=record is not None or sweep is not None)
        resources |= {"record": record, "sweep": sweep, "layout": layout, "topics": layout.shown}
        if record is not None:
            resources |= _head_of(record)
            resources["topics"] = [*record_topics(record), *layout.shown]
        if sweep is not None:
            resources["rows"] = _rows_of(nb, sweep)
        if record is not None or sweep is not None:
            resources["links"] = _links_of(nb)
        # HTMLExporter's own method would parse the whole page again, for alt texts and focus in
        # nbconvert's templates, which takes as long as to fill this one.
        text, resources = TemplateExporter.from_notebook_node(self, nb, resources, **kw)
        return with_words(text), resources


def _links_of(nb: Any) -> list[tuple[str, str]]:
    """Return what a notebook says that the page links to, as far as it stands beside the page."""
    rows = nb.metadata["fleetsim"].get("links", [])
    return [(str(words), href) for words, href in rows if _BESIDE.fullmatch(str(href))]


def _rows_of(nb: Any, sweep: Any) -> list[dict[str, Any]]:
    """Return the runs that the page of a sweep shows, as text, each with its address if any."""
    pages = nb.metadata["fleetsim"].get("pages", {})
    rows = []
    for row in sweep.get("rows", []):
        href = str(pages.get(str(row["number"]), ""))
        memory = row["peak_bytes"]
        rows.append(
            {
                **row,
                "href": href if _BESIDE.fullmatch(href) else "",
                "time": _cost(row["seconds"], "s"),
                "cpu": _cost(row["cpu_seconds"], "s"),
                "memory": _cost(None if memory is None else memory / MB, "MB"),
            }
        )
    return rows


def _cost(value: float | None, unit: str) -> str:
    return "n/a" if value is None else with_unit(value, unit, 3)


def _head_of(record: Record) -> dict[str, Any]:
    """Return what the head of a run's page shows besides the record's own texts."""
    return {
        "first_words": "" if record.answer is None else record.answer.first_words,
        "overall": overall_line(record.criteria),
        "by_chance": by_chance(record),
        "observed": {c.id: _observed(c) for c in record.criteria},
    }


def _observed(criterion: CriterionRecord) -> str:
    """Return what was found, without the limits: these stand in a column of their own."""
    return criterion.brief.partition(CLAIMED)[0] or with_unit(criterion.observed, criterion.unit)


def record_topics(record: Record) -> list[Topic]:
    """Return what a run's page unfolds of the record itself: the reasons of its verdicts."""
    if not record.completed:
        return []
    rows = tuple((c.title, c.verdict, c.note) for c in record.criteria)
    reasons = Table(("criterion", "verdict", "why"), rows)
    return [Topic("The reason of each verdict", [Piece("html", reasons._repr_html_())])]


def _record_of(nb: Any) -> Record | None:
    carried = nb.metadata.get("fleetsim", {}).get("record")
    return None if carried is None else decode_record(carried.encode())


def _sweep_of(nb: Any) -> Any:
    """Return the record of a sweep as plain data; this module comes before its type."""
    carried = nb.metadata.get("fleetsim", {}).get("sweep")
    return None if carried is None else msgspec.json.decode(carried)


_kept = threading.local()


def _exporter() -> ReportExporter:
    """Return this thread's exporter, whose templates take longer to compile than a page to make."""
    if not hasattr(_kept, "exporter"):
        _kept.exporter = ReportExporter()  # type: ignore[no-untyped-call]
    kept: ReportExporter = _kept.exporter
    return kept


def prepare_html() -> None:
    """Do what the first report of a thread does once, such as to compile the templates."""
    if hasattr(_kept, "exporter"):
        return
    cells = [nbformat.v4.new_markdown_cell("# A & b\n\nText"), nbformat.v4.new_code_cell("1")]
    render_html(nbformat.v4.new_notebook(cells=cells))


def render_html(notebook: nbformat.NotebookNode) -> str:
    """Return the report of an executed notebook as one HTML page."""
    text: str = _exporter().from_notebook_node(notebook)[0]
    return text
