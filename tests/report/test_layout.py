"""The parts of a report: figures, sample, topics, code; nothing that the head says already."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fleetsim.base.tables import PART, Lines, Table
from fleetsim.experiment.steps import RUN_MARK
from fleetsim.report.html import clean_html
from fleetsim.report.layout import layout_of


def shown(**data: Any) -> Any:
    """Return an output of these forms, `_` for each slash."""
    return new_output("display_data", data=data)


def code(source: str, *outputs: Any) -> Any:
    """Return an executed cell."""
    return new_code_cell(source, outputs=list(outputs), execution_count=1)


def table(text: str, part: str = "") -> Any:
    """Return the output of a table."""
    return new_output("display_data", data=Table(("a",), ((text,),), part=part)._repr_mimebundle_())


ALT = {"image/png": {"alt": "bars"}}
END = {"text/plain": "end", RUN_MARK: {}}
PNG = {"image/png": "iVBORw0KGgo="}
NOTEBOOK = new_notebook(
    cells=[
        new_markdown_cell("# Title\n\nIn short."),
        new_markdown_cell("## Made\n\nBy commands."),
        code("run.generate()", table("made")),
        code(
            "run.sample()",
            new_output("display_data", data=Lines(("one", "two"))._repr_mimebundle_()),
        ),
        new_markdown_cell("### Counts\n\nExpect bars."),
        code(
            "run.plot()",
            new_output("display_data", data=PNG, metadata={"image/png": {"alt": "bars"}}),
        ),
        new_markdown_cell("## Words of mine\n\nOnly text."),
        new_markdown_cell("## Verdicts\n\nEach criterion."),
        code("run.judge()", table("pass", "verdicts")),
        code(
            "run.finish()", new_output("execute_result", data={"text/plain": "end", RUN_MARK: {}})
        ),
    ]
)


def test_each_thing_stands_in_its_place() -> None:
    """A plot with its title and text, the sample, and topics with what is left."""
    layout = layout_of(NOTEBOOK, without_first=True)
    (picture,) = layout.pictures
    assert (picture.title, picture.text, picture.alt) == ("Counts", "Expect bars.", "bars")
    assert (picture.form, picture.image) == ("png", PNG["image/png"])
    assert ["one\ntwo" in piece.content for piece in layout.sample] == [True]
    assert [topic.title for topic in layout.shown] == ["Made", "Words of mine"]
    made, mine = layout.shown
    assert [piece.form for piece in made.pieces] == ["markdown", "html"]
    assert [piece.content for piece in mine.pieces] == ["Only text."]


def test_what_the_head_says_is_left_out() -> None:
    """The verdicts and the end; a topic with nothing else goes along with its text."""
    layout = layout_of(NOTEBOOK, without_first=True)
    everything = [piece.content for topic in layout.topics for piece in topic.pieces]
    assert not [text for text in everything if "pass" in text or text == "end"]
    assert "Verdicts" in [topic.title for topic in layout.topics]


def test_the_code_of_all_cells_stands_together() -> None:
    """With the heading that stands above each."""
    layout = layout_of(NOTEBOOK, without_first=True)
    assert layout.code == [
        ("Made", "run.generate()"),
        ("Made", "run.sample()"),
        ("Counts", "run.plot()"),
        ("Verdicts", "run.judge()"),
        ("Verdicts", "run.finish()"),
    ]


def test_other_notebooks_have_a_layout_too() -> None:
    """Without headings, with code in Markdown, with errors and streams, or empty."""
    error = new_output("error", ename="E", evalue="v", traceback=["first", "second"])
    notebook = new_notebook(
        cells=[
            new_markdown_cell("Words.\n\n```sh\n# no heading\n```"),
            code("1", new_output("stream", text="said"), error, shown()),
            code(""),
        ]
    )
    (topic,) = layout_of(notebook, without_first=False).shown
    assert [(piece.form, piece.content) for piece in topic.pieces][1:] == [
        ("text", "said"),
        ("error", "first\nsecond"),
    ]
    assert layout_of(new_notebook(), without_first=True).shown == []
    assert PART.endswith("+json")


def test_images_without_words_get_some() -> None:
    """Those of a user's own HTML; an empty text is one, as of ornaments."""
    image = 'src="data:image/png;base64,AA=="'
    assert clean_html(f"<img {image}><img>") == (
        f'<img alt="a picture without description" {image}>'
        '<img alt="a picture without description">'
    )
    for own in (f'<img alt="x" {image}>', f'<img title="a > b" {image} alt="">'):
        assert unescape(clean_html(own)) == own
    assert "img" not in clean_html("<imgs alt=1>")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("<script>x</script>a<style>p {}</style>", "a"),
        ("<style>p {} <b>a", ""),
        ("<b onclick=x style=y>a</b><!-- b -->", "<b>a</b>"),
        ('<a href=" javascript:x">a</a><a href="jav&#x09;ascript:x">b</a>', "<a>a</a><a>b</a>"),
        ("<a href=https://x target=_top>a</a>", '<a href="https://x">a</a>'),
        (
            "<a href=../x>a</a><a href=//x>b</a><a href=#x>c</a>",
            '<a>a</a><a>b</a><a href="#x">c</a>',
        ),
        ("<a href=data:text/html,x>a</a>", "<a>a</a>"),
        ("<form><input><iframe>a</iframe></form>", "a"),
        ("<svg><script>x</script></svg><math><style>y</style></math>a", "a"),
        ("<ol start=3><li onload=x>a", '<ol start="3"><li>a</li></ol>'),
        ("<div>&lt;b&gt; < & é</div>", "<div>&lt;b&gt; &lt; &amp; é</div>"),
    ],
)
def test_only_what_is_allowed_is_left(given, left):
    """Of elements, attributes and addresses; of the rest the text, unless nobody reads it."""
    assert clean_html(given) == left
    assert clean_html(left) == left, "once is enough"


@pytest.mark.parametrize("kind", ["svg+xml", "gif", "png;charset=x"])
def test_an_image_is_a_png_inside_the_page(kind):
    """Others are not shown, nor is one fetched from anywhere."""
    for address in (f"data:image/{kind};base64,AA==", "https://x/a.png", "a.png"):
        assert "src" not in clean_html(f'<img alt="a" src="{address}">')
