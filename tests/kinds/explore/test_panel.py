"""The panel of explore.ipynb: with widgets, without them, and what its controls do."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fleetsim.generate.config import Config
from fleetsim.kinds.explore.panel import Panel, open_panel
from fleetsim.kinds.explore.playground import explored_config

VIEW = "application/vnd.jupyter.widget-view+json"


class Widget:
    """Stands in for a widget of ipywidgets: values, and who is told of a change."""

    def __init__(self, children: Any = (), **traits: Any) -> None:
        self.__dict__["told"] = []
        self.__dict__["clicked"] = []
        self.layout = traits.pop("layout", None) or type("Layout", (), {})()
        self.children = children
        for name, value in traits.items():
            self.__dict__[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name)
        self.__dict__[name] = value
        if name == "value" and before != value:
            for function in self.told:
                function({"new": value})

    def observe(self, function: Any, names: str) -> None:
        """Keep who is told."""
        assert names == "value"
        self.told.append(function)

    def on_click(self, function: Any) -> None:
        """Keep who is told of a click."""
        self.clicked.append(function)

    def _repr_mimebundle_(self) -> dict[str, Any]:
        return {VIEW: {"model_id": "m"}, "text/plain": "a widget"}


class Html(Widget):
    """A widget whose value comes first."""

    def __init__(self, value: str) -> None:
        super().__init__(value=value)


@pytest.fixture
def law() -> Config:
    return explored_config("001-baseline", number_of_companies=40)


@pytest.fixture
def widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put stand-ins in the place of ipywidgets, which the tests' environment need not have."""
    names = "FloatSlider IntSlider Dropdown Image Button Box HBox VBox".split()
    made = dict.fromkeys(names, Widget) | {"HTML": Html}
    made["Layout"] = lambda **traits: type("Layout", (), traits)()
    monkeypatch.setitem(sys.modules, "ipywidgets", type("ipywidgets", (), made))


def test_without_widgets_a_panel_is_a_picture(law: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    panel = open_panel(law)
    data, metadata = panel._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}
    assert "ipywidgets is not installed" in data["text/plain"]
    assert metadata["image/png"]["alt"]
    assert panel.controls == {}


def test_with_widgets_the_picture_stays_for_pages_without_scripts(
    law: Config, widgets: None
) -> None:
    data, _ = open_panel(law)._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain", VIEW}


def test_a_slider_moves_the_truth_and_not_the_law(law: Config, widgets: None) -> None:
    panel = Panel(law)
    before, words = panel._picture.value, panel._words.value
    assert "No test rejects" in words
    panel.controls["rate"].value = 6.0
    assert panel.exploration.truth.event_rate_per_driver == 6.0
    assert panel.exploration.law.event_rate_per_driver == law.event_rate_per_driver
    assert panel._picture.value != before
    assert "event count" in panel._words.value
    panel.controls["companies"].value = 50
    assert panel.exploration.law.number_of_companies == 50


def test_weights_are_scaled_to_their_sum(law: Config, widgets: None) -> None:
    panel = Panel(law)
    panel.controls["weight delivered"].value = 0.75
    truth = panel.exploration.truth.event_types
    assert sum(truth.values()) == pytest.approx(1)
    assert truth["delivered"] == pytest.approx(0.5)
    assert "event types" in panel._words.value


def test_a_fault_draws_the_batches_that_it_needs(law: Config, widgets: None) -> None:
    panel = Panel(law)
    panel.controls["fault"].value = "same_times_in_two_batches"
    assert panel.exploration.batches == 2
    assert "batch ties" in panel._words.value


def test_what_cannot_be_drawn_is_said_and_the_picture_stays(law: Config, widgets: None) -> None:
    panel = Panel(law)
    before = panel._picture.value
    for name in law.event_types:
        panel.controls[f"weight {name}"].value = 0.0
    assert "all weights are 0" in panel._words.value
    assert panel._picture.value != b""
    panel._reset(None)
    assert panel._picture.value == before
    assert "No test rejects" in panel._words.value
