"""Figures: the palette of a PNG keeps every colour, and an SVG follows the colour scheme."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fleetsim.experiment.figures import (
    _ON_DARK,
    DARK,
    LIGHT,
    MIDDLE,
    SIGNAL,
    ShownFigure,
    _save,
    render,
    style,
    titled_figure,
)


def drawn() -> Figure:
    """Return a figure with every colour of the plots, one of them on a single mark."""

    def fill(figure: Figure) -> str:
        ax = figure.subplots()
        ax.bar([1, 2, 3], [3, 2, 1], color=[LIGHT, MIDDLE, DARK], hatch="//")
        ax.plot([2], [2.5], "o", color=SIGNAL, ms=3)
        return "bars"

    return titled_figure("bars", (6.0, 3.0), fill)[0]


def test_the_palette_keeps_rare_colours() -> None:
    """No value of any pixel is off by more than a few of 255, and the file is a third."""
    figure = drawn()
    few = render(figure)["png"]
    with style():
        whole = _save(figure, "png", {"Software": None})
    pixels = [
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in (whole, few)
    ]
    assert np.abs(pixels[0] - pixels[1]).max() <= 8
    assert len(few) < len(whole) / 2
    assert render(figure)["png"] == few


def test_an_svg_has_a_rule_for_each_colour() -> None:
    """Also for what is drawn by attributes, as hatches are; without a script or an address."""
    svg = render(drawn())["svg"].decode()
    head, _, rules = svg.partition("@media (prefers-color-scheme: dark)")
    assert "<defs>" not in head
    for light, dark in _ON_DARK.items():
        assert f'[style*="fill: {light}"],[fill="{light}"]{{fill:{dark}!important}}' in rules
        if light in (DARK, SIGNAL):
            assert svg.count(light) > 2  # it is drawn
    assert "<script" not in svg
    assert "<image" not in svg


def test_a_notebook_has_both_forms() -> None:
    """The PNG for who looks at the notebook, the SVG for the report, one alt text."""
    images = render(drawn())
    shown, described = ShownFigure(images["png"], "bars", images["svg"])._repr_mimebundle_()
    assert shown["image/png"] == images["png"]
    assert shown["application/vnd.fleetsim.svg"].startswith("<?xml")
    assert (shown["text/plain"], described["image/png"]["alt"]) == ("bars", "bars")
    assert "application/vnd.fleetsim.svg" not in ShownFigure(b"", "bars")._repr_mimebundle_()[0]
